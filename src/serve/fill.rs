//! Fills: one fetch in progress for each object (or variant, once the object is known to vary),
//! followed by every request that wants it.
//!
//! ```text
//! Asking ─┬─ Streaming ─┬─ Complete        stored (or at least delivered) whole
//!         │             └─ Broken          the body failed: readers are cut
//!         ├─ Refreshed                     304: the stored version lives on
//!         ├─ NotStored                     the initiator takes the response, others go alone
//!         └─ Failed                        no response
//! ```
//! A fill belongs to this table and to its leader task, not to the client that began it: that
//! client may leave. The table holds a fill from `Asking` until it is sealed in the store or has
//! failed, so whoever misses in the store finds either the fill or, looking again, the result.
//!
//! The window keeps the bytes that readers have yet to take. A reader that falls out of it reads
//! finished records from the store.

use super::deliver::Failure;
use crate::origin::Fetched;
use crate::proto::key::{ObjectId, VariantId};
use crate::proto::object::HeadDraft;
use crate::proto::semantics::{ResponseFacts, VaryList};
use crate::store::{Hit, Partial};
use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Bytes that a fill keeps for its readers at most.
pub const WINDOW_BYTES: u64 = 8 << 20;
/// Consumed bytes that are kept for requests that join late.
const KEEP_BYTES: u64 = 1 << 20;
/// How long a full window waits for its slowest reader when the store does not back it.
pub const LAGGARD_WAIT: Duration = Duration::from_secs(30);
/// Readers of one fill at most; further requests go alone. Bounds the work of one wake-up.
const READERS_MAX: usize = 65_536;
const SHARDS: usize = 64;

/// The fills in progress of one node.
pub struct FillTable {
    shards: Vec<Mutex<Shard>>,
    open: AtomicUsize,
}

/// The fills of each object, with the variant under which each can be joined.
type Shard = HashMap<ObjectId, SmallVec<[(VariantId, Arc<Fill>); 1]>>;

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

impl Default for FillTable {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), open: AtomicUsize::new(0) }
    }
}

impl FillTable {
    /// Joins the fill of `variant`, or begins it. `settled` looks once more for the result of a fill
    /// that ended between the caller's look-up and now; it is called under the table's lock.
    pub fn join(self: &Arc<Self>, object: ObjectId, variant: VariantId, settled: impl FnOnce() -> bool) -> Joined {
        let mut shard = self.shard(object).lock();
        if let Some((_, fill)) = shard.get(&object).and_then(|fills| fills.iter().find(|(key, _)| *key == variant)) {
            return match Reader::join(fill, false) {
                Some(reader) => Joined::Follow(reader),
                None => Joined::Alone,
            };
        }
        if settled() {
            return Joined::Settled;
        }
        let fill = Arc::new(Fill::new(object));
        shard.entry(object).or_default().push((variant, Arc::clone(&fill)));
        drop(shard);
        let (leader, reader) = self.lead(fill, true);
        Joined::Lead(leader, reader)
    }

    /// Begins a fill that nobody else can join.
    pub fn alone(self: &Arc<Self>, object: ObjectId) -> (Leader, Reader) {
        self.lead(Arc::new(Fill::new(object)), false)
    }

    /// Takes all fills of `object` out of the table: they serve those who read them, and nobody new.
    pub fn doom(&self, object: ObjectId) {
        self.shard(object).lock().remove(&object);
    }

    /// Fills in progress, joined or alone.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn lead(self: &Arc<Self>, fill: Arc<Fill>, listed: bool) -> (Leader, Reader) {
        self.open.fetch_add(1, Ordering::Relaxed);
        let reader = Reader::join(&fill, true).expect("a new fill has room for its initiator");
        (Leader { fill, table: Arc::clone(self), listed, ended: false }, reader)
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
        if fills.iter().any(|(key, other)| *key == variant && !Arc::ptr_eq(other, fill)) {
            fills.retain(|(_, other)| !Arc::ptr_eq(other, fill));
        }
        for (key, _) in fills.iter_mut().filter(|(_, other)| Arc::ptr_eq(other, fill)) {
            *key = variant;
        }
    }

    fn shard(&self, object: ObjectId) -> &Mutex<Shard> {
        &self.shards[usize::from(object.0[0]) % SHARDS]
    }
}

/// One fetch in progress.
pub struct Fill {
    object: ObjectId,
    state: Mutex<State>,
}

/// A storable response whose body is arriving.
pub struct Arriving {
    /// Head of the new version.
    pub draft: HeadDraft,
    /// What it says of its own reuse.
    pub facts: ResponseFacts,
    /// The fields that it varies by.
    pub vary: Option<VaryList>,
    /// Finished records, for readers that fell behind.
    pub partial: Partial,
    /// The server that it comes from: ranges of this version are asked of it alone.
    pub server: crate::config::model::OriginServer,
}

#[derive(Clone)]
enum Phase {
    Asking,
    Streaming(Arc<Arriving>),
    Complete(Arc<Arriving>, Option<Hit>),
    Broken(Arc<Arriving>, &'static str),
    Refreshed(Hit),
    NotStored { server_error: bool },
    Failed(Failure),
}

struct State {
    phase: Phase,
    own: Option<Box<Fetched>>,
    pieces: VecDeque<Bytes>,
    /// Body offset of the first byte of `pieces`.
    start: u64,
    /// Body offset behind the last byte of `pieces`.
    end: u64,
    slots: Vec<Option<Slot>>,
    readers: usize,
    leader: Option<Waker>,
}

/// One reader's place.
struct Slot {
    cursor: u64,
    waker: Option<Waker>,
}

impl Fill {
    fn new(object: ObjectId) -> Self {
        let state = State {
            phase: Phase::Asking,
            own: None,
            pieces: VecDeque::new(),
            start: 0,
            end: 0,
            slots: Vec::new(),
            readers: 0,
            leader: None,
        };
        Self { object, state: Mutex::new(state) }
    }
}

impl State {
    fn slowest(&self) -> u64 {
        self.slots.iter().flatten().map(|slot| slot.cursor).min().unwrap_or(self.end)
    }

    fn drop_consumed(&mut self) {
        let slowest = self.slowest();
        while self.end - self.start > KEEP_BYTES && self.front_end().is_some_and(|end| end <= slowest) {
            self.drop_front();
        }
    }

    fn front_end(&self) -> Option<u64> {
        self.pieces.front().map(|piece| self.start + piece.len() as u64)
    }

    fn drop_front(&mut self) {
        if let Some(piece) = self.pieces.pop_front() {
            self.start += piece.len() as u64;
        }
    }

    fn wake(&mut self) -> SmallVec<[Waker; 4]> {
        self.slots.iter_mut().flatten().filter_map(|slot| slot.waker.take()).collect()
    }

    /// The bytes at `cursor`, which is within the window.
    fn piece_at(&self, cursor: u64) -> Option<Bytes> {
        let mut at = self.start;
        for piece in &self.pieces {
            let next = at + piece.len() as u64;
            if cursor < next {
                return Some(piece.slice((cursor - at) as usize..));
            }
            at = next;
        }
        None
    }
}

/// The writing end of a fill, owned by the task that fetches.
pub struct Leader {
    fill: Arc<Fill>,
    table: Arc<FillTable>,
    listed: bool,
    ended: bool,
}

impl Leader {
    /// The response is storable and its body follows.
    pub fn stream(&self, arriving: Arc<Arriving>) {
        if self.listed {
            self.table.relist(&self.fill, arriving.draft.variant);
        }
        self.publish(Phase::Streaming(arriving));
    }

    /// Hands body bytes to the readers; they are woken by [`wake`](Self::wake). Waits for the slowest
    /// reader, at most [`LAGGARD_WAIT`], if the window is full and nothing else could serve it.
    pub async fn push(&self, bytes: Bytes, backed: bool) {
        {
            let mut state = self.fill.state.lock();
            state.end += bytes.len() as u64;
            state.pieces.push_back(bytes);
            state.drop_consumed();
            if state.end - state.start <= WINDOW_BYTES {
                return;
            }
        }
        if !backed {
            self.wake();
            let room = poll_fn(|cx| self.poll_room(cx));
            let _ = tokio::time::timeout(LAGGARD_WAIT, room).await;
        }
        let mut state = self.fill.state.lock();
        while state.end - state.start > WINDOW_BYTES {
            state.drop_front();
        }
    }

    fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.fill.state.lock();
        state.drop_consumed();
        if state.end - state.start <= WINDOW_BYTES {
            return Poll::Ready(());
        }
        state.leader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Wakes the readers.
    pub fn wake(&self) {
        let wakers = self.fill.state.lock().wake();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether anybody reads.
    pub fn has_readers(&self) -> bool {
        self.fill.state.lock().readers > 0
    }

    /// The body is whole; `hit` is the stored version, unless the store could not keep it.
    pub fn complete(mut self, arriving: Arc<Arriving>, hit: Option<Hit>) {
        self.end(Phase::Complete(arriving, hit));
    }

    /// The body failed.
    pub fn broken(mut self, arriving: Arc<Arriving>, why: &'static str) {
        self.end(Phase::Broken(arriving, why));
    }

    /// The origin said that the stored version is still good.
    pub fn refreshed(mut self, hit: Hit) {
        self.end(Phase::Refreshed(hit));
    }

    /// The response must not be stored: the initiator gets it if it is still there.
    pub fn not_stored(mut self, fetched: Fetched, server_error: bool) {
        self.fill.state.lock().own = Some(Box::new(fetched));
        self.end(Phase::NotStored { server_error });
    }

    /// There was no response.
    pub fn failed(mut self, failure: Failure) {
        self.end(Phase::Failed(failure));
    }

    fn end(&mut self, phase: Phase) {
        self.ended = true;
        if self.listed {
            self.table.remove(&self.fill);
        }
        self.publish(phase);
    }

    fn publish(&self, phase: Phase) {
        let mut state = self.fill.state.lock();
        state.phase = phase;
        let wakers = state.wake();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Leader {
    /// A leader that is dropped before its end (its task was cancelled, or panicked) fails the fill:
    /// readers never wait for nobody.
    fn drop(&mut self) {
        self.table.open.fetch_sub(1, Ordering::Relaxed);
        if self.ended {
            return;
        }
        let phase = self.fill.state.lock().phase.clone();
        match phase {
            Phase::Streaming(arriving) => self.end(Phase::Broken(arriving, "leader gone")),
            _ => self.end(Phase::Failed(Failure::Abandoned)),
        }
    }
}

/// What a fill came to, as one of its readers sees it.
pub enum Outcome {
    /// A storable response is arriving, or has arrived without being kept.
    Streaming(Arc<Arriving>),
    /// It has arrived and is stored.
    Stored(Arc<Arriving>, Hit),
    /// The stored version was validated.
    Refreshed(Hit),
    /// This reader began the fill and the response is its own.
    Own(Box<Fetched>, bool),
    /// The response is somebody else's; the flag says that it is a server error.
    NotStored(bool),
    /// There was no response.
    Failed(Failure),
}

/// What a reader finds at its cursor.
pub enum Piece {
    /// The next bytes.
    Bytes(Bytes),
    /// The window has moved on: the bytes from this offset on must come from elsewhere.
    Behind(u64),
    /// The body has been read to its end.
    End,
    /// The body failed.
    Broken(&'static str),
}

/// The reading end of a fill; dropping it leaves the fill.
pub struct Reader {
    fill: Arc<Fill>,
    slot: usize,
    initiator: bool,
}

impl Reader {
    fn join(fill: &Arc<Fill>, initiator: bool) -> Option<Self> {
        let mut state = fill.state.lock();
        let started = match &state.phase {
            Phase::Streaming(arriving) => state.start > 0 && !arriving.partial.starts_stored(),
            _ => false,
        };
        if started || state.readers >= READERS_MAX {
            return None;
        }
        state.readers += 1;
        let free = state.slots.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            state.slots.push(None);
            state.slots.len() - 1
        });
        state.slots[slot] = Some(Slot { cursor: 0, waker: None });
        drop(state);
        Some(Self { fill: Arc::clone(fill), slot, initiator })
    }

    /// Waits until the origin has answered or failed. Bounded by the leader's own time limits.
    pub async fn outcome(&self) -> Outcome {
        poll_fn(|cx| self.poll_outcome(cx)).await
    }

    fn poll_outcome(&self, cx: &Context<'_>) -> Poll<Outcome> {
        let mut state = self.fill.state.lock();
        let outcome = match state.phase.clone() {
            Phase::Asking => {
                state.park(self.slot, cx);
                return Poll::Pending;
            }
            Phase::Streaming(arriving) | Phase::Complete(arriving, None) | Phase::Broken(arriving, _) => {
                Outcome::Streaming(arriving)
            }
            Phase::Complete(arriving, Some(hit)) => Outcome::Stored(arriving, hit),
            Phase::Refreshed(hit) => Outcome::Refreshed(hit),
            Phase::NotStored { server_error } => match state.own.take_if(|_| self.initiator) {
                Some(own) => Outcome::Own(own, server_error),
                None => Outcome::NotStored(server_error),
            },
            Phase::Failed(failure) => Outcome::Failed(failure),
        };
        Poll::Ready(outcome)
    }

    /// Moves this reader to body offset `offset`, before its first read.
    pub fn seek(&self, offset: u64) {
        if let Some(slot) = &mut self.fill.state.lock().slots[self.slot] {
            slot.cursor = offset;
        }
    }

    /// The bytes at this reader's cursor, which advances over them.
    pub fn poll_piece(&self, cx: &Context<'_>) -> Poll<Piece> {
        let mut state = self.fill.state.lock();
        let cursor = state.slots[self.slot].as_ref().map_or(0, |slot| slot.cursor);
        if cursor < state.start {
            return Poll::Ready(Piece::Behind(cursor));
        }
        if let Some(bytes) = state.piece_at(cursor) {
            state.advance(self.slot, cursor + bytes.len() as u64);
            return Poll::Ready(Piece::Bytes(bytes));
        }
        match state.phase {
            Phase::Complete(..) => Poll::Ready(Piece::End),
            Phase::Broken(_, why) => Poll::Ready(Piece::Broken(why)),
            Phase::Streaming(_) => {
                state.park(self.slot, cx);
                Poll::Pending
            }
            _ => Poll::Ready(Piece::Broken("no body")),
        }
    }

    /// Says that this reader took the bytes up to `offset` from elsewhere.
    pub fn advance(&self, offset: u64) {
        self.fill.state.lock().advance(self.slot, offset);
    }
}

impl State {
    fn park(&mut self, slot: usize, cx: &Context<'_>) {
        if let Some(slot) = &mut self.slots[slot] {
            slot.waker = Some(cx.waker().clone());
        }
    }

    fn advance(&mut self, slot: usize, cursor: u64) {
        if let Some(slot) = &mut self.slots[slot] {
            slot.cursor = cursor;
        }
        if self.end - self.start > WINDOW_BYTES
            && let Some(leader) = self.leader.take()
        {
            leader.wake();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.fill.state.lock();
        state.slots[self.slot] = None;
        state.readers -= 1;
        if self.initiator {
            state.own = None;
        }
        let leader = state.leader.take();
        drop(state);
        if let Some(leader) = leader {
            leader.wake();
        }
    }
}
