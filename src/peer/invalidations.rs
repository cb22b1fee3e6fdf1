//! What unsafe requests of this node's clients changed (RFC 9111 §4.4) is told to the other live edges: cheaply, once, and not
//! in the purge log. Nobody waits for it, and nobody passes it on; whoever does not hear of it keeps its copy until that is
//! stale, as the RFC allows.

use super::mesh::Answer;
use super::node::Node;
use super::resolve;
use crate::proto::key::{self, ObjectId};
use crate::proto::swarm::{Member, Query};
use crate::proto::wire::{self, INVALIDATED_MAX, ask};
use futures_util::{StreamExt, stream};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// Objects that wait to be told; more are dropped and counted.
const WAITING_MAX: usize = 8192;
/// For how long objects gather before they are told: an object that is changed again meanwhile is told once. With
/// [`INVALIDATED_MAX`] it bounds the rate, to 51,200 objects a second.
const GATHER: Duration = Duration::from_millis(20);
/// Edges that are being told, at a time. With more, some are not.
const TELLING_MAX: usize = 256;
/// Superpeers are asked about so many objects at a time.
const LOOKUPS_MAX: usize = 64;
/// How long telling one edge may take.
const TELL_LIMIT: Duration = Duration::from_secs(2);

/// An object, and whether it is known here to have been cacheable.
type Changed = (ObjectId, bool);

/// The way to the teller.
pub(super) struct Invalidations(mpsc::Sender<Changed>);

impl Invalidations {
    pub(super) fn new() -> (Self, mpsc::Receiver<Changed>) {
        let (changed, waiting) = mpsc::channel(WAITING_MAX);
        (Self(changed), waiting)
    }

    /// An object has changed. If it is not `known` here, other edges are told only if the directory knows one that has it.
    pub(super) fn tell(&self, node: &Node, object: ObjectId, known: bool) {
        if self.0.try_send((object, known)).is_err() {
            node.metrics.purges.invalidations_dropped.inc();
        }
    }
}

/// Tells, for ever.
pub(super) async fn run(node: Arc<Node>, mut waiting: mpsc::Receiver<Changed>) {
    let places = Arc::new(Semaphore::new(TELLING_MAX));
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, 1).await > 0 {
        tokio::time::sleep(GATHER).await;
        let room = INVALIDATED_MAX - batch.len();
        if !waiting.is_empty() {
            waiting.recv_many(&mut batch, room).await;
        }
        let objects = concerning_others(&node, std::mem::take(&mut batch)).await;
        if objects.is_empty() {
            continue;
        }
        node.metrics.purges.invalidations_told.inc_by(objects.len() as u64);
        let invalidate =
            wire::Invalidate { objects: objects.iter().map(|object| object.0.to_vec()).collect() };
        let view = node.view();
        for edge in view.others().filter(|member| member.roles.edge) {
            let Ok(place) = places.clone().try_acquire_owned() else {
                node.metrics.purges.invalidations_dropped.inc_by(objects.len() as u64);
                continue;
            };
            let (owner, edge, invalidate) = (node.clone(), edge.clone(), invalidate.clone());
            node.spawner.spawn(async move {
                let _ = tokio::time::timeout(TELL_LIMIT, tell(&owner, &edge, invalidate)).await;
                drop(place);
            });
        }
    }
}

/// The objects that others may have, each once.
async fn concerning_others(node: &Arc<Node>, batch: Vec<Changed>) -> Vec<ObjectId> {
    if !node.view().others().any(|member| member.roles.edge) {
        return Vec::new();
    }
    let mut changed: HashMap<ObjectId, bool> = HashMap::new();
    for (object, known) in batch {
        *changed.entry(object).or_default() |= known;
    }
    let (known, unknown): (Vec<_>, Vec<_>) = changed.into_iter().partition(|(_, known)| *known);
    let asked = unknown
        .into_iter()
        .map(|(object, _)| async move { has_holder(node, object).await.then_some(object) });
    let asked: Vec<_> = stream::iter(asked).buffer_unordered(LOOKUPS_MAX).collect().await;
    known.into_iter().map(|(object, _)| object).chain(asked.into_iter().flatten()).collect()
}

/// Whether anybody has or fetches it, as far as is known. If nobody can be asked, somebody may.
async fn has_holder(node: &Arc<Node>, object: ObjectId) -> bool {
    let query = Query::look(object, key::variant(object, std::iter::empty()));
    match resolve::resolve(node, query).await {
        Answer::Holders(_) | Answer::Follow(..) | Answer::Fresher(_) | Answer::Unreachable => true,
        Answer::Alone(_) | Answer::Lease(_) => false,
    }
}

/// Tells one edge. An older one does not know the question, and that is all.
async fn tell(node: &Node, edge: &Member, invalidate: wire::Invalidate) {
    let Ok(link) = node.link(edge.id, edge.address).await else { return };
    let Ok(mut exchange) = link.ask(ask::Kind::Invalidate(invalidate)).await else { return };
    // The other side ends the stream when it has done it; ending ours first could look like a change of mind.
    let _ = exchange.frame().await;
    exchange.finish();
}
