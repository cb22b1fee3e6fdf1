//! Fleets of machines in virtual time, on a network that delays, loses and parts.

use super::*;
use crate::clock::Clock;
use crate::proto::swarm::Roles;
use proptest::prelude::*;
use rand::RngExt;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

const MILLI: Duration = Duration::from_millis(1);

/// A node as the test sees it.
struct Node {
    machine: Members,
    me: Member,
    alive: bool,
    /// What the actions said, by now.
    seen: BTreeMap<NodeId, Member>,
}

/// Which nodes cannot hear each other.
type Parted = fn(usize, usize) -> bool;

/// When it arrives, in which order it was sent, from whom, to whom, what.
type OnWire = (Duration, u64, usize, SocketAddr, Bytes);

struct Fleet {
    began: Instant,
    now: Duration,
    random: StdRng,
    seed: u64,
    /// Packets of a thousand that are lost.
    loss: u32,
    parted: Parted,
    nodes: Vec<Node>,
    wire: BinaryHeap<Reverse<OnWire>>,
    sent: u64,
    /// Everything that was told, for comparison of two runs.
    told: Vec<(Duration, usize, MemberAction)>,
}

fn address(number: usize) -> SocketAddr {
    ([10, 0, (number >> 8) as u8, number as u8], 7000).into()
}

fn member(id: usize, at: usize, incarnation: u64) -> Member {
    Member {
        id: NodeId(*blake3::hash(&id.to_le_bytes()).as_bytes().first_chunk().unwrap()),
        address: address(at),
        name: format!("edge-{id}").into(),
        zone: "zone-a".into(),
        roles: Roles { edge: true, superpeer: id.is_multiple_of(3) },
        incarnation,
    }
}

impl Fleet {
    /// `count` nodes, all of which know the address of the first.
    fn new(count: usize, seed: u64, loss: u32) -> Self {
        println!("seed {seed}");
        let mut fleet = Self {
            began: Clock::system().mono(),
            now: Duration::ZERO,
            random: StdRng::seed_from_u64(seed),
            seed,
            loss,
            parted: |_, _| false,
            nodes: Vec::new(),
            wire: BinaryHeap::new(),
            sent: 0,
            told: Vec::new(),
        };
        for number in 0..count {
            fleet.start(member(number, number, 1_000_000));
        }
        fleet
    }

    fn at(&self) -> Instant {
        self.began + self.now
    }

    fn start(&mut self, me: Member) {
        let number = self.nodes.len();
        let mut machine = Members::new(me.clone(), self.seed ^ number as u64, self.at());
        machine.join(address(0), self.at());
        self.nodes.push(Node { machine, me, alive: true, seen: BTreeMap::new() });
        self.take(number);
    }

    fn kill(&mut self, number: usize) {
        self.nodes[number].alive = false;
    }

    /// Does what the machine wants done.
    fn take(&mut self, number: usize) {
        let told = self.told.len();
        while let Some(action) = self.nodes[number].machine.poll() {
            let node = &mut self.nodes[number];
            match &action {
                MemberAction::Send { to, packet } => {
                    assert!(packet.len() <= PACKET_MAX);
                    assert_ne!(*to, node.me.address);
                    self.sent += 1;
                    if self.random.random_range(0..1000) >= self.loss {
                        let delay = MILLI * self.random.random_range(1..20);
                        let packet = (self.now + delay, self.sent, number, *to, packet.clone());
                        self.wire.push(Reverse(packet));
                    }
                }
                MemberAction::Up(up) => {
                    assert_ne!(node.seen.insert(up.id, up.clone()).as_ref(), Some(up));
                    self.told.push((self.now, number, action));
                }
                MemberAction::Down(down) => {
                    assert_eq!(node.seen.remove(&down.id).as_ref(), Some(down));
                    self.told.push((self.now, number, action));
                }
            }
        }
        if self.told.len() > told {
            let node = &self.nodes[number];
            assert_eq!(node.machine.live(), node.seen.values().cloned().collect::<Vec<_>>());
        }
    }

    /// The next thing that happens.
    fn step(&mut self) {
        let deadline = |(number, node): (usize, &Node)| Some((node.machine.deadline()? - self.began, number));
        let alive = self.nodes.iter().enumerate().filter(|(_, node)| node.alive);
        let timer = alive.filter_map(deadline).min();
        let packet = self.wire.peek().map(|Reverse(packet)| packet.0);
        if let Some((at, number)) = timer.filter(|(at, _)| packet.is_none_or(|packet| *at <= packet)) {
            self.now = self.now.max(at);
            let now = self.at();
            self.nodes[number].machine.handle_deadline(now);
            self.take(number);
            return;
        }
        let Some(Reverse((at, _, from, to, packet))) = self.wire.pop() else {
            panic!("nothing happens any more")
        };
        self.now = at;
        let receiver = self.nodes.iter().rposition(|node| node.alive && node.me.address == to);
        let Some(number) = receiver.filter(|number| !(self.parted)(from, *number)) else { return };
        let now = self.at();
        self.nodes[number].machine.handle_packet(&packet, now);
        self.take(number);
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// How long it takes until `is_so`, at most `time`.
    fn run_until(&mut self, time: Duration, is_so: impl Fn(&Self) -> bool) -> Duration {
        let began = self.now;
        while !is_so(self) {
            // Nothing else than what is told can make it so.
            let told = self.told.len();
            while self.told.len() == told && self.now <= began + time {
                self.step();
            }
            assert!(self.now <= began + time, "not after {time:?}, seed {}: {}", self.seed, self.views());
        }
        self.now - began
    }

    fn views(&self) -> String {
        let view = |(number, node): (usize, &Node)| {
            let names: Vec<_> = node.seen.values().map(|member| &*member.name).collect();
            format!("\n{number} ({}): {}", if node.alive { "alive" } else { "dead" }, names.join(" "))
        };
        self.nodes.iter().enumerate().map(view).collect()
    }

    /// Whether all that are alive and can hear each other see each other as they are, and nobody else.
    fn all_agree(&self) -> bool {
        let alive: Vec<_> = self.nodes.iter().enumerate().filter(|(_, node)| node.alive).collect();
        alive.iter().all(|(number, node)| {
            let others = alive.iter().filter(|(other, _)| other != number && !(self.parted)(*number, *other));
            let others: BTreeMap<_, _> = others.map(|(_, other)| (other.me.id, other.me.clone())).collect();
            node.seen == others
        })
    }

    fn nobody_sees(&self, gone: &Member) -> bool {
        self.nodes.iter().filter(|node| node.alive).all(|node| node.seen.get(&gone.id) != Some(gone))
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn from_one_seed_all_find_all() {
    for (count, seed, most) in [(2, 1, 3), (3, 2, 3), (10, 3, 5), (50, 4, 10)] {
        let mut fleet = Fleet::new(count, seed, 10);
        let took = fleet.run_until(seconds(most), Fleet::all_agree);
        println!("{count} nodes: {took:?}");
        fleet.run_for(seconds(20));
        assert!(fleet.all_agree(), "{}", fleet.views());
    }
}

#[test]
fn a_fleet_at_rest_takes_nobody_for_dead_though_packets_are_lost() {
    let mut fleet = Fleet::new(20, 5, 50);
    fleet.run_until(seconds(10), Fleet::all_agree);
    let (told, sent) = (fleet.told.len(), fleet.sent);
    fleet.run_for(seconds(120));
    let downs = fleet.told[told..].iter().filter(|(_, _, action)| matches!(action, MemberAction::Down(_)));
    assert_eq!(downs.count(), 0);
    println!("{} packets per node and second", (fleet.sent - sent) / 20 / 120);
}

#[test]
fn a_node_that_dies_is_down_everywhere_within_seconds() {
    let mut times = Vec::new();
    for seed in 10..20 {
        for count in [3, 12] {
            let mut fleet = Fleet::new(count, seed, 5);
            fleet.run_until(seconds(10), Fleet::all_agree);
            fleet.run_for(seconds(3));
            fleet.kill(1);
            times.push(fleet.run_until(seconds(9), Fleet::all_agree));
        }
    }
    times.sort();
    println!("{times:?}");
    assert!(times[times.len() / 2] < seconds(5) && times[times.len() * 9 / 10] < seconds(6), "{times:?}");
}

#[test]
fn one_of_fifty_that_dies_is_down_everywhere_within_six_seconds() {
    let mut fleet = Fleet::new(50, 31, 5);
    fleet.run_until(seconds(12), Fleet::all_agree);
    fleet.kill(7);
    println!("{:?}", fleet.run_until(seconds(6), Fleet::all_agree));
}

#[test]
fn who_leaves_is_gone_at_once() {
    for (count, seed) in [(2, 40), (3, 41), (12, 42), (50, 43)] {
        let mut fleet = Fleet::new(count, seed, 0);
        fleet.run_until(seconds(12), Fleet::all_agree);
        let now = fleet.at();
        fleet.nodes[1].machine.leave(now);
        fleet.take(1);
        assert_eq!(fleet.nodes[1].machine.deadline(), None);
        fleet.kill(1);
        println!("{count} nodes: {:?}", fleet.run_until(seconds(2), Fleet::all_agree));
    }
}

#[test]
fn a_partition_heals() {
    let halves: Parted = |one, other| one.is_multiple_of(2) != other.is_multiple_of(2);
    let first: Parted = |one, other| (one == 0) != (other == 0);
    for (count, parted, seed) in [(2, halves, 50), (5, first, 51), (6, halves, 52), (30, halves, 53)] {
        let mut fleet = Fleet::new(count, seed, 10);
        fleet.run_until(seconds(12), Fleet::all_agree);
        fleet.parted = parted;
        let parting = fleet.run_until(seconds(60), Fleet::all_agree);
        fleet.run_for(seconds(30));
        fleet.parted = |_, _| false;
        let healing = fleet.run_until(seconds(40), Fleet::all_agree);
        println!("{count} nodes: parted after {parting:?}, whole after {healing:?}");
        fleet.run_for(seconds(20));
        assert!(fleet.all_agree(), "{}", fleet.views());
    }
}

#[test]
fn a_partition_that_outlasts_the_memory_of_the_dead_heals_by_the_seeds() {
    let mut fleet = Fleet::new(4, 55, 0);
    fleet.run_until(seconds(12), Fleet::all_agree);
    fleet.parted = |one, other| one.is_multiple_of(2) != other.is_multiple_of(2);
    fleet.run_for(DEAD_MAX_AGE + seconds(120));
    assert!(fleet.nodes.iter().all(|node| node.machine.dead_members().count() == 0));
    fleet.parted = |_, _| false;
    println!("{:?}", fleet.run_until(SEED_INTERVAL + seconds(20), Fleet::all_agree));
}

#[test]
fn a_restarted_node_takes_the_place_of_its_former_life() {
    // The same key at the same address, the same key elsewhere, another key at the same address.
    for (id, at, seed) in [(2, 2, 60), (2, 77, 61), (78, 2, 62)] {
        let mut fleet = Fleet::new(8, seed, 5);
        fleet.run_until(seconds(12), Fleet::all_agree);
        let old = fleet.nodes[2].me.clone();
        fleet.kill(2);
        let told = fleet.told.len();
        fleet.start(member(id, at, 2_000_000));
        let gone = fleet.run_until(seconds(3), |fleet| fleet.nobody_sees(&old));
        println!(
            "new life known after {gone:?}, all after {:?}",
            fleet.run_until(seconds(9), Fleet::all_agree)
        );
        fleet.run_for(seconds(30));
        assert!(fleet.all_agree(), "{}", fleet.views());
        let downs: BTreeSet<_> = fleet.told[told..]
            .iter()
            .filter_map(
                |(_, _, action)| if let MemberAction::Down(member) = action { Some(member.id) } else { None },
            )
            .collect();
        assert!(downs.is_subset(&BTreeSet::from([old.id])) && (id == 2 || !downs.is_empty()));
    }
}

#[test]
fn a_node_comes_back_after_it_was_found_dead() {
    for (incarnation, seed) in [(2_000_000, 65), (900_000, 66)] {
        let mut fleet = Fleet::new(8, seed, 5);
        fleet.run_until(seconds(12), Fleet::all_agree);
        fleet.kill(2);
        fleet.run_until(seconds(10), Fleet::all_agree);
        // Also if its clock went back meanwhile.
        fleet.start(member(2, 2, incarnation));
        println!("{:?}", fleet.run_until(seconds(10), Fleet::all_agree));
    }
}

#[test]
fn a_node_that_hung_comes_back_by_itself() {
    let mut fleet = Fleet::new(8, 68, 5);
    fleet.run_until(seconds(12), Fleet::all_agree);
    fleet.kill(3);
    fleet.run_until(seconds(10), Fleet::all_agree);
    fleet.run_for(seconds(30));
    fleet.nodes[3].alive = true;
    println!("{:?}", fleet.run_until(seconds(20), Fleet::all_agree));
}

#[test]
fn the_seed_may_come_last() {
    let mut fleet = Fleet::new(3, 70, 0);
    fleet.kill(0);
    fleet.run_for(seconds(30));
    fleet.start(member(80, 0, 1));
    fleet.run_until(seconds(5), Fleet::all_agree);
}

#[test]
fn two_runs_with_one_seed_are_alike() {
    let run = || {
        let mut fleet = Fleet::new(10, 80, 100);
        fleet.run_for(seconds(10));
        fleet.kill(4);
        fleet.run_for(seconds(10));
        (fleet.told, fleet.sent)
    };
    assert_eq!(run(), run());
}

#[test]
fn packets_that_are_none_or_for_others_change_nothing() {
    let mut fleet = Fleet::new(3, 90, 0);
    fleet.run_until(seconds(5), Fleet::all_agree);
    let mut recorded = BTreeSet::new();
    for _ in 0..500 {
        fleet.step();
        recorded.extend(fleet.wire.iter().map(|Reverse(packet)| packet.4.clone()));
    }
    assert!(recorded.len() > 20);
    let now = fleet.at();
    let mut stranger = Members::new(member(9, 9, 1), 91, now);
    for packet in &recorded {
        stranger.handle_packet(packet, now);
        stranger.handle_packet(&packet[..packet.len() / 2], now);
    }
    assert_eq!((stranger.poll(), stranger.live()), (None, vec![]));
    let now = fleet.at();
    let mut random = StdRng::seed_from_u64(92);
    for packet in recorded {
        let mut bytes = packet.to_vec();
        let at = random.random_range(0..bytes.len());
        bytes[at] = random.random();
        bytes.truncate(bytes.len() - random.random_range(0..bytes.len()));
        fleet.nodes[1].machine.handle_packet(&bytes, now);
    }
    fleet.nodes[1].machine.handle_packet(&vec![0; 4000], now);
    fleet.nodes[1].machine.handle_packet(&[], now);
    fleet.take(1);
}

/// A packet by a member that says that these are alive.
fn gossip(from: &Member, to: &Member, alive: impl Iterator<Item = Member>) -> Vec<u8> {
    use bytes::BufMut;
    use foca::{Codec, Header, Message};
    let identity = |member: &Member| Identity::Life(Life::new(member));
    let mut packets = Packets { me: Life::new(to) };
    let (src, dst) = (identity(from), identity(to));
    let header = Header { src, src_incarnation: 0, dst, message: Message::Gossip };
    let mut packet = Vec::new();
    packets.encode_header(&header, &mut packet).unwrap();
    let alive: Vec<_> = alive.collect();
    packet.put_u16(alive.len() as u16);
    for member in alive {
        packets.encode_member(&foca::Member::alive(identity(&member)), &mut packet).unwrap();
    }
    packet
}

#[test]
fn a_flood_of_members_is_cut_off_and_those_known_go_on() {
    let now = Clock::system().mono();
    let (me, friend) = (member(0, 0, 1), member(1, 1, 1));
    let mut machine = Members::new(me.clone(), 100, now);
    machine.handle_packet(&gossip(&friend, &me, std::iter::empty()), now);
    for round in 0..1000 {
        let strangers = (0..10).map(|number| member(10 + round * 10 + number, 10 + round * 10 + number, 1));
        machine.handle_packet(&gossip(&friend, &me, strangers), now);
    }
    let known = machine.foca.iter_membership_state().len();
    assert!((MEMBERS_MAX..MEMBERS_MAX + 40).contains(&known), "{known}");
    assert!(machine.outbox.packets.len() <= PACKETS_MAX && machine.outbox.timers.len() <= TIMERS_MAX);
    let renewed = Member { incarnation: 2, ..friend };
    machine.handle_packet(&gossip(&renewed, &me, std::iter::empty()), now);
    assert!(machine.live().contains(&renewed));
}

#[test]
fn who_claims_this_nodes_address_is_not_believed() {
    let now = Clock::system().mono();
    let (me, friend) = (member(0, 0, 1), member(1, 1, 1));
    let mut machine = Members::new(me.clone(), 101, now);
    let former = [member(7, 0, 0), member(8, 0, 9)];
    machine.handle_packet(&gossip(&friend, &me, former.into_iter()), now);
    assert_eq!(machine.live(), [friend]);
}

#[test]
fn a_seed_that_is_this_node_is_not_asked_and_others_are_remembered_within_bounds() {
    let now = Clock::system().mono();
    let mut machine = Members::new(member(0, 0, 1), 102, now);
    machine.join(address(0), now);
    assert_eq!(machine.poll(), None);
    (1..1000).for_each(|number| machine.join(address(number), now));
    assert_eq!(machine.seeds.len(), SEEDS_MAX);
    machine.leave(now);
    machine.join(address(1), now);
    machine.handle_deadline(now + seconds(5));
    while let Some(action) = machine.poll() {
        assert!(matches!(action, MemberAction::Send { .. }));
    }
    assert_eq!(machine.deadline(), None);
}

proptest! {
    #[test]
    fn no_packet_makes_it_panic(bytes: Vec<u8>) {
        let now = Clock::system().mono();
        let mut machine = Members::new(member(0, 0, 1), 1, now);
        machine.handle_packet(&bytes, now);
        let _ = machine.poll();
    }
}
