//! Rendezvous hashing (highest random weight; Thaler, Ravishankar, 1998): every node ranks all
//! candidates for an object alike, and when one leaves only what it ranked first for moves.

use super::NodeId;
use crate::proto::key::ObjectId;

const DOMAIN: &[u8; 32] = b"shoal: weight of node for object";

fn weight(node: NodeId, object: ObjectId) -> u64 {
    let mut hasher = blake3::Hasher::new_keyed(DOMAIN);
    hasher.update(&node.0).update(&object.0);
    u64::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().expect("a BLAKE3 hash has 32 bytes"))
}

/// The candidates of highest and second highest weight for `object`.
pub fn top_two(
    candidates: impl Iterator<Item = NodeId>,
    object: ObjectId,
) -> (Option<NodeId>, Option<NodeId>) {
    let (mut first, mut second) = (None, None);
    for node in candidates {
        let ranked = Some((weight(node, object), node));
        if ranked > first {
            (first, second) = (ranked, first);
        } else if ranked > second && ranked != first {
            second = ranked;
        }
    }
    (first.map(|(_, node)| node), second.map(|(_, node)| node))
}

/// The home edge of `object` among the live edges.
pub fn home(edges: impl Iterator<Item = NodeId>, object: ObjectId) -> Option<NodeId> {
    top_two(edges, object).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn when_a_candidate_leaves_only_its_objects_move(nodes in proptest::collection::hash_set(any::<[u8; 16]>(), 2..12), object: [u8; 16], gone: usize) {
            let nodes: Vec<_> = nodes.into_iter().map(NodeId).collect();
            let gone = nodes[gone % nodes.len()];
            let object = ObjectId(object);
            let (first, second) = top_two(nodes.iter().copied(), object);
            prop_assert_ne!(first, second);
            let left = top_two(nodes.iter().copied().filter(|node| *node != gone), object);
            if first == Some(gone) {
                prop_assert_eq!(left.0, second);
            } else {
                prop_assert_eq!(left.0, first);
            }
        }
    }
}
