//! Answers from the store: hits, HEAD, conditions and ranges.

use crate::common::{Node, Origin, content, reply};

const FRESH: &str = "Cache-Control: max-age=60";
const ETAG: &str = "ETag: \"one\"";
const MODIFIED: &str = "Last-Modified: Sun, 01 Nov 2020 10:00:00 GMT";

/// A node that has `/x` in memory: ten bytes with validators.
async fn with_ten_bytes() -> (Origin, Node) {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH, ETAG, MODIFIED, "Content-Type: text/plain"], "0123456789"));
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    (origin, node)
}

#[tokio::test]
async fn a_miss_says_that_it_was_stored_and_a_hit_asks_the_origin_nothing() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH], "body"));
    let node = Node::before(&origin).await;

    let miss = node.warm("/x").await;
    miss.assert_is(200, "body");
    assert_eq!(miss.cache_status(), "edge; fwd=uri-miss; fwd-status=200; stored; ttl=60; detail=origin");

    let hit = node.get("/x").await;
    hit.assert_is(200, "body");
    hit.assert_hit();
    assert!(hit.cache_status().ends_with("; detail=memory"), "{}", hit.cache_status());
    assert!(hit.field("age").unwrap().parse::<u32>().unwrap() <= 20);
    assert_eq!(hit.field("content-length"), Some("4"));
    assert_eq!(origin.count_all(), 1);
}

#[tokio::test]
async fn the_age_of_a_hit_goes_on_from_that_of_the_origin() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH, "Age: 25"], "body"));
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    let hit = node.get("/x").await;
    let age: u32 = hit.field("age").unwrap().parse().unwrap();
    assert!((25..45).contains(&age), "{age}");
    assert!(hit.cache_status().contains(&format!("; ttl={};", 60 - age)), "{}", hit.cache_status());
}

#[tokio::test]
async fn keys_differ_by_host_path_and_query() {
    let origin = Origin::start().await;
    for target in ["/x", "/x?a=1", "/x?a=2", "/X"] {
        origin.says(target, reply(200, &[FRESH], target));
    }
    let node = Node::before(&origin).await;
    for target in ["/x", "/x?a=1", "/x?a=2", "/X"] {
        node.warm(target).await.assert_is(200, target);
        node.get(target).await.assert_hit();
    }
    let mut client = node.connect().await;
    client.send("GET /x HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
    assert!(client.reply("GET").await.cache_status().contains("fwd=uri-miss"));
    assert_eq!(origin.asked("/x")[1].field("host"), Some("other.test"));
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_in_order() {
    let (origin, node) = with_ten_bytes().await;
    origin.says("/y", reply(200, &["Cache-Control: no-store"], "y"));
    let mut client = node.connect().await;
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: site.test\r\n\r\n");
    client.send(get("/y") + &get("/x") + &get("/y")).await;
    client.reply("GET").await.assert_is(200, "y");
    client.reply("GET").await.assert_is(200, "0123456789");
    client.reply("GET").await.assert_is(200, "y");
}

#[tokio::test]
async fn head_is_answered_from_what_get_stored() {
    let (origin, node) = with_ten_bytes().await;
    let reply = node.ask("HEAD", "/x", &[]).await;
    reply.assert_is(200, "");
    reply.assert_hit();
    assert_eq!(reply.field("content-length"), Some("10"));
    assert_eq!(origin.count("/x"), 1);
}

#[tokio::test]
async fn head_that_misses_is_forwarded_as_head_and_stores_nothing() {
    let origin = Origin::start().await;
    origin.script("/x", |mut exchange| async move {
        let head = crate::common::origin::head(200, &[FRESH, "Content-Length: 4"]);
        exchange.send(head).await;
        if exchange.asked.method == "GET" {
            exchange.send("body").await;
        }
        exchange
    });
    let node = Node::before(&origin).await;
    let head = node.ask("HEAD", "/x", &[]).await;
    head.assert_is(200, "");
    assert_eq!(head.field("content-length"), Some("4"));
    assert_eq!(origin.asked("/x")[0].method, "HEAD");
    node.warm("/x").await.assert_is(200, "body");
    assert_eq!(origin.count("/x"), 2);
}

#[tokio::test]
async fn conditions_that_hold_are_answered_304_from_the_store() {
    let (origin, node) = with_ten_bytes().await;
    for condition in [
        "If-None-Match: \"one\"",
        "If-None-Match: \"zero\", W/\"one\"",
        "If-None-Match: *",
        "If-Modified-Since: Sun, 01 Nov 2020 10:00:00 GMT",
    ] {
        let reply = node.ask("GET", "/x", &[condition]).await;
        assert_eq!(reply.status, 304, "{condition}");
        assert_eq!((reply.field("etag"), reply.field("content-type")), (Some("\"one\""), None));
        assert!(reply.field("date").is_some() && reply.field("cache-control").is_some());
        reply.assert_hit();
    }
    assert_eq!(origin.count("/x"), 1);
}

#[tokio::test]
async fn conditions_that_fail_get_the_whole_or_412() {
    let (origin, node) = with_ten_bytes().await;
    for condition in ["If-None-Match: \"two\"", "If-Modified-Since: Sun, 01 Nov 2020 09:59:59 GMT"] {
        node.ask("GET", "/x", &[condition]).await.assert_is(200, "0123456789");
    }
    // If-None-Match takes precedence over If-Modified-Since (RFC 9110 §13.2.2).
    let both = ["If-None-Match: \"two\"", "If-Modified-Since: Sun, 01 Nov 2020 10:00:00 GMT"];
    node.ask("GET", "/x", &both).await.assert_is(200, "0123456789");
    node.ask("GET", "/x", &["If-Match: \"one\""]).await.assert_is(200, "0123456789");
    for condition in ["If-Match: \"two\"", "If-Unmodified-Since: Sun, 01 Nov 2020 09:59:59 GMT"] {
        let failed = node.ask("GET", "/x", &[condition]).await;
        assert_eq!(failed.status, 412, "{condition}");
        assert_eq!(failed.field("etag"), Some("\"one\""), "{condition}");
    }
    assert_eq!(origin.count("/x"), 1);
}

/// RFC 9110 §13.2.1: they count for whatever would be answered with a 2xx.
#[tokio::test]
async fn conditions_count_for_all_that_is_successful_and_for_nothing_else() {
    for (status, met, failed) in [(200, 304, 412), (203, 304, 412), (204, 304, 412), (404, 404, 404)] {
        let origin = Origin::start().await;
        origin.says("/x", reply(status, &[FRESH, ETAG], ""));
        let node = Node::before(&origin).await;
        assert_eq!(node.get("/x").await.status, status);
        node.settled().await;
        node.get("/x").await.assert_hit();
        assert_eq!(node.ask("GET", "/x", &["If-None-Match: \"one\""]).await.status, met, "{status}");
        assert_eq!(node.ask("GET", "/x", &["If-Match: \"two\""]).await.status, failed, "{status}");
        assert_eq!(origin.count("/x"), 1);
    }
}

#[tokio::test]
async fn a_condition_on_a_cold_key_does_not_reach_the_origin_and_is_answered_here() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH, ETAG], "body"));
    let node = Node::before(&origin).await;
    let reply = node.ask("GET", "/x", &["If-None-Match: \"one\""]).await;
    assert_eq!(reply.status, 304);
    assert_eq!(origin.asked("/x")[0].field("if-none-match"), None);
    node.settled().await;
    let hit = node.get("/x").await;
    hit.assert_is(200, "body");
    hit.assert_hit();
}

#[tokio::test]
async fn one_range_is_cut_out_of_what_is_stored() {
    let (origin, node) = with_ten_bytes().await;
    for (range, body, place) in [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=7-99", "789", "bytes 7-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
    ] {
        let reply = node.ask("GET", "/x", &[&format!("Range: {range}")]).await;
        reply.assert_is(206, body);
        reply.assert_hit();
        assert_eq!(reply.field("content-range"), Some(place));
        assert_eq!(reply.field("content-length"), Some("3"));
    }
    assert_eq!(origin.count("/x"), 1);
}

#[tokio::test]
async fn several_ranges_come_as_parts() {
    let (origin, body) = (Origin::start().await, content(10_000));
    let text: String = body.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    origin.says("/x", reply(200, &[FRESH, "Content-Type: text/plain"], &text));
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    let reply = node.ask("GET", "/x", &["Range: bytes=0-99,-50"]).await;
    assert_eq!(reply.status, 206);
    assert!(reply.is_whole);
    let kind = reply.field("content-type").unwrap();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect(kind).trim_matches('"');
    let part = |place: &str, body: &str| {
        format!(
            "\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {place}/10000\r\n\r\n{body}"
        )
    };
    let end = format!("\r\n--{boundary}--\r\n");
    let expected = part("0-99", &text[..100]) + &part("9950-9999", &text[9950..]) + &end;
    let normal = |text: &str| text.trim_start().to_ascii_lowercase();
    assert_eq!(normal(reply.text()), normal(&expected));
    // Parts that would take as much as the whole are answered with the whole (RFC 9110 §14.2).
    node.ask("GET", "/x", &["Range: bytes=0-4998,5000-9999"]).await.assert_is(200, &text);
}

#[tokio::test]
async fn a_range_beyond_the_end_is_416() {
    let (_origin, node) = with_ten_bytes().await;
    let reply = node.ask("GET", "/x", &["Range: bytes=10-"]).await;
    assert_eq!((reply.status, reply.field("content-range")), (416, Some("bytes */10")));
    // What is no range is ignored (RFC 9110 §14.2).
    node.ask("GET", "/x", &["Range: lines=1-2"]).await.assert_is(200, "0123456789");
}

#[tokio::test]
async fn if_range_gives_the_part_only_of_the_same_version() {
    let (_origin, node) = with_ten_bytes().await;
    node.ask("GET", "/x", &["Range: bytes=0-1", "If-Range: \"one\""]).await.assert_is(206, "01");
    node.ask("GET", "/x", &["Range: bytes=0-1", "If-Range: \"two\""]).await.assert_is(200, "0123456789");
    node.ask("GET", "/x", &["Range: bytes=0-1", "If-Range: W/\"one\""]).await.assert_is(200, "0123456789");
}

#[tokio::test]
async fn ranges_of_a_large_object_cross_its_records() {
    let body = content(3 << 20);
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH, ETAG], &body));
    let node = Node::before(&origin).await;
    node.warm("/x").await.assert_is(200, &body);
    for (from, to) in
        [(0, 0), (65_535, 65_536), (60_000, 1_100_000), (1_048_575, 1_048_577), (3_000_000, 3_145_727)]
    {
        let reply = node.ask("GET", "/x", &[&format!("Range: bytes={from}-{to}")]).await;
        reply.assert_is(206, &body[from..=to]);
    }
    assert_eq!(origin.count("/x"), 1);
}

#[tokio::test]
async fn a_range_near_the_start_of_a_cold_object_is_served_from_its_fill() {
    let body = content(300_000);
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH, ETAG], &body));
    let node = Node::before(&origin).await;
    let part = node.ask("GET", "/x", &["Range: bytes=100000-199999"]).await;
    part.assert_is(206, &body[100_000..200_000]);
    assert_eq!(origin.asked("/x")[0].field("range"), None);
    node.settled().await;
    let hit = node.get("/x").await;
    hit.assert_is(200, &body);
    hit.assert_hit();
    assert_eq!(origin.count("/x"), 1);
}

#[tokio::test]
async fn several_ranges_of_a_cold_object_are_answered_with_the_whole() {
    let body = content(100_000);
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH], &body));
    let node = Node::before(&origin).await;
    node.ask("GET", "/x", &["Range: bytes=0-9,200-209"]).await.assert_is(200, &body);
}

#[tokio::test]
async fn a_far_range_of_a_cold_object_is_asked_for_alone_and_stored() {
    let origin = Origin::start().await;
    let place = "Content-Range: bytes 99999990-99999999/100000000";
    origin.says("/x", reply(206, &[FRESH, ETAG, place], "0123456789"));
    let node = Node::before(&origin).await;
    for hit in [false, true] {
        let part = node.ask("GET", "/x", &["Range: bytes=99999990-99999999"]).await;
        part.assert_is(206, "0123456789");
        assert_eq!(part.cache_status().starts_with("edge; hit"), hit, "{}", part.cache_status());
        node.settled().await;
        assert_eq!(part.field("content-range"), Some("bytes 99999990-99999999/100000000"));
    }
    let asked = origin.asked("/x");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].field("range"), Some("bytes=99999990-99999999"));
}

#[tokio::test]
async fn statuses_other_than_200_are_stored_and_their_conditions_and_ranges_ignored() {
    let origin = Origin::start().await;
    origin.says("/gone", reply(404, &[FRESH], "nothing here"));
    origin.says("/moved", reply(301, &[FRESH, "Location: /there"], ""));
    let node = Node::before(&origin).await;
    for target in ["/gone", "/moved"] {
        node.get(target).await;
        node.settled().await;
        let hit = node.ask("GET", target, &["Range: bytes=0-1", "If-None-Match: *"]).await;
        hit.assert_hit();
        assert_eq!(hit.status, if target == "/gone" { 404 } else { 301 });
    }
    assert_eq!(node.get("/moved").await.field("location"), Some("/there"));
    assert_eq!(origin.count_all(), 2);
}
