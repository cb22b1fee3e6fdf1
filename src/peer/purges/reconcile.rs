//! Comparing coverage with other nodes, for ever, so that whoever was cut off, restarted or came late has all purges at once;
//! and what follows for being in sync.

use super::super::exchange::AskError;
use super::super::node::Node;
use super::super::view::View;
use super::talk::compare;
use crate::proto::purge::{Standing, Sync};
use crate::proto::swarm::{Member, NodeId};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Between two comparisons with the same superpeer, on average: 1 to 2 s.
const SYNC_INTERVAL: Duration = Duration::from_millis(1500);
/// Members that are compared with in a round when there is no other superpeer.
const MEMBERS_MAX: usize = 64;
/// What is told to the driver and not yet heard; more is lost, and made up for by the next round.
pub(super) const TOLD_MAX: usize = 256;

/// What the driver is told.
pub(in crate::peer) enum Told {
    /// A connection stands with this node.
    Linked(NodeId),
    /// This node closed its connection in order.
    GoodBye(NodeId),
}

/// What the driver hears.
pub(in crate::peer) type Hears = mpsc::Receiver<Told>;

/// Compares, for ever. `has_seeds` tells whether this node knows of anybody to look for.
pub(in crate::peer) async fn run(node: Arc<Node>, mut hears: Hears, has_seeds: bool) {
    let mut views = node.views.subscribe();
    views.mark_changed();
    let now = node.clock.mono();
    let mut driver = Driver {
        sync: Sync::new(has_seeds, now),
        next_round: now,
        round: 0,
        seen: HashSet::new(),
        aloft: HashSet::new(),
        comparisons: FuturesUnordered::new(),
        was_in_sync: None,
        lapses: None,
        node,
    };
    loop {
        let wake = driver.wake();
        tokio::select! {
            changed = views.changed() => {
                if changed.is_err() {
                    return;
                }
                let view = views.borrow_and_update().clone();
                driver.see(&view);
            }
            told = hears.recv() => match told {
                Some(Told::Linked(node)) => driver.linked(node),
                Some(Told::GoodBye(node)) => driver.sync.said_good_bye(node),
                None => return,
            },
            Some(compared) = driver.comparisons.next() => driver.compared(compared),
            () = tokio::time::sleep(wake) => driver.begin_round(),
        }
        driver.look();
    }
}

/// With whom, when it was begun, and what came of it.
type Compared = (NodeId, Instant, Result<(), AskError>);

struct Driver {
    node: Arc<Node>,
    sync: Sync,
    next_round: Instant,
    round: u64,
    /// With whom this node compares, as that was last seen.
    seen: HashSet<NodeId>,
    /// With whom a comparison is under way; as many futures as that.
    aloft: HashSet<NodeId>,
    comparisons: FuturesUnordered<BoxFuture<'static, Compared>>,
    was_in_sync: Option<bool>,
    /// When being in sync ends unless something happens.
    lapses: Option<Instant>,
}

impl Driver {
    /// Time to the next round, or to the moment at which the node is not in sync any more.
    fn wake(&self) -> Duration {
        let now = self.now();
        let lapses = self.lapses.filter(|at| now < *at).unwrap_or(self.next_round);
        self.next_round.min(lapses).saturating_duration_since(now)
    }

    /// The fleet has changed: whoever counts and is new is compared with at once.
    fn see(&mut self, view: &View) {
        let superpeers: HashSet<_> = view.superpeers().iter().copied().collect();
        let live = view.others().map(|member| (member.id, superpeers.contains(&member.id)));
        self.sync.see(live, self.now());
        let others: Vec<_> = others(&self.node, view, self.round);
        let before = std::mem::take(&mut self.seen);
        others.iter().filter(|member| !before.contains(&member.id)).for_each(|member| self.compare(member));
        self.seen = others.iter().map(|member| member.id).collect();
    }

    /// A connection came to stand, maybe after a while without.
    fn linked(&mut self, node: NodeId) {
        let view = self.node.view();
        if let Some(member) = view.member(node).filter(|_| self.seen.contains(&node)) {
            self.compare(member);
        }
    }

    fn begin_round(&mut self) {
        let now = self.now();
        if now < self.next_round {
            return;
        }
        self.round += 1;
        let jitter = 2.0 / 3.0 + self.node.jitter(self.round) * 2.0 / 3.0;
        self.next_round = now + SYNC_INTERVAL.mul_f64(jitter);
        let view = self.node.view();
        let others = others(&self.node, &view, self.round);
        others.iter().for_each(|member| self.compare(member));
        self.seen = others.iter().map(|member| member.id).collect();
    }

    fn compare(&mut self, member: &Member) {
        if self.node.leaving.is_cancelled() || !self.aloft.insert(member.id) {
            return;
        }
        let (node, id, address, begun) = (self.node.clone(), member.id, member.address, self.now());
        self.comparisons.push(Box::pin(async move { (id, begun, compare(&node, id, address).await) }));
    }

    fn compared(&mut self, (node, begun, result): Compared) {
        self.aloft.remove(&node);
        match result {
            Ok(()) => self.sync.compared(node, begun),
            Err(error) => tracing::debug!(%node, %error, "purges cannot be compared"),
        }
    }

    /// What follows for being in sync.
    fn look(&mut self) {
        let now = self.now();
        let Standing { until, members } = self.sync.look(now);
        self.lapses = until;
        if let Some(until) = until {
            self.node.purges.synced(until);
        }
        let is_in_sync = until.is_some_and(|until| now < until);
        match (self.was_in_sync.replace(is_in_sync), is_in_sync) {
            (Some(true), false) => {
                tracing::warn!(
                    members,
                    "out of sync: purges may be missed, so nothing is served unvalidated"
                );
            }
            (Some(false) | None, true) => {
                tracing::info!(members, "in sync: all purges of the fleet are known")
            }
            _ => {}
        }
    }

    fn now(&self) -> Instant {
        self.node.clock.mono()
    }
}

/// With whom coverage is compared: every other superpeer; without any, some members, others in each round.
fn others(node: &Node, view: &View, round: u64) -> Vec<Member> {
    let superpeers = view.superpeers().iter().filter_map(|id| view.member(*id));
    let superpeers: Vec<_> = superpeers.cloned().collect();
    if !superpeers.is_empty() {
        return superpeers;
    }
    let order = |member: &&Member| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&node.me.id.0).update(&round.to_le_bytes()).update(&member.id.0);
        *hasher.finalize().as_bytes()
    };
    let mut members: Vec<_> = view.others().collect();
    members.sort_by_cached_key(order);
    members.into_iter().take(MEMBERS_MAX).cloned().collect()
}
