//! What `/obj/` was asked for and answered, for those who count what reaches the origin.

use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts since the start.
#[derive(Debug, Default)]
pub(super) struct Stats {
    /// Requests of any method and outcome.
    pub(super) requests: AtomicU64,
    /// Body bytes handed to connections.
    pub(super) bytes: AtomicU64,
    /// Requests that have not been answered to the last byte.
    in_flight: AtomicU64,
    /// HEAD requests.
    pub(super) head: AtomicU64,
    /// Requests with a `Range` field.
    pub(super) range: AtomicU64,
    /// Requests with `If-None-Match` or `If-Modified-Since`.
    pub(super) conditional: AtomicU64,
    /// Answers with status 304.
    pub(super) not_modified: AtomicU64,
}

/// The counts at one moment, as `/-/stats` says them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(crate) struct Counts {
    /// Requests of any method and outcome.
    pub(crate) requests: u64,
    /// Body bytes handed to connections.
    pub(crate) bytes: u64,
    /// Requests that have not been answered to the last byte.
    pub(crate) in_flight: u64,
    /// HEAD requests.
    pub(crate) head: u64,
    /// Requests with a `Range` field.
    pub(crate) range: u64,
    /// Requests with `If-None-Match` or `If-Modified-Since`.
    pub(crate) conditional: u64,
    /// Answers with status 304.
    pub(crate) not_modified: u64,
}

impl Stats {
    pub(super) fn counts(&self) -> Counts {
        Counts {
            requests: self.requests.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
            head: self.head.load(Relaxed),
            range: self.range.load(Relaxed),
            conditional: self.conditional.load(Relaxed),
            not_modified: self.not_modified.load(Relaxed),
        }
    }
}

/// One request in flight: counted until this is dropped, with its answer's body.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Stats>);

impl InFlight {
    pub(super) fn start(stats: &Arc<Stats>) -> Self {
        stats.requests.fetch_add(1, Relaxed);
        stats.in_flight.fetch_add(1, Relaxed);
        Self(stats.clone())
    }

    /// Counts body bytes handed over.
    pub(super) fn sent(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}
