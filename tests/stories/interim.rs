//! Interim responses (RFC 9110 §15.2, RFC 8297): told at once, to all who wait, and to nobody later.

use crate::common::client::{Client, request, status};
use crate::common::{Barrier, Node, Origin, in_time, reply};
use http::Request;
use shoal::task::Spawner;
use std::future::poll_fn;

const FRESH: &str = "Cache-Control: max-age=60";
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x-hop\r\nX-Hop: 1\r\n\
                     Set-Cookie: a=b\r\n\r\n";

/// An origin that sends hints for `/x`, and the response when the barrier opens.
async fn hinting(field: &'static str) -> (Origin, Node, Barrier) {
    let (origin, barrier) = (Origin::start().await, Barrier::closed());
    let held = barrier.clone();
    origin.script("/x", move |mut exchange| {
        let held = held.clone();
        async move {
            exchange.body().await;
            exchange.send(HINTS).await;
            held.pass().await;
            exchange.send(reply(200, &[field], "body")).await;
            exchange
        }
    });
    let node = Node::before(&origin).await;
    (origin, node, barrier)
}

async fn assert_hinted(client: &mut Client) {
    let head = client.head().await.expect("an interim response");
    assert_eq!(head.line, "HTTP/1.1 103 Early Hints");
    assert_eq!(head.fields, [("link".to_owned(), "</a.css>; rel=preload".to_owned())]);
}

#[tokio::test]
async fn early_hints_are_told_before_the_response_and_are_no_part_of_what_is_stored() {
    let (origin, node, barrier) = hinting(FRESH).await;
    let mut client = node.begin("GET", "/x", &[]).await;
    assert_hinted(&mut client).await;
    barrier.open();
    let reply = client.reply("GET").await;
    reply.assert_is(200, "body");
    assert_eq!((reply.field("link"), reply.field("set-cookie")), (None, None));
    node.settled().await;
    let hit = client.get("/x").await;
    hit.assert_hit();
    assert_eq!((hit.status, hit.field("link"), origin.count("/x")), (200, None, 1));
}

#[tokio::test]
async fn early_hints_of_what_is_not_stored_are_told_too() {
    let (_origin, node, barrier) = hinting("Cache-Control: no-store").await;
    barrier.open();
    for (method, fields) in
        [("GET", &[][..]), ("GET", &["Range: bytes=1-2"]), ("POST", &["Content-Length: 0"])]
    {
        let mut client = node.begin(method, "/x", fields).await;
        assert_hinted(&mut client).await;
        client.reply(method).await.assert_is(200, "body");
    }
}

#[tokio::test]
async fn all_who_wait_for_the_same_are_told() {
    let (origin, node, barrier) = hinting(FRESH).await;
    let mut clients = vec![node.begin("GET", "/x", &[]).await];
    assert_hinted(&mut clients[0]).await;
    // These come when the hints are there already.
    for _ in 0..3 {
        let mut client = node.begin("GET", "/x", &[]).await;
        assert_hinted(&mut client).await;
        clients.push(client);
    }
    barrier.open();
    for client in &mut clients {
        client.reply("GET").await.assert_is(200, "body");
    }
    assert_eq!(origin.count("/x"), 1);
}

#[tokio::test]
async fn a_client_of_http_1_0_is_told_nothing() {
    let (_origin, node, barrier) = hinting(FRESH).await;
    barrier.open();
    let mut client = node.connect().await;
    client.send("GET /x HTTP/1.0\r\nHost: site.test\r\n\r\n").await;
    client.reply("GET").await.assert_is(200, "body");
}

#[tokio::test]
async fn hints_stay_with_their_request_when_several_are_sent_at_once() {
    let (origin, node, barrier) = hinting("Cache-Control: no-store").await;
    origin.says("/plain", reply(200, &["Cache-Control: no-store"], "plain"));
    barrier.open();
    let mut client = node.connect().await;
    let flight = ["/x", "/plain", "/x", "/x"].map(|target| request("GET", target, &[])).concat();
    client.send(flight).await;
    for target in ["/x", "/plain", "/x", "/x"] {
        if target == "/x" {
            assert_hinted(&mut client).await;
        }
        client.reply("GET").await.assert_is(200, if target == "/x" { "body" } else { "plain" });
    }
}

#[tokio::test]
async fn those_that_come_in_one_piece_with_the_response_are_told_before_it() {
    let origin = Origin::start().await;
    let interim = "HTTP/1.1 102 Processing\r\nX-A: b\r\n\r\nHTTP/1.1 104 Unknown\r\n\r\n";
    origin.says("/x", [interim.as_bytes(), &reply(200, &[FRESH], "body")].concat());
    let node = Node::before(&origin).await;
    let mut client = node.begin("GET", "/x", &[]).await;
    let processing = client.head().await.expect("an interim response");
    assert_eq!((status(&processing), processing.field("x-a")), (102, Some("b")));
    assert_eq!(status(&client.head().await.expect("an interim response")), 104);
    let reply = client.reply("GET").await;
    reply.assert_is(200, "body");
    assert_eq!(reply.field("x-a"), None);
}

#[tokio::test]
async fn a_100_is_not_told_and_of_many_and_of_large_ones_few() {
    let origin = Origin::start().await;
    let hints = |name: &str| format!("HTTP/1.1 103 Early Hints\r\nX-A: {name}\r\n\r\n");
    let many: String = (0..30).map(|nth| hints(&nth.to_string())).collect();
    let answer = ["HTTP/1.1 100 Continue\r\n\r\n", &hints(&"a".repeat(9000)), &many].concat();
    origin.says("/x", [answer.as_bytes(), &reply(200, &[FRESH], "body")].concat());
    let node = Node::before(&origin).await;
    let mut client = node.begin("GET", "/x", &[]).await;
    for nth in 0..8 {
        let head = client.head().await.expect("an interim response");
        assert_eq!((status(&head), head.field("x-a")), (103, Some(&*nth.to_string())));
    }
    client.reply("GET").await.assert_is(200, "body");
}

#[tokio::test]
async fn the_nodes_own_100_comes_first_for_a_client_that_waits_for_it() {
    let (_origin, node, barrier) = hinting("Cache-Control: no-store").await;
    barrier.open();
    let mut client = node.begin("POST", "/x", &["Content-Length: 4", "Expect: 100-continue"]).await;
    assert_eq!(client.head().await.map(|head| head.line).as_deref(), Some("HTTP/1.1 100 Continue"));
    client.send("body").await;
    assert_hinted(&mut client).await;
    client.reply("POST").await.assert_is(200, "body");
}

#[tokio::test]
async fn early_hints_are_told_over_http2() {
    let (origin, node, barrier) = hinting(FRESH).await;
    let tasks = Spawner::current();
    let stream = tokio::net::TcpStream::connect(node.doors[0]).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tasks.spawn(async move {
        let _ = connection.await;
    });
    let request = || Request::get("http://site.test/x").body(()).unwrap();
    let mut sender = sender.ready().await.unwrap();
    let (mut first, _) = sender.send_request(request(), true).unwrap();
    let hints = in_time("hints", poll_fn(|cx| first.poll_informational(cx))).await.unwrap().unwrap();
    assert_eq!(hints.status(), 103);
    assert_eq!(hints.headers().iter().count(), 1, "{hints:?}");
    assert_eq!(hints.headers()["link"], "</a.css>; rel=preload");
    barrier.open();
    let response = in_time("a response", first).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().get("link")), (200, None));
    node.settled().await;
    let mut sender = sender.ready().await.unwrap();
    let (mut second, _) = sender.send_request(request(), true).unwrap();
    let hints = in_time("a hit", poll_fn(|cx| second.poll_informational(cx))).await;
    assert!(hints.is_none(), "a hit has none");
    assert!(
        in_time("a hit", second).await.unwrap().headers()["cache-status"]
            .to_str()
            .unwrap()
            .contains("; hit;")
    );
    assert_eq!(origin.count("/x"), 1);
}
