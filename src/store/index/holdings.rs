//! The walk over all that other nodes may be told of.
//!
//! Entries move from table to table and from bucket to bucket between two steps of a walk, so it goes by
//! identity: when it comes to a shard it takes the identities of all objects there, sorted, and in each
//! step looks a part of them up. What came since is in the changelog.

use super::entry::{Object, VARIANTS_MAX};
use super::shard::Shard;
use super::{Index, SHARDS};
use crate::proto::key::ObjectId;
use crate::proto::swarm::Holding;
use crate::store::changelog::{Name, holding};
use hashbrown::DefaultHashBuilder;
use parking_lot::Mutex;
use smallvec::SmallVec;

/// Objects looked up under one lock.
const LOOKUPS: usize = 64;
/// Bits of a cursor that tell a place within a shard; those above tell the shard.
const PLACE_BITS: u32 = 56;

/// What is left of the shard that a walk is in. Of several walks at a time, one has it, and the others
/// look again.
#[derive(Default)]
pub(super) struct Walk(Mutex<Option<Snapshot>>);

/// The objects of a shard at one moment. Bounded by the shard.
struct Snapshot {
    shard: usize,
    objects: Vec<ObjectId>,
}

/// One step of a walk.
struct Step {
    found: Vec<Holding>,
    max: usize,
    /// Objects that may still be looked at.
    budget: usize,
    now: u32,
}

impl Step {
    /// Takes in what is shared of the next object. `false` and nothing done if it is one too many.
    fn take(&mut self, shared: &[Holding], together: bool) -> bool {
        let too_many = !self.found.is_empty() && self.found.len() + shared.len() > self.max;
        if (self.budget == 0 || too_many) && !together {
            return false;
        }
        self.budget = self.budget.saturating_sub(1);
        self.found.extend_from_slice(shared);
        true
    }
}

/// The place of an object in the order of its shard. A cursor does not tell apart objects that share it.
fn place(object: ObjectId) -> u64 {
    let first = object.0.first_chunk().expect("an identity has 16 bytes");
    u64::from_be_bytes(*first) >> (u64::BITS - PLACE_BITS)
}

impl Index {
    /// At most `max` holdings, but at least those of one object, from `cursor` on, and where to go on;
    /// `None` at the end. Looks at no more than `max` objects, also if none of them is to be told of.
    pub(in crate::store) fn holdings(&self, cursor: u64, max: usize) -> (Vec<Holding>, Option<u64>) {
        let mut step = Step { found: Vec::new(), max, budget: max.max(1), now: self.now_secs() };
        let first = usize::try_from(cursor >> PLACE_BITS).unwrap_or(SHARDS);
        let mut from = cursor & ((1 << PLACE_BITS) - 1);
        // Whoever begins may have been told of changes that an older snapshot does not have.
        let mut left = self.walk.0.lock().take().filter(|_| cursor != 0);
        for shard in first..SHARDS {
            let known = left.take().filter(|known| known.shard == shard);
            let snapshot = known.unwrap_or_else(|| self.snapshot(shard));
            if let Some(next) = self.walk_shard(&snapshot, from, &mut step) {
                *self.walk.0.lock() = Some(snapshot);
                return (step.found, Some((shard as u64) << PLACE_BITS | next));
            }
            from = 0;
        }
        (step.found, None)
    }

    fn snapshot(&self, shard: usize) -> Snapshot {
        let mut objects = self.shards[shard].lock().objects();
        objects.sort_unstable();
        Snapshot { shard, objects }
    }

    /// Returns the place where the step ended, if it did within this shard.
    fn walk_shard(&self, snapshot: &Snapshot, from: u64, step: &mut Step) -> Option<u64> {
        let begin = snapshot.objects.partition_point(|&object| place(object) < from);
        let mut last = None;
        let mut shared = SmallVec::<[Holding; VARIANTS_MAX]>::new();
        for part in snapshot.objects[begin..].chunks(LOOKUPS) {
            let mut shard = self.shards[snapshot.shard].lock();
            for &object in part {
                shared.clear();
                shard.shared(&self.hasher, object, |name, expiry| {
                    shared.push(holding(name, expiry, step.now))
                });
                let here = Some(place(object));
                if !step.take(&shared, last == here) {
                    return here;
                }
                last = here;
            }
        }
        None
    }
}

impl Shard {
    /// All objects, in no order.
    fn objects(&self) -> Vec<ObjectId> {
        let mut objects = Vec::with_capacity(self.lean.len() + self.full.len());
        objects.extend(self.lean.iter().map(|lean| lean.object));
        objects.extend(self.full.iter().map(|entry| entry.id));
        objects
    }

    /// Names the variants of the object of which other nodes may be told, with their expiry.
    fn shared(&mut self, hasher: &DefaultHashBuilder, object: ObjectId, mut tell: impl FnMut(Name, u32)) {
        if let Some(entry) = self.full_mut(hasher, object) {
            let varies = entry.vary.is_some();
            for variant in entry.variants.iter().filter(|variant| variant.shared) {
                tell(Object::name(object, varies, variant.id), variant.expiry);
            }
        } else if let Some(lean) = self.lean_mut(hasher, object).filter(|lean| lean.head().shared) {
            tell(Object::name(object, false, Default::default()), lean.expiry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::UnreadHead;
    use super::*;
    use crate::clock::Clock;
    use crate::proto::object::PurgePosition;
    use crate::store::disk::Place;
    use std::collections::BTreeSet;

    fn head(shared: bool) -> UnreadHead {
        let place = Place { segment: 1, offset: 64, length: 1000 };
        UnreadHead { place, position: PurgePosition(0), expiry: u32::MAX, shared }
    }

    fn object(number: u32) -> ObjectId {
        ObjectId(*blake3::hash(&number.to_le_bytes()).as_bytes().first_chunk().unwrap())
    }

    /// The walk in steps of `max`, with `between` called between two of them.
    fn walk(index: &Index, max: usize, mut between: impl FnMut()) -> Vec<ObjectId> {
        let mut found = Vec::new();
        let mut cursor = Some(0);
        while let Some(at) = cursor {
            let (holdings, next) = index.holdings(at, max);
            assert!(holdings.len() <= max.max(1));
            assert!(next.is_none_or(|next| next > at), "a step goes on");
            found.extend(holdings.iter().map(|holding| holding.object));
            cursor = next;
            between();
        }
        found
    }

    #[test]
    fn a_walk_names_each_shared_object_once() {
        let index = Index::new(64 << 20, Clock::system());
        (0..5000).for_each(|number| index.restore_lean(object(number), &head(number % 3 != 0)));
        let expected: BTreeSet<_> = (0..5000).filter(|number| number % 3 != 0).map(object).collect();
        for max in [1, 7, 1000, usize::MAX] {
            let found = walk(&index, max, || {});
            assert_eq!(found.len(), expected.len());
            assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
        }
    }

    #[test]
    fn what_is_there_all_the_time_is_named_though_tables_grow_and_other_walks_go_on() {
        let index = Index::new(64 << 20, Clock::system());
        (0..3000).for_each(|number| index.restore_lean(object(number), &head(true)));
        let (mut newest, mut other) = (3000, Some(0));
        let found = walk(&index, 50, || {
            // Until there are ten times as many.
            let more = newest..(newest + 1000).min(30_000);
            more.clone().for_each(|number| index.restore_lean(object(number), &head(true)));
            newest = more.end;
            other = index.holdings(other.unwrap_or(0), 200).1;
        });
        let found: BTreeSet<_> = found.into_iter().collect();
        assert!((0..3000).all(|number| found.contains(&object(number))));
    }

    #[test]
    fn what_left_during_a_walk_is_not_named() {
        let index = Index::new(64 << 20, Clock::system());
        (0..1000).for_each(|number| index.restore_lean(object(number), &head(true)));
        let (first, cursor) = index.holdings(0, 10);
        (0..1000).for_each(|number| index.unrestore(object(number)));
        assert_eq!(first.len(), 10);
        assert_eq!(index.holdings(cursor.unwrap(), 10), (vec![], None));
    }
}
