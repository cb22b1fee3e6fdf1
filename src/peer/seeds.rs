//! Addresses of nodes to begin with, from what the operator wrote.
//!
//! An entry is an address (`192.0.2.1:7400`, `[2001:db8::1]:7400`), a name with a port (`peers.example:7400`,
//! all of whose addresses count, as a headless Service has them) or the name of SRV records
//! (`_peer._udp.peers.example`). Names are looked up anew each time: the answer is what changes.

use futures_util::{StreamExt, stream};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::proto::rr::RData;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Addresses of all entries together.
const ADDRESSES_MAX: usize = 256;
/// Targets of one SRV name that are looked up.
const TARGETS_MAX: usize = 64;
/// Entries looked up at a time.
const CONCURRENCY: usize = 8;
/// Longest time for one entry.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// The list.
pub(super) struct Seeds {
    entries: Vec<Entry>,
    /// Made when the first name is looked up; `None` if the system's configuration is of no use.
    resolver: OnceLock<Option<TokioResolver>>,
}

struct Entry {
    what: What,
    /// Failures in a row.
    failures: AtomicU32,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    Address(SocketAddr),
    Host(String, u16),
    Service(String),
}

/// Why an entry has no addresses now.
#[derive(Debug, thiserror::Error)]
enum SeedError {
    #[error("there is no usable resolver")]
    Resolver,
    #[error("no answer within {LOOKUP_TIMEOUT:?}")]
    Timeout,
    #[error(transparent)]
    Dns(#[from] hickory_resolver::net::NetError),
}

impl What {
    fn read(text: &str) -> Option<Self> {
        if text.starts_with('_') {
            return Some(Self::Service(text.to_owned()));
        }
        if let Ok(address) = text.parse() {
            return Some(Self::Address(address));
        }
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        // What has more colons would be an address, and was none.
        let is_name = !host.is_empty() && !host.contains([':', '[', ']', '/']);
        is_name.then(|| Self::Host(host.to_owned(), port))
    }

    fn name(&self) -> &str {
        match self {
            Self::Address(_) => "",
            Self::Host(name, _) | Self::Service(name) => name,
        }
    }
}

impl Seeds {
    /// The list as it was written. An entry that is none is told of and left out.
    pub(super) fn new(list: &[String]) -> Self {
        let entry = |text: &String| match What::read(text) {
            Some(what) => Some(Entry { what, failures: AtomicU32::new(0) }),
            None => {
                tracing::warn!(seed = %text, "not a seed: neither ip:port, host:port nor the name of SRV records");
                None
            }
        };
        Self { entries: list.iter().filter_map(entry).collect(), resolver: OnceLock::new() }
    }

    /// The addresses that the entries have now, in their order, each once, at most 256. Names that do not
    /// resolve are told of, less and less often; the caller asks again. Takes about ten seconds for eight names
    /// at most. Safe to drop.
    pub(super) async fn resolve(&self) -> Vec<SocketAddr> {
        let lookups: Vec<_> = self.entries.iter().map(|entry| self.look_up(entry)).collect();
        let found: Vec<_> = stream::iter(lookups).buffered(CONCURRENCY).collect().await;
        let mut seen = HashSet::new();
        let addresses = found.into_iter().flatten().filter(|address| seen.insert(*address));
        addresses.take(ADDRESSES_MAX).collect()
    }

    async fn look_up(&self, entry: &Entry) -> Vec<SocketAddr> {
        let lookup = async {
            match &entry.what {
                What::Address(address) => Ok(vec![*address]),
                What::Host(name, port) => self.host(name, *port).await,
                What::Service(name) => self.service(name).await,
            }
        };
        let result = tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await;
        match result.unwrap_or(Err(SeedError::Timeout)) {
            Ok(addresses) => {
                entry.failures.store(0, Ordering::Relaxed);
                addresses
            }
            Err(error) => {
                entry.note_failure(&error);
                Vec::new()
            }
        }
    }

    /// All addresses of a name.
    async fn host(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, SeedError> {
        let addresses = self.resolver()?.lookup_ip(name).await?;
        Ok(addresses.iter().take(ADDRESSES_MAX).map(|ip: IpAddr| (ip, port).into()).collect())
    }

    /// All addresses of the targets of SRV records, those to be preferred first. A target without any is
    /// left out, unless all are.
    async fn service(&self, name: &str) -> Result<Vec<SocketAddr>, SeedError> {
        let lookup = self.resolver()?.srv_lookup(name).await?;
        let records = lookup.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some((srv.priority, srv.target.to_ascii(), srv.port)),
            _ => None,
        });
        let mut targets: Vec<_> = records.collect();
        targets.sort();
        targets.truncate(TARGETS_MAX);
        let hosts: Vec<_> = targets.iter().map(|(_, target, port)| self.host(target, *port)).collect();
        let found: Vec<_> = stream::iter(hosts).buffered(CONCURRENCY).collect().await;
        let (found, failed): (Vec<_>, Vec<_>) = found.into_iter().partition(Result::is_ok);
        match failed.into_iter().next() {
            Some(failure) if found.is_empty() => failure,
            _ => Ok(found.into_iter().flatten().flatten().collect()),
        }
    }

    /// The system's resolver, as it was configured when the first name was looked up.
    fn resolver(&self) -> Result<&TokioResolver, SeedError> {
        let system = || {
            let mut builder = TokioResolver::builder_tokio().map_err(|error| told(&error)).ok()?;
            let options = builder.options_mut();
            options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            options.cache_size = 0; // whoever looks up wants to know what has changed
            builder.build().map_err(|error| told(&error)).ok()
        };
        self.resolver.get_or_init(system).as_ref().ok_or(SeedError::Resolver)
    }
}

fn told(error: &hickory_resolver::net::NetError) {
    tracing::warn!(%error, "no DNS for seeds: the system's resolver configuration is not usable");
}

impl Entry {
    /// Tells of the first, second, fourth, eighth… failure in a row.
    fn note_failure(&self, error: &SeedError) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures.is_power_of_two() {
            tracing::warn!(seed = self.what.name(), %error, failures, "a seed has no address");
        }
    }
}

#[cfg(test)]
mod tests;
