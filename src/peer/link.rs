//! Connections to other nodes: at most one in use to each, dialled when it is needed.
//!
//! ```text
//! dial:   connect ── handshake, certificate ── my hello ──> its hello ── stands
//! accept: packet  ── handshake, certificate <── its hello ── my hello ── stands
//! ```
//! State: [`Links`] owns the endpoint, the table of what stands and the dials under way. A task for each
//! connection reads its streams' first frames and its datagrams. All tasks are the node's spawner's.

use super::dial::Dials;
use super::endpoint;
use super::exchange::{AskError, Exchange};
use super::hello;
use super::mesh::{MeshError, MeshStart};
use super::refusal::{Refusal, Refusals};
use super::table::{LINKS_MAX, Table};
use crate::clock::Clock;
use crate::proto::swarm::{Member, NodeId};
use crate::proto::wire::{self, ask, close, frame};
use crate::task::Spawner;
use crate::telemetry::{IntCounter, Metrics, PeerRefusal};
use crate::tls::cluster::Identity;
use bytes::Bytes;
use parking_lot::Mutex;
use quinn::{Connection, Endpoint, VarInt};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Events that wait for the mesh. Questions and datagrams beyond are refused and dropped.
const EVENTS_MAX: usize = 4096;
/// Time to open a stream to a peer that has all its streams in use.
const STREAM_LIMIT: Duration = Duration::from_secs(1);
/// Time for peers to hear that connections are closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// What happens on connections. The channel is bounded; its reader must keep up.
#[expect(clippy::large_enum_variant, reason = "most events are of the large variant")]
pub(super) enum LinkEvent {
    /// A connection stands, and hellos were exchanged: whoever dialled. May come again for a node that is up.
    Up(Link),
    /// The last connection to this node is gone.
    Down(NodeId),
    /// It closed a connection because it goes away.
    GoodBye(NodeId),
    /// A peer asks something; never `Hello`.
    Asked {
        /// On which connection.
        link: Link,
        /// What.
        ask: wire::ask::Kind,
        /// Where to answer.
        exchange: Exchange,
    },
    /// A datagram came (membership).
    Datagram {
        /// From whom.
        link: Link,
        /// Its content.
        bytes: Bytes,
    },
}

/// A connection to a node whose certificate was checked and whose hello came. Clones are the same.
#[derive(Clone)]
pub(super) struct Link(Arc<Standing>);

struct Standing {
    connection: Connection,
    member: Member,
    dialled: Option<SocketAddr>,
    received: IntCounter,
}

impl Link {
    /// `dialled` is the address, if this node dialled; `received` counts the body bytes that the other end sends.
    pub(super) fn new(
        connection: Connection,
        member: Member,
        dialled: Option<SocketAddr>,
        received: IntCounter,
    ) -> Self {
        Self(Arc::new(Standing { connection, member, dialled, received }))
    }

    /// Who is at the other end: identity and roles as the certificate says (roles: those that the hello says too).
    pub(super) fn member(&self) -> &Member {
        &self.0.member
    }

    /// Opens a stream and asks. Fails with [`AskError::Refused`] if the peer takes no more streams for a second.
    pub(super) async fn ask(&self, ask: wire::ask::Kind) -> Result<Exchange, AskError> {
        let streams = tokio::time::timeout(STREAM_LIMIT, self.0.connection.open_bi()).await;
        let Ok(streams) = streams else { return Err(AskError::Refused) };
        let mut exchange = Exchange::opened(self.member().id, streams.ok().ok_or(AskError::Unreachable)?);
        exchange.prefer(priority(&ask));
        exchange.count(self.0.received.clone());
        exchange.send_message(&wire::Ask { kind: Some(ask) }).await?;
        Ok(exchange)
    }

    /// Sends a datagram; dropped if there is no room, if it is too long for one packet, or the peer is gone.
    pub(super) fn datagram(&self, bytes: Bytes) {
        // Whoever sends datagrams counts on losing some.
        let _ = self.0.connection.send_datagram(bytes);
    }

    /// Smoothed round trip.
    pub(super) fn round_trip(&self) -> Duration {
        self.0.connection.rtt()
    }

    /// Bytes sent and received on this connection, as UDP carries them.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let stats = self.0.connection.stats();
        (stats.udp_tx.bytes, stats.udp_rx.bytes)
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.0.connection
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn is_at(&self, address: SocketAddr) -> bool {
        self.0.member.address == address || self.0.dialled == Some(address)
    }
}

/// What is short and waited for goes before bodies.
pub(super) fn priority(ask: &ask::Kind) -> i32 {
    match ask {
        ask::Kind::Hello(_) | ask::Kind::Resolve(_) | ask::Kind::Session(_) | ask::Kind::Look(_) => 1,
        ask::Kind::Purges(_) | ask::Kind::Invalidate(_) => 1,
        ask::Kind::Read(_) | ask::Kind::Open(_) => 0,
    }
}

/// All connections of a node. Clones are the same.
#[derive(Clone)]
pub(super) struct Links(pub(super) Arc<Shared>);

/// What the tasks of all connections share.
pub(super) struct Shared {
    pub(super) me: Member,
    /// This node's hello, as a message and as a whole frame.
    pub(super) hello: wire::Hello,
    pub(super) hello_frame: Bytes,
    pub(super) identity: Identity,
    pub(super) client: quinn::ClientConfig,
    pub(super) clock: Clock,
    pub(super) spawner: Spawner,
    pub(super) metrics: Arc<Metrics>,
    pub(super) refusals: Refusals,
    pub(super) dials: Dials,
    pub(super) events: mpsc::Sender<LinkEvent>,
    /// `None` once it is closed. Its tasks end when nobody holds it.
    endpoint: Mutex<Option<Endpoint>>,
    table: Mutex<Table>,
}

impl Links {
    /// Binds the endpoint and accepts, within a runtime. If `me` has port 0, it gets the one that was bound. The identity
    /// may be without a certificate yet: until it has one, dials fail and whoever dials is refused.
    pub(super) fn open(
        start: &MeshStart,
        identity: Identity,
        me: Member,
    ) -> Result<(Self, mpsc::Receiver<LinkEvent>), MeshError> {
        let peer = start.config.peer.as_ref();
        let at = peer.map_or(me.address, |peer| peer.listen);
        let listen = |error| MeshError::Listen { at, error };
        let datagrams = start.net.datagrams(at).map_err(listen)?;
        let mut me = me;
        if me.address.port() == 0 {
            me.address.set_port(datagrams.socket.local_addr().map_err(listen)?.port());
        }
        let no_cipher = |error| listen(std::io::Error::other(error));
        let server = endpoint::server(identity.server(start.clock)).map_err(no_cipher)?;
        let client = endpoint::client(identity.client(start.clock)).map_err(no_cipher)?;
        let endpoint =
            endpoint::open(datagrams, server, start.seed, start.spawner.clone()).map_err(listen)?;
        let (events, received) = mpsc::channel(EVENTS_MAX);
        let hello = hello::of(&me);
        let links = Self(Arc::new(Shared {
            hello_frame: frame::message(&hello),
            hello,
            dials: Dials::new(me.id),
            me,
            identity,
            client,
            clock: start.clock,
            spawner: start.spawner.clone(),
            metrics: start.metrics.clone(),
            refusals: Refusals::new(start.metrics.clone(), start.clock),
            events,
            endpoint: Mutex::new(Some(endpoint)),
            table: Mutex::default(),
        }));
        links.0.begin();
        Ok((links, received))
    }

    /// This node, as its hello says.
    pub(super) fn me(&self) -> &Member {
        &self.0.me
    }

    /// Whether this node has a certificate, without which it reaches nobody.
    pub(super) fn is_certified(&self) -> bool {
        self.0.identity.is_ready()
    }

    /// The connection to `node` if one stands.
    pub(super) fn get(&self, node: NodeId) -> Option<Link> {
        self.0.table.lock().get(node)
    }

    /// The connection to a node, dialled if none stands; dials to one address are joined, and an address that just
    /// failed is not tried again at once. `expect` is who must be there, if that is known. Bounded in time.
    pub(super) async fn connect(&self, to: SocketAddr, expect: Option<NodeId>) -> Result<Link, AskError> {
        let standing = match expect {
            Some(node) => self.get(node),
            None => self.0.table.lock().at(to),
        };
        match standing {
            Some(link) => Ok(link),
            None => self.0.dial(to, expect).await,
        }
    }
}

impl Shared {
    /// Starts the tasks of the endpoint.
    fn begin(self: &Arc<Self>) {
        let accepting = self.clone();
        self.spawner.spawn(async move { accepting.accept().await });
        let closing = self.clone();
        // Graceful, so that peers hear of it when the node stops without having left.
        self.spawner.spawn_graceful(async move {
            closing.spawner.cancelled().await;
            closing.close().await;
        });
    }

    /// The endpoint, unless it is closed.
    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        self.endpoint.lock().clone()
    }

    /// Closes all connections in order; nothing can be dialled or accepted after. Bounded in time.
    pub(super) async fn close(&self) {
        let Some(endpoint) = self.endpoint.lock().take() else { return };
        endpoint.close(VarInt::from_u32(close::LEAVING), b"the node is going away");
        // What is not closed by then, peers find out by its silence.
        let _ = tokio::time::timeout(CLOSE_LIMIT, endpoint.wait_idle()).await;
    }

    /// Whether there is room for one more connection.
    pub(super) fn has_room(&self) -> bool {
        self.table.lock().len() < LINKS_MAX
    }

    /// Takes a connection into use and starts its task.
    ///
    /// # Errors
    /// If there are too many already.
    pub(super) async fn stand(
        self: &Arc<Self>,
        connection: Connection,
        member: Member,
        dialled: Option<SocketAddr>,
    ) -> Result<Link, Refusal> {
        let received = self.metrics.node.links.received_from(&member.name);
        let link = Link::new(connection, member, dialled, received);
        // A place in the channel comes first, so that events are in the order of what is done to the table. Without
        // a reader there is nobody to tell.
        let place = self.events.reserve().await.ok();
        let replaced = {
            let mut table = self.table.lock();
            if table.len() >= LINKS_MAX {
                return Err(Refusal::new(PeerRefusal::Full, "this node has too many connections"));
            }
            let replaced = table.insert(link.clone());
            self.metrics.node.links.open.set(table.len() as i64);
            if let Some(place) = place {
                place.send(LinkEvent::Up(link.clone()));
            }
            replaced
        };
        for old in replaced {
            old.connection().close(VarInt::from_u32(close::REPLACED), b"a newer connection is used");
        }
        let (shared, attended) = (self.clone(), link.clone());
        self.spawner.spawn(async move { shared.attend(attended).await });
        Ok(link)
    }

    /// Takes a connection that is gone out of use.
    pub(super) async fn fall(&self, link: &Link) {
        let place = self.events.reserve().await.ok();
        let mut table = self.table.lock();
        let is_last = table.remove(link);
        self.metrics.node.links.open.set(table.len() as i64);
        if let (true, Some(place)) = (is_last, place) {
            place.send(LinkEvent::Down(link.member().id));
        }
    }
}
