//! How a configured size is cut into segments.

use super::format::{ALIGN, HEADER_BLOCK, RECORD_HEADER, TRAILER};

const MIB: u64 = 1 << 20;
/// Segments are no smaller, and a multiple of [`SEGMENT_STEP`].
const SEGMENT_LEAST: u64 = MIB;
/// Segments are no smaller than this where the size allows.
const SEGMENT_SMALL: u64 = 8 * MIB;
/// Segments are no larger: reuse forgets, and a crash leaves behind, at most this much at once.
const SEGMENT_MOST: u64 = 256 * MIB;
const SEGMENT_STEP: u64 = 64 << 10;
/// One to write, one to free meanwhile, and one that holds something.
const SEGMENTS_LEAST: u64 = 3;
/// About how many segments a small disk has.
const SEGMENTS_USUAL: u64 = 64;
/// The most segments of a store (16 TiB): each costs an open file.
pub const SEGMENTS_MAX: u32 = 1 << 16;
/// The most that the payload of a record may have, so that a batch or queue of records is bounded.
const PAYLOAD_MOST: u32 = 4 << 20;

/// The segments of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a segment.
    pub segment: u32,
    /// How many there may be. All of them together are no larger than the configured size.
    pub segments: u32,
}

/// A configured size that holds too little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at least {least} bytes are needed")]
pub struct TooSmall {
    /// The least that works.
    pub least: u64,
}

impl Geometry {
    /// Cuts `size` into segments; those of an `existing` store keep their size if that leaves a
    /// sensible number of them.
    ///
    /// # Errors
    /// If three of the smallest segments do not fit.
    pub fn choose(size: u64, existing: Option<u32>) -> Result<Self, TooSmall> {
        let least = SEGMENTS_LEAST * SEGMENT_LEAST;
        if size < least {
            return Err(TooSmall { least });
        }
        if let Some(geometry) = existing.and_then(|segment| Self::keep(size, segment)) {
            return Ok(geometry);
        }
        let usual = (size / SEGMENTS_USUAL).clamp(SEGMENT_SMALL, SEGMENT_MOST);
        let segment = usual.min(size / SEGMENTS_LEAST) / SEGMENT_STEP * SEGMENT_STEP;
        let segments = (size / segment).min(u64::from(SEGMENTS_MAX));
        Ok(Self { segment: segment as u32, segments: segments as u32 })
    }

    fn keep(size: u64, segment: u32) -> Option<Self> {
        let bytes = u64::from(segment);
        let sound = (SEGMENT_LEAST..=SEGMENT_MOST).contains(&bytes) && bytes.is_multiple_of(SEGMENT_STEP);
        let segments = size.checked_div(bytes).filter(|_| sound)?;
        (SEGMENTS_LEAST..=u64::from(SEGMENTS_MAX))
            .contains(&segments)
            .then_some(Self { segment, segments: segments as u32 })
    }

    /// The longest payload that is accepted. Any segment that is empty has room for it, also when
    /// it is repeated in the summary.
    pub fn payload_limit(&self) -> u32 {
        let framing = HEADER_BLOCK + 4 * (ALIGN + RECORD_HEADER as u32) + TRAILER as u32;
        ((self.segment - framing) / 2).min(PAYLOAD_MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_cut_as_designed() {
        let check = |size: u64, segment: u64, segments: u32| {
            let geometry = Geometry::choose(size, None).expect("large enough");
            assert_eq!((u64::from(geometry.segment), geometry.segments), (segment, segments), "size {size}");
        };
        check(3 * MIB, MIB, 3);
        check(10 * MIB, 10 * MIB / 3 / SEGMENT_STEP * SEGMENT_STEP, 3);
        check(24 * MIB, 8 * MIB, 3);
        check(512 * MIB, 8 * MIB, 64);
        check(1 << 30, 16 * MIB, 64);
        check(1 << 40, 256 * MIB, 4096);
        check(1 << 45, 256 * MIB, SEGMENTS_MAX);
        assert_eq!(Geometry::choose(3 * MIB - 1, None), Err(TooSmall { least: 3 * MIB }));
    }

    #[test]
    fn an_existing_store_keeps_its_segments_if_it_can() {
        let with = |size, existing| Geometry::choose(size, Some(existing)).expect("large enough");
        assert_eq!(with(1 << 30, 8 << 20), Geometry { segment: 8 << 20, segments: 128 });
        assert_eq!(with(24 * MIB, 64 << 20), Geometry { segment: 8 << 20, segments: 3 });
        assert_eq!(with(24 * MIB, 0).segment, 8 << 20);
        assert_eq!(with(24 * MIB, 4097).segment, 8 << 20);
    }

    proptest::proptest! {
        #[test]
        fn segments_never_exceed_the_size(size in 3 * MIB..1 << 46, existing: Option<u32>) {
            let geometry = Geometry::choose(size, existing).expect("large enough");
            assert!(u64::from(geometry.segment) * u64::from(geometry.segments) <= size);
            assert!(geometry.segments >= 3 && geometry.payload_limit() >= 320 << 10);
        }
    }
}
