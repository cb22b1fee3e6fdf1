//! One stream with a peer: a question and its answer.

use crate::proto::swarm::NodeId;
use crate::proto::wire::Frame;
use bytes::Bytes;

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
    /// The peer is in quarantine here.
    #[error("peer is in quarantine")]
    Quarantined,
}

/// A stream with a peer. Dropped before its end it is reset with `wire::code::CANCELLED`. All reads and writes are
/// safe to cancel.
pub struct Exchange {
    peer: NodeId,
}

impl Exchange {
    /// Who is at the other end.
    pub fn peer(&self) -> NodeId {
        self.peer
    }

    /// The next frame; `Ok(None)` when the peer has finished its side. Unbounded in time: callers bring
    /// a limit. Safe to drop: a frame half read is kept.
    ///
    /// # Errors
    /// If the peer reset, is gone or sends no frame.
    pub async fn frame(&mut self) -> Result<Option<Frame>, AskError> {
        todo!()
    }

    /// Sends a message frame.
    ///
    /// # Errors
    /// If the peer stopped reading or is gone.
    pub async fn send_message(&mut self, _message: &impl prost::Message) -> Result<(), AskError> {
        todo!()
    }

    /// Sends body bytes, cut into frames of at most `wire::DATA_MAX`. Waits while the peer's window is full.
    ///
    /// # Errors
    /// If the peer stopped reading or is gone.
    pub async fn send_data(&mut self, _bytes: Bytes) -> Result<(), AskError> {
        todo!()
    }

    /// Sends a `Chunk`, `End` or `Pulse` frame.
    ///
    /// # Errors
    /// If the peer stopped reading or is gone.
    pub async fn send_frame(&mut self, _frame: Frame) -> Result<(), AskError> {
        todo!()
    }

    /// Ends this side in order.
    pub fn finish(self) {
        todo!()
    }

    /// Breaks off with one of `wire::code`.
    pub fn reset(self, _code: u32) {
        todo!()
    }
}
