//! Who is live, as a picture that does not change. Each change of the members makes a new one, which all
//! parts of the mesh read without a lock on the membership.

use crate::proto::key::ObjectId;
use crate::proto::swarm::{self, Member, NodeId, Roles};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

/// Superpeers that are ranked at most: those with the lowest identities, so that all nodes rank the same.
const SUPERPEERS_MAX: usize = 64;
/// Nodes that left or died which are remembered for the report.
const DEPARTED_MAX: usize = 256;

/// A node that is no longer live.
#[derive(Clone, Debug)]
pub(super) struct Departed {
    /// Who it was.
    pub(super) member: Member,
    /// When that was noticed.
    pub(super) at: Instant,
}

/// The nodes that are live, and some that were.
#[derive(Debug, Default)]
pub(super) struct View {
    live: HashMap<NodeId, Member>,
    addresses: HashMap<SocketAddr, NodeId>,
    superpeers: Vec<NodeId>,
    edges: Vec<NodeId>,
    departed: VecDeque<Departed>,
}

impl View {
    /// The picture of `me` and the `others`. `certified` tells the roles that a node's certificate lets it have, if
    /// that was seen: what is only said of it by others counts no further than that.
    pub(super) fn new(
        me: &Member,
        others: Vec<Member>,
        departed: VecDeque<Departed>,
        certified: impl Fn(NodeId) -> Option<Roles>,
    ) -> Self {
        let mut view = Self { departed, ..Self::default() };
        for mut member in others.into_iter().filter(|member| member.id != me.id) {
            member.roles = certified(member.id).map_or(member.roles, |roles| roles.and(member.roles));
            view.addresses.insert(member.address, member.id);
            view.live.insert(member.id, member);
        }
        let mut all: Vec<_> =
            view.live.values().chain([me]).map(|member| (member.id, member.roles)).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        let with =
            |has: fn(Roles) -> bool| all.iter().filter(move |(_, roles)| has(*roles)).map(|(id, _)| *id);
        view.superpeers = with(|roles| roles.superpeer).take(SUPERPEERS_MAX).collect();
        view.edges = with(|roles| roles.edge).collect();
        view
    }

    /// A live node other than this one.
    pub(super) fn member(&self, node: NodeId) -> Option<&Member> {
        self.live.get(&node)
    }

    /// The live node at an address.
    pub(super) fn at(&self, address: SocketAddr) -> Option<NodeId> {
        self.addresses.get(&address).copied()
    }

    /// The live nodes but this one.
    pub(super) fn others(&self) -> impl Iterator<Item = &Member> {
        self.live.values()
    }

    /// Whether nobody else is live.
    pub(super) fn is_alone(&self) -> bool {
        self.live.is_empty()
    }

    /// The live superpeers with this node if it is one, ordered.
    pub(super) fn superpeers(&self) -> &[NodeId] {
        &self.superpeers
    }

    /// The live edges with this node if it is one, ordered.
    pub(super) fn edges(&self) -> &[NodeId] {
        &self.edges
    }

    /// The superpeers that keep what is known of `object`.
    pub(super) fn keepers(&self, object: ObjectId) -> [Option<NodeId>; 2] {
        let (first, second) = swarm::top_two(self.superpeers.iter().copied(), object);
        [first, second]
    }

    /// Nodes that left or died, oldest first.
    pub(super) fn departed(&self) -> &VecDeque<Departed> {
        &self.departed
    }
}

/// Notes that `member` is gone, in place of what was known of it before.
pub(super) fn note_departed(departed: &mut VecDeque<Departed>, member: Member, at: Instant) {
    note_returned(departed, member.id);
    if departed.len() == DEPARTED_MAX {
        departed.pop_front();
    }
    departed.push_back(Departed { member, at });
}

/// Notes that a node is live.
pub(super) fn note_returned(departed: &mut VecDeque<Departed>, node: NodeId) {
    departed.retain(|gone| gone.member.id != node);
}
