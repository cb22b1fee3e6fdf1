//! What clients feel of reloads and of drains: nothing. They follow the rules of their version of HTTP, and no request of
//! theirs fails.

use crate::common::node::toml;
use crate::common::tls::{self, Http2, certificate};
use crate::common::{Client, Node, Origin, reply, turns, until};
use futures_util::future::{join, join_all};
use shoal::task::Spawner;
use std::cell::Cell;
use std::net::SocketAddr;
use tokio::net::TcpStream;

const FRESH: &str = "Cache-Control: max-age=600";
const CLIENTS: usize = 6;
/// Requests that an HTTP/2 client sends at once.
const STREAMS: usize = 3;
/// Requests over all clients before a drain begins, and after it at least.
const LOAD: usize = 200;

/// An origin with something to keep and something to pass.
async fn origin() -> Origin {
    let origin = Origin::start().await;
    origin.says("/kept", reply(200, &[FRESH], "kept"));
    origin.says("/passed", reply(200, &["Cache-Control: no-store"], "passed"));
    origin
}

/// What a client asks for in its `nth` request, and what the answer is.
fn nth(nth: usize) -> (&'static str, &'static str) {
    if nth.is_multiple_of(2) { ("/kept", "kept") } else { ("/passed", "passed") }
}

/// Where HTTP/2 clients find a node: in plain text, or over TLS.
enum Door<'a> {
    Plain(SocketAddr),
    Secure(SocketAddr, &'a tls::Pair),
}

impl Door<'_> {
    async fn http2(&self, tasks: &Spawner) -> Http2 {
        match self {
            Self::Plain(at) => Http2::over(TcpStream::connect(at).await.unwrap(), tasks).await,
            Self::Secure(at, pair) => {
                Http2::over(tls::connect(*at, "site.test", &pair.der, b"h2").await.unwrap(), tasks).await
            }
        }
    }

    fn url(&self, target: &str) -> String {
        let scheme = if matches!(self, Self::Plain(_)) { "http" } else { "https" };
        format!("{scheme}://site.test{target}")
    }
}

#[tokio::test]
async fn a_hundred_reloads_under_load_fail_no_request_over_http2() {
    const RELOADS: usize = 100;
    let (origin, folder, tasks) = (origin().await, tempfile::tempdir().unwrap(), Spawner::current());
    let pair = certificate(folder.path(), "site.test");
    let config = |round: usize| {
        let more = format!("tls = {}\n[limits]\nheader_count = {}\n", pair.toml, 50 + round);
        toml(origin.at, &more).replace("[listen]\n", "[listen]\nhttps = [\"127.0.0.1:0\"]\n")
    };
    let node = Node::of(&config(0)).await;
    let (reloading, asked) = (Cell::new(true), Cell::new(0));
    let ask = async |door: Door<'_>| {
        let mut client = door.http2(&tasks).await;
        let mut round = 0;
        while reloading.get() {
            let (target, body) = nth(round);
            let url = door.url(target);
            let replies = join_all((0..STREAMS).map(|_| client.get_if_open(&url))).await;
            for reply in &replies {
                match reply {
                    Some(reply) => {
                        assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, body.as_bytes()))
                    }
                    // A connection ends after a thousand requests, in order and announced.
                    None => assert!(round * STREAMS + STREAMS >= 1000, "closed after {round} rounds"),
                }
            }
            round += 1;
            if replies.iter().any(Option::is_none) {
                (client, round) = (door.http2(&tasks).await, 0);
            }
            asked.set(asked.get() + STREAMS);
        }
    };
    let doors = (0..CLIENTS).map(|index| match index % 2 {
        0 => Door::Plain(node.doors[0]),
        _ => Door::Secure(node.doors[1], &pair),
    });
    let reload = async {
        for round in 0..RELOADS {
            let before = asked.get();
            node.reload(&config(round)).unwrap();
            until("answers between reloads", || asked.get() > before).await;
        }
        reloading.set(false);
    };
    join(join_all(doors.map(ask)), reload).await;
    assert_eq!(node.metric("shoal_config_reloads_total{result=\"success\"}") as usize, 1 + RELOADS);
}

/// Two nodes before one origin, one of which is drained under load.
struct Two {
    drained: Node,
    other: Node,
    asked: Cell<usize>,
    is_over: Cell<bool>,
}

impl Two {
    async fn before(origin: &Origin) -> Self {
        let (drained, other) = (Node::before(origin).await, Node::before(origin).await);
        Self { drained, other, asked: Cell::new(0), is_over: Cell::new(false) }
    }

    /// Drains the first node in the middle of the load, and sees its last connection end.
    async fn drain(&self) {
        until("load", || self.asked.get() > LOAD).await;
        self.drained.assembly.begin_drain();
        until("more load", || self.asked.get() > 2 * LOAD).await;
        until("connections to end", || self.drained.metric("shoal_connections_open{") == 0.0).await;
        self.is_over.set(true);
    }

    fn count(&self) {
        self.asked.set(self.asked.get() + 1);
    }
}

#[tokio::test]
async fn a_drain_under_load_fails_no_request_over_http1() {
    let origin = origin().await;
    let two = Two::before(&origin).await;
    let ask = async |_| {
        let (mut client, mut moved, mut round) = (two.drained.connect().await, false, 0);
        while !two.is_over.get() {
            let (target, body) = nth(round);
            let reply = client.get(target).await;
            reply.assert_is(200, body);
            if reply.field("connection") == Some("close") {
                assert_eq!(client.read_to_end().await, b"", "a connection that is said to close does");
                (client, moved) = (two.other.connect().await, true);
            }
            round += 1;
            two.count();
        }
        assert!(moved, "told to go elsewhere");
    };
    join(join_all((0..CLIENTS).map(ask)), two.drain()).await;
}

#[tokio::test]
async fn a_drain_under_load_fails_no_request_over_http2() {
    let (origin, tasks) = (origin().await, Spawner::current());
    let two = Two::before(&origin).await;
    let other = Door::Plain(two.other.doors[0]);
    let ask = async |_| {
        let door = Door::Plain(two.drained.doors[0]);
        let (mut client, mut moved, mut round) = (door.http2(&tasks).await, false, 0);
        while !two.is_over.get() {
            let (target, body) = nth(round);
            let url = door.url(target);
            let replies = join_all((0..STREAMS).map(|_| client.get_if_open(&url))).await;
            for reply in replies.iter().flatten() {
                assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, body.as_bytes()));
                two.count();
            }
            if replies.iter().any(Option::is_none) {
                (client, moved) = (other.http2(&tasks).await, true);
            }
            round += 1;
        }
        assert!(moved, "told to go elsewhere");
    };
    join(join_all((0..CLIENTS).map(ask)), two.drain()).await;
}

#[tokio::test]
async fn in_a_drain_the_next_request_is_answered_and_the_last_of_its_connection() {
    let origin = origin().await;
    let node = Node::before(&origin).await;
    let (mut used, mut silent) = (node.connect().await, node.connect().await);
    used.get("/kept").await.assert_is(200, "kept");
    // Connected as far as the client can tell, but the node has not seen it yet.
    let waits = std::net::TcpStream::connect(node.doors[0]).unwrap();
    node.assembly.begin_drain();
    turns().await;
    waits.set_nonblocking(true).unwrap();
    let mut waits = Client::over(TcpStream::from_std(waits).unwrap());
    for client in [&mut used, &mut waits] {
        let reply = client.get("/kept").await;
        reply.assert_is(200, "kept");
        assert_eq!(reply.field("connection"), Some("close"));
        assert_eq!(client.read_to_end().await, b"");
    }
    assert!(TcpStream::connect(node.doors[0]).await.is_err(), "nobody else is let in");
    assert_eq!(silent.read_to_end().await, b"", "who asks nothing is not waited for");
}
