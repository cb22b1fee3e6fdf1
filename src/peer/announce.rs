//! Announcements: what this node has goes to the two superpeers that keep each object.
//!
//! Changes are told as they come, a batch at a time. Everything is told in a *round*: to a session that began, and to
//! all when the live superpeers changed or changes were lost. One task does both in turn, so that on each
//! session what was read of the inventory first is also said first, and no batch is in memory but the one in hand
//! and those that wait for the sessions, which are bounded.

use super::node::Node;
use super::session::Session;
use super::view::View;
use crate::proto::swarm::{Changes, Holding, NodeId};
use crate::proto::wire::{self, Announce, HOLDINGS_MAX};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks at what changed.
const CHANGES_APART: Duration = Duration::from_millis(100);
/// Batches of changes told in one go; more wait for the next look.
const BATCHES_MAX: usize = 64;
/// How long one session may keep the others waiting until its queue has room.
const ROOM_LIMIT: Duration = Duration::from_secs(1);

/// Announces, for ever.
pub(super) async fn run(node: Arc<Node>) {
    let mut announcer = Announcer { last_look: node.clock.mono(), superpeers: Vec::new(), node };
    let node = announcer.node.clone();
    let mut views = node.views.subscribe();
    let mut look = tokio::time::interval(CHANGES_APART);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick() => announcer.tell_changes().await,
            () = node.sessions.began.notified() => {}
            changed = views.changed() => if changed.is_err() { return },
        }
        announcer.see_superpeers();
        announcer.round().await;
    }
}

struct Announcer {
    node: Arc<Node>,
    superpeers: Vec<NodeId>,
    last_look: Instant,
}

impl Announcer {
    /// When the superpeers change, so do the keepers of some objects.
    fn see_superpeers(&mut self) {
        let view = self.node.view();
        if view.superpeers() != self.superpeers {
            self.superpeers = view.superpeers().to_vec();
            self.announce_all_anew();
        }
    }

    fn announce_all_anew(&self) {
        for session in self.node.sessions.all() {
            session.set_unannounced();
        }
    }

    /// Tells what changed since the last look. A session to which everything will be announced is left out: it may
    /// miss that something is gone, which the first who asks for it there tells.
    async fn tell_changes(&mut self) {
        self.last_look = self.node.clock.mono();
        if !self.node.me.roles.edge {
            return;
        }
        for _ in 0..BATCHES_MAX {
            let changes = self.node.inventory.changes(HOLDINGS_MAX / 2);
            if changes.overflowed {
                self.announce_all_anew();
            }
            let view = self.node.view();
            for session in self.node.sessions.all().iter().filter(|session| !session.is_unannounced()) {
                self.say(session, batch(&view, session.superpeer, &changes)).await;
            }
            if !changes.more {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Announces everything to those sessions to which it has to be.
    async fn round(&mut self) {
        let mut to = self.node.sessions.all();
        to.retain(|session| session.take_unannounced());
        if to.is_empty() {
            return;
        }
        self.node.metrics.mesh.announce_rounds.inc();
        let mut cursor = self.node.me.roles.edge.then_some(0);
        while let Some(at) = cursor {
            let (added, next) = self.node.inventory.holdings(at, HOLDINGS_MAX);
            cursor = next.filter(|_| !to.is_empty());
            let (view, held) = (self.node.view(), Changes { added, ..Changes::default() });
            let mut taken = Vec::with_capacity(to.len());
            for session in to {
                if self.say(&session, batch(&view, session.superpeer, &held)).await {
                    taken.push(session);
                }
            }
            to = taken;
            if self.node.clock.mono().saturating_duration_since(self.last_look) >= CHANGES_APART {
                self.tell_changes().await;
            }
            tokio::task::yield_now().await;
        }
        for session in to {
            self.say(&session, Announce { complete: true, ..Announce::default() }).await;
        }
    }

    /// Whether the session took it. If not, everything has to be announced to it, if it goes on at all.
    async fn say(&self, session: &Session, announce: Announce) -> bool {
        if announce == Announce::default() {
            return true;
        }
        let holdings = announce.added.len() + announce.removed.len();
        let taken = session.announce(announce, ROOM_LIMIT).await;
        if taken {
            self.node.metrics.mesh.announced.inc_by(holdings as u64);
        } else {
            session.set_unannounced();
        }
        taken
    }
}

/// What of `changes` is kept by `superpeer`.
fn batch(view: &View, superpeer: NodeId, changes: &Changes) -> Announce {
    // With one or two superpeers nothing has to be ranked.
    let all = view.superpeers().len() <= 2 && view.superpeers().contains(&superpeer);
    let kept = |holding: &&Holding| all || view.keepers(holding.object).contains(&Some(superpeer));
    let messages = |holdings: &[Holding]| -> Vec<wire::Holding> {
        holdings.iter().filter(kept).map(|holding| (*holding).into()).collect()
    };
    Announce { added: messages(&changes.added), removed: messages(&changes.removed), complete: false }
}
