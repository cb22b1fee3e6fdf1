//! Clients and origins that mean ill, or are broken in the same way.

use crate::common::client::{Client, request};
use crate::common::{Barrier, Node, Origin, reply, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const FRESH: &str = "Cache-Control: max-age=60";

async fn before_nothing(more: &str) -> (Origin, Node) {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH], "body"));
    let node = Node::with(&origin, more).await;
    (origin, node)
}

#[tokio::test]
async fn ambiguous_requests_are_400_and_closed_and_never_reach_the_origin() {
    let (origin, node) = before_nothing("").await;
    let (mut wrong, mut asked) = (Vec::new(), 0);
    for (what, bytes) in [
        ("no Host", "GET /x HTTP/1.1\r\n\r\n"),
        ("two Hosts", "GET /x HTTP/1.1\r\nHost: site.test\r\nHost: site.test\r\n\r\n"),
        ("a Host that is none", "GET /x HTTP/1.1\r\nHost: site test\r\n\r\n"),
        ("userinfo", "GET /x HTTP/1.1\r\nHost: a@site.test\r\n\r\n"),
        ("absolute form of another host", "GET http://other.test/x HTTP/1.1\r\nHost: site.test\r\n\r\n"),
        (
            "two lengths",
            "POST /x HTTP/1.1\r\nHost: site.test\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody",
        ),
        ("a signed length", "POST /x HTTP/1.1\r\nHost: site.test\r\nContent-Length: +4\r\n\r\nbody"),
        (
            "chunks that are not last",
            "POST /x HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        ),
        (
            "a coding that is none",
            "POST /x HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        ),
        ("a bare CR", "GET /x HTTP/1.1\r\nHost: site.test\r\nX-A: b\rc\r\n\r\n"),
        ("a NUL", "GET /x HTTP/1.1\r\nHost: site.test\r\nX-A: b\0c\r\n\r\n"),
        ("a space before the colon", "GET /x HTTP/1.1\r\nHost: site.test\r\nX-A : b\r\n\r\n"),
        ("a folded line", "GET /x HTTP/1.1\r\nHost: site.test\r\nX-A: b\r\n c\r\n\r\n"),
        ("a broken escape", "GET /%zz HTTP/1.1\r\nHost: site.test\r\n\r\n"),
        ("no target", "GET HTTP/1.1\r\nHost: site.test\r\n\r\n"),
        ("another protocol", "GET /x FTP/1.1\r\nHost: site.test\r\n\r\n"),
    ] {
        let mut client = node.connect().await;
        client.send_anyway(bytes).await;
        let answer = client.head().await.map(|head| head.line).unwrap_or_default();
        if !answer.starts_with("HTTP/1.1 400 ") || origin.count_all() > asked {
            wrong.push(format!("{what}: {answer:?}, the origin was asked {}", origin.count_all() - asked));
            asked = origin.count_all();
            continue;
        }
        client.read_to_end().await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_follows_a_refused_request_is_not_read_as_another() {
    let (origin, node) = before_nothing("").await;
    let mut client = node.connect().await;
    let smuggled = "GET /x HTTP/1.1\r\nHost: site.test\r\n\r\n";
    client
        .send_anyway(format!("POST /x HTTP/1.1\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len()))
        .await;
    let answer = client.read_to_end().await;
    assert_eq!(
        answer.windows(9).filter(|bytes| bytes == b"HTTP/1.1 ").count(),
        1,
        "{}",
        answer.escape_ascii()
    );
    assert_eq!(origin.count_all(), 0);
}

#[tokio::test]
async fn targets_and_heads_have_limits() {
    let (origin, node) = before_nothing("").await;
    let long = node.get(&format!("/{}", "a".repeat(9000))).await;
    assert_eq!(long.status, 414);
    let large = node.ask("GET", "/x", &[&format!("X-A: {}", "a".repeat(40_000))]).await;
    assert_eq!(large.status, 431);
    let fields = vec!["X-A: b"; 101];
    let mut client = node.connect().await;
    client.send_anyway(request("GET", "/x", &fields)).await;
    client.refused(431, "fields_too_large").await;
    // Far beyond what any head may have: answered and cut off, not buffered.
    for (begin, status, reason) in [
        ("GET /x HTTP/1.1\r\nHost: site.test\r\nX-A: ", 431, "fields_too_large"),
        ("GET /", 414, "uri_too_long"),
    ] {
        let mut client = node.connect().await;
        client.send_anyway(begin).await;
        client.send_anyway("a".repeat(512 << 10)).await;
        client.refused(status, reason).await;
    }
    assert_eq!(origin.count_all(), 0);
}

#[tokio::test]
async fn refusals_say_who_refused_and_why() {
    let (origin, node) = before_nothing("[limits]\nbody_bytes = \"1KiB\"").await;
    for (status, reason, reply) in [
        (414, "uri_too_long", node.get(&format!("/{}", "a".repeat(9000))).await),
        (508, "loop", node.ask("GET", "/x", &["Via: 1.1 edge"]).await),
        (413, "body_too_large", node.ask("POST", "/x", &["Content-Length: 2000"]).await),
        (504, "only_if_cached", node.ask("GET", "/x", &["Cache-Control: only-if-cached"]).await),
    ] {
        assert_eq!(reply.status, status);
        assert_eq!(reply.cache_status(), format!("edge; detail={reason}"));
        assert_eq!(reply.field("cache-control"), Some("no-store"));
        let id = reply.field("x-request-id").expect("an id to look for in the log");
        assert!(reply.text().contains(id));
    }
    assert_eq!(origin.count_all(), 0);
}

#[tokio::test]
async fn requests_that_came_through_this_node_before_are_508() {
    let (origin, node) = before_nothing("").await;
    for field in ["Via: 1.1 other, 2 EDGE", "CDN-Loop: other, edge; v=1"] {
        assert_eq!(node.ask("GET", "/x", &[field]).await.status, 508, "{field}");
    }
    node.ask("GET", "/x", &["Via: 1.1 edge2", "CDN-Loop: edges"]).await.assert_is(200, "body");
    assert_eq!(origin.count_all(), 1);
}

#[tokio::test]
async fn hosts_that_no_site_has_are_421() {
    let origin = Origin::start().await;
    let node = Node::of(&format!(
        "[node]\nname = \"edge\"\n[listen]\nhttp = [\"127.0.0.1:0\"]\n\
         [[site]]\nhosts = [\"other.test\"]\norigins = [\"http://{}\"]\n",
        origin.at
    ))
    .await;
    assert_eq!(node.get("/x").await.status, 421);
    assert_eq!(origin.count_all(), 0);
}

#[tokio::test]
async fn methods_that_no_reverse_proxy_serves_are_501() {
    let (origin, node) = before_nothing("").await;
    assert_eq!(node.ask("TRACE", "/x", &[]).await.status, 501);
    let mut client = node.connect().await;
    client.send("CONNECT site.test:443 HTTP/1.1\r\nHost: site.test:443\r\n\r\n").await;
    assert_eq!(client.reply("CONNECT").await.status, 501);
    assert_eq!(origin.count_all(), 0);
}

#[tokio::test]
async fn a_slow_head_is_408_and_a_client_that_says_nothing_is_told_nothing() {
    let (origin, node) = before_nothing("[limits]\nheader_timeout = \"150ms\"").await;
    // At the first request and at a later one.
    let mut client = node.connect().await;
    client.send("GET /x HTTP/1.1\r\nHost: si").await;
    client.refused(408, "slow_head").await;
    let mut client = node.connect().await;
    client.get("/x").await.assert_is(200, "body");
    client.send("GET /x HTTP/1.1\r\nHost: si").await;
    client.refused(408, "slow_head").await;
    let mut silent = node.connect().await;
    assert_eq!(silent.read_to_end().await, b"");
    assert_eq!(node.metric("shoal_requests_refused_total{reason=\"slow_head\"}"), 2.0);
    assert_eq!(origin.count_all(), 1);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let (_origin, node) = before_nothing("[limits]\nkeepalive_timeout = \"150ms\"").await;
    let mut client = node.connect().await;
    client.get("/x").await.assert_is(200, "body");
    assert_eq!(client.read_to_end().await, b"");
}

#[tokio::test]
async fn a_connection_has_a_number_of_requests() {
    let (_origin, node) = before_nothing("[limits]\nrequests_per_connection = 3").await;
    let mut client = node.connect().await;
    for number in 1..=3 {
        let reply = client.get("/x").await;
        reply.assert_is(200, "body");
        let last = reply.field("connection") == Some("close");
        assert_eq!(last, number == 3, "request {number}");
    }
    assert_eq!(client.read_to_end().await, b"");
}

#[tokio::test]
async fn bytes_behind_an_answer_poison_no_other() {
    let origin = Origin::start().await;
    let mut more = reply(200, &[FRESH], "body");
    more.extend_from_slice(&reply(200, &[FRESH], "evil"));
    origin.says("/x", more);
    origin.says("/y", reply(200, &[FRESH], "good"));
    let node = Node::before(&origin).await;
    node.warm("/x").await.assert_is(200, "body");
    node.warm("/y").await.assert_is(200, "good");
    node.get("/x").await.assert_is(200, "body");
    node.get("/y").await.assert_is(200, "good");
}

#[tokio::test]
async fn an_answer_to_head_with_a_body_poisons_no_other() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH], reply(200, &[FRESH], "evil")));
    origin.says("/y", reply(200, &[FRESH], "good"));
    let node = Node::before(&origin).await;
    node.ask("HEAD", "/x", &[]).await.assert_is(200, "");
    node.get("/y").await.assert_is(200, "good");
}

#[tokio::test]
async fn answers_that_are_no_http_are_502_and_not_stored() {
    for bytes in [
        "HELLO\r\n\r\n",
        "HTTP/1.1 999999 What\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\nCache-Control: max-age=60\r\n\r\nbody",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\nCache-Control: max-age=60\r\n\r\nbody",
        "HTTP/1.1 200 OK\r\nX-A : b\r\nContent-Length: 4\r\nCache-Control: max-age=60\r\n\r\nbody",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ] {
        let origin = Origin::start().await;
        origin.script("/x", move |mut exchange| async move {
            exchange.send(bytes).await;
            exchange.close();
            exchange
        });
        let node = Node::with(&origin, "fail_max = 1000").await;
        for _ in 0..2 {
            let reply = node.get("/x").await;
            assert_eq!(reply.status, 502, "{bytes:?}: {}", reply.text());
        }
    }
}

#[tokio::test]
async fn a_broken_chunk_cuts_the_answer_and_is_not_stored() {
    let origin = Origin::start().await;
    origin.script("/x", |mut exchange| async move {
        if exchange.nth == 0 {
            let head = crate::common::origin::head(200, &[FRESH, "Transfer-Encoding: chunked"]);
            exchange.send(head).await;
            exchange.send("4\r\nbody\r\nzz\r\nbody\r\n0\r\n\r\n").await;
        } else {
            exchange.send(reply(200, &[FRESH], "whole")).await;
        }
        exchange
    });
    let node = Node::before(&origin).await;
    let cut = node.get("/x").await;
    assert!(!cut.is_whole, "{}", cut.text());
    node.settled().await;
    node.get("/x").await.assert_is(200, "whole");
}

#[tokio::test]
async fn fields_of_one_hop_do_not_reach_the_client_or_the_store() {
    let origin = Origin::start().await;
    let fields =
        [FRESH, "Connection: X-Private", "X-Private: secret", "Keep-Alive: timeout=5", "X-Public: yes"];
    origin.says("/x", reply(200, &fields, "body"));
    let node = Node::before(&origin).await;
    for _ in 0..2 {
        let reply = node.warm("/x").await;
        assert_eq!((reply.field("x-private"), reply.field("keep-alive")), (None, None));
        assert_eq!(reply.field("x-public"), Some("yes"));
    }
}

#[tokio::test]
async fn an_origin_that_never_answers_is_504() {
    let origin = Origin::start().await;
    origin.script("/x", |mut exchange| async move {
        exchange.read_some().await;
        exchange
    });
    let node = Node::with(&origin, "first_byte_timeout = \"100ms\"\nretries = 0").await;
    assert_eq!(node.get("/x").await.status, 504);
}

#[tokio::test]
async fn an_origin_that_falls_silent_within_a_body_is_given_up() {
    let origin = Origin::start().await;
    origin.script("/x", |mut exchange| async move {
        exchange.send(crate::common::origin::head(200, &[FRESH, "Content-Length: 100"])).await;
        exchange.send("begin").await;
        exchange.read_some().await;
        exchange
    });
    let node = Node::with(&origin, "between_bytes_timeout = \"100ms\"").await;
    let cut = node.get("/x").await;
    assert_eq!((cut.is_whole, cut.text()), (false, "begin"));
}

#[tokio::test]
async fn an_http2_stream_whose_window_stays_shut_is_reset_and_the_connection_lives() {
    let (_origin, node) = before_nothing("[limits]\nidle_timeout = \"100ms\"").await;
    node.warm("/x").await;
    let mut client = node.connect().await;
    // SETTINGS_INITIAL_WINDOW_SIZE = 0, and GET /x on stream 1.
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    client.send(b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0").await;
    let fields = b"\x82\x86\x04\x02/x\x01\x09site.test";
    client.send([b"\0\0\x11\x01\x05\0\0\0\x01", &fields[..]].concat()).await;
    let mut seen = Vec::new();
    loop {
        let (kind, stream) = frame(&mut client).await;
        seen.push((kind, stream));
        if (kind, stream) == (3, 1) {
            break;
        }
    }
    assert!(seen.contains(&(1, 1)), "a head, without a window: {seen:?}");
    client.send(b"\0\0\x08\x06\0\0\0\0\0pingpong").await;
    assert_eq!(frame(&mut client).await, (6, 0), "the connection goes on");
}

/// Type and stream of the next HTTP/2 frame.
async fn frame(client: &mut Client) -> (u8, u8) {
    let head = client.read_exactly(9).await;
    client.read_exactly(usize::from(head[1]) << 8 | usize::from(head[2])).await;
    (head[3], head[8])
}

#[tokio::test]
async fn a_client_is_not_blamed_for_the_time_before_its_body_is_asked_for() {
    let (origin, barrier) = (Origin::start().await, Barrier::closed());
    let held = barrier.clone();
    origin.script("/slow", move |mut exchange| {
        let held = held.clone();
        async move {
            held.pass().await;
            exchange.send(reply(200, &["Cache-Control: no-store"], "late")).await;
            exchange
        }
    });
    origin.script("/x", |mut exchange| async move {
        let body = exchange.body().await;
        exchange.send(reply(200, &[], body)).await;
        exchange
    });
    let node = Node::with(&origin, "connections_max = 1\n[limits]\nidle_timeout = \"100ms\"").await;
    let mut first = node.begin("GET", "/slow", &[]).await;
    until("the only connection to be taken", || origin.count("/slow") == 1).await;
    let mut client = node.begin("POST", "/x", &["Content-Length: 4", "Expect: 100-continue"]).await;
    // Longer than a client may be silent, but this one has not been told to go on.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    barrier.open();
    first.reply("GET").await.assert_is(200, "late");
    assert_eq!(client.head().await.map(|head| head.line).as_deref(), Some("HTTP/1.1 100 Continue"));
    client.send("body").await;
    client.reply("POST").await.assert_is(200, "body");
}

/// A node before an origin that never answers `/hang`, and notes when it is given up.
async fn before_silence() -> (Origin, Node, Arc<AtomicUsize>) {
    let (origin, node) = before_nothing("").await;
    let given_up = Arc::new(AtomicUsize::new(0));
    let gone = Arc::clone(&given_up);
    origin.script("/hang", move |mut exchange| {
        let gone = Arc::clone(&gone);
        async move {
            while !exchange.read_some().await.is_empty() {}
            gone.fetch_add(1, Ordering::Relaxed);
            exchange.close();
            exchange
        }
    });
    (origin, node, given_up)
}

#[tokio::test]
async fn bytes_behind_a_request_do_not_hide_that_its_client_has_left() {
    let (origin, node, given_up) = before_silence().await;
    let mut ways = 0;
    for behind in ["", "G", "\r\n", "GET /x HTTP/1.1\r\nHost: site.test\r\n"] {
        for resets in [true, false] {
            let mut stream = TcpStream::connect(node.doors[0]).await.unwrap();
            let asked = [request("POST", "/hang", &["Content-Length: 4"]), b"body".to_vec()].concat();
            stream.write_all(&[&asked, behind.as_bytes()].concat()).await.unwrap();
            ways += 1;
            origin.asked_times("/hang", ways).await;
            // At once, and from bytes that come later.
            stream.write_all(behind.as_bytes()).await.unwrap();
            if resets {
                stream.set_zero_linger().unwrap();
            }
            drop(stream);
            let what = format!("the request to be given up: {behind:?}, reset: {resets}");
            until(&what, || given_up.load(Ordering::Relaxed) == ways).await;
        }
    }
    // A whole request behind it does not hide a reset either.
    let mut stream = TcpStream::connect(node.doors[0]).await.unwrap();
    let both = [request("GET", "/hang", &["Cache-Control: no-store"]), request("GET", "/x", &[])].concat();
    stream.write_all(&both).await.unwrap();
    origin.asked_times("/hang", ways + 1).await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    let busy = || node.metric("shoal_connections_open{listener=\"http\"}");
    until("the connection to end", || busy() == 0.0).await;
}

#[tokio::test]
async fn a_client_that_asks_ahead_and_ends_its_writing_is_answered_until_the_last() {
    let (origin, node) = before_nothing("").await;
    node.warm("/x").await;
    let (asked, barrier) = (Barrier::closed(), Barrier::closed());
    let (begun, held) = (asked.clone(), barrier.clone());
    origin.script("/slow", move |mut exchange| {
        let (begun, held) = (begun.clone(), held.clone());
        async move {
            begun.open();
            held.pass().await;
            exchange.send(reply(200, &["Cache-Control: no-store"], "late")).await;
            exchange
        }
    });
    let mut client = node.begin("GET", "/slow", &[]).await;
    asked.pass().await;
    client.send(request("GET", "/x", &[]).repeat(2)).await;
    client.end_writing().await;
    // Time to see the end, by far.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    barrier.open();
    client.reply("GET").await.assert_is(200, "late");
    client.reply("GET").await.assert_hit();
}
