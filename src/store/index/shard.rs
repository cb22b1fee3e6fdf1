//! The tables of one shard, and the changes to them. Nothing here locks or waits.

use super::entry::{LEAN_COST, Lean, Object, UnreadHead, VARIANTS_MAX, Variant, lean_id};
use super::{Anchor, Located, NewHead, Probe};
use crate::proto::key::{ObjectId, VariantId};
use crate::proto::object::Head;
use crate::store::body::Body;
use crate::store::changelog::Name;
use crate::store::disk::{Place, RecordId};
use crate::store::filing::FillState;
use crate::store::memory::Tracked;
use crate::store::usage::{Inspected, Whereabouts};
use crate::store::{MissReason, VaryList};
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use smallvec::SmallVec;
use std::hash::BuildHasher;
use std::sync::{Arc, Weak};

/// Buckets that the clock hand passes in search of an entry that was not asked for of late.
const CLOCK_STEPS: usize = 64;

/// What a new head changed.
pub(super) struct Swapped {
    /// The version's number by now.
    pub(super) number: u64,
    /// What other nodes are to be told: that it is there, and when it is no longer fresh, or (`None`) that
    /// it is no longer to be had.
    pub(super) change: Option<(Name, Option<u32>)>,
    /// The old head, to be dropped after the lock.
    _old: (Option<Arc<Head>>, Option<Tracked>),
}

/// What was taken out of a shard, to be dropped after its lock.
#[derive(Default)]
pub(super) struct Removed {
    /// Whether the disk may know the object that was removed.
    pub(super) filed: bool,
    /// Whether `names` are wanted.
    pub(super) watched: bool,
    /// What other nodes may know that is gone.
    pub(super) names: SmallVec<[Name; 1]>,
    variants: SmallVec<[Variant; 1]>,
}

impl Removed {
    fn name(&mut self, id: ObjectId, varies: bool, variants: &[Variant]) {
        if self.watched {
            let shared = variants.iter().filter(|variant| variant.shared);
            self.names.extend(shared.map(|variant| Object::name(id, varies, variant.id)));
        }
    }
}

/// A part of the index.
#[derive(Default)]
pub(super) struct Shard {
    pub(super) lean: HashTable<Lean>,
    pub(super) full: HashTable<Box<Object>>,
    pub(super) fills: HashMap<ObjectId, SmallVec<[Arc<FillState>; 1]>>,
    /// Bodies of versions that were replaced while they were read. Bounded by the hits in progress,
    /// twice: the dead are swept out when their number has doubled.
    pub(super) retired: Vec<Weak<Body>>,
    retired_sweep: usize,
    /// Estimated bytes of the tables.
    pub(super) cost: u64,
    hand: usize,
}

fn hash(hasher: &DefaultHashBuilder, object: ObjectId) -> u64 {
    hasher.hash_one(object.0)
}

impl Shard {
    pub(super) fn full_mut(&mut self, hasher: &DefaultHashBuilder, object: ObjectId) -> Option<&mut Object> {
        self.full.find_mut(hash(hasher, object), |entry| entry.id == object).map(Box::as_mut)
    }

    pub(super) fn lean_mut(&mut self, hasher: &DefaultHashBuilder, object: ObjectId) -> Option<&mut Lean> {
        self.lean.find_mut(hash(hasher, object), |entry| entry.object == object)
    }

    pub(super) fn has(&mut self, hasher: &DefaultHashBuilder, object: ObjectId) -> bool {
        self.full_mut(hasher, object).is_some() || self.lean_mut(hasher, object).is_some()
    }

    pub(super) fn probe(
        &mut self,
        hasher: &DefaultHashBuilder,
        object: ObjectId,
        wanted: Option<(&VaryList, VariantId)>,
    ) -> Probe {
        if let Some(entry) = self.full_mut(hasher, object) {
            return probe_full(entry, wanted);
        }
        let Some(lean) = self.lean_mut(hasher, object) else { return Probe::Miss(MissReason::Uri) };
        lean.touch();
        let place = lean.place();
        let anchor = Anchor::Lean(place);
        Probe::OnDisk(Located { id: lean_id(object), place, anchor, body: None })
    }

    pub(super) fn locate(
        &mut self,
        hasher: &DefaultHashBuilder,
        id: &RecordId,
        anchor: Anchor,
    ) -> Option<Place> {
        if let Some(entry) = self.full_mut(hasher, id.object) {
            return entry
                .variants
                .iter()
                .find(|variant| is_at(variant, anchor) || variant.head_id(id.object) == *id)?
                .place;
        }
        let lean = self.lean_mut(hasher, id.object)?;
        (lean_id(id.object) == *id).then(|| lean.place())
    }

    /// Returns how many variants had to make room.
    pub(super) fn publish(
        &mut self,
        hasher: &DefaultHashBuilder,
        object: ObjectId,
        vary: Option<VaryList>,
        variant: Variant,
        removed: &mut Removed,
    ) -> u64 {
        let mut entry = self.take(hasher, object, variant.number);
        entry.filed |= variant.queued || variant.place.is_some();
        let mut gone: SmallVec<[Variant; 1]> = SmallVec::new();
        let varied = entry.vary.is_some();
        if entry.vary != vary {
            // Under another list, the identities of the variants mean something else.
            gone.append(&mut entry.variants);
            entry.vary = vary;
        }
        if entry.vary.is_none() {
            gone.append(&mut entry.variants);
        } else if let Some(at) = entry.variants.iter().position(|known| known.id == variant.id) {
            gone.push(entry.variants.remove(at));
        }
        let mut left_out = 0;
        while entry.variants.len() >= VARIANTS_MAX {
            gone.push(entry.variants.remove(0));
            left_out += 1;
        }
        entry.variants.push(variant);
        removed.name(object, varied, &gone);
        self.retire(gone, removed);
        self.put(hasher, entry);
        left_out
    }

    pub(super) fn restore_lean(
        &mut self,
        hasher: &DefaultHashBuilder,
        object: ObjectId,
        head: &UnreadHead,
        removed: &mut Removed,
    ) {
        self.remove(hasher, object, removed);
        if let Some(lean) = Lean::new(object, head) {
            self.insert_lean(hasher, lean);
            return;
        }
        // Its numbers are too large for a lean entry.
        self.put(hasher, Box::new(Object::found(object, head, 0)));
    }

    /// Gives the version at `anchor` another head, if it is current.
    pub(super) fn swap_head(
        &mut self,
        hasher: &DefaultHashBuilder,
        object: ObjectId,
        anchor: Anchor,
        new: NewHead,
        (number, watched): (u64, bool),
    ) -> Option<Swapped> {
        if !self.takes(hasher, object, anchor, &new) {
            return None;
        }
        let mut entry = self.take(hasher, object, number);
        let variant = entry.variants.iter_mut().find(|variant| is_at(variant, anchor))?;
        variant.id = new.variant;
        variant.position = new.head.position.get();
        let was_shared = std::mem::replace(&mut variant.shared, !new.head.stays());
        let is_news = new.renewal.is_some() && variant.shared || variant.shared != was_shared;
        let old = (variant.head.replace(new.head), std::mem::replace(&mut variant.tracked, new.tracked));
        if let Some(renewal) = new.renewal {
            variant.number = number;
            variant.queued = renewal.queued;
            variant.expiry = renewal.expiry;
            entry.filed |= renewal.queued;
        }
        let number = variant.number;
        let there = variant.shared.then_some(variant.expiry);
        let (varies, id) = (entry.vary.is_some(), variant.id);
        let change = (watched && is_news).then(|| (Object::name(object, varies, id), there));
        self.put(hasher, entry);
        Some(Swapped { number, change, _old: old })
    }

    /// Whether the version at `anchor` is current and, for a head read from disk, has none by now.
    fn takes(
        &mut self,
        hasher: &DefaultHashBuilder,
        object: ObjectId,
        anchor: Anchor,
        new: &NewHead,
    ) -> bool {
        if let Some(entry) = self.full_mut(hasher, object) {
            let current = entry.variants.iter().find(|variant| is_at(variant, anchor));
            return current.is_some_and(|variant| new.renewal.is_some() || variant.head.is_none());
        }
        self.lean_mut(hasher, object).is_some_and(|lean| Anchor::Lean(lean.place()) == anchor)
    }

    /// Returns whether a variant was removed.
    pub(super) fn change(
        &mut self,
        hasher: &DefaultHashBuilder,
        object: ObjectId,
        mut change: impl FnMut(&mut Variant) -> Option<bool>,
        removed: &mut Removed,
    ) -> bool {
        let Some(entry) = self.full_mut(hasher, object) else { return false };
        let answer =
            entry.variants.iter_mut().enumerate().find_map(|(at, variant)| Some((at, change(variant)?)));
        let Some((at, keep)) = answer else { return false };
        let mut entry = self.take(hasher, object, 0);
        if !keep {
            let gone = SmallVec::from_iter([entry.variants.remove(at)]);
            removed.filed = entry.filed;
            removed.name(object, entry.vary.is_some(), &gone);
            self.retire(gone, removed);
        }
        self.put(hasher, entry);
        !keep
    }

    /// Returns whether it was there.
    pub(super) fn forget(
        &mut self,
        hasher: &DefaultHashBuilder,
        object: ObjectId,
        anchor: Anchor,
        removed: &mut Removed,
    ) -> bool {
        if self.lean_mut(hasher, object).is_some_and(|lean| Anchor::Lean(lean.place()) == anchor) {
            return self.remove(hasher, object, removed);
        }
        self.change(hasher, object, |variant| is_at(variant, anchor).then_some(false), removed)
    }

    /// Removes all of the object. Returns whether there was anything.
    pub(super) fn remove(
        &mut self,
        hasher: &DefaultHashBuilder,
        object: ObjectId,
        removed: &mut Removed,
    ) -> bool {
        if !self.has(hasher, object) {
            return false;
        }
        let mut entry = self.take(hasher, object, 0);
        removed.filed |= entry.filed;
        removed.name(object, entry.vary.is_some(), &entry.variants);
        self.retire(std::mem::take(&mut entry.variants), removed);
        true
    }

    /// Removes an object that was not asked for of late, and says whether the disk may know it.
    pub(super) fn shed(
        &mut self,
        hasher: &DefaultHashBuilder,
        (newest, now): (ObjectId, u32),
        removed: &mut Removed,
    ) -> Option<(ObjectId, bool)> {
        let victim = self.victim(newest, now)?;
        let mut gone = Removed { watched: removed.watched, ..Removed::default() };
        self.remove(hasher, victim, &mut gone);
        removed.names.append(&mut gone.names);
        removed.variants.append(&mut gone.variants);
        Some((victim, gone.filed))
    }

    /// The clock: the first entry under the hand that is no longer fresh at `now`, in seconds, or was
    /// not asked for since the hand last came by.
    fn victim(&mut self, newest: ObjectId, now: u32) -> Option<ObjectId> {
        let buckets = (self.lean.num_buckets() + self.full.num_buckets()).max(1);
        let mut passed = None;
        let mut steps = 0;
        for _ in 0..buckets {
            self.hand = (self.hand + 1) % buckets;
            let lean_buckets = self.lean.num_buckets();
            let (object, accessed) = if let Some(at) = self.hand.checked_sub(lean_buckets) {
                let Some(entry) = self.full.get_bucket_mut(at) else { continue };
                let accessed = entry.variants.iter_mut().map(|variant| std::mem::take(&mut variant.accessed));
                (entry.id, accessed.fold(false, |any, one| any | one))
            } else {
                let Some(lean) = self.lean.get_bucket_mut(self.hand) else { continue };
                (lean.object, lean.take_accessed() && lean.expiry > now)
            };
            if object == newest {
                continue;
            }
            steps += 1;
            passed = Some(object);
            if !accessed || steps >= CLOCK_STEPS {
                break;
            }
        }
        passed
    }

    pub(super) fn inspect(&mut self, hasher: &DefaultHashBuilder, object: ObjectId) -> Vec<Inspected> {
        if let Some(entry) = self.full_mut(hasher, object) {
            let vary = entry.vary.clone();
            return entry.variants.iter().map(|variant| inspect(variant, vary.clone())).collect();
        }
        let lean = self.lean_mut(hasher, object).map(|lean| Inspected {
            variant: None,
            version: None,
            vary: None,
            position: lean.head().position,
            expiry: lean.expiry,
            length: None,
            head: None,
            records: vec![Whereabouts { memory: false, queued: false, disk: true }],
        });
        lean.into_iter().collect()
    }

    /// Takes the object out of its table, made full; a new one if there is none.
    fn take(&mut self, hasher: &DefaultHashBuilder, object: ObjectId, number: u64) -> Box<Object> {
        let hash = hash(hasher, object);
        if let Ok(found) = self.full.find_entry(hash, |entry| entry.id == object) {
            let (entry, _) = found.remove();
            self.cost -= entry.cost();
            return entry;
        }
        if let Ok(found) = self.lean.find_entry(hash, |entry| entry.object == object) {
            let (mut lean, _) = found.remove();
            self.cost -= LEAN_COST;
            return Box::new(Object::from_lean(&mut lean, number));
        }
        Box::new(Object::new(object, None))
    }

    /// Puts it into the table where it belongs; into none if nothing is left of it.
    fn put(&mut self, hasher: &DefaultHashBuilder, entry: Box<Object>) {
        if entry.variants.is_empty() {
            return;
        }
        if let Some(lean) = entry.to_lean() {
            self.insert_lean(hasher, lean);
            return;
        }
        self.cost += entry.cost();
        self.full.insert_unique(hash(hasher, entry.id), entry, |entry| hash(hasher, entry.id));
    }

    fn insert_lean(&mut self, hasher: &DefaultHashBuilder, lean: Lean) {
        let rehash = |lean: &Lean| hash(hasher, lean.object);
        match self.lean.entry(hash(hasher, lean.object), |known| known.object == lean.object, rehash) {
            Entry::Occupied(mut known) => *known.get_mut() = lean,
            Entry::Vacant(vacant) => {
                vacant.insert(lean);
                self.cost += LEAN_COST;
            }
        }
    }

    /// Remembers the bodies that hits may still read.
    fn retire(&mut self, mut gone: SmallVec<[Variant; 1]>, removed: &mut Removed) {
        for body in gone.iter().filter_map(|variant| variant.body.as_ref()) {
            if self.retired.len() >= self.retired_sweep {
                self.retired.retain(|body| body.strong_count() > 0);
                self.retired_sweep = (self.retired.len() * 2).max(16);
            }
            if Arc::strong_count(body) > 1 {
                self.retired.push(Arc::downgrade(body));
            }
        }
        removed.variants.append(&mut gone);
    }
}

fn probe_full(entry: &mut Object, wanted: Option<(&VaryList, VariantId)>) -> Probe {
    let id = match (&entry.vary, wanted) {
        (None, _) => None,
        (Some(list), Some((of, id))) if list == of => Some(id),
        (Some(list), _) => return Probe::Varies(list.clone()),
    };
    let object = entry.id;
    let Some(variant) = entry.variant(id) else { return Probe::Miss(MissReason::Vary) };
    variant.accessed = true;
    let body = variant.body.clone();
    match (&variant.head, variant.place) {
        (Some(head), _) => Probe::Held {
            head: head.clone(),
            number: variant.number,
            body,
            stay: variant.tracked.as_ref().map(Tracked::key),
        },
        (None, Some(place)) => {
            let anchor = Anchor::Number(variant.number);
            Probe::OnDisk(Located { id: variant.head_id(object), place, anchor, body })
        }
        (None, None) => Probe::Miss(MissReason::Uri),
    }
}

/// A lean entry that became full keeps its place, so that hits that knew it can tell.
fn is_at(variant: &Variant, anchor: Anchor) -> bool {
    match anchor {
        Anchor::Number(number) => variant.number == number,
        Anchor::Lean(place) => variant.is_lean() && variant.place == Some(place),
    }
}

fn inspect(variant: &Variant, vary: Option<VaryList>) -> Inspected {
    let head = Whereabouts {
        memory: variant.tracked.is_some(),
        queued: variant.queued,
        disk: variant.place.is_some(),
    };
    let slices = variant.body.as_ref().map(|body| body.whereabouts());
    Inspected {
        variant: Some(variant.id),
        version: variant.head.as_ref().map(|head| head.version),
        vary,
        position: variant.position,
        expiry: variant.expiry,
        length: variant.head.as_ref().and_then(|head| head.length),
        head: variant.head.clone(),
        records: std::iter::once(head).chain(slices.into_iter().flatten()).collect(),
    }
}
