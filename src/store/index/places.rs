//! What the index answers and learns about the places of records, as the disk tier reuses segments.

use super::Index;
use super::entry::{SEAL_INDEX, Variant};
use super::shard::{Removed, Shard};
use crate::store::body::{Body, Left};
use crate::store::disk::{Fate, Place, RecordId, RecordKind};
use crate::store::usage::Departure;
use hashbrown::DefaultHashBuilder;
use std::sync::{Arc, Weak};

impl Index {
    /// What becomes of a record whose segment is to be reused.
    pub(in crate::store) fn fate(&self, kind: RecordKind, id: &RecordId, place: Place) -> Fate {
        if kind == RecordKind::Slice {
            return self.slice_fate(id, place);
        }
        let mut removed = Removed::default();
        let mut shard = self.shard_to_change(id.object, &mut removed);
        let (fate, left) = shard.fate(&self.hasher, kind, id, place, &mut removed);
        self.log_removed(&removed);
        drop(shard);
        if !left {
            self.depart(Departure::Reclaimed, 1);
        }
        fate
    }

    fn slice_fate(&self, id: &RecordId, place: Place) -> Fate {
        let Some((body, keep)) = self.shard(id.object).body(&self.hasher, id) else { return Fate::Gone };
        let (fate, left) = body.fate(id.index, place, keep);
        if left == Left::Broken {
            self.forget_edition(id.object, id.version, Departure::Reclaimed);
        }
        fate
    }

    /// A record is at another place now.
    pub(in crate::store) fn moved(&self, id: &RecordId, from: Place, to: Place) {
        let mut shard = self.shard(id.object);
        if let Some((body, _)) = slice_of(id).and_then(|_| shard.body(&self.hasher, id)) {
            drop(shard);
            body.moved(id.index, from, to);
        } else {
            shard.moved(&self.hasher, id, from, to);
        }
    }

    /// A record is no longer at `place`.
    pub(in crate::store) fn lost(&self, id: &RecordId, place: Place) {
        let kind = match id.index {
            0 => RecordKind::Head,
            SEAL_INDEX => RecordKind::Seal,
            _ => RecordKind::Slice,
        };
        let mut removed = Removed::default();
        let mut shard = self.shard_to_change(id.object, &mut removed);
        if let Some((body, _)) = slice_of(id).and_then(|_| shard.body(&self.hasher, id)) {
            drop(shard);
            if body.lost(id.index, place) == Left::Broken {
                self.forget_edition(id.object, id.version, Departure::Reclaimed);
            }
            return;
        }
        let left = shard.lose(&self.hasher, kind, id, place, &mut removed);
        self.log_removed(&removed);
        drop(shard);
        if !left {
            self.depart(Departure::Reclaimed, 1);
        }
    }
}

fn slice_of(id: &RecordId) -> Option<u32> {
    (id.index != 0 && id.index != SEAL_INDEX).then_some(id.index)
}

impl Shard {
    /// The fate of a head or seal. Returns also whether the version is left.
    pub(super) fn fate(
        &mut self,
        hasher: &DefaultHashBuilder,
        kind: RecordKind,
        id: &RecordId,
        place: Place,
        removed: &mut Removed,
    ) -> (Fate, bool) {
        if let Some(lean) = self.lean_mut(hasher, id.object) {
            if lean.place() != place {
                return (Fate::Gone, true);
            }
            if lean.take_accessed() {
                return (Fate::Keep, true);
            }
            self.remove(hasher, id.object, removed);
            return (Fate::Gone, false);
        }
        let Some(entry) = self.full_mut(hasher, id.object) else { return (Fate::Gone, true) };
        let mut variants = entry.variants.iter_mut();
        let Some(variant) =
            variants.find_map(|variant| (*variant.place_of(kind) == Some(place)).then_some(variant))
        else {
            return (Fate::Gone, true);
        };
        // The last record of a version to be reclaimed takes the mark away, so that all its
        // records have one fate.
        let last = kind == RecordKind::Seal || variant.seal.is_none();
        let accessed = variant.accessed;
        variant.accessed &= !last;
        if accessed {
            return (Fate::Keep, true);
        }
        (Fate::Gone, self.lose(hasher, kind, id, place, removed))
    }

    /// The head or seal is no longer at `place`. Returns whether the version is left.
    pub(super) fn lose(
        &mut self,
        hasher: &DefaultHashBuilder,
        kind: RecordKind,
        id: &RecordId,
        place: Place,
        removed: &mut Removed,
    ) -> bool {
        if self.lean_mut(hasher, id.object).is_some_and(|lean| lean.place() == place) {
            self.remove(hasher, id.object, removed);
            return false;
        }
        let lose = |variant: &mut Variant| {
            let held = variant.place_of(kind);
            if *held != Some(place) {
                return None;
            }
            *held = None;
            Some(variant.drop_useless())
        };
        !self.change(hasher, id.object, lose, removed)
    }

    /// The slices that a record belongs to, and whether they were asked for of late or are being read.
    pub(super) fn body(&mut self, hasher: &DefaultHashBuilder, id: &RecordId) -> Option<(Arc<Body>, bool)> {
        if let Some(entry) = self.full_mut(hasher, id.object)
            && let Some(variant) = entry.variants.iter().find(|variant| variant.edition == id.version)
        {
            let body = variant.body.as_ref()?;
            return Some((body.clone(), variant.accessed || Arc::strong_count(body) > 1));
        }
        // A fill's slices are needed until it ends; those of a replaced version go when their time comes.
        let fills = self.fills.get(&id.object).into_iter().flatten();
        if let Some(body) = fills.filter_map(|fill| fill.body()).find(|body| body.edition == id.version) {
            return Some((body.clone(), true));
        }
        let retired = self.retired.iter().filter_map(Weak::upgrade);
        retired
            .into_iter()
            .find(|body| body.object == id.object && body.edition == id.version)
            .map(|body| (body, false))
    }

    pub(super) fn moved(&mut self, hasher: &DefaultHashBuilder, id: &RecordId, from: Place, to: Place) {
        if let Some(lean) = self.lean_mut(hasher, id.object) {
            if lean.place() == from {
                lean.set_place(to);
            }
            return;
        }
        let Some(entry) = self.full_mut(hasher, id.object) else { return };
        for variant in &mut entry.variants {
            for place in [&mut variant.place, &mut variant.seal] {
                if *place == Some(from) {
                    *place = Some(to);
                }
            }
        }
    }
}
