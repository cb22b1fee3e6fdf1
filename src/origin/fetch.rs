//! One fetch: which server, on which connection, and whether a failure allows another attempt.

use super::balance::{Candidate, choose};
use super::body::{Exchange, RequestBody, UpstreamBody};
use super::connect::Connected;
use super::error::FetchError;
use super::pool::{Connection, Keep, Lease, Line, Plan, Pool};
use super::request::{Outbound, Outgoing};
use super::upstream::{Attempt, Upstream};
use super::{Fetched, Group, Worker};
use crate::body::Body;
use crate::config::model::{OriginGroup, OriginServer};
use crate::proto::framing;
use crate::proto::time::Wall;

use http::{Request, Response, StatusCode};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use smallvec::SmallVec;
use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// See [`super::Origins::fetch`].
pub(super) async fn fetch(
    worker: &Worker,
    group: &Group,
    request: Request<Body>,
    pin: Option<&OriginServer>,
) -> Result<Fetched, FetchError> {
    let mut fetch = Fetch {
        worker,
        config: &group.config,
        outbound: Outbound::new(request, worker.shared.clock)?,
        attempts: 0,
        turn: group.next_turn(),
        tried: SmallVec::from_elem(false, group.members.len()),
    };
    let mut retries_left = if pin.is_some() { 0 } else { group.config.retries };
    let mut index = fetch.choose(group, pin).ok_or(FetchError::NoServer)?;
    loop {
        let failed = match fetch.ask(group, index).await {
            Ok(fetched) => return Ok(fetched),
            Err(failed) => failed,
        };
        let may_retry = retries_left > 0 && failed.allows_retry && fetch.outbound.is_whole();
        let next = if may_retry { fetch.choose(group, None) } else { None };
        let Some(next) = next else { return Err(failed.error) };
        tracing::debug!(server = %group.config.servers[index].host, error = %failed.error, "retrying");
        worker.shared.stats.retries.add(1);
        retries_left -= 1;
        index = next;
    }
}

/// The state of one fetch over its attempts.
struct Fetch<'a> {
    worker: &'a Worker,
    config: &'a OriginGroup,
    outbound: Outbound,
    attempts: u32,
    turn: usize,
    tried: SmallVec<[bool; 16]>,
}

/// A failed attempt.
struct Failed {
    error: FetchError,
    /// Whether the rules allow another attempt, as far as the failure goes.
    allows_retry: bool,
    /// Whether a kept connection was closed before it gave a byte: no fault of anyone.
    was_stale: bool,
}

impl Failed {
    /// A failure before anything was sent.
    const fn unsent(error: FetchError) -> Self {
        let allows_retry = !matches!(error, FetchError::Request(_));
        Self { error, allows_retry, was_stale: false }
    }
}

impl Fetch<'_> {
    /// Chooses the next server and marks it as tried.
    fn choose(&mut self, group: &Group, pin: Option<&OriginServer>) -> Option<usize> {
        let now = self.worker.shared.clock.now().mono;
        let candidate = |index: usize| {
            let upstream = &group.members[index].pool.upstream;
            let (available, last_failure) = upstream.health(now);
            let in_progress = upstream.in_progress();
            Candidate { tried: self.tried[index], available, last_failure, in_progress }
        };
        let index = match pin {
            Some(pin) => self.config.servers.iter().position(|server| server == pin),
            None => choose(self.config.balance, self.turn, group.members.len(), candidate),
        }?;
        self.tried[index] = true;
        Some(index)
    }

    /// Asks one server; on a kept connection that proves dead, once more on a new one.
    async fn ask(&mut self, group: &Group, index: usize) -> Result<Fetched, Failed> {
        let member = &group.members[index];
        let pool = if self.outbound.wants_upgrade() { &member.upgrades } else { &member.pool };
        let stats = &self.worker.shared.stats;
        match self.attempt(pool, false).await {
            Err(failed) if failed.was_stale && failed.allows_retry && self.outbound.is_whole() => {
                stats.retries.add(1);
                self.attempt(pool, true).await
            }
            result => result,
        }
        .inspect_err(|failed| stats.count_failure(failed.error.kind()))
    }

    async fn attempt(&mut self, pool: &Arc<Pool>, fresh: bool) -> Result<Fetched, Failed> {
        self.attempts += 1;
        let shared = &self.worker.shared;
        let mut attempt = Attempt::start(&pool.upstream, shared.clock);
        let result = self.exchange(pool, fresh).await;
        let (response, lease, request_sent) = result.inspect_err(|failed| {
            if failed.error.is_server_fault() && !failed.was_stale {
                attempt.failed();
            }
        })?;
        let received = shared.clock.now().wall;
        let exchange = Exchange {
            lease,
            attempt,
            request_body: RequestBody(self.outbound.loan().cloned()),
            clock: shared.clock,
            stats: shared.stats.clone(),
        };
        let response = self.deliver(response, exchange)?;
        let server = pool.upstream.server.clone();
        Ok(Fetched { response, server, request_sent, received, attempts: self.attempts })
    }

    /// Gets a connection, sends the request and waits for the head.
    async fn exchange(
        &mut self,
        pool: &Arc<Pool>,
        fresh: bool,
    ) -> Result<(Response<Incoming>, Lease, Wall), Failed> {
        let mut lease = self.lease(pool, fresh).await.map_err(Failed::unsent)?;
        if lease.reused {
            self.worker.shared.stats.reuses.add(1);
        }
        let request_sent = self.worker.shared.clock.now().wall;
        let response = self.send(&pool.upstream.server, &mut lease).await?;
        Ok((response, lease, request_sent))
    }
}

// ---- connections

impl Fetch<'_> {
    /// A connection: a kept one, else a new one, else the first that becomes free, all within
    /// `connect_timeout`.
    async fn lease(&self, pool: &Arc<Pool>, fresh: bool) -> Result<Lease, FetchError> {
        let keep = Keep { idle_timeout: self.config.idle_timeout, idle_max: self.config.idle_max };
        if !fresh && let Some(lease) = pool.take(keep, self.worker.shared.clock.now().mono) {
            return Ok(lease);
        }
        let mut is_waiting = false;
        let opening = self.open(pool, keep, fresh, &mut is_waiting);
        match tokio::time::timeout(self.config.connect_timeout, opening).await {
            Ok(result) => result,
            Err(_elapsed) if is_waiting => Err(FetchError::TooManyConnections),
            Err(_elapsed) => Err(FetchError::ConnectTimeout),
        }
    }

    /// Each round of the loop follows a wake by a connection that changed its state; the caller's
    /// deadline bounds them.
    async fn open(
        &self,
        pool: &Arc<Pool>,
        keep: Keep,
        fresh: bool,
        is_waiting: &mut bool,
    ) -> Result<Lease, FetchError> {
        loop {
            let dialing = match pool.plan(keep, fresh, self.worker.shared.clock.now().mono) {
                Plan::Use(lease) => return Ok(lease),
                Plan::Refuse => return Err(FetchError::TooManyConnections),
                Plan::Wait(mut waiter) => {
                    *is_waiting = true;
                    match waiter.handoff().await {
                        Some(line) => return Ok(pool.lease_line(line, keep, true)),
                        None => continue,
                    }
                }
                Plan::Dial(dialing) => dialing,
            };
            *is_waiting = true;
            let permit = match self.permit(pool).await? {
                Permit::Granted(permit) => permit,
                Permit::Instead(line) => return Ok(pool.lease_line(line, keep, true)),
                Permit::LookAgain => continue,
            };
            *is_waiting = false;
            // Boxed, since its handshakes would add a third to the future of every fetch.
            let connected = Box::pin(self.worker.dialer.dial(&pool.upstream, pool.http2, permit)).await?;
            let lease = match connected {
                Connected::Http2(session) => pool.lease_session(session, keep),
                Connected::Http1(line) => {
                    if pool.http2 {
                        pool.note_http1();
                    }
                    pool.lease_line(line, keep, false)
                }
            };
            drop(dialing); // those who waited find the session, or learn that there is none
            return Ok(lease);
        }
    }

    /// Leave for one more connection to the server, or one that became free in the meantime.
    async fn permit(&self, pool: &Arc<Pool>) -> Result<Permit, FetchError> {
        let permits = &pool.upstream.permits;
        if let Ok(permit) = permits.clone().try_acquire_owned() {
            return Ok(Permit::Granted(permit));
        }
        let mut waiter = pool.enqueue().ok_or(FetchError::TooManyConnections)?;
        let _counted = Waiting::count(&pool.upstream);
        self.worker.shared.shed(&pool.upstream);
        tokio::select! {
            biased;
            handoff = waiter.handoff() => Ok(handoff.map_or(Permit::LookAgain, Permit::Instead)),
            permit = permits.clone().acquire_owned() => {
                permit.map(Permit::Granted).map_err(|_closed| FetchError::TooManyConnections)
            }
        }
    }
}

enum Permit {
    Granted(OwnedSemaphorePermit),
    Instead(Line),
    LookAgain,
}

/// Counts one request that waits for a permit.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn count(upstream: &'a Upstream) -> Self {
        upstream.waiting.fetch_add(1, Ordering::Relaxed);
        Self(&upstream.waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

// ---- request and response

impl Fetch<'_> {
    async fn send(&mut self, server: &OriginServer, lease: &mut Lease) -> Result<Response<Incoming>, Failed> {
        let reused = lease.reused;
        let gone = || Failed::unsent(FetchError::RequestBody);
        let result = match lease.connection() {
            Connection::Http1(line) => {
                let request = self.outbound.for_http1(server).ok_or_else(gone)?;
                let received = line.received();
                let response = line.sender.try_send_request(request);
                let result = self.await_head(response).await;
                result.map_err(|error| (error, line.received() > received))
            }
            Connection::Http2(session) => {
                let request = self.outbound.for_http2(server).map_err(Failed::unsent)?.ok_or_else(gone)?;
                let response = session.sender.clone().try_send_request(request);
                self.await_head(response).await.map_err(|error| (error, false))
            }
        };
        let (error, answered) = match result {
            Ok(response) => return Ok(response),
            Err(failure) => failure,
        };
        lease.retire();
        let never_processed = error.never_processed();
        let repeatable = never_processed || (self.outbound.is_idempotent() && !answered);
        let allows_retry = repeatable && !matches!(error, FetchError::RequestBody | FetchError::Protocol(_));
        let is_closed = matches!(error, FetchError::Closed(_) | FetchError::Refused(_));
        Err(Failed { was_stale: reused && is_closed && !answered, allows_retry, error })
    }

    /// Waits for the head; `first_byte_timeout` runs only while it is the server that is waited
    /// for, not the sender of the request body.
    async fn await_head(
        &mut self,
        response: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Outgoing>>>>,
    ) -> Result<Response<Incoming>, FetchError> {
        let (limit, clock) = (self.config.first_byte_timeout, self.worker.shared.clock);
        let mut response = pin!(response);
        let mut timer = pin!(tokio::time::sleep(limit));
        let began = clock.mono();
        loop {
            tokio::select! {
                biased;
                result = &mut response => return result.map_err(|error| self.classify(error)),
                () = &mut timer => {}
            }
            let awaited = self.outbound.loan().map_or(Some(began), |loan| loan.server_awaited_since(began));
            let waited =
                awaited.map_or(Duration::ZERO, |since| clock.mono().saturating_duration_since(since));
            if waited >= limit {
                return Err(FetchError::FirstByteTimeout);
            }
            timer.set(tokio::time::sleep(limit - waited));
        }
    }

    /// Says what hyper's error means for the request; takes the request back where hyper gives it.
    fn classify(&mut self, mut failed: TrySendError<Request<Outgoing>>) -> FetchError {
        if self.outbound.loan().is_some_and(|loan| loan.has_failed()) {
            return FetchError::RequestBody;
        }
        let unsent = failed.take_message();
        let error = failed.into_error();
        if let Some(request) = unsent {
            self.outbound.restore(request);
            return FetchError::Refused(error);
        }
        if error.is_body_write_aborted() {
            return FetchError::RequestBody; // shorter than its own Content-Length
        }
        let source = error.source();
        if let Some(http2) = source.and_then(|source| source.downcast_ref::<h2::Error>()) {
            let is_refusal = http2.reason() == Some(h2::Reason::REFUSED_STREAM) || http2.is_go_away();
            return match (http2.is_remote() && is_refusal, http2.is_io()) {
                (true, _) => FetchError::Refused(error),
                (_, true) => FetchError::Closed(error),
                _ => FetchError::Protocol(Box::new(error)),
            };
        }
        if error.is_parse() { FetchError::Protocol(Box::new(error)) } else { FetchError::Closed(error) }
    }

    /// Makes the response that the caller gets.
    fn deliver(
        &self,
        response: Response<Incoming>,
        mut exchange: Exchange,
    ) -> Result<Response<Body>, Failed> {
        let (mut head, incoming) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            if !self.outbound.wants_upgrade() {
                exchange.attempt.failed();
                let error = FetchError::Protocol("101 that was not asked for".into());
                return Err(Failed { error, allows_retry: false, was_stale: false });
            }
            exchange.upgraded();
            return Ok(Response::from_parts(head, Body::Empty));
        }
        if let Err(fault) = framing::settle(head.version, head.status, &mut head.headers) {
            exchange.attempt.failed();
            exchange.lease.distrust();
            let error = FetchError::Protocol(Box::new(fault));
            return Err(Failed { error, allows_retry: false, was_stale: false });
        }
        exchange.attempt.answered();
        let body = if incoming.is_end_stream() {
            exchange.finish();
            Body::Empty
        } else {
            Body::stream(UpstreamBody::new(incoming, exchange, self.config.between_bytes_timeout))
        };
        Ok(Response::from_parts(head, body))
    }
}
