//! What is one client's must never be another's.

use crate::common::{Barrier, Node, Origin, reply, turns};
use futures_util::future::join_all;

const FRESH: &str = "Cache-Control: max-age=60";

/// Answers with the client's cookie or credentials, and nobody before `count` have asked.
fn personal(origin: &Origin, target: &str, count: usize, fields: &'static [&'static str]) {
    let all_are_there = Barrier::closed();
    origin.script(target, move |mut exchange| {
        let all = all_are_there.clone();
        async move {
            if exchange.nth + 1 >= count {
                all.open();
            }
            all.pass().await;
            let asked = &exchange.asked;
            let who =
                asked.field("cookie").or_else(|| asked.field("authorization")).unwrap_or("nobody").to_owned();
            exchange.send(reply(200, fields, who)).await;
            exchange
        }
    });
}

#[tokio::test]
async fn requests_with_cookies_do_not_wait_for_one_another_on_an_unknown_key() {
    let origin = Origin::start().await;
    personal(&origin, "/x", 3, &["Cache-Control: private"]);
    let node = Node::before(&origin).await;
    let cookies = ["a=1", "a=2", "a=3"].map(|cookie| (cookie, format!("Cookie: {cookie}")));
    let replies = join_all(cookies.iter().map(|(cookie, field)| {
        let node = &node;
        async move { (*cookie, node.ask("GET", "/x", &[field]).await) }
    }));
    for (cookie, reply) in replies.await {
        reply.assert_is(200, cookie);
    }
}

#[tokio::test]
async fn requests_with_cookies_share_a_fetch_of_a_key_known_as_storable() {
    let (origin, barrier) = (Origin::start().await, Barrier::closed());
    let held = barrier.clone();
    origin.script("/x", move |mut exchange| {
        let held = held.clone();
        async move {
            if exchange.nth > 0 {
                held.pass().await;
            }
            exchange.send(reply(200, &["Cache-Control: max-age=10", "Age: 20"], "shared")).await;
            exchange
        }
    });
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    let mut clients = Vec::new();
    for cookie in ["Cookie: a=1", "Cookie: a=2", "Cookie: a=3"] {
        clients.push(node.begin("GET", "/x", &[cookie]).await);
    }
    turns().await;
    assert_eq!(origin.count("/x"), 2);
    barrier.open();
    for client in &mut clients {
        client.reply("GET").await.assert_is(200, "shared");
    }
    assert_eq!(origin.count("/x"), 2);
}

#[tokio::test]
async fn a_rule_may_let_requests_with_cookies_share_from_the_start() {
    let (origin, barrier) = (Origin::start().await, Barrier::closed());
    let held = barrier.clone();
    origin.script("/static/x", move |mut exchange| {
        let held = held.clone();
        async move {
            held.pass().await;
            exchange.send(reply(200, &[FRESH], "shared")).await;
            exchange
        }
    });
    let node = Node::with(&origin, "[[site.rules]]\npath = \"/static/*\"\ncoalesce_cookies = true").await;
    let mut clients = Vec::new();
    for cookie in ["Cookie: a=1", "Cookie: a=2"] {
        clients.push(node.begin("GET", "/static/x", &[cookie]).await);
    }
    turns().await;
    barrier.open();
    for client in &mut clients {
        client.reply("GET").await.assert_is(200, "shared");
    }
    assert_eq!(origin.count("/static/x"), 1);
}

#[tokio::test]
async fn requests_with_authorization_go_alone_and_their_answers_are_kept_from_others() {
    let origin = Origin::start().await;
    personal(&origin, "/x", 2, &[FRESH]);
    let node = Node::before(&origin).await;
    let (a, b) = tokio::join!(
        node.ask("GET", "/x", &["Authorization: Basic a"]),
        node.ask("GET", "/x", &["Authorization: Basic b"]),
    );
    a.assert_is(200, "Basic a");
    b.assert_is(200, "Basic b");
    assert!(a.cache_status().ends_with("detail=authorization"), "{}", a.cache_status());
    node.settled().await;
    node.get("/x").await.assert_is(200, "nobody");
}

#[tokio::test]
async fn an_answer_to_authorization_is_shared_when_it_says_so() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &["Cache-Control: public, max-age=60"], "for all"));
    let node = Node::before(&origin).await;
    node.ask("GET", "/x", &["Authorization: Basic a"]).await.assert_is(200, "for all");
    node.settled().await;
    node.get("/x").await.assert_hit();
}

#[tokio::test]
async fn a_private_answer_reaches_nobody_who_waited_for_it() {
    let (origin, barrier) = (Origin::start().await, Barrier::closed());
    let held = barrier.clone();
    origin.script("/x", move |mut exchange| {
        let held = held.clone();
        async move {
            if exchange.nth == 0 {
                held.pass().await;
            }
            let fields = ["Cache-Control: private, max-age=60", &*format!("Set-Cookie: id={}", exchange.nth)];
            let answer = reply(200, &fields, exchange.nth.to_string());
            exchange.send(answer).await;
            exchange
        }
    });
    let node = Node::before(&origin).await;
    let mut clients = join_all((0..4).map(|_| node.begin("GET", "/x", &[]))).await;
    turns().await;
    barrier.open();
    let mut seen = Vec::new();
    for client in &mut clients {
        let reply = client.reply("GET").await;
        assert_eq!(reply.field("set-cookie"), Some(&*format!("id={}", reply.text())));
        seen.push(reply.text().to_owned());
    }
    seen.sort();
    assert_eq!(seen, ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn set_cookie_is_stored_only_when_the_answer_says_that_it_is_shared() {
    let origin = Origin::start().await;
    let cookie = "Set-Cookie: id=7";
    for (target, control, fetches) in [
        ("/plain", "Cache-Control: max-age=60", 2),
        ("/public", "Cache-Control: public, max-age=60", 1),
        ("/shared", "Cache-Control: s-maxage=60", 1),
        ("/targeted", "CDN-Cache-Control: max-age=60", 1),
    ] {
        origin.says(target, reply(200, &[control, cookie], "body"));
        let node = Node::before(&origin).await;
        node.warm(target).await;
        assert_eq!(node.warm(target).await.field("set-cookie"), Some("id=7"));
        assert_eq!(origin.count(target), fetches, "{target}");
    }
}

#[tokio::test]
async fn fields_that_are_private_by_name_reach_the_client_that_asked_alone() {
    let origin = Origin::start().await;
    let fields = [
        "Cache-Control: max-age=60, private=\"set-cookie\", no-cache=\"x-user\"",
        "Set-Cookie: a=1",
        "Set-Cookie: b=2",
        "X-User: me",
        "X-All: us",
    ];
    origin.says("/x", reply(200, &fields, "body"));
    let node = Node::before(&origin).await;
    let first = node.get("/x").await;
    assert_eq!(first.head.fields_named("set-cookie"), ["a=1", "b=2"]);
    assert_eq!((first.field("x-user"), first.field("x-all")), (Some("me"), Some("us")));
    let second = node.get("/x").await;
    second.assert_hit();
    assert_eq!((second.field("set-cookie"), second.field("x-user")), (None, None));
    assert_eq!(second.field("x-all"), Some("us"));
}

#[tokio::test]
async fn the_rfc_profile_stores_set_cookie() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH, "Set-Cookie: id=7"], "body"));
    let node = Node::with(&origin, "[cache]\nprofile = \"rfc\"").await;
    node.warm("/x").await;
    node.get("/x").await.assert_hit();
}

#[tokio::test]
async fn no_store_of_a_request_keeps_its_answer_out() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH], "body"));
    let node = Node::before(&origin).await;
    node.ask("GET", "/x", &["Cache-Control: no-store"]).await.assert_is(200, "body");
    node.settled().await;
    assert!(node.get("/x").await.cache_status().contains("fwd="));
}
