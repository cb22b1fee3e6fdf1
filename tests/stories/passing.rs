//! What the cache has no part in, and what unsafe methods do to it.

use crate::common::origin::{chunk, head};
use crate::common::{Barrier, Node, Origin, assert_same, content, reply, turns};

const FRESH: &str = "Cache-Control: max-age=60";

#[tokio::test]
async fn an_upload_with_a_length_arrives_whole() {
    let body = content(8 << 20);
    let origin = Origin::start().await;
    let expected = body.clone();
    origin.script("/x", move |mut exchange| {
        let expected = expected.clone();
        async move {
            assert_same(&exchange.body().await, &expected);
            exchange.send(reply(201, &[], "kept")).await;
            exchange
        }
    });
    let node = Node::before(&origin).await;
    let mut client = node.begin("PUT", "/x", &[&format!("Content-Length: {}", body.len())]).await;
    client.send(&body).await;
    let reply = client.reply("PUT").await;
    reply.assert_is(201, "kept");
    assert!(reply.cache_status().contains("fwd=method; fwd-status=201"), "{}", reply.cache_status());
    let asked = &origin.asked("/x")[0];
    assert_eq!((asked.method.as_str(), asked.field("content-length")), ("PUT", Some("8388608")));
}

#[tokio::test]
async fn an_upload_flows_while_it_is_sent() {
    let origin = Origin::start().await;
    origin.script("/x", |mut exchange| async move {
        // Answers before the upload has ended, so nothing may be waiting for its end.
        exchange.send(head(200, &["Transfer-Encoding: chunked"])).await;
        let mut seen = Vec::new();
        while !seen.ends_with(b"0\r\n\r\n") {
            let bytes = exchange.read_some().await;
            assert!(!bytes.is_empty(), "the upload was cut: {}", seen.escape_ascii());
            seen.extend_from_slice(&bytes);
            exchange.send(chunk(b"seen")).await;
        }
        exchange.send(chunk(b"")).await;
        exchange
    });
    let node = Node::before(&origin).await;
    let mut client = node.begin("POST", "/x", &["Transfer-Encoding: chunked"]).await;
    client.head().await.unwrap();
    for part in ["one", "two", "three"] {
        client.send(chunk(part)).await;
        assert_eq!(client.chunk().await.unwrap(), b"seen");
    }
    client.send(chunk(b"")).await;
    while !client.chunk().await.unwrap().is_empty() {}
}

#[tokio::test]
async fn an_upload_beyond_the_limit_is_413() {
    let origin = Origin::start().await;
    origin.script("/x", |mut exchange| async move {
        exchange.body().await;
        exchange.send(reply(200, &[], "")).await;
        exchange
    });
    let node = Node::with(&origin, "[limits]\nbody_bytes = \"10KiB\"").await;

    let stated = node.ask("POST", "/x", &["Content-Length: 10241"]).await;
    assert_eq!((stated.status, stated.field("connection")), (413, Some("close")));
    assert_eq!(origin.count_all(), 0, "refused by its length alone");

    let mut client = node.begin("POST", "/x", &["Transfer-Encoding: chunked"]).await;
    client.send_anyway(chunk(vec![b'a'; 8192])).await;
    client.send_anyway(chunk(vec![b'a'; 8192])).await;
    assert_eq!(client.reply("POST").await.status, 413);

    let mut client = node.begin("POST", "/x", &["Content-Length: 10240"]).await;
    client.send(vec![b'a'; 10240]).await;
    client.reply("POST").await.assert_is(200, "");
}

#[tokio::test]
async fn an_upload_that_breaks_off_never_looks_whole_to_the_origin() {
    let (origin, ended) = (Origin::start().await, Barrier::closed());
    let told = ended.clone();
    origin.script("/x", move |mut exchange| {
        let told = told.clone();
        async move {
            let body = exchange.framed_body().await;
            assert!(!body.is_whole, "{} bytes of 100", body.bytes.len());
            told.open();
            exchange
        }
    });
    let node = Node::before(&origin).await;
    let mut client = node.begin("POST", "/x", &["Content-Length: 100"]).await;
    client.send([b'a'; 50]).await;
    origin.asked_times("/x", 1).await;
    drop(client);
    crate::common::in_time("the origin to see the cut", ended.pass()).await;
}

#[tokio::test]
async fn a_client_that_expects_100_is_told_to_continue() {
    let origin = Origin::start().await;
    origin.script("/x", |mut exchange| async move {
        exchange.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        let body = exchange.body().await;
        exchange.send(reply(200, &[], body)).await;
        exchange
    });
    origin.script("/deaf", |mut exchange| async move {
        let body = exchange.body().await;
        exchange.send(reply(200, &[], body)).await;
        exchange
    });
    let node = Node::before(&origin).await;
    let mut client = node.begin("PUT", "/x", &["Content-Length: 4", "Expect: 100-continue"]).await;
    assert_eq!(client.head().await.unwrap().line, "HTTP/1.1 100 Continue");
    client.send("body").await;
    client.reply("PUT").await.assert_is(200, "body");

    // An origin that does not know the expectation waits for the body, and gets it.
    let mut client = node.begin("PUT", "/deaf", &["Content-Length: 4", "Expect: 100-continue"]).await;
    client.send("body").await;
    assert_eq!(client.head().await.unwrap().line, "HTTP/1.1 100 Continue");
    client.reply("PUT").await.assert_is(200, "body");
}

#[tokio::test]
async fn an_origin_that_refuses_by_the_head_alone_gets_nothing_of_the_body() {
    let (origin, closed) = (Origin::start().await, Barrier::closed());
    let told = closed.clone();
    origin.script("/x", move |mut exchange| {
        let told = told.clone();
        async move {
            exchange.send(reply(417, &[], "no")).await;
            assert_eq!(
                exchange.read_some().await,
                b"",
                "the connection is closed, since the body is still owed"
            );
            told.open();
            exchange
        }
    });
    let node = Node::before(&origin).await;
    let mut client = node.begin("PUT", "/x", &["Content-Length: 4", "Expect: 100-continue"]).await;
    client.send_anyway("body").await;
    client.reply("PUT").await.assert_is(417, "no");
    crate::common::in_time("the origin's connection to be closed", closed.pass()).await;
}

#[tokio::test]
async fn an_expectation_without_a_body_goes_no_further() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[], ""));
    let node = Node::before(&origin).await;
    node.ask("POST", "/x", &["Content-Length: 0", "Expect: 100-continue"]).await.assert_is(200, "");
    assert_eq!(origin.asked("/x")[0].field("expect"), None);
}

#[tokio::test]
async fn origins_see_one_cookie_field() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[], ""));
    let node = Node::before(&origin).await;
    node.ask("GET", "/x", &["Cookie: a=b", "Cookie: c=d"]).await.assert_is(200, "");
    assert_eq!(origin.asked("/x")[0].field("cookie"), Some("a=b; c=d"));
}

#[tokio::test]
async fn a_get_with_a_body_passes_and_is_not_cached() {
    let origin = Origin::start().await;
    origin.script("/x", |mut exchange| async move {
        let body = exchange.body().await;
        exchange.send(reply(200, &[FRESH], body)).await;
        exchange
    });
    let node = Node::before(&origin).await;
    for body in ["one", "two"] {
        let mut client = node.begin("GET", "/x", &["Content-Length: 3"]).await;
        client.send(body).await;
        let reply = client.reply("GET").await;
        reply.assert_is(200, body);
        assert!(reply.cache_status().ends_with("detail=body_on_get"), "{}", reply.cache_status());
    }
    node.get("/x").await.assert_is(200, "");
    assert_eq!(origin.count("/x"), 3);
}

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel_both_ways_after_101() {
    let origin = Origin::start().await;
    origin.script("/chat", |mut exchange| async move {
        assert_eq!(exchange.asked.field("upgrade"), Some("websocket"));
        exchange.send(head(101, &["Connection: Upgrade", "Upgrade: websocket"])).await;
        exchange.send("hello ").await;
        loop {
            let bytes = exchange.read_some().await;
            if bytes.is_empty() {
                exchange.close();
                return exchange;
            }
            exchange.send(bytes.to_ascii_uppercase()).await;
        }
    });
    let node = Node::before(&origin).await;
    let mut client = node.begin("GET", "/chat", &["Connection: Upgrade", "Upgrade: websocket"]).await;
    let head = client.head().await.unwrap();
    assert!(head.line.starts_with("HTTP/1.1 101 "), "{}", head.line);
    assert_eq!(head.field("upgrade"), Some("websocket"));
    assert_eq!(client.read_exactly(6).await, b"hello ");
    for word in ["one", "two"] {
        client.send(word).await;
        assert_eq!(client.read_exactly(3).await, word.to_uppercase().as_bytes());
    }
    // A tunnel counts against the limits of connections for as long as it is open.
    assert_eq!(node.metric("shoal_connections_open{listener=\"http\"}"), 1.0);
    client.end_writing().await;
    assert_eq!(client.read_to_end().await, b"");
}

#[tokio::test]
async fn without_101_there_is_no_tunnel() {
    let origin = Origin::start().await;
    origin.says("/chat", reply(403, &[], "no"));
    origin.says("/x", reply(200, &[FRESH], "body"));
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    let mut client = node.connect().await;
    let refused = client.ask("GET", "/chat", &["Connection: Upgrade", "Upgrade: websocket"]).await;
    refused.assert_is(403, "no");
    // What follows is a request of its own, seen by this node.
    client.get("/x").await.assert_hit();
    assert_eq!(origin.count_all(), 2);
}

#[tokio::test]
async fn trailers_pass() {
    let origin = Origin::start().await;
    origin.script("/x", |mut exchange| async move {
        let fields = ["Cache-Control: no-store", "Transfer-Encoding: chunked", "Trailer: X-Sum"];
        exchange.send(head(200, &fields)).await;
        exchange.send(chunk(b"body")).await;
        exchange.send("0\r\nX-Sum: 42\r\n\r\n").await;
        exchange
    });
    let node = Node::before(&origin).await;
    let reply = node.ask("GET", "/x", &["TE: trailers", "Connection: TE"]).await;
    reply.assert_is(200, "body");
    let trailers: Vec<_> =
        reply.trailers.iter().map(|(name, value)| (name.to_lowercase(), value.as_str())).collect();
    assert_eq!(trailers, [("x-sum".to_owned(), "42")]);
}

#[tokio::test]
async fn server_sent_events_arrive_one_by_one() {
    let (origin, next) = (Origin::start().await, std::sync::Arc::new(tokio::sync::Semaphore::new(0)));
    let permits = std::sync::Arc::clone(&next);
    origin.script("/events", move |mut exchange| {
        let permits = std::sync::Arc::clone(&permits);
        async move {
            let fields =
                ["Content-Type: text/event-stream", "Cache-Control: no-cache", "Transfer-Encoding: chunked"];
            exchange.send(head(200, &fields)).await;
            for event in 0..3 {
                permits.acquire().await.unwrap().forget();
                exchange.send(chunk(format!("data: {event}\n\n"))).await;
            }
            exchange.send(chunk(b"")).await;
            exchange
        }
    });
    let node = Node::before(&origin).await;
    let mut client = node.begin("GET", "/events", &["Accept: text/event-stream"]).await;
    client.head().await.unwrap();
    for event in 0..3 {
        next.add_permits(1);
        assert_eq!(client.chunk().await.unwrap(), format!("data: {event}\n\n").as_bytes());
    }
    assert_eq!(client.chunk().await.unwrap(), b"");
}

#[tokio::test]
async fn a_rule_may_leave_the_cache_out() {
    let origin = Origin::start().await;
    origin.says("/api/x", reply(200, &[FRESH], "body"));
    let node = Node::with(&origin, "[[site.rules]]\npath = \"/api/*\"\npass = true").await;
    for _ in 0..2 {
        let reply = node.get("/api/x").await;
        assert!(reply.cache_status().starts_with("edge; fwd=bypass"), "{}", reply.cache_status());
    }
    assert_eq!(origin.count("/api/x"), 2);
}

#[tokio::test]
async fn query_parameters_that_do_not_count_are_neither_in_the_key_nor_sent() {
    let origin = Origin::start().await;
    origin.says("/x?id=1", reply(200, &[FRESH], "body"));
    let node = Node::with(&origin, "[[site.rules]]\npath = \"/*\"\nquery = { only = [\"id\"] }").await;
    node.warm("/x?utm=a&id=1").await;
    node.get("/x?id=1&utm=b").await.assert_hit();
}

#[tokio::test]
async fn unsafe_methods_that_succeed_invalidate() {
    for (method, status, is_gone) in [
        ("POST", 200, true),
        ("PUT", 204, true),
        ("DELETE", 202, true),
        ("PATCH", 303, true),
        ("BREW", 200, true),
        ("POST", 400, false),
        ("PUT", 500, false),
        ("OPTIONS", 200, false),
    ] {
        let origin = Origin::start().await;
        origin.script("/x", move |mut exchange| async move {
            exchange.body().await;
            let answer = match exchange.asked.method.as_str() {
                "GET" => reply(200, &[FRESH], "body"),
                _ if status == 204 => head(204, &[]),
                _ => reply(status, &[], ""),
            };
            exchange.send(answer).await;
            exchange
        });
        let node = Node::before(&origin).await;
        node.warm("/x").await;
        assert_eq!(node.ask(method, "/x", &[]).await.status, status);
        node.get("/x").await.assert_is(200, "body");
        let fetches = if is_gone { 3 } else { 2 };
        assert_eq!(origin.count("/x"), fetches, "{method} {status}");
    }
}

/// Answers POST with `fields` and "posted", and everything else with "got".
fn posts(origin: &Origin, target: &str, fields: &'static [&'static str]) {
    origin.script(target, move |mut exchange| async move {
        exchange.body().await;
        exchange
            .send(match exchange.asked.method.as_str() {
                "POST" => reply(200, fields, "posted"),
                _ => reply(200, &[FRESH], "got"),
            })
            .await;
        exchange
    });
}

#[tokio::test]
async fn the_answer_to_a_post_is_stored_when_it_says_to_be_the_target() {
    let origin = Origin::start().await;
    posts(&origin, "/x?a=b", &[FRESH, "Content-Location: /x?a=b", "Connection: X-Hop", "X-Hop: 1"]);
    let node = Node::before(&origin).await;
    node.warm("/x?a=b").await;
    let posted = node.ask("POST", "/x?a=b", &[]).await;
    posted.assert_is(200, "posted");
    assert_eq!((posted.field("x-hop"), posted.field("content-length")), (None, Some("6")));
    assert_eq!(posted.cache_status(), "edge; fwd=method; fwd-status=200; stored; detail=method");
    let got = node.get("/x?a=b").await;
    got.assert_hit();
    got.assert_is(200, "posted");
    node.ask("POST", "/x?a=b", &[]).await.assert_is(200, "posted");
    assert_eq!(origin.count("/x?a=b"), 3, "a POST is never answered from the store");
}

#[tokio::test]
async fn other_answers_to_post_are_not_stored() {
    let cases: [(&str, &'static [&'static str]); 6] = [
        ("/no-location", &[FRESH]),
        ("/other", &[FRESH, "Content-Location: /else"]),
        ("/other-host", &[FRESH, "Content-Location: http://other.test/other-host"]),
        ("/no-lifetime", &["Content-Location: /no-lifetime", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"]),
        ("/no-store", &["Cache-Control: no-store", "Content-Location: /no-store"]),
        ("/private", &["Cache-Control: private, max-age=60", "Content-Location: /private"]),
    ];
    for (target, fields) in cases {
        let origin = Origin::start().await;
        posts(&origin, target, fields);
        let node = Node::before(&origin).await;
        node.ask("POST", target, &[]).await.assert_is(200, "posted");
        node.get(target).await.assert_is(200, "got");
    }
}

#[tokio::test]
async fn the_answer_to_a_post_that_another_write_overtook_is_not_stored() {
    let (origin, barrier) = (Origin::start().await, Barrier::closed());
    let held = barrier.clone();
    origin.script("/x", move |mut exchange| {
        let held = held.clone();
        async move {
            let answer = match exchange.asked.method.as_str() {
                "POST" => {
                    held.pass().await;
                    reply(200, &[FRESH, "Content-Location: /x"], "old")
                }
                "PUT" => reply(204, &[], ""),
                _ => reply(200, &[FRESH], "new"),
            };
            exchange.send(answer).await;
            exchange
        }
    });
    let node = Node::before(&origin).await;
    let mut posting = node.begin("POST", "/x", &[]).await;
    origin.asked_times("/x", 1).await;
    assert_eq!(node.ask("PUT", "/x", &[]).await.status, 204);
    barrier.open();
    posting.reply("POST").await.assert_is(200, "old");
    node.get("/x").await.assert_is(200, "new");
}

#[tokio::test]
async fn an_unsafe_method_invalidates_what_location_names_on_the_same_host_alone() {
    let origin = Origin::start().await;
    for target in ["/located", "/described", "/elsewhere"] {
        origin.says(target, reply(200, &[FRESH], "body"));
    }
    origin
        .says("/x", reply(201, &["Location: /located", "Content-Location: http://site.test/described"], ""));
    origin.says("/y", reply(201, &["Location: http://other.test/elsewhere"], ""));
    let node = Node::before(&origin).await;
    for target in ["/located", "/described", "/elsewhere"] {
        node.warm(target).await;
    }
    node.ask("POST", "/x", &[]).await;
    node.ask("POST", "/y", &[]).await;
    for target in ["/located", "/described", "/elsewhere"] {
        node.get(target).await;
    }
    let counts = ["/located", "/described", "/elsewhere"].map(|target| origin.count(target));
    assert_eq!(counts, [2, 2, 1]);
}

#[tokio::test]
async fn a_fill_begun_before_an_invalidation_is_neither_joined_nor_stored() {
    let (origin, barrier) = (Origin::start().await, Barrier::closed());
    let held = barrier.clone();
    origin.script("/x", move |mut exchange| {
        let held = held.clone();
        async move {
            match (exchange.asked.method.as_str(), exchange.nth) {
                ("GET", 0) => {
                    exchange.send(head(200, &[FRESH, "Content-Length: 6"])).await;
                    exchange.send("old").await;
                    held.pass().await;
                    exchange.send("old").await;
                }
                ("GET", _) => exchange.send(reply(200, &[FRESH], "newnew")).await,
                _ => exchange.send(reply(200, &[], "done")).await,
            }
            exchange
        }
    });
    let node = Node::before(&origin).await;
    let mut before = node.begin("GET", "/x", &[]).await;
    let head = before.head().await.unwrap();
    node.ask("POST", "/x", &[]).await.assert_is(200, "done");
    node.get("/x").await.assert_is(200, "newnew");
    barrier.open();
    assert_eq!(before.body(&head).await.bytes, b"oldold", "whoever read it before goes on");
    node.settled().await;
    let hit = node.get("/x").await;
    hit.assert_is(200, "newnew");
    hit.assert_hit();
}

#[tokio::test]
async fn a_fill_that_has_no_head_yet_is_not_joined_after_an_invalidation() {
    let (origin, barrier) = (Origin::start().await, Barrier::closed());
    let held = barrier.clone();
    origin.script("/x", move |mut exchange| {
        let held = held.clone();
        async move {
            match (exchange.asked.method.as_str(), exchange.nth) {
                ("GET", 0) => {
                    held.pass().await;
                    exchange.send(reply(200, &[FRESH], "old")).await;
                }
                ("GET", _) => exchange.send(reply(200, &[FRESH], "new")).await,
                _ => exchange.send(reply(200, &[], "done")).await,
            }
            exchange
        }
    });
    let node = Node::before(&origin).await;
    let mut before = node.begin("GET", "/x", &[]).await;
    origin.asked_times("/x", 1).await;
    node.ask("POST", "/x", &[]).await;
    node.get("/x").await.assert_is(200, "new");
    barrier.open();
    assert_eq!(before.reply("GET").await.status, 200);
    turns().await;
    node.settled().await;
    node.get("/x").await.assert_is(200, "new");
}

#[tokio::test]
async fn a_fetch_of_its_own_that_an_invalidation_overtakes_is_not_stored() {
    let (origin, barrier) = (Origin::start().await, Barrier::closed());
    let held = barrier.clone();
    origin.script("/x", move |mut exchange| {
        let held = held.clone();
        async move {
            match (exchange.asked.method.as_str(), exchange.asked.field("cookie")) {
                ("GET", Some(_)) => {
                    held.pass().await;
                    exchange.send(reply(200, &[FRESH], "old")).await;
                }
                ("GET", None) => exchange.send(reply(200, &[FRESH], "new")).await,
                _ => exchange.send(reply(200, &[], "done")).await,
            }
            exchange
        }
    });
    let node = Node::before(&origin).await;
    // With a cookie, and on a key that is unknown: waits for nobody, and is listed for nobody.
    let mut before = node.begin("GET", "/x", &["Cookie: a=1"]).await;
    origin.asked_times("/x", 1).await;
    node.ask("POST", "/x", &[]).await;
    barrier.open();
    before.reply("GET").await.assert_is(200, "old");
    node.settled().await;
    node.get("/x").await.assert_is(200, "new");
}

#[tokio::test]
async fn the_origin_is_told_about_the_client_and_not_by_it() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH], "body"));
    let node = Node::before(&origin).await;
    let fields = [
        "X-Forwarded-For: 1.2.3.4",
        "X-Forwarded-Host: evil.test",
        "X-Original-URL: /admin",
        "X-HTTP-Method-Override: DELETE",
        "X-Custom: kept",
        "Connection: keep-alive, X-Private",
        "X-Private: for this hop",
        "Via: 1.1 before",
    ];
    node.ask("GET", "/x", &fields).await.assert_is(200, "body");
    let asked = &origin.asked("/x")[0];
    assert_eq!(asked.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(asked.field("x-forwarded-host"), Some("site.test"));
    assert_eq!(asked.field("x-forwarded-proto"), Some("http"));
    assert_eq!(asked.field("via"), Some("1.1 before, 1.1 edge"));
    assert_eq!(asked.field("cdn-loop"), Some("edge"));
    assert_eq!(asked.field("x-custom"), Some("kept"));
    for gone in ["x-original-url", "x-http-method-override", "x-private"] {
        assert_eq!(asked.field(gone), None, "{gone}");
    }
}

#[tokio::test]
async fn an_options_with_hops_left_goes_on_with_one_less_and_one_without_is_answered_here() {
    let origin = Origin::start().await;
    origin.otherwise(|mut exchange| async move {
        let hops = exchange.asked.field("max-forwards").unwrap_or("none").to_owned();
        exchange.send(reply(200, &[], hops)).await;
        exchange
    });
    let node = Node::before(&origin).await;
    for (target, hops, seen) in
        [("/x", "3", "2"), ("*", "1", "0"), ("/x", "soon", "soon"), ("/x", "3, 4", "3, 4")]
    {
        node.ask("OPTIONS", target, &[&format!("Max-Forwards: {hops}")]).await.assert_is(200, seen);
    }
    for target in ["/x", "*"] {
        let own = node.ask("OPTIONS", target, &["Max-Forwards: 0"]).await;
        own.assert_is(200, "");
        assert_eq!((own.cache_status(), own.field("content-length")), ("edge; detail=last_hop", Some("0")));
    }
    node.ask("POST", "/x", &["Max-Forwards: 0", "Content-Length: 0"]).await.assert_is(200, "0");
    assert_eq!(origin.count("/x") + origin.count("*"), 5, "what was answered here did not reach it");
}
