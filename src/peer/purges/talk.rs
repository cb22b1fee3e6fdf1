//! The side that asks: one parcel there, one back.

use super::super::exchange::{AskError, Exchange};
use super::super::link::Link;
use super::super::node::Node;
use super::ROUNDS_MAX;
use crate::proto::purge::{Coverage, Parcel, Reception, Unpacking};
use crate::proto::swarm::NodeId;
use crate::proto::wire::{self, Frame, ask, frame};
use crate::purge::PurgeError;
use crate::telemetry::Reconciled;
use bytes::Bytes;
use prost::Message;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long saying whether both cover the same may take: on a connection that is dead it is not waited for longer.
const DIGEST_LIMIT: Duration = Duration::from_secs(2);
/// How long one comparison may take, with all that is sent in it.
const COMPARE_LIMIT: Duration = Duration::from_secs(8);

/// A parcel as the frames of a question: encoded once for all whom it goes to.
pub(super) struct Sealed {
    first: wire::Purges,
    more: Vec<Bytes>,
}

impl Sealed {
    pub(super) fn new(parcel: &Parcel) -> Self {
        let mut messages = parcel.messages();
        let first = messages.next().unwrap_or_default();
        Self { first, more: messages.map(|message| frame::message(&message)).collect() }
    }
}

/// A conversation with one node.
pub(super) struct Talk<'a> {
    pub(super) node: &'a Node,
    pub(super) link: &'a Link,
}

impl Talk<'_> {
    /// Asks, and hears the answer. Unbounded in time: callers bring a limit.
    pub(super) async fn ask(&self, question: &Sealed) -> Result<Parcel, AskError> {
        let mut exchange = self.link.ask(ask::Kind::Purges(question.first.clone())).await?;
        for frame in &question.more {
            exchange.send_encoded(frame.clone()).await?;
        }
        let mut unpacking = Unpacking::default();
        loop {
            let message = next(&mut exchange).await?;
            if unpacking.take(&message).or(Err(AskError::Protocol))? {
                exchange.finish();
                return unpacking.finish().or(Err(AskError::Protocol));
            }
        }
    }

    /// Compares, and lets each side have what it lacks. When it succeeds, all that the other covered when it was asked is
    /// covered here.
    async fn compare(&self) -> Result<(), AskError> {
        let purges = &self.node.purges;
        let digest = purges.digest();
        let question = Sealed::new(&Parcel { digest, ..Parcel::default() });
        let answer = tokio::time::timeout(DIGEST_LIMIT, self.ask(&question)).await;
        let answer = answer.unwrap_or(Err(AskError::Silent))?;
        if answer.digest == digest {
            return Ok(());
        }
        self.settle(answer.coverage.ok_or(AskError::Protocol)?).await
    }

    /// The other covers `theirs`: takes what is lacking here, and gives what is lacking there.
    async fn settle(&self, mut theirs: Coverage) -> Result<(), AskError> {
        let purges = &self.node.purges;
        for _ in 0..ROUNDS_MAX {
            let ours = purges.coverage();
            let batch = purges.missing(&theirs);
            let gives = !batch.coverage.is_empty();
            let parcel = Parcel { digest: ours.digest(), coverage: Some(ours), batch, ..Parcel::default() };
            let answer = self.ask(&Sealed::new(&parcel)).await?;
            if !answer.batch.coverage.is_empty() {
                let applied = purges.apply(answer.batch).await;
                applied.map_err(|error| self.unable(&error))?;
                self.node.metrics.purges.reconciled.of(Reconciled::Taken).inc();
            }
            match answer.reception {
                Reception::Applied => {
                    if gives {
                        self.node.metrics.purges.reconciled.of(Reconciled::Given).inc();
                    }
                    return Ok(());
                }
                Reception::Behind => theirs = answer.coverage.ok_or(AskError::Protocol)?,
                // What it had for this node is applied; what it lacks is for it to ask.
                Reception::Unwritten | Reception::Full | Reception::Stopping => return Ok(()),
            }
        }
        Err(AskError::Refused)
    }

    fn unable(&self, error: &PurgeError) -> AskError {
        tracing::warn!(node = %self.link.member().id, %error, "purges of another node cannot be applied");
        AskError::Refused
    }
}

/// Compares coverage with a node and makes it equal; bounded in time.
pub(super) async fn compare(node: &Arc<Node>, other: NodeId, address: SocketAddr) -> Result<(), AskError> {
    let comparing = async {
        let link = node.link(other, address).await?;
        Talk { node, link: &link }.compare().await
    };
    tokio::time::timeout(COMPARE_LIMIT, comparing).await.unwrap_or(Err(AskError::Silent))
}

/// Takes what is lacking here of what the node says to cover, and gives what is lacking there; at most `limit`.
pub(in crate::peer) async fn catch_up(
    node: &Arc<Node>,
    (other, address): (NodeId, SocketAddr),
    theirs: Coverage,
    limit: Duration,
) -> Result<(), AskError> {
    let settling = async {
        let link = node.link(other, address).await?;
        Talk { node, link: &link }.settle(theirs).await
    };
    tokio::time::timeout(limit, settling).await.unwrap_or(Err(AskError::Silent))
}

/// The next message of a parcel.
pub(super) async fn next(exchange: &mut Exchange) -> Result<wire::Purges, AskError> {
    match exchange.frame().await? {
        Some(Frame::Message(bytes)) => wire::Purges::decode(bytes).or(Err(AskError::Protocol)),
        _ => Err(AskError::Protocol),
    }
}
