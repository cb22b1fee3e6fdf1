//! The store with a disk: restarts, damage, reuse, and writes that take long.

use super::gate::Gate;
use super::*;
use crate::store::disk::hooked::Hooked;
use crate::store::index::Probe;

const DISK: u64 = 64 * MIB;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

/// Waits until the disk has taken all that is queued.
pub(super) async fn written(store: &Store) {
    while store.usage().disk.is_some_and(|disk| disk.queued > 0) {
        tokio::task::yield_now().await;
    }
    // `queued` falls before the index is told; what was told last is told by the same thread.
    let unwritten = |store: &Store| store.0.index.queued();
    while unwritten(store) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_what_was_written() {
    let folder = folder();
    let store = open(with_disk(0, &folder, DISK)).await;
    for length in LENGTHS {
        put(&store, &format!("/{length}"), length, length).await;
    }
    let values = |value| [("accept", value), ("x-shop", "1")];
    for (seed, value) in ["html", "json"].into_iter().enumerate() {
        fill(&store, varying("/varies", seed as u64, &values(value)), &body(seed as u64, MIB)).await.unwrap();
    }
    store.close().await;
    drop(store);
    let store = open(with_disk(0, &folder, DISK)).await;
    for length in LENGTHS {
        assert!(has(&store, &format!("/{length}"), length).await, "{length} bytes");
    }
    let names = [http::header::ACCEPT, HeaderName::from_static("x-shop")];
    assert_eq!(store.vary(object("/varies")).unwrap().names(), names);
    for (seed, value) in ["html", "json"].into_iter().enumerate() {
        let hit = find_variant(&store, "/varies", &values(value)).await.unwrap();
        assert_eq!((hit.tier, read(&hit).await.unwrap()), (Tier::Disk, body(seed as u64, MIB)));
    }
    assert_eq!(find_variant(&store, "/varies", &values("xml")).await.err(), Some(MissReason::Vary));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finds_the_newest_and_no_fill_that_was_not_sealed() {
    let folder = folder();
    let store = open(with_disk(16 * MIB, &folder, DISK)).await;
    put(&store, "/a", 1, 10).await;
    put(&store, "/a", 2, MIB).await;
    put(&store, "/b", 3, MIB).await;
    put(&store, "/b", 4, 10).await;
    let hit = find(&store, "/b").await.unwrap();
    let mut newer = hit.head.to_draft().unwrap();
    newer.received = Wall::from_secs(1_950_000_000);
    store.refresh(&hit, newer).await;
    let mut filling = store.begin(draft("/b", 5));
    filling.append(&body(5, 2 * MIB)).await;
    store.close().await;
    drop((filling, hit));
    drop(store);
    let store = open(with_disk(16 * MIB, &folder, DISK)).await;
    assert!(has(&store, "/a", 2).await && has(&store, "/b", 4).await);
    assert_eq!(find(&store, "/b").await.unwrap().head.received, Wall::from_secs(1_950_000_000));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_invalidated_stays_away_after_a_restart() {
    let folder = folder();
    let store = open(with_disk(16 * MIB, &folder, DISK)).await;
    put(&store, "/a", 1, 10).await;
    put(&store, "/b", 2, MIB).await;
    put(&store, "/c", 3, 10).await;
    assert!(store.invalidate(object("/a")).await && store.invalidate(object("/b")).await);
    put(&store, "/b", 4, MIB).await;
    store.close().await;
    drop(store);
    let store = open(with_disk(16 * MIB, &folder, DISK)).await;
    assert!(find(&store, "/a").await.is_none());
    assert!(has(&store, "/b", 4).await && has(&store, "/c", 3).await);
    store.close().await;
}

/// An older version is on disk, the newer is nowhere any more: the index knows nothing of the object,
/// and must still make sure that the older does not come back after an invalidation.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_left_the_index_is_invalidated_on_disk_too() {
    let folder = folder();
    let store = open(with_disk(0, &folder, DISK)).await;
    put(&store, "/a", 1, 10).await;
    written(&store).await;
    let Probe::OnDisk(located) = store.0.index.probe(object("/a"), None) else { panic!("on disk") };
    store.0.index.forget(object("/a"), located.anchor, Departure::Damaged);
    assert_eq!(store.usage().index.forgotten, 1);
    assert!(!store.invalidate(object("/a")).await);
    assert_eq!(store.usage().index.forgotten, 0);
    store.close().await;
    drop(store);
    let store = open(with_disk(0, &folder, DISK)).await;
    assert!(find(&store, "/a").await.is_none());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_hit_is_promoted_and_goes_back_to_a_lean_entry() {
    let folder = folder();
    let store = open(with_disk(16 * MIB, &folder, DISK)).await;
    put(&store, "/a", 1, 1000).await;
    written(&store).await;
    let hit = find(&store, "/a").await.unwrap();
    assert_eq!((hit.tier, store.usage().index.objects_lean), (Tier::Memory, 0));
    drop(hit);
    let Probe::Held { stay: Some(stay), .. } = store.0.index.probe(object("/a"), None) else {
        panic!("in memory")
    };
    store.0.index.evict_head(object("/a"), stay);
    assert_eq!((store.usage().memory, store.usage().index.objects_lean), (0, 1));
    assert_eq!(find(&store, "/a").await.unwrap().tier, Tier::Disk);
    assert_eq!(find(&store, "/a").await.unwrap().tier, Tier::Memory);
    assert!(has(&store, "/a", 1).await);
    // The second eviction is for a stay that is over.
    store.0.index.evict_head(object("/a"), stay);
    assert_eq!(find(&store, "/a").await.unwrap().tier, Tier::Memory);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_a_miss_and_forgotten() {
    let folder = folder();
    let store = open(with_disk(0, &folder, DISK)).await;
    put(&store, "/a", 1, 60_000).await;
    put(&store, "/b", 2, MIB).await;
    written(&store).await;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
        std::fs::write(&path, bytes).unwrap();
    }
    for path in ["/a", "/b"] {
        assert!(find(&store, path).await.is_none());
        assert!(matches!(
            store.lookup(object(path), &[], |_| VariantId::default()),
            Lookup::Miss(MissReason::Uri)
        ));
    }
    assert_eq!(store.usage().index.departed(Departure::Damaged), 2);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_memory_refused_is_readable_while_it_waits_for_the_disk() {
    let folder = folder();
    let gate = Gate::default();
    let device = Hooked::new(gate.clone());
    let store = open_on(with_disk(0, &folder, DISK), device).await;
    gate.close();
    for length in [10, MIB] {
        put(&store, &format!("/{length}"), length, length).await;
    }
    for length in [10, MIB] {
        let path = format!("/{length}");
        assert_eq!(find(&store, &path).await.unwrap().tier, Tier::Memory);
        assert!(has(&store, &path, length).await);
        assert!(store.inspect(object(&path))[0].records.iter().all(|at| at.queued && !at.memory));
    }
    gate.open();
    written(&store).await;
    for length in [10, MIB] {
        let path = format!("/{length}");
        assert_eq!(find(&store, &path).await.unwrap().tier, Tier::Disk);
        assert!(has(&store, &path, length).await);
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_refreshed_before_it_was_written_is_there_after_a_restart() {
    let folder = folder();
    let gate = Gate::default();
    let device = Hooked::new(gate.clone());
    let store = open_on(with_disk(0, &folder, DISK), device).await;
    gate.close();
    let mut filling = store.begin(draft("/a", 1));
    filling.append(&body(1, MIB)).await;
    let (mut hit, filing) = filling.publish().await.unwrap();
    // Once before the first head is queued, and once after.
    for secs in [1_940_000_000, 1_950_000_000] {
        let newer = HeadDraft { received: Wall::from_secs(secs), ..hit.head.to_draft().unwrap() };
        hit = store.refresh(&hit, newer).await;
    }
    filing.unwrap().queue().await;
    gate.open();
    drop(hit);
    written(&store).await;
    let seal = |store: &Store| store.0.index.has_seal(object("/a"));
    assert!(seal(&store));
    store.close().await;
    drop(store);
    let store = open(with_disk(0, &folder, DISK)).await;
    assert!(seal(&store) && has(&store, "/a", 1).await);
    assert_eq!(find(&store, "/a").await.unwrap().head.received, Wall::from_secs(1_950_000_000));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_waits_for_its_record_behind_those_of_the_object() {
    let folder = folder();
    let gate = Gate::default();
    let device = Hooked::new(gate.clone());
    let store = open_on(with_disk(0, &folder, DISK), device).await;
    gate.close();
    put(&store, "/a", 1, 10).await;
    let mut invalidation = Box::pin(store.invalidate(object("/a")));
    assert!(futures_util::poll!(&mut invalidation).is_pending());
    assert!(find(&store, "/a").await.is_none());
    gate.open();
    assert!(invalidation.await);
    store.close().await;
    drop(store);
    let store = open(with_disk(0, &folder, DISK)).await;
    assert!(find(&store, "/a").await.is_none());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_whose_caller_left_is_written_all_the_same() {
    let folder = folder();
    let gate = Gate::default();
    let device = Hooked::new(gate.clone());
    let store = open_on(with_disk(0, &folder, DISK), device).await;
    put(&store, "/a", 1, 10).await;
    written(&store).await;
    gate.close();
    assert!(futures_util::poll!(Box::pin(store.invalidate(object("/a")))).is_pending());
    gate.open();
    store.close().await;
    drop(store);
    let store = open(with_disk(0, &folder, DISK)).await;
    assert!(find(&store, "/a").await.is_none());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_body_streams_through_little_memory() {
    let folder = folder();
    let store = open(with_disk(3 * MIB, &folder, 256 * MIB)).await;
    let length = 40 * MIB + 5;
    let bytes = body(1, length);
    let mut filling = store.begin(HeadDraft { length: Some(length), ..draft("/a", 1) });
    let partial = filling.partial();
    for (at, piece) in bytes.chunks(MIB as usize).enumerate() {
        filling.append(piece).await;
        let usage = store.usage();
        assert!(usage.memory <= usage.memory_bound);
        let disk = usage.disk.unwrap();
        // One slice is let in beyond the bound.
        assert!(disk.queued <= disk.queue_limit + (1 << 20));
        let record = layout::record_at(at as u64 * MIB + MIB / 2);
        if !filling.is_lost() && piece.len() as u64 == MIB {
            let span = layout::record_span(record);
            assert_eq!(partial.record(record).await.unwrap(), bytes[span.start as usize..span.end as usize]);
        }
    }
    let hit = filling.seal().await.unwrap();
    assert_eq!(read(&hit).await.unwrap(), bytes);
    drop((hit, partial));
    assert!(has(&store, "/a", 1).await);
    assert!(store.usage().memory <= store.usage().memory_bound);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_written_many_times_over_has_right_bytes_or_none() {
    let folder = folder();
    let store = open(with_disk(3 * MIB, &folder, 8 * MIB)).await;
    put(&store, "/hot", 0, 50_000).await;
    put(&store, "/hot-and-large", 1, MIB).await;
    let mut hot_found = 0;
    for seed in 2..250u64 {
        let length = [100, 5000, 60_000, 200_000][(seed % 4) as usize];
        put(&store, &format!("/{seed}"), seed, length).await;
        hot_found += u64::from(has(&store, "/hot", 0).await);
        if let Some(hit) = find(&store, "/hot-and-large").await
            && let Ok(bytes) = read(&hit).await
        {
            assert_eq!(bytes, body(1, MIB));
        }
    }
    assert!(store.usage().disk.unwrap().reclaimed_segments > 0);
    assert!(hot_found > 200, "what is asked for is kept: {hot_found} of 248");
    let check = async |store: &Store| {
        let mut found = 0;
        for seed in 2..250u64 {
            let path = format!("/{seed}");
            let Some(hit) = find(store, &path).await else { continue };
            let Ok(bytes) = read(&hit).await else { continue };
            assert_eq!(bytes, body(seed, bytes.len() as u64));
            found += 1;
        }
        found
    };
    written(&store).await;
    assert!(check(&store).await > 10);
    store.close().await;
    drop(store);
    let store = open(with_disk(3 * MIB, &folder, 8 * MIB)).await;
    assert!(check(&store).await > 10);
    store.close().await;
}

/// Many threads, few objects: whoever finds a body finds all of one, and never one whose fill
/// had begun when an invalidation that has returned was called.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_never_see_mixed_or_invalidated_bodies() {
    use parking_lot::Mutex;
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicU64, Ordering};
    const PATHS: [&str; 3] = ["/a", "/b", "/c"];

    #[derive(Default)]
    struct Seen {
        seeds: AtomicU64,
        begun: [Mutex<HashSet<u64>>; 3],
        dead: [Mutex<HashSet<u64>>; 3],
    }
    let folder = folder();
    let store = open(with_disk(4 * MIB, &folder, 16 * MIB)).await;
    let seen = Arc::new(Seen::default());
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..4usize {
        let (store, seen) = (store.clone(), seen.clone());
        tasks.spawn(async move {
            for round in 0..120 {
                let at = (worker + round / 3) % PATHS.len();
                let path = PATHS[at];
                match (worker * 7 + round * 5) % 11 {
                    0..=3 => {
                        let seed = seen.seeds.fetch_add(1, Ordering::Relaxed);
                        let length = [500, 70_000, 600_000][(seed % 3) as usize];
                        let mut filling = store.begin(draft(path, seed));
                        seen.begun[at].lock().insert(seed);
                        filling.append(&body(seed, length)).await;
                        let sealed = filling.seal().await;
                        assert!(!matches!(sealed, Err(SealError::Length { .. })));
                    }
                    4 => {
                        let begun = seen.begun[at].lock().clone();
                        store.invalidate(object(path)).await;
                        seen.dead[at].lock().extend(begun);
                    }
                    _ => {
                        let dead = seen.dead[at].lock().clone();
                        let Some(hit) = find(&store, path).await else { continue };
                        let seed = hit.head.position.get().0;
                        assert!(!dead.contains(&seed), "{seed} was invalidated");
                        if let Ok(bytes) = read(&hit).await {
                            assert_eq!(bytes, body(seed, bytes.len() as u64));
                        }
                    }
                }
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    store.close().await;
    drop(store);
    let store = open(with_disk(4 * MIB, &folder, 16 * MIB)).await;
    for (at, path) in PATHS.into_iter().enumerate() {
        if let Some(hit) = find(&store, path).await {
            let seed = hit.head.position.get().0;
            assert!(!seen.dead[at].lock().contains(&seed), "{seed} came back");
            assert_eq!(read(&hit).await.unwrap(), body(seed, hit.head.length.unwrap()));
        }
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unwritable_disk_leaves_what_memory_has() {
    let folder = folder();
    let store = open(with_disk(16 * MIB, &folder, DISK)).await;
    store.close().await;
    let hit = put(&store, "/a", 1, MIB).await;
    drop(hit);
    assert!(has(&store, "/a", 1).await);
    assert!(store.invalidate(object("/a")).await);
    assert!(find(&store, "/a").await.is_none());
}
