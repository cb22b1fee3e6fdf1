//! Reading one record: from the page cache on the caller's thread, else on the blocking pool.

use super::ReadError;
use super::segments::{Segment, Shared};
use crate::proto::segment::{Place, RECORD_HEADER, RecordHeader, RecordId, RecordKind};
use crate::task::Spawner;
use bytes::Bytes;
use std::io::{self, IoSliceMut};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Reads that may wait for the device at a time; more wait for one of these.
const READS_AT_ONCE: usize = 32;

/// The reading side of the tier.
pub(super) struct Reader {
    shared: Arc<Shared>,
    spawner: Spawner,
    turns: Arc<Semaphore>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, spawner: Spawner) -> Self {
        Self { shared, spawner, turns: Arc::new(Semaphore::new(READS_AT_ONCE)) }
    }

    /// See `Disk::read`. Dropping the future leaves at most a read going on for nobody.
    pub(super) async fn read(&self, place: Place, id: &RecordId) -> Result<Bytes, ReadError> {
        let read =
            self.read_unchecked(place).await.and_then(|(segment, frame)| frame.check(&segment, place, id));
        let counters = &self.shared.counters;
        match &read {
            Ok(_) | Err(ReadError::Closed) => {}
            Err(ReadError::Stale) => counters.stale_reads.add(1),
            Err(ReadError::Damaged) => counters.damaged.add(1),
            Err(ReadError::Io(_)) => counters.read_errors.add(1),
        }
        read
    }

    async fn read_unchecked(&self, place: Place) -> Result<(Arc<Segment>, Frame), ReadError> {
        let segment = self.shared.segment(place.segment).ok_or(ReadError::Stale)?;
        // A place of this segment size: else the length would be a stranger's word.
        let end = place.offset.checked_add(place.length);
        let limit = self.shared.geometry.payload_limit() as usize;
        let payload = (place.length as usize).checked_sub(RECORD_HEADER).filter(|payload| *payload <= limit);
        let (Some(_), Some(payload)) = (end.filter(|end| *end <= segment.size), payload) else {
            return Err(ReadError::Stale);
        };
        let mut frame = Frame { header: [0; RECORD_HEADER], payload: vec![0; payload] };
        let offset = u64::from(place.offset);
        if segment.file.read_now(&mut frame.parts(), offset) {
            return Ok((segment, frame));
        }
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_closed| ReadError::Closed)?;
        let read = self.spawner.blocking(move || {
            let result = segment.file.read(&mut frame.parts(), offset);
            drop(turn);
            result.map(|()| (segment, frame))
        });
        match read.await {
            Some(Ok(read)) => Ok(read),
            // The file was cut short: the same as bytes that do not match.
            Some(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(ReadError::Damaged),
            Some(Err(error)) => Err(ReadError::Io(error)),
            None => Err(ReadError::Closed),
        }
    }
}

/// A record as read. The payload is on its own, so that it is passed on without a copy and
/// without keeping anything else in memory.
pub(super) struct Frame {
    header: [u8; RECORD_HEADER],
    payload: Vec<u8>,
}

impl Frame {
    fn parts(&mut self) -> [IoSliceMut<'_>; 2] {
        [IoSliceMut::new(&mut self.header), IoSliceMut::new(&mut self.payload)]
    }

    fn check(self, segment: &Segment, place: Place, id: &RecordId) -> Result<Bytes, ReadError> {
        let header =
            RecordHeader::decode(&self.header, segment.key, place.offset).ok_or(ReadError::Damaged)?;
        let readable = matches!(header.kind(), Some(RecordKind::Head | RecordKind::Slice | RecordKind::Seal));
        let fits = header.length as usize == self.payload.len();
        if header.generation != segment.generation() || header.id != *id || !readable || !fits {
            return Err(ReadError::Stale);
        }
        if !header.matches(&self.payload) {
            return Err(ReadError::Damaged);
        }
        Ok(Bytes::from(self.payload))
    }
}
