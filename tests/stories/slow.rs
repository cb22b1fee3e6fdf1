//! Clients that are slow, idle or too many: whom they cost their place, and whom not.

use crate::common::client::{Client, request};
use crate::common::frames::{
    DATA, END_HEADERS, END_STREAM, Frame, Frames, HEADERS, SETTINGS, WINDOW_UPDATE, cancel, fields, frame,
};
use crate::common::origin::{chunk, head};
use crate::common::tls::{self, certificate};
use crate::common::{Barrier, Node, Origin, assert_same, content, in_time, reply, until};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const FRESH: &str = "Cache-Control: max-age=60";
/// Several times as long as the stories let anybody be idle.
const LONG: Duration = Duration::from_millis(500);

/// A connection with little room, of a fixed size, for bytes that its client has not read yet.
async fn narrow(at: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(256 << 10).unwrap();
    in_time("a connection", socket.connect(at)).await.unwrap()
}

async fn pause(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

fn shed(node: &Node, limit: &str, what: &str) -> f64 {
    node.metric(&format!("shoal_connections_shed_total{{limit=\"{limit}\",what=\"{what}\"}}"))
}

fn slow(node: &Node, reason: &str) -> f64 {
    node.metric(&format!("shoal_slow_clients_total{{reason=\"{reason}\"}}"))
}

/// An origin that says `body` to `/x`, answers `/held…` when the barrier opens, and says what it is sent to `/echo`.
async fn origin() -> (Origin, Barrier) {
    let (origin, barrier) = (Origin::start().await, Barrier::closed());
    origin.says("/x", reply(200, &[FRESH], "body"));
    for path in ["/held", "/held2", "/held3"] {
        let held = barrier.clone();
        origin.script(path, move |mut exchange| {
            let held = held.clone();
            async move {
                held.pass().await;
                exchange.send(reply(200, &["Cache-Control: no-store"], "late")).await;
                exchange
            }
        });
    }
    origin.script("/echo", |mut exchange| async move {
        let body = exchange.body().await;
        exchange.send(reply(200, &[], body)).await;
        exchange
    });
    (origin, barrier)
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_408_and_one_that_comes_fast_enough_is_not() {
    let (origin, _) = origin().await;
    let limits = |rate: u32| format!("[limits]\nidle_timeout = \"300ms\"\nbody_rate = {rate}");
    let node = Node::with(&origin, &limits(2000)).await;
    let mut client = node.begin("POST", "/echo", &["Content-Length: 10000"]).await;
    while slow(&node, "body_slow") == 0.0 {
        client.send("x").await;
        pause(20).await;
    }
    let refused = client.reply("POST").await;
    assert_eq!((refused.status, refused.field("connection")), (408, Some("close")));
    assert_eq!(refused.cache_status(), "edge; detail=body_too_slow");
    assert_eq!(client.read_to_end().await, b"");
    for rate in [0, 5] {
        let node = Node::with(&origin, &limits(rate)).await;
        let mut client = node.begin("POST", "/echo", &["Content-Length: 30"]).await;
        for _ in 0..30 {
            client.send("x").await;
            pause(20).await;
        }
        client.reply("POST").await.assert_is(200, "x".repeat(30));
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_at_all_is_408() {
    let (origin, _) = origin().await;
    let node = Node::with(&origin, "[limits]\nidle_timeout = \"100ms\"").await;
    let mut client = node.begin("POST", "/echo", &["Content-Length: 10"]).await;
    client.send("x").await;
    let refused = client.reply("POST").await;
    assert_eq!((refused.status, refused.cache_status()), (408, "edge; detail=body_stalled"));
    assert_eq!(slow(&node, "body_stalled"), 1.0);
}

#[tokio::test]
async fn a_conversation_has_any_pace() {
    let origin = Origin::start().await;
    origin.script("/talk", |mut exchange| async move {
        exchange.send(head(200, &["Transfer-Encoding: chunked"])).await;
        let mut seen = Vec::new();
        while !seen.ends_with(b"0\r\n\r\n") {
            let bytes = exchange.read_some().await;
            assert!(!bytes.is_empty(), "the upload was cut: {}", seen.escape_ascii());
            exchange.send(chunk(b"heard")).await;
            seen.extend_from_slice(&bytes);
        }
        exchange.send("0\r\n\r\n").await;
        exchange
    });
    let limits = "[limits]\nidle_timeout = \"200ms\"\nbody_rate = \"1GiB\"\nresponse_rate = \"1GiB\"";
    let node = Node::with(&origin, limits).await;
    let mut client = node.begin("POST", "/talk", &["Transfer-Encoding: chunked"]).await;
    let answer = client.head().await.unwrap();
    for _ in 0..10 {
        client.send(chunk(b"word")).await;
        assert_eq!(client.chunk().await.as_deref(), Some(&b"heard"[..]));
        pause(60).await;
    }
    client.send("0\r\n\r\n").await;
    assert!(client.body(&answer).await.is_whole);
}

#[tokio::test]
async fn a_response_that_is_taken_too_slowly_is_cut_and_one_taken_fast_enough_is_not() {
    let origin = Origin::start().await;
    let large = content(24 << 20);
    origin.says("/large", reply(200, &[FRESH], &large));
    let limits = |rate: &str| format!("[limits]\nidle_timeout = \"1s\"\nresponse_rate = \"{rate}\"");
    for (rate, is_cut) in [("1GiB", true), ("1KiB", false), ("0", false)] {
        let node = Node::with(&origin, &limits(rate)).await;
        let mut stream = narrow(node.doors[0]).await;
        stream.write_all(&request("GET", "/large", &["Connection: close"])).await.unwrap();
        let (mut seen, mut piece) = (Vec::new(), vec![0; 50 << 10]);
        // Takes something all the time, some 5 MB a second at first: never silent, and far from the highest rate.
        while let read @ 1.. = in_time("the response", stream.read(&mut piece)).await.unwrap_or(0) {
            seen.extend_from_slice(&piece[..read]);
            if seen.len() < large.len() / 2 {
                pause(10).await;
            }
        }
        if is_cut {
            assert!(seen.len() < large.len(), "{rate}: whole");
        } else {
            assert!(seen.len() > large.len(), "{rate}: cut after {} bytes", seen.len());
            assert_same(&seen[seen.len() - large.len()..], &large);
        }
        assert_eq!(slow(&node, "response_slow"), f64::from(u8::from(is_cut)), "{rate}");
        assert_eq!(slow(&node, "response_stalled"), 0.0, "{rate}");
    }
}

#[tokio::test]
async fn a_response_that_is_not_taken_is_cut() {
    let origin = Origin::start().await;
    origin.says("/large", reply(200, &[FRESH], content(24 << 20)));
    let node = Node::with(&origin, "[limits]\nidle_timeout = \"200ms\"").await;
    let mut stream = narrow(node.doors[0]).await;
    stream.write_all(&request("GET", "/large", &[])).await.unwrap();
    until("it to be given up", || slow(&node, "response_stalled") == 1.0).await;
    until("it to be closed", || node.metric("shoal_connections_open{listener=\"http\"}") == 0.0).await;
}

/// Limits by which anybody who is idle, or slow, would be cut at once.
const STRICT: &str = "[limits]\nidle_timeout = \"100ms\"\nkeepalive_timeout = \"100ms\"\nheader_timeout = \"100ms\"\n\
                      body_rate = \"1GiB\"\nresponse_rate = \"1GiB\"\nconnections = 1";

#[tokio::test]
async fn server_sent_events_last_through_long_silences() {
    let (origin, barrier) = (Origin::start().await, Barrier::closed());
    let held = barrier.clone();
    origin.script("/events", move |mut exchange| {
        let held = held.clone();
        async move {
            exchange
                .send(head(200, &["Content-Type: text/event-stream", "Transfer-Encoding: chunked"]))
                .await;
            exchange.send(chunk(b"data: one\n\n")).await;
            held.pass().await;
            exchange.send(chunk(b"data: two\n\n")).await;
            exchange.send("0\r\n\r\n").await;
            exchange
        }
    });
    let node = Node::with(&origin, STRICT).await;
    let mut client = node.begin("GET", "/events", &[]).await;
    let answer = client.head().await.unwrap();
    assert_eq!(client.chunk().await.as_deref(), Some(&b"data: one\n\n"[..]));
    tokio::time::sleep(LONG).await;
    // Nor does it give way.
    let mut other = node.connect().await;
    assert_eq!(other.read_to_end().await, b"");
    assert_eq!(shed(&node, "node", "new"), 1.0);
    barrier.open();
    let rest = client.body(&answer).await;
    assert!(rest.is_whole);
    assert_eq!(rest.bytes, b"data: two\n\n");
}

#[tokio::test]
async fn a_long_poll_is_answered_however_late() {
    let (origin, barrier) = origin().await;
    let node = Node::with(&origin, STRICT).await;
    let mut client = node.begin("GET", "/held", &[]).await;
    tokio::time::sleep(LONG).await;
    barrier.open();
    client.reply("GET").await.assert_is(200, "late");
}

#[tokio::test]
async fn a_tunnel_lasts_through_long_silences() {
    let origin = Origin::start().await;
    origin.script("/chat", |mut exchange| async move {
        exchange.send(head(101, &["Connection: Upgrade", "Upgrade: websocket"])).await;
        let bytes = exchange.read_some().await;
        exchange.send(bytes).await;
        exchange.close();
        exchange
    });
    let node = Node::with(&origin, STRICT).await;
    let mut client = node.begin("GET", "/chat", &["Connection: Upgrade", "Upgrade: websocket"]).await;
    assert!(client.head().await.unwrap().line.starts_with("HTTP/1.1 101 "));
    tokio::time::sleep(LONG).await;
    let mut other = node.connect().await;
    assert_eq!(other.read_to_end().await, b"", "a tunnel keeps its place");
    client.send("word").await;
    assert_eq!(client.read_exactly(4).await, b"word");
}

#[tokio::test]
async fn when_all_places_are_taken_who_has_waited_longest_gives_way() {
    let (origin, barrier) = origin().await;
    let node = Node::with(&origin, "[limits]\nconnections = 3").await;
    node.warm("/x").await;
    let mut sending = node.connect().await;
    sending.send("GET /x HTTP/1.1\r\n").await;
    let mut idle = node.connect().await;
    idle.get("/x").await.assert_hit();
    let mut asking = node.begin("GET", "/held", &[]).await;
    until("the origin to be asked", || origin.count("/held") == 1).await;
    // First who waits for his next request, though the other came before,
    let mut second = node.begin("GET", "/held2", &[]).await;
    assert_eq!(idle.read_to_end().await, b"");
    until("it to be counted", || shed(&node, "node", "idle") == 1.0).await;
    // then who has not sent his first,
    let mut third = node.begin("GET", "/held3", &[]).await;
    assert_eq!(sending.read_to_end().await, b"");
    assert_eq!(shed(&node, "node", "head"), 1.0);
    until("all to be asked", || origin.count_all() == 4).await;
    // and never who waits for his response.
    let mut fourth = node.connect().await;
    assert_eq!(fourth.read_to_end().await, b"");
    assert_eq!(shed(&node, "node", "new"), 1.0);
    barrier.open();
    asking.reply("GET").await.assert_is(200, "late");
    second.reply("GET").await.assert_is(200, "late");
    third.reply("GET").await.assert_is(200, "late");
    assert_eq!(node.metric("shoal_connections_shed_total"), 3.0);
}

#[tokio::test]
async fn a_handshake_that_stalls_gives_way() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    origin.says("/x", reply(200, &[FRESH], "body"));
    let pair = certificate(folder.path(), "site.test");
    let node = Node::of(&format!(
        "[node]\nname = \"edge\"\n[listen]\nhttps = [\"127.0.0.1:0\"]\n[limits]\nconnections = 1\nheader_timeout = \"1h\"\n\
         [[site]]\nhosts = [\"site.test\"]\norigins = [\"http://{}\"]\ntls = {}\n",
        origin.at, pair.toml
    ))
    .await;
    let mut stalled = node.connect().await;
    stalled.send(b"\x16\x03\x01").await;
    until("it to be let in", || node.metric("shoal_connections_open{listener=\"https\"}") == 1.0).await;
    let mut client = tls::client(node.doors[0], "site.test", &pair.der).await;
    client.get("/x").await.assert_is(200, "body");
    assert_eq!(stalled.read_to_end().await, b"");
    assert_eq!(shed(&node, "node", "head"), 1.0);
}

#[tokio::test]
async fn a_handshake_has_a_time() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let pair = certificate(folder.path(), "site.test");
    let node = Node::of(&format!(
        "[node]\nname = \"edge\"\n[listen]\nhttps = [\"127.0.0.1:0\"]\n[limits]\nheader_timeout = \"100ms\"\n\
         [[site]]\nhosts = [\"site.test\"]\norigins = [\"http://{}\"]\ntls = {}\n",
        origin.at, pair.toml
    ))
    .await;
    let mut stalled = node.connect().await;
    assert_eq!(stalled.read_to_end().await, b"");
    assert_eq!(node.metric("shoal_tls_handshake_failures_total{reason=\"timeout\"}"), 1.0);
}

#[tokio::test]
async fn one_address_has_its_share_when_half_of_all_places_are_taken() {
    let (origin, _barrier) = origin().await;
    let node = Node::with(&origin, "[limits]\nconnections = 6\nconnections_per_ip = 2").await;
    node.warm("/x").await;
    let mut others = Vec::new();
    for last in 2..4 {
        let mut client = Client::connect_from(&format!("127.0.0.{last}"), node.doors[0]).await;
        client.get("/x").await.assert_hit();
        others.push(client);
    }
    let mut idle = Vec::new();
    // Two are its share, a third and fourth fit while places abound.
    for _ in 0..2 {
        let mut client = node.connect().await;
        client.get("/x").await.assert_hit();
        idle.push(client);
    }
    // More than half are taken: the next takes the place of its own oldest, not that of another's older.
    let mut busy = vec![node.begin("GET", "/held", &[]).await];
    assert_eq!(idle[0].read_to_end().await, b"");
    busy.push(node.begin("GET", "/held2", &[]).await);
    assert_eq!(idle[1].read_to_end().await, b"");
    assert_eq!(shed(&node, "address", "idle"), 2.0);
    until("both to be asked", || origin.count("/held") + origin.count("/held2") == 2).await;
    let mut refused = node.connect().await;
    assert_eq!(refused.read_to_end().await, b"");
    assert_eq!(shed(&node, "address", "new"), 1.0);
    // Others are served.
    for client in &mut others {
        client.get("/x").await.assert_hit();
    }
    Client::connect_from("127.0.0.9", node.doors[0]).await.get("/x").await.assert_hit();
    assert_eq!(shed(&node, "node", "idle") + shed(&node, "node", "new"), 0.0);
}

#[tokio::test]
async fn a_trusted_proxy_stands_for_many_clients_and_has_no_share_of_its_own() {
    let (origin, _barrier) = origin().await;
    let toml = crate::common::node::toml(origin.at, "[limits]\nconnections = 4\nconnections_per_ip = 1");
    let node = Node::of(&format!("trusted_networks = [\"127.0.0.1/32\"]\n{toml}")).await;
    node.warm("/x").await;
    let mut inside = Vec::new();
    for _ in 0..4 {
        let mut client = node.connect().await;
        client.get("/x").await.assert_hit();
        inside.push(client);
    }
    for client in &mut inside {
        client.get("/x").await.assert_hit();
    }
    assert_eq!(node.metric("shoal_connections_shed_total"), 0.0);
}

#[tokio::test]
async fn an_upload_without_room_in_the_window_of_its_connection_is_not_blamed() {
    const ACK: u8 = 1;
    let (origin, _) = origin().await;
    let node = Node::with(&origin, "connections_max = 1\n[limits]\nidle_timeout = \"200ms\"").await;
    let mut client = Frames::connect(node.doors[0]).await;
    let opened = |frames: &[Frame]| frames.iter().any(|frame| frame.kind == WINDOW_UPDATE).then_some(());
    client.find("the window of the connection", opened).await;
    client.send(frame(SETTINGS, ACK, 0, &[])).await;
    // One has the only connection to the origin; what the others send, all that there is room for, is not taken.
    let begin = |id| frame(HEADERS, END_HEADERS, id, &fields("POST", "/echo", &[]));
    let others = [3, 5, 7, 9];
    client.send(begin(1)).await;
    origin.asked_times("/echo", 1).await;
    for id in others {
        client.send([begin(id), frame(DATA, 0, id, &[0; 16 << 10]).repeat(16)].concat()).await;
    }
    tokio::time::sleep(LONG).await;
    assert_eq!(slow(&node, "body_stalled"), 0.0);
    for id in others {
        client.send(cancel(id)).await;
    }
    let reopened = |frames: &[Frame]| {
        let updates = frames.iter().filter(|frame| frame.kind == WINDOW_UPDATE && frame.stream == 0);
        (updates.count() > 1).then_some(())
    };
    client.find("room", reopened).await;
    client.send(frame(DATA, END_STREAM, 1, b"hello")).await;
    client.assert_is_ok(1).await;
    // With room, a silence is the client's.
    client.send(begin(11)).await;
    assert_ne!(client.whole(11).await[0].payload[0], 0x88, "408");
    assert_eq!(slow(&node, "body_stalled"), 1.0);
}
