//! The disk tier: a log-structured store of records in preallocated segments of one folder.

mod device;

pub use crate::proto::segment::{Place, RecordId, RecordKind};
pub use device::{Device, FileDevice, Folder, Storage};

use crate::clock::Clock;
use crate::proto::object::PurgePosition;
use crate::task::Spawner;
use bytes::Bytes;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

/// A folder for the tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// The folder; made if it is missing. One process at a time.
    pub path: PathBuf,
    /// Bytes that the tier may take in it, everything included.
    pub size: u64,
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

/// A record found on disk at start. Its header was checked, its payload (but a `Seal`'s) is
/// checked when it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
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
///
/// All calls, and the `done` of [`Disk::append`], come from the one writer thread and must
/// neither block nor call back into the tier. Two rules keep old records from coming back:
/// the owner forgets an object *before* it appends the object's `Drop`, and it takes a new place
/// into its index *within* `done`.
pub trait Owner: Send + Sync {
    /// Asked for each record (but `Drop`s) of a segment before it is reused. After `Gone` the
    /// owner must not read that place again.
    fn fate(&self, kind: RecordKind, id: &RecordId, place: Place) -> Fate;

    /// A kept record was written again; the owner swaps places if it still held `from`.
    fn moved(&self, id: &RecordId, from: Place, to: Place);

    /// A record that was to be kept could not be (no room left for the kept, or a failed read or
    /// write): the owner forgets it if it still held `place`.
    fn lost(&self, id: &RecordId, place: Place);
}

/// Why the tier could not be opened or closed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The configured size holds too little to be of use.
    #[error("disk size {size} is too small: at least {least} bytes are needed")]
    TooSmall {
        /// As configured.
        size: u64,
        /// The least that works.
        least: u64,
    },
    /// Another process, or another tier of this one, has the folder.
    #[error("{path} is in use by another process")]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The folder was written by a later, incompatible release. Nothing was touched.
    #[error(
        "{path} has disk format {found}, this release reads up to {supported}; use another folder or empty it"
    )]
    Format {
        /// The folder.
        path: PathBuf,
        /// Major version found.
        found: u16,
        /// Major version of this release.
        supported: u16,
    },
    /// Not one segment fits into the file system.
    #[error("no space in {path}: not even one segment of {segment} bytes fits")]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// Bytes of a segment.
        segment: u64,
    },
    /// The system refused something that the tier cannot do without.
    #[error("cannot {action} in {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A thread of the tier panicked, or the runtime is shutting down.
    #[error("the disk tier stopped unexpectedly")]
    Stopped,
}

/// Why a record was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No segment could hold it.
    #[error("a record of {length} bytes is longer than {limit}")]
    TooLarge {
        /// Bytes of its payload.
        length: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// The tier has given up writing: see [`DiskUsage::state`].
    #[error("the disk tier is read-only")]
    ReadOnly,
    /// The tier is closed or closing.
    #[error("the disk tier is closed")]
    Closed,
}

/// Why a record was not read. All of them mean a miss; the owner forgets the place.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Another record is there by now: the segment was reused.
    #[error("the record is no longer there")]
    Stale,
    /// What is there does not match its checksum.
    #[error("the record is damaged")]
    Damaged,
    /// The device failed.
    #[error("the record cannot be read")]
    Io(#[source] io::Error),
    /// The tier is closed, or the runtime is shutting down.
    #[error("the disk tier is closed")]
    Closed,
}

/// Whether the tier takes records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskState {
    /// Records are read and written.
    Running,
    /// Writing failed too often; what is there can be read.
    ReadOnly,
    /// Closed.
    Closed,
}

impl DiskState {
    /// The word for metrics and the admin view.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::ReadOnly => "read_only",
            Self::Closed => "closed",
        }
    }
}

/// What the tier holds and has done since it was opened. Sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskUsage {
    /// Whether records are taken.
    pub state: DiskState,
    /// Bytes allowed by the configuration.
    pub size: u64,
    /// Bytes of the files in the folder that are the tier's.
    pub allocated: u64,
    /// Bytes of segments that hold records (also dead ones), padding included.
    pub used: u64,
    /// Segments that exist.
    pub segments: u64,
    /// Segments that can be written without reclaiming, those not yet made included.
    pub segments_free: u64,
    /// Bytes of records waiting to be written.
    pub queued: u64,
    /// The bound of `queued`.
    pub queue_limit: u64,
    /// Records written.
    pub written_records: u64,
    /// Bytes written for them.
    pub written_bytes: u64,
    /// Reads that the device failed.
    pub read_errors: u64,
    /// Writes, syncs and preallocations that the device failed.
    pub write_errors: u64,
    /// Records read whose sums did not match, and segments found damaged at start.
    pub damaged: u64,
    /// Reads of places that were reused meanwhile.
    pub stale_reads: u64,
    /// Segments made free for reuse.
    pub reclaimed_segments: u64,
    /// Bytes in them.
    pub reclaimed_bytes: u64,
    /// Bytes of records that were kept by writing them again.
    pub rewritten_bytes: u64,
    /// Records that were to be kept and could not be.
    pub lost_records: u64,
}

/// The disk tier of one folder. Clones are the same tier.
#[derive(Clone)]
pub struct Disk(Arc<()>);

impl Disk {
    /// Opens or makes the store and hands every record that is still there to `found`, oldest
    /// first (by sequence), before it returns. Appended records wait until [`start`](Self::start).
    ///
    /// Damage is survived: what cannot be read is missing.
    ///
    /// # Errors
    /// If the tier cannot work in that folder at all.
    pub async fn open(
        config: DiskConfig,
        device: Arc<dyn Device>,
        clock: Clock,
        spawner: &Spawner,
        found: impl FnMut(Found) + Send,
    ) -> Result<Self, DiskError> {
        let _ = (config, device, clock, spawner, found);
        todo!()
    }

    /// Starts the writer. `owner` is asked and told about the records; the tier does not keep it
    /// alive, and treats all records as gone when it is not. Only the first call counts.
    pub fn start(&self, owner: Weak<dyn Owner>) {
        let _ = owner;
        todo!()
    }

    /// Queues a record; waits while the queue is full (`WRITE_QUEUE_BYTES`). After `Ok`, `done` is called exactly
    /// once, from the writer's thread; after an error, or if the future is dropped before it is
    /// ready, never.
    ///
    /// # Errors
    /// If the record is refused.
    pub async fn append(
        &self,
        record: NewRecord,
        done: impl FnOnce(Result<Place, AppendError>) + Send + 'static,
    ) -> Result<(), AppendError> {
        let _ = (record, done);
        todo!()
    }

    /// Reads the payload of a record and checks identity and sums; the result is an allocation
    /// of exactly the payload. What is in the page cache is read without a change of thread.
    ///
    /// # Errors
    /// All mean a miss.
    pub async fn read(&self, place: Place, id: &RecordId) -> Result<Bytes, ReadError> {
        let _ = (place, id);
        todo!()
    }

    /// The figures of the tier.
    pub fn usage(&self) -> DiskUsage {
        todo!()
    }

    /// Writes what is queued, seals the open segment and releases the folder. Further calls of
    /// anything are refused.
    ///
    /// # Errors
    /// If the writer had died.
    pub async fn close(&self) -> Result<(), DiskError> {
        todo!()
    }
}
