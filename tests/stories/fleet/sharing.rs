//! Who fetches what from whom when all goes well.

use super::cluster::{BOTH, Fleet};
use crate::common::origin::head;
use crate::common::{Barrier, Node, assert_same, content, reply, until};
use futures_util::future::join_all;
use shoal::proto::swarm::Roles;

const FRESH: &str = "Cache-Control: max-age=60";

#[tokio::test]
async fn what_one_edge_has_the_others_take_from_it() {
    let fleet = Fleet::of_edges(3).await;
    let body = content(300_000);
    fleet.origin.says("/x", reply(200, &[FRESH, "ETag: \"a\""], &body));
    fleet.edge(0).warm("/x").await;
    for index in [1, 2] {
        let taken = fleet.edge(index).get("/x").await;
        taken.assert_is(200, &body);
        let status = taken.cache_status();
        assert!(status.contains("fwd=uri-miss") && status.contains("detail=peer"), "{status}");
        assert!(!status.contains("fwd-status"), "the origin was not asked: {status}");
    }
    fleet.settled().await;
    fleet.edge(1).get("/x").await;
    assert_eq!(fleet.origin.count("/x"), 1);
    let taken = fleet.edge(1).metric("shoal_peer_taken_bytes_total");
    assert!(taken >= 300_000.0);
    let giver = &fleet.edge(0).assembly.config().node.name;
    let given = fleet.edge(1).metric(&format!("shoal_peer_received_bytes_total{{peer=\"{giver}\"}}"));
    assert_eq!(given, taken, "each byte is counted for the node that sent it");
}

#[tokio::test]
async fn a_crowd_at_all_edges_costs_the_origin_one_fetch() {
    let fleet = Fleet::of_edges(4).await;
    let (body, barrier) = (content(3_000_000), Barrier::closed());
    let (sent, held) = (reply(200, &[FRESH], &body), barrier.clone());
    fleet.origin.script("/crowd", move |mut exchange| {
        let (sent, held) = (sent.clone(), held.clone());
        async move {
            held.pass().await;
            exchange.send(&sent).await;
            exchange
        }
    });
    let mut clients = Vec::new();
    for node in fleet.edges() {
        for _ in 0..25 {
            clients.push(node.begin("GET", "/crowd", &[]).await);
        }
    }
    fleet.origin.asked_times("/crowd", 1).await;
    barrier.open();
    for reply in join_all(clients.iter_mut().map(|client| client.reply("GET"))).await {
        reply.assert_is(200, &body);
    }
    assert_eq!(fleet.origin.count("/crowd"), 1);
}

#[tokio::test]
async fn a_crowd_of_many_edges_is_served_by_a_tree() {
    const EDGES: usize = 9;
    const HOME: &str = "shoal_swarm_origin_fetches_total{site=\"s\",ground=\"home\"}";
    let fleet = Fleet::of_edges(EDGES).await;
    let (body, barrier) = (content(2_500_000), Barrier::closed());
    let (sent, held) = (reply(200, &[FRESH], &body), barrier.clone());
    fleet.origin.script("/crowd", move |mut exchange| {
        let (sent, held) = (sent.clone(), held.clone());
        async move {
            exchange.send(&sent[..100_000]).await;
            held.pass().await;
            exchange.send(&sent[100_000..]).await;
            exchange
        }
    });
    let mut clients = Vec::new();
    for node in fleet.edges() {
        let mut client = node.begin("GET", "/crowd", &[]).await;
        client.head().await.unwrap();
        assert_same(&client.read_exactly(90_000).await, &body[..90_000]);
        clients.push(client);
    }
    barrier.open();
    for client in &mut clients {
        assert_same(&client.read_exactly(body.len() - 90_000).await, &body[90_000..]);
    }
    // On a machine that is busy a superpeer may be silent for longer than a search waits; the home edge fetches then.
    let home: f64 = fleet.edges().map(|node| node.metric(HOME)).sum();
    assert!(home <= 1.0, "the home edge fetches once for all");
    assert_eq!(fleet.origin.count("/crowd"), 1 + home as usize);
    let relayed =
        |node: &Node| node.metric("shoal_peer_given_bytes_total{kind=\"relayed\"}") / body.len() as f64;
    let given: Vec<_> = fleet.edges().map(relayed).collect();
    assert!(given.iter().all(|copies| *copies < 4.5), "nobody gives more than four at a time: {given:?}");
    assert!(
        given.iter().filter(|copies| **copies > 0.5).count() > 1,
        "some relay what they follow: {given:?}"
    );
}

#[tokio::test]
async fn bytes_flow_through_a_relay_while_they_are_fetched() {
    let fleet = Fleet::of_edges(3).await;
    let (body, barrier) = (content(3_000_000), Barrier::closed());
    let (sent, held) = (reply(200, &[FRESH], &body), barrier.clone());
    let half = sent.len() - 1_500_000;
    fleet.origin.script("/x", move |mut exchange| {
        let (sent, held) = (sent.clone(), held.clone());
        async move {
            exchange.send(&sent[..half]).await;
            held.pass().await;
            exchange.send(&sent[half..]).await;
            exchange
        }
    });
    let mut clients = Vec::new();
    for node in fleet.edges() {
        let mut client = node.begin("GET", "/x", &[]).await;
        client.head().await.unwrap();
        assert_same(&client.read_exactly(1_400_000).await, &body[..1_400_000]);
        clients.push(client);
    }
    barrier.open();
    for client in &mut clients {
        assert_same(&client.read_exactly(1_600_000).await, &body[1_400_000..]);
    }
    assert_eq!(fleet.origin.count("/x"), 1);
}

#[tokio::test]
async fn large_objects_come_from_several_holders_at_once() {
    const OBJECTS: usize = 4;
    let fleet = Fleet::of_edges(4).await;
    let body = content(12 << 20);
    let paths: Vec<_> = (0..OBJECTS).map(|index| format!("/{index}")).collect();
    for path in &paths {
        fleet.origin.says(path, reply(200, &[FRESH, "ETag: \"l\""], &body));
        for index in 0..3 {
            fleet.edge(index).warm(path).await.assert_is(200, &body);
        }
    }
    announced(&fleet, 3.0 * OBJECTS as f64).await;
    for path in &paths {
        fleet.edge(3).get(path).await.assert_is(200, &body);
        assert_eq!(fleet.origin.count(path), 1);
    }
    // The first may have come from one alone: connections to the others were still to be made.
    assert!(fleet.edge(3).metric("shoal_multi_holder_fills_total") >= 1.0);
}

/// Waits until the directories know of `count` holdings.
async fn announced(fleet: &Fleet, count: f64) {
    until("announcements", || {
        fleet.nodes[..2].iter().all(|node| node.metric("shoal_directory_holdings ") >= count)
    })
    .await;
}

#[tokio::test]
async fn variants_are_shared_by_those_who_select_them() {
    let fleet = Fleet::of_edges(3).await;
    fleet.origin.script("/v", |mut exchange| async move {
        let language = exchange.asked.field("accept-language").unwrap_or("none").to_owned();
        exchange.send(reply(200, &[FRESH, "Vary: Accept-Language"], &language)).await;
        exchange
    });
    for round in 0..2 {
        for node in fleet.edges() {
            for language in ["de", "en"] {
                let field = format!("Accept-Language: {language}");
                node.ask("GET", "/v", &[&field]).await.assert_is(200, language);
                node.settled().await;
            }
        }
        assert_eq!(fleet.origin.count("/v"), 2, "in round {round}");
    }
}

#[tokio::test]
async fn one_edge_validates_for_all() {
    let fleet = Fleet::of_edges(3).await;
    let stale_at_once = "Cache-Control: max-age=1";
    let first =
        reply(200, &[stale_at_once, "ETag: \"v\"", "Date: Thu, 01 Jan 2026 00:00:00 GMT", "Age: 5"], "v");
    let still = head(304, &["Cache-Control: max-age=600", "ETag: \"v\""]);
    fleet.origin.says_in_turn("/r", [first, still]);
    fleet.edge(0).warm("/r").await;
    for index in 0..3 {
        fleet.edge(index).get("/r").await.assert_is(200, "v");
        fleet.settled().await;
    }
    // One to fetch, one to validate; the others had it validated by the one that did.
    assert_eq!(fleet.origin.count("/r"), 2);
}

#[tokio::test]
async fn age_counts_over_nodes() {
    let fleet = Fleet::of_edges(2).await;
    fleet.origin.says("/a", reply(200, &["Cache-Control: max-age=600", "Age: 100"], "a"));
    fleet.edge(0).warm("/a").await;
    let taken = fleet.edge(1).get("/a").await;
    let age: u64 = taken.field("age").unwrap().parse().unwrap();
    assert!((100..160).contains(&age), "{age}");
    assert_eq!(fleet.origin.count("/a"), 1);
}

#[tokio::test]
async fn what_is_not_storable_is_not_waited_for() {
    let fleet = Fleet::of_edges(3).await;
    fleet.origin.says("/no", reply(200, &["Cache-Control: no-store"], "n"));
    for node in fleet.edges() {
        node.get("/no").await.assert_is(200, "n");
        node.get("/no").await.assert_is(200, "n");
    }
    assert_eq!(fleet.origin.count("/no"), 6);
    let lookups: f64 = fleet.edges().map(|node| node.metric("shoal_swarm_lookups_total")).sum();
    assert!(lookups <= 3.0, "each edge asks once at most, then knows: {lookups}");
}

#[tokio::test]
async fn both_roles_in_one_process_work_too() {
    let fleet = Fleet::of(&[BOTH, BOTH, Roles::EDGE], "").await;
    let body = content(200_000);
    fleet.origin.says("/x", reply(200, &[FRESH], &body));
    for index in [0, 1, 2] {
        fleet.edge(index).warm("/x").await.assert_is(200, &body);
    }
    assert_eq!(fleet.origin.count("/x"), 1);
}

#[tokio::test]
async fn a_lone_node_with_a_peer_section_serves() {
    let fleet = Fleet::of(&[BOTH], "").await;
    fleet.origin.says("/x", reply(200, &[FRESH], "x"));
    fleet.edge(0).warm("/x").await.assert_is(200, "x");
    fleet.edge(0).get("/x").await.assert_is(200, "x");
    assert_eq!(fleet.origin.count("/x"), 1);
}
