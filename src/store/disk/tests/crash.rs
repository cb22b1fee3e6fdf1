//! Crashes at every write and faults at every call.

use super::ram_device::{Crash, Event, Fault, Replay};
use super::*;
use std::io;

/// What is told of an identity by a log up to a crash.
struct History<'a> {
    log: &'a [Event<Mark>],
    /// All that was done before is durable.
    horizon: usize,
    crash: Crash,
}

impl History<'_> {
    fn marks(&self) -> impl Iterator<Item = (usize, Mark)> + '_ {
        let mark = |(at, event): (usize, &Event<Mark>)| match event {
            Event::Mark(mark) => Some((at, *mark)),
            _ => None,
        };
        self.log.iter().enumerate().filter_map(mark)
    }

    /// The contents that `id` may have: of the last durable change or of any begun after it, and
    /// none if the owner let go of that, or if what replaced it may be torn.
    fn allowed(&self, id: &RecordId) -> BTreeSet<Option<u64>> {
        let mut allowed = BTreeSet::from([None]);
        for (at, mark) in self.marks() {
            match mark {
                Mark::Begun(op) if op.result(id).is_some() => {
                    allowed.extend(op.result(id));
                    allowed.extend(matches!(self.crash, Crash::Torn { .. }).then_some(None));
                }
                Mark::Begun(_) => {}
                Mark::Done(op) if at < self.horizon && op.result(id).is_some() => {
                    // One change of an object at a time: what was begun before is over.
                    allowed = op.result(id).into_iter().collect();
                }
                Mark::Done(_) => {}
                Mark::Evicted(evicted, _) if evicted == *id => drop(allowed.insert(None)),
                Mark::Evicted(..) => {}
            }
        }
        allowed
    }

    fn ids(&self) -> BTreeMap<[u8; 2], RecordId> {
        let put = |(_, mark)| match mark {
            Mark::Begun(Op::Put(id, _)) => Some(([id.object.0[0], id.index as u8], id)),
            _ => None,
        };
        self.marks().filter_map(put).collect()
    }
}

/// Opens what a crash left and compares with what must and what may be there. `complete`: nothing
/// may be missing but for a reason.
async fn check(files: Files, history: &History<'_>, complete: bool, context: &str) {
    let device = RamDevice::new(files);
    device.with_files(|files| {
        let total: usize = files.values().map(Vec::len).sum();
        assert!(total as u64 <= SMALL, "{context}: {total} bytes");
    });
    let owner = TestOwner::new(&device, 0);
    let disk = open(&device, SMALL, &owner).await;
    let contents = contents(&disk, &owner).await;
    for (name, id) in history.ids() {
        let mut allowed = history.allowed(&id);
        if !complete {
            allowed.insert(None);
        }
        let content = contents.get(&name).map(|(_, nonce)| *nonce);
        assert!(allowed.contains(&content), "{context}: {name:?} is {content:?}, not one of {allowed:?}");
    }
}

#[tokio::test]
async fn after_a_crash_at_any_write_all_that_was_durable_is_found_and_nothing_else() {
    let seed = 11;
    let device = RamDevice::new(Files::new());
    let owner = TestOwner::new(&device, 6);
    let disk = open(&device, SMALL, &owner).await;
    workload(&disk, &owner, seed, 7 << 20, 120 << 10).await;
    assert!(disk.usage().reclaimed_segments >= 4 && disk.usage().rewritten_bytes > 0, "{:?}", disk.usage());
    disk.close().await.expect("closed");

    let log = device.take_log();
    let mut replay = Replay::new(&log);
    while let Some(event) = replay.step() {
        if matches!(event, Event::Mark(_)) {
            continue;
        }
        let at = replay.position();
        for crash in [Crash::Kill, Crash::Lost, Crash::Torn { seed: at as u64 }] {
            let history = History { log: &log[..at], horizon: replay.horizon(crash), crash };
            check(replay.files(crash), &history, true, &format!("seed {seed}, {crash:?} after event {at}"))
                .await;
        }
    }
}

#[tokio::test]
async fn a_new_life_of_a_segment_is_durable_before_anything_else_is_written() {
    let device = RamDevice::new(Files::new());
    let owner = TestOwner::new(&device, 6);
    let disk = open(&device, SMALL, &owner).await;
    workload(&disk, &owner, 12, 6 << 20, 120 << 10).await;
    disk.close().await.expect("closed");
    let changes = device.take_log().into_iter().filter(|event| !matches!(event, Event::Mark(_)));
    let mut unsynced_header = None;
    let mut headers = 0;
    for change in changes {
        match change {
            Event::Sync { name } => {
                unsynced_header.take_if(|header| *header == name);
            }
            _ if unsynced_header.is_some() => panic!("{unsynced_header:?} is not durable yet"),
            Event::Write { name, offset: 0, .. } => {
                headers += 1;
                unsynced_header = Some(name);
            }
            _ => {}
        }
    }
    assert!(headers > 4);
}

#[tokio::test]
async fn a_store_goes_on_after_crashes_and_crashes_again() {
    for seed in 20..24 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut files = Files::new();
        for round in 0..6 {
            let device = RamDevice::new(files);
            let owner = TestOwner::new(&device, 6);
            let disk = open(&device, SMALL, &owner).await;
            let before = contents(&disk, &owner).await;
            // So that the history is complete, what was there counts as written now.
            let initial = device.with_files(|files| files.clone());
            before.values().for_each(|(id, nonce)| {
                device.mark(Mark::Begun(Op::Put(*id, *nonce)));
                device.mark(Mark::Done(Op::Put(*id, *nonce)));
                owner.index.lock().get_mut(id).expect("it was read").1 = *nonce;
            });
            owner.index.lock().retain(|_, (_, nonce)| *nonce != 0);
            workload(&disk, &owner, seed * 100 + round, 2 << 20, 100 << 10).await;
            disk.close().await.expect("closed");
            let mut log: Vec<_> = initial.iter().flat_map(|(name, bytes)| existing(name, bytes)).collect();
            log.extend(device.take_log());
            let stop = random.random_range(log.len() / 2..=log.len());
            let mut replay = Replay::new(&log);
            while replay.position() < stop {
                replay.step();
            }
            let crash = Crash::Torn { seed: seed + round };
            files = replay.files(crash);
            let history = History { log: &log[..stop], horizon: replay.horizon(crash), crash };
            check(files.clone(), &history, true, &format!("seed {seed}, round {round}")).await;
        }
    }
}

/// The events that make a file as it is.
fn existing(name: &str, bytes: &[u8]) -> [Event<Mark>; 3] {
    let name = name.to_owned();
    [
        Event::Create { name: name.clone(), size: bytes.len() },
        Event::Write { name: name.clone(), offset: 0, bytes: bytes.to_vec() },
        Event::Sync { name },
    ]
}

#[tokio::test]
async fn a_failed_call_costs_records_but_never_right_bytes_or_an_answer() {
    fail_at_each_call(|call| Fault { call, lasting: false, kind: io::ErrorKind::Other }).await;
}

#[tokio::test]
async fn a_device_that_fails_for_good_costs_records_but_never_right_bytes_or_an_answer() {
    fail_at_each_call(|call| Fault { call, lasting: true, kind: io::ErrorKind::Other }).await;
}

#[tokio::test]
async fn a_full_file_system_costs_records_but_never_right_bytes_or_an_answer() {
    fail_at_each_call(|call| Fault { call, lasting: call % 2 == 0, kind: io::ErrorKind::StorageFull }).await;
}

/// Runs a workload once for each call that it makes to the device, with that call failing.
async fn fail_at_each_call(fault: impl Fn(u64) -> Fault) {
    let seed = 31;
    let run = async |device: &RamDevice<Mark>| {
        let owner = TestOwner::new(device, 6);
        let disk = open_with(device, SMALL, &owner).await.ok()?;
        workload(&disk, &owner, seed, 4 << 20, 300 << 10).await;
        drop(contents(&disk, &owner).await);
        let usage = disk.usage();
        disk.close().await.expect("the writer lives");
        Some(usage)
    };
    let healthy = RamDevice::new(Files::new());
    let usage = run(&healthy).await.expect("the store opens");
    assert!(usage.reclaimed_segments > 0 && usage.rewritten_bytes > 0, "{usage:?}");
    for fault in (0..healthy.calls()).map(fault) {
        let device = RamDevice::new(Files::new());
        device.set_fault(Some(fault));
        let usage = run(&device).await;
        let runs = usage.is_none_or(|usage| usage.state == DiskState::Running);
        assert!(fault.lasting || runs, "{fault:?}: {usage:?}");
        device.set_fault(None);
        let log = device.take_log();
        let history = History { log: &log, horizon: log.len(), crash: Crash::Kill };
        let files = device.with_files(std::mem::take);
        check(files, &history, false, &format!("seed {seed}, {fault:?}")).await;
    }
}
