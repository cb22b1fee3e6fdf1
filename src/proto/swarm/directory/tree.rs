//! Who follows a lease, and whom: the holder of the lease is the root, each other node reads from its
//! parent what that receives. It has no cycle, since a node that moves takes its descendants along and
//! none of them can be its new parent.

use super::sessions::{Serial, Sessions, Zone};
use smallvec::SmallVec;

/// Followers of one node, as long as another can take them.
pub(super) const CHILDREN_MAX: u16 = 4;
/// Followers of a lease that are kept. Those beyond are sent to one that is, and have none themselves.
const FOLLOWERS_MAX: usize = 1 << 14;

/// Whom to read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Parent {
    /// The holder of the lease.
    Root,
    /// Another follower.
    Follower(Serial),
}

/// Who seeks a parent.
pub(super) struct Seeker<'a> {
    /// Its session, if it has one; otherwise it is not entered.
    pub(super) session: Option<Serial>,
    pub(super) zone: Zone,
    /// Who will not do.
    pub(super) avoid: &'a [Serial],
    /// Zone of the root if that would do.
    pub(super) root: Option<Zone>,
}

#[derive(Default)]
pub(super) struct Tree {
    followers: Vec<Follower>,
    root_children: u16,
    /// `Sessions::ends` when it was last looked through for the dead.
    seen_ends: u64,
}

struct Follower {
    session: Serial,
    zone: Zone,
    parent: Link,
    depth: u16,
    children: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Root,
    To(u32),
    /// The parent is gone: it receives nothing, nor do its descendants, until it seeks another.
    Cut,
}

/// Depth of those that are cut off from the root.
const CUT_OFF: u16 = u16::MAX;

impl Tree {
    /// The parent for who seeks one: near the root first, a zone that is not crossed being worth as much
    /// as a step. The seeker is entered below it. `None` if nobody will do.
    pub(super) fn follow(&mut self, seeker: &Seeker<'_>, sessions: &Sessions) -> Option<Parent> {
        self.prune(sessions);
        let own = seeker.session.and_then(|own| self.followers.iter().position(|one| one.session == own));
        let link = self.best(seeker, own)?;
        match own {
            Some(own) => self.move_below(own, link),
            None => self.enter(seeker, link),
        }
        Some(match link {
            Link::To(parent) => Parent::Follower(self.followers[parent as usize].session),
            Link::Root | Link::Cut => Parent::Root,
        })
    }

    fn best(&self, seeker: &Seeker<'_>, own: Option<usize>) -> Option<Link> {
        let order = |zone: Zone, depth: u16, children: u16| {
            let is_foreign = zone != seeker.zone;
            // Whoever has enough followers comes last, but before the origin is asked twice.
            (children >= CHILDREN_MAX, depth.saturating_add(is_foreign.into()), is_foreign, children)
        };
        let root = seeker.root.map(|zone| (order(zone, 0, self.root_children), Link::Root));
        let may_be = |&(at, one): &(usize, &Follower)| {
            one.depth != CUT_OFF
                && Some(at) != own
                && !seeker.avoid.contains(&one.session)
                && !own.is_some_and(|own| self.followers[own].children > 0 && self.is_below(at, own))
        };
        let followers = self.followers.iter().enumerate().filter(may_be);
        let followers =
            followers.map(|(at, one)| (order(one.zone, one.depth, one.children), Link::To(at as u32)));
        root.into_iter().chain(followers).min_by_key(|(order, _)| *order).map(|(_, link)| link)
    }

    /// Whether `one` is a descendant of `other`.
    fn is_below(&self, one: usize, other: usize) -> bool {
        let mut at = one;
        // No way to the root is longer than that.
        for _ in 0..self.followers.len() {
            let Link::To(parent) = self.followers[at].parent else { return false };
            at = parent as usize;
            if at == other {
                return true;
            }
        }
        false
    }

    fn enter(&mut self, seeker: &Seeker<'_>, parent: Link) {
        let depth = self.depth_below(parent);
        self.count_child(parent, 1);
        if let Some(session) = seeker.session
            && self.followers.len() < FOLLOWERS_MAX
        {
            self.followers.push(Follower { session, zone: seeker.zone, parent, depth, children: 0 });
        }
    }

    fn move_below(&mut self, own: usize, parent: Link) {
        self.count_child(self.followers[own].parent, -1);
        self.count_child(parent, 1);
        self.followers[own].parent = parent;
        self.followers[own].depth = self.depth_below(parent);
        if self.followers[own].children > 0 {
            self.measure();
        }
    }

    fn depth_below(&self, parent: Link) -> u16 {
        match parent {
            Link::Root => 1,
            Link::To(parent) => self.followers[parent as usize].depth.saturating_add(1),
            Link::Cut => CUT_OFF,
        }
    }

    fn count_child(&mut self, parent: Link, by: i16) {
        let children = match parent {
            Link::Root => &mut self.root_children,
            Link::To(parent) => &mut self.followers[parent as usize].children,
            Link::Cut => return,
        };
        *children = children.saturating_add_signed(by);
    }

    /// Takes out those whose sessions have ended; whoever followed them is cut off.
    fn prune(&mut self, sessions: &Sessions) {
        if self.seen_ends == sessions.ends() {
            return;
        }
        self.seen_ends = sessions.ends();
        let mut kept = 0;
        let is_live = |one: &Follower| sessions.live(one.session).is_some();
        let moved: Vec<Option<u32>> =
            self.followers.iter().map(|one| is_live(one).then(|| (kept, kept += 1).0)).collect();
        if kept as usize == self.followers.len() {
            return;
        }
        self.followers.retain(is_live);
        for one in &mut self.followers {
            if let Link::To(parent) = one.parent {
                one.parent = moved[parent as usize].map_or(Link::Cut, Link::To);
            }
        }
        self.count_children();
        self.measure();
    }

    fn count_children(&mut self) {
        self.root_children = 0;
        self.followers.iter_mut().for_each(|one| one.children = 0);
        for at in 0..self.followers.len() {
            self.count_child(self.followers[at].parent, 1);
        }
    }

    /// Measures all depths anew.
    fn measure(&mut self) {
        const UNKNOWN: u16 = 0;
        self.followers.iter_mut().for_each(|one| one.depth = UNKNOWN);
        let mut path: SmallVec<[usize; 16]> = SmallVec::new();
        for start in 0..self.followers.len() {
            let mut at = start;
            while self.followers[at].depth == UNKNOWN && path.len() < self.followers.len() {
                path.push(at);
                match self.followers[at].parent {
                    Link::To(parent) => at = parent as usize,
                    Link::Root | Link::Cut => break,
                }
            }
            while let Some(at) = path.pop() {
                let depth = self.depth_below(self.followers[at].parent);
                self.followers[at].depth = depth;
            }
        }
    }

    /// Each follower with its parent, `None` if that is gone, and its depth, `None` if it is cut off.
    #[cfg(test)]
    pub(super) fn links(&self) -> Vec<(Serial, Option<Parent>, Option<u16>)> {
        let parent = |link| match link {
            Link::Root => Some(Parent::Root),
            Link::To(at) => Some(Parent::Follower(self.followers[at as usize].session)),
            Link::Cut => None,
        };
        let depth = |depth| (depth != CUT_OFF).then_some(depth);
        self.followers.iter().map(|one| (one.session, parent(one.parent), depth(one.depth))).collect()
    }
}
