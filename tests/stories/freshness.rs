//! Stale answers: validated, served while refreshed, served when the origin fails.

use crate::common::{Barrier, Node, Origin, reply, turns};
use futures_util::future::join_all;

const ETAG: &str = "ETag: \"one\"";
/// An answer with these fields is stale when it comes.
const STALE: [&str; 3] = ["Cache-Control: max-age=10", "Age: 20", ETAG];

#[tokio::test]
async fn a_304_renews_freshness_and_fields() {
    let origin = Origin::start().await;
    origin.says_in_turn(
        "/x",
        [
            reply(200, &[STALE[0], STALE[1], ETAG, "X-Step: first", "X-Kept: yes"], "body"),
            reply(304, &["Cache-Control: max-age=60", ETAG, "X-Step: second"], ""),
        ],
    );
    let node = Node::before(&origin).await;
    node.warm("/x").await;

    let revalidated = node.get("/x").await;
    revalidated.assert_is(200, "body");
    let status = revalidated.cache_status();
    assert!(status.starts_with("edge; fwd=stale; fwd-status=304; stored; ttl=60"), "{status}");
    assert_eq!(revalidated.field("x-step"), Some("second"));
    assert_eq!(revalidated.field("x-kept"), Some("yes"));
    assert_eq!(revalidated.field("content-length"), Some("4"));
    assert_eq!(origin.asked("/x")[1].field("if-none-match"), Some("\"one\""));

    node.settled().await;
    let hit = node.get("/x").await;
    hit.assert_is(200, "body");
    hit.assert_hit();
    assert_eq!(hit.field("x-step"), Some("second"));
    assert_eq!(origin.count("/x"), 2);
}

#[tokio::test]
async fn a_200_to_a_validation_replaces_what_was_stored() {
    let origin = Origin::start().await;
    origin.says_in_turn(
        "/x",
        [
            reply(200, &STALE, "old"),
            reply(200, &["Cache-Control: max-age=60", "ETag: \"two\""], "new and longer"),
        ],
    );
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    node.warm("/x").await.assert_is(200, "new and longer");
    let hit = node.get("/x").await;
    hit.assert_is(200, "new and longer");
    hit.assert_hit();
}

#[tokio::test]
async fn a_304_for_another_version_is_not_believed() {
    let origin = Origin::start().await;
    origin.says_in_turn(
        "/x",
        [
            reply(200, &STALE, "old"),
            reply(304, &["Cache-Control: max-age=60", "ETag: \"two\""], ""),
            reply(200, &["Cache-Control: max-age=60", "ETag: \"two\""], "new"),
        ],
    );
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    node.get("/x").await.assert_is(200, "new");
    let asked = origin.asked("/x");
    assert_eq!(asked[1].field("if-none-match"), Some("\"one\""));
    assert_eq!(asked[2].field("if-none-match"), None, "asked again without conditions");
}

#[tokio::test]
async fn many_waiters_cost_one_validation() {
    let (origin, barrier) = (Origin::start().await, Barrier::closed());
    let held = barrier.clone();
    origin.script("/x", move |mut exchange| {
        let held = held.clone();
        async move {
            if exchange.nth == 0 {
                exchange.send(reply(200, &STALE, "body")).await;
            } else {
                held.pass().await;
                exchange.send(reply(304, &["Cache-Control: max-age=60", ETAG], "")).await;
            }
            exchange
        }
    });
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    let mut clients = join_all((0..50).map(|_| node.begin("GET", "/x", &[]))).await;
    turns().await;
    barrier.open();
    let replies = join_all(clients.iter_mut().map(|client| client.reply("GET"))).await;
    replies.iter().for_each(|reply| reply.assert_is(200, "body"));
    assert_eq!(origin.count("/x"), 2);
    assert!(replies.iter().any(|reply| reply.cache_status().contains("collapsed")), "nobody waited");
}

#[tokio::test]
async fn stale_while_revalidate_answers_at_once_and_refreshes_behind() {
    let (origin, barrier) = (Origin::start().await, Barrier::closed());
    let held = barrier.clone();
    origin.script("/x", move |mut exchange| {
        let held = held.clone();
        async move {
            if exchange.nth == 0 {
                let control = "Cache-Control: max-age=10, stale-while-revalidate=60";
                exchange.send(reply(200, &[control, "Age: 20", ETAG], "old")).await;
            } else {
                held.pass().await;
                exchange.send(reply(200, &["Cache-Control: max-age=60"], "new")).await;
            }
            exchange
        }
    });
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    for _ in 0..3 {
        let stale = node.get("/x").await;
        stale.assert_is(200, "old");
        assert!(
            stale.cache_status().ends_with("; detail=stale_while_revalidate"),
            "{}",
            stale.cache_status()
        );
    }
    origin.asked_times("/x", 2).await;
    assert_eq!(origin.asked("/x")[1].field("if-none-match"), Some("\"one\""));
    barrier.open();
    node.settled().await;
    let hit = node.get("/x").await;
    hit.assert_is(200, "new");
    hit.assert_hit();
    assert_eq!(origin.count("/x"), 2, "one refresh for three answers");
}

#[tokio::test]
async fn a_refresh_behind_that_fails_leaves_the_stale_answer() {
    let origin = Origin::start().await;
    let control = "Cache-Control: max-age=10, stale-while-revalidate=600";
    origin.says_in_turn("/x", [reply(200, &[control, "Age: 20"], "old"), reply(503, &[], "down")]);
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    for _ in 0..2 {
        node.get("/x").await.assert_is(200, "old");
        node.settled().await;
    }
}

#[tokio::test]
async fn a_failing_origin_is_stood_in_for_by_what_is_stale() {
    for status in [500, 502, 503, 504] {
        let origin = Origin::start().await;
        origin.says_in_turn("/x", [reply(200, &STALE, "old"), reply(status, &[], "failure")]);
        let node = Node::before(&origin).await;
        node.warm("/x").await;
        let stale = node.get("/x").await;
        stale.assert_is(200, "old");
        let expected = format!("edge; fwd=stale; fwd-status={status}; ttl=-");
        assert!(stale.cache_status().starts_with(&expected), "{}", stale.cache_status());
        assert!(stale.cache_status().ends_with("; detail=stale_if_error"), "{}", stale.cache_status());
    }
}

#[tokio::test]
async fn an_origin_that_refuses_connections_is_stood_in_for_by_what_is_stale() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &STALE, "old"));
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    origin.stop().await;
    let stale = node.get("/x").await;
    stale.assert_is(200, "old");
    assert!(
        stale.cache_status().starts_with("edge; fwd=stale; ttl=-"),
        "no status: {}",
        stale.cache_status()
    );
    assert!(stale.cache_status().ends_with("; detail=stale_if_error"), "{}", stale.cache_status());
    let failed = node.get("/unknown").await;
    assert_eq!(failed.status, 502);
}

#[tokio::test]
async fn other_errors_of_the_origin_are_handed_on() {
    let origin = Origin::start().await;
    origin.says_in_turn("/x", [reply(200, &STALE, "old"), reply(404, &[], "gone")]);
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    node.get("/x").await.assert_is(404, "gone");
}

#[tokio::test]
async fn must_revalidate_is_never_served_stale() {
    for control in ["max-age=10, must-revalidate", "max-age=10, proxy-revalidate", "s-maxage=10", "no-cache"]
    {
        let origin = Origin::start().await;
        let control = format!("Cache-Control: {control}");
        origin.says_in_turn("/x", [reply(200, &[&control, "Age: 20", ETAG], "old"), reply(503, &[], "down")]);
        let node = Node::before(&origin).await;
        node.warm("/x").await;
        node.get("/x").await.assert_is(503, "down");
    }
}

#[tokio::test]
async fn a_stale_window_of_zero_is_obeyed() {
    let origin = Origin::start().await;
    let control = "Cache-Control: max-age=10, stale-if-error=0";
    origin.says_in_turn("/x", [reply(200, &[control, "Age: 20", ETAG], "old"), reply(503, &[], "down")]);
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    node.get("/x").await.assert_is(503, "down");
}

#[tokio::test]
async fn only_if_cached_never_asks_the_origin() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &["Cache-Control: max-age=60"], "body"));
    origin.says("/stale", reply(200, &STALE, "body"));
    let node = Node::before(&origin).await;
    let only = ["Cache-Control: only-if-cached"];
    assert_eq!(node.ask("GET", "/x", &only).await.status, 504);
    assert_eq!(origin.count_all(), 0);
    node.warm("/x").await;
    node.warm("/stale").await;
    node.ask("GET", "/x", &only).await.assert_hit();
    assert_eq!(node.ask("GET", "/stale", &only).await.status, 504);
    assert_eq!(origin.count_all(), 2);
}

#[tokio::test]
async fn a_client_may_demand_a_validation() {
    for demand in ["Cache-Control: no-cache", "Cache-Control: max-age=0", "Pragma: no-cache"] {
        let origin = Origin::start().await;
        origin.says_in_turn(
            "/x",
            [
                reply(200, &["Cache-Control: max-age=60", ETAG], "body"),
                reply(304, &["Cache-Control: max-age=60", ETAG], ""),
            ],
        );
        let node = Node::before(&origin).await;
        node.warm("/x").await;
        let revalidated = node.ask("GET", "/x", &[demand]).await;
        revalidated.assert_is(200, "body");
        let status = revalidated.cache_status();
        assert!(status.contains("; fwd=request; fwd-status=304;"), "{demand}: {status}");
        assert_eq!(origin.asked("/x")[1].field("if-none-match"), Some("\"one\""), "{demand}");
    }
}

/// RFC 9211 §2.2: `request` is for what is fresh, and only the request would not have it.
#[tokio::test]
async fn the_reason_to_go_forward_is_the_same_whatever_the_origin_answers() {
    const FRESH: [&str; 2] = ["Cache-Control: max-age=60", ETAG];
    const UNSURE: [&str; 2] = ["Cache-Control: no-cache, max-age=60", ETAG];
    for (stored, demand, fwd) in [
        (&FRESH[..], Some("Cache-Control: no-cache"), "request"),
        (&FRESH, Some("Cache-Control: max-age=0"), "request"),
        (&FRESH, Some("Cache-Control: min-fresh=90"), "request"),
        (&UNSURE, None, "stale"),
        (&STALE, None, "stale"),
        (&STALE, Some("Cache-Control: no-cache"), "stale"),
    ] {
        for method in ["GET", "HEAD"] {
            for status in [200, 304, 404] {
                let origin = Origin::start().await;
                let answer = if status == 304 && method == "HEAD" { 200 } else { status };
                origin.says_in_turn("/x", [reply(200, stored, "body"), reply(answer, stored, "")]);
                let node = Node::before(&origin).await;
                node.warm("/x").await;
                let forwarded = node.ask(method, "/x", demand.as_slice()).await;
                let expected = format!("edge; fwd={fwd}; fwd-status={answer};");
                let told = forwarded.cache_status();
                assert!(told.starts_with(&expected), "{demand:?} {method} {status}: {told}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_may_accept_what_is_stale() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &STALE, "body"));
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    let stale = node.ask("GET", "/x", &["Cache-Control: max-stale=600"]).await;
    stale.assert_is(200, "body");
    stale.assert_hit();
    assert_eq!(origin.count("/x"), 1);
}

#[tokio::test]
async fn demands_of_clients_can_be_switched_off() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &["Cache-Control: max-age=60"], "body"));
    let node = Node::with(&origin, "[cache]\nhonour_request_directives = false").await;
    node.warm("/x").await;
    node.ask("GET", "/x", &["Cache-Control: no-cache"]).await.assert_hit();
}

#[tokio::test]
async fn lifetimes_come_from_the_most_specific_field() {
    let origin = Origin::start().await;
    for (target, fields, ttl) in [
        ("/a", vec!["Cache-Control: max-age=10, s-maxage=20"], 20),
        ("/b", vec!["Cache-Control: no-store", "CDN-Cache-Control: max-age=30"], 30),
        ("/c", vec!["Cache-Control: max-age=10", "Surrogate-Control: max-age=40"], 40),
        ("/d", vec!["Date: Sun, 01 Nov 2099 10:00:00 GMT", "Expires: Sun, 01 Nov 2099 10:00:50 GMT"], 50),
    ] {
        origin.says(target, reply(200, &fields, "body"));
        let node = Node::before(&origin).await;
        let status = node.get(target).await.cache_status().to_owned();
        assert!(status.contains(&format!("stored; ttl={ttl};")), "{target}: {status}");
    }
}

#[tokio::test]
async fn what_says_nothing_of_its_lifetime_is_not_stored_without_a_date_of_change() {
    let origin = Origin::start().await;
    origin.says("/none", reply(200, &[], "body"));
    origin.says("/guess", reply(200, &["Last-Modified: Sun, 01 Nov 2020 10:00:00 GMT"], "body"));
    let node = Node::before(&origin).await;
    for target in ["/none", "/guess"] {
        node.warm(target).await;
        node.warm(target).await;
    }
    assert_eq!((origin.count("/none"), origin.count("/guess")), (2, 1));
}
