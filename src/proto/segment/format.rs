//! Segment header, record header and trailer as bytes. The drawing is in the module above.

use super::record::{RecordId, RecordKind};
use crate::proto::key::{ObjectId, VariantId, VersionId};
use crate::proto::object::PurgePosition;

/// Major version of the format.
pub const MAJOR: u16 = 1;
/// Minor version of the format.
const MINOR: u16 = 1;
/// The feature bits that this build knows.
pub const FEATURES: u64 = 0;
/// Bytes of a segment header.
pub const SEGMENT_HEADER: usize = 64;
/// Bytes before the first record.
pub const HEADER_BLOCK: u32 = 4096;
/// Bytes of a record header.
pub const RECORD_HEADER: usize = 96;
/// Bytes of a trailer.
pub const TRAILER: usize = 64;
/// Records start at multiples of this.
pub(super) const ALIGN: u32 = 64;

const SEGMENT_MAGIC: [u8; 8] = *b"SHOALSEG";
const RECORD_MAGIC: [u8; 4] = *b"SREC";
const TRAILER_MAGIC: [u8; 8] = *b"SHOALEND";
const SUMMARY_KIND: u8 = 255;
const REWRITTEN: u8 = 1;
const SHARED: u8 = 2;

/// The random identity of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub [u8; 16]);

/// The first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Number of the segment.
    pub number: u32,
    /// The store that it belongs to.
    pub store: StoreId,
    /// The life of the segment.
    pub generation: u32,
    /// Bytes of the segment.
    pub size: u32,
}

/// Why bytes are no segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not one of ours, or damaged.
    #[error("no segment header")]
    Invalid,
    /// Written by an incompatible release: its major and minor version.
    #[error("segment format {0}.{1} is not known")]
    Version(u16, u16),
    /// It needs features that this build does not know, as bits.
    #[error("segment needs the features {0:#x}, which are not known")]
    Features(u64),
}

impl SegmentHeader {
    /// As bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        put(&mut bytes, 0, SEGMENT_MAGIC);
        put(&mut bytes, 8, MAJOR.to_le_bytes());
        put(&mut bytes, 10, MINOR.to_le_bytes());
        put(&mut bytes, 12, self.number.to_le_bytes());
        put(&mut bytes, 16, self.store.0);
        put(&mut bytes, 32, self.generation.to_le_bytes());
        put(&mut bytes, 36, self.size.to_le_bytes());
        let sum = crc32c::crc32c(&bytes[..60]);
        put(&mut bytes, 60, sum.to_le_bytes());
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    /// If the bytes are damaged, of an unknown major version, or need a feature that is not known.
    pub fn decode(bytes: &[u8; SEGMENT_HEADER]) -> Result<Self, HeaderError> {
        let sum = u32::from_le_bytes(take(bytes, 60));
        if take(bytes, 0) != SEGMENT_MAGIC || sum != crc32c::crc32c(&bytes[..60]) {
            return Err(HeaderError::Invalid);
        }
        let major = u16::from_le_bytes(take(bytes, 8));
        if major != MAJOR {
            return Err(HeaderError::Version(major, u16::from_le_bytes(take(bytes, 10))));
        }
        let unknown = u64::from_le_bytes(take(bytes, 40)) & !FEATURES;
        if unknown != 0 {
            return Err(HeaderError::Features(unknown));
        }
        Ok(Self {
            number: u32::from_le_bytes(take(bytes, 12)),
            store: StoreId(take(bytes, 16)),
            generation: u32::from_le_bytes(take(bytes, 32)),
            size: u32::from_le_bytes(take(bytes, 36)),
        })
    }

    /// What the sums within the segment begin with.
    pub fn key(&self) -> SegmentKey {
        SegmentKey::new(self.store, self.number)
    }
}

/// What all sums within a segment begin with: they say of which store and segment the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentKey(u32);

impl SegmentKey {
    /// For segment `number` of `store`.
    pub fn new(store: StoreId, number: u32) -> Self {
        Self(crc32c::crc32c_append(crc32c::crc32c(&store.0), &number.to_le_bytes()))
    }

    fn sum(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
    }

    fn sum_at(self, offset: u32, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.sum(&offset.to_le_bytes()), bytes)
    }
}

/// Parts of a record header that are not known here, and are kept when the record is written again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unknown {
    flags: u8,
    zeros: [u8; 2],
}

/// A record but for its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Number of the kind: one of [`RecordKind`], the summary's, or a later release's.
    pub(super) kind: u8,
    /// Whether reclaim wrote it again.
    pub rewritten: bool,
    /// Whether it is a head of which other nodes may be told.
    pub shared: bool,
    /// Bytes of the payload.
    pub length: u32,
    /// crc32c of the payload.
    pub sum: u32,
    /// Order of writing over the whole store.
    pub sequence: u64,
    /// The purge position of the fetch.
    pub position: PurgePosition,
    /// Identity.
    pub id: RecordId,
    /// The life of the segment in which it was written.
    pub generation: u32,
    /// Coarse expiry in seconds since the epoch, 0 if unknown.
    pub expiry: u32,
    /// What a later release said of it.
    pub unknown: Unknown,
}

impl RecordHeader {
    /// What the record is; `None` for summaries and for kinds of later releases.
    pub const fn kind(&self) -> Option<RecordKind> {
        RecordKind::from_number(self.kind)
    }

    /// The header of a summary.
    pub(super) fn summary(payload: &[u8], sequence: u64, generation: u32) -> Self {
        Self {
            kind: SUMMARY_KIND,
            rewritten: false,
            shared: false,
            length: u32::try_from(payload.len()).expect("a summary is shorter than its segment"),
            sum: crc32c::crc32c(payload),
            sequence,
            position: PurgePosition(0),
            id: RecordId::default(),
            generation,
            expiry: 0,
            unknown: Unknown::default(),
        }
    }

    pub(super) const fn is_summary(&self) -> bool {
        self.kind == SUMMARY_KIND
    }

    /// As bytes at `offset` of the segment with `key`.
    pub fn encode(&self, key: SegmentKey, offset: u32) -> [u8; RECORD_HEADER] {
        let mut bytes = [0; RECORD_HEADER];
        put(&mut bytes, 0, RECORD_MAGIC);
        let flags = if self.rewritten { REWRITTEN } else { 0 } | if self.shared { SHARED } else { 0 };
        put(&mut bytes, 4, [self.kind, flags | self.unknown.flags]);
        put(&mut bytes, 6, self.unknown.zeros);
        put(&mut bytes, 8, self.length.to_le_bytes());
        put(&mut bytes, 12, self.sum.to_le_bytes());
        put(&mut bytes, 16, self.sequence.to_le_bytes());
        put(&mut bytes, 24, self.position.0.to_le_bytes());
        put(&mut bytes, 32, self.id.object.0);
        put(&mut bytes, 48, self.id.variant.0);
        put(&mut bytes, 64, self.id.version.0);
        put(&mut bytes, 80, self.id.index.to_le_bytes());
        put(&mut bytes, 84, self.generation.to_le_bytes());
        put(&mut bytes, 88, self.expiry.to_le_bytes());
        let sum = key.sum_at(offset, &bytes[..92]);
        put(&mut bytes, 92, sum.to_le_bytes());
        bytes
    }

    /// Reads a header found at `offset` of the segment with `key`; `None` if it is damaged or
    /// was not written there.
    pub fn decode(bytes: &[u8; RECORD_HEADER], key: SegmentKey, offset: u32) -> Option<Self> {
        let sum = u32::from_le_bytes(take(bytes, 92));
        if take(bytes, 0) != RECORD_MAGIC || sum != key.sum_at(offset, &bytes[..92]) {
            return None;
        }
        let position = PurgePosition(u64::from_le_bytes(take(bytes, 24)));
        if position > PurgePosition::MAX {
            return None;
        }
        let [kind, flags] = take(bytes, 4);
        Some(Self {
            kind,
            rewritten: flags & REWRITTEN != 0,
            shared: flags & SHARED != 0,
            length: u32::from_le_bytes(take(bytes, 8)),
            sum: u32::from_le_bytes(take(bytes, 12)),
            sequence: u64::from_le_bytes(take(bytes, 16)),
            position,
            id: RecordId {
                object: ObjectId(take(bytes, 32)),
                variant: VariantId(take(bytes, 48)),
                version: VersionId(take(bytes, 64)),
                index: u32::from_le_bytes(take(bytes, 80)),
            },
            generation: u32::from_le_bytes(take(bytes, 84)),
            expiry: u32::from_le_bytes(take(bytes, 88)),
            unknown: Unknown { flags: flags & !(REWRITTEN | SHARED), zeros: take(bytes, 6) },
        })
    }

    /// Whether `payload` is what was written.
    pub fn matches(&self, payload: &[u8]) -> bool {
        self.length as usize == payload.len() && self.sum == crc32c::crc32c(payload)
    }

    /// Bytes that the record takes in its segment, padding included; `None` if they cannot be
    /// told in 32 bits, so that no segment can hold it.
    pub(super) fn span(&self) -> Option<u32> {
        span(self.length)
    }
}

/// Bytes that a record with a payload of `length` takes, padding included.
pub(super) const fn span(length: u32) -> Option<u32> {
    match length.checked_add(RECORD_HEADER as u32) {
        Some(whole) => whole.checked_next_multiple_of(ALIGN),
        None => None,
    }
}

/// The last bytes of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// The life that was sealed.
    pub generation: u32,
    /// End of the last summary.
    pub end: u32,
    /// Offset of the last summary, 0 if there is none.
    pub summary: u32,
    /// Records.
    pub records: u32,
    /// Sequence of the first record.
    pub first: u64,
    /// Sequence of the last record.
    pub last: u64,
}

impl Trailer {
    /// As bytes of the segment with `key`.
    pub fn encode(&self, key: SegmentKey) -> [u8; TRAILER] {
        let mut bytes = [0; TRAILER];
        put(&mut bytes, 0, TRAILER_MAGIC);
        put(&mut bytes, 8, self.generation.to_le_bytes());
        put(&mut bytes, 12, self.end.to_le_bytes());
        put(&mut bytes, 16, self.summary.to_le_bytes());
        put(&mut bytes, 20, self.records.to_le_bytes());
        put(&mut bytes, 24, self.first.to_le_bytes());
        put(&mut bytes, 32, self.last.to_le_bytes());
        let sum = key.sum(&bytes[..60]);
        put(&mut bytes, 60, sum.to_le_bytes());
        bytes
    }

    /// Reads the trailer of the segment with `key`; `None` if it is damaged or another's.
    pub fn decode(bytes: &[u8; TRAILER], key: SegmentKey) -> Option<Self> {
        let sum = u32::from_le_bytes(take(bytes, 60));
        (take(bytes, 0) == TRAILER_MAGIC && sum == key.sum(&bytes[..60])).then(|| Self {
            generation: u32::from_le_bytes(take(bytes, 8)),
            end: u32::from_le_bytes(take(bytes, 12)),
            summary: u32::from_le_bytes(take(bytes, 16)),
            records: u32::from_le_bytes(take(bytes, 20)),
            first: u64::from_le_bytes(take(bytes, 24)),
            last: u64::from_le_bytes(take(bytes, 32)),
        })
    }
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("fields lie within their header")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = SegmentKey> {
        (any::<[u8; 16]>(), any::<u32>()).prop_map(|(store, number)| SegmentKey::new(StoreId(store), number))
    }

    prop_compose! {
        fn header()(
            kind: u8, rewritten: bool, shared: bool, length: u32, sum: u32, sequence: u64,
            position in 0..=PurgePosition::MAX.0,
            ids: [[u8; 16]; 3], index: u32, generation: u32, expiry: u32, later: (u8, [u8; 2]),
        ) -> RecordHeader {
            RecordHeader {
                kind, rewritten, shared, length, sum, sequence, position: PurgePosition(position),
                id: RecordId { object: ObjectId(ids[0]), variant: VariantId(ids[1]), version: VersionId(ids[2]), index },
                generation, expiry,
                unknown: Unknown { flags: later.0 & !(REWRITTEN | SHARED), zeros: later.1 },
            }
        }
    }

    proptest! {
        #[test]
        fn record_headers_decode_to_what_was_encoded(header in header(), key in key(), offset: u32) {
            prop_assert_eq!(RecordHeader::decode(&header.encode(key, offset), key, offset), Some(header));
        }

        #[test]
        fn a_record_header_is_none_elsewhere(header in header(), key in key(), other in key(), offset: u32, moved: u32) {
            prop_assume!(key != other && offset != moved);
            let bytes = header.encode(key, offset);
            prop_assert_eq!(RecordHeader::decode(&bytes, other, offset), None);
            prop_assert_eq!(RecordHeader::decode(&bytes, key, moved), None);
        }

        #[test]
        fn a_flipped_bit_voids_a_record_header(header in header(), key in key(), bit in 0usize..RECORD_HEADER * 8) {
            let mut bytes = header.encode(key, 64);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(RecordHeader::decode(&bytes, key, 64), None);
        }

        #[test]
        fn segment_headers_decode_to_what_was_encoded(number: u32, store: [u8; 16], generation: u32, size: u32) {
            let header = SegmentHeader { number, store: StoreId(store), generation, size };
            prop_assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
        }

        #[test]
        fn trailers_decode_to_what_was_encoded(
            generation: u32, end: u32, summary: u32, records: u32, first: u64, last: u64, key in key(),
        ) {
            let trailer = Trailer { generation, end, summary, records, first, last };
            prop_assert_eq!(Trailer::decode(&trailer.encode(key), key), Some(trailer));
        }

        #[test]
        fn no_bytes_make_the_decoders_panic(bytes: [u8; 32], more: [u8; 32], last: [u8; 32], key in key(), offset: u32) {
            // Also with sums that fit, so that what lies behind the sum is reached.
            let mut record = [0; RECORD_HEADER];
            record.copy_from_slice(&[bytes, more, last].concat());
            let _ = RecordHeader::decode(&record, key, offset);
            // A position that can be.
            record[31] = 0;
            record[..4].copy_from_slice(&RECORD_MAGIC);
            let sum = key.sum_at(offset, &record[..92]);
            put(&mut record, 92, sum.to_le_bytes());
            let decoded = RecordHeader::decode(&record, key, offset).expect("the sum fits");
            let _ = (decoded.kind(), decoded.span());

            let mut segment = *record.first_chunk::<SEGMENT_HEADER>().expect("it is longer");
            let _ = (SegmentHeader::decode(&segment), Trailer::decode(&segment, key));
            segment[..8].copy_from_slice(&SEGMENT_MAGIC);
            let sum = crc32c::crc32c(&segment[..60]);
            put(&mut segment, 60, sum.to_le_bytes());
            let _ = SegmentHeader::decode(&segment);
        }
    }

    #[test]
    fn only_the_major_version_is_refused() {
        let header = SegmentHeader { number: 1, store: StoreId([2; 16]), generation: 3, size: 4 };
        let with = |at: usize, version: u16| {
            let mut bytes = header.encode();
            put(&mut bytes, at, version.to_le_bytes());
            let sum = crc32c::crc32c(&bytes[..60]);
            put(&mut bytes, 60, sum.to_le_bytes());
            SegmentHeader::decode(&bytes)
        };
        assert_eq!(with(8, MAJOR + 1), Err(HeaderError::Version(MAJOR + 1, MINOR)));
        assert_eq!(with(46, 1 << 15), Err(HeaderError::Features(1 << 63)));
        assert_eq!(with(10, MINOR + 1), Ok(header));
    }
}
