//! What clients of edges that take from each other get: every length, range and version, and nothing left behind.

use super::cluster::Fleet;
use crate::common::origin::{chunk, head};
use crate::common::{Barrier, assert_same, content, reply, until};
use futures_util::future::join_all;
use shoal::proto::swarm::Roles;

const FRESH: &str = "Cache-Control: max-age=60";
const MIB: usize = 1 << 20;

/// Asks all edges at once.
async fn all_at_once(fleet: &Fleet, path: &str, body: &[u8]) {
    let mut clients = Vec::new();
    for node in fleet.edges() {
        clients.push(node.begin("GET", path, &[]).await);
    }
    for reply in join_all(clients.iter_mut().map(|client| client.reply("GET"))).await {
        reply.assert_is(200, body);
    }
}

#[tokio::test]
async fn every_length_arrives_whole_by_relays_and_from_holders() {
    let fleet = Fleet::of_edges(4).await;
    for length in [0, 1, 65_535, 65_536, 65_537, MIB - 1, MIB, MIB + 1, 2 * MIB] {
        let body = content(length);
        let mut chunked = head(200, &[FRESH, "Transfer-Encoding: chunked"]);
        for part in body.chunks(100_000) {
            chunked.extend(chunk(part));
        }
        chunked.extend(chunk(""));
        let (known, unknown) = (format!("/known/{length}"), format!("/unknown/{length}"));
        fleet.origin.says(&known, reply(200, &[FRESH, "ETag: \"l\""], &body));
        fleet.origin.says(&unknown, chunked);
        for path in [known, unknown] {
            all_at_once(&fleet, &path, &body).await;
            fleet.settled().await;
            all_at_once(&fleet, &path, &body).await;
            assert_eq!(fleet.origin.count(&path), 1, "{path}");
            fleet.origin.says(&format!("{path}/stored"), reply(200, &[FRESH], &body));
            for node in fleet.edges() {
                node.warm(&format!("{path}/stored")).await.assert_is(200, &body);
            }
            assert_eq!(fleet.origin.count(&format!("{path}/stored")), 1, "{path}");
        }
    }
}

#[tokio::test]
async fn ranges_heads_and_conditions_are_answered_of_what_a_peer_gives() {
    let fleet = Fleet::of_edges(2).await;
    let body = content(3 * MIB + 5);
    let cases: [(&str, usize, usize); 6] = [
        ("bytes=0-0", 0, 1),
        ("bytes=-1", body.len() - 1, body.len()),
        ("bytes=1048575-1048576", MIB - 1, MIB + 1),
        ("bytes=3145728-", 3 * MIB, body.len()),
        ("bytes=500000-2500000", 500_000, 2_500_001),
        ("bytes=-2000000", body.len() - 2_000_000, body.len()),
    ];
    for (index, (range, from, to)) in cases.into_iter().enumerate() {
        let path = format!("/{index}");
        fleet.origin.says(&path, reply(200, &[FRESH, "ETag: \"r\""], &body));
        fleet.edge(0).warm(&path).await;
        let part = fleet.edge(1).ask("GET", &path, &[&format!("Range: {range}")]).await;
        part.assert_is(206, &body[from..to]);
        let content_range = format!("bytes {from}-{}/{}", to - 1, body.len());
        assert_eq!(part.field("content-range"), Some(&content_range[..]));
        fleet.settled().await;
        fleet.edge(1).get(&path).await.assert_is(200, &body);
        // What may be far from the start is not waited for, and asked of the origin itself.
        let own = usize::from(range.starts_with("bytes=-"));
        assert_eq!(fleet.origin.count(&path), 1 + own, "{range}");
    }
    fleet.origin.says("/c", reply(200, &[FRESH, "ETag: \"r\""], &body));
    fleet.edge(0).warm("/c").await;
    assert_eq!(fleet.edge(1).ask("GET", "/c", &["If-None-Match: \"r\""]).await.status, 304);
    fleet.settled().await;
    let only = fleet.edge(1).ask("HEAD", "/c", &["Cache-Control: only-if-cached"]).await;
    assert_eq!((only.status, only.field("content-length")), (200, Some(&body.len().to_string()[..])));
    assert_eq!(fleet.edge(1).ask("GET", "/none", &["Cache-Control: only-if-cached"]).await.status, 504);
    fleet.origin.says("/m", reply(200, &[FRESH, "ETag: \"r\""], &body));
    fleet.edge(0).warm("/m").await;
    let parts = fleet.edge(1).ask("GET", "/m", &["Range: bytes=0-1,3145728-3145729"]).await;
    assert!(parts.is_whole && matches!(parts.status, 200 | 206), "{}", parts.status);
}

#[tokio::test]
async fn a_part_stays_on_its_node_and_the_whole_that_it_becomes_is_shared() {
    let fleet = Fleet::of_edges(2).await;
    let body = content(2 * MIB);
    for path in ["/a", "/b"] {
        fleet.origin.script(path, {
            let body = body.clone();
            move |mut exchange| {
                let body = body.clone();
                async move {
                    let tag = "ETag: \"p\"";
                    let place = |from: usize, to: usize| {
                        format!("Content-Range: bytes {from}-{}/{}", to - 1, body.len())
                    };
                    let cut = body.len() - 1000;
                    let answer = match exchange.asked.field("range") {
                        None => reply(200, &[FRESH, tag], &body),
                        Some("bytes=-1000") => {
                            reply(206, &[FRESH, tag, &place(cut, body.len())], &body[cut..])
                        }
                        Some(_) => reply(206, &[FRESH, tag, &place(0, cut)], &body[..cut]),
                    };
                    exchange.send(answer).await;
                    exchange
                }
            }
        });
        fleet
            .edge(0)
            .ask("GET", path, &["Range: bytes=-1000"])
            .await
            .assert_is(206, &body[body.len() - 1000..]);
        fleet.settled().await;
    }
    fleet.edge(1).get("/a").await.assert_is(200, &body);
    assert_eq!(fleet.origin.asked("/a")[1].field("range"), None, "nobody was told of the part");
    fleet.settled().await;
    fleet.edge(0).get("/b").await.assert_is(200, &body);
    assert_eq!(fleet.origin.asked("/b")[1].field("if-range"), Some("\"p\""));
    fleet.settled().await;
    for (edge, path) in [(0, "/a"), (1, "/b")] {
        fleet.edge(edge).get(path).await.assert_is(200, &body);
        assert_eq!(fleet.origin.count(path), 2, "{path}: the whole is shared");
    }
}

#[tokio::test]
async fn a_body_that_no_store_has_room_for_reaches_all_who_follow() {
    let fleet =
        Fleet::of(&[super::cluster::BOTH, Roles::EDGE, Roles::EDGE], "[cache]\nmemory = \"3MB\"").await;
    let body = content(20 * MIB);
    fleet.origin.script("/large", {
        let (sent, whole) = (reply(200, &[FRESH, "ETag: \"l\""], &body), body.clone());
        move |mut exchange| {
            let (sent, whole) = (sent.clone(), whole.clone());
            async move {
                let from = exchange
                    .asked
                    .field("range")
                    .and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse::<usize>().ok());
                match from {
                    None => exchange.send(&sent).await,
                    Some(from) => {
                        let range =
                            format!("Content-Range: bytes {from}-{}/{}", whole.len() - 1, whole.len());
                        exchange.send(reply(206, &[&range, "ETag: \"l\""], &whole[from..])).await;
                    }
                }
                exchange
            }
        }
    });
    all_at_once(&fleet, "/large", &body).await;
    nothing_is_left(&fleet).await;
}

#[tokio::test]
async fn a_client_that_changed_something_is_not_given_what_was_before() {
    let fleet = Fleet::of_edges(3).await;
    fleet.origin.says("/x", reply(200, &[FRESH, "ETag: \"1\""], "before"));
    for node in fleet.edges() {
        node.warm("/x").await.assert_is(200, "before");
    }
    assert_eq!(fleet.origin.count("/x"), 1);
    until("announcements", || {
        fleet.nodes[..2].iter().all(|node| node.metric("shoal_directory_holdings ") >= 3.0)
    })
    .await;
    fleet.origin.says_in_turn("/x", [reply(204, &[], ""), reply(200, &[FRESH, "ETag: \"2\""], "after")]);
    fleet.edge(0).ask("POST", "/x", &["Content-Length: 0"]).await;
    fleet.edge(0).get("/x").await.assert_is(200, "after");
    fleet.settled().await;
    fleet.edge(0).get("/x").await.assert_is(200, "after");
    assert_eq!(fleet.origin.count("/x"), 3);
    // The others are told, by hash, of what they hold.
    let told = "shoal_invalidations_total{from=\"peer\"}";
    until("the other edges to be told", || fleet.edges().skip(1).all(|node| node.metric(told) == 1.0)).await;
    for node in fleet.edges() {
        node.get("/x").await.assert_is(200, "after");
    }
}

/// Waits until no fill, no lease and no request of a peer is open any more.
async fn nothing_is_left(fleet: &Fleet) {
    fleet.settled().await;
    for series in ["shoal_fills_open", "shoal_peer_requests_open", "shoal_swarm_leases_open"] {
        until(&format!("{series} to be 0"), || fleet.nodes.iter().all(|node| node.metric(series) == 0.0))
            .await;
    }
    until("the directories to be told", || {
        fleet.nodes.iter().all(|node| node.mesh().report()["directory"]["leases"].as_u64().unwrap_or(0) == 0)
    })
    .await;
}

#[tokio::test]
async fn clients_that_leave_at_any_time_leave_nothing_behind() {
    const PATHS: usize = 12;
    let fleet = Fleet::of_edges(4).await;
    let (body, barrier) = (content(12 * MIB), Barrier::closed());
    for index in 0..PATHS {
        let (sent, held) = (reply(200, &[FRESH], &body), barrier.clone());
        // Some origins say nothing, some a part of the body, before the clients are gone.
        let first = if index % 2 == 0 { 0 } else { index * 200_000 };
        fleet.origin.script(&format!("/{index}"), move |mut exchange| {
            let (sent, held) = (sent.clone(), held.clone());
            async move {
                exchange.send(&sent[..first]).await;
                held.pass().await;
                exchange.send(&sent[first..]).await;
                exchange
            }
        });
    }
    let mut clients = Vec::new();
    for index in 0..PATHS {
        for node in fleet.edges() {
            for _ in 0..3 {
                clients.push((index, node.begin("GET", &format!("/{index}"), &[]).await));
            }
        }
    }
    for index in 0..PATHS {
        fleet.origin.asked_times(&format!("/{index}"), 1).await;
    }
    for (index, client) in clients.iter_mut().filter(|(index, _)| index % 2 == 1) {
        client.head().await.unwrap();
        assert_same(&client.read_exactly(*index * 100_000).await, &body[..*index * 100_000]);
    }
    let mut kept = None;
    for (number, (index, client)) in clients.into_iter().enumerate() {
        // One of all stays, on the path with the least of its body.
        if number == 14 {
            kept = Some((index, client));
        }
    }
    barrier.open();
    let (index, mut client) = kept.unwrap();
    if index % 2 == 1 {
        assert_same(&client.read_exactly(body.len() - index * 100_000).await, &body[index * 100_000..]);
    }
    drop(client);
    nothing_is_left(&fleet).await;
}
