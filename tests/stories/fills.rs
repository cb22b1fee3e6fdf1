//! One fetch for many: what requests for a cold key share, and what they never do.

use crate::common::origin::{chunk, head};
use crate::common::{Barrier, Node, Origin, content, reply, turns};
use futures_util::future::join_all;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const FRESH: &str = "Cache-Control: max-age=60";

#[tokio::test]
async fn a_thousand_requests_for_a_cold_key_cost_the_origin_one() {
    const CROWD: usize = 1000;
    let body = content(100_000);
    let (origin, barrier) = (Origin::start().await, Barrier::closed());
    let (sent, held) = (reply(200, &[FRESH], &body), barrier.clone());
    origin.script("/x", move |mut exchange| {
        let (sent, held) = (sent.clone(), held.clone());
        async move {
            held.pass().await;
            exchange.send(&sent).await;
            exchange
        }
    });
    let node = Node::with(&origin, "[limits]\nconnections = 4000").await;
    let mut clients = join_all((0..CROWD).map(|_| node.begin("GET", "/x", &[]))).await;
    turns().await;
    barrier.open();
    let replies = join_all(clients.iter_mut().map(|client| client.reply("GET"))).await;
    for reply in &replies {
        reply.assert_is(200, &body);
    }
    assert_eq!(origin.count("/x"), 1);
    let first = replies.iter().filter(|reply| reply.cache_status().contains("fwd-status")).count();
    let collapsed = replies.iter().filter(|reply| reply.cache_status().contains("collapsed")).count();
    let hits = replies.iter().filter(|reply| reply.cache_status().contains("; hit")).count();
    assert_eq!((first, collapsed + hits), (1, CROWD - 1));
    assert!(collapsed > 0, "nobody waited");
}

#[tokio::test]
async fn bytes_flow_while_they_are_fetched() {
    let body = content(200_000);
    let (origin, barrier) = (Origin::start().await, Barrier::closed());
    let (sent, held) = (reply(200, &[FRESH], &body), barrier.clone());
    origin.script("/x", move |mut exchange| {
        let (sent, held) = (sent.clone(), held.clone());
        async move {
            let half = sent.len() - 100_000;
            exchange.send(&sent[..half]).await;
            held.pass().await;
            exchange.send(&sent[half..]).await;
            exchange
        }
    });
    let node = Node::before(&origin).await;
    let mut first = node.begin("GET", "/x", &[]).await;
    first.head().await.unwrap();
    crate::common::assert_same(&first.read_exactly(100_000).await, &body[..100_000]);
    // One that joins in the middle gets the bytes from the start, at once.
    let mut second = node.begin("GET", "/x", &[]).await;
    second.head().await.unwrap();
    crate::common::assert_same(&second.read_exactly(100_000).await, &body[..100_000]);
    barrier.open();
    crate::common::assert_same(&first.read_exactly(100_000).await, &body[100_000..]);
    crate::common::assert_same(&second.read_exactly(100_000).await, &body[100_000..]);
    assert_eq!(origin.count("/x"), 1);
}

#[tokio::test]
async fn the_client_that_began_a_fill_may_leave() {
    let body = content(100_000);
    let (origin, barrier) = (Origin::start().await, Barrier::closed());
    let (sent, held) = (reply(200, &[FRESH], &body), barrier.clone());
    origin.script("/x", move |mut exchange| {
        let (sent, held) = (sent.clone(), held.clone());
        async move {
            exchange.send(&sent[..50_000]).await;
            held.pass().await;
            exchange.send(&sent[50_000..]).await;
            exchange
        }
    });
    let node = Node::before(&origin).await;
    let mut first = node.begin("GET", "/x", &[]).await;
    first.head().await.unwrap();
    let mut second = node.begin("GET", "/x", &[]).await;
    let head = second.head().await.unwrap();
    drop(first);
    turns().await;
    barrier.open();
    crate::common::assert_same(&second.body(&head).await.bytes, &body);
    node.settled().await;
    node.get("/x").await.assert_hit();
    assert_eq!(origin.count("/x"), 1);
}

#[tokio::test]
async fn a_small_fill_that_everybody_left_is_finished_and_kept() {
    let (origin, barrier) = (Origin::start().await, Barrier::closed());
    let held = barrier.clone();
    origin.script("/x", move |mut exchange| {
        let held = held.clone();
        async move {
            held.pass().await;
            exchange.send(reply(200, &[FRESH], "body")).await;
            exchange
        }
    });
    let node = Node::before(&origin).await;
    let client = node.begin("GET", "/x", &[]).await;
    origin.asked_times("/x", 1).await;
    drop(client);
    turns().await;
    barrier.open();
    node.settled().await;
    let hit = node.get("/x").await;
    hit.assert_is(200, "body");
    hit.assert_hit();
}

#[tokio::test]
async fn an_origin_that_hangs_up_before_its_head_is_502_for_everyone_and_asked_again_later() {
    let (origin, barrier, heals) =
        (Origin::start().await, Barrier::closed(), Arc::new(AtomicBool::new(false)));
    let (held, healed) = (barrier.clone(), Arc::clone(&heals));
    origin.script("/x", move |mut exchange| {
        let (held, healed) = (held.clone(), Arc::clone(&healed));
        async move {
            held.pass().await;
            if healed.load(Ordering::Relaxed) {
                exchange.send(reply(200, &[FRESH], "body")).await;
            } else {
                exchange.close();
            }
            exchange
        }
    });
    let node = Node::with(&origin, "retries = 0\nfail_max = 1000").await;
    let mut clients = join_all((0..5).map(|_| node.begin("GET", "/x", &[]))).await;
    origin.asked_times("/x", 1).await;
    turns().await;
    barrier.open();
    for client in &mut clients {
        let reply = client.reply("GET").await;
        assert_eq!((reply.status, reply.is_whole), (502, true));
        assert_eq!(reply.field("cache-control"), Some("no-store"));
        assert!(reply.field("x-request-id").is_some());
        assert!(reply.cache_status().starts_with("edge; detail="), "{}", reply.cache_status());
    }
    heals.store(true, Ordering::Relaxed);
    node.get("/x").await.assert_is(200, "body");
}

#[tokio::test]
async fn a_body_that_is_cut_cuts_everyone_and_is_not_stored() {
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let (origin, barrier) = (Origin::start().await, Barrier::closed());
        let held = barrier.clone();
        origin.script("/x", move |mut exchange| {
            let held = held.clone();
            async move {
                if exchange.nth > 0 {
                    exchange.send(reply(200, &[FRESH], "body")).await;
                    return exchange;
                }
                let half = [b'a'; 50];
                exchange.send(head(200, &[FRESH, framing])).await;
                exchange.send(if framing.contains("chunked") { chunk(half) } else { half.to_vec() }).await;
                held.pass().await;
                exchange.close();
                exchange
            }
        });
        let node = Node::before(&origin).await;
        let mut clients = join_all((0..3).map(|_| node.begin("GET", "/x", &[]))).await;
        let mut heads = Vec::new();
        for client in &mut clients {
            heads.push(client.head().await.unwrap());
        }
        barrier.open();
        for (client, head) in clients.iter_mut().zip(&heads) {
            let body = client.body(head).await;
            assert!(!body.is_whole, "{framing}: an end that was none");
            assert_eq!(body.bytes, [b'a'; 50], "{framing}");
        }
        assert_eq!(origin.count("/x"), 1, "{framing}");
        node.settled().await;
        node.get("/x").await.assert_is(200, "body");
        assert_eq!(origin.count("/x"), 2, "{framing}: a cut body was stored");
    }
}

#[tokio::test]
async fn requests_for_an_uncacheable_key_are_not_serialised() {
    const OTHERS: usize = 8;
    let (origin, first_may_end, all_are_there) =
        (Origin::start().await, Barrier::closed(), Barrier::closed());
    let (first, all) = (first_may_end.clone(), all_are_there.clone());
    origin.script("/x", move |mut exchange| {
        let (first, all) = (first.clone(), all.clone());
        async move {
            match exchange.nth {
                0 => first.pass().await,
                // Answers none of the others before all of them have asked.
                OTHERS => all.open(),
                _ => {}
            }
            if exchange.nth > 0 {
                all.pass().await;
            }
            let body = exchange.nth.to_string();
            exchange.send(reply(200, &["Cache-Control: no-store"], body)).await;
            exchange
        }
    });
    let node = Node::before(&origin).await;
    let mut clients = join_all((0..=OTHERS).map(|_| node.begin("GET", "/x", &[]))).await;
    turns().await;
    first_may_end.open();
    let replies = join_all(clients.iter_mut().map(|client| client.reply("GET"))).await;
    let mut bodies: Vec<usize> = replies.iter().map(|reply| reply.text().parse().unwrap()).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, (0..=OTHERS).collect::<Vec<_>>(), "each answer goes to one client");
    assert_eq!(origin.count("/x"), OTHERS + 1);
}

#[tokio::test]
async fn a_key_remembered_as_uncacheable_is_not_waited_for() {
    let (origin, all_are_there) = (Origin::start().await, Barrier::closed());
    let all = all_are_there.clone();
    origin.script("/x", move |mut exchange| {
        let all = all.clone();
        async move {
            match exchange.nth {
                0 => {}
                2 => all.open(),
                _ => all.pass().await,
            }
            exchange.send(reply(200, &["Cache-Control: private"], "mine")).await;
            exchange
        }
    });
    let node = Node::before(&origin).await;
    let first = node.get("/x").await;
    first.assert_is(200, "mine");
    assert_eq!(first.cache_status(), "edge; fwd=uri-miss; fwd-status=200; detail=private");
    assert_eq!(node.explain("http://site.test/x").await["remembered_uncacheable"], true);
    let mut clients = join_all((0..2).map(|_| node.begin("GET", "/x", &[]))).await;
    for client in &mut clients {
        client.reply("GET").await.assert_is(200, "mine");
    }
    assert_eq!(node.metric("shoal_origin_fetches_total{site=\"default\",reason=\"uncacheable\"}"), 2.0);
}

#[tokio::test]
async fn a_failure_of_the_origin_does_not_make_a_key_uncacheable() {
    let origin = Origin::start().await;
    origin.says_in_turn("/x", [reply(503, &[], "down"), reply(200, &[FRESH], "up")]);
    let node = Node::before(&origin).await;
    node.get("/x").await.assert_is(503, "down");
    assert_eq!(node.explain("http://site.test/x").await["remembered_uncacheable"], false);
    node.warm("/x").await.assert_is(200, "up");
    node.get("/x").await.assert_hit();
}

#[tokio::test]
async fn what_one_request_forbids_is_not_remembered_of_the_key() {
    let origin = Origin::start().await;
    origin.script("/x", |mut exchange| async move {
        let part = [FRESH, "Content-Range: bytes 20000000-20000003/30000000"];
        let answer = match exchange.asked.field("range") {
            Some(_) => reply(206, &part, "part"),
            None => reply(200, &[FRESH], "body"),
        };
        exchange.send(answer).await;
        exchange
    });
    let node = Node::before(&origin).await;
    for field in ["Cache-Control: no-store", "Authorization: Basic eDp5", "Range: bytes=20000000-"] {
        assert!(node.ask("GET", "/x", &[field]).await.is_whole);
        node.settled().await;
        assert_eq!(node.explain("http://site.test/x").await["remembered_uncacheable"], false, "{field}");
    }
}

#[tokio::test]
async fn nobody_waits_for_a_request_that_forbids_to_store() {
    let (origin, all_are_there) = (Origin::start().await, Barrier::closed());
    let all = all_are_there.clone();
    origin.script("/x", move |mut exchange| {
        let all = all.clone();
        async move {
            if exchange.asked.field("cache-control") == Some("no-store") {
                all.pass().await;
            }
            exchange.send(reply(200, &[FRESH], "body")).await;
            exchange
        }
    });
    let node = Node::before(&origin).await;
    let mut forbids = node.begin("GET", "/x", &["Cache-Control: no-store"]).await;
    turns().await;
    node.get("/x").await.assert_is(200, "body");
    all_are_there.open();
    forbids.reply("GET").await.assert_is(200, "body");
}

#[tokio::test]
async fn a_key_that_turns_cacheable_is_stored_again() {
    let origin = Origin::start().await;
    origin.says_in_turn("/x", [reply(200, &["Cache-Control: no-store"], "one"), reply(200, &[FRESH], "two")]);
    let node = Node::before(&origin).await;
    node.warm("/x").await.assert_is(200, "one");
    node.warm("/x").await.assert_is(200, "two");
    let hit = node.get("/x").await;
    hit.assert_is(200, "two");
    hit.assert_hit();
    assert_eq!(node.explain("http://site.test/x").await["remembered_uncacheable"], false);
}

#[tokio::test]
async fn variants_are_kept_side_by_side() {
    let origin = Origin::start().await;
    origin.script("/x", |mut exchange| async move {
        let language = exchange.asked.field("accept-language").unwrap_or("none").to_owned();
        exchange.send(reply(200, &[FRESH, "Vary: Accept-Language"], language)).await;
        exchange
    });
    let node = Node::before(&origin).await;
    for language in ["de", "en", "fr"] {
        let fields = [&*format!("Accept-Language: {language}")];
        node.ask("GET", "/x", &fields).await.assert_is(200, language);
        node.settled().await;
    }
    for language in ["fr", "de", "en"] {
        let hit = node.ask("GET", "/x", &[&format!("Accept-Language: {language}")]).await;
        hit.assert_is(200, language);
        hit.assert_hit();
    }
    let other = node.get("/x").await;
    other.assert_is(200, "none");
    assert!(other.cache_status().contains("fwd=vary-miss"), "{}", other.cache_status());
    assert_eq!(origin.count("/x"), 4);
}

#[tokio::test]
async fn a_request_that_waited_for_another_variant_gets_its_own() {
    let (origin, barrier) = (Origin::start().await, Barrier::closed());
    let held = barrier.clone();
    origin.script("/x", move |mut exchange| {
        let held = held.clone();
        async move {
            if exchange.nth == 0 {
                held.pass().await;
            }
            let language = exchange.asked.field("accept-language").unwrap_or("none").to_owned();
            exchange.send(reply(200, &[FRESH, "Vary: Accept-Language"], language)).await;
            exchange
        }
    });
    let node = Node::before(&origin).await;
    let languages = ["de", "en", "en", "de", "fr"];
    let fields = languages.map(|language| format!("Accept-Language: {language}"));
    let mut clients = Vec::new();
    for field in &fields {
        clients.push(node.begin("GET", "/x", &[field]).await);
        turns().await;
    }
    assert_eq!(origin.count("/x"), 1, "Vary is not known yet, so all wait");
    barrier.open();
    for (client, language) in clients.iter_mut().zip(languages) {
        client.reply("GET").await.assert_is(200, language);
    }
    assert_eq!(origin.count("/x"), 3, "one fetch for each variant");
}

#[tokio::test]
async fn what_varies_on_everything_is_never_stored() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH, "Vary: *"], "body"));
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    assert!(node.get("/x").await.cache_status().ends_with("detail=vary_star"));
    assert_eq!(origin.count("/x"), 2);
}

#[tokio::test]
async fn a_crowd_is_served_once_more_when_the_object_is_gone() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH], "body"));
    origin.says("/y", reply(204, &[], ""));
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    node.ask("DELETE", "/x", &[]).await;
    let replies = join_all((0..10).map(|_| node.get("/x"))).await;
    replies.iter().for_each(|reply| reply.assert_is(200, "body"));
    assert_eq!(origin.count("/x"), 3, "GET, DELETE, and one GET for ten");
}
