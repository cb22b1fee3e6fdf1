//! What a node counts of purges and invalidations.

use super::labels::{Label, PerLabel, label};
use super::registry::Registry;
use crate::proto::purge::{Mode, SelectorKind};
use prometheus::{Histogram, IntCounter, IntGauge};

/// Upper bounds of the histogram of spreading, in seconds.
const SPREAD_BUCKETS: &[f64] =
    &[0.001, 0.002_5, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

label! {
    /// What became of a purge that was asked of this node.
    PurgeOutcome {
        /// All live members have applied it.
        Complete = "complete",
        /// It is applied here, and not everywhere yet.
        Partial = "partial",
        /// Too many were asked for.
        Limited = "limited",
        /// Whoever asked may not.
        Refused = "refused",
        /// It cannot be understood.
        Invalid = "invalid",
        /// It could not be written.
        Failed = "failed",
    }
}
label! {
    /// Who made a change of the origin known.
    InvalidatedBy {
        /// An unsafe request of a client of this node.
        Client = "client",
        /// Another node.
        Peer = "peer",
    }
}
label! {
    /// Which way purges went when two nodes found that they cover different ones.
    Reconciled {
        /// To this node.
        Taken = "taken",
        /// From this node.
        Given = "given",
    }
}

/// Handles of purges, all at 0 from the start.
pub struct PurgeMetrics {
    applied: Vec<PerLabel<Mode, IntCounter>>,
    /// Purges that were asked of this node.
    pub requests: PerLabel<PurgeOutcome, IntCounter>,
    /// Purges that were asked of this node and are not answered yet.
    pub open: IntGauge,
    /// Time from the request to the last acknowledgement of a live member.
    pub spread: Histogram,
    /// Live members that did not acknowledge in time.
    pub missed: IntCounter,
    /// Look-ups that met a version which a purge selects.
    pub meets: IntCounter,
    /// Fetches that a purge overtook.
    pub fills: IntCounter,
    /// Objects that unsafe requests invalidated here.
    pub invalidations: PerLabel<InvalidatedBy, IntCounter>,
    /// Times that purges were exchanged because another node covered others.
    pub reconciled: PerLabel<Reconciled, IntCounter>,
    /// Questions of which one side had purges that the other did not have yet.
    pub apart: IntCounter,
    /// Objects of which other edges were told that an unsafe request changed them.
    pub invalidations_told: IntCounter,
    /// Those of which they were not, since too many waited.
    pub invalidations_dropped: IntCounter,
}

impl PurgeMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let counter = |name, help| registry.counters(name, help, []).child([]);
        let applied = registry.counters("shoal_purges_total", "Purges applied here.", ["selector", "mode"]);
        let requests = registry.counters(
            "shoal_purge_requests_total",
            "Purges that were asked of this node.",
            ["outcome"],
        );
        let spread = registry.histograms(
            "shoal_purge_spread_seconds",
            "Time from the request to the last acknowledgement of a live member.",
            [],
            SPREAD_BUCKETS,
        );
        let invalidations = registry.counters(
            "shoal_invalidations_total",
            "Objects that unsafe requests invalidated here, by who told of it.",
            ["from"],
        );
        let reconciled = registry.counters(
            "shoal_purge_reconciliations_total",
            "Times that purges were exchanged because another node covered others, by whether they were taken or given.",
            ["direction"],
        );
        let by_mode = |kind: &SelectorKind| PerLabel::new(|mode| applied.child([kind.as_str(), mode]));
        Self {
            applied: SelectorKind::ALL.iter().map(by_mode).collect(),
            requests: PerLabel::new(|outcome| requests.child([outcome])),
            open: registry
                .gauges(
                    "shoal_purge_requests_open",
                    "Purges that were asked of this node and are not answered yet.",
                    [],
                )
                .child([]),
            spread: spread.child([]),
            missed: counter(
                "shoal_purge_members_missed_total",
                "Live members that did not acknowledge a purge in time.",
            ),
            meets: counter("shoal_purge_meets_total", "Look-ups that met a version which a purge selects."),
            fills: counter("shoal_purge_fills_total", "Fetches that a purge overtook."),
            invalidations: PerLabel::new(|from| invalidations.child([from])),
            reconciled: PerLabel::new(|direction| reconciled.child([direction])),
            apart: counter(
                "shoal_purge_reads_apart_total",
                "Questions to peers that had to wait until both sides had the same purges.",
            ),
            invalidations_told: counter(
                "shoal_invalidations_told_total",
                "Objects of which other edges were told that an unsafe request changed them.",
            ),
            invalidations_dropped: counter(
                "shoal_invalidations_dropped_total",
                "Objects of which other edges were not told that an unsafe request changed them, since too many waited.",
            ),
        }
    }

    /// Purges of that kind applied here.
    pub fn applied(&self, kind: SelectorKind, mode: Mode) -> &IntCounter {
        self.applied[kind as usize].of(mode)
    }
}

impl Label for Mode {
    const ALL: &'static [Self] = &Self::ALL;
    fn as_str(self) -> &'static str {
        Self::as_str(self)
    }
    fn position(self) -> usize {
        self as usize
    }
}
