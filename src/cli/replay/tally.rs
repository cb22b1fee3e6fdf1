//! What came of the requests so far.

use super::verdict::{Seen, Source};
use hdrhistogram::Histogram;
use std::fmt;
use std::time::Duration;

/// Latencies are kept in microseconds up to ten minutes, to three digits.
const LATENCY_US_MAX: u64 = 600_000_000;

/// Failures that are described one by one.
const EXAMPLES_MAX: usize = 10;

/// One complete, correct answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) seen: Seen,
    /// Body bytes.
    pub(crate) bytes: u64,
    /// From sending to the response's head.
    pub(crate) head: Duration,
    /// From sending to the last byte.
    pub(crate) whole: Duration,
}

/// Why there was no such answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No target accepts connections.
    Unreachable,
    /// The connection ended or broke before an answer, each time it was tried.
    NoAnswer,
    /// Another status than 200.
    Status(u16),
    /// The body ended before its announced length, though the target lives.
    Cut,
    /// Nothing came for too long.
    Timeout,
    /// A complete body of another length.
    Length {
        /// Bytes.
        came: u64,
    },
    /// A wrong byte in the piece that begins here.
    Content {
        /// Bytes before the piece.
        offset: u64,
    },
    /// The target died while it answered.
    Interrupted,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("no target accepts connections"),
            Self::NoAnswer => f.write_str("the connection ended without an answer"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Cut => f.write_str("the body was cut short"),
            Self::Timeout => f.write_str("nothing came in time"),
            Self::Length { came } => write!(f, "mismatch: {came} bytes came"),
            Self::Content { offset } => write!(f, "mismatch: a wrong byte after offset {offset}"),
            Self::Interrupted => f.write_str("the target died while it answered"),
        }
    }
}

/// Errors by kind; mismatches and interruptions are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Errors {
    /// No target accepts connections.
    pub(crate) unreachable: u64,
    /// The connection ended without an answer.
    pub(crate) no_answer: u64,
    /// Another status than 200.
    pub(crate) status: u64,
    /// A body was cut short by a target that lives.
    pub(crate) cut: u64,
    /// Nothing came for too long.
    pub(crate) timeout: u64,
}

impl Errors {
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            unreachable: self.unreachable + other.unreachable,
            no_answer: self.no_answer + other.no_answer,
            status: self.status + other.status,
            cut: self.cut + other.cut,
            timeout: self.timeout + other.timeout,
        }
    }
}

/// Counts and latencies of finished requests.
pub(crate) struct Tally {
    /// Requests that are finished, however.
    pub(crate) requests: u64,
    pub(crate) error_kinds: Errors,
    /// Wrong bytes or lengths.
    pub(crate) mismatches: u64,
    /// In flight when a target died.
    pub(crate) interrupted: u64,
    /// Asked again elsewhere, since no byte had come.
    pub(crate) retried: u64,
    verdicts: [u64; Seen::ALL.len()],
    sources: [u64; 4],
    pub(crate) head: Histogram<u64>,
    pub(crate) whole: Histogram<u64>,
    /// As `whole`, since [`take_recent`](Self::take_recent).
    recent: Histogram<u64>,
    /// The first failures in words.
    pub(crate) examples: Vec<String>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("constant, valid bounds");
        Self {
            requests: 0,
            error_kinds: Errors::default(),
            mismatches: 0,
            interrupted: 0,
            retried: 0,
            verdicts: [0; Seen::ALL.len()],
            sources: [0; 4],
            head: histogram(),
            whole: histogram(),
            recent: histogram(),
            examples: Vec::new(),
        }
    }

    pub(crate) fn answered(&mut self, answer: &Answer) {
        self.requests += 1;
        self.verdicts[answer.seen as usize] += 1;
        self.sources[answer.seen.source() as usize] += answer.bytes;
        self.head.saturating_record(micros(answer.head));
        self.whole.saturating_record(micros(answer.whole));
        self.recent.saturating_record(micros(answer.whole));
    }

    /// `what` says which request, if one more example is wanted.
    pub(crate) fn failed(&mut self, failure: &Failure, what: impl FnOnce() -> String) {
        self.requests += 1;
        let kinds = &mut self.error_kinds;
        let counter = match failure {
            Failure::Unreachable => &mut kinds.unreachable,
            Failure::NoAnswer => &mut kinds.no_answer,
            Failure::Status(_) => &mut kinds.status,
            Failure::Cut => &mut kinds.cut,
            Failure::Timeout => &mut kinds.timeout,
            Failure::Length { .. } | Failure::Content { .. } => &mut self.mismatches,
            Failure::Interrupted => &mut self.interrupted,
        };
        *counter += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("{}: {failure}", what()));
        }
    }

    pub(crate) const fn errors(&self) -> u64 {
        let Errors { unreachable, no_answer, status, cut, timeout } = self.error_kinds;
        unreachable + no_answer + status + cut + timeout
    }

    /// What makes a run fail: errors and mismatches.
    pub(crate) const fn failures(&self) -> u64 {
        self.errors() + self.mismatches
    }

    /// Answers of this verdict.
    pub(crate) const fn verdict(&self, seen: Seen) -> u64 {
        self.verdicts[seen as usize]
    }

    /// Body bytes of complete answers from this source.
    pub(crate) const fn source_bytes(&self, source: Source) -> u64 {
        self.sources[source as usize]
    }

    /// Body bytes of complete answers.
    pub(crate) fn bytes(&self) -> u64 {
        self.sources.iter().sum()
    }

    /// The 50th and 99th percentile of answers since the last call, in microseconds.
    pub(crate) fn take_recent(&mut self) -> (u64, u64) {
        let percentiles = (self.recent.value_at_quantile(0.5), self.recent.value_at_quantile(0.99));
        self.recent.reset();
        percentiles
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
