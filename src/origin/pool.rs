//! The connections of one worker to one upstream: idle ones, shared ones, and who waits for one.
//!
//! A pool belongs to a worker; its lock is contended only when another worker takes an idle
//! connection away because the upstream's permits ran out. Requests wait in order: a connection
//! that becomes free is handed to the oldest waiter. [`Lease`] is the use of a connection by one
//! request: whatever happens to it, the connection is either whole and back, or closed.

use super::connect::Inbound;
use super::request::Outgoing;
use super::stats::OriginStats;
use super::upstream::Upstream;
use hyper::client::conn::{http1, http2};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Requests that may wait for a connection of one pool.
pub(super) const WAITERS_MAX: usize = 1024;
/// When other workers wait too, every so many connections that become free go to them.
const SHARE_EVERY: u32 = 8;

/// How connections are kept; from the group in whose name a request was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    pub idle_timeout: Duration,
    pub idle_max: usize,
}

/// One worker's connections to one upstream.
pub(super) struct Pool {
    pub upstream: Arc<Upstream>,
    /// Whether new connections offer HTTP/2.
    pub http2: bool,
    stats: Arc<OriginStats>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last one used is used next, so that the surplus runs out of time.
    idle: Vec<Idle>,
    sessions: Vec<Arc<Session>>,
    waiters: VecDeque<oneshot::Sender<Handoff>>,
    /// A connection that may turn out to be HTTP/2 is being made; others wait for it.
    dialing: bool,
    /// The server chose HTTP/1.1 though offered HTTP/2.
    http1_only: bool,
    handoffs: u32,
}

struct Idle {
    line: Line,
    expires: Instant,
}

/// What a waiter gets: a connection, or the advice to look again.
pub(super) type Handoff = Option<Line>;

/// What a request is to do for a connection.
pub(super) enum Plan {
    /// Use this one.
    Use(Lease),
    /// Wait for another request's dialing.
    Wait(Waiter),
    /// Too many wait already.
    Refuse,
    /// Make a connection.
    Dial(Option<Dialing>),
}

impl Pool {
    pub(super) fn new(upstream: Arc<Upstream>, http2: bool, stats: Arc<OriginStats>) -> Self {
        Self { upstream, http2, stats, state: Mutex::default() }
    }

    /// An idle or shareable connection, if there is one.
    pub(super) fn take(self: &Arc<Self>, keep: Keep, now: Instant) -> Option<Lease> {
        let mut state = self.state.lock();
        self.take_locked(&mut state, keep, now)
    }

    fn take_locked(self: &Arc<Self>, state: &mut State, keep: Keep, now: Instant) -> Option<Lease> {
        if let Some(session) = state.sessions.iter().find_map(Session::take) {
            return Some(Lease::new(self.clone(), Connection::Http2(session), true, keep));
        }
        while let Some(idle) = state.idle.pop() {
            self.stats.idle.sub(1);
            if now < idle.expires && idle.line.is_ready() {
                return Some(Lease::new(self.clone(), Connection::Http1(idle.line), true, keep));
            }
        }
        None
    }

    /// Decides how a request gets its connection. `fresh` asks for a new one where connections
    /// serve one request at a time.
    pub(super) fn plan(self: &Arc<Self>, keep: Keep, fresh: bool, now: Instant) -> Plan {
        let mut state = self.state.lock();
        let may_take = !fresh || !state.sessions.is_empty();
        if let Some(lease) = may_take.then(|| self.take_locked(&mut state, keep, now)).flatten() {
            return Plan::Use(lease);
        }
        if !self.http2 || state.http1_only {
            return Plan::Dial(None);
        }
        if state.dialing {
            return self.enqueue_locked(&mut state).map_or(Plan::Refuse, Plan::Wait);
        }
        state.dialing = true;
        Plan::Dial(Some(Dialing { pool: self.clone() }))
    }

    /// Waits for a connection that becomes free here. `None` if too many do already.
    pub(super) fn enqueue(self: &Arc<Self>) -> Option<Waiter> {
        self.enqueue_locked(&mut self.state.lock())
    }

    fn enqueue_locked(self: &Arc<Self>, state: &mut State) -> Option<Waiter> {
        if state.waiters.len() >= WAITERS_MAX {
            state.waiters.retain(|waiter| !waiter.is_closed());
        }
        if state.waiters.len() >= WAITERS_MAX {
            return None;
        }
        let (handoff, receiver) = oneshot::channel();
        state.waiters.push_back(handoff);
        self.stats.waiting.add(1);
        Some(Waiter { pool: self.clone(), receiver })
    }

    /// Takes in a connection of which the caller makes the first use.
    pub(super) fn lease_line(self: &Arc<Self>, line: Line, keep: Keep, reused: bool) -> Lease {
        Lease::new(self.clone(), Connection::Http1(line), reused, keep)
    }

    /// Remembers that the server does not speak HTTP/2, so that requests stop waiting to share.
    pub(super) fn note_http1(&self) {
        self.state.lock().http1_only = true;
    }

    /// Takes in a shared connection; the caller has its first stream.
    pub(super) fn lease_session(self: &Arc<Self>, session: Session, keep: Keep) -> Lease {
        let session = Arc::new(session);
        let mut state = self.state.lock();
        state.http1_only = false;
        state.sessions.push(session.clone());
        drop(state);
        Lease::new(self.clone(), Connection::Http2(session), false, keep)
    }

    /// Closes what was idle for too long or is closed. Returns whether anything is left.
    pub(super) fn sweep(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let before = state.idle.len();
        state.idle.retain(|idle| now < idle.expires && idle.line.is_ready());
        self.stats.idle.sub((before - state.idle.len()) as u64);
        state.sessions.retain(|session| !session.is_over(now));
        !state.idle.is_empty() || !state.sessions.is_empty()
    }

    /// Closes one connection that serves no request, for another worker's sake. Returns whether
    /// there was one.
    pub(super) fn shed(&self) -> bool {
        let mut state = self.state.lock();
        if !state.idle.is_empty() {
            drop(state.idle.remove(0));
            self.stats.idle.sub(1);
            return true;
        }
        let unused = state.sessions.iter().position(|session| session.retire_if_unused());
        unused.map(|index| state.sessions.swap_remove(index)).is_some()
    }

    /// Keeps a connection that is ready for another request, or hands it on.
    fn put(&self, mut line: Line, keep: Keep, now: Instant) {
        let mut state = self.state.lock();
        state.handoffs = state.handoffs.wrapping_add(1);
        let waiting_elsewhere =
            self.upstream.waiting.load(Ordering::Relaxed).saturating_sub(state.waiters.len());
        let is_theirs = waiting_elsewhere > 0 && state.handoffs.is_multiple_of(SHARE_EVERY);
        while let Some(waiter) = (!is_theirs).then(|| state.waiters.pop_front()).flatten() {
            match waiter.send(Some(line)) {
                Ok(()) => return,
                Err(back) => line = back.expect("a handoff comes back as it was sent"),
            }
        }
        if waiting_elsewhere == 0 && state.idle.len() < keep.idle_max {
            state.idle.push(Idle { line, expires: now + keep.idle_timeout });
            self.stats.idle.add(1);
        }
    }

    /// Tells the oldest waiter that something changed.
    fn wake_one(&self) {
        let mut state = self.state.lock();
        while let Some(waiter) = state.waiters.pop_front() {
            if waiter.send(None).is_ok() {
                return;
            }
        }
    }

    /// Tells all waiters that something changed.
    fn wake_all(&self) {
        let waiters = std::mem::take(&mut self.state.lock().waiters);
        for waiter in waiters {
            let _gone = waiter.send(None);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stats.idle.sub(self.state.get_mut().idle.len() as u64);
    }
}

/// The right to dial while others wait; they wake however it ends.
pub(super) struct Dialing {
    pool: Arc<Pool>,
}

impl Drop for Dialing {
    fn drop(&mut self) {
        self.pool.state.lock().dialing = false;
        self.pool.wake_all();
    }
}

/// A request that waits. What it was handed but did not take goes to the next.
pub(super) struct Waiter {
    pool: Arc<Pool>,
    receiver: oneshot::Receiver<Handoff>,
}

impl Waiter {
    /// Waits for the handoff; safe to drop.
    pub(super) async fn handoff(&mut self) -> Handoff {
        // The pool holds its end until it sends, and the waiter holds the pool.
        (&mut self.receiver).await.unwrap_or(None)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.pool.stats.waiting.sub(1);
        self.receiver.close();
        // A connection is closed, which frees its permit and so wakes whoever waits for one.
        if let Ok(None) = self.receiver.try_recv() {
            self.pool.wake_one();
        }
    }
}

/// The use of a connection by one request. Dropped before [`finish`](Self::finish), it closes an
/// HTTP/1.1 connection, or only its own stream of an HTTP/2 one.
pub(super) struct Lease {
    pool: Arc<Pool>,
    connection: Option<Connection>,
    keep: Keep,
    /// The connection is not used again, however the exchange ends.
    distrusted: bool,
    /// Whether the connection had served a request before.
    pub reused: bool,
}

/// A connection in use.
pub(super) enum Connection {
    Http1(Line),
    Http2(Arc<Session>),
}

impl Lease {
    fn new(pool: Arc<Pool>, connection: Connection, reused: bool, keep: Keep) -> Self {
        Self { pool, connection: Some(connection), keep, distrusted: false, reused }
    }

    /// The connection, to send a request.
    pub(super) fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("a lease holds its connection until it ends")
    }

    /// The exchange is complete: the connection goes back if it is whole, that is, if hyper is
    /// ready for another request. It is not when the peer closed or sent more than it had announced,
    /// nor when the request body was still being sent. hyper knows at the time it delivers the end of
    /// a body, as long as driver and reader run on the same thread, which a worker ensures;
    /// elsewhere a race can cost the connection, never its soundness.
    pub(super) fn finish(mut self, now: Instant) {
        match self.connection.take() {
            Some(Connection::Http1(line)) if line.is_ready() && !self.distrusted => {
                self.pool.put(line, self.keep, now)
            }
            Some(Connection::Http1(line)) => line.abort(),
            Some(Connection::Http2(session)) => {
                session.release(now + self.keep.idle_timeout);
                self.pool.wake_one();
            }
            None => {}
        }
    }

    /// The connection is to be closed after this exchange.
    pub(super) const fn distrust(&mut self) {
        self.distrusted = true;
    }

    /// The connection leaves HTTP: it is nobody's any more but the upgrade's.
    pub(super) fn detach(mut self) {
        if let Some(Connection::Http1(line)) = self.connection.take() {
            drop(line);
        }
    }

    /// The connection takes no new requests; those on it go on.
    pub(super) fn retire(&self) {
        if let Some(Connection::Http2(session)) = &self.connection {
            session.retired.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match self.connection.take() {
            Some(Connection::Http1(line)) => line.abort(),
            Some(Connection::Http2(session)) => {
                session.release_dropped();
                self.pool.wake_one();
            }
            None => {}
        }
    }
}

/// An HTTP/1.1 connection. Dropped, it closes in order.
pub(super) struct Line {
    pub sender: http1::SendRequest<Outgoing>,
    abort: oneshot::Sender<()>,
    inbound: Arc<Inbound>,
}

impl Line {
    pub(super) const fn new(
        sender: http1::SendRequest<Outgoing>,
        abort: oneshot::Sender<()>,
        inbound: Arc<Inbound>,
    ) -> Self {
        Self { sender, abort, inbound }
    }

    /// Bytes received on this connection.
    pub(super) fn received(&self) -> u64 {
        self.inbound.bytes()
    }

    fn is_ready(&self) -> bool {
        self.sender.is_ready() && !self.sender.is_closed()
    }

    /// Closes the connection where it stands.
    fn abort(self) {
        let _ended = self.abort.send(());
    }
}

/// An HTTP/2 connection.
pub(super) struct Session {
    pub sender: http2::SendRequest<Outgoing>,
    streams: AtomicUsize,
    streams_max: Arc<AtomicUsize>,
    /// Takes no new streams.
    retired: AtomicBool,
    expires: Mutex<Option<Instant>>,
    stats: Arc<OriginStats>,
}

impl Session {
    /// A session whose first stream is the caller's.
    pub(super) const fn new(
        sender: http2::SendRequest<Outgoing>,
        streams_max: Arc<AtomicUsize>,
        stats: Arc<OriginStats>,
    ) -> Self {
        Self {
            sender,
            streams: AtomicUsize::new(1),
            streams_max,
            retired: AtomicBool::new(false),
            expires: Mutex::new(None),
            stats,
        }
    }

    /// Takes a stream if one is free. Under the pool's lock, so that no two take the last one.
    fn take(self: &Arc<Self>) -> Option<Arc<Self>> {
        let is_usable = !self.retired.load(Ordering::Relaxed) && !self.sender.is_closed();
        let is_free = self.streams.load(Ordering::Relaxed) < self.streams_max.load(Ordering::Relaxed);
        if !is_usable || !is_free {
            return None;
        }
        if self.streams.fetch_add(1, Ordering::Relaxed) == 0 {
            self.stats.idle.sub(1);
        }
        Some(self.clone())
    }

    fn release(&self, expires: Instant) {
        *self.expires.lock() = Some(expires);
        self.release_dropped();
    }

    fn release_dropped(&self) {
        if self.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.stats.idle.add(1);
        }
    }

    /// Whether the pool is to forget it.
    fn is_over(&self, now: Instant) -> bool {
        let unused = self.streams.load(Ordering::Relaxed) == 0;
        let expired = self.expires.lock().is_none_or(|expires| now >= expires);
        self.retired.load(Ordering::Relaxed) || self.sender.is_closed() || (unused && expired)
    }

    fn retire_if_unused(&self) -> bool {
        let unused = self.streams.load(Ordering::Relaxed) == 0;
        if unused {
            self.retired.store(true, Ordering::Relaxed);
        }
        unused
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Leases hold the session, so it counts as idle, but for one that was never leased.
        if *self.streams.get_mut() == 0 {
            self.stats.idle.sub(1);
        }
    }
}
