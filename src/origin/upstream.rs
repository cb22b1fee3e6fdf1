//! One upstream server as all workers see it together: health, load, and the connections it may
//! still have.

use crate::clock::Clock;
use crate::config::model::OriginServer;
use crate::proto::health::{Health, HealthPolicy};
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;
use tokio::sync::Semaphore;

/// What tells upstreams apart. The same server under other limits is another upstream with its own
/// budget, so that a reload which changes a limit simply starts anew.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct UpstreamKey {
    pub server: OriginServer,
    /// Addresses of the settings, which the upstream keeps alive; `None` without TLS.
    pub tls: Option<(usize, usize)>,
    pub http2: bool,
    pub connections_max: usize,
    pub health: HealthPolicy,
}

/// TLS towards one server.
pub(super) struct UpstreamTls {
    /// Offers HTTP/1.1 only.
    pub http1: Arc<ClientConfig>,
    /// What is offered otherwise; with HTTP/2 if the group wants it.
    pub any: Arc<ClientConfig>,
    /// The server's host name; no SNI is sent for an address (RFC 6066 §3).
    pub name: ServerName<'static>,
}

/// A server's shared state.
pub(super) struct Upstream {
    pub server: OriginServer,
    pub tls: Option<UpstreamTls>,
    pub connections_max: usize,
    /// One permit per open connection.
    pub permits: Arc<Semaphore>,
    /// Requests, on all workers, that wait for a permit.
    pub waiting: AtomicUsize,
    in_progress: AtomicUsize,
    /// Whether the machine has nothing to forget, so that the usual request takes no lock.
    clean: AtomicBool,
    health: Mutex<Health>,
}

impl Upstream {
    pub(super) fn new(key: &UpstreamKey, tls: Option<UpstreamTls>) -> Self {
        let connections_max = key.connections_max.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            server: key.server.clone(),
            tls,
            connections_max,
            permits: Arc::new(Semaphore::new(connections_max)),
            waiting: AtomicUsize::new(0),
            in_progress: AtomicUsize::new(0),
            clean: AtomicBool::new(true),
            health: Mutex::new(Health::new(key.health)),
        }
    }

    /// Requests in progress, response bodies included.
    pub(super) fn in_progress(&self) -> usize {
        self.in_progress.load(Ordering::Relaxed)
    }

    /// Connections open now.
    pub(super) fn open(&self) -> usize {
        self.connections_max.saturating_sub(self.permits.available_permits())
    }

    /// Whether requests may be sent, and when the server last failed.
    pub(super) fn health(&self, now: Instant) -> (bool, Option<Instant>) {
        if self.clean.load(Ordering::Relaxed) {
            return (true, None);
        }
        let health = self.health.lock();
        (health.available(now), health.last_failure())
    }

    fn report(&self, event: impl FnOnce(&mut Health)) {
        let mut health = self.health.lock();
        event(&mut health);
        self.clean.store(health.is_clean(), Ordering::Relaxed);
    }
}

/// One request in progress at a server, from its choice to the end of the response body. Reports
/// its outcome to the server's health once.
pub(super) struct Attempt {
    upstream: Arc<Upstream>,
    clock: Clock,
    probe: bool,
}

impl Attempt {
    /// Counts a request in.
    pub(super) fn start(upstream: &Arc<Upstream>, clock: Clock) -> Self {
        upstream.in_progress.fetch_add(1, Ordering::Relaxed);
        let mut probe = false;
        if !upstream.clean.load(Ordering::Relaxed) {
            upstream.report(|health| probe = health.handle_start(clock.now().mono));
        }
        Self { upstream: upstream.clone(), clock, probe }
    }

    /// The head of a response came. It ends a probe; else the server has to bring the body to its
    /// end first, so that one which always dies in the body is found out.
    pub(super) fn answered(&mut self) {
        if self.probe {
            self.succeeded();
        }
    }

    /// The whole response came.
    pub(super) fn succeeded(&mut self) {
        self.probe = false;
        if !self.upstream.clean.load(Ordering::Relaxed) {
            self.upstream.report(|health| health.handle_success(self.clock.now().mono));
        }
    }

    /// The server failed.
    pub(super) fn failed(&mut self) {
        self.probe = false;
        self.upstream.report(|health| health.handle_failure(self.clock.now().mono));
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.upstream.in_progress.fetch_sub(1, Ordering::Relaxed);
        if self.probe {
            self.upstream.report(|health| health.handle_abandoned(self.clock.now().mono));
        }
    }
}
