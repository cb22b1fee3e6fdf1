//! The start: what the records found on disk add up to.
//!
//! Records come oldest first. A lean head is an object by itself. All other versions are complete
//! only with head, seal and every slice, in whatever order: reclaim writes records again, which
//! makes them later than those they were written with. Of two versions of a variant, the one with
//! the later head is current: reclaim moves only what is current. A `Drop` ends all before it.

use super::VaryList;
use super::body::Body;
use super::disk::{Found, Place, RecordId, RecordKind};
use super::filling::BODY_MAX;
use super::index::{Index, UnreadHead, Variant, lean_id};
use super::inner::Inner;
use super::seal::Seal;
use crate::proto::key::ObjectId;
use crate::proto::object::{PurgePosition, layout};
use hashbrown::HashMap;
use std::sync::{Arc, Weak};

/// The sum so far. Bounded by the records on disk.
pub(super) struct Recovery<'a> {
    index: &'a Index,
    inner: Weak<Inner>,
    building: HashMap<ObjectId, Versions>,
    newest: u64,
    newest_position: Option<PurgePosition>,
}

/// The versions of an object that need a seal.
#[derive(Default)]
struct Versions {
    building: HashMap<RecordId, Building>,
    /// The latest lean head: versions with heads before it were replaced.
    lean: u64,
}

/// A version whose records are not known to be complete.
#[derive(Default)]
struct Building {
    head: Option<FoundHead>,
    slices: HashMap<u32, Place>,
    seal: Option<(FoundSeal, Place)>,
}

struct FoundHead {
    at: UnreadHead,
    sequence: u64,
}

impl From<Found> for UnreadHead {
    fn from(found: Found) -> Self {
        Self { place: found.place, position: found.position, expiry: found.expiry, shared: found.shared }
    }
}

struct FoundSeal {
    length: u64,
    vary: Option<VaryList>,
    hashes: Arc<[[u8; 32]]>,
}

impl<'a> Recovery<'a> {
    pub(super) fn new(inner: &'a Arc<Inner>) -> Self {
        let index = &inner.index;
        Self {
            index,
            inner: Arc::downgrade(inner),
            building: HashMap::new(),
            newest: 0,
            newest_position: None,
        }
    }

    /// Takes the next record in.
    pub(super) fn handle_found(&mut self, found: Found) {
        self.newest = self.newest.max(found.sequence);
        self.newest_position = self.newest_position.max(Some(found.position));
        let object = found.id.object;
        match found.kind {
            RecordKind::Drop => {
                self.building.remove(&object);
                self.index.unrestore(object);
            }
            RecordKind::Head if found.id == lean_id(object) => {
                if let Some(versions) = self.building.get_mut(&object) {
                    versions.lean = found.sequence;
                }
                self.index.restore_lean(object, &found.into());
            }
            RecordKind::Head => {
                let (id, sequence) = (found.id, found.sequence);
                self.building(id).head = Some(FoundHead { at: found.into(), sequence });
            }
            RecordKind::Slice => {
                self.building(found.id).slices.insert(found.id.index, found.place);
            }
            RecordKind::Seal => {
                if let Some(seal) = Seal::decode(&found.payload) {
                    let vary = (!seal.vary.is_empty()).then(|| seal.vary.into_iter().collect::<VaryList>());
                    let seal = FoundSeal { length: seal.length, vary, hashes: seal.hashes.into() };
                    self.building(found.id).seal = Some((seal, found.place));
                }
            }
        }
    }

    fn building(&mut self, id: RecordId) -> &mut Building {
        let versions = self.building.entry(id.object).or_default();
        versions.building.entry(RecordId { index: 0, ..id }).or_default()
    }

    /// Makes the complete versions visible.
    pub(super) fn finish(self) -> Option<PurgePosition> {
        for (object, versions) in self.building {
            let building = versions.building.into_iter();
            let complete = building.filter_map(|(id, building)| building.complete(id, &self.inner));
            let mut complete: Vec<_> =
                complete.filter(|(_, variant)| variant.number > versions.lean).collect();
            complete.sort_by_key(|(_, variant)| variant.number);
            for (vary, variant) in complete {
                self.index.publish(object, vary, variant, None);
            }
        }
        self.index.resume(self.newest);
        self.newest_position
    }
}

impl Building {
    fn complete(self, id: RecordId, inner: &Weak<Inner>) -> Option<(Option<VaryList>, Variant)> {
        let (head, (seal, seal_place)) = (self.head?, self.seal?);
        if seal.length > BODY_MAX {
            return None;
        }
        let last = layout::record_count(seal.length) - 1;
        let places = (1..=last).map(|index| self.slices.get(&index).copied()).collect::<Option<Vec<_>>>()?;
        let body = (!places.is_empty()).then(|| Arc::new(Body::on_disk(id, inner.clone(), places)));
        if let Some(body) =
            body.as_ref().filter(|_| seal.hashes.len() == layout::chunk_count(seal.length) as usize)
        {
            body.set_hashes(seal.hashes);
        }
        let UnreadHead { place, position, expiry, shared } = head.at;
        let variant = Variant {
            id: id.variant,
            edition: id.version,
            number: head.sequence,
            position,
            expiry,
            head: None,
            tracked: None,
            queued: false,
            shared,
            place: Some(place),
            seal: Some(seal_place),
            body,
            accessed: false,
        };
        Some((seal.vary, variant))
    }
}
