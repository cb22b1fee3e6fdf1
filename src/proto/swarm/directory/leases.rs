//! The open leases, by what they are for, by token, by holder and by their end.

use super::tree::Tree;
use crate::proto::key::{ObjectId, VariantId};
use crate::proto::swarm::{NodeId, Token};
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::time::Instant;

/// Leases at most.
const LEASES_MAX: usize = 1 << 18;
/// Leases of one node at most: more than it has fills at a time.
pub(super) const LEASES_OF_NODE_MAX: usize = 1 << 12;

/// What a lease is for.
pub(super) type Subject = (ObjectId, VariantId);

/// A lease.
pub(super) struct Lease {
    pub(super) token: Token,
    pub(super) holder: NodeId,
    /// When it expires.
    pub(super) until: Instant,
    /// When the other superpeer was told of it last.
    pub(super) copied: Instant,
    pub(super) tree: Tree,
}

/// All open leases. Each subject has one at most.
#[derive(Default)]
pub(super) struct Leases {
    open: HashMap<Subject, Lease>,
    by_token: HashMap<Token, Subject>,
    by_holder: HashMap<NodeId, BTreeSet<Subject>>,
    by_end: BTreeSet<(Instant, Subject)>,
}

impl Leases {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether `holder` can get another.
    pub(super) fn has_room(&self, holder: NodeId) -> bool {
        let held = self.by_holder.get(&holder).map_or(0, BTreeSet::len);
        self.open.len() < LEASES_MAX && held < LEASES_OF_NODE_MAX
    }

    pub(super) fn get(&self, subject: Subject) -> Option<&Lease> {
        self.open.get(&subject)
    }

    /// The tree of those who follow.
    pub(super) fn tree(&mut self, subject: Subject) -> Option<&mut Tree> {
        self.open.get_mut(&subject).map(|lease| &mut lease.tree)
    }

    /// The lease of this token.
    pub(super) fn find(&self, token: Token) -> Option<(Subject, &Lease)> {
        let subject = *self.by_token.get(&token)?;
        self.open.get(&subject).map(|lease| (subject, lease))
    }

    /// Opens a lease; one that was open for the subject must have been removed.
    pub(super) fn insert(&mut self, subject: Subject, lease: Lease) {
        self.by_token.insert(lease.token, subject);
        self.by_holder.entry(lease.holder).or_default().insert(subject);
        self.by_end.insert((lease.until, subject));
        self.open.insert(subject, lease);
    }

    pub(super) fn remove(&mut self, subject: Subject) -> Option<Lease> {
        let lease = self.open.remove(&subject)?;
        self.by_token.remove(&lease.token);
        self.by_end.remove(&(lease.until, subject));
        if let Some(held) = self.by_holder.get_mut(&lease.holder) {
            held.remove(&subject);
            if held.is_empty() {
                self.by_holder.remove(&lease.holder);
            }
        }
        Some(lease)
    }

    /// The lease lasts until then at least.
    pub(super) fn extend(&mut self, subject: Subject, until: Instant) {
        let Some(lease) = self.open.get_mut(&subject).filter(|lease| lease.until < until) else { return };
        self.by_end.remove(&(lease.until, subject));
        lease.until = until;
        self.by_end.insert((until, subject));
    }

    /// The other superpeer is told of it now.
    pub(super) fn note_copied(&mut self, subject: Subject, now: Instant) {
        if let Some(lease) = self.open.get_mut(&subject) {
            lease.copied = now;
        }
    }

    /// What a node has leases for.
    pub(super) fn held_by(&self, holder: NodeId) -> Vec<Subject> {
        self.by_holder.get(&holder).into_iter().flatten().copied().collect()
    }

    /// The lease that expires next, and when.
    pub(super) fn next_end(&self) -> Option<(Instant, Subject)> {
        self.by_end.first().copied()
    }
    #[cfg(test)]
    pub(super) fn open(&self) -> &HashMap<Subject, Lease> {
        &self.open
    }
}
