//! What was found not to be worth sharing, for a while.

use super::leases::Subject;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long it is remembered.
pub(super) const REMEMBERED: Duration = Duration::from_secs(60);
/// Remembered at most; then the oldest are forgotten.
const UNCACHEABLE_MAX: usize = 1 << 16;

#[derive(Default)]
pub(super) struct Uncacheable {
    until: HashMap<Subject, Instant>,
    /// In the order of their ends; those noted anew or cleared are still in it.
    order: VecDeque<(Instant, Subject)>,
}

impl Uncacheable {
    pub(super) fn note(&mut self, subject: Subject, now: Instant) {
        self.prune(now);
        if self.order.len() >= UNCACHEABLE_MAX {
            self.forget_oldest();
        }
        self.until.insert(subject, now + REMEMBERED);
        self.order.push_back((now + REMEMBERED, subject));
    }

    /// Somebody stored it after all.
    pub(super) fn clear(&mut self, subject: Subject) {
        self.until.remove(&subject);
    }

    /// For how much longer it is remembered.
    pub(super) fn rest(&self, subject: Subject, now: Instant) -> Option<Duration> {
        let until = self.until.get(&subject)?;
        Some(until.saturating_duration_since(now)).filter(|rest| !rest.is_zero())
    }

    pub(super) fn prune(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((until, subject)) = self.order.pop_front()
            && self.until.get(&subject) == Some(&until)
        {
            self.until.remove(&subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::key::{ObjectId, VariantId};

    #[test]
    fn only_so_many_are_remembered_and_the_oldest_go_first() {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary start for virtual time")]
        let now = Instant::now();
        let subject = |number: u32| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_le_bytes());
            (ObjectId(id), VariantId::default())
        };
        let mut uncacheable = Uncacheable::default();
        let count = UNCACHEABLE_MAX as u32 + 1;
        (0..count).for_each(|number| uncacheable.note(subject(number), now));
        assert_eq!(uncacheable.until.len(), UNCACHEABLE_MAX);
        assert_eq!(uncacheable.rest(subject(0), now), None);
        assert_eq!(uncacheable.rest(subject(count - 1), now), Some(REMEMBERED));
        (0..count).for_each(|_| uncacheable.note(subject(1), now));
        assert!(uncacheable.order.len() <= UNCACHEABLE_MAX, "what is noted anew takes no more room");
    }
}
