//! What peers say that changed: objects of which an unsafe request of one of their clients succeeded (RFC 9111 §4.4). And, for
//! those who tell of such, whether an object is known here.

use super::out::Cut;
use crate::proto::key::ObjectId;
use crate::proto::wire::{self, INVALIDATED_MAX, code};
use crate::serve::{Node, pass};
use crate::telemetry::InvalidatedBy;

/// Invalidates what is known here of `invalidate`. It is not passed on.
pub(super) async fn take(node: &Node, invalidate: &wire::Invalidate) -> Result<(), Cut> {
    const MALFORMED: Cut = Cut::Reset(code::PROTOCOL);
    if invalidate.objects.len() > INVALIDATED_MAX {
        return Err(MALFORMED);
    }
    let read = |object: &Vec<u8>| <[u8; 16]>::try_from(&object[..]).map(ObjectId);
    let objects: Vec<_> = invalidate.objects.iter().map(read).collect::<Result<_, _>>().or(Err(MALFORMED))?;
    for object in objects {
        if node.knows(object) {
            pass::drop_object(node, object).await;
            node.metrics.purges.invalidations.of(InvalidatedBy::Peer).inc();
        }
    }
    Ok(())
}

impl Node {
    /// Whether anything is known of an object that other nodes may know of: it is stored and not personal, being fetched, or
    /// remembered.
    pub(in crate::serve) fn knows(&self, object: ObjectId) -> bool {
        let is_shared = |part: &crate::store::Inspected| part.head.as_ref().is_none_or(|head| !head.personal);
        self.fills.has(object) || self.known.knows(object) || self.store.inspect(object).iter().any(is_shared)
    }
}
