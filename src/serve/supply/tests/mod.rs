//! What peers are given, with the test in the place of the peer's stream.

mod bodies;
mod opens;
mod reads;
mod relays;

use super::out::Sink;
use super::{ask, wire};
use crate::clock::Clock;
use crate::config::{self, Sources};
use crate::net::Tcp;
use crate::origin::{OriginShared, Origins, Resolver};
use crate::peer::AskError;
use crate::proto::key::{self, CacheKey, KeyParts, ObjectId, Pin, Scheme, VariantId};
use crate::proto::object::{HeadDraft, PurgePosition, SelectingValue};
use crate::proto::plan::FetchReason;
use crate::proto::semantics::{ResponseFacts, StoreReason, VaryList};
use crate::proto::swarm::{Member, NodeId, Roles, Token};
use crate::proto::time::Wall;
use crate::proto::verdict::Source;
use crate::proto::wire::{Frame, Reply, reply};
use crate::purge;
use crate::serve::fill::{Arriving, Joined, Leader, Pace, Reader};
use crate::serve::{FillTable, Known, Node, Snapshot, Worker};
use crate::store::{FileDevice, Hit, Partial, Store, StoreConfig};
use crate::task::Spawner;
use crate::telemetry::{Metrics, Vocabulary};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::io::Write;
use std::sync::Arc;
use tokio::sync::mpsc;

const MIB: usize = 1 << 20;
/// When everything was received.
const RECEIVED: Wall = Wall::from_secs(1_800_000_000);
/// The age of everything at that time.
const AGE: u32 = 7;
/// More names than any vocabulary has.
const NAMES: [&str; 64] = [""; 64];

/// A node with a store in memory, in front of an origin.
struct Rig {
    worker: Arc<Worker>,
}

impl Rig {
    async fn new() -> Self {
        Self::before("127.0.0.1:1", "").await
    }

    /// A node in front of `origin`; `more` settings of its section `node`.
    async fn before(origin: &str, more: &str) -> Self {
        let (spawner, clock) = (Spawner::current(), Clock::simulated(RECEIVED));
        let vocabulary = Vocabulary {
            not_stored: &NAMES,
            origin_fetch: &FetchReason::NAMES,
            origin_failure: &NAMES,
            refusal: &NAMES,
        };
        let metrics = Metrics::new("edge-1", None, vocabulary, clock);
        let config = StoreConfig { memory: 64 << 20, disk: None };
        let store = Store::open(config, Arc::new(FileDevice), clock, &spawner).await.unwrap();
        let shared =
            OriginShared::new(Arc::new(Tcp), clock, spawner.clone(), Resolver::Fixed(Arc::default()));
        let around = purge::Surroundings { clock, metrics: &metrics, spawner: &spawner };
        let purges = purge::Purges::unwritten(false, around);
        let node = Node {
            snapshot: ArcSwap::from_pointee(Snapshot::new(configuration(origin, more), &metrics)),
            store,
            fills: Arc::new(FillTable::new(purges.clone())),
            known: Known::default(),
            purges,
            orders: crate::serve::Orders::default(),
            mesh: None,
            metrics,
            clock,
        };
        let origins = Origins::new(shared, spawner.clone());
        Self { worker: Arc::new(Worker { node: Arc::new(node), origins, spawner }) }
    }

    fn node(&self) -> &Arc<Node> {
        &self.worker.node
    }

    /// Stores a version.
    async fn store(&self, draft: HeadDraft, body: &[u8]) -> Hit {
        let mut filling = self.node().store.begin(draft);
        filling.append(body).await;
        filling.seal().await.unwrap()
    }

    fn read(&self, read: wire::Read) -> Asked {
        self.ask(ask::Kind::Read(read))
    }

    fn ask(&self, ask: ask::Kind) -> Asked {
        self.ask_as(Roles::EDGE, ask)
    }

    fn ask_as(&self, roles: Roles, ask: ask::Kind) -> Asked {
        let (sender, events) = mpsc::channel(1 << 14);
        let from = Member {
            id: NodeId([9; 16]),
            address: "127.0.0.1:4000".parse().unwrap(),
            name: "edge-2".into(),
            zone: "".into(),
            roles,
            incarnation: 1,
        };
        let worker = Arc::clone(&self.worker);
        self.worker.spawner.spawn(async move { super::answer(&worker, &from, ask, Recorder(sender)).await });
        Asked(events)
    }

    /// Begins the fill of the variant that `draft` is of, or, with `vary`, of the object.
    fn lead(&self, draft: HeadDraft, vary: Option<VaryList>) -> Leading {
        let object = draft.key.object();
        let of = (object, &draft.key);
        let Joined::Lead(leader, reader) = self.node().fills.join(of, plain(object), || false) else {
            panic!("somebody leads already");
        };
        let partial = self.node().store.begin(draft.clone()).partial();
        Leading { arriving: arriving(draft, vary, partial), leader, reader }
    }

    /// Requests answered with `answer` so far.
    fn answered(&self, answer: &str) -> u64 {
        self.sample(&format!("shoal_peer_requests_total{{answer=\"{answer}\"}}"))
    }

    fn sample(&self, series: &str) -> u64 {
        let text = self.node().metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(series)).expect(series);
        line.trim().parse().unwrap()
    }
}

/// A fill whose leader is the test.
struct Leading {
    arriving: Arc<Arriving>,
    leader: Leader,
    reader: Reader,
}

impl Leading {
    fn stream(&self) {
        self.leader.stream(Arc::clone(&self.arriving));
    }

    async fn push(&self, bytes: &[u8]) {
        self.leader.push(Bytes::copy_from_slice(bytes), Pace::Free).await;
        self.leader.wake();
    }
}

fn arriving(draft: HeadDraft, vary: Option<VaryList>, partial: Partial) -> Arc<Arriving> {
    let facts = ResponseFacts::parse(draft.status, &draft.fields);
    let withheld = HeaderMap::new();
    Arc::new(Arriving {
        draft,
        withheld,
        facts,
        vary,
        partial,
        source: Source::Peer,
        server: None,
        peer: None,
    })
}

fn configuration(origin: &str, more: &str) -> Arc<config::model::Config> {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    let text = format!(
        "[node]\nname = \"edge-1\"\n{more}\n[[site]]\nname = \"shop\"\nhosts = [\"shop.example\"]\n\
         origins = [\"http://{origin}\"]\n[[site.rules]]\npath = \"/private/*\"\npass = true\n\
         [[site.rules]]\npath = \"/own/*\"\npeers = false\n"
    );
    file.write_all(text.as_bytes()).unwrap();
    let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    config::load(&sources).unwrap_or_else(|errors| panic!("{errors}")).config
}

fn cache_key(path: &str) -> CacheKey {
    CacheKey::new(KeyParts { site: "shop", scheme: Scheme::Http, host: "shop.example", path })
}

fn object(path: &str) -> ObjectId {
    cache_key(path).object()
}

/// The variant of an object that does not vary.
fn plain(object: ObjectId) -> VariantId {
    key::variant(object, std::iter::empty())
}

/// Head of a version of `path` that does not vary.
fn draft(path: &str) -> HeadDraft {
    let key = cache_key(path);
    let variant = plain(key.object());
    let mut fields = HeaderMap::new();
    fields.insert("cache-control", HeaderValue::from_static("max-age=60"));
    fields.insert("etag", HeaderValue::from_static("\"a\""));
    HeadDraft {
        variant,
        version: key::version(key.object(), variant, Pin::StrongEtag(b"\"a\"")),
        key,
        selecting: Vec::new(),
        status: StatusCode::OK,
        fields,
        length: None,
        received: RECEIVED,
        initial_age: AGE,
        position: PurgePosition::default(),
        reason: StoreReason::MaxAge,
        personal: false,
    }
}

/// Head of the version of `path` for those who accept `gzip`.
fn varying(path: &str) -> (HeadDraft, VaryList) {
    let mut draft = draft(path);
    let list: VaryList = [http::header::ACCEPT_ENCODING].into_iter().collect();
    let mut request = HeaderMap::new();
    request.insert("accept-encoding", HeaderValue::from_static("gzip"));
    draft.variant = list.variant(draft.key.object(), &request);
    let name = HeaderName::from_static("accept-encoding");
    draft.selecting = vec![SelectingValue { name, value: Some(Bytes::from_static(b"gzip")) }];
    (draft, list)
}

/// A body that tells at every offset which one it is.
fn body(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&(length as u64).to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn hashes(body: &[u8]) -> Vec<[u8; 32]> {
    body.chunks(MIB).map(|chunk| *blake3::hash(chunk).as_bytes()).collect()
}

/// A read of all of a version of `path`.
fn all_of(path: &str) -> wire::Read {
    let object = object(path);
    wire::Read { object: object.0.to_vec(), variant: plain(object).0.to_vec(), ..wire::Read::default() }
}

const fn token(number: u64) -> Token {
    Token { issuer: 1, term: 1, number }
}

fn under(token: Token, read: wire::Read) -> wire::Read {
    wire::Read { follow: Some(token), ..read }
}

/// What the peer sees.
#[derive(Debug, PartialEq)]
enum Event {
    Reply(reply::Kind),
    Data(Bytes),
    Chunk([u8; 32]),
    End(u64),
    Pulse,
    Finished,
    Reset(u32),
}

struct Recorder(mpsc::Sender<Event>);

impl Recorder {
    async fn note(&self, event: Event) -> Result<(), AskError> {
        self.0.send(event).await.or(Err(AskError::Unreachable))
    }
}

impl Sink for Recorder {
    async fn send_reply(&mut self, reply: &Reply) -> Result<(), AskError> {
        self.note(Event::Reply(reply.kind.clone().unwrap())).await
    }

    async fn send_data(&mut self, bytes: Bytes) -> Result<(), AskError> {
        self.note(Event::Data(bytes)).await
    }

    async fn send_frame(&mut self, frame: Frame) -> Result<(), AskError> {
        let event = match frame {
            Frame::Chunk(hash) => Event::Chunk(hash),
            Frame::End(length) => Event::End(length),
            Frame::Pulse => Event::Pulse,
            Frame::Message(_) | Frame::Data(_) => panic!("not sent like this"),
        };
        self.note(event).await
    }

    fn finish(self) {
        self.0.try_send(Event::Finished).unwrap();
    }

    fn reset(self, code: u32) {
        self.0.try_send(Event::Reset(code)).unwrap();
    }
}

/// The peer's end of one request.
struct Asked(mpsc::Receiver<Event>);

/// What came after the head: the bytes, the offsets behind which hashes came, and the last event.
#[derive(Debug, PartialEq)]
struct Came {
    bytes: Vec<u8>,
    hashes: Vec<(usize, [u8; 32])>,
    end: Option<u64>,
    last: Event,
}

impl Asked {
    async fn next(&mut self) -> Event {
        self.0.recv().await.expect("the answer has an end")
    }

    /// The next that is no pulse.
    async fn sign(&mut self) -> Event {
        loop {
            match self.next().await {
                Event::Pulse => {}
                event => return event,
            }
        }
    }

    async fn reply(&mut self) -> reply::Kind {
        match self.sign().await {
            Event::Reply(reply) => reply,
            other => panic!("no reply but {other:?}"),
        }
    }

    async fn head(&mut self) -> wire::Head {
        match self.reply().await {
            reply::Kind::Head(head) => head,
            other => panic!("no head but {other:?}"),
        }
    }

    /// A reply that is all that comes.
    async fn only(mut self) -> reply::Kind {
        let reply = self.reply().await;
        assert_eq!(self.next().await, Event::Finished);
        reply
    }

    /// The code of a reset that is all that comes.
    async fn refused(mut self) -> u32 {
        match self.sign().await {
            Event::Reset(code) => code,
            other => panic!("no reset but {other:?}"),
        }
    }

    /// Body bytes until `length` have come.
    async fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            match self.sign().await {
                Event::Data(data) => bytes.extend_from_slice(&data),
                other => panic!("no bytes but {other:?}"),
            }
        }
        bytes
    }

    async fn rest(mut self) -> Came {
        let (mut bytes, mut hashes, mut end) = (Vec::new(), Vec::new(), None);
        loop {
            match self.sign().await {
                Event::Data(data) => bytes.extend_from_slice(&data),
                Event::Chunk(hash) => hashes.push((bytes.len(), hash)),
                Event::End(length) => end = Some(length),
                last @ (Event::Finished | Event::Reset(_)) => return Came { bytes, hashes, end, last },
                other => panic!("{other:?} within the body"),
            }
        }
    }
}

fn gone() -> reply::Kind {
    super::gone()
}
