//! Which chunk of a version comes from which of its holders, as a machine: what happened goes in, what
//! to fetch and what to cancel comes out.
//!
//! A client waits, so chunks are fetched in order, within a window. Each goes to the source that is
//! thought to have it here first. A chunk has several requests only if those it has are stalled or late,
//! or if it is one of the last:
//!
//! ```text
//! no request                    the best source, or the origin if none is left
//! all stalled                   the same
//! the client waits for it       another source if the request takes far longer than usual, within a budget
//! one of the last, or asked of  another source that would be done long before
//! a slow source
//! ```
//! Whether a request is stalled or late is judged in [`Scheduler::handle_deadline`] alone, so that a
//! caller who was kept from reading first tells what came meanwhile.

mod pace;
mod source;

use self::pace::Pace;
use self::source::Source;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

/// A request without progress for so long is stalled.
const STALL: Duration = Duration::from_millis(400);
/// Bytes that are progress: what comes in smaller drops is as good as nothing.
const PROGRESS: u64 = 16 << 10;
/// The last chunks are those in this part of the window before the end.
const LAST_PART: u32 = 4;
/// How often it is judged whether another source would be done with such a chunk before.
const OUTRUN_PAUSE: Duration = Duration::from_millis(50);
/// It gets a request too if the first is thought to take this many times as long.
const OUTRUN_GAIN: u32 = 2;
/// One chunk of so many may have a second request since the first is late; one always.
const LATE_PART: u32 = 20;
/// Answers of busy sources that are borne for a chunk before they count as failures.
const BUSY_MAX: u8 = 3;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Fetch this chunk from this source.
    Fetch {
        /// Index of the chunk.
        chunk: u32,
        /// Index of the source.
        source: usize,
        /// Whether another request for the chunk is in flight already.
        hedge: bool,
    },
    /// Break this request off; nothing more need be said of it.
    Cancel {
        /// Index of the chunk.
        chunk: u32,
        /// Index of the source.
        source: usize,
    },
    /// No source is left for this chunk: fetch it from the origin. Said once; the machine has nothing
    /// more to do with the chunk, but it counts in the window until it is consumed.
    Origin {
        /// Index of the chunk.
        chunk: u32,
    },
}

/// Why a request for a chunk failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The source has it no more.
    Gone,
    /// What came is not what it should be.
    Bad,
    /// Nothing came for too long.
    Stalled,
    /// The source cannot be reached.
    Unreachable,
    /// The source has too much to do: it may be asked again in a moment.
    Busy,
}

/// The machine. What it is told of requests that it does not know of, or has cancelled, it ignores.
pub struct Scheduler {
    chunks: Range<u32>,
    window: u32,
    /// The chunk that is consumed next.
    base: u32,
    /// The chunks of the window, from `base` on.
    states: VecDeque<Chunk>,
    sources: Vec<Source>,
    /// What was decided along with something that was polled already.
    wants: VecDeque<Want>,
    pace: Pace,
    late_hedges: u32,
    now: Instant,
}

#[derive(Default)]
struct Chunk {
    /// It is here, or the origin is asked for it.
    settled: bool,
    requests: SmallVec<[Request; 2]>,
    /// Sources that are not asked for it again.
    failed: SmallVec<[usize; 4]>,
    busy: u8,
}

struct Request {
    source: usize,
    started: Instant,
    received: u64,
    /// What of that came since the last progress.
    dribble: u64,
    /// When it is stalled unless there is progress before.
    stalls_at: Instant,
    stalled: bool,
    /// When it is judged whether a second one would be faster.
    judged_at: Instant,
    outrun: bool,
    late: bool,
}

/// Why a chunk needs a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    First,
    Stalled,
    Late,
    Outrun,
}

enum Choice {
    Source(usize),
    /// One is left, but not free now.
    Later,
    Nobody,
}

impl Scheduler {
    /// The chunks `chunks` are wanted in order, from `sources` sources, the best first. At most `window`
    /// (at least 1) are in flight or waiting to be consumed.
    pub fn new(chunks: Range<u32>, sources: usize, window: u32, now: Instant) -> Self {
        let mut scheduler = Self {
            base: chunks.start,
            chunks,
            window: window.max(1),
            states: VecDeque::new(),
            sources: (0..sources).map(|_| Source::new(now)).collect(),
            wants: VecDeque::new(),
            pace: Pace::default(),
            late_hedges: 0,
            now,
        };
        scheduler.open_window();
        scheduler
    }

    /// So many more bytes of a chunk came.
    pub fn handle_bytes(&mut self, chunk: u32, source: usize, bytes: u64, now: Instant) {
        self.now = now;
        let Some(request) = self.request_mut(chunk, source) else { return };
        request.received = request.received.saturating_add(bytes);
        request.dribble = request.dribble.saturating_add(bytes);
        let progress = request.dribble >= PROGRESS;
        if progress {
            request.dribble = 0;
            request.stalled = false;
            request.stalls_at = now + STALL;
        }
        self.sources[source].handle_bytes(bytes, progress, now);
    }

    /// A chunk is whole and verified; other requests for it are cancelled.
    pub fn handle_done(&mut self, chunk: u32, source: usize, now: Instant) {
        self.now = now;
        if let Some(request) = self.take_request(chunk, source) {
            let took = now.saturating_duration_since(request.started);
            self.sources[source].handle_done(request.received, took);
            self.pace.handle_done(took);
        }
        self.settle(chunk);
    }

    /// A request failed. Except after `Busy` the source is not asked for the chunk again. One that cannot be
    /// reached is out altogether, so is one that fails twice: badly, or otherwise without a chunk
    /// delivered in between.
    pub fn handle_failed(&mut self, chunk: u32, source: usize, fault: Fault, now: Instant) {
        self.now = now;
        if self.take_request(chunk, source).is_none() {
            return;
        }
        self.sources[source].handle_fault(fault, now);
        let Some(state) = self.state_mut(chunk) else { return };
        state.busy = state.busy.saturating_add(u8::from(fault == Fault::Busy));
        if fault != Fault::Busy || state.busy >= BUSY_MAX {
            state.failed.push(source);
        }
    }

    /// A chunk, and all before it, was delivered: the window moves.
    pub fn handle_consumed(&mut self, chunk: u32, now: Instant) {
        self.now = now;
        while self.base <= chunk && !self.states.is_empty() {
            self.settle(self.base);
            self.states.pop_front();
            self.base += 1;
            self.open_window(); // by one
        }
    }

    /// A further source was found; returns its index.
    pub fn handle_source(&mut self) -> usize {
        self.sources.push(Source::new(self.now));
        self.sources.len() - 1
    }

    /// Whether nothing is to be hoped for from a source: it is out, or a request of its stalled and no other goes on.
    pub fn is_lost(&self, source: usize) -> bool {
        self.sources[source].is_lost(self.now)
    }

    /// The [`deadline`](Self::deadline) has passed, and nothing is at hand that was not told yet.
    pub fn handle_deadline(&mut self, now: Instant) {
        self.now = now;
        let first_missing = self.first_missing();
        for at in 0..self.states.len() {
            for of_chunk in 0..self.states[at].requests.len() {
                self.judge(at, of_chunk, first_missing == Some(at));
            }
        }
    }

    /// What to do next; ask until `None` after each event.
    pub fn poll(&mut self) -> Option<Want> {
        if self.wants.is_empty() {
            for at in 0..self.states.len() {
                self.decide(at);
                if !self.wants.is_empty() {
                    break;
                }
            }
        }
        self.wants.pop_front()
    }

    /// When to call [`handle_deadline`](Self::handle_deadline). Never `None` while something is in flight
    /// or waits for a busy source.
    pub fn deadline(&self) -> Option<Instant> {
        let first_missing = self.first_missing();
        let requests = self.states.iter().enumerate().flat_map(|(at, state)| {
            let is_alone = state.requests.len() == 1;
            let may_be_late = is_alone && first_missing == Some(at) && self.may_hedge_late();
            state.requests.iter().flat_map(move |request| {
                let may_be_outrun = is_alone && !request.outrun && self.may_be_outrun(at, request);
                let judged_at = may_be_outrun.then_some(request.judged_at);
                let late_at = (may_be_late && !request.late).then(|| self.late_at(request)).flatten();
                [Some(request.stalls_at), judged_at, late_at].into_iter().flatten()
            })
        });
        let waits = self.states.iter().any(|state| !state.settled && state.requests.is_empty());
        let busy = self.sources.iter().filter(|_| waits).filter_map(|source| source.busy_until(self.now));
        requests.chain(busy).min()
    }

    /// Notes what is to be done about a chunk of the window, if anything is.
    fn decide(&mut self, at: usize) {
        let Some(need) = self.need(at) else { return };
        let chunk = self.base + at as u32;
        match (self.choose(at, need), need) {
            (Choice::Source(source), _) => self.fetch(at, source, need),
            (Choice::Nobody, Need::First | Need::Stalled) => {
                self.settle(chunk);
                self.wants.push_back(Want::Origin { chunk });
            }
            (Choice::Later | Choice::Nobody, _) => {}
        }
    }

    fn need(&self, at: usize) -> Option<Need> {
        let state = &self.states[at];
        match &state.requests[..] {
            _ if state.settled => None,
            [] => Some(Need::First),
            requests if requests.iter().all(|request| request.stalled) => Some(Need::Stalled),
            [request] if request.late && self.may_hedge_late() => Some(Need::Late),
            [request] if request.outrun => Some(Need::Outrun),
            _ => None,
        }
    }

    fn choose(&self, at: usize, need: Need) -> Choice {
        let state = &self.states[at];
        let is_left = |source: &usize| {
            self.sources[*source].is_usable(self.now)
                && !state.failed.contains(source)
                && !state.requests.iter().any(|request| request.source == *source)
        };
        let left: SmallVec<[usize; 8]> = (0..self.sources.len()).filter(is_left).collect();
        if left.is_empty() {
            return Choice::Nobody;
        }
        let best_rate = self.best_rate();
        let awake = |source: &&usize| self.sources[**source].busy_until(self.now).is_none();
        let is_fast = |source: &&usize| !self.sources[**source].is_slow(best_rate);
        let any_fast = left.iter().filter(awake).any(|source| is_fast(&source));
        let good = left.iter().filter(awake).filter(|source| !any_fast || is_fast(source));
        // A chunk may wait for a slot where it is here sooner, but not one that has been asked for.
        let good = good.filter(|source| need == Need::First || self.sources[**source].has_slot());
        let estimate = |source: usize| self.sources[source].estimate(best_rate);
        match good.copied().min_by_key(|source| estimate(*source)) {
            // A second request for the sake of speed must bring some.
            Some(source) if need == Need::Late && estimate(source) > self.rest(&state.requests[0]) => {
                Choice::Later
            }
            Some(source) if self.sources[source].has_slot() => Choice::Source(source),
            _ => Choice::Later,
        }
    }

    fn fetch(&mut self, at: usize, source: usize, need: Need) {
        let now = self.now;
        self.late_hedges += u32::from(need == Need::Late);
        self.sources[source].handle_request(now);
        self.states[at].requests.push(Request {
            source,
            started: now,
            received: 0,
            dribble: 0,
            stalls_at: now + STALL,
            stalled: false,
            judged_at: now + OUTRUN_PAUSE,
            outrun: false,
            late: false,
        });
        let chunk = self.base + at as u32;
        self.wants.push_back(Want::Fetch { chunk, source, hedge: need != Need::First });
    }

    /// Judges a request by the time that it has taken so far.
    fn judge(&mut self, at: usize, of_chunk: usize, is_first: bool) {
        let now = self.now;
        let request = &self.states[at].requests[of_chunk];
        let late = is_first && self.late_at(request).is_some_and(|late_at| late_at <= now);
        let outrun = self.may_be_outrun(at, request) && self.is_outrun(at, request);
        let request = &mut self.states[at].requests[of_chunk];
        request.late |= late;
        if request.judged_at <= now {
            request.outrun |= outrun;
            request.judged_at = now + OUTRUN_PAUSE;
        }
        if request.stalls_at <= now {
            request.stalled = true;
            request.stalls_at = now + STALL;
            let source = request.source;
            self.sources[source].handle_silence(now);
        }
    }

    /// Whether another source would be done with the chunk long before.
    fn is_outrun(&self, at: usize, request: &Request) -> bool {
        let Choice::Source(other) = self.choose(at, Need::Outrun) else { return false };
        let is_known = self.sources[other].rate().is_some();
        is_known && self.rest(request) > self.sources[other].estimate(self.best_rate()) * OUTRUN_GAIN
    }

    /// Whether it would matter: for one of the last chunks when all are asked for, and for what was asked
    /// of a source before it was known to be slow, which are few.
    fn may_be_outrun(&self, at: usize, request: &Request) -> bool {
        let last = (self.window / LAST_PART).max(1);
        let chunk = self.base + at as u32;
        let end = self.base + self.states.len() as u32;
        let is_last = end == self.chunks.end
            && chunk.saturating_add(last) >= end
            && self.states.iter().all(|state| state.settled || !state.requests.is_empty());
        is_last || self.sources[request.source].is_slow(self.best_rate())
    }

    /// When a request takes far longer than those before it.
    fn late_at(&self, request: &Request) -> Option<Instant> {
        self.pace.late_after().map(|usual| request.started + usual)
    }

    fn may_hedge_late(&self) -> bool {
        let chunks = self.chunks.end.saturating_sub(self.chunks.start);
        self.late_hedges < (chunks / LATE_PART).max(1)
    }

    /// How long a request may be expected to take yet, at its pace so far.
    fn rest(&self, request: &Request) -> Duration {
        let age = self.now.saturating_duration_since(request.started);
        let left = source::CHUNK.saturating_sub(request.received) as f64;
        // What has brought nothing may take as long again.
        if request.received == 0 { age } else { age.mul_f64(left / request.received as f64) }
    }

    fn best_rate(&self) -> f64 {
        self.sources.iter().filter_map(Source::rate).fold(0.0, f64::max)
    }

    /// The chunk that the client waits for, by its place in the window.
    fn first_missing(&self) -> Option<usize> {
        self.states.iter().position(|state| !state.settled)
    }

    /// Nothing more is to be done for a chunk; what is in flight for it is cancelled.
    fn settle(&mut self, chunk: u32) {
        let Some(state) = self.state_mut(chunk) else { return };
        state.settled = true;
        for request in std::mem::take(&mut state.requests) {
            self.sources[request.source].handle_end(request.received);
            self.wants.push_back(Want::Cancel { chunk, source: request.source });
        }
    }

    fn open_window(&mut self) {
        while self.states.len() < self.window as usize
            && self.base + (self.states.len() as u32) < self.chunks.end
        {
            self.states.push_back(Chunk::default());
        }
    }

    fn state_mut(&mut self, chunk: u32) -> Option<&mut Chunk> {
        self.states.get_mut(chunk.checked_sub(self.base)? as usize)
    }

    fn request_mut(&mut self, chunk: u32, source: usize) -> Option<&mut Request> {
        self.state_mut(chunk)?.requests.iter_mut().find(|request| request.source == source)
    }

    fn take_request(&mut self, chunk: u32, source: usize) -> Option<Request> {
        let requests = &mut self.state_mut(chunk)?.requests;
        let at = requests.iter().position(|request| request.source == source)?;
        let request = requests.remove(at);
        self.sources[source].handle_end(request.received);
        Some(request)
    }
}

#[cfg(test)]
mod tests;
