//! The rules of the doors: what is refused, what waits, what is kept.

use super::ram_device::{Event, Fault};
use super::*;
use crate::proto::segment::{HEADER_BLOCK, MAJOR, SegmentHeader, StoreId};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

fn poll_once<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn record(payload: Bytes) -> NewRecord {
    NewRecord {
        kind: RecordKind::Slice,
        id: id(1, 1),
        position: PurgePosition(1),
        expiry: 0,
        shared: false,
        payload,
    }
}

/// A store without a writer.
async fn unstarted(device: &RamDevice<Mark>) -> Disk {
    Disk::open(config(SMALL), Arc::new(device.clone()), Clock::system(), &Spawner::current(), |_| {})
        .await
        .expect("the store opens")
}

#[tokio::test]
async fn a_full_queue_makes_appends_wait_and_closing_refuses_them() {
    let device = RamDevice::new(Files::new());
    let disk = unstarted(&device).await;
    let (sender, mut told) = mpsc::channel(64);
    let large = payload(1, 500 << 10);
    let mut queued = 0;
    loop {
        let sender = sender.clone();
        let done = move |result| sender.try_send(result).expect("room for all");
        let mut append = pin!(disk.append(record(large.clone()), done));
        match poll_once(append.as_mut()) {
            Poll::Ready(result) => result.expect("there is room"),
            Poll::Pending => {
                disk.close().await.expect("closed");
                assert_eq!(append.await, Err(AppendError::Closed));
                break;
            }
        }
        queued += 1;
        let usage = disk.usage();
        assert!(usage.queued >= queued * large.len() as u64 && usage.queued <= usage.queue_limit);
    }
    drop(sender);
    let mut refused = 0;
    while let Some(result) = told.recv().await {
        assert_eq!(result, Err(AppendError::Closed), "each that was queued is told");
        refused += 1;
    }
    assert_eq!(refused, queued);
    assert!(queued > 30);
    assert_eq!(disk.append(record(large), |_| {}).await, Err(AppendError::Closed));
    assert!(matches!(
        disk.read(Place { segment: 0, offset: 4096, length: 100 }, &id(1, 1)).await,
        Err(ReadError::Closed)
    ));
}

#[tokio::test]
async fn what_is_queued_before_the_start_is_written_and_close_waits_for_it() {
    let device = RamDevice::new(Files::new());
    let disk = unstarted(&device).await;
    let owner = TestOwner::new(&device, 0);
    let mut waiting = Vec::new();
    for object in 0..20 {
        waiting.push(begin(&disk, &owner, Op::Put(id(object, 1), u64::from(object)), 1000).await);
    }
    let weak: Weak<dyn Owner> = Arc::downgrade(&(Arc::clone(&owner) as Arc<dyn Owner>));
    disk.start(weak);
    disk.close().await.expect("closed");
    for done in waiting {
        done.await.expect("told").expect("written");
    }
    let reopened = TestOwner::new(&device, 0);
    let disk = open(&device, SMALL, &reopened).await;
    assert_eq!(contents(&disk, &reopened).await.len(), 20);
}

#[tokio::test]
async fn closing_a_tier_whose_device_fails_tells_everyone_and_ends() {
    let device = RamDevice::new(Files::new());
    let disk = unstarted(&device).await;
    let owner = TestOwner::new(&device, 0);
    let mut waiting = Vec::new();
    for object in 0..20 {
        waiting.push(begin(&disk, &owner, Op::Put(id(object, 1), 1), 300_000).await);
    }
    device.set_fault(Some(Fault { call: 0, lasting: true, kind: io::ErrorKind::Other }));
    // Closed before the writer has begun.
    disk.0.queue.stop(DiskState::Closed);
    let weak: Weak<dyn Owner> = Arc::downgrade(&(Arc::clone(&owner) as Arc<dyn Owner>));
    disk.start(weak);
    disk.close().await.expect("the writer ends");
    for done in waiting {
        assert_eq!(done.await.expect("told"), Err(AppendError::ReadOnly));
    }
}

#[tokio::test]
async fn a_panic_of_the_owner_ends_writing_but_strands_nobody() {
    let device = RamDevice::new(Files::new());
    let disk = unstarted(&device).await;
    let owner = TestOwner::new(&device, 0);
    disk.append(record(payload(1, 100)), |_| panic!("a test")).await.expect("queued");
    let done = begin(&disk, &owner, Op::Put(id(1, 1), 1), 100).await;
    let weak: Weak<dyn Owner> = Arc::downgrade(&(Arc::clone(&owner) as Arc<dyn Owner>));
    disk.start(weak);
    assert_eq!(done.await.expect("told"), Err(AppendError::Closed));
    assert!(matches!(disk.close().await, Err(DiskError::Stopped)));
}

#[tokio::test]
async fn a_dropped_tier_writes_what_is_queued_and_releases_the_folder() {
    let device = RamDevice::new(Files::new());
    let owner = TestOwner::new(&device, 0);
    let disk = open(&device, SMALL, &owner).await;
    let done = begin(&disk, &owner, Op::Put(id(1, 1), 1), 1000).await;
    drop(disk);
    done.await.expect("told").expect("written");
}

#[tokio::test]
async fn what_is_too_large_or_too_small_is_refused() {
    let device = RamDevice::<Mark>::new(Files::new());
    let disk = unstarted(&device).await;
    let too_large = Bytes::from(vec![0; 1 << 20]);
    let refused = disk.append(record(too_large), |_| {}).await;
    assert!(matches!(refused, Err(AppendError::TooLarge { length: 0x10_0000, limit }) if limit >= 320 << 10));
    let small =
        Disk::open(config(SMALL - 1), Arc::new(device), Clock::system(), &Spawner::current(), |_| {}).await;
    assert!(matches!(small, Err(DiskError::TooSmall { size, least: SMALL }) if size == SMALL - 1));
}

#[tokio::test]
async fn one_writer_has_the_folder_until_it_is_closed() {
    let device = RamDevice::new(Files::new());
    let owner = TestOwner::new(&device, 0);
    let disk = open(&device, SMALL, &owner).await;
    assert!(matches!(open_with(&device, SMALL, &owner).await, Err(DiskError::Locked { .. })));
    disk.close().await.expect("closed");
    open(&device, SMALL, &owner).await;
}

#[tokio::test]
async fn a_later_major_format_is_refused_and_left_alone() {
    let header = SegmentHeader { number: 0, store: StoreId([1; 16]), generation: 1, size: 1 << 20 };
    let mut bytes = header.encode();
    bytes[8..10].copy_from_slice(&(MAJOR + 1).to_le_bytes());
    let sum = crc32c::crc32c(&bytes[..60]);
    bytes[60..].copy_from_slice(&sum.to_le_bytes());
    let useless = ("segment-00000001".to_owned(), vec![7; 100]);
    let files = Files::from([("segment-00000000".to_owned(), bytes.to_vec()), useless]);
    let device = RamDevice::new(files.clone());
    let owner = TestOwner::new(&device, 0);
    let refused = open_with(&device, SMALL, &owner).await;
    assert!(
        matches!(refused, Err(DiskError::Format { found, supported, .. }) if found == (MAJOR + 1, 1) && supported == MAJOR)
    );
    assert!(device.with_files(|now| *now == files), "nothing is touched");
}

#[tokio::test]
async fn without_space_for_a_segment_the_tier_does_not_open() {
    let device = RamDevice::new(Files::new());
    device.set_space(MIB - 1);
    let refused = open_with(&device, SMALL, &TestOwner::new(&device, 0)).await;
    assert!(matches!(refused, Err(DiskError::NoSpace { segment: MIB, .. })));
}

#[tokio::test]
async fn with_less_space_than_configured_the_tier_works_in_what_there_is() {
    for segments in [1, 2] {
        let device = RamDevice::new(Files::new());
        device.set_space(segments * MIB);
        let owner = TestOwner::new(&device, 6);
        let disk = open(&device, SMALL, &owner).await;
        workload(&disk, &owner, 41, 6 << 20, 100 << 10).await;
        let usage = disk.usage();
        assert_eq!((usage.state, usage.segments), (DiskState::Running, segments), "{usage:?}");
        let last = put(&disk, &owner, id(7, 1), 99, 1000).await;
        assert_eq!(nonce(&disk.read(last, &id(7, 1)).await.expect("read")), 99);
    }
}

#[tokio::test]
async fn the_hot_survive_reclaim_and_the_cold_do_not() {
    let device = RamDevice::new(Files::new());
    let owner = TestOwner::new(&device, 3);
    let disk = open(&device, SMALL, &owner).await;
    for object in 0..6 {
        put(&disk, &owner, id(object, 1), u64::from(object), 10_000).await;
    }
    for round in 0..100 {
        put(&disk, &owner, id(100, round), u64::from(round), 100_000).await;
    }
    let hot: Vec<_> = contents(&disk, &owner).await.into_keys().filter(|key| key[0] < 6).collect();
    assert_eq!(hot, [[0, 1], [1, 1], [2, 1]]);
    assert!(disk.usage().reclaimed_segments >= 5 && disk.usage().lost_records == 0, "{:?}", disk.usage());
}

#[tokio::test]
async fn when_all_is_hot_writing_gets_on_and_what_cannot_be_kept_is_told() {
    let device = RamDevice::new(Files::new());
    let owner = TestOwner::new(&device, 255);
    let disk = open(&device, SMALL, &owner).await;
    for round in 0..200 {
        put(&disk, &owner, id(1, round), u64::from(round), 50_000).await;
    }
    let usage = disk.usage();
    assert!(usage.lost_records > 50, "{usage:?}");
    let known = owner.index.lock().len();
    assert_eq!(contents(&disk, &owner).await.len(), known, "what the owner still knows can be read");
}

#[tokio::test]
async fn without_an_owner_records_are_written_and_reclaimed() {
    let device = RamDevice::new(Files::new());
    let disk = {
        let owner = TestOwner::new(&device, 255);
        open(&device, SMALL, &owner).await
    };
    let writer = TestOwner::new(&device, 0);
    for round in 0..60 {
        put(&disk, &writer, id(1, round), u64::from(round), 100_000).await;
    }
    assert!(disk.usage().reclaimed_segments > 0);
}

#[tokio::test]
async fn a_place_is_read_only_as_what_was_written_there() {
    let device = RamDevice::new(Files::new());
    let owner = TestOwner::new(&device, 0);
    let disk = open(&device, SMALL, &owner).await;
    let place = put(&disk, &owner, id(1, 1), 5, 5000).await;
    for cached in [true, false] {
        device.set_cached(cached);
        let bytes = disk.read(place, &id(1, 1)).await.expect("read");
        assert_eq!((nonce(&bytes), bytes.len()), (5, 5000));
        assert!(bytes.is_unique(), "nothing else is kept alive");
        let stale = [
            (place, id(1, 2)),
            (place, id(2, 1)),
            (Place { segment: 2, ..place }, id(1, 1)),
            (Place { segment: u32::MAX, ..place }, id(1, 1)),
            (Place { length: 4, ..place }, id(1, 1)),
            (Place { length: place.length - 1, ..place }, id(1, 1)),
            (Place { length: u32::MAX, ..place }, id(1, 1)),
            (Place { offset: u32::MAX - 10, ..place }, id(1, 1)),
        ];
        for (place, id) in stale {
            assert!(matches!(disk.read(place, &id).await, Err(ReadError::Stale)), "{place:?} {id:?}");
        }
        let shifted = Place { offset: place.offset + 64, ..place };
        assert!(matches!(disk.read(shifted, &id(1, 1)).await, Err(ReadError::Damaged)));
    }
    let drop_place =
        begin(&disk, &owner, Op::Drop(ObjectId([1; 16])), 0).await.await.expect("told").expect("written");
    let drop_id = RecordId { object: ObjectId([1; 16]), ..RecordId::default() };
    assert!(matches!(disk.read(drop_place, &drop_id).await, Err(ReadError::Stale)), "a drop has no payload");
    device.with_files(|files| {
        files.get_mut("segment-00000000").expect("it is there")[place.offset as usize + 1000] ^= 1;
    });
    assert!(matches!(disk.read(place, &id(1, 1)).await, Err(ReadError::Damaged)));
}

#[tokio::test]
async fn seals_are_found_with_their_payload_and_all_fields_as_written() {
    let device = RamDevice::new(Files::new());
    let owner = TestOwner::new(&device, 0);
    let disk = open(&device, SMALL, &owner).await;
    let mut expected = Vec::new();
    for (index, kind) in [(0, RecordKind::Head), (1, RecordKind::Slice), (9, RecordKind::Seal)] {
        let place = put(&disk, &owner, id(1, index), u64::from(index), 2000).await;
        let bytes = if kind == RecordKind::Seal { payload(9, 2000) } else { Bytes::new() };
        let shared = kind == RecordKind::Head;
        expected.push((kind, id(1, index), place, PurgePosition(7), 9, shared, bytes));
    }
    // Once as a tail, once by the summary.
    for _ in 0..2 {
        let device = RamDevice::<Mark>::new(device.with_files(|files| files.clone()));
        let mut found = Vec::new();
        let device = Arc::new(device);
        let spawner = Spawner::current();
        let opened = Disk::open(config(SMALL), device, Clock::system(), &spawner, |record| {
            found.push((
                record.kind,
                record.id,
                record.place,
                record.position,
                record.expiry,
                record.shared,
                record.payload,
            ));
        });
        opened.await.expect("the store opens");
        assert_eq!(found, expected);
        disk.close().await.expect("closed");
    }
}

#[tokio::test]
async fn a_smaller_size_drops_the_oldest_and_a_larger_one_keeps_all() {
    let device = RamDevice::new(Files::new());
    let owner = TestOwner::new(&device, 0);
    let large = 600 * MIB;
    let disk = open(&device, large, &owner).await;
    let segment = disk.usage().allocated;
    for index in 0..60 {
        put(&disk, &owner, id(1, index), u64::from(index), 1 << 20).await;
    }
    disk.close().await.expect("closed");
    let before = contents_after(&device, 2 * large).await;
    assert_eq!(before.len(), 60);
    let after = contents_after(&device, 3 * segment).await;
    assert!(!after.is_empty() && after.len() < 60);
    assert!(after.iter().all(|nonce| *nonce >= 60 - after.len() as u64), "the newest are left: {after:?}");
    let total: usize = device.with_files(|files| files.values().map(Vec::len).sum());
    assert!(total as u64 <= 3 * segment);
    let reformatted = contents_after(&device, SMALL).await;
    assert!(reformatted.is_empty(), "segments of another size hold nothing");
}

async fn contents_after(device: &RamDevice<Mark>, size: u64) -> Vec<u64> {
    let owner = TestOwner::new(device, 0);
    let disk = open(device, size, &owner).await;
    let nonces = contents(&disk, &owner).await.into_values().map(|(_, nonce)| nonce).collect();
    disk.close().await.expect("closed");
    nonces
}

#[tokio::test]
async fn another_stores_segments_are_not_taken_for_this_ones() {
    let stores: Vec<Files> = {
        let mut stores = Vec::new();
        for object in 1..3 {
            let device = RamDevice::new(Files::new());
            let owner = TestOwner::new(&device, 0);
            let disk = open(&device, SMALL, &owner).await;
            for index in 0..24 {
                put(&disk, &owner, id(object, index), u64::from(index), 100_000).await;
            }
            disk.close().await.expect("closed");
            stores.push(device.with_files(std::mem::take));
        }
        stores
    };
    let mut mixed = stores[0].clone();
    mixed.insert("segment-00000001".to_owned(), stores[1]["segment-00000001"].clone());
    let device = RamDevice::new(mixed);
    let owner = TestOwner::new(&device, 0);
    let disk = open(&device, SMALL, &owner).await;
    let contents = contents(&disk, &owner).await;
    assert!(!contents.is_empty() && contents.keys().all(|key| key[0] == 1));
}

#[tokio::test]
async fn damage_anywhere_costs_records_but_never_gives_wrong_ones() {
    let device = RamDevice::new(Files::new());
    let owner = TestOwner::new(&device, 6);
    let disk = open(&device, SMALL, &owner).await;
    workload(&disk, &owner, 51, 5 << 20, 60 << 10).await;
    disk.close().await.expect("closed");
    let files = device.with_files(|files| files.clone());
    let whole = contents_of(files.clone()).await;
    let put = |event| match event {
        Event::Mark(Mark::Begun(Op::Put(id, nonce))) => Some((id, nonce)),
        _ => None,
    };
    let written: Vec<_> = device.take_log().into_iter().filter_map(put).collect();
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut damaged = files.clone();
        for _ in 0..random.random_range(1..4) {
            damage(&mut damaged, &mut random);
        }
        // What a damaged record had replaced may come back, but nothing that never was.
        for content in contents_of(damaged).await.into_values() {
            assert!(written.contains(&content), "seed {seed}: {content:?}");
        }
    }
    let mut changed = 0;
    for name in files.keys() {
        let mut missing = files.clone();
        missing.remove(name);
        let left = contents_of(missing).await;
        changed += u32::from(left != whole);
        assert!(left.values().all(|content| written.contains(content)), "without {name}");
    }
    // One of them may have been free.
    assert!(changed >= 2);
}

async fn contents_of(files: Files) -> BTreeMap<[u8; 2], (RecordId, u64)> {
    let device = RamDevice::new(files);
    let owner = TestOwner::new(&device, 0);
    let disk = open(&device, SMALL, &owner).await;
    contents(&disk, &owner).await
}

/// Flips, cuts, overwrites or swaps something, often where it hurts.
fn damage(files: &mut Files, random: &mut StdRng) {
    let names: Vec<_> = files.keys().cloned().collect();
    let name = &names[random.random_range(0..names.len())];
    let other = files[&names[random.random_range(0..names.len())]].clone();
    let Some(file) = files.get_mut(name).filter(|file| file.len() > 2 * HEADER_BLOCK as usize) else {
        return;
    };
    let at = match random.random_range(0..4) {
        0 => random.random_range(0..64),
        1 => file.len() - random.random_range(1..64),
        2 => random.random_range(4096..4192),
        _ => random.random_range(0..file.len()),
    };
    match random.random_range(0..4) {
        0 => file[at] ^= 1 << random.random_range(0..8),
        1 => file.truncate(at),
        2 => {
            let end = (at + random.random_range(1..200_000)).min(file.len());
            file[at..end].fill(random.random());
        }
        _ => *file = other,
    }
}
