//! The rules of the scheduler, one by one, under random events, and with holders that behave.

use super::source::{CHUNK, IN_FLIGHT_MAX};
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const MILLISECOND: Duration = Duration::from_millis(1);

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary start for virtual time")]
    Instant::now()
}

/// A scheduler, its time, and what it has asked for; what it must never ask for it is not let.
struct Fixture {
    scheduler: Scheduler,
    now: Instant,
    end: u32,
    window: u32,
    sources: usize,
    consumed: u32,
    live: BTreeMap<(u32, usize), Instant>,
    failed: BTreeSet<(u32, usize)>,
    done: BTreeSet<u32>,
    from_origin: BTreeSet<u32>,
    hedges: u32,
    cancelled: u32,
}

impl Fixture {
    fn new(end: u32, sources: usize, window: u32) -> Self {
        let now = start();
        Self {
            scheduler: Scheduler::new(0..end, sources, window, now),
            now,
            end,
            window,
            sources,
            consumed: 0,
            live: BTreeMap::new(),
            failed: BTreeSet::new(),
            done: BTreeSet::new(),
            from_origin: BTreeSet::new(),
            hedges: 0,
            cancelled: 0,
        }
    }

    /// Does all that is wanted, and returns it.
    fn drain(&mut self) -> Vec<Want> {
        let wants: Vec<_> = std::iter::from_fn(|| self.scheduler.poll()).collect();
        for want in &wants {
            match *want {
                Want::Fetch { chunk, source, hedge } => self.fetch(chunk, source, hedge),
                Want::Cancel { chunk, source } => {
                    assert!(
                        self.live.remove(&(chunk, source)).is_some(),
                        "{chunk} is not fetched from {source}"
                    );
                    self.cancelled += 1;
                }
                Want::Origin { chunk } => {
                    assert!(!self.done.contains(&chunk), "{chunk} is here");
                    assert!(self.requests_of(chunk).is_empty(), "{chunk} is on its way");
                    assert!(self.from_origin.insert(chunk), "{chunk} twice from the origin");
                    assert!(chunk < self.consumed + self.window);
                }
            }
        }
        let in_flight = !self.live.is_empty();
        assert!(!in_flight || self.scheduler.deadline().is_some(), "nobody would notice if nothing came");
        wants
    }

    fn fetch(&mut self, chunk: u32, source: usize, hedge: bool) {
        assert!(source < self.sources && chunk < self.end);
        assert!(
            (self.consumed..self.consumed + self.window).contains(&chunk),
            "{chunk} is beyond the window"
        );
        assert!(!self.done.contains(&chunk) && !self.from_origin.contains(&chunk), "{chunk} is settled");
        assert!(!self.failed.contains(&(chunk, source)), "{source} failed with {chunk}");
        assert_eq!(hedge, !self.requests_of(chunk).is_empty());
        assert!(self.live.insert((chunk, source), self.now).is_none(), "{chunk} twice from {source}");
        assert!(self.chunks_at(source).len() <= IN_FLIGHT_MAX as usize);
        self.hedges += u32::from(hedge);
    }

    fn requests_of(&self, chunk: u32) -> Vec<usize> {
        self.live.keys().filter(|(of, _)| *of == chunk).map(|(_, source)| *source).collect()
    }

    fn chunks_at(&self, source: usize) -> Vec<u32> {
        self.live.keys().filter(|(_, at)| *at == source).map(|(chunk, _)| *chunk).collect()
    }

    fn bytes(&mut self, chunk: u32, source: usize, bytes: u64) {
        self.scheduler.handle_bytes(chunk, source, bytes, self.now);
    }

    fn done(&mut self, chunk: u32, source: usize) {
        assert!(self.live.remove(&(chunk, source)).is_some(), "{chunk} is not fetched from {source}");
        self.done.insert(chunk);
        self.scheduler.handle_done(chunk, source, self.now);
    }

    fn fail(&mut self, chunk: u32, source: usize, fault: Fault) {
        assert!(self.live.remove(&(chunk, source)).is_some(), "{chunk} is not fetched from {source}");
        if fault != Fault::Busy {
            self.failed.insert((chunk, source));
        }
        self.scheduler.handle_failed(chunk, source, fault, self.now);
    }

    /// Consumes what is there in order.
    fn consume(&mut self) {
        while self.done.contains(&self.consumed) || self.from_origin.contains(&self.consumed) {
            self.scheduler.handle_consumed(self.consumed, self.now);
            self.consumed += 1;
        }
    }

    /// Time passes without anything coming.
    fn pass(&mut self, time: Duration) -> Vec<Want> {
        let end = self.now + time;
        let mut wants = self.drain();
        let mut steps = 0;
        while let Some(deadline) = self.scheduler.deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.scheduler.handle_deadline(self.now);
            wants.extend(self.drain());
            steps += 1;
            assert!(steps < 10_000, "it spins");
        }
        self.now = end;
        wants
    }
}

fn fetch(chunk: u32, source: usize) -> Want {
    Want::Fetch { chunk, source, hedge: false }
}

fn hedge(chunk: u32, source: usize) -> Want {
    Want::Fetch { chunk, source, hedge: true }
}

#[test]
fn chunks_are_asked_for_in_order_and_all_sources_are_tried() {
    let mut fixture = Fixture::new(100, 3, 6);
    let expected = [fetch(0, 0), fetch(1, 1), fetch(2, 2), fetch(3, 0), fetch(4, 1), fetch(5, 2)];
    assert_eq!(fixture.drain(), expected);
}

#[test]
fn the_window_moves_with_what_is_consumed() {
    let mut fixture = Fixture::new(4, 2, 2);
    assert_eq!(fixture.drain(), [fetch(0, 0), fetch(1, 1)]);
    fixture.done(1, 1);
    assert_eq!(fixture.drain(), [], "chunk 0 is still missing");
    fixture.done(0, 0);
    assert_eq!(fixture.drain(), [], "nothing was consumed yet");
    fixture.consume();
    assert_eq!(fixture.drain().len(), 2);
    fixture.done(2, 0);
    fixture.done(3, 1);
    fixture.consume();
    assert_eq!(fixture.drain(), []);
    assert_eq!(fixture.scheduler.deadline(), None, "all is done");
}

#[test]
fn a_source_has_so_many_requests_at_most() {
    let mut fixture = Fixture::new(100, 2, 32);
    assert_eq!(fixture.drain().len(), 2 * IN_FLIGHT_MAX as usize);
    let first = fixture.live.keys().next().copied().unwrap();
    fixture.done(first.0, first.1);
    assert_eq!(fixture.drain(), [fetch(8, first.1)]);
}

#[test]
fn the_faster_source_gets_more() {
    let mut fixture = Fixture::new(200, 2, 8);
    let given = run(&mut fixture, &[Holder::rate(9.0), Holder::rate(3.0)]);
    assert!((140..160).contains(&given[0]), "{given:?}");
    assert_eq!(given.iter().sum::<u32>(), 200);
}

#[test]
fn a_source_of_a_tenth_of_the_best_rate_is_avoided() {
    let mut fixture = Fixture::new(200, 3, 8);
    let given = run(&mut fixture, &[Holder::rate(50.0), Holder::rate(50.0), Holder::rate(2.0)]);
    assert!(given[2] <= 4, "{given:?}");
    assert!(fixture.from_origin.is_empty());

    let mut fixture = Fixture::new(20, 2, 8);
    let mut alone = Holder::rate(2.0);
    alone.refuses_before = 0;
    let mut lost = Holder::rate(50.0);
    lost.lost_after = 5;
    let given = run(&mut fixture, &[lost, alone]);
    assert!(given[1] >= 15, "but not when it is the last: {given:?}");
    assert!(fixture.from_origin.is_empty());
}

#[test]
fn what_stalls_waits_for_a_fast_source_rather_than_go_to_a_slow_one() {
    let mut fixture = Fixture::new(100, 3, 32);
    assert_eq!(fixture.drain().len(), 12, "all are full");
    let (fast, slow, silent) = (fixture.chunks_at(0), fixture.chunks_at(1), fixture.chunks_at(2));
    fixture.now += MILLISECOND * 10;
    fixture.bytes(fast[0], 0, PROGRESS);
    fixture.bytes(slow[0], 1, PROGRESS);
    fixture.now += MILLISECOND * 49;
    fast.iter().for_each(|chunk| fixture.bytes(*chunk, 0, CHUNK - PROGRESS));
    fixture.now += MILLISECOND;
    fast.iter().for_each(|chunk| fixture.bytes(*chunk, 0, PROGRESS));
    fast.iter().for_each(|chunk| fixture.done(*chunk, 0));
    assert_eq!(fixture.drain().len(), 4);
    fixture.now += MILLISECOND * 240;
    slow.iter().for_each(|chunk| fixture.bytes(*chunk, 1, PROGRESS));
    fixture.done(slow[0], 1);
    assert_eq!(fixture.drain(), []);
    assert_eq!(fixture.pass(MILLISECOND * 110), [], "the fast one is full");
    let next = fixture.chunks_at(0)[0];
    fixture.done(next, 0);
    assert_eq!(fixture.drain(), [hedge(silent[0], 0)]);
}

#[test]
fn a_stalled_chunk_is_asked_of_another_and_the_loser_is_cancelled() {
    let mut fixture = Fixture::new(100, 2, 1);
    assert_eq!(fixture.drain(), [fetch(0, 0)]);
    assert_eq!(fixture.pass(STALL - MILLISECOND), []);
    fixture.bytes(0, 0, CHUNK / 2);
    assert_eq!(fixture.pass(STALL - MILLISECOND), [], "it goes on");
    assert_eq!(fixture.pass(MILLISECOND), [hedge(0, 1)]);
    fixture.done(0, 1);
    assert_eq!(fixture.drain(), [Want::Cancel { chunk: 0, source: 0 }]);
}

#[test]
fn a_silent_source_is_not_asked_while_it_is_silent() {
    let mut fixture = Fixture::new(100, 2, 1);
    fixture.drain();
    assert_eq!(fixture.pass(STALL), [hedge(0, 1)]);
    fixture.done(0, 1);
    fixture.consume();
    assert_eq!(fixture.drain(), [Want::Cancel { chunk: 0, source: 0 }, fetch(1, 1)]);
}

#[test]
fn drops_of_bytes_are_no_progress() {
    let mut fixture = Fixture::new(100, 2, 1);
    fixture.drain();
    for _ in 0..4 {
        assert_eq!(fixture.pass(STALL / 4 - MILLISECOND), []);
        fixture.bytes(0, 0, 100);
    }
    assert_eq!(fixture.pass(4 * MILLISECOND), [hedge(0, 1)]);
}

#[test]
fn what_comes_late_from_a_stalled_source_is_taken() {
    let mut fixture = Fixture::new(100, 2, 1);
    fixture.drain();
    fixture.pass(STALL);
    fixture.done(0, 0);
    assert_eq!(fixture.drain(), [Want::Cancel { chunk: 0, source: 1 }]);
}

#[test]
fn a_caller_that_was_kept_from_reading_calls_nobody_stalled() {
    let mut fixture = Fixture::new(100, 2, 4);
    fixture.drain();
    fixture.now += STALL * 3;
    for (chunk, source) in fixture.live.clone().into_keys() {
        fixture.bytes(chunk, source, CHUNK / 2);
        assert_eq!(fixture.drain(), []);
    }
    fixture.scheduler.handle_deadline(fixture.now);
    assert_eq!(fixture.drain(), []);
}

#[test]
fn with_no_source_left_it_is_the_origin_once() {
    let mut fixture = Fixture::new(3, 2, 3);
    fixture.drain();
    let first = fixture.requests_of(0)[0];
    fixture.fail(0, first, Fault::Gone);
    assert_eq!(fixture.drain(), [fetch(0, 1 - first)]);
    fixture.fail(0, 1 - first, Fault::Bad);
    assert_eq!(fixture.drain(), [Want::Origin { chunk: 0 }]);
    assert_eq!(fixture.drain(), []);
    fixture.consume();
    assert_eq!(fixture.consumed, 1);

    let mut fixture = Fixture::new(3, 1, 3);
    fixture.drain();
    let wants = fixture.pass(STALL);
    assert_eq!(wants.iter().filter(|want| matches!(want, Want::Origin { .. })).count(), 3);
    assert_eq!(wants.iter().filter(|want| matches!(want, Want::Cancel { .. })).count(), 3);
    assert_eq!(fixture.scheduler.deadline(), None);
}

#[test]
fn without_sources_all_is_the_origins() {
    let mut fixture = Fixture::new(3, 0, 2);
    assert_eq!(fixture.drain(), [Want::Origin { chunk: 0 }, Want::Origin { chunk: 1 }]);
    fixture.consume();
    assert_eq!(fixture.drain(), [Want::Origin { chunk: 2 }]);
}

/// Faults of a source until it is out, or 5. Between them it may deliver a chunk.
fn faults_borne(fault: Fault, delivers: bool) -> u32 {
    let mut fixture = Fixture::new(100, 1, 1);
    for faults in 0..5 {
        if fixture.drain().contains(&Want::Origin { chunk: fixture.consumed }) {
            return faults;
        }
        fixture.fail(fixture.consumed, 0, fault);
        assert_eq!(fixture.drain(), [Want::Origin { chunk: fixture.consumed }]);
        fixture.consume();
        if delivers && fixture.drain() == [fetch(fixture.consumed, 0)] {
            fixture.done(fixture.consumed, 0);
        }
        fixture.consume();
    }
    5
}

#[test]
fn a_source_that_fails_is_out() {
    assert_eq!((faults_borne(Fault::Unreachable, false), faults_borne(Fault::Unreachable, true)), (1, 1));
    assert_eq!((faults_borne(Fault::Bad, false), faults_borne(Fault::Bad, true)), (2, 2));
    assert_eq!((faults_borne(Fault::Gone, false), faults_borne(Fault::Gone, true)), (2, 5));
}

#[test]
fn a_busy_source_is_asked_again_in_a_moment_but_not_for_ever() {
    let mut fixture = Fixture::new(1, 1, 1);
    fixture.drain();
    for _ in 1..BUSY_MAX {
        fixture.fail(0, 0, Fault::Busy);
        assert_eq!(fixture.drain(), []);
        let due = fixture.scheduler.deadline().unwrap();
        assert!(due > fixture.now && due <= fixture.now + MILLISECOND * 100);
        assert_eq!(fixture.pass(due - fixture.now), [fetch(0, 0)]);
    }
    fixture.fail(0, 0, Fault::Busy);
    assert_eq!(fixture.drain(), [Want::Origin { chunk: 0 }]);
}

#[test]
fn who_is_busy_does_not_keep_others_from_being_asked() {
    let mut fixture = Fixture::new(1, 2, 1);
    fixture.drain();
    fixture.fail(0, 0, Fault::Busy);
    assert_eq!(fixture.drain(), [fetch(0, 1)]);
}

#[test]
fn a_silent_source_is_forgiven_once() {
    let mut fixture = Fixture::new(100, 1, 1);
    fixture.drain();
    let silence = |fixture: &mut Fixture| {
        fixture.pass(STALL);
        assert!(fixture.from_origin.contains(&fixture.consumed));
        fixture.pass(Duration::from_secs(3));
        fixture.consume();
        fixture.drain()
    };
    assert_eq!(silence(&mut fixture), [fetch(1, 0)]);
    assert_eq!(silence(&mut fixture), [Want::Origin { chunk: 2 }]);
}

#[test]
fn a_further_source_is_used_at_once() {
    let mut fixture = Fixture::new(100, 1, 32);
    fixture.drain();
    assert_eq!(fixture.scheduler.handle_source(), 1);
    fixture.sources += 1;
    assert_eq!(fixture.drain(), [fetch(4, 1), fetch(5, 1), fetch(6, 1), fetch(7, 1)]);
}

#[test]
fn late_chunks_are_hedged_within_a_budget() {
    let mut holders = [Holder::rate(80.0); 3];
    holders[0].pause_every = 3;
    for (chunks, most) in [(19, 1), (100, 5)] {
        let mut fixture = Fixture::new(chunks, 3, 8);
        run(&mut fixture, &holders);
        let late = fixture.scheduler.late_hedges;
        assert!((1..=most).contains(&late), "{late} of {chunks}");
        assert!(fixture.hedges <= late + 2, "and the last two");
        assert!(fixture.from_origin.is_empty());
    }
}

#[test]
fn among_equals_nothing_is_fetched_twice() {
    for chunks in [1, 2, 5, 100] {
        let mut fixture = Fixture::new(chunks, 4, 8);
        run(&mut fixture, &[Holder::rate(20.0); 4]);
        assert_eq!((fixture.hedges, fixture.cancelled), (0, 0), "{chunks} chunks");
    }
}

#[test]
fn the_last_chunks_do_not_wait_for_a_slow_source() {
    let mut fixture = Fixture::new(4, 2, 4);
    let began = fixture.now;
    run(&mut fixture, &[Holder::rate(1.0), Holder::rate(50.0)]);
    assert!(fixture.hedges >= 1);
    assert!(fixture.now - began < MILLISECOND * 500, "took {:?}", fixture.now - began);
}

#[test]
fn holders_that_lie_stall_and_go_cost_no_chunk() {
    let mut holders = [Holder::rate(20.0); 4];
    holders[0].lost_after = 3;
    holders[1].bad_after = 2;
    holders[2].stalls_after = 4;
    let mut fixture = Fixture::new(60, 4, 8);
    let given = run(&mut fixture, &holders);
    assert!(fixture.from_origin.is_empty());
    assert!(given[3] >= 45, "{given:?}");
}

/// How a holder behaves.
#[derive(Clone, Copy, Debug)]
struct Holder {
    /// Bytes per millisecond, over all of its requests.
    rate: f64,
    /// Chunks after which it cannot be reached, sends nonsense, or nothing.
    lost_after: u32,
    bad_after: u32,
    stalls_after: u32,
    /// Each so manieth chunk takes 300 ms longer.
    pause_every: u32,
    /// Requests that it answers busy first.
    refuses_before: u32,
}

impl Holder {
    /// One that is good, with so many MiB per second.
    fn rate(mebibytes: f64) -> Self {
        let rate = mebibytes * CHUNK as f64 / 1000.0;
        let never = u32::MAX;
        Self {
            rate,
            lost_after: never,
            bad_after: never,
            stalls_after: never,
            pause_every: never,
            refuses_before: 0,
        }
    }
}

const TICK: Duration = Duration::from_millis(10);

/// Lets holders serve until all chunks are consumed. Returns how many each gave.
fn run(fixture: &mut Fixture, holders: &[Holder]) -> Vec<u32> {
    let mut given = vec![0; holders.len()];
    let mut asked = vec![0; holders.len()];
    let mut brought: BTreeMap<(u32, usize, Instant), f64> = BTreeMap::new();
    for _ in 0..1_000_000 {
        fixture.drain();
        fixture.consume();
        if fixture.consumed == fixture.end {
            assert_eq!(fixture.drain(), []);
            assert!(fixture.live.is_empty());
            return given;
        }
        fixture.pass(TICK);
        for (source, holder) in holders.iter().enumerate() {
            let chunks = fixture.chunks_at(source);
            let share = holder.rate * TICK.as_millis() as f64 / chunks.len().max(1) as f64;
            for chunk in chunks {
                let began = fixture.live[&(chunk, source)];
                let pause =
                    if (chunk + 1) % holder.pause_every == 0 { MILLISECOND * 300 } else { Duration::ZERO };
                if asked[source] < holder.refuses_before {
                    asked[source] += 1;
                    fixture.fail(chunk, source, Fault::Busy);
                } else if given[source] >= holder.lost_after {
                    fixture.fail(chunk, source, Fault::Unreachable);
                } else if given[source] < holder.stalls_after && fixture.now - began > pause {
                    let so_far = brought.entry((chunk, source, began)).or_default();
                    let more = share.min(CHUNK as f64 - *so_far);
                    *so_far += more;
                    fixture.bytes(chunk, source, more.ceil() as u64);
                    if *so_far < CHUNK as f64 {
                        continue;
                    } else if given[source] >= holder.bad_after {
                        fixture.fail(chunk, source, Fault::Bad);
                    } else {
                        given[source] += 1;
                        fixture.done(chunk, source);
                    }
                }
                fixture.drain();
            }
        }
    }
    panic!("no end: {holders:?}");
}

#[derive(Clone, Debug)]
enum Event {
    Bytes(usize, u64),
    Done(usize),
    Fail(usize, Fault),
    Consume,
    Source,
    Pass(u64),
    PassUnheard(u64),
    Unknown(u32, usize),
}

fn event() -> impl Strategy<Value = Event> {
    let fault =
        prop::sample::select(vec![Fault::Gone, Fault::Bad, Fault::Stalled, Fault::Unreachable, Fault::Busy]);
    prop_oneof![
        6 => (any::<usize>(), 0..CHUNK).prop_map(|(at, bytes)| Event::Bytes(at, bytes)),
        6 => any::<usize>().prop_map(Event::Done),
        3 => (any::<usize>(), fault).prop_map(|(at, fault)| Event::Fail(at, fault)),
        4 => Just(Event::Consume),
        1 => Just(Event::Source),
        3 => (0_u64..700).prop_map(Event::Pass),
        1 => (0_u64..3000).prop_map(Event::PassUnheard),
        1 => (0_u32..50, 0_usize..9).prop_map(|(chunk, source)| Event::Unknown(chunk, source)),
    ]
}

fn apply(fixture: &mut Fixture, event: &Event) {
    let pick = |at: usize| fixture.live.keys().nth(at % fixture.live.len().max(1)).copied();
    match *event {
        Event::Bytes(at, bytes) => {
            if let Some((chunk, source)) = pick(at) {
                fixture.bytes(chunk, source, bytes);
            }
        }
        Event::Done(at) => {
            if let Some((chunk, source)) = pick(at) {
                fixture.done(chunk, source);
            }
        }
        Event::Fail(at, fault) => {
            if let Some((chunk, source)) = pick(at) {
                fixture.fail(chunk, source, fault);
            }
        }
        Event::Consume => fixture.consume(),
        Event::Source if fixture.sources < 8 => {
            assert_eq!(fixture.scheduler.handle_source(), fixture.sources);
            fixture.sources += 1;
        }
        Event::Source => {}
        Event::Pass(millis) => drop(fixture.pass(MILLISECOND * millis as u32)),
        Event::PassUnheard(millis) => fixture.now += MILLISECOND * millis as u32,
        Event::Unknown(chunk, source) => {
            if !fixture.live.contains_key(&(chunk, source)) {
                fixture.bytes(chunk, source, 1);
                fixture.scheduler.handle_failed(chunk, source, Fault::Bad, fixture.now);
            }
        }
    }
}

proptest! {
    /// What must never be wanted, `Fixture::drain` refuses.
    #[test]
    fn whatever_happens_all_chunks_are_done_or_the_origins(
        end in 0_u32..40,
        sources in 0_usize..5,
        window in 0_u32..12,
        events in prop::collection::vec(event(), 0..200),
        dead: bool,
    ) {
        let mut fixture = Fixture::new(end, sources, window.max(1));
        fixture.scheduler = Scheduler::new(0..end, sources, window, fixture.now);
        fixture.drain();
        for event in &events {
            apply(&mut fixture, event);
            fixture.drain();
        }
        // From now on either all sources deliver or none does.
        for _ in 0..1000 {
            fixture.consume();
            fixture.drain();
            if fixture.consumed == end {
                break;
            }
            match fixture.live.keys().next().copied() {
                Some((chunk, source)) if !dead => fixture.done(chunk, source),
                _ => drop(fixture.pass(STALL)),
            }
        }
        prop_assert_eq!(fixture.consumed, end, "it hangs");
        fixture.drain();
        prop_assert!(fixture.live.is_empty());
        prop_assert_eq!(fixture.scheduler.deadline(), None);
    }

    #[test]
    fn holders_of_any_kind_together_bring_all(
        holders in prop::collection::vec(
            (1.0_f64..60.0, 0_u32..30, 0_u32..30, 0_u32..30, 1_u32..20, 0_u32..5).prop_map(
                |(rate, lost_after, bad_after, stalls_after, pause_every, refuses_before)| Holder {
                    lost_after,
                    bad_after,
                    stalls_after,
                    pause_every,
                    refuses_before,
                    ..Holder::rate(rate)
                },
            ),
            0..5,
        ),
        end in 0_u32..60,
        window in 1_u32..16,
    ) {
        let mut fixture = Fixture::new(end, holders.len(), window);
        let given = run(&mut fixture, &holders);
        let from_sources = end - fixture.from_origin.len() as u32;
        prop_assert!(given.iter().sum::<u32>() >= from_sources);
    }
}
