//! The bounded queue of records between those who append and the writer.

use super::{AppendError, DiskState, NewRecord, Place};
use crate::proto::segment::RECORD_HEADER;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of records (headers included) that may wait to be written. Larger absorbs longer pauses
/// of the disk; smaller holds fewer bodies in memory.
pub(super) const WRITE_QUEUE_BYTES: u32 = 16 << 20;

/// A record in the queue. Its `done` is called exactly once, at the latest when it is dropped.
pub(super) struct Job {
    pub(super) record: NewRecord,
    /// crc32c of the payload, taken by whoever appends, so that the one writer need not.
    pub(super) sum: u32,
    done: Done,
    _room: OwnedSemaphorePermit,
}

impl Job {
    pub(super) fn finish(self, result: Result<Place, AppendError>) {
        self.done.call(result);
    }

    /// Bytes that it takes in the queue.
    fn cost(record: &NewRecord) -> u32 {
        u32::try_from(record.payload.len() + RECORD_HEADER).unwrap_or(u32::MAX)
    }
}

type Callback = Box<dyn FnOnce(Result<Place, AppendError>) + Send>;

struct Done(Option<Callback>);

impl Done {
    fn call(mut self, result: Result<Place, AppendError>) {
        if let Some(callback) = self.0.take() {
            callback(result);
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(callback) = self.0.take() {
            callback(Err(AppendError::Closed));
        }
    }
}

/// The queue. Any number of threads append, one takes.
pub(super) struct Queue {
    inner: Mutex<Inner>,
    filled: Condvar,
    room: Arc<Semaphore>,
}

struct Inner {
    jobs: VecDeque<Job>,
    state: DiskState,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner { jobs: VecDeque::new(), state: DiskState::Running }),
            filled: Condvar::new(),
            room: Arc::new(Semaphore::new(WRITE_QUEUE_BYTES as usize)),
        }
    }

    /// Adds a record, waiting for room; see `Disk::append`. Dropping the future before it is
    /// ready leaves nothing behind.
    pub(super) async fn append(
        &self,
        record: NewRecord,
        done: impl FnOnce(Result<Place, AppendError>) + Send + 'static,
    ) -> Result<(), AppendError> {
        self.check()?;
        let cost = Job::cost(&record);
        // An error means that the semaphore was closed: the state says why.
        let Ok(room) = Arc::clone(&self.room).acquire_many_owned(cost).await else {
            return self.check().and(Err(AppendError::Closed));
        };
        let sum = crc32c::crc32c(&record.payload);
        let mut inner = self.inner.lock();
        refusal(inner.state)?;
        inner.jobs.push_back(Job { record, sum, done: Done(Some(Box::new(done))), _room: room });
        drop(inner);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes jobs in order, at least one and about `bytes` of them; waits for the first. `None`
    /// when the queue is closed and empty. What is dropped of the result is refused.
    pub(super) fn take(&self, bytes: usize) -> Option<VecDeque<Job>> {
        let mut inner = self.inner.lock();
        while inner.jobs.is_empty() {
            if inner.state == DiskState::Closed {
                return None;
            }
            self.filled.wait(&mut inner);
        }
        let mut taken = 0;
        let fitting = inner.jobs.iter().take_while(|job| {
            let before = taken;
            taken += job.record.payload.len() + RECORD_HEADER;
            before < bytes
        });
        let count = fitting.count();
        Some(inner.jobs.drain(..count).collect())
    }

    pub(super) fn state(&self) -> DiskState {
        self.inner.lock().state
    }

    /// Takes no more records, and wakes whoever waits for room. What is queued stays.
    pub(super) fn stop(&self, state: DiskState) {
        let mut inner = self.inner.lock();
        if inner.state != DiskState::Closed {
            inner.state = state;
        }
        drop(inner);
        self.room.close();
        self.filled.notify_all();
    }

    /// Drops what is queued, calling each `done`.
    pub(super) fn clear(&self) {
        // Not under the lock: `done` is the owner's code.
        let jobs = std::mem::take(&mut self.inner.lock().jobs);
        drop(jobs);
    }

    /// Bytes of the records queued or being written.
    pub(super) fn queued(&self) -> u64 {
        u64::from(WRITE_QUEUE_BYTES).saturating_sub(self.room.available_permits() as u64)
    }

    fn check(&self) -> Result<(), AppendError> {
        refusal(self.state())
    }
}

const fn refusal(state: DiskState) -> Result<(), AppendError> {
    match state {
        DiskState::Running => Ok(()),
        DiskState::ReadOnly => Err(AppendError::ReadOnly),
        DiskState::Closed => Err(AppendError::Closed),
    }
}
