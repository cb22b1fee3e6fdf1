//! The disk tier: a log-structured store of records in preallocated segments of one folder.

use crate::clock::Clock;
use crate::proto::key::{ObjectId, VariantId, VersionId};
use crate::proto::object::PurgePosition;
use crate::task::Spawner;
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::Arc;

/// What a record is. Numbers are part of the disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// Record 0 of a version: its head and first body bytes. If the head says `whole`, it is complete.
    Head = 1,
    /// A later slice of the body.
    Slice = 2,
    /// Says that a version of several records is complete: its length and chunk hashes.
    Seal = 3,
    /// Says that everything of the object written before is gone.
    Drop = 4,
}

/// The identity of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordId {
    /// The object.
    pub object: ObjectId,
    /// The variant.
    pub variant: VariantId,
    /// The version.
    pub version: VersionId,
    /// Index of the record in its version; 0 for the head.
    pub index: u32,
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Number of the segment.
    pub segment: u32,
    /// Offset of the record header in its segment.
    pub offset: u32,
    /// Length of the record with its header, without padding.
    pub length: u32,
}

/// A record to write.
#[derive(Clone, Debug)]
pub struct NewRecord {
    /// What it is.
    pub kind: RecordKind,
    /// Its identity.
    pub id: RecordId,
    /// The purge position of the fetch.
    pub position: PurgePosition,
    /// Coarse expiry in seconds since the epoch, 0 if unknown; only advice for reclaim.
    pub expiry: u32,
    /// The payload.
    pub payload: Bytes,
}

/// A record found on disk at start.
#[derive(Clone, Debug)]
pub struct Found {
    /// What it is.
    pub kind: RecordKind,
    /// Its identity.
    pub id: RecordId,
    /// Where it is.
    pub place: Place,
    /// Order of writing over the whole store; higher is later.
    pub sequence: u64,
    /// The purge position of the fetch.
    pub position: PurgePosition,
    /// Coarse expiry as written.
    pub expiry: u32,
    /// For `Seal` records, the payload (they are small); else empty.
    pub payload: Bytes,
}

/// What becomes of a record whose segment is to be reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nobody needs it; the owner has forgotten this place.
    Gone,
    /// It is in use and was asked for of late: write it again elsewhere, then call `Owner::moved`.
    Keep,
}

/// The owner of the records: the store's index.
pub trait Owner: Send + Sync {
    /// Asked for each record of a segment before it is reused. After `Gone` the owner must not
    /// read that place again.
    fn fate(&self, kind: RecordKind, id: &RecordId, place: Place) -> Fate;
    /// A kept record was written again; the owner swaps places if it still held `from`.
    fn moved(&self, id: &RecordId, from: Place, to: Place);
}
