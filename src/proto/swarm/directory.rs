//! The directory of a superpeer: who has what, and who may ask the origin.

use super::{Finding, NodeId, Party, Query, Token};
use crate::proto::key::ObjectId;
use crate::proto::wire::{Granted, note};
use std::time::Instant;

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum DirectoryAction {
    /// Tell the other superpeer of this object (the driver knows which) of a grant.
    Copy(ObjectId, Granted),
    /// A lease expired for lack of renewal; for the log and the metrics.
    Expired(NodeId, Token),
}

/// Its figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectoryStats {
    /// Objects known.
    pub objects: u64,
    /// Holdings: variants, each counted for each holder.
    pub holdings: u64,
    /// Bound of that.
    pub holdings_max: u64,
    /// Holdings not taken because the bound was reached.
    pub refused: u64,
    /// Leases open.
    pub leases: u64,
    /// Sessions open.
    pub sessions: u64,
    /// Leases granted, since the start; and so on.
    pub granted: u64,
    /// Askers told to follow.
    pub followed: u64,
    /// Leases that expired.
    pub expired: u64,
}

/// The machine.
pub struct Directory(());

impl Directory {
    /// An empty directory of the superpeer `me`, whose life is `term`.
    pub fn new(_me: NodeId, _term: u64, _holdings_max: usize, _now: Instant) -> Self {
        Self(())
    }

    /// A session begins, in place of an older one of the same node.
    pub fn handle_opened(&mut self, _party: Party, _session: u64, _now: Instant) {
        let () = self.0;
        todo!()
    }

    /// A session ended. Ignored if a newer one has taken its place.
    pub fn handle_closed(&mut self, _node: NodeId, _session: u64, _now: Instant) {
        todo!()
    }

    /// A node says something within its session.
    pub fn handle_note(&mut self, _node: NodeId, _note: &note::Kind, _now: Instant) {
        todo!()
    }

    /// A node asks.
    pub fn handle_resolve(&mut self, _asker: &Party, _query: &Query, _now: Instant) -> Finding {
        todo!()
    }

    /// The [`deadline`](Self::deadline) has passed.
    pub fn handle_deadline(&mut self, _now: Instant) {
        todo!()
    }

    /// When to call [`handle_deadline`](Self::handle_deadline).
    pub fn deadline(&self) -> Option<Instant> {
        todo!()
    }

    /// What is to be done; ask until `None`.
    pub fn poll(&mut self) -> Option<DirectoryAction> {
        todo!()
    }

    /// Whether it answers `Warming` since a session has not named all its holdings yet.
    pub fn is_warming(&self, _now: Instant) -> bool {
        todo!()
    }

    /// The figures.
    pub fn stats(&self) -> DirectoryStats {
        todo!()
    }
}
