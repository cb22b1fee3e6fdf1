//! Range amplification: few bytes for the client that cost many, and parts that are none of the whole.

use super::FRESH;
use crate::common::client::request;
use crate::common::origin::head;
use crate::common::{Node, Origin, content, reply};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most that an origin may send for a client that asks for one byte: the window of a fill, and what the system's buffers of a
/// connection on loopback take beside it.
const SENT_MAX: u64 = 40 << 20;

#[tokio::test]
async fn one_byte_of_a_large_object_does_not_cost_the_origin_the_object() {
    const LENGTH: u64 = 512 << 20;
    let (origin, sent) = (Origin::start().await, Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&sent);
    origin.otherwise(move |mut exchange| {
        let sent = Arc::clone(&counted);
        async move {
            let length = format!("Content-Length: {LENGTH}");
            exchange.send(head(200, &[FRESH, "ETag: \"a\"", "Accept-Ranges: bytes", &length])).await;
            let piece = vec![b'a'; 256 << 10];
            for _ in 0..LENGTH / piece.len() as u64 {
                if !exchange.sends(&piece).await {
                    break;
                }
                sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            exchange
        }
    });
    let node = Node::before(&origin).await;
    for number in 0..3 {
        let mut client = node.connect().await;
        let part = client.ask("GET", &format!("/x?bust={number}"), &["Range: bytes=0-0"]).await;
        part.assert_is(206, "a");
        drop(client);
        node.settled().await;
        let sent = sent.swap(0, Ordering::Relaxed);
        assert!(sent <= SENT_MAX, "{sent} bytes of the origin's for one of the client's");
    }
}

#[tokio::test]
async fn a_far_part_is_asked_for_as_such_and_several_never_are() {
    let origin = Origin::start().await;
    origin.otherwise(|mut exchange| async move {
        let answer = match exchange.asked.field("range") {
            Some(_) => reply(206, &["Content-Range: bytes 99999999-99999999/100000000"], "z"),
            None => reply(200, &[FRESH, "ETag: \"a\""], "whole"),
        };
        exchange.send(answer).await;
        exchange
    });
    let node = Node::before(&origin).await;
    node.ask("GET", "/one", &["Range: bytes=-1"]).await.assert_is(206, "z");
    assert_eq!(origin.asked("/one").last().unwrap().field("range"), Some("bytes=-1"));
    for (index, ranges) in [
        "bytes=99999999-,99999999-,99999999-,99999999-,99999999-",
        "bytes=-1,-1,-1,-1,-1,-1,-1,-1,-1,-1",
        "bytes=0-,-1",
        "bytes=0-0,99999999-99999999",
        "bytes=-1,",
        "bytes=-1, ,-1",
    ]
    .iter()
    .enumerate()
    {
        let target = format!("/several{index}");
        let answer = node.ask("GET", &target, &[&format!("Range: {ranges}")]).await;
        assert!(answer.body.len() <= 300, "{ranges}: {}", answer.text());
        assert_eq!(origin.asked(&target)[0].field("range"), None, "{ranges}");
        node.settled().await;
    }
}

#[tokio::test]
async fn no_set_of_ranges_costs_more_than_the_whole() {
    let (origin, body) = (Origin::start().await, content(100_000));
    origin.says("/x", reply(200, &[FRESH, "ETag: \"a\""], &body));
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    let repeated = |range: &str, count: usize| format!("bytes={}", vec![range; count].join(","));
    let single: Vec<String> = (0..2000).map(|at| format!("{}-{}", at * 2, at * 2)).collect();
    for ranges in [
        repeated("0-", 10),
        repeated("0-99998", 10),
        repeated("-99999", 10),
        repeated("0-,1-,2-", 3),
        repeated("0-", 1000),
        repeated("0-0", 5000),
        format!("bytes={}", single.join(",")),
        "bytes=0-49999,50000-,0-".to_owned(),
        "bytes=-18446744073709551616".to_owned(),
        "bytes=0-18446744073709551615,1-18446744073709551616".to_owned(),
    ] {
        let answer = node.ask("GET", "/x", &[&format!("Range: {ranges}")]).await;
        assert!(matches!(answer.status, 200 | 206), "{:.60}: {}", ranges, answer.status);
        assert!(
            answer.is_whole && answer.body.len() <= body.len(),
            "{:.60}: {} bytes",
            ranges,
            answer.body.len()
        );
    }
    // Far behind the end, by numbers that no computer counts to.
    let beyond = node.ask("GET", "/x", &["Range: bytes=18446744073709551615-"]).await;
    assert_eq!((beyond.status, beyond.field("content-range")), (416, Some("bytes */100000")));
    // More lines than one, or of what has no parts, say nothing.
    let mut client = node.connect().await;
    client.send(request("GET", "/x", &["Range: bytes=0-0", "Range: bytes=1-1"])).await;
    client.reply("GET").await.assert_is(200, &body);
    let head = node.ask("HEAD", "/x", &["Range: bytes=0-0"]).await;
    assert_eq!((head.status, head.field("content-length")), (200, Some("100000")));
    assert_eq!(origin.count("/x"), 1);
}

#[tokio::test]
async fn if_range_that_does_not_name_exactly_what_is_stored_gets_the_whole() {
    let origin = Origin::start().await;
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT";
    let modified = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT";
    origin.says(
        "/x",
        reply(200, &["Cache-Control: max-age=1000000000", "ETag: \"a\"", date, modified], "0123456789"),
    );
    origin.says("/weak", reply(200, &[FRESH, "ETag: W/\"a\""], "0123456789"));
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    node.warm("/weak").await;
    node.ask("GET", "/x", &["Range: bytes=0-1", "If-Range: \"a\""]).await.assert_is(206, "01");
    for (target, condition) in [
        ("/x", "\"b\""),
        ("/x", "W/\"a\""),
        ("/x", "\"a\", \"b\""),
        ("/x", "*"),
        ("/x", "a"),
        ("/x", ""),
        // Not before the Date, so that there may have been another within that second.
        ("/x", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("/x", "Sun, 06 Nov 1994 08:49:38 GMT"),
        ("/weak", "\"a\""),
        ("/weak", "W/\"a\""),
    ] {
        let answer = node.ask("GET", target, &["Range: bytes=0-1", &format!("If-Range: {condition}")]).await;
        assert_eq!((answer.status, answer.text()), (200, "0123456789"), "{target} {condition:?}");
    }
    let mut client = node.connect().await;
    client.send(request("GET", "/x", &["Range: bytes=0-1", "If-Range: \"a\"", "If-Range: \"b\""])).await;
    client.reply("GET").await.assert_is(200, "0123456789");
}

#[tokio::test]
async fn a_part_that_was_not_asked_for_is_not_taken_for_the_whole() {
    let origin = Origin::start().await;
    origin.says("/part", reply(206, &[FRESH, "ETag: \"a\"", "Content-Range: bytes 0-1/10"], "01"));
    origin.says("/beyond", reply(416, &[FRESH, "Content-Range: bytes */10"], ""));
    let node = Node::before(&origin).await;
    for target in ["/part", "/beyond"] {
        for _ in 0..2 {
            let answer = node.get(target).await;
            node.settled().await;
            assert!(!answer.cache_status().contains("hit"), "{target}: {}", answer.cache_status());
        }
        assert_eq!(origin.count(target), 2);
    }
}
