//! How fast a client takes or gives, measured only while it is waited for.

use std::time::Duration;

/// Bytes moved, and time for which the client was waited for. Time in which there was nothing to send, or nothing was
/// asked for, is no part of it, so a stream that is silent for hours has any pace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Bytes per second that are enough; 0 is any.
    enough: u64,
    /// Waiting over which the mean is taken. Nobody is judged before.
    window: Duration,
    waited: Duration,
    bytes: u64,
    is_slow: bool,
}

impl Pace {
    /// Judges over each `window` of waiting, by `enough` bytes per second; 0 is no judgement.
    pub(super) const fn new(enough: u64, window: Duration) -> Self {
        Self { enough, window, waited: Duration::ZERO, bytes: 0, is_slow: false }
    }

    /// Notes bytes that the client took or gave.
    pub(super) const fn moved(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Notes that the client was waited for, and has acted.
    pub(super) fn waited(&mut self, time: Duration) {
        self.is_slow |= self.is_slow_after(time);
        self.waited += time;
        if self.waited >= self.window {
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        }
    }

    /// Whether the client was too slow, or is if it has been waited for this much longer.
    pub(super) fn is_slow_after(&self, more: Duration) -> bool {
        let waited = self.waited + more;
        let owed = u128::from(self.enough) * waited.as_millis() / 1000;
        self.is_slow || (self.enough > 0 && waited >= self.window && u128::from(self.bytes) < owed)
    }

    /// After how much more waiting, beyond `more`, it is to be asked again.
    pub(super) fn left_after(&self, more: Duration) -> Duration {
        let left = self.window.saturating_sub(self.waited + more);
        if left.is_zero() { self.window } else { left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn nobody_is_judged_before_a_window_of_waiting() {
        let mut pace = Pace::new(500, WINDOW);
        for _ in 0..9 {
            pace.waited(seconds(1));
            assert!(!pace.is_slow_after(Duration::ZERO));
        }
        assert_eq!(pace.left_after(Duration::from_millis(400)), Duration::from_millis(600));
        assert!(pace.is_slow_after(seconds(1)));
    }

    #[test]
    fn the_mean_over_each_window_counts() {
        let mut pace = Pace::new(500, WINDOW);
        // All at the end of the window is as good.
        pace.moved(5000);
        pace.waited(seconds(10));
        assert!(!pace.is_slow_after(seconds(9)), "a new window");
        pace.moved(4999);
        pace.waited(seconds(10));
        assert!(pace.is_slow_after(Duration::ZERO), "a byte less than enough");
        pace.moved(1 << 30);
        assert!(pace.is_slow_after(Duration::ZERO), "and it stays so");
    }

    #[test]
    fn without_a_least_pace_any_will_do() {
        let mut pace = Pace::new(0, WINDOW);
        pace.waited(seconds(3600));
        assert!(!pace.is_slow_after(seconds(3600)));
    }
}
