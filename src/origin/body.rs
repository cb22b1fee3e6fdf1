//! The body of an upstream response: watches for silence, and gives the connection back when, and
//! only when, the body was read to its end.

use super::error::FailureKind;
use super::pool::Lease;
use super::request::Loan;
use super::stats::OriginStats;
use super::upstream::Attempt;
use crate::body::{BodyError, strip_trailers};
use crate::clock::Clock;
use crate::proto::semantics;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// A response body with what it holds upstream. Dropped early, it closes the connection, or resets
/// its stream.
pub(super) struct UpstreamBody {
    /// `None` once it failed.
    incoming: Option<Incoming>,
    /// `None` once the exchange is over.
    exchange: Option<Exchange>,
    between_bytes_timeout: Duration,
    /// When the present silence began.
    silent_since: Option<Instant>,
    /// Made at the first silence, as small bodies have none.
    timer: Option<Pin<Box<Sleep>>>,
}

/// What an exchange holds from its request to the end of its response.
pub(super) struct Exchange {
    pub lease: Lease,
    pub attempt: Attempt,
    pub request_body: RequestBody,
    pub clock: Clock,
    pub stats: Arc<OriginStats>,
}

/// The request body, if it streams. Once the response is complete or given up, nobody reads on: the
/// body is called back, so that its sender learns of it.
pub(super) struct RequestBody(pub Option<Arc<Loan>>);

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(loan) = &self.0 {
            loan.revoke();
        }
    }
}

impl RequestBody {
    /// See [`Loan::server_awaited_since`].
    fn server_awaited_since(&self, since: Instant) -> Option<Instant> {
        self.0.as_ref().map_or(Some(since), |loan| loan.server_awaited_since(since))
    }
}

impl Exchange {
    /// The response is complete.
    pub(super) fn finish(mut self) {
        self.attempt.succeeded();
        drop(self.request_body);
        self.lease.finish(self.clock.now().mono);
    }

    /// The connection left HTTP and belongs to the upgrade.
    pub(super) fn upgraded(mut self) {
        self.attempt.succeeded();
        self.lease.detach();
    }

    /// The response broke off; the connection is closed.
    fn fail(mut self, kind: FailureKind) {
        self.stats.count_failure(kind);
        self.attempt.failed();
        self.lease.retire();
    }
}

impl UpstreamBody {
    pub(super) const fn new(incoming: Incoming, exchange: Exchange, between_bytes_timeout: Duration) -> Self {
        Self {
            incoming: Some(incoming),
            exchange: Some(exchange),
            between_bytes_timeout,
            silent_since: None,
            timer: None,
        }
    }

    fn finish(&mut self) {
        self.timer = None;
        if let Some(exchange) = self.exchange.take() {
            exchange.finish();
        }
    }

    fn fail(&mut self, kind: FailureKind) {
        self.timer = None;
        self.incoming = None;
        if let Some(exchange) = self.exchange.take() {
            exchange.fail(kind);
        }
    }

    /// Ready when the silence has lasted too long. The timer is not moved with each frame: it is
    /// compared with the start of the present silence when it fires. While the server is kept waiting by the sender of the
    /// request body, the silence is not its own.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(exchange) = &self.exchange else { return Poll::Pending };
        let limit = self.between_bytes_timeout;
        let since = *self.silent_since.get_or_insert_with(|| exchange.clock.now().mono);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        loop {
            ready!(timer.as_mut().poll(cx));
            let since = exchange.request_body.server_awaited_since(since);
            let silence =
                since.map_or(Duration::ZERO, |since| exchange.clock.mono().saturating_duration_since(since));
            if silence >= limit {
                return Poll::Ready(());
            }
            timer.set(tokio::time::sleep(limit - silence));
        }
    }
}

impl HttpBody for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.silent_since = None;
                // Readers that know the length do not ask for the end; nothing follows trailers.
                if incoming.is_end_stream() || frame.is_trailers() {
                    this.finish();
                }
                Poll::Ready(
                    strip_trailers(frame, |trailers| semantics::strip_trailers(trailers, |_| false)).map(Ok),
                )
            }
            Poll::Ready(Some(Err(error))) => {
                this.fail(FailureKind::BodyBroken);
                Poll::Ready(Some(Err(BodyError::Upstream(error))))
            }
            Poll::Ready(None) => {
                this.finish();
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(this.poll_silence(cx));
                this.fail(FailureKind::BodyStalled);
                Poll::Ready(Some(Err(BodyError::Stalled)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}
