//! Who is alive: foca (SWIM with suspicion) without sockets or clocks.
//!
//! foca decides which members are active. What the node goes by is a view of those: of several lives
//! that claim one address, only the latest is there, so that a node which was started anew with another
//! key takes its former self's place at once; and nobody who claims this node's own address.
//!
//! What foca does not do is done here, once a second ([`CARE_INTERVAL`]): as long as nobody else is known
//! to be alive, seeds and the dead are asked to let this node in, since foca stops all its timers then;
//! seeds are asked now and then also later, so that a fleet finds together again after a long partition;
//! and the dead are forgotten.

use super::identity::{Identity, Life, Packets};
use crate::proto::swarm::{Member, NodeId};
use bytes::Bytes;
use foca::{Config, Foca, NoCustomBroadcast, Notification, PeriodicParams, Runtime, State, Timer};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::mem::discriminant;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::{Duration, Instant};

/// Most bytes of a packet; fits into a datagram of QUIC.
pub(super) const PACKET_MAX: usize = 1100;
/// How often each node probes another one.
const PROBE_PERIOD: Duration = Duration::from_secs(1);
/// How long a direct answer may take, before others are asked to probe.
const PROBE_ANSWER: Duration = Duration::from_millis(300);
/// How long a suspect may take to say that it is alive. With up to two periods until it is probed and found
/// silent, a node is dead to all about five seconds after it is.
const SUSPICION: Duration = Duration::from_secs(2);
/// How often news are told, while there are any.
const GOSSIP_INTERVAL: Duration = Duration::from_millis(200);
/// How often a member is asked whom it knows: a packet names but a part of a large fleet.
const FEED_INTERVAL: Duration = Duration::from_secs(2);
/// How often dead members are asked to let this node in again, so that partitions heal.
const REVIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Members that each of these goes to.
const FANOUT: NonZeroUsize = NonZeroUsize::new(3).expect("not zero");
/// Of each kind, while this node is alone.
const ALONE_FANOUT: usize = 3;
/// Packets in which a piece of news is repeated: enough for some hundreds of nodes.
const REPEATS: NonZeroU8 = NonZeroU8::new(10).expect("not zero");
/// Times that good-bye is said to [`FANOUT`] members.
const LEAVE_ROUNDS: u32 = 4;
/// How often this room sees to what foca does not.
const CARE_INTERVAL: Duration = Duration::from_secs(1);
/// How often a seed is asked while others are known.
const SEED_INTERVAL: Duration = Duration::from_secs(30);
/// How long a dead member is remembered. What is said of it after that could bring it back.
const DEAD_MAX_AGE: Duration = Duration::from_secs(3600);
/// Members known, the dead included; a packet more at the bound. The rest is ignored.
const MEMBERS_MAX: usize = 4096;
/// Seeds remembered, the last named.
const SEEDS_MAX: usize = 64;
/// Timers of foca: one of each kind, and one for each suspect. One too many is dropped, and the suspect
/// found again.
const TIMERS_MAX: usize = 256;
/// Packets that wait to be sent. One too many is lost, like any datagram may be.
const PACKETS_MAX: usize = 4096;

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MemberAction {
    /// Send this packet (at most 1,100 bytes) to this node.
    Send {
        /// To whom; a seed whose identity is not known yet has only an address.
        to: SocketAddr,
        /// The packet.
        packet: Bytes,
    },
    /// This node is alive, or is so again in a new life, or has other roles.
    Up(Member),
    /// This node is dead or has left.
    Down(Member),
}

/// The membership machine.
pub(super) struct Members {
    foca: Foca<Identity, Packets, StdRng, NoCustomBroadcast>,
    packets: Packets,
    me: Member,
    outbox: Outbox,
    /// What was told in `changes`.
    view: BTreeMap<NodeId, Member>,
    changes: VecDeque<MemberAction>,
    /// Addresses to ask, the next first.
    seeds: VecDeque<SocketAddr>,
    /// Since when members are known to be dead. Bounded by the members.
    dead: HashMap<NodeId, Instant>,
    care_at: Instant,
    seed_at: Instant,
    left: bool,
}

impl Members {
    /// A machine that knows only `me`.
    pub(super) fn new(me: Member, seed: u64, now: Instant) -> Self {
        let life = Life::new(&me);
        let packets = Packets { me: life.clone() };
        let identity = Identity::Life(life);
        let outbox = Outbox::new(me.address, now);
        Self {
            foca: Foca::new(identity, config(), StdRng::seed_from_u64(seed), packets.clone()),
            packets,
            me,
            outbox,
            view: BTreeMap::new(),
            changes: VecDeque::new(),
            seeds: VecDeque::new(),
            dead: HashMap::new(),
            care_at: now + CARE_INTERVAL,
            seed_at: now + SEED_INTERVAL,
            left: false,
        }
    }

    /// Asks a seed to be let in, now and, while it is among the last named, whenever it is of use.
    pub(super) fn join(&mut self, seed: SocketAddr, now: Instant) {
        if self.left || seed == self.me.address {
            return;
        }
        self.seeds.retain(|known| *known != seed);
        self.seeds.push_back(seed);
        if self.seeds.len() > SEEDS_MAX {
            self.seeds.pop_front();
        }
        self.outbox.now = now;
        self.announce(Identity::Address(seed));
    }

    /// A packet came.
    pub(super) fn handle_packet(&mut self, packet: &[u8], now: Instant) {
        if self.left || !self.has_room_for(packet) {
            return;
        }
        self.outbox.now = now;
        let result = self.foca.handle_data(packet, &mut self.outbox);
        note(result);
    }

    /// The [`deadline`](Self::deadline) has passed.
    pub(super) fn handle_deadline(&mut self, now: Instant) {
        self.outbox.now = now;
        // A timer that a timer sets is never due at once.
        while let Some(timer) = self.outbox.due(now) {
            let result = self.foca.handle_timer(timer, &mut self.outbox);
            note(result);
        }
        if !self.left && self.care_at <= now {
            self.care_at = now + CARE_INTERVAL;
            self.seek(now);
            self.forget(now);
        }
    }

    /// When to call [`handle_deadline`](Self::handle_deadline).
    pub(super) fn deadline(&self) -> Option<Instant> {
        let care = (!self.left).then_some(self.care_at);
        care.into_iter().chain(self.outbox.timers.keys().next().map(|(at, _)| *at)).min()
    }

    /// Says good-bye to all. Nothing is done after.
    pub(super) fn leave(&mut self, now: Instant) {
        if std::mem::replace(&mut self.left, true) {
            return;
        }
        self.outbox.now = now;
        let result = self.foca.leave_cluster(&mut self.outbox);
        note(result);
        for _ in 1..LEAVE_ROUNDS {
            let result = self.foca.gossip(&mut self.outbox);
            note(result);
        }
        self.outbox.timers.clear();
    }

    /// What is to be done; ask until `None`.
    pub(super) fn poll(&mut self) -> Option<MemberAction> {
        if let Some((to, packet)) = self.outbox.packets.pop_front() {
            return Some(MemberAction::Send { to, packet });
        }
        if std::mem::take(&mut self.outbox.changed) && !self.left {
            self.compare();
        }
        self.changes.pop_front()
    }

    /// All live members but this node.
    pub(super) fn live(&self) -> Vec<Member> {
        self.look().into_values().collect()
    }

    /// The active members as the node goes by them.
    fn look(&self) -> BTreeMap<NodeId, Member> {
        let mut at: HashMap<SocketAddr, Member> = HashMap::new();
        for life in self.foca.iter_members().filter_map(|member| member.id().life()) {
            let member = life.member();
            if member.id == self.me.id || member.address == self.me.address {
                continue;
            }
            let age = |member: &Member| (member.incarnation, member.id);
            if at.get(&member.address).is_none_or(|known| age(known) < age(&member)) {
                at.insert(member.address, member);
            }
        }
        at.into_values().map(|member| (member.id, member)).collect()
    }

    /// Notes what is different from what was told.
    fn compare(&mut self) {
        let now = self.look();
        let gone = self.view.values().filter(|member| !now.contains_key(&member.id));
        self.changes.extend(gone.cloned().map(MemberAction::Down));
        let new = now.values().filter(|member| self.view.get(&member.id) != Some(*member));
        self.changes.extend(new.cloned().map(MemberAction::Up));
        self.view = now;
    }

    fn announce(&mut self, to: Identity) {
        let result = self.foca.announce(to, &mut self.outbox);
        note(result);
    }

    /// Asks to be let in: everyone there may be while nobody is known, else a seed now and then.
    fn seek(&mut self, now: Instant) {
        let alone = self.foca.num_members() == 0;
        if !alone && now < self.seed_at {
            return;
        }
        self.seed_at = now + SEED_INTERVAL;
        let count = if alone { ALONE_FANOUT } else { 1 };
        for _ in 0..count.min(self.seeds.len()) {
            self.seeds.rotate_left(1);
            self.announce(Identity::Address(self.seeds[0]));
        }
        if alone {
            let dead: Vec<_> = self.dead_members().take(ALONE_FANOUT).collect();
            dead.into_iter().for_each(|dead| self.announce(dead));
        }
    }

    /// foca's dead members, in its order, which is shuffled.
    fn dead_members(&self) -> impl Iterator<Item = Identity> {
        let known = self.foca.iter_membership_state();
        known.filter(|member| member.state() == State::Down).map(|member| member.id().clone())
    }

    /// Forgets members that have been dead for long.
    fn forget(&mut self, now: Instant) {
        let dead: Vec<_> = self.dead_members().collect();
        let ids: HashSet<_> = dead.iter().filter_map(|dead| dead.life().map(Life::id)).collect();
        self.dead.retain(|id, _| ids.contains(id));
        for identity in dead {
            let Some(id) = identity.life().map(Life::id) else { continue };
            let since = *self.dead.entry(id).or_insert(now);
            if now.duration_since(since) >= DEAD_MAX_AGE {
                self.dead.remove(&id);
                let result = self.foca.handle_timer(Timer::RemoveDown(identity), &mut self.outbox);
                note(result);
            }
        }
    }

    /// Whether all whom a packet names can be remembered.
    fn has_room_for(&mut self, packet: &[u8]) -> bool {
        let known = self.foca.iter_membership_state();
        if known.len() < MEMBERS_MAX {
            return true;
        }
        let known: HashSet<_> = known.filter_map(|member| member.id().life().map(Life::id)).collect();
        self.packets.named(packet).is_ok_and(|named| named.iter().all(|id| known.contains(id)))
    }
}

fn config() -> Config {
    let every = |frequency| Some(PeriodicParams { frequency, num_members: FANOUT });
    Config {
        probe_period: PROBE_PERIOD,
        probe_rtt: PROBE_ANSWER,
        num_indirect_probes: FANOUT,
        max_transmissions: REPEATS,
        suspect_to_down_after: SUSPICION,
        // The dead are forgotten here, where that needs no timer for each.
        remove_down_after: None,
        max_packet_size: NonZeroUsize::new(PACKET_MAX).expect("not zero"),
        notify_down_members: true,
        periodic_announce: every(FEED_INTERVAL),
        periodic_announce_to_down_members: every(REVIVE_INTERVAL),
        periodic_gossip: every(GOSSIP_INTERVAL),
    }
}

/// What foca refuses (packets that are none, or come from this node itself) is of no more interest.
fn note(result: Result<(), foca::Error>) {
    if let Err(error) = result {
        tracing::debug!(%error, "membership");
    }
}

/// What foca wants done.
struct Outbox {
    me: SocketAddr,
    now: Instant,
    packets: VecDeque<(SocketAddr, Bytes)>,
    /// By deadline, then in the order in which they were set.
    timers: BTreeMap<(Instant, u64), Timer<Identity>>,
    timers_set: u64,
    /// Whether the active members may be others.
    changed: bool,
}

impl Outbox {
    fn new(me: SocketAddr, now: Instant) -> Self {
        let (packets, timers) = (VecDeque::new(), BTreeMap::new());
        Self { me, now, packets, timers, timers_set: 0, changed: false }
    }

    fn due(&mut self, now: Instant) -> Option<Timer<Identity>> {
        let entry = self.timers.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }
}

impl Runtime<Identity> for Outbox {
    fn notify(&mut self, _notification: Notification<'_, Identity>) {
        self.changed = true;
    }

    fn send_to(&mut self, to: Identity, packet: &[u8]) {
        let to = to.address();
        if to != self.me && self.packets.len() < PACKETS_MAX {
            self.packets.push_back((to, Bytes::copy_from_slice(packet)));
        }
    }

    fn submit_after(&mut self, timer: Timer<Identity>, after: Duration) {
        if !matches!(timer, Timer::ChangeSuspectToDown { .. }) {
            // Of the other kinds only the last one set is still meant.
            self.timers.retain(|_, known| discriminant(known) != discriminant(&timer));
        }
        if self.timers.len() < TIMERS_MAX {
            self.timers_set += 1;
            self.timers.insert((self.now + after, self.timers_set), timer);
        }
    }
}

#[cfg(test)]
mod tests;
