//! The one body type that travels between the rooms, and what travels before a response.

use crate::proto::framing::Fault;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{HeaderMap, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

/// Why a body ended early. The response in progress is cut; nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection that the body came from failed or broke the protocol.
    #[error("upstream body: {0}")]
    Upstream(#[from] hyper::Error),
    /// The client's stream failed, was reset, or broke the protocol.
    #[error("client body: {0}")]
    Client(#[from] h2::Error),
    /// The sender was silent for longer than the limit.
    #[error("no bytes within the time limit")]
    Stalled,
    /// The body is longer than allowed.
    #[error("body exceeds {0} bytes")]
    TooLarge(u64),
    /// The body ended before its stated length.
    #[error("body ended early")]
    Truncated,
    /// The fill that fed this body failed.
    #[error("fill failed: {0}")]
    Fill(&'static str),
    /// The reader fell behind the fill's window and no other source could serve it.
    #[error("reader fell behind")]
    Laggard,
    /// A stored record that the body needed was gone or damaged.
    #[error("stored body: {0}")]
    Stored(&'static str),
}

/// Any streamed body.
pub type DynBody = Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError> + Send>>;

/// A message body.
pub enum Body {
    /// No bytes.
    Empty,
    /// All bytes at once.
    Full(Bytes),
    /// Straight from a connection.
    Incoming(Incoming),
    /// Made as it is read.
    Stream(DynBody),
}

impl Body {
    /// A streamed body.
    pub fn stream(body: impl HttpBody<Data = Bytes, Error = BodyError> + Send + 'static) -> Self {
        Self::Stream(Box::pin(body))
    }

    /// This body, with what `strip` leaves of its trailers.
    pub fn strip_trailers(self, strip: impl Fn(&mut HeaderMap) + Send + Unpin + 'static) -> Self {
        match self {
            Self::Empty | Self::Full(_) => self,
            body => Self::stream(Stripped { body, strip }),
        }
    }
}

/// `frame`, and if it is trailers, with what `strip` leaves of them: `None` if that is nothing.
pub fn strip_trailers(frame: Frame<Bytes>, strip: impl Fn(&mut HeaderMap)) -> Option<Frame<Bytes>> {
    match frame.into_trailers() {
        Err(frame) => Some(frame),
        Ok(mut trailers) => {
            strip(&mut trailers);
            (!trailers.is_empty()).then(|| Frame::trailers(trailers))
        }
    }
}

struct Stripped<F> {
    body: Body,
    strip: F,
}

impl<F: Fn(&mut HeaderMap) + Unpin> HttpBody for Stripped<F> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        Pin::new(&mut this.body).poll_frame(cx).map(|frame| match frame {
            // Nothing follows trailers, so without them this is the end.
            Some(Ok(frame)) => strip_trailers(frame, &this.strip).map(Ok),
            ended => ended,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Incoming(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(BodyError::from)))
            }
            Self::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(_) => false,
            Self::Incoming(body) => body.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Incoming(body) => body.size_hint(),
            Self::Stream(body) => body.size_hint(),
        }
    }
}

/// What became of an upload; shared with the request, so that a fetch that failed by the client's
/// fault is answered as such.
#[derive(Clone, Default)]
pub struct UploadState(Arc<Shared>);

#[derive(Default)]
struct Shared {
    fault: Mutex<Option<UploadFault>>,
    answered: AtomicBool,
    received: AtomicU64,
}

/// The client's fault in an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadFault {
    /// Longer than allowed.
    TooLarge,
    /// Silent for too long.
    Stalled,
    /// Ended early or broke the protocol.
    Broken,
    /// Sent, but too slowly.
    Slow,
    /// Its framing has no single meaning.
    Ambiguous(Fault),
}

impl UploadFault {
    /// All faults but those of the framing, which are refusals by name.
    pub const ALL: [Self; 4] = [Self::TooLarge, Self::Stalled, Self::Broken, Self::Slow];

    /// Name in logs and metrics, where it is not a refusal's.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "body_too_large",
            Self::Stalled => "body_stalled",
            Self::Broken | Self::Ambiguous(_) => "body_broken",
            Self::Slow => "body_too_slow",
        }
    }

    /// Its place in [`ALL`](Self::ALL).
    pub const fn index(self) -> Option<usize> {
        match self {
            Self::TooLarge => Some(0),
            Self::Stalled => Some(1),
            Self::Broken => Some(2),
            Self::Slow => Some(3),
            Self::Ambiguous(_) => None,
        }
    }

    /// The client's fault behind an error of a body that came from its connection.
    pub fn of(error: &BodyError) -> Self {
        let mut source = std::error::Error::source(error);
        while let Some(error) = source {
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            if let Some(fault) = inner.and_then(|inner| inner.downcast_ref::<Fault>()) {
                return Self::Ambiguous(*fault);
            }
            source = error.source();
        }
        Self::Broken
    }
}

impl UploadState {
    /// The client's fault, if there was one.
    pub fn fault(&self) -> Option<UploadFault> {
        *self.0.fault.lock()
    }

    /// Body bytes received.
    pub fn received(&self) -> u64 {
        self.0.received.load(Ordering::Relaxed)
    }

    /// Whether the request has a response by now.
    pub fn is_answered(&self) -> bool {
        self.0.answered.load(Ordering::Relaxed)
    }

    /// Notes that the request has a response.
    pub fn answered(&self) {
        self.0.answered.store(true, Ordering::Relaxed);
    }

    /// Notes the client's fault.
    pub fn failed(&self, fault: UploadFault) {
        *self.0.fault.lock() = Some(fault);
    }

    /// Notes received bytes.
    pub fn received_more(&self, bytes: u64) {
        self.0.received.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Interim responses that are kept for one request at most; those beyond are dropped.
pub const INTERIMS_MAX: usize = 8;

/// An interim response (RFC 9110 §15.2): 1xx, but neither 100 nor 101, with its end-to-end fields.
#[derive(Clone, Debug)]
pub struct Interim {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub fields: HeaderMap,
}

/// The interim responses to one request on their way to who waits for the final one. Empty, it holds nothing on the heap.
#[derive(Default)]
pub struct Interims {
    /// Whether nobody can be told of any.
    deaf: bool,
    any: AtomicBool,
    queue: Mutex<Queue>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Arc<Interim>>,
    offered: usize,
}

impl Interims {
    /// For a client that knows of no interim responses (RFC 9110 §15.2: one of HTTP/1.0): all are dropped.
    pub fn deaf() -> Self {
        Self { deaf: true, ..Self::default() }
    }

    /// Whether all are dropped.
    pub const fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// Hands one on, unless it is one too many.
    pub fn offer(&self, interim: Arc<Interim>) {
        if self.deaf {
            return;
        }
        let mut queue = self.queue.lock();
        if queue.offered < INTERIMS_MAX {
            queue.offered += 1;
            queue.waiting.push(interim);
            drop(queue);
            self.any.store(true, Ordering::Release);
            self.waker.wake();
        }
    }

    /// Those that have come since the last call.
    pub fn take(&self) -> Vec<Arc<Interim>> {
        if self.any.load(Ordering::Acquire) && self.any.swap(false, Ordering::AcqRel) {
            return std::mem::take(&mut self.queue.lock().waiting);
        }
        Vec::new()
    }

    /// Runs `future`, and hands what comes in the meantime on to `to`.
    pub async fn during<F: Future>(&self, to: &Self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            let polled = future.as_mut().poll(cx);
            self.take().into_iter().for_each(|interim| to.offer(interim));
            polled
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interim() -> Arc<Interim> {
        Arc::new(Interim { status: StatusCode::PROCESSING, fields: HeaderMap::new() })
    }

    #[test]
    fn no_more_interim_responses_than_allowed_are_handed_on_in_all() {
        let interims = Interims::default();
        let mut taken = 0;
        for _ in 0..3 * INTERIMS_MAX {
            interims.offer(interim());
            taken += interims.take().len();
        }
        assert_eq!(taken, INTERIMS_MAX);
        let deaf = Interims::deaf();
        deaf.offer(interim());
        assert!(deaf.take().is_empty());
    }

    #[tokio::test]
    async fn what_comes_with_the_end_of_a_wait_is_handed_on_too() {
        let (from, to) = (Interims::default(), Interims::default());
        from.during(&to, async { from.offer(interim()) }).await;
        assert_eq!(to.take().len(), 1);
    }
}
