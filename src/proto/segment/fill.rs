//! Filling a segment: turns records into bytes, in order, and keeps what its summaries need.

use super::format::{HEADER_BLOCK, RECORD_HEADER, RecordHeader, SegmentKey, TRAILER, Trailer, Unknown, span};
use super::record::{Place, RecordId, RecordKind};
use crate::proto::object::PurgePosition;

/// A summary is written when so many bytes of it have gathered: bounds their memory.
const SUMMARY_BYTES: usize = 256 << 10;
/// Bytes of a summary for a record, beside its payload if it is a `Seal`.
const ENTRY: usize = 4 + RECORD_HEADER;

/// A record to be written.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// What it is.
    pub kind: RecordKind,
    /// Whether it was on disk before.
    pub rewritten: bool,
    /// Whether it is a head of which other nodes may be told.
    pub shared: bool,
    /// Its identity.
    pub id: RecordId,
    /// The purge position of the fetch.
    pub position: PurgePosition,
    /// Coarse expiry.
    pub expiry: u32,
    /// crc32c of the payload.
    pub sum: u32,
    /// The payload.
    pub payload: &'a [u8],
    /// What a later release said of it, if it was on disk before.
    pub unknown: Unknown,
}

/// A segment that is being filled.
#[derive(Debug)]
pub struct Fill {
    number: u32,
    key: SegmentKey,
    generation: u32,
    size: u32,
    /// Where the next record goes.
    end: u32,
    /// Entries since the last summary, after its first field.
    pending: Vec<u8>,
    trailer: Trailer,
}

impl Fill {
    /// An empty segment of `size` bytes in life `generation`.
    pub fn new(number: u32, key: SegmentKey, generation: u32, size: u32) -> Self {
        let trailer = Trailer { generation, end: HEADER_BLOCK, summary: 0, records: 0, first: 0, last: 0 };
        Self { number, key, generation, size, end: HEADER_BLOCK, pending: Vec::new(), trailer }
    }

    /// Where the next bytes belong.
    pub const fn end(&self) -> u32 {
        self.end
    }

    /// Whether a record fits, leaving room to seal the segment after it.
    pub fn fits(&self, kind: RecordKind, payload: usize) -> bool {
        let entry = ENTRY + if kind == RecordKind::Seal { payload } else { 0 };
        let summary = 4 + self.pending.len() + entry;
        let spans = [payload, summary].map(|length| u32::try_from(length).ok().and_then(span));
        let [Some(record), Some(summary)] = spans else { return false };
        [record, summary, TRAILER as u32]
            .iter()
            .try_fold(self.end, |end, bytes| end.checked_add(*bytes))
            .is_some_and(|end| end <= self.size)
    }

    /// Appends the bytes of a record (and of a summary, when one is due) to `out`, which holds the
    /// segment's bytes up to [`end`](Self::end).
    ///
    /// # Panics
    /// If it does not [fit](Self::fits).
    pub fn push(&mut self, out: &mut Vec<u8>, draft: Draft<'_>, sequence: u64) -> Place {
        assert!(self.fits(draft.kind, draft.payload.len()), "the caller asks whether a record fits");
        let header = RecordHeader {
            kind: draft.kind as u8,
            rewritten: draft.rewritten,
            shared: draft.shared,
            length: draft.payload.len() as u32,
            sum: draft.sum,
            sequence,
            position: draft.position,
            id: draft.id,
            generation: self.generation,
            expiry: draft.expiry,
            unknown: draft.unknown,
        };
        let offset = self.end;
        let encoded = self.put(out, &header, draft.payload);
        self.pending.extend_from_slice(&offset.to_le_bytes());
        self.pending.extend_from_slice(&encoded);
        if draft.kind == RecordKind::Seal {
            self.pending.extend_from_slice(draft.payload);
        }
        if self.trailer.records == 0 {
            self.trailer.first = sequence;
        }
        self.trailer.last = sequence;
        self.trailer.records += 1;
        if self.pending.len() >= SUMMARY_BYTES {
            self.summarise(out);
        }
        Place { segment: self.number, offset, length: header.length + RECORD_HEADER as u32 }
    }

    /// Appends the last summary to `out` and gives the trailer, which belongs at
    /// [`trailer_offset`](Self::trailer_offset). Nothing may be pushed after.
    pub fn seal(&mut self, out: &mut Vec<u8>) -> [u8; TRAILER] {
        if !self.pending.is_empty() {
            self.summarise(out);
        }
        self.trailer.end = self.end;
        self.trailer.encode(self.key)
    }

    /// Where the trailer belongs.
    pub const fn trailer_offset(&self) -> u32 {
        self.size - TRAILER as u32
    }

    fn summarise(&mut self, out: &mut Vec<u8>) {
        let mut payload = self.trailer.summary.to_le_bytes().to_vec();
        payload.append(&mut self.pending);
        self.trailer.summary = self.end;
        let header = RecordHeader::summary(&payload, self.trailer.last, self.generation);
        self.put(out, &header, &payload);
    }

    fn put(&mut self, out: &mut Vec<u8>, header: &RecordHeader, payload: &[u8]) -> [u8; RECORD_HEADER] {
        let span = header.span().expect("it fits the segment");
        let encoded = header.encode(self.key, self.end);
        let start = out.len();
        out.extend_from_slice(&encoded);
        out.extend_from_slice(payload);
        out.resize(start + span as usize, 0);
        self.end += span;
        encoded
    }
}
