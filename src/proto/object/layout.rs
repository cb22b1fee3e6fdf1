//! How a body is cut: chunks for exchange and hashing, records for storing and reading.
//!
//! ```text
//! body     0        64 KiB     256 KiB    512 KiB    768 KiB     1 MiB
//! records  | 0 (+head) |     1     |     2    |     3    |     4    |  5 ...
//! chunks   |                        0                               |  1 ...
//! ```
//! Record 0 holds the head and the first body bytes, so that most objects are one record and one
//! I/O. No record crosses a chunk boundary.

use std::ops::Range;

/// The unit of exchange between edges and of hashing, in bytes; aligned.
pub const CHUNK_SIZE: u64 = 1 << 20;
/// Most body bytes in record 0.
pub const HEAD_BODY_MAX: u64 = 64 << 10;
/// Bytes of body to which later records are aligned, and the most that one holds.
pub const SLICE_SIZE: u64 = 256 << 10;

/// The body bytes of record `index` of a body of unbounded length.
pub const fn record_span(index: u32) -> Range<u64> {
    match index {
        0 => 0..HEAD_BODY_MAX,
        1 => HEAD_BODY_MAX..SLICE_SIZE,
        _ => (index as u64 - 1) * SLICE_SIZE..index as u64 * SLICE_SIZE,
    }
}

/// The body bytes of record `index` of a body of `length` bytes; empty beyond its end.
pub fn record_span_within(index: u32, length: u64) -> Range<u64> {
    let span = record_span(index);
    span.start.min(length)..span.end.min(length)
}

/// The record that holds body byte `offset`.
pub const fn record_at(offset: u64) -> u32 {
    if offset < HEAD_BODY_MAX { 0 } else { (offset / SLICE_SIZE) as u32 + 1 }
}

/// Number of records of a body of `length` bytes; at least 1, since record 0 holds the head.
pub const fn record_count(length: u64) -> u32 {
    if length == 0 { 1 } else { record_at(length - 1) + 1 }
}

/// Number of chunks of a body of `length` bytes.
pub const fn chunk_count(length: u64) -> u32 {
    length.div_ceil(CHUNK_SIZE) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_tile_the_body_and_stay_within_chunks(length in 0u64..20_000_000) {
            let mut end = 0;
            for index in 0..record_count(length) {
                let span = record_span_within(index, length);
                prop_assert_eq!(span.start, end);
                prop_assert!(span.end > span.start || length == 0);
                if span.end > span.start {
                    prop_assert_eq!(span.start / CHUNK_SIZE, (span.end - 1) / CHUNK_SIZE);
                    prop_assert_eq!(record_at(span.start), index);
                    prop_assert_eq!(record_at(span.end - 1), index);
                }
                end = span.end;
            }
            prop_assert_eq!(end, length);
        }
    }
}
