//! A fleet that asks two directories, by discrete events: without failures an object leaves the origin
//! once.

use super::tests::start;
use super::*;
use crate::proto::key::VariantId;
use crate::proto::swarm::{Ending, Place, Roles, top_two};
use crate::proto::wire::note::Kind;
use crate::proto::wire::{Announce, Done, Renew};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

const EDGES: u64 = 1000;
const OBJECTS: u64 = 3000;
const REQUESTS: u64 = 15_000;
/// Milliseconds over which the requests come.
const SPAN: u64 = 4_000;
const HOP: u64 = 1;
const ANNOUNCE_PAUSE: u64 = 100;
const RENEW_PAUSE: u64 = 700;

/// What happens, to an edge and an object by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Asked { edge: u64, object: u64, directory: usize },
    Working { edge: u64, object: u64, directory: usize, number: u64, until: u64 },
    Arrived { edge: u64, object: u64 },
    Announced { edge: u64, object: u64 },
    Copied { directory: usize, action: usize },
}

struct Fleet {
    seed: u64,
    drawn: u64,
    began: Instant,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    scheduled: u64,
    directories: [Directory; 2],
    copies: Vec<Granted>,
    seeking: BTreeSet<(u64, u64)>,
    held: BTreeSet<(u64, u64)>,
    /// Who waits for an object to arrive at an edge.
    waiting: BTreeMap<(u64, u64), Vec<u64>>,
    origin_fetches: BTreeMap<u64, u32>,
    followers_most: usize,
    alone: u32,
}

fn superpeer(number: usize) -> NodeId {
    NodeId::of_key(&[number as u8])
}

fn edge_id(edge: u64) -> NodeId {
    NodeId((u128::from(edge + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)).to_be_bytes())
}

fn party(edge: u64) -> Party {
    let zone = ["a", "b", "c"][edge as usize % 3].into();
    let place = Place { node: edge_id(edge), address: ([127, 0, 0, 1], edge as u16).into(), zone };
    Party { place, roles: Roles::EDGE }
}

fn subject(object: u64) -> Subject {
    let id = *blake3::hash(&object.to_le_bytes()).as_bytes().first_chunk().expect("32 bytes");
    (ObjectId(id), VariantId(id))
}

impl Fleet {
    fn new(seed: u64) -> Self {
        let began = start();
        let directory = |number| Directory::new(superpeer(number), 1, 1 << 20, began);
        let mut directories = [directory(0), directory(1)];
        for (number, directory) in directories.iter_mut().enumerate() {
            let place =
                Place { node: superpeer(1 - number), address: ([127, 0, 0, 1], 1).into(), zone: "a".into() };
            let other = Party { place, roles: Roles { edge: false, superpeer: true } };
            directory.handle_opened(other, 1, began);
            for edge in 0..EDGES {
                directory.handle_opened(party(edge), 1, began);
                let complete = Kind::Announce(Announce { complete: true, ..Announce::default() });
                directory.handle_note(edge_id(edge), &complete, began);
            }
        }
        Self {
            seed,
            drawn: 0,
            began,
            now: 0,
            events: BinaryHeap::new(),
            scheduled: 0,
            directories,
            copies: Vec::new(),
            seeking: BTreeSet::new(),
            held: BTreeSet::new(),
            waiting: BTreeMap::new(),
            origin_fetches: BTreeMap::new(),
            followers_most: 0,
            alone: 0,
        }
    }

    /// The next number below `bound`, by SplitMix64.
    fn draw(&mut self, bound: u64) -> u64 {
        self.drawn += 1;
        let z = self.seed.wrapping_add(self.drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn at(&self, millis: u64) -> Instant {
        self.began + Duration::from_millis(millis)
    }

    fn schedule(&mut self, after: u64, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((self.now + after, self.scheduled, event)));
    }

    /// Few objects are asked for often, many seldom; a small part of the asks goes to the second
    /// superpeer, as the first did not answer in time.
    fn ask_for_all(&mut self) {
        for _ in 0..REQUESTS {
            let (edge, draw) = (self.draw(EDGES), self.draw(1000));
            let object = self.draw(OBJECTS) * draw / 1000 * draw / 1000;
            if !self.seeking.insert((edge, object)) {
                continue; // it has it, or is at it
            }
            let (first, _) = top_two([superpeer(0), superpeer(1)].into_iter(), subject(object).0);
            let first = usize::from(first != Some(superpeer(0)));
            let directory = if self.draw(100) == 0 { 1 - first } else { first };
            let after = self.draw(SPAN);
            self.schedule(after, Event::Asked { edge, object, directory });
        }
    }

    fn run(&mut self) {
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            self.now = at;
            self.drive_directories();
            match event {
                Event::Asked { edge, object, directory } => self.handle_asked(edge, object, directory),
                Event::Working { edge, object, directory, number, until } => {
                    self.handle_working((edge, object), directory, number, until);
                }
                Event::Arrived { edge, object } => self.handle_arrived(edge, object),
                Event::Announced { edge, object } => {
                    let added = vec![self.holding(object).into()];
                    let note = Kind::Announce(Announce { added, ..Announce::default() });
                    (0..2).for_each(|directory| self.say(edge, directory, &note));
                }
                Event::Copied { directory, action } => {
                    let note = Kind::Granted(self.copies[action].clone());
                    let (from, now) = (superpeer(1 - directory), self.at(self.now));
                    self.directories[directory].handle_note(from, &note, now);
                }
            }
        }
    }

    fn drive_directories(&mut self) {
        let now = self.at(self.now);
        for number in 0..2 {
            while self.directories[number].deadline().is_some_and(|deadline| deadline <= now) {
                self.directories[number].handle_deadline(now);
            }
            while let Some(action) = self.directories[number].poll() {
                let DirectoryAction::Copy(_, granted) = action else { panic!("{action:?} without failures") };
                self.copies.push(granted);
                let action = self.copies.len() - 1;
                self.schedule(HOP, Event::Copied { directory: 1 - number, action });
            }
        }
    }

    fn holding(&self, object: u64) -> Holding {
        let (object, variant) = subject(object);
        Holding { object, variant, fresh_secs: 3600 }
    }

    fn say(&mut self, edge: u64, directory: usize, note: &Kind) {
        let now = self.at(self.now);
        self.directories[directory].handle_note(edge_id(edge), note, now);
    }

    fn handle_asked(&mut self, edge: u64, object: u64, directory: usize) {
        let Holding { object: object_id, variant, .. } = self.holding(object);
        let query = Query {
            object: object_id,
            variant,
            vary_known: true,
            held: false,
            lease_wanted: true,
            avoid: Vec::new(),
            purged: 0,
            overtaken: None,
        };
        let now = self.at(self.now);
        match self.directories[directory].handle_resolve(&party(edge), &query, now) {
            Finding::Holders(places) => {
                let holder = u64::from(places[0].address.port());
                assert!(self.held.contains(&(holder, object)), "{holder} has it not");
                self.schedule(5, Event::Arrived { edge, object });
            }
            Finding::Lease(token, _) => {
                *self.origin_fetches.entry(object).or_default() += 1;
                let long = self.draw(10) == 0;
                let takes = 20 + self.draw(if long { 8000 } else { 400 });
                let until = self.now + takes;
                let number = token.number;
                self.handle_working((edge, object), directory, number, until);
            }
            Finding::Follow(place, _) => {
                let parent = u64::from(place.address.port());
                assert!(parent != edge && self.seeking.contains(&(parent, object)));
                if self.held.contains(&(parent, object)) {
                    return self.schedule(5, Event::Arrived { edge, object });
                }
                let waiting = self.waiting.entry((parent, object)).or_default();
                waiting.push(edge);
                self.followers_most = self.followers_most.max(waiting.len());
            }
            Finding::Alone(_) | Finding::Fresher(_) | Finding::Warming => self.alone += 1,
        }
    }

    /// A lease is worked under until it ends.
    fn handle_working(&mut self, (edge, object): (u64, u64), directory: usize, number: u64, until: u64) {
        let issuer = issuer(superpeer(directory));
        let token = Token { issuer, term: 1, number };
        if self.now < until {
            self.say(edge, directory, &Kind::Renew(Renew { tokens: vec![token] }));
            let after = RENEW_PAUSE.min(until - self.now);
            return self.schedule(after, Event::Working { edge, object, directory, number, until });
        }
        let holding = Some(self.holding(object).into());
        let done = Kind::Done(Done { token: Some(token), ending: Ending::Stored.code(), holding });
        self.say(edge, directory, &done);
        self.handle_arrived(edge, object);
    }

    fn handle_arrived(&mut self, edge: u64, object: u64) {
        self.held.insert((edge, object));
        self.schedule(ANNOUNCE_PAUSE, Event::Announced { edge, object });
        for follower in self.waiting.remove(&(edge, object)).unwrap_or_default() {
            self.schedule(HOP, Event::Arrived { edge: follower, object });
        }
    }
}

#[test]
fn without_failures_an_object_leaves_the_origin_once() {
    for seed in [1, 2] {
        let mut fleet = Fleet::new(seed);
        fleet.ask_for_all();
        fleet.run();
        let objects: BTreeSet<_> = fleet.seeking.iter().map(|(_, object)| *object).collect();
        let fetches: u32 = fleet.origin_fetches.values().sum();
        assert_eq!(fleet.held, fleet.seeking, "seed {seed}: not everybody got what it asked for");
        assert_eq!(fleet.alone, 0, "seed {seed}");
        assert!(fleet.waiting.is_empty(), "seed {seed}");
        // Each directory has a tree of its own.
        let most = fleet.followers_most;
        assert!(most <= 2 * usize::from(tree::CHILDREN_MAX), "seed {seed}: {most} follow one");
        let ratio = f64::from(fetches) / objects.len() as f64;
        assert!(ratio <= 1.01, "seed {seed}: {fetches} fetches of {} objects", objects.len());
        let followed: u64 = fleet.directories.iter().map(|directory| directory.stats().followed).sum();
        assert!(followed > 500, "seed {seed}: only {followed} asks came while a fetch was in progress");
    }
}
