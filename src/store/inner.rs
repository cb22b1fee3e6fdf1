//! What the handles of a store share: index and tiers, and the steps that involve several of them.

use super::StoreConfig;
use super::body::Left;
use super::disk::{AppendError, Disk, Fate, NewRecord, Owner, Place, RecordId, RecordKind};
use super::filing::FillState;
use super::forgotten::Due;
use super::index::{Index, lean_id};
use super::memory::{ENTRY_OVERHEAD, Memory, MemoryKey, Reservation, Spot};
use super::usage::Departure;
use crate::clock::Clock;
use crate::proto::key::ObjectId;
use crate::proto::object::{Head, PurgePosition};
use crate::proto::semantics::{CachePolicy, lifetime};
use bytes::Bytes;
use std::sync::{Arc, OnceLock, Weak};
use tokio::sync::oneshot;

/// One object may take this part of the memory tier.
const OBJECT_MEMORY_DIVISOR: u64 = 4;
/// One object may take this part of the disk tier.
const OBJECT_DISK_DIVISOR: u64 = 4;
/// The index may take this part of the configured memory beside the memory tier, but at least
/// [`INDEX_MIN`] bytes.
const INDEX_DIVISOR: u64 = 2;
const INDEX_MIN: u64 = 16 << 20;
/// Times that moka is asked to make room before an insert is refused.
const RESERVE_TRIES: u32 = 3;
/// Times that one settling goes back for what came up meanwhile; the rest is left to the next.
const SETTLE_ROUNDS: u32 = 16;
/// `Drop` records written in one round of housekeeping.
const DROPS_PER_ROUND: usize = 256;

/// Index and tiers.
pub(super) struct Inner {
    pub(super) index: Index,
    pub(super) memory: Arc<Memory>,
    disk: OnceLock<Disk>,
    /// The latest purge position among the records that the disk had at the start.
    newest_found: OnceLock<PurgePosition>,
    /// Most bytes of one object in memory.
    object_memory_max: u64,
    /// Longest body that is kept.
    pub(super) object_max: u64,
    /// For the records and bodies that refer back.
    pub(super) me: Weak<Self>,
}

impl Inner {
    pub(super) fn new(config: &StoreConfig, clock: Clock) -> Arc<Self> {
        let memory = Memory::new(config.memory);
        let object_memory_max = memory.bound() / OBJECT_MEMORY_DIVISOR;
        let object_disk_max = config.disk.as_ref().map_or(0, |disk| disk.size / OBJECT_DISK_DIVISOR);
        Arc::new_cyclic(|me| Self {
            index: Index::new((config.memory / INDEX_DIVISOR).max(INDEX_MIN), clock),
            memory,
            disk: OnceLock::new(),
            newest_found: OnceLock::new(),
            object_memory_max,
            object_max: object_memory_max.max(object_disk_max),
            me: me.clone(),
        })
    }

    /// The disk tier joins, with the latest purge position of what was found there. Once.
    pub(super) fn attach(self: &Arc<Self>, disk: Disk, newest: Option<PurgePosition>) {
        if let Some(newest) = newest {
            let _ = self.newest_found.set(newest);
        }
        let owner: Weak<Self> = Arc::downgrade(self);
        disk.start(owner);
        drop(self.disk.set(disk));
    }

    /// The latest purge position among the records that the disk had at the start; `None` without any.
    pub(super) fn newest_found(&self) -> Option<PurgePosition> {
        self.newest_found.get().copied()
    }

    /// The disk tier, if there is one.
    pub(super) fn disk(&self) -> Option<&Disk> {
        self.disk.get()
    }

    /// Takes room in memory for a part of `bytes` of an object that has `resident` already; lets moka
    /// make some if there is none.
    pub(super) fn reserve(&self, resident: u64, bytes: u64) -> Option<Reservation> {
        if resident + bytes > self.object_memory_max {
            return None;
        }
        let weight = bytes + ENTRY_OVERHEAD;
        for _ in 0..RESERVE_TRIES {
            if let Some(reservation) = self.memory.reserve(weight) {
                return Some(reservation);
            }
            self.maintain();
        }
        self.memory.refused();
        None
    }

    /// The head in `block`, and whether it counts against the memory tier from now on.
    pub(super) fn decode_head(&self, block: Bytes, resident: u64) -> Option<(Arc<Head>, bool)> {
        let reservation = self.reserve(resident, head_bytes(block.len()));
        let admitted = reservation.is_some();
        let block = match reservation {
            Some(reservation) => reservation.hold(block),
            None => block,
        };
        Some((Arc::new(Head::decode(block).ok()?), admitted))
    }

    /// Tells moka of a head that is in the index.
    pub(super) fn enter_head(&self, object: ObjectId, key: MemoryKey, head: &Head) {
        let weight = head_bytes(head.block().len()) + ENTRY_OVERHEAD;
        self.memory.enter(key, Spot::Head(object), weight);
        if !self.index.has_stay(object, key) {
            self.memory.leave(key);
        }
        self.settle();
    }

    /// Lets moka choose its victims and takes them out of the index.
    pub(super) fn maintain(&self) {
        self.memory.maintain();
        self.settle();
    }

    /// Takes what moka gave up out of the index, and tells moka of what has left the index. Must be
    /// called without a lock.
    pub(super) fn settle(&self) {
        for _ in 0..SETTLE_ROUNDS {
            let evicted = self.memory.evicted();
            if !self.memory.forget_released() && evicted.is_empty() {
                return;
            }
            for (key, spot) in evicted {
                self.evict(key, spot);
            }
        }
    }

    pub(super) fn evict(&self, key: MemoryKey, spot: Spot) {
        match spot {
            Spot::Head(object) => self.index.evict_head(object, key),
            Spot::Slice(body, index) => {
                if let Some(body) = body.upgrade()
                    && body.evict(index, key) == Left::Broken
                {
                    self.index.forget_edition(body.object, body.edition, Departure::Memory);
                }
            }
        }
    }

    /// One round of housekeeping.
    pub(super) async fn housekeep(&self) {
        if self.memory.take_busy() {
            self.maintain();
        }
        if self.disk().is_none() {
            return;
        }
        let due = self.index.forgotten.begin_some(DROPS_PER_ROUND);
        let guards: Vec<_> = due.into_iter().map(|due| self.guard(due)).collect();
        for guard in guards {
            // The outcome is noted where it is known; the next round sees what is left.
            drop(self.write_drop(guard).await);
        }
    }

    /// Makes sure that the end of a `Drop`'s writing is noted.
    pub(super) fn guard(&self, due: Due) -> DropGuard {
        DropGuard { inner: self.me.clone(), due, written: false }
    }

    /// Writes that all records of the object so far are gone. The receiver tells whether it is so on
    /// disk; dropped, that it is not.
    async fn write_drop(&self, guard: DropGuard) -> Result<oneshot::Receiver<()>, AppendError> {
        let Some(disk) = self.disk() else { return Err(AppendError::Closed) };
        let record = NewRecord {
            kind: RecordKind::Drop,
            id: lean_id(guard.due.object),
            position: PurgePosition::default(),
            expiry: 0,
            shared: false,
            payload: Bytes::new(),
        };
        let (sender, receiver) = oneshot::channel();
        disk.append(record, move |result| {
            if guard.end(result.is_ok()) {
                // The one who asked may have gone.
                let _ = sender.send(());
            }
        })
        .await?;
        Ok(receiver)
    }

    /// Makes an invalidation last beyond a restart: waits until no fill is in the middle of filing a
    /// head, and until the `Drop` behind it is written. `false` if it cannot be.
    pub(super) async fn file_drop(&self, guard: DropGuard, fills: Vec<Arc<FillState>>) -> bool {
        for fill in fills {
            fill.filed().await;
        }
        match self.write_drop(guard).await {
            Ok(written) => written.await.is_ok(),
            Err(_) => false,
        }
    }
}

/// When a response with this head is no longer fresh, in seconds since the epoch, about: other
/// policies than the default may say otherwise. 0 if it never is.
pub(super) fn coarse_expiry(head: &Head) -> u32 {
    let lifetime = lifetime(&head.facts, head.received, &CachePolicy::default()).secs;
    let fresh_for = i64::from(lifetime) - i64::from(head.initial_age);
    if fresh_for <= 0 {
        return 0;
    }
    let expiry = head.received.as_secs().saturating_add(fresh_for);
    u32::try_from(expiry.max(0)).unwrap_or(u32::MAX)
}

/// Bytes that a head with a block of this length takes, as [`Head::weight`] has it.
fn head_bytes(block: usize) -> u64 {
    (size_of::<Head>() + block) as u64
}

/// Notes the end of a `Drop`'s writing, also if it is never begun.
pub(super) struct DropGuard {
    inner: Weak<Inner>,
    due: Due,
    written: bool,
}

impl DropGuard {
    fn end(mut self, written: bool) -> bool {
        self.written = written;
        written
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            inner.index.forgotten.end(self.due, self.written);
        }
    }
}

impl Owner for Inner {
    fn fate(&self, kind: RecordKind, id: &RecordId, place: Place) -> Fate {
        self.index.fate(kind, id, place)
    }

    fn moved(&self, id: &RecordId, from: Place, to: Place) {
        self.index.moved(id, from, to);
    }

    fn lost(&self, id: &RecordId, place: Place) {
        self.index.lost(id, place);
    }
}
