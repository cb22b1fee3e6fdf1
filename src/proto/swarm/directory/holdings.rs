//! Which sessions have which variants, compactly: some 40 bytes for a holding where objects have
//! three holders.
//!
//! A holding is only worth something while it is fresh, so stale ones are not kept. It refers to its
//! session, so it is worth nothing when that has ended; what is left of such ones is swept away a
//! little at a time. Objects are spread over shards so that no table is ever large enough for its
//! growth, or for a sweep of it, to hold up the driver.

use super::sessions::{Serial, Sessions};
use crate::proto::key::{ObjectId, VariantId};
use crate::proto::swarm::Holding;
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::time::Instant;

/// Holders kept for a variant; who seeks needs one good one.
pub(super) const HOLDERS_KEPT_MAX: usize = 32;
/// Variants kept of an object.
const VARIANTS_MAX: usize = 1024;
/// Other variants looked through for one that can tell what the object varies by.
const OTHERS_MAX: usize = 64;
/// Tables that the objects are spread over.
const SHARDS: usize = 1024;
/// Objects after which a sweep step ends.
const SWEEP_OBJECTS: usize = 1 << 14;
/// Copies of one version go stale within so many ticks of one another: ages are told in whole seconds.
const SAME_VERSION: u32 = 20;
/// A shard of more room than this gives some back when most of it is empty.
const SHARD_ROOM_KEPT: usize = 64;

#[derive(Clone, Copy)]
struct Holder {
    session: Serial,
    /// When it goes stale.
    until: Tick,
}

struct Variant {
    id: VariantId,
    holders: SmallVec<[Holder; 2]>,
}

type Variants = SmallVec<[Variant; 1]>;

/// Tenths of a second since the directory started: four bytes last for 13 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Tick(u32);

/// The holdings.
pub(super) struct Holdings {
    shards: Box<[HashMap<ObjectId, Variants>]>,
    started: Instant,
    objects: usize,
    stored: usize,
    stored_max: usize,
    refused: u64,
    /// The next shard to be swept.
    cursor: usize,
    /// Shards that may have holdings of sessions that ended.
    owed: usize,
}

impl Holdings {
    pub(super) fn new(stored_max: usize, now: Instant) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| HashMap::new()).collect(),
            started: now,
            objects: 0,
            stored: 0,
            stored_max,
            refused: 0,
            cursor: 0,
            owed: 0,
        }
    }

    pub(super) fn objects(&self) -> usize {
        self.objects
    }

    /// Holdings that take room, also those of ended sessions that are not swept away yet.
    pub(super) fn stored(&self) -> usize {
        self.stored
    }

    pub(super) fn stored_max(&self) -> usize {
        self.stored_max
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether a sweep would free what ended sessions left.
    pub(super) fn owes_sweep(&self) -> bool {
        self.owed > 0
    }

    /// A session ended: all shards may have holdings of it.
    pub(super) fn owe_sweep(&mut self) {
        self.owed = if self.stored == 0 { 0 } else { SHARDS };
    }

    /// A session has a variant. What is stale is not kept.
    pub(super) fn add(&mut self, session: Serial, holding: &Holding, sessions: &Sessions, now: Instant) {
        if holding.fresh_secs == 0 {
            return self.remove(session, holding.object, holding.variant);
        }
        let tick = self.tick(now);
        let holder =
            Holder { session, until: Tick(tick.0.saturating_add(holding.fresh_secs.saturating_mul(10))) };
        if let Some(known) = self.find(session, holding.object, holding.variant) {
            known.until = holder.until;
            return;
        }
        if self.stored >= self.stored_max && self.owed > 0 {
            self.sweep(sessions, now);
        }
        if self.stored >= self.stored_max {
            self.refused += 1;
            return;
        }
        let variants = self.shards[shard(holding.object)].entry(holding.object).or_insert_with(|| {
            self.objects += 1;
            Variants::new()
        });
        let Some(variant) = variant_mut(variants, holding.variant) else {
            self.refused += 1;
            return;
        };
        let is_worthless = |held: &Holder| held.until <= tick || sessions.live(held.session).is_none();
        if variant.holders.len() < HOLDERS_KEPT_MAX {
            variant.holders.push(holder);
            self.stored += 1;
        } else if let Some(worthless) = variant.holders.iter_mut().find(|held| is_worthless(held)) {
            *worthless = holder;
        } else if let Some(soonest) = variant.holders.iter_mut().min_by_key(|held| held.until)
            && soonest.until < holder.until
        {
            *soonest = holder;
        }
    }

    /// A session has a variant no more.
    pub(super) fn remove(&mut self, session: Serial, object: ObjectId, variant: VariantId) {
        let shard = &mut self.shards[shard(object)];
        let Some(variants) = shard.get_mut(&object) else { return };
        let Some(of_variant) = variants.iter().position(|known| known.id == variant) else { return };
        let holders = &mut variants[of_variant].holders;
        let Some(of_holder) = holders.iter().position(|held| held.session == session) else { return };
        holders.swap_remove(of_holder);
        self.stored -= 1;
        if holders.is_empty() {
            variants.swap_remove(of_variant);
        }
        if variants.is_empty() {
            shard.remove(&object);
            self.objects -= 1;
        }
    }

    /// A session had a variant that a purge selects, and so have those whose copy goes stale no later: they fetched it no later, or
    /// from the same. Where the origin has changed how long it is fresh, this may forget a copy that is good, which costs
    /// a fetch.
    pub(super) fn remove_older(&mut self, session: Serial, object: ObjectId, variant: VariantId) {
        let Some(purged) = self.find(session, object, variant).map(|holder| holder.until) else { return };
        let variants = self.shards[shard(object)].get(&object).into_iter().flatten();
        let holders = variants.filter(|known| known.id == variant).flat_map(|known| &known.holders);
        let until = Tick(purged.0.saturating_add(SAME_VERSION));
        let older: SmallVec<[Serial; 8]> =
            holders.filter(|held| held.until <= until).map(|held| held.session).collect();
        for session in older {
            self.remove(session, object, variant);
        }
    }

    /// The sessions that have a variant, fresh now. Some may have ended.
    pub(super) fn holders(
        &self,
        object: ObjectId,
        variant: VariantId,
        now: Instant,
    ) -> impl Iterator<Item = Serial> {
        self.fresh(object, now, 1, move |id| id == variant)
    }

    /// The sessions that have any other variant, fresh now. Some may have ended, some come twice.
    pub(super) fn holders_of_others(
        &self,
        object: ObjectId,
        variant: VariantId,
        now: Instant,
    ) -> impl Iterator<Item = Serial> {
        self.fresh(object, now, OTHERS_MAX, move |id| id != variant)
    }

    /// Frees a part of what is worth nothing any more.
    pub(super) fn sweep(&mut self, sessions: &Sessions, now: Instant) {
        let tick = self.tick(now);
        let mut looked_at = 0;
        for _ in 0..SHARDS {
            looked_at += self.shards[self.cursor].len();
            self.sweep_shard(sessions, tick);
            self.cursor = (self.cursor + 1) % SHARDS;
            self.owed = self.owed.saturating_sub(1);
            if looked_at >= SWEEP_OBJECTS {
                break;
            }
        }
    }

    fn sweep_shard(&mut self, sessions: &Sessions, tick: Tick) {
        let shard = &mut self.shards[self.cursor];
        let (objects, mut freed) = (shard.len(), 0);
        shard.retain(|_, variants| {
            variants.retain(|variant| {
                let before = variant.holders.len();
                variant.holders.retain(|held| held.until > tick && sessions.live(held.session).is_some());
                freed += before - variant.holders.len();
                !variant.holders.is_empty()
            });
            !variants.is_empty()
        });
        self.stored -= freed;
        self.objects -= objects - shard.len();
        if shard.capacity() > SHARD_ROOM_KEPT && shard.len() < shard.capacity() / 4 {
            shard.shrink_to(shard.len() * 2);
        }
    }

    fn fresh(
        &self,
        object: ObjectId,
        now: Instant,
        variants_max: usize,
        is_wanted: impl Fn(VariantId) -> bool,
    ) -> impl Iterator<Item = Serial> {
        let tick = self.tick(now);
        let variants = self.shards[shard(object)].get(&object).into_iter().flatten();
        let wanted = variants.filter(move |variant| is_wanted(variant.id)).take(variants_max);
        wanted
            .flat_map(|variant| &variant.holders)
            .filter(move |held| held.until > tick)
            .map(|held| held.session)
    }

    fn find(&mut self, session: Serial, object: ObjectId, variant: VariantId) -> Option<&mut Holder> {
        let variants = self.shards[shard(object)].get_mut(&object)?;
        let known = variants.iter_mut().find(|known| known.id == variant)?;
        known.holders.iter_mut().find(|held| held.session == session)
    }

    fn tick(&self, now: Instant) -> Tick {
        let tenths = now.saturating_duration_since(self.started).as_millis() / 100;
        Tick(u32::try_from(tenths).unwrap_or(u32::MAX))
    }
}

/// The variant of this id, added if there is room for it.
fn variant_mut(variants: &mut Variants, id: VariantId) -> Option<&mut Variant> {
    let at = variants.iter().position(|known| known.id == id);
    if at.is_none() && variants.len() < VARIANTS_MAX {
        variants.push(Variant { id, holders: SmallVec::new() });
        return variants.last_mut();
    }
    at.map(|at| &mut variants[at])
}

/// Identities are hashes, so any of their bits will do.
fn shard(object: ObjectId) -> usize {
    usize::from(u16::from_le_bytes([object.0[0], object.0[1]])) % SHARDS
}
