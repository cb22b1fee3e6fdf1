//! A fleet in which one node is of a later release of the same major version. That node is no build of this tree: it
//! speaks the bytes of the wire over QUIC itself, and says in each message, on each stream and in each frame more than
//! this version knows.

use super::cluster::{Fleet, TestAuthority};
use super::trust::{CHUNK, head_of, ids};
use crate::common::{Node, content, in_time, reply, until};
use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use prost::Message;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use shoal::clock::Clock;
use shoal::config::model::{CertificateFiles, Credentials, Peer};
use shoal::proto::swarm::Roles;
use shoal::proto::wire::{self, Holding, Note, Resolve, ask, code, note, reply as answer, resolved};
use shoal::tls::cluster::{Identity, SERVER_NAME};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const FRESH: &str = "Cache-Control: max-age=60";
/// A type of frames, and a kind and field of messages, that no release knows yet.
const LATER_FRAME: u8 = 200;
const LATER_TAG: u32 = 900;

/// Paths and bodies by object.
type Stock = Arc<Mutex<HashMap<Vec<u8>, (String, Bytes)>>>;

/// An edge of a later release.
struct Later {
    endpoint: Endpoint,
    client: quinn::ClientConfig,
    stock: Stock,
    tasks: tokio::task::JoinSet<()>,
}

/// `message` with a field that this version does not know behind the others.
fn more(message: &impl Message) -> Vec<u8> {
    let mut bytes = message.encode_to_vec();
    unknown_field(&mut bytes);
    bytes
}

fn unknown_field(bytes: &mut impl BufMut) {
    prost::encoding::string::encode(LATER_TAG, &"said by a later release".to_owned(), bytes);
}

fn frame(kind: u8, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(kind);
    frame.put_u32_le(u32::try_from(payload.len()).unwrap());
    frame.put_slice(payload);
    frame.freeze()
}

/// A message frame, between two that may be skipped.
async fn say(send: &mut SendStream, message: &impl Message) {
    let skipped = frame(LATER_FRAME, b"more");
    let said = [skipped.clone(), frame(0, &more(message)), skipped].concat();
    // Whoever does not listen any more has gone.
    let _ = send.write_all(&said).await;
}

/// The next frame's type and payload.
async fn heard(receive: &mut RecvStream) -> Result<(u8, Vec<u8>), quinn::ReadExactError> {
    let mut head = [0; 5];
    receive.read_exact(&mut head).await?;
    let [kind, length @ ..] = head;
    let mut payload = vec![0; u32::from_le_bytes(length) as usize];
    receive.read_exact(&mut payload).await?;
    Ok((kind, payload))
}

async fn message<M: Message + Default>(receive: &mut RecvStream) -> M {
    loop {
        match in_time("a message", heard(receive)).await.unwrap() {
            (0, payload) => return M::decode(&*payload).unwrap(),
            // A pulse.
            (kind, _) => assert_eq!(kind, 4),
        }
    }
}

/// Asks on a stream of its own.
async fn asks(connection: &Connection, kind: ask::Kind) -> (SendStream, RecvStream) {
    let (mut send, receive) = connection.open_bi().await.unwrap();
    say(&mut send, &wire::Ask { kind: Some(kind) }).await;
    (send, receive)
}

fn identity(authority: &TestAuthority) -> Identity {
    let (cert, key) = authority.node("later", Roles::EDGE);
    let peer = Peer {
        listen: ([127, 0, 0, 1], 0).into(),
        advertise: None,
        seeds: Vec::new(),
        ca: authority.ca(),
        credentials: Credentials::Files(CertificateFiles { cert, key }),
        directory_max: 1,
    };
    Identity::load(&peer, "later", Roles::EDGE, Clock::system().now().wall).unwrap()
}

impl Later {
    fn open(authority: &TestAuthority) -> Self {
        let identity = identity(authority);
        let server = QuicServerConfig::try_from(identity.server(Clock::system())).unwrap();
        let server = quinn::ServerConfig::with_crypto(Arc::new(server));
        let endpoint = Endpoint::server(server, ([127, 0, 0, 1], 0).into()).unwrap();
        let client = QuicClientConfig::try_from(identity.client(Clock::system())).unwrap();
        let client = quinn::ClientConfig::new(Arc::new(client));
        let mut later = Self { endpoint, client, stock: Arc::default(), tasks: tokio::task::JoinSet::new() };
        later.serve();
        later
    }

    fn hello(&self) -> wire::Hello {
        wire::Hello {
            version_min: 1,
            version_max: 7,
            features: u64::MAX,
            name: "later".into(),
            zone: String::new(),
            roles: u32::MAX,
            address: self.endpoint.local_addr().unwrap().to_string(),
            program: "0.99.0".into(),
            incarnation: 1,
            required: 0,
            major: 1,
        }
    }

    /// Connects to a node, which answers its hello.
    async fn connect(&self, to: SocketAddr) -> Connection {
        let connecting = self.endpoint.connect_with(self.client.clone(), to, SERVER_NAME).unwrap();
        let connection = in_time("a connection", connecting).await.unwrap();
        let (_send, mut receive) = asks(&connection, ask::Kind::Hello(self.hello())).await;
        let hello: wire::Hello = message(&mut receive).await;
        assert_eq!((hello.version_min, hello.version_max, hello.required), (1, 1, 0));
        connection
    }

    /// Says to a superpeer, for as long as the story goes on, that it has what is in stock.
    async fn announce(&mut self, superpeer: SocketAddr, holdings: Vec<Holding>) {
        let connection = self.connect(superpeer).await;
        let (mut send, mut receive) =
            asks(&connection, ask::Kind::Session(wire::Session { number: 1 })).await;
        self.tasks.spawn(async move {
            let announce = wire::Announce { added: holdings, removed: vec![], complete: true };
            let mut unknown_note = Vec::new();
            unknown_field(&mut unknown_note);
            while connection.close_reason().is_none() {
                let _ = send.write_all(&frame(0, &unknown_note)).await;
                say(&mut send, &Note { kind: Some(note::Kind::Announce(announce.clone())) }).await;
                say(&mut send, &Note { kind: Some(note::Kind::Renew(wire::Renew::default())) }).await;
                // The superpeer's heartbeat, so that this goes on at its pace.
                if heard(&mut receive).await.is_err() {
                    return;
                }
            }
        });
    }

    /// Answers who connects, with its hello and then with what it has.
    fn serve(&mut self) {
        let (endpoint, stock, hello) = (self.endpoint.clone(), self.stock.clone(), self.hello());
        self.tasks.spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Some(incoming) = endpoint.accept().await {
                let (stock, hello) = (stock.clone(), hello.clone());
                connections.spawn(async move {
                    let connection = incoming.await.unwrap();
                    let mut streams = tokio::task::JoinSet::new();
                    while let Ok(stream) = connection.accept_bi().await {
                        streams.spawn(answer_one(stream, stock.clone(), hello.clone()));
                    }
                });
            }
        });
    }
}

async fn answer_one((mut send, mut receive): (SendStream, RecvStream), stock: Stock, hello: wire::Hello) {
    match message::<wire::Ask>(&mut receive).await.kind {
        Some(ask::Kind::Hello(_)) => say(&mut send, &hello).await,
        Some(ask::Kind::Read(read)) => {
            let (path, body) = stock.lock().get(&read.object).unwrap().clone();
            say(&mut send, &head_of(&path, "\"x\"", &body, false)).await;
            give(&mut send, &read, &body).await;
        }
        other => panic!("{other:?}"),
    }
    let _ = send.finish();
}

/// The body that is asked for, with frames between its own that may be skipped.
async fn give(send: &mut SendStream, read: &wire::Read, body: &Bytes) {
    let to = if read.to == 0 { body.len() } else { (read.to as usize).min(body.len()) };
    let mut at = read.from as usize;
    while at < to {
        let chunk = body.slice(at / CHUNK * CHUNK..body.len().min((at / CHUNK + 1) * CHUNK));
        let end = to.min((at / CHUNK + 1) * CHUNK);
        let said = [
            frame(LATER_FRAME, &[0; 60_000]),
            frame(1, &body[at..end]),
            frame(255, b""),
            frame(2, blake3::hash(&chunk).as_bytes()),
        ];
        let _ = send.write_all(&said.concat()).await;
        at = end;
    }
    if to == body.len() {
        let _ = send.write_all(&frame(3, &(body.len() as u64).to_le_bytes())).await;
    }
}

fn address(node: &Node) -> SocketAddr {
    node.mesh().me().address
}

#[tokio::test]
async fn a_node_of_a_later_minor_version_gives_and_takes_in_the_fleet() {
    let fleet = Fleet::of_edges(1).await;
    let mut later = Later::open(&fleet.authority);
    let edge = fleet.edge(0);
    let (theirs, ours) = (Bytes::from(content(3 * CHUNK - 5)), content(2 * CHUNK + 7));
    fleet.origin.says("/ours", reply(200, &[FRESH, "ETag: \"x\""], &ours));

    // It gives: what it alone has comes from there, and the origin is not asked.
    let (object, variant) = ids("/theirs");
    later.stock.lock().insert(object.0.to_vec(), ("/theirs".to_owned(), theirs.clone()));
    let holding = Holding { object: object.0.to_vec(), variant: variant.0.to_vec(), fresh_secs: 600 };
    for superpeer in &fleet.nodes[..2] {
        later.announce(address(superpeer), vec![holding.clone()]).await;
    }
    let known = || fleet.nodes[..2].iter().all(|node| node.metric("shoal_directory_holdings ") >= 1.0);
    until("its holding to be known", known).await;
    let given = edge.get("/theirs").await;
    given.assert_is(200, &theirs);
    assert!(given.cache_status().contains("detail=peer"), "{}", given.cache_status());
    assert_eq!(fleet.origin.count("/theirs"), 0);

    // It takes: the superpeer says who has it, and the edge gives it.
    edge.warm("/ours").await.assert_is(200, &ours);
    let (object, variant) = ids("/ours");
    let holder = holder_of(
        &later,
        &fleet,
        Resolve { object: object.0.to_vec(), variant: variant.0.to_vec(), ..Resolve::default() },
    )
    .await;
    assert_eq!(holder, address(edge));
    let connection = later.connect(holder).await;
    unknown_question(&connection).await;
    let read = wire::Read { object: object.0.to_vec(), variant: variant.0.to_vec(), ..wire::Read::default() };
    let (_send, mut receive) = asks(&connection, ask::Kind::Read(read)).await;
    assert!(taken(&mut receive).await == ours, "the bytes are those of the origin");
    assert_eq!(fleet.origin.count("/ours"), 1);

    assert_eq!(edge.metric("shoal_peer_streams_refused_total{reason=\"unsupported\"}"), 1.0);
    for node in &fleet.nodes {
        assert_eq!(node.metric("shoal_peer_streams_refused_total{reason=\"protocol\"}"), 0.0);
        assert_eq!(node.metric("shoal_peer_handshake_failures_total{reason=\"version\"}"), 0.0);
        assert_eq!(node.metric("shoal_peer_failures_total{kind=\"protocol\"}"), 0.0);
        assert_eq!(node.metric("shoal_swarm_quarantined"), 0.0);
    }
    later.tasks.shutdown().await;
}

/// Asks superpeers until one names who has it.
async fn holder_of(later: &Later, fleet: &Fleet, resolve: Resolve) -> SocketAddr {
    let asked = async {
        loop {
            for superpeer in &fleet.nodes[..2] {
                let connection = later.connect(address(superpeer)).await;
                let (_send, mut receive) = asks(&connection, ask::Kind::Resolve(resolve.clone())).await;
                let found: wire::Resolved = message(&mut receive).await;
                if let Some(resolved::Kind::Holders(holders)) = found.kind {
                    return holders.places[0].address.parse().unwrap();
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    in_time("a holder to be named", asked).await
}

/// Asks what this version does not know: that stream is refused with the code for it, and the connection stands.
async fn unknown_question(connection: &Connection) {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let mut question = Vec::new();
    unknown_field(&mut question);
    send.write_all(&frame(0, &question)).await.unwrap();
    match in_time("a refusal", receive.read_to_end(99)).await {
        Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(said))) => {
            assert_eq!(said.into_inner(), u64::from(code::UNSUPPORTED));
        }
        other => panic!("{other:?}"),
    }
}

/// A body with its head before it; chunk hashes are checked.
async fn taken(receive: &mut RecvStream) -> Vec<u8> {
    let reply: wire::Reply = message(receive).await;
    let Some(answer::Kind::Head(head)) = reply.kind else { panic!("{reply:?}") };
    let (mut body, mut checked) = (Vec::new(), 0);
    loop {
        match in_time("a frame", heard(receive)).await.unwrap() {
            (1, data) => body.extend(data),
            (2, hash) => {
                assert_eq!(hash, blake3::hash(&body[checked..]).as_bytes());
                checked = body.len();
            }
            (3, length) => {
                assert_eq!((length, checked), ((body.len() as u64).to_le_bytes().to_vec(), body.len()));
                assert_eq!(head.length, Some(body.len() as u64));
                return body;
            }
            (4, _) => {}
            (kind, _) => panic!("frame of type {kind}"),
        }
    }
}
