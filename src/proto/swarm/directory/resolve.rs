//! What an asker is answered, in the order in which it is decided:
//!
//! ```text
//! found not worth sharing       Alone, for the rest of that time
//! too many had what is purged   none of the next line
//! fresh holders                 Holders, or Fresher for who has a stale version
//! another node's open lease     Follow, below it or one of its followers
//! no lease wanted               Alone, for no time
//! the asker's own lease         Lease, the same
//! holdings not all known yet    Warming
//! otherwise                     Lease
//! ```

use super::leases::{Lease, Subject};
use super::sessions::{Serial, Session, Zone};
use super::tree::{Parent, Seeker, Tree};
use super::{Directory, TERM};
use crate::proto::key::ObjectId;
use crate::proto::swarm::{Finding, NodeId, PURGED_MAX, Party, Place, Query, Token};
use crate::proto::wire;
use smallvec::SmallVec;
use std::time::{Duration, Instant};

/// Who can neither get a lease nor follow one goes alone for so long.
pub(super) const ALONE_SHORT: Duration = Duration::from_millis(500);
/// Candidates among which holders are chosen.
const CANDIDATES_MAX: usize = 64;

impl Directory {
    pub(super) fn resolve(&mut self, asker: &Party, query: &Query, now: Instant) -> Finding {
        let subject = (query.object, query.variant);
        let asker_id = asker.place.node;
        if let Some(rest) = self.uncacheable.rest(subject, now) {
            return Finding::Alone(rest);
        }
        self.end_overtaken(asker_id, query, now);
        if let Some(finding) = self.find_holders(asker, query, now) {
            return finding;
        }
        if self.leases.get(subject).is_some_and(|lease| lease.until <= now) {
            self.expire(subject, now);
        }
        let holder = self.leases.get(subject).map(|lease| lease.holder);
        if holder.is_some_and(|holder| holder != asker_id) {
            return self.follow(asker, query).unwrap_or(Finding::Alone(ALONE_SHORT));
        }
        if !query.lease_wanted {
            return Finding::Alone(Duration::ZERO);
        }
        if let Some(finding) = self.grant_again(asker_id, subject, now) {
            return finding;
        }
        if self.sessions.is_warming(now) {
            return Finding::Warming;
        }
        self.grant(asker_id, subject, now)
    }

    /// What a purge overtook is kept by nobody and joined by nobody, so its lease is of no use to others.
    fn end_overtaken(&mut self, asker: NodeId, query: &Query, now: Instant) {
        let subject = (query.object, query.variant);
        let open = self.leases.get(subject).filter(|lease| lease.holder != asker).map(|lease| lease.token);
        if open.is_some() && open == query.overtaken {
            self.end_lease(subject, now);
        }
    }

    fn find_holders(&self, asker: &Party, query: &Query, now: Instant) -> Option<Finding> {
        if query.purged >= PURGED_MAX {
            return None;
        }
        let zone = Zone::of(&asker.place.zone);
        let nearest = |serials: &mut dyn Iterator<Item = Serial>| {
            let sessions = serials.filter_map(|serial| self.sessions.live(serial));
            let may_be_named = |session: &&Session| {
                let node = session.party.place.node;
                node != asker.place.node && !query.avoid.contains(&node)
            };
            nearest(sessions.filter(may_be_named), asker.place.node, zone, query.object)
        };
        let mut places = nearest(&mut self.holdings.holders(query.object, query.variant, now));
        if query.held {
            return places.into_iter().next().map(Finding::Fresher);
        }
        if places.is_empty() && !query.vary_known {
            // They can tell what the object varies by.
            places = nearest(&mut self.holdings.holders_of_others(query.object, query.variant, now));
        }
        (!places.is_empty()).then_some(Finding::Holders(places))
    }

    /// Below whom the asker is put, among those who receive what the open lease brings.
    fn follow(&mut self, asker: &Party, query: &Query) -> Option<Finding> {
        let subject = (query.object, query.variant);
        let &Lease { token, holder, .. } = self.leases.get(subject)?;
        let avoid: SmallVec<[Serial; wire::AVOID_MAX]> =
            query.avoid.iter().filter_map(|node| Some(self.sessions.of(*node)?.0)).collect();
        let (_, root) = self.sessions.of(holder)?;
        let seeker = Seeker {
            session: self.sessions.of(asker.place.node).map(|(serial, _)| serial),
            zone: Zone::of(&asker.place.zone),
            avoid: &avoid,
            root: (!query.avoid.contains(&holder)).then_some(root.zone),
        };
        let parent = match self.leases.tree(subject)?.follow(&seeker, &self.sessions)? {
            Parent::Root => root,
            Parent::Follower(serial) => self.sessions.live(serial)?,
        };
        self.followed += 1;
        Some(Finding::Follow(parent.party.place.clone(), token))
    }

    /// Whoever has the lease and asks again is given it again: it asked both superpeers, or has failed without
    /// saying so. The token stays the same, whoever granted it, so that the two superpeers say the same.
    fn grant_again(&mut self, asker: NodeId, subject: Subject, now: Instant) -> Option<Finding> {
        let token = self.leases.get(subject).filter(|lease| lease.holder == asker)?.token;
        self.leases.extend(subject, now + TERM);
        Some(Finding::Lease(token, TERM))
    }

    fn grant(&mut self, asker: NodeId, subject: Subject, now: Instant) -> Finding {
        if self.sessions.is_leaving(asker) {
            return Finding::Alone(ALONE_SHORT);
        }
        if self.sessions.of(asker).is_none() {
            return Finding::Warming; // it could not renew, and what it has is not known
        }
        self.leases.remove(subject);
        if !self.leases.has_room(asker) {
            return Finding::Alone(ALONE_SHORT);
        }
        self.granted += 1;
        let token = Token { issuer: self.issuer, term: self.term, number: self.granted };
        let lease = Lease { token, holder: asker, until: now + TERM, copied: now, tree: Tree::default() };
        self.leases.insert(subject, lease);
        self.copy(subject, false, now);
        Finding::Lease(token, TERM)
    }
}

/// The places to be named: those in the asker's zone first, among equals in an order of the asker's
/// own, so that the load is spread.
fn nearest<'a>(
    sessions: impl Iterator<Item = &'a Session>,
    asker: NodeId,
    zone: Zone,
    object: ObjectId,
) -> Vec<Place> {
    let mut candidates: SmallVec<[_; 32]> = sessions
        .take(CANDIDATES_MAX)
        .map(|session| {
            let place = &session.party.place;
            ((session.zone != zone, spread(asker, place.node, object)), place)
        })
        .collect();
    candidates.sort_unstable_by_key(|(order, place)| (*order, place.node));
    candidates.dedup_by_key(|(_, place)| place.node);
    candidates.into_iter().take(wire::HOLDERS_MAX).map(|(_, place)| place.clone()).collect()
}

/// The order in which an asker is told of nodes: all identities are hashes, so mixing parts of them is
/// enough.
fn spread(asker: NodeId, node: NodeId, object: ObjectId) -> u64 {
    let word = |id: [u8; 16]| u128::from_le_bytes(id) as u64;
    let mixed = word(asker.0) ^ word(node.0).rotate_left(21) ^ word(object.0).rotate_left(42);
    let mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}
