//! What the rest of the node sees of the swarm.

use super::exchange::{AskError, Exchange};
use crate::clock::Clock;
use crate::config::model::Config;
use crate::net::Net;
use crate::proto::key::ObjectId;
use crate::proto::swarm::{Changes, Ending, Holding, Member, NodeId, Place, Query, Token};
use crate::proto::wire;
use crate::task::Spawner;
use crate::telemetry::Metrics;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

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

/// The leave to fetch from the origin. It is renewed for as long as it lives; dropped, it ends as
/// [`Ending::Failed`].
pub struct Lease {
    /// Its token, under which others follow.
    pub token: Token,
    _mesh: Mesh,
}

impl Lease {
    /// Ends the lease. `holding` says what is stored now, if anything is.
    pub fn end(self, _ending: Ending, _holding: Option<Holding>) {
        todo!()
    }
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

/// What a peer asks of this node: always `Read` or `Open`.
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
pub struct Mesh(Arc<()>);

impl Mesh {
    /// Begins to listen, and to look for others until it is stopped with its spawner.
    ///
    /// # Errors
    /// What keeps it from listening. That nobody else is there yet is no error.
    pub async fn start(_start: MeshStart) -> Result<(Self, Requests), MeshError> {
        let _ = MeshError::Listen { at: ([0; 4], 0).into(), error: std::io::ErrorKind::Other.into() };
        let _ = Arc::new(());
        todo!()
    }

    /// This node.
    pub fn me(&self) -> &Member {
        let _ = &self.0;
        todo!()
    }

    /// Asks the superpeers. Bounded: it answers [`Answer::Unreachable`] when the decision budget is spent.
    pub async fn resolve(&self, _query: Query) -> Answer {
        todo!()
    }

    /// The home edge of an object among the live edges; `None` if it is this node or there is no other.
    pub fn home(&self, _object: ObjectId) -> Option<Place> {
        todo!()
    }

    /// Opens a stream to a node and asks. Bounded by the time to connect.
    ///
    /// # Errors
    /// If it cannot be reached or is in quarantine.
    pub async fn ask(&self, _place: &Place, _ask: wire::ask::Kind) -> Result<Exchange, AskError> {
        todo!()
    }

    /// Tells the directory that `node` was named for `holding` and does not have it.
    pub fn gone(&self, _holding: Holding, _node: NodeId) {
        todo!()
    }

    /// Notes a fault of a peer. Enough of them put it into quarantine: it is not asked any more for a while.
    pub fn blame(&self, _node: NodeId, _blame: Blame) {
        todo!()
    }

    /// Whether a node is in quarantine here.
    pub fn is_quarantined(&self, _node: NodeId) -> bool {
        todo!()
    }

    /// Says good-bye to superpeers and members, so that nobody waits for this node; bounded. Called
    /// when a drain begins to end.
    pub async fn leave(&self) {
        todo!()
    }

    /// What `shoal peers` and `/status` show.
    pub fn report(&self) -> serde_json::Value {
        todo!()
    }
}
