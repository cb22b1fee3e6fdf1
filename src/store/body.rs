//! The slices of a version of several records: where each is, and its bytes while in memory.
//!
//! Owned by the index, by fills and by the hits that read it: a version that was replaced stays
//! readable for those who have begun, as long as its slices are there.

use super::disk::{Fate, Place, ReadError, RecordId};
use super::hit::LoadError;
use super::inner::Inner;
use super::memory::{ENTRY_OVERHEAD, MemoryKey, Spot, Tracked};
use super::usage::{Departure, Whereabouts};
use crate::proto::key::{ObjectId, VariantId, VersionId};
use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock, Weak};

/// Reads of a slice that moves from place to place under us.
const READ_TRIES: u32 = 3;
/// A slice that is not on disk.
const NOWHERE: Place = Place { segment: 0, offset: 0, length: 0 };

/// What a change left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Left {
    /// Every slice is still somewhere.
    Complete,
    /// A slice is gone: the version can no longer be served.
    Broken,
}

/// The slices of a version.
pub(super) struct Body {
    pub(super) object: ObjectId,
    pub(super) variant: VariantId,
    /// Under what its records are filed on disk.
    pub(super) edition: VersionId,
    inner: Weak<Inner>,
    parts: Mutex<Parts>,
    /// BLAKE3 of each chunk, once the version is complete; of a single one the head has it.
    hashes: OnceLock<Arc<[[u8; 32]]>>,
}

#[derive(Default)]
struct Parts {
    /// Place of slice `i + 1`.
    places: Vec<Place>,
    held: HashMap<u32, Held>,
    /// Bytes admitted to memory.
    resident: u64,
    broken: bool,
}

/// A slice in memory: admitted, or waiting for the disk, or both.
struct Held {
    bytes: Bytes,
    tracked: Option<Tracked>,
    queued: bool,
}

impl Body {
    /// A body without slices yet.
    pub(super) fn new(object: ObjectId, variant: VariantId, edition: VersionId, inner: Weak<Inner>) -> Self {
        Self { object, variant, edition, inner, parts: Mutex::default(), hashes: OnceLock::new() }
    }

    /// A body all of whose slices are on disk, in order.
    pub(super) fn on_disk(id: RecordId, inner: Weak<Inner>, places: Vec<Place>) -> Self {
        let parts = Mutex::new(Parts { places, ..Parts::default() });
        let hashes = OnceLock::new();
        Self { object: id.object, variant: id.variant, edition: id.version, inner, parts, hashes }
    }

    /// Notes the hashes of the chunks, before the version becomes visible.
    pub(super) fn set_hashes(&self, hashes: Arc<[[u8; 32]]>) {
        if hashes.len() > 1 {
            let _ = self.hashes.set(hashes);
        }
    }

    /// The hashes of the chunks of a body of several.
    pub(super) fn hashes(&self) -> Option<&Arc<[[u8; 32]]>> {
        self.hashes.get()
    }

    /// Identity of a slice on disk.
    pub(super) fn record_id(&self, index: u32) -> RecordId {
        RecordId { object: self.object, variant: self.variant, version: self.edition, index }
    }

    /// Number of slices begun.
    pub(super) fn slices(&self) -> u32 {
        self.parts.lock().places.len() as u32
    }

    /// Bytes admitted to memory.
    pub(super) fn resident(&self) -> u64 {
        self.parts.lock().resident
    }

    /// Whether a slice was lost.
    pub(super) fn is_broken(&self) -> bool {
        self.parts.lock().broken
    }

    /// Takes in the next slice. Slices come in order.
    pub(super) fn push(&self, bytes: Bytes, tracked: Option<Tracked>, queued: bool) -> Left {
        let mut parts = self.parts.lock();
        parts.places.push(NOWHERE);
        let index = parts.places.len() as u32;
        parts.hold(index, Held { bytes, tracked, queued });
        parts.drop_useless(index)
    }

    /// A slice from memory. Costs one short lock and a clone.
    pub(super) fn held(&self, index: u32) -> Option<Bytes> {
        let (bytes, key) = {
            let parts = self.parts.lock();
            let held = parts.held.get(&index)?;
            (held.bytes.clone(), held.tracked.as_ref().map(Tracked::key))
        };
        if let (Some(key), Some(inner)) = (key, self.inner.upgrade()) {
            inner.memory.touch(key);
        }
        Some(bytes)
    }

    /// Those of these slices that memory alone has. `None` if one of them is nowhere any more.
    pub(super) fn pinned(&self, slices: RangeInclusive<u32>) -> Option<Vec<(u32, Bytes)>> {
        let parts = self.parts.lock();
        let only = slices.filter(|index| parts.place(*index).is_none());
        only.map(|index| Some((index, parts.held.get(&index)?.bytes.clone()))).collect()
    }

    /// A slice from memory or disk. One that cannot be had any more takes the version with it.
    pub(super) async fn read(self: &Arc<Self>, index: u32) -> Result<Bytes, LoadError> {
        for _ in 0..READ_TRIES {
            if let Some(bytes) = self.held(index) {
                return Ok(bytes);
            }
            let Some(inner) = self.inner.upgrade() else { return Err(LoadError::Gone) };
            let place = self.place(index);
            let (Some(place), Some(disk)) = (place, inner.disk()) else {
                return Err(self.fail(&inner, LoadError::Gone));
            };
            match disk.read(place, &self.record_id(index)).await {
                Ok(bytes) => return Ok(self.promote(&inner, index, bytes)),
                Err(ReadError::Stale) if self.place(index) != Some(place) => {}
                Err(ReadError::Closed) => return Err(LoadError::Disk),
                Err(error) => {
                    let error = match error {
                        ReadError::Io(_) => LoadError::Disk,
                        ReadError::Damaged => LoadError::Damaged,
                        ReadError::Stale | ReadError::Closed => LoadError::Gone,
                    };
                    let _ = self.lost(index, place);
                    return Err(self.fail(&inner, error));
                }
            }
        }
        Err(LoadError::Gone)
    }

    fn place(&self, index: u32) -> Option<Place> {
        self.parts.lock().place(index)
    }

    fn fail(&self, inner: &Inner, error: LoadError) -> LoadError {
        let departure = if error == LoadError::Gone { Departure::Incomplete } else { Departure::Damaged };
        inner.index.forget_edition(self.object, self.edition, departure);
        error
    }

    /// Puts a slice read from disk into memory, if there is room for it.
    fn promote(self: &Arc<Self>, inner: &Inner, index: u32, bytes: Bytes) -> Bytes {
        let Some(reservation) = inner.reserve(self.resident(), bytes.len() as u64) else { return bytes };
        let bytes = reservation.hold(bytes);
        let tracked = inner.memory.seat(MemoryKey::absent(self.object, self.variant, index));
        let key = tracked.key();
        {
            let mut parts = self.parts.lock();
            if parts.held.contains_key(&index) {
                return bytes;
            }
            parts.hold(index, Held { bytes: bytes.clone(), tracked: Some(tracked), queued: false });
        }
        self.enter(inner, index, key, bytes.len());
        bytes
    }

    /// Tells moka of a slice that is in place.
    pub(super) fn enter(self: &Arc<Self>, inner: &Inner, index: u32, key: MemoryKey, length: usize) {
        let spot = Spot::Slice(Arc::downgrade(self), index);
        inner.memory.enter(key, spot, length as u64 + ENTRY_OVERHEAD);
        let held = self.parts.lock().held.get(&index).is_some_and(|held| held.is(key));
        if !held {
            inner.memory.leave(key);
        }
        inner.settle();
    }

    /// moka gave the slice up.
    pub(super) fn evict(&self, index: u32, key: MemoryKey) -> Left {
        self.parts.lock().end_stay(index, |held| held.is(key))
    }

    /// The slice was written to disk, or could not be.
    pub(super) fn written(&self, index: u32, place: Option<Place>) -> Left {
        let mut parts = self.parts.lock();
        if let Some(place) = place.filter(|_| !parts.broken) {
            parts.places[index as usize - 1] = place;
        }
        if let Some(held) = parts.held.get_mut(&index) {
            held.queued = false;
        }
        parts.drop_useless(index)
    }

    /// What becomes of the slice at `place`, whose segment is to be reused.
    pub(super) fn fate(&self, index: u32, place: Place, keep: bool) -> (Fate, Left) {
        let mut parts = self.parts.lock();
        if parts.place(index) != Some(place) {
            return (Fate::Gone, Left::Complete);
        }
        if keep && !parts.broken {
            return (Fate::Keep, Left::Complete);
        }
        (Fate::Gone, parts.displace(index))
    }

    /// The slice is at another place now.
    pub(super) fn moved(&self, index: u32, from: Place, to: Place) {
        let mut parts = self.parts.lock();
        if parts.place(index) == Some(from) {
            parts.places[index as usize - 1] = to;
        }
    }

    /// The slice is no longer at `place`.
    pub(super) fn lost(&self, index: u32, place: Place) -> Left {
        let mut parts = self.parts.lock();
        if parts.place(index) == Some(place) { parts.displace(index) } else { Left::Complete }
    }

    /// Lets go of everything: the fill was given up.
    pub(super) fn abandon(&self) {
        let held = {
            let mut parts = self.parts.lock();
            parts.broken = true;
            parts.resident = 0;
            parts.places.fill(NOWHERE);
            std::mem::take(&mut parts.held)
        };
        drop(held);
    }

    #[cfg(test)]
    pub(super) fn stay(&self, index: u32) -> Option<MemoryKey> {
        self.parts.lock().held.get(&index)?.tracked.as_ref().map(Tracked::key)
    }

    /// Where each slice is.
    pub(super) fn whereabouts(&self) -> Vec<Whereabouts> {
        let parts = self.parts.lock();
        (1..=parts.places.len() as u32)
            .map(|index| {
                let held = parts.held.get(&index);
                Whereabouts {
                    memory: held.is_some_and(|held| held.tracked.is_some()),
                    queued: held.is_some_and(|held| held.queued),
                    disk: parts.place(index).is_some(),
                }
            })
            .collect()
    }
}

impl Held {
    fn is(&self, key: MemoryKey) -> bool {
        self.tracked.as_ref().is_some_and(|tracked| tracked.key() == key)
    }
}

impl Parts {
    fn place(&self, index: u32) -> Option<Place> {
        let at = (index as usize).checked_sub(1)?;
        self.places.get(at).copied().filter(|&place| place != NOWHERE)
    }

    fn hold(&mut self, index: u32, held: Held) {
        if held.tracked.is_some() {
            self.resident += held.bytes.len() as u64;
        }
        self.held.insert(index, held);
    }

    fn end_stay(&mut self, index: u32, is: impl FnOnce(&Held) -> bool) -> Left {
        if let Some(held) = self.held.get_mut(&index)
            && is(held)
        {
            held.tracked = None;
            self.resident -= held.bytes.len() as u64;
        }
        self.drop_useless(index)
    }

    fn displace(&mut self, index: u32) -> Left {
        self.places[index as usize - 1] = NOWHERE;
        self.drop_useless(index)
    }

    /// Lets the bytes go that nothing holds, and says whether the slice is still somewhere.
    fn drop_useless(&mut self, index: u32) -> Left {
        if self.held.get(&index).is_some_and(|held| held.tracked.is_none() && !held.queued) {
            self.held.remove(&index);
        }
        if self.held.contains_key(&index) || self.place(index).is_some() {
            return Left::Complete;
        }
        self.broken = true;
        Left::Broken
    }
}
