//! What this node gives to its peers.

use super::labels::{Given, PeerAnswer, PerLabel};
use super::registry::Registry;
use prometheus::{IntCounter, IntGauge};

/// Handles of what peers are given, all at 0 from the start.
pub struct SupplyMetrics {
    /// Body bytes sent to peers, by where they came from.
    pub given: PerLabel<Given, IntCounter>,
    /// Requests of peers in progress.
    pub open: IntGauge,
    /// Requests of peers, by what they were answered.
    pub requests: PerLabel<PeerAnswer, IntCounter>,
}

impl SupplyMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let given =
            registry.counters("shoal_peer_given_bytes_total", "Body bytes sent to other nodes.", ["kind"]);
        let open = registry.gauges(
            "shoal_peer_requests_open",
            "Requests of other nodes for a version in progress.",
            [],
        );
        let requests = registry.counters(
            "shoal_peer_requests_total",
            "Requests of other nodes for a version, by the answer.",
            ["answer"],
        );
        Self {
            given: PerLabel::new(|kind| given.child([kind])),
            open: open.child([]),
            requests: PerLabel::new(|answer| requests.child([answer])),
        }
    }
}
