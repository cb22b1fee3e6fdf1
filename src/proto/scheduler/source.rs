//! What is known of a source: how fast it is, and whether it is to be asked at all.

use super::Fault;
use crate::proto::object::layout::CHUNK_SIZE;
use std::time::{Duration, Instant};

/// Bytes that a request is expected to bring.
pub(super) const CHUNK: u64 = CHUNK_SIZE;
/// Requests in flight at one source.
pub(super) const IN_FLIGHT_MAX: u32 = 4;
/// Rate in bytes per second at which a source is taken to be of which nothing is known, unless another
/// is faster: high, so that all are tried.
const RATE_HOPED: f64 = 64e6;
/// A source slower than the best by this is not asked while others are left.
const SLOW: f64 = 10.0;
/// A rate is measured over so long at least.
const SAMPLE_MIN: Duration = Duration::from_millis(50);
/// Share of the newest sample in the rate.
const SAMPLE_SHARE: f64 = 0.3;
/// A busy source is not asked for so long.
const BUSY: Duration = Duration::from_millis(100);
/// Nor one from which nothing comes, unless something does.
const SILENT: Duration = Duration::from_secs(2);
/// A source of which one request stalled is lost if no other had progress for so long: shorter than the time after which
/// one stalls, since those that were asked together do not fall silent in the same instant.
const QUIET: Duration = Duration::from_millis(200);
/// After so many faults in a row it is not asked at all.
const FAULTS_MAX: u8 = 2;
/// The same for faults that are worse, in a row or not.
const BAD_MAX: u8 = 2;

pub(super) struct Source {
    in_flight: u32,
    /// Bytes that requests in flight have still to bring.
    outstanding: u64,
    rate: Option<f64>,
    /// Shortest time from a request to its first bytes.
    round_trip: Option<Duration>,
    /// When it was asked after a time of rest, until bytes come.
    asked: Option<Instant>,
    sample_began: Instant,
    sample: u64,
    busy_until: Option<Instant>,
    silent_until: Option<Instant>,
    /// When there was progress last.
    progressed: Instant,
    faults: u8,
    bad: u8,
    out: bool,
}

impl Source {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            in_flight: 0,
            outstanding: 0,
            rate: None,
            round_trip: None,
            asked: None,
            sample_began: now,
            sample: 0,
            busy_until: None,
            silent_until: None,
            progressed: now,
            faults: 0,
            bad: 0,
            out: false,
        }
    }

    /// A request to it was made.
    pub(super) fn handle_request(&mut self, now: Instant) {
        if self.in_flight == 0 {
            self.asked = Some(now);
        }
        self.in_flight += 1;
        self.outstanding += CHUNK;
    }

    /// Bytes came, enough to count as a sign of life or not.
    pub(super) fn handle_bytes(&mut self, bytes: u64, progress: bool, now: Instant) {
        self.outstanding = self.outstanding.saturating_sub(bytes);
        if progress {
            (self.silent_until, self.progressed) = (None, now);
        }
        if let Some(asked) = self.asked.take() {
            let first = now.saturating_duration_since(asked);
            self.round_trip = Some(self.round_trip.map_or(first, |shortest| shortest.min(first)));
            // The rate is that of what follows.
            (self.sample_began, self.sample) = (now, 0);
            return;
        }
        self.sample = self.sample.saturating_add(bytes);
        if now.saturating_duration_since(self.sample_began) >= SAMPLE_MIN {
            self.end_sample(now);
        }
    }

    /// It delivered a chunk of so many bytes in so long.
    pub(super) fn handle_done(&mut self, bytes: u64, took: Duration) {
        (self.faults, self.silent_until) = (0, None);
        if self.rate.is_none() && bytes > 0 && !took.is_zero() {
            self.rate = Some(bytes as f64 / took.as_secs_f64());
        }
    }

    /// A request ended in any way after so many bytes.
    pub(super) fn handle_end(&mut self, received: u64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.outstanding = self.outstanding.saturating_sub(CHUNK.saturating_sub(received));
    }

    pub(super) fn handle_fault(&mut self, fault: Fault, now: Instant) {
        match fault {
            Fault::Busy => self.busy_until = Some(now + BUSY),
            Fault::Unreachable => self.out = true,
            Fault::Bad => self.bad += 1,
            Fault::Gone => self.faults += 1,
            Fault::Stalled => self.handle_silence(now),
        }
        self.out |= self.faults >= FAULTS_MAX || self.bad >= BAD_MAX;
    }

    /// A request of its stalled. Several that stall together are one fault.
    pub(super) fn handle_silence(&mut self, now: Instant) {
        if self.silent_until.is_none_or(|until| until <= now) {
            self.faults += 1;
            self.silent_until = Some(now + SILENT);
        }
        self.out |= self.faults >= FAULTS_MAX;
    }

    /// Whether it may be asked, now or when it has done with what it does.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        !self.out && self.silent_until.is_none_or(|until| until <= now)
    }

    /// Whether it is out, or one request stalled and others do not go on either.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        let quiet = now.saturating_duration_since(self.progressed);
        self.out || (!self.is_usable(now) && quiet >= QUIET)
    }

    /// Until when it is not to be asked, having said that it is busy.
    pub(super) fn busy_until(&self, now: Instant) -> Option<Instant> {
        self.busy_until.filter(|until| *until > now)
    }

    pub(super) fn has_slot(&self) -> bool {
        self.in_flight < IN_FLIGHT_MAX
    }

    /// Bytes per second, as measured.
    pub(super) fn rate(&self) -> Option<f64> {
        self.rate.filter(|_| !self.out)
    }

    pub(super) fn is_slow(&self, best_rate: f64) -> bool {
        self.rate.is_some_and(|rate| rate * SLOW < best_rate)
    }

    /// How long it would take to bring one more chunk.
    pub(super) fn estimate(&self, best_rate: f64) -> Duration {
        let rate = self.rate.unwrap_or_else(|| best_rate.max(RATE_HOPED)).max(1.0);
        let queue = (self.outstanding + CHUNK) as f64 / rate;
        self.round_trip.unwrap_or_default() + Duration::from_secs_f64(queue)
    }

    fn end_sample(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.sample_began).as_secs_f64();
        let newest = self.sample as f64 / seconds;
        self.rate = Some(self.rate.map_or(newest, |rate| rate + (newest - rate) * SAMPLE_SHARE));
        (self.sample_began, self.sample) = (now, 0);
    }
}
