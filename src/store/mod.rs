//! What this node has stored: the index, which is the truth, a memory tier and a disk tier.
//!
//! ```text
//! begin -> Filling --slices--> memory (ledger, moka advises) and disk (queue, segments)
//!             seal: index.publish, then head and seal to the disk
//! lookup -> index: Memory(Hit) | OnDisk -> load: one read, checked, promoted | Miss
//! ```
//! A version is in the index only while every one of its records is in memory, waiting for the disk,
//! or on it. Freshness, purges and who may use what are judged by the caller, never here.

mod body;
mod changelog;
mod chunks;
pub mod disk;
mod filing;
mod filling;
mod forgotten;
mod hit;
mod index;
mod inner;
mod memory;
mod recovery;
mod seal;
mod usage;

pub use disk::{Device, DiskConfig, DiskError, DiskState, DiskUsage, FileDevice};
pub use filing::Filing;
pub use filling::{Filling, Partial, SealError};
pub use hit::{Hit, LoadError, OnDisk, Tier};
pub use usage::{Departure, IndexUsage, Inspected, StoreUsage, Whereabouts};

use crate::clock::Clock;
use crate::proto::key::{ObjectId, VariantId};
use crate::proto::object::{Head, HeadDraft, PurgePosition, Selecting};
use crate::task::Spawner;
use disk::{Disk, NewRecord, RecordKind};
use filing::Registration;
use index::{Anchor, Invalidated, NewHead, Renewal};
use inner::{Inner, coarse_expiry};
use memory::{MemoryKey, Tracked};
use recovery::Recovery;
use std::sync::Arc;
use std::time::Duration;

/// How often moka does its housekeeping while anything was written or read.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_millis(100);
/// Longest wait of an invalidation for the disk.
const INVALIDATE_WAIT: Duration = Duration::from_secs(10);

/// Sizes of the tiers.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Bytes of memory that stored heads and bodies may take, bookkeeping included.
    pub memory: u64,
    /// The disk tier, if there is one.
    pub disk: Option<DiskConfig>,
}

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk tier could not.
    #[error("disk tier")]
    Disk(#[from] DiskError),
}

/// The names of the request fields that an object varies by, in the order of its `Vary`.
pub use crate::proto::semantics::VaryList;

pub use crate::proto::swarm::{Changes, Holding};

/// What the index knows of a request's object.
pub enum Lookup {
    /// A version whose head is in memory. Its freshness is the caller's to judge.
    Memory(Hit),
    /// A version whose head must be read from disk: [`Store::load`].
    OnDisk(OnDisk),
    /// Nothing to be used.
    Miss(MissReason),
}

/// Why nothing was found (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissReason {
    /// Nothing is stored under the key.
    Uri,
    /// Something is, but not for these values of the fields that it varies by.
    Vary,
}

/// The store. Clones are the same store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

impl Store {
    /// The latest purge position among the records that the disk tier had when it was opened; `None` if it had none.
    pub fn newest_found(&self) -> Option<PurgePosition> {
        self.0.newest_found()
    }

    /// Opens the tiers; what the disk holds is known when this returns.
    ///
    /// # Errors
    /// If the disk tier cannot work at all.
    pub async fn open(
        config: StoreConfig,
        device: Arc<dyn Device>,
        clock: Clock,
        spawner: &Spawner,
    ) -> Result<Self, StoreError> {
        let inner = Inner::new(&config, clock);
        if let Some(config) = config.disk {
            let mut recovery = Recovery::new(&inner);
            let disk =
                Disk::open(config, device, clock, spawner, |found| recovery.handle_found(found)).await?;
            let newest = recovery.finish();
            inner.attach(disk, newest);
        }
        let weak = Arc::downgrade(&inner);
        spawner.spawn(async move {
            loop {
                tokio::time::sleep(HOUSEKEEPING_INTERVAL).await;
                let Some(inner) = weak.upgrade() else { return };
                inner.housekeep().await;
            }
        });
        Ok(Self(inner))
    }

    /// Looks an object up. `variant_of` maps the object's Vary list to the variant of this request;
    /// it is not called for an object that does not vary, and no lock is held meanwhile.
    pub fn lookup(
        &self,
        object: ObjectId,
        key: &[u8],
        variant_of: impl FnOnce(&VaryList) -> VariantId,
    ) -> Lookup {
        self.0.look_up(object, Some(key), variant_of)
    }

    /// Reads the head and first bytes of what [`lookup`](Self::lookup) found on disk.
    ///
    /// # Errors
    /// All mean a miss; what was damaged is forgotten.
    pub async fn load(&self, on_disk: OnDisk) -> Result<Hit, LoadError> {
        self.0.load(on_disk).await
    }

    /// Looks an object up for a peer, which is given no other than it asks for: `variant_of` maps the object's
    /// Vary list to the variant that the peer names, if it knows that list. The key is the peer's to compare.
    pub fn find(&self, object: ObjectId, variant_of: impl FnOnce(&VaryList) -> VariantId) -> Lookup {
        self.0.look_up(object, None, variant_of)
    }

    /// BLAKE3 of each chunk of a stored version, if it is known; none for an empty body, which has no chunk.
    pub fn chunk_hashes(&self, hit: &Hit) -> Option<Arc<[[u8; 32]]>> {
        hit.chunk_hashes()
    }

    /// Begins to note what is added and removed, for [`changes`](Self::changes).
    pub fn watch(&self) {
        self.0.index.changelog.watch();
    }

    /// Takes what was added and removed since the last call, at most `max` of each; nothing personal. Only the
    /// last word on each variant is told, so the order of additions and removals does not matter. After an
    /// overflow this answers only that: what was noted until then is in [`holdings`](Self::holdings).
    pub fn changes(&self, max: usize) -> Changes {
        let index = &self.0.index;
        index.changelog.take(max, index.now_secs())
    }

    /// A part of what is stored, nothing personal, from `cursor` on; 0 begins. At most `max`, but at least
    /// the variants of one object; perhaps none, which is not the end. Returns also the next cursor, `None`
    /// at the end. What changes meanwhile is in [`changes`](Self::changes), if it was
    /// [watched](Self::watch) before the walk began.
    pub fn holdings(&self, cursor: u64, max: usize) -> (Vec<Holding>, Option<u64>) {
        self.0.index.holdings(cursor, max)
    }

    /// The Vary list of an object, if something is stored of it and it varies.
    pub fn vary(&self, object: ObjectId) -> Option<VaryList> {
        self.0.index.vary(object)
    }

    /// Begins to write a new version; it becomes visible with [`Filling::seal`].
    pub fn begin(&self, draft: HeadDraft) -> Filling {
        Filling::new(self.0.clone(), draft)
    }

    /// Replaces the head of a stored version after a 304 (RFC 9111 §4.3.4): `draft` has the merged
    /// fields, the new reception time, age and purge position; identity, selecting fields, length
    /// and body stay those of `hit`. The answer has the new head also if the version is no longer
    /// current and the store keeps the other. Waits for the disk's queue after the new head is visible.
    pub async fn refresh(&self, hit: &Hit, draft: HeadDraft) -> Hit {
        let inner = &self.0;
        let Some((head, admitted)) = self.renewed(hit, draft) else { return hit.clone() };
        let queued = inner.disk().is_some();
        let mut fresh = Hit { head: head.clone(), ..hit.clone() };
        if !admitted && !queued {
            return fresh;
        }
        let registration = Registration::new(inner.clone(), hit.object);
        let absent = MemoryKey::absent(hit.object, head.variant, 0);
        let tracked = admitted.then(|| inner.memory.seat(absent));
        let stay = tracked.as_ref().map(Tracked::key);
        let expiry = coarse_expiry(&head);
        let renewal = Renewal { queued, expiry, fill: registration.state.clone() };
        let new = NewHead { variant: head.variant, head: head.clone(), tracked, renewal: Some(renewal) };
        let Some(number) = inner.index.swap_head(hit.object, hit.anchor, new) else { return fresh };
        fresh.anchor = Anchor::Number(number);
        if let Some(stay) = stay {
            inner.enter_head(hit.object, stay, &head);
        }
        if queued && let Some(id) = inner.index.head_id(hit.object, number) {
            let record = NewRecord {
                kind: RecordKind::Head,
                id,
                position: head.position.get(),
                expiry,
                shared: !head.stays(),
                payload: head.block().clone(),
            };
            Filing::new(registration, number, record, None).queue().await;
        }
        fresh
    }

    /// `hit` with another head, which only who asked for it sees: as [`refresh`](Self::refresh), but what is stored stays.
    pub fn with_head(&self, hit: &Hit, draft: HeadDraft) -> Hit {
        let head = self.renewed(hit, draft).map(|(head, _)| head);
        Hit { head: head.unwrap_or_else(|| hit.head.clone()), ..hit.clone() }
    }

    fn renewed(&self, hit: &Hit, draft: HeadDraft) -> Option<(Arc<Head>, bool)> {
        let old = &hit.head;
        let draft = HeadDraft {
            variant: old.variant,
            version: old.version,
            selecting: old.selecting(),
            length: old.length,
            ..draft
        };
        let block = draft.encode(&old.body(), old.whole, &old.digest());
        let resident = hit.body.as_ref().map_or(0, |body| body.resident());
        self.0.decode_head(block, resident)
    }

    /// Forgets all variants of an object, for every later lookup and after a restart, and
    /// makes fills of it that have begun end with [`SealError::Superseded`]. Returns whether anything
    /// was stored. Dropped before it is ready, the object is gone all the same, and is
    /// kept from coming back after a restart by the housekeeping.
    pub async fn invalidate(&self, object: ObjectId) -> bool {
        let Invalidated { found, due, fills } = self.0.index.invalidate(object);
        let guard = due.map(|due| self.0.guard(due));
        self.0.settle();
        if let Some(guard) = guard {
            let filing = self.0.file_drop(guard, fills);
            if !matches!(tokio::time::timeout(INVALIDATE_WAIT, filing).await, Ok(true)) {
                tracing::warn!(%object, "invalidation is not on disk yet: a restart now may bring the object back");
            }
        }
        found
    }

    /// Forgets a version that was found to be purged. Who reads it already may go on. No record says so on disk yet when this
    /// returns: after a restart it may be found again, with the position that it has now.
    pub fn drop_purged(&self, hit: &Hit) {
        self.0.index.forget(hit.object, hit.anchor, Departure::Purged);
        self.0.settle();
    }

    /// What is stored of an object, for `shoal explain`.
    pub fn inspect(&self, object: ObjectId) -> Vec<Inspected> {
        self.0.index.inspect(object)
    }

    /// The figures of the store.
    pub fn usage(&self) -> StoreUsage {
        let memory = &self.0.memory;
        StoreUsage {
            memory: memory.used(),
            memory_bound: memory.bound(),
            memory_entries: memory.entries(),
            memory_refusals: memory.refusals(),
            index: self.0.index.usage(),
            disk: self.0.disk().map(Disk::usage),
        }
    }

    /// Writes what is queued for the disk and releases it. Lookups in memory go on.
    pub async fn close(&self) {
        let Some(disk) = self.0.disk() else { return };
        self.0.housekeep().await;
        if let Err(error) = disk.close().await {
            tracing::warn!(%error, "the disk tier did not close in order");
        }
    }
}

/// The names that a variant's selecting fields are of; `None` if there are none.
fn vary_list(selecting: &Selecting) -> Option<VaryList> {
    (!selecting.is_empty()).then(|| selecting.iter().map(|field| field.name.clone()).collect())
}

#[cfg(test)]
mod tests;
