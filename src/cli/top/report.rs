//! What `shoal top` tells of an interval. Rates are by the second, times in milliseconds, sizes in bytes.

use super::figures::{Change, Labels};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Verdicts of answers from this node's own store.
const HITS: [&str; 5] =
    ["hit_memory", "hit_disk", "hit_collapsed", "stale_while_revalidate", "stale_if_error"];
/// Verdicts of answers that the cache had a part in.
const CACHED: [&str; 8] = [
    "hit_memory",
    "hit_disk",
    "hit_collapsed",
    "stale_while_revalidate",
    "stale_if_error",
    "revalidated",
    "peer",
    "origin",
];

/// One interval of one node.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) node: String,
    pub(super) phase: String,
    pub(super) uptime_secs: f64,
    pub(super) interval_secs: f64,
    pub(super) connections: u64,
    pub(super) fills: u64,
    /// Of all sites.
    pub(super) all: Traffic,
    pub(super) sites: BTreeMap<String, Traffic>,
    /// Bytes sent in a second, by where they came from.
    pub(super) bytes_by_source: BTreeMap<String, f64>,
    pub(super) memory: Tier,
    pub(super) disk: Option<Tier>,
    pub(super) objects: u64,
    pub(super) hottest: Vec<Hot>,
    /// Share of the requests that were not counted among the hottest, since several ended at one moment.
    pub(super) hottest_skipped: f64,
    /// `None` for a single node.
    pub(super) peers: Option<Vec<Peer>>,
    pub(super) origin: Origin,
    pub(super) purges: Option<Purges>,
}

/// Requests.
#[derive(Debug, Serialize)]
pub(super) struct Traffic {
    pub(super) requests: f64,
    pub(super) by_verdict: BTreeMap<String, f64>,
    /// Of the requests that the cache had a part in, those answered from the store or a fetch of another; `None`
    /// without any.
    pub(super) hit_ratio: Option<f64>,
    /// Responses with 5xx.
    pub(super) server_errors: f64,
    pub(super) bytes: f64,
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    /// To the response head.
    pub(super) first_byte_p99_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Tier {
    pub(super) used_bytes: u64,
    pub(super) bound_bytes: u64,
    pub(super) writable: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Hot {
    pub(super) name: String,
    pub(super) requests: f64,
    /// Of the requests that were counted.
    pub(super) share: f64,
    pub(super) bytes: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) zone: String,
    pub(super) state: String,
    pub(super) round_trip_ms: Option<f64>,
    /// Bytes in a second.
    pub(super) given: f64,
    pub(super) taken: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Origin {
    pub(super) fetches: f64,
    pub(super) failures: BTreeMap<String, f64>,
    pub(super) bytes: f64,
    pub(super) servers: Vec<Server>,
}

#[derive(Debug, Serialize)]
pub(super) struct Server {
    pub(super) server: String,
    pub(super) available: bool,
    pub(super) in_flight: u64,
    pub(super) connections: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Purges {
    pub(super) total: f64,
    pub(super) rate: f64,
    pub(super) in_sync: Option<bool>,
    pub(super) position: Option<f64>,
}

impl Report {
    /// What happened.
    pub(super) fn of(change: &Change<'_>) -> Self {
        let now = change.now;
        let sites: BTreeSet<&str> = change
            .by("shoal_requests_total", |labels| label(labels, "site"))
            .into_iter()
            .filter_map(|(site, rate)| (rate > 0.0).then_some(site))
            .collect();
        let sites = sites
            .into_iter()
            .map(|site| (site.to_owned(), Traffic::of(change, |labels| label(labels, "site") == Some(site))));
        let (counted, skipped) = (now.hottest.counted, now.hottest.skipped);
        Self {
            node: now.node.clone(),
            phase: now.phase.clone(),
            uptime_secs: now.uptime_ms as f64 / 1e3,
            interval_secs: change.secs,
            connections: now.connections,
            fills: now.fills,
            all: Traffic::of(change, |_| true),
            sites: sites.collect(),
            bytes_by_source: named(change.by("shoal_response_bytes_total", |labels| label(labels, "source"))),
            memory: Tier {
                used_bytes: now.store.memory_bytes,
                bound_bytes: now.store.memory_bound_bytes,
                writable: true,
            },
            disk: now.store.disk.as_ref().map(|disk| Tier {
                used_bytes: disk.used_bytes,
                bound_bytes: disk.bound_bytes,
                writable: disk.writable,
            }),
            objects: now.store.objects,
            hottest: hottest(change),
            hottest_skipped: skipped as f64 / (counted + skipped).max(1) as f64,
            peers: now.peers.is_some().then(|| peers(change)),
            origin: Origin::of(change),
            purges: Purges::of(change),
        }
    }
}

impl Traffic {
    fn of(change: &Change<'_>, wanted: impl Fn(&Labels) -> bool + Copy) -> Self {
        let verdicts = change
            .by("shoal_requests_total", |labels| wanted(labels).then(|| label(labels, "verdict")).flatten());
        let of = |names: &[&str]| sum(names.iter().filter_map(|name| verdicts.get(name)));
        let (hits, cached) = (of(&HITS), of(&CACHED));
        let is_error = |labels: &Labels| wanted(labels) && label(labels, "code_class") == Some("5xx");
        let times = change.quantiles("shoal_request_duration_seconds", wanted, [0.5, 0.99]);
        let first_byte = change.quantiles("shoal_time_to_first_byte_seconds", wanted, [0.99]);
        Self {
            requests: sum(verdicts.values()),
            hit_ratio: (cached > 0.0).then(|| hits / cached),
            server_errors: change.rate("shoal_requests_total", is_error),
            bytes: change.rate("shoal_response_bytes_total", wanted),
            p50_ms: times.map(|[median, _]| median),
            p99_ms: times.map(|[_, high]| high),
            first_byte_p99_ms: first_byte.map(|[high]| high),
            by_verdict: named(verdicts),
        }
    }
}

impl Origin {
    fn of(change: &Change<'_>) -> Self {
        let servers = change.now.origins.iter().map(|server| Server {
            server: server.server.clone(),
            available: server.available,
            in_flight: server.requests,
            connections: server.connections,
        });
        Self {
            fetches: change.rate("shoal_origin_fetches_total", |_| true),
            failures: named(change.by("shoal_origin_failures_total", |labels| label(labels, "kind"))),
            bytes: change.rate("shoal_origin_bytes_total", |_| true),
            servers: servers.collect(),
        }
    }
}

impl Purges {
    fn of(change: &Change<'_>) -> Option<Self> {
        let in_sync = change.gauge("shoal_purge_in_sync").map(|value| value > 0.0);
        let position = change.gauge("shoal_purge_position");
        let total = change.total("shoal_purges_total");
        let rate = change.rate("shoal_purges_total", |_| true);
        let is_known = in_sync.is_some() || position.is_some() || total.is_some();
        is_known.then(|| Self { total: total.unwrap_or(0.0), rate, in_sync, position })
    }
}

fn hottest(change: &Change<'_>) -> Vec<Hot> {
    let counted = change.now.hottest.counted.max(1) as f64;
    let objects = change.now.hottest.objects.iter().filter(|object| object.requests > 0);
    objects
        .map(|object| Hot {
            name: object.name.clone(),
            requests: object.requests as f64 / change.secs,
            share: object.requests as f64 / counted,
            bytes: object.bytes as f64 / change.secs,
        })
        .collect()
}

/// The live nodes, those that gave or took most first.
fn peers(change: &Change<'_>) -> Vec<Peer> {
    let members = |figures: &super::figures::Figures| -> HashMap<String, (u64, u64)> {
        let members = figures.peers.iter().flat_map(|peers| &peers.members);
        members.map(|member| (member.id.clone(), (member.bytes_sent, member.bytes_received))).collect()
    };
    let before = members(change.before());
    // A connection that was made anew counts from 0.
    let rate = |now: u64, before: u64| (if now >= before { now - before } else { now }) as f64 / change.secs;
    let live =
        change.now.peers.iter().flat_map(|peers| &peers.members).filter(|member| member.state == "live");
    let mut peers: Vec<_> = live
        .map(|member| {
            let (sent, received) = before.get(&member.id).copied().unwrap_or((0, 0));
            Peer {
                name: member.name.clone(),
                id: member.id.clone(),
                zone: member.zone.clone(),
                state: if member.quarantined { "quarantined".to_owned() } else { member.state.clone() },
                round_trip_ms: member.round_trip_ms,
                given: rate(member.bytes_sent, sent),
                taken: rate(member.bytes_received, received),
            }
        })
        .collect();
    peers.sort_by(|a, b| {
        (b.given + b.taken).total_cmp(&(a.given + a.taken)).then_with(|| a.name.cmp(&b.name))
    });
    peers
}

/// A sum that is 0 and not -0 of nothing.
fn sum<'v>(values: impl Iterator<Item = &'v f64>) -> f64 {
    values.fold(0.0, |sum, value| sum + value)
}

fn label<'l>(labels: &'l Labels, name: &str) -> Option<&'l str> {
    labels.get(name).map(String::as_str)
}

/// Rates that are not 0.
fn named(rates: BTreeMap<&str, f64>) -> BTreeMap<String, f64> {
    rates.into_iter().filter(|(_, rate)| *rate > 0.0).map(|(name, rate)| (name.to_owned(), rate)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::figures;
    use super::*;

    #[test]
    fn an_interval_is_told_in_rates() {
        let (before, now) = (figures(1000, 100, 4), figures(3000, 300, 6));
        let report = Report::of(&Change::new(&before, &now));
        assert_eq!(
            (report.all.requests, report.all.server_errors, report.all.bytes),
            (101.0, 1.0, 102_400.0)
        );
        assert_eq!(report.all.hit_ratio, Some(1.0), "errors are no misses");
        assert_eq!(report.sites.keys().collect::<Vec<_>>(), ["news", "shop"]);
        assert_eq!((report.sites["news"].requests, report.sites["news"].hit_ratio), (1.0, None));
        let peer = &report.peers.as_ref().expect("a fleet")[0];
        assert_eq!((peer.given, peer.taken), (102_400.0, 204_800.0));
        assert_eq!((report.hottest[0].requests, report.hottest[0].share), (1.5, 0.75));
        assert_eq!(report.origin.failures["connect"], 1.0);
        let purges = report.purges.as_ref().expect("known");
        assert_eq!(
            (purges.total, purges.rate, purges.in_sync, purges.position),
            (5.0, 0.0, Some(true), None)
        );
    }
}
