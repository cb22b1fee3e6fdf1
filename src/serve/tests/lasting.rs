//! Purges against what is on disk: reads in flight, segments that are used again, and starts after which stored versions and the
//! purge log come from files.

use super::races::{Trial, page, seeds, trials};
use super::stage::*;
use crate::proto::purge::Mode;
use crate::store::disk::hooked::{Hook, Hooked};
use crate::task::Spawner;
use futures_util::future::join_all;
use http::Method;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Trials of one run, unless `SHOAL_TRIALS` says another number.
const TRIALS: u64 = 120;
/// Pages of one node, each a trial.
const PAGES: u64 = 20;
/// Lives of one node.
const LIVES: u32 = 3;
/// Time of a life, as the node's clock has it.
const LIFE: Duration = Duration::from_secs(5);
/// Longest wait for a node's tasks.
const STOP: Duration = Duration::from_secs(10);

/// Files that are never read at once, so that every read of them is in flight for a while.
#[derive(Clone)]
struct Unhurried;

impl Hook for Unhurried {
    fn reads_now(&self) -> bool {
        false
    }
}

/// One life of a node: its pages are asked for and purged at random.
async fn live(trials: &[Trial], random: &mut StdRng) {
    let mut acts = Vec::new();
    for trial in trials {
        for _ in 0..random.random_range(1..5) {
            let wait = Duration::from_millis(random.random_range(0..100));
            acts.push((trial, wait, None));
        }
        if random.random_bool(0.5) {
            let selector = trial.selector(random);
            let wait = Duration::from_millis(random.random_range(0..100));
            acts.push((trial, wait, Some(selector)));
        }
    }
    join_all(acts.into_iter().map(async |(trial, wait, selector)| {
        tokio::time::sleep(wait).await;
        if let Some(selector) = selector {
            trial.purge(selector).await;
        }
        trial.client(Method::GET, &[]).await;
    }))
    .await;
}

/// A node with a disk, which stops and starts again.
async fn run(first: u64) {
    let mut random = StdRng::seed_from_u64(first);
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::new();
    let mode = Mode::ALL[random.random_range(0..2)];
    let path = |number| format!("/t{first}/{number}");
    for number in 0..PAGES {
        origin.put(&path(number), page(&path(number), &mut random));
    }
    let mut floors: Vec<u64> = vec![0; PAGES as usize];
    for life in 0..LIVES {
        let spawner = Spawner::current().child();
        let making = Making {
            memory: if random.random_bool(0.5) { 1 << 20 } else { 64 << 20 },
            disk: Some((folder.path(), Hooked::new(Unhurried))),
            spawner: spawner.clone(),
            at: LIFE * life,
            ..Making::plain()
        };
        let stage = Stage::before(&origin, making).await;
        let trial = |(number, floor): (usize, &u64)| Trial {
            stage: stage.clone(),
            path: path(number as u64),
            mode,
            floor: AtomicU64::new(*floor),
            seed: first,
        };
        let trials: Vec<_> = floors.iter().enumerate().map(trial).collect();
        live(&trials, &mut random).await;
        floors = trials.iter().map(|trial| trial.floor.load(Ordering::SeqCst)).collect();
        // Half of the lives end in the midst of everything.
        if random.random_bool(0.5) {
            stage.settle().await;
        }
        stage.node().store.close().await;
        drop((trials, stage));
        spawner.stop(STOP).await;
    }
}

#[tokio::test]
async fn purges_outlast_the_node_and_reach_what_is_read_from_disk() {
    let seeds = seeds(trials(TRIALS).div_ceil(PAGES));
    println!("SHOAL_SEED={} and {} more", seeds.start, seeds.end - seeds.start - 1);
    for first in seeds {
        run(first).await;
    }
}
