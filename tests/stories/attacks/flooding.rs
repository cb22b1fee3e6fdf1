//! Much in little: parameters, fields, layers and compressed bodies that cost whoever unfolds them.

use super::{FRESH, first_line, raw, telling};
use crate::common::client::HOST;
use crate::common::{Node, Origin, reply};

#[tokio::test]
async fn a_query_has_a_number_of_parameters() {
    let origin = telling().await;
    let node = Node::before(&origin).await;
    let query = |count: usize, separator: &str| format!("/x?{}", vec!["a=1"; count].join(separator));
    for separator in ["&", ";"] {
        let refused = node.get(&query(257, separator)).await;
        assert_eq!((refused.status, refused.cache_status()), (414, "edge; detail=too_many_parameters"));
        assert_eq!(node.get(&query(256, separator)).await.status, 200);
    }
    assert_eq!(node.get(&format!("/x?{}", "&".repeat(8000))).await.status, 414);
    assert_eq!(node.get(&format!("/x?a={}", "a".repeat(8000))).await.status, 200);
    assert_eq!(node.metric("shoal_requests_refused_total{reason=\"too_many_parameters\"}"), 3.0);
    assert_eq!(origin.count_all(), 3);
    let roomy = Node::with(&origin, "[limits]\nquery_parameters = 1000").await;
    assert_eq!(roomy.get(&query(1000, "&")).await.status, 200);
    assert_eq!(roomy.get(&query(1001, "&")).await.status, 414);
}

#[tokio::test]
async fn cookies_and_fields_of_the_largest_size_pass_and_larger_ones_are_refused() {
    let origin = telling().await;
    let node = Node::before(&origin).await;
    let cookie = |bytes: usize| format!("Cookie: {}", "a=b; ".repeat(bytes / 5));
    assert_eq!(node.ask("GET", "/x", &[&cookie(30_000)]).await.status, 200);
    assert_eq!(node.ask("GET", "/x", &[&cookie(33_000)]).await.status, 431);
    // Names of one hash bucket or not: their number is bounded before any of them is looked for.
    let names: Vec<String> = (0..99).map(|index| format!("X-{index:064}: {index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(node.ask("GET", "/x", &names).await.status, 200);
    assert_eq!(node.ask("GET", "/x", &[&names[..], &["X: y"]].concat()).await.status, 431);
}

#[tokio::test]
async fn what_varies_on_too_much_is_not_stored() {
    let origin = Origin::start().await;
    for (target, count) in [("/most", 16), ("/too-many", 17)] {
        let names: Vec<String> = (0..count).map(|index| format!("X-{index}")).collect();
        origin.says(target, reply(200, &[FRESH, &format!("Vary: {}", names.join(", "))], "body"));
    }
    let node = Node::before(&origin).await;
    for target in ["/most", "/too-many"] {
        node.warm(target).await;
        node.warm(target).await;
    }
    assert_eq!((origin.count("/most"), origin.count("/too-many")), (1, 2));
}

#[tokio::test]
async fn lists_of_thousands_of_members_are_read_once_and_no_further_than_they_say_anything() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH, "Vary: Accept-Language, Accept-Encoding, Cookie"], "0123456789"));
    let node = Node::before(&origin).await;
    let languages: Vec<String> = (0..3000).map(|index| format!("x-{index}")).collect();
    let (forth, back) = (languages.join(","), languages.iter().rev().cloned().collect::<Vec<_>>().join(","));
    node.ask("GET", "/x", &[&format!("Accept-Language: {forth}")]).await.assert_is(200, "0123456789");
    node.settled().await;
    node.ask("GET", "/x", &[&format!("Accept-Language: {back}")]).await.assert_hit();
    for field in [
        format!("Cache-Control: {}", "a=b, ".repeat(6000)),
        format!("Accept-Encoding: {}", "x;q=0.1,".repeat(3500)),
        format!("If-None-Match: {}", "W/\"x\",".repeat(4000)),
        format!("Range: bytes={}", "0-0,".repeat(7000)),
        format!("Via: {}", "1.1 a,".repeat(5000)),
        format!("Connection: {}", "a,".repeat(15_000)),
    ] {
        let answer = node.ask("GET", "/x", &[&field, &format!("Accept-Language: {}", "y")]).await;
        assert_eq!((answer.status, answer.text()), (200, "0123456789"), "{field:.40}");
        node.settled().await;
    }
}

#[tokio::test]
async fn layers_and_segments_without_end_are_taken_off_up_to_a_bound() {
    let origin = telling().await;
    let node = Node::with(&origin, "[[site.rules]]\npath = \"/static/*\"").await;
    for path in [
        format!("/static/{}", "../".repeat(2700)),
        format!("/static/{}x", "%2e%2e%2f".repeat(900)),
        format!("/static/%{}41", "25".repeat(4000)),
        format!("/static/{}", ";".repeat(8000)),
        format!("/{}static/x", "/".repeat(8000)),
        format!("/static/{}", "%c0%af".repeat(1300)),
    ] {
        let answer = raw(&node, format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        assert_eq!(first_line(&answer), format!("GET {path} HTTP/1.1"));
    }
}

/// A gzip stream of a kilobyte that unfolds to a megabyte of zeros.
fn bomb() -> Vec<u8> {
    // One stored member would be no bomb; a dynamic block of repeated matches is, and nobody here needs to be able to read it.
    let mut bytes =
        b"\x1f\x8b\x08\0\0\0\0\0\x02\xff\xed\xc1\x01\x01\0\0\0\x80\x90\xfe\xaf\xee\x08\x0a".to_vec();
    bytes.extend_from_slice(&[0; 990]);
    bytes.extend_from_slice(b"\x80\x6a\0\0\x10\0");
    bytes
}

#[tokio::test]
async fn what_is_compressed_is_stored_and_served_as_it_is() {
    let (origin, bomb) = (Origin::start().await, bomb());
    for coding in ["gzip", "br", "zstd", "deflate", "gzip, gzip, gzip", "x-unknown"] {
        let target = format!("/{}", coding.replace(", ", "-"));
        origin.says(&target, reply(200, &[FRESH, &format!("Content-Encoding: {coding}")], &bomb));
        let node = Node::before(&origin).await;
        for accepts in ["gzip, br, zstd", "identity", "*;q=0"] {
            let answer = node.ask("GET", &target, &[&format!("Accept-Encoding: {accepts}")]).await;
            answer.assert_is(200, &bomb);
            assert_eq!(answer.field("content-encoding"), Some(coding));
            node.settled().await;
        }
        assert_eq!(node.metric("shoal_origin_bytes_total{site=\"default\"}"), bomb.len() as f64);
        assert!(node.metric("shoal_memory_bytes") < 100_000.0, "nothing is unfolded");
    }
}

#[tokio::test]
async fn what_is_not_compressed_is_not_compressed_here() {
    // A secret beside what the client wrote, compressed together, is told by its length (BREACH).
    let origin = Origin::start().await;
    for (target, fields) in [
        ("/secret", &["Content-Type: text/html", "Set-Cookie: id=1"][..]),
        ("/shared", &["Content-Type: text/html", FRESH]),
        ("/as-it-is", &["Content-Type: text/html", "Cache-Control: max-age=60, no-transform"]),
    ] {
        let page = format!("<p>token=secret</p>{}", "token=guess".repeat(500));
        origin.says(target, reply(200, fields, &page));
        let node = Node::before(&origin).await;
        for _ in 0..2 {
            let answer = node.ask("GET", target, &["Accept-Encoding: gzip, br, zstd, deflate"]).await;
            answer.assert_is(200, &page);
            assert_eq!((answer.field("content-encoding"), answer.field("vary")), (None, None));
            node.settled().await;
        }
    }
}
