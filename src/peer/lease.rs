//! Leases that this node works under: renewed for as long as they live, presented again to superpeers that may
//! not know of them, and ended once.

use super::node::Node;
use super::view::View;
use crate::proto::key::{ObjectId, VariantId};
use crate::proto::swarm::{Ending, Holding, NodeId, Token};
use crate::proto::wire::{self, note};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Leases that this node works under at a time. One more is given back, and its object is fetched alone.
const LEASES_MAX: usize = 16_384;
/// Tokens that one `Renew` names at most.
pub(super) const RENEWED_MAX: usize = 4096;

/// What was granted, and by whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Granted {
    /// The superpeer that granted it.
    pub(super) by: NodeId,
    /// The object to fetch.
    pub(super) object: ObjectId,
    /// The variant, as it was asked for.
    pub(super) variant: VariantId,
}

impl Granted {
    /// The superpeers that know, or should know, of it.
    fn keepers(&self, view: &View) -> [Option<NodeId>; 3] {
        let [first, second] = view.keepers(self.object);
        let other = |node: Option<NodeId>| node.filter(|node| *node != self.by);
        [Some(self.by), other(first), other(second)]
    }

    fn holding(&self) -> Holding {
        Holding { object: self.object, variant: self.variant, fresh_secs: 0 }
    }
}

/// The table of open leases.
#[derive(Debug, Default)]
pub(super) struct Leases {
    open: Mutex<HashMap<Token, Open>>,
}

#[derive(Debug)]
struct Open {
    granted: Granted,
    /// [`Lease`]s with this token: a superpeer that is asked twice grants the same lease twice.
    guards: usize,
}

impl Leases {
    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.open.lock().len()
    }

    /// The tokens to be renewed with `superpeer`.
    pub(super) fn renewed_with(&self, superpeer: NodeId, view: &View) -> Vec<Token> {
        self.known_to(superpeer, view, |token, _| token)
    }

    /// What `superpeer` is told so that it knows of the leases under which the node `me` works.
    pub(super) fn presented_to(&self, superpeer: NodeId, view: &View, me: NodeId) -> Vec<note::Kind> {
        self.known_to(superpeer, view, |token, granted| {
            note::Kind::Granted(wire::Granted {
                token: Some(token),
                holding: Some(granted.holding().into()),
                node: me.0.to_vec(),
                ended: false,
            })
        })
    }

    fn known_to<T>(&self, superpeer: NodeId, view: &View, each: impl Fn(Token, &Granted) -> T) -> Vec<T> {
        let open = self.open.lock();
        let known = open.iter().filter(|(_, open)| open.granted.keepers(view).contains(&Some(superpeer)));
        known.map(|(token, open)| each(*token, &open.granted)).collect()
    }

    fn insert(&self, token: Token, granted: Granted) -> bool {
        let mut open = self.open.lock();
        let full = open.len() >= LEASES_MAX;
        match open.entry(token) {
            Entry::Occupied(mut entry) => entry.get_mut().guards += 1,
            Entry::Vacant(_) if full => return false,
            Entry::Vacant(entry) => {
                entry.insert(Open { granted, guards: 1 });
            }
        }
        true
    }

    /// Takes a lease out of the table when it ends, or when the last that has it drops it unused.
    fn remove(&self, token: Token, unused: bool) -> Option<Granted> {
        let mut open = self.open.lock();
        if unused
            && let Some(shared) = open.get_mut(&token)
            && shared.guards > 1
        {
            shared.guards -= 1;
            return None;
        }
        open.remove(&token).map(|open| open.granted)
    }
}

/// The leave to fetch from the origin. It is renewed for as long as it lives; dropped, it ends as
/// [`Ending::Failed`].
pub struct Lease {
    /// Its token, under which others follow.
    pub token: Token,
    node: Arc<Node>,
    /// Nobody works under it yet: it is still on its way to who asked.
    unused: bool,
}

impl Lease {
    /// Ends the lease. `holding` says what is stored now, if anything is.
    pub fn end(mut self, ending: Ending, holding: Option<Holding>) {
        self.unused = false;
        self.finish(ending, holding);
    }

    /// Enters a grant in the table of open leases. `None` if the table is full; it is given back then.
    pub(super) fn open(node: &Arc<Node>, token: Token, granted: Granted) -> Option<Self> {
        if node.leases.insert(token, granted) {
            return Some(Self { token, node: node.clone(), unused: true });
        }
        tell_end(node, token, &granted, Ending::NotKept, None);
        None
    }

    /// Somebody works under it from now on.
    pub(super) fn taken(mut self) -> Self {
        self.unused = false;
        self
    }

    fn finish(&self, ending: Ending, holding: Option<Holding>) {
        if let Some(granted) = self.node.leases.remove(self.token, self.unused) {
            tell_end(&self.node, self.token, &granted, ending, holding);
        }
    }
}

/// Finds the lease ended if [`Lease::end`] was called.
impl Drop for Lease {
    fn drop(&mut self) {
        self.finish(if self.unused { Ending::NotKept } else { Ending::Failed }, None);
    }
}

/// Tells all that know of a lease that it ended. What cannot be told expires with its term.
fn tell_end(node: &Node, token: Token, granted: &Granted, ending: Ending, holding: Option<Holding>) {
    node.metrics.mesh.leases_ended.of(ending).inc();
    let holding = holding.map(wire::Holding::from);
    let done = wire::Done { token: Some(token), ending: ending.code(), holding };
    for keeper in granted.keepers(&node.view()).into_iter().flatten() {
        node.tell(keeper, note::Kind::Done(done.clone()));
    }
}
