//! Names to addresses, with the TTLs that DNS gave.
//!
//! Answers are shared by all workers. A name in use is refreshed behind its back when its TTL has
//! passed, so that no request waits for DNS but the first; when the resolver fails, the last answer
//! is used on. [`Names`] owns the cache; refreshes run on the control runtime.

use super::stats::OriginStats;
use crate::clock::Clock;
use crate::task::Spawner;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Shortest time for which an answer is used, whatever its TTL.
pub const TTL_MIN: Duration = Duration::from_secs(1);
/// Longest time for which an answer is used, whatever its TTL.
pub const TTL_MAX: Duration = Duration::from_secs(3600);
/// How long an answer that ran out may still be used while the refresh runs; later, requests wait
/// for the refresh.
const STALE_MAX: Duration = Duration::from_secs(60);
/// How long a failure of the resolver is remembered before it is asked again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Longest time for one refresh, tries of all name servers included.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses of one name that are used.
const ADDRESSES_MAX: usize = 16;
/// Names kept; the configuration has far fewer. Beyond it, those unused for longest are forgotten.
const NAMES_MAX: usize = 4096;

/// Who answers questions for addresses.
pub enum Resolver {
    /// DNS and the hosts file, as the system is configured.
    System(Box<TokioResolver>),
    /// Answers given beforehand.
    Fixed(Arc<FixedNames>),
}

impl Resolver {
    /// The system's. Without a usable system configuration only the hosts file and literals
    /// answer, which is logged, since a node whose origins are addresses needs no DNS.
    pub fn system() -> Self {
        let builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(%error, "no DNS: the system's resolver configuration is not usable");
            TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
        });
        Self::built(builder)
    }

    fn built(mut builder: hickory_resolver::ResolverBuilder<TokioRuntimeProvider>) -> Self {
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.cache_size = 0; // the cache is here, with stale answers and one clock
        match builder.build() {
            Ok(resolver) => Self::System(Box::new(resolver)),
            Err(error) => {
                tracing::warn!(%error, "no DNS: the resolver cannot be made");
                Self::Fixed(Arc::default())
            }
        }
    }

    async fn lookup(&self, host: &str) -> Result<Answer, String> {
        match self {
            Self::System(resolver) => {
                let lookup = resolver.lookup_ip(host).await.map_err(|error| error.to_string())?;
                let ttl = lookup.as_lookup().answers().iter().map(|record| record.ttl).min();
                Ok(Answer {
                    addresses: lookup.iter().collect(),
                    ttl: Duration::from_secs(ttl.unwrap_or_default().into()),
                })
            }
            Self::Fixed(names) => names.lookup(host),
        }
    }
}

/// Names with answers given beforehand, for simulated networks.
#[derive(Default)]
pub struct FixedNames {
    answers: Mutex<HashMap<String, Answer>>,
    asked: Mutex<u64>,
}

#[derive(Clone)]
struct Answer {
    addresses: Vec<IpAddr>,
    ttl: Duration,
}

impl FixedNames {
    /// From now on `host` has these addresses.
    pub fn set(&self, host: &str, addresses: Vec<IpAddr>, ttl: Duration) {
        self.answers.lock().insert(host.to_owned(), Answer { addresses, ttl });
    }

    /// From now on `host` does not resolve.
    pub fn fail(&self, host: &str) {
        self.answers.lock().remove(host);
    }

    /// How often a name was asked for.
    pub fn asked(&self) -> u64 {
        *self.asked.lock()
    }

    fn lookup(&self, host: &str) -> Result<Answer, String> {
        *self.asked.lock() += 1;
        self.answers.lock().get(host).cloned().ok_or_else(|| "no such name".to_owned())
    }
}

/// Addresses in the order in which to try them.
pub(super) type Addresses = SmallVec<[IpAddr; 4]>;

/// The cache of answers. Clones share it.
#[derive(Clone)]
pub(super) struct Names(Arc<Inner>);

struct Inner {
    resolver: Resolver,
    clock: Clock,
    spawner: Spawner,
    stats: Arc<OriginStats>,
    names: Mutex<HashMap<String, Arc<Name>>>,
}

#[derive(Default)]
struct Name {
    state: Mutex<NameState>,
    refreshed: Notify,
}

#[derive(Default)]
struct NameState {
    known: Option<Vec<IpAddr>>,
    /// Advances with each use, so that connections spread over the addresses.
    turn: usize,
    /// Until when `known`, or the failure, is good.
    fresh_until: Option<Instant>,
    failure: Option<String>,
    refreshing: bool,
    used: Option<Instant>,
}

impl Names {
    pub(super) fn new(resolver: Resolver, clock: Clock, spawner: Spawner, stats: Arc<OriginStats>) -> Self {
        Self(Arc::new(Inner { resolver, clock, spawner, stats, names: Mutex::default() }))
    }

    /// The addresses of `host`, at least one, in the order in which to try them. Waits only for a name that is not known yet, or not
    /// any more; callers bring a deadline. Safe to drop: the refresh goes on.
    ///
    /// # Errors
    /// The resolver's reason, if there is no answer to use on.
    pub(super) async fn resolve(&self, host: &str) -> Result<Addresses, String> {
        if let Ok(literal) = host.parse() {
            return Ok(Addresses::from_iter([literal]));
        }
        let name = self.name(host);
        let mut waited = false;
        loop {
            let refreshed = name.refreshed.notified();
            let mut refreshed = std::pin::pin!(refreshed);
            refreshed.as_mut().enable();
            if let Some(result) = self.answer(host, &name, waited) {
                return result;
            }
            refreshed.await;
            waited = true;
        }
    }

    /// What can be said now; starts a refresh where one is due. `None`: wait for it. Who waited
    /// once takes what there is, so the loop of the caller has two rounds at most.
    fn answer(&self, host: &str, name: &Arc<Name>, waited: bool) -> Option<Result<Addresses, String>> {
        let now = self.0.clock.now().mono;
        let mut state = name.state.lock();
        state.used = Some(now);
        let age = state.fresh_until.map(|until| now.saturating_duration_since(until));
        let is_fresh = age == Some(Duration::ZERO) && state.fresh_until != Some(now);
        if !is_fresh && !waited && !state.refreshing {
            state.refreshing = true;
            self.refresh(host, name);
        }
        let usable = is_fresh || waited || age.is_some_and(|age| age < STALE_MAX);
        state.turn = state.turn.wrapping_add(1);
        match (&state.known, &state.failure) {
            (Some(known), _) if usable => Some(Ok(in_order_of_trial(known, state.turn))),
            (None, Some(reason)) if is_fresh || waited => Some(Err(reason.clone())),
            (None, None) if waited => Some(Err("the resolver was stopped".to_owned())),
            _ => None,
        }
    }

    fn refresh(&self, host: &str, name: &Arc<Name>) {
        let (names, host) = (self.clone(), host.to_owned());
        let running = Refreshing(name.clone());
        self.0.spawner.spawn(async move {
            let lookup = tokio::time::timeout(REFRESH_TIMEOUT, names.0.resolver.lookup(&host)).await;
            let result = lookup.unwrap_or_else(|_| Err("no answer within the time limit".to_owned()));
            names.store(&host, &running.0, result);
        });
    }

    fn store(&self, host: &str, name: &Name, result: Result<Answer, String>) {
        let now = self.0.clock.now().mono;
        let mut state = name.state.lock();
        let (reason, good_for) = match result {
            Ok(answer) if !answer.addresses.is_empty() => {
                state.known = Some(answer.addresses);
                (None, answer.ttl.clamp(TTL_MIN, TTL_MAX))
            }
            Ok(_) => (Some("the name has no address".to_owned()), RETRY_AFTER),
            Err(reason) => (Some(reason), RETRY_AFTER),
        };
        if let (Some(reason), true) = (&reason, state.known.is_some()) {
            self.0.stats.resolve_stale.add(1);
            if state.failure.is_none() {
                tracing::warn!(host, reason, "DNS fails; the last answer is used on");
            }
        }
        state.failure = reason;
        state.fresh_until = Some(now + good_for);
    }

    fn name(&self, host: &str) -> Arc<Name> {
        let mut names = self.0.names.lock();
        if let Some(name) = names.get(host) {
            return name.clone();
        }
        if names.len() >= NAMES_MAX {
            let oldest = names.iter().min_by_key(|(_, name)| name.state.lock().used);
            if let Some(oldest) = oldest.map(|(host, _)| host.clone()) {
                names.remove(&oldest);
            }
        }
        names.entry(host.to_owned()).or_default().clone()
    }
}

/// A refresh in progress. However it ends, a stopped runtime included, waiters wake.
struct Refreshing(Arc<Name>);

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.0.state.lock().refreshing = false;
        self.0.refreshed.notify_waiters();
    }
}

/// IPv6 first, then by turns (RFC 8305 §4), without duplicates; each family begins elsewhere each
/// `turn`.
fn in_order_of_trial(addresses: &[IpAddr], turn: usize) -> Addresses {
    let family = |is_wanted: fn(&IpAddr) -> bool| {
        let mut family = Addresses::new();
        for address in addresses.iter().filter(|address| is_wanted(address)) {
            if !family.contains(address) && family.len() < ADDRESSES_MAX / 2 {
                family.push(*address);
            }
        }
        let start = turn.checked_rem(family.len()).unwrap_or(0);
        family.rotate_left(start);
        family
    };
    let (v6, v4) = (family(IpAddr::is_ipv6), family(IpAddr::is_ipv4));
    let pairs = (0..v6.len().max(v4.len())).map(|index| [v6.get(index), v4.get(index)]);
    pairs.flatten().flatten().copied().collect()
}
