//! Metrics of the process, read from `/proc` at most once per [`REFRESH`].

use super::registry::Families;
use crate::clock::Clock;
use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use std::time::{Duration, Instant};

/// How long a reading is shown. Counting open descriptors walks a folder with one entry each.
const REFRESH: Duration = Duration::from_secs(10);

/// The process metrics and their last reading.
pub(super) struct ProcessMetrics {
    clock: Clock,
    collector: ProcessCollector,
    last: Mutex<Option<(Instant, Vec<MetricFamily>)>>,
}

impl ProcessMetrics {
    /// The metrics of this process.
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, collector: ProcessCollector::for_self(), last: Mutex::new(None) }
    }

    /// Adds the families to a scrape.
    pub(super) fn collect(&self, families: &mut Families) {
        let now = self.clock.now().mono;
        let mut last = self.last.lock();
        let reading = match last.take() {
            Some(reading) if now.saturating_duration_since(reading.0) < REFRESH => last.insert(reading),
            _ => last.insert((now, self.collector.collect())),
        };
        for family in &reading.1 {
            families.push(family.clone());
        }
    }
}
