//! The tier as its owner sees it: what it is tested with. The tests are in the modules below.

mod crash;
mod files;
mod ram_device;
mod rules;
mod versions;

use super::*;
use crate::proto::key::{ObjectId, VariantId, VersionId};
use ram_device::{Files, RamDevice};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tokio::sync::oneshot;

const MIB: u64 = 1 << 20;
/// The smallest store: three segments of 1 MiB.
const SMALL: u64 = 3 * MIB;

/// What a test writes into the log of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Begun(Op),
    Done(Op),
    /// The owner let go of that content.
    Evicted(RecordId, u64),
}

/// One change. Contents are told apart by a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Put(RecordId, u64),
    Drop(ObjectId),
}

impl Op {
    /// The content that `id` has after this, if this changes it.
    fn result(self, id: &RecordId) -> Option<Option<u64>> {
        match self {
            Self::Put(put, nonce) => (put == *id).then_some(Some(nonce)),
            Self::Drop(object) => (object == id.object).then_some(None),
        }
    }
}

fn id(object: u8, index: u32) -> RecordId {
    RecordId {
        object: ObjectId([object; 16]),
        variant: VariantId([object ^ 1; 16]),
        version: VersionId([object ^ 2; 16]),
        index,
    }
}

/// A payload that says which one it is.
fn payload(nonce: u64, length: usize) -> Bytes {
    let mut bytes = vec![nonce as u8; length.max(16)];
    bytes[..8].copy_from_slice(&nonce.to_le_bytes());
    bytes[8..16].copy_from_slice(&(length as u64).to_le_bytes());
    Bytes::from(bytes)
}

/// The nonce of an intact payload.
fn nonce(bytes: &[u8]) -> u64 {
    let nonce = u64::from_le_bytes(*bytes[..8].first_chunk().expect("long enough"));
    let length = u64::from_le_bytes(*bytes[8..16].first_chunk().expect("long enough"));
    assert_eq!(payload(nonce, length as usize), bytes, "wrong bytes were read");
    nonce
}

/// An index as simple as can be.
struct TestOwner {
    device: RamDevice<Mark>,
    index: Mutex<HashMap<RecordId, (Place, u64)>>,
    /// Objects below this are hot.
    hot: u8,
}

impl TestOwner {
    fn new(device: &RamDevice<Mark>, hot: u8) -> Arc<Self> {
        Arc::new(Self { device: device.clone(), index: Mutex::default(), hot })
    }

    fn forget(&self, id: &RecordId, place: Place) {
        let mut index = self.index.lock();
        if index.get(id).is_some_and(|(held, _)| *held == place) {
            let (_, nonce) = index.remove(id).expect("it was there");
            self.device.mark(Mark::Evicted(*id, nonce));
        }
    }

    /// As an owner does at start.
    fn found(&self, found: &Found) {
        let mut index = self.index.lock();
        if found.kind == RecordKind::Drop {
            index.retain(|id, _| id.object != found.id.object);
        } else {
            // The nonce is read later.
            index.insert(found.id, (found.place, 0));
        }
    }
}

impl Owner for TestOwner {
    fn fate(&self, kind: RecordKind, id: &RecordId, place: Place) -> Fate {
        assert_ne!(kind, RecordKind::Drop, "drops are not asked for");
        let held = self.index.lock().get(id).is_some_and(|(held, _)| *held == place);
        if held && id.object.0[0] < self.hot {
            return Fate::Keep;
        }
        self.forget(id, place);
        Fate::Gone
    }

    fn moved(&self, id: &RecordId, from: Place, to: Place) {
        if let Some((held, _)) = self.index.lock().get_mut(id).filter(|(held, _)| *held == from) {
            *held = to;
        }
    }

    fn lost(&self, id: &RecordId, place: Place) {
        self.forget(id, place);
    }
}

fn config(size: u64) -> DiskConfig {
    DiskConfig { path: PathBuf::from("disk"), size }
}

async fn open_with(device: &RamDevice<Mark>, size: u64, owner: &Arc<TestOwner>) -> Result<Disk, DiskError> {
    let (device, mut last) = (Arc::new(device.clone()), 0);
    let disk = Disk::open(config(size), device, Clock::system(), &Spawner::current(), |found| {
        assert!(found.sequence > last, "records are found oldest first");
        last = found.sequence;
        owner.found(&found);
    })
    .await?;
    let owner: Arc<dyn Owner> = Arc::<TestOwner>::clone(owner);
    disk.start(Arc::downgrade(&owner));
    Ok(disk)
}

async fn open(device: &RamDevice<Mark>, size: u64, owner: &Arc<TestOwner>) -> Disk {
    open_with(device, size, owner).await.expect("the store opens")
}

/// Queues an operation; the result tells when it is done.
async fn begin(
    disk: &Disk,
    owner: &Arc<TestOwner>,
    op: Op,
    length: usize,
) -> oneshot::Receiver<Result<Place, AppendError>> {
    owner.device.mark(Mark::Begun(op));
    let (kind, id, payload) = match op {
        Op::Put(id, nonce) if id.index == 0 => (RecordKind::Head, id, payload(nonce, length)),
        Op::Put(id, nonce) if id.index == 9 => (RecordKind::Seal, id, payload(nonce, length)),
        Op::Put(id, nonce) => (RecordKind::Slice, id, payload(nonce, length)),
        Op::Drop(object) => {
            owner.index.lock().retain(|id, _| id.object != object);
            (RecordKind::Drop, RecordId { object, ..RecordId::default() }, Bytes::new())
        }
    };
    let record = NewRecord {
        kind,
        id,
        position: PurgePosition(7),
        expiry: 9,
        shared: kind == RecordKind::Head,
        payload,
    };
    let (sender, receiver) = oneshot::channel();
    let owner = Arc::clone(owner);
    let queued = disk
        .append(record, move |result| {
            if let Ok(place) = result {
                if let Op::Put(id, nonce) = op {
                    owner.index.lock().insert(id, (place, nonce));
                }
                owner.device.mark(Mark::Done(op));
            }
            sender.send(result).expect("the test waits");
        })
        .await;
    match queued {
        Ok(()) => receiver,
        Err(error) => {
            let (sender, receiver) = oneshot::channel();
            sender.send(Err(error)).expect("the receiver is here");
            receiver
        }
    }
}

async fn put(disk: &Disk, owner: &Arc<TestOwner>, id: RecordId, nonce: u64, length: usize) -> Place {
    begin(disk, owner, Op::Put(id, nonce), length).await.await.expect("told").expect("written")
}

/// What each record in the owner's index reads as; damaged ones are left out.
async fn contents(disk: &Disk, owner: &TestOwner) -> BTreeMap<[u8; 2], (RecordId, u64)> {
    let places: Vec<_> = owner.index.lock().iter().map(|(id, (place, _))| (*id, *place)).collect();
    let mut contents = BTreeMap::new();
    for (id, place) in places {
        if let Ok(bytes) = disk.read(place, &id).await {
            contents.insert([id.object.0[0], id.index as u8], (id, nonce(&bytes)));
        }
    }
    contents
}

/// A seeded workload: puts of several sizes, one by one and in bursts, and drops.
async fn workload(disk: &Disk, owner: &Arc<TestOwner>, seed: u64, bytes: usize, largest: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut written = 0;
    let mut next_nonce = seed << 32;
    while written < bytes {
        if random.random_bool(0.1) {
            let op = Op::Drop(ObjectId([random.random_range(0..24); 16]));
            drop(begin(disk, owner, op, 0).await.await);
            continue;
        }
        let burst: BTreeSet<_> = (0..[1, 1, 4][random.random_range(0..3)])
            .map(|_| (random.random_range(0..24), [0, 1, 9][random.random_range(0..3)]))
            .collect();
        let mut waiting = Vec::new();
        for (object, index) in burst {
            next_nonce += 1;
            let length = if random.random_bool(0.3) {
                random.random_range(16..600)
            } else {
                random.random_range(16..largest)
            };
            written += length;
            waiting.push(begin(disk, owner, Op::Put(id(object, index), next_nonce), length).await);
        }
        for done in waiting {
            drop(done.await);
        }
    }
}
