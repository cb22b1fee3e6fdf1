//! The request on its way to a server: what is sent on each attempt, and what may be sent again.
//!
//! A body that streams can be sent once only, but as long as no byte was taken from it another
//! attempt may have it. So it stays with the fetch and is *lent* to the connection: the [`Loan`]
//! knows whether anything was taken, and can be called back.

use super::error::FetchError;
use super::interim::listen;
use crate::body::{Body, BodyError};
use crate::clock::Clock;
use crate::config::model::OriginServer;
use crate::proto::semantics::{self, MethodClass};
use bytes::Bytes;
use http::header::{
    CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Version, request};
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::time::{Sleep, sleep};

/// How long the body of a request that expects `100 (Continue)` is held back for it: origins that do not know the
/// expectation wait for the body, so it is sent after all (RFC 9110 §10.1.1).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// A request that can be sent by several attempts, one after the other.
pub(super) struct Outbound {
    /// `None` once it was given away without a copy being kept.
    head: Option<request::Parts>,
    body: Replay,
    idempotent: bool,
    upgrade: bool,
}

enum Replay {
    Empty,
    Full(Bytes),
    Lent(Arc<Loan>),
}

impl Outbound {
    /// Takes over `request`, brings its target into origin-form and drops framing fields that its
    /// body does not vouch for: hyper frames each message anew (desync, RFC 9112 §6).
    pub(super) fn new(request: Request<Body>, clock: Clock) -> Result<Self, FetchError> {
        let (mut head, body) = request.into_parts();
        if head.method == Method::CONNECT {
            return Err(FetchError::Request("CONNECT is never forwarded"));
        }
        head.version = Version::HTTP_11;
        if head.uri.authority().is_some() {
            let target = head.uri.path_and_query().cloned();
            head.uri = Uri::from(target.unwrap_or_else(|| PathAndQuery::from_static("/")));
        }
        drop_odd_names(&mut head.headers);
        frame(&mut head, body.size_hint().exact());
        let expects = semantics::expects_continue(&head.headers);
        // Safe methods are (RFC 9110 §9.2.2), also those of other documents, such as QUERY (RFC 10008).
        let is_safe = MethodClass::of(&head.method) == MethodClass::OtherSafe;
        let idempotent = head.method.is_idempotent() || is_safe;
        let upgrade = head.headers.contains_key(UPGRADE);
        let body = match body {
            Body::Empty => Replay::Empty,
            Body::Full(bytes) => Replay::Full(bytes),
            body => Replay::Lent(Arc::new(Loan::new(body, expects, clock))),
        };
        if !matches!(body, Replay::Lent(_)) {
            // There is nothing to continue with, and some servers close such a connection behind their answer.
            head.headers.remove(EXPECT);
        }
        Ok(Self { head: Some(head), body, idempotent, upgrade })
    }

    /// Whether a failure after which the server may have processed the request allows another
    /// attempt (RFC 9110 §9.2.2).
    pub(super) const fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    /// Whether the client asked to leave HTTP on this connection, which only HTTP/1.1 can.
    pub(super) const fn wants_upgrade(&self) -> bool {
        self.upgrade
    }

    /// The streaming body of the request, if it has one.
    pub(super) const fn loan(&self) -> Option<&Arc<Loan>> {
        match &self.body {
            Replay::Lent(loan) => Some(loan),
            Replay::Empty | Replay::Full(_) => None,
        }
    }

    /// Whether there is still a request to send.
    pub(super) fn is_whole(&self) -> bool {
        self.head.is_some() && self.loan().is_none_or(|loan| loan.is_untouched())
    }

    /// The request for an attempt over HTTP/1.1. A copy is kept only where another attempt could
    /// be allowed after the server had it: the usual miss pays for one copy of the fields.
    pub(super) fn for_http1(&mut self, server: &OriginServer) -> Option<Request<Outgoing>> {
        let body = self.lend()?;
        let mut head = if self.idempotent { self.head.clone()? } else { self.head.take()? };
        if !head.headers.contains_key(HOST) {
            head.headers.insert(HOST, default_host(server));
        }
        // Said, since hyper would leave out the body of a GET whose length is not known.
        if matches!(body, Outgoing::Lent { .. }) && !head.headers.contains_key(CONTENT_LENGTH) {
            head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let turn = if let Outgoing::Lent { loan, turn } = &body { Some((loan.clone(), *turn)) } else { None };
        let mut request = Request::from_parts(head, body);
        let expecting = turn.filter(|(loan, _)| loan.expects);
        listen(&mut request, expecting.map(|(loan, turn)| move || loan.release(turn)));
        Some(request)
    }

    /// The request for an attempt over HTTP/2, where `Host` becomes `:authority` (RFC 9113 §8.3.1).
    /// A copy is always kept, as a server may refuse any request unprocessed.
    pub(super) fn for_http2(
        &mut self,
        server: &OriginServer,
    ) -> Result<Option<Request<Outgoing>>, FetchError> {
        let Some(mut head) = self.head.clone() else { return Ok(None) };
        let host = head.headers.remove(HOST).unwrap_or_else(|| default_host(server));
        let mut target = http::uri::Parts::default();
        target.scheme = Some(if server.tls { Scheme::HTTPS } else { Scheme::HTTP });
        target.authority = Authority::try_from(host.as_bytes()).ok();
        target.path_and_query = head.uri.path_and_query().cloned();
        head.uri = Uri::from_parts(target)
            .ok()
            .ok_or(FetchError::Request("Host and target make no HTTP/2 target"))?;
        head.version = Version::HTTP_2;
        // hyper does not tell of 1xx over HTTP/2, so the body is not held back for one.
        head.headers.remove(EXPECT);
        let body = self.lend();
        if let Some(Outgoing::Lent { loan, turn }) = &body {
            loan.release(*turn);
        }
        Ok(body.map(|body| Request::from_parts(head, body)))
    }

    /// Takes back a request that was not written at all.
    pub(super) fn restore(&mut self, request: Request<Outgoing>) {
        if self.head.is_none() {
            self.head = Some(request.into_parts().0);
        }
    }

    fn lend(&self) -> Option<Outgoing> {
        match &self.body {
            Replay::Empty => Some(Outgoing::Whole(Body::Empty)),
            Replay::Full(bytes) => Some(Outgoing::Whole(Body::Full(bytes.clone()))),
            Replay::Lent(loan) => loan.lend().map(|turn| Outgoing::Lent { loan: loan.clone(), turn }),
        }
    }
}

/// States the length of a body that is known; says that there is none where the method lets one
/// expect it (RFC 9110 §8.6).
fn frame(head: &mut request::Parts, length: Option<u64>) {
    head.headers.remove(TRANSFER_ENCODING);
    let expects_body = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
    match length {
        // Its sender's Content-Length if it is one (RFC 9110 §8.6), else chunks.
        None if states_length(&head.headers) => {}
        None => drop(head.headers.remove(CONTENT_LENGTH)),
        Some(0) if !expects_body => drop(head.headers.remove(CONTENT_LENGTH)),
        Some(length) => drop(head.headers.insert(CONTENT_LENGTH, length.into())),
    }
}

/// Whether there is one length in digits. Over HTTP/2, an empty one counts as 0 for `h2`.
fn states_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let digits = |value: &HeaderValue| !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
    lengths.next().is_some_and(digits) && lengths.next().is_none()
}

/// Drops fields whose names are no tokens (RFC 9110 §5.1), which servers read each in their way: over HTTP/2, `http`
/// takes names with a quotation mark.
fn drop_odd_names(headers: &mut HeaderMap) {
    let is_odd = |name: &&HeaderName| name.as_str().contains('"');
    while let Some(name) = headers.keys().find(is_odd).cloned() {
        headers.remove(name);
    }
}

fn default_host(server: &OriginServer) -> HeaderValue {
    let port_default = if server.tls { 443 } else { 80 };
    let host = if server.host.contains(':') { format!("[{}]", server.host) } else { server.host.clone() };
    let host = if server.port == port_default { host } else { format!("{host}:{}", server.port) };
    HeaderValue::try_from(host).unwrap_or(HeaderValue::from_static(""))
}

/// A streaming request body that stays with its owner while a connection reads from it.
///
/// One that its sender wants to be asked for (`Expect: 100-continue`) is held back, and so not asked for, until the
/// server says `100`: a server that refuses the request by its head alone gets nothing of it.
pub(super) struct Loan {
    expects: bool,
    clock: Clock,
    state: Mutex<LoanState>,
}

struct LoanState {
    body: Body,
    /// Until when the body is held back from the present attempt; `None` once it is not.
    held: Option<Pin<Box<Sleep>>>,
    /// The connection that waits for it.
    waiting: Option<Waker>,
    /// Which attempt has it; earlier ones get an error.
    turn: u32,
    /// When a connection last got something of it, or its end.
    moved: Option<Instant>,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The connection has not asked for what comes next: it has not written what it has.
    Unasked,
    /// The connection waits for the body's sender.
    Starved,
    Ended,
    Failed,
    Revoked,
}

impl Loan {
    const fn new(body: Body, expects: bool, clock: Clock) -> Self {
        let phase = Phase::Unasked;
        let state = LoanState { body, held: None, waiting: None, turn: 0, moved: None, phase };
        Self { expects, clock, state: Mutex::new(state) }
    }

    /// Since when it is the server that is waited for, by one who waits since `since`: not before the body last moved;
    /// `None` while it is the body's sender that keeps the connection waiting.
    pub(super) fn server_awaited_since(&self, since: Instant) -> Option<Instant> {
        let state = self.state.lock();
        (state.phase != Phase::Starved).then(|| state.moved.map_or(since, |moved| moved.max(since)))
    }

    /// Whether the body ended in an error of its own.
    pub(super) fn has_failed(&self) -> bool {
        self.state.lock().phase == Phase::Failed
    }

    /// Calls the body back and lets go of it, so that its sender learns that nobody reads on.
    pub(super) fn revoke(&self) {
        let mut state = self.state.lock();
        if state.phase != Phase::Ended {
            state.phase = Phase::Revoked;
        }
        let body = std::mem::replace(&mut state.body, Body::Empty);
        let waiting = state.waiting.take();
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
        drop(body); // its drop may run foreign code, which must not see the lock held
    }

    fn is_untouched(&self) -> bool {
        let state = self.state.lock();
        state.moved.is_none() && matches!(state.phase, Phase::Unasked | Phase::Starved)
    }

    fn lend(&self) -> Option<u32> {
        if !self.is_untouched() {
            return None;
        }
        let mut state = self.state.lock();
        state.turn += 1;
        state.phase = Phase::Unasked;
        state.held = self.expects.then(|| Box::pin(sleep(CONTINUE_WAIT)));
        Some(state.turn)
    }

    /// Holds the body back from the attempt no longer.
    fn release(&self, turn: u32) {
        let mut state = self.state.lock();
        if state.turn == turn {
            state.held = None;
            let waiting = state.waiting.take();
            drop(state);
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    fn poll(&self, turn: u32, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.state.lock();
        if state.turn != turn || state.phase == Phase::Revoked {
            return Poll::Ready(Some(Err(BodyError::Truncated)));
        }
        if let Some(held) = &mut state.held {
            if held.as_mut().poll(cx).is_pending() {
                state.waiting = Some(cx.waker().clone());
                return Poll::Pending;
            }
            state.held = None;
        }
        let frame = Pin::new(&mut state.body).poll_frame(cx);
        state.phase = match &frame {
            Poll::Pending => Phase::Starved,
            Poll::Ready(None) => Phase::Ended,
            Poll::Ready(Some(Err(_))) => Phase::Failed,
            Poll::Ready(Some(Ok(_))) if state.body.is_end_stream() => Phase::Ended,
            Poll::Ready(Some(Ok(_))) => Phase::Unasked,
        };
        if frame.is_ready() {
            state.moved = Some(self.clock.mono());
        }
        frame
    }
}

/// The body of one attempt.
pub(super) enum Outgoing {
    /// All of it, here.
    Whole(Body),
    /// Lent by the fetch.
    Lent {
        /// Whose body it is.
        loan: Arc<Loan>,
        /// The attempt that may read it.
        turn: u32,
    },
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Lent { loan, turn } => loan.poll(*turn, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Lent { loan, .. } => {
                let state = loan.state.lock();
                state.phase != Phase::Revoked && state.body.is_end_stream()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Lent { loan, .. } => loan.state.lock().body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(fields: &[(&str, &str)]) -> Vec<String> {
        sent_with(Body::Empty, fields)
    }

    fn sent_with(body: Body, fields: &[(&str, &str)]) -> Vec<String> {
        let mut request = Request::new(body);
        for (name, value) in fields {
            let name = HeaderName::from_lowercase(name.as_bytes()).expect("a name");
            request.headers_mut().append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let head =
            Outbound::new(request, Clock::system()).ok().and_then(|outbound| outbound.head).expect("a head");
        head.headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or("?")))
            .collect()
    }

    #[test]
    fn a_body_of_unknown_length_is_not_said_to_have_one_that_is_none() {
        /// Ends at once, and does not say so before.
        struct Unknown;
        impl HttpBody for Unknown {
            type Data = Bytes;
            type Error = BodyError;
            fn poll_frame(
                self: Pin<&mut Self>,
                _cx: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
                Poll::Ready(None)
            }
        }
        for lengths in [&[""][..], &["+5"], &["5 "], &["five"], &["5", "5"], &["5", ""]] {
            let fields: Vec<_> = lengths.iter().map(|length| ("content-length", *length)).collect();
            assert!(sent_with(Body::stream(Unknown), &fields).is_empty(), "{lengths:?}");
        }
        assert_eq!(sent_with(Body::stream(Unknown), &[("content-length", "5")]), ["content-length: 5"]);
    }

    #[test]
    fn fields_whose_names_are_no_tokens_are_not_sent() {
        assert_eq!(sent(&[("\"content-length\"", "1"), ("x", "1"), ("a\"", "b")]), ["x: 1"]);
    }
}
