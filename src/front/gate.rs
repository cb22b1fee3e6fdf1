//! How many clients may be connected: over all, and, when places get scarce, from one address. Who waits gives way to
//! who comes.
//!
//! When all places are taken, a new connection takes the place of the one that has waited longest without a request:
//! first those between two requests, then those that have not sent their first (a TLS handshake is part of that), the
//! oldest first. A connection with a request in progress, or that is a tunnel, keeps its place; if there is none but
//! such, the new one is refused. In the same way an address that has its share gives up one of its own.
//!
//! Many clients may stand behind one address (a company, a mobile network), so the limit on addresses holds only
//! while more than half of all places are taken: then it keeps one address from taking the rest. An IPv6 client has
//! a whole /64, which counts as one address.
//!
//! A request costs two writes to a word that only its own connection writes ([`Seat`]). Lists are by the latest that
//! was *seen* of a connection and thus may be behind; they are put right from the front, only where a place is looked
//! for, under the lock of one shard. Each step of that is paid for by a request that began or ended since the last.

use super::Limit;
use crate::clock::Clock;
use crate::telemetry::ShedWhat;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;
use tokio::sync::Notify;

const SHARDS: usize = 16;
/// How often a place is looked for again when the one that was found was lost to its own next request, or to
/// another worker.
const TRIES_MAX: usize = 4;
/// Connections that were told to go and have not gone yet, at least this many may be; else one in
/// [`LEAVING_SHARE`] of all places. Beyond that new ones are refused, so that sockets stay bounded.
const LEAVING_MIN: usize = 16;
const LEAVING_SHARE: usize = 8;

/// The limits on places in force.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    /// Over all.
    pub(super) total: usize,
    /// From one address, while more than half of all are taken; `None` for one that may have any number.
    pub(super) per_address: Option<usize>,
}

/// Counts the open connections of a node. Memory is bounded by their number.
pub struct Gate {
    clock: Clock,
    /// Stamps count from here.
    began: Instant,
    open: AtomicUsize,
    /// Told to go, and not gone yet; not among the open.
    leaving: AtomicUsize,
    next: AtomicU64,
    shards: [Mutex<Shard>; SHARDS],
}

/// A connection that was let in, and the one that gave way to it.
pub(super) struct Admitted {
    pub(super) entered: Entered,
    pub(super) instead_of: Option<Displaced>,
}

/// By which limit a connection was shed for another, and what it was doing.
pub(super) type Displaced = (Limit, ShedWhat);

impl Gate {
    /// A gate with nobody inside.
    pub fn new(clock: Clock) -> Arc<Self> {
        let shards = std::array::from_fn(|_| Mutex::default());
        let (open, leaving) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { clock, began: clock.mono(), open, leaving, next: AtomicU64::new(0), shards })
    }

    /// Connections open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Lets a connection from `address` in, in the place of another if need be.
    ///
    /// # Errors
    /// The limit that is reached with nobody to give way.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, caps: Caps) -> Result<Admitted, Limit> {
        let network = Network::of(address);
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let mut instead_of = self.take_share(network, before, caps).inspect_err(|_| self.one_less())?;
        if before >= caps.total && instead_of.is_none() {
            let Some(what) = self.make_room(caps.total) else {
                self.shard(network).lock().forget(network);
                self.one_less();
                return Err(Limit::Node);
            };
            instead_of = Some((Limit::Node, what));
        }
        let since = self.stamp(self.clock.mono());
        let entered = Entered(self.seat(network, since));
        Ok(Admitted { entered, instead_of })
    }

    /// Counts one more from `network`, which may cost another of it its place.
    fn take_share(&self, network: Network, before: usize, caps: Caps) -> Result<Option<Displaced>, Limit> {
        let mut shard = self.shard(network).lock();
        let is_scarce = before > caps.total / 2;
        let has = shard.counts.get(&network).copied().unwrap_or(0);
        let is_full = is_scarce && caps.per_address.is_some_and(|most| has >= most);
        let mut displaced = None;
        if is_full {
            let shed = shard.oldest(Some(network)).and_then(|rank| self.shed(&mut shard, rank, caps.total));
            displaced = Some((Limit::Address, shed.ok_or(Limit::Address)?));
        }
        *shard.counts.entry(network).or_insert(0) += 1;
        Ok(displaced)
    }

    /// Sheds the connection that has waited longest, wherever it is from.
    fn make_room(&self, total: usize) -> Option<ShedWhat> {
        for _ in 0..TRIES_MAX {
            let oldest = |(index, shard): (usize, &Mutex<Shard>)| Some((shard.lock().oldest(None)?, index));
            let (rank, index) = self.shards.iter().enumerate().filter_map(oldest).min()?;
            if let Some(what) = self.shed(&mut self.shards[index].lock(), rank, total) {
                return Some(what);
            }
        }
        None
    }

    /// Takes the place of a connection, if it still waits and not too many are on their way out.
    fn shed(&self, shard: &mut Shard, rank: Rank, total: usize) -> Option<ShedWhat> {
        if self.leaving.load(Ordering::Relaxed) >= LEAVING_MIN.max(total / LEAVING_SHARE) {
            return None;
        }
        let seat = Arc::clone(shard.order.get(&rank)?);
        seat.state.compare_exchange(rank.word(), GONE, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        shard.unfile(&seat);
        shard.forget(seat.network);
        self.leaving.fetch_add(1, Ordering::Relaxed);
        self.one_less();
        seat.told.notify_one();
        Some(if rank.kind == IDLE { ShedWhat::Idle } else { ShedWhat::Head })
    }

    /// A seat for one that is counted, which has to send its first request.
    fn seat(self: &Arc<Self>, network: Network, since: u64) -> Arc<Seat> {
        let seat = Arc::new(Seat {
            gate: Arc::clone(self),
            network,
            number: self.next.fetch_add(1, Ordering::Relaxed),
            state: AtomicU64::new(word(HEAD, since)),
            filed: AtomicU64::new(NOWHERE),
            told: Notify::new(),
        });
        self.shard(network).lock().file(&seat, word(HEAD, since));
        seat
    }

    fn one_less(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    fn stamp(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.began);
        u64::try_from(since.as_micros()).unwrap_or(STAMP_MAX).min(STAMP_MAX)
    }

    fn shard(&self, network: Network) -> &Mutex<Shard> {
        &self.shards[network.shard()]
    }
}

/// What counts as one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Network {
    V4(u32),
    /// The first 64 bits.
    V6(u64),
}

impl Network {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }

    fn shard(self) -> usize {
        let bits = match self {
            Self::V4(bits) => u64::from(bits),
            Self::V6(bits) => bits,
        };
        // The upper bits of a product depend on all bits below; chosen addresses that meet in one shard only wait
        // for one another.
        (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize % SHARDS
    }
}

/// What a connection does, in the low bits of its word. Above them is since when, for the first two.
const TAG_BITS: u32 = 3;
/// Waits for its next request. First, since who waits so is shed first.
const IDLE: u64 = 0;
/// Has not sent its first request.
const HEAD: u64 = 1;
/// Has a request in progress.
const BUSY: u64 = 2;
/// The same, and is in no list: its end puts it there.
const BUSY_UNFILED: u64 = 3;
/// Is no HTTP any more, and keeps its place until it ends.
const TUNNEL: u64 = 4;
/// Has lost its place, or left.
const GONE: u64 = 5;
/// Another seat stands for the connection.
const MOVED: u64 = 6;
/// In no list.
const NOWHERE: u64 = u64::MAX;
const STAMP_MAX: u64 = u64::MAX >> (TAG_BITS + 1);

const fn word(kind: u64, since: u64) -> u64 {
    since << TAG_BITS | kind
}

const fn tag(word: u64) -> u64 {
    word & ((1 << TAG_BITS) - 1)
}

/// Where a connection stands among those that wait: the first is shed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    kind: u64,
    since: u64,
    number: u64,
}

impl Rank {
    const FIRST: Self = Self { kind: 0, since: 0, number: 0 };
    const LAST: Self = Self { kind: u64::MAX, since: u64::MAX, number: u64::MAX };

    const fn of(number: u64, word: u64) -> Self {
        Self { kind: tag(word), since: word >> TAG_BITS, number }
    }

    const fn word(self) -> u64 {
        word(self.kind, self.since)
    }
}

/// The connections of some networks.
#[derive(Default)]
struct Shard {
    counts: HashMap<Network, usize>,
    order: BTreeMap<Rank, Arc<Seat>>,
    by_network: BTreeSet<(Network, Rank)>,
}

impl Shard {
    fn file(&mut self, seat: &Arc<Seat>, word: u64) {
        self.unfile(seat);
        let rank = Rank::of(seat.number, word);
        self.order.insert(rank, Arc::clone(seat));
        self.by_network.insert((seat.network, rank));
        seat.filed.store(word, Ordering::Relaxed);
    }

    fn unfile(&mut self, seat: &Seat) {
        let filed = seat.filed.swap(NOWHERE, Ordering::Relaxed);
        if filed != NOWHERE {
            let rank = Rank::of(seat.number, filed);
            self.order.remove(&rank);
            self.by_network.remove(&(seat.network, rank));
        }
    }

    /// One less from `network`.
    fn forget(&mut self, network: Network) {
        if let Some(count) = self.counts.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&network);
            }
        }
    }

    /// The connection that has waited longest, in `network` if that is given. Puts right what is filed before it.
    fn oldest(&mut self, network: Option<Network>) -> Option<Rank> {
        // Each turn takes one out of its wrong place, which it finds again only after a further request of its own.
        for _ in 0..=self.order.len() {
            let rank = match network {
                None => *self.order.first_key_value()?.0,
                Some(network) => {
                    self.by_network.range((network, Rank::FIRST)..=(network, Rank::LAST)).next()?.1
                }
            };
            let seat = Arc::clone(self.order.get(&rank)?);
            let now = seat.state.load(Ordering::Relaxed);
            match tag(now) {
                IDLE | HEAD if now == rank.word() => return Some(rank),
                IDLE | HEAD => self.file(&seat, now),
                BUSY => {
                    let order = Ordering::Relaxed;
                    if seat.state.compare_exchange(BUSY, BUSY_UNFILED, order, order).is_ok() {
                        self.unfile(&seat);
                    }
                }
                _ => self.unfile(&seat),
            }
        }
        None
    }
}

/// The place of one connection, and what it does there.
pub(super) struct Seat {
    gate: Arc<Gate>,
    network: Network,
    number: u64,
    /// Written by the connection, and under the lock of its shard where it leaves a list or its place.
    state: AtomicU64,
    /// Where it stands in the lists of its shard, under their lock; behind `state`, never before it.
    filed: AtomicU64,
    told: Notify,
}

impl Seat {
    /// The first of the requests in progress begins.
    pub(super) fn begins(&self) {
        // Whoever has lost its place stays so; its request is answered if it can be.
        let begin = |state| matches!(tag(state), IDLE | HEAD).then_some(BUSY);
        let _ = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, begin);
    }

    /// The last of the requests in progress has ended.
    pub(super) fn ends(self: &Arc<Self>, now: Instant) {
        let idle = word(IDLE, self.gate.stamp(now));
        let is_filed = tag(self.filed.load(Ordering::Relaxed)) == IDLE;
        let order = Ordering::Relaxed;
        if is_filed && self.state.compare_exchange(BUSY, idle, order, order).is_ok() {
            return;
        }
        // After the first request, and where a place was looked for during this one.
        let mut shard = self.gate.shard(self.network).lock();
        if matches!(tag(self.state.load(order)), BUSY | BUSY_UNFILED) {
            self.state.store(idle, order);
            shard.file(self, idle);
        }
    }

    /// The connection is a tunnel from now on.
    pub(super) fn is_tunnel(&self) {
        let tunnel = |state| (tag(state) < TUNNEL).then_some(TUNNEL);
        let _ = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, tunnel);
    }

    /// Resolves, once, when another takes the place of this connection.
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }

    /// Leaves, as `GONE` or `MOVED`. Whether the place was still its own.
    fn leave(&self, how: u64) -> bool {
        let mut shard = self.gate.shard(self.network).lock();
        let had_place = tag(self.state.swap(how, Ordering::Relaxed)) < GONE;
        if had_place {
            shard.unfile(self);
            shard.forget(self.network);
        }
        had_place
    }
}

/// One connection that was let in; leaves when dropped.
pub(super) struct Entered(Arc<Seat>);

impl Entered {
    /// Where the connection tells what it does.
    pub(super) fn seat(&self) -> Arc<Seat> {
        Arc::clone(&self.0)
    }

    /// Awaits `work`; `None` if another takes the place of this connection before.
    pub(super) async fn unless_told<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.0.told() => None,
        }
    }

    /// The connection turns out to be from `address`, which counts from now on.
    ///
    /// # Errors
    /// The limit of that address is reached, with nobody to give way; or this one gave way, by the limit of all.
    pub(super) fn of_client(self, address: IpAddr, caps: Caps) -> Result<Admitted, Limit> {
        let gate = Arc::clone(&self.0.gate);
        let network = Network::of(address);
        // As one more, since it leaves its old place only then.
        let before = gate.open.fetch_add(1, Ordering::Relaxed).saturating_sub(1);
        let instead_of = gate.take_share(network, before, caps).inspect_err(|_| gate.one_less())?;
        let since = self.0.state.load(Ordering::Relaxed) >> TAG_BITS;
        if !self.0.leave(MOVED) {
            gate.leaving.fetch_sub(1, Ordering::Relaxed);
            gate.shard(network).lock().forget(network);
            gate.one_less();
            return Err(Limit::Node);
        }
        gate.one_less();
        Ok(Admitted { entered: Self(gate.seat(network, since)), instead_of })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if tag(self.0.state.load(Ordering::Relaxed)) == MOVED {
            return;
        }
        let gate = &self.0.gate;
        let counter = if self.0.leave(GONE) { &gate.open } else { &gate.leaving };
        counter.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
