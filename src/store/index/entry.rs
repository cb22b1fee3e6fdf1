//! What the index keeps of an object: a lean entry of fixed size if its one record on disk says all,
//! else a full one.

use crate::proto::key::{self, ObjectId, VariantId, VersionId};
use crate::proto::object::{Head, PurgePosition};
use crate::store::VaryList;
use crate::store::body::Body;
use crate::store::changelog::Name;
use crate::store::disk::{Place, RecordId, RecordKind};
use crate::store::memory::{MemoryKey, Tracked};
use smallvec::SmallVec;
use std::sync::Arc;

/// Index of `Seal` records; no slice has it.
pub(in crate::store) const SEAL_INDEX: u32 = u32::MAX;
/// Variants kept of an object; the oldest makes room.
pub(in crate::store) const VARIANTS_MAX: usize = 16;
/// Estimated bytes of a lean entry with its share of the table: see the test of that name.
pub(in crate::store) const LEAN_COST: u64 = 64;
/// Estimated bytes of a variant with its share of the object.
const VARIANT_COST: u64 = 384;
/// Estimated bytes of a slice that is on disk.
const SLICE_COST: u64 = 16;
/// Bytes of the hash of a chunk.
const HASH_COST: u64 = 32;

/// What is known of a head on disk without reading it.
#[derive(Clone, Copy)]
pub(in crate::store) struct UnreadHead {
    pub(in crate::store) place: Place,
    pub(in crate::store) position: PurgePosition,
    /// Seconds since the epoch, 0 if unknown.
    pub(in crate::store) expiry: u32,
    /// Whether other nodes may be told of the version; not if that is not known.
    pub(in crate::store) shared: bool,
}

/// An object that does not vary, whose one version is one record, on disk and not in memory. Its
/// record is filed under [`lean_id`], so neither variant nor version need be known to read it.
#[derive(Clone, Copy)]
pub(super) struct Lean {
    pub(super) object: ObjectId,
    segment: u32,
    offset: u32,
    /// Length of the record; the top bit says whether it was asked for since it was written, the next
    /// whether other nodes may be told of it.
    length: u32,
    position: u32,
    /// Seconds since the epoch, 0 if unknown.
    pub(super) expiry: u32,
}

const ACCESSED: u32 = 1 << 31;
const SHARED: u32 = 1 << 30;
const MARKS: u32 = ACCESSED | SHARED;

impl Lean {
    /// `None` if a number does not fit.
    pub(super) fn new(object: ObjectId, head: &UnreadHead) -> Option<Self> {
        let position = u32::try_from(head.position.0).ok()?;
        let Place { segment, offset, length } = head.place;
        let shared = if head.shared { SHARED } else { 0 };
        let fits = length & MARKS == 0;
        let (length, expiry) = (length | shared, head.expiry);
        fits.then_some(Self { object, segment, offset, length, position, expiry })
    }

    pub(super) fn place(&self) -> Place {
        Place { segment: self.segment, offset: self.offset, length: self.length & !MARKS }
    }

    /// The record was written again, as it was.
    pub(super) fn set_place(&mut self, place: Place) {
        let Place { segment, offset, length } = place;
        (self.segment, self.offset, self.length) = (segment, offset, length & !MARKS | self.length & SHARED);
    }

    pub(super) fn head(&self) -> UnreadHead {
        UnreadHead {
            place: self.place(),
            position: PurgePosition(u64::from(self.position)),
            expiry: self.expiry,
            shared: self.length & SHARED != 0,
        }
    }

    pub(super) fn touch(&mut self) {
        self.length |= ACCESSED;
    }

    /// Whether it was asked for since the last call.
    pub(super) fn take_accessed(&mut self) -> bool {
        let accessed = self.length & ACCESSED != 0;
        self.length &= !ACCESSED;
        accessed
    }
}

/// The identity of the record of an object that is all there is of it.
pub(in crate::store) fn lean_id(object: ObjectId) -> RecordId {
    RecordId { object, variant: VariantId::default(), version: VersionId::default(), index: 0 }
}

/// An object with all that can be known of it.
pub(super) struct Object {
    pub(super) id: ObjectId,
    /// The fields that the newest version varies by; all variants are kept under this list.
    pub(super) vary: Option<VaryList>,
    /// By publication, the oldest first.
    pub(super) variants: SmallVec<[Variant; 1]>,
    /// Whether the disk may have records of it, also of versions that are no longer here.
    pub(super) filed: bool,
}

/// The current version of a variant.
pub(in crate::store) struct Variant {
    /// The variant.
    pub(in crate::store) id: VariantId,
    /// Under what its records are filed; see [`lean_id`] and `seal::edition`.
    pub(in crate::store) edition: VersionId,
    /// Order of publication, unique in the store.
    pub(in crate::store) number: u64,
    pub(in crate::store) position: PurgePosition,
    /// Seconds since the epoch, 0 if unknown.
    pub(in crate::store) expiry: u32,
    /// Present while admitted to memory or waiting for the disk.
    pub(in crate::store) head: Option<Arc<Head>>,
    pub(in crate::store) tracked: Option<Tracked>,
    pub(in crate::store) queued: bool,
    /// Whether other nodes may be told of it: it is not personal, as far as is known.
    pub(in crate::store) shared: bool,
    pub(in crate::store) place: Option<Place>,
    pub(in crate::store) seal: Option<Place>,
    pub(in crate::store) body: Option<Arc<Body>>,
    /// Whether it was asked for since it was written.
    pub(in crate::store) accessed: bool,
}

impl Variant {
    /// The identity of its head record.
    pub(super) fn head_id(&self, object: ObjectId) -> RecordId {
        if self.is_lean() { lean_id(object) } else { self.record_id(object, 0) }
    }

    fn record_id(&self, object: ObjectId, index: u32) -> RecordId {
        RecordId { object, variant: self.id, version: self.edition, index }
    }

    /// Whether its one record says all.
    pub(super) fn is_lean(&self) -> bool {
        self.edition == VersionId::default()
    }

    pub(super) fn is_stay(&self, key: MemoryKey) -> bool {
        self.tracked.as_ref().is_some_and(|tracked| tracked.key() == key)
    }

    /// Lets the head go if nothing holds it, and says whether it is still somewhere.
    pub(super) fn drop_useless(&mut self) -> bool {
        if self.tracked.is_none() && !self.queued {
            self.head = None;
        }
        self.head.is_some() || self.place.is_some()
    }

    /// The place of the head or seal record.
    pub(super) fn place_of(&mut self, kind: RecordKind) -> &mut Option<Place> {
        if kind == RecordKind::Seal { &mut self.seal } else { &mut self.place }
    }

    /// Estimated bytes in the index, those of memory parts not counted.
    fn cost(&self) -> u64 {
        let body = |body: &Arc<Body>| {
            let hashes = body.hashes().map_or(0, |hashes| hashes.len() as u64);
            u64::from(body.slices()) * SLICE_COST + hashes * HASH_COST
        };
        VARIANT_COST + self.body.as_ref().map_or(0, body)
    }
}

impl Object {
    pub(super) fn new(id: ObjectId, vary: Option<VaryList>) -> Self {
        Self { id, vary, variants: SmallVec::new(), filed: false }
    }

    /// The object that a lean entry is about.
    pub(super) fn from_lean(lean: &mut Lean, number: u64) -> Self {
        let accessed = lean.take_accessed();
        let mut object = Self::found(lean.object, &lean.head(), number);
        object.variants[0].accessed = accessed;
        object
    }

    /// An object of which one record on disk says all.
    pub(super) fn found(id: ObjectId, head: &UnreadHead, number: u64) -> Self {
        let variant = Variant {
            // The variant of an object that does not vary is never asked for.
            id: VariantId::default(),
            edition: VersionId::default(),
            number,
            position: head.position,
            expiry: head.expiry,
            head: None,
            tracked: None,
            queued: false,
            shared: head.shared,
            place: Some(head.place),
            seal: None,
            body: None,
            accessed: false,
        };
        let mut object = Self { filed: true, ..Self::new(id, None) };
        object.variants.push(variant);
        object
    }

    /// The lean entry that says the same, if one can.
    pub(super) fn to_lean(&self) -> Option<Lean> {
        let [variant] = &self.variants[..] else { return None };
        if self.vary.is_some() || !variant.is_lean() || variant.head.is_some() {
            return None;
        }
        let Variant { position, expiry, shared, .. } = *variant;
        let mut lean = Lean::new(self.id, &UnreadHead { place: variant.place?, position, expiry, shared })?;
        if variant.accessed {
            lean.touch();
        }
        Some(lean)
    }

    /// The variant with that identity; any, if the object does not vary.
    pub(super) fn variant(&mut self, wanted: Option<VariantId>) -> Option<&mut Variant> {
        match wanted {
            Some(id) => self.variants.iter_mut().find(|variant| variant.id == id),
            None => self.variants.last_mut(),
        }
    }

    /// How other nodes are told of a variant. A lean entry does not know its own.
    pub(super) fn name(id: ObjectId, varies: bool, variant: VariantId) -> Name {
        (id, if varies { variant } else { key::variant(id, std::iter::empty()) })
    }

    pub(super) fn cost(&self) -> u64 {
        self.variants.iter().map(Variant::cost).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hashbrown::HashTable;

    /// The cost of a table goes from 8/7 to 16/7 of its entries as it fills and doubles. Objects
    /// come in any number, so the mean over one doubling, by the logarithm, is what one costs.
    #[test]
    fn a_lean_entry_costs_at_most_64_bytes_of_memory() {
        let mut table = HashTable::new();
        let hash = |lean: &Lean| u64::from(lean.offset).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (mut sum, mut weight) = (0.0, 0.0);
        for offset in 0..1u32 << 17 {
            let place = Place { segment: 0, offset, length: 1 };
            let head = UnreadHead { place, position: PurgePosition(0), expiry: 0, shared: true };
            let lean = Lean::new(ObjectId::default(), &head).unwrap();
            table.insert_unique(hash(&lean), lean, hash);
            let count = table.len() as f64;
            // One doubling: from one growth of the table to the next.
            if (57_345..=114_688).contains(&table.len()) {
                sum += table.allocation_size() as f64 / count / count;
                weight += 1.0 / count;
            }
        }
        let mean = sum / weight;
        assert!(mean <= LEAN_COST as f64, "{mean} bytes");
    }
}
