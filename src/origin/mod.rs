//! Upstream servers: connections to them, which one is asked, and what is tried when one fails.
//!
//! What a response means (whether it may be stored, what a status says) never lives here, nor are
//! fields changed: a request goes out as `serve` made it, in the framing of its connection.
//!
//! [`OriginShared`] owns what all workers share: names, health, budgets of connections, counters.
//! [`Origins`] owns the connections of one worker and the tasks that drive them.
//!
//! ```text
//! fetch ─▶ choose a server (balance) ─▶ Lease (pool, else connect) ─▶ send ─▶ UpstreamBody
//!   ▲                                                                  │            │ end: Lease goes
//!   └── failed and allowed to try again ◀──────────────────────────────┘            ▼ back to the pool
//! ```

mod balance;
mod body;
mod connect;
mod error;
mod fetch;
mod interim;
mod pool;
mod request;
mod resolve;
mod stats;
mod upstream;

pub use error::{FailureKind, FetchError};
pub use interim::on_interim;
pub use resolve::{FixedNames, Resolver, TTL_MAX, TTL_MIN};
pub use stats::{Counter, OriginStats};

use crate::body::Body;
use crate::clock::Clock;
use crate::config::model::{OriginGroup, OriginServer};
use crate::net::Net;
use crate::proto::health::HealthPolicy;
use crate::proto::time::Wall;
use crate::task::Spawner;
use crate::tls::client::{ClientConfigs, TlsError};
use connect::Dialer;
use parking_lot::Mutex;
use pool::Pool;
use resolve::Names;
use rustls_pki_types::ServerName;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use upstream::{Upstream, UpstreamKey, UpstreamTls};

/// How often a worker closes connections that were idle for too long and forgets groups that are
/// gone from the configuration.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What all workers of a node share about upstream servers.
pub struct OriginShared {
    net: Net,
    clock: Clock,
    names: Names,
    trust: ClientConfigs,
    stats: Arc<OriginStats>,
    upstreams: Mutex<HashMap<UpstreamKey, Arc<Upstream>>>,
    workers: Mutex<Vec<Weak<Worker>>>,
}

/// What is known of one upstream server, for the admin interface.
#[derive(Clone, Debug)]
pub struct UpstreamView {
    /// The server.
    pub server: OriginServer,
    /// Whether health allows requests now.
    pub available: bool,
    /// Requests in progress.
    pub in_progress: usize,
    /// Open connections.
    pub open: usize,
    /// Connections that it may have.
    pub connections_max: usize,
}

impl OriginShared {
    /// Shared state with no servers yet. `spawner` is the control runtime's: names are refreshed
    /// there.
    pub fn new(net: Net, clock: Clock, spawner: Spawner, resolver: Resolver) -> Arc<Self> {
        let stats = Arc::new(OriginStats::default());
        Arc::new(Self {
            net,
            clock,
            names: Names::new(resolver, clock, spawner, stats.clone()),
            trust: ClientConfigs::new(),
            stats,
            upstreams: Mutex::default(),
            workers: Mutex::default(),
        })
    }

    /// The counters of all origin traffic.
    pub const fn stats(&self) -> &Arc<OriginStats> {
        &self.stats
    }

    /// All servers that are in use, in no order.
    pub fn upstreams(&self) -> Vec<UpstreamView> {
        let now = self.clock.now().mono;
        let upstreams = self.upstreams.lock();
        let view = |upstream: &Arc<Upstream>| UpstreamView {
            server: upstream.server.clone(),
            available: upstream.health(now).0,
            in_progress: upstream.in_progress(),
            open: upstream.open(),
            connections_max: upstream.connections_max,
        };
        upstreams.values().map(view).collect()
    }

    /// The shared state of one server of a group; made if it is new.
    fn upstream(&self, group: &OriginGroup, server: &OriginServer) -> Result<Arc<Upstream>, TlsError> {
        let tls = if server.tls { Some(self.upstream_tls(group, server)?) } else { None };
        let key = UpstreamKey {
            server: server.clone(),
            tls: tls.as_ref().map(|tls| (Arc::as_ptr(&tls.http1) as usize, Arc::as_ptr(&tls.any) as usize)),
            http2: group.http2,
            connections_max: group.connections_max,
            health: HealthPolicy { fail_max: group.fail_max, fail_timeout: group.fail_timeout },
        };
        let mut upstreams = self.upstreams.lock();
        // What no worker uses any more went away with a reload.
        upstreams.retain(|known, upstream| *known == key || Arc::strong_count(upstream) > 1);
        let upstream = upstreams.entry(key).or_insert_with_key(|key| Arc::new(Upstream::new(key, tls)));
        Ok(upstream.clone())
    }

    fn upstream_tls(&self, group: &OriginGroup, server: &OriginServer) -> Result<UpstreamTls, TlsError> {
        let config = |http2| self.trust.config(group.tls_verify, group.tls_ca.as_deref(), http2);
        let name = ServerName::try_from(server.host.clone())
            .map_err(|error| TlsError::Settings(rustls::Error::General(error.to_string())))?;
        Ok(UpstreamTls { http1: config(false)?, any: config(group.http2)?, name })
    }

    /// Closes one connection to `upstream` that serves no request, on whichever worker, since
    /// another needs its permit.
    fn shed(&self, upstream: &Arc<Upstream>) {
        let workers: Vec<_> = self.workers.lock().iter().filter_map(Weak::upgrade).collect();
        for worker in workers {
            let pools: Vec<_> = {
                let pools = worker.pools.lock();
                pools.values().filter(|pool| Arc::ptr_eq(&pool.upstream, upstream)).cloned().collect()
            };
            if pools.iter().any(|pool| pool.shed()) {
                return;
            }
        }
    }
}

/// One worker's way to upstream servers. Clones share it; when the last one is dropped, its
/// connections close.
#[derive(Clone)]
pub struct Origins(Arc<Worker>);

struct Worker {
    shared: Arc<OriginShared>,
    dialer: Dialer,
    /// By the address of the configured group, which is kept alive here and so stays its own.
    groups: Mutex<HashMap<usize, Arc<Group>>>,
    /// By the address of the upstream, likewise, and whether HTTP/2 is offered. Outlives groups, so
    /// that connections survive a reload.
    pools: Mutex<HashMap<(usize, bool), Arc<Pool>>>,
    /// Where round robin starts: elsewhere on each worker.
    first_turn: usize,
}

/// A configured group with its pools, in the order of its servers.
struct Group {
    config: Arc<OriginGroup>,
    members: Vec<Member>,
    turn: AtomicUsize,
}

struct Member {
    pool: Arc<Pool>,
    /// For requests that want to leave HTTP, which HTTP/2 cannot; the same pool otherwise.
    upgrades: Arc<Pool>,
}

/// A response and how it was got. Its body gives the connection back when it was read to its end.
pub struct Fetched {
    /// The response. For 101, [`hyper::upgrade::on`] gives the stream.
    pub response: http::Response<Body>,
    /// The server that gave it.
    pub server: OriginServer,
    /// When the request began to be sent (RFC 9111 §4.2.3 `request_time`).
    pub request_sent: Wall,
    /// When the head came (RFC 9111 §4.2.3 `response_time`).
    pub received: Wall,
    /// Attempts made, this one included.
    pub attempts: u32,
}

impl Origins {
    /// A worker's way to upstream servers. `spawner` is the worker's: connections are driven there,
    /// and [`fetch`](Self::fetch) is to be called there.
    pub fn new(shared: Arc<OriginShared>, spawner: Spawner) -> Self {
        let dialer = Dialer {
            net: shared.net.clone(),
            names: shared.names.clone(),
            stats: shared.stats.clone(),
            spawner: spawner.clone(),
        };
        let mut workers = shared.workers.lock();
        workers.retain(|worker| worker.strong_count() > 0);
        let worker = Arc::new(Worker {
            dialer,
            groups: Mutex::default(),
            pools: Mutex::default(),
            first_turn: workers.len(),
            shared: shared.clone(),
        });
        workers.push(Arc::downgrade(&worker));
        drop(workers);
        spawner.spawn(sweep(Arc::downgrade(&worker)));
        Self(worker)
    }

    /// Sends `request` to a server of `group`, or only to `pin`, and waits for the response head.
    ///
    /// The request must carry `Host`; its target may be in any form but goes out in origin-form (or
    /// as HTTP/2 fields). A failed attempt is followed by another, on another server and up to
    /// `group.retries` times, if no server can have processed the request, or if its method is
    /// idempotent and no byte of a response came; never once bytes of a streaming body were taken.
    /// A kept connection that turns out to be closed is replaced once under the same rule, which
    /// counts neither as a retry nor against the server. Time is bounded by (`retries` + 2) ×
    /// (`connect_timeout` + `first_byte_timeout`) plus the time that the request body takes.
    ///
    /// Dropping the future, or later the body, closes the connection or resets the stream.
    ///
    /// # Errors
    /// [`FetchError`] of the last attempt.
    pub async fn fetch(
        &self,
        group: &Arc<OriginGroup>,
        request: http::Request<Body>,
        pin: Option<&OriginServer>,
    ) -> Result<Fetched, FetchError> {
        let stats = self.0.shared.stats();
        let group = self.0.group(group).inspect_err(|_| stats.count_failure(FailureKind::Tls))?;
        fetch::fetch(&self.0, &group, request, pin).await
    }
}

impl Worker {
    fn group(&self, config: &Arc<OriginGroup>) -> Result<Arc<Group>, TlsError> {
        let address = Arc::as_ptr(config) as usize;
        if let Some(group) = self.groups.lock().get(&address) {
            return Ok(group.clone());
        }
        let members = config.servers.iter().map(|server| self.member(config, server));
        let group = Arc::new(Group {
            config: config.clone(),
            members: members.collect::<Result<_, _>>()?,
            turn: AtomicUsize::new(self.first_turn),
        });
        Ok(self.groups.lock().entry(address).or_insert(group).clone())
    }

    fn member(&self, config: &OriginGroup, server: &OriginServer) -> Result<Member, TlsError> {
        let upstream = self.shared.upstream(config, server)?;
        let pool = self.pool(&upstream, config.http2);
        let upgrades = if config.http2 { self.pool(&upstream, false) } else { pool.clone() };
        Ok(Member { pool, upgrades })
    }

    fn pool(&self, upstream: &Arc<Upstream>, http2: bool) -> Arc<Pool> {
        let mut pools = self.pools.lock();
        let key = (Arc::as_ptr(upstream) as usize, http2);
        let new = || Arc::new(Pool::new(upstream.clone(), http2, self.shared.stats.clone()));
        pools.entry(key).or_insert_with(new).clone()
    }

    /// Forgets groups that only this worker still knows, closes idle connections whose time is over
    /// and forgets pools that are empty and in no group.
    fn sweep(&self) {
        let now = self.shared.clock.now().mono;
        self.groups.lock().retain(|_, group| Arc::strong_count(&group.config) > 1);
        self.pools.lock().retain(|_, pool| pool.sweep(now) || Arc::strong_count(pool) > 1);
        self.shared.upstreams.lock().retain(|_, upstream| Arc::strong_count(upstream) > 1);
    }
}

impl Group {
    fn next_turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }
}

async fn sweep(worker: Weak<Worker>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let Some(worker) = worker.upgrade() else { return };
        worker.sweep();
    }
}

#[cfg(test)]
mod tests;
