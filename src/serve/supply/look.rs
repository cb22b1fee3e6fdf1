//! Telling a peer's operator what is here of an object.

use super::super::Node;
use super::stored::head_of;
use crate::peer::Exchange;
use crate::proto::key::{self, ObjectId};
use crate::proto::object::Head;
use crate::proto::wire::{self, Looked, SEEN_MAX, Seen, code};
use crate::store::{Inspected, Lookup, Whereabouts};
use std::sync::Arc;
use std::time::Duration;

/// How long the asker may take nothing of the answer.
const SEND_WAIT: Duration = Duration::from_secs(5);

/// Answers `look`.
pub(super) async fn answer(node: &Node, look: &wire::Look, mut exchange: Exchange) {
    let Ok(object) = look.object[..].try_into().map(ObjectId) else {
        return exchange.reset(code::PROTOCOL);
    };
    let looked = looked(node, object).await;
    if let Ok(Ok(())) = tokio::time::timeout(SEND_WAIT, exchange.send_message(&looked)).await {
        exchange.finish();
    }
}

/// What is here that is not personal.
async fn looked(node: &Node, object: ObjectId) -> Looked {
    let all = node.store.inspect(object);
    let mut looked =
        Looked { seen: Vec::new(), more: all.len() > SEEN_MAX, arriving: node.fills.is_arriving(object) };
    // Each is one read of the disk at most.
    for inspected in all.into_iter().take(SEEN_MAX) {
        let records = inspected.records.clone();
        let Some(head) = head(node, object, inspected).await.filter(|head| !head.stays()) else { continue };
        let count = |is: fn(&Whereabouts) -> bool| records.iter().filter(|at| is(at)).count() as u32;
        looked.seen.push(Seen {
            head: Some(head_of(node, &head)),
            records: records.len() as u32,
            memory: count(|at| at.memory),
            disk: count(|at| at.disk),
        });
    }
    looked
}

async fn head(node: &Node, object: ObjectId, inspected: Inspected) -> Option<Arc<Head>> {
    if inspected.head.is_some() {
        return inspected.head;
    }
    let variant = inspected.variant.unwrap_or_else(|| key::variant(object, std::iter::empty()));
    match node.store.find(object, |_vary| variant) {
        Lookup::Memory(hit) => Some(hit.head),
        Lookup::OnDisk(on_disk) => node.store.load(on_disk).await.ok().map(|hit| hit.head),
        Lookup::Miss(_) => None,
    }
}
