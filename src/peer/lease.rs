//! Leases that this node works under: renewed for as long as they live, presented again to superpeers that may
//! not know of them, and ended once.

use super::node::Node;
use super::view::View;
use crate::proto::key::{ObjectId, VariantId};
use crate::proto::swarm::{Ending, Holding, NodeId, Token};
use crate::proto::wire::{self, note};
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;

/// Leases that this node works under at a time. One more is left to expire, and its object is fetched alone.
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

    const fn subject(&self) -> (ObjectId, VariantId) {
        (self.object, self.variant)
    }

    fn holding(&self) -> Holding {
        Holding { object: self.object, variant: self.variant, fresh_secs: 0 }
    }
}

/// The table of open leases.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    open: HashMap<Token, Granted>,
    /// The tokens for one object and variant. More than one if both superpeers were asked and granted it.
    of: HashMap<(ObjectId, VariantId), SmallVec<[Token; 1]>>,
}

impl Leases {
    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.0.lock().open.len()
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
        let table = self.0.lock();
        let known = table.open.iter().filter(|(_, granted)| granted.keepers(view).contains(&Some(superpeer)));
        known.map(|(token, granted)| each(*token, granted)).collect()
    }

    /// Whether there was room, and the token is new: a superpeer that is asked again gives the same.
    fn insert(&self, token: Token, granted: Granted) -> bool {
        let mut table = self.0.lock();
        if table.open.len() >= LEASES_MAX || table.open.contains_key(&token) {
            return false;
        }
        table.open.insert(token, granted);
        table.of.entry(granted.subject()).or_default().push(token);
        true
    }

    /// Whether there is another token for what `token` is for.
    fn has_other(&self, token: Token) -> bool {
        let table = self.0.lock();
        let tokens = table.open.get(&token).and_then(|granted| table.of.get(&granted.subject()));
        tokens.is_some_and(|tokens| tokens.len() > 1)
    }

    /// Takes out a token and all others for the same.
    fn remove(&self, token: Token) -> SmallVec<[(Token, Granted); 1]> {
        let mut table = self.0.lock();
        let Some(granted) = table.open.get(&token).copied() else { return SmallVec::new() };
        let tokens = table.of.remove(&granted.subject()).unwrap_or_default();
        tokens.into_iter().filter_map(|token| Some((token, table.open.remove(&token)?))).collect()
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

    /// Enters a grant in the table of open leases. `None` if that cannot be; it expires then.
    pub(super) fn open(node: &Arc<Node>, token: Token, granted: Granted) -> Option<Self> {
        let entered = node.leases.insert(token, granted);
        entered.then(|| Self { token, node: node.clone(), unused: true })
    }

    /// Somebody works under it from now on.
    pub(super) fn taken(mut self) -> Self {
        self.unused = false;
        self
    }

    fn finish(&self, ending: Ending, holding: Option<Holding>) {
        // The other superpeer granted the same: its grant stands and ends with the one that is worked under, or
        // it would not know that somebody does.
        if self.unused && self.node.leases.has_other(self.token) {
            return;
        }
        for (token, granted) in self.node.leases.remove(self.token) {
            tell_end(&self.node, token, &granted, ending, holding);
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
