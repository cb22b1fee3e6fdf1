//! Bodies larger than windows and tiers, and readers slower than origins.

use crate::common::origin::{chunk, head};
use crate::common::wire::Framed;
use crate::common::{Barrier, Node, Origin, assert_same, content, reply};
use std::sync::Arc;

const FRESH: &str = "Cache-Control: max-age=60";
const TAG: &str = "ETag: \"one\"";

/// An origin with one large body, by ranges where asked for.
async fn with_large_body(body: &[u8]) -> Origin {
    let origin = Origin::start().await;
    let body = Arc::new(body.to_vec());
    origin.script("/x", move |mut exchange| {
        let body = Arc::clone(&body);
        async move {
            let range = exchange.asked.field("range").and_then(|range| range.strip_prefix("bytes="));
            let from = range.and_then(|range| range.trim_end_matches('-').parse::<usize>().ok());
            let length = format!("Content-Length: {}", body.len() - from.unwrap_or(0));
            let mut fields = vec![FRESH, TAG, &*length];
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

/// What comes to a client that takes nothing until another one has all of `expected`, which no tier can hold. The origin sends
/// `first`, head and body, and gives `rest(from)` to whoever asks for the rest from there on.
async fn sent_to_a_slow_reader(
    asks: &[&str],
    first: (Vec<u8>, &[u8]),
    expected: &[u8],
    rest: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static,
) -> Framed {
    let origin = Origin::start().await;
    let (all, begin) = (Arc::new((first.0, first.1.to_vec(), rest)), Barrier::closed());
    let gate = begin.clone();
    origin.script("/x", move |mut exchange| {
        let (all, gate) = (Arc::clone(&all), gate.clone());
        async move {
            let (head, body, rest) = &*all;
            if exchange.asked.field("if-range").is_some_and(|tag| tag == "\"one\"") {
                let range = exchange.asked.field("range").and_then(|range| range.strip_prefix("bytes="));
                let (from, _) = range.and_then(|range| range.split_once('-')).expect("the rest is asked for");
                exchange.send(rest(from.parse().unwrap())).await;
            } else {
                exchange.send(head).await;
                gate.pass().await;
                exchange.send(body).await;
            }
            exchange
        }
    });
    let node = Node::with(&origin, "[cache]\nmemory = \"3MB\"").await;
    let mut slow = node.begin("GET", "/x", asks).await;
    let slow_head = slow.head().await.unwrap();
    let mut fast = node.begin("GET", "/x", asks).await;
    let fast_head = fast.head().await.unwrap();
    begin.open();
    let all = fast.body(&fast_head).await;
    assert_same(&all.bytes, expected);
    assert!(all.is_whole);
    let sent = slow.body(&slow_head).await;
    assert_eq!(origin.count("/x"), 2);
    assert_eq!(node.metric("shoal_origin_fetches_total{site=\"default\",reason=\"laggard\"}"), 1.0);
    sent
}

fn length(body: &[u8]) -> String {
    format!("Content-Length: {}", body.len())
}

/// The whole of `sent` is `expected`.
fn assert_all(sent: &Framed, expected: &[u8]) {
    assert_same(&sent.bytes, expected);
    assert!(sent.is_whole);
}

#[tokio::test]
async fn a_slow_reader_of_what_cannot_be_stored_gets_the_rest_by_range() {
    let body = content(32 << 20);
    let again = body.clone();
    let first = (head(200, &[FRESH, TAG, &length(&body)]), &body[..]);
    let sent = sent_to_a_slow_reader(&[], first, &body, move |from| {
        let place = format!("Content-Range: bytes {from}-{}/{}", again.len() - 1, again.len());
        reply(206, &[FRESH, TAG, &place], &again[from..])
    });
    assert_all(&sent.await, &body);
}

#[tokio::test]
async fn a_slow_reader_of_a_part_gets_the_rest_from_its_place_in_the_whole() {
    const FROM: usize = 8 << 20;
    let whole = content(40 << 20);
    let part = &whole[FROM..];
    let place = format!("Content-Range: bytes {FROM}-{}/{}", whole.len() - 1, whole.len());
    for knows_ranges in [true, false] {
        let again = whole.clone();
        let first = (head(206, &[FRESH, TAG, &length(part), &place]), part);
        let range = format!("Range: bytes={FROM}-");
        let asks = [&*range];
        let sent = sent_to_a_slow_reader(&asks, first, part, move |from| {
            let place = format!("Content-Range: bytes {from}-{}/{}", again.len() - 1, again.len());
            match knows_ranges {
                true => reply(206, &[FRESH, TAG, &place], &again[from..]),
                false => reply(200, &[FRESH, TAG], &again),
            }
        });
        assert_all(&sent.await, part);
    }
}

#[tokio::test]
async fn a_slow_reader_gets_the_rest_of_the_very_same_version_or_is_cut() {
    let body = content(32 << 20);
    let other: Vec<_> = body.iter().rev().copied().collect();
    let part = |total: &str| {
        let (body, total) = (other.clone(), total.to_owned());
        move |from: usize| {
            let place = format!("Content-Range: bytes {from}-{}/{total}", body.len() - 1);
            reply(206, &[FRESH, TAG, &place], &body[from..])
        }
    };
    let all = |status: u16, tag: &'static str, body: &[u8]| {
        let reply = reply(status, &[FRESH, tag], body);
        move |_from: usize| reply.clone()
    };
    type Rest = Box<dyn Fn(usize) -> Vec<u8> + Send + Sync>;
    let cases: [(&str, bool, Rest); 8] = [
        ("the same, without ranges", true, Box::new(all(200, TAG, &body))),
        ("another version", false, Box::new(all(200, "ETag: \"two\"", &other))),
        ("no validator any more", false, Box::new(all(200, "X-None: 1", &other))),
        ("a weak validator", false, Box::new(all(200, "ETag: W/\"one\"", &other))),
        ("another length", false, Box::new(all(200, TAG, &[&body[..], b"more"].concat()))),
        ("an error", false, Box::new(all(503, TAG, &other))),
        ("a range of another length", false, Box::new(part("99999999"))),
        (
            "a shorter range",
            false,
            Box::new(|from| {
                let place = format!("Content-Range: bytes {from}-{}/{}", from + 9, 32 << 20);
                reply(206, &[FRESH, TAG, &place], "0123456789")
            }),
        ),
    ];
    for (case, whole, rest) in cases {
        let first = (head(200, &[FRESH, TAG, &length(&body)]), &body[..]);
        let sent = sent_to_a_slow_reader(&[], first, &body, rest).await;
        assert!(body.starts_with(&sent.bytes), "{case}: wrong bytes");
        assert_eq!((sent.is_whole, sent.bytes.len() == body.len()), (whole, whole), "{case}");
    }
}

/// What of a body is sent in chunks that say nothing of its length.
fn chunked(status: u16, fields: &[&str], body: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let fields = [&[FRESH, TAG, "Transfer-Encoding: chunked"], fields].concat();
    let chunks: Vec<_> = body.chunks(1 << 20).chain([&[][..]]).map(chunk).collect();
    (head(status, &fields), chunks.concat())
}

#[tokio::test]
async fn a_slow_reader_of_a_body_of_unknown_length_gets_it_whole_and_no_byte_more() {
    const FROM: usize = 4 << 20;
    let whole = content(40 << 20);
    let place = |from: usize, to: usize| format!("Content-Range: bytes {from}-{}/{}", to - 1, 40 << 20);
    let to = whole.len() - 1000;
    let range = format!("Range: bytes={FROM}-{}", to - 1);
    for (case, asks, first, body) in [
        ("all", None, chunked(200, &[], &whole), &whole[..]),
        ("a part", Some(&*range), chunked(206, &[&place(FROM, to)], &whole[FROM..to]), &whole[FROM..to]),
    ] {
        for answers in ["a range", "a range in chunks", "all", "all in chunks"] {
            let again = whole.clone();
            let asks: Vec<_> = asks.into_iter().collect();
            let sent = sent_to_a_slow_reader(&asks, (first.0.clone(), &first.1), body, move |from| {
                let (rest, place) = (&again[from..], place(from, again.len()));
                match answers {
                    "a range" => reply(206, &[FRESH, TAG, &place], rest),
                    "a range in chunks" => {
                        let (head, body) = chunked(206, &[&place], rest);
                        [head, body].concat()
                    }
                    "all" => reply(200, &[FRESH, TAG], &again),
                    _ => {
                        let (head, body) = chunked(200, &[], &again);
                        [head, body].concat()
                    }
                }
            });
            let sent = sent.await;
            assert!(sent.is_whole && sent.bytes == body, "{case}, {answers}: {} bytes", sent.bytes.len());
        }
    }
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
async fn a_hit_is_sent_to_its_end_though_memory_gives_it_up_meanwhile() {
    const OTHER: usize = 2 << 20;
    let body = content(15 << 20);
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH], &body));
    let node = Node::with(&origin, "[cache]\nmemory = \"128MB\"").await;
    node.warm("/x").await;
    let mut slow = node.begin("GET", "/x", &[]).await;
    let head = slow.head().await.unwrap();
    let mut part = node.begin("GET", "/x", &["Range: bytes=6000000-"]).await;
    let part_head = part.head().await.unwrap();
    assert!(head.field("cache-status").unwrap().contains("hit"));
    // Several times as much as memory holds, each asked for more often than the first.
    for other in 0..150 {
        origin.says(&format!("/{other}"), reply(200, &[FRESH], &body[other..other + OTHER]));
        node.warm(&format!("/{other}")).await;
        for _ in 0..3 {
            node.get(&format!("/{other}")).await;
        }
    }
    assert_all(&slow.body(&head).await, &body);
    assert_all(&part.body(&part_head).await, &body[6_000_000..]);
    node.get("/x").await.assert_is(200, &body);
    assert_eq!(origin.count("/x"), 2, "it was given up");
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
