//! What the rest of the node sees of the swarm.

use super::exchange::{AskError, Exchange};
use super::lease::Lease;
use super::membership::Told;
use super::node::Node;
use super::purges::Receipt;
use super::{resolve, settled, start};
use crate::clock::Clock;
use crate::config::model::Config;
use crate::net::Net;
use crate::proto::key::ObjectId;
use crate::proto::purge::{Batch, Coverage};
use crate::proto::swarm::{self, Changes, Holding, Member, NodeId, Place, Query, Token};
use crate::proto::wire::{self, note};
use crate::purge::Purges;
use crate::task::Spawner;
use crate::telemetry::Metrics;
use crate::tls::cluster::ClusterError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long a stream to a peer may take to open, with the connection if none stands.
const ASK_LIMIT: Duration = Duration::from_secs(2);
/// How long a fill may wait until this node and a peer cover the same purges.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(2);
/// How long saying good-bye may take.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);
/// Between two looks at whether all sessions have ended, while leaving.
const LEAVE_LOOK: Duration = Duration::from_millis(10);

/// What a mesh stands on.
pub struct MeshStart {
    /// The configuration; its `peer` section is set.
    pub config: Arc<Config>,
    /// Where datagrams come from.
    pub net: Net,
    /// Time.
    pub clock: Clock,
    /// Owner of its tasks.
    pub spawner: Spawner,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// The purges that were applied here.
    pub purges: Purges,
    /// What this node has, if it is an edge.
    pub inventory: Arc<dyn Inventory>,
    /// What the transport's randomness is drawn from; `None` is the system's. Simulations set it.
    pub seed: Option<[u8; 32]>,
}

/// What this node has to announce.
pub trait Inventory: Send + Sync {
    /// What was added and removed since this was last asked; at most `max` of each. Must not block.
    fn changes(&self, max: usize) -> Changes;
    /// A part of everything that is held, from `cursor` on; 0 begins. Returns the next cursor, `None` at the end.
    /// Must not block long.
    fn holdings(&self, cursor: u64, max: usize) -> (Vec<Holding>, Option<u64>);
}

/// Why a mesh was not started.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The address cannot be bound.
    #[error("peer.listen {at}: {error}")]
    Listen {
        /// The address.
        at: std::net::SocketAddr,
        /// The operating system's answer.
        error: std::io::Error,
    },
    /// The configuration has no `peer` section.
    #[error("peer.listen is missing, so there is no fleet to take part in")]
    NoFleet,
    /// What `peer.advertise` says, or `peer.listen` without it, is no address at which others reach this node.
    #[error("peer.advertise: {0:?} leads to no address at which other nodes could reach this one")]
    Advertise(String),
    /// The node's certificate, key or authority cannot be used.
    #[error("peer: {0}")]
    Identity(#[from] ClusterError),
}

/// What the directory says, as `serve` needs it.
pub enum Answer {
    /// These have it.
    Holders(Vec<Place>),
    /// This node may fetch it from the origin.
    Lease(Lease),
    /// It arrives there.
    Follow(Place, Token),
    /// A fresher version is there.
    Fresher(Place),
    /// Not worth sharing.
    Alone(Duration),
    /// No superpeer answered in time, or none that is reached knows enough: the home edge is next.
    Unreachable,
}

/// What a peer did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// A chunk did not match the hash that the peer sent with it.
    BadChunk,
    /// It stalled within a body.
    Stalled,
    /// It did not keep to the protocol.
    Protocol,
}

/// What a peer asks of this node: always `Read`, `Open`, `Look` or `Invalidate`.
pub struct PeerRequest {
    /// Who asks.
    pub from: Member,
    /// What.
    pub ask: wire::ask::Kind,
    /// Where to answer.
    pub exchange: Exchange,
}

/// The peers' requests, bounded: beyond it they are answered busy.
pub type Requests = mpsc::Receiver<PeerRequest>;

/// The node's part in the swarm. Clones are the same.
#[derive(Clone)]
pub struct Mesh {
    pub(super) node: Arc<Node>,
    membership: mpsc::Sender<Told>,
}

impl Mesh {
    /// Begins to listen, and to look for others until it is stopped with its spawner. Without a certificate it waits
    /// for one in the background, and reaches nobody until then.
    ///
    /// # Errors
    /// What keeps it from listening. That nobody else is there yet is no error.
    pub async fn start(start: MeshStart) -> Result<(Self, Requests), MeshError> {
        Ok(Self::of(start::start(start).await?))
    }

    pub(super) fn of((node, membership, requests): start::Started) -> (Self, Requests) {
        (Self { node, membership }, requests)
    }

    /// This node.
    pub fn me(&self) -> &Member {
        &self.node.me
    }

    /// Ends when this node has its place in the fleet: a certificate, as an edge a session with every live superpeer, as a
    /// superpeer a directory that has heard what the edges have. Without any superpeer an edge waits for ever, so the
    /// caller bounds it.
    pub async fn settled(&self) {
        settled::settled(&self.node).await;
    }

    /// What a node calls itself; its identity if that is not known.
    pub fn name_of(&self, node: NodeId) -> String {
        self.node.view().member(node).map_or_else(|| node.to_string(), |member| member.name.to_string())
    }

    /// The live edges but this one.
    pub fn edges(&self) -> Vec<Member> {
        self.node.view().others().filter(|member| member.roles.edge).cloned().collect()
    }

    /// Asks the superpeers. Bounded: it answers [`Answer::Unreachable`] when the decision budget is spent.
    pub async fn resolve(&self, query: Query) -> Answer {
        resolve::resolve(&self.node, query).await
    }

    /// The home edge of an object among the live edges that are not in quarantine here; `None` if it is this node or
    /// there is no other.
    pub fn home(&self, object: ObjectId) -> Option<Place> {
        let view = self.node.view();
        let shunned: Vec<_> = self.node.quarantine.lock().held(self.node.clock.mono()).collect();
        let edges = view.edges().iter().copied().filter(|edge| !shunned.contains(edge));
        let home = view.member(swarm::home(edges, object)?)?;
        Some(Place { node: home.id, address: home.address, zone: home.zone.clone() })
    }

    /// Opens a stream to a node and asks. Bounded by the time to connect.
    ///
    /// # Errors
    /// If it cannot be reached or is in quarantine.
    pub async fn ask(&self, place: &Place, ask: wire::ask::Kind) -> Result<Exchange, AskError> {
        if self.is_quarantined(place.node) {
            return Err(AskError::Quarantined);
        }
        let asked = async { self.node.link(place.node, place.address).await?.ask(ask).await };
        tokio::time::timeout(ASK_LIMIT, asked).await.unwrap_or(Err(AskError::Silent))
    }

    /// Tells the directory that `node` was named for `holding` and does not have it, or has only what a purge selects.
    pub fn gone(&self, holding: Holding, node: NodeId, purged: bool) {
        let gone = wire::Gone { holding: Some(holding.into()), node: node.0.to_vec(), purged };
        for keeper in self.node.view().keepers(holding.object).into_iter().flatten() {
            self.node.tell(keeper, note::Kind::Gone(gone.clone()));
        }
    }

    /// Notes a fault of a peer. Enough of them put it into quarantine: it is not asked any more for a while.
    pub fn blame(&self, node: NodeId, blame: Blame) {
        if self.node.quarantine.lock().blame(node, blame, self.node.clock.mono()) {
            self.node.metrics.mesh.quarantines.inc();
            tracing::warn!(%node, fault = ?blame, "peer is in quarantine: it is not asked for a while");
        }
    }

    /// Whether a node is in quarantine here.
    pub fn is_quarantined(&self, node: NodeId) -> bool {
        self.node.quarantine.lock().holds(node, self.node.clock.mono())
    }

    /// Says good-bye to superpeers and members, so that nobody waits for this node; bounded. Called
    /// when a drain begins to end. Connections stay until the spawner is stopped, so that peers get the rest of what
    /// they are reading.
    pub async fn leave(&self) {
        self.node.leaving.cancel();
        let good_bye = async {
            let (said_tx, said_rx) = oneshot::channel();
            if self.membership.send(Told::Leave(said_tx)).await.is_ok() {
                let _ = said_rx.await;
            }
            while self.node.sessions.len() > 0 {
                tokio::time::sleep(LEAVE_LOOK).await;
            }
        };
        if tokio::time::timeout(LEAVE_LIMIT, good_bye).await.is_err() {
            tracing::debug!("not everyone could be told that this node leaves");
        }
    }

    /// Tells all live members of a purge that was issued here, and waits until each has applied it, at most `limit`. One receipt for each
    /// other member that was live when this was called or came meanwhile; those that left are named, and are not live.
    pub async fn spread(&self, batch: &Batch, limit: Duration) -> Vec<Receipt> {
        super::purges::spread(&self.node, batch, limit).await
    }

    /// This node and `place` were found to cover different purges, `theirs` being what that covers: takes what is lacking here, and
    /// gives what is lacking there. Bounded in time.
    ///
    /// # Errors
    /// If it cannot be reached, or one of the two cannot apply them.
    pub async fn catch_up(&self, place: &Place, theirs: Coverage) -> Result<(), AskError> {
        super::purges::catch_up(&self.node, (place.node, place.address), theirs, CATCH_UP_LIMIT).await
    }

    /// An unsafe request changed an object: the other edges are told soon. If it is not `known` here to have been cacheable,
    /// they are told only if the directory knows one that has it. Never waits; what is too much is dropped and counted.
    pub fn invalidate(&self, object: ObjectId, known: bool) {
        self.node.invalidations.tell(&self.node, object, known);
    }

    /// What `shoal peers` and `/status` show.
    pub fn report(&self) -> serde_json::Value {
        super::report::report(&self.node)
    }
}
