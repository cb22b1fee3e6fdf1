//! The sessions of a directory: which nodes it may name, and whether they have told all they have.

use crate::proto::swarm::{NodeId, Party};
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Sessions at most.
const SESSIONS_MAX: usize = 1 << 16;
/// An edge that has not named all its holdings so long after its session began is not waited for.
pub(super) const TELLING_MAX: Duration = Duration::from_secs(10);
/// A directory that has just started waits so long for the edges that are live to open their sessions, and for the first
/// that has named everything.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// One edge of so many that has not named its holdings yet does not make the directory wait: what it
/// alone has costs one fetch, and in a large fleet there is always one that has just come back.
pub(super) const TELLING_PART: usize = 16;

/// Tells all sessions that a directory ever had apart. Holdings refer to it, so that they all vanish
/// when the session does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Serial(u32);

/// A zone as far as it must be compared: nodes in different zones may in rare cases seem to be in one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Zone(u32);

impl Zone {
    pub(super) fn of(name: &str) -> Self {
        // FNV-1a.
        Self(name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)))
    }
}

/// A session.
pub(super) struct Session {
    pub(super) party: Party,
    pub(super) zone: Zone,
    number: u64,
    leaving: bool,
    /// Until when its holdings are waited for.
    telling: Option<Instant>,
}

/// All sessions.
pub(super) struct Sessions {
    by_node: HashMap<NodeId, Serial>,
    open: HashMap<Serial, Session>,
    last: u32,
    telling: BTreeSet<(Instant, Serial)>,
    /// Open sessions of edges that are not leaving.
    edges: usize,
    /// Edges that are known to be live, by whatever way.
    expected: usize,
    ends: u64,
    started: Instant,
    any_complete: bool,
}

impl Sessions {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            by_node: HashMap::new(),
            open: HashMap::new(),
            last: 0,
            telling: BTreeSet::new(),
            edges: 0,
            expected: 0,
            ends: 0,
            started: now,
            any_complete: false,
        }
    }

    /// Opens a session in place of an older one. Nothing happens when there are too many.
    pub(super) fn open(&mut self, party: Party, number: u64, now: Instant) {
        let node = party.place.node;
        self.remove(node);
        if self.open.len() >= SESSIONS_MAX {
            return;
        }
        let serial = self.unused_serial();
        let telling = party.roles.edge.then_some(now + TELLING_MAX);
        self.telling.extend(telling.map(|until| (until, serial)));
        self.edges += usize::from(party.roles.edge);
        let zone = Zone::of(&party.place.zone);
        self.open.insert(serial, Session { party, zone, number, leaving: false, telling });
        self.by_node.insert(node, serial);
    }

    /// Closes a session. Returns whether it was the one open.
    pub(super) fn close(&mut self, node: NodeId, number: u64) -> bool {
        let serial = self.by_node.get(&node);
        let is_it = serial.and_then(|serial| self.open.get(serial)).is_some_and(|open| open.number == number);
        if is_it {
            self.remove(node);
        }
        is_it
    }

    /// From now on the node is not named any more; its session stays open.
    pub(super) fn leave(&mut self, node: NodeId) {
        let Some(&serial) = self.by_node.get(&node) else { return };
        self.told(serial);
        let session = self.open.get_mut(&serial).expect("every node's serial is open");
        if !session.leaving {
            session.leaving = true;
            self.edges -= usize::from(session.party.roles.edge);
            self.ends += 1;
        }
    }

    /// All that the node had when its session began has been named.
    pub(super) fn complete(&mut self, serial: Serial) {
        self.told(serial);
        self.any_complete = true;
    }

    /// The session, if it is open and its node not leaving.
    pub(super) fn live(&self, serial: Serial) -> Option<&Session> {
        self.open.get(&serial).filter(|session| !session.leaving)
    }

    /// The live session of a node.
    pub(super) fn of(&self, node: NodeId) -> Option<(Serial, &Session)> {
        let serial = *self.by_node.get(&node)?;
        self.live(serial).map(|session| (serial, session))
    }

    pub(super) fn is_leaving(&self, node: NodeId) -> bool {
        let serial = self.by_node.get(&node);
        serial.and_then(|serial| self.open.get(serial)).is_some_and(|session| session.leaving)
    }

    /// How many sessions have ended or begun to leave: as long as it stays the same, nobody who was live
    /// is not.
    pub(super) fn ends(&self) -> u64 {
        self.ends
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// So many edges are live, with a session or without.
    pub(super) fn expect(&mut self, edges: usize) {
        self.expected = edges;
    }

    /// Whether too many have not named all their holdings yet.
    pub(super) fn is_warming(&self, now: Instant) -> bool {
        let has_just_started = now < self.started + GRACE;
        if has_just_started && !self.any_complete {
            return true;
        }
        // Before all that are live have come, the first would have leases for what others hold.
        let absent = if has_just_started { self.expected.saturating_sub(self.edges) } else { 0 };
        let telling = self.telling.range((now, Serial(u32::MAX))..).count();
        (telling + absent) * TELLING_PART > self.edges + absent
    }

    /// Forgets whom not to wait for any longer.
    pub(super) fn prune(&mut self, now: Instant) {
        while let Some(&(until, serial)) = self.telling.first().filter(|(until, _)| *until <= now) {
            self.telling.remove(&(until, serial));
        }
    }

    fn told(&mut self, serial: Serial) {
        let telling = self.open.get_mut(&serial).and_then(|session| session.telling.take());
        if let Some(until) = telling {
            self.telling.remove(&(until, serial));
        }
    }

    fn remove(&mut self, node: NodeId) {
        self.leave(node);
        if let Some(serial) = self.by_node.remove(&node) {
            self.open.remove(&serial);
        }
    }

    fn unused_serial(&mut self) -> Serial {
        loop {
            self.last = self.last.wrapping_add(1);
            // The highest is kept out, so that it can stand for the end of a range.
            let serial = Serial(self.last);
            if self.last != u32::MAX && !self.open.contains_key(&serial) {
                return serial; // at most SESSIONS_MAX are in use
            }
        }
    }
}
