//! Metrics as JSON, for the live view.
//!
//! ```text
//! { "name": [ { "labels": { "site": "shop" }, "value": 1 }
//!           | { "labels": {}, "count": 2, "sum": 0.1, "buckets": [[0.001, 1], [0.01, 2]] } ] }
//! ```
//! Counters and histograms at 0 are left out, so a node with many sites that nobody asks for says little. Counts of
//! buckets are cumulative; beyond the last of them is `count`.

use prometheus::proto::{Metric, MetricFamily, MetricType};
use serde_json::{Map, Value, json};

/// The families by name.
pub(super) fn of(families: Vec<MetricFamily>) -> Value {
    let figures = families.iter().map(|family| {
        let kind = family.get_field_type();
        let series: Vec<_> = family.get_metric().iter().filter_map(|metric| series(kind, metric)).collect();
        (family.name().to_owned(), Value::from(series))
    });
    Value::Object(figures.collect())
}

fn series(kind: MetricType, metric: &Metric) -> Option<Value> {
    let labels = metric.get_label().iter().map(|label| (label.name().to_owned(), label.value().into()));
    let labels: Map<String, Value> = labels.collect();
    match kind {
        MetricType::COUNTER => {
            let value = metric.get_counter().get_value();
            (value > 0.0).then(|| json!({ "labels": labels, "value": value }))
        }
        MetricType::HISTOGRAM => {
            let histogram = metric.get_histogram();
            let buckets: Vec<_> = histogram
                .get_bucket()
                .iter()
                .map(|bucket| json!([bucket.upper_bound(), bucket.cumulative_count()]))
                .collect();
            let (count, sum) = (histogram.get_sample_count(), histogram.get_sample_sum());
            (count > 0).then(|| json!({ "labels": labels, "count": count, "sum": sum, "buckets": buckets }))
        }
        _ => Some(json!({ "labels": labels, "value": metric.get_gauge().get_value() })),
    }
}

#[cfg(test)]
mod tests {
    use super::super::registry::Registry;
    use super::*;

    #[test]
    fn what_is_wanted_and_not_zero_is_told() {
        let registry = Registry::default();
        let counters = registry.counters("shoal_a_total", "a", ["site"]);
        counters.child(["idle"]);
        counters.child(["\u{1b}shop"]).inc_by(3);
        registry.gauges("shoal_b", "b", []).child([]).set(0);
        registry.gauges("shoal_c", "c", []).child([]).set(7);
        let times = registry.histograms("shoal_d", "d", [], &[0.5, 1.0]).child([]);
        for time in [0.1, 0.7, 9.0] {
            times.observe(time);
        }
        let figures = of(registry.gather(|name| name != "shoal_c"));
        assert_eq!(
            figures,
            json!({
                "shoal_a_total": [{"labels": {"site": "\u{1b}shop"}, "value": 3.0}],
                "shoal_b": [{"labels": {}, "value": 0.0}],
                "shoal_d": [{"labels": {}, "count": 3, "sum": 9.8, "buckets": [[0.5, 1], [1.0, 2]]}],
            })
        );
    }
}
