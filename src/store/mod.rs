//! What this node has stored: the index, which is the truth, a memory tier and a disk tier.

pub mod disk;
mod filling;
mod hit;
mod usage;

pub use disk::{Device, DiskConfig, DiskError, DiskUsage, FileDevice};
pub use filling::{Filling, Partial, SealError};
pub use hit::{Hit, LoadError, OnDisk, Tier};
pub use usage::{Inspected, StoreUsage, Whereabouts};

use crate::clock::Clock;
use crate::proto::key::{ObjectId, VariantId};
use crate::proto::object::HeadDraft;
use crate::task::Spawner;
use std::sync::Arc;

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
    #[error("disk tier: {0}")]
    Disk(#[from] DiskError),
}

/// The names of the request fields that an object varies by, in the order of its `Vary`.
pub use crate::proto::semantics::VaryList;

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
pub struct Store(Arc<()>);

impl Store {
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
        let _ = (config, device, clock, spawner);
        todo!()
    }

    /// Looks an object up. `variant_of` maps the object's Vary list to the variant of this request;
    /// it is not called for an object that does not vary.
    pub fn lookup(
        &self,
        object: ObjectId,
        key: &[u8],
        variant_of: impl FnOnce(&VaryList) -> VariantId,
    ) -> Lookup {
        let _ = (object, key, variant_of);
        todo!()
    }

    /// Reads the head and first bytes of what [`lookup`](Self::lookup) found on disk.
    ///
    /// # Errors
    /// All mean a miss; what was damaged is forgotten.
    pub async fn load(&self, on_disk: OnDisk) -> Result<Hit, LoadError> {
        let _ = on_disk;
        todo!()
    }

    /// The Vary list of an object, if something is stored of it and it varies.
    pub fn vary(&self, object: ObjectId) -> Option<VaryList> {
        let _ = object;
        todo!()
    }

    /// Begins to write a new version; it becomes visible with [`Filling::seal`].
    pub fn begin(&self, draft: HeadDraft) -> Filling {
        let _ = draft;
        todo!()
    }

    /// Replaces the head of a stored version after a 304 (RFC 9111 §4.3.4): `draft` has the merged
    /// fields, the new reception time and age; version, variant, length and body stay those of `hit`.
    pub async fn refresh(&self, hit: &Hit, draft: HeadDraft) -> Hit {
        let _ = (hit, draft);
        todo!()
    }

    /// Forgets all variants of an object, for every later lookup and after a restart, and
    /// makes fills of it that have begun end with [`SealError::Superseded`]. Returns whether anything
    /// was stored.
    pub async fn invalidate(&self, object: ObjectId) -> bool {
        let _ = object;
        todo!()
    }

    /// What is stored of an object, for `shoal explain`.
    pub fn inspect(&self, object: ObjectId) -> Vec<Inspected> {
        let _ = object;
        todo!()
    }

    /// The figures of the store.
    pub fn usage(&self) -> StoreUsage {
        todo!()
    }

    /// Writes what is queued for the disk and releases it. Lookups in memory go on.
    pub async fn close(&self) {
        todo!()
    }
}
