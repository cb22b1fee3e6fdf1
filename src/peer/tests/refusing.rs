use super::super::AskError;
use super::super::{dial, endpoint, hello};
use super::*;
use crate::proto::swarm::NodeId;
use crate::proto::wire::{Hello, ask, close, code};
use crate::tls::cluster::SERVER_NAME;
use bytes::Bytes;
use quinn::{Connection, ConnectionError};

/// One who shakes hands as a node does, and then does what a node does not.
pub(super) struct Stranger {
    pub(super) endpoint: quinn::Endpoint,
    pub(super) identity: Identity,
    spawner: Spawner,
}

impl Stranger {
    pub(super) fn of(authority: &Authority) -> Self {
        let identity = identity(authority, BOTH);
        let datagrams = crate::net::Transport::datagrams(&Tcp, ([127, 0, 0, 1], 0).into()).unwrap();
        let server = endpoint::server(identity.server(Clock::system())).unwrap();
        let spawner = Spawner::current();
        let endpoint = endpoint::open(datagrams, server, None, spawner.clone()).unwrap();
        Self { endpoint, identity, spawner }
    }

    pub(super) async fn connect(&self, to: &Node) -> Connection {
        self.connect_with(to, &[wire::ALPN]).await
    }

    /// Connects as one who speaks these protocols.
    async fn connect_with(&self, to: &Node, protocols: &[&[u8]]) -> Connection {
        let mut tls = rustls::ClientConfig::clone(&self.identity.client(Clock::system()));
        tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let client = endpoint::client(Arc::new(tls)).unwrap();
        let connecting = self.endpoint.connect_with(client, to.at(), SERVER_NAME).unwrap();
        in_time(connecting).await.expect("certificates of one cluster")
    }

    fn hello(&self) -> Hello {
        hello::of(&Member {
            id: self.identity.certified().id,
            address: self.endpoint.local_addr().unwrap(),
            name: "stranger".into(),
            zone: "".into(),
            roles: BOTH,
            incarnation: 1,
        })
    }

    /// Says a hello, and waits for one.
    async fn greet(
        &self,
        connection: &Connection,
        hello: Hello,
    ) -> Result<Hello, super::super::refusal::Refusal> {
        let mut exchange = Exchange::opened(NodeId::default(), connection.open_bi().await?);
        let ask = wire::Ask { kind: Some(ask::Kind::Hello(hello)) };
        exchange.send_message(&ask).await?;
        let answer = in_time(hello::answered(&mut exchange)).await;
        exchange.finish();
        answer
    }
}

async fn closed_with(connection: &Connection) -> (u64, String) {
    match in_time(connection.closed()).await {
        ConnectionError::ApplicationClosed(closed) => {
            (closed.error_code.into_inner(), String::from_utf8_lossy(&closed.reason).into_owned())
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_and_both_sides_know_why() {
    let ours = Node::of(&authority(), BOTH);
    let theirs = Node::of(&authority(), BOTH);
    let dialled = in_time(ours.links.connect(theirs.at(), None)).await;
    assert_eq!(dialled.err(), Some(AskError::Unreachable));
    assert_eq!(ours.refused("other_cluster"), 1);
    theirs.until_refused("other_cluster").await;
    assert_eq!((ours.count("shoal_peer_links"), theirs.count("shoal_peer_links")), (0, 0));
}

#[tokio::test]
async fn a_node_that_is_not_the_one_expected_is_left_alone() {
    let authority = authority();
    let (first, second) = (Node::of(&authority, BOTH), Node::of(&authority, BOTH));
    let expected = NodeId([1; 16]);
    let dialled = in_time(first.links.connect(second.at(), Some(expected))).await;
    assert_eq!(dialled.err(), Some(AskError::Unreachable));
    assert_eq!(first.refused("identity"), 1);
    second.until_refused("identity").await;
    assert_eq!(first.count("shoal_peer_links"), 0);
    // Whoever does not mind gets there.
    assert!(in_time(first.links.connect(second.at(), None)).await.is_ok());
}

#[tokio::test]
async fn a_node_does_not_connect_to_itself() {
    let node = Node::of(&authority(), BOTH);
    let dialled = in_time(node.links.connect(node.at(), None)).await;
    assert_eq!(dialled.err(), Some(AskError::Unreachable));
    node.until_refused("self").await;
    assert_eq!(node.count("shoal_peer_links"), 0);
}

#[tokio::test]
async fn no_common_version_is_said_with_both_and_a_later_one_that_speaks_ours_is_welcome() {
    let authority = authority();
    let (mut node, stranger) = (Node::of(&authority, BOTH), Stranger::of(&authority));
    let connection = stranger.connect(&node).await;
    let too_new = Hello { version_min: 2, version_max: 9, ..stranger.hello() };
    assert!(stranger.greet(&connection, too_new).await.is_err());
    let (code, words) = closed_with(&connection).await;
    assert_eq!(code, u64::from(close::VERSION));
    assert!(words.contains("1 to 1") && words.contains("2 to 9"), "{words}");
    node.until_refused("version").await;
    let connection = stranger.connect(&node).await;
    let later = Hello { version_max: 9, features: u64::MAX, ..stranger.hello() };
    assert_eq!(stranger.greet(&connection, later).await.unwrap().version_max, 1);
    assert_eq!(node.up().await.member().id, stranger.identity.certified().id);
}

/// The protocols of a release that speaks major version 2 alone.
const NEXT_MAJOR: [&[u8]; 2] = [b"shoal-peer/2", wire::VERSION_ALPN];

#[tokio::test]
async fn who_dials_with_another_major_version_is_told_both() {
    let authority = authority();
    let (node, stranger) = (Node::of(&authority, BOTH), Stranger::of(&authority));
    let connection = stranger.connect_with(&node, &NEXT_MAJOR).await;
    let hello =
        Hello { major: 2, program: "9.9.9".into(), version_min: 4, version_max: 5, ..stranger.hello() };
    assert!(stranger.greet(&connection, hello).await.is_err());
    let (code, words) = closed_with(&connection).await;
    assert_eq!(code, u64::from(close::VERSION));
    let program = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "no common major version of the wire: who refuses speaks 1 (shoal {program}), \
         who is refused 2 (shoal 9.9.9); upgrade the older"
    );
    assert_eq!(words, expected);
    node.until_refused("version").await;
    assert_eq!(node.count("shoal_peer_links"), 0);
}

#[tokio::test]
async fn one_who_accepts_another_major_version_alone_says_both_to_the_dialler() {
    let authority = authority();
    let (node, stranger) = (Node::of(&authority, BOTH), Stranger::of(&authority));
    let mut tls = rustls::ServerConfig::clone(&stranger.identity.server(Clock::system()));
    tls.alpn_protocols = NEXT_MAJOR.map(<[u8]>::to_vec).to_vec();
    stranger.endpoint.set_server_config(Some(endpoint::server(Arc::new(tls)).unwrap()));
    let accepting = async {
        let connection = stranger.endpoint.accept().await.unwrap().await.unwrap();
        assert_eq!(dial::alpn(&connection).as_deref(), Some(wire::VERSION_ALPN));
        let mut exchange = Exchange::accepted(NodeId::default(), connection.accept_bi().await.unwrap(), 9999);
        // It reads of this release what every release can: its major version.
        let hello = hello::asked(&mut exchange).await.unwrap();
        assert_eq!((hello.major, &*hello.program), (1, env!("CARGO_PKG_VERSION")));
        connection.close(close::VERSION.into(), b"who refuses speaks 2, who is refused 1");
    };
    let at = stranger.endpoint.local_addr().unwrap();
    let (dialled, ()) = in_time(async { tokio::join!(node.links.connect(at, None), accepting) }).await;
    assert_eq!((dialled.err(), node.refused("version")), (Some(AskError::Unreachable), 1));
    assert_eq!(node.count("shoal_peer_links"), 0);
}

#[tokio::test]
async fn a_feature_that_must_be_understood_and_is_not_is_named_in_the_refusal() {
    let authority = authority();
    let (node, stranger) = (Node::of(&authority, BOTH), Stranger::of(&authority));
    let connection = stranger.connect(&node).await;
    let demanding = Hello { version_max: 2, features: u64::MAX, required: 1 << 40, ..stranger.hello() };
    assert!(stranger.greet(&connection, demanding).await.is_err());
    let (code, words) = closed_with(&connection).await;
    assert_eq!(code, u64::from(close::VERSION));
    assert!(words.contains("no common set of features") && words.contains("0x10000000000"), "{words}");
    node.until_refused("version").await;
}

#[tokio::test]
async fn the_dialler_too_refuses_a_version_that_it_does_not_speak() {
    let authority = authority();
    let (node, stranger) = (Node::of(&authority, BOTH), Stranger::of(&authority));
    let accepting = async {
        let connection = stranger.endpoint.accept().await.unwrap().await.unwrap();
        let mut exchange = Exchange::accepted(NodeId::default(), connection.accept_bi().await.unwrap(), 9999);
        hello::asked(&mut exchange).await.unwrap();
        exchange.send_message(&Hello { version_min: 7, version_max: 7, ..stranger.hello() }).await.unwrap();
        exchange.finish();
        closed_with(&connection).await.0
    };
    let at = stranger.endpoint.local_addr().unwrap();
    let (dialled, code) = in_time(async { tokio::join!(node.links.connect(at, None), accepting) }).await;
    assert_eq!((dialled.err(), code), (Some(AskError::Unreachable), u64::from(close::VERSION)));
    assert_eq!(node.refused("version"), 1);
}

#[tokio::test]
async fn a_connection_on_which_no_hello_comes_is_closed() {
    let authority = authority();
    let (node, stranger) = (Node::of(&authority, BOTH), Stranger::of(&authority));
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x00\x03\x00\x00\x00\xff\xff\xff", b"\x04\0\0\0\0"] {
        let connection = stranger.connect(&node).await;
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(garbage).await.unwrap();
        assert_eq!(closed_with(&connection).await.0, u64::from(close::HELLO));
    }
    let connection = stranger.connect(&node).await;
    let nowhere = Hello { address: "nowhere".to_owned(), ..stranger.hello() };
    assert!(stranger.greet(&connection, nowhere).await.is_err());
    assert_eq!(closed_with(&connection).await.0, u64::from(close::HELLO));
    in_time(async {
        while node.refused("protocol") < 4 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(node.count("shoal_peer_links"), 0);
}

#[tokio::test]
async fn a_stream_that_asks_nothing_known_is_refused_and_the_connection_stands() {
    let authority = authority();
    let (mut node, stranger) = (Node::of(&authority, BOTH), Stranger::of(&authority));
    let connection = stranger.connect(&node).await;
    stranger.greet(&connection, stranger.hello()).await.unwrap();
    node.up().await;
    let hello = wire::Ask { kind: Some(ask::Kind::Hello(stranger.hello())) };
    let hello = wire::frame::message(&hello);
    let too_long = Bytes::from_static(b"\x00\xff\xff\xff\x00");
    let unknown = Bytes::from_static(b"\x00\x03\x00\x00\x00\xf2\x06\x00");
    let [garbage, pulse] = [&b"garbage"[..], b"\x04\0\0\0\0"].map(Bytes::from_static);
    let cases = [
        (garbage, AskError::Protocol),
        (pulse, AskError::Protocol),
        (hello, AskError::Protocol),
        (too_long, AskError::Protocol),
        (unknown, AskError::Unsupported),
    ];
    for (case, refusal) in &cases {
        let (mut send, receive) = connection.open_bi().await.unwrap();
        send.write_all(case).await.unwrap();
        let mut exchange = Exchange::opened(NodeId::default(), (send, receive));
        assert_eq!(in_time(exchange.frame()).await, Err(*refusal), "{case:?}");
    }
    assert_eq!(node.count("shoal_peer_streams_refused_total{reason=\"protocol\"}"), 4);
    assert_eq!(node.count("shoal_peer_streams_refused_total{reason=\"unsupported\"}"), 1);
    let mut exchange = Exchange::opened(NodeId::default(), connection.open_bi().await.unwrap());
    exchange.send_message(&wire::Ask { kind: Some(read()) }).await.unwrap();
    node.asked().await.1.reset(code::BUSY);
    assert_eq!(in_time(exchange.frame()).await, Err(AskError::Refused));
}

#[tokio::test]
async fn a_stranger_gets_one_stream_and_little_room_until_it_has_said_hello() {
    let authority = authority();
    let (node, stranger) = (Node::of(&authority, BOTH), Stranger::of(&authority));
    let connection = stranger.connect(&node).await;
    let _first = connection.open_bi().await.unwrap();
    assert!(futures_util::FutureExt::now_or_never(connection.open_bi()).is_none());
    let connection = stranger.connect(&node).await;
    stranger.greet(&connection, stranger.hello()).await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(in_time(connection.open_bi()).await.unwrap());
    }
    assert_eq!(dial::alpn(&connection).as_deref(), Some(wire::ALPN));
    connection.close(0_u32.into(), b"");
    stranger.endpoint.close(0_u32.into(), b"");
    drop(streams);
    let Stranger { endpoint, spawner, .. } = stranger;
    drop((endpoint, connection));
    assert!(spawner.stop(PATIENCE).await);
}
