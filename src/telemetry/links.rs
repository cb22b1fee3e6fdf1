//! Metrics of the connections with other nodes.

use super::labels::{Outcome, PeerRefusal, PerLabel, StreamRefusal};
use super::registry::{Family, Registry};
use prometheus::{IntCounter, IntGauge};

/// Nodes with a series of their own; what comes from those beyond is counted under [`PEER_OVERFLOW`]. As nodes keep their
/// names, this is about the size of the fleet.
const PEERS_MAX: usize = 128;
/// The label of nodes beyond [`PEERS_MAX`]. No node is named like this.
const PEER_OVERFLOW: &str = "(other)";

/// Handles of the connections with other nodes, all at 0 from the start.
pub struct LinkMetrics {
    /// Connections that stand.
    pub open: IntGauge,
    /// Dials that were done, by whether a connection came about.
    pub dials: PerLabel<Outcome, IntCounter>,
    /// Connections that did not come about, dialled and accepted, by reason.
    pub refusals: PerLabel<PeerRefusal, IntCounter>,
    /// Streams of peers that were refused.
    pub streams_refused: PerLabel<StreamRefusal, IntCounter>,
    /// Datagrams that were dropped because nobody took them in time.
    pub datagrams_dropped: IntCounter,
    /// Certificates asked of this node by others, by whether one was issued.
    pub issued: PerLabel<Outcome, IntCounter>,
    /// Certificates that this node wanted for itself, by whether it got one.
    pub renewals: PerLabel<Outcome, IntCounter>,
    received: Family<IntCounter, 1>,
}

impl LinkMetrics {
    /// Counts body bytes that the node `name` sends. Resolve it once for a connection.
    pub fn received_from(&self, name: &str) -> IntCounter {
        self.received.child_within([name], PEERS_MAX, [PEER_OVERFLOW])
    }

    pub(super) fn new(registry: &Registry) -> Self {
        let by = |name, help, label| registry.counters(name, help, [label]);
        let dials = by("shoal_peer_dials_total", "Dials to other nodes that were done.", "result");
        let refusals = by(
            "shoal_peer_handshake_failures_total",
            "Connections with other nodes that did not come about.",
            "reason",
        );
        let streams =
            by("shoal_peer_streams_refused_total", "Streams of other nodes that were refused.", "reason");
        let issued = by(
            "shoal_peer_certificates_issued_total",
            "Certificates asked of this node by others.",
            "result",
        );
        let renewals = by(
            "shoal_peer_certificate_renewals_total",
            "Attempts of this node to get a certificate for itself.",
            "result",
        );
        Self {
            open: registry.gauges("shoal_peer_links", "Connections with other nodes.", []).child([]),
            dials: PerLabel::new(|label| dials.child([label])),
            refusals: PerLabel::new(|label| refusals.child([label])),
            streams_refused: PerLabel::new(|label| streams.child([label])),
            datagrams_dropped: registry
                .counters(
                    "shoal_peer_datagrams_dropped_total",
                    "Datagrams of other nodes that were dropped because nobody took them in time.",
                    [],
                )
                .child([]),
            issued: PerLabel::new(|label| issued.child([label])),
            renewals: PerLabel::new(|label| renewals.child([label])),
            received: registry.counters(
                "shoal_peer_received_bytes_total",
                "Body bytes received from other nodes, by the name of the node that sent them.",
                ["peer"],
            ),
        }
    }
}
