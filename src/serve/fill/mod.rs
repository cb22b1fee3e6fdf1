//! Fills: one fetch in progress for each object (or variant, once the object is known to vary),
//! followed by every request that wants it.
//!
//! ```text
//! Asking ─┬─ Streaming ─┬─ Complete        stored (or at least delivered) whole
//!         │             └─ Broken          the body failed: readers are cut
//!         ├─ Refreshed                     304: the stored version lives on, or at least answers the initiator
//!         ├─ NotStored                     the initiator takes the response, others go alone
//!         ├─ Unfit                         a peer's response is of another variant: readers plan anew
//!         └─ Failed                        no response
//! ```
//! A fill belongs to this table and to its leader task, not to the client that began it: that
//! client may leave. The table holds a fill from `Asking` until it is sealed in the store or has
//! failed, so whoever misses in the store finds either the fill or, looking again, the result.
//!
//! A fill knows the purge position at which it began. Whoever wants to join compares it with that of now: a fill that a purge
//! overtook serves those who read it already, and nobody new.
//!
//! The window keeps the bytes that readers have yet to take. A reader that falls out of it reads
//! finished records from the store.

mod follower;
mod leader;
mod reader;

pub(super) use follower::{Followed, Follower};
pub(super) use leader::{Leader, Pace};
pub(super) use reader::{Outcome, Piece, Reader};

use super::failure::Failure;
use crate::body::Interim;
use crate::origin::Fetched;
use crate::proto::key::{self, CacheKey, ObjectId, VariantId};
use crate::proto::object::{HeadDraft, PurgePosition};
use crate::proto::purge::{Judgement, Subject};
use crate::proto::semantics::{NotStorable, ResponseFacts, VaryList};
use crate::proto::swarm::{NodeId, Token};
use crate::proto::verdict::Source;
use crate::purge::Purges;
use crate::store::{Hit, Partial};
use bytes::Bytes;
use hashbrown::HashMap;
use http::HeaderMap;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

/// Bytes that a fill keeps for its readers at most.
pub(super) const WINDOW_BYTES: u64 = 8 << 20;
/// Consumed bytes that are kept for requests that join late.
const KEEP_BYTES: u64 = 1 << 20;
/// How long a full window waits for a reader when the store does not back it.
pub(super) const LAGGARD_WAIT: Duration = Duration::from_secs(30);
/// Readers of one fill at most; further requests go alone. Bounds the work of one wake-up.
const READERS_MAX: usize = 65_536;
const SHARDS: usize = 64;
/// Parts of a body up to this length are joined.
const SCRAP_BYTES: usize = 1024;

/// The fills in progress of one node.
pub struct FillTable {
    purges: Purges,
    shards: Vec<Mutex<Shard>>,
    open: AtomicUsize,
}

/// The fills of each object, with the variant under which each can be joined, if it can.
type Shard = HashMap<ObjectId, SmallVec<[(Option<VariantId>, Arc<Fill>); 1]>>;

/// What joining led to.
pub enum Joined {
    /// Nobody fetches it yet: the caller must, with this leader, and may read with this reader.
    Lead(Leader, Reader),
    /// Somebody does.
    Follow(Reader),
    /// The check under the table's lock found that it need not be fetched any more.
    Settled,
    /// The fill has too many readers, or its start is gone.
    Alone,
}

impl FillTable {
    /// An empty table; `purges` are those that may overtake its fills.
    pub fn new(purges: Purges) -> Self {
        Self { purges, shards: (0..SHARDS).map(|_| Mutex::default()).collect(), open: AtomicUsize::new(0) }
    }

    /// Joins the fill of `variant`, unless a purge overtook it, or begins one. `settled` looks once more for the result of a
    /// fill that ended between the caller's look-up and now; it is called under the table's lock.
    pub fn join(
        self: &Arc<Self>,
        (object, key): (ObjectId, &CacheKey),
        variant: VariantId,
        settled: impl FnOnce() -> bool,
    ) -> Joined {
        let mut shard = self.shard(object).lock();
        let fills = shard.get_mut(&object).into_iter().flatten();
        if let Some((listed, fill)) = fills.into_iter().find(|(listed, _)| *listed == Some(variant)) {
            // Compared here and not when a purge is applied: a request that comes after a purge sees its position.
            if !self.is_overtaken(fill) {
                return match Reader::join(fill, 0, false) {
                    Some(reader) => Joined::Follow(reader),
                    None => Joined::Alone,
                };
            }
            // What the new fill brings must not be replaced by what this one does.
            *listed = None;
            fill.doomed.store(true, Ordering::Release);
        }
        if settled() {
            return Joined::Settled;
        }
        let fill = Arc::new(Fill::new(object, key.clone(), self.purges.position()));
        shard.entry(object).or_default().push((Some(variant), Arc::clone(&fill)));
        drop(shard);
        let (leader, reader) = self.lead(fill);
        Joined::Lead(leader, reader)
    }

    /// Begins a fill that nobody else can join.
    pub fn alone(self: &Arc<Self>, of: (ObjectId, &CacheKey)) -> (Leader, Reader) {
        self.alone_since(of, self.purges.position())
    }

    /// Begins a fill that nobody else can join, of what was asked for at that purge position.
    pub fn alone_since(
        self: &Arc<Self>,
        (object, key): (ObjectId, &CacheKey),
        position: PurgePosition,
    ) -> (Leader, Reader) {
        let fill = Arc::new(Fill::new(object, key.clone(), position));
        self.shard(object).lock().entry(object).or_default().push((None, Arc::clone(&fill)));
        self.lead(fill)
    }

    /// What purges that came after it began make of a fill. While its fields are not known, any tag may be among them.
    fn judge(&self, fill: &Fill) -> Judgement {
        if fill.position >= self.purges.position() {
            return Judgement::Clear;
        }
        // A key that cannot be read was never asked for.
        let Some(key) = key::decode(fill.key.as_bytes()) else { return Judgement::Hard };
        let phase = fill.state.lock().phase.clone();
        let fields = match &phase {
            Phase::Streaming(arriving) | Phase::Complete(arriving, _) | Phase::Broken(arriving, _) => {
                Some(&arriving.draft.fields)
            }
            _ => None,
        };
        self.purges.judge_since(&Subject { key, fields }, fill.position)
    }

    fn is_overtaken(&self, fill: &Fill) -> bool {
        self.judge(fill) != Judgement::Clear
    }

    /// Takes all fills of `object` out of the table: they serve those who read them, and nobody new,
    /// and what they bring is not kept, also if its head has yet to come. To be called before the
    /// store invalidates the object.
    pub fn doom(&self, object: ObjectId) {
        let doomed = self.shard(object).lock().remove(&object);
        for (_, fill) in doomed.into_iter().flatten() {
            fill.doomed.store(true, Ordering::Release);
        }
    }

    /// Whether anything of `object` is being fetched.
    pub fn has(&self, object: ObjectId) -> bool {
        self.shard(object).lock().contains_key(&object)
    }

    /// Fills in progress, joined or alone.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn lead(self: &Arc<Self>, fill: Arc<Fill>) -> (Leader, Reader) {
        self.open.fetch_add(1, Ordering::Relaxed);
        let reader = Reader::join(&fill, 0, true).expect("a new fill has room for its initiator");
        (Leader { fill, table: Arc::clone(self), ended: false }, reader)
    }

    fn remove(&self, fill: &Arc<Fill>) {
        let mut shard = self.shard(fill.object).lock();
        if let Some(fills) = shard.get_mut(&fill.object) {
            fills.retain(|(_, other)| !Arc::ptr_eq(other, fill));
            if fills.is_empty() {
                shard.remove(&fill.object);
            }
        }
    }

    /// Lists `fill` under the variant that its response turned out to be, so that requests that
    /// select this variant join it, and those that select another do not. If another fill already
    /// stands there, this one can no longer be joined.
    fn relist(&self, fill: &Arc<Fill>, variant: VariantId) {
        let mut shard = self.shard(fill.object).lock();
        let Some(fills) = shard.get_mut(&fill.object) else { return };
        let stands = fills.iter().any(|(key, other)| *key == Some(variant) && !Arc::ptr_eq(other, fill));
        let can_be_joined = |key: &Option<VariantId>| key.is_some() && !stands;
        for (key, _) in fills.iter_mut().filter(|(_, other)| Arc::ptr_eq(other, fill)) {
            *key = can_be_joined(key).then_some(variant);
        }
    }

    fn shard(&self, object: ObjectId) -> &Mutex<Shard> {
        &self.shards[usize::from(object.0[0]) % SHARDS]
    }
}

/// One fetch in progress.
pub(super) struct Fill {
    object: ObjectId,
    key: CacheKey,
    /// The purge position before anybody was asked.
    position: PurgePosition,
    /// Whether the object was invalidated since this fetch began, or another took its place.
    doomed: AtomicBool,
    state: Mutex<State>,
}

/// A storable response whose body is arriving.
pub struct Arriving {
    /// Head of the new version.
    pub draft: HeadDraft,
    /// Fields that only the client that began the fill gets.
    pub withheld: HeaderMap,
    /// What it says of its own reuse.
    pub facts: ResponseFacts,
    /// The fields that it varies by.
    pub vary: Option<VaryList>,
    /// Finished records, for readers that fell behind.
    pub partial: Partial,
    /// Where it comes from.
    pub source: Source,
    /// The server that it comes from, if it comes from the origin: ranges of this version are asked of it
    /// alone.
    pub server: Option<crate::config::model::OriginServer>,
    /// The edge that it comes from first, if it comes from one.
    pub peer: Option<NodeId>,
}

/// A stored version that was validated.
pub struct Refreshed {
    /// It, with its new fields.
    pub hit: Hit,
    /// Fields of what validated it that only the client that began the fill gets.
    pub withheld: HeaderMap,
    /// Whether it is still stored.
    pub kept: Kept,
}

/// What a validation made of a stored version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is stored on.
    Yes,
    /// By what it varies by now, it would be selected by other requests than those that found it: they plan anew.
    OtherVariant,
    /// It may not be stored any more: others go alone.
    NotStorable(NotStorable),
}

impl Refreshed {
    /// One that is stored on, and of which nothing is withheld.
    pub fn kept(hit: Hit) -> Self {
        Self { hit, withheld: HeaderMap::new(), kept: Kept::Yes }
    }
}

#[derive(Clone)]
enum Phase {
    Asking,
    Streaming(Arc<Arriving>),
    Complete(Arc<Arriving>, Option<Hit>),
    Broken(Arc<Arriving>, &'static str),
    Refreshed(Arc<Refreshed>),
    NotStored { server_error: bool },
    Unfit,
    Failed(Failure),
}

struct State {
    phase: Phase,
    /// Interim responses that came before the head; [`INTERIMS_MAX`](crate::body::INTERIMS_MAX) at most.
    interims: Vec<Arc<Interim>>,
    own: Option<Box<Fetched>>,
    /// Consecutive parts of the body, each with its offset.
    pieces: VecDeque<(u64, Bytes)>,
    /// Body offset of the first byte of `pieces`.
    start: u64,
    /// Body offset behind the last byte of `pieces`.
    end: u64,
    /// Under which lease it is fetched, as its leader was told.
    under: Under,
    /// Body offset up to which content was compared with its hash; `None` if it needs no check, since it
    /// comes from the origin.
    checked: Option<u64>,
    /// BLAKE3 of the complete chunks so far, for those who relay.
    hashes: Vec<[u8; 32]>,
    slots: Vec<Option<Slot>>,
    readers: usize,
    /// Those among the readers who are peers.
    followers: usize,
    leader: Option<Waker>,
}

/// On what ground a fill fetches, which says who may wait for it (`serve::supply`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Under {
    /// Not decided yet.
    Undecided,
    /// It asks the origin itself, so it waits for no other node and any may wait for it.
    Origin,
    /// It follows a node that asks the origin under this lease.
    Lease(Token),
    /// It reads what a peer has stored, or asks the home edge.
    Peer,
}

/// One reader's place.
struct Slot {
    cursor: u64,
    waker: Option<Waker>,
}

impl Fill {
    fn new(object: ObjectId, key: CacheKey, position: PurgePosition) -> Self {
        let state = State {
            phase: Phase::Asking,
            interims: Vec::new(),
            own: None,
            pieces: VecDeque::new(),
            start: 0,
            end: 0,
            under: Under::Undecided,
            checked: None,
            hashes: Vec::new(),
            slots: Vec::new(),
            readers: 0,
            followers: 0,
            leader: None,
        };
        Self { object, key, position, doomed: AtomicBool::new(false), state: Mutex::new(state) }
    }
}

impl State {
    fn slowest(&self) -> u64 {
        self.slots.iter().flatten().map(|slot| slot.cursor).min().unwrap_or(self.end)
    }

    /// The slowest of those that did not fall behind.
    fn slowest_in_reach(&self) -> u64 {
        let cursors = self.slots.iter().flatten().map(|slot| slot.cursor);
        cursors.filter(|cursor| *cursor >= self.start).min().unwrap_or(self.end)
    }

    fn fastest(&self) -> u64 {
        self.slots.iter().flatten().map(|slot| slot.cursor).max().unwrap_or(self.end)
    }

    fn drop_consumed(&mut self) {
        let slowest = self.slowest();
        while self.end - self.start > KEEP_BYTES && self.front_end().is_some_and(|end| end <= slowest) {
            self.drop_front();
        }
    }

    fn front_end(&self) -> Option<u64> {
        self.pieces.front().map(|(at, piece)| at + piece.len() as u64)
    }

    fn drop_front(&mut self) {
        if let Some((_, piece)) = self.pieces.pop_front() {
            self.start += piece.len() as u64;
        }
    }

    /// Adds the next bytes of the body. Scraps are joined, so that an origin that sends its body byte by
    /// byte does not make the window many times as large as its content.
    fn push(&mut self, bytes: Bytes) {
        let at = self.end;
        self.end += bytes.len() as u64;
        match self.pieces.back_mut() {
            Some((_, last)) if last.len() + bytes.len() <= SCRAP_BYTES => {
                *last = [&last[..], &bytes[..]].concat().into();
            }
            _ => self.pieces.push_back((at, bytes)),
        }
    }

    fn wake(&mut self) -> SmallVec<[Waker; 4]> {
        self.slots.iter_mut().flatten().filter_map(|slot| slot.waker.take()).collect()
    }

    /// The bytes at `cursor`, which is within the window.
    fn piece_at(&self, cursor: u64) -> Option<Bytes> {
        let behind = self.pieces.partition_point(|(at, _)| *at <= cursor);
        let (at, piece) = self.pieces.get(behind.checked_sub(1)?)?;
        let from = (cursor - at) as usize;
        (from < piece.len()).then(|| piece.slice(from..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::key::{KeyParts, Scheme};

    #[test]
    fn scraps_are_joined_and_every_offset_is_found() {
        let body: Vec<u8> = (0..5000_u32).map(|at| (at % 251) as u8).collect();
        let key = CacheKey::new(KeyParts { site: "s", scheme: Scheme::Http, host: "h", path: "/" });
        let fill = Fill::new(key.object(), key, PurgePosition::default());
        let mut state = fill.state.lock();
        let (scraps, large) = body.split_at(3000);
        scraps.chunks(1).for_each(|scrap| state.push(Bytes::copy_from_slice(scrap)));
        state.push(Bytes::copy_from_slice(large));
        assert!(state.pieces.len() <= 5, "{} pieces", state.pieces.len());
        for at in 0..body.len() {
            let piece = state.piece_at(at as u64).expect("within the window");
            assert_eq!(piece, body[at..at + piece.len()]);
        }
        assert_eq!(state.piece_at(body.len() as u64), None);
        state.drop_front();
        let start = state.start;
        assert_eq!(state.piece_at(start).map(|piece| piece[0]), Some(body[start as usize]));
    }
}
