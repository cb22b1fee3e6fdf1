//! What the store tells of itself: figures for metrics, contents for `explain`.

use super::{DiskUsage, VaryList};
use crate::proto::key::{VariantId, VersionId};
use crate::proto::object::{Head, PurgePosition};
use std::sync::Arc;

/// Why a version left the index, other than for a newer one of its variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Departure {
    /// The memory tier gave up a part that is nowhere else.
    Memory,
    /// Its segment on disk was reused.
    Reclaimed,
    /// The index is full.
    Index,
    /// The object has too many variants.
    Variants,
    /// A record could not be written, and is no longer in memory.
    Unwritten,
    /// A record on disk was damaged or could not be read.
    Damaged,
    /// A record was found to be missing.
    Incomplete,
    /// The object was invalidated (counted once for all its variants).
    Invalidated,
    /// A look-up found that a purge selects it.
    Purged,
}

impl Departure {
    /// All reasons, in the order of their metrics.
    pub const ALL: [Self; 9] = [
        Self::Memory,
        Self::Reclaimed,
        Self::Index,
        Self::Variants,
        Self::Unwritten,
        Self::Damaged,
        Self::Incomplete,
        Self::Invalidated,
        Self::Purged,
    ];

    /// The one name of this reason.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Reclaimed => "reclaimed",
            Self::Index => "index",
            Self::Variants => "variants",
            Self::Unwritten => "unwritten",
            Self::Damaged => "damaged",
            Self::Incomplete => "incomplete",
            Self::Invalidated => "invalidated",
            Self::Purged => "purged",
        }
    }
}

/// Where a record of a version is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// In the memory tier.
    pub memory: bool,
    /// Waiting to be written to disk.
    pub queued: bool,
    /// On disk.
    pub disk: bool,
}

/// A stored variant, as the index knows it.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// The variant; `None` if only its record on disk says.
    pub variant: Option<VariantId>,
    /// The version; `None` if only its record on disk says.
    pub version: Option<VersionId>,
    /// The names that the object varies by.
    pub vary: Option<VaryList>,
    /// The node's purge position when the fetch began.
    pub position: PurgePosition,
    /// When it is no longer fresh, about, in seconds since the epoch; 0 if it never is.
    pub expiry: u32,
    /// Bytes of the body; `None` if only its record on disk says.
    pub length: Option<u64>,
    /// The head, if in memory.
    pub head: Option<Arc<Head>>,
    /// Where each record is; the first is the head's.
    pub records: Vec<Whereabouts>,
}

/// The figures of the index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexUsage {
    /// Objects known.
    pub objects: u64,
    /// Those of them that are one record on disk and not in memory.
    pub objects_lean: u64,
    /// Estimated bytes of memory of the index, beside the memory tier.
    pub bytes: u64,
    /// The bound of `bytes`.
    pub bytes_bound: u64,
    /// Versions being written.
    pub fills: u64,
    /// Objects that wait for a record on disk which says that they are gone.
    pub forgotten: u64,
    /// Versions that left, by [`Departure::ALL`].
    pub departures: [u64; Departure::ALL.len()],
}

impl IndexUsage {
    /// Versions that left for this reason.
    pub const fn departed(&self, departure: Departure) -> u64 {
        self.departures[departure as usize]
    }
}

/// The figures of the store. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUsage {
    /// Bytes of memory held by heads and slices, also by those that are only being read or written
    /// any more, with a fixed addition for each.
    pub memory: u64,
    /// The bound of `memory`, never passed; 0 if the configured memory is too little for a tier.
    pub memory_bound: u64,
    /// Heads and slices in memory, about.
    pub memory_entries: u64,
    /// Heads and slices that were not taken into memory because the bound would have been passed.
    pub memory_refusals: u64,
    /// The index.
    pub index: IndexUsage,
    /// The disk tier, if there is one.
    pub disk: Option<DiskUsage>,
}
