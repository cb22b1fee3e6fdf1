//! Asking the origin for the cache: one request, its classification, and the body's way into the
//! fill and the store.

use super::deliver::Failure;
use super::fill::{Arriving, Leader, Pace, WINDOW_BYTES};
use super::{Node, Worker};
use crate::body::Body;
use crate::config::model::Site;
use crate::origin::{FetchError, Fetched};
use crate::proto::key::{self, CacheKey, ObjectId, Pin as VersionPin};
use crate::proto::object::{HeadDraft, PurgePosition};
use crate::proto::plan::FetchReason;
use crate::proto::semantics::{
    self, CachePolicy, ContentRange, NotStorable, RequestFacts, ResponseFacts, StoreReason, Vary, VaryList,
};
use crate::proto::verdict::Source;
use crate::store::{Filling, Hit};
use crate::telemetry::{SiteMetrics, enter};
use futures_util::FutureExt;
use http::header::{CONTENT_RANGE, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use std::sync::Arc;

/// Bytes after which readers are woken even while more bytes are at hand.
const WAKE_BYTES: usize = 64 << 10;

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
    /// The client's fields, by which the response's `Vary` selects.
    pub selecting: HeaderMap,
    /// Head of the request to the origin, unconditional and for the whole body.
    pub forward: Request<()>,
    /// The stored version to validate.
    pub stale: Option<Hit>,
    /// Why the origin is asked.
    pub reason: FetchReason,
}

/// Why a response may be stored, and what it varies by.
pub(super) type Storable = (StoreReason, Option<VaryList>);

/// What an origin response means for the cache.
enum Classified {
    /// It may be stored.
    Store(Storable),
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

async fn lead(worker: Arc<Worker>, mut asking: Asking, leader: Leader) {
    let metrics = Arc::clone(&asking.metrics);
    let _open = enter(&metrics.fills_open);
    match ask(&worker, &mut asking).await {
        Err(error) => leader.failed(Failure::Origin(error.into())),
        Ok((fetched, Classified::Refresh(hit))) => {
            let hit = refresh(&worker, &asking, &hit, fetched).await;
            leader.refreshed(hit);
        }
        Ok((fetched, Classified::Store(storable))) => {
            store(worker, &asking, leader, (fetched, storable)).await;
        }
        Ok((fetched, classified)) => {
            if let Classified::Pass(not_storable) = classified {
                remember(&worker.node, &metrics, asking.object, not_storable, fetched.response.status());
            }
            let server_error = is_server_error(fetched.response.status());
            leader.not_stored(fetched, server_error);
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
        store(own, &asking, leader, storable).await;
    }));
}

/// Counts a response that is not stored. That is kept in mind only if others would get the like: else
/// any client could keep the requests of all others from sharing a fetch. Nor is a failure, which is
/// no reason to send the origin the whole crowd when it comes back.
pub(super) fn remember(
    node: &Node,
    metrics: &SiteMetrics,
    object: ObjectId,
    not_storable: NotStorable,
    status: StatusCode,
) {
    metrics.not_stored.inc(not_storable as usize);
    // A 304 tells nothing of the response that it stands for.
    let tells = status != StatusCode::NOT_MODIFIED && !is_server_error(status);
    if tells && not_storable.is_of_object() {
        node.known.uncacheable(object, node.clock.now().wall);
    }
}

/// Whether a response with this status is one for which `stale-if-error` stands in (RFC 5861 §4).
pub(super) fn is_server_error(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// Asks, conditionally if a stored version has validators; asks again without conditions, once, if
/// the answer was a 304 that fits nothing stored (RFC 9111 §4.3.4).
async fn ask(worker: &Worker, asking: &mut Asking) -> Result<(Fetched, Classified), FetchError> {
    let mut request = asking.request_to_origin();
    let conditional = asking
        .stale
        .as_ref()
        .is_some_and(|hit| semantics::make_conditional(request.headers_mut(), &hit.head.fields()));
    let fetched = fetch(worker, asking, request).await?;
    let classified = classify(asking, &fetched);
    if !(conditional && matches!(classified, Classified::Again)) {
        return Ok((fetched, classified));
    }
    drop(fetched);
    let request = asking.request_to_origin();
    let fetched = fetch(worker, asking, request).await?;
    let classified = classify(asking, &fetched);
    Ok((fetched, classified))
}

async fn fetch(worker: &Worker, asking: &Asking, request: Request<Body>) -> Result<Fetched, FetchError> {
    asking.metrics.origin_fetches.inc(asking.reason as usize);
    let fetched = worker.origins.fetch(&asking.site.origin, request, None).await;
    if let Err(error) = &fetched {
        asking.metrics.origin_failures.inc(error.kind() as usize);
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
        Ok(storable) => Classified::Store(storable),
        Err(not) => Classified::Pass(not),
    }
}

/// Whether `response` may be stored for a request with these facts.
pub(super) fn storable(
    request: &RequestFacts,
    policy: &CachePolicy,
    response: &Response<Body>,
) -> Result<Storable, NotStorable> {
    let facts = ResponseFacts::parse(response.status(), response.headers());
    let reason = semantics::storable(request, &facts, policy)?;
    match Vary::of(response.headers()) {
        Vary::Star => Err(NotStorable::VaryStar),
        Vary::None => Ok((reason, None)),
        Vary::Fields(list) => Ok((reason, Some(list))),
    }
}

/// Brings a stored version up to date with a 304 (RFC 9111 §3.2, §4.3.4).
async fn refresh(worker: &Worker, asking: &Asking, hit: &Hit, fetched: Fetched) -> Hit {
    let (request_sent, received) = (fetched.request_sent, fetched.received);
    let mut update = fetched.response.into_parts().0.headers;
    semantics::ensure_date(&mut update, received);
    let Ok(mut draft) = hit.head.to_draft() else { return hit.clone() };
    draft.fields = semantics::merge_304(&draft.fields, &update);
    draft.received = received;
    let facts = ResponseFacts::parse(StatusCode::NOT_MODIFIED, &update);
    draft.initial_age = semantics::corrected_initial_age(&facts, request_sent, received);
    let merged = ResponseFacts::parse(draft.status, &draft.fields);
    let storable = semantics::storable(&asking.request, &merged, &asking.policy);
    let hit = worker.node.store.refresh(hit, draft).await;
    match storable {
        Ok(_) => worker.node.known.storable(asking.object, worker.node.store.vary(asking.object)),
        // The 304 took back the leave to store; those who wait are served all the same.
        Err(not) => {
            asking.metrics.not_stored.inc(not as usize);
            worker.node.store.invalidate(asking.object).await;
        }
    }
    hit
}

/// Streams a storable response into its fill and the store.
async fn store(
    worker: Arc<Worker>,
    asking: &Asking,
    leader: Leader,
    (fetched, (reason, vary)): (Fetched, Storable),
) {
    let (head, body) = fetched.response.into_parts();
    let facts = ResponseFacts::parse(head.status, &head.headers);
    let length = body.size_hint().exact();
    let object = asking.object;
    let selecting = vary.as_ref().map(|vary| vary.selecting(&asking.selecting)).unwrap_or_default();
    let variant = vary.as_ref().map_or_else(
        || key::variant(object, std::iter::empty()),
        |vary| vary.variant(object, &asking.selecting),
    );
    let withheld = semantics::withheld_fields(&head.headers);
    let mut fields = head.headers;
    semantics::ensure_date(&mut fields, fetched.received);
    let fields = semantics::storable_fields(&fields);
    let nonce = worker.nonce();
    let pin = semantics::strong_etag(&fields).map_or(VersionPin::Nonce(nonce), VersionPin::StrongEtag);
    let draft = HeadDraft {
        version: key::version(object, variant, pin),
        variant,
        key: asking.key.clone(),
        selecting,
        status: head.status,
        fields,
        length,
        received: fetched.received,
        initial_age: semantics::corrected_initial_age(&facts, fetched.request_sent, fetched.received),
        position: PurgePosition::default(),
        reason,
        personal: semantics::personal(&asking.request, &facts),
    };
    worker.node.known.storable(object, vary.clone());
    let filling = worker.node.store.begin(draft.clone());
    let partial = filling.partial();
    let server = Some(fetched.server);
    let arriving =
        Arc::new(Arriving { draft, withheld, facts, vary, partial, source: Source::Origin, server });
    leader.stream(Arc::clone(&arriving));
    pump(leader, arriving, filling, body, &asking.metrics).await;
}

/// Moves the body into the window and the store. Readers are woken when 64 KiB have gathered or when
/// no more bytes are at hand, whichever is first.
async fn pump(
    leader: Leader,
    arriving: Arc<Arriving>,
    mut filling: Filling,
    mut body: Body,
    metrics: &SiteMetrics,
) {
    let (mut received, mut unwoken) = (0u64, 0usize);
    loop {
        let frame = match body.frame().now_or_never() {
            Some(frame) => frame,
            None => {
                leader.wake();
                unwoken = 0;
                body.frame().await
            }
        };
        let bytes = match frame {
            None => break,
            Some(Err(_)) => return leader.broken(arriving, "upstream body failed"),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => bytes,
                Err(_trailers) => continue,
            },
        };
        if !leader.has_readers() && !worth_finishing(received, arriving.draft.length) {
            return leader.broken(arriving, "abandoned by all readers");
        }
        received += bytes.len() as u64;
        metrics.origin_bytes.inc_by(bytes.len() as u64);
        unwoken += bytes.len();
        leader.push(bytes.clone(), pace(&arriving, &filling)).await;
        if unwoken >= WAKE_BYTES {
            leader.wake();
            unwoken = 0;
        }
        filling.append(&bytes).await;
    }
    if arriving.draft.length.is_some_and(|length| length != received) {
        return leader.broken(arriving, "body has not its stated length");
    }
    // An invalidation from here on finds what is sealed, one before has doomed the fill.
    if leader.is_doomed() {
        return leader.complete(arriving, None);
    }
    match filling.publish().await {
        Err(_) => leader.complete(arriving, None),
        Ok((hit, filing)) => {
            leader.complete(arriving, Some(hit));
            if let Some(filing) = filing {
                filing.queue().await;
            }
        }
    }
}

/// A laggard may be left behind if the bytes that it misses can be had elsewhere: from the store, or
/// from the origin by a range of the very same version (design §5).
fn pace(arriving: &Arriving, filling: &Filling) -> Pace {
    if !filling.is_lost() {
        Pace::Free
    } else if semantics::strong_etag(&arriving.draft.fields).is_some() {
        Pace::Fastest
    } else {
        Pace::Slowest
    }
}

/// Whether a body that nobody waits for any more is fetched to its end (design §5): it is small, or
/// more than half of it has come.
fn worth_finishing(received: u64, length: Option<u64>) -> bool {
    match length {
        Some(length) => length <= WINDOW_BYTES || received >= length / 2,
        None => received <= WINDOW_BYTES,
    }
}

/// The rest of an arriving version from `offset` on, asked of the server that it comes from. `None`
/// if the version has no strong validator, or is not what the server has any more: bytes of two
/// versions are never spliced (RFC 9110 §13.1.5).
pub(super) async fn range_from(
    worker: &Worker,
    (site, metrics): (&Site, &SiteMetrics),
    arriving: &Arriving,
    offset: u64,
) -> Option<Body> {
    let etag = semantics::strong_etag(&arriving.draft.fields)?.to_vec();
    let parts = key::decode(arriving.draft.key.as_bytes())?;
    let mut request = Request::get(parts.path).body(Body::Empty).ok()?;
    let host = site.origin.host.as_deref().unwrap_or(parts.host);
    let headers = request.headers_mut();
    headers.insert(http::header::HOST, HeaderValue::from_str(host).ok()?);
    headers.insert(RANGE, HeaderValue::from_str(&format!("bytes={offset}-")).ok()?);
    headers.insert(IF_RANGE, HeaderValue::from_bytes(&etag).ok()?);
    for selecting in &arriving.draft.selecting {
        if let Some(value) = &selecting.value {
            headers.insert(selecting.name.clone(), HeaderValue::from_maybe_shared(value.clone()).ok()?);
        }
    }
    metrics.origin_fetches.inc(FetchReason::Laggard as usize);
    let fetched = worker.origins.fetch(&site.origin, request, arriving.server.as_ref()).await.ok()?;
    let headers = fetched.response.headers();
    let range = headers.get(CONTENT_RANGE).and_then(semantics::parse_content_range);
    let starts = matches!(range, Some(ContentRange::Satisfied { range, .. }) if range.start == offset);
    let same = semantics::strong_etag(headers) == Some(&etag[..]);
    (fetched.response.status() == StatusCode::PARTIAL_CONTENT && starts && same)
        .then(|| fetched.response.into_body())
}

impl Asking {
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
