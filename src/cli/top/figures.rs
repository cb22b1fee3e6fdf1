//! What a node says of itself, and what changed between two times that it did.

use serde::Deserialize;
use std::collections::BTreeMap;

/// Labels of a series.
pub(super) type Labels = BTreeMap<String, String>;

/// One object of the answer to `/top`. What a node of another version leaves out is nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Figures {
    pub(super) node: String,
    pub(super) phase: String,
    pub(super) uptime_ms: u64,
    pub(super) connections: u64,
    pub(super) fills: u64,
    pub(super) store: Store,
    pub(super) origins: Vec<Server>,
    pub(super) peers: Option<Peers>,
    pub(super) metrics: BTreeMap<String, Vec<Series>>,
    pub(super) hottest: Hottest,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Store {
    pub(super) memory_bytes: u64,
    pub(super) memory_bound_bytes: u64,
    pub(super) objects: u64,
    pub(super) disk: Option<Disk>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Disk {
    pub(super) writable: bool,
    pub(super) bound_bytes: u64,
    pub(super) used_bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Server {
    pub(super) server: String,
    pub(super) available: bool,
    pub(super) requests: u64,
    pub(super) connections: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Peers {
    pub(super) members: Vec<Member>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) zone: String,
    pub(super) state: String,
    pub(super) quarantined: bool,
    pub(super) round_trip_ms: Option<f64>,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
}

/// A counter or gauge, or a histogram with counts up to upper bounds in seconds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Series {
    pub(super) labels: Labels,
    pub(super) value: f64,
    pub(super) count: u64,
    pub(super) buckets: Vec<(f64, u64)>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Hottest {
    pub(super) counted: u64,
    pub(super) skipped: u64,
    pub(super) objects: Vec<HotObject>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HotObject {
    pub(super) name: String,
    pub(super) requests: u64,
    pub(super) bytes: u64,
}

/// Two times that a node said how it is.
pub(super) struct Change<'a> {
    before: &'a Figures,
    pub(super) now: &'a Figures,
    /// Seconds between them.
    pub(super) secs: f64,
    nothing: Figures,
}

impl<'a> Change<'a> {
    /// What changed. A node that was started again counts from 0.
    pub(super) fn new(before: &'a Figures, now: &'a Figures) -> Self {
        let since = if now.uptime_ms > before.uptime_ms { before.uptime_ms } else { 0 };
        let secs = (now.uptime_ms.saturating_sub(since).max(1)) as f64 / 1000.0;
        Self { before, now, secs, nothing: Figures::default() }
    }

    pub(super) fn before(&self) -> &Figures {
        if self.now.uptime_ms > self.before.uptime_ms { self.before } else { &self.nothing }
    }

    /// What a counter grew by in a second, over the series whose labels are wanted.
    pub(super) fn rate(&self, metric: &str, wanted: impl Fn(&Labels) -> bool) -> f64 {
        self.by(metric, |labels| wanted(labels).then_some("")).into_values().next().unwrap_or(0.0)
    }

    /// What a counter grew by in a second, by a name that is made of the labels; those without one do not count.
    pub(super) fn by<'n>(
        &'n self,
        metric: &str,
        name: impl Fn(&'n Labels) -> Option<&'n str>,
    ) -> BTreeMap<&'n str, f64> {
        let mut rates = BTreeMap::new();
        for series in series(self.now, metric) {
            let Some(name) = name(&series.labels) else { continue };
            let before = find(self.before(), metric, &series.labels).map_or(0.0, |before| before.value);
            *rates.entry(name).or_insert(0.0) += (series.value - before).max(0.0) / self.secs;
        }
        rates
    }

    /// The times between which the fractions `quantiles` of the new observations lie, in milliseconds; by linear
    /// interpolation within a bucket, as Prometheus does. `None` if there were none.
    pub(super) fn quantiles<const N: usize>(
        &self,
        metric: &str,
        wanted: impl Fn(&Labels) -> bool,
        quantiles: [f64; N],
    ) -> Option<[f64; N]> {
        let (mut counts, mut all): (Vec<(f64, u64)>, u64) = (Vec::new(), 0);
        for series in series(self.now, metric).iter().filter(|series| wanted(&series.labels)) {
            let before = find(self.before(), metric, &series.labels);
            all += series.count.saturating_sub(before.map_or(0, |before| before.count));
            for (index, (bound, count)) in series.buckets.iter().enumerate() {
                let earlier =
                    before.and_then(|before| before.buckets.get(index)).map_or(0, |(_, count)| *count);
                if index == counts.len() {
                    counts.push((*bound, 0));
                }
                counts[index].1 += count.saturating_sub(earlier);
            }
        }
        (all > 0).then(|| quantiles.map(|quantile| millis_at(&counts, quantile * all as f64)))
    }

    /// A gauge without labels.
    pub(super) fn gauge(&self, metric: &str) -> Option<f64> {
        series(self.now, metric).first().map(|series| series.value)
    }

    /// The sum of a counter, now.
    pub(super) fn total(&self, metric: &str) -> Option<f64> {
        let all = series(self.now, metric);
        (!all.is_empty()).then(|| all.iter().map(|series| series.value).sum())
    }
}

fn series<'f>(figures: &'f Figures, metric: &str) -> &'f [Series] {
    figures.metrics.get(metric).map_or(&[], Vec::as_slice)
}

fn find<'f>(figures: &'f Figures, metric: &str, labels: &Labels) -> Option<&'f Series> {
    series(figures, metric).iter().find(|series| series.labels == *labels)
}

/// Where the observation of this rank lies, in milliseconds. Those beyond the last bound are told as that.
fn millis_at(counts: &[(f64, u64)], rank: f64) -> f64 {
    let (mut low, mut below) = (0.0, 0.0);
    for (bound, count) in counts {
        let count = *count as f64;
        if count >= rank && count > below {
            return (low + (bound - low) * ((rank - below) / (count - below))) * 1e3;
        }
        (low, below) = (*bound, count);
    }
    low * 1e3
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// Figures after `ms`, with so many requests of two sites.
    pub(crate) fn figures(ms: u64, hits: u64, errors: u64) -> Figures {
        serde_json::from_value(json!({
            "node": "edge", "phase": "ready", "uptime_ms": ms, "connections": 3, "fills": 1,
            "store": {"memory_bytes": 64 << 20, "memory_bound_bytes": 256 << 20, "objects": 7,
                      "disk": {"writable": true, "bound_bytes": 10_u64 << 30, "used_bytes": 1_u64 << 30}},
            "origins": [{"server": "10.0.0.5:8000", "available": false, "requests": 2, "connections": 4}],
            "peers": {"members": [{"id": "bb", "name": "edge-2", "zone": "z", "state": "live", "round_trip_ms": 1.5,
                                   "bytes_sent": 1024 * hits, "bytes_received": 2048 * hits}]},
            "hottest": {"counted": 4, "skipped": 0, "objects": [
                {"name": "a.test/\u{1b}[2Jx", "requests": 3, "requests_max": 3, "bytes": 3072}]},
            "metrics": {
                "shoal_requests_total": [
                    {"labels": {"site": "shop", "verdict": "hit_memory", "code_class": "2xx"}, "value": hits},
                    {"labels": {"site": "news", "verdict": "error", "code_class": "5xx"}, "value": errors},
                ],
                "shoal_response_bytes_total": [
                    {"labels": {"site": "shop", "source": "memory"}, "value": 1024 * hits}],
                "shoal_request_duration_seconds": [
                    {"labels": {"site": "shop"}, "count": hits, "sum": 1.0,
                     "buckets": [[0.001, hits / 2], [0.002, hits], [0.004, hits]]}],
                "shoal_origin_failures_total": [{"labels": {"site": "news", "kind": "connect"}, "value": errors}],
                "shoal_purges_total": [{"labels": {"kind": "url"}, "value": 5}],
                "shoal_purge_in_sync": [{"labels": {}, "value": 1}],
            },
        }))
        .expect("figures")
    }

    #[test]
    fn a_rate_is_what_grew_in_a_second() {
        let (before, now) = (figures(1000, 100, 4), figures(3000, 300, 5));
        let change = Change::new(&before, &now);
        let verdicts = change.by("shoal_requests_total", |labels| labels.get("verdict").map(String::as_str));
        assert_eq!(verdicts, [("error", 0.5), ("hit_memory", 100.0)].into());
        assert_eq!(change.rate("shoal_requests_total", |labels| labels["site"] == "shop"), 100.0);
        assert_eq!(change.rate("shoal_nothing_total", |_| true), 0.0);
    }

    #[test]
    fn a_node_that_was_started_again_counts_from_nothing() {
        let (before, now) = (figures(9000, 1000, 0), figures(2000, 10, 0));
        assert_eq!(Change::new(&before, &now).rate("shoal_requests_total", |_| true), 5.0);
    }

    #[test]
    fn quantiles_are_of_what_is_new() {
        let (before, now) = (figures(1000, 100, 0), figures(2000, 300, 0));
        let change = Change::new(&before, &now);
        let of = |quantile| change.quantiles("shoal_request_duration_seconds", |_| true, [quantile]);
        let near = |quantile: f64, millis: f64| (of(quantile).expect("some")[0] - millis).abs() < 1e-9;
        assert!(near(0.25, 0.5) && near(0.5, 1.0) && near(0.75, 1.5) && near(1.0, 2.0), "{:?}", of(0.75));
        let same = Change::new(&now, &now);
        assert_eq!(same.quantiles("shoal_nothing", |_| true, [0.5]), None);
    }

    #[test]
    fn an_empty_object_is_figures_too() {
        let nothing: Figures = serde_json::from_str("{}").expect("figures");
        assert!(Change::new(&nothing, &nothing).secs > 0.0);
    }
}
