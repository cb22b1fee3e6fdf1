//! A token bucket: so many units in a period, and so many at once.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// How much is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units.
    pub units: NonZeroU32,
    /// In this time; longer than 0.
    pub per: Duration,
}

impl Rate {
    /// The time that one unit takes to come back.
    fn unit(self) -> Duration {
        self.per / self.units.get()
    }
}

/// What is left of an allowance. Full at first.
///
/// Rate and burst may change between two calls: what was taken counts in units, and comes back at the new rate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// When it is full again, by the time that a unit took to come back when it was taken from.
    full_at: Option<(Instant, Duration)>,
}

impl Bucket {
    /// Takes `cost` units, of which at most `burst` may be taken at once.
    ///
    /// # Errors
    /// How long to wait until there are enough; nothing is taken. For a `cost` above `burst` that time never comes.
    pub fn take(&mut self, cost: u32, rate: Rate, burst: u32, now: Instant) -> Result<(), Duration> {
        let unit = rate.unit();
        let owed = self.owed(unit, now);
        self.full_at = now.checked_add(owed).map(|at| (at, unit));
        let wanted = owed.saturating_add(unit.saturating_mul(cost));
        let allowed = unit.saturating_mul(burst);
        if wanted > allowed {
            return Err(wanted - allowed);
        }
        self.full_at = now.checked_add(wanted).map(|at| (at, unit));
        Ok(())
    }

    /// The time until it is full again if a unit takes `unit` to come back.
    fn owed(&self, unit: Duration, now: Instant) -> Duration {
        let Some((at, was)) = self.full_at else { return Duration::ZERO };
        let owed = at.saturating_duration_since(now);
        if was == unit {
            return owed;
        }
        let units = owed.as_nanos().div_ceil(was.as_nanos().max(1));
        unit.saturating_mul(u32::try_from(units).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TWENTY: Rate = Rate { units: NonZeroU32::new(20).unwrap(), per: Duration::from_secs(1) };

    #[expect(clippy::disallowed_methods, reason = "an arbitrary start for virtual time")]
    fn begin() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_burst_is_granted_and_then_so_much_in_each_period() {
        let (mut bucket, begun) = (Bucket::default(), begin());
        let mut granted = |at: Duration| bucket.take(1, TWENTY, 100, begun + at).is_ok();
        assert_eq!((0..150).filter(|_| granted(Duration::ZERO)).count(), 100);
        let second = (0..1000).filter(|turn| granted(Duration::from_millis(turn + 1))).count();
        assert_eq!(second, 20);
        assert_eq!(
            (0..150).filter(|_| granted(Duration::from_secs(60))).count(),
            100,
            "full again, not fuller"
        );
    }

    #[test]
    fn what_was_taken_comes_back_at_the_new_rate_when_that_changes() {
        let hourly = Rate { units: NonZeroU32::MIN, per: Duration::from_secs(3600) };
        let (mut bucket, now) = (Bucket::default(), begin());
        assert_eq!(bucket.take(11, hourly, 11, now), Ok(()));
        assert_eq!(bucket.take(1, TWENTY, 11, now), Err(Duration::from_millis(50)));
        assert_eq!(bucket.take(1, TWENTY, 11, now + Duration::from_millis(50)), Ok(()));
        assert_eq!(bucket.take(1, TWENTY, 100, now + Duration::from_millis(50)), Ok(()), "a larger burst");
    }

    #[test]
    fn who_waits_as_long_as_told_is_granted() {
        let (mut bucket, now) = (Bucket::default(), begin());
        assert_eq!(bucket.take(11, TWENTY, 11, now), Ok(()));
        let wait = bucket.take(3, TWENTY, 11, now).expect_err("nothing is left");
        assert_eq!(wait, Duration::from_millis(150));
        assert_eq!(bucket.take(3, TWENTY, 11, now + wait), Ok(()));
        assert!(bucket.take(12, TWENTY, 11, now + Duration::from_secs(3600)).is_err(), "more than a burst");
    }

    proptest! {
        /// Whatever is asked when, no more is granted than the burst and what came back since.
        #[test]
        fn no_more_is_granted_than_allowed(asked in prop::collection::vec((0_u64..300, 1_u32..12), 1..200)) {
            let (mut bucket, begun) = (Bucket::default(), begin());
            let (mut at, mut granted) = (Duration::ZERO, 0_u64);
            for (pause, cost) in asked {
                at += Duration::from_millis(pause);
                granted += if bucket.take(cost, TWENTY, 100, begun + at).is_ok() { u64::from(cost) } else { 0 };
                prop_assert!(granted <= 100 + (at.as_millis() as u64) / 50);
            }
        }
    }
}
