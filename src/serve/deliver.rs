//! Replies: conditions, ranges, and the fields that say what became of the request.

use super::body::{FillBody, Parts, Passing, StoredBody};
use super::failure::{Failure, Unmet};
use super::fill::{Arriving, Reader};
use super::{Cached, Exchange, Fetching, Snapshot, lead, tier_name};
use crate::body::Body;
use crate::config::model::{OriginServer, Site};
use crate::origin::Fetched;
use crate::proto::key::ObjectId;
use crate::proto::plan::FetchReason;
use crate::proto::semantics::{
    self, Boundary, CacheStatus, Condition, FwdReason, Held, Multipart, NotStorable, Ranges, ResponseFacts,
    Reuse, Validators,
};
use crate::proto::swarm::NodeId;
use crate::proto::verdict::Verdict;
use crate::route::{PassReason, Refusal};
use crate::store::Hit;
use crate::telemetry::{PurgeOutcome, SiteMetrics};
use http::header::{
    ACCEPT_RANGES, AGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    HeaderName, VIA,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use std::ops::Range;
use std::sync::Arc;

/// `Cache-Status` (RFC 9211).
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What one request came to.
pub struct Answer {
    /// The response, or why there is none.
    pub outcome: Result<Response<Body>, Failure>,
    /// The verdict.
    pub verdict: Verdict,
    /// Metric handles of the site, if one was found.
    pub metrics: Option<Arc<SiteMetrics>>,
    /// Details for the access log.
    pub notes: Notes,
}

/// Details of how an answer came to be, for the access log.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Whether the store had nothing to use.
    pub missed: bool,
    /// Why the origin was asked.
    pub reason: Option<FetchReason>,
    /// Why the request bypassed the cache.
    pub pass: Option<PassReason>,
    /// Whether the request shared another's fetch.
    pub collapsed: bool,
    /// Whether the response, or the word that the stored one is still good, came from another edge.
    pub from_peer: bool,
    /// The edge that gave the response, if one did.
    pub peer: Option<NodeId>,
    /// The object that was asked for.
    pub object: Option<ObjectId>,
    /// Why the response was not stored.
    pub not_stored: Option<NotStorable>,
    /// Age of the response in seconds.
    pub age: Option<u32>,
    /// Remaining lifetime in seconds, negative when stale.
    pub ttl: Option<i64>,
    /// The server that was asked.
    pub server: Option<OriginServer>,
    /// Status that the origin gave.
    pub origin_status: Option<StatusCode>,
    /// Times that an origin was tried.
    pub attempts: u32,
    /// What became of a purge that the request asked for.
    pub purge: Option<PurgeOutcome>,
    /// The site that answered.
    pub site: Option<Arc<Site>>,
    /// The client's address as trusted peers tell it.
    pub client: Option<std::net::IpAddr>,
}

impl Notes {
    /// The notes on a request of `exchange`.
    pub(super) fn of(exchange: &Exchange) -> Self {
        Self {
            site: Some(Arc::clone(exchange.site())),
            client: Some(exchange.routed.client),
            object: Some(exchange.routed.object),
            ..Self::default()
        }
    }

    /// The named reason behind the verdict.
    pub fn detail(&self) -> Option<&'static str> {
        self.purge
            .map(PurgeOutcome::as_str)
            .or_else(|| self.not_stored.map(NotStorable::as_str))
            .or_else(|| self.pass.map(PassReason::as_str))
            .or_else(|| self.reason.map(FetchReason::as_str))
    }
}

impl Answer {
    /// A refusal before any site was found.
    pub fn refused(refusal: Refusal) -> Self {
        Self {
            outcome: Err(Failure::Refused(refusal)),
            verdict: Verdict::Refused,
            metrics: None,
            notes: Notes::default(),
        }
    }
}

/// The representation that a reply is made of.
struct Representation {
    status: StatusCode,
    fields: HeaderMap,
    length: Option<u64>,
    /// Whether its body is still arriving, so that only one part of it can be served as it comes.
    arriving: bool,
    /// Which part of the representation it is, if it is not all of it.
    held: Option<Held>,
}

impl Representation {
    fn of(status: StatusCode, fields: HeaderMap, length: Option<u64>, arriving: bool) -> Self {
        let held = Held::of(status, &fields, length);
        Self { status, fields, length, arriving, held }
    }

    /// Place of the first byte of its body in the representation.
    fn first(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.range.start)
    }

    /// Which bytes of it answer `request`; a part that is forwarded as it came is served as it is.
    fn ranges(&self, request: &HeaderMap) -> Ranges {
        match (&self.held, self.length) {
            (Some(held), _) => match held.ranges(request, &self.fields) {
                Some(Ranges::One(range)) if range == held.range => Ranges::Whole,
                ranges => ranges.unwrap_or(Ranges::Whole),
            },
            (None, Some(length)) => semantics::ranges(request, &self.fields, length),
            (None, None) => Ranges::Whole,
        }
    }

    /// Length of the whole representation, if it is known.
    fn complete(&self) -> Option<u64> {
        self.held.as_ref().map_or(self.length, |held| held.complete)
    }
}

/// Which bytes of it are sent.
enum Part {
    None,
    Whole,
    One(Range<u64>),
    Many(Multipart),
}

impl Cached {
    /// `withheld` are the fields of a 304 that are this client's alone.
    pub(super) fn deliver_stored(mut self, verdict: Verdict, withheld: Option<&HeaderMap>) -> Answer {
        let (hit, reuse) = self.found.take().expect("plan delivers only what was found");
        let (age, ttl) = age_and_ttl(reuse);
        let fields = self.for_client(&hit.head.facts, hit.head.fields());
        let representation = Representation::of(hit.head.status, fields, hit.head.length, false);
        let first = representation.first();
        let status = self.stored_status(verdict, &hit, ttl);
        (self.notes.age, self.notes.ttl) = (Some(age), Some(ttl));
        let (part, mut response) = match self.reply(representation) {
            Ok(reply) => reply,
            Err(unmet) => return self.unmet(unmet, verdict, status),
        };
        if let Some(withheld) = withheld {
            let withheld = withheld.iter();
            response.headers_mut().extend(withheld.map(|(name, value)| (name.clone(), value.clone())));
        }
        let length = hit.head.length.unwrap_or(0);
        let metrics = Arc::clone(&self.exchange.metrics);
        *response.body_mut() = match part {
            Part::None => Body::Empty,
            Part::Whole => StoredBody::body(hit, 0..length, metrics),
            Part::One(range) => StoredBody::body(hit, range.start - first..range.end - first, metrics),
            Part::Many(multipart) => Parts::body((multipart, first), hit, metrics),
        };
        self.finish(response, verdict, status, Some(age))
    }

    pub(super) fn deliver_fill(mut self, verdict: Verdict, fetching: Fetching) -> Answer {
        let Fetching::Arriving(arriving, reader) = fetching else {
            unreachable!("plan delivers a fill only after one streams")
        };
        if let Some(server) = &arriving.server {
            self.note_origin(server, arriving.draft.status);
        }
        self.notes.peer = arriving.peer;
        let ttl = self.lifetime_left(&arriving);
        let mut status = self.forwarded_status().stored().ttl(ttl).detail(arriving.source.as_str());
        if verdict == Verdict::Origin {
            status = status.fwd_status(arriving.draft.status);
        }
        let status = status.to_value();
        let age = arriving.draft.initial_age;
        (self.notes.age, self.notes.ttl) = (Some(age), Some(ttl));
        let fields = self.for_client(&arriving.facts, arriving.draft.fields.clone());
        let representation = Representation::of(arriving.draft.status, fields, arriving.draft.length, true);
        let first = representation.first();
        let (part, mut response) = match self.reply(representation) {
            Ok(reply) => reply,
            Err(unmet) => return self.unmet(unmet, verdict, status),
        };
        if verdict == Verdict::Origin {
            let withheld = arriving.withheld.iter();
            response.headers_mut().extend(withheld.map(|(name, value)| (name.clone(), value.clone())));
        }
        let length = arriving.draft.length;
        *response.body_mut() = match part {
            Part::None => Body::Empty,
            Part::Whole | Part::Many(_) => self.fill_body(arriving, reader, (0, length)),
            Part::One(range) => {
                self.fill_body(arriving, reader, (range.start - first, Some(range.end - first)))
            }
        };
        self.finish(response, verdict, status, Some(age))
    }

    pub(super) fn deliver_own(mut self, fetching: Fetching) -> Answer {
        let Fetching::Own(fetched) = fetching else {
            unreachable!("plan delivers an own response only after one came")
        };
        let fetched = *fetched;
        self.note_own(&fetched);
        let detail = self.pass_detail(&fetched);
        let status = self.forwarded_status().fwd_status(fetched.response.status()).detail(detail).to_value();
        let response = pass_through(&self.exchange, fetched);
        self.finish(response, Verdict::Pass, status, None)
    }

    pub(super) fn only_if_cached(self) -> Answer {
        self.failed(Failure::OnlyIfCached, Verdict::Refused)
    }

    pub(super) fn fail(self, fetching: Fetching) -> Answer {
        let failure = match fetching {
            Fetching::Failed(failure) => failure,
            _ => Failure::Abandoned,
        };
        self.failed(failure, Verdict::Error)
    }

    fn failed(self, failure: Failure, verdict: Verdict) -> Answer {
        Answer { outcome: Err(failure), verdict, metrics: Some(self.exchange.metrics), notes: self.notes }
    }

    /// Says that what would be delivered with `verdict` is not what the request demands.
    fn unmet(self, mut unmet: Box<Unmet>, verdict: Verdict, status: HeaderValue) -> Answer {
        mark(&self.exchange.snapshot, &mut unmet.fields, status);
        self.failed(Failure::Unmet(unmet), verdict)
    }

    /// Stored fields without those that clients do not get.
    fn for_client(&self, facts: &ResponseFacts, mut fields: HeaderMap) -> HeaderMap {
        if facts.has_tags() && !self.exchange.routed.policy().expose_tags {
            semantics::strip_tags(&mut fields);
        }
        fields
    }

    /// Evaluates conditions and ranges, and makes the head of the reply. Several ranges of a body that
    /// is still arriving are served as the whole (RFC 9110 §14.2: a server may ignore `Range`).
    fn reply(&self, mut representation: Representation) -> Result<(Part, Response<Body>), Box<Unmet>> {
        let request = &self.exchange.facts;
        let is_ok = representation.status == StatusCode::OK || representation.held.is_some();
        if request.conditional {
            let validators = Validators::of(representation.status, &representation.fields);
            match semantics::condition(&self.method, &self.headers, &validators) {
                Condition::Proceed => {}
                Condition::NotModified => return Ok((Part::None, not_modified(representation.fields))),
                Condition::PreconditionFailed => {
                    return Err(Unmet::precondition(&representation.fields));
                }
            }
        }
        let is_ranged = is_ok && request.has_range && self.method == Method::GET;
        let part = match is_ranged.then(|| representation.ranges(&self.headers)) {
            None | Some(Ranges::Whole) => Part::Whole,
            Some(Ranges::Many(_)) if representation.arriving => Part::Whole,
            Some(Ranges::One(range)) => Part::One(range),
            Some(Ranges::Many(ranges)) => {
                let boundary = Boundary::of(self.exchange.worker.nonce());
                let (fields, length) = (&representation.fields, representation.complete());
                Part::Many(Multipart::new(boundary, fields, ranges, length))
            }
            Some(Ranges::Unsatisfiable) => {
                let length = representation.complete().unwrap_or(0);
                return Err(Unmet::range(semantics::unsatisfied_range(length)));
            }
        };
        partial_fields(&mut representation, &part);
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = representation.status;
        *response.headers_mut() = representation.fields;
        Ok((if self.method == Method::HEAD { Part::None } else { part }, response))
    }

    fn fill_body(&self, arriving: Arc<Arriving>, reader: Reader, range: (u64, Option<u64>)) -> Body {
        let exchange = &self.exchange;
        FillBody::body(
            Arc::clone(&exchange.worker),
            Arc::clone(exchange.site()),
            Arc::clone(&exchange.metrics),
            (arriving, reader),
            range,
        )
    }

    fn stored_status(&self, verdict: Verdict, hit: &Hit, ttl: i64) -> HeaderValue {
        let node = &self.exchange.snapshot.config.node.name;
        let status = match verdict {
            Verdict::Revalidated => {
                let status = self.forwarded_status().stored().ttl(ttl).detail(verdict.as_str());
                // Else it is another who asked the origin.
                let asked = !(self.notes.collapsed || self.notes.from_peer);
                if asked { status.fwd_status(StatusCode::NOT_MODIFIED) } else { status }
            }
            Verdict::StaleIfError => {
                let status = self.forwarded_status().ttl(ttl).detail(verdict.as_str());
                self.notes.origin_status.map_or(status, |told| status.fwd_status(told))
            }
            Verdict::StaleWhileRevalidate => CacheStatus::hit(node).ttl(ttl).detail(verdict.as_str()),
            _ => CacheStatus::hit(node).ttl(ttl).detail(tier_name(hit.tier)),
        };
        status.to_value()
    }

    fn forwarded_status(&self) -> CacheStatus<'_> {
        let status = CacheStatus::forward(&self.exchange.snapshot.config.node.name, self.fwd);
        if self.notes.collapsed { status.collapsed() } else { status }
    }

    /// Why the response was not stored, which the fetch may have found out already.
    fn pass_detail(&mut self, fetched: &Fetched) -> &'static str {
        let exchange = &self.exchange;
        let judge = || lead::storable(&exchange.facts, exchange.routed.policy(), &fetched.response).err();
        self.notes.not_stored = self.notes.not_stored.or_else(judge);
        self.notes.not_stored.map_or("pass", NotStorable::as_str)
    }

    fn lifetime_left(&self, arriving: &Arriving) -> i64 {
        let draft = &arriving.draft;
        let lifetime = semantics::lifetime(&arriving.facts, draft.received, self.exchange.routed.policy());
        i64::from(lifetime.secs) - i64::from(draft.initial_age)
    }

    fn note_origin(&mut self, server: &OriginServer, status: StatusCode) {
        self.notes.server = Some(server.clone());
        self.notes.origin_status = Some(status);
        self.notes.attempts = self.notes.attempts.max(1);
    }

    /// Notes who gave a response that is this request's own, be it delivered or not.
    pub(super) fn note_own(&mut self, fetched: &Fetched) {
        self.note_origin(&fetched.server, fetched.response.status());
        self.notes.attempts = fetched.attempts;
    }

    /// Adds the fields that every reply for the cache carries.
    fn finish(
        self,
        mut response: Response<Body>,
        verdict: Verdict,
        status: HeaderValue,
        age: Option<u32>,
    ) -> Answer {
        let headers = response.headers_mut();
        if let Some(age) = age {
            headers.insert(AGE, HeaderValue::from(age));
        }
        mark(&self.exchange.snapshot, headers, status);
        Answer { outcome: Ok(response), verdict, metrics: Some(self.exchange.metrics), notes: self.notes }
    }
}

/// Adds `Via` (RFC 9110 §7.6.3) and `Cache-Status` (RFC 9211 §2: appended, the nearest to the client last).
pub(super) fn mark(snapshot: &Snapshot, headers: &mut HeaderMap, status: HeaderValue) {
    if let Some(via) = &snapshot.via {
        headers.append(VIA, via.clone());
    }
    headers.append(CACHE_STATUS, status);
}

/// The reply that hands an origin response through.
pub(super) fn pass_through(exchange: &Exchange, fetched: Fetched) -> Response<Body> {
    let (mut head, body) = fetched.response.into_parts();
    semantics::strip_hop_by_hop(&mut head.headers);
    if !exchange.routed.policy().expose_tags {
        semantics::strip_tags(&mut head.headers);
    }
    let body = Passing::body(body, Arc::clone(&exchange.metrics));
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

/// The `Cache-Status` of a request that bypassed the cache.
pub(super) fn passed_status(exchange: &Exchange, reason: PassReason, status: StatusCode) -> CacheStatus<'_> {
    let fwd = match reason {
        PassReason::Method => FwdReason::Method,
        _ => FwdReason::Bypass,
    };
    let node = &exchange.snapshot.config.node.name;
    CacheStatus::forward(node, fwd).fwd_status(status).detail(reason.as_str())
}

const fn age_and_ttl(reuse: Reuse) -> (u32, i64) {
    match reuse {
        Reuse::Fresh { age, ttl }
        | Reuse::StaleWhileRevalidate { age, ttl }
        | Reuse::Validate { age, ttl, .. } => (age, ttl),
    }
}

/// 304 with the fields of RFC 9110 §15.4.5: all but those that describe the missing content.
fn not_modified(mut fields: HeaderMap) -> Response<Body> {
    for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_RANGE] {
        fields.remove(name);
    }
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    *response.headers_mut() = fields;
    response
}

/// Sets status, length and range fields for the part that is sent.
fn partial_fields(representation: &mut Representation, part: &Part) {
    let complete = representation.complete();
    let fields = &mut representation.fields;
    match part {
        Part::None | Part::Whole => {
            let Some(length) = representation.length else { return };
            if !representation.status.is_informational() && representation.status != StatusCode::NO_CONTENT {
                // Never as it was stated: what is sent is as long as this.
                fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
            return;
        }
        Part::One(range) => {
            fields.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
            fields.insert(CONTENT_RANGE, semantics::content_range(range, complete));
        }
        Part::Many(multipart) => {
            fields.insert(CONTENT_LENGTH, HeaderValue::from(multipart.content_length()));
            fields.insert(CONTENT_TYPE, multipart.content_type());
            fields.remove(CONTENT_RANGE);
        }
    }
    fields.entry(ACCEPT_RANGES).or_insert(HeaderValue::from_static("bytes"));
    representation.status = StatusCode::PARTIAL_CONTENT;
}
