//! The rules of connections between nodes, on loopback with real certificates and, in `simulated`, on a simulated network.

mod enrolling;
mod exchanging;
mod flooding;
mod linking;
mod refusing;
mod simulated;
#[path = "../../../tests/common/turmoil_net.rs"]
mod turmoil_net;

use super::exchange::Exchange;
use super::link::{Link, LinkEvent, Links};
use super::mesh::{Inventory, MeshStart};
use crate::clock::Clock;
use crate::config::model::{Config, Credentials, Peer};
use crate::config::{Flag, FlagValue, Sources};
use crate::net::{Net, Tcp};
use crate::proto::swarm::{Changes, Holding, Member, Roles};
use crate::proto::time::Wall;
use crate::proto::wire::{self, Frame};
use crate::purge;
use crate::task::Spawner;
use crate::telemetry::{Metrics, Vocabulary};
use crate::tls::cluster::{Authority, Identity};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Beyond this, something hangs.
const PATIENCE: Duration = Duration::from_secs(20);

const BOTH: Roles = Roles { edge: true, superpeer: true };

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

struct NoInventory;

impl Inventory for NoInventory {
    fn changes(&self, _max: usize) -> Changes {
        Changes::default()
    }

    fn holdings(&self, _cursor: u64, _max: usize) -> (Vec<Holding>, Option<u64>) {
        (Vec::new(), None)
    }
}

fn authority() -> Authority {
    Authority::create("cluster", Clock::system().now().wall).expect("an authority")
}

/// What a node stands on, with a `peer` section that says only where it listens.
fn start(net: Net, listen: SocketAddr, clock: Clock, seed: Option<[u8; 32]>) -> MeshStart {
    let origin = FlagValue::Many(vec!["http://127.0.0.1:9".to_owned()]);
    let flags = vec![Flag { name: "--origin", key: "site[0].origins", value: origin }];
    let loaded = crate::config::load(&Sources { flags, ..Sources::default() }).expect("a configuration");
    let peer = Peer {
        listen,
        advertise: None,
        seeds: Vec::new(),
        ca: "unread".into(),
        credentials: Credentials::Token("unread".into()),
        directory_max: 1,
    };
    let vocabulary = Vocabulary { not_stored: &[], origin_fetch: &[], origin_failure: &[], refusal: &[] };
    let metrics = Metrics::new("node", None, vocabulary, clock);
    let spawner = Spawner::current();
    let around = purge::Surroundings { clock, metrics: &metrics, spawner: &spawner };
    MeshStart {
        purges: purge::Purges::unwritten(true, around),
        config: Arc::new(Config { peer: Some(peer), ..(*loaded.config).clone() }),
        net,
        clock,
        spawner: spawner.clone(),
        metrics: Arc::clone(&metrics),
        inventory: Arc::new(NoInventory),
        seed,
    }
}

/// A node that has only the layer under test.
struct Node {
    links: Links,
    events: mpsc::Receiver<LinkEvent>,
    spawner: Spawner,
    metrics: Arc<Metrics>,
}

impl Node {
    fn open(identity: Identity, incarnation: u64) -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let start = start(Arc::new(Tcp), listen, Clock::system(), None);
        Self::open_on(&start, identity, listen, incarnation)
    }

    fn open_on(start: &MeshStart, identity: Identity, address: SocketAddr, incarnation: u64) -> Self {
        let certified = identity.certified();
        let me = Member {
            id: certified.id,
            address,
            name: certified.name,
            zone: "z".into(),
            roles: BOTH,
            incarnation,
        };
        let (links, events) = Links::open(start, identity, me).expect("it listens");
        Self { links, events, spawner: start.spawner.clone(), metrics: start.metrics.clone() }
    }

    /// A node of a cluster, with a new key.
    fn of(authority: &Authority, roles: Roles) -> Self {
        Self::open(identity(authority, roles), 1)
    }

    fn at(&self) -> SocketAddr {
        self.links.me().address
    }

    async fn event(&mut self) -> LinkEvent {
        in_time(self.events.recv()).await.expect("the sender lives")
    }

    /// The next connection that stands.
    async fn up(&mut self) -> Link {
        match self.event().await {
            LinkEvent::Up(link) => link,
            other => panic!("{}", name(&other)),
        }
    }

    /// The next question.
    async fn asked(&mut self) -> (wire::ask::Kind, Exchange) {
        loop {
            match self.event().await {
                LinkEvent::Asked { ask, exchange, .. } => return (ask, exchange),
                LinkEvent::Up(_) => {}
                other => panic!("{}", name(&other)),
            }
        }
    }

    /// A line of the metrics.
    fn count(&self, series: &str) -> u64 {
        let text = self.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().expect("a number")
    }

    fn refused(&self, reason: &str) -> u64 {
        self.count(&format!("shoal_peer_handshake_failures_total{{reason=\"{reason}\"}}"))
    }

    /// Waits until a refusal was counted; it is after the other side has heard of it.
    async fn until_refused(&self, reason: &str) {
        in_time(async {
            while self.refused(reason) == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

fn identity(authority: &Authority, roles: Roles) -> Identity {
    Identity::issued(authority, roles, "node", Clock::system().now().wall).expect("an identity")
}

fn name(event: &LinkEvent) -> &'static str {
    match event {
        LinkEvent::Up(_) => "up",
        LinkEvent::Down(_) => "down",
        LinkEvent::GoodBye(_) => "good-bye",
        LinkEvent::Asked { .. } => "asked",
        LinkEvent::Datagram { .. } => "datagram",
    }
}

/// Two nodes of one cluster and a connection between them, dialled by the first.
async fn pair() -> (Node, Node, Link) {
    let authority = authority();
    let (first, second) = (Node::of(&authority, Roles::EDGE), Node::of(&authority, BOTH));
    let link = in_time(first.links.connect(second.at(), None)).await.expect("a connection");
    (first, second, link)
}

/// A question and both ends of its stream.
async fn exchange() -> (Exchange, Exchange, [Node; 2]) {
    let (first, mut second, link) = pair().await;
    let asking = link.ask(read()).await.expect("a stream");
    let (ask, answering) = second.asked().await;
    assert_eq!(ask, read());
    (asking, answering, [first, second])
}

fn read() -> wire::ask::Kind {
    wire::ask::Kind::Read(wire::Read { object: vec![7; 32], ..wire::Read::default() })
}

/// Everything up to the end of the stream, with data joined.
async fn all(exchange: &mut Exchange) -> Result<(Vec<Frame>, Vec<u8>), super::AskError> {
    let (mut frames, mut data) = (Vec::new(), Vec::new());
    while let Some(frame) = in_time(exchange.frame()).await? {
        match frame {
            Frame::Data(bytes) => data.extend_from_slice(&bytes),
            frame => frames.push(frame),
        }
    }
    Ok((frames, data))
}

/// Bytes that differ from place to place.
fn body(length: usize) -> bytes::Bytes {
    (0..length).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
}

fn wall() -> Wall {
    Wall::from_secs(1_800_000_000)
}
