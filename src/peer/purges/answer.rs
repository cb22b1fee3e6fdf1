//! The side that is asked: what it is told it applies, and says what it covers or what the other lacks.

use super::super::exchange::{AskError, Exchange};
use super::super::node::Node;
use super::talk::next;
use crate::proto::purge::{Gap, Parcel, Reception, Unpacking};
use crate::proto::swarm::{Member, Roles};
use crate::proto::wire;
use crate::purge::PurgeError;
use crate::telemetry::{AskRefusal, Reconciled};
use std::sync::Arc;
use std::time::Duration;

/// Questions that are answered at a time.
pub(super) const ANSWERS_MAX: usize = 256;
/// Of them, those that are longer than one message: each may bring as much as a log holds.
pub(super) const LONG_ANSWERS_MAX: usize = 4;
/// How long hearing a question and answering it may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);

/// Answers a member that asks; any may tell of purges.
pub(in crate::peer) fn serve(node: &Arc<Node>, from: &Member, first: wire::Purges, exchange: Exchange) {
    if from.roles == Roles::default() {
        return node.refuse(exchange, AskRefusal::Forbidden);
    }
    let long =
        if first.more { node.desk.long_answers.clone().try_acquire_owned().map(Some) } else { Ok(None) };
    let (Ok(place), Ok(long)) = (node.desk.answers.clone().try_acquire_owned(), long) else {
        return node.refuse(exchange, AskRefusal::Busy);
    };
    let owner = Arc::clone(node);
    node.spawner.spawn(async move {
        match tokio::time::timeout(ANSWER_LIMIT, answer(&owner, first, exchange)).await {
            Ok(()) => {}
            Err(_elapsed) => tracing::debug!("a question about purges took too long"),
        }
        drop((place, long));
    });
}

async fn answer(node: &Node, first: wire::Purges, mut exchange: Exchange) {
    let told = match hear(first, &mut exchange).await {
        Ok(told) => told,
        Err(AskError::Protocol) => return node.refuse(exchange, AskRefusal::Protocol),
        Err(_) => return,
    };
    let answer = respond(node, told).await;
    for message in answer.messages() {
        if exchange.send_message(&message).await.is_err() {
            return;
        }
    }
    exchange.finish();
}

async fn hear(first: wire::Purges, exchange: &mut Exchange) -> Result<Parcel, AskError> {
    let mut unpacking = Unpacking::default();
    let mut message = first;
    while !unpacking.take(&message).or(Err(AskError::Protocol))? {
        message = next(exchange).await?;
    }
    unpacking.finish().or(Err(AskError::Protocol))
}

/// A question with purges is answered by what became of them; one with what the asker covers also by what that lacks; one
/// with neither by what is covered here, unless it is the same.
async fn respond(node: &Node, told: Parcel) -> Parcel {
    let purges = &node.purges;
    let tells = !told.batch.coverage.is_empty();
    let reception = if tells { reception(purges.apply(told.batch).await) } else { Reception::Applied };
    let batch = told.coverage.as_ref().map(|theirs| purges.missing(theirs)).unwrap_or_default();
    let reconciled = &node.metrics.purges.reconciled;
    if told.coverage.is_some() && tells && reception == Reception::Applied {
        reconciled.of(Reconciled::Taken).inc();
    }
    if !batch.coverage.is_empty() {
        reconciled.of(Reconciled::Given).inc();
    }
    let digest = purges.digest();
    let asks = !tells && told.coverage.is_none() && told.digest != digest;
    let coverage = (asks || reception == Reception::Behind).then(|| purges.coverage());
    Parcel { digest, coverage, batch, reception }
}

fn reception(applied: Result<(), PurgeError>) -> Reception {
    match applied {
        Ok(()) => Reception::Applied,
        Err(PurgeError::Gap(Gap::Behind)) => Reception::Behind,
        Err(PurgeError::Gap(Gap::Issuers)) => Reception::Full,
        Err(PurgeError::Journal(error)) => {
            tracing::error!(%error, "purges of another node cannot be applied");
            Reception::Unwritten
        }
        Err(PurgeError::Stopping) => Reception::Stopping,
    }
}
