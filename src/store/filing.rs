//! Writes in progress, and how their records reach the disk.
//!
//! Whatever becomes of a record, the index is told exactly once, also when the future that was to
//! queue it is dropped. An invalidation and the filing of a head are kept in order by a gate: the
//! `Drop` record must be behind every head that it is to end.

use super::body::{Body, Left};
use super::disk::{AppendError, NewRecord, Place, RecordId, RecordKind};
use super::inner::Inner;
use super::usage::Departure;
use crate::proto::key::ObjectId;
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use tokio::sync::Semaphore;

/// What a write in progress shares with its readers and with those who may end it.
#[derive(Default)]
pub(super) struct FillState {
    superseded: AtomicBool,
    /// The first body bytes, once record 0 is full or the body complete.
    pub(super) first: OnceLock<Bytes>,
    /// The slices, once there is one.
    pub(super) body: OnceLock<Arc<Body>>,
    gate: Gate,
}

/// Has one permit, held while head and seal are queued for the disk: an invalidation takes it to be
/// sure that its `Drop` is queued after them, and a filing that comes later sees that it is superseded.
struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(1))
    }
}

impl FillState {
    pub(super) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }

    /// Nothing of the write becomes visible from now on. Called under the lock of the object's shard.
    pub(super) fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
    }

    /// The slices so far.
    pub(super) fn body(&self) -> Option<&Arc<Body>> {
        self.body.get()
    }

    /// Waits for a filing in progress to be queued.
    pub(super) async fn filed(&self) {
        drop(self.gate.0.acquire().await);
    }
}

/// A write in progress, known to the index until it is dropped.
pub(super) struct Registration {
    pub(super) inner: Arc<Inner>,
    pub(super) object: ObjectId,
    pub(super) state: Arc<FillState>,
}

impl Registration {
    pub(super) fn new(inner: Arc<Inner>, object: ObjectId) -> Arc<Self> {
        let state = Arc::new(FillState::default());
        inner.index.register(object, state.clone());
        Arc::new(Self { inner, object, state })
    }

    /// Queues a head, and behind it its seal, for the disk.
    async fn file(&self, number: u64, head: (NewRecord, Filed), seal: Option<(NewRecord, Filed)>) {
        let ((head, head_done), Some(disk)) = (head, self.inner.disk()) else { return };
        let Ok(_permit) = self.state.gate.0.acquire().await else { return };
        if self.state.is_superseded() {
            return;
        }
        // One that was replaced meanwhile must not come behind its successor. A refreshed version has
        // another head by now, but this is the only write that has its seal.
        let index = &self.inner.index;
        if index.head_id(self.object, number).is_some() {
            if disk.append(head, move |result| head_done.end(result)).await.is_err() {
                return;
            }
        } else {
            drop(head_done);
        }
        if self.state.is_superseded() {
            // The invalidation may have given up waiting, and its `Drop` be before this head.
            index.forgotten.add(self.object);
            return;
        }
        if let Some((seal, seal_done)) = seal.filter(|(seal, _)| index.has_edition(&seal.id)) {
            // Without it the version is there until the next start.
            let _ = disk.append(seal, move |result| seal_done.end(result)).await;
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.inner.index.unregister(self.object, &self.state);
    }
}

/// A version that is visible and waits to be handed to the disk. Dropped before, it stays in
/// memory only.
pub struct Filing {
    registration: Arc<Registration>,
    number: u64,
    head: (NewRecord, Filed),
    seal: Option<(NewRecord, Filed)>,
}

impl Filing {
    pub(super) fn new(
        registration: Arc<Registration>,
        number: u64,
        head: NewRecord,
        seal: Option<NewRecord>,
    ) -> Self {
        let done = |record: NewRecord| {
            let inner = Arc::downgrade(&registration.inner);
            let filed = Filed { inner, kind: record.kind, id: record.id, number, place: None };
            (record, filed)
        };
        let (head, seal) = (done(head), seal.map(done));
        Self { registration, number, head, seal }
    }

    /// Waits for room in the disk's queue.
    pub async fn queue(self) {
        self.registration.file(self.number, self.head, self.seal).await;
    }
}

/// Tells the index what became of a head or seal, also if it was never queued.
struct Filed {
    inner: Weak<Inner>,
    kind: RecordKind,
    id: RecordId,
    number: u64,
    place: Option<Place>,
}

impl Filed {
    fn end(mut self, result: Result<Place, AppendError>) {
        self.place = result.ok();
    }
}

impl Drop for Filed {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            inner.index.written(self.kind, &self.id, self.number, self.place);
        }
    }
}

/// Tells a body what became of a slice, also if it was never queued.
pub(super) struct SliceFiled {
    body: Arc<Body>,
    inner: Weak<Inner>,
    index: u32,
    place: Option<Place>,
}

impl SliceFiled {
    pub(super) fn new(body: Arc<Body>, inner: &Arc<Inner>, index: u32) -> Self {
        Self { body, inner: Arc::downgrade(inner), index, place: None }
    }

    pub(super) fn end(mut self, result: Result<Place, AppendError>) {
        self.place = result.ok();
    }
}

impl Drop for SliceFiled {
    fn drop(&mut self) {
        if self.body.written(self.index, self.place) == Left::Broken
            && let Some(inner) = self.inner.upgrade()
        {
            inner.index.forget_edition(self.body.object, self.body.edition, Departure::Unwritten);
        }
    }
}
