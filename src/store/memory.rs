//! The memory tier: a ledger that counts what is held, and moka, which advises what to give up.
//!
//! The bytes belong to the index; here lives only their account. moka knows a key and a weight for
//! each part (a head or a slice) in memory. Its evictions and refusals are queued, and the owner
//! takes the bytes out of the index when it [settles](Memory::evicted): no moka call is made under a
//! lock of the index, and no index call under one of moka's.
//!
//! moka is kept off the hit path: one access in [`SAMPLE`] is noted in a bounded buffer and replayed
//! before the next maintenance. A key's hash is that of its variant and record, while the key is
//! unique to one stay in memory: so a part keeps its popularity over evictions and new versions, and
//! an eviction can never hit a later stay of the same part.
//!
//! Not counted here: records that wait for the disk and were not admitted (bounded by the disk's
//! queue), and the record that each fill is assembling.

use super::body::Body;
use crate::proto::key::{ObjectId, VariantId};
use bytes::Bytes;
use hashbrown::DefaultHashBuilder;
use moka::notification::RemovalCause;
use moka::sync::Cache;
use parking_lot::Mutex;
use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Bytes counted for each part beside its own: the entry in the index, the allocations around the
/// bytes, and moka's node, key, value and table slot. Measured: 477 for an object of one record.
pub(super) const ENTRY_OVERHEAD: u64 = 512;
/// One access in this many is told to moka, as this many.
const SAMPLE: u32 = 8;
/// Buffers of sampled accesses, so that threads seldom meet at one.
const SAMPLE_STRIPES: usize = 8;
/// Accesses that one buffer takes between two maintenances; more are not noted.
const SAMPLES_MAX: usize = 256;
/// moka's share of the bound is less by this part, at least [`SLACK_MIN`] and at most
/// [`SLACK_MAX`] bytes: room for newcomers until moka has chosen its victims.
const SLACK_DIVISOR: u64 = 8;
const SLACK_MIN: u64 = 2 * (crate::proto::object::layout::SLICE_SIZE + ENTRY_OVERHEAD);
const SLACK_MAX: u64 = 64 << 20;

/// Bytes held, never more than the bound.
pub(super) struct Ledger {
    used: AtomicU64,
    bound: u64,
}

/// Bytes taken from the ledger, given back on drop.
pub(super) struct Reservation {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Reservation {
    /// `bytes`, which keep this reservation until the last of their clones is gone, wherever it is:
    /// a body that a slow client still reads is counted although the index has let it go.
    pub(super) fn hold(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Counted { bytes, _reservation: self })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.ledger.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

struct Counted {
    bytes: Bytes,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// One stay of a part in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemoryKey {
    popularity: u64,
    ticket: u64,
}

impl Hash for MemoryKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.popularity);
    }
}

impl MemoryKey {
    /// The key under which accesses to a part that is not in memory are noted.
    pub(super) fn absent(object: ObjectId, variant: VariantId, index: u32) -> Self {
        let word = |id: &[u8; 16]| u64::from_le_bytes(*id.first_chunk().expect("16 bytes have 8"));
        // The ids are uniform; the odd factor spreads the records of a version.
        let record = u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { popularity: word(&object.0) ^ word(&variant.0).rotate_left(32) ^ record, ticket: 0 }
    }
}

/// Where a part is in the index.
#[derive(Clone)]
pub(super) enum Spot {
    /// A head of this object.
    Head(ObjectId),
    /// A slice.
    Slice(Weak<Body>, u32),
}

/// The stay of a part, kept beside its bytes; its end is told to moka.
pub(super) struct Tracked {
    key: MemoryKey,
    memory: Arc<Memory>,
}

impl Tracked {
    pub(super) fn key(&self) -> MemoryKey {
        self.key
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.memory.released.lock().push(self.key);
    }
}

/// The memory tier's account.
pub(super) struct Memory {
    ledger: Arc<Ledger>,
    cache: Cache<MemoryKey, (Spot, u32), DefaultHashBuilder>,
    tickets: AtomicU64,
    /// Stays that moka ended. Bounded by the parts in memory, like `released`.
    evicted: Arc<Mutex<Vec<(MemoryKey, Spot)>>>,
    /// Stays that the index ended.
    released: Mutex<Vec<MemoryKey>>,
    samples: [Mutex<Vec<MemoryKey>>; SAMPLE_STRIPES],
    /// Whether moka may have something to do.
    busy: AtomicBool,
    refusals: AtomicU64,
}

impl Memory {
    /// A tier of at most `bound` bytes; of none if that is too little for a few slices.
    pub(super) fn new(bound: u64) -> Arc<Self> {
        let slack = (bound / SLACK_DIVISOR).clamp(SLACK_MIN, SLACK_MAX);
        let evicted = Arc::new(Mutex::new(Vec::new()));
        let listener = {
            let evicted = evicted.clone();
            move |key: Arc<MemoryKey>, (spot, _): (Spot, u32), cause| {
                if cause == RemovalCause::Size {
                    evicted.lock().push((*key, spot));
                }
            }
        };
        let capacity = bound.saturating_sub(slack);
        let cache = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_: &MemoryKey, (_, weight): &(Spot, u32)| *weight)
            .eviction_listener(listener)
            .build_with_hasher(DefaultHashBuilder::default());
        Arc::new(Self {
            ledger: Arc::new(Ledger { used: AtomicU64::new(0), bound: if capacity > 0 { bound } else { 0 } }),
            cache,
            tickets: AtomicU64::new(1),
            evicted,
            released: Mutex::default(),
            samples: Default::default(),
            busy: AtomicBool::new(false),
            refusals: AtomicU64::new(0),
        })
    }

    /// Bytes held now.
    pub(super) fn used(&self) -> u64 {
        self.ledger.used.load(Ordering::Relaxed)
    }

    /// The bound of [`used`](Self::used).
    pub(super) fn bound(&self) -> u64 {
        self.ledger.bound
    }

    /// Parts that moka knows.
    pub(super) fn entries(&self) -> u64 {
        self.cache.entry_count()
    }

    /// Inserts that were refused because the bound would have been passed.
    pub(super) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Counts a refused insert.
    pub(super) fn refused(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes `bytes` from the ledger, if the bound allows.
    pub(super) fn reserve(&self, bytes: u64) -> Option<Reservation> {
        let bound = self.ledger.bound;
        let fits = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= bound);
        self.ledger.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Reservation { ledger: self.ledger.clone(), bytes })
    }

    /// A new stay of the part that `absent` names. moka knows it after [`enter`](Self::enter).
    pub(super) fn seat(self: &Arc<Self>, absent: MemoryKey) -> Tracked {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        Tracked { key: MemoryKey { ticket, ..absent }, memory: self.clone() }
    }

    /// Tells moka of a stay whose bytes are in the index already, so that an eviction finds them. The
    /// owner settles afterwards.
    pub(super) fn enter(&self, key: MemoryKey, spot: Spot, weight: u64) {
        self.busy.store(true, Ordering::Relaxed);
        // Counts the access, as no hit did: a part that is wanted again and again gets in.
        let _ = self.cache.get(&MemoryKey { ticket: 0, ..key });
        self.cache.insert(key, (spot, u32::try_from(weight).unwrap_or(u32::MAX)));
    }

    /// Ends a stay whose bytes left the index before [`enter`](Self::enter).
    pub(super) fn leave(&self, key: MemoryKey) {
        self.released.lock().push(key);
    }

    /// Notes one access in [`SAMPLE`].
    pub(super) fn touch(&self, key: MemoryKey) {
        thread_local!(static TURN: Cell<u32> = const { Cell::new(0) });
        let turn = TURN.get().wrapping_add(1);
        TURN.set(turn);
        if !turn.is_multiple_of(SAMPLE) {
            return;
        }
        let stripe = &self.samples[(turn / SAMPLE) as usize % SAMPLE_STRIPES];
        if let Some(mut stripe) = stripe.try_lock()
            && stripe.len() < SAMPLES_MAX
        {
            stripe.push(key);
            self.busy.store(true, Ordering::Relaxed);
        }
    }

    /// Whether there was something to do since the last call.
    pub(super) fn take_busy(&self) -> bool {
        self.busy.swap(false, Ordering::Relaxed) || !self.released.lock().is_empty()
    }

    /// Replays the sampled accesses and lets moka choose its victims.
    pub(super) fn maintain(&self) {
        for stripe in &self.samples {
            let keys = std::mem::take(&mut *stripe.lock());
            for key in keys {
                for _ in 0..SAMPLE {
                    let _ = self.cache.get(&key);
                }
            }
        }
        self.cache.run_pending_tasks();
    }

    /// The stays that moka ended: the owner takes their bytes out of the index.
    pub(super) fn evicted(&self) -> Vec<(MemoryKey, Spot)> {
        std::mem::take(&mut *self.evicted.lock())
    }

    /// Tells moka of the stays that the index ended. Returns whether there were any.
    pub(super) fn forget_released(&self) -> bool {
        let keys = std::mem::take(&mut *self.released.lock());
        for key in &keys {
            self.cache.invalidate(key);
        }
        !keys.is_empty()
    }
}
