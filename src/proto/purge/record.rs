//! The log as bytes: records of 64 bytes each.
//!
//! ```text
//!  0 u32 CRC-32C of the rest          4 u8  kind: 1 issuer, 2 covered, 3 forgotten, 4 position, 5 snapshot, 16 + selector's code: an entry
//!  5 u8  mode (0 hard, 1 soft)        6 u16 bytes of a prefix
//!  8 u64 site                        16 [16] hash
//! 32 u64 issuer                      40 u64 number
//! 48 u64 position                    56 i64 wall time, milliseconds since the epoch
//! ```
//! All numbers are little-endian; what a kind does not use is zero.

use super::log::Entry;
use super::target::{Mode, SelectorKind, SiteId, Target};
use super::{Issuer, PurgeId};
use crate::proto::object::PurgePosition;
use crate::proto::time::Wall;

/// Bytes of a record.
pub const RECORD_LENGTH: usize = 64;

const ISSUER: u8 = 1;
const COVERED: u8 = 2;
const FORGOTTEN: u8 = 3;
const POSITION: u8 = 4;
const SNAPSHOT: u8 = 5;
const ENTRY: u8 = 16;

/// A part of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// As whom the node issues purges; the first record.
    Issuer(Issuer),
    /// A purge was applied.
    Entry {
        /// The purge.
        entry: Entry,
        /// The position of the log from then on.
        position: PurgePosition,
        /// When.
        at: Wall,
    },
    /// All purges of the issuer up to this one are covered.
    Covered(PurgeId),
    /// Of purges of the issuer up to this one there is only a floor, or less.
    Forgotten(PurgeId),
    /// The position of the log is at least this.
    Position(PurgePosition),
    /// What was known when the file was begun has been written.
    Snapshot,
}

impl Record {
    /// As bytes.
    pub fn encode(&self) -> [u8; RECORD_LENGTH] {
        let mut bytes = [0; RECORD_LENGTH];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        match self {
            Self::Issuer(issuer) => {
                put(4, &[ISSUER]);
                put(32, &issuer.0.to_le_bytes());
            }
            Self::Covered(id) | Self::Forgotten(id) => {
                put(4, &[if matches!(self, Self::Covered(_)) { COVERED } else { FORGOTTEN }]);
                put(32, &id.issuer.0.to_le_bytes());
                put(40, &id.number.to_le_bytes());
            }
            Self::Position(position) => {
                put(4, &[POSITION]);
                put(48, &position.0.to_le_bytes());
            }
            Self::Snapshot => put(4, &[SNAPSHOT]),
            Self::Entry { entry: Entry { id, target }, position, at } => {
                put(4, &[ENTRY + target.kind.code(), target.mode as u8]);
                put(6, &target.length.to_le_bytes());
                put(8, &target.site.0.to_le_bytes());
                put(16, &target.hash);
                put(32, &id.issuer.0.to_le_bytes());
                put(40, &id.number.to_le_bytes());
                put(48, &position.0.to_le_bytes());
                put(56, &at.as_millis().to_le_bytes());
            }
        }
        let sum = crc32c::crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads a record. `None` if the sum does not match, the kind is not known, or a number is none that is ever come to.
    pub fn decode(bytes: &[u8; RECORD_LENGTH]) -> Option<Self> {
        let u64_at = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("within the record"));
        if u32::from_le_bytes(*bytes.first_chunk()?) != crc32c::crc32c(&bytes[4..]) {
            return None;
        }
        let (issuer, position) = (Issuer(u64_at(32)), PurgePosition(u64_at(48)));
        let id = PurgeId { issuer, number: u64_at(40) };
        if id.number > PurgeId::NUMBER_MAX || position > PurgePosition::MAX {
            return None;
        }
        Some(match bytes[4] {
            ISSUER => Self::Issuer(issuer),
            COVERED => Self::Covered(id),
            FORGOTTEN => Self::Forgotten(id),
            POSITION => Self::Position(position),
            SNAPSHOT => Self::Snapshot,
            kind => {
                let kind = SelectorKind::from_code(kind.checked_sub(ENTRY)?)?;
                let mode = *Mode::ALL.get(usize::from(bytes[5]))?;
                let length = u16::from_le_bytes([bytes[6], bytes[7]]);
                let (site, hash) = (SiteId(u64_at(8)), *bytes[16..].first_chunk()?);
                let target = Target { kind, mode, site, length, hash };
                let at = Wall::from_millis(u64_at(56) as i64);
                Self::Entry { entry: Entry { id, target }, position, at }
            }
        })
    }
}
