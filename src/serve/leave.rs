//! On what ground a fill asks the origin, and how it tells the directory what came of it.

use super::fill::{Kept, Refreshed};
use super::lead::Asking;
use crate::peer::Lease;
use crate::proto::seek::Ground;
use crate::proto::semantics;
use crate::proto::swarm::{Ending, Holding};
use crate::proto::time::Wall;
use crate::store::Hit;

/// The leave to ask the origin. Dropped with a lease, that ends as failed.
pub(super) struct Leave {
    /// Why the origin is asked.
    pub ground: Ground,
    /// The lease under which it is, if the directory gave one.
    pub lease: Option<Lease>,
}

impl Leave {
    /// To ask without a lease.
    pub(super) const fn of(ground: Ground) -> Self {
        Self { ground, lease: None }
    }

    /// The version is stored here.
    pub(super) fn stored(self, asking: &Asking, hit: &Hit, now: Wall) {
        let Some(lease) = self.lease else { return };
        // What may not leave this node is of no use to those who wait for it.
        if hit.head.stays() {
            return lease.end(Ending::Uncacheable, None);
        }
        lease.end(Ending::Stored, Some(holding(asking, hit, now)));
    }

    /// It was delivered and is not kept.
    pub(super) fn not_kept(self) {
        if let Some(lease) = self.lease {
            lease.end(Ending::NotKept, None);
        }
    }

    /// The response may not be stored. `of_object` says that others would get the like.
    pub(super) fn not_storable(self, of_object: bool) {
        if let Some(lease) = self.lease {
            lease.end(if of_object { Ending::Uncacheable } else { Ending::NotStorable }, None);
        }
    }

    /// There was no response, or not all of it.
    pub(super) fn failed(self) {
        if let Some(lease) = self.lease {
            lease.end(Ending::Failed, None);
        }
    }

    /// The stored version was validated.
    pub(super) fn validated(self, asking: &Asking, refreshed: &Refreshed, now: Wall) {
        match refreshed.kept {
            Kept::Yes => self.stored(asking, &refreshed.hit, now),
            Kept::OtherVariant => self.not_kept(),
            Kept::NotStorable(not) => self.not_storable(not.is_of_object()),
        }
    }
}

/// What is stored here, as the directory is told.
fn holding(asking: &Asking, hit: &Hit, now: Wall) -> Holding {
    let head = &hit.head;
    let lifetime = semantics::lifetime(&head.facts, head.received, &asking.policy).secs;
    let age = semantics::current_age(head.initial_age, head.received, now);
    // What must be validated each time is as good as stale.
    let fresh_secs = if head.facts.directives.no_cache() { 0 } else { lifetime.saturating_sub(age) };
    Holding { object: asking.object, variant: head.variant, fresh_secs }
}
