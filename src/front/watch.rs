//! The time limits of one connection, watched from beside it.
//!
//! ```text
//! waiting ── first byte ──> head ── head complete ──> busy ── last response done ──> waiting
//! keepalive_timeout         header_timeout            idle_timeout while nothing can be written,
//!                                                     response_rate over all such times
//! ```
//! The stream notes reads and stalled writes, the service notes requests; one timer per connection
//! looks at the notes when the earliest limit could have passed, so a request arms no timer. Limits
//! are absolute: a client that sends its head byte by byte gains nothing. A client is waited for only
//! while a write waits for it, so a response that has nothing to say for hours offends no limit.

use super::gate::Seat;
use super::interim::Outbox;
use super::pace::Pace;
use crate::clock::Clock;
use crate::config::model::Limits;
use crate::net::Stream;
use crate::telemetry::Slowness;
use bytes::Bytes;
use parking_lot::Mutex;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

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
    /// The client took its response too slowly.
    Slow,
    /// Another connection took its place while it waited.
    Shed,
}

impl Expired {
    /// In what the client was too slow, if it was.
    pub(super) const fn slowness(self) -> Option<Slowness> {
        match self {
            Self::Head => Some(Slowness::Head),
            Self::Stalled => Some(Slowness::ResponseStalled),
            Self::Slow => Some(Slowness::ResponseSlow),
            Self::Idle | Self::Shed => None,
        }
    }
}

/// Notes on one connection, shared by its stream, its service and its timer.
pub(super) struct Watch {
    clock: Clock,
    started: Instant,
    seat: Arc<Seat>,
    state: Mutex<State>,
    /// What HTTP/1.1 is to write between messages.
    pub(super) outbox: Outbox,
    /// Told when the connection should close after its current requests.
    close: Notify,
    /// Requests that began and that ended, for whom a lock would be too much.
    begun: AtomicU64,
    ended: AtomicU64,
    call: AtomicU8,
}

/// What a stream of HTTP/1 is called to do when it next reads a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Nothing,
    /// The last response switches protocols.
    Tunnel,
    /// The head did not come in time.
    Late,
}

/// Values of [`Watch::call`]: nobody listens, or one of [`Call`].
const DEAF: u8 = 0;
const NOTHING: u8 = 1;
const TUNNEL: u8 = 2;
const LATE: u8 = 3;

struct State {
    in_progress: u32,
    requests: u64,
    multiplexed: bool,
    since: Instant,
    head_begun: bool,
    /// Whether the client ever sent a byte.
    spoke: bool,
    blocked_since: Option<Instant>,
    /// How fast the client takes its responses.
    pace: Pace,
    /// Why the connection is being closed.
    expired: Option<Expired>,
    /// In HTTP/2: since when a head has not ended, which holds up all streams.
    in_head_since: Option<Instant>,
}

impl Watch {
    /// Watches a connection that begins now; its first head is due at once.
    pub(super) fn new(clock: Clock, seat: Arc<Seat>, limits: &Limits) -> Arc<Self> {
        let now = clock.mono();
        let state = State {
            in_progress: 0,
            requests: 0,
            multiplexed: false,
            since: now,
            head_begun: true,
            spoke: false,
            blocked_since: None,
            pace: Pace::new(limits.response_rate, limits.idle_timeout),
            expired: None,
            in_head_since: None,
        };
        Arc::new(Self {
            clock,
            started: now,
            seat,
            state: Mutex::new(state),
            outbox: Outbox::default(),
            close: Notify::new(),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            call: AtomicU8::new(DEAF),
        })
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
        if state.in_progress == 0 {
            self.seat.begins();
        }
        state.in_progress += 1;
        state.requests += 1;
        self.begun.store(state.requests, Ordering::Relaxed);
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
        if state.in_progress == 0 {
            self.seat.ends(now);
        }
        self.ended.store(state.requests - u64::from(state.in_progress), Ordering::Relaxed);
    }

    /// Whether the connection was closed because the client was too slow.
    pub(super) fn is_too_slow(&self) -> bool {
        self.state.lock().expired.is_some_and(|expired| expired.slowness().is_some())
    }

    /// Requests that have begun.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Requests that have ended.
    pub(super) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// From now on somebody heeds what is called.
    pub(super) fn listens(&self) {
        self.call.store(NOTHING, Ordering::Relaxed);
    }

    /// What the stream is called to do.
    pub(super) fn call(&self) -> Call {
        match self.call.load(Ordering::Relaxed) {
            TUNNEL => Call::Tunnel,
            LATE => Call::Late,
            _ => Call::Nothing,
        }
    }

    /// The response that is being given switches protocols. The connection keeps its place, and is not looked at further.
    pub(super) fn tunnels(&self) {
        self.seat.is_tunnel();
        self.call.store(TUNNEL, Ordering::Relaxed);
    }

    /// Calls that a head is late. Whether anybody heeds it.
    pub(super) fn is_told_late(&self) -> bool {
        self.call.compare_exchange(NOTHING, LATE, Ordering::Relaxed, Ordering::Relaxed).is_ok()
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

    /// Resolves when a limit has passed, or another connection has taken the place of this one.
    pub(super) async fn expired(&self, limits: &Limits) -> Expired {
        let expired = loop {
            match self.next_limit(limits) {
                Err(expired) => break expired,
                Ok(left) => tokio::select! {
                    () = tokio::time::sleep(left) => {}
                    () = self.seat.told() => if self.gives_way() { break Expired::Shed },
                },
            }
        };
        self.state.lock().expired = Some(expired);
        expired
    }

    /// Whether the connection can be closed at once. If a request came just when it was shed, it ends after that.
    fn gives_way(&self) -> bool {
        let is_waiting = self.state.lock().in_progress == 0;
        if !is_waiting {
            self.close.notify_one();
        }
        is_waiting
    }

    fn next_limit(&self, limits: &Limits) -> Result<Duration, Expired> {
        let now = self.clock.mono();
        let state = self.state.lock();
        let blocked = state.blocked_since.map(|since| now.saturating_duration_since(since));
        let waited = blocked.unwrap_or_default();
        if waited < limits.idle_timeout && state.pace.is_slow_after(waited) {
            return Err(Expired::Slow);
        }
        let (limit, since, expired) = match (state.in_progress, state.blocked_since, state.in_head_since) {
            (_, Some(since), _) => (limits.idle_timeout, since, Expired::Stalled),
            (_, None, Some(since)) => (limits.header_timeout, since, Expired::Head),
            (0, None, None) if state.head_begun => (limits.header_timeout, state.since, Expired::Head),
            (0, None, None) => (limits.keepalive_timeout, state.since, Expired::Idle),
            (_, None, None) => (limits.idle_timeout, now, Expired::Stalled),
        };
        // What the connection waits for may change meanwhile, and with it the limit; nobody tells the
        // timer, which thus looks again when the shortest of them could have passed.
        let pace = blocked.map_or(limits.idle_timeout, |blocked| state.pace.left_after(blocked));
        let look = limits.header_timeout.min(limits.keepalive_timeout).min(limits.idle_timeout).min(pace);
        let passed = now.saturating_duration_since(since);
        if passed >= limit { Err(expired) } else { Ok((limit - passed).min(look)) }
    }

    /// The client has sent something that is heeded now.
    pub(super) fn was_read(&self) {
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

    fn was_written(&self, bytes: usize, blocked: bool) {
        let mut state = self.state.lock();
        state.pace.moved(bytes as u64);
        match (blocked, state.blocked_since) {
            (true, None) => state.blocked_since = Some(self.clock.mono()),
            (false, Some(since)) => {
                state.blocked_since = None;
                state.pace.waited(self.clock.mono().saturating_duration_since(since));
            }
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
    /// Whether the last flush waits for the client.
    is_flushing: bool,
    _place: P,
}

impl<S, P> Watched<S, P> {
    pub(super) const fn new(stream: S, watch: Arc<Watch>, place: P) -> Self {
        Self { stream, ahead: Bytes::new(), watch, is_flushing: false, _place: place }
    }

    /// Has bytes that were read be read again, before all that follows.
    pub(super) fn rewind(&mut self, read: Bytes) {
        self.ahead = read;
    }
}

impl<S: AsyncWrite + Unpin, P> Watched<S, P> {
    fn poll_outbox(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.watch.outbox.poll_write(&mut self.stream, cx);
        self.watch.was_written(0, polled.is_pending());
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
        this.watch.was_written(written(&polled), polled.is_pending());
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.watch.outbox.waits() {
            ready!(this.poll_outbox(cx))?;
        }
        let polled = Pin::new(&mut this.stream).poll_flush(cx);
        // TLS keeps records of its own, which wait here.
        if polled.is_pending() || this.is_flushing {
            this.is_flushing = polled.is_pending();
            this.watch.was_written(0, polled.is_pending());
        }
        polled
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
        this.watch.was_written(written(&polled), polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Bytes that a write wrote.
pub(super) const fn written(polled: &Poll<io::Result<usize>>) -> usize {
    if let Poll::Ready(Ok(bytes)) = polled { *bytes } else { 0 }
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
