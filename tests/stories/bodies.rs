//! Bodies larger than windows and tiers, and readers slower than origins.

use crate::common::origin::{chunk, head};
use crate::common::{Node, Origin, assert_same, content, reply};

const FRESH: &str = "Cache-Control: max-age=60";

/// An origin with one large body, by ranges where asked for.
async fn with_large_body(body: &[u8]) -> Origin {
    let origin = Origin::start().await;
    let body = std::sync::Arc::new(body.to_vec());
    origin.script("/x", move |mut exchange| {
        let body = std::sync::Arc::clone(&body);
        async move {
            let range = exchange.asked.field("range").and_then(|range| range.strip_prefix("bytes="));
            let from = range.and_then(|range| range.trim_end_matches('-').parse::<usize>().ok());
            let length = format!("Content-Length: {}", body.len() - from.unwrap_or(0));
            let mut fields = vec![FRESH, "ETag: \"one\"", &*length];
            let place =
                format!("Content-Range: bytes {}-{}/{}", from.unwrap_or(0), body.len() - 1, body.len());
            if from.is_some() {
                fields.push(&place);
            }
            exchange.send(head(if from.is_some() { 206 } else { 200 }, &fields)).await;
            for part in body[from.unwrap_or(0)..].chunks(256 << 10) {
                exchange.send(part).await;
            }
            exchange
        }
    });
    origin
}

#[tokio::test]
async fn a_slow_reader_gets_the_right_bytes_and_slows_nobody() {
    let body = content(20 << 20);
    let origin = with_large_body(&body).await;
    let node = Node::before(&origin).await;
    let mut slow = node.begin("GET", "/x", &[]).await;
    let slow_head = slow.head().await.unwrap();
    assert_same(&slow.read_exactly(1000).await, &body[..1000]);
    // The others come to the end while the slow one takes nothing.
    let (one, two) = tokio::join!(node.get("/x"), node.get("/x"));
    one.assert_is(200, &body);
    two.assert_is(200, &body);
    assert_eq!(slow_head.field("content-length"), Some("20971520"));
    assert_same(&slow.read_exactly(body.len() - 1000).await, &body[1000..]);
    assert_eq!(origin.count("/x"), 1);
}

#[tokio::test]
async fn a_slow_reader_of_what_cannot_be_stored_gets_the_rest_by_range() {
    let body = content(32 << 20);
    let origin = with_large_body(&body).await;
    let node = Node::with(&origin, "[cache]\nmemory = \"3MB\"").await;
    let mut slow = node.begin("GET", "/x", &[]).await;
    slow.head().await.unwrap();
    assert_same(&slow.read_exactly(1000).await, &body[..1000]);
    node.get("/x").await.assert_is(200, &body);
    assert_same(&slow.read_exactly(body.len() - 1000).await, &body[1000..]);
    let asked = origin.asked("/x");
    let rest = asked.last().unwrap();
    assert_eq!((asked.len(), rest.field("if-range")), (2, Some("\"one\"")));
    assert!(rest.field("range").is_some_and(|range| range.ends_with('-')));
}

#[tokio::test]
async fn a_body_far_larger_than_memory_streams_through_within_the_bound() {
    let body = content(64 << 20);
    let origin = with_large_body(&body).await;
    let node = Node::with(&origin, "[cache]\nmemory = \"3MB\"").await;
    let mut client = node.begin("GET", "/x", &[]).await;
    client.head().await.unwrap();
    for expected in body.chunks(1 << 20) {
        assert_same(&client.read_exactly(expected.len()).await, expected);
        let usage = node.assembly.node.store.usage();
        assert!(usage.memory <= usage.memory_bound, "{} of {}", usage.memory, usage.memory_bound);
    }
    assert_eq!(origin.count("/x"), 1);
}

#[tokio::test]
async fn memory_stays_within_its_bound_under_many_objects() {
    let origin = Origin::start().await;
    for object in 0..60 {
        origin.says(&format!("/{object}"), reply(200, &[FRESH], content(100_000 + object)));
    }
    let node = Node::with(&origin, "[cache]\nmemory = \"2MiB\"").await;
    for object in (0..60).chain(50..60) {
        node.warm(&format!("/{object}")).await.assert_is(200, content(100_000 + object));
        let usage = node.assembly.node.store.usage();
        assert!(usage.memory <= 2 << 20, "{}", usage.memory);
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_is_stored_with_its_length() {
    let origin = Origin::start().await;
    origin.script("/x", |mut exchange| async move {
        exchange.send(head(200, &[FRESH, "Transfer-Encoding: chunked"])).await;
        for part in ["one ", "two ", "three"] {
            exchange.send(chunk(part)).await;
        }
        exchange.send(chunk(b"")).await;
        exchange
    });
    let node = Node::before(&origin).await;
    node.warm("/x").await.assert_is(200, "one two three");
    let hit = node.get("/x").await;
    hit.assert_is(200, "one two three");
    hit.assert_hit();
    assert_eq!(hit.field("content-length"), Some("13"));
    node.ask("GET", "/x", &["Range: bytes=4-6"]).await.assert_is(206, "two");
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_is_stored() {
    let origin = Origin::start().await;
    origin.script("/x", |mut exchange| async move {
        exchange.send(head(200, &[FRESH, "Connection: close"])).await;
        exchange.send("body").await;
        exchange.close();
        exchange
    });
    let node = Node::before(&origin).await;
    node.warm("/x").await.assert_is(200, "body");
    node.get("/x").await.assert_hit();
}

#[tokio::test]
async fn empty_bodies_are_stored() {
    let origin = Origin::start().await;
    origin.says("/empty", reply(200, &[FRESH], ""));
    origin.says("/none", head(204, &[FRESH]));
    let node = Node::before(&origin).await;
    for (target, status) in [("/empty", 200), ("/none", 204)] {
        node.warm(target).await.assert_is(status, "");
        let hit = node.get(target).await;
        hit.assert_is(status, "");
        hit.assert_hit();
    }
}

#[tokio::test]
async fn an_http_10_client_gets_a_body_without_chunks() {
    let origin = Origin::start().await;
    origin.script("/x", |mut exchange| async move {
        exchange.send(head(200, &["Cache-Control: no-store", "Transfer-Encoding: chunked"])).await;
        exchange.send(chunk(b"body")).await;
        exchange.send(chunk(b"")).await;
        exchange
    });
    let node = Node::before(&origin).await;
    let mut client = node.connect().await;
    client.send("GET /x HTTP/1.0\r\nHost: site.test\r\n\r\n").await;
    let reply = client.reply("GET").await;
    reply.assert_is(200, "body");
    assert_eq!(reply.field("transfer-encoding"), None);
}
