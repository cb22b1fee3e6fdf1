//! The segments that exist, shared by the writer and the readers, and the tier's counters.
//!
//! The writer alone adds, renews and removes segments; readers only look. A reader that holds a
//! segment while it is renewed or removed reads bytes that pass no check, or the right ones.

use super::device::{Folder, Storage};
use crate::proto::segment::{Geometry, HEADER_BLOCK, SegmentHeader, SegmentKey, StoreId, TRAILER, Trailer};
use arc_swap::ArcSwapOption;
use std::io::{self, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A segment that exists.
pub(super) struct Segment {
    pub(super) number: u32,
    pub(super) key: SegmentKey,
    pub(super) file: Arc<dyn Storage>,
    /// Bytes of the file when it was opened; less than a segment if it was truncated.
    pub(super) size: u32,
    generation: AtomicU32,
    /// Bytes used, header included; 0 if it is free.
    used: AtomicU32,
}

impl Segment {
    pub(super) fn new(header: &SegmentHeader, file: Arc<dyn Storage>, size: u32) -> Self {
        Self {
            number: header.number,
            key: header.key(),
            file,
            size,
            generation: AtomicU32::new(header.generation),
            used: AtomicU32::new(0),
        }
    }

    /// The life whose records are valid.
    pub(super) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn set_used(&self, used: u32) {
        self.used.store(used, Ordering::Relaxed);
    }

    /// Begins another life: after this no record in the segment is valid, also after a crash.
    /// Durable before it returns, so that what the segment held is gone before anything newer is.
    pub(super) fn renew(&self, header: &SegmentHeader) -> io::Result<()> {
        write_header(&*self.file, header)?;
        self.generation.store(header.generation, Ordering::Release);
        self.set_used(0);
        Ok(())
    }

    /// The trailer, if there is a valid one (of whichever life).
    pub(super) fn trailer(&self, segment_size: u32) -> io::Result<Option<Trailer>> {
        if self.size < segment_size {
            return Ok(None);
        }
        let mut bytes = [0; TRAILER];
        self.read(segment_size - TRAILER as u32, &mut bytes)?;
        Ok(Trailer::decode(&bytes, self.key))
    }

    pub(super) fn read(&self, offset: u32, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read(&mut [IoSliceMut::new(buffer)], u64::from(offset))
    }
}

/// The name of a segment's file.
pub(super) fn name(number: u32) -> String {
    format!("segment-{number:08x}")
}

/// The number of the segment whose file has that name.
pub(super) fn number(file_name: &str) -> Option<u32> {
    let digits = file_name.strip_prefix("segment-")?;
    let number = u32::from_str_radix(digits, 16).ok()?;
    (name(number) == file_name).then_some(number)
}

/// Makes a new segment, durably.
pub(super) fn create(folder: &dyn Folder, header: &SegmentHeader) -> io::Result<Segment> {
    let file_name = name(header.number);
    let file = folder.create(&file_name, u64::from(header.size))?;
    if let Err(error) = write_header(&*file, header) {
        // An empty file without a header is removed at the next start, if not now.
        drop(folder.remove(&file_name));
        return Err(error);
    }
    Ok(Segment::new(header, file, header.size))
}

fn write_header(file: &dyn Storage, header: &SegmentHeader) -> io::Result<()> {
    let mut block = [0; HEADER_BLOCK as usize];
    let encoded = header.encode();
    block[..encoded.len()].copy_from_slice(&encoded);
    file.write(&block, 0)?;
    file.sync()
}

/// What the parts of the tier share.
pub(super) struct Shared {
    pub(super) store: StoreId,
    pub(super) geometry: Geometry,
    /// Bytes allowed by the configuration.
    pub(super) size: u64,
    slots: Box<[ArcSwapOption<Segment>]>,
    pub(super) counters: Counters,
}

impl Shared {
    /// For segments numbered below `numbers`.
    pub(super) fn new(store: StoreId, geometry: Geometry, size: u64, numbers: u32) -> Self {
        let numbers = numbers.max(geometry.segments);
        let slots = (0..numbers).map(|_| ArcSwapOption::empty()).collect();
        Self { store, geometry, size, slots, counters: Counters::default() }
    }

    pub(super) fn segment(&self, number: u32) -> Option<Arc<Segment>> {
        self.slots.get(number as usize)?.load_full()
    }

    /// The segments that exist.
    pub(super) fn segments(&self) -> impl Iterator<Item = Arc<Segment>> + '_ {
        self.slots.iter().filter_map(ArcSwapOption::load_full)
    }

    /// A number that no segment has.
    pub(super) fn vacant(&self) -> Option<u32> {
        self.slots.iter().position(|slot| slot.load().is_none()).map(|index| index as u32)
    }

    pub(super) fn insert(&self, segment: Arc<Segment>) {
        if let Some(slot) = self.slots.get(segment.number as usize) {
            slot.store(Some(segment));
        }
    }

    pub(super) fn remove(&self, number: u32) {
        if let Some(slot) = self.slots.get(number as usize) {
            slot.store(None);
        }
    }

    /// The header for segment `number` in life `generation`.
    pub(super) const fn header(&self, number: u32, generation: u32) -> SegmentHeader {
        SegmentHeader { number, store: self.store, generation, size: self.geometry.segment }
    }
}

/// A counter that only rises.
#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the tier has done; the meaning is documented on `DiskUsage`.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) written_records: Counter,
    pub(super) written_bytes: Counter,
    pub(super) read_errors: Counter,
    pub(super) write_errors: Counter,
    pub(super) damaged: Counter,
    pub(super) stale_reads: Counter,
    pub(super) reclaimed_segments: Counter,
    pub(super) reclaimed_bytes: Counter,
    pub(super) rewritten_bytes: Counter,
    pub(super) lost_records: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_as_written_are_segments() {
        assert_eq!(number(&name(0x12ab)), Some(0x12ab));
        for other in
            ["segment-12ab", "segment-000012AB", "segment-+00012ab", "segment-000012ab.old", "lock", ""]
        {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
