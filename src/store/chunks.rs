//! The hashes of the chunks of a body that arrives in order.
//!
//! They say what each chunk is to the peers that get it, so they are wanted also for a body that the
//! store does not keep. Kept bytes are hashed a record at a time, others as they come, none twice.

use crate::proto::object::layout;

/// Takes a body in, from its first byte on.
#[derive(Default)]
pub(super) struct ChunkHashes {
    /// Body bytes taken in.
    position: u64,
    /// The chunk that has begun. Large, so boxed; a body that comes in one piece needs none.
    hasher: Option<Box<blake3::Hasher>>,
    complete: Vec<[u8; 32]>,
    ended: bool,
}

impl ChunkHashes {
    /// Hashes so far. Bounded by `BODY_MAX`: what comes after is not hashed.
    pub(super) fn complete(&self) -> &[[u8; 32]] {
        &self.complete
    }

    /// Takes in the body bytes at `offset`. Ignored if that is not where the last ones ended: those were
    /// taken in before, or some were missed, and then no later hash would be right.
    pub(super) fn update(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.takes(offset) {
            let room = layout::CHUNK_SIZE - offset % layout::CHUNK_SIZE;
            let (now, later) = bytes.split_at(bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            (bytes, offset) = (later, offset + now.len() as u64);
            self.position = offset;
            if offset.is_multiple_of(layout::CHUNK_SIZE) {
                self.end_chunk(now);
            } else {
                self.hasher.get_or_insert_default().update(now);
            }
        }
    }

    /// Ends the body with its last bytes, which may have been taken in before. Only the first call counts.
    pub(super) fn end(&mut self, offset: u64, rest: &[u8]) {
        if self.takes(offset) && (self.hasher.is_some() || !rest.is_empty()) {
            self.position += rest.len() as u64;
            self.end_chunk(rest);
        }
        self.ended = true;
    }

    fn takes(&self, offset: u64) -> bool {
        offset == self.position && offset < super::filling::BODY_MAX && !self.ended
    }

    fn end_chunk(&mut self, rest: &[u8]) {
        let hash = match self.hasher.take() {
            Some(mut hasher) => hasher.update(rest).finalize(),
            None => blake3::hash(rest),
        };
        self.complete.push(*hash.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHUNK: usize = layout::CHUNK_SIZE as usize;

    fn expected(body: &[u8]) -> Vec<[u8; 32]> {
        body.chunks(CHUNK).map(|chunk| *blake3::hash(chunk).as_bytes()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn however_a_body_is_cut_its_hashes_are_those_of_its_chunks(
            length in prop_oneof![0..=CHUNK, (0usize..4).prop_map(|chunks| chunks * CHUNK), CHUNK..3 * CHUNK],
            piece in 1usize..2 * CHUNK,
            last_at_end: bool,
        ) {
            let body: Vec<u8> = (0..length).map(|at| (at / 251) as u8).collect();
            let mut hashes = ChunkHashes::default();
            let mut pieces: Vec<_> = body.chunks(piece).collect();
            // A record, which the end may come with, crosses no chunk boundary.
            let rest = if last_at_end && piece <= CHUNK && CHUNK.is_multiple_of(piece) { pieces.pop() } else { None };
            let mut at = 0;
            for piece in pieces {
                hashes.update(at, piece);
                hashes.update(at, piece);
                at += piece.len() as u64;
                prop_assert_eq!(hashes.complete(), &expected(&body)[..at as usize / CHUNK]);
            }
            hashes.end(at, rest.unwrap_or_default());
            hashes.end(at, rest.unwrap_or_default());
            hashes.update(length as u64, b"after the end");
            prop_assert_eq!(hashes.complete(), expected(&body));
        }
    }

    #[test]
    fn after_a_gap_no_hash_is_told() {
        let mut hashes = ChunkHashes::default();
        let body = vec![1; 3 * CHUNK];
        hashes.update(0, &body[..CHUNK + 5]);
        hashes.update(layout::CHUNK_SIZE + 6, &body[CHUNK + 6..]);
        hashes.end(body.len() as u64, b"");
        assert_eq!(hashes.complete(), &expected(&body)[..1]);
    }
}
