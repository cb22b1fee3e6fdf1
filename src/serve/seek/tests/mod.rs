//! A leader between peers that say what the test tells them to.

use super::*;
use crate::app::{Assembly, Surroundings};
use crate::body::Body;
use crate::clock::Clock;
use crate::config::{self, Sources};
use crate::net::Tcp;
use crate::origin::{OriginShared, Origins, Resolver};
use crate::proto::key::{self, Pin};
use crate::proto::object::layout::{record_at, record_span};
use crate::proto::plan::FetchReason;
use crate::proto::semantics::RequestFacts;
use crate::proto::swarm::Token;
use crate::proto::verdict::Source;
use crate::route;
use crate::serve::fill::{Joined, Outcome, Piece, Reader};
use crate::serve::{Cached, Exchange};
use crate::store::{FileDevice, Hit, Lookup};
use crate::task::Spawner;
use http::{Method, Request, Version as HttpVersion};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;

mod bodies;
mod heads;

/// What a peer says.
#[derive(Clone)]
enum Say {
    Frame(Frame),
    Error(AskError),
    /// Nothing for so long.
    Wait(Duration),
    /// Nothing any more.
    Hang,
}

struct Script(VecDeque<Say>);

impl Frames for Script {
    async fn frame(&mut self) -> Result<Option<Frame>, AskError> {
        while let Some(Say::Wait(time)) = self.0.front().cloned() {
            tokio::time::sleep(time).await;
            self.0.pop_front();
        }
        match self.0.front().cloned() {
            Some(Say::Hang) => std::future::pending().await,
            Some(Say::Frame(frame)) => {
                self.0.pop_front();
                Ok(Some(frame))
            }
            Some(Say::Error(error)) => Err(error),
            Some(Say::Wait(_)) => unreachable!("waited for above"),
            None => Ok(None),
        }
    }
}

type Peer = Box<dyn Fn(&ask::Kind) -> Result<Vec<Say>, AskError> + Send + Sync>;

#[derive(Default)]
struct Scene {
    answers: Mutex<VecDeque<Answer>>,
    peers: Mutex<HashMap<NodeId, Peer>>,
    home: Mutex<Option<Place>>,
    queries: Mutex<Vec<Query>>,
    asked: Mutex<Vec<(NodeId, ask::Kind)>>,
    gone: Mutex<Vec<NodeId>>,
    caught_up: Mutex<Vec<(NodeId, Coverage)>>,
    blamed: Mutex<Vec<(NodeId, Blame)>>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Scene>);

impl Swarm for Fake {
    type Frames = Script;

    fn me(&self) -> NodeId {
        NodeId([0; 16])
    }

    async fn resolve(&self, query: Query) -> Answer {
        self.0.queries.lock().push(query);
        self.0.answers.lock().pop_front().unwrap_or(Answer::Unreachable)
    }

    fn home(&self, _object: crate::proto::key::ObjectId) -> Option<Place> {
        self.0.home.lock().clone()
    }

    async fn ask(&self, place: &Place, ask: ask::Kind) -> Result<Script, AskError> {
        self.0.asked.lock().push((place.node, ask.clone()));
        let peers = self.0.peers.lock();
        let peer = peers.get(&place.node).ok_or(AskError::Unreachable)?;
        peer(&ask).map(|says| Script(says.into()))
    }

    fn gone(&self, _holding: Holding, node: NodeId, _purged: bool) {
        self.0.gone.lock().push(node);
    }

    async fn catch_up(&self, place: &Place, theirs: Coverage) -> Result<(), AskError> {
        self.0.caught_up.lock().push((place.node, theirs));
        Ok(())
    }

    fn blame(&self, node: NodeId, blame: Blame) {
        self.0.blamed.lock().push((node, blame));
    }
}

impl Fake {
    fn answers(&self, answers: impl IntoIterator<Item = Answer>) {
        self.0.answers.lock().extend(answers);
    }

    fn peer(
        &self,
        number: u8,
        says: impl Fn(&wire::Read) -> Result<Vec<Say>, AskError> + Send + Sync + 'static,
    ) {
        let peer: Peer = Box::new(move |ask| match ask {
            ask::Kind::Read(read) => says(read),
            ask::Kind::Open(open) => says(open.read.as_ref().expect("an open says what to read")),
            _ => panic!("{ask:?}"),
        });
        self.0.peers.lock().insert(place(number).node, peer);
    }

    fn reads(&self) -> Vec<(u8, wire::Read)> {
        let asked = self.0.asked.lock();
        let read = |ask: &ask::Kind| match ask {
            ask::Kind::Read(read) => read.clone(),
            ask::Kind::Open(open) => open.read.clone().unwrap(),
            _ => panic!("{ask:?}"),
        };
        asked.iter().map(|(node, ask)| (node.0[0], read(ask))).collect()
    }

    fn blamed(&self) -> Vec<(NodeId, Blame)> {
        self.0.blamed.lock().clone()
    }
}

fn place(number: u8) -> Place {
    Place { node: NodeId([number; 16]), address: ([127, 0, 0, 1], 1).into(), zone: "".into() }
}

fn holders(numbers: impl IntoIterator<Item = u8>) -> Answer {
    Answer::Holders(numbers.into_iter().map(place).collect())
}

const TOKEN: Token = Token { issuer: 1, term: 1, number: 1 };

fn follow(number: u8) -> Answer {
    Answer::Follow(place(number), TOKEN)
}

/// A version as peers have it.
#[derive(Clone)]
struct Had {
    body: Bytes,
    head: wire::Head,
}

impl Had {
    fn hash(bytes: &[u8]) -> [u8; 32] {
        *blake3::hash(bytes).as_bytes()
    }

    /// Its hashes, as one who has it stored lists them.
    fn listed(mut self) -> Self {
        self.head.arriving = false;
        self.head.hashes = self.body.chunks(CHUNK_SIZE as usize).flat_map(Self::hash).collect();
        self
    }

    fn with_field(mut self, name: &str, value: &str) -> Self {
        self.head.fields.push(wire::Field { name: name.to_owned(), value: value.into() });
        self
    }

    fn reply(&self) -> Say {
        reply(reply::Kind::Head(self.head.clone()))
    }

    /// What one says who has `sent` where the version has its own body.
    fn says_of(&self, sent: &[u8], read: &wire::Read) -> Vec<Say> {
        let length = self.body.len() as u64;
        let to = if read.to == 0 { length } else { read.to.min(length) };
        let mut says = vec![self.reply()];
        let mut at = read.from;
        while at < to {
            let end = ((at / CHUNK_SIZE + 1) * CHUNK_SIZE).min(length);
            for part in sent[at as usize..end as usize].chunks(wire::DATA_MAX) {
                says.push(Say::Frame(Frame::Data(Bytes::copy_from_slice(part))));
            }
            let chunk = &self.body[(at / CHUNK_SIZE * CHUNK_SIZE) as usize..end as usize];
            says.push(Say::Frame(Frame::Chunk(Self::hash(chunk))));
            at = end;
        }
        if to == length {
            says.push(Say::Frame(Frame::End(length)));
        }
        says
    }

    fn says(&self, read: &wire::Read) -> Vec<Say> {
        self.says_of(&self.body, read)
    }
}

fn reply(kind: reply::Kind) -> Say {
    Say::Frame(Frame::Message(prost::Message::encode_to_vec(&wire::Reply { kind: Some(kind) }).into()))
}

fn body(length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"body").finalize_xof().fill(&mut bytes);
    bytes.into()
}

/// A node and the swarm around it.
struct Rig {
    worker: Arc<Worker>,
    fake: Fake,
    _folder: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        Self::before("127.0.0.1:9").await
    }

    /// With an origin at this address.
    async fn before(origin: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shoal.toml");
        let toml = format!(
            "[node]\nname = \"edge\"\n[listen]\nhttp = [\"127.0.0.1:0\"]\n[cache]\nmemory = \"64MiB\"\n\
             [[site]]\nname = \"shop\"\nhosts = [\"*\"]\norigins = [\"http://{origin}\"]\n"
        );
        std::fs::write(&file, toml).unwrap();
        let loaded = config::load(&Sources { file: Some(file), ..Sources::default() })
            .unwrap_or_else(|errors| panic!("{errors}"));
        let spawner = Spawner::current();
        let clock = Clock::simulated(Wall::from_secs(1_800_000_000));
        let surroundings = Surroundings {
            net: Arc::new(Tcp),
            clock,
            device: Arc::new(FileDevice),
            resolver: Resolver::Fixed(Arc::default()),
            seed: None,
        };
        let assembly = Assembly::build(loaded, surroundings, &spawner, None).await.unwrap();
        let shared =
            OriginShared::new(Arc::new(Tcp), clock, spawner.clone(), Resolver::Fixed(Arc::default()));
        let origins = Origins::new(shared, spawner.clone());
        let worker = Arc::new(Worker { node: Arc::clone(&assembly.node), origins, spawner });
        Self { worker, fake: Fake::default(), _folder: folder }
    }

    fn exchange(&self, request: &Request<Body>) -> Exchange {
        let snapshot = self.worker.node.snapshot.load_full();
        let head = route::Head {
            method: &Method::GET,
            uri: request.uri(),
            headers: request.headers(),
            scheme: crate::proto::key::Scheme::Http,
            version: HttpVersion::HTTP_11,
            tls_name: None,
            from: [127, 0, 0, 1].into(),
        };
        let routed = snapshot.router.resolve(&head).unwrap();
        Exchange {
            worker: Arc::clone(&self.worker),
            facts: RequestFacts::parse(&Method::GET, request.headers()),
            metrics: Arc::clone(&snapshot.sites[&(Arc::as_ptr(&routed.site) as usize)]),
            snapshot,
            routed,
            now: self.worker.node.clock.now().wall,
            in_sync: true,
        }
    }

    fn asking(&self, fields: &[(&'static str, &str)], reach: Reach) -> Asking {
        let mut request = Request::builder().uri("/a").header("host", "shop.test");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::Empty).unwrap();
        let position = self.worker.node.purges.position();
        Cached::new(self.exchange(&request), request).asking(
            FetchReason::Miss,
            reach,
            (crate::proto::semantics::Wanted::Whole, position),
        )
    }

    /// A version of the object, which does not vary and has the tag `"1"`.
    fn version(&self, body: Bytes) -> Had {
        let asking = self.asking(&[], Reach::Swarm);
        let variant = key::variant(asking.object, std::iter::empty());
        let field = |name: &str, value: &str| wire::Field { name: name.to_owned(), value: value.into() };
        let head = wire::Head {
            key: asking.key.as_bytes().to_vec(),
            status: 200,
            fields: vec![field("cache-control", "max-age=100"), field("etag", "\"1\"")],
            age: 10,
            length: Some(body.len() as u64),
            variant: variant.0.to_vec(),
            version: key::version(asking.object, variant, Pin::StrongEtag(b"\"1\"")).0.to_vec(),
            vary: Vec::new(),
            arriving: true,
            hashes: Vec::new(),
            same: false,
        };
        Had { body, head }
    }

    /// Leads a fill between the peers.
    fn lead(&self, asking: Asking) -> Reader {
        let object = asking.object;
        let variant = self.worker.node.variant(object, &asking.selecting);
        let of = (object, &asking.key);
        let Joined::Lead(leader, reader) = self.worker.node.fills.join(of, variant, || false) else {
            panic!("nobody else leads")
        };
        assert_eq!(asking.position, leader.position());
        let seeking = seek(Arc::clone(&self.worker), self.fake.clone(), asking, leader);
        self.worker.spawner.spawn(Box::pin(seeking));
        reader
    }

    /// Leads a fill of a plain request to its end.
    async fn fill(&self) -> Filled {
        self.fill_for(self.asking(&[], Reach::Swarm)).await
    }

    async fn fill_for(&self, asking: Asking) -> Filled {
        let reader = self.lead(asking);
        let ended = tokio::time::timeout(Duration::from_secs(300), Filled::of(reader));
        ended.await.expect("a fill ends")
    }

    fn stored(&self) -> Option<Hit> {
        let asking = self.asking(&[], Reach::Swarm);
        let variant = |_: &VaryList| key::variant(asking.object, std::iter::empty());
        match self.worker.node.store.lookup(asking.object, asking.key.as_bytes(), variant) {
            Lookup::Memory(hit) => Some(hit),
            _ => None,
        }
    }

    fn metric(&self, series: &str) -> f64 {
        let text = self.worker.node.metrics.encode();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {series}"))
    }

    fn failures(&self, kind: &str) -> f64 {
        self.metric(&format!("shoal_peer_failures_total{{kind=\"{kind}\"}}"))
    }

    fn grounds(&self, ground: &str) -> f64 {
        self.metric(&format!("shoal_swarm_origin_fetches_total{{site=\"shop\",ground=\"{ground}\"}}"))
    }
}

/// How a fill ended, as its reader saw it.
enum Filled {
    /// What was read, up to where it was checked, and whether to the end.
    Read {
        bytes: Vec<u8>,
        source: Source,
        age: u32,
        whole: Result<(), &'static str>,
    },
    Refreshed(Hit),
    NotStored(bool),
    Unfit,
    Failed,
}

impl Filled {
    async fn of(reader: Reader) -> Self {
        let arriving = match reader.outcome().await {
            Outcome::Streaming(arriving) | Outcome::Stored(arriving, _) => arriving,
            Outcome::Refreshed(refreshed) => return Self::Refreshed(refreshed.hit.clone()),
            Outcome::Own(_, server_error) | Outcome::NotStored(server_error) => {
                return Self::NotStored(server_error);
            }
            Outcome::Unfit => return Self::Unfit,
            Outcome::Failed(_) => return Self::Failed,
        };
        let (mut bytes, mut checked) = (Vec::new(), 0);
        let whole = loop {
            match poll_fn(|cx| reader.poll_piece(cx)).await {
                Piece::Bytes(more) => {
                    bytes.extend_from_slice(&more);
                    checked = bytes.len() as u64;
                }
                Piece::Behind(at) => {
                    let index = record_at(at);
                    let record = arriving.partial.record(index).await.expect("the store backs the window");
                    bytes.extend_from_slice(&record[(at - record_span(index).start) as usize..]);
                    checked = bytes.len() as u64;
                    reader.advance(checked);
                }
                Piece::End => break poll_fn(|cx| reader.poll_checked(checked, cx)).await,
                Piece::Broken(why) => break Err(why),
            }
        };
        Self::Read { bytes, source: arriving.source, age: arriving.draft.initial_age, whole }
    }

    #[track_caller]
    fn is_whole(&self, body: &[u8]) {
        match self {
            Self::Read { bytes, whole: Ok(()), .. } => assert!(bytes == body, "other bytes"),
            Self::Read { whole: Err(why), .. } => panic!("broken: {why}"),
            _ => panic!("no body"),
        }
    }

    #[track_caller]
    fn is_broken(&self) -> (&[u8], &'static str) {
        match self {
            Self::Read { bytes, whole: Err(why), .. } => (bytes, why),
            _ => panic!("not broken"),
        }
    }
}
