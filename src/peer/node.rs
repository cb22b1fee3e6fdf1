//! What all parts of the mesh share. Each part owns what is its own; nothing here holds a lock for longer than a look.

use super::directory::Service;
use super::exchange::{AskError, Exchange};
use super::invalidations::Invalidations;
use super::lease::Leases;
use super::link::{Link, Links};
use super::mesh::Inventory;
use super::purges::Desk;
use super::quarantine::Quarantine;
use super::resolve::Lookups;
use super::session::Sessions;
use super::view::View;
use crate::clock::Clock;
use crate::proto::swarm::{Member, NodeId};
use crate::proto::wire::{code, note};
use crate::purge::Purges;
use crate::task::Spawner;
use crate::telemetry::{AskRefusal, Metrics};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The node as the parts of its mesh see it.
pub(super) struct Node {
    pub(super) me: Member,
    pub(super) clock: Clock,
    pub(super) spawner: Spawner,
    pub(super) metrics: Arc<Metrics>,
    pub(super) purges: Purges,
    /// Purges between nodes.
    pub(super) desk: Desk,
    /// Objects of which other edges are to be told that they changed.
    pub(super) invalidations: Invalidations,
    pub(super) inventory: Arc<dyn Inventory>,
    pub(super) links: Links,
    /// Who is live; the membership publishes it.
    pub(super) views: watch::Sender<Arc<View>>,
    pub(super) sessions: Sessions,
    pub(super) leases: Leases,
    pub(super) lookups: Lookups,
    pub(super) quarantine: Mutex<Quarantine>,
    /// `None` if this node is no superpeer.
    pub(super) directory: Option<Service>,
    /// The node goes away: sessions are ended and not begun any more.
    pub(super) leaving: CancellationToken,
}

impl Node {
    /// Who is live.
    pub(super) fn view(&self) -> Arc<View> {
        self.views.borrow().clone()
    }

    /// A live superpeer, which may be this node.
    pub(super) fn live_superpeer(&self, superpeer: NodeId) -> Option<Member> {
        let view = self.view();
        if !view.superpeers().contains(&superpeer) {
            return None;
        }
        if superpeer == self.me.id { Some(self.me.clone()) } else { view.member(superpeer).cloned() }
    }

    /// A connection with a node: the one that stands, or a new one. The address that the membership knows goes before
    /// the one that somebody named, so that nobody is sent to where no node is as long as that is known.
    pub(super) async fn link(&self, node: NodeId, named: SocketAddr) -> Result<Link, AskError> {
        if let Some(link) = self.links.get(node) {
            return Ok(link);
        }
        let address = self.view().member(node).map_or(named, |member| member.address);
        self.links.connect(address, Some(node)).await
    }

    /// Says something to a superpeer on its session. Lost if none stands: what follows from that, expiry and
    /// new announcements, follows by itself.
    pub(super) fn tell(&self, superpeer: NodeId, note: note::Kind) {
        let session = self.sessions.get(superpeer);
        if session.is_some_and(|session| !session.tell(note)) {
            self.metrics.mesh.notes_dropped.inc();
        }
    }

    /// Refuses what a peer asks.
    pub(super) fn refuse(&self, exchange: Exchange, why: AskRefusal) {
        self.metrics.mesh.refused.of(why).inc();
        tracing::debug!(peer = %exchange.peer(), reason = why.as_str(), "question is refused");
        exchange.reset(match why {
            AskRefusal::Busy => code::BUSY,
            AskRefusal::Forbidden => code::FORBIDDEN,
            AskRefusal::Protocol => code::PROTOCOL,
        });
    }

    /// A number from 0 to below 1 that differs by node and `round`, so that nodes do not do things at once.
    pub(super) fn jitter(&self, round: u64) -> f64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.me.id.0).update(&self.me.incarnation.to_le_bytes()).update(&round.to_le_bytes());
        let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
        f64::from(u32::from_le_bytes([a, b, c, d])) / 4_294_967_296.0
    }
}
