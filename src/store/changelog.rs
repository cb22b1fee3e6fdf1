//! What was added to the index and removed from it since it was last asked, for those who tell other
//! nodes what this one has.
//!
//! Only the last word on each variant is kept, so nobody need know in which order an addition and a
//! removal of it came. Nothing is noted before somebody [watches](Changelog::watch), and nothing personal
//! ever: that is the index's to see to.

use super::Changes;
use crate::proto::key::{ObjectId, VariantId};
use crate::proto::swarm::Holding;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

/// Changes of each kind that wait to be taken.
const CHANGES_MAX: usize = 1 << 16;

/// How other nodes are told of a variant.
pub(super) type Name = (ObjectId, VariantId);

/// The changes.
#[derive(Default)]
pub(super) struct Changelog {
    on: AtomicBool,
    state: Mutex<State>,
}

/// A variant is in one of the two at most. Sorted, so that simulations repeat.
#[derive(Default)]
struct State {
    /// With the expiry in seconds since the epoch.
    added: BTreeMap<Name, u32>,
    removed: BTreeSet<Name>,
    overflowed: bool,
}

impl Changelog {
    /// Begins to note changes.
    pub(super) fn watch(&self) {
        self.on.store(true, Ordering::Relaxed);
    }

    /// Whether changes are wanted. To be asked under the lock of the shard that changes, which makes the
    /// answer good for whoever looks at that shard after [`watch`](Self::watch).
    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// The variant is there until about `expiry`, or (`None`) gone. Called under the lock of its shard, so
    /// that the last word here is the last word there.
    pub(super) fn note(&self, name: Name, there: Option<u32>) {
        let mut state = self.state.lock();
        if state.overflowed {
            return;
        }
        let was_there = state.added.remove(&name).is_some();
        let was_gone = state.removed.remove(&name);
        let known = was_there || was_gone;
        let State { added, removed, .. } = &mut *state;
        let length = if there.is_some() { added.len() } else { removed.len() };
        if length >= CHANGES_MAX && !known {
            *state = State { overflowed: true, ..State::default() };
            return;
        }
        match there {
            Some(expiry) => drop(added.insert(name, expiry)),
            None => drop(removed.insert(name)),
        }
    }

    /// Takes at most `max` of each kind, at `now` in seconds since the epoch. After an overflow there are
    /// none before the flag was taken, and everything from then on.
    pub(super) fn take(&self, max: usize, now: u32) -> Changes {
        let mut state = self.state.lock();
        let State { added, removed, overflowed } = &mut *state;
        let overflowed = std::mem::take(overflowed);
        let there = std::iter::from_fn(|| added.pop_first()).take(max);
        let there = there.map(|(name, expiry)| holding(name, expiry, now)).collect();
        let gone = std::iter::from_fn(|| removed.pop_first()).take(max);
        let gone = gone.map(|name| holding(name, 0, now)).collect();
        let more = !added.is_empty() || !removed.is_empty();
        Changes { added: there, removed: gone, overflowed, more }
    }
}

/// What is told of a variant with that coarse expiry at `now`, both in seconds since the epoch.
pub(super) fn holding((object, variant): Name, expiry: u32, now: u32) -> Holding {
    Holding { object, variant, fresh_secs: expiry.saturating_sub(now) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Name {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        (ObjectId(id), VariantId([7; 16]))
    }

    #[test]
    fn only_the_last_word_on_a_variant_is_told() {
        let log = Changelog::default();
        log.note(name(1), Some(100));
        log.note(name(1), None);
        log.note(name(2), None);
        log.note(name(2), Some(100));
        log.note(name(2), Some(130));
        let changes = log.take(9, 90);
        assert_eq!(changes.added, [holding(name(2), 130, 90)]);
        assert_eq!(changes.added[0].fresh_secs, 40);
        assert_eq!(changes.removed, [holding(name(1), 0, 90)]);
        assert!(!changes.more && !changes.overflowed);
        assert!(log.take(9, 90).added.is_empty());
    }

    #[test]
    fn a_part_is_taken_at_a_time() {
        let log = Changelog::default();
        (0..5).for_each(|number| log.note(name(number), Some(number as u32)));
        (5..7).for_each(|number| log.note(name(number), None));
        let changes = log.take(3, 0);
        assert_eq!((changes.added.len(), changes.removed.len(), changes.more), (3, 2, true));
        let changes = log.take(3, 0);
        assert_eq!((changes.added.len(), changes.removed.len(), changes.more), (2, 0, false));
    }

    #[test]
    fn what_is_too_much_is_dropped_and_said_once() {
        for there in [Some(9), None] {
            let log = Changelog::default();
            (0..CHANGES_MAX).for_each(|number| log.note(name(number), there));
            log.note(name(3), there);
            let known = |log: &Changelog| {
                let state = log.state.lock();
                (state.added.len() + state.removed.len(), state.overflowed)
            };
            assert_eq!(known(&log), (CHANGES_MAX, false), "a known one takes no room");
            log.note(name(CHANGES_MAX), there);
            assert_eq!(known(&log), (0, true));
            log.note(name(1), there);
            let changes = log.take(9, 0);
            assert!(changes.overflowed && !changes.more && changes.added.is_empty());
            assert!(changes.removed.is_empty());
            log.note(name(1), Some(1));
            let changes = log.take(9, 0);
            assert!(!changes.overflowed && changes.added.len() == 1);
        }
    }
}
