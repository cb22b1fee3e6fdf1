//! The tier on real files.

use super::*;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

async fn open_files(path: &Path, size: u64, owner: &Arc<TestOwner>) -> Result<Disk, DiskError> {
    let config = DiskConfig { path: path.to_owned(), size };
    let disk = Disk::open(config, Arc::new(FileDevice), Clock::system(), &Spawner::current(), |found| {
        owner.found(&found);
    })
    .await?;
    let owner: Arc<dyn Owner> = Arc::<TestOwner>::clone(owner);
    disk.start(Arc::downgrade(&owner));
    Ok(disk)
}

fn owner(hot: u8) -> Arc<TestOwner> {
    TestOwner::new(&RamDevice::new(Files::new()), hot)
}

/// Lengths of, and bytes set aside for, all files in a folder.
fn folder_size(path: &Path) -> (u64, u64) {
    let metadata = std::fs::read_dir(path).expect("listed").map(|entry| entry.expect("listed").metadata());
    metadata.fold((0, 0), |(length, blocks), metadata| {
        let metadata = metadata.expect("a file");
        (length + metadata.len(), blocks + metadata.blocks() * 512)
    })
}

#[tokio::test]
async fn the_folder_never_holds_more_than_the_configured_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let size = 3_500_000;
    let owner = owner(6);
    for seed in 0..3 {
        let disk = open_files(folder.path(), size, &owner).await.expect("the store opens");
        let mut most = (0, 0);
        for round in 0..30 {
            workload(&disk, &owner, seed * 100 + round, 200_000, 90_000).await;
            let now = folder_size(folder.path());
            most = (most.0.max(now.0), most.1.max(now.1));
        }
        let usage = disk.usage();
        assert!(usage.reclaimed_segments > 2, "{usage:?}");
        assert!(most.0 <= size && most.1 <= size, "{most:?} of {size}");
        assert!(most.0 > size * 9 / 10, "the size is used: {most:?} of {size}");
        assert_eq!(usage.allocated, most.0);
        assert_eq!((usage.write_errors, usage.read_errors, usage.damaged), (0, 0, 0));
        disk.close().await.expect("closed");
    }
}

#[tokio::test]
async fn after_reopening_the_contents_are_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut before = BTreeMap::new();
    for seed in 60..66 {
        let owner = owner(6);
        let disk = open_files(folder.path(), SMALL, &owner).await.expect("the store opens");
        assert_eq!(contents(&disk, &owner).await, before, "seed {seed}");
        workload(&disk, &owner, seed, 2 << 20, 50_000).await;
        before = contents(&disk, &owner).await;
        disk.close().await.expect("closed");
        // What the owner let go of may still be found: it is in the segment being emptied.
        before = reopened(folder.path(), &before).await;
    }
}

/// Checks that all of `known` is found as it was, and gives all that is found.
async fn reopened(
    path: &Path,
    known: &BTreeMap<[u8; 2], (RecordId, u64)>,
) -> BTreeMap<[u8; 2], (RecordId, u64)> {
    let owner = owner(0);
    let disk = open_files(path, SMALL, &owner).await.expect("the store opens");
    let found = contents(&disk, &owner).await;
    for (key, content) in known {
        assert_eq!(found.get(key), Some(content));
    }
    disk.close().await.expect("closed");
    found
}

#[tokio::test]
async fn an_empty_payload_is_read_as_such() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = open_files(folder.path(), SMALL, &owner(0)).await.expect("the store opens");
    let (sender, receiver) = oneshot::channel();
    let (kind, id) = (RecordKind::Slice, id(1, 1));
    let record =
        NewRecord { kind, id, position: PurgePosition(0), expiry: 0, shared: false, payload: Bytes::new() };
    let done = move |result| sender.send(result).expect("the test waits");
    disk.append(record, done).await.expect("queued");
    let place = receiver.await.expect("told").expect("written");
    assert_eq!(disk.read(place, &id).await.expect("read"), Bytes::new());
    let segment = disk.0.shared.segment(place.segment).expect("it exists");
    let mut header = [0; 96];
    let mut parts = [io::IoSliceMut::new(&mut header), io::IoSliceMut::new(&mut [])];
    segment.file.read(&mut parts, u64::from(place.offset)).expect("read by the slower way too");
}

#[tokio::test]
async fn a_second_process_is_told_which_folder_is_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let owner = owner(0);
    let disk = open_files(folder.path(), SMALL, &owner).await.expect("the store opens");
    let Err(error) = open_files(folder.path(), SMALL, &owner).await else { panic!("two writers") };
    assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
    disk.close().await.expect("closed");
    open_files(folder.path(), SMALL, &owner).await.expect("it is free again");
}

#[tokio::test]
async fn foreign_files_are_left_alone_and_ours_without_a_header_are_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    for name in ["notes.txt", "segment-1", "segment-00000000.old"] {
        std::fs::write(at(name), name).expect("written");
    }
    std::fs::create_dir(at("folder")).expect("made");
    std::fs::write(at("segment-00000005"), vec![1; 5000]).expect("written");
    let owner = owner(0);
    let disk = open_files(folder.path(), SMALL, &owner).await.expect("the store opens");
    workload(&disk, &owner, 3, 1 << 20, 50_000).await;
    disk.close().await.expect("closed");
    for name in ["notes.txt", "segment-1", "segment-00000000.old"] {
        assert_eq!(std::fs::read_to_string(at(name)).expect("it is there"), name);
    }
    assert!(at("folder").is_dir() && !at("segment-00000005").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_during_reclaim_give_the_right_bytes_or_a_miss() {
    let folder = tempfile::tempdir().expect("a folder");
    let owner = owner(6);
    let disk = open_files(folder.path(), SMALL, &owner).await.expect("the store opens");
    let (ended, hits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let spawner = Spawner::current();
    for seed in 0..3 {
        let (disk, owner, ended, hits) =
            (disk.clone(), Arc::clone(&owner), Arc::clone(&ended), Arc::clone(&hits));
        spawner.spawn_graceful(async move {
            let mut random = StdRng::seed_from_u64(seed);
            while !ended.load(Ordering::Relaxed) {
                let id = id(random.random_range(0..24), [0, 1, 9][random.random_range(0..3)]);
                let held = owner.index.lock().get(&id).copied();
                let Some((place, expected)) = held else {
                    tokio::task::yield_now().await;
                    continue;
                };
                if let Ok(bytes) = disk.read(place, &id).await {
                    assert_eq!(nonce(&bytes), expected);
                    hits.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    workload(&disk, &owner, 71, 24 << 20, 60_000).await;
    ended.store(true, Ordering::Relaxed);
    assert!(spawner.drained(std::time::Duration::from_secs(30)).await);
    let usage = disk.usage();
    assert!(hits.load(Ordering::Relaxed) > 100 && usage.reclaimed_segments > 10, "{usage:?}");
}

#[tokio::test]
async fn a_cut_file_is_read_as_far_as_it_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = owner(0);
    let disk = open_files(folder.path(), SMALL, &first).await.expect("the store opens");
    for index in 0..8 {
        put(&disk, &first, id(1, index), u64::from(index), 50_000).await;
    }
    disk.close().await.expect("closed");
    let file =
        std::fs::OpenOptions::new().write(true).open(folder.path().join("segment-00000000")).expect("opened");
    file.set_len(4096 + 3 * 50_112 + 200).expect("cut");
    let second = owner(0);
    let disk = open_files(folder.path(), SMALL, &second).await.expect("the store opens");
    assert_eq!(contents(&disk, &second).await.len(), 3);
    workload(&disk, &second, 5, 6 << 20, 60_000).await;
    assert_eq!((disk.usage().state, disk.usage().segments), (DiskState::Running, 3));
}
