//! The disk format: what a segment and a record are in bytes, how a segment is filled, scanned and
//! chosen for reuse. Pure; the files are `store::disk`'s.
//!
//! A store is a folder of segments of one size. Numbers are little-endian. A **segment**:
//!
//! ```text
//! 0            4096                                                            size-64   size
//! | header     | record | record | … | summary | record | … | summary | unused | trailer |
//! ```
//!
//! Records and summaries start at multiples of 64. The **header** (the rest of its block is zero):
//!
//! ```text
//!  0  8 magic "SHOALSEG"          32  4 generation: which life of the segment; no two lives in
//!  8  2 major version                   a store have the same, later lives have higher ones
//! 10  2 minor version             36  4 size of the segment
//! 12  4 number, as in its name    40  8 features that a reader must know, as bits
//! 16 16 identity of the store     48 12 zero
//!                                 60  4 crc32c of 0..60
//! ```
//!
//! A **record** is a header of 96 bytes and its payload:
//!
//! ```text
//!  0  4 magic "SREC"              32 16 object
//!  4  1 kind                      48 16 variant
//!  5  1 flags                      64 16 version
//!  6  2 zero                      80  4 index
//!  8  4 length of the payload     84  4 generation of the segment
//! 12  4 crc32c of the payload     88  4 expiry, seconds since the epoch
//! 16  8 sequence                  92  4 crc32c of store identity, segment number, own offset,
//! 24  8 purge position                  and 0..92
//! ```
//!
//! Flags: bit 0 says that reclaim wrote the record again, bit 1 (since minor version 1), of a head, that
//! other nodes may be told of the version. Without it they are not, so what older releases wrote stays
//! here until its head is read.
//!
//! The sum of the header covers that of the payload, and both the place, so that headers can be
//! scanned alone and a record in the wrong place or life is none. The store identity is random and
//! stays on the machine, so a body cannot contain what passes for a record.
//!
//! A **summary** is a record of kind 255, written now and then and when the segment is sealed.
//! Payload: `offset u32` of the summary before, 0 for none, then for each record since then its
//! `offset u32`, its header, and, for a `Seal`, its payload. The **trailer** is written when the
//! segment is sealed; nothing is written to a segment after that until its next life:
//!
//! ```text
//!  0  8 magic "SHOALEND"          20  4 records
//!  8  4 generation                24  8 sequence of the first record
//! 12  4 end of the last summary   32  8 sequence of the last record
//! 16  4 offset of the last one    40 20 zero
//!                                 60  4 crc32c of store identity, segment number, and 0..60
//! ```
//!
//! So each sealed segment carries its own checkpoint: a start reads the summaries, and scans
//! headers only where one is missing or damaged, as in the segment that was open in a crash.
//! There is no file to rewrite, and a checkpoint costs a record 100 bytes, once.
//!
//! **Two versions of the format.** Magic, versions and sum of the segment header never move. A reader
//! refuses a folder in which any segment has another major version, or a feature bit that it does not
//! know, before it changes anything there; what to do with it is for the operator to say. It accepts
//! any minor version. What a minor version may add, and what older readers do with it:
//!
//! - kinds of records: skipped by their length. Reclaim does not keep them, so nothing may depend on
//!   them without a feature bit;
//! - flags of records, and meaning to their zero bytes: not read, and kept when reclaim writes the
//!   record again, with all else that it has. They may so say more of a record, but not change what
//!   the known parts mean;
//! - formats of heads (`proto::object::head`) and of the payload of a `Seal`, each with a number of its
//!   own: what has an unknown one is a miss;
//! - meaning to zero bytes of segment headers and trailers, of one life only.
//!
//! Versions are of a segment, not of the folder: a release writes its own into each segment that it
//! begins, and reads older minor ones beside them. So a folder becomes one of the newer minor version,
//! or of the older one again, by being written on. `golden_tests` holds the bytes of version 1.1.

mod fill;
mod format;
mod geometry;
#[cfg(test)]
mod golden_tests;
mod reclaim;
mod record;
mod scan;

pub use fill::{Draft, Fill};
pub use format::{
    FEATURES, HEADER_BLOCK, HeaderError, MAJOR, RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader,
    SegmentKey, StoreId, TRAILER, Trailer, Unknown,
};
pub use geometry::{Geometry, SEGMENTS_MAX, TooSmall};
pub use reclaim::Reclaim;
pub use record::{Place, RecordId, RecordKind};
pub use scan::{Entry, Scan, ScanEnd};
