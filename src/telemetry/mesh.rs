//! What a node counts of its part in the swarm.

use super::labels::{AskRefusal, Label, LookupAnswer, PerLabel};
use super::registry::Registry;
use crate::proto::swarm::Ending;
use prometheus::{Histogram, IntCounter};

/// Upper bounds of the histogram of lookups, in seconds: 100 µs to 1 s, close around the delays after
/// which a second superpeer is asked and a lookup is given up.
const LOOKUP_BUCKETS: &[f64] =
    &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0];

/// Handles of the swarm. What the mesh keeps anyway (sessions, members, the directory) is read at scrape time.
pub struct MeshMetrics {
    /// Lookups, by what was answered.
    pub lookups: PerLabel<LookupAnswer, IntCounter>,
    /// Time from the question to the answer that was taken, or to giving up.
    pub lookup_duration: Histogram,
    /// Leases that ended at this node, by how.
    pub leases_ended: PerLabel<Ending, IntCounter>,
    /// Nodes put into quarantine here.
    pub quarantines: IntCounter,
    /// Holdings announced, each counted for each superpeer that was told.
    pub announced: IntCounter,
    /// Rounds in which everything was announced.
    pub announce_rounds: IntCounter,
    /// Notes to superpeers that found their queue full; the directory recovers by itself, later.
    pub notes_dropped: IntCounter,
    /// Questions of peers that were refused, by reason.
    pub refused: PerLabel<AskRefusal, IntCounter>,
}

impl MeshMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let counter = |name, help| registry.counters(name, help, []).child([]);
        let lookups = registry.counters(
            "shoal_swarm_lookups_total",
            "Lookups with superpeers, by what was answered.",
            ["answer"],
        );
        let duration = registry.histograms(
            "shoal_swarm_lookup_duration_seconds",
            "Time from the question to superpeers to the answer that was taken, or to giving up.",
            [],
            LOOKUP_BUCKETS,
        );
        let ended = registry.counters(
            "shoal_swarm_leases_ended_total",
            "Leases to fetch from the origin that ended here.",
            ["ending"],
        );
        let refused = registry.counters(
            "shoal_swarm_requests_refused_total",
            "Questions of peers that were refused.",
            ["reason"],
        );
        Self {
            lookups: PerLabel::new(|label| lookups.child([label])),
            lookup_duration: duration.child([]),
            leases_ended: PerLabel::new(|label| ended.child([label])),
            quarantines: counter("shoal_swarm_quarantines_total", "Nodes put into quarantine here."),
            announced: counter(
                "shoal_swarm_holdings_announced_total",
                "Holdings announced, each counted for each superpeer that was told.",
            ),
            announce_rounds: counter(
                "shoal_swarm_announce_rounds_total",
                "Rounds in which everything was announced.",
            ),
            notes_dropped: counter(
                "shoal_swarm_notes_dropped_total",
                "Notes to superpeers dropped because their queue was full.",
            ),
            refused: PerLabel::new(|label| refused.child([label])),
        }
    }
}

impl Label for Ending {
    const ALL: &'static [Self] =
        &[Self::Stored, Self::NotKept, Self::Uncacheable, Self::NotStorable, Self::Failed];
    fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::NotKept => "not_kept",
            Self::Uncacheable => "uncacheable",
            Self::NotStorable => "not_storable",
            Self::Failed => "failed",
        }
    }
    fn position(self) -> usize {
        self as usize
    }
}
