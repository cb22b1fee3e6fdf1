//! What this node remembers of keys that it does not store (yet): that their responses are not
//! storable, so that requests for them are not held up waiting for each other ("hit-for-miss"), that
//! they are, so that requests with cookies may share a fetch, what they vary by, and when they were
//! invalidated, so that no older version is taken from a peer.
//!
//! Only economy depends on it; entries may vanish at any time. A shard holds two generations: when
//! the younger is full it becomes the elder, and what was the elder is forgotten. Every miss writes
//! here, so the order of use is not worth its price.

use crate::proto::key::{ObjectId, VariantId};
use crate::proto::semantics::VaryList;
use crate::proto::time::Wall;
use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};
use std::time::Duration;

/// How long a key counts as not storable after its last such response.
pub(super) const UNCACHEABLE_FOR: Duration = Duration::from_secs(60);
const SHARDS: usize = 64;
/// Keys of one generation of one shard: what a table of 512 slots takes. All shards together
/// remember the last 28 thousand keys at least and 57 thousand at most.
const GENERATION_MAX: usize = 448;

/// The memory of one node.
pub struct Known([Mutex<Shard>; SHARDS]);

#[derive(Default)]
struct Shard {
    young: HashMap<ObjectId, Entry>,
    old: HashMap<ObjectId, Entry>,
}

struct Entry {
    response: Response,
    invalidated: Option<Wall>,
}

/// What the last response was.
#[derive(Default)]
enum Response {
    /// Not known.
    #[default]
    Unknown,
    Uncacheable {
        until: Wall,
    },
    Storable {
        vary: Option<VaryList>,
    },
    /// The key is no object, but a language of one, in which this variant is.
    InLanguage(VariantId),
}

impl Default for Known {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Known {
    /// A response for `object` was not storable.
    pub fn uncacheable(&self, object: ObjectId, now: Wall) {
        self.shard(object).note(object, Response::Uncacheable { until: now.plus(UNCACHEABLE_FOR) });
    }

    /// A response for `object` was storable, and varies by `vary`.
    pub fn storable(&self, object: ObjectId, vary: Option<VaryList>) {
        self.shard(object).note(object, Response::Storable { vary });
    }

    /// The response that is remembered under `language` is that variant.
    pub fn in_language(&self, language: VariantId, variant: VariantId) {
        self.shard(ObjectId(language.0)).note(ObjectId(language.0), Response::InLanguage(variant));
    }

    /// The variant that is remembered under `language`.
    pub fn of_language(&self, language: VariantId) -> Option<VariantId> {
        match self.shard(ObjectId(language.0)).response(ObjectId(language.0)) {
            Response::InLanguage(variant) => Some(*variant),
            _ => None,
        }
    }

    /// Whether responses for `object` were not storable of late.
    pub fn is_uncacheable(&self, object: ObjectId, now: Wall) -> bool {
        matches!(self.shard(object).response(object), Response::Uncacheable { until } if now < *until)
    }

    /// Whether the last response for `object` was storable.
    pub fn is_storable(&self, object: ObjectId) -> bool {
        matches!(self.shard(object).response(object), Response::Storable { .. })
    }

    /// What responses for `object` vary by, as far as that is known.
    pub fn vary(&self, object: ObjectId) -> Option<VaryList> {
        match self.shard(object).response(object) {
            Response::Storable { vary } => vary.clone(),
            _ => None,
        }
    }

    /// What was stored of `object` was invalidated, here and now.
    pub fn invalidated(&self, object: ObjectId, now: Wall) {
        self.shard(object).invalidate(object, now);
    }

    /// Whether anything is remembered of `object`.
    pub fn knows(&self, object: ObjectId) -> bool {
        self.shard(object).get(object).is_some()
    }

    /// When `object` was invalidated last, as far as that is remembered.
    pub fn invalidated_at(&self, object: ObjectId) -> Option<Wall> {
        self.shard(object).get(object)?.invalidated
    }

    fn shard(&self, object: ObjectId) -> MutexGuard<'_, Shard> {
        self.0[usize::from(object.0[0]) % SHARDS].lock()
    }
}

impl Shard {
    fn get(&self, object: ObjectId) -> Option<&Entry> {
        self.young.get(&object).or_else(|| self.old.get(&object))
    }

    fn response(&self, object: ObjectId) -> &Response {
        self.get(object).map_or(&Response::Unknown, |entry| &entry.response)
    }

    fn note(&mut self, object: ObjectId, response: Response) {
        let invalidated = self.get(object).and_then(|entry| entry.invalidated);
        self.insert(object, Entry { response, invalidated });
    }

    fn invalidate(&mut self, object: ObjectId, now: Wall) {
        let response =
            self.get_mut(object).map(|entry| std::mem::take(&mut entry.response)).unwrap_or_default();
        self.insert(object, Entry { response, invalidated: Some(now) });
    }

    fn get_mut(&mut self, object: ObjectId) -> Option<&mut Entry> {
        self.young.get_mut(&object).or_else(|| self.old.get_mut(&object))
    }

    fn insert(&mut self, object: ObjectId, entry: Entry) {
        if self.young.len() >= GENERATION_MAX && !self.young.contains_key(&object) {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(object, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(number: u32) -> ObjectId {
        let mut id = [0; 16];
        id[8..12].copy_from_slice(&number.to_le_bytes());
        ObjectId(id) // all in one shard
    }

    #[test]
    fn the_last_word_on_a_key_counts() {
        let (known, now) = (Known::default(), Wall::from_millis(0));
        known.uncacheable(object(1), now);
        assert!(known.is_uncacheable(object(1), now) && !known.is_storable(object(1)));
        assert!(!known.is_uncacheable(object(1), now.plus(UNCACHEABLE_FOR)));
        known.storable(object(1), None);
        assert!(known.is_storable(object(1)) && !known.is_uncacheable(object(1), now));
    }

    #[test]
    fn an_invalidation_and_the_last_response_are_known_side_by_side() {
        let (known, now) = (Known::default(), Wall::from_millis(7));
        known.uncacheable(object(1), now);
        known.invalidated(object(1), now);
        assert!(known.is_uncacheable(object(1), now));
        known.storable(object(1), None);
        assert_eq!((known.invalidated_at(object(1)), known.invalidated_at(object(2))), (Some(now), None));
        assert!(known.is_storable(object(1)));
    }

    #[test]
    fn a_full_shard_forgets_the_elder_keys_only() {
        let known = Known::default();
        let max = GENERATION_MAX as u32;
        for number in 0..=2 * max {
            known.storable(object(number), None);
        }
        let shard = known.shard(object(0));
        assert!(shard.young.len() + shard.old.len() <= 2 * GENERATION_MAX);
        drop(shard);
        assert!(!known.is_storable(object(0)));
        assert!((max..=2 * max).all(|number| known.is_storable(object(number))));
    }
}
