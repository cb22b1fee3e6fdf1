//! The rules of the swarm's driver: several whole meshes in one process, on loopback, with real certificates.

use super::exchange::AskError;
use super::mesh::{Answer, Blame, Inventory, Mesh, MeshStart, Requests};
use super::session::SILENCE_MAX;
use super::start::start_as;
use crate::clock::Clock;
use crate::config::model::{Config, Credentials, Peer};
use crate::config::{Flag, FlagValue, Sources};
use crate::net::Tcp;
use crate::proto::key::{ObjectId, VariantId};
use crate::proto::swarm::{Changes, Ending, Holding, NodeId, Place, Query, Roles, top_two};
use crate::proto::wire::{self, Frame, ask};
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
        let authority = Authority::create("a cluster", Clock::system().now().wall).expect("an authority");
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
        let certified = identity.certified();
        let peer = Peer {
            listen,
            advertise: None,
            seeds: self.seeds.clone(),
            ca: "unread".into(),
            credentials: Credentials::Token("unread".into()),
            directory_max: 1 << 16,
        };
        let (clock, spawner) = (Clock::system(), Spawner::current());
        let vocabulary = Vocabulary { not_stored: &[], origin_fetch: &[], origin_failure: &[], refusal: &[] };
        let metrics = Metrics::new(&certified.name, None, vocabulary, clock);
        let start = MeshStart {
            config: Arc::new(config(&certified.name, certified.roles, peer)),
            net: Arc::new(Tcp),
            clock,
            spawner: spawner.clone(),
            metrics: metrics.clone(),
            inventory: shelf.clone(),
            seed: None,
        };
        let (mesh, requests) = Mesh::of(start_as(start, identity.clone()).await.expect("it starts"));
        Up { mesh, requests, shelf, spawner, metrics, identity }
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
            Answer::Holders(places) => met(sorted(places.iter().map(|place| place.node)) == sorted(at.iter().copied())),
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
    }
}

fn only_holders(object: ObjectId) -> Query {
    Query { lease_wanted: false, ..query(object) }
}

fn lease(answer: Answer) -> super::lease::Lease {
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

#[tokio::test]
async fn the_first_who_asks_gets_a_lease_the_second_follows_and_later_ones_find_a_holder() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let (first, second) = (fleet.edge("first").await, fleet.edge("second").await);
    superpeer.serves(2).await;
    let lease = lease(first.with_sessions(1).await.resolve(object(1)).await);
    match second.with_sessions(1).await.resolve(object(1)).await {
        Answer::Follow(place, token) => assert_eq!((place, token), (first.place(), lease.token)),
        other => panic!("not to follow but {}", name(&other)),
    }
    lease.end(Ending::Stored, Some(holding(1)));
    second.finds(object(1), &[first.id()]).await;
    assert_eq!(first.mesh.node.leases.len(), 0);
    assert_eq!(first.count("shoal_swarm_leases_ended_total{ending=\"stored\"}"), 1.0);
    assert_eq!(second.count("shoal_swarm_lookups_total{answer=\"follow\"}"), 1.0);
}

#[tokio::test]
async fn a_lease_lives_as_long_as_its_guard_and_ends_with_it() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let (first, second) = (fleet.edge("first").await, fleet.edge("second").await);
    superpeer.serves(2).await;
    let held = lease(first.with_sessions(1).await.resolve(object(1)).await);
    second.with_sessions(1).await;
    // More than the term of a lease, which is two seconds: what passes here is the subject.
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert_eq!(name(&second.mesh.resolve(query(object(1))).await), "follow");
    drop(held);
    until("the lease is free", async || match second.mesh.resolve(query(object(1))).await {
        Answer::Lease(lease) => Some(lease),
        _ => None,
    })
    .await;
    assert_eq!(first.count("shoal_swarm_leases_ended_total{ending=\"failed\"}"), 1.0);
    assert_eq!(superpeer.count("shoal_directory_expired_total"), 0.0);
}

#[tokio::test]
async fn a_lease_that_nobody_waits_for_any_more_is_given_back() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let (first, second) = (fleet.edge("first").await, fleet.edge("second").await);
    superpeer.serves(2).await;
    first.with_sessions(1).await;
    second.with_sessions(1).await;
    // Begun, and given up at the first wait.
    let given_up = tokio::time::timeout(Duration::ZERO, first.mesh.resolve(query(object(1)))).await;
    assert!(given_up.is_err());
    until("the lease came and went", async || {
        met(first.count("shoal_swarm_leases_ended_total{ending=\"not_kept\"}") == 1.0)
    })
    .await;
    let freed = Clock::system().mono();
    until("the lease is free", async || match second.mesh.resolve(query(object(1))).await {
        Answer::Lease(lease) => Some(lease),
        _ => None,
    })
    .await;
    assert!(freed.elapsed() < Duration::from_secs(1), "it was waited for its expiry");
    assert_eq!(superpeer.count("shoal_directory_expired_total"), 0.0);
}

#[tokio::test]
async fn what_is_on_the_shelf_is_found_and_what_is_gone_is_not() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let holder = fleet.edge("holder").await;
    (1..=10).for_each(|n| holder.shelf.add(holding(n)));
    let seeker = fleet.edge("seeker").await;
    superpeer.serves(2).await;
    seeker.with_sessions(1).await;
    for n in 1..=10 {
        seeker.finds(object(n), &[holder.id()]).await;
    }
    holder.shelf.remove(holding(3));
    seeker.finds(object(3), &[]).await;
    holder.shelf.add_unnoticed(holding(11));
    seeker.finds(object(11), &[holder.id()]).await;
    seeker.mesh.gone(holding(4), holder.id());
    seeker.finds(object(4), &[]).await;
    seeker.finds(object(5), &[holder.id()]).await;
}

/// Whichever of two superpeers is asked first about an object, in the order of `nodes`.
fn ranked_first(object: ObjectId, nodes: [NodeId; 2]) -> usize {
    usize::from(top_two(nodes.into_iter(), object).0 != Some(nodes[0]))
}

#[tokio::test]
async fn lookups_outlive_one_superpeer_and_are_given_up_soon_without_any() {
    let mut fleet = Fleet::new();
    let superpeers =
        [fleet.superpeer("one", SUPERPEER).await, fleet.superpeer("two", SUPERPEER).await];
    let (first, second) = (fleet.edge("first").await, fleet.edge("second").await);
    for superpeer in &superpeers {
        superpeer.serves(3).await; // two edges and the other superpeer
    }
    first.with_sessions(2).await;
    second.with_sessions(2).await;
    first.shelf.add(holding(1));
    second.finds(object(1), &[first.id()]).await;
    let gone = ranked_first(object(1), [superpeers[0].id(), superpeers[1].id()]);
    let held = lease(first.resolve(object(2)).await);
    let [one, two] = superpeers;
    let (dying, staying) = if gone == 0 { (one, two) } else { (two, one) };
    let dead = dying.stop().await;
    // The one that is left knows what the other knew, at once.
    assert_eq!(name(&second.resolve(object(1)).await), "holders");
    match second.resolve(object(2)).await {
        Answer::Follow(place, _) => assert_eq!(place, first.place()),
        other => panic!("not to follow but {}", name(&other)),
    }
    drop(held);
    let dead_too = staying.stop().await;
    second.with_sessions(0).await;
    let began = Clock::system().mono();
    assert_eq!(name(&second.mesh.resolve(query(object(1))).await), "unreachable");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // They come back, one in a new life of the same identity each, and are told everything again.
    let back = [fleet.again(dead).await, fleet.again(dead_too).await];
    second.with_sessions(2).await;
    first.with_sessions(2).await;
    for superpeer in &back {
        superpeer.serves(3).await;
    }
    second.finds(object(1), &[first.id()]).await;
}

#[tokio::test]
async fn who_leaves_is_gone_at_once_for_all() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let (leaver, stayer) = (fleet.edge("leaver").await, fleet.edge("stayer").await);
    superpeer.serves(2).await;
    stayer.with_sessions(1).await;
    leaver.shelf.add(holding(1));
    stayer.finds(object(1), &[leaver.id()]).await;
    until("they know each other", async || met(stayer.mesh.node.view().member(leaver.id()).is_some())).await;
    let began = Clock::system().mono();
    leaver.mesh.leave().await;
    assert!(began.elapsed() < Duration::from_millis(1500), "leaving takes {:?}", began.elapsed());
    stayer.finds(object(1), &[]).await;
    until("it is gone", async || met(stayer.mesh.node.view().member(leaver.id()).is_none())).await;
    assert!(began.elapsed() < SILENCE_MAX / 2, "it was found out by its silence");
    assert_eq!(name(&leaver.mesh.resolve(query(object(1))).await), "unreachable");
    assert_eq!(leaver.mesh.node.sessions.len(), 0);
}

#[tokio::test]
async fn a_superpeer_that_leaves_hands_over_at_once() {
    let mut fleet = Fleet::new();
    let leaver = fleet.superpeer("leaver", SUPERPEER).await;
    let stayer = fleet.superpeer("stayer", SUPERPEER).await;
    let edge = fleet.edge("edge").await;
    leaver.serves(2).await;
    stayer.serves(2).await;
    edge.with_sessions(2).await;
    leaver.mesh.leave().await;
    edge.with_sessions(1).await;
    assert!(edge.mesh.node.sessions.get(stayer.id()).is_some());
    for n in 0..10 {
        drop(lease(edge.resolve(object(n)).await));
    }
}

#[tokio::test]
async fn a_node_may_be_edge_and_superpeer_and_asks_itself() {
    let mut fleet = Fleet::new();
    let both = fleet.superpeer("both", BOTH).await;
    both.with_sessions(1).await.serves(1).await;
    let held = lease(both.resolve(object(1)).await);
    both.shelf.add(holding(2));
    let other = fleet.edge("other").await;
    both.serves(2).await;
    other.with_sessions(1).await;
    match other.resolve(object(1)).await {
        Answer::Follow(place, token) => assert_eq!((place, token), (both.place(), held.token)),
        answer => panic!("not to follow but {}", name(&answer)),
    }
    other.finds(object(2), &[both.id()]).await;
    held.end(Ending::Stored, Some(holding(1)));
    other.finds(object(1), &[both.id()]).await;
    other.shelf.add(holding(3));
    both.finds(object(3), &[other.id()]).await;
}

#[tokio::test]
async fn everyone_finds_the_same_home_and_it_is_asked_over_a_stream() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let mut edges = [fleet.edge("a").await, fleet.edge("b").await, fleet.edge("c").await];
    for edge in &edges {
        until("all are live", async || met(edge.mesh.node.view().edges().len() == 3)).await;
        assert!(edge.mesh.node.view().superpeers() == [superpeer.id()]);
    }
    for n in 0..20 {
        let homes = edges.each_ref().map(|edge| edge.mesh.home(object(n)).map_or(edge.id(), |home| home.node));
        assert_eq!(homes[0], homes[1]);
        assert_eq!(homes[0], homes[2]);
    }
    let home = (0..20).find_map(|n| edges[0].mesh.home(object(n))).expect("not always the asker");
    let read = ask::Kind::Read(wire::Read { object: vec![1; 16], ..wire::Read::default() });
    let mut asking = edges[0].mesh.ask(&home, read.clone()).await.expect("a stream");
    let from = edges[0].id();
    let asked = edges.iter_mut().find(|edge| edge.id() == home.node).expect("the home is an edge");
    let mut request = asked.requests.recv().await.expect("a request");
    assert_eq!((request.from.id, &request.ask), (from, &read));
    request.exchange.send_frame(Frame::End(7)).await.expect("it is read");
    assert_eq!(asking.frame().await, Ok(Some(Frame::End(7))));
}

#[tokio::test]
async fn who_has_not_the_role_is_refused() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let (edge, other) = (fleet.edge("edge").await, fleet.edge("other").await);
    let wrong = [
        // An edge keeps no directory, and a superpeer alone has nothing to read.
        (&edge, &other, ask::Kind::Resolve((&query(object(1))).into())),
        (&edge, &other, ask::Kind::Session(wire::Session { number: 1 })),
        (&edge, &superpeer, ask::Kind::Read(wire::Read::default())),
        // A superpeer alone wants nothing.
        (&superpeer, &edge, ask::Kind::Read(wire::Read::default())),
        (&superpeer, &edge, ask::Kind::Open(wire::Open::default())),
    ];
    for (from, to, ask) in wrong {
        let mut exchange = from.mesh.ask(&to.place(), ask.clone()).await.expect("a stream");
        let answer = tokio::time::timeout(PATIENCE, exchange.frame()).await.expect("an answer");
        assert_eq!(answer, Err(AskError::Refused), "{ask:?}");
    }
    assert_eq!(edge.count("shoal_swarm_requests_refused_total{reason=\"forbidden\"}"), 2.0);
}

#[tokio::test]
async fn a_peer_in_quarantine_is_neither_named_nor_asked_nor_home() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let (liar, edge) = (fleet.edge("liar").await, fleet.edge("edge").await);
    superpeer.serves(2).await;
    edge.with_sessions(1).await;
    until("they know each other", async || met(edge.mesh.node.view().member(liar.id()).is_some())).await;
    liar.shelf.add(holding(1));
    edge.finds(object(1), &[liar.id()]).await;
    edge.mesh.blame(liar.id(), Blame::BadChunk);
    assert!(!edge.mesh.is_quarantined(liar.id()));
    edge.mesh.blame(liar.id(), Blame::BadChunk);
    assert!(edge.mesh.is_quarantined(liar.id()));
    assert_eq!(name(&edge.resolve(object(1)).await), "lease");
    let asked = edge.mesh.ask(&liar.place(), ask::Kind::Read(wire::Read::default())).await;
    assert_eq!(asked.err(), Some(AskError::Quarantined));
    assert!((0..20).all(|n| edge.mesh.home(object(n)).is_none()));
    assert_eq!(edge.count("shoal_swarm_quarantined"), 1.0);
    assert_eq!(edge.count("shoal_swarm_quarantines_total"), 1.0);
}

#[tokio::test]
async fn the_report_names_members_sessions_and_lookups() {
    let mut fleet = Fleet::new();
    let superpeer = fleet.superpeer("superpeer", SUPERPEER).await;
    let edge = fleet.edge("edge").await;
    superpeer.serves(1).await;
    let held = lease(edge.with_sessions(1).await.resolve(object(1)).await);
    let report = edge.mesh.report();
    assert_eq!(report["me"]["name"], "edge");
    assert_eq!(report["members"][0]["name"], "superpeer");
    assert_eq!(report["members"][0]["state"], "live");
    assert_eq!(report["members"][0]["roles"], serde_json::json!(["superpeer"]));
    assert!(report["members"][0]["bytes_sent"].as_u64() > Some(0));
    assert!(report["members"][0]["round_trip_ms"].as_f64() > Some(0.0));
    assert_eq!(report["superpeers"][0]["session"], "standing");
    assert_eq!(report["directory"], serde_json::Value::Null);
    assert_eq!((&report["leases_open"], &report["lookups"]["answers"]["lease"]), (&1.into(), &1.into()));
    assert!(report["lookups"]["p99_ms"].as_f64() > Some(0.0));
    assert_eq!(superpeer.mesh.report()["directory"]["leases"], 1);
    assert_eq!(edge.count("shoal_swarm_leases_open"), 1.0);
    assert_eq!(edge.count("shoal_swarm_sessions{state=\"standing\"}"), 1.0);
    assert_eq!(superpeer.count("shoal_swarm_members{role=\"edge\"}"), 1.0);
    assert_eq!(superpeer.count("shoal_directory_granted_total"), 1.0);
    held.end(Ending::NotKept, None);
    let gone = edge.id();
    edge.stop().await;
    until("it is known to be dead", async || {
        met(superpeer.mesh.report()["members"][0]["state"] == "dead")
    })
    .await;
    assert_eq!(superpeer.mesh.report()["members"][0]["id"], gone.to_string());
}
