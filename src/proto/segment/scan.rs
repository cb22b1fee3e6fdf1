//! Going through the records of a segment, by its summaries or header by header.
//!
//! The scan trusts nothing: every header and summary has a sum, offsets and sequences must rise,
//! and whatever does not hold ends the scan or turns it to the slower way.

use super::format::{HEADER_BLOCK, RECORD_HEADER, RecordHeader, SegmentKey, Trailer};
use super::record::{Place, RecordKind};

/// A record found in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub place: Place,
    /// What it is; `None` for kinds of later releases.
    pub kind: Option<RecordKind>,
    /// Its header.
    pub header: RecordHeader,
    /// The payload of a `Seal`, checked; else empty.
    pub payload: Vec<u8>,
}

/// How a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanEnd {
    /// All records were found.
    Whole,
    /// The segment was never sealed: the scan ended where the valid records do.
    Unsealed,
    /// The segment was sealed with more records than were found.
    Damaged,
}

/// A scan of one segment.
#[derive(Debug)]
pub struct Scan {
    number: u32,
    key: SegmentKey,
    generation: u32,
    /// End of what can be read.
    limit: u32,
    trailer: Option<Trailer>,
    /// Offsets of summaries not yet read, the first one last.
    summaries: Option<Vec<u32>>,
    /// The summary being gone through, and how far.
    summary: Vec<u8>,
    cursor: usize,
    /// Everything before was gone through.
    position: u32,
    /// Sequence of the last record.
    sequence: Option<u64>,
    records: u32,
    done: bool,
}

impl Scan {
    /// A scan of life `generation` of segment `number` with `key`, of which `limit` bytes can be
    /// read. A `trailer` of another life is ignored.
    pub fn new(number: u32, key: SegmentKey, generation: u32, limit: u32, trailer: Option<Trailer>) -> Self {
        Self {
            number,
            key,
            generation,
            limit,
            trailer: trailer.filter(|trailer| trailer.generation == generation && trailer.end <= limit),
            summaries: None,
            summary: Vec::new(),
            cursor: 0,
            position: HEADER_BLOCK,
            sequence: None,
            records: 0,
            done: false,
        }
    }

    /// The next record, in the order of writing. `read` fills a buffer from an offset of the
    /// segment; it is asked only for what lies within `limit`.
    ///
    /// # Errors
    /// Those of `read`; the scan is over then.
    pub fn next<E>(
        &mut self,
        mut read: impl FnMut(u32, &mut [u8]) -> Result<(), E>,
    ) -> Result<Option<Entry>, E> {
        let found = self.step(&mut read);
        match &found {
            Ok(Some(_)) => self.records += 1,
            _ => self.done = true,
        }
        found
    }

    /// Offset up to which the segment was gone through.
    pub const fn position(&self) -> u32 {
        self.position
    }

    /// How the scan ended, when it has.
    pub fn end(&self) -> ScanEnd {
        match self.trailer {
            None => ScanEnd::Unsealed,
            Some(trailer) if self.records < trailer.records => ScanEnd::Damaged,
            Some(_) => ScanEnd::Whole,
        }
    }

    fn step<E>(
        &mut self,
        read: &mut impl FnMut(u32, &mut [u8]) -> Result<(), E>,
    ) -> Result<Option<Entry>, E> {
        if self.done {
            return Ok(None);
        }
        if self.summaries.is_none() {
            self.summaries = Some(self.list_summaries(read)?);
        }
        loop {
            if let Some(entry) = self.next_in_summary() {
                return Ok(Some(entry));
            }
            let Some(offset) = self.summaries.as_mut().and_then(Vec::pop) else {
                return self.next_by_header(read);
            };
            if !self.load_summary(offset, read)? {
                // Go on by headers from where the last good summary ended, to the very end.
                self.summaries = Some(Vec::new());
            }
        }
    }

    /// The offsets of all summaries, the first one last; empty if the chain is broken.
    fn list_summaries<E>(
        &self,
        read: &mut impl FnMut(u32, &mut [u8]) -> Result<(), E>,
    ) -> Result<Vec<u32>, E> {
        let mut offsets = Vec::new();
        let mut next = self.trailer.map_or(0, |trailer| trailer.summary);
        while next != 0 {
            // Offsets fall, so the walk ends.
            if offsets.last().is_some_and(|last| next >= *last) {
                return Ok(Vec::new());
            }
            let mut bytes = [0; RECORD_HEADER + 4];
            if !self.readable(next, bytes.len() as u32) {
                return Ok(Vec::new());
            }
            read(next, &mut bytes)?;
            let (header, previous) = bytes.split_first_chunk().expect("it is longer than a header");
            let sound = self.header(header, next).is_some_and(|header| header.is_summary());
            let Some(previous) = previous.first_chunk().filter(|_| sound) else { return Ok(Vec::new()) };
            offsets.push(next);
            next = u32::from_le_bytes(*previous);
        }
        Ok(offsets)
    }

    /// Reads the summary at `offset`; `false` if it is damaged.
    fn load_summary<E>(
        &mut self,
        offset: u32,
        read: &mut impl FnMut(u32, &mut [u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        if !self.readable(offset, RECORD_HEADER as u32) || offset < self.position {
            return Ok(false);
        }
        let mut bytes = [0; RECORD_HEADER];
        read(offset, &mut bytes)?;
        let Some(header) = self.header(&bytes, offset).filter(RecordHeader::is_summary) else {
            return Ok(false);
        };
        let Some(end) = self.end_of(offset, &header) else { return Ok(false) };
        let mut payload = vec![0; header.length as usize];
        read(offset + RECORD_HEADER as u32, &mut payload)?;
        if !header.matches(&payload) {
            return Ok(false);
        }
        self.summary = payload;
        self.cursor = 4;
        self.position = end;
        Ok(true)
    }

    fn next_in_summary(&mut self) -> Option<Entry> {
        let rest = self.summary.get(self.cursor..)?;
        let (offset, rest) = rest.split_first_chunk::<4>()?;
        let (bytes, rest) = rest.split_first_chunk::<RECORD_HEADER>()?;
        let offset = u32::from_le_bytes(*offset);
        let header = self.header(bytes, offset)?;
        self.end_of(offset, &header)?;
        let mut payload = Vec::new();
        if header.kind() == Some(RecordKind::Seal) {
            payload = rest.get(..header.length as usize)?.to_vec();
        }
        self.cursor += 4 + RECORD_HEADER + payload.len();
        self.entry(offset, header, payload)
    }

    fn next_by_header<E>(
        &mut self,
        read: &mut impl FnMut(u32, &mut [u8]) -> Result<(), E>,
    ) -> Result<Option<Entry>, E> {
        loop {
            let offset = self.position;
            if self.trailer.is_some_and(|trailer| offset >= trailer.end)
                || !self.readable(offset, RECORD_HEADER as u32)
            {
                return Ok(None);
            }
            let mut bytes = [0; RECORD_HEADER];
            read(offset, &mut bytes)?;
            let Some(header) = self.header(&bytes, offset) else { return Ok(None) };
            let Some(end) = self.end_of(offset, &header) else { return Ok(None) };
            self.position = end;
            if header.is_summary() {
                continue;
            }
            let mut payload = Vec::new();
            if header.kind() == Some(RecordKind::Seal) {
                payload.resize(header.length as usize, 0);
                read(offset + RECORD_HEADER as u32, &mut payload)?;
            }
            return Ok(self.entry(offset, header, payload));
        }
    }

    /// The header at `offset` if it is one of this life.
    fn header(&self, bytes: &[u8; RECORD_HEADER], offset: u32) -> Option<RecordHeader> {
        RecordHeader::decode(bytes, self.key, offset).filter(|header| header.generation == self.generation)
    }

    /// Where the record ends, if it does within the segment.
    fn end_of(&self, offset: u32, header: &RecordHeader) -> Option<u32> {
        let end = offset.checked_add(header.span()?)?;
        // A truncated file may end within the padding.
        let used = offset.checked_add(RECORD_HEADER as u32)?.checked_add(header.length)?;
        (used <= self.limit).then_some(end)
    }

    fn readable(&self, offset: u32, length: u32) -> bool {
        offset >= HEADER_BLOCK && offset.checked_add(length).is_some_and(|end| end <= self.limit)
    }

    /// The entry, if its sequence is higher than all before.
    fn entry(&mut self, offset: u32, header: RecordHeader, payload: Vec<u8>) -> Option<Entry> {
        if self.sequence.is_some_and(|last| header.sequence <= last) {
            return None;
        }
        self.sequence = Some(header.sequence);
        let place = Place { segment: self.number, offset, length: header.length + RECORD_HEADER as u32 };
        let mut kind = header.kind();
        if kind == Some(RecordKind::Seal) && !header.matches(&payload) {
            // Without its payload it says nothing; what follows may still be good.
            kind = None;
        }
        Some(Entry { place, kind, header, payload })
    }
}
