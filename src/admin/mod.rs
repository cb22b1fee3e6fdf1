//! What operators and their machines ask a node: probes and metrics on one listener, the admin API
//! on another.
//!
//! Nothing here knows the rooms behind the answers: the composition root hands in [`AdminHooks`].
//! The metrics listener reads only and may face a pod network; the admin API is for loopback, or
//! wants a bearer token. State: [`Readiness`], shared with whoever starts and drains the node.

mod api;
mod guard;
mod listen;
mod live;
mod probes;
mod problem;
mod purge;

pub use api::{AdminAnswer, AdminError, AdminHooks, serve_admin};
pub use probes::serve_metrics;
pub use purge::{CLI_AGENT, PurgeAnswer, PurgeCall, PurgeReply};

use std::sync::atomic::{AtomicU8, Ordering};

/// How far a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Listeners, configuration or disk index are not ready yet, or the node has no place in its fleet yet.
    Starting,
    /// Requests are served.
    Ready,
    /// Connections in progress are finished, new ones should go elsewhere.
    Draining,
}

impl Phase {
    /// All phases in the order of their discriminants.
    pub const ALL: [Self; 3] = [Self::Starting, Self::Ready, Self::Draining];

    /// The one name of this phase.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// The phase of the node, as the readiness probe tells it.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

impl Readiness {
    /// Starting.
    pub const fn new() -> Self {
        Self(AtomicU8::new(Phase::Starting as u8))
    }

    /// Enters `phase`, unless the node is further already: who drains does not become ready any more.
    pub fn enter(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// The current phase.
    pub fn phase(&self) -> Phase {
        let phase = self.0.load(Ordering::Acquire);
        Phase::ALL.into_iter().find(|known| *known as u8 == phase).unwrap_or(Phase::Starting)
    }
}

#[cfg(test)]
mod tests;
