//! Folders that another minor version wrote: bytes of this one, patched into what a later release may make of them.

use super::*;
use crate::proto::segment::{MAJOR, RECORD_HEADER};
use crc32c::{crc32c, crc32c_append};

/// Flags and bytes of records that this release does not know.
const LATER_FLAGS: u8 = 0b1001_0000;
const LATER_BYTES: [u8; 2] = [0xab, 0xcd];
/// A kind of record of a later release.
const LATER_KIND: u8 = 77;
const SUMMARY: u8 = 255;

/// A segment file, read by the drawing in `proto::segment` alone.
struct Segment<'a>(&'a mut Vec<u8>);

impl Segment<'_> {
    fn number<const N: usize>(&self, at: usize) -> [u8; N] {
        *self.0[at..].first_chunk().expect("within the file")
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.number(at))
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// What sums within the segment begin with.
    fn key(&self) -> u32 {
        crc32c_append(crc32c(&self.0[16..32]), &self.0[12..16])
    }

    /// Where records of this life begin, summaries included.
    fn records(&self) -> Vec<usize> {
        let (mut offsets, mut at) = (Vec::new(), 4096);
        while at + RECORD_HEADER <= self.0.len()
            && self.0[at..].starts_with(b"SREC")
            && self.u32(at + 84) == self.u32(32)
        {
            offsets.push(at);
            at += (RECORD_HEADER + self.u32(at + 8) as usize).next_multiple_of(64);
        }
        offsets
    }

    fn sum_record(&mut self, at: usize) {
        let place = crc32c_append(self.key(), &(at as u32).to_le_bytes());
        let sum = crc32c_append(place, &self.0[at..at + 92]);
        self.put(at + 92, &sum.to_le_bytes());
    }

    fn sum_header(&mut self) {
        let sum = crc32c(&self.0[..60]);
        self.put(60, &sum.to_le_bytes());
    }

    /// Makes of it what a later minor version might have written; slices of `object` become ones of a later kind.
    fn age_backwards(&mut self, object: u8) {
        self.put(10, &9_u16.to_le_bytes());
        self.put(48, &[0xee; 12]);
        self.sum_header();
        for at in self.records() {
            if self.0[at + 4] == SUMMARY {
                self.renew_summary(at);
                continue;
            }
            self.0[at + 5] |= LATER_FLAGS;
            self.put(at + 6, &LATER_BYTES);
            if self.0[at + 32] == object && self.0[at + 4] == RecordKind::Slice as u8 {
                self.0[at + 4] = LATER_KIND;
            }
            self.sum_record(at);
        }
    }

    /// Copies into a summary what became of the records that it names.
    fn renew_summary(&mut self, at: usize) {
        let (mut entry, end) = (at + RECORD_HEADER + 4, at + RECORD_HEADER + self.u32(at + 8) as usize);
        while entry < end {
            let of = self.u32(entry) as usize;
            let header = self.0[of..of + RECORD_HEADER].to_vec();
            self.put(entry + 4, &header);
            let is_seal = header[4] == RecordKind::Seal as u8;
            entry += 4 + RECORD_HEADER + if is_seal { self.u32(of + 8) as usize } else { 0 };
        }
        let sum = crc32c(&self.0[at + RECORD_HEADER..end]);
        self.put(at + 12, &sum.to_le_bytes());
        self.sum_record(at);
    }
}

fn segments(files: &mut Files) -> impl Iterator<Item = Segment<'_>> {
    files.iter_mut().filter(|(name, _)| name.starts_with("segment-")).map(|(_, bytes)| Segment(bytes))
}

/// Objects 0 to 8, each a head, a slice and a seal; 0 to 2 stay hot. The first segment is full and sealed.
async fn filled(device: &RamDevice<Mark>) {
    let owner = TestOwner::new(device, 3);
    let disk = open(device, SMALL, &owner).await;
    for object in 0..9 {
        for index in [0, 1, 9] {
            put(&disk, &owner, id(object, index), u64::from(object), 40_000).await;
        }
    }
    disk.close().await.expect("closed");
}

#[tokio::test]
async fn a_folder_of_a_later_minor_version_is_served_kept_by_reclaim_and_written_on() {
    let device = RamDevice::new(Files::new());
    filled(&device).await;
    device.with_files(|files| segments(files).for_each(|mut segment| segment.age_backwards(5)));

    let owner = TestOwner::new(&device, 3);
    let disk = open(&device, SMALL, &owner).await;
    let known: Vec<_> = contents(&disk, &owner).await.into_keys().collect();
    let mut expected: Vec<_> = (0..9).flat_map(|object| [0, 1, 9].map(|index| [object, index])).collect();
    expected.retain(|key| *key != [5, 1]);
    assert_eq!(known, expected, "all but what is of an unknown kind");
    assert_eq!(disk.usage().damaged, 0, "nothing is taken for damage");

    for round in 0..100 {
        put(&disk, &owner, id(100, round), u64::from(round), 100_000).await;
    }
    assert!(disk.usage().reclaimed_segments >= 4, "{:?}", disk.usage());
    disk.close().await.expect("closed");
    device.with_files(|files| {
        let mut hot = 0;
        for segment in segments(files) {
            for at in
                segment.records().into_iter().filter(|at| segment.0[at + 32] < 3 && segment.0[at + 4] < 4)
            {
                assert_eq!(segment.0[at + 5] & LATER_FLAGS, LATER_FLAGS, "a flag was lost");
                assert_eq!(segment.number(at + 6), LATER_BYTES);
                hot += 1;
            }
            assert_eq!(segment.number(8), MAJOR.to_le_bytes());
            assert_eq!(
                segment.number(10),
                1_u16.to_le_bytes(),
                "each segment is of the release that began it"
            );
        }
        assert!(hot >= 9, "{hot} hot records");
    });

    let owner = TestOwner::new(&device, 3);
    let disk = open(&device, SMALL, &owner).await;
    let hot: Vec<_> = contents(&disk, &owner).await.into_keys().filter(|key| key[0] < 9).collect();
    assert_eq!(hot, expected[..9], "and again after a restart");
}

#[tokio::test]
async fn a_folder_that_needs_an_unknown_feature_is_refused_and_left_alone() {
    let device = RamDevice::new(Files::new());
    filled(&device).await;
    let before = device.with_files(|files| {
        let mut segment = segments(files).last().expect("a segment");
        segment.put(40, &4_u64.to_le_bytes());
        segment.sum_header();
        files.clone()
    });
    let refused = open_with(&device, SMALL, &TestOwner::new(&device, 0)).await.err().expect("it is refused");
    assert!(matches!(refused, DiskError::Features { unknown: 4, .. }), "{refused}");
    assert!(
        refused.to_string().starts_with("the cache in disk uses features of a later release (0x4)"),
        "{refused}"
    );
    assert!(device.with_files(|now| *now == before), "nothing is touched");
}
