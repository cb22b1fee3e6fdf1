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
mod failure;
mod fetching;
mod fill;
mod fleet;
mod groups;
mod head;
mod intake;
mod known;
mod lead;
mod leave;
mod methods;
mod orders;
mod pass;
mod post;
mod purge;
mod renewal;
mod rest;
mod seek;
mod sent;
mod splice;
mod supply;
#[cfg(test)]
mod tests;

pub use deliver::{Answer, CACHE_STATUS, Notes};
pub use failure::{Demand, Failure, Unmet};
pub use fill::FillTable;
pub use known::Known;
pub use orders::{By, Done, NotDone, Order, Orders, WAIT_DEFAULT, WAIT_MAX, Way};
pub use purge::Purged;
pub use supply::run as supply;

use crate::body::{Body, Interims};
use crate::clock::Clock;
use crate::config::model::{Config, Site};
use crate::origin::{Fetched, Origins};
use crate::peer::Mesh;
use crate::proto::key::{self, ObjectId, Scheme, VariantId};
use crate::proto::plan::{self, Event, Miss, Step, Tier};
use crate::proto::purge::Judgement;
use crate::proto::semantics::{
    self, EtagKind, FwdReason, Held, Language, RequestFacts, Reuse, Span, Stored, VaryList, Wanted,
};
use crate::proto::time::{Now, Wall};
use crate::proto::verdict::Verdict;
use crate::purge::Purges;
pub use crate::route::Refusal;
use crate::route::{self, PassReason, Routed, Router};
use crate::store::{Hit, Lookup, MissReason, Store};
use crate::task::Spawner;
use crate::telemetry::{Metrics, SiteMetrics};
use arc_swap::ArcSwap;
use fill::{Arriving, Reader, Refreshed, WINDOW_BYTES};
use hashbrown::HashMap;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use intake::RANGE_EXTRA_MAX;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

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
    /// The variant of `object` that a request with `sent` to the origin selects, as far as its `Vary` is known.
    fn variant(&self, object: ObjectId, sent: &HeaderMap) -> VariantId {
        self.variant_by(object, |vary| vary.variant(object, sent))
    }

    fn variant_by(&self, object: ObjectId, by: impl Fn(&VaryList) -> VariantId) -> VariantId {
        let vary = self.store.vary(object).or_else(|| self.known.vary(object));
        vary.map_or_else(|| key::variant(object, std::iter::empty()), |vary| by(&vary))
    }

    /// What is to be judged of a stored version: purges come before freshness. `in_sync` as of now.
    fn standing<'a>(&self, hit: &'a Hit, in_sync: bool) -> Result<Stored<'a>, Gone> {
        let head = &hit.head;
        let purged = match self.purges.judge(head) {
            Judgement::Clear => None,
            judgement => {
                self.metrics.purges.meets.inc();
                match judgement {
                    Judgement::Soft(at) => Some(at),
                    _ => return Err(Gone),
                }
            }
        };
        let (facts, received, initial_age) = (&head.facts, head.received, head.initial_age);
        Ok(Stored { facts, received, initial_age, purged, in_sync })
    }

    /// How a stored version may be used for a request.
    fn reuse(&self, hit: &Hit, exchange: &Exchange) -> Result<Reuse, Gone> {
        let stored = self.standing(hit, exchange.in_sync)?;
        Ok(semantics::reuse(&exchange.facts, &stored, exchange.now, exchange.routed.policy()))
    }
}

/// A hard purge selects it.
#[derive(Clone, Copy, Debug)]
struct Gone;

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
    /// Answers one request, whose head was complete at `now`. Never fails: every error has a response. What is to be told
    /// before that goes to `interims`.
    pub async fn handle(
        self: &Arc<Self>,
        mut request: Request<Body>,
        client: &Client,
        now: Now,
        interims: &Interims,
    ) -> Answer {
        let snapshot = self.node.snapshot.load_full();
        let routed = match snapshot.router.resolve(&client.head_of(&request)) {
            Ok(routed) => routed,
            Err(refusal) => return Answer::refused(refusal),
        };
        let Some(metrics) = snapshot.sites.get(&(Arc::as_ptr(&routed.site) as usize)).map(Arc::clone) else {
            return Answer::refused(Refusal::UnknownHost);
        };
        // Nothing that routes can be listed. All else is read as the origin will see it.
        semantics::strip_listed(request.headers_mut());
        let exchange = Exchange {
            worker: Arc::clone(self),
            facts: RequestFacts::parse(request.method(), request.headers()),
            snapshot,
            routed,
            metrics,
            now: now.wall,
            in_sync: self.node.purges.in_sync(now.mono),
        };
        if methods::is_order(&exchange.routed, &request) {
            return Box::pin(methods::answer(exchange, request)).await;
        }
        // A body may be invisible in the head of an HTTP/2 request.
        let has_body = !matches!(request.body(), Body::Empty);
        match exchange.routed.pass.or_else(|| has_body.then_some(PassReason::BodyOnGet)) {
            // Boxed, since it is larger than all that a hit needs.
            Some(reason) => Box::pin(pass::forward(exchange, request, reason, interims)).await,
            None => Cached::new(exchange, request).run(interims).await,
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
    /// Whether all purges of the fleet were known at that time.
    in_sync: bool,
}

impl Exchange {
    fn site(&self) -> &Arc<Site> {
        &self.routed.site
    }

    /// The fields by which `vary` selects for this request.
    fn selecting<'a>(&self, vary: &VaryList, fields: &'a HeaderMap) -> Cow<'a, HeaderMap> {
        sent::selecting((&self.snapshot.router, &self.routed), vary, fields)
    }
}

/// A request for which the cache may have a part.
struct Cached {
    exchange: Exchange,
    method: Method,
    headers: HeaderMap,
    /// The stored response that was found, and how it was judged.
    found: Option<(Hit, Reuse)>,
    /// A stored part of what is asked for, which is not all of it.
    part: Option<Hit>,
    /// Why the store had nothing to use.
    miss: Option<Miss>,
    /// Why the request goes forward, if it does.
    fwd: FwdReason,
    replans: u8,
    notes: Notes,
}

/// What a fetch left to deliver.
enum Fetching {
    Nothing,
    Arriving(Arc<Arriving>, Reader),
    Own(Box<Fetched>),
    /// A validation that this request asked for itself.
    Refreshed(Arc<Refreshed>),
    Failed(Failure),
}

impl Fetching {
    /// What no other request gets of what is delivered from the store.
    fn withheld(&self) -> Option<&HeaderMap> {
        match self {
            Self::Refreshed(refreshed) => Some(&refreshed.withheld),
            _ => None,
        }
    }
}

impl Cached {
    fn new(exchange: Exchange, request: Request<Body>) -> Self {
        let (head, _no_body) = request.into_parts();
        let notes = Notes::of(&exchange);
        Self {
            exchange,
            method: head.method,
            headers: head.headers,
            found: None,
            part: None,
            miss: None,
            fwd: FwdReason::UriMiss,
            replans: 0,
            notes,
        }
    }

    /// The loop: what `plan` says is done, and what came of it is told to `plan`.
    async fn run(mut self, interims: &Interims) -> Answer {
        let mut event = Event::Arrived;
        let mut fetching = Fetching::Nothing;
        loop {
            let step = plan::next(&self.facts(), event);
            if matches!(step, Step::Deliver(_) | Step::DeliverAndRefresh)
                && let Err(lost) = self.pin()
            {
                event = lost;
                continue;
            }
            match step {
                Step::Lookup => event = self.lookup().await,
                Step::Deliver(verdict) => {
                    if let Fetching::Own(failed) = &fetching {
                        self.note_own(failed);
                    }
                    return self.deliver_stored(verdict, fetching.withheld());
                }
                Step::DeliverAndRefresh => {
                    self.refresh_behind();
                    return self.deliver_stored(Verdict::StaleWhileRevalidate, None);
                }
                Step::Fetch(how, reason) => {
                    (event, fetching) = Box::pin(self.fetch(how, reason, interims)).await;
                }
                Step::DeliverFill(verdict) => return self.deliver_fill(verdict, fetching),
                Step::DeliverOwn => return self.deliver_own(fetching),
                Step::OnlyIfCached => return self.only_if_cached(),
                Step::Fail => return self.fail(fetching),
            }
        }
    }

    fn facts(&self) -> plan::Facts {
        let request = self.exchange.facts;
        // Of interest to a fetch alone, so a hit does not pay for reading them.
        let ranged = request.has_range && self.must_fetch();
        plan::Facts {
            request,
            head: self.method == Method::HEAD,
            far_range: ranged && semantics::range_is_far(&self.headers, self.near_max()),
            one_range: ranged && Wanted::of(&self.headers) != Wanted::Whole,
            uncacheable: self.is_uncacheable(),
            shareable: !self.is_no_store()
                && (!(request.has_authorization || request.has_cookie)
                    || (self.must_fetch() && self.may_share_personal())),
            replans: self.replans,
        }
    }

    /// Up to where a range may begin so that the whole is fetched for it. Others of a fleet may have the whole, but never a part.
    fn near_max(&self) -> u64 {
        let in_fleet = self.exchange.worker.node.mesh.is_some() && self.exchange.routed.peers();
        if in_fleet { WINDOW_BYTES } else { RANGE_EXTRA_MAX }
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
        let variant = |vary: &VaryList| self.selected_by(vary);
        let hit = match store.lookup(exchange.routed.object, exchange.routed.key.as_bytes(), variant) {
            Lookup::Memory(hit) => Ok(hit),
            Lookup::OnDisk(on_disk) => store.load(on_disk).await.or(Err(Miss::Damaged)),
            Lookup::Miss(MissReason::Uri) => Err(Miss::Uri),
            Lookup::Miss(MissReason::Vary) => self.lookup_language().await.ok_or(Miss::Vary),
        };
        match hit {
            Ok(hit) => match self.judge(&hit) {
                Ok(reuse) if !self.is_covered_by(&hit) => {
                    self.found = None;
                    self.part = Some(hit).filter(|hit| may_complete(hit, reuse));
                    self.missed(Miss::Partial)
                }
                Ok(reuse) => {
                    let tier = hit.tier;
                    if let Reuse::Validate { why, ttl, .. } = reuse {
                        self.fwd = why.fwd(ttl);
                    }
                    self.found = Some((hit, reuse));
                    Event::Found(tier, reuse)
                }
                Err(Gone) => {
                    store.drop_purged(&hit);
                    // Found before, if this was planned anew.
                    self.found = None;
                    self.missed(Miss::Purged)
                }
            },
            Err(miss) => {
                // Found before, if this was planned anew: it is another request's.
                self.found = None;
                self.missed(miss)
            }
        }
    }

    /// What is stored and fresh in the language that this request likes best, if the site's policy lets that answer it.
    async fn lookup_language(&self) -> Option<Hit> {
        let (node, routed) = (&self.exchange.worker.node, &self.exchange.routed);
        routed.policy().select_language.then_some(())?;
        let wanted = Language::wanted(&self.headers)?;
        let vary = node.store.vary(routed.object)?;
        let listed =
            vary.variant_in(routed.object, &self.exchange.selecting(&vary, &self.headers), &wanted)?;
        let variant = node.known.of_language(listed)?;
        let hit = match node.store.lookup(routed.object, routed.key.as_bytes(), |_| variant) {
            Lookup::Memory(hit) => hit,
            Lookup::OnDisk(on_disk) => node.store.load(on_disk).await.ok()?,
            Lookup::Miss(_) => return None,
        };
        // What is remembered may be of an older version.
        let is_in_it = Language::of_response(&hit.head.fields()) == Some(wanted);
        (is_in_it && matches!(self.judge(&hit), Ok(Reuse::Fresh { .. }))).then_some(hit)
    }

    /// Holds on to what a reply is to be made of: nothing is begun that could not be sent to its end.
    ///
    /// # Errors
    /// If some of it was given up since it was found.
    fn pin(&mut self) -> Result<(), Event> {
        let Some((hit, _)) = &mut self.found else { return Ok(()) };
        let length = hit.head.length.unwrap_or(0);
        let wanted = if self.exchange.facts.has_range { Wanted::of(&self.headers) } else { Wanted::Whole };
        let range = match wanted {
            Wanted::Span(Span { first, end }) if !hit.head.is_part() => {
                first.min(length)..end.unwrap_or(length).min(length)
            }
            _ => 0..length,
        };
        if hit.pin(range).is_ok() {
            return Ok(());
        }
        self.found = None;
        self.replans += 1;
        Err(self.missed(Miss::Damaged))
    }

    fn missed(&mut self, miss: Miss) -> Event {
        self.notes.missed = true;
        self.miss = Some(miss);
        self.fwd = match miss {
            Miss::Vary => FwdReason::VaryMiss,
            Miss::Partial => FwdReason::Partial,
            Miss::Uri | Miss::Damaged | Miss::Purged => FwdReason::UriMiss,
        };
        Event::Missed(miss)
    }

    /// Whether a stored version has all that is asked for: a part may not. HEAD is not answered from a part, which may
    /// lack fields of the whole (RFC 9110 §15.3.7).
    fn is_covered_by(&self, hit: &Hit) -> bool {
        let head = &hit.head;
        !head.is_part()
            || self.exchange.facts.has_range
                && self.is_covered_by_part((head.status, &head.fields()), head.length)
    }

    fn is_covered_by_part(&self, (status, fields): (StatusCode, &HeaderMap), length: Option<u64>) -> bool {
        Held::of(status, fields, length).is_some_and(|held| held.ranges(&self.headers, fields).is_some())
    }

    /// How a stored version may be used, by what purges and freshness say of it now.
    fn judge(&self, hit: &Hit) -> Result<Reuse, Gone> {
        self.exchange.worker.node.reuse(hit, &self.exchange)
    }
}

/// Whether a stored part is of use to a fetch of more: it is fresh, or the origin can be asked whether it still is what it has.
fn may_complete(hit: &Hit, reuse: Reuse) -> bool {
    hit.head.facts.etag() == EtagKind::Strong || matches!(reuse, Reuse::Fresh { .. })
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
