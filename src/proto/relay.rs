//! Whether body bytes that a peer sends are what they should be: chunk by chunk, against the hash that the
//! peer sends behind each, or against the list of a stored version.

use super::object::layout::CHUNK_SIZE;

/// BLAKE3 of a chunk.
pub type ChunkHash = [u8; 32];

/// What is wrong with what a peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayFault {
    /// The bytes of a chunk do not match the hash behind it. `exact` says that all of them came from the peer
    /// that sent the hash, so that the fault is its own.
    #[error("chunk does not match its hash")]
    Mismatch {
        /// Whether the whole chunk is from one peer.
        exact: bool,
    },
    /// Bytes beyond the end of a chunk whose hash did not come, or of the body.
    #[error("more bytes than the chunk or the body has")]
    TooLong,
    /// A hash within a chunk.
    #[error("a hash where no chunk ends")]
    Misplaced,
    /// The end before the body's length, or before the last hash.
    #[error("the end before all is there and checked")]
    Early,
}

/// A chunk that was found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Body offset at which it ends.
    pub end: u64,
    /// Its hash.
    pub hash: ChunkHash,
}

/// Follows one body, whose bytes may come from one source after the other.
pub struct Checker {
    /// Of the chunk that is open. Large, so boxed.
    hasher: Box<blake3::Hasher>,
    /// Bytes that came.
    at: u64,
    /// Bytes whose chunk was found good.
    checked: u64,
    /// Length of the body, if it is known.
    length: Option<u64>,
    /// Whether the open chunk has bytes of a source before the present one.
    mixed: bool,
}

impl Checker {
    /// At the start of a body of `length` bytes, if that is known.
    pub fn new(length: Option<u64>) -> Self {
        Self { hasher: Box::default(), at: 0, checked: 0, length, mixed: false }
    }

    /// Offset of the next byte.
    pub const fn offset(&self) -> u64 {
        self.at
    }

    /// Offset up to which chunks were found good.
    pub const fn checked(&self) -> u64 {
        self.checked
    }

    /// Whether the whole body came and is good, as far as its length is known.
    pub fn is_whole(&self) -> bool {
        self.length == Some(self.checked)
    }

    /// From here on another source sends.
    pub const fn change_source(&mut self) {
        self.mixed = self.at > self.checked;
    }

    /// The next bytes came.
    ///
    /// # Errors
    /// If they reach beyond the open chunk or the body; none of them counts then.
    pub fn handle_data(&mut self, bytes: &[u8]) -> Result<(), RelayFault> {
        let end = self.at + bytes.len() as u64;
        if end > self.chunk_end() {
            return Err(RelayFault::TooLong);
        }
        self.hasher.update(bytes);
        self.at = end;
        Ok(())
    }

    /// The peer says that the open chunk is complete and has this hash.
    ///
    /// # Errors
    /// If it is not, or has another.
    pub fn handle_chunk(&mut self, hash: ChunkHash) -> Result<Checked, RelayFault> {
        // Also the one chunk of an empty body, if somebody sends its hash.
        let may_end = self.at > self.checked || self.length == Some(0);
        let is_full = self.at == self.chunk_end() || (self.length.is_none() && self.at > self.checked);
        if !may_end || !is_full {
            return Err(RelayFault::Misplaced);
        }
        if *self.hasher.finalize().as_bytes() != hash {
            return Err(RelayFault::Mismatch { exact: !self.mixed });
        }
        if !self.at.is_multiple_of(CHUNK_SIZE) {
            self.length = Some(self.at);
        }
        Ok(self.close(hash))
    }

    /// The peer says that the body is complete.
    ///
    /// # Errors
    /// If a byte or a hash is missing, or the length is another.
    pub fn handle_end(&mut self, length: u64) -> Result<(), RelayFault> {
        if self.at != length || self.checked != length || self.length.is_some_and(|known| known != length) {
            return Err(RelayFault::Early);
        }
        self.length = Some(length);
        Ok(())
    }

    /// A whole chunk of `length` bytes came that was found good by other means.
    pub fn handle_good(&mut self, length: u64, hash: ChunkHash) -> Checked {
        self.at = self.checked + length;
        self.close(hash)
    }

    /// The next bytes came from the origin, which is believed. `good` is called for each chunk that they
    /// complete.
    ///
    /// # Errors
    /// If they reach beyond the body.
    pub fn handle_trusted(
        &mut self,
        mut bytes: &[u8],
        mut good: impl FnMut(Checked),
    ) -> Result<(), RelayFault> {
        while !bytes.is_empty() {
            let room = usize::try_from(self.chunk_end() - self.at).unwrap_or(usize::MAX);
            if room == 0 && self.at == self.checked {
                return Err(RelayFault::TooLong);
            }
            if room == 0 {
                // A lost peer had sent all of it, but not its hash.
                good(self.close_trusted());
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.handle_data(now)?;
            if self.at.is_multiple_of(CHUNK_SIZE) {
                good(self.close_trusted());
            }
            bytes = later;
        }
        Ok(())
    }

    /// The origin has sent all. The last chunk, if it is not closed yet.
    ///
    /// # Errors
    /// If the body has another length than was stated.
    pub fn handle_trusted_end(&mut self) -> Result<Option<Checked>, RelayFault> {
        if self.length.is_some_and(|length| length != self.at) {
            return Err(RelayFault::Early);
        }
        self.length = Some(self.at);
        Ok((self.at > self.checked).then(|| self.close_trusted()))
    }

    /// What proves that the bytes of the open chunk are those that another source has there.
    pub fn proof(&self) -> Proof {
        let expected = *self.hasher.finalize().as_bytes();
        Proof { left: self.at - self.checked, hasher: Box::default(), expected }
    }

    /// Where the open chunk ends.
    fn chunk_end(&self) -> u64 {
        let end = (self.checked / CHUNK_SIZE + 1) * CHUNK_SIZE;
        self.length.map_or(end, |length| end.min(length))
    }

    fn close_trusted(&mut self) -> Checked {
        let hash = *self.hasher.finalize().as_bytes();
        self.close(hash)
    }

    fn close(&mut self, hash: ChunkHash) -> Checked {
        self.hasher.reset();
        self.checked = self.at;
        self.mixed = false;
        Checked { end: self.at, hash }
    }
}

/// Compares the bytes of an open chunk with the same bytes from the origin, without keeping either.
pub struct Proof {
    left: u64,
    hasher: Box<blake3::Hasher>,
    expected: ChunkHash,
}

impl Proof {
    /// Takes the origin's bytes, from the start of the chunk on. Returns how many of them are behind what is
    /// to be proven.
    ///
    /// # Errors
    /// If they are other bytes.
    pub fn handle(&mut self, bytes: &[u8]) -> Result<usize, RelayFault> {
        if self.left == 0 {
            return Ok(bytes.len());
        }
        let taken = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.hasher.update(&bytes[..taken]);
        self.left -= taken as u64;
        if self.left == 0 && *self.hasher.finalize().as_bytes() != self.expected {
            return Err(RelayFault::Mismatch { exact: false });
        }
        Ok(bytes.len() - taken)
    }

    /// Whether all is proven.
    pub const fn is_complete(&self) -> bool {
        self.left == 0
    }
}

/// What is to be thought of a whole chunk of a stored version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is what the list says.
    Good,
    /// It does not match the hash that its sender sent with it: the sender's own fault.
    Bad,
    /// It does, but the list has another: sender and lister disagree, and nobody knows who is right.
    Disputed,
}

/// Judges a chunk by its parts, the hash that came with it, and the one in the list.
pub fn judge<'a>(
    parts: impl IntoIterator<Item = &'a [u8]>,
    stated: &ChunkHash,
    listed: &ChunkHash,
) -> Judgement {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    if hasher.finalize() != *stated {
        Judgement::Bad
    } else if stated != listed {
        Judgement::Disputed
    } else {
        Judgement::Good
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
