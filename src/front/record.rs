//! The end of a request: its metrics and its line in the access log, written when the response body
//! was sent or given up.

use super::Front;
use super::respond;
use super::watch::Watch;
use crate::body::{Body, BodyError, UploadFault, UploadState};
use crate::proto::time::Now;
use crate::proto::verdict::Verdict;
use crate::serve::{Answer, Failure, Notes};
use crate::telemetry::access::Termination;
use crate::telemetry::{AccessRecord, RequestId, SiteMetrics, Slowness};
use bytes::Bytes;
use http::header::{HOST, REFERER, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// One request from its head to the end of its response. Written when dropped, however it ended.
pub(super) struct Record {
    front: Arc<Front>,
    watch: Arc<Watch>,
    at: Now,
    id: RequestId,
    from: IpAddr,
    version: Version,
    /// Whether no body is sent, whatever the response has.
    is_head: bool,
    asked: Option<Box<Asked>>,
    upload: UploadState,
    answered: Option<Answered>,
    bytes_out: u64,
    termination: Termination,
}

/// What only the access log and those who watch it want to know.
struct Asked {
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    tls: Option<&'static str>,
}

/// What was answered.
struct Answered {
    verdict: Verdict,
    metrics: Option<Arc<SiteMetrics>>,
    notes: Notes,
    detail: Option<&'static str>,
    status: StatusCode,
    at: Instant,
}

impl Record {
    pub(super) fn begin(
        front: &Arc<Front>,
        watch: &Arc<Watch>,
        request: &Request<Body>,
        (from, tls): (IpAddr, Option<&'static str>),
        upload: UploadState,
        at: Now,
    ) -> Self {
        let field = |name| request.headers().get(name).cloned();
        let asked = front.access.is_on().then(|| {
            Box::new(Asked {
                method: request.method().clone(),
                uri: request.uri().clone(),
                host: field(HOST),
                referer: field(REFERER),
                user_agent: field(USER_AGENT),
                tls,
            })
        });
        Self {
            at,
            id: front.ids.next(),
            from,
            version: request.version(),
            is_head: request.method() == Method::HEAD,
            asked,
            upload,
            answered: None,
            bytes_out: 0,
            termination: Termination::ClientGone,
            front: Arc::clone(front),
            watch: Arc::clone(watch),
        }
    }

    /// The response to send, whose body ends the record.
    pub(super) fn respond(mut self, answer: Answer) -> http::Response<ClientBody> {
        let Answer { outcome, verdict, metrics, notes } = answer;
        self.upload.answered();
        let node = &self.front.worker.node;
        let mut detail = None;
        let response = outcome.unwrap_or_else(|failure| {
            detail = Some(respond::status(&failure).1);
            if let Failure::Upload(fault) = &failure
                && let Some(slowness) = slowness(*fault)
            {
                node.metrics.node.clients.slow.of(slowness).inc();
            }
            if let Some(refusal) = failure.refusal() {
                node.metrics.node.requests_refused.inc(refusal);
            }
            respond::failure(&failure, &node.snapshot.load().config.node.name, self.id, self.version)
        });
        if self.is_head || matches!(response.body(), Body::Empty) {
            self.termination = Termination::Complete;
        }
        let (status, at) = (response.status(), node.clock.mono());
        self.answered = Some(Answered { verdict, metrics, notes, detail, status, at });
        response.map(|body| ClientBody { body, record: self })
    }
}

/// A response on its way out.
pub(super) struct ClientBody {
    body: Body,
    record: Record,
}

impl ClientBody {
    /// Notes that nothing more is sent, since the client took too little.
    pub(super) fn give_up(&mut self, slowness: Slowness) {
        if self.record.termination == Termination::ClientGone {
            self.record.termination = Termination::ClientTimeout;
        }
        self.record.front.worker.node.metrics.node.clients.slow.of(slowness).inc();
    }
}

impl HttpBody for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                this.record.bytes_out += frame.data_ref().map_or(0, Bytes::len) as u64;
                if this.body.is_end_stream() {
                    this.record.termination = Termination::Complete;
                }
            }
            Some(Err(error)) => this.record.termination = termination(error),
            None => this.record.termination = Termination::Complete,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        if self.record.termination == Termination::ClientGone && self.record.watch.is_too_slow() {
            self.record.termination = Termination::ClientTimeout;
        }
    }
}

/// In what the client was too slow, if its fault is that.
const fn slowness(fault: UploadFault) -> Option<Slowness> {
    match fault {
        UploadFault::Stalled => Some(Slowness::BodyStalled),
        UploadFault::Slow => Some(Slowness::BodySlow),
        UploadFault::TooLarge | UploadFault::Broken | UploadFault::Ambiguous(_) => None,
    }
}

const fn termination(error: &BodyError) -> Termination {
    match error {
        BodyError::Stalled => Termination::UpstreamTimeout,
        BodyError::Laggard => Termination::Laggard,
        BodyError::Upstream(_) | BodyError::Truncated | BodyError::Fill(_) | BodyError::TooLarge(_) => {
            Termination::UpstreamError
        }
        BodyError::Client(_) => Termination::ClientGone,
        BodyError::Stored(_) => Termination::Internal,
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let now = self.front.worker.node.clock.mono();
        self.watch.request_ends(now);
        let since = |at: Instant| at.saturating_duration_since(self.at.mono);
        let (duration, first_byte) = (since(now), self.answered.as_ref().map(|answered| since(answered.at)));
        let status = self.answered.as_ref().map(|answered| answered.status.as_u16());
        let node = &self.front.worker.node;
        let unrouted = &node.metrics.unrouted;
        let answered = self.answered.as_ref();
        let metrics = answered.and_then(|answered| answered.metrics.as_ref()).unwrap_or(unrouted);
        let verdict = answered.map_or(Verdict::Error, |answered| answered.verdict);
        metrics.request(verdict, status, duration, first_byte);
        if let Some(age) = answered.and_then(|answered| answered.notes.age) {
            metrics.aged(age);
        }
        let Some(asked) = &self.asked else { return };
        let nothing = Notes::default();
        let notes = answered.map_or(&nothing, |answered| &answered.notes);
        let upstream = notes.server.as_ref().map(|server| format!("{}:{}", server.host, server.port));
        let peer = notes
            .peer
            .map(|peer| node.mesh.as_ref().map_or_else(|| peer.to_string(), |mesh| mesh.name_of(peer)));
        let host = asked.host.as_ref().and_then(|host| host.to_str().ok()).or_else(|| asked.uri.host());
        self.front.access.log(&AccessRecord {
            at: self.at.wall,
            request_id: self.id,
            client: notes.client.unwrap_or(self.from),
            version: self.version,
            tls: asked.tls,
            host: host.unwrap_or_default(),
            method: &asked.method,
            target: asked.uri.path_and_query().map_or("*", |target| target.as_str()),
            site: notes.site.as_ref().map_or("", |site| &site.name),
            status,
            verdict,
            detail: answered.and_then(|answered| answered.detail.or_else(|| answered.notes.detail())),
            object: notes.object,
            bytes_in: self.upload.received(),
            bytes_out: self.bytes_out,
            duration,
            first_byte,
            age: notes.age.map(u64::from),
            ttl: notes.ttl,
            upstream: upstream.as_deref(),
            peer: peer.as_deref(),
            upstream_status: notes.origin_status.map(|status| status.as_u16()),
            attempts: notes.attempts,
            referer: asked.referer.as_ref().map(HeaderValue::as_bytes),
            user_agent: asked.user_agent.as_ref().map(HeaderValue::as_bytes),
            termination: self.termination,
        });
    }
}
