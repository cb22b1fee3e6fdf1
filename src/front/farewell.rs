//! The last words on an HTTP/1 connection, said below hyper, and its end.
//!
//! A connection that is closed with bytes of its client unread is reset, and the reset may overtake the answer
//! (RFC 9112 §9.6). So the way out is closed first, and for a while what still comes is read and dropped.

use super::conn::{Connection, Io};
use super::interim::write_head;
use super::record::{ClientBody, Record};
use crate::body::{Body, UploadState};
use crate::proto::semantics;
use crate::serve::{Answer, Refusal};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use http::header::{CONTENT_LENGTH, HOST, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body_util::BodyExt;
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How long a connection is kept after its last word, or while that cannot be sent.
pub(super) const LINGER_TIME: Duration = Duration::from_secs(2);
/// Bytes that are read and dropped meanwhile.
const LINGER_BYTES: usize = 1 << 20;
/// Bytes that are read at once.
const LINGER_READ: usize = 4096;
/// Bytes of a refused head that are looked at for the log.
const SEEN_MAX: usize = 2048;
/// Bytes of its target that are logged.
const TARGET_MAX: usize = 256;
/// What a URI cannot have, as written.
const NOT_IN_URI: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A refusal on its way to a client.
pub(super) struct Farewell {
    words: Bytes,
    /// Logged when dropped.
    logged: Option<Response<ClientBody>>,
    linger: Linger,
}

impl Farewell {
    /// Refuses a request of which these bytes were seen, which are its first or none.
    pub(super) fn new(connection: &Arc<Connection>, refusal: Refusal, seen: &[u8]) -> Self {
        let request = asked(&seen[..seen.len().min(SEEN_MAX)]);
        let is_head = request.method() == Method::HEAD;
        let mut response = connection.refuse(refusal, &request);
        let now = connection.front.worker.node.clock.now();
        semantics::ensure_date(response.headers_mut(), now.wall);
        let frame = response.body_mut().frame().now_or_never().flatten();
        let body = frame.and_then(Result::ok).and_then(|frame| frame.into_data().ok()).unwrap_or_default();
        response.headers_mut().insert(CONTENT_LENGTH, body.len().into());
        let words = written(&response, if is_head { &[] } else { &body });
        Self { words, logged: Some(response), linger: Linger::default() }
    }

    /// Ready when all is said, or cannot be.
    pub(super) fn poll_sent(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<()> {
        if self.linger.is_over(cx) {
            self.words.clear();
        }
        while !self.words.is_empty() {
            match ready!(Pin::new(&mut *io).poll_write(cx, &self.words)) {
                Ok(written) if written > 0 => self.words.advance(written),
                _ => self.words.clear(),
            }
        }
        // An error shows again when the stream is read.
        let _ = ready!(Pin::new(io).poll_flush(cx));
        self.logged = None;
        Poll::Ready(())
    }

    /// Ready when all is said and the client has gone, or had time to.
    pub(super) fn poll_gone(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_sent(io, cx));
        self.linger.poll(io, cx)
    }
}

/// The end of a connection whose client may still be sending.
pub(super) struct Linger {
    timer: Pin<Box<Sleep>>,
    left: usize,
    is_shut: bool,
}

impl Default for Linger {
    fn default() -> Self {
        Self { timer: Box::pin(tokio::time::sleep(LINGER_TIME)), left: LINGER_BYTES, is_shut: false }
    }
}

impl Linger {
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.timer.as_mut().poll(cx).is_ready()
    }

    /// Ready when the client has gone, or had time to.
    pub(super) fn poll(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_over(cx) {
            return Poll::Ready(());
        }
        if !self.is_shut {
            if ready!(Pin::new(&mut *io).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            self.is_shut = true;
        }
        let mut dropped = [0; LINGER_READ];
        while self.left > 0 {
            let mut buf = ReadBuf::new(&mut dropped);
            let read = ready!(Pin::new(&mut *io).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                break;
            }
            self.left = self.left.saturating_sub(buf.filled().len());
        }
        Poll::Ready(())
    }
}

impl Connection {
    /// Answers a request that hyper never saw, as one that it did: with an id, a count and a line in the log.
    fn refuse(&self, refusal: Refusal, request: &Request<Body>) -> Response<ClientBody> {
        let now = self.front.worker.node.clock.now();
        self.watch.request_begins(now.mono, false, false, &self.limits);
        let from = (self.client.from.ip(), self.tls_version);
        Record::begin(&self.front, &self.watch, request, from, UploadState::default(), now)
            .respond(Answer::refused(refusal))
    }

    /// Counts a refusal that is answered as something else.
    pub(super) fn count_refusal(&self, refusal: Refusal) {
        self.front.worker.node.metrics.node.requests_refused.inc(refusal as usize);
    }
}

/// What can be told of a request by its first bytes: what is not plain is `-`, or escaped.
fn asked(seen: &[u8]) -> Request<Body> {
    let mut lines =
        seen.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).skip_while(|line| line.is_empty());
    let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
    let method = words.next().and_then(|word| Method::from_bytes(word).ok());
    let target = words.next().unwrap_or_default();
    let target = percent_encode(&target[..target.len().min(TARGET_MAX)], NOT_IN_URI).to_string();
    let mut request = Request::new(Body::Empty);
    *request.method_mut() = method.unwrap_or_else(|| Method::from_bytes(b"-").unwrap_or_default());
    *request.uri_mut() = Uri::try_from(target).unwrap_or_else(|_| Uri::from_static("*"));
    let host = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(HOST.as_str().len() + 1)?;
        name.eq_ignore_ascii_case(b"host:").then(|| HeaderValue::from_bytes(value.trim_ascii()).ok())?
    });
    if let Some(host) = host {
        request.headers_mut().insert(HOST, host);
    }
    request
}

/// A response as HTTP/1.1 writes it.
fn written(response: &Response<ClientBody>, body: &[u8]) -> Bytes {
    let mut words = BytesMut::new();
    write_head(&mut words, response.status(), response.headers());
    words.extend_from_slice(body);
    words.freeze()
}
