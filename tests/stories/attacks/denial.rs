//! Cache-poisoned denial of service: a client gets the origin to fail, and everybody else gets the error from the cache.

use super::{FRESH, raw, telling};
use crate::common::client::{HOST, request};
use crate::common::{Node, Origin, reply};

const OLD: &str = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT";

/// Fails by what is beside the key, in the ways of the literature.
async fn delicate() -> Origin {
    let origin = Origin::start().await;
    origin.script("/x", |mut exchange| async move {
        let asked = &exchange.asked;
        let size: usize = asked.head.fields.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        let status = if size > 8192 {
            431
        } else if asked.head.fields.iter().any(|(_, value)| value.bytes().any(|byte| byte.is_ascii_control()))
        {
            400
        } else if asked
            .head
            .fields
            .iter()
            .any(|(name, _)| name.contains("override") || name.contains("method"))
        {
            405
        } else if let Some(status) = asked.field("x-fail") {
            status.parse().unwrap()
        } else {
            200
        };
        exchange.send(reply(status, if status == 200 { &[FRESH] } else { &[OLD] }, status.to_string())).await;
        exchange
    });
    origin
}

#[tokio::test]
async fn an_error_that_the_origin_did_not_ask_to_store_is_not_stored() {
    let origin = delicate().await;
    let node = Node::before(&origin).await;
    for status in [
        400, 401, 403, 404, 405, 406, 408, 410, 411, 413, 414, 417, 429, 431, 451, 500, 501, 502, 503, 504,
        505,
    ] {
        let failed = node.ask("GET", "/x", &[&format!("X-Fail: {status}")]).await;
        assert_eq!(failed.status, status);
        assert!(!failed.cache_status().contains("stored"), "{}", failed.cache_status());
        node.settled().await;
        // Asked again, so that what a crowd then gets is the page.
        node.ask("GET", "/x", &["Cache-Control: no-cache"]).await.assert_is(200, "200");
        node.settled().await;
        node.get("/x").await.assert_hit();
        // Nor does it take the place of what is stored.
        let failed = node.ask("GET", "/x", &[&format!("X-Fail: {status}"), "Cache-Control: no-cache"]).await;
        assert_eq!(failed.status, status);
        node.settled().await;
        let next = node.get("/x").await;
        next.assert_is(200, "200");
        purge(&node).await;
    }
}

/// Forgets `/x`, as a write does.
async fn purge(node: &Node) {
    node.ask("DELETE", "/x", &[]).await;
}

#[tokio::test]
async fn an_error_is_stored_if_it_says_for_how_long_or_the_operator_does() {
    let origin = Origin::start().await;
    origin.says("/stated", reply(404, &["Cache-Control: max-age=60"], "gone"));
    origin.says("/guessed", reply(404, &[OLD], "gone"));
    let node = Node::before(&origin).await;
    for _ in 0..2 {
        for target in ["/stated", "/guessed"] {
            assert_eq!(node.get(target).await.status, 404);
            node.settled().await;
        }
    }
    assert_eq!((origin.count("/stated"), origin.count("/guessed")), (1, 2));
    let bold = Node::with(&origin, "cache = { errors = \"rfc\" }").await;
    for _ in 0..2 {
        assert_eq!(bold.get("/guessed").await.status, 404);
        bold.settled().await;
    }
    assert_eq!(origin.count("/guessed"), 3, "RFC 9111 §4.2.2 allows it");
}

#[tokio::test]
async fn oversize_meta_characters_and_method_overrides_poison_nothing() {
    let origin = delicate().await;
    let node = Node::before(&origin).await;
    let oversize = format!("X-Oversize: {}", "a".repeat(20_000));
    for (what, fields, status) in [
        ("oversize", &[&*oversize][..], 431),
        (
            "override",
            &["X-HTTP-Method-Override: POST", "X-HTTP-Method: PUT", "X-Method-Override: DELETE"],
            200,
        ),
    ] {
        assert_eq!(node.ask("GET", "/x", fields).await.status, status, "{what}");
        node.settled().await;
        node.warm("/x").await.assert_is(200, "200");
        node.get("/x").await.assert_hit();
        purge(&node).await;
    }
    let asked = origin.count_all();
    for meta in ["\u{1}", "\u{7}", "\u{8}", "\u{b}", "\u{c}", "\u{1b}", "\u{7f}", "\0"] {
        let attack = format!("GET /x HTTP/1.1\r\nHost: {HOST}\r\nX-Meta: a{meta}b\r\n\r\n");
        assert_eq!(raw(&node, attack).await.status, 400, "{meta:?}");
    }
    assert_eq!(origin.count_all(), asked);
    node.warm("/x").await.assert_is(200, "200");
}

#[tokio::test]
async fn what_this_node_refuses_is_never_stored() {
    let origin = telling().await;
    let node = Node::with(&origin, "[limits]\nbody_bytes = \"1KiB\"").await;
    let large = format!("X-A: {}", "a".repeat(40_000));
    let refused: [(Vec<u8>, u16); 6] = [
        (request("GET", "/x", &[&large]), 431),
        (request("GET", "/x", &["Via: 1.1 edge"]), 508),
        (request("GET", "/x", &["Content-Length: 2000"]), 413),
        (request("GET", "/x", &["Cache-Control: only-if-cached"]), 504),
        (request("GET", "http://evil.test/x", &[]), 400),
        (request("GET", "https://site.test/x", &[]), 421),
    ];
    for (bytes, status) in refused {
        let answer = raw(&node, bytes).await;
        assert_eq!((answer.status, answer.field("cache-control")), (status, Some("no-store")));
        node.settled().await;
    }
    assert_eq!(origin.count_all(), 0);
    let first = node.warm("/x").await;
    assert!(first.cache_status().contains("fwd=uri-miss"), "{}", first.cache_status());
}

#[tokio::test]
async fn failures_of_the_origin_are_never_stored_and_the_next_gets_the_page() {
    let origin = Origin::start().await;
    for (target, broken) in [
        ("/closed", &b""[..]),
        ("/no-http", b"HELLO\r\n\r\n"),
        ("/two-lengths", b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        ("/silent", b"silent"),
    ] {
        origin.script(target, move |mut exchange| async move {
            if exchange.nth > 0 {
                exchange.send(reply(200, &[FRESH], "page")).await;
            } else if broken == b"silent" {
                exchange.read_some().await;
            } else {
                exchange.send(broken).await;
                exchange.close();
            }
            exchange
        });
        let node = Node::with(&origin, "first_byte_timeout = \"100ms\"\nretries = 0").await;
        let failed = node.get(target).await;
        assert!(matches!(failed.status, 502 | 504), "{target}: {}", failed.text());
        assert_eq!(failed.field("cache-control"), Some("no-store"));
        node.settled().await;
        node.warm(target).await.assert_is(200, "page");
        node.get(target).await.assert_hit();
    }
}
