//! Frames out of the pieces in which a stream arrives. No I/O, so that reading may stop anywhere and go on.

use crate::proto::wire::DATA_MAX;
use crate::proto::wire::frame::{FRAME_HEAD, Frame, FrameError, FrameHead, FrameKind};
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;

/// Pieces of body shorter than this are copied together. A piece is a part of a receive buffer of up to 64 KiB, which a
/// short one would keep alive; and whoever hashes or sends the body does it faster in one go.
const WHOLE_PIECE_MIN: usize = 16 << 10;
/// Frames of later versions that are skipped one after the other. More is no version's way of speaking.
const SKIPPED_RUN_MAX: u32 = 16;

/// What has arrived and was not taken yet. Owned by the stream; holds at most a message and the pieces of one read.
pub(super) struct Frames {
    ahead: VecDeque<Bytes>,
    head: [u8; FRAME_HEAD],
    head_length: usize,
    open: Option<FrameHead>,
    payload: BytesMut,
    message_max: usize,
    skipped_run: u32,
}

impl Frames {
    /// The beginning of a stream. Messages may have at most `message_max` bytes.
    pub(super) fn new(message_max: usize) -> Self {
        Self {
            ahead: VecDeque::new(),
            head: [0; FRAME_HEAD],
            head_length: 0,
            open: None,
            payload: BytesMut::new(),
            message_max,
            skipped_run: 0,
        }
    }

    /// Adds what came next.
    pub(super) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.ahead.push_back(piece);
        }
    }

    /// Whether nothing has begun that is not complete.
    pub(super) fn is_between(&self) -> bool {
        self.ahead.is_empty() && self.head_length == 0 && self.open.is_none()
    }

    /// The next frame, `None` if more must come first. Of a `Data` frame whatever is there is handed out as
    /// a frame of its own; what later versions say is passed over.
    ///
    /// # Errors
    /// If what came is no frame; nothing can be read after that.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if self.open.is_none() {
                self.open = self.take_head()?;
            }
            let Some(FrameHead { kind, length }) = self.open else { return Ok(None) };
            match kind {
                FrameKind::Data => return Ok(self.take_data(length).map(Frame::Data)),
                FrameKind::Skipped(_) if self.skip(kind, length) => continue,
                FrameKind::Skipped(_) => return Ok(None),
                _ => {}
            }
            let Some(payload) = self.take_whole(length) else { return Ok(None) };
            self.open = None;
            return Ok(Some(match kind {
                FrameKind::Chunk => Frame::Chunk(fixed(&payload)?),
                FrameKind::End => Frame::End(u64::from_le_bytes(fixed(&payload)?)),
                FrameKind::Pulse => Frame::Pulse,
                FrameKind::Message | FrameKind::Data | FrameKind::Skipped(_) => Frame::Message(payload),
            }));
        }
    }

    fn take_head(&mut self) -> Result<Option<FrameHead>, FrameError> {
        while self.head_length < FRAME_HEAD {
            let Some(piece) = self.take_piece(FRAME_HEAD - self.head_length) else { return Ok(None) };
            self.head[self.head_length..][..piece.len()].copy_from_slice(&piece);
            self.head_length += piece.len();
        }
        self.head_length = 0;
        let head = FrameHead::decode(self.head)?;
        let fits = head.kind != FrameKind::Message || head.length <= self.message_max;
        self.skipped_run = match head.kind {
            FrameKind::Skipped(kind) if self.skipped_run == SKIPPED_RUN_MAX => {
                return Err(FrameError::Kind(kind));
            }
            FrameKind::Skipped(_) => self.skipped_run + 1,
            _ => 0,
        };
        if fits { Ok(Some(head)) } else { Err(FrameError::Length(head.length)) }
    }

    /// Drops what is there of the `left` bytes of the open frame. Whether that was all of it.
    fn skip(&mut self, kind: FrameKind, mut left: usize) -> bool {
        while left > 0
            && let Some(piece) = self.take_piece(left)
        {
            left -= piece.len();
        }
        self.open = (left > 0).then_some(FrameHead { kind, length: left });
        left == 0
    }

    /// Some of the `left` bytes of the open `Data` frame.
    fn take_data(&mut self, left: usize) -> Option<Bytes> {
        let first = self.ahead.front()?;
        let taken = if first.len() >= WHOLE_PIECE_MIN {
            self.take_piece(left)?
        } else {
            self.gather(left.min(DATA_MAX))
        };
        let left = left - taken.len();
        self.open = (left > 0).then_some(FrameHead { kind: FrameKind::Data, length: left });
        Some(taken)
    }

    /// A copy of what is there, at most `max` bytes.
    fn gather(&mut self, max: usize) -> Bytes {
        let there: usize = self.ahead.iter().map(Bytes::len).sum();
        let mut gathered = BytesMut::with_capacity(there.min(max));
        while gathered.len() < max
            && let Some(piece) = self.take_piece(max - gathered.len())
        {
            gathered.extend_from_slice(&piece);
        }
        gathered.freeze()
    }

    /// A payload of exactly `length` bytes. Its buffer grows with what comes, not with what was announced.
    fn take_whole(&mut self, length: usize) -> Option<Bytes> {
        while self.payload.len() < length {
            let piece = self.take_piece(length - self.payload.len())?;
            self.payload.extend_from_slice(&piece);
        }
        Some(std::mem::take(&mut self.payload).freeze())
    }

    /// The next piece, or its first `max` bytes.
    fn take_piece(&mut self, max: usize) -> Option<Bytes> {
        let first = self.ahead.front_mut()?;
        if first.remaining() > max { Some(first.split_to(max)) } else { self.ahead.pop_front() }
    }
}

fn fixed<const N: usize>(payload: &[u8]) -> Result<[u8; N], FrameError> {
    payload.first_chunk().copied().ok_or(FrameError::Length(payload.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::wire::MESSAGE_MAX;
    use proptest::prelude::*;

    fn encode(frame: &Frame) -> Vec<u8> {
        let (kind, payload) = match frame {
            Frame::Message(bytes) => (FrameKind::Message, bytes.to_vec()),
            Frame::Data(bytes) => (FrameKind::Data, bytes.to_vec()),
            Frame::Chunk(hash) => (FrameKind::Chunk, hash.to_vec()),
            Frame::End(length) => (FrameKind::End, length.to_le_bytes().to_vec()),
            Frame::Pulse => (FrameKind::Pulse, vec![]),
        };
        let mut encoded = FrameHead { kind, length: payload.len() }.encode().to_vec();
        encoded.extend(payload);
        encoded
    }

    /// Neighbouring data is one: how it is cut means nothing.
    fn joined(frames: impl IntoIterator<Item = Frame>) -> Vec<Frame> {
        let mut joined: Vec<Frame> = Vec::new();
        for frame in frames {
            match (joined.last_mut(), frame) {
                (Some(Frame::Data(before)), Frame::Data(more)) => {
                    *before = [&before[..], &more[..]].concat().into();
                }
                (_, frame) => joined.push(frame),
            }
        }
        joined
    }

    fn some_frame() -> impl Strategy<Value = Frame> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| Frame::Message(bytes.into())),
            (1..100_000_usize).prop_map(|length| Frame::Data((0..length).map(|at| at as u8).collect())),
            any::<[u8; 32]>().prop_map(Frame::Chunk),
            any::<u64>().prop_map(Frame::End),
            Just(Frame::Pulse),
        ]
    }

    proptest! {
        #[test]
        fn frames_are_the_same_however_the_stream_is_cut(
            frames in prop::collection::vec(some_frame(), 0..12),
            cuts in prop::collection::vec(1..40_000_usize, 1..9),
        ) {
            let mut stream: Bytes = frames.iter().flat_map(encode).collect();
            let mut reader = Frames::new(MESSAGE_MAX);
            let mut read = Vec::new();
            for cut in cuts.iter().cycle() {
                reader.push(stream.split_to(stream.len().min(*cut)));
                while let Some(frame) = reader.next().unwrap() {
                    read.push(frame);
                }
                if stream.is_empty() {
                    break;
                }
            }
            prop_assert!(reader.is_between());
            prop_assert_eq!(joined(read), joined(frames));
        }

        #[test]
        fn no_bytes_make_it_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let mut reader = Frames::new(1024);
            for piece in pieces {
                reader.push(piece.into());
                while let Ok(Some(_)) = reader.next() {}
            }
        }
    }

    #[test]
    fn a_message_that_is_announced_too_long_is_refused_before_it_comes() {
        let mut reader = Frames::new(100);
        reader.push(Bytes::copy_from_slice(&FrameHead { kind: FrameKind::Message, length: 101 }.encode()));
        assert_eq!(reader.next(), Err(FrameError::Length(101)));
    }

    #[test]
    fn what_a_later_version_says_is_passed_over_however_it_comes() {
        let skipped = |kind, length| {
            let mut frame = FrameHead { kind: FrameKind::Skipped(kind), length }.encode().to_vec();
            frame.resize(frame.len() + length, 0xff);
            frame
        };
        let said =
            [skipped(128, 0), encode(&Frame::End(7)), skipped(255, 9000), encode(&Frame::Pulse)].concat();
        for cut in [1, 3, 1000, said.len()] {
            let mut reader = Frames::new(100);
            let mut read = Vec::new();
            for piece in said.chunks(cut) {
                reader.push(Bytes::copy_from_slice(piece));
                while let Some(frame) = reader.next().unwrap() {
                    read.push(frame);
                }
            }
            assert_eq!(read, [Frame::End(7), Frame::Pulse]);
            assert!(reader.is_between() && reader.payload.is_empty(), "nothing is kept of it");
        }
    }

    #[test]
    fn who_says_nothing_but_what_is_passed_over_is_not_listened_to_for_ever() {
        let frame = FrameHead { kind: FrameKind::Skipped(200), length: 0 }.encode();
        let mut reader = Frames::new(100);
        reader.push(Bytes::from(frame.repeat(SKIPPED_RUN_MAX as usize)));
        assert_eq!(reader.next(), Ok(None));
        reader.push(Bytes::copy_from_slice(&frame));
        assert_eq!(reader.next(), Err(FrameError::Kind(200)));
        let mut reader = Frames::new(100);
        reader.push(Bytes::copy_from_slice(
            &FrameHead { kind: FrameKind::Skipped(200), length: 70_000 }.encode(),
        ));
        assert_eq!(reader.next(), Err(FrameError::Length(70_000)));
        let mut reader = Frames::new(100);
        reader.push(Bytes::from_static(&[127, 0, 0, 0, 0]));
        assert_eq!(reader.next(), Err(FrameError::Kind(127)), "only the upper half may be skipped");
    }

    #[test]
    fn a_stream_may_end_only_between_frames() {
        let mut reader = Frames::new(100);
        assert!(reader.is_between());
        for byte in encode(&Frame::End(7)) {
            assert_eq!(reader.next().unwrap(), None);
            reader.push(Bytes::copy_from_slice(&[byte]));
            assert!(!reader.is_between());
        }
        assert_eq!(reader.next().unwrap(), Some(Frame::End(7)));
        assert!(reader.is_between());
    }
}
