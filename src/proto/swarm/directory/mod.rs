//! The directory of a superpeer: who has what, and who may ask the origin.
//!
//! All of it is soft state, tied to the sessions of the nodes that it is about: when a session ends,
//! what its node has is forgotten and its leases end. Nothing here is needed for correctness. What an
//! asker is answered is decided in `resolve`, what nodes say is taken in `notes`.

mod holdings;
mod leases;
mod notes;
mod resolve;
mod sessions;
mod tree;
mod uncacheable;

use self::holdings::Holdings;
use self::leases::{Lease, Leases, Subject};
use self::sessions::Sessions;
use self::uncacheable::Uncacheable;
use super::{Finding, Holding, NodeId, Party, Query, Token};
use crate::proto::key::ObjectId;
use crate::proto::wire::{self, Granted, note};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A lease that is not renewed for so long is given to another.
const TERM: Duration = Duration::from_secs(2);
/// A copy of another superpeer's lease lasts for so long unless it is copied again.
const COPY_TERM: Duration = Duration::from_secs(10);
/// A lease is copied again when it is renewed so long after the last copy.
const COPY_AGAIN: Duration = Duration::from_secs(4);
/// Time between two steps of sweeping what has gone stale.
const SWEEP_PAUSE: Duration = Duration::from_millis(250);
/// The same while there is something to sweep that ended sessions left.
const SWEEP_PAUSE_OWED: Duration = Duration::from_millis(5);
/// Leases that are ended for lack of renewal in one call.
const EXPIRED_AT_ONCE: usize = 1 << 12;
/// Actions that wait to be polled at most. Those beyond are dropped: a copy that is missing costs a
/// fetch at worst.
const ACTIONS_MAX: usize = 1 << 16;

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
    /// Holdings: variants, each counted for each holder. Those of ended sessions count until they are
    /// swept away.
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
pub struct Directory {
    issuer: u64,
    term: u64,
    sessions: Sessions,
    holdings: Holdings,
    leases: Leases,
    uncacheable: Uncacheable,
    actions: VecDeque<DirectoryAction>,
    sweep_at: Instant,
    granted: u64,
    followed: u64,
    expired: u64,
}

impl Directory {
    /// An empty directory of the superpeer `me`, whose life is `term`.
    pub fn new(me: NodeId, term: u64, holdings_max: usize, now: Instant) -> Self {
        Self {
            issuer: issuer(me),
            term,
            sessions: Sessions::new(now),
            holdings: Holdings::new(holdings_max, now),
            leases: Leases::default(),
            uncacheable: Uncacheable::default(),
            actions: VecDeque::new(),
            sweep_at: now + SWEEP_PAUSE,
            granted: 0,
            followed: 0,
            expired: 0,
        }
    }

    /// So many edges are live, as far as is known: a directory that has just started waits for their sessions.
    pub fn expect_edges(&mut self, edges: usize) {
        self.sessions.expect(edges);
    }

    /// A session begins, in place of an older one of the same node. What the node had is forgotten, but
    /// its leases stay: it is there. `session` tells the sessions of a node apart, also those of its
    /// earlier lives.
    pub fn handle_opened(&mut self, party: Party, session: u64, now: Instant) {
        let node = party.place.node;
        let ends = self.sessions.ends();
        self.sessions.open(party, session, now);
        if self.sessions.of(node).is_none() {
            self.end_leases_of(node, now); // there was no room for it
        }
        if self.sessions.ends() != ends {
            self.owe_sweep(now);
        }
    }

    /// A session ended. Ignored if a newer one has taken its place.
    pub fn handle_closed(&mut self, node: NodeId, session: u64, now: Instant) {
        if self.sessions.close(node, session) {
            self.end_leases_of(node, now);
            self.owe_sweep(now);
        }
    }

    /// A node says something within its session. What it may not say is ignored.
    pub fn handle_note(&mut self, node: NodeId, note: &note::Kind, now: Instant) {
        self.take_note(node, note, now);
    }

    /// A node asks.
    pub fn handle_resolve(&mut self, asker: &Party, query: &Query, now: Instant) -> Finding {
        self.sessions.prune(now);
        self.resolve(asker, query, now)
    }

    /// The [`deadline`](Self::deadline) has passed.
    pub fn handle_deadline(&mut self, now: Instant) {
        self.sessions.prune(now);
        self.uncacheable.prune(now);
        for _ in 0..EXPIRED_AT_ONCE {
            let Some((_, subject)) = self.leases.next_end().filter(|(until, _)| *until <= now) else { break };
            self.expire(subject, now);
        }
        if self.sweep_at <= now {
            self.holdings.sweep(&self.sessions, now);
            self.sweep_at = now + if self.holdings.owes_sweep() { SWEEP_PAUSE_OWED } else { SWEEP_PAUSE };
        }
    }

    /// When to call [`handle_deadline`](Self::handle_deadline).
    pub fn deadline(&self) -> Option<Instant> {
        let sweep = (self.holdings.stored() > 0).then_some(self.sweep_at);
        let expiry = self.leases.next_end().map(|(until, _)| until);
        sweep.into_iter().chain(expiry).min()
    }

    /// What is to be done; ask until `None`.
    pub fn poll(&mut self) -> Option<DirectoryAction> {
        self.actions.pop_front()
    }

    /// Whether it answers `Warming` since a session has not named all its holdings yet.
    pub fn is_warming(&self, now: Instant) -> bool {
        self.sessions.is_warming(now)
    }

    /// The figures.
    pub fn stats(&self) -> DirectoryStats {
        DirectoryStats {
            objects: self.holdings.objects() as u64,
            holdings: self.holdings.stored() as u64,
            holdings_max: self.holdings.stored_max() as u64,
            refused: self.holdings.refused(),
            leases: self.leases.len() as u64,
            sessions: self.sessions.len() as u64,
            granted: self.granted,
            followed: self.followed,
            expired: self.expired,
        }
    }

    fn owe_sweep(&mut self, now: Instant) {
        self.holdings.owe_sweep();
        self.sweep_at = self.sweep_at.min(now + SWEEP_PAUSE_OWED);
    }

    fn end_leases_of(&mut self, node: NodeId, now: Instant) {
        for subject in self.leases.held_by(node) {
            self.end_lease(subject, now);
        }
    }

    fn expire(&mut self, subject: Subject, now: Instant) {
        let Some(lease) = self.end_lease(subject, now) else { return };
        if lease.token.issuer == self.issuer {
            self.expired += 1;
            self.act(DirectoryAction::Expired(lease.holder, lease.token));
        }
    }

    fn end_lease(&mut self, subject: Subject, now: Instant) -> Option<Lease> {
        self.copy(subject, true, now);
        self.leases.remove(subject)
    }

    /// Tells the other superpeer of a lease granted here. Copies of its own leases it does not need.
    fn copy(&mut self, subject: Subject, ended: bool, now: Instant) {
        let Some(lease) = self.leases.get(subject).filter(|lease| lease.token.issuer == self.issuer) else {
            return;
        };
        let (object, variant) = subject;
        let granted = Granted {
            token: Some(lease.token),
            holding: Some(wire::Holding::from(Holding { object, variant, fresh_secs: 0 })),
            node: lease.holder.0.to_vec(),
            ended,
        };
        self.leases.note_copied(subject, now);
        self.act(DirectoryAction::Copy(object, granted));
    }

    fn act(&mut self, action: DirectoryAction) {
        if self.actions.len() < ACTIONS_MAX {
            self.actions.push_back(action);
        }
    }
}

/// What stands for a superpeer in the tokens that it issues.
fn issuer(superpeer: NodeId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = superpeer.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod simulation_tests;
#[cfg(test)]
mod tests;
