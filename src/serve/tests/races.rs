//! Purges against everything that can be in progress: clients, peers, validations, refreshes and POSTs at random times. After a
//! purge has returned, nobody who asks later may get a version from before.

use super::stage::*;
use crate::proto::purge::{Mode, Selector};
use crate::proto::verdict::Verdict;
use crate::proto::wire::{ask, reply};
use futures_util::future::{BoxFuture, join_all};
use http::{Method, StatusCode};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Trials of one run, unless `SHOAL_TRIALS` says another number.
const TRIALS: u64 = 600;
/// Trials that one node lives through: purges of one stay in force in the next.
const TRIALS_OF_A_NODE: u64 = 100;
/// In which all of a trial begins.
const SPAN_MS: u64 = 60;

pub(super) fn trials(of: u64) -> u64 {
    std::env::var("SHOAL_TRIALS").ok().map_or(of, |count| count.parse().expect("SHOAL_TRIALS is a number"))
}

/// The seeds to run: one that is given, or so many from a random one on.
pub(super) fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("SHOAL_SEED") {
        Ok(seed) => {
            let seed: u64 = seed.parse().expect("SHOAL_SEED is a number");
            seed..seed + 1
        }
        Err(_) => {
            let first = rand::random::<u64>() >> 1;
            first..first + count
        }
    }
}

/// One page and its purges.
pub(super) struct Trial {
    pub(super) stage: Stage,
    pub(super) path: String,
    pub(super) mode: Mode,
    /// The version as of which the last purge that returned was.
    pub(super) floor: AtomicU64,
    pub(super) seed: u64,
}

impl Trial {
    /// Something by which the page is purged.
    pub(super) fn selector(&self, random: &mut StdRng) -> Selector {
        let (site, host) = ("shop".to_owned(), HOST.to_owned());
        let cut = random.random_range(1..=self.path.len());
        match random.random_range(0..12) {
            0..=3 => url(&self.path),
            4 | 5 => Selector::Prefix { site, host, path: self.path[..cut].to_owned() },
            6..=8 => tag("one"),
            9 => Selector::Host { site, host },
            10 => Selector::Site { site },
            _ => Selector::All,
        }
    }

    pub(super) async fn purge(&self, selector: Selector) {
        let version = self.stage.origin.change(&self.path, |page| {
            page.version += 1;
            page.version
        });
        self.stage.purge(self.mode, selector).await;
        self.floor.fetch_max(version, Ordering::SeqCst);
    }

    fn check(&self, floor: u64, version: u64, what: &dyn std::fmt::Debug) {
        assert!(
            version >= floor,
            "SHOAL_SEED={}: version {version} after the purge of {floor}: {what:?}",
            self.seed
        );
    }

    pub(super) async fn client(&self, method: Method, fields: &[(&'static str, &str)]) {
        let floor = self.floor.load(Ordering::SeqCst);
        let Ok(got) = self.stage.ask(method, &self.path, fields).await else { return };
        let bears_stale = matches!(got.verdict, Verdict::StaleWhileRevalidate | Verdict::StaleIfError);
        let is_answer =
            matches!(got.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED);
        if is_answer && !(bears_stale && self.mode == Mode::Soft) {
            self.check(floor, got.version(), &got);
        }
    }

    async fn peer(&self, ask: ask::Kind) {
        let floor = self.floor.load(Ordering::SeqCst);
        let (Some(reply::Kind::Head(head)), bytes) = self.stage.ask_as_peer(ask).await else { return };
        let field = |field: &&crate::proto::wire::Field| field.name == "x-version";
        let value = &head.fields.iter().find(field).expect("a version").value;
        let version = std::str::from_utf8(value).unwrap().parse().unwrap();
        self.check(floor, version, &head);
        assert!(bytes == body(version, bytes.len()), "SHOAL_SEED={}: mixed", self.seed);
    }

    /// Somebody who asks at a random time.
    fn asker<'a>(&'a self, random: &mut StdRng) -> BoxFuture<'a, ()> {
        let wait = Duration::from_millis(random.random_range(0..SPAN_MS));
        let kind = random.random_range(0..14);
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            match kind {
                0..=4 => self.client(Method::GET, &[]).await,
                5 => self.client(Method::GET, &[("range", "bytes=0-4")]).await,
                6 => self.client(Method::GET, &[("range", "bytes=8-"), ("if-range", "\"1\"")]).await,
                7 => self.client(Method::HEAD, &[]).await,
                8 => self.client(Method::POST, &[]).await,
                9 => self.client(Method::GET, &[("if-none-match", "\"1\"")]).await,
                10 => self.client(Method::GET, &[("cookie", "a=1")]).await,
                11 => self.peer(ask::Kind::Open(open(&self.path))).await,
                _ => self.peer(ask::Kind::Read(read(&self.path))).await,
            }
        })
    }
}

/// A page that may be stored, in many ways.
pub(super) fn page(path: &str, random: &mut StdRng) -> Page {
    const CONTROLS: [&str; 5] = [
        "max-age=600",
        "max-age=0, stale-while-revalidate=600",
        "max-age=600, stale-while-revalidate=600, stale-if-error=600",
        "s-maxage=600",
        "max-age=0",
    ];
    let control = CONTROLS[random.random_range(0..CONTROLS.len())];
    let fields =
        format!("cache-control: {control}\r\nsurrogate-key: two one\r\ncontent-location: {path}\r\n");
    let mut wait = || Duration::from_millis(random.random_range(0..SPAN_MS / 2));
    let waits = [wait(), wait()];
    let etag = random.random_bool(0.8);
    let length = if random.random_bool(0.2) { 300_000 } else { random.random_range(0..40) };
    Page { etag, length, waits, ..Page::new(&fields) }
}

async fn run(stage: &Stage, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let path = format!("/t{seed}/x");
    stage.origin.put(&path, page(&path, &mut random));
    let mode = Mode::ALL[random.random_range(0..2)];
    let trial = Trial { stage: stage.clone(), path, mode, floor: AtomicU64::new(0), seed };
    if random.random_bool(0.6) {
        trial.client(Method::GET, &[]).await;
        if random.random_bool(0.5) {
            stage.settle().await;
        }
    }
    let mut acts: Vec<_> = (0..random.random_range(3..9)).map(|_| trial.asker(&mut random)).collect();
    for _ in 0..random.random_range(1..4) {
        let wait = Duration::from_millis(random.random_range(0..SPAN_MS));
        let (selector, breaks) = (trial.selector(&mut random), random.random_bool(0.1));
        let is_other = random.random_bool(0.2);
        let trial = &trial;
        acts.push(Box::pin(async move {
            tokio::time::sleep(wait).await;
            if is_other {
                return stage.purge(Mode::Hard, url("/another")).await;
            }
            trial.purge(selector).await;
            if breaks {
                stage.origin.change(&trial.path, |page| page.down = true);
            }
            // Who asks at once.
            trial.client(Method::GET, &[]).await;
        }));
    }
    join_all(acts).await;
    trial.client(Method::GET, &[]).await;
    stage.settle().await;
    stage.origin.change(&trial.path, |page| page.down = false);
    trial.client(Method::GET, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_purge_nobody_gets_what_was_before() {
    let seeds = seeds(trials(TRIALS));
    println!("SHOAL_SEED={} and {} more", seeds.start, seeds.end - seeds.start - 1);
    let mut random = StdRng::seed_from_u64(seeds.start);
    let (mut overtaken, mut met) = (0, 0);
    for first in seeds.clone().step_by(TRIALS_OF_A_NODE as usize) {
        // Little memory lets go of what was stored a moment ago.
        let memory = if random.random_bool(0.3) { 2 << 20 } else { 64 << 20 };
        let stage = Stage::before(&Origin::new(), Making { memory, ..Making::plain() }).await;
        for seed in first..seeds.end.min(first + TRIALS_OF_A_NODE) {
            run(&stage, seed).await;
        }
        overtaken += stage.node().metrics.purges.fills.get();
        met += stage.node().metrics.purges.meets.get();
    }
    let count = seeds.end - seeds.start;
    println!("{count} trials: {overtaken} fetches overtaken, {met} times a stored version was met");
    assert!(count < 100 || (overtaken > count / 10 && met > count / 10), "the trials try too little");
}
