//! The stream on which a peer is answered: bounded in time, counted, and never silent for long.

use crate::peer::{AskError, Exchange};
use crate::proto::wire::{Frame, Reply, code, reply};
use crate::telemetry::{Given, Metrics, PeerAnswer};
use bytes::Bytes;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// How often a peer that waits gets a sign of life. It takes a sender for dead after four of them.
const PULSE_EVERY: Duration = Duration::from_millis(100);
/// Longest time for which a peer may take nothing of what is sent.
const SEND_WAIT: Duration = Duration::from_secs(20);

/// What an answer is written to.
pub(in crate::serve) trait Sink: Send {
    /// Sends a reply.
    fn send_reply(&mut self, reply: &Reply) -> impl Future<Output = Result<(), AskError>> + Send;
    /// Sends body bytes.
    fn send_data(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), AskError>> + Send;
    /// Sends any other frame.
    fn send_frame(&mut self, frame: Frame) -> impl Future<Output = Result<(), AskError>> + Send;
    /// Ends the answer in order.
    fn finish(self);
    /// Breaks it off.
    fn reset(self, code: u32);
}

impl Sink for Exchange {
    async fn send_reply(&mut self, reply: &Reply) -> Result<(), AskError> {
        self.send_message(reply).await
    }

    async fn send_data(&mut self, bytes: Bytes) -> Result<(), AskError> {
        Self::send_data(self, bytes).await
    }

    async fn send_frame(&mut self, frame: Frame) -> Result<(), AskError> {
        Self::send_frame(self, frame).await
    }

    fn finish(self) {
        Self::finish(self);
    }

    fn reset(self, code: u32) {
        Self::reset(self, code);
    }
}

/// Why an answer breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The asker has gone or takes nothing: there is nobody to tell.
    Asker,
    /// With this code.
    Reset(u32),
}

/// One answer on its way.
pub(super) struct Out<S> {
    sink: S,
    metrics: Arc<Metrics>,
    replied: bool,
}

impl<S: Sink> Out<S> {
    /// An answer of which nothing was sent.
    pub(super) const fn new(sink: S, metrics: Arc<Metrics>) -> Self {
        Self { sink, metrics, replied: false }
    }

    /// Sends and counts the reply.
    pub(super) async fn reply(&mut self, kind: reply::Kind) -> Result<(), Cut> {
        self.count(answer_of(&kind));
        timely(self.sink.send_reply(&Reply { kind: Some(kind) })).await
    }

    /// Sends and counts body bytes.
    pub(super) async fn data(&mut self, bytes: Bytes, kind: Given) -> Result<(), Cut> {
        let length = bytes.len() as u64;
        timely(self.sink.send_data(bytes)).await?;
        self.metrics.supply.given.of(kind).inc_by(length);
        Ok(())
    }

    /// Sends the hash of the chunk that the bytes so far end.
    pub(super) async fn chunk(&mut self, hash: [u8; 32]) -> Result<(), Cut> {
        timely(self.sink.send_frame(Frame::Chunk(hash))).await
    }

    /// Says that the body, of `length` bytes, has been sent to its end.
    pub(super) async fn end(&mut self, length: u64) -> Result<(), Cut> {
        timely(self.sink.send_frame(Frame::End(length))).await
    }

    /// Waits for `event`, with a sign of life now and then. Ends with the asker; else as late as `event`.
    pub(super) async fn patient<T>(&mut self, event: impl Future<Output = T>) -> Result<T, Cut> {
        let mut event = pin!(event);
        loop {
            if let Ok(event) = tokio::time::timeout(PULSE_EVERY, event.as_mut()).await {
                return Ok(event);
            }
            timely(self.sink.send_frame(Frame::Pulse)).await?;
        }
    }

    /// Ends the answer as it came out.
    pub(super) fn close(mut self, done: Result<(), Cut>) {
        match done {
            Ok(()) => self.sink.finish(),
            Err(Cut::Asker) => {}
            Err(Cut::Reset(code)) => {
                if !self.replied {
                    self.count(PeerAnswer::Refused);
                }
                self.sink.reset(code);
            }
        }
    }

    fn count(&mut self, answer: PeerAnswer) {
        self.replied = true;
        self.metrics.supply.requests.of(answer).inc();
    }
}

async fn timely(sending: impl Future<Output = Result<(), AskError>>) -> Result<(), Cut> {
    match tokio::time::timeout(SEND_WAIT, sending).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Cut::Asker),
        Err(_) => Err(Cut::Reset(code::CANCELLED)),
    }
}

const fn answer_of(kind: &reply::Kind) -> PeerAnswer {
    match kind {
        reply::Kind::Head(head) if head.same => PeerAnswer::Same,
        reply::Kind::Head(head) if head.arriving => PeerAnswer::Relayed,
        reply::Kind::Head(_) => PeerAnswer::Stored,
        reply::Kind::Varies(_) => PeerAnswer::Varies,
        reply::Kind::Gone(_) => PeerAnswer::Gone,
        reply::Kind::Busy(_) => PeerAnswer::Busy,
        reply::Kind::NotStored(_) => PeerAnswer::NotStored,
        reply::Kind::Failed(_) => PeerAnswer::Failed,
        reply::Kind::Apart(_) => PeerAnswer::Apart,
    }
}
