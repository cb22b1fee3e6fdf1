//! How the leader of a fill seeks its version: among peers, as the directory says, until one gives it or the
//! origin must be asked.
//!
//! ```text
//! Begun ── Resolve ─┬─ Holders ───── Read each in turn ─┐
//!            ^      ├─ Fresher ───── Read               ├─ Taken ── Take ── (Lost: Resolve, for the rest)
//!            │      ├─ Follow ────── Read live ─────────┤
//!            │      ├─ Unreachable ─ Read at home ──────┘
//!            │      ├─ Lease ─────── Origin
//!            │      └─ Alone ─────── Origin
//!            └─ gone, purged, broken, other variant: bounded, then Origin
//! ```
//! Pure: `serve` carries out each step and brings back the event that it led to. Every path ends, and asks
//! the origin once at most.

use super::key::{ObjectId, VariantId};
use super::swarm::{NodeId, PURGED_MAX, Place, Query, Token};
use super::wire::AVOID_MAX;
use std::collections::VecDeque;

/// Times that the directory is asked for one head.
pub const RESOLVES_MAX: u8 = 4;
/// Times that it is asked for the rest of a body whose sources were lost.
pub const RESUMES_MAX: u8 = 8;
/// Holders of one answer that are tried.
pub const READS_MAX: u8 = 3;
/// Times that a peer may tell that the object varies by other fields than was thought.
pub const VARIES_MAX: u8 = 2;

/// What is sought, and by whom.
#[derive(Clone, Debug)]
pub struct Facts {
    /// This node, which is never read from.
    pub me: NodeId,
    /// The object.
    pub object: ObjectId,
    /// The variant, as far as it is known what the object varies by.
    pub variant: VariantId,
    /// Whether that is known.
    pub vary_known: bool,
    /// Whether a stale version is held, so that only fresher ones help.
    pub held: bool,
    /// Whether the fill may be shared: it takes a lease, follows others and asks the home edge. Else it
    /// takes only what is stored.
    pub lease_wanted: bool,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The fill begins.
    Begun,
    /// The directory: these have it.
    Holders(Vec<Place>),
    /// The directory: this node may ask the origin.
    Lease,
    /// The directory: it arrives there, under this lease.
    Follow(Place, Token),
    /// The directory: this node has a fresher version.
    Fresher(Place),
    /// The directory: not worth sharing.
    Alone,
    /// No directory. The home edge, if it is another node and may be asked.
    Unreachable(Option<Place>),
    /// The peer that was read from has answered, or has not.
    Read(Reading),
    /// What had been taken broke off within the body; the last peer is not asked again.
    Lost,
}

/// What came of asking a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A version of this variant that can be used.
    Taken(VariantId),
    /// It has none that can be used here.
    Gone,
    /// What it has, or fetches, a purge selects.
    Purged,
    /// It gave no answer, or one that is none.
    Unanswered,
    /// The object varies by other fields than was thought; this is the variant under them.
    Varies(VariantId),
    /// The origin's response to it may not be stored.
    NotStored,
    /// The origin gave it no response.
    OriginFailed,
}

/// By what right a peer is read from; also the label of `shoal_peer_fetches_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// It has the version stored.
    Holder,
    /// The version arrives there, under this lease.
    Follow(Token),
    /// It is the home edge of the object.
    Home,
    /// It has a fresher version than the stale one that is held here.
    Fresher,
}

/// Why the origin is asked by a node of a fleet; also the label of `shoal_swarm_origin_fetches_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Under a lease.
    Lease,
    /// As the home edge, for another.
    Home,
    /// The directory says that it is not worth sharing, or has nothing for a request that may not share.
    Alone,
    /// No directory and no home edge can be reached.
    Unreachable,
    /// Peers that were named did not give it.
    PeersFailed,
    /// The request demands the origin: by its directives, or by credentials.
    EndToEnd,
    /// The swarm has no part in it: the node is alone, or the request is not one for the cache.
    Off,
}

impl Ground {
    /// All grounds, in the order of their metrics.
    pub const ALL: [Self; 7] = [
        Self::Lease,
        Self::Home,
        Self::Alone,
        Self::Unreachable,
        Self::PeersFailed,
        Self::EndToEnd,
        Self::Off,
    ];

    /// The one name of this ground.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Home => "home",
            Self::Alone => "alone",
            Self::Unreachable => "unreachable",
            Self::PeersFailed => "peers_failed",
            Self::EndToEnd => "end_to_end",
            Self::Off => "off",
        }
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask the directory.
    Resolve(Query),
    /// Read from this node, then report [`Event::Read`].
    Read(Place, By),
    /// Use what the peer gives; report [`Event::Lost`] if it breaks off.
    Take,
    /// Ask the origin: the end.
    Origin(Ground),
    /// The version that can be had is of another variant, and the list of fields is settled: those who wait
    /// plan anew. The end.
    Unfit,
    /// The response may not be stored: those who wait go alone. The end.
    NotStored,
}

/// The machine.
pub struct Seek {
    facts: Facts,
    /// Whether a version was taken, so that only what is left of it is sought.
    taken: bool,
    resolves_left: u8,
    reads_left: u8,
    varies_left: u8,
    /// Holders that were named and not tried yet.
    others: VecDeque<Place>,
    /// Who was read from last.
    last: Option<(NodeId, By)>,
    avoid: VecDeque<NodeId>,
    /// Holders that had only what a purge selects.
    purged: u32,
    /// The lease of a fetch that a purge overtook.
    overtaken: Option<Token>,
}

impl Seek {
    /// A machine that waits for [`Event::Begun`].
    pub fn new(facts: Facts) -> Self {
        Self {
            facts,
            taken: false,
            resolves_left: RESOLVES_MAX,
            reads_left: 0,
            varies_left: VARIES_MAX,
            others: VecDeque::new(),
            last: None,
            avoid: VecDeque::new(),
            purged: 0,
            overtaken: None,
        }
    }

    /// The variant that is sought now.
    pub fn variant(&self) -> VariantId {
        self.facts.variant
    }

    /// Holders that were named beside the one that was read from.
    pub fn others(&self) -> Vec<Place> {
        self.others.iter().cloned().collect()
    }

    /// Never reads from `node` again.
    pub fn avoid(&mut self, node: NodeId) {
        if self.avoid.contains(&node) {
            return;
        }
        if self.avoid.len() >= AVOID_MAX {
            self.avoid.pop_front();
        }
        self.avoid.push_back(node);
    }

    /// The step that follows `event`.
    pub fn next(&mut self, event: Event) -> Step {
        match event {
            Event::Begun => self.resolve(),
            Event::Lost => {
                self.avoid_last();
                self.resolve()
            }
            // The directory is of an older version, and asking one holder after the other is what a purge must not lead to.
            Event::Holders(_) | Event::Fresher(_) if self.purged >= PURGED_MAX => {
                Step::Origin(Ground::PeersFailed)
            }
            Event::Holders(places) => {
                self.others = places.into_iter().filter(|place| self.may_read(place)).collect();
                self.reads_left = READS_MAX;
                self.read_next()
            }
            Event::Fresher(place) => self.read_one(place, By::Fresher),
            // A fill that nobody may share has no part in one whose response is not known yet.
            Event::Follow(..) if !self.facts.lease_wanted => Step::Origin(Ground::Alone),
            Event::Follow(place, token) => self.read_one(place, By::Follow(token)),
            Event::Lease => Step::Origin(Ground::Lease),
            Event::Alone => Step::Origin(Ground::Alone),
            Event::Unreachable(Some(home)) if self.may_ask_home(&home) => self.read(home, By::Home),
            Event::Unreachable(_) => Step::Origin(Ground::Unreachable),
            Event::Read(reading) => self.answered(reading),
        }
    }

    fn answered(&mut self, reading: Reading) -> Step {
        match reading {
            Reading::Taken(variant) => {
                if !self.taken {
                    self.taken = true;
                    self.resolves_left = RESUMES_MAX;
                }
                self.settle(variant);
                Step::Take
            }
            Reading::Varies(_) if !self.taken && self.varies_left == 0 => Step::Unfit,
            Reading::Varies(variant) if !self.taken => {
                self.varies_left -= 1;
                self.settle(variant);
                self.resolve()
            }
            Reading::Purged => self.purged(),
            Reading::NotStored if !self.taken => Step::NotStored,
            Reading::OriginFailed if !self.taken => Step::Origin(Ground::PeersFailed),
            _ => self.refused(),
        }
    }

    /// The peer that was asked is of no use.
    fn refused(&mut self) -> Step {
        match self.avoid_last() {
            Some(By::Holder) => self.read_next(),
            Some(By::Home) => Step::Origin(Ground::Unreachable),
            _ => self.resolve(),
        }
    }

    /// The peer that was asked has what a purge selects. So have, most likely, the others that were named with it.
    fn purged(&mut self) -> Step {
        match self.avoid_last() {
            Some(By::Holder | By::Fresher) => self.purged += 1,
            Some(By::Follow(token)) => self.overtaken = Some(token),
            Some(By::Home) => return Step::Origin(Ground::Unreachable),
            None => {}
        }
        self.resolve()
    }

    fn resolve(&mut self) -> Step {
        self.others.clear();
        if self.resolves_left == 0 {
            return Step::Origin(Ground::PeersFailed);
        }
        self.resolves_left -= 1;
        Step::Resolve(Query {
            object: self.facts.object,
            variant: self.facts.variant,
            vary_known: self.facts.vary_known,
            held: self.facts.held,
            lease_wanted: self.facts.lease_wanted,
            avoid: self.avoid.iter().copied().collect(),
            purged: self.purged,
            overtaken: self.overtaken,
        })
    }

    fn read_next(&mut self) -> Step {
        if self.reads_left == 0 {
            return self.resolve();
        }
        self.reads_left -= 1;
        match self.others.pop_front() {
            Some(place) => self.read(place, By::Holder),
            None => self.resolve(),
        }
    }

    /// Reads from the one node that was named, unless it is one to be avoided.
    fn read_one(&mut self, place: Place, by: By) -> Step {
        if self.may_read(&place) { self.read(place, by) } else { self.resolve() }
    }

    fn read(&mut self, place: Place, by: By) -> Step {
        self.last = Some((place.node, by));
        Step::Read(place, by)
    }

    fn avoid_last(&mut self) -> Option<By> {
        let (node, by) = self.last.take()?;
        self.avoid(node);
        Some(by)
    }

    fn may_read(&self, place: &Place) -> bool {
        place.node != self.facts.me && !self.avoid.contains(&place.node)
    }

    /// The home edge gives whole objects, not what is left of a version.
    fn may_ask_home(&self, home: &Place) -> bool {
        self.facts.lease_wanted && !self.taken && self.may_read(home)
    }

    /// From now on this very variant is sought. What was held is of the other list of fields, or older.
    fn settle(&mut self, variant: VariantId) {
        self.facts.variant = variant;
        self.facts.vary_known = true;
        self.facts.held = false;
    }
}

#[cfg(test)]
#[path = "seek_tests.rs"]
mod tests;
