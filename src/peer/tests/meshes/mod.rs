//! The rules of the swarm's driver: several whole meshes in one process, on loopback, with real certificates.

mod purges;
mod scripted;
mod stories;

use crate::clock::Clock;
use crate::config::model::{Config, Credentials, Peer};
use crate::config::{Flag, FlagValue, Sources};
use crate::net::Tcp;
use crate::peer::lease::Lease;
use crate::peer::mesh::{Answer, Inventory, Mesh, MeshStart, Requests};
use crate::peer::start::start_as;
use crate::proto::key::{ObjectId, VariantId};
use crate::proto::swarm::{Changes, Holding, NodeId, Place, Query, Roles};
use crate::purge;
use crate::task::Spawner;
use crate::telemetry::{Metrics, Vocabulary};
use crate::tls::cluster::{Authority, Identity};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Beyond this, something hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a condition that has no event of its own.
const LOOK: Duration = Duration::from_millis(5);
const BOTH: Roles = Roles { edge: true, superpeer: true };
const SUPERPEER: Roles = Roles { edge: false, superpeer: true };

/// Waits until something holds.
async fn until<T>(what: &str, mut holds: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = holds().await {
                return found;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(found) => found,
        Err(_) => panic!("it never came that {what}"),
    }
}

fn met(condition: bool) -> Option<()> {
    condition.then_some(())
}

/// What a node has: a whole in the order of objects, and what changed since it was asked.
#[derive(Default)]
struct Shelf {
    all: Mutex<BTreeMap<ObjectId, Holding>>,
    changes: Mutex<Changes>,
}

impl Shelf {
    fn add(&self, holding: Holding) {
        self.all.lock().insert(holding.object, holding);
        self.changes.lock().added.push(holding);
    }

    /// As [`add`](Self::add), but that it changed is forgotten.
    fn add_unnoticed(&self, holding: Holding) {
        self.all.lock().insert(holding.object, holding);
        self.changes.lock().overflowed = true;
    }

    fn remove(&self, holding: Holding) {
        self.all.lock().remove(&holding.object);
        self.changes.lock().removed.push(holding);
    }
}

impl Inventory for Shelf {
    fn changes(&self, max: usize) -> Changes {
        let mut changes = self.changes.lock();
        let mut take = |all: fn(&mut Changes) -> &mut Vec<Holding>| {
            let all = all(&mut changes);
            let count = all.len().min(max);
            all.drain(..count).collect::<Vec<_>>()
        };
        let (added, removed) = (take(|changes| &mut changes.added), take(|changes| &mut changes.removed));
        let overflowed = std::mem::take(&mut changes.overflowed);
        let more = !changes.added.is_empty() || !changes.removed.is_empty();
        Changes { added, removed, overflowed, more }
    }

    /// Three at a time, so that a few make several batches.
    fn holdings(&self, cursor: u64, max: usize) -> (Vec<Holding>, Option<u64>) {
        let (all, from) = (self.all.lock(), cursor as usize);
        let part: Vec<_> = all.values().skip(from).take(max.min(3)).copied().collect();
        let next = from + part.len();
        (part, (next < all.len()).then_some(next as u64))
    }
}

/// A node that is up.
struct Up {
    mesh: Mesh,
    requests: Requests,
    shelf: Arc<Shelf>,
    spawner: Spawner,
    metrics: Arc<Metrics>,
    identity: Identity,
}

/// What nodes have in common.
struct Fleet {
    authority: Authority,
    seeds: Vec<String>,
}

impl Fleet {
    fn new() -> Self {
        let authority = Authority::create("cluster", Clock::system().now().wall).expect("an authority");
        Self { authority, seeds: Vec::new() }
    }

    /// A superpeer, which is a seed of those that come after it.
    async fn superpeer(&mut self, name: &str, roles: Roles) -> Up {
        let up = self.node(name, roles).await;
        self.seeds.push(up.mesh.me().address.to_string());
        up
    }

    async fn edge(&self, name: &str) -> Up {
        self.node(name, Roles::EDGE).await
    }

    async fn node(&self, name: &str, roles: Roles) -> Up {
        let now = Clock::system().now().wall;
        let identity = Identity::issued(&self.authority, roles, name, now).expect("an identity");
        self.begin(identity, ([127, 0, 0, 1], 0).into(), Arc::default()).await
    }

    /// The same node in a new life.
    async fn again(&self, gone: Down) -> Up {
        self.begin(gone.identity, gone.address, gone.shelf).await
    }

    async fn begin(&self, identity: Identity, listen: SocketAddr, shelf: Arc<Shelf>) -> Up {
        let start = self.start_of(&identity, listen, shelf.clone());
        let (spawner, metrics) = (start.spawner.clone(), start.metrics.clone());
        let (mesh, requests) = Mesh::of(start_as(start, identity.clone()).await.expect("it starts"));
        Up { mesh, requests, shelf, spawner, metrics, identity }
    }

    /// What a node stands on that is run by the test itself.
    fn start(&self, name: &str, roles: Roles) -> (MeshStart, Identity) {
        let now = Clock::system().now().wall;
        let identity = Identity::issued(&self.authority, roles, name, now).expect("an identity");
        (self.start_of(&identity, ([127, 0, 0, 1], 0).into(), Arc::default()), identity)
    }

    fn start_of(&self, identity: &Identity, listen: SocketAddr, shelf: Arc<Shelf>) -> MeshStart {
        let certified = identity.certified();
        let peer = Peer {
            listen,
            advertise: None,
            seeds: self.seeds.clone(),
            ca: "unread".into(),
            credentials: Credentials::Token("unread".into()),
            directory_max: 1 << 16,
        };
        let clock = Clock::system();
        let vocabulary = Vocabulary { not_stored: &[], origin_fetch: &[], origin_failure: &[], refusal: &[] };
        let metrics = Metrics::new(&certified.name, None, vocabulary, clock);
        let spawner = Spawner::current();
        let around = purge::Surroundings { clock, metrics: &metrics, spawner: &spawner };
        MeshStart {
            purges: purge::Purges::unwritten(true, around),
            config: Arc::new(config(&certified.name, certified.roles, peer)),
            net: Arc::new(Tcp),
            clock,
            spawner: spawner.clone(),
            metrics: Arc::clone(&metrics),
            inventory: shelf,
            seed: None,
        }
    }
}

fn config(name: &str, roles: Roles, peer: Peer) -> Config {
    let origin = FlagValue::Many(vec!["http://127.0.0.1:9".to_owned()]);
    let flags = vec![Flag { name: "--origin", key: "site[0].origins", value: origin }];
    let loaded = crate::config::load(&Sources { flags, ..Sources::default() }).expect("a configuration");
    let mut config = (*loaded.config).clone();
    (config.node.name, config.node.roles, config.peer) = (name.to_owned(), roles, Some(peer));
    config
}

/// What is left of a node that stopped.
struct Down {
    identity: Identity,
    address: SocketAddr,
    shelf: Arc<Shelf>,
}

impl Up {
    fn id(&self) -> NodeId {
        self.mesh.me().id
    }

    fn place(&self) -> Place {
        let me = self.mesh.me();
        Place { node: me.id, address: me.address, zone: me.zone.clone() }
    }

    /// Waits until sessions stand with just so many superpeers, and all that know of this node are ready to grant.
    async fn with_sessions(&self, count: usize) -> &Self {
        until("sessions stand", async || met(self.mesh.node.sessions.len() == count)).await;
        self
    }

    /// Waits until the directory of this superpeer is fed by so many and answers.
    async fn serves(&self, sessions: u64) -> &Self {
        let service = self.mesh.node.directory.as_ref().expect("a superpeer");
        until("a directory is fed", async || {
            let (stats, warming) = service.stats(Clock::system().mono());
            met(stats.sessions == sessions && !warming)
        })
        .await;
        self
    }

    /// The first answer that is no `Unreachable`: sessions stand a moment before all is announced.
    async fn resolve(&self, object: ObjectId) -> Answer {
        until("a superpeer answers", async || match self.mesh.resolve(query(object)).await {
            Answer::Unreachable => None,
            answer => Some(answer),
        })
        .await
    }

    /// Waits until `object` is found at just these.
    async fn finds(&self, object: ObjectId, at: &[NodeId]) {
        until("it is found there", async || match self.mesh.resolve(only_holders(object)).await {
            Answer::Holders(places) => {
                met(sorted(places.iter().map(|place| place.node)) == sorted(at.iter().copied()))
            }
            _ => met(at.is_empty()),
        })
        .await;
    }

    /// Stops as a process that ends: connections are closed, and nobody was told before.
    async fn stop(self) -> Down {
        let address = self.mesh.me().address;
        assert!(self.spawner.stop(PATIENCE).await, "a task hangs");
        Down { identity: self.identity, address, shelf: self.shelf }
    }

    fn count(&self, series: &str) -> f64 {
        let text = self.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().expect("a number")
    }
}

fn sorted(nodes: impl Iterator<Item = NodeId>) -> Vec<NodeId> {
    let mut nodes: Vec<_> = nodes.collect();
    nodes.sort();
    nodes
}

fn object(n: u8) -> ObjectId {
    ObjectId([n; 16])
}

fn holding(n: u8) -> Holding {
    Holding { object: object(n), variant: VariantId([9; 16]), fresh_secs: 600 }
}

fn query(object: ObjectId) -> Query {
    Query {
        object,
        variant: VariantId([9; 16]),
        vary_known: true,
        held: false,
        lease_wanted: true,
        avoid: Vec::new(),
        purged: 0,
        overtaken: None,
    }
}

fn only_holders(object: ObjectId) -> Query {
    Query { lease_wanted: false, ..query(object) }
}

fn lease(answer: Answer) -> Lease {
    match answer {
        Answer::Lease(lease) => lease,
        other => panic!("not a lease but {}", name(&other)),
    }
}

fn name(answer: &Answer) -> &'static str {
    match answer {
        Answer::Holders(_) => "holders",
        Answer::Lease(_) => "lease",
        Answer::Follow(..) => "follow",
        Answer::Fresher(_) => "fresher",
        Answer::Alone(_) => "alone",
        Answer::Unreachable => "unreachable",
    }
}
