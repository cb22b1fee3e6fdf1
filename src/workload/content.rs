//! Bodies that need no file: each byte is a pure function of the path and its offset, so that an
//! origin makes any range of them and a client checks any part without either keeping them.
//!
//! The byte at offset `o` is byte `o % 8` (little endian) of word `o / 8` of the SplitMix64 stream
//! that the path's hash names. Changing this breaks everyone who compares with an earlier version.

use super::random::{hash, word};

/// Bytes in one random word.
const WORD: usize = 8;

/// The endless content of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    seed: u64,
}

impl Content {
    /// The content at `path`, which is the URL's path as sent, without the query.
    pub const fn of(path: &str) -> Self {
        Self { seed: hash(path.as_bytes()) }
    }

    /// A number that tells contents apart, for validators.
    pub const fn seed(self) -> u64 {
        self.seed
    }

    /// Appends the bytes `offset..offset + len` to `out`.
    pub fn append(self, out: &mut Vec<u8>, offset: u64, len: usize) {
        out.reserve(len);
        let (head, index) = self.head(offset, len);
        out.extend_from_slice(&head.bytes[head.from..head.to]);
        let rest = len - (head.to - head.from);
        for at in 0..(rest / WORD) as u64 {
            out.extend_from_slice(&word(self.seed, index + at).to_le_bytes());
        }
        let tail = word(self.seed, index + (rest / WORD) as u64).to_le_bytes();
        out.extend_from_slice(&tail[..rest % WORD]);
    }

    /// Whether `bytes` is the content from `offset` on.
    pub fn matches(self, offset: u64, bytes: &[u8]) -> bool {
        let (head, mut index) = self.head(offset, bytes.len());
        let (start, rest) = bytes.split_at(head.to - head.from);
        if *start != head.bytes[head.from..head.to] {
            return false;
        }
        let (words, tail) = rest.as_chunks::<WORD>();
        // Differences are gathered without a branch, which keeps the loop several times faster.
        let mut difference = 0;
        for bytes in words {
            difference |= u64::from_le_bytes(*bytes) ^ word(self.seed, index);
            index += 1;
        }
        difference == 0 && *tail == word(self.seed, index).to_le_bytes()[..tail.len()]
    }

    /// The part of the first word that `offset` lies within, empty when it starts a word, and the
    /// index of the next whole word.
    fn head(self, offset: u64, len: usize) -> (Part, u64) {
        let (index, from) = (offset / WORD as u64, (offset % WORD as u64) as usize);
        if from == 0 {
            return (Part { bytes: [0; WORD], from: 0, to: 0 }, index);
        }
        let to = WORD.min(from.saturating_add(len));
        (Part { bytes: word(self.seed, index).to_le_bytes(), from, to }, index + 1)
    }
}

/// The bytes `from..to` of one word.
struct Part {
    bytes: [u8; WORD],
    from: usize,
    to: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn made(path: &str, offset: u64, len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        Content::of(path).append(&mut out, offset, len);
        out
    }

    #[test]
    fn content_has_a_known_answer() {
        // Computed by an independent program from the definition in the module head.
        assert_eq!(made("/obj/1", 0, 16), KNOWN);
        assert_eq!(made("/obj/1", 5, 6), KNOWN[5..11]);
    }

    const KNOWN: [u8; 16] = [133, 160, 156, 86, 248, 67, 43, 210, 251, 185, 53, 213, 252, 50, 159, 130];

    #[test]
    fn contents_of_two_paths_differ() {
        assert_ne!(made("/obj/1", 0, 64), made("/obj/2", 0, 64));
    }

    proptest! {
        #[test]
        fn any_part_is_cut_from_the_whole(offset in 0_u64..200, len in 0_usize..200) {
            let whole = made("/obj/x", 0, 400);
            prop_assert_eq!(&made("/obj/x", offset, len)[..], &whole[offset as usize..offset as usize + len]);
        }

        #[test]
        fn a_part_matches_until_one_bit_differs(
            offset in 0_u64..1 << 40, len in 1_usize..200, at in 0_usize..200, bit in 0_u32..8,
        ) {
            let mut bytes = made("/obj/x", offset, len);
            let content = Content::of("/obj/x");
            prop_assert!(content.matches(offset, &bytes));
            bytes[at % len] ^= 1 << bit;
            prop_assert!(!content.matches(offset, &bytes));
        }
    }
}
