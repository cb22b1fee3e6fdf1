//! One stream with a peer: a question and its answer.

use super::frames::Frames;
use crate::proto::swarm::NodeId;
use crate::proto::wire::frame::{self, FrameHead, FrameKind};
use crate::proto::wire::{DATA_MAX, Frame, FrameError, MESSAGE_MAX, code};
use crate::telemetry::IntCounter;
use bytes::{BufMut, Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use std::future::Future;

/// Pieces taken from the stream in one go: about 45 KiB in packets of the usual size.
const PIECES: usize = 32;

/// Why an exchange with a peer failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No connection could be made, or it was lost.
    #[error("peer cannot be reached")]
    Unreachable,
    /// Nothing came for too long.
    #[error("peer is silent")]
    Silent,
    /// The peer reset the stream: its own upstream failed.
    #[error("the peer's upstream failed")]
    Upstream,
    /// The peer refuses: too much at once, not allowed, or leaving.
    #[error("peer refuses")]
    Refused,
    /// What came is not what must come.
    #[error("peer does not keep to the protocol")]
    Protocol,
    /// The question, or its answer, is of a kind that one of the two versions does not know.
    #[error("peer speaks another minor version, which does not know this")]
    Unsupported,
    /// The peer is in quarantine here.
    #[error("peer is in quarantine")]
    Quarantined,
}

/// A stream with a peer. Dropped before its end it is reset with `wire::code::CANCELLED`. All reads and writes are
/// safe to cancel: a frame half read is kept, and what a cancelled write had not sent yet goes before the
/// next one.
pub struct Exchange {
    peer: NodeId,
    send: SendStream,
    receive: RecvStream,
    frames: Frames,
    /// Counts the body bytes that come, where anyone wants to know.
    received: Option<IntCounter>,
    unsent: Vec<Bytes>,
    ended: bool,
}

impl Exchange {
    /// A stream that this node opened.
    pub(super) fn opened(peer: NodeId, streams: (SendStream, RecvStream)) -> Self {
        Self::accepted(peer, streams, MESSAGE_MAX)
    }

    /// A stream that the peer opened; its messages may have at most `message_max` bytes.
    pub(super) fn accepted(
        peer: NodeId,
        (send, receive): (SendStream, RecvStream),
        message_max: usize,
    ) -> Self {
        let frames = Frames::new(message_max);
        Self { peer, send, receive, frames, received: None, unsent: Vec::new(), ended: false }
    }

    /// Counts the body bytes that come from here on.
    pub(super) fn count(&mut self, received: IntCounter) {
        self.received = Some(received);
    }

    /// Who is at the other end.
    pub fn peer(&self) -> NodeId {
        self.peer
    }

    /// The next frame; `Ok(None)` when the peer has finished its side. Unbounded in time: callers bring
    /// a limit. Safe to drop: a frame half read is kept. A `Data` frame may come in several parts.
    ///
    /// # Errors
    /// If the peer reset, is gone or sends no frame.
    pub async fn frame(&mut self) -> Result<Option<Frame>, AskError> {
        loop {
            if let Some(frame) = self.frames.next()? {
                if let (Frame::Data(bytes), Some(received)) = (&frame, &self.received) {
                    received.inc_by(bytes.len() as u64);
                }
                return Ok(Some(frame));
            }
            let mut pieces = [const { Bytes::new() }; PIECES];
            match self.receive.read_chunks(&mut pieces).await? {
                Some(count) => pieces.into_iter().take(count).for_each(|piece| self.frames.push(piece)),
                None if self.frames.is_between() => return Ok(None),
                None => return Err(AskError::Protocol),
            }
        }
    }

    /// Sends a message frame.
    ///
    /// # Errors
    /// If the peer stopped reading or is gone; [`AskError::Protocol`] if the message is longer than the
    /// wire allows.
    pub async fn send_message(&mut self, message: &impl prost::Message) -> Result<(), AskError> {
        if message.encoded_len() > MESSAGE_MAX {
            return Err(AskError::Protocol);
        }
        self.send_encoded(frame::message(message)).await
    }

    /// Sends body bytes, cut into frames of at most `wire::DATA_MAX`, without copying them. Waits while the peer's
    /// window is full.
    ///
    /// # Errors
    /// If the peer stopped reading or is gone.
    pub async fn send_data(&mut self, bytes: Bytes) -> Result<(), AskError> {
        let count = bytes.len().div_ceil(DATA_MAX);
        let mut heads = BytesMut::with_capacity(count * frame::FRAME_HEAD);
        let mut rest = bytes;
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(DATA_MAX));
            heads.put_slice(&FrameHead { kind: FrameKind::Data, length: piece.len() }.encode());
            self.unsent.extend([heads.split().freeze(), piece]);
        }
        self.flush().await
    }

    /// Sends a `Chunk`, `End` or `Pulse` frame, or any other that is at hand.
    ///
    /// # Errors
    /// If the peer stopped reading or is gone.
    pub async fn send_frame(&mut self, frame: Frame) -> Result<(), AskError> {
        let (kind, payload) = match frame {
            Frame::Data(bytes) => return self.send_data(bytes).await,
            Frame::Message(bytes) => (FrameKind::Message, bytes),
            Frame::Chunk(hash) => (FrameKind::Chunk, Bytes::copy_from_slice(&hash)),
            Frame::End(length) => (FrameKind::End, Bytes::copy_from_slice(&length.to_le_bytes())),
            Frame::Pulse => (FrameKind::Pulse, Bytes::new()),
        };
        let mut whole = BytesMut::with_capacity(frame::FRAME_HEAD + payload.len());
        whole.put_slice(&FrameHead { kind, length: payload.len() }.encode());
        whole.put_slice(&payload);
        self.send_encoded(whole.freeze()).await
    }

    /// Sends whole frames that are encoded already ([`frame::message`]).
    ///
    /// # Errors
    /// If the peer stopped reading or is gone.
    pub async fn send_encoded(&mut self, frames: Bytes) -> Result<(), AskError> {
        self.unsent.push(frames);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), AskError> {
        while !self.unsent.is_empty() {
            let written = self.send.write_chunks(&mut self.unsent).await?;
            self.unsent.drain(..written.chunks);
        }
        Ok(())
    }

    /// Resolves when the peer no longer wants what this side sends, or is gone. For those who wait with nothing to send.
    pub fn unwanted(&self) -> impl Future<Output = ()> + Send + Sync + 'static {
        let stopped = self.send.stopped();
        async move {
            // However it ended, nobody listens.
            let _ = stopped.await;
        }
    }

    /// Ends this side in order. If a cancelled write left something unsent, the stream is reset instead: the
    /// peer must not take a part for the whole.
    pub fn finish(mut self) {
        if self.unsent.is_empty() {
            // It fails only if the peer has stopped reading, who then needs no end.
            let _ = self.send.finish();
            self.ended = true;
        }
    }

    /// Breaks off with one of `wire::code`.
    pub fn reset(mut self, code: u32) {
        self.break_off(code);
    }

    /// Lets this stream go before those of lower priority; 0 is usual.
    pub(super) fn prefer(&self, priority: i32) {
        // It fails only if the stream is closed already.
        let _ = self.send.set_priority(priority);
    }

    fn break_off(&mut self, code: u32) {
        // Both fail only if that side is closed already.
        let _ = self.send.reset(VarInt::from_u32(code));
        let _ = self.receive.stop(VarInt::from_u32(code));
        self.ended = true;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.ended {
            self.break_off(code::CANCELLED);
        }
    }
}

impl AskError {
    /// What the peer says with a code of `wire::code`. A code that this version does not know is a refusal.
    fn of_code(code: VarInt) -> Self {
        match u32::try_from(code.into_inner()) {
            Ok(code::UPSTREAM) => Self::Upstream,
            Ok(code::PROTOCOL) => Self::Protocol,
            Ok(code::UNSUPPORTED) => Self::Unsupported,
            _ => Self::Refused,
        }
    }
}

impl From<FrameError> for AskError {
    fn from(_: FrameError) -> Self {
        Self::Protocol
    }
}

impl From<ReadError> for AskError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::of_code(code),
            _ => Self::Unreachable,
        }
    }
}

impl From<WriteError> for AskError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::of_code(code),
            _ => Self::Unreachable,
        }
    }
}
