//! Peers that do wrong, and what must never leave a node.

use super::cluster::{Fleet, SUPERPEER, TestAuthority};
use crate::common::client::HOST;
use crate::common::{Node, content, in_time, reply, until};
use bytes::Bytes;
use parking_lot::Mutex;
use shoal::clock::Clock;
use shoal::config::{self, Sources};
use shoal::net::Tcp;
use shoal::peer::{Answer, Exchange, Inventory, Mesh, MeshStart, Requests};
use shoal::proto::key::{self, CacheKey, KeyParts, ObjectId, Pin, Scheme, VariantId};
use shoal::proto::swarm::{Changes, Holding, Place, Query, Roles};
use shoal::proto::wire::{self, Frame, ask, reply as answer};
use shoal::purge;
use shoal::task::Spawner;
use shoal::telemetry::{Metrics, Vocabulary};
use std::sync::Arc;
use std::time::Duration;

const FRESH: &str = "Cache-Control: max-age=60";
pub(super) const CHUNK: usize = 1 << 20;

/// A member of the fleet that answers as its story says.
struct Impostor {
    mesh: Mesh,
    requests: Requests,
    spawner: Spawner,
    stock: Arc<Stock>,
}

/// What it says that it has.
#[derive(Default)]
struct Stock(Mutex<Vec<Holding>>);

impl Inventory for Stock {
    fn changes(&self, _max: usize) -> Changes {
        Changes { added: std::mem::take(&mut self.0.lock()), ..Changes::default() }
    }

    fn holdings(&self, _cursor: u64, _max: usize) -> (Vec<Holding>, Option<u64>) {
        (Vec::new(), None)
    }
}

/// The cache key of a path of the fleet's site.
fn key_of(path: &str) -> CacheKey {
    CacheKey::new(KeyParts { site: "s", scheme: Scheme::Http, host: HOST, path })
}

pub(super) fn ids(path: &str) -> (ObjectId, VariantId) {
    let object = key_of(path).object();
    (object, key::variant(object, std::iter::empty()))
}

impl Impostor {
    /// Joins the fleet as its last node, for which a place was kept.
    async fn join(fleet: &Fleet) -> Self {
        let index = fleet.nodes.len();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shoal.toml");
        std::fs::write(&file, fleet.toml(index, Roles::EDGE, "")).unwrap();
        let loaded = config::load(&Sources { file: Some(file), ..Sources::default() }).unwrap();
        let (spawner, stock, clock) = (Spawner::current(), Arc::new(Stock::default()), Clock::system());
        let none: Vocabulary =
            Vocabulary { not_stored: &[], origin_fetch: &[], origin_failure: &[], refusal: &[] };
        let metrics = Metrics::new("impostor", None, none, clock);
        let around = purge::Surroundings { clock, metrics: &metrics, spawner: &spawner };
        let start = MeshStart {
            purges: purge::Purges::unwritten(true, around),
            config: loaded.config,
            net: Arc::new(Tcp),
            clock,
            spawner: spawner.clone(),
            metrics: Arc::clone(&metrics),
            inventory: Arc::clone(&stock) as Arc<dyn Inventory>,
            seed: None,
        };
        let (mesh, requests) = Mesh::start(start).await.unwrap();
        let known = (fleet.nodes.len() + 1) as f64;
        until("the impostor to be known", || {
            fleet.nodes.iter().all(|node| node.metric("shoal_swarm_members") >= known)
                && metrics.encode().contains("shoal_swarm_sessions{state=\"standing\"} 2")
        })
        .await;
        Self { mesh, requests, spawner, stock }
    }

    /// Says that it has `path`, and waits until `fleet` believes it.
    async fn claims(&self, fleet: &Fleet, path: &str) {
        let (object, variant) = ids(path);
        let before = fleet.nodes[0].metric("shoal_directory_holdings ");
        self.stock.0.lock().push(Holding { object, variant, fresh_secs: 600 });
        until("the claim to arrive", || {
            fleet.nodes[..2].iter().all(|node| node.metric("shoal_directory_holdings ") > before)
        })
        .await;
    }

    /// The next read that it is asked for.
    async fn read(&mut self) -> (wire::Read, Exchange) {
        loop {
            let request = in_time("a request of a peer", self.requests.recv()).await.unwrap();
            if let ask::Kind::Read(read) = request.ask {
                return (read, request.exchange);
            }
        }
    }
}

/// The head that an honest holder would send.
pub(super) fn head_of(path: &str, etag: &str, body: &[u8], arriving: bool) -> wire::Reply {
    let (object, variant) = ids(path);
    let version = key::version(object, variant, Pin::StrongEtag(etag.as_bytes()));
    let field = |name: &str, value: &str| wire::Field { name: name.into(), value: value.into() };
    let hashes = if arriving {
        Vec::new()
    } else {
        body.chunks(CHUNK).flat_map(|chunk| *blake3::hash(chunk).as_bytes()).collect()
    };
    let head = wire::Head {
        key: key_of(path).as_bytes().to_vec(),
        status: 200,
        fields: vec![
            field("cache-control", "max-age=60"),
            field("etag", etag),
            field("content-length", &body.len().to_string()),
        ],
        age: 0,
        length: Some(body.len() as u64),
        variant: variant.0.to_vec(),
        version: version.0.to_vec(),
        vary: Vec::new(),
        arriving,
        hashes,
        same: false,
    };
    wire::Reply { kind: Some(answer::Kind::Head(head)) }
}

/// Sends what was asked for, with a bit flipped in the chunks that `flips` names; hashes are those of the true bytes.
async fn send(exchange: &mut Exchange, read: &wire::Read, body: &[u8], flips: impl Fn(usize) -> bool) {
    let to = if read.to == 0 { body.len() } else { (read.to as usize).min(body.len()) };
    let mut at = read.from as usize;
    while at < to {
        let chunk = at / CHUNK;
        let end = ((chunk + 1) * CHUNK).min(body.len()).min(to);
        let mut bytes = body[at..end].to_vec();
        if flips(chunk) {
            bytes[0] ^= 1;
        }
        let whole = &body[chunk * CHUNK..((chunk + 1) * CHUNK).min(body.len())];
        let sent = exchange.send_data(Bytes::from(bytes)).await.is_ok()
            && exchange.send_frame(Frame::Chunk(*blake3::hash(whole).as_bytes())).await.is_ok();
        if !sent {
            return;
        }
        at = end;
    }
    if to == body.len() {
        let _ = exchange.send_frame(Frame::End(body.len() as u64)).await;
    }
}

#[tokio::test]
async fn a_peer_that_flips_bits_is_found_out_and_nobody_gets_a_wrong_byte() {
    const OBJECTS: usize = 8;
    let fleet = Fleet::of_edges(2).await;
    let mut impostor = Impostor::join(&fleet).await;
    let body = content(20 * CHUNK);
    let paths: Vec<_> = (0..OBJECTS).map(|index| format!("/{index}")).collect();
    for path in &paths {
        fleet.origin.says(path, reply(200, &[FRESH, "ETag: \"x\""], &body));
        fleet.edge(0).warm(path).await.assert_is(200, &body);
        impostor.claims(&fleet, path).await;
    }
    let (sent, asked) = (body.clone(), paths.clone());
    let spawner = impostor.spawner.clone();
    spawner.spawn({
        let inner = spawner.clone();
        async move {
            loop {
                let (read, mut exchange) = impostor.read().await;
                let body = sent.clone();
                let path = asked.iter().find(|path| ids(path).0.0[..] == read.object[..]).unwrap().clone();
                inner.spawn(async move {
                    if exchange.send_message(&head_of(&path, "\"x\"", &body, false)).await.is_ok() {
                        send(&mut exchange, &read, &body, |chunk| chunk % 10 == 1).await;
                    }
                    exchange.finish();
                });
            }
        }
    });
    let taker = fleet.edge(1);
    for path in &paths {
        taker.get(path).await.assert_is(200, &body);
        assert_eq!(fleet.origin.count(path), 1, "the honest holder has it all");
    }
    let bad = taker.metric("shoal_peer_failures_total{kind=\"bad_chunk\"}");
    assert!((1.0..=3.0).contains(&bad), "{bad} bad chunks");
    assert_eq!(taker.metric("shoal_swarm_quarantined") as usize, usize::from(bad >= 2.0));
    assert_eq!(fleet.edge(0).metric("shoal_swarm_quarantined"), 0.0);
}

#[tokio::test]
async fn a_peer_that_stalls_in_mid_chunk_costs_less_than_a_second() {
    let fleet = Fleet::of_edges(2).await;
    let mut impostor = Impostor::join(&fleet).await;
    let body = content(3 * CHUNK);
    fleet.origin.says("/x", reply(200, &[FRESH, "ETag: \"x\""], &body));
    fleet.edge(0).warm("/x").await.assert_is(200, &body);
    impostor.claims(&fleet, "/x").await;
    let sent = body.clone();
    let spawner = impostor.spawner.clone();
    spawner.spawn(async move {
        let mut held = Vec::new();
        loop {
            let (_read, mut exchange) = impostor.read().await;
            let _ = exchange.send_message(&head_of("/x", "\"x\"", &sent, false)).await;
            let _ = exchange.send_data(Bytes::copy_from_slice(&sent[..CHUNK / 2])).await;
            held.push(exchange);
        }
    });
    let began = Clock::system().mono();
    fleet.edge(1).get("/x").await.assert_is(200, &body);
    let took = Clock::system().mono() - began;
    println!("with a stalled peer: {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(fleet.origin.count("/x"), 1);
}

#[tokio::test]
async fn who_relays_in_good_faith_is_not_blamed() {
    let fleet = Fleet::of_edges(3).await;
    let mut impostor = Impostor::join(&fleet).await;
    let body = content(3 * CHUNK);
    let (object, variant) = ids("/x");
    let query = Query {
        object,
        variant,
        vary_known: false,
        held: false,
        lease_wanted: true,
        avoid: vec![],
        purged: 0,
        overtaken: None,
    };
    let lease = in_time("a lease", async {
        loop {
            // On a busy machine the directory may answer too late.
            if let Answer::Lease(lease) = impostor.mesh.resolve(query.clone()).await {
                return lease;
            }
        }
    })
    .await;
    fleet.origin.says("/x", reply(200, &[FRESH, "ETag: \"x\""], &body));
    let sent = body.clone();
    let spawner = impostor.spawner.clone();
    spawner.spawn({
        let inner = spawner.clone();
        async move {
            let _lease = lease;
            loop {
                let (read, mut exchange) = impostor.read().await;
                let body = sent.clone();
                inner.spawn(async move {
                    if exchange.send_message(&head_of("/x", "\"x\"", &body, true)).await.is_ok() {
                        send(&mut exchange, &read, &body, |chunk| chunk == 1).await;
                    }
                    exchange.finish();
                });
            }
        }
    });
    let mut clients = Vec::new();
    for node in fleet.edges() {
        clients.push(node.begin("GET", "/x", &[]).await);
    }
    for client in &mut clients {
        let reply = client.reply("GET").await;
        assert!(!reply.is_whole || reply.body == body, "a completed body with a wrong byte");
    }
    for node in fleet.edges() {
        // Only the impostor was ever at fault, and one fault alone is no quarantine.
        assert!(node.metric("shoal_swarm_quarantined") <= 1.0);
        let honest = node.mesh().report();
        for member in honest["members"].as_array().unwrap() {
            let (name, bad) = (member["name"].as_str().unwrap(), member["bad_chunks"].as_u64().unwrap_or(0));
            assert!(bad == 0 || name == "node5", "{name} is blamed for {bad}");
        }
    }
}

#[tokio::test]
async fn a_body_whose_holder_is_lost_is_not_ended_with_another_version() {
    let fleet = Fleet::of_edges(2).await;
    let mut impostor = Impostor::join(&fleet).await;
    let (old, new) = (content(3 * CHUNK), vec![b'n'; 3 * CHUNK]);
    fleet.origin.says("/x", reply(200, &[FRESH, "ETag: \"new\""], &new));
    impostor.claims(&fleet, "/x").await;
    let sent = old.clone();
    impostor.spawner.clone().spawn(async move {
        let (read, mut exchange) = impostor.read().await;
        let _ = exchange.send_message(&head_of("/x", "\"old\"", &sent, false)).await;
        send(&mut exchange, &read, &sent, |_| false).await;
        exchange.finish();
        loop {
            let (_read, exchange) = impostor.read().await;
            exchange.reset(wire::code::UPSTREAM);
        }
    });
    let cut = fleet.edge(0).get("/x").await;
    assert!(!cut.is_whole && old.starts_with(&cut.body), "{} bytes", cut.body.len());
    until("a whole body of the new version", || fleet.edge(0).metric("shoal_fills_open") == 0.0).await;
    fleet.edge(0).get("/x").await.assert_is(200, &new);
}

#[tokio::test]
async fn whatever_a_member_asks_a_node_goes_on() {
    const TIMES: usize = 300;
    let fleet = Fleet::of_edges(1).await;
    let impostor = Impostor::join(&fleet).await;
    fleet.origin.says("/x", reply(200, &[FRESH], "x"));
    fleet.edge(0).warm("/x").await;
    let (object, variant) = ids("/x");
    let read = wire::Read { object: object.0.to_vec(), variant: variant.0.to_vec(), ..wire::Read::default() };
    let field = |name: &str, value: &[u8]| wire::Field { name: name.into(), value: value.into() };
    let open = |path: &str, fields| wire::Open {
        key: key_of(path).as_bytes().to_vec(),
        fields,
        read: Some(wire::Read { object: ids(path).0.0.to_vec(), ..read.clone() }),
        hops: 1,
    };
    let asks = [
        ask::Kind::Read(read.clone()),
        ask::Kind::Read(wire::Read { from: u64::MAX, to: u64::MAX, ..read.clone() }),
        ask::Kind::Read(wire::Read { from: 5, to: 4, ..read.clone() }),
        ask::Kind::Read(wire::Read { object: vec![7; 16], ..read.clone() }),
        ask::Kind::Read(wire::Read { object: vec![7; 9000], ..read.clone() }),
        ask::Kind::Open(open("/x", vec![field("x-large", &[b'a'; 100_000])])),
        ask::Kind::Open(open("/x", vec![field("cookie", b"a=1")])),
        ask::Kind::Open(open("/x", vec![field("content-length", b"5")])),
        ask::Kind::Open(open("/x", vec![field("", b""); 20_000])),
        ask::Kind::Open(open("/x", vec![field("x", b"a\r\nb: c")])),
        ask::Kind::Open(wire::Open { key: vec![0xff; 300], ..open("/x", vec![]) }),
        ask::Kind::Session(wire::Session { number: u64::MAX }),
        ask::Kind::Resolve(wire::Resolve::default()),
        ask::Kind::Hello(wire::Hello::default()),
    ];
    for node in &fleet.nodes {
        let me = node.mesh().me();
        let place = Place { node: me.id, address: me.address, zone: me.zone.clone() };
        let asking = (0..TIMES).map(|nth| {
            let (mesh, place, ask) = (impostor.mesh.clone(), place.clone(), asks[nth % asks.len()].clone());
            async move {
                let Ok(mut exchange) = mesh.ask(&place, ask).await else { return };
                // Every third leaves without an answer.
                while nth % 3 > 0 && matches!(exchange.frame().await, Ok(Some(_))) {}
            }
        });
        in_time("answers", futures_util::future::join_all(asking)).await;
    }
    fleet.edge(0).get("/x").await.assert_is(200, "x");
    assert_eq!(fleet.origin.count("/x"), 1);
    assert_eq!(fleet.origin.count_all(), 1, "nothing was fetched for it");
    until("its requests to end", || fleet.edge(0).metric("shoal_peer_requests_open") == 0.0).await;
}

#[tokio::test]
async fn private_answers_never_leave_their_edge() {
    let fleet = Fleet::of_edges(2).await;
    fleet.origin.says("/mine", reply(200, &["Cache-Control: public, max-age=60"], "secret"));
    fleet.origin.says("/cookie", reply(200, &["Cache-Control: public, max-age=60", "Set-Cookie: id=1"], "c"));
    let authorized = fleet.edge(0).ask("GET", "/mine", &["Authorization: Basic eA=="]).await;
    authorized.assert_is(200, "secret");
    fleet.edge(0).get("/cookie").await.assert_is(200, "c");
    fleet.settled().await;
    for path in ["/mine", "/cookie"] {
        fleet.edge(1).get(path).await;
        assert_eq!(fleet.origin.count(path), 2, "{path}");
    }
    assert_eq!(fleet.edge(1).metric("shoal_peer_taken_bytes_total"), 0.0);
}

#[tokio::test]
async fn what_a_304_makes_personal_never_leaves_its_edge() {
    let control = "Cache-Control: public, max-age=60";
    for (request, update) in
        [(&["Authorization: Basic eA=="][..], &[control][..]), (&[], &[control, "Set-Cookie: id=1"])]
    {
        let fleet = Fleet::of_edges(2).await;
        let first = reply(200, &[control, "Age: 90", "ETag: \"v\""], "v");
        let still = reply(304, &[update, &["ETag: \"v\""]].concat(), "");
        let whole = reply(200, &[FRESH, "ETag: \"w\""], "w");
        fleet.origin.says_in_turn("/x", [first, still, whole]);
        fleet.edge(0).warm("/x").await;
        fleet.settled().await;
        let validated = fleet.edge(0).ask("GET", "/x", request).await;
        validated.assert_is(200, "v");
        assert!(validated.cache_status().contains("fwd-status=304"), "{}", validated.cache_status());
        fleet.settled().await;
        let hit = fleet.edge(0).get("/x").await;
        assert!(hit.cache_status().contains("; hit; "), "{}", hit.cache_status());
        fleet.edge(1).get("/x").await.assert_is(200, "w");
        assert_eq!(fleet.edge(1).metric("shoal_peer_taken_bytes_total"), 0.0);
    }
}

#[tokio::test]
async fn a_certificate_of_another_cluster_is_refused_and_counted() {
    let fleet = Fleet::of_edges(1).await;
    let others = TestAuthority::new();
    let (cert, key) = others.node("stranger", SUPERPEER);
    let toml = fleet.toml(3, SUPERPEER, "");
    let toml: String = toml
        .lines()
        .filter(|line| !line.starts_with("cert") && !line.starts_with("key") && !line.starts_with("ca "))
        .map(|line| format!("{line}\n"))
        .collect();
    let stranger = Node::of(&format!("{toml}ca = {:?}\ncert = {cert:?}\nkey = {key:?}\n", others.ca())).await;
    until("a refusal", || {
        fleet.nodes.iter().any(|node| node.metric("shoal_peer_handshake_failures_total") >= 1.0)
    })
    .await;
    assert_eq!(stranger.metric("shoal_swarm_members"), 1.0, "itself");
    assert_eq!(fleet.nodes[0].metric("shoal_swarm_members"), 3.0);
}

#[tokio::test]
async fn a_site_that_does_not_share_keeps_its_answers_to_each_edge() {
    let roles = [SUPERPEER, Roles::EDGE, Roles::EDGE];
    let mut fleet = Fleet::of(&roles, "peers = false").await;
    fleet.origin.says("/x", reply(200, &[FRESH], "x"));
    for round in 0..2 {
        for node in fleet.edges() {
            node.warm("/x").await.assert_is(200, "x");
        }
        assert_eq!(fleet.origin.count("/x"), 2, "in round {round}");
        if round == 0 {
            // Nor does the home edge give it away.
            fleet.nodes.remove(0).crash().await;
        }
    }
    assert!(fleet.edges().all(|node| node.metric("shoal_peer_taken_bytes_total") == 0.0));
}
