//! The time limits of one connection, watched from beside it.
//!
//! ```text
//! waiting ── first byte ──> head ── head complete ──> busy ── last response done ──> waiting
//! keepalive_timeout         header_timeout            idle_timeout while nothing can be written
//! ```
//! The stream notes reads and stalled writes, the service notes requests; one timer per connection
//! looks at the notes when the earliest limit could have passed, so a request arms no timer. Limits
//! are absolute: a client that sends its head byte by byte gains nothing.

use super::interim::Outbox;
use crate::config::model::Limits;
use crate::net::Stream;
use bytes::Bytes;
use parking_lot::Mutex;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::clock::Clock;

/// In a drain: how long a connection over HTTP/1.1 without a request is kept. A request that was sent before its client
/// could know of the drain is answered, with `Connection: close`, instead of running into a closed connection
/// (RFC 9112 §9.6); a client under load sends its next within this.
const DRAIN_IDLE: Duration = Duration::from_secs(1);

/// Why a connection was closed from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// No next request came.
    Idle,
    /// A request head did not come in time.
    Head,
    /// The client took nothing of its response for too long.
    Stalled,
}

/// Notes on one connection, shared by its stream, its service and its timer.
pub(super) struct Watch {
    clock: Clock,
    started: Instant,
    state: Mutex<State>,
    /// What HTTP/1.1 is to write between messages.
    pub(super) outbox: Outbox,
    /// Told when the connection should close after its current requests.
    close: Notify,
}

struct State {
    in_progress: u32,
    requests: u64,
    multiplexed: bool,
    since: Instant,
    head_begun: bool,
    /// Whether the client ever sent a byte.
    spoke: bool,
    blocked_since: Option<Instant>,
    /// In HTTP/2: since when a head has not ended, which holds up all streams.
    in_head_since: Option<Instant>,
}

impl Watch {
    /// Watches a connection that begins now; its first head is due at once.
    pub(super) fn new(clock: Clock) -> Arc<Self> {
        let now = clock.mono();
        let state = State {
            in_progress: 0,
            requests: 0,
            multiplexed: false,
            since: now,
            head_begun: true,
            spoke: false,
            blocked_since: None,
            in_head_since: None,
        };
        let (state, outbox) = (Mutex::new(state), Outbox::default());
        Arc::new(Self { clock, started: now, state, outbox, close: Notify::new() })
    }

    /// A request head is complete. Whether it is the last that this connection serves, for its number, for the
    /// connection's age, or in a drain.
    pub(super) fn request_begins(
        &self,
        now: Instant,
        multiplexed: bool,
        draining: bool,
        limits: &Limits,
    ) -> bool {
        let mut state = self.state.lock();
        state.in_progress += 1;
        state.requests += 1;
        state.multiplexed = multiplexed;
        state.head_begun = false;
        let worn = draining
            || state.requests >= limits.requests_per_connection
            || now.saturating_duration_since(self.started) >= limits.connection_age;
        if worn {
            self.close.notify_one();
        }
        worn
    }

    /// A response was sent, or given up.
    pub(super) fn request_ends(&self, now: Instant) {
        let mut state = self.state.lock();
        state.in_progress -= 1;
        state.since = now;
    }

    /// Resolves when the connection should close after its current requests.
    pub(super) async fn worn(&self) {
        self.close.notified().await;
    }

    /// Resolves when a connection may close in a drain that begins now, or was on when it came. Over HTTP/2 that is
    /// at once, since its client is told which requests it must send elsewhere, and streams end before it does.
    pub(super) async fn left(&self) {
        let begun = self.clock.mono();
        while let Some(wait) = self.keeps(begun) {
            tokio::time::sleep(wait).await;
        }
    }

    /// When to look again whether the connection may close in a drain that has begun then; `None` if it may.
    fn keeps(&self, begun: Instant) -> Option<Duration> {
        let now = self.clock.mono();
        let state = self.state.lock();
        if state.multiplexed {
            return None;
        }
        let is_asking = state.in_progress > 0 || (state.head_begun && state.spoke);
        let quiet = now.saturating_duration_since(state.since.max(begun));
        let left = if is_asking { DRAIN_IDLE } else { DRAIN_IDLE.saturating_sub(quiet) };
        (!left.is_zero()).then_some(left)
    }

    /// Resolves when a limit has passed.
    pub(super) async fn expired(&self, limits: &Limits) -> Expired {
        loop {
            match self.next_limit(limits) {
                Err(expired) => return expired,
                Ok(left) => tokio::time::sleep(left).await,
            }
        }
    }

    fn next_limit(&self, limits: &Limits) -> Result<Duration, Expired> {
        let now = self.clock.mono();
        let state = self.state.lock();
        let (limit, since, expired) = match (state.in_progress, state.blocked_since, state.in_head_since) {
            (_, Some(since), _) => (limits.idle_timeout, since, Expired::Stalled),
            (_, None, Some(since)) => (limits.header_timeout, since, Expired::Head),
            (0, None, None) if state.head_begun => (limits.header_timeout, state.since, Expired::Head),
            (0, None, None) => (limits.keepalive_timeout, state.since, Expired::Idle),
            (_, None, None) => (limits.idle_timeout, now, Expired::Stalled),
        };
        // What the connection waits for may change meanwhile, and with it the limit; nobody tells the
        // timer, which thus looks again when the shortest of them could have passed.
        let look = limits.header_timeout.min(limits.keepalive_timeout).min(limits.idle_timeout);
        let passed = now.saturating_duration_since(since);
        if passed >= limit { Err(expired) } else { Ok((limit - passed).min(look)) }
    }

    fn was_read(&self) {
        let mut state = self.state.lock();
        state.spoke = true;
        if state.in_progress == 0 && !state.head_begun && !state.multiplexed {
            state.head_begun = true;
            state.since = self.clock.mono();
        }
    }

    /// Whether a head over HTTP/2 has begun and not ended.
    pub(super) fn is_in_head(&self, is_so: bool) {
        let mut state = self.state.lock();
        state.in_head_since = is_so.then(|| state.in_head_since.unwrap_or_else(|| self.clock.mono()));
    }

    /// The time, by the clock of this watch.
    pub(super) fn now(&self) -> Instant {
        self.clock.mono()
    }

    fn was_written(&self, blocked: bool) {
        let mut state = self.state.lock();
        match (blocked, state.blocked_since) {
            (true, None) => state.blocked_since = Some(self.clock.mono()),
            (false, Some(_)) => state.blocked_since = None,
            _ => {}
        }
    }
}

/// A stream whose reads and writes are noted. `P` lives as long as the stream, which outlives its
/// HTTP connection if that is upgraded.
pub(super) struct Watched<S, P> {
    stream: S,
    /// Read ahead, and to be read again first.
    ahead: Bytes,
    watch: Arc<Watch>,
    _place: P,
}

impl<S, P> Watched<S, P> {
    pub(super) const fn new(stream: S, watch: Arc<Watch>, place: P) -> Self {
        Self { stream, ahead: Bytes::new(), watch, _place: place }
    }

    /// Has bytes that were read be read again, before all that follows.
    pub(super) fn rewind(&mut self, read: Bytes) {
        self.ahead = read;
    }
}

impl<S: AsyncWrite + Unpin, P> Watched<S, P> {
    fn poll_outbox(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.watch.outbox.poll_write(&mut self.stream, cx);
        self.watch.was_written(polled.is_pending());
        polled
    }

    /// Ends what was written in part between messages.
    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.watch.outbox.has_begun() { self.poll_outbox(cx) } else { Poll::Ready(Ok(())) }
    }
}

impl<S: AsyncRead + Unpin, P: Unpin> AsyncRead for Watched<S, P> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ahead.is_empty() {
            let length = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.watch.was_read();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin, P: Unpin> AsyncWrite for Watched<S, P> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_begun(cx))?;
        let polled = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.watch.was_written(polled.is_pending());
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.watch.outbox.waits() {
            ready!(this.poll_outbox(cx))?;
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_begun(cx))?;
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.watch.was_written(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// What a connection runs on: TCP, or TLS over it.
pub(super) enum Wire {
    Plain(Stream),
    Tls(Box<tokio_rustls::server::TlsStream<Stream>>),
}

macro_rules! on_wire {
    ($wire:expr, $stream:ident => $call:expr) => {
        match $wire.get_mut() {
            Wire::Plain($stream) => $call,
            Wire::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_wire!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_wire!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_wire!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_wire!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_wire!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
