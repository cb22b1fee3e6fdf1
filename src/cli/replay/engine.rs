//! Workers that take requests of a trace in order and put what came of them into a tally.

use super::client::{Attempt, Client};
use super::tally::{Answer, Failure, Tally};
use super::targets::{Target, Targets, Turn};
use crate::clock::Clock;
use crate::net::Tcp;
use crate::task::Spawner;
use crate::workload::{Object, Trace};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Requests in flight at a time, at most.
pub(crate) const CONCURRENCY_MAX: usize = 4096;

/// Times that a request is sent, at most, while no byte of an answer comes.
const SENDS_MAX: u32 = 4;

/// What is asked of whom.
pub(crate) struct Load {
    pub(crate) trace: Arc<Trace>,
    /// At least one.
    pub(crate) targets: Vec<Target>,
    /// Requests in flight at a time.
    pub(crate) concurrency: usize,
    /// The number of requests; the trace starts over when it ends. None: until stopped.
    pub(crate) requests: Option<u64>,
    /// Whose bodies are checked, each byte.
    pub(crate) verify: Verify,
}

/// Whose bodies are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verify {
    /// Nobody's; lengths are checked all the same.
    Nobody,
    /// Each worker's.
    All,
    /// Those of one worker in so many, where checking all would take more time than asking.
    OneIn(usize),
}

impl Verify {
    pub(super) const fn covers(self, worker: usize) -> bool {
        match self {
            Self::Nobody => false,
            Self::All => true,
            Self::OneIn(count) => worker.is_multiple_of(count),
        }
    }
}

/// A load in progress. Its tasks belong to the spawner it was started on.
pub(crate) struct Engine {
    shared: Arc<Shared>,
    workers: Spawner,
}

struct Shared {
    trace: Arc<Trace>,
    targets: Targets,
    clock: Clock,
    started: Instant,
    requests: u64,
    /// The number of the next request.
    next: AtomicU64,
    stopped: CancellationToken,
    /// All targets have refused for too long.
    gave_up: AtomicBool,
    /// Which objects were asked for, and the sum of their sizes.
    asked: Vec<AtomicBool>,
    unique_objects: AtomicU64,
    unique_bytes: AtomicU64,
    tally: Mutex<Tally>,
}

impl Engine {
    /// Starts the workers.
    pub(crate) fn start(load: Load, clock: Clock, spawner: &Spawner) -> Self {
        let asked = load.trace.objects().iter().map(|_| AtomicBool::new(false)).collect();
        let shared = Arc::new(Shared {
            trace: load.trace,
            targets: Targets::new(load.targets),
            clock,
            started: clock.now().mono,
            requests: load.requests.unwrap_or(u64::MAX),
            next: AtomicU64::new(0),
            stopped: CancellationToken::new(),
            gave_up: AtomicBool::new(false),
            asked,
            unique_objects: AtomicU64::new(0),
            unique_bytes: AtomicU64::new(0),
            tally: Mutex::new(Tally::new()),
        });
        let workers = spawner.child();
        for worker in 0..load.concurrency.clamp(1, CONCURRENCY_MAX) {
            let verify = load.verify.covers(worker);
            let client = Client::new(Arc::new(Tcp), clock, shared.targets.list().len(), verify);
            workers.spawn(Worker { shared: shared.clone(), client }.run());
        }
        Self { shared, workers }
    }

    /// Takes no further request; those in flight are finished.
    pub(crate) fn stop(&self) {
        self.shared.stopped.cancel();
    }

    /// Waits until all workers have ended: after the last request, or when stopped. Each request
    /// has deadlines, so this ends.
    pub(crate) async fn finished(&self) {
        while !self.workers.drained(Duration::from_secs(60)).await {}
    }

    /// Looks at what has come so far. Workers wait meanwhile.
    pub(crate) fn tally<T>(&self, look: impl FnOnce(&mut Tally) -> T) -> T {
        look(&mut self.shared.tally.lock())
    }

    /// The distinct objects asked for so far.
    pub(crate) fn unique_objects(&self) -> u64 {
        self.shared.unique_objects.load(Relaxed)
    }

    /// The sum of their sizes.
    pub(crate) fn unique_bytes(&self) -> u64 {
        self.shared.unique_bytes.load(Relaxed)
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.shared.clock.now().mono - self.shared.started
    }

    /// Whether it ended because no target accepted connections.
    pub(crate) fn gave_up(&self) -> bool {
        self.shared.gave_up.load(Relaxed)
    }
}

impl Shared {
    /// The next request's number and object, until the end.
    fn take(&self) -> Option<(u64, Object)> {
        if self.stopped.is_cancelled() {
            return None;
        }
        let number = self.next.fetch_add(1, Relaxed);
        if number >= self.requests {
            return None;
        }
        let requests = self.trace.requests();
        let object_number = requests[(number % requests.len() as u64) as usize] as usize;
        let object = self.trace.objects()[object_number];
        let asked = &self.asked[object_number];
        if !asked.load(Relaxed) && !asked.swap(true, Relaxed) {
            self.unique_objects.fetch_add(1, Relaxed);
            self.unique_bytes.fetch_add(object.size, Relaxed);
        }
        Some((number, object))
    }

    /// Waits for a target that may be asked.
    async fn next_target(&self, turn: u64) -> Result<usize, Failure> {
        loop {
            match self.targets.turn(turn, self.clock.now().mono) {
                Turn::Ask(index) => return Ok(index),
                Turn::Wait(time) => {
                    tokio::select! {
                        () = tokio::time::sleep(time) => {}
                        () = self.stopped.cancelled() => return Err(Failure::Unreachable),
                    }
                }
                Turn::GiveUp => {
                    self.gave_up.store(true, Relaxed);
                    self.stopped.cancel();
                    return Err(Failure::Unreachable);
                }
            }
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    client: Client,
}

impl Worker {
    async fn run(mut self) {
        while let Some((number, object)) = self.shared.take() {
            let started = self.shared.clock.now().mono;
            let result = self.request(number, object, started).await;
            let mut tally = self.shared.tally.lock();
            match result {
                Ok(answer) => tally.answered(&answer),
                Err(failure) => tally.failed(&failure, || format!("{}?size={}", object.path(), object.size)),
            }
        }
    }

    /// Asks one target after the other while none has begun to answer.
    async fn request(&mut self, number: u64, object: Object, started: Instant) -> Result<Answer, Failure> {
        let mut sends = 0;
        loop {
            let index = self.shared.next_target(number + u64::from(sends)).await?;
            let shared = &self.shared;
            let target = &shared.targets.list()[index];
            let attempt = self.client.attempt(index, target, object).await;
            let now = shared.clock.now().mono;
            if matches!(attempt, Attempt::Refused) {
                shared.targets.refused(index, now);
                continue;
            }
            shared.targets.accepted(index);
            match attempt {
                Attempt::Done { seen, bytes, head_at } => {
                    return Ok(Answer { seen, bytes, head: head_at - started, whole: now - started });
                }
                Attempt::Wrong(failure) => return Err(failure),
                Attempt::Cut if self.client.has_died(target).await => return Err(Failure::Interrupted),
                Attempt::Cut => return Err(Failure::Cut),
                Attempt::NoByte | Attempt::Refused => {
                    sends += 1;
                    if sends == SENDS_MAX {
                        return Err(Failure::NoAnswer);
                    }
                    shared.tally.lock().retried += 1;
                }
            }
        }
    }
}
