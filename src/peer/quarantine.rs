//! What this node holds against others: faults that it saw itself. Whoever has too many is not asked for a
//! while. Nothing of this is told to others, so that no node can have another one shunned.

use super::mesh::Blame;
use crate::proto::swarm::{NodeId, Place};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Chunks with a wrong hash within [`MEMORY`] that bring a node into quarantine.
const BAD_CHUNKS_MAX: u32 = 2;
/// Offences against the protocol within [`MEMORY`] that bring a node into quarantine.
const OFFENCES_MAX: u32 = 3;
/// For how long faults count together.
const MEMORY: Duration = Duration::from_secs(600);
/// How long a quarantine lasts.
const QUARANTINE: Duration = Duration::from_secs(600);
/// For how long a node that stalled is asked after others.
const STALL_MEMORY: Duration = Duration::from_secs(60);
/// Nodes whose faults are remembered.
const NODES_MAX: usize = 1024;

/// The faults of one node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// Chunks with a wrong hash, ever.
    pub(super) bad_chunks: u64,
    /// Bodies in which it stalled, ever.
    pub(super) stalls: u64,
    recent_since: Instant,
    recent_bad_chunks: u32,
    recent_offences: u32,
    last: Instant,
    last_stall: Option<Instant>,
    until: Option<Instant>,
}

impl Record {
    fn new(now: Instant) -> Self {
        Self {
            bad_chunks: 0,
            stalls: 0,
            recent_since: now,
            recent_bad_chunks: 0,
            recent_offences: 0,
            last: now,
            last_stall: None,
            until: None,
        }
    }

    /// Whether the node is in quarantine.
    pub(super) fn is_quarantined(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Adds a fault. Returns whether it brings the node into quarantine.
    fn add(&mut self, blame: Blame, now: Instant) -> bool {
        if now.saturating_duration_since(self.recent_since) > MEMORY {
            (self.recent_since, self.recent_bad_chunks, self.recent_offences) = (now, 0, 0);
        }
        self.last = now;
        match blame {
            Blame::BadChunk => {
                self.bad_chunks += 1;
                self.recent_bad_chunks += 1;
            }
            Blame::Protocol => self.recent_offences += 1,
            Blame::Stalled => {
                self.stalls += 1;
                self.last_stall = Some(now);
            }
        }
        let enough = self.recent_bad_chunks >= BAD_CHUNKS_MAX || self.recent_offences >= OFFENCES_MAX;
        if !enough || self.is_quarantined(now) {
            return false;
        }
        self.until = Some(now + QUARANTINE);
        (self.recent_since, self.recent_bad_chunks, self.recent_offences) = (now, 0, 0);
        true
    }
}

/// The faults of all nodes, as far as they are remembered.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    records: HashMap<NodeId, Record>,
}

impl Quarantine {
    /// Notes a fault of `node`. Returns whether it is in quarantine from now on.
    pub(super) fn blame(&mut self, node: NodeId, blame: Blame, now: Instant) -> bool {
        if !self.records.contains_key(&node) && self.records.len() >= NODES_MAX {
            self.forget_one(now);
        }
        self.records.entry(node).or_insert_with(|| Record::new(now)).add(blame, now)
    }

    /// What is known of `node`.
    pub(super) fn record(&self, node: NodeId) -> Option<&Record> {
        self.records.get(&node)
    }

    /// Whether `node` is in quarantine.
    pub(super) fn holds(&self, node: NodeId, now: Instant) -> bool {
        self.record(node).is_some_and(|record| record.is_quarantined(now))
    }

    /// The nodes in quarantine.
    pub(super) fn held(&self, now: Instant) -> impl Iterator<Item = NodeId> {
        self.records.iter().filter(move |(_, record)| record.is_quarantined(now)).map(|(node, _)| *node)
    }

    /// Leaves out those in quarantine, and puts those that stalled lately last.
    pub(super) fn prefer(&self, places: &mut Vec<Place>, now: Instant) {
        if self.records.is_empty() {
            return;
        }
        places.retain(|place| !self.holds(place.node, now));
        let stalled = |node| self.record(node).and_then(|record| record.last_stall);
        places.sort_by_key(|place| {
            stalled(place.node).is_some_and(|at| now.saturating_duration_since(at) < STALL_MEMORY)
        });
    }

    /// Makes room: of those that are not in quarantine the one whose last fault is oldest, or the oldest of all.
    fn forget_one(&mut self, now: Instant) {
        let oldest = self.records.iter().min_by_key(|(_, record)| (record.is_quarantined(now), record.last));
        if let Some(node) = oldest.map(|(node, _)| *node) {
            self.records.remove(&node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const LIAR: NodeId = NodeId([1; 16]);

    fn check(faults: &[(u64, Blame)], quarantined: bool) {
        let (mut quarantine, start) = (Quarantine::default(), Clock::system().mono());
        let mut now = start;
        for (secs, blame) in faults {
            now = start + Duration::from_secs(*secs);
            quarantine.blame(LIAR, *blame, now);
        }
        assert_eq!(quarantine.holds(LIAR, now), quarantined, "{faults:?}");
        assert!(!quarantine.holds(LIAR, now + QUARANTINE), "a quarantine ends");
        assert!(!quarantine.holds(NodeId([2; 16]), now), "others are not held");
    }

    #[test]
    fn two_bad_chunks_or_three_offences_within_ten_minutes_bring_quarantine_and_stalls_never() {
        check(&[(0, Blame::BadChunk)], false);
        check(&[(0, Blame::BadChunk), (599, Blame::BadChunk)], true);
        check(&[(0, Blame::BadChunk), (601, Blame::BadChunk)], false);
        check(&[(0, Blame::Protocol), (1, Blame::Protocol)], false);
        check(&[(0, Blame::Protocol), (1, Blame::Protocol), (2, Blame::Protocol)], true);
        check(&[(0, Blame::BadChunk), (1, Blame::Protocol), (2, Blame::Protocol)], false);
        check(&[(0, Blame::Stalled); 100], false);
    }

    #[test]
    fn who_stalled_is_asked_last_and_who_is_quarantined_not_at_all() {
        let (mut quarantine, now) = (Quarantine::default(), Clock::system().mono());
        let place = |n| Place {
            node: NodeId([n; 16]),
            address: ([127, 0, 0, 1], u16::from(n)).into(),
            zone: "".into(),
        };
        quarantine.blame(NodeId([1; 16]), Blame::Stalled, now);
        quarantine.blame(NodeId([2; 16]), Blame::BadChunk, now);
        quarantine.blame(NodeId([2; 16]), Blame::BadChunk, now);
        let order = |now| {
            let mut places: Vec<_> = (1..=4).map(place).collect();
            quarantine.prefer(&mut places, now);
            places.iter().map(|place| place.node.0[0]).collect::<Vec<_>>()
        };
        assert_eq!(order(now), [3, 4, 1]);
        assert_eq!(order(now + STALL_MEMORY), [1, 3, 4]);
    }

    #[test]
    fn the_memory_of_faults_is_bounded_and_keeps_those_in_quarantine() {
        let (mut quarantine, start) = (Quarantine::default(), Clock::system().mono());
        quarantine.blame(LIAR, Blame::BadChunk, start);
        quarantine.blame(LIAR, Blame::BadChunk, start);
        for n in 0..2 * NODES_MAX as u64 {
            let mut id = [0xff; 16];
            id[..8].copy_from_slice(&n.to_le_bytes());
            quarantine.blame(NodeId(id), Blame::Stalled, start + Duration::from_millis(n));
        }
        assert_eq!(quarantine.records.len(), NODES_MAX);
        assert!(quarantine.holds(LIAR, start + Duration::from_secs(60)));
    }
}
