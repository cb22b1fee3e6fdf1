//! The truth about what is stored: which objects, which variants, and where each part is.
//!
//! Sharded by object; a shard has one lock, held for a few table operations and never over an await,
//! a call of moka or another shard's lock. What leaves a shard is dropped after its lock.
//!
//! An object is in one of two tables: the lean (fixed size, one record on disk and nothing in
//! memory: most objects) or the full. It goes from one to the other as its parts come and go.

mod entry;
mod holdings;
mod places;
mod shard;

pub(super) use entry::{SEAL_INDEX, UnreadHead, Variant, lean_id};

use super::body::Body;
use super::changelog::Changelog;
use super::disk::{Place, RecordId, RecordKind};
use super::filing::FillState;
use super::forgotten::{Due, Forgotten};
use super::memory::{MemoryKey, Tracked};
use super::usage::{Departure, IndexUsage, Inspected};
use super::{MissReason, VaryList};
use crate::clock::Clock;
use crate::proto::key::{ObjectId, VariantId, VersionId};
use crate::proto::object::Head;
use entry::Object;
use hashbrown::DefaultHashBuilder;
use holdings::Walk;
use parking_lot::{Mutex, MutexGuard};
use shard::{Removed, Shard};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Locks of the index. A power of two, at most 256.
const SHARDS: usize = 128;

/// What a lookup finds.
pub(super) enum Probe {
    /// The object varies: ask again with the variant that this list selects.
    Varies(VaryList),
    /// The head is in memory.
    Held {
        head: Arc<Head>,
        number: u64,
        body: Option<Arc<Body>>,
        /// `None`: only waiting for the disk.
        stay: Option<MemoryKey>,
    },
    /// The head is on disk.
    OnDisk(Located),
    Miss(MissReason),
}

/// A head on disk.
#[derive(Clone)]
pub(super) struct Located {
    pub(super) id: RecordId,
    pub(super) place: Place,
    pub(super) anchor: Anchor,
    pub(super) body: Option<Arc<Body>>,
}

/// What tells a version from those that come after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    /// Its number in a full entry.
    Number(u64),
    /// Its place in a lean one.
    Lean(Place),
}

/// What [`Index::invalidate`] found.
pub(super) struct Invalidated {
    /// Whether anything was visible.
    pub(super) found: bool,
    /// The `Drop` to be written, if the disk may have records of the object.
    pub(super) due: Option<Due>,
    /// Fills in progress, marked superseded.
    pub(super) fills: Vec<Arc<FillState>>,
}

/// The index.
pub(super) struct Index {
    shards: Box<[Mutex<Shard>]>,
    hasher: DefaultHashBuilder,
    clock: Clock,
    numbers: AtomicU64,
    /// Most estimated bytes of one shard.
    shard_cost_max: u64,
    departures: [AtomicU64; Departure::ALL.len()],
    /// Objects that are no longer here but may be found on disk at the next start.
    pub(super) forgotten: Forgotten,
    /// What other nodes are to be told of. Written under the lock of the shard that changes.
    pub(super) changelog: Changelog,
    walk: Walk,
}

impl Index {
    /// An index of about `bytes` at most.
    pub(super) fn new(bytes: u64, clock: Clock) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            clock,
            numbers: AtomicU64::new(1),
            shard_cost_max: bytes / SHARDS as u64,
            departures: Default::default(),
            forgotten: Forgotten::default(),
            changelog: Changelog::default(),
            walk: Walk::default(),
        }
    }

    fn shard(&self, object: ObjectId) -> MutexGuard<'_, Shard> {
        self.shards[usize::from(object.0[15]) % SHARDS].lock()
    }

    /// The shard, to remove something from it.
    fn shard_to_change(&self, object: ObjectId, removed: &mut Removed) -> MutexGuard<'_, Shard> {
        let shard = self.shard(object);
        // Under the lock: whoever begins to watch and then looks at this shard misses nothing.
        removed.watched = self.changelog.is_on();
        shard
    }

    /// Notes what was removed, under the lock of its shard.
    fn log_removed(&self, removed: &Removed) {
        removed.names.iter().for_each(|&name| self.changelog.note(name, None));
    }

    /// Seconds since the epoch.
    pub(super) fn now_secs(&self) -> u32 {
        u32::try_from(self.clock.now().wall.as_secs()).unwrap_or(0)
    }

    /// The next publication's number.
    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn depart(&self, departure: Departure, count: u64) {
        self.departures[departure as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// What is known of `variant` of the object, or of the object if it does not vary.
    pub(super) fn probe(&self, object: ObjectId, variant: Option<(&VaryList, VariantId)>) -> Probe {
        self.shard(object).probe(&self.hasher, object, variant)
    }

    /// The fields that the object varies by.
    pub(super) fn vary(&self, object: ObjectId) -> Option<VaryList> {
        self.shard(object).full_mut(&self.hasher, object)?.vary.clone()
    }

    /// Where the head of a version is by now, if it is still current.
    pub(super) fn locate(&self, id: &RecordId, anchor: Anchor) -> Option<Place> {
        self.shard(id.object).locate(&self.hasher, id, anchor)
    }

    /// Notes a fill in progress.
    pub(super) fn register(&self, object: ObjectId, fill: Arc<FillState>) {
        self.shard(object).fills.entry(object).or_default().push(fill);
    }

    /// The fill is over.
    pub(super) fn unregister(&self, object: ObjectId, fill: &Arc<FillState>) {
        let mut shard = self.shard(object);
        if let Some(fills) = shard.fills.get_mut(&object) {
            fills.retain(|known| !Arc::ptr_eq(known, fill));
            if fills.is_empty() {
                shard.fills.remove(&object);
            }
        }
    }

    /// Makes a version the current one of its variant. Its number must be newer than any before.
    /// `false` and nothing done if its fill was superseded.
    pub(super) fn publish(
        &self,
        object: ObjectId,
        vary: Option<VaryList>,
        variant: Variant,
        fill: Option<&FillState>,
    ) -> bool {
        let mut removed = Removed::default();
        let there = variant.shared.then_some((vary.is_some(), variant.id, variant.expiry));
        let left_out = {
            let mut shard = self.shard_to_change(object, &mut removed);
            if fill.is_some_and(FillState::is_superseded) {
                return false;
            }
            let filed = self.forgotten.adopt(object);
            let left_out = shard.publish(&self.hasher, object, vary, variant, &mut removed);
            if filed && let Some(entry) = shard.full_mut(&self.hasher, object) {
                entry.filed = true;
            }
            self.shed(&mut shard, object, &mut removed);
            self.log_removed(&removed);
            if let Some((varies, id, expiry)) = there.filter(|_| removed.watched) {
                self.changelog.note(Object::name(object, varies, id), Some(expiry));
            }
            left_out
        };
        self.depart(Departure::Variants, left_out);
        true
    }

    /// Numbers go on after `newest`.
    pub(super) fn resume(&self, newest: u64) {
        self.numbers.store(newest.saturating_add(1), Ordering::Relaxed);
    }

    /// Removes an object found on disk whose `Drop` was found after it.
    pub(super) fn unrestore(&self, object: ObjectId) {
        let mut removed = Removed::default();
        let mut shard = self.shard(object);
        shard.remove(&self.hasher, object, &mut removed);
        drop(shard);
    }

    /// Takes in a lean object found on disk, in place of what was known of it.
    pub(super) fn restore_lean(&self, object: ObjectId, head: &UnreadHead) {
        let mut removed = Removed::default();
        let mut shard = self.shard(object);
        // It may have been shed before this record of it was found; a lean entry is on disk anyway.
        self.forgotten.adopt(object);
        shard.restore_lean(&self.hasher, object, head, &mut removed);
        self.shed(&mut shard, object, &mut removed);
        drop(shard);
    }

    /// Gives the current version at `anchor` another head. Returns its number; `None` and nothing
    /// done if it is no longer current, or the head was only read from disk and one is there.
    pub(super) fn swap_head(&self, object: ObjectId, anchor: Anchor, new: NewHead) -> Option<u64> {
        let number = self.next_number();
        let mut shard = self.shard(object);
        if new.renewal.as_ref().is_some_and(|renewal| renewal.fill.is_superseded()) {
            return None;
        }
        let watched = self.changelog.is_on();
        let swapped = shard.swap_head(&self.hasher, object, anchor, new, (number, watched));
        if let Some((name, there)) = swapped.as_ref().and_then(|swapped| swapped.change) {
            self.changelog.note(name, there);
        }
        drop(shard);
        swapped.map(|swapped| swapped.number)
    }

    /// The identity of the head record of the version with that number.
    pub(super) fn head_id(&self, object: ObjectId, number: u64) -> Option<RecordId> {
        let mut shard = self.shard(object);
        let entry = shard.full_mut(&self.hasher, object)?;
        Some(entry.variants.iter().find(|variant| variant.number == number)?.head_id(object))
    }

    /// Whether the version that this record is of is current.
    pub(super) fn has_edition(&self, id: &RecordId) -> bool {
        let mut shard = self.shard(id.object);
        let entry = shard.full_mut(&self.hasher, id.object);
        entry.is_some_and(|entry| entry.variants.iter().any(|variant| variant.edition == id.version))
    }

    /// Whether the head's stay is still on.
    pub(super) fn has_stay(&self, object: ObjectId, key: MemoryKey) -> bool {
        let mut shard = self.shard(object);
        let entry = shard.full_mut(&self.hasher, object);
        entry.is_some_and(|entry| entry.variants.iter().any(|variant| variant.is_stay(key)))
    }

    /// moka gave the head up.
    pub(super) fn evict_head(&self, object: ObjectId, key: MemoryKey) {
        self.change(object, Departure::Memory, |variant| {
            if variant.is_stay(key) {
                variant.tracked = None;
                return Some(variant.drop_useless());
            }
            None
        });
    }

    /// A head or seal was written to disk, or could not be.
    pub(super) fn written(&self, kind: RecordKind, id: &RecordId, number: u64, place: Option<Place>) {
        self.change(id.object, Departure::Unwritten, |variant| {
            // A seal is good for every head that the version has had since.
            let is_of = if kind == RecordKind::Seal {
                variant.edition == id.version
            } else {
                variant.number == number
            };
            if !is_of {
                return None;
            }
            if place.is_some() {
                *variant.place_of(kind) = place;
            }
            variant.queued &= kind != RecordKind::Head;
            Some(variant.drop_useless())
        });
    }

    /// Forgets the version at `anchor`, for what was found out about it.
    pub(super) fn forget(&self, object: ObjectId, anchor: Anchor, departure: Departure) {
        let mut removed = Removed::default();
        let mut shard = self.shard_to_change(object, &mut removed);
        if shard.forget(&self.hasher, object, anchor, &mut removed) {
            self.log_removed(&removed);
            self.depart(departure, 1);
            self.note_absence(&mut shard, object, &removed);
        }
        drop(shard);
    }

    /// Forgets the version whose records are filed under `edition`.
    pub(super) fn forget_edition(&self, object: ObjectId, edition: VersionId, departure: Departure) {
        self.change(object, departure, |variant| (variant.edition == edition).then_some(false));
    }

    /// Changes the first variant of the object for which `change` answers; `false` removes it.
    fn change(
        &self,
        object: ObjectId,
        departure: Departure,
        change: impl FnMut(&mut Variant) -> Option<bool>,
    ) {
        let mut removed = Removed::default();
        let mut shard = self.shard_to_change(object, &mut removed);
        if shard.change(&self.hasher, object, change, &mut removed) {
            self.log_removed(&removed);
            self.depart(departure, 1);
            self.note_absence(&mut shard, object, &removed);
        }
        drop(shard);
    }

    /// If the object has left while the disk may know it, it must not come back at the next start
    /// after an invalidation that would no longer see it.
    fn note_absence(&self, shard: &mut Shard, object: ObjectId, removed: &Removed) {
        if removed.filed && !shard.has(&self.hasher, object) {
            self.forgotten.add(object);
        }
    }

    /// Makes room in the shard; the object that has just come in stays.
    fn shed(&self, shard: &mut Shard, newest: ObjectId, removed: &mut Removed) {
        if shard.cost <= self.shard_cost_max {
            return;
        }
        let now = self.now_secs();
        while shard.cost > self.shard_cost_max {
            let Some((object, filed)) = shard.shed(&self.hasher, (newest, now), removed) else { return };
            self.depart(Departure::Index, 1);
            if filed {
                self.forgotten.add(object);
            }
        }
    }

    /// Removes all of the object, and keeps its fills in progress from becoming visible.
    pub(super) fn invalidate(&self, object: ObjectId) -> Invalidated {
        let mut removed = Removed::default();
        let mut shard = self.shard_to_change(object, &mut removed);
        let found = shard.remove(&self.hasher, object, &mut removed);
        self.log_removed(&removed);
        let fills: Vec<_> = shard.fills.get(&object).map(|fills| fills.to_vec()).unwrap_or_default();
        for fill in &fills {
            fill.supersede();
        }
        let filed = removed.filed || self.forgotten.may_have(object);
        let due = filed.then(|| self.forgotten.claim(object));
        drop(shard);
        if found {
            self.depart(Departure::Invalidated, 1);
        }
        Invalidated { found, due, fills }
    }

    /// What is stored of the object.
    pub(super) fn inspect(&self, object: ObjectId) -> Vec<Inspected> {
        self.shard(object).inspect(&self.hasher, object)
    }

    /// Whether any record waits for the disk.
    #[cfg(test)]
    pub(super) fn queued(&self) -> bool {
        let variant = |variant: &Variant| {
            let slices = variant.body.iter().flat_map(|body| body.whereabouts());
            variant.queued || slices.into_iter().any(|slice| slice.queued)
        };
        self.shards
            .iter()
            .any(|shard| shard.lock().full.iter().any(|entry| entry.variants.iter().any(variant)))
    }

    /// Whether the place of the object's only seal is known.
    #[cfg(test)]
    pub(super) fn has_seal(&self, object: ObjectId) -> bool {
        let mut shard = self.shard(object);
        shard.full_mut(&self.hasher, object).is_some_and(|entry| entry.variants[0].seal.is_some())
    }

    /// The figures of the index.
    pub(super) fn usage(&self) -> IndexUsage {
        let mut usage =
            IndexUsage { bytes_bound: self.shard_cost_max * SHARDS as u64, ..IndexUsage::default() };
        for shard in &self.shards {
            let shard = shard.lock();
            usage.objects += (shard.lean.len() + shard.full.len()) as u64;
            usage.objects_lean += shard.lean.len() as u64;
            usage.bytes += shard.cost;
            usage.fills += shard.fills.values().map(|fills| fills.len() as u64).sum::<u64>();
        }
        usage.forgotten = self.forgotten.len() as u64;
        usage.departures = std::array::from_fn(|at| self.departures[at].load(Ordering::Relaxed));
        usage
    }
}

/// A head for a version that is in the index.
pub(super) struct NewHead {
    /// Its variant, which a lean entry does not know.
    pub(super) variant: VariantId,
    pub(super) head: Arc<Head>,
    pub(super) tracked: Option<Tracked>,
    /// `None`: the head is the one on disk.
    pub(super) renewal: Option<Renewal>,
}

/// What is new with a head that was not read from disk.
pub(super) struct Renewal {
    /// Whether it waits for the disk.
    pub(super) queued: bool,
    /// Seconds since the epoch, 0 if unknown.
    pub(super) expiry: u32,
    /// Who writes it.
    pub(super) fill: Arc<FillState>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::object::PurgePosition;

    fn object(number: u32) -> ObjectId {
        ObjectId(*blake3::hash(&number.to_le_bytes()).as_bytes().first_chunk().unwrap())
    }

    #[test]
    fn a_full_index_lets_go_what_was_not_asked_for_and_remembers_that_it_is_on_disk() {
        const BOUND: u64 = 1 << 20;
        let index = Index::new(BOUND, Clock::system());
        let place = Place { segment: 1, offset: 64, length: 1000 };
        for number in 0..40_000 {
            let position = PurgePosition(number.into());
            index.restore_lean(
                object(number),
                &UnreadHead { place, position, expiry: u32::MAX, shared: true },
            );
            // The first hundred are asked for all the time.
            assert!(matches!(index.probe(object(number % 100), None), Probe::OnDisk(_)), "{number}");
        }
        let usage = index.usage();
        assert!(usage.bytes <= BOUND && usage.bytes > BOUND * 9 / 10);
        assert_eq!(usage.objects + usage.departed(Departure::Index), 40_000);
        assert_eq!(usage.forgotten, usage.departed(Departure::Index));
        assert!((0..40_000).all(|number| {
            matches!(index.probe(object(number), None), Probe::OnDisk(_))
                != index.forgotten.may_have(object(number))
        }));
    }

    #[test]
    fn a_lean_entry_keeps_place_position_and_expiry() {
        let index = Index::new(1 << 20, Clock::system());
        let place = Place { segment: u32::MAX, offset: u32::MAX, length: 1 << 20 };
        for position in [7, u64::from(u32::MAX) + 1] {
            let position = PurgePosition(position);
            index.restore_lean(object(1), &UnreadHead { place, position, expiry: 9, shared: true });
            let Probe::OnDisk(located) = index.probe(object(1), None) else { panic!("on disk") };
            assert_eq!((located.place, located.id), (place, lean_id(object(1))));
            let inspected = &index.inspect(object(1))[0];
            assert_eq!((inspected.position, inspected.expiry), (position, 9));
        }
    }
}
