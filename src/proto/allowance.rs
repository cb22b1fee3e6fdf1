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

/// What is lost to the rounding of fractions of a unit.
const ROUNDING: f64 = 1e-6;

/// What is left of an allowance. Full at first. Rate and burst may change between two calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// Units that were taken and have not come back.
    taken: f64,
    /// When that was so.
    at: Option<Instant>,
}

impl Bucket {
    /// Takes `cost` units, of which at most `burst` may be taken at once.
    ///
    /// # Errors
    /// How long to wait until there are enough; nothing is taken. For a `cost` above `burst` that time never comes.
    pub fn take(&mut self, cost: u32, rate: Rate, burst: u32, now: Instant) -> Result<(), Duration> {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let unit = rate.per.as_secs_f64() / f64::from(rate.units.get());
        let taken = (self.taken - passed.as_secs_f64() / unit).max(0.0);
        let excess = taken + f64::from(cost) - f64::from(burst);
        if excess > ROUNDING {
            return Err(Duration::try_from_secs_f64(excess * unit).unwrap_or(Duration::MAX));
        }
        (self.taken, self.at) = (taken + f64::from(cost), Some(now));
        Ok(())
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
    fn who_waits_as_long_as_told_is_granted() {
        let (mut bucket, now) = (Bucket::default(), begin());
        assert_eq!(bucket.take(11, TWENTY, 11, now), Ok(()));
        let wait = bucket.take(3, TWENTY, 11, now).expect_err("nothing is left");
        assert!(wait.abs_diff(Duration::from_millis(150)) < Duration::from_micros(1), "{wait:?}");
        assert_eq!(bucket.take(3, TWENTY, 11, now + wait), Ok(()));
        assert!(bucket.take(12, TWENTY, 11, now + Duration::from_secs(3600)).is_err(), "more than a burst");
    }

    #[test]
    fn a_new_rate_counts_at_once_for_what_was_taken_under_the_old_one() {
        let hourly = Rate { units: NonZeroU32::MIN, per: Duration::from_secs(3600) };
        let (mut bucket, now) = (Bucket::default(), begin());
        assert_eq!(bucket.take(11, hourly, 11, now), Ok(()));
        assert!(bucket.take(1, hourly, 11, now).is_err_and(|wait| wait > Duration::from_secs(3599)));
        assert_eq!(bucket.take(89, TWENTY, 100, now), Ok(()), "a larger burst");
        assert!(bucket.take(1, TWENTY, 100, now).is_err_and(|wait| wait < Duration::from_millis(51)));
        assert_eq!(bucket.take(20, TWENTY, 100, now + Duration::from_secs(1)), Ok(()));
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
                prop_assert!(granted as f64 <= 100.0 + at.as_secs_f64() * 20.0 + ROUNDING * 200.0);
            }
        }
    }
}
