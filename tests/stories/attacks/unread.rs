//! Bodies that nobody reads, and bytes that come before they may: what is behind a request is its own body or a request of
//! the same client, never anybody else's.

use super::{FRESH, telling};
use crate::common::client::{Client, HOST, request};
use crate::common::origin::head;
use crate::common::{Barrier, Node, Origin, reply, turns};

/// What an attacker would have taken for a request.
fn smuggled() -> Vec<u8> {
    request("GET", "/smuggled", &["X-Smuggled: yes"])
}

/// `method` of `target` whose body is [`smuggled`], with a length or in chunks.
fn with_body(method: &str, target: &str, fields: &[&str], in_chunks: bool) -> Vec<u8> {
    let body = smuggled();
    let (framing, body) = if in_chunks {
        let chunked = [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
        ("Transfer-Encoding: chunked".to_owned(), chunked)
    } else {
        (format!("Content-Length: {}", body.len()), body)
    };
    [request(method, target, &[fields, &[&*framing]].concat()), body].concat()
}

/// The answers on a connection until it is closed or `/last` was answered.
async fn answers(client: &mut Client) -> Vec<(u16, String)> {
    let mut all = Vec::new();
    while let Some(head) = client.head().await {
        let status = crate::common::client::status(&head);
        if status == 100 {
            continue;
        }
        let body = client.body(&head).await.bytes;
        let text = String::from_utf8_lossy(&body).into_owned();
        let is_last = text.contains("/last");
        all.push((status, text));
        if is_last {
            break;
        }
    }
    all
}

#[tokio::test]
async fn a_body_behind_a_get_of_what_is_stored_is_no_request() {
    let origin = telling().await;
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    let cases: [(&str, &[&str]); 6] = [
        ("GET", &[]),
        ("HEAD", &[]),
        ("GET", &["Expect: 100-continue"]),
        ("GET", &["Cache-Control: only-if-cached"]),
        ("GET", &["If-None-Match: *"]),
        ("GET", &["Range: bytes=0-0"]),
    ];
    for (method, fields) in cases {
        for in_chunks in [false, true] {
            let mut client = node.connect().await;
            client.send_anyway(with_body(method, "/x", fields, in_chunks)).await;
            client.send_anyway(request("GET", "/last", &[])).await;
            if method == "HEAD" {
                assert_eq!(client.reply("HEAD").await.status, 200);
            }
            let rest = answers(&mut client).await;
            let most = if method == "HEAD" { 1 } else { 2 };
            assert!(rest.len() <= most, "{method} {fields:?} {in_chunks}: {rest:?}");
            let hit = node.get("/x").await;
            hit.assert_hit();
            assert!(!hit.text().contains("smuggled"), "{}", hit.text());
        }
    }
    assert_eq!(origin.count("/smuggled"), 0);
    assert!(origin.all_asked().iter().all(|asked| asked.field("x-smuggled").is_none()));
}

#[tokio::test]
async fn a_body_that_the_origin_does_not_wait_for_is_no_request_of_anybody() {
    let origin = telling().await;
    // Answers at once, and leaves the body where it is.
    origin.script("/early", |mut exchange| async move {
        exchange.send(reply(200, &["Cache-Control: no-store"], "early")).await;
        exchange
    });
    let node = Node::before(&origin).await;
    let mut client = node.connect().await;
    let body = smuggled();
    let length = format!("Content-Length: {}", body.len() + 1);
    client.send(request("POST", "/early", &[&*length])).await;
    client.reply("POST").await.assert_is(200, "early");
    client.send_anyway(&body).await;
    client.send_anyway("x").await;
    client.send_anyway(request("GET", "/last", &[])).await;
    let rest = answers(&mut client).await;
    assert!(rest.len() <= 1, "{rest:?}");
    // The connection to the origin, in which the body may stand, serves nobody else.
    for _ in 0..3 {
        let other = node.ask("GET", "/other", &["Cache-Control: no-cache"]).await;
        assert!(other.text().starts_with("GET /other "), "{}", other.text());
    }
    assert_eq!(origin.count("/smuggled"), 0);
}

#[tokio::test]
async fn a_body_behind_what_this_node_answers_itself_is_no_request() {
    let origin = telling().await;
    let (folder, token) = (tempfile::tempdir().unwrap(), "secret");
    let file = folder.path().join("token");
    std::fs::write(&file, token).unwrap();
    let purge = format!("[site.purge]\nmethods = true\ntoken_file = \"{}\"", file.display());
    let node = Node::with(&origin, &purge).await;
    let cases: [(&str, &str, &[&str], u16); 5] = [
        ("PURGE", "/x", &["Authorization: Bearer secret"], 200),
        ("PURGE", "/x", &[], 403),
        ("GET", "/x", &["Via: 1.1 edge"], 508),
        ("TRACE", "/x", &[], 501),
        ("GET", "/%zz", &[], 400),
    ];
    for (method, target, fields, status) in cases {
        for in_chunks in [false, true] {
            let mut client = node.connect().await;
            client.send_anyway(with_body(method, target, fields, in_chunks)).await;
            client.send_anyway(request("GET", "/last", &[])).await;
            let all = answers(&mut client).await;
            assert_eq!(all[0].0, status, "{method} {target}: {all:?}");
            assert!(all.len() <= 2 && all[1..].iter().all(|(_, text)| text.contains("/last")), "{all:?}");
        }
    }
    assert_eq!(origin.count("/smuggled"), 0);
}

#[tokio::test]
async fn bytes_behind_an_upgrade_wait_for_101() {
    let (origin, switch) = (Origin::start().await, Barrier::closed());
    let held = switch.clone();
    origin.script("/chat", move |mut exchange| {
        let held = held.clone();
        async move {
            tokio::select! {
                biased;
                early = exchange.read_some() => panic!("before 101: {}", early.escape_ascii()),
                () = held.pass() => {}
            }
            exchange.send(head(101, &["Connection: Upgrade", "Upgrade: websocket"])).await;
            let bytes = exchange.read_some().await;
            exchange.send(bytes).await;
            exchange.close();
            exchange
        }
    });
    let node = Node::before(&origin).await;
    let mut client = node.begin("GET", "/chat", &["Connection: Upgrade", "Upgrade: websocket"]).await;
    client.send("frame").await;
    origin.asked_times("/chat", 1).await;
    turns().await;
    switch.open();
    assert!(client.head().await.unwrap().line.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.read_exactly(5).await, b"frame");
}

#[tokio::test]
async fn bytes_behind_an_upgrade_that_is_refused_are_requests_that_this_node_routes() {
    let (origin, refuse) = (telling().await, Barrier::closed());
    let held = refuse.clone();
    origin.script("/chat", move |mut exchange| {
        let held = held.clone();
        async move {
            held.pass().await;
            exchange.send(reply(200, &[FRESH], "no chat")).await;
            exchange
        }
    });
    let more = "[[site.rules]]\npath = \"/admin/*\"\npass = true";
    let node = Node::with(&origin, more).await;
    let mut client = node.begin("GET", "/chat", &["Connection: Upgrade", "Upgrade: websocket"]).await;
    // A tunnel would carry this to the origin as it is.
    client.send(format!("GET /admin/x HTTP/1.1\r\nHost: {HOST}\r\nX-Original-URL: /evil\r\n\r\n")).await;
    origin.asked_times("/chat", 1).await;
    turns().await;
    assert_eq!(origin.count("/admin/x"), 0);
    refuse.open();
    client.reply("GET").await.assert_is(200, "no chat");
    let routed = client.reply("GET").await;
    assert!(routed.cache_status().ends_with("detail=rule"), "{}", routed.cache_status());
    let asked = &origin.asked("/admin/x")[0];
    assert_eq!((asked.field("via"), asked.field("x-original-url")), (Some("1.1 edge"), None));
}
