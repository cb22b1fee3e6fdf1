//! A stored version in the hands of a request, and how it is read from disk.

use super::body::Body;
use super::disk::ReadError;
use super::index::{Anchor, Located, NewHead, Probe};
use super::inner::Inner;
use super::memory::MemoryKey;
use super::usage::Departure;
use super::{Lookup, MissReason, VaryList};
use crate::proto::key::{ObjectId, VariantId};
use crate::proto::object::{Head, layout};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// Reads of a head that moves from place to place under us.
const READ_TRIES: u32 = 3;
/// A head without the hash of its body.
const UNKNOWN: [u8; 32] = [0; 32];

pub use crate::proto::plan::Tier;

/// A version on disk, as the index knows it.
pub struct OnDisk {
    pub(super) located: Located,
    /// The key asked for, to be compared with the one in the head; `None`: the caller compares.
    pub(super) key: Option<Box<[u8]>>,
}

/// Why a stored part could not be had. All mean a miss or, within a body, a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It is no longer stored, or is another key's.
    #[error("no longer stored")]
    Gone,
    /// It was damaged; it is forgotten.
    #[error("damaged on disk")]
    Damaged,
    /// The disk failed, and it is forgotten, or the disk is closed.
    #[error("disk failed")]
    Disk,
}

impl LoadError {
    /// The one name of this error.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Damaged => "damaged",
            Self::Disk => "disk_failed",
        }
    }
}

/// A stored version. Clones are cheap. What it was found with stays readable while its parts are
/// there, also when a newer version has taken its place.
#[derive(Clone)]
pub struct Hit {
    /// Its head with the first body bytes.
    pub head: Arc<Head>,
    /// Where the head was found.
    pub tier: Tier,
    pub(super) object: ObjectId,
    pub(super) anchor: Anchor,
    pub(super) body: Option<Arc<Body>>,
    /// Slices that stay readable also when memory gives them up, in their order.
    pub(super) pinned: Option<Arc<[(u32, Bytes)]>>,
}

impl Hit {
    /// Keeps the body bytes `range` readable as far as memory alone has them, for as long as this is kept: who has begun to
    /// send a body cannot take it back. What is kept stays counted in the ledger of memory.
    ///
    /// # Errors
    /// If some of them are not there any more.
    pub fn pin(&mut self, range: Range<u64>) -> Result<(), LoadError> {
        let (Some(body), false) = (&self.body, range.is_empty()) else { return Ok(()) };
        let slices = layout::record_at(range.start).max(1)..=layout::record_at(range.end - 1);
        let pinned = body.pinned(slices).ok_or(LoadError::Gone)?;
        self.pinned = Some(pinned).filter(|pinned| !pinned.is_empty()).map(Arc::from);
        Ok(())
    }

    /// Record `index` (from 1; record 0's body is `head.body()`) if it is in memory.
    pub fn record_now(&self, index: u32) -> Option<Bytes> {
        self.body.as_ref()?.held(index).or_else(|| {
            let pinned = self.pinned.as_ref()?;
            let at = pinned.binary_search_by_key(&index, |(pinned, _)| *pinned).ok()?;
            Some(pinned[at].1.clone())
        })
    }

    /// BLAKE3 of each chunk of the body, if it is known; of an empty body, none.
    pub(super) fn chunk_hashes(&self) -> Option<Arc<[[u8; 32]]>> {
        match layout::chunk_count(self.head.length?) {
            0 => Some([].into()),
            1 => Some(self.head.digest()).filter(|digest| *digest != UNKNOWN).map(|digest| [digest].into()),
            _ => self.body.as_ref()?.hashes().cloned(),
        }
    }

    /// Record `index` (from 1), from memory or disk.
    ///
    /// # Errors
    /// If it cannot be had any more; the version is forgotten then.
    pub async fn record(&self, index: u32) -> Result<Bytes, LoadError> {
        if let Some(bytes) = self.record_now(index) {
            return Ok(bytes);
        }
        match &self.body {
            Some(body) if (1..=body.slices()).contains(&index) => body.read(index).await,
            _ => Err(LoadError::Gone),
        }
    }
}

impl Inner {
    /// Looks an object up, and compares its key with `key` if there is one.
    pub(super) fn look_up(
        &self,
        object: ObjectId,
        key: Option<&[u8]>,
        variant_of: impl FnOnce(&VaryList) -> VariantId,
    ) -> Lookup {
        let mut probe = self.index.probe(object, None);
        if let Probe::Varies(list) = &probe {
            let variant = variant_of(list);
            // A list that changed just now needs another variant: a miss, like one moment later.
            probe = self.index.probe(object, Some((list, variant)));
        }
        match probe {
            Probe::Held { head, .. } if key.is_some_and(|key| head.key() != key) => {
                Lookup::Miss(MissReason::Uri)
            }
            Probe::Held { head, number, body, stay } => {
                if let Some(stay) = stay {
                    self.memory.touch(stay);
                }
                Lookup::Memory(Hit {
                    head,
                    tier: Tier::Memory,
                    object,
                    anchor: Anchor::Number(number),
                    body,
                    pinned: None,
                })
            }
            Probe::OnDisk(located) => Lookup::OnDisk(OnDisk { located, key: key.map(Into::into) }),
            Probe::Miss(reason) => Lookup::Miss(reason),
            Probe::Varies(_) => Lookup::Miss(MissReason::Vary),
        }
    }

    /// Reads a head, checks that it is what was asked for, and puts it into memory if there is room.
    pub(super) async fn load(&self, on_disk: OnDisk) -> Result<Hit, LoadError> {
        let OnDisk { mut located, key } = on_disk;
        let block = self.read_head(&mut located).await?;
        let object = located.id.object;
        let resident = located.body.as_ref().map_or(0, |body| body.resident());
        let decoded = self.decode_head(block, resident);
        let Some((head, admitted)) = decoded.filter(|(head, _)| fits(head, &located)) else {
            self.index.forget(object, located.anchor, Departure::Damaged);
            return Err(LoadError::Damaged);
        };
        if key.is_some_and(|key| head.key() != &*key) {
            return Err(LoadError::Gone);
        }
        let absent = MemoryKey::absent(object, head.variant, 0);
        let Located { mut anchor, body, .. } = located;
        if admitted {
            let tracked = self.memory.seat(absent);
            let stay = tracked.key();
            let new =
                NewHead { variant: head.variant, head: head.clone(), tracked: Some(tracked), renewal: None };
            if let Some(number) = self.index.swap_head(object, anchor, new) {
                anchor = Anchor::Number(number);
                self.enter_head(object, stay, &head);
            }
        }
        Ok(Hit { head, tier: Tier::Disk, object, anchor, body, pinned: None })
    }

    async fn read_head(&self, located: &mut Located) -> Result<Bytes, LoadError> {
        let Some(disk) = self.disk() else { return Err(LoadError::Gone) };
        for _ in 0..READ_TRIES {
            let error = match disk.read(located.place, &located.id).await {
                Ok(block) => return Ok(block),
                Err(ReadError::Closed) => return Err(LoadError::Disk),
                Err(error) => error,
            };
            match self.index.locate(&located.id, located.anchor) {
                // Reclaim wrote it again elsewhere, after the lookup.
                Some(place) if place != located.place => {
                    located.place = place;
                    if matches!(located.anchor, Anchor::Lean(_)) {
                        located.anchor = Anchor::Lean(place);
                    }
                }
                Some(_) => {
                    self.index.forget(located.id.object, located.anchor, Departure::Damaged);
                    return Err(if matches!(error, ReadError::Io(_)) {
                        LoadError::Disk
                    } else {
                        LoadError::Damaged
                    });
                }
                None => return Err(LoadError::Gone),
            }
        }
        Err(LoadError::Gone)
    }
}

/// Whether a head is one of the kind that the index expects at its place.
fn fits(head: &Head, located: &Located) -> bool {
    let lean = located.id == super::index::lean_id(located.id.object);
    let varies = !head.selecting().is_empty();
    head.whole == located.body.is_none() && (!lean || !varies) && (lean || head.variant == located.id.variant)
}
