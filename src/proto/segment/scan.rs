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

#[cfg(test)]
mod tests {
    use super::super::fill::{Draft, Fill};
    use super::super::format::{StoreId, TRAILER, Unknown};
    use super::super::record::RecordId;
    use super::*;
    use crate::proto::object::PurgePosition;
    use proptest::prelude::*;

    const SIZE: u32 = 2 << 20;

    fn key() -> SegmentKey {
        SegmentKey::new(StoreId([5; 16]), 3)
    }

    /// A segment of records with these kinds and lengths, as many as fit.
    fn segment(records: &[(RecordKind, usize)], sealed: bool) -> (Vec<u8>, Vec<Entry>) {
        let mut bytes = vec![0; HEADER_BLOCK as usize];
        let mut fill = Fill::new(3, key(), 8, SIZE);
        let mut entries = Vec::new();
        for (sequence, &(kind, length)) in records.iter().enumerate() {
            if !fill.fits(kind, length) {
                break;
            }
            let payload = vec![sequence as u8; length];
            let sum = crc32c::crc32c(&payload);
            let id = RecordId { index: sequence as u32, ..RecordId::default() };
            let (position, expiry) = (PurgePosition(1), 2);
            let draft = Draft {
                kind,
                rewritten: false,
                shared: false,
                id,
                position,
                expiry,
                sum,
                payload: &payload,
                unknown: Unknown::default(),
            };
            let place = fill.push(&mut bytes, draft, 10 + sequence as u64);
            let header = RecordHeader::decode(
                bytes[place.offset as usize..].first_chunk().expect("it is there"),
                key(),
                place.offset,
            );
            let payload = if kind == RecordKind::Seal { payload } else { Vec::new() };
            entries.push(Entry { place, kind: Some(kind), header: header.expect("valid"), payload });
        }
        let trailer = if sealed { Some(fill.seal(&mut bytes)) } else { None };
        assert!(bytes.len() <= SIZE as usize - TRAILER, "room was kept for the trailer");
        bytes.resize(SIZE as usize, 0);
        if let Some(trailer) = trailer {
            bytes[fill.trailer_offset() as usize..].copy_from_slice(&trailer);
        }
        (bytes, entries)
    }

    fn scan(bytes: &[u8]) -> (Vec<Entry>, ScanEnd, usize) {
        scan_life(bytes, 8)
    }

    fn scan_life(bytes: &[u8], generation: u32) -> (Vec<Entry>, ScanEnd, usize) {
        let trailer = bytes.last_chunk::<TRAILER>().and_then(|trailer| Trailer::decode(trailer, key()));
        let mut scan = Scan::new(3, key(), generation, bytes.len() as u32, trailer);
        let (mut entries, mut reads) = (Vec::new(), 0);
        let mut read = |offset: u32, buffer: &mut [u8]| {
            reads += 1;
            buffer.copy_from_slice(&bytes[offset as usize..][..buffer.len()]);
            Ok::<_, std::convert::Infallible>(())
        };
        while let Ok(Some(entry)) = scan.next(&mut read) {
            entries.push(entry);
        }
        (entries, scan.end(), reads)
    }

    fn many() -> Vec<(RecordKind, usize)> {
        let one = |n: usize| match n % 50 {
            7 => (RecordKind::Drop, 0),
            9 => (RecordKind::Seal, 300),
            _ => (RecordKind::Slice, 100 + n % 7),
        };
        (0..9000).map(one).collect()
    }

    #[test]
    fn a_sealed_segment_is_read_by_its_summaries_and_an_open_one_by_headers() {
        let (bytes, entries) = segment(&many(), true);
        let (found, end, reads) = scan(&bytes);
        assert_eq!((found == entries, end), (true, ScanEnd::Whole));
        assert!(reads < 30, "{reads} reads for {} records", entries.len());
        let (bytes, entries) = segment(&many(), false);
        let (found, end, reads) = scan(&bytes);
        assert_eq!((found == entries, end), (true, ScanEnd::Unsealed));
        assert!(reads > entries.len());
    }

    #[test]
    fn records_of_another_life_are_none() {
        for sealed in [true, false] {
            let (bytes, _) = segment(&many(), sealed);
            let (found, end, _) = scan_life(&bytes, 9);
            assert!(found.is_empty() && end == ScanEnd::Unsealed);
        }
    }

    #[test]
    fn without_its_summaries_a_segment_is_read_by_headers() {
        let (sound, entries) = segment(&many(), true);
        let trailer = Trailer::decode(sound.last_chunk().expect("long"), key()).expect("sealed");
        // In the payload of the last one, in its header, and in the header of the one before.
        let last = trailer.summary as usize;
        let before = u32::from_le_bytes(*sound[last + RECORD_HEADER..].first_chunk().expect("long")) as usize;
        for at in [last + 5000, before + 5000] {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            let (found, end, _) = scan(&bytes);
            assert_eq!((found == entries, end), (true, ScanEnd::Whole), "byte {at}");
        }
        let mut bytes = sound.clone();
        bytes[before] ^= 1;
        let (found, end, _) = scan(&bytes);
        assert_eq!(end, ScanEnd::Damaged, "a header that is damaged hides what follows");
        assert!(found == entries[..found.len()]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damage_gives_fewer_records_never_others(
            count in 1usize..200, sealed: bool, length in 1usize..4000,
            hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 1usize..300), 0..5),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let records = vec![(RecordKind::Head, length), (RecordKind::Seal, length / 9), (RecordKind::Drop, 0)];
            let records: Vec<_> = records.into_iter().cycle().take(count).collect();
            let (mut bytes, entries) = segment(&records, sealed);
            let used = entries.last().map_or(0, |entry| entry.place.offset + entry.place.length) as usize + 1000;
            for (at, value, span) in hits {
                let at = at.index(used.min(bytes.len()));
                let end = (at + span).min(bytes.len());
                bytes[at..end].fill(value);
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(used));
            }
            let (found, _, _) = scan(&bytes);
            for entry in found {
                let original = &entries[entry.header.id.index as usize];
                prop_assert!(entry == *original || (entry.kind.is_none() && entry.header == original.header));
            }
        }
    }
}
