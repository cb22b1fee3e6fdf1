//! The leader of a fill: whether it seeks its version among peers (`seek`), and asking the origin: one
//! request, its classification, and the way of the body.

use super::failure::Failure;
use super::fill::{Arriving, Leader, Under};
use super::intake::Intake;
use super::leave::Leave;
use super::splice::{self, Joint, Splice, Stored};
use super::{Node, Worker, renewal, seek};
use crate::body::Body;
use crate::config::model::Site;
use crate::origin::{FetchError, Fetched, on_interim};
use crate::proto::key::{self, CacheKey, ObjectId, Pin as VersionPin};
use crate::proto::object::{HeadDraft, PurgePosition};
use crate::proto::plan::FetchReason;
use crate::proto::purge::Judgement;
use crate::proto::relay::Checker;
use crate::proto::seek::Ground;
use crate::proto::semantics::{
    self, CachePolicy, NotStorable, RequestFacts, ResponseFacts, StoreReason, Vary, VaryList, Wanted,
};
use crate::proto::verdict::Source;
use crate::route;
use crate::store::Hit;
use crate::telemetry::{SiteMetrics, enter};
use http::header::RANGE;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use std::sync::Arc;

/// Where the leader of a fill looks for its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Among peers, as the directory says, then at the origin.
    Swarm,
    /// Among what peers have stored, then at the origin without a lease: nobody else may wait for it.
    Stored,
    /// At the origin only: this node is the object's home edge.
    Origin,
    /// At the origin only, and what comes stays on this node: the site or rule does not share.
    Off,
}

/// Everything that a fetch for the cache needs; independent of the client that caused it.
#[derive(Clone)]
pub(super) struct Asking {
    /// The site.
    pub site: Arc<Site>,
    /// Its metrics.
    pub metrics: Arc<SiteMetrics>,
    /// What may be stored.
    pub policy: CachePolicy,
    /// The key and its identity.
    pub key: CacheKey,
    /// Identity of the object.
    pub object: ObjectId,
    /// What the client's request says of caching.
    pub request: RequestFacts,
    /// The fields that the origin is sent for the client's, by which the response's `Vary` selects.
    pub selecting: HeaderMap,
    /// Head of the request to the origin, unconditional and for the whole body.
    pub forward: Request<()>,
    /// The stored version to validate.
    pub stale: Option<Hit>,
    /// A stored part of it, which no purge selects.
    pub part: Option<Hit>,
    /// What of it is fetched.
    pub wanted: Wanted,
    /// Whether only a range was asked for, so that no more than that is worth much.
    pub is_sparing: bool,
    /// Why it is fetched, and the origin asked if no peer has it.
    pub reason: FetchReason,
    /// Where it is looked for.
    pub reach: Reach,
    /// The purge position of its fill, before anybody was asked: what comes carries it.
    pub position: PurgePosition,
}

/// Why a response may be stored, and what it varies by.
pub(super) type Storable = (StoreReason, Option<VaryList>);

/// What an origin response means for the cache.
enum Classified {
    /// It may be stored, perhaps together with a part that is.
    Store(Storable, Option<Box<Splice>>),
    /// It must not.
    Pass(NotStorable),
    /// It validates the stored version.
    Refresh(Hit),
    /// It is a 304 that validates nothing: ask again without conditions.
    Again,
}

/// Fetches for a fill, from request to end of body, as a task of `worker`.
pub(super) fn start(worker: &Arc<Worker>, asking: Asking, leader: Leader) {
    // Boxed here, since each layer around a task moves it.
    worker.spawner.spawn(Box::pin(lead(Arc::clone(worker), asking, leader)));
}

async fn lead(worker: Arc<Worker>, asking: Asking, leader: Leader) {
    let metrics = Arc::clone(&asking.metrics);
    let _open = enter(&metrics.fills_open);
    let ground = match &worker.node.mesh {
        None => Ground::Off,
        Some(_) if asking.reach == Reach::Off => Ground::Off,
        // Parts are not shared.
        Some(_) if asking.is_of_part() => Ground::Off,
        Some(_) if asking.reach == Reach::Origin => Ground::Home,
        Some(_) if asking.is_end_to_end() => Ground::EndToEnd,
        Some(mesh) => {
            let mesh = mesh.clone();
            return Box::pin(seek::seek(worker, mesh, asking, leader)).await;
        }
    };
    from_origin(worker, asking, leader, Leave::of(ground)).await;
}

/// Fetches from the origin.
pub(super) async fn from_origin(worker: Arc<Worker>, mut asking: Asking, leader: Leader, leave: Leave) {
    if worker.node.mesh.is_some() {
        leader.under(Under::Origin);
    }
    match ask(&worker, &mut asking, &leader, leave.ground).await {
        Err(error) => {
            leader.failed(Failure::Origin(error.into()));
            leave.failed();
        }
        Ok((fetched, Classified::Refresh(hit))) => {
            let refreshed = renewal::refresh(&worker.node, &asking, &hit, fetched).await;
            if worker.node.purges.judge(&refreshed.hit.head) != Judgement::Clear {
                // It stays what it was judged before, so nobody is sent here for it.
                worker.node.metrics.purges.fills.inc();
                leave.not_kept();
            } else {
                leave.validated(&asking, &refreshed, worker.node.clock.now().wall);
            }
            leader.refreshed(refreshed);
        }
        Ok((fetched, Classified::Store(storable, splice))) => {
            store(worker, &asking, (leader, leave), (fetched, storable), splice).await;
        }
        Ok((fetched, classified)) => {
            let mut of_object = false;
            if let Classified::Pass(not_storable) = classified {
                let status = fetched.response.status();
                of_object = remember(&worker.node, &asking.metrics, asking.object, not_storable, status);
            }
            let server_error = is_server_error(fetched.response.status());
            leader.not_stored(fetched, server_error);
            leave.not_storable(of_object);
        }
    }
}

/// Takes over a response that a request of its own brought and that may be stored. `leader` was made
/// before that request was sent.
pub(super) fn adopt(worker: &Arc<Worker>, asking: Asking, leader: Leader, storable: (Fetched, Storable)) {
    let own = Arc::clone(worker);
    worker.spawner.spawn(Box::pin(async move {
        let metrics = Arc::clone(&asking.metrics);
        let _open = enter(&metrics.fills_open);
        store(own, &asking, (leader, Leave::of(Ground::Off)), storable, None).await;
    }));
}

/// Counts a response that is not stored. That is kept in mind only if others would get the like: else
/// any client could keep the requests of all others from sharing a fetch. Nor is a failure, which is
/// no reason to send the origin the whole crowd when it comes back. Returns whether it is kept in mind.
pub(super) fn remember(
    node: &Node,
    metrics: &SiteMetrics,
    object: ObjectId,
    not_storable: NotStorable,
    status: StatusCode,
) -> bool {
    metrics.not_stored.inc(not_storable as usize);
    // A 304 tells nothing of the response that it stands for.
    let tells = status != StatusCode::NOT_MODIFIED && !is_server_error(status);
    let of_object = tells && not_storable.is_of_object();
    if of_object {
        node.known.uncacheable(object, node.clock.now().wall);
    }
    of_object
}

/// Whether a response with this status is one for which `stale-if-error` stands in (RFC 5861 §4).
pub(super) fn is_server_error(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// Asks only for what is missing, if a part is stored. Asks for all that is wanted if the answer does not fit the part.
async fn ask(
    worker: &Worker,
    asking: &mut Asking,
    leader: &Leader,
    ground: Ground,
) -> Result<(Fetched, Classified), FetchError> {
    let Some(joint) = Joint::of(asking) else { return ask_for_all(worker, asking, leader, ground).await };
    let fetched = fetch(worker, asking, joint.request(asking), (leader, ground)).await?;
    if let Some((splice, storable)) = joint.fit(asking, &fetched) {
        return Ok((fetched, Classified::Store(storable, Some(Box::new(splice)))));
    }
    match fetched.response.status() {
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::NOT_MODIFIED => {
            drop(fetched);
            ask_for_all(worker, asking, leader, ground).await
        }
        _ => {
            let classified = classify(asking, &fetched);
            Ok((fetched, classified))
        }
    }
}

/// Asks, conditionally if a stored version has validators; asks again without conditions, once, if
/// the answer was a 304 that fits nothing stored (RFC 9111 §4.3.4).
async fn ask_for_all(
    worker: &Worker,
    asking: &mut Asking,
    leader: &Leader,
    ground: Ground,
) -> Result<(Fetched, Classified), FetchError> {
    let mut request = asking.request_to_origin();
    let conditional = asking
        .stale
        .as_ref()
        .is_some_and(|hit| semantics::make_conditional(request.headers_mut(), &hit.head.fields()));
    asking.ask_for_part(&mut request);
    let fetched = fetch(worker, asking, request, (leader, ground)).await?;
    match classify(asking, &fetched) {
        Classified::Again if conditional => drop(fetched),
        Classified::Again => return Err(unasked_304(asking)),
        classified => return Ok((fetched, classified)),
    }
    let mut request = asking.request_to_origin();
    asking.ask_for_part(&mut request);
    let fetched = fetch(worker, asking, request, (leader, ground)).await?;
    match classify(asking, &fetched) {
        Classified::Again => Err(unasked_304(asking)),
        classified => Ok((fetched, classified)),
    }
}

/// There is nothing that it could stand for (RFC 9110 §15.4.5).
fn unasked_304(asking: &Asking) -> FetchError {
    let error = FetchError::Protocol("304 that was not asked for".into());
    asking.metrics.origin_failures.inc(error.kind() as usize);
    error
}

async fn fetch(
    worker: &Worker,
    asking: &Asking,
    mut request: Request<Body>,
    (leader, ground): (&Leader, Ground),
) -> Result<Fetched, FetchError> {
    on_interim(&mut request, leader.interims());
    asking.metrics.origin_fetches.inc(asking.reason as usize);
    asking.metrics.taking.origin_fetches.of(ground).inc();
    let (clock, metrics) = (worker.node.clock, &asking.metrics);
    let asked = clock.mono();
    let fetched = worker.origins.fetch(&asking.site.origin, request, None).await;
    match &fetched {
        Ok(_) => metrics.origin_answered(clock.mono().saturating_duration_since(asked)),
        Err(error) => metrics.origin_failures.inc(error.kind() as usize),
    }
    fetched
}

fn classify(asking: &Asking, fetched: &Fetched) -> Classified {
    let response = &fetched.response;
    if response.status() == StatusCode::NOT_MODIFIED {
        return match &asking.stale {
            Some(hit) if semantics::validates(&hit.head.fields(), response.headers()) => {
                Classified::Refresh(hit.clone())
            }
            _ => Classified::Again,
        };
    }
    match storable(&asking.request, &asking.policy, response) {
        Ok(storable) => Classified::Store(storable, None),
        Err(not) => Classified::Pass(not),
    }
}

/// Whether `response` may be stored for a request with these facts.
pub(super) fn storable(
    request: &RequestFacts,
    policy: &CachePolicy,
    response: &Response<Body>,
) -> Result<Storable, NotStorable> {
    storable_as(request, policy, (response.status(), response.headers()))
}

/// Whether a response with this status and these fields may be stored for a request with these facts.
pub(super) fn storable_as(
    request: &RequestFacts,
    policy: &CachePolicy,
    (status, fields): (StatusCode, &HeaderMap),
) -> Result<Storable, NotStorable> {
    let facts = ResponseFacts::parse(status, fields);
    let reason = semantics::storable(request, &facts, policy)?;
    match route::selects_by(Vary::of(fields)) {
        Vary::Star => Err(NotStorable::VaryStar),
        Vary::None => Ok((reason, None)),
        Vary::Fields(list) => Ok((reason, Some(list))),
    }
}

/// Streams a storable response into its fill and the store.
async fn store(
    worker: Arc<Worker>,
    asking: &Asking,
    (leader, leave): (Leader, Leave),
    (fetched, (reason, vary)): (Fetched, Storable),
    splice: Option<Box<Splice>>,
) {
    let (mut head, body) = fetched.response.into_parts();
    let facts = ResponseFacts::parse(head.status, &head.headers);
    let object = asking.object;
    let selecting = vary.as_ref().map(|vary| vary.selecting(&asking.selecting)).unwrap_or_default();
    let variant = vary.as_ref().map_or_else(
        || key::variant(object, std::iter::empty()),
        |vary| vary.variant(object, &asking.selecting),
    );
    let mut withheld = match &splice {
        Some(splice) => splice.withheld().clone(),
        None => semantics::withheld_fields(&head.headers),
    };
    if !asking.policy.expose_tags {
        semantics::strip_tags(&mut withheld);
    }
    semantics::ensure_date(&mut head.headers, fetched.received);
    let fields = semantics::storable_fields(&head.headers);
    let kept = Stored::of(&head, fields, body.size_hint().exact(), splice.as_deref());
    let nonce = worker.nonce();
    let pin = semantics::strong_etag(&kept.fields).map_or(VersionPin::Nonce(nonce), VersionPin::StrongEtag);
    let version = key::version(object, variant, pin);
    let draft = HeadDraft {
        version: kept.version(version),
        variant,
        key: asking.key.clone(),
        selecting,
        status: kept.status,
        received: kept.received(fetched.received),
        fields: kept.fields,
        length: kept.length,
        initial_age: semantics::corrected_initial_age(&facts, fetched.request_sent, fetched.received),
        position: asking.position,
        reason,
        personal: asking.reach == Reach::Off || kept.personal || semantics::personal(&asking.request, &facts),
    };
    let facts = ResponseFacts::parse(draft.status, &draft.fields);
    let first = kept.held.map_or(0, |held| held.range.start);
    worker.node.known.storable(object, vary.clone());
    note_language(&worker.node, asking, &draft, vary.as_ref());
    let filling = worker.node.store.begin(draft.clone());
    let partial = filling.partial();
    let server = Some(fetched.server);
    let arriving = Arc::new(Arriving {
        draft,
        withheld,
        facts,
        vary,
        partial,
        source: Source::Origin,
        server,
        peer: None,
    });
    let intake = Intake::begin(leader, arriving, filling).sparing(asking.is_sparing);
    take_in(&worker, asking, (intake, leave, first), (body, splice)).await;
}

/// Moves the body of a response, which begins at place `first` of a representation, into its fill and the store.
async fn take_in(
    worker: &Worker,
    asking: &Asking,
    (mut intake, leave, first): (Intake, Leave, u64),
    (body, splice): (Body, Option<Box<Splice>>),
) {
    let mut checker = worker.node.mesh.is_some().then(|| Checker::new(intake.arriving.draft.length));
    let fed = match splice {
        None => splice::feed(&mut intake, body, None, (asking, &mut checker)).await,
        Some(splice) => splice.feed((worker, asking), &mut intake, body, &mut checker).await,
    };
    let end = |()| checker.as_mut().map_or(Ok(()), |checker| intake.end_trusted(checker));
    match fed.and_then(end) {
        Ok(()) => intake.complete(&worker.node, asking, leave).await,
        Err(why) => {
            splice::break_off(&worker.node, asking, intake, first, why).await;
            leave.failed();
        }
    }
}

/// Remembers in which language a variant is, for those who like this language best.
fn note_language(node: &Node, asking: &Asking, draft: &HeadDraft, vary: Option<&VaryList>) {
    let Some(vary) = vary.filter(|_| asking.policy.select_language) else { return };
    let Some(language) = semantics::Language::of_response(&draft.fields) else { return };
    if let Some(listed) = vary.variant_in(asking.object, &asking.selecting, &language) {
        node.known.in_language(listed, draft.variant);
    }
}

impl Asking {
    /// Whether only the origin's own answer will do: the client says so, or shows credentials.
    fn is_end_to_end(&self) -> bool {
        let request = &self.request;
        let demands =
            request.no_cache || request.no_store || request.max_age.is_some() || request.min_fresh.is_some();
        request.has_authorization || (demands && self.policy.honour_request_directives)
    }

    /// Whether it is for a part of an object, which other nodes know nothing of.
    fn is_of_part(&self) -> bool {
        self.wanted != Wanted::Whole || self.stale.as_ref().is_some_and(|hit| hit.head.is_part())
    }

    fn ask_for_part(&self, request: &mut Request<Body>) {
        if let Some(range) = self.wanted.to_value() {
            request.headers_mut().insert(RANGE, range);
        }
    }

    /// The request; with a stored version to validate, another may follow.
    fn request_to_origin(&mut self) -> Request<Body> {
        let mut request = Request::new(());
        if self.stale.is_some() {
            request.clone_from(&self.forward);
        } else {
            std::mem::swap(&mut request, &mut self.forward);
        }
        request.map(|()| Body::Empty)
    }
}
