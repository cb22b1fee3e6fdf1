//! Metrics of what a node takes from others.

use super::labels::{Label, PerLabel, label};
use super::registry::{Family, Registry};
use crate::proto::seek::{By, Ground};
use prometheus::IntCounter;

impl Label for Ground {
    const ALL: &'static [Self] = &Self::ALL;
    fn as_str(self) -> &'static str {
        Self::as_str(self)
    }
    fn position(self) -> usize {
        self as usize
    }
}

label! {
    /// By what right a peer was read from.
    FetchKind {
        /// It has the version stored.
        Holder = "holder",
        /// The version arrives there.
        Follow = "follow",
        /// It is the home edge of the object.
        Home = "home",
        /// It has a fresher version.
        Fresher = "fresher",
    }
}

impl From<By> for FetchKind {
    fn from(by: By) -> Self {
        match by {
            By::Holder => Self::Holder,
            By::Follow(_) => Self::Follow,
            By::Home => Self::Home,
            By::Fresher => Self::Fresher,
        }
    }
}

label! {
    /// What was wrong with a peer that was read from.
    PeerFailure {
        /// It has not what it was named for, or nothing that can be used here.
        Gone = "gone",
        /// It refused, or has too many readers.
        Busy = "busy",
        /// No connection.
        Unreachable = "unreachable",
        /// It was silent for too long.
        Stalled = "stalled",
        /// Its own source failed.
        Upstream = "upstream",
        /// It did not keep to the protocol.
        Protocol = "protocol",
        /// Its version does not know the question, or this node's does not know the answer.
        Unsupported = "unsupported",
        /// Bytes that do not match the hash that it sent with them.
        BadChunk = "bad_chunk",
        /// Bytes that match its hash, but not the list of another.
        Disputed = "disputed",
    }
}

/// What one site takes from peers, and why it asks the origin in spite of them.
pub struct TakingMetrics {
    /// Body bytes received from peers.
    pub bytes: IntCounter,
    /// Versions asked of peers, by right.
    pub fetches: PerLabel<FetchKind, IntCounter>,
    /// Requests to the origin, by the ground that the swarm gave.
    pub origin_fetches: PerLabel<Ground, IntCounter>,
}

/// The families of [`TakingMetrics`].
pub(super) struct TakingFamilies {
    bytes: Family<IntCounter, 1>,
    fetches: Family<IntCounter, 2>,
    origin_fetches: Family<IntCounter, 2>,
}

impl TakingFamilies {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            bytes: registry.counters(
                "shoal_peer_taken_bytes_total",
                "Body bytes received from peers.",
                ["site"],
            ),
            fetches: registry.counters(
                "shoal_peer_fetches_total",
                "Versions asked of peers, by why they were asked.",
                ["site", "kind"],
            ),
            origin_fetches: registry.counters(
                "shoal_swarm_origin_fetches_total",
                "Requests sent to the origin, by the ground that the swarm gave for it.",
                ["site", "ground"],
            ),
        }
    }

    pub(super) fn of_site(&self, site: &str) -> TakingMetrics {
        TakingMetrics {
            bytes: self.bytes.child([site]),
            fetches: PerLabel::new(|kind| self.fetches.child([site, kind])),
            origin_fetches: PerLabel::new(|ground| self.origin_fetches.child([site, ground])),
        }
    }

    pub(super) fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.bytes.retain(|labels| keep(&labels[0]));
        self.fetches.retain(|labels| keep(&labels[0]));
        self.origin_fetches.retain(|labels| keep(&labels[0]));
    }
}

/// What a node takes from peers, whatever the site.
pub struct TakerMetrics {
    /// Fills whose chunks came from several holders.
    pub multi_holder_fills: IntCounter,
    /// Body bytes thrown away: hedges that were not needed, and chunks that were not good.
    pub duplicate_bytes: IntCounter,
    /// Peers that failed while they were read from.
    pub failures: PerLabel<PeerFailure, IntCounter>,
}

impl TakerMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let counter = |name, help| registry.counters(name, help, []).child([]);
        let failures = registry.counters(
            "shoal_peer_failures_total",
            "Peers that failed while they were read from.",
            ["kind"],
        );
        Self {
            multi_holder_fills: counter(
                "shoal_multi_holder_fills_total",
                "Fills whose chunks came from several holders.",
            ),
            duplicate_bytes: counter(
                "shoal_peer_duplicate_bytes_total",
                "Body bytes from peers that were thrown away.",
            ),
            failures: PerLabel::new(|kind| failures.child([kind])),
        }
    }
}
