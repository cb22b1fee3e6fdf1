//! The bound of the memory tier, and what it does at it.

use super::*;
use crate::store::memory::{ENTRY_OVERHEAD, Spot};
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes that the index holds in memory, as the ledger counts them.
fn counted(store: &Store, paths: &[String]) -> u64 {
    let overhead = ENTRY_OVERHEAD;
    let version = |inspected: Inspected| {
        let length = inspected.length.unwrap_or(0);
        let head = inspected.head.map_or(0, |head| head.weight() as u64 + overhead);
        let slices = inspected.records.iter().enumerate().skip(1).filter(|(_, at)| at.memory);
        let span = |index| layout::record_span_within(index as u32, length);
        head + slices.map(|(index, _)| span(index).end - span(index).start + overhead).sum::<u64>()
    };
    paths.iter().flat_map(|path| store.inspect(object(path))).map(version).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn eight_threads_of_inserts_never_pass_the_bound_and_end_no_tier() {
    let store = open(memory_only(4 * MIB)).await;
    let bound = store.usage().memory_bound;
    let passed = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..8u64 {
        let (store, passed) = (store.clone(), passed.clone());
        tasks.spawn(async move {
            for round in 0..40u64 {
                let seed = worker * 1000 + round;
                let length = [1000, 60_000, 300_000, 700_000][(round % 4) as usize];
                let path = format!("/{seed}");
                if let Ok(hit) = fill(&store, draft(&path, seed), &body(seed, length)).await {
                    assert_eq!(read(&hit).await.unwrap_or_else(|_| body(seed, length)), body(seed, length));
                }
                if store.usage().memory > bound {
                    passed.store(true, Ordering::Relaxed);
                }
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    assert!(!passed.load(Ordering::Relaxed));
    store.0.maintain();
    let paths: Vec<_> =
        (0..8u64).flat_map(|w| (0..40u64).map(move |r| format!("/{}", w * 1000 + r))).collect();
    assert_eq!(store.usage().memory, counted(&store, &paths), "no byte is counted that nothing holds");
    // What is asked for again and again gets in. It is small: moka wants a newcomer's popularity to beat
    // the sum of its victims', and counts no further than 15.
    let mut kept = false;
    for _ in 0..40 {
        kept |= fill(&store, draft("/wanted", 1), &body(1, 500)).await.is_ok();
        store.0.maintain();
        if find(&store, "/wanted").await.is_some() {
            break;
        }
    }
    assert!(kept && has(&store, "/wanted", 1).await);
}

#[tokio::test]
async fn what_moka_refuses_or_evicts_is_neither_counted_nor_found() {
    let store = open(memory_only(3 * MIB)).await;
    let paths: Vec<_> = (0..200).map(|seed| format!("/{seed}")).collect();
    for (seed, path) in paths.iter().enumerate() {
        put(&store, path, seed as u64, 60_000).await;
    }
    store.0.maintain();
    let usage = store.usage();
    assert_eq!(usage.memory, counted(&store, &paths));
    assert!(usage.index.departed(Departure::Memory) > 100);
    assert_eq!(usage.index.objects + usage.index.departed(Departure::Memory), 200);
    let mut found = 0;
    for (seed, path) in paths.iter().enumerate() {
        found += u64::from(has(&store, path, seed as u64).await);
    }
    assert_eq!(found, usage.index.objects);
}

#[tokio::test]
async fn bytes_that_a_client_still_reads_are_counted() {
    let store = open(memory_only(16 * MIB)).await;
    let hit = put(&store, "/a", 1, 10_000).await;
    let body = hit.head.body();
    drop(hit);
    store.invalidate(object("/a")).await;
    assert!(store.usage().memory > 10_000);
    drop(body);
    assert_eq!(store.usage().memory, 0);
}

#[tokio::test]
async fn one_object_takes_at_most_its_share() {
    let store = open(memory_only(4 * MIB)).await;
    let mut filling = store.begin(draft("/a", 1));
    filling.append(&body(1, 4 * MIB)).await;
    assert!(filling.is_lost());
    assert_eq!(filling.seal().await.err(), Some(SealError::Lost));
    let announced = store.begin(HeadDraft { length: Some(4 * MIB), ..draft("/a", 1) });
    assert!(announced.is_lost());
    drop(announced);
    assert_eq!(store.usage().memory, 0);
}

#[tokio::test]
async fn too_little_memory_is_no_tier() {
    let store = open(memory_only(1000)).await;
    assert_eq!(fill(&store, draft("/a", 1), b"x").await.err(), Some(SealError::Lost));
    assert_eq!(store.usage().memory_bound, 0);
}

#[tokio::test]
async fn a_version_without_one_of_its_slices_is_gone_as_a_whole() {
    let store = open(memory_only(16 * MIB)).await;
    let hit = put(&store, "/a", 1, MIB).await;
    let body = hit.body.clone().unwrap();
    let evicted = body.stay(2).unwrap();
    store.0.evict(evicted, Spot::Slice(Arc::downgrade(&body), 2));
    assert!(find(&store, "/a").await.is_none());
    assert_eq!(hit.record(2).await.err(), Some(LoadError::Gone));
    assert_eq!(hit.record(3).await.unwrap().len(), 256 << 10);
    drop((hit, body));
    store.0.settle();
    assert_eq!(store.usage().memory, 0);
}
