//! Plain counters of the room, shared by all workers; telemetry reads and names them.

use super::error::FailureKind;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters and gauges of all origin traffic of a node. Reads are not a snapshot: each figure is
/// exact by itself.
#[derive(Debug, Default)]
pub struct OriginStats {
    /// Connections opened, TLS included.
    pub connects: Counter,
    /// Requests sent on a connection that had served one before.
    pub reuses: Counter,
    /// Attempts after the first within one fetch, on whichever server.
    pub retries: Counter,
    /// Gauge: open connections, idle and upgraded ones included.
    pub open: Counter,
    /// Gauge: open connections that serve no request.
    pub idle: Counter,
    /// Gauge: requests that wait for a connection.
    pub waiting: Counter,
    /// Times that DNS failed and an older answer was used on.
    pub resolve_stale: Counter,
    failures: [Counter; FailureKind::ALL.len()],
}

impl OriginStats {
    /// Failed attempts of this kind, those that a retry made good included.
    pub fn failures(&self, kind: FailureKind) -> u64 {
        self.failures[kind as usize].read()
    }

    pub(super) fn count_failure(&self, kind: FailureKind) {
        self.failures[kind as usize].add(1);
    }
}

/// A number that many threads change.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The number now.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(super) fn sub(&self, by: u64) {
        self.0.fetch_sub(by, Ordering::Relaxed);
    }
}
