//! The figures of a run, for people and for programs.

use super::engine::Engine;
use super::tally::{Errors, Tally};
use super::verdict::{Seen, Source};
use bytesize::ByteSize;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// All figures; the JSON line has these names.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Requests that are finished, however.
    pub(crate) requests: u64,
    /// No answer, a wrong status, or a body cut short.
    pub(crate) errors: u64,
    pub(crate) error_kinds: Errors,
    /// Complete answers with a wrong byte or length.
    pub(crate) mismatches: u64,
    /// In flight when a target died; not among the errors.
    pub(crate) interrupted: u64,
    /// Asked again elsewhere, since no byte had come.
    pub(crate) retried: u64,
    /// All targets refused for too long, so the rest was not asked for.
    pub(crate) gave_up: bool,
    /// Body bytes of correct answers.
    pub(crate) bytes: u64,
    /// The sum of sizes over the distinct (id, size) asked for.
    pub(crate) unique_bytes: u64,
    /// Distinct (id, size) asked for.
    pub(crate) unique_objects: u64,
    pub(crate) seconds: f64,
    pub(crate) requests_per_s: f64,
    pub(crate) bytes_per_s: f64,
    /// Correct answers by what the proxy said it did.
    pub(crate) verdicts: BTreeMap<&'static str, u64>,
    /// Body bytes of correct answers by where they came from.
    pub(crate) served_bytes: Served,
    /// From sending to the last byte, of correct answers.
    pub(crate) latency: Latency,
    /// From sending to the head, of correct answers.
    pub(crate) first_byte: Latency,
    /// The first failures in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) examples: Vec<String>,
}

/// Body bytes by source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Served {
    pub(crate) memory: u64,
    pub(crate) disk: u64,
    pub(crate) peer: u64,
    pub(crate) origin: u64,
}

/// A distribution in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50_us: u64,
    pub(crate) p90_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
    pub(crate) mean_us: f64,
}

impl Report {
    /// The figures of `engine` so far.
    pub(crate) fn of(engine: &Engine) -> Self {
        let (unique_bytes, unique_objects) = (engine.unique_bytes(), engine.unique_objects());
        let (gave_up, elapsed) = (engine.gave_up(), engine.elapsed());
        let report = engine.tally(|tally| Self::from_tally(tally, elapsed));
        Self { unique_bytes, unique_objects, gave_up, ..report }
    }

    fn from_tally(tally: &Tally, elapsed: Duration) -> Self {
        let seconds = elapsed.as_secs_f64();
        Self {
            requests: tally.requests,
            errors: tally.errors(),
            error_kinds: tally.error_kinds,
            mismatches: tally.mismatches,
            interrupted: tally.interrupted,
            retried: tally.retried,
            gave_up: false,
            bytes: tally.bytes(),
            unique_bytes: 0,
            unique_objects: 0,
            seconds,
            requests_per_s: per_s(tally.requests, seconds),
            bytes_per_s: per_s(tally.bytes(), seconds),
            verdicts: Seen::ALL.iter().map(|seen| (seen.as_str(), tally.verdict(*seen))).collect(),
            served_bytes: Served::of(tally),
            latency: Latency::of(&tally.whole),
            first_byte: Latency::of(&tally.head),
            examples: tally.examples.clone(),
        }
    }

    /// This run and an `earlier` one together. Latencies stay those of this run, whose requests may be of
    /// another kind, and the objects of the two must differ.
    pub(crate) fn after(mut self, earlier: &Self) -> Self {
        self.requests += earlier.requests;
        self.errors += earlier.errors;
        self.error_kinds = self.error_kinds.plus(earlier.error_kinds);
        self.mismatches += earlier.mismatches;
        self.interrupted += earlier.interrupted;
        self.retried += earlier.retried;
        self.gave_up |= earlier.gave_up;
        self.bytes += earlier.bytes;
        self.unique_bytes += earlier.unique_bytes;
        self.unique_objects += earlier.unique_objects;
        self.seconds += earlier.seconds;
        self.requests_per_s = per_s(self.requests, self.seconds);
        self.bytes_per_s = per_s(self.bytes, self.seconds);
        for (seen, count) in &earlier.verdicts {
            *self.verdicts.entry(seen).or_default() += count;
        }
        self.served_bytes = self.served_bytes.plus(earlier.served_bytes);
        self.examples.splice(0..0, earlier.examples.iter().cloned());
        self
    }

    /// Whether nothing went wrong. Interruptions by a target's death are no failure.
    pub(crate) const fn passed(&self) -> bool {
        self.errors == 0 && self.mismatches == 0
    }
}

/// 0 in no time.
fn per_s(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

impl Served {
    /// Both together.
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            memory: self.memory + other.memory,
            disk: self.disk + other.disk,
            peer: self.peer + other.peer,
            origin: self.origin + other.origin,
        }
    }

    pub(crate) fn of(tally: &Tally) -> Self {
        Self {
            memory: tally.source_bytes(Source::Memory),
            disk: tally.source_bytes(Source::Disk),
            peer: tally.source_bytes(Source::Peer),
            origin: tally.source_bytes(Source::Origin),
        }
    }

    /// From anywhere.
    pub(crate) const fn total(&self) -> u64 {
        self.memory + self.disk + self.peer + self.origin
    }
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: histogram.max(),
            mean_us: histogram.mean(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rate, flow) = (self.requests_per_s, ByteSize(self.bytes_per_s as u64));
        writeln!(f, "requests     {} in {:.1} s ({rate:.0}/s, {flow}/s)", self.requests, self.seconds)?;
        writeln!(f, "bytes        {} ({} unique)", ByteSize(self.bytes), ByteSize(self.unique_bytes))?;
        for (name, latency) in [("latency", &self.latency), ("first byte", &self.first_byte)] {
            let Latency { p50_us, p90_us, p99_us, p999_us, max_us, .. } = latency;
            let figures =
                format!("p50 {p50_us} · p90 {p90_us} · p99 {p99_us} · p99.9 {p999_us} · max {max_us}");
            writeln!(f, "{name:<12} {figures} µs")?;
        }
        let answered: u64 = self.verdicts.values().sum();
        for seen in Seen::ALL {
            let count = self.verdicts.get(seen.as_str()).copied().unwrap_or_default();
            if count > 0 {
                let share = count as f64 * 100.0 / answered as f64;
                writeln!(f, "  {:<22} {count:>9} {share:>5.1} %", seen.as_str())?;
            }
        }
        let Self { errors, mismatches, interrupted, retried, .. } = self;
        writeln!(
            f,
            "errors {errors} · mismatches {mismatches} · interrupted {interrupted} · retried {retried}"
        )?;
        if self.gave_up {
            writeln!(f, "gave up: no target accepts connections")?;
        }
        self.examples.iter().try_for_each(|example| writeln!(f, "  {example}"))
    }
}
