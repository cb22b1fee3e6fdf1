//! Metric families with exact label tuples.
//!
//! The vectors of the `prometheus` crate find a child by a hash of its label values without
//! separators, so `("ab", "c")` and `("a", "bc")` would be one series. Families here keep the
//! tuples themselves; only the children (atomics) and the text format are the crate's.

use parking_lot::{Mutex, RwLock};
use prometheus::core::Metric;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric as Series, MetricFamily, MetricType};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, TextEncoder};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A source of whole families, asked at each scrape.
type Collect = Arc<dyn Fn(&mut Families) + Send + Sync>;
/// A source of single numbers, asked at each scrape.
type Sample = Arc<dyn Fn(&mut Samples) + Send + Sync>;

/// Everything that is exposed.
#[derive(Default)]
pub(super) struct Registry {
    /// Each with the name of its family, if it has but one.
    collectors: Mutex<Vec<(Option<&'static str>, Collect)>>,
    samplers: Mutex<Vec<Sample>>,
}

impl Registry {
    /// A new family of counters.
    pub(super) fn counters<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
    ) -> Family<IntCounter, N> {
        assert!(name.ends_with("_total"), "counter {name} must end in _total");
        let make = move || IntCounter::new(name, help).expect("metric names are valid constants");
        self.family(Family::new((name, help, MetricType::COUNTER), labels, make))
    }

    /// A new family of gauges.
    pub(super) fn gauges<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
    ) -> Family<IntGauge, N> {
        assert!(!name.ends_with("_total"), "gauge {name} must not end in _total");
        let make = move || IntGauge::new(name, help).expect("metric names are valid constants");
        self.family(Family::new((name, help, MetricType::GAUGE), labels, make))
    }

    /// A new family of histograms over `buckets`, ascending upper bounds.
    pub(super) fn histograms<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
        buckets: &'static [f64],
    ) -> Family<Histogram, N> {
        let make = move || {
            let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            Histogram::with_opts(opts).expect("metric names and buckets are valid constants")
        };
        self.family(Family::new((name, help, MetricType::HISTOGRAM), labels, make))
    }

    /// Adds a source.
    pub(super) fn collect_from(&self, collect: Collect) {
        self.collectors.lock().push((None, collect));
    }

    /// Adds a source of numbers. All sources of a scrape fill the same [`Samples`].
    pub(super) fn sample_from(&self, sample: Sample) {
        self.samplers.lock().push(sample);
    }

    /// All series in the Prometheus text format.
    pub(super) fn encode(&self) -> String {
        let families = self.gather(|_all| true);
        TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| {
            tracing::error!(%error, "metrics could not be encoded");
            String::new()
        })
    }

    /// The families whose names are wanted, by name.
    pub(super) fn gather(&self, wanted: impl Fn(&str) -> bool) -> Vec<MetricFamily> {
        // Sources run without the lock, so one may take its own locks or register another.
        let collectors = self.collectors.lock().clone();
        let mut families = Families::default();
        for (_, collect) in collectors.iter().filter(|(name, _)| name.is_none_or(&wanted)) {
            collect(&mut families);
        }
        let samplers = self.samplers.lock().clone();
        let mut samples = Samples::default();
        for sample in &samplers {
            sample(&mut samples);
        }
        samples.into_families(&mut families);
        families.0.into_values().filter(|family| wanted(family.name())).collect()
    }

    fn family<M: Metric + 'static, const N: usize>(&self, family: Family<M, N>) -> Family<M, N> {
        let exposed = family.clone();
        let collect: Collect = Arc::new(move |families| families.push(exposed.collect()));
        self.collectors.lock().push((Some(family.name), collect));
        family
    }
}

/// The families of one scrape by name.
#[derive(Default)]
pub(super) struct Families(BTreeMap<String, MetricFamily>);

impl Families {
    /// Adds a family; one without series is left out, a name already present keeps its first.
    pub(super) fn push(&mut self, family: MetricFamily) {
        if !family.get_metric().is_empty() {
            self.0.entry(family.name().to_owned()).or_insert(family);
        }
    }
}

/// Metrics of one name that differ in the values of `N` labels. Clones share their children.
#[derive(Clone)]
pub(super) struct Family<M, const N: usize> {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    labels: [&'static str; N],
    make: Arc<dyn Fn() -> M + Send + Sync>,
    children: Arc<RwLock<BTreeMap<[String; N], M>>>,
}

impl<M: Metric, const N: usize> Family<M, N> {
    fn new(
        (name, help, kind): (&'static str, &'static str, MetricType),
        labels: [&'static str; N],
        make: impl Fn() -> M + Send + Sync + 'static,
    ) -> Self {
        Self { name, help, kind, labels, make: Arc::new(make), children: Arc::default() }
    }

    /// The series with these label values, made at 0 on first use. Not for the hot path.
    pub(super) fn child(&self, values: [&str; N]) -> M {
        let values = values.map(str::to_owned);
        self.children.write().entry(values).or_insert_with(|| (self.make)()).clone()
    }

    /// The same while there are fewer than `max` series or it is among them; beyond, that of `overflow`.
    pub(super) fn child_within(&self, values: [&str; N], max: usize, overflow: [&str; N]) -> M {
        let is_room = {
            let children = self.children.read();
            children.len() < max || children.contains_key(&values.map(str::to_owned))
        };
        self.child(if is_room { values } else { overflow })
    }

    /// Keeps only the series whose label values satisfy `keep`; handles of others stay usable but
    /// are no longer exposed.
    pub(super) fn retain(&self, keep: impl Fn(&[String; N]) -> bool) {
        self.children.write().retain(|values, _| keep(values));
    }

    fn collect(&self) -> MetricFamily {
        let series = self.children.read();
        let series = series.iter().map(|(values, metric)| {
            let mut metric = metric.metric();
            metric.set_label(pairs(self.labels.iter().copied().zip(values.iter().map(String::as_str))));
            metric
        });
        family(self.name, self.help, self.kind, series.collect())
    }
}

/// Numbers read from the rooms at scrape time. Samples with the same name and labels are added up,
/// so that each worker's pool can be a source of its own.
#[derive(Default)]
pub struct Samples(BTreeMap<&'static str, SampledFamily>);

struct SampledFamily {
    help: &'static str,
    kind: MetricType,
    values: BTreeMap<Vec<(&'static str, String)>, f64>,
}

impl Samples {
    /// A value that goes up and down. Sizes and bounds in base units (bytes, seconds).
    pub fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: f64,
    ) {
        self.add((name, help, MetricType::GAUGE), labels, value);
    }

    /// A value that only grows; `name` ends in `_total`.
    pub fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: u64,
    ) {
        debug_assert!(name.ends_with("_total"), "counter {name} must end in _total");
        self.add((name, help, MetricType::COUNTER), labels, value as f64);
    }

    /// The families of these samples.
    pub(super) fn into_families(self, families: &mut Families) {
        for (name, sampled) in self.0 {
            let kind = sampled.kind;
            let series = sampled.values.iter().map(|(labels, value)| {
                let labels = pairs(labels.iter().map(|(name, value)| (*name, value.as_str())));
                let mut series = Series::from_label(labels);
                if kind == MetricType::COUNTER {
                    let mut counter = Counter::default();
                    counter.set_value(*value);
                    series.set_counter(counter);
                } else {
                    let mut gauge = Gauge::default();
                    gauge.set_value(*value);
                    series.set_gauge(gauge);
                }
                series
            });
            families.push(family(name, sampled.help, kind, series.collect()));
        }
    }

    fn add(
        &mut self,
        (name, help, kind): (&'static str, &'static str, MetricType),
        labels: &[(&'static str, &str)],
        value: f64,
    ) {
        let sampled =
            self.0.entry(name).or_insert_with(|| SampledFamily { help, kind, values: BTreeMap::new() });
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        *sampled.values.entry(labels).or_insert(0.0) += value;
    }
}

fn family(name: &str, help: &str, kind: MetricType, series: Vec<Series>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(series);
    family
}

fn pairs<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<LabelPair> {
    labels
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuples_with_equal_concatenation_are_different_series() {
        let registry = Registry::default();
        let family = registry.counters("shoal_x_total", "x", ["a", "b"]);
        family.child(["ab", "c"]).inc();
        family.child(["a", "bc"]).inc_by(2);
        let text = registry.encode();
        assert!(text.contains("shoal_x_total{a=\"ab\",b=\"c\"} 1\n"), "{text}");
        assert!(text.contains("shoal_x_total{a=\"a\",b=\"bc\"} 2\n"), "{text}");
    }

    #[test]
    fn a_child_is_one_series_whoever_asks() {
        let registry = Registry::default();
        let family = registry.counters("shoal_x_total", "x", ["a"]);
        family.child(["1"]).inc();
        family.child(["1"]).inc();
        assert!(registry.encode().contains("shoal_x_total{a=\"1\"} 2\n"));
    }

    #[test]
    fn samples_with_the_same_labels_are_added_over_all_sources() {
        let registry = Registry::default();
        for connections in [2.0, 3.0] {
            registry.sample_from(Arc::new(move |samples| {
                samples.gauge("shoal_pool_connections", "c", &[("state", "idle")], connections);
            }));
        }
        let text = registry.encode();
        assert!(text.contains("shoal_pool_connections{state=\"idle\"} 5\n"), "{text}");
    }
}
