//! What a record is and where it is: the words that the disk tier and its owner share.

use crate::proto::key::{ObjectId, VariantId, VersionId};

/// What a record is. Numbers are part of the disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// Record 0 of a version: its head and first body bytes. If the head says `whole`, it is complete.
    Head = 1,
    /// A later slice of the body.
    Slice = 2,
    /// Says that a version of several records is complete: its length and chunk hashes.
    Seal = 3,
    /// Says that everything of the object written before is gone.
    Drop = 4,
}

impl RecordKind {
    /// The kind with that number in the format. `None` if there is none.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Head),
            2 => Some(Self::Slice),
            3 => Some(Self::Seal),
            4 => Some(Self::Drop),
            _ => None,
        }
    }
}

/// The identity of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct RecordId {
    /// The object.
    pub object: ObjectId,
    /// The variant.
    pub variant: VariantId,
    /// The version.
    pub version: VersionId,
    /// Index of the record in its version; 0 for the head.
    pub index: u32,
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Number of the segment.
    pub segment: u32,
    /// Offset of the record header in its segment.
    pub offset: u32,
    /// Length of the record with its header, without padding.
    pub length: u32,
}
