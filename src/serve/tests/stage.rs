//! An origin in memory whose pages carry a number, a node in front of it, and those who ask.

use crate::body::{Body, Interims};
use crate::clock::Clock;
use crate::config::{self, Sources};
use crate::net::{Datagrams, Listener, Net, NetFuture, Stream, Transport};
use crate::origin::{OriginShared, Origins, Resolver};
use crate::peer::AskError;
use crate::proto::key::{self, CacheKey, KeyParts, Scheme};
use crate::proto::plan::FetchReason;
use crate::proto::purge::{Mode, Selector};
use crate::proto::swarm::{Member, NodeId, Roles};
use crate::proto::time::Wall;
use crate::proto::verdict::Verdict;
use crate::proto::wire::{self, Frame, Reply, ask, reply};
use crate::purge::{Purges, Surroundings};
use crate::serve::supply::{self, out::Sink};
use crate::serve::{Client, Failure, FillTable, Known, Node, Snapshot, Worker};
use crate::store::{Device, DiskConfig, Hit, Lookup, Store, StoreConfig};
use crate::task::Spawner;
use crate::telemetry::{Metrics, Vocabulary};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

pub(super) const HOST: &str = "shop.example";
const STARTED: Wall = Wall::from_secs(1_800_000_000);
/// More names than any vocabulary has.
const NAMES: [&str; 64] = [""; 64];

/// What the origin has at a path.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) version: u64,
    /// Fields beside length, version and entity tag.
    pub(super) fields: String,
    pub(super) etag: bool,
    pub(super) length: usize,
    /// Before the head, and in the middle of the body.
    pub(super) waits: [Duration; 2],
    pub(super) down: bool,
}

impl Page {
    pub(super) fn new(fields: &str) -> Self {
        let fields = fields.to_owned();
        Self { version: 1, fields, etag: true, length: 20, waits: [Duration::ZERO; 2], down: false }
    }
}

/// An origin: each answer is of the version that there was when its request came.
pub(super) struct Origin {
    pages: Mutex<HashMap<String, Page>>,
    asked: Mutex<Vec<(String, HashMap<String, String>)>>,
    spawner: Spawner,
}

impl Origin {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { pages: Mutex::default(), asked: Mutex::default(), spawner: Spawner::current() })
    }

    pub(super) fn put(&self, path: &str, page: Page) {
        self.pages.lock().insert(path.to_owned(), page);
    }

    pub(super) fn change<T>(&self, path: &str, change: impl FnOnce(&mut Page) -> T) -> T {
        change(self.pages.lock().get_mut(path).expect("a page"))
    }

    /// The fields of the requests for a path so far.
    pub(super) fn asked(&self, path: &str) -> Vec<HashMap<String, String>> {
        self.asked
            .lock()
            .iter()
            .filter(|(asked, _)| asked == path)
            .map(|(_, fields)| fields.clone())
            .collect()
    }

    fn heard(&self, head: &str) -> (Page, String, HashMap<String, String>) {
        let mut lines = head.lines();
        let path = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a request line").to_owned();
        let field =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let fields: HashMap<_, _> = lines.filter_map(field).collect();
        self.asked.lock().push((path.clone(), fields.clone()));
        (
            self.pages.lock().get(&path).expect("a page").clone(),
            head.split(' ').next().unwrap_or("").to_owned(),
            fields,
        )
    }
}

async fn converse(origin: Arc<Origin>, mut stream: DuplexStream) -> io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let (page, method, asked) = origin.heard(std::str::from_utf8(&head).expect("a head"));
        let etag = format!("\"{}\"", page.version);
        tokio::time::sleep(page.waits[0]).await;
        let same = page.etag && asked.get("if-none-match") == Some(&etag);
        let (status, length) = match () {
            () if page.down => ("503 Service Unavailable", 0),
            () if same => ("304 Not Modified", 0),
            () => ("200 OK", page.length),
        };
        let mut answer = format!("HTTP/1.1 {status}\r\nx-version: {}\r\n", page.version);
        if !page.down {
            answer.push_str(&page.fields);
        }
        if page.etag && !page.down {
            answer.push_str(&format!("etag: {etag}\r\n"));
        }
        if !same {
            answer.push_str(&format!("content-length: {length}\r\n"));
        }
        answer.push_str("\r\n");
        stream.write_all(answer.as_bytes()).await?;
        if length > 0 && method != "HEAD" {
            let body = body(page.version, length);
            stream.write_all(&body[..length / 2]).await?;
            tokio::time::sleep(page.waits[1]).await;
            stream.write_all(&body[length / 2..]).await?;
        }
    }
}

/// The body of a version: its number, again and again.
pub(super) fn body(version: u64, length: usize) -> Vec<u8> {
    format!("{version:09} ").into_bytes().into_iter().cycle().take(length).collect()
}

/// Connects to the origin, wherever to.
struct Wire(Arc<Origin>);

impl Transport for Wire {
    fn connect(&self, _to: SocketAddr) -> NetFuture<'_, Stream> {
        let (near, far) = tokio::io::duplex(64 << 10);
        let origin = Arc::clone(&self.0);
        // A client that leaves breaks its connection off.
        self.0.spawner.spawn(async move { drop(converse(origin, far).await) });
        Box::pin(async move { Ok(Stream::Other(Box::new(near))) })
    }

    fn listen(&self, _at: SocketAddr) -> io::Result<Listener> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn listen_beside(&self, _at: SocketAddr) -> io::Result<Listener> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn datagrams(&self, _at: SocketAddr) -> io::Result<Datagrams> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// What a node is made of.
pub(super) struct Making<'a> {
    pub(super) memory: u64,
    pub(super) disk: Option<(&'a Path, Arc<dyn Device>)>,
    pub(super) in_fleet: bool,
    /// More settings of the site.
    pub(super) site: &'a str,
    pub(super) spawner: Spawner,
    /// After the start of time.
    pub(super) at: Duration,
}

impl Making<'_> {
    pub(super) fn plain() -> Self {
        let spawner = Spawner::current();
        Self { memory: 64 << 20, disk: None, in_fleet: false, site: "", spawner, at: Duration::ZERO }
    }
}

/// The node.
#[derive(Clone)]
pub(super) struct Stage {
    pub(super) origin: Arc<Origin>,
    pub(super) worker: Arc<Worker>,
}

/// What a client got.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: StatusCode,
    pub(super) verdict: Verdict,
    pub(super) reason: Option<&'static str>,
    pub(super) fields: HeaderMap,
    pub(super) body: Result<Bytes, String>,
}

impl Got {
    /// The version that it is of, which must be one alone.
    pub(super) fn version(&self) -> u64 {
        let stated =
            self.fields["x-version"].to_str().ok().and_then(|text| text.parse().ok()).expect("a version");
        if let (StatusCode::OK, Ok(bytes)) = (self.status, &self.body)
            && !bytes.is_empty()
        {
            assert!(*bytes == body(stated, bytes.len()), "the body is of another version than {stated}");
        }
        stated
    }
}

impl Stage {
    pub(super) async fn before(origin: &Arc<Origin>, making: Making<'_>) -> Self {
        let Making { memory, disk, in_fleet, site, spawner, at } = making;
        let clock = Clock::simulated(STARTED.plus(at));
        let vocabulary = Vocabulary {
            not_stored: &NAMES,
            origin_fetch: &FetchReason::NAMES,
            origin_failure: &NAMES,
            refusal: &NAMES,
        };
        let metrics = Metrics::new("edge-1", None, vocabulary, clock);
        let around = Surroundings { clock, metrics: &metrics, spawner: &spawner };
        let (store, purges) = match disk {
            None => {
                let config = StoreConfig { memory, disk: None };
                let store =
                    Store::open(config, Arc::new(crate::store::FileDevice), clock, &spawner).await.unwrap();
                (store, Purges::unwritten(in_fleet, around))
            }
            Some((path, device)) => {
                let disk = Some(DiskConfig { path: path.to_owned(), size: 64 << 20 });
                let config = StoreConfig { memory, disk };
                let store = Store::open(config, Arc::clone(&device), clock, &spawner).await.unwrap();
                let newest = store.newest_found();
                (store, Purges::open((device, path), newest, in_fleet, around).await.unwrap())
            }
        };
        let net: Net = Arc::new(Wire(Arc::clone(origin)));
        let shared = OriginShared::new(net, clock, spawner.clone(), Resolver::Fixed(Arc::default()));
        let node = Node {
            snapshot: ArcSwap::from_pointee(Snapshot::new(configuration(site), &metrics)),
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
        Self {
            origin: Arc::clone(origin),
            worker: Arc::new(Worker { node: Arc::new(node), origins, spawner }),
        }
    }

    pub(super) fn node(&self) -> &Arc<Node> {
        &self.worker.node
    }

    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        fields: &[(&'static str, &str)],
    ) -> Result<Got, Failure> {
        let mut request = Request::builder().method(method).uri(path).body(Body::Empty).unwrap();
        request.headers_mut().insert("host", HeaderValue::from_static(HOST));
        for (name, value) in fields {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
        }
        let client = Client { from: ([127, 0, 0, 1], 1).into(), scheme: Scheme::Http, tls_name: None };
        let answer =
            self.worker.handle(request, &client, self.node().clock.now(), &Interims::default()).await;
        let (verdict, reason) = (answer.verdict, answer.notes.detail());
        let (head, body) = answer.outcome?.into_parts();
        let body =
            body.collect().await.map(http_body_util::Collected::to_bytes).map_err(|error| error.to_string());
        Ok(Got { status: head.status, verdict, reason, fields: head.headers, body })
    }

    pub(super) async fn get(&self, path: &str) -> Got {
        self.ask(Method::GET, path, &[]).await.expect("a response")
    }

    /// What a peer is told of `path`, and the bytes that it gets.
    pub(super) async fn ask_as_peer(&self, ask: ask::Kind) -> (Option<reply::Kind>, Vec<u8>) {
        let from = Member {
            id: NodeId([9; 16]),
            address: "127.0.0.1:4000".parse().unwrap(),
            name: "edge-2".into(),
            zone: "".into(),
            roles: Roles::EDGE,
            incarnation: 1,
        };
        let heard = Arc::new(Mutex::new((None, Vec::new())));
        supply::answer(&self.worker, &from, ask, Ear(Arc::clone(&heard))).await;
        let (said, bytes) = &mut *heard.lock();
        (said.take(), std::mem::take(bytes))
    }

    pub(super) async fn purge(&self, mode: Mode, selector: Selector) {
        self.node().purges.issue(mode, &[selector]).await.expect("it is applied");
    }

    pub(super) fn stored(&self, path: &str) -> Option<Hit> {
        let key = cache_key(path);
        match self
            .node()
            .store
            .lookup(key.object(), key.as_bytes(), |_| key::variant(key.object(), std::iter::empty()))
        {
            Lookup::Memory(hit) => Some(hit),
            _ => None,
        }
    }

    /// Until all fills have ended.
    pub(super) async fn settle(&self) {
        while self.node().fills.open() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

struct Ear(Arc<Mutex<(Option<reply::Kind>, Vec<u8>)>>);

impl Sink for Ear {
    async fn send_reply(&mut self, reply: &Reply) -> Result<(), AskError> {
        self.0.lock().0.clone_from(&reply.kind);
        Ok(())
    }

    async fn send_data(&mut self, bytes: Bytes) -> Result<(), AskError> {
        self.0.lock().1.extend_from_slice(&bytes);
        Ok(())
    }

    async fn send_frame(&mut self, _frame: Frame) -> Result<(), AskError> {
        Ok(())
    }

    fn finish(self) {}

    fn reset(self, _code: u32) {}
}

fn configuration(site: &str) -> Arc<config::model::Config> {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    let text = format!(
        "[node]\nname = \"edge-1\"\n[[site]]\nname = \"shop\"\nhosts = [\"{HOST}\"]\n\
         origins = [\"http://127.0.0.1:1\"]\n{site}\n[[site.rules]]\npath = \"/passed/*\"\npass = true\n"
    );
    file.write_all(text.as_bytes()).unwrap();
    let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    config::load(&sources).unwrap_or_else(|errors| panic!("{errors}")).config
}

pub(super) fn cache_key(path: &str) -> CacheKey {
    CacheKey::new(KeyParts { site: "shop", scheme: Scheme::Http, host: HOST, path })
}

/// A read of all of the version of `path` that does not vary.
pub(super) fn read(path: &str) -> wire::Read {
    let object = cache_key(path).object();
    let variant = key::variant(object, std::iter::empty());
    wire::Read { object: object.0.to_vec(), variant: variant.0.to_vec(), ..wire::Read::default() }
}

pub(super) fn open(path: &str) -> wire::Open {
    let key = cache_key(path).as_bytes().to_vec();
    wire::Open { key, fields: Vec::new(), read: Some(read(path)), hops: 1 }
}

pub(super) fn url(path: &str) -> Selector {
    Selector::Url { site: "shop".to_owned(), host: HOST.to_owned(), path: path.to_owned() }
}

pub(super) fn tag(tag: &str) -> Selector {
    Selector::Tag { site: Some("shop".to_owned()), tag: tag.to_owned() }
}
