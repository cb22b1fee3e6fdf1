//! What seeking needs of the swarm, and how a peer is listened to.

use crate::clock::Clock;
use crate::peer::{Answer, AskError, Blame, Exchange, Mesh};
use crate::proto::key::ObjectId;
use crate::proto::purge::Coverage;
use crate::proto::swarm::{Holding, NodeId, Place, Query};
use crate::proto::wire::{self, Frame, ask, reply};
use futures_util::FutureExt;
use prost::Message;
use std::future::Future;
use std::time::{Duration, Instant};

/// Silence, without even a pulse, after which a peer counts as stalled.
pub(super) const STALL: Duration = Duration::from_millis(400);
/// Time beyond the origin's own limits after which pulses alone do not keep a reader waiting.
pub(super) const QUIET_MARGIN: Duration = Duration::from_secs(2);

/// What a peer answers, frame by frame.
pub(in crate::serve) trait Frames: Send + 'static {
    /// The next frame; `Ok(None)` at the end of the stream. Safe to drop.
    fn frame(&mut self) -> impl Future<Output = Result<Option<Frame>, AskError>> + Send;
}

/// The swarm, as a leader needs it.
pub(in crate::serve) trait Swarm: Clone + Send + Sync + 'static {
    /// The answers of peers.
    type Frames: Frames;
    /// This node.
    fn me(&self) -> NodeId;
    /// Asks the directory.
    fn resolve(&self, query: Query) -> impl Future<Output = Answer> + Send;
    /// The home edge of an object, if it is another node.
    fn home(&self, object: ObjectId) -> Option<Place>;
    /// Asks a peer.
    fn ask(
        &self,
        place: &Place,
        ask: ask::Kind,
    ) -> impl Future<Output = Result<Self::Frames, AskError>> + Send;
    /// Tells the directory that a node does not have what it was named for, or has only what a purge selects.
    fn gone(&self, holding: Holding, node: NodeId, purged: bool);
    /// Makes this node and a peer cover the same purges; `theirs` is what the peer covers.
    fn catch_up(&self, place: &Place, theirs: Coverage) -> impl Future<Output = Result<(), AskError>> + Send;
    /// Notes a fault of a peer.
    fn blame(&self, node: NodeId, blame: Blame);
}

impl Frames for Exchange {
    fn frame(&mut self) -> impl Future<Output = Result<Option<Frame>, AskError>> + Send {
        Self::frame(self)
    }
}

impl Swarm for Mesh {
    type Frames = Exchange;

    fn me(&self) -> NodeId {
        Self::me(self).id
    }

    fn resolve(&self, query: Query) -> impl Future<Output = Answer> + Send {
        Self::resolve(self, query)
    }

    fn home(&self, object: ObjectId) -> Option<Place> {
        Self::home(self, object)
    }

    fn ask(
        &self,
        place: &Place,
        ask: ask::Kind,
    ) -> impl Future<Output = Result<Self::Frames, AskError>> + Send {
        Self::ask(self, place, ask)
    }

    fn gone(&self, holding: Holding, node: NodeId, purged: bool) {
        Self::gone(self, holding, node, purged);
    }

    fn catch_up(&self, place: &Place, theirs: Coverage) -> impl Future<Output = Result<(), AskError>> + Send {
        Self::catch_up(self, place, theirs)
    }

    fn blame(&self, node: NodeId, blame: Blame) {
        Self::blame(self, node, blame);
    }
}

/// An answer that is listened to with limits on silence.
pub(super) struct Listener<F> {
    frames: F,
    clock: Clock,
    /// When it last said more than a pulse.
    heard: Instant,
    quiet_max: Duration,
}

impl<F: Frames> Listener<F> {
    /// Listens from now on. Pulses alone are borne for `quiet_max`, and [`QUIET_MARGIN`] beyond.
    pub(super) fn new(frames: F, clock: Clock, quiet_max: Duration) -> Self {
        Self { frames, clock, heard: clock.mono(), quiet_max: quiet_max + QUIET_MARGIN }
    }

    /// From now on pulses alone are borne for so long, and [`QUIET_MARGIN`] beyond.
    pub(super) fn bear(&mut self, quiet_max: Duration) {
        self.quiet_max = quiet_max + QUIET_MARGIN;
        self.heard = self.clock.mono();
    }

    /// The next frame but pulses; `None` at the end of the stream. Safe to drop.
    ///
    /// # Errors
    /// Those of the stream, and [`AskError::Silent`].
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, AskError> {
        loop {
            let frame = match self.frames.frame().now_or_never() {
                Some(frame) => frame?,
                None => match tokio::time::timeout(STALL, self.frames.frame()).await {
                    Ok(frame) => frame?,
                    Err(_elapsed) => return Err(AskError::Silent),
                },
            };
            let now = self.clock.mono();
            if frame != Some(Frame::Pulse) {
                self.heard = now;
                return Ok(frame);
            }
            if now.saturating_duration_since(self.heard) > self.quiet_max {
                return Err(AskError::Silent);
            }
        }
    }

    /// The first answer to a question.
    ///
    /// # Errors
    /// As for [`next`](Self::next), and if what comes is no answer, or none that this version knows.
    pub(super) async fn reply(&mut self) -> Result<reply::Kind, AskError> {
        let Some(Frame::Message(message)) = self.next().await? else { return Err(AskError::Protocol) };
        let reply = wire::Reply::decode(message).or(Err(AskError::Protocol))?;
        reply.kind.ok_or(AskError::Unsupported)
    }
}
