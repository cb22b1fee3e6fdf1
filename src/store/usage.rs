//! What the store tells of itself: figures for metrics, contents for `explain`.

use super::{DiskUsage, VaryList};
use crate::proto::key::{VariantId, VersionId};
use crate::proto::object::Head;
use std::sync::Arc;

/// Where a part of a version is.
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
    /// The variant, if known without reading the disk.
    pub variant: Option<VariantId>,
    /// The version, if known without reading the disk.
    pub version: Option<VersionId>,
    /// The names that the object varies by.
    pub vary: Option<VaryList>,
    /// Length of the body, if known without reading the disk.
    pub length: Option<u64>,
    /// The head, if in memory.
    pub head: Option<Arc<Head>>,
    /// Where each record is; the first is the head's.
    pub records: Vec<Whereabouts>,
}

/// The figures of the store. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUsage {
    /// Bytes of memory held.
    pub memory: u64,
    /// The bound of `memory`.
    pub memory_bound: u64,
    /// The disk tier, if there is one.
    pub disk: Option<DiskUsage>,
}
