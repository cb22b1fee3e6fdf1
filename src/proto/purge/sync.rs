//! Whether a node knows of all purges of its fleet, as far as can be known: it is *in sync* for [`SYNC_HORIZON`] from the
//! moment at which it began to compare its coverage, with success, with
//!
//! - any other live superpeer; or,
//! - no other superpeer being alive, as many members as make, with this node, half of the last stable list of members.
//!
//! A node without others always is. The list is what keeps a node that was cut off from taking itself for the fleet: who joins is on
//! it at once; who dies leaves it only after [`DEAD_FOR`] in which this node was in sync, and who said good-bye when it
//! is gone. Of a fleet that falls into two equal halves both go on: who wants it otherwise runs a superpeer.
//!
//! A node that starts is not in sync before its first comparison, or before it has looked for others for
//! [`JOIN_WAIT`] and found nobody.
//!
//! Pure; all times are of the node's monotonic clock.

use crate::proto::swarm::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// For how long a node that has compared its coverage counts as knowing of all purges.
pub const SYNC_HORIZON: Duration = Duration::from_secs(10);
/// How long a node that starts looks for others before it takes itself to be alone.
pub const JOIN_WAIT: Duration = Duration::from_secs(5);
/// For how long a member must have been dead, and this node in sync, before it does not count any more.
pub const DEAD_FOR: Duration = Duration::from_secs(10);
/// Other members on the list. Beyond it those that have been dead for longest do not count.
const LISTED_MAX: usize = 8192;

/// The machine.
#[derive(Debug)]
pub struct Sync {
    /// Until when nobody alive means nothing.
    looks_until: Instant,
    live: BTreeSet<NodeId>,
    superpeers: BTreeSet<NodeId>,
    /// The last stable list, without this node.
    listed: BTreeMap<NodeId, Listed>,
    has_compared: bool,
    until: Option<Instant>,
    /// Since when it has been in sync without a break.
    since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Listed {
    /// When the last comparison that succeeded was begun.
    compared: Option<Instant>,
    dead_since: Option<Instant>,
    said_good_bye: bool,
}

/// What the machine says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Until when the node is in sync, as far as is known now; `None` if it never was.
    pub until: Option<Instant>,
    /// Members on the stable list, this node included.
    pub members: usize,
}

impl Sync {
    /// A node that starts. `has_seeds` tells whether there is anybody to look for.
    pub fn new(has_seeds: bool, now: Instant) -> Self {
        Self {
            looks_until: if has_seeds { now + JOIN_WAIT } else { now },
            live: BTreeSet::new(),
            superpeers: BTreeSet::new(),
            listed: BTreeMap::new(),
            has_compared: false,
            until: None,
            since: None,
        }
    }

    /// These others are live, and these of them superpeers.
    pub fn see(&mut self, live: impl IntoIterator<Item = (NodeId, bool)>, now: Instant) {
        self.live.clear();
        self.superpeers.clear();
        for (node, is_superpeer) in live {
            self.live.insert(node);
            if is_superpeer {
                self.superpeers.insert(node);
            }
            let listed = self.listed.entry(node).or_default();
            (listed.dead_since, listed.said_good_bye) = (None, false);
        }
        for (node, listed) in &mut self.listed {
            if !self.live.contains(node) {
                listed.dead_since.get_or_insert(now);
            }
        }
        while self.listed.len() > LISTED_MAX.max(self.live.len()) {
            let dead = self.listed.iter().filter_map(|(node, listed)| Some((listed.dead_since?, *node)));
            let Some((_, longest)) = dead.min() else { break };
            self.listed.remove(&longest);
        }
    }

    /// A comparison with `node` that was begun at `begun` succeeded: all that it covered then is covered here.
    pub fn compared(&mut self, node: NodeId, begun: Instant) {
        self.has_compared = true;
        if let Some(listed) = self.listed.get_mut(&node) {
            listed.compared = listed.compared.max(Some(begun));
        }
    }

    /// `node` closed its connection in order: it does not count as soon as it is not live.
    pub fn said_good_bye(&mut self, node: NodeId) {
        if let Some(listed) = self.listed.get_mut(&node) {
            listed.said_good_bye = true;
        }
    }

    /// What follows from all that at `now`.
    pub fn look(&mut self, now: Instant) -> Standing {
        self.listed.retain(|_, listed| !(listed.said_good_bye && listed.dead_since.is_some()));
        let earned = self.earned(now);
        let goes_on = |until| earned.is_some_and(|earned| earned < until + SYNC_HORIZON);
        if self.until.is_some_and(|until| until <= now && !goes_on(until)) {
            self.since = None;
        }
        // What was good for ten seconds stays so when who is live changes.
        self.until = self.until.max(earned);
        if self.until.is_some_and(|until| now < until) {
            let since = *self.since.get_or_insert(now);
            self.listed
                .retain(|_, listed| listed.dead_since.is_none_or(|dead| now < dead.max(since) + DEAD_FOR));
        }
        Standing { until: self.until, members: self.listed.len() + 1 }
    }

    fn earned(&self, now: Instant) -> Option<Instant> {
        let compared = |node| self.listed.get(node).and_then(|listed| listed.compared);
        if !self.superpeers.is_empty() {
            return self.superpeers.iter().filter_map(compared).max().map(|begun| begun + SYNC_HORIZON);
        }
        if !self.has_compared && now < self.looks_until {
            return None;
        }
        let members = self.listed.len() + 1;
        let of_half = members.div_ceil(2) - 1;
        // Where anybody is live, at least one is compared with.
        let needed = of_half.max(usize::from(!self.live.is_empty()));
        let Some(last) = needed.checked_sub(1) else { return Some(now + SYNC_HORIZON) };
        let mut begun: Vec<_> = self.listed.values().filter_map(|listed| listed.compared).collect();
        begun.sort_unstable_by(|a, b| b.cmp(a));
        begun.get(last).map(|begun| *begun + SYNC_HORIZON)
    }
}

#[cfg(test)]
#[path = "sync_tests.rs"]
mod tests;
