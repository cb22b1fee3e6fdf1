//! Purges against what is on disk: reads in flight, segments that are used again, and starts after which stored versions and the
//! purge log come from files.

use super::races::{Trial, page, seeds, trials};
use super::stage::*;
use crate::proto::purge::Mode;
use crate::store::disk::{Folder, Storage};
use crate::store::{Device, FileDevice};
use crate::task::Spawner;
use futures_util::future::join_all;
use http::Method;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::io::{self, IoSliceMut};
use std::path::Path;
use std::sync::Arc;
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
struct Unhurried;

struct UnhurriedFolder(Box<dyn Folder>);

struct UnhurriedStorage(Arc<dyn Storage>);

impl Device for Unhurried {
    fn open_folder(&self, path: &Path) -> io::Result<Box<dyn Folder>> {
        Ok(Box::new(UnhurriedFolder(FileDevice.open_folder(path)?)))
    }
}

impl Folder for UnhurriedFolder {
    fn names(&self) -> io::Result<Vec<String>> {
        self.0.names()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Storage>> {
        Ok(Arc::new(UnhurriedStorage(self.0.open(name)?)))
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn Storage>> {
        Ok(Arc::new(UnhurriedStorage(self.0.create(name, size)?)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
}

impl Storage for UnhurriedStorage {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read(&self, parts: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<()> {
        self.0.read(parts, offset)
    }

    fn read_now(&self, _parts: &mut [IoSliceMut<'_>], _offset: u64) -> bool {
        false
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
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
            disk: Some((folder.path(), Arc::new(Unhurried))),
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
