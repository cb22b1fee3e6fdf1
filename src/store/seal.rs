//! The payload of a `Seal` record: what recovery must know of a version that its head record alone
//! does not tell without being read.
//!
//! ```text
//!  0  u8  format (1)   u8  number of Vary names   u16  0   u32  number of chunk hashes
//!  8  u64 length of the body
//! 16  names {u16 length, bytes} · [32] BLAKE3 of each chunk; of none if the body is in record 0
//! ```
//! All numbers are little-endian. A version of several records or of an object that varies is there
//! at a start only with its seal, so no head is read then. Its records are filed under an
//! [`edition`], so that the records of two fetches are never taken for one version's, even if the
//! origin gave two bodies the same strong validator.

use crate::proto::key::VersionId;
use crate::proto::time::Wall;
use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderName;

const FORMAT: u8 = 1;
/// Hash domain; part of the disk format.
const EDITION_DOMAIN: &[u8; 32] = b"shoal: edition of a version v1. ";

/// What a seal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    /// Length of the body.
    pub(super) length: u64,
    /// The names of the object's Vary list; empty if it does not vary.
    pub(super) vary: Vec<HeaderName>,
    /// BLAKE3 of each chunk.
    pub(super) hashes: Vec<[u8; 32]>,
}

/// A version as it was fetched at one time.
pub(super) fn edition(version: VersionId, received: Wall) -> VersionId {
    let mut hasher = blake3::Hasher::new_keyed(EDITION_DOMAIN);
    hasher.update(&version.0);
    hasher.update(&received.as_millis().to_le_bytes());
    VersionId(*hasher.finalize().as_bytes().first_chunk().expect("a BLAKE3 hash has 32 bytes"))
}

impl Seal {
    /// The payload. `None` if there are more names or hashes than the format counts.
    pub(super) fn encode(&self) -> Option<Bytes> {
        let names = self.vary.iter().map(|name| 2 + name.as_str().len()).sum::<usize>();
        let mut payload = BytesMut::with_capacity(16 + names + 32 * self.hashes.len());
        payload.put_u8(FORMAT);
        payload.put_u8(u8::try_from(self.vary.len()).ok()?);
        payload.put_u16_le(0);
        payload.put_u32_le(u32::try_from(self.hashes.len()).ok()?);
        payload.put_u64_le(self.length);
        for name in &self.vary {
            payload.put_u16_le(u16::try_from(name.as_str().len()).ok()?);
            payload.put_slice(name.as_str().as_bytes());
        }
        for hash in &self.hashes {
            payload.put_slice(hash);
        }
        Some(payload.freeze())
    }

    /// Reads a payload. `None` if it is not one of a known format.
    pub(super) fn decode(payload: &[u8]) -> Option<Self> {
        let (fixed, mut rest) = payload.split_first_chunk::<16>()?;
        let (&[format, names, _, _], rest_fixed) = fixed.split_first_chunk::<4>()?;
        let (hashes, length) = rest_fixed.split_first_chunk::<4>()?;
        let (hashes, length) = (u32::from_le_bytes(*hashes), u64::from_le_bytes(*length.first_chunk()?));
        if format != FORMAT {
            return None;
        }
        let mut vary = Vec::with_capacity(names.into());
        for _ in 0..names {
            let (name_length, tail) = rest.split_first_chunk::<2>()?;
            let (name, tail) = tail.split_at_checked(u16::from_le_bytes(*name_length).into())?;
            vary.push(HeaderName::from_bytes(name).ok()?);
            rest = tail;
        }
        let (hashes_found, tail) = rest.as_chunks::<32>();
        if !tail.is_empty() || hashes_found.len() != hashes as usize {
            return None;
        }
        Some(Self { length, vary, hashes: hashes_found.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seal() -> Seal {
        Seal {
            length: 3 << 20,
            vary: vec![http::header::ACCEPT, HeaderName::from_static("x-shop")],
            hashes: vec![[1; 32], [2; 32], [3; 32]],
        }
    }

    #[test]
    fn a_seal_decodes_to_what_was_encoded() {
        assert_eq!(Seal::decode(&seal().encode().unwrap()), Some(seal()));
        let bare = Seal { length: 5, vary: vec![], hashes: vec![] };
        assert_eq!(Seal::decode(&bare.encode().unwrap()), Some(bare));
    }

    /// The bytes of format 1, written down: if this fails, what nodes have on disk is lost or misread.
    #[test]
    fn a_seal_and_an_edition_are_written_as_format_1_writes_them() {
        let seal = Seal { hashes: vec![[1; 32]], ..seal() };
        assert_eq!(data_encoding::HEXLOWER.encode(&seal.encode().unwrap()), SEAL);
        let edition = edition(VersionId([7; 16]), Wall::from_millis(1_800_000_000_123));
        assert_eq!(data_encoding::HEXLOWER.encode(&edition.0), EDITION);
    }

    const SEAL: &str = "\
        0102000001000000000030000000000006006163636570740600782d73686f7001010101010101010101010101010101\
        01010101010101010101010101010101";
    const EDITION: &str = "f0137f13d226563a3eb64602e0b3ae0d";

    #[test]
    fn fetches_at_two_times_are_two_editions() {
        let version = VersionId([7; 16]);
        let at = |millis| edition(version, Wall::from_millis(millis));
        assert_ne!(at(1), at(2));
        assert_eq!(at(1), at(1));
    }

    proptest! {
        #[test]
        fn damaged_seals_never_panic(at in 0usize..200, byte: u8, cut in 0usize..200) {
            let mut payload = seal().encode().unwrap().to_vec();
            let at = at % payload.len();
            payload[at] = byte;
            payload.truncate(payload.len() - cut % payload.len());
            let _ = Seal::decode(&payload);
        }
    }
}
