//! Frames: a type byte, a length, a payload.
//!
//! ```text
//! 0  u8  type (0 message, 1 data, 2 chunk, 3 end, 4 pulse)
//! 1  u32 length of the payload, little-endian
//! ```
//! Types from 128 on are of minor versions to come and may be skipped; other unknown ones are errors.

use bytes::{BufMut, BytesMut};

/// Bytes before the payload.
pub const FRAME_HEAD: usize = 5;
/// Types of frames from this on are skipped by who does not know them.
pub const SKIPPABLE: u8 = 128;
/// Longest payload of a frame that is skipped.
pub const SKIPPED_MAX: usize = 64 << 10;
/// Longest `Data` payload that is taken.
const DATA_TAKEN_MAX: usize = 1 << 20;

/// What a frame is, and how long its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Type of the frame.
    pub kind: FrameKind,
    /// Bytes that follow.
    pub length: usize,
}

/// The types of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A protobuf message.
    Message,
    /// Body bytes, the next in order.
    Data,
    /// The chunk that the bytes so far end is complete, and this is its BLAKE3 hash. Sent by who has
    /// checked it itself.
    Chunk,
    /// The body is complete; its length as `u64`, little-endian.
    End,
    /// Nothing yet, but the sender is alive and so is what it waits for.
    Pulse,
    /// Of a later minor version, to be skipped; the number is [`SKIPPABLE`] or higher.
    Skipped(u8),
}

/// A frame in hand. `Data` payloads are read by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A protobuf message, still encoded.
    Message(bytes::Bytes),
    /// Body bytes.
    Data(bytes::Bytes),
    /// Hash of the chunk that ended.
    Chunk([u8; 32]),
    /// Length of the whole body.
    End(u64),
    /// A sign of life.
    Pulse,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// An unknown type.
    #[error("frame of unknown type {0}")]
    Kind(u8),
    /// A length that the type cannot have.
    #[error("frame of {0} bytes is too long or too short for its type")]
    Length(usize),
}

impl FrameHead {
    /// Reads the head of a frame.
    ///
    /// # Errors
    /// An unknown type or an impossible length.
    pub fn decode(head: [u8; FRAME_HEAD]) -> Result<Self, FrameError> {
        let [kind, length @ ..] = head;
        let length = u32::from_le_bytes(length) as usize;
        let (kind, fits) = match kind {
            0 => (FrameKind::Message, length <= super::MESSAGE_MAX),
            1 => (FrameKind::Data, (1..=DATA_TAKEN_MAX).contains(&length)),
            2 => (FrameKind::Chunk, length == 32),
            3 => (FrameKind::End, length == 8),
            4 => (FrameKind::Pulse, length == 0),
            later @ SKIPPABLE.. => (FrameKind::Skipped(later), length <= SKIPPED_MAX),
            other => return Err(FrameError::Kind(other)),
        };
        if fits { Ok(Self { kind, length }) } else { Err(FrameError::Length(length)) }
    }

    /// The bytes of the head.
    pub fn encode(self) -> [u8; FRAME_HEAD] {
        let kind = match self.kind {
            FrameKind::Message => 0,
            FrameKind::Data => 1,
            FrameKind::Chunk => 2,
            FrameKind::End => 3,
            FrameKind::Pulse => 4,
            FrameKind::Skipped(later) => later,
        };
        let [a, b, c, d] = (self.length as u32).to_le_bytes();
        [kind, a, b, c, d]
    }
}

/// A whole frame with a protobuf message.
pub fn message(message: &impl prost::Message) -> bytes::Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(FRAME_HEAD + length);
    frame.put_slice(&FrameHead { kind: FrameKind::Message, length }.encode());
    message.encode(&mut frame).expect("the buffer grows");
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_head_decodes_to_what_was_encoded_or_not_at_all(bytes: [u8; FRAME_HEAD]) {
            if let Ok(head) = FrameHead::decode(bytes) {
                prop_assert_eq!(head.encode(), bytes);
                prop_assert!(head.length <= super::super::MESSAGE_MAX);
            }
        }
    }
}
