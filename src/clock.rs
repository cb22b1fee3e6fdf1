//! The only place that reads a clock.
//!
//! Monotonic time is tokio's, so that paused and simulated runtimes drive it; wall time is the
//! system's, or, in simulations, a fixed start plus the monotonic time that has passed.

use crate::proto::time::{Now, Wall};
use std::time::{Duration, Instant, SystemTime};

/// A source of [`Now`]. Cheap to copy; one per node.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Source);

#[derive(Clone, Copy, Debug)]
enum Source {
    System,
    Simulated { started: tokio::time::Instant, wall: Wall },
}

impl Clock {
    /// The clocks of this machine.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A wall clock that reads `wall` now and advances with the runtime's (virtual) time. Must be
    /// made within the runtime whose time it follows.
    #[expect(clippy::disallowed_methods, reason = "the clock is where time is read")]
    pub fn simulated(wall: Wall) -> Self {
        Self(Source::Simulated { started: tokio::time::Instant::now(), wall })
    }

    /// Reads the monotonic clock alone, at half the cost.
    #[expect(clippy::disallowed_methods, reason = "the clock is where time is read")]
    pub fn mono(&self) -> Instant {
        match self.0 {
            Source::System => Instant::now(),
            Source::Simulated { .. } => tokio::time::Instant::now().into_std(),
        }
    }

    /// Time since the machine started, as its other programs read it (`CLOCK_MONOTONIC`).
    pub fn since_boot(&self) -> Duration {
        let at = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        // The system's own values are never negative.
        Duration::new(at.tv_sec.unsigned_abs(), u32::try_from(at.tv_nsec).unwrap_or_default())
    }

    /// Reads both clocks.
    #[expect(clippy::disallowed_methods, reason = "the clock is where time is read")]
    pub fn now(&self) -> Now {
        match self.0 {
            Source::System => Now { mono: Instant::now(), wall: SystemTime::now().into() },
            Source::Simulated { started, wall } => {
                let mono = tokio::time::Instant::now();
                Now { mono: mono.into_std(), wall: wall.plus(mono - started) }
            }
        }
    }
}
