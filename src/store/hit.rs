//! A stored version in the hands of a request.

use crate::proto::object::Head;
use bytes::Bytes;
use std::sync::Arc;

pub use crate::proto::plan::Tier;

/// A version on disk, as the index knows it.
pub struct OnDisk(());

/// Why a stored part could not be had. All mean a miss (or, within a body, a cut).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It is no longer stored, or never was.
    #[error("no longer stored")]
    Gone,
    /// It was damaged or belongs to another key; it is forgotten.
    #[error("damaged on disk")]
    Damaged,
    /// The disk failed or is closed.
    #[error("disk failed")]
    Disk,
}

impl LoadError {
    /// The one name of this error.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Damaged => "damaged",
            Self::Disk => "disk_failed",
        }
    }
}

/// A stored version. Clones are cheap.
#[derive(Clone)]
pub struct Hit {
    /// Its head with the first body bytes.
    pub head: Arc<Head>,
    /// Where the head was found.
    pub tier: Tier,
}

impl Hit {
    /// Record `index` (from 1; record 0 is `head.body()`) if it is in memory.
    pub fn record_now(&self, index: u32) -> Option<Bytes> {
        let _ = index;
        todo!()
    }

    /// Record `index` (from 1), from memory or disk.
    ///
    /// # Errors
    /// If it cannot be had any more; the version is forgotten then.
    pub async fn record(&self, index: u32) -> Result<Bytes, LoadError> {
        let _ = index;
        todo!()
    }
}
