//! Forwarding loops: a request that comes back is answered 508 at its first return, and nothing of that is stored.

use super::{raw, telling};
use crate::common::client::{HOST, request};
use crate::common::node::toml;
use crate::common::{Node, Origin};
use std::net::SocketAddr;

fn named(name: &str, origin: SocketAddr) -> String {
    toml(origin, "").replace("\"edge\"", &format!("\"{name}\""))
}

#[tokio::test]
async fn a_node_that_is_its_own_origin_answers_508_after_one_turn() {
    let origin = Origin::start().await;
    let node = Node::before(&origin).await;
    node.reload(&toml(node.doors[0], "")).unwrap();
    for round in 1..=3 {
        for method in ["GET", "POST"] {
            let answer = node.ask(method, "/x", &[]).await;
            assert_eq!(answer.status, 508, "{}", answer.text());
            node.settled().await;
        }
        assert_eq!(node.metric("shoal_requests_refused_total{reason=\"loop\"}"), 2.0 * f64::from(round));
    }
    // Out of the loop again, nothing of it is left.
    let telling = telling().await;
    node.reload(&toml(telling.at, "")).unwrap();
    assert!(node.get("/x").await.cache_status().contains("fwd=uri-miss"));
}

#[tokio::test]
async fn two_nodes_that_are_one_anothers_origins_answer_508_after_one_turn() {
    let origin = Origin::start().await;
    let (one, two) = (Node::of(&named("one", origin.at)).await, Node::of(&named("two", origin.at)).await);
    one.reload(&named("one", two.doors[0])).unwrap();
    two.reload(&named("two", one.doors[0])).unwrap();
    for (node, other) in [(&one, &two), (&two, &one)] {
        let before = [node, other].map(|node| node.metric("shoal_requests_total{"));
        assert_eq!(node.get("/x").await.status, 508);
        node.settled().await;
        other.settled().await;
        let after = [node, other].map(|node| node.metric("shoal_requests_total{"));
        assert_eq!([after[0] - before[0], after[1] - before[1]], [2.0, 1.0]);
    }
    assert_eq!(origin.count_all(), 0);
}

#[tokio::test]
async fn the_marks_of_a_loop_cannot_be_hidden_and_are_read_over_all_lines() {
    let origin = telling().await;
    let node = Node::before(&origin).await;
    for fields in [
        &["Connection: Via, CDN-Loop", "Via: 1.1 edge"][..],
        &["Connection: cdn-loop", "CDN-Loop: edge"],
        &["CDN-Loop: a", "CDN-Loop: b, edge"],
        &["Via: 1.1 a", "Via: 2 b, 1.1 EDGE (comment)"],
        &["Via: HTTP/1.1   edge"],
        &["CDN-Loop: \t edge\t;v=1"],
        &["Via: 1.1 a,,1.1 edge"],
    ] {
        let answer = raw(&node, request("GET", "/x", fields)).await;
        assert_eq!(answer.status, 508, "{fields:?}");
    }
    assert_eq!(origin.count_all(), 0);
    let fields = ["Connection: Via, CDN-Loop", "Via: 1.1 other", "CDN-Loop: other"];
    raw(&node, request("GET", "/x", &fields)).await;
    let asked = &origin.asked("/x")[0];
    assert_eq!(
        (asked.field("via"), asked.field("cdn-loop")),
        (Some("1.1 other, 1.1 edge"), Some("other, edge"))
    );
    // Others are not shut out by what only looks like a mark.
    for field in ["CDN-Loop: edge-2", "Via: edge", "X-Via: 1.1 edge", "CDN-Loop: a; edge"] {
        let answer = raw(&node, format!("GET /x HTTP/1.1\r\nHost: {HOST}\r\n{field}\r\n\r\n")).await;
        assert_eq!(answer.status, 200, "{field}");
    }
}
