//! The one place where the path of a request is written.
//!
//! [`Worker::handle`] routes a request and either forwards it (`pass`) or runs the loop over
//! `proto::plan`: each step is one awaited call that gives the next event. Nothing below calls back.
//!
//! State: the node's store, table of fills and memory of keys are shared by all workers; pools of
//! origin connections belong to one worker. A request keeps the configuration snapshot with which it
//! began.

mod asking;
mod body;
mod deliver;
mod explain;
mod fill;
mod intake;
mod known;
mod lead;
mod leave;
mod methods;
mod orders;
mod pass;
mod post;
mod purge;
mod seek;
mod supply;

pub use deliver::{Answer, CACHE_STATUS, Failure, Notes};
pub use fill::FillTable;
pub use known::Known;
pub use orders::{By, Done, NotDone, Order, Orders, WAIT_DEFAULT, WAIT_MAX, Way};
pub use purge::Purged;
pub use supply::run as supply;

use crate::body::Body;
use crate::clock::Clock;
use crate::config::model::{Config, Site};
use crate::origin::{Fetched, Origins};
use crate::peer::Mesh;
use crate::proto::key::{ObjectId, Scheme, VariantId};
use crate::proto::plan::{self, Event, FetchReason, Filled, How, Miss, Step, Tier};
use crate::proto::seek::Ground;
use crate::proto::semantics::{self, RequestFacts, Reuse, Stored, VaryList};
use crate::proto::time::{Now, Wall};
use crate::proto::verdict::{Source, Verdict};
use crate::purge::Purges;
use crate::route::{self, PassReason, Refusal, Routed, Router};
use crate::store::{Hit, Lookup, MissReason, Store};
use crate::task::Spawner;
use crate::telemetry::{Metrics, SiteMetrics};
use arc_swap::ArcSwap;
use fill::{Arriving, Joined, Outcome, Reader, Under, WINDOW_BYTES};
use hashbrown::HashMap;
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use lead::Reach;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A validated configuration with what is derived from it; swapped whole on reload.
pub struct Snapshot {
    /// The configuration.
    pub config: Arc<Config>,
    /// Its routes.
    pub router: Router,
    /// Metric handles by the address of the site, which the snapshot keeps.
    pub sites: HashMap<usize, Arc<SiteMetrics>>,
    /// What this node adds to `Via` in responses.
    pub via: Option<HeaderValue>,
}

impl Snapshot {
    /// Derives routes and metric handles.
    pub fn new(config: Arc<Config>, metrics: &Metrics) -> Self {
        let sites =
            config.sites.iter().map(|site| (Arc::as_ptr(site) as usize, metrics.site(&site.name))).collect();
        let via = semantics::via(Version::HTTP_11, &config.node.name);
        Self { router: Router::new(&config), sites, via, config }
    }
}

/// What all workers of a node share.
pub struct Node {
    /// The configuration in force.
    pub snapshot: ArcSwap<Snapshot>,
    /// What is stored.
    pub store: Store,
    /// Fetches in progress.
    pub fills: Arc<FillTable>,
    /// What is remembered of keys.
    pub known: Known,
    /// The purges that were applied here.
    pub purges: Purges,
    /// Purges as they are asked for here.
    pub orders: Orders,
    /// The swarm, if this node is part of a fleet.
    pub mesh: Option<Mesh>,
    /// Metric handles.
    pub metrics: Arc<Metrics>,
    /// Time.
    pub clock: Clock,
}

impl Node {
    /// The variant of `object` that a request with `fields` selects, as far as its `Vary` is known.
    fn variant(&self, object: ObjectId, fields: &HeaderMap) -> VariantId {
        match self.store.vary(object) {
            Some(vary) => vary.variant(object, fields),
            None => self.known.variant(object, fields),
        }
    }
}

/// One worker: a thread with a runtime of its own.
pub struct Worker {
    /// What it shares with the others.
    pub node: Arc<Node>,
    /// Its connections to origins.
    pub origins: Origins,
    /// Owner of its tasks.
    pub spawner: Spawner,
}

/// How a client is connected.
#[derive(Clone, Debug)]
pub struct Client {
    /// Address of the peer.
    pub from: SocketAddr,
    /// By which scheme it asks.
    pub scheme: Scheme,
    /// Server name of the TLS handshake.
    pub tls_name: Option<Arc<str>>,
}

impl Client {
    fn head_of<'a>(&'a self, request: &'a Request<Body>) -> route::Head<'a> {
        route::Head {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            scheme: self.scheme,
            version: request.version(),
            tls_name: self.tls_name.as_deref(),
            from: self.from.ip(),
        }
    }
}

impl Worker {
    /// Answers one request, whose head was complete at `now`. Never fails: every error has a response.
    pub async fn handle(self: &Arc<Self>, request: Request<Body>, client: &Client, now: Now) -> Answer {
        let snapshot = self.node.snapshot.load_full();
        let routed = match snapshot.router.resolve(&client.head_of(&request)) {
            Ok(routed) => routed,
            Err(refusal) => return Answer::refused(refusal),
        };
        let Some(metrics) = snapshot.sites.get(&(Arc::as_ptr(&routed.site) as usize)).map(Arc::clone) else {
            return Answer::refused(Refusal::UnknownHost);
        };
        let exchange = Exchange {
            worker: Arc::clone(self),
            facts: RequestFacts::parse(request.method(), request.headers()),
            snapshot,
            routed,
            metrics,
            now: now.wall,
        };
        if methods::is_order(&exchange.routed, &request) {
            return Box::pin(methods::answer(exchange, request)).await;
        }
        // A body may be invisible in the head of an HTTP/2 request.
        let has_body = !matches!(request.body(), Body::Empty);
        match exchange.routed.pass.or_else(|| has_body.then_some(PassReason::BodyOnGet)) {
            // Boxed, since it is larger than all that a hit needs.
            Some(reason) => Box::pin(pass::forward(exchange, request, reason)).await,
            None => Cached::new(exchange, request).run().await,
        }
    }

    /// 128 random bits.
    fn nonce(&self) -> [u8; 16] {
        rand::random()
    }
}

/// One request and what was decided about it before any look-up.
struct Exchange {
    worker: Arc<Worker>,
    snapshot: Arc<Snapshot>,
    routed: Routed,
    metrics: Arc<SiteMetrics>,
    facts: RequestFacts,
    /// The time by which freshness is judged: of the request, later of the end of a fetch.
    now: Wall,
}

impl Exchange {
    fn site(&self) -> &Arc<Site> {
        &self.routed.site
    }
}

/// A request for which the cache may have a part.
struct Cached {
    exchange: Exchange,
    method: Method,
    headers: HeaderMap,
    /// The stored response that was found, and how it was judged.
    found: Option<(Hit, Reuse)>,
    replans: u8,
    notes: Notes,
}

/// What a fetch left to deliver.
enum Fetching {
    Nothing,
    Arriving(Arc<Arriving>, Reader),
    Own(Box<Fetched>),
    Failed(Failure),
}

impl Cached {
    fn new(exchange: Exchange, request: Request<Body>) -> Self {
        let (head, _no_body) = request.into_parts();
        let notes = Notes::of(&exchange);
        Self { exchange, method: head.method, headers: head.headers, found: None, replans: 0, notes }
    }

    /// The loop: what `plan` says is done, and what came of it is told to `plan`.
    async fn run(mut self) -> Answer {
        let mut event = Event::Arrived;
        let mut fetching = Fetching::Nothing;
        loop {
            match plan::next(&self.facts(), event) {
                Step::Lookup => event = self.lookup().await,
                Step::Deliver(verdict) => return self.deliver_stored(verdict),
                Step::DeliverAndRefresh => {
                    self.refresh_behind();
                    return self.deliver_stored(Verdict::StaleWhileRevalidate);
                }
                Step::Fetch(how, reason) => (event, fetching) = Box::pin(self.fetch(how, reason)).await,
                Step::DeliverFill(verdict) => return self.deliver_fill(verdict, fetching),
                Step::DeliverOwn => return self.deliver_own(fetching),
                Step::OnlyIfCached => return self.only_if_cached(),
                Step::Fail => return self.fail(fetching),
            }
        }
    }

    fn facts(&self) -> plan::Facts {
        let request = self.exchange.facts;
        plan::Facts {
            request,
            head: self.method == Method::HEAD,
            far_range: request.has_range && semantics::range_is_far(&self.headers, WINDOW_BYTES),
            uncacheable: self.is_uncacheable(),
            shareable: !self.is_no_store()
                && (!(request.has_authorization || request.has_cookie)
                    || (self.must_fetch() && self.may_share_personal())),
            replans: self.replans,
        }
    }

    /// What is remembered of the key is of interest only then, so a hit does not pay for it.
    fn must_fetch(&self) -> bool {
        self.notes.missed || matches!(self.found, Some((_, Reuse::Validate { .. })))
    }

    fn is_uncacheable(&self) -> bool {
        let (known, routed) = (&self.exchange.worker.node.known, &self.exchange.routed);
        self.found.is_none() && self.must_fetch() && known.is_uncacheable(routed.object, self.exchange.now)
    }

    /// Whether what this request brings must not be stored, which would be of no use to those who wait.
    fn is_no_store(&self) -> bool {
        self.exchange.facts.no_store && self.exchange.routed.policy().honour_request_directives
    }

    /// Whether a request with cookies may wait for somebody else's response (design §4). One with
    /// `Authorization` never does.
    fn may_share_personal(&self) -> bool {
        let routed = &self.exchange.routed;
        let by_rule = routed.rule.is_some_and(|rule| routed.site.rules[rule].coalesce_cookies);
        !self.exchange.facts.has_authorization
            && (by_rule || self.exchange.worker.node.known.is_storable(routed.object))
    }

    async fn lookup(&mut self) -> Event {
        let exchange = &self.exchange;
        let store = &exchange.worker.node.store;
        let variant = |vary: &VaryList| vary.variant(exchange.routed.object, &self.headers);
        let hit = match store.lookup(exchange.routed.object, exchange.routed.key.as_bytes(), variant) {
            Lookup::Memory(hit) => Ok(hit),
            Lookup::OnDisk(on_disk) => store.load(on_disk).await.or(Err(Miss::Damaged)),
            Lookup::Miss(MissReason::Uri) => Err(Miss::Uri),
            Lookup::Miss(MissReason::Vary) => Err(Miss::Vary),
        };
        match hit {
            Ok(hit) => {
                let tier = hit.tier;
                let reuse = self.judge(&hit);
                self.found = Some((hit, reuse));
                Event::Found(tier, reuse)
            }
            Err(miss) => {
                self.notes.missed = true;
                Event::Missed(miss)
            }
        }
    }

    fn judge(&self, hit: &Hit) -> Reuse {
        let head = &hit.head;
        let stored = Stored { facts: &head.facts, received: head.received, initial_age: head.initial_age };
        semantics::reuse(&self.exchange.facts, &stored, self.exchange.now, self.exchange.routed.policy())
    }

    /// Fetches, from a peer or from the origin, and waits until it is known what the answer is to this request.
    async fn fetch(&mut self, how: How, reason: FetchReason) -> (Event, Fetching) {
        self.replans += 1;
        self.notes.reason = Some(reason);
        let exchange = &self.exchange;
        let (object, worker) = (exchange.routed.object, Arc::clone(&exchange.worker));
        if how == How::Forward {
            return self.forward(reason).await;
        }
        let joined = match how {
            How::Join => worker.node.fills.join(object, self.variant(), || self.settled()),
            _ => Joined::Alone,
        };
        let (reader, collapsed) = match joined {
            Joined::Settled => return self.filled(Filled::Unfit, Fetching::Nothing),
            Joined::Follow(reader) => {
                exchange.metrics.collapsed.inc();
                (reader, true)
            }
            Joined::Lead(leader, reader) => {
                lead::start(&worker, self.asking(reason, Reach::Swarm), leader);
                (reader, false)
            }
            Joined::Alone => {
                let (leader, reader) = worker.node.fills.alone(object);
                lead::start(&worker, self.asking(reason, Reach::Stored), leader);
                (reader, false)
            }
        };
        let outcome = reader.outcome().await;
        self.notes.collapsed = collapsed;
        self.outcome(outcome, reader, collapsed)
    }

    fn outcome(&mut self, outcome: Outcome, reader: Reader, collapsed: bool) -> (Event, Fetching) {
        self.exchange.now = self.exchange.worker.node.clock.now().wall;
        match outcome {
            Outcome::Streaming(arriving) | Outcome::Stored(arriving, _) if !self.selects(&arriving) => {
                self.filled(Filled::Unfit, Fetching::Nothing)
            }
            Outcome::Streaming(arriving) | Outcome::Stored(arriving, _) => {
                self.notes.from_peer = arriving.source == Source::Peer;
                let filled = Filled::Streaming { collapsed, source: arriving.source };
                self.filled(filled, Fetching::Arriving(arriving, reader))
            }
            Outcome::Refreshed(hit) => {
                // Decided, since the fill has ended.
                let under = reader.poll_under(&Context::from_waker(Waker::noop()));
                let in_fleet = self.exchange.worker.node.mesh.is_some();
                self.notes.from_peer = in_fleet && under != Poll::Ready(Under::Origin);
                let reuse = self.judge(&hit);
                self.found = Some((hit, reuse));
                self.filled(Filled::Refreshed { collapsed }, Fetching::Nothing)
            }
            Outcome::Own(fetched, server_error) => {
                self.filled(Filled::Own { server_error }, Fetching::Own(fetched))
            }
            Outcome::NotStored(server_error) => {
                self.filled(Filled::NotStored { server_error }, Fetching::Nothing)
            }
            Outcome::Unfit => self.filled(Filled::Unfit, Fetching::Nothing),
            Outcome::Failed(failure) => self.filled(Filled::Failed, Fetching::Failed(failure)),
        }
    }

    /// Sends the client's own request, conditions and range included.
    async fn forward(&mut self, reason: FetchReason) -> (Event, Fetching) {
        let exchange = &self.exchange;
        let request = self.forward_head(false).map(|()| Body::Empty);
        let (leader, reader) = exchange.worker.node.fills.alone(exchange.routed.object);
        exchange.metrics.origin_fetches.inc(reason as usize);
        exchange.metrics.taking.origin_fetches.of(Ground::Off).inc();
        let fetched = match exchange.worker.origins.fetch(&exchange.site().origin, request, None).await {
            Ok(fetched) => fetched,
            Err(error) => {
                exchange.metrics.origin_failures.inc(error.kind() as usize);
                return self.filled(Filled::Failed, Fetching::Failed(Failure::Origin(error.into())));
            }
        };
        if self.method != Method::GET {
            return self.own(fetched);
        }
        match lead::storable(&exchange.facts, exchange.routed.policy(), &fetched.response) {
            Ok(storable) => {
                lead::adopt(
                    &exchange.worker,
                    self.asking(reason, Reach::Origin),
                    leader,
                    (fetched, storable),
                );
                let outcome = reader.outcome().await;
                self.outcome(outcome, reader, false)
            }
            Err(not_storable) => {
                let (node, routed) = (&exchange.worker.node, &exchange.routed);
                lead::remember(
                    node,
                    &exchange.metrics,
                    routed.object,
                    not_storable,
                    fetched.response.status(),
                );
                self.notes.not_stored = Some(not_storable);
                self.own(fetched)
            }
        }
    }

    fn own(&self, fetched: Fetched) -> (Event, Fetching) {
        let server_error = lead::is_server_error(fetched.response.status());
        self.filled(Filled::Own { server_error }, Fetching::Own(Box::new(fetched)))
    }

    fn filled(&self, filled: Filled, fetching: Fetching) -> (Event, Fetching) {
        let stale = matches!(self.found, Some((_, Reuse::Validate { if_error: true, .. })));
        (Event::Filled { filled, stale }, fetching)
    }

    /// Whether a fresh result appeared in the store since this request looked.
    fn settled(&self) -> bool {
        let exchange = &self.exchange;
        let variant = |vary: &VaryList| vary.variant(exchange.routed.object, &self.headers);
        let key = exchange.routed.key.as_bytes();
        match exchange.worker.node.store.lookup(exchange.routed.object, key, variant) {
            Lookup::Memory(hit) => matches!(self.judge(&hit), Reuse::Fresh { .. }),
            Lookup::OnDisk(_) => self.found.is_none(),
            Lookup::Miss(_) => false,
        }
    }

    fn variant(&self) -> VariantId {
        self.exchange.worker.node.variant(self.exchange.routed.object, &self.headers)
    }

    /// Whether this request selects the variant that is arriving.
    fn selects(&self, arriving: &Arriving) -> bool {
        let object = self.exchange.routed.object;
        arriving
            .vary
            .as_ref()
            .is_none_or(|vary| vary.variant(object, &self.headers) == arriving.draft.variant)
    }

    /// Refreshes a stale object behind the response that it just gave (RFC 5861 §3).
    fn refresh_behind(&self) {
        let worker = &self.exchange.worker;
        let joined = worker.node.fills.join(self.exchange.routed.object, self.variant(), || self.settled());
        if let Joined::Lead(leader, _reader) = joined {
            let asking = self.asking(FetchReason::Refresh, Reach::Swarm);
            lead::start(worker, asking, leader);
        }
    }
}

impl From<MissReason> for Miss {
    fn from(reason: MissReason) -> Self {
        match reason {
            MissReason::Uri => Self::Uri,
            MissReason::Vary => Self::Vary,
        }
    }
}

/// The tier's name in `Cache-Status`.
pub(crate) const fn tier_name(tier: Tier) -> &'static str {
    match tier {
        Tier::Memory => "memory",
        Tier::Disk => "disk",
    }
}
