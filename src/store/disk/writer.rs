//! The one writer of a store: a thread that takes records from the queue, fills segments, and
//! reclaims the oldest ahead of need (`reclaim`).
//!
//! Failures: a segment that a write or sync fails on is left behind as it is (what was written
//! before can be read), and what was not written goes to another one. After
//! [`FAILURES_MAX`] failures without a successful sync in between, or when an old segment can
//! neither be voided nor removed, the tier turns read-only.

use super::device::Folder;
use super::queue::{Job, Queue};
use super::reclaim::Victim;
use super::recover::Recovered;
use super::segments::{self, Segment, Shared};
use super::{AppendError, DiskState, Owner};
use crate::proto::segment::{Draft, Fill, HEADER_BLOCK, Place, RecordId, Unknown};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Weak};

/// About how many bytes are written at once.
pub(super) const BATCH_BYTES: usize = 1 << 20;
/// Bytes written between syncs. Bounds what a power cut loses and how long sealing takes.
const SYNC_BYTES: u32 = 16 << 20;
/// Failures in a row after which writing is given up.
const FAILURES_MAX: u32 = 4;

/// The writer's state. Made by recovery, moved into the thread.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: Arc<Queue>,
    /// Holds the lock: dropped last of all that writes.
    pub(super) folder: Box<dyn Folder>,
    pub(super) owner: Option<Weak<dyn Owner>>,
    /// Segments that can be filled, voided longest ago first.
    pub(super) free: VecDeque<Arc<Segment>>,
    /// Segments that hold records and are not written any more, the oldest first.
    pub(super) sealed: VecDeque<Arc<Segment>>,
    pub(super) open: Option<Open>,
    pub(super) victim: Option<Victim>,
    pub(super) next_sequence: u64,
    pub(super) next_generation: u32,
    pub(super) failures: u32,
    /// Nothing is written any more. Not the queue's state: that may be closed already.
    pub(super) given_up: bool,
    /// Whether the lack of space was told.
    pub(super) space_told: bool,
}

/// The segment that is being filled.
pub(super) struct Open {
    pub(super) segment: Arc<Segment>,
    pub(super) fill: Fill,
    /// Bytes to be written, which end at the fill's end.
    buffer: Vec<u8>,
    /// The records in the buffer.
    batch: Vec<Batched>,
    unsynced: u32,
}

/// A record in the buffer, and who is to be told when it is written.
enum Batched {
    New { job: Job, place: Place },
    Kept { id: RecordId, from: Place, to: Place },
}

/// The device failed; it was counted and told.
struct Failed;

impl Writer {
    /// The writer of an opened store.
    pub(super) fn new(recovered: Recovered, queue: Arc<Queue>) -> Self {
        Self {
            shared: recovered.shared,
            queue,
            folder: recovered.folder,
            owner: None,
            free: recovered.free,
            sealed: recovered.sealed,
            open: None,
            victim: None,
            next_sequence: recovered.next_sequence,
            next_generation: recovered.next_generation,
            failures: 0,
            given_up: false,
            space_told: false,
        }
    }

    /// Works until the queue is closed and empty, then seals the open segment.
    pub(super) fn run(mut self) {
        while let Some(jobs) = self.queue.take(BATCH_BYTES) {
            self.write(jobs);
        }
        // Each call of `write` leaves an empty buffer.
        self.seal();
    }

    /// Writes `jobs` and calls each `done`. Each further round comes of a failure, and those are
    /// bounded: after too many, what is left is refused.
    fn write(&mut self, mut jobs: VecDeque<Job>) {
        if !self.given_up {
            self.reclaim_ahead(&jobs);
        }
        while !jobs.is_empty() {
            while let Some(job) = jobs.pop_front() {
                if self.given_up {
                    job.finish(Err(AppendError::ReadOnly));
                } else if let Err(unwritten) = self.place(job) {
                    unwritten.into_iter().rev().for_each(|job| jobs.push_front(job));
                }
            }
            jobs = self.flush().err().unwrap_or_default();
        }
    }

    /// Puts a job into the buffer of the open segment, opening another one if it does not fit.
    ///
    /// # Errors
    /// The device failed: all jobs that are not written are given back, in order.
    fn place(&mut self, job: Job) -> Result<(), VecDeque<Job>> {
        let (kind, length) = (job.record.kind, job.record.payload.len());
        if !self.open.as_ref().is_some_and(|open| open.fill.fits(kind, length)) {
            let mut unwritten = self.flush().err().unwrap_or_default();
            if !unwritten.is_empty() || self.rotate().is_err() {
                unwritten.push_back(job);
                return Err(unwritten);
            }
        }
        let sequence = self.sequence();
        let open = self.open.as_mut().expect("rotate leaves an open segment");
        let record = &job.record;
        let draft = Draft {
            kind,
            rewritten: false,
            shared: record.shared,
            id: record.id,
            position: record.position,
            expiry: record.expiry,
            sum: job.sum,
            payload: &record.payload,
            unknown: Unknown::default(),
        };
        let place = open.fill.push(&mut open.buffer, draft, sequence);
        open.batch.push(Batched::New { job, place });
        if open.buffer.len() >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Puts a record of the victim into the buffer if the open segment has room for it.
    pub(super) fn place_kept(&mut self, draft: Draft<'_>, from: Place) -> bool {
        let sequence = self.sequence();
        let Some(open) = self.open.as_mut() else { return false };
        if !open.fill.fits(draft.kind, draft.payload.len()) {
            return false;
        }
        let to = open.fill.push(&mut open.buffer, draft, sequence);
        open.batch.push(Batched::Kept { id: draft.id, from, to });
        true
    }

    /// Bytes waiting in the buffer.
    pub(super) fn buffered(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.buffer.len())
    }

    /// Writes the buffer and tells of each record. On failure the open segment is left behind and
    /// the jobs are given back.
    pub(super) fn flush(&mut self) -> Result<(), VecDeque<Job>> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        if open.buffer.is_empty() {
            return Ok(());
        }
        let start = open.fill.end() - open.buffer.len() as u32;
        let written = open.segment.file.write(&open.buffer, u64::from(start));
        let bytes = open.buffer.len() as u32;
        open.buffer.clear();
        let batch = std::mem::take(&mut open.batch);
        if let Err(error) = written {
            self.fail("write a segment", &error);
            self.leave_behind();
            return Err(self.unwritten(batch));
        }
        open.segment.set_used(open.fill.end());
        open.unsynced += bytes;
        let sync_due = open.unsynced >= SYNC_BYTES;
        self.tell(batch);
        if sync_due {
            self.sync();
        }
        Ok(())
    }

    fn tell(&self, batch: Vec<Batched>) {
        let owner = self.owner();
        let counters = &self.shared.counters;
        for batched in batch {
            match batched {
                Batched::New { job, place } => {
                    counters.written_records.add(1);
                    counters.written_bytes.add(u64::from(place.length));
                    job.finish(Ok(place));
                }
                Batched::Kept { id, from, to } => {
                    counters.rewritten_bytes.add(u64::from(to.length));
                    if let Some(owner) = &owner {
                        owner.moved(&id, from, to);
                    }
                }
            }
        }
    }

    /// The jobs of a batch that failed. What was to be kept is lost: it would need its old bytes
    /// again, and its segment must be free soon.
    fn unwritten(&self, batch: Vec<Batched>) -> VecDeque<Job> {
        let mut jobs = VecDeque::new();
        for batched in batch {
            match batched {
                Batched::New { job, .. } => jobs.push_back(job),
                Batched::Kept { id, from, .. } => self.lose(&id, from),
            }
        }
        jobs
    }

    pub(super) fn lose(&self, id: &RecordId, place: Place) {
        self.shared.counters.lost_records.add(1);
        if let Some(owner) = self.owner() {
            owner.lost(id, place);
        }
    }

    /// Makes what was written to the open segment durable.
    pub(super) fn sync(&mut self) {
        let Some(open) = self.open.as_mut().filter(|open| open.unsynced > 0) else { return };
        match open.segment.file.sync() {
            Ok(()) => {
                open.unsynced = 0;
                self.failures = 0;
            }
            Err(error) => {
                // What the system could not write it may also have dropped; checksums will tell.
                self.fail("sync a segment", &error);
                self.leave_behind();
            }
        }
    }

    /// Seals the open segment and opens a free one, reclaiming the oldest if there is none.
    fn rotate(&mut self) -> Result<(), Failed> {
        self.finish_reclaim();
        self.seal();
        self.prepare()?;
        // Only if nothing could be reclaimed while there was a segment to keep records in.
        self.finish_reclaim();
        let segment = self.free.pop_front().ok_or(Failed)?;
        let fill = Fill::new(segment.number, segment.key, segment.generation(), self.shared.geometry.segment);
        segment.set_used(HEADER_BLOCK);
        self.open = Some(Open {
            segment,
            fill,
            buffer: Vec::with_capacity(BATCH_BYTES),
            batch: Vec::new(),
            unsynced: 0,
        });
        self.prepare()
    }

    /// Sees to it that there is a free segment, or a victim that will become one.
    fn prepare(&mut self) -> Result<(), Failed> {
        if !self.free.is_empty() || self.victim.is_some() || self.create() {
            return Ok(());
        }
        match self.sealed.pop_front() {
            Some(segment) => self.begin_reclaim(segment),
            None if self.open.is_some() => {}
            None => {
                self.fail("find a segment to write", &io::ErrorKind::StorageFull.into());
                return Err(Failed);
            }
        }
        Ok(())
    }

    /// Makes a new segment if there may be more.
    fn create(&mut self) -> bool {
        if self.shared.segments().count() >= self.shared.geometry.segments as usize {
            return false;
        }
        let Some(number) = self.shared.vacant() else { return false };
        let generation = self.generation();
        let header = self.shared.header(number, generation);
        match segments::create(&*self.folder, &header) {
            Ok(segment) => {
                let segment = Arc::new(segment);
                self.shared.insert(Arc::clone(&segment));
                self.free.push_back(segment);
                self.space_told = false;
                true
            }
            Err(error) => {
                self.shared.counters.write_errors.add(1);
                if !std::mem::replace(&mut self.space_told, true) {
                    tracing::warn!(%error, "no new disk segment could be made; the tier stays smaller than configured");
                }
                false
            }
        }
    }

    /// Writes summary and trailer of the open segment, and closes it. Without them it is scanned
    /// header by header; so failures cost no records.
    fn seal(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        let trailer = open.fill.seal(&mut open.buffer);
        let start = open.fill.end() - open.buffer.len() as u32;
        let file = &open.segment.file;
        let sealed = file
            .write(&open.buffer, u64::from(start))
            .and_then(|()| file.write(&trailer, u64::from(open.fill.trailer_offset())))
            .and_then(|()| file.sync());
        open.segment.set_used(open.fill.end());
        self.sealed.push_back(open.segment);
        match sealed {
            Ok(()) => self.failures = 0,
            Err(error) => self.fail("seal a segment", &error),
        }
    }

    /// Goes on without the open segment. It is not sealed, so a start scans it.
    fn leave_behind(&mut self) {
        if let Some(open) = self.open.take() {
            self.sealed.push_back(open.segment);
        }
    }

    /// Counts a failure and gives writing up after too many.
    pub(super) fn fail(&mut self, action: &'static str, error: &io::Error) {
        self.shared.counters.write_errors.add(1);
        self.failures += 1;
        tracing::warn!(action, %error, failures = self.failures, "the disk tier failed");
        if self.failures >= FAILURES_MAX {
            self.give_up("too many failures in a row");
        }
    }

    /// Takes no more records until the next start.
    pub(super) fn give_up(&mut self, reason: &'static str) {
        if !std::mem::replace(&mut self.given_up, true) {
            tracing::error!(reason, "the disk tier is read-only from now on");
            self.queue.stop(DiskState::ReadOnly);
        }
    }

    pub(super) fn owner(&self) -> Option<Arc<dyn Owner>> {
        self.owner.as_ref().and_then(Weak::upgrade)
    }

    /// The next generation; each is used once, also if what it was for fails.
    pub(super) const fn generation(&mut self) -> u32 {
        let generation = self.next_generation;
        self.next_generation = generation.saturating_add(1);
        generation
    }

    const fn sequence(&mut self) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence = sequence.saturating_add(1);
        sequence
    }
}
