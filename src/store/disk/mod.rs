//! The disk tier: a log-structured store of records in preallocated segments of one folder.

//!
//! The types and the doors are here; the format and the reasons for it in `proto::segment`.
//! `writer` owns everything that is written (one thread for each store), `reclaim` is its part
//! that frees segments, `reader` reads for many, `recover` opens a store, `queue` is between
//! those who append and the writer, `segments` is what all of them share, `device` is the system.
//! What a record means, and which are still needed, the [`Owner`] knows.

mod device;
#[cfg(test)]
pub(crate) mod hooked;
mod queue;
mod reader;
mod reclaim;
mod recover;
mod segments;
mod writer;

#[cfg(test)]
mod tests;

pub use crate::proto::segment::{Place, RecordId, RecordKind};
pub use device::{Device, FileDevice, Folder, Storage};

use crate::clock::Clock;
use crate::proto::object::PurgePosition;
use crate::task::Spawner;
use bytes::Bytes;
use parking_lot::Mutex;
use queue::{Queue, WRITE_QUEUE_BYTES};
use reader::Reader;
use recover::{Progress, Recovered, recover};
use segments::Shared;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc;
use writer::Writer;

/// Batches of found records between recovery and the owner.
const FOUND_BATCHES: usize = 4;
/// Between two words on how far the opening of a large folder is.
const TELL_EVERY: Duration = Duration::from_secs(2);

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
    /// Whether it is a head of which other nodes may be told.
    pub shared: bool,
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
    /// Whether it is a head of which other nodes may be told; not if an older release wrote it.
    pub shared: bool,
    /// For `Seal` records, the payload (they are small); else empty.
    pub payload: Bytes,
}

/// What becomes of a record whose segment is to be reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nobody needs it; the owner has forgotten this place.
    Gone,
    /// It is in use and was asked for of late: it is written again elsewhere, and `Owner::moved`
    /// or `Owner::lost` is called.
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
    /// The folder was written by an incompatible release. Nothing was touched.
    #[error(
        "the cache in {path} has disk format {}.{}, and this release reads {supported}.x alone; nothing was changed: \
         start the release that wrote it, name another folder, or empty this one", found.0, found.1
    )]
    Format {
        /// The folder.
        path: PathBuf,
        /// Major and minor version found.
        found: (u16, u16),
        /// Major version of this release.
        supported: u16,
    },
    /// The folder was written by a later release, with features that this one does not know. Nothing was touched.
    #[error(
        "the cache in {path} uses features of a later release ({unknown:#x}); nothing was changed: start the release \
         that wrote it, name another folder, or empty this one"
    )]
    Features {
        /// The folder.
        path: PathBuf,
        /// The features that are not known, as bits.
        unknown: u64,
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

/// The disk tier of one folder. Clones are the same tier. When the last one is dropped without
/// [`close`](Self::close), the writer writes what is queued and ends by itself.
#[derive(Clone)]
pub struct Disk(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    reader: Reader,
    spawner: Spawner,
    writer: Mutex<WriterThread>,
}

/// Where the writer is.
enum WriterThread {
    Waiting(Box<Writer>),
    Running(JoinHandle<()>),
    Ended,
}

impl Disk {
    /// Opens or makes the store and hands every record that is still there to `found`, oldest
    /// first (by sequence), before it returns. Appended records wait until [`start`](Self::start).
    ///
    /// Damage is survived: what cannot be read is missing. Each segment takes an open file.
    ///
    /// # Errors
    /// If the tier cannot work in that folder at all.
    pub async fn open(
        config: DiskConfig,
        device: Arc<dyn Device>,
        clock: Clock,
        spawner: &Spawner,
        mut found: impl FnMut(Found) + Send,
    ) -> Result<Self, DiskError> {
        let began = clock.now().mono;
        let path = config.path.clone();
        let (sender, mut receiver) = mpsc::channel(FOUND_BATCHES);
        // If this future is dropped, the receiver is, and nothing more is handed over.
        let progress = Arc::new(Progress::default());
        let (told, mut tell_at) = (Arc::clone(&progress), began + TELL_EVERY);
        let work = spawner.blocking(move || {
            recover(&config, &*device, &progress, |batch| sender.blocking_send(batch).is_ok())
        });
        let hand_over = async {
            loop {
                match tokio::time::timeout(TELL_EVERY, receiver.recv()).await {
                    Ok(Some(batch)) => batch.into_iter().for_each(&mut found),
                    Ok(None) => return,
                    Err(_nothing_yet) => {}
                }
                if clock.mono() >= tell_at {
                    told.tell(clock.mono().saturating_duration_since(began));
                    tell_at = clock.mono() + TELL_EVERY;
                }
            }
        };
        let (recovered, ()) = tokio::join!(work, hand_over);
        let recovered = recovered.ok_or(DiskError::Stopped)??;
        let took = clock.now().mono.duration_since(began);
        let (records, segments) = (recovered.records, recovered.sealed.len());
        tracing::info!(path = %path.display(), records, segments, ?took, "disk tier opened");
        Ok(Self::new(recovered, spawner))
    }

    fn new(recovered: Recovered, spawner: &Spawner) -> Self {
        let shared = Arc::clone(&recovered.shared);
        let queue = Arc::new(Queue::new());
        let writer = Writer::new(recovered, Arc::clone(&queue));
        Self(Arc::new(Inner {
            reader: Reader::new(Arc::clone(&shared), spawner.clone()),
            shared,
            queue,
            spawner: spawner.clone(),
            writer: Mutex::new(WriterThread::Waiting(Box::new(writer))),
        }))
    }

    /// Starts the writer. `owner` is asked and told about the records; the tier does not keep it
    /// alive, and treats all records as gone when it is not. Only the first call counts.
    pub fn start(&self, owner: Weak<dyn Owner>) {
        let mut thread = self.0.writer.lock();
        match std::mem::replace(&mut *thread, WriterThread::Ended) {
            WriterThread::Waiting(mut writer) => {
                writer.owner = Some(owner);
                *thread = run_writer(writer, &self.0.queue);
            }
            other => *thread = other,
        }
    }

    /// Queues a record; waits while more than 16 MiB wait to be written. After `Ok`, `done` is
    /// called exactly once, from the writer's thread (or where the tier is closed); after an
    /// error, or if the future is dropped before it is ready, never.
    ///
    /// `Ok(place)` means that the record can be read, also after this process is killed. It
    /// survives a power cut only from the next sync on.
    ///
    /// # Errors
    /// If the record is refused.
    pub async fn append(
        &self,
        record: NewRecord,
        done: impl FnOnce(Result<Place, AppendError>) + Send + 'static,
    ) -> Result<(), AppendError> {
        let (length, limit) = (record.payload.len(), self.0.shared.geometry.payload_limit() as usize);
        if length > limit {
            return Err(AppendError::TooLarge { length, limit });
        }
        self.0.queue.append(record, done).await
    }

    /// Reads the payload of a record and checks identity and sums; the result is an allocation
    /// of exactly the payload. What is in the page cache is read without a change of thread.
    ///
    /// # Errors
    /// All mean a miss.
    pub async fn read(&self, place: Place, id: &RecordId) -> Result<Bytes, ReadError> {
        if self.0.queue.state() == DiskState::Closed {
            return Err(ReadError::Closed);
        }
        self.0.reader.read(place, id).await
    }

    /// The figures of the tier.
    pub fn usage(&self) -> DiskUsage {
        let Inner { shared, queue, .. } = &*self.0;
        let (mut segments, mut used_segments, mut used) = (0, 0, 0);
        for segment in shared.segments() {
            segments += 1;
            used += u64::from(segment.used());
            used_segments += u64::from(segment.used() > 0);
        }
        let counters = &shared.counters;
        DiskUsage {
            state: queue.state(),
            size: shared.size,
            allocated: segments * u64::from(shared.geometry.segment),
            used,
            segments,
            segments_free: u64::from(shared.geometry.segments).saturating_sub(used_segments),
            queued: queue.queued(),
            queue_limit: u64::from(WRITE_QUEUE_BYTES),
            written_records: counters.written_records.value(),
            written_bytes: counters.written_bytes.value(),
            read_errors: counters.read_errors.value(),
            write_errors: counters.write_errors.value(),
            damaged: counters.damaged.value(),
            stale_reads: counters.stale_reads.value(),
            reclaimed_segments: counters.reclaimed_segments.value(),
            reclaimed_bytes: counters.reclaimed_bytes.value(),
            rewritten_bytes: counters.rewritten_bytes.value(),
            lost_records: counters.lost_records.value(),
        }
    }

    /// Writes what is queued, seals the open segment and releases the folder. Reads and appends
    /// are refused from now on. If it is called twice, the second call does not wait.
    ///
    /// # Errors
    /// If the writer had died.
    pub async fn close(&self) -> Result<(), DiskError> {
        self.0.queue.stop(DiskState::Closed);
        let thread = std::mem::replace(&mut *self.0.writer.lock(), WriterThread::Ended);
        let ended = match thread {
            // Its thread ends whether this future is awaited or dropped.
            WriterThread::Running(thread) => {
                self.0.spawner.blocking(move || thread.join().is_ok()).await == Some(true)
            }
            WriterThread::Waiting(_) | WriterThread::Ended => true,
        };
        self.0.queue.clear();
        if ended { Ok(()) } else { Err(DiskError::Stopped) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.stop(DiskState::Closed);
        if matches!(*self.writer.lock(), WriterThread::Waiting(_)) {
            self.queue.clear();
        }
    }
}

/// Runs the writer on a thread of its own: it blocks, and for long.
fn run_writer(writer: Box<Writer>, queue: &Arc<Queue>) -> WriterThread {
    let ending = Ending(Arc::clone(queue));
    let work = move || {
        let _ending = ending;
        writer.run();
    };
    match std::thread::Builder::new().name("shoal-disk".to_owned()).spawn(work) {
        Ok(thread) => WriterThread::Running(thread),
        Err(error) => {
            tracing::error!(%error, "the disk tier is read-only: its thread cannot be started");
            WriterThread::Ended
        }
    }
}

/// When the writer's thread ends, be it by a panic, nothing waits for it any more.
struct Ending(Arc<Queue>);

impl Drop for Ending {
    fn drop(&mut self) {
        if self.0.state() == DiskState::Running {
            tracing::error!("the disk writer ended; the disk tier is read-only");
        }
        self.0.stop(DiskState::ReadOnly);
        self.0.clear();
    }
}
