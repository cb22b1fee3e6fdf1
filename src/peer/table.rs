//! Which connections stand.

use super::link::Link;
use crate::proto::swarm::NodeId;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Connections of a node at most.
pub(super) const LINKS_MAX: usize = 4096;
/// Connections to one node at most: one that each of the two dialled, and as many again while those are replaced.
const LINKS_PER_NODE_MAX: usize = 4;

/// Connections by node, the newest last. In order, so that a simulation does the same each time.
#[derive(Default)]
pub(super) struct Table {
    nodes: BTreeMap<NodeId, Vec<Link>>,
    count: usize,
}

impl Table {
    /// Adds a connection. Returns those that it takes the place of: of an earlier life of that node, and the oldest
    /// if there are too many to it.
    pub(super) fn insert(&mut self, link: Link) -> Vec<Link> {
        let links = self.nodes.entry(link.member().id).or_default();
        let before = links.len();
        let life = link.member().incarnation;
        let mut replaced: Vec<_> = links.extract_if(.., |link| link.member().incarnation < life).collect();
        if links.len() >= LINKS_PER_NODE_MAX {
            replaced.push(links.remove(0));
        }
        links.push(link);
        self.count = self.count + links.len() - before;
        replaced
    }

    /// Removes a connection. Returns whether it was the last one to that node; not if it had been replaced.
    pub(super) fn remove(&mut self, link: &Link) -> bool {
        let id = link.member().id;
        let Some(links) = self.nodes.get_mut(&id) else { return false };
        let Some(at) = links.iter().position(|other| other.is(link)) else { return false };
        links.remove(at);
        self.count -= 1;
        let is_last = links.is_empty();
        if is_last {
            self.nodes.remove(&id);
        }
        is_last
    }

    /// The connection to use to a node.
    pub(super) fn get(&self, node: NodeId) -> Option<Link> {
        self.nodes.get(&node)?.last().cloned()
    }

    /// A connection to an address: the node says that it is reached there, or was reached there.
    pub(super) fn at(&self, address: SocketAddr) -> Option<Link> {
        self.nodes.values().flatten().rev().find(|link| link.is_at(address)).cloned()
    }

    /// Connections that stand.
    pub(super) fn len(&self) -> usize {
        self.count
    }
}
