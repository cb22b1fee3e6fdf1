//! From request to response: routes, methods, status and fields.

use super::body::{OriginBody, Payload};
use super::condition::{Part, Validators};
use super::object::{self, NoObject};
use super::site::Site;
use super::stats::{InFlight, Stats};
use super::throttle::Throttle;
use crate::clock::Clock;
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, RANGE, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const STATS_PATH: &str = "/-/stats";

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// What a path names: a payload and what is said about it.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    pub(super) payload: Payload,
    pub(super) content_type: HeaderValue,
    pub(super) validators: Validators,
    pub(super) cache_control: HeaderValue,
    pub(super) vary: Option<HeaderValue>,
}

/// Answers requests; shared by all connections.
pub(super) struct Responder {
    site: Site,
    stats: Arc<Stats>,
    throttle: Option<Arc<Throttle>>,
    delay: Duration,
}

impl Responder {
    /// `rate` is in body bytes per second over all responses.
    pub(super) fn new(rate: Option<NonZeroU64>, delay: Duration, clock: Clock) -> Self {
        let throttle = rate.map(|rate| Arc::new(Throttle::new(rate, clock)));
        Self { site: Site::build(), stats: Arc::default(), throttle, delay }
    }

    /// Answers any request; a request's body is not read.
    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Response<OriginBody> {
        let path = request.uri().path();
        if path == STATS_PATH {
            return self.stats_answer(request.method());
        }
        let counted = path.starts_with(object::PREFIX).then(|| self.count(request));
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        let mut response = self.respond(request);
        if let Some(in_flight) = counted {
            if response.status() == StatusCode::NOT_MODIFIED {
                self.stats.not_modified.fetch_add(1, Relaxed);
            }
            response.body_mut().count(in_flight);
        }
        response
    }

    fn count<B>(&self, request: &Request<B>) -> InFlight {
        let (stats, fields) = (&self.stats, request.headers());
        if request.method() == Method::HEAD {
            stats.head.fetch_add(1, Relaxed);
        }
        if fields.contains_key(RANGE) {
            stats.range.fetch_add(1, Relaxed);
        }
        if fields.contains_key(IF_NONE_MATCH) || fields.contains_key(IF_MODIFIED_SINCE) {
            stats.conditional.fetch_add(1, Relaxed);
        }
        InFlight::start(stats)
    }

    fn stats_answer(&self, method: &Method) -> Response<OriginBody> {
        let json = serde_json::to_vec(&self.stats.counts()).expect("numbers are always JSON");
        let mut response = short(StatusCode::OK, "application/json", json.into());
        if method == Method::HEAD {
            *response.body_mut() = OriginBody::empty();
        }
        response
    }

    fn respond<B>(&self, request: &Request<B>) -> Response<OriginBody> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let path = request.uri().path();
        let mut response = if path.starts_with(object::PREFIX) {
            match object::resource(request.uri()) {
                Ok(resource) => self.represent(&resource, request),
                Err(NoObject::Id) => refusal(StatusCode::NOT_FOUND),
                Err(NoObject::Query) => refusal(StatusCode::BAD_REQUEST),
            }
        } else {
            match self.site.page(path) {
                Some(resource) => self.represent(resource, request),
                None => refusal(StatusCode::NOT_FOUND),
            }
        };
        if request.method() == Method::HEAD {
            *response.body_mut() = OriginBody::empty();
        }
        response
    }

    /// 200, 206, 304 or 416 with the representation's fields.
    fn represent<B>(&self, resource: &Resource, request: &Request<B>) -> Response<OriginBody> {
        let (asked, validators) = (request.headers(), &resource.validators);
        let mut response = Response::new(OriginBody::empty());
        resource.describe(response.headers_mut());
        if validators.not_modified(asked) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        let size = resource.payload.size();
        // Range is defined for GET alone (RFC 9110 §14.2).
        let part = if request.method() == Method::GET { validators.part(asked, size) } else { Part::Whole };
        let bytes = match part {
            Part::Whole => 0..size,
            Part::Bytes(bytes) => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let range = format!("bytes {}-{}/{size}", bytes.start, bytes.end - 1);
                response.headers_mut().insert(CONTENT_RANGE, ascii(range));
                bytes
            }
            Part::Unsatisfiable => {
                let mut response = refusal(StatusCode::RANGE_NOT_SATISFIABLE);
                response.headers_mut().insert(CONTENT_RANGE, ascii(format!("bytes */{size}")));
                return response;
            }
        };
        let fields = response.headers_mut();
        fields.insert(CONTENT_LENGTH, HeaderValue::from(bytes.end - bytes.start));
        fields.insert(CONTENT_TYPE, resource.content_type.clone());
        *response.body_mut() = OriginBody::new(resource.payload.clone(), bytes, self.throttle.clone());
        response
    }
}

impl Resource {
    /// The fields that a 304 repeats (RFC 9110 §15.4.5).
    fn describe(&self, fields: &mut HeaderMap) {
        fields.insert(ETAG, ascii(self.validators.etag.clone()));
        fields.insert(LAST_MODIFIED, ascii(httpdate::fmt_http_date(self.validators.last_modified)));
        fields.insert(CACHE_CONTROL, self.cache_control.clone());
        fields.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if let Some(vary) = &self.vary {
            fields.insert(VARY, vary.clone());
        }
    }
}

fn refusal(status: StatusCode) -> Response<OriginBody> {
    let text = format!("{status}\n");
    short(status, "text/plain; charset=utf-8", text.into())
}

fn short(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<OriginBody> {
    let size = body.len() as u64;
    let mut response = Response::new(OriginBody::new(Payload::Fixed(body), 0..size, None));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_LENGTH, HeaderValue::from(size));
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    fields.insert(CACHE_CONTROL, NO_STORE);
    response
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("made of digits, names and quotes")
}
