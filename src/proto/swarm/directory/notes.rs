//! What nodes say within their sessions. A node speaks of its own holdings and its own leases only; a
//! superpeer also of the leases that it granted itself. Anything else is ignored, as is what cannot be
//! read: all of it is soft state.

use super::leases::{LEASES_OF_NODE_MAX, Lease, Subject};
use super::sessions::Serial;
use super::tree::Tree;
use super::{COPY_AGAIN, COPY_TERM, Directory, TERM, issuer};
use crate::proto::swarm::{Ending, Holding, NodeId, Token};
use crate::proto::wire::note::Kind;
use crate::proto::wire::{Announce, Done, Gone, Granted, HOLDINGS_MAX, Leaving, Renew};
use std::time::Instant;

impl Directory {
    pub(super) fn take_note(&mut self, node: NodeId, note: &Kind, now: Instant) {
        let Some((serial, _)) = self.sessions.of(node) else { return };
        match note {
            Kind::Announce(announce) => self.take_announce(serial, announce, now),
            Kind::Renew(renew) => self.take_renew(node, renew, now),
            Kind::Done(done) => self.take_done(node, serial, done, now),
            Kind::Gone(gone) => self.take_gone(gone),
            Kind::Granted(granted) => self.take_granted(node, granted, now),
            Kind::Leaving(Leaving {}) => {
                self.sessions.leave(node);
                self.end_leases_of(node, now);
                self.owe_sweep(now);
            }
        }
    }

    fn take_announce(&mut self, serial: Serial, announce: &Announce, now: Instant) {
        // What is gone comes first: an object that went and came back in one batch is there.
        for removed in announce.removed.iter().take(HOLDINGS_MAX) {
            if let Ok(removed) = Holding::try_from(removed) {
                self.holdings.remove(serial, removed.object, removed.variant);
            }
        }
        for added in announce.added.iter().take(HOLDINGS_MAX) {
            if let Ok(added) = Holding::try_from(added) {
                self.record(serial, &added, now);
            }
        }
        if announce.complete {
            self.sessions.complete(serial);
        }
    }

    fn record(&mut self, serial: Serial, holding: &Holding, now: Instant) {
        self.holdings.add(serial, holding, &self.sessions, now);
        if holding.fresh_secs > 0 {
            self.uncacheable.clear((holding.object, holding.variant));
        }
    }

    fn take_renew(&mut self, node: NodeId, renew: &Renew, now: Instant) {
        for token in renew.tokens.iter().take(LEASES_OF_NODE_MAX) {
            let Some((subject, copied)) = self.own_lease(node, *token) else { continue };
            self.leases.extend(subject, now + TERM);
            if now.saturating_duration_since(copied) >= COPY_AGAIN {
                self.copy(subject, false, now);
            }
        }
    }

    fn take_done(&mut self, node: NodeId, serial: Serial, done: &Done, now: Instant) {
        let ending = Ending::of_code(done.ending);
        if let Some((subject, _)) = done.token.and_then(|token| self.own_lease(node, token)) {
            self.end_lease(subject, now);
            if ending == Ending::Uncacheable {
                self.uncacheable.note(subject, now);
            }
        }
        // A result that comes when the lease has passed to another is as good as any.
        let stored = done.holding.as_ref().filter(|_| ending == Ending::Stored);
        if let Some(Ok(stored)) = stored.map(Holding::try_from) {
            self.record(serial, &stored, now);
        }
    }

    fn take_gone(&mut self, gone: &Gone) {
        let (Some(Ok(holding)), Some(node)) =
            (gone.holding.as_ref().map(Holding::try_from), NodeId::read(&gone.node))
        else {
            return;
        };
        let Some((serial, _)) = self.sessions.of(node) else { return };
        if gone.purged {
            self.holdings.remove_older(serial, holding.object, holding.variant);
        } else {
            self.holdings.remove(serial, holding.object, holding.variant);
        }
    }

    fn take_granted(&mut self, from: NodeId, granted: &Granted, now: Instant) {
        let (Some(token), Some(Ok(holding)), Some(holder)) =
            (granted.token, granted.holding.as_ref().map(Holding::try_from), NodeId::read(&granted.node))
        else {
            return;
        };
        let is_copy = token.issuer == issuer(from)
            && self.sessions.of(from).is_some_and(|(_, session)| session.party.roles.superpeer);
        if holder != from && !is_copy {
            return;
        }
        if granted.ended {
            if let Some((subject, _)) = self.own_lease(holder, token) {
                self.end_lease(subject, now);
            }
            return;
        }
        self.adopt((holding.object, holding.variant), token, holder, is_copy, now);
    }

    /// Takes over a lease that another superpeer granted, or this one in an earlier session or life.
    fn adopt(&mut self, subject: Subject, token: Token, holder: NodeId, is_copy: bool, now: Instant) {
        let until = now + if is_copy { COPY_TERM } else { TERM };
        if let Some((known, lease)) = self.leases.find(token) {
            if known == subject && lease.holder == holder {
                self.leases.extend(subject, until);
            }
            return;
        }
        let is_forged = token.issuer == self.issuer && token.term == self.term && token.number > self.granted;
        // Only whoever granted the holder a newer lease can put it in the place of an older one.
        let is_taken = self.leases.get(subject).is_some_and(|lease| !(is_copy && lease.holder == holder));
        if is_forged || is_taken || self.sessions.of(holder).is_none() || !self.leases.has_room(holder) {
            return;
        }
        self.leases.remove(subject);
        self.leases.insert(subject, Lease { token, holder, until, copied: now, tree: Tree::default() });
        self.copy(subject, false, now);
    }

    /// What the token's lease is for and when it was copied last, if the node holds it.
    fn own_lease(&self, node: NodeId, token: Token) -> Option<(Subject, Instant)> {
        let (subject, lease) = self.leases.find(token)?;
        (lease.holder == node).then_some((subject, lease.copied))
    }
}
