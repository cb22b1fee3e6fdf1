//! One rate for the bodies of all responses together.

use crate::clock::Clock;
use parking_lot::Mutex;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// How far unused rate is kept for later.
const BURST: Duration = Duration::from_millis(10);

/// The largest piece that a body hands over at a time, rate or not.
const PIECE_BYTES_MAX: u64 = 64 * 1024;

/// Pieces a second when the rate is low, so that bytes flow evenly.
const PIECES_PER_S: u64 = 50;

/// Hands out turns on a line of `rate` bytes per second. In `t` seconds at most
/// `rate × (t + 0.01)` bytes and one piece get a turn.
#[derive(Debug)]
pub(super) struct Throttle {
    rate: NonZeroU64,
    clock: Clock,
    /// When the bytes that have a turn will all have passed.
    free: Mutex<Instant>,
}

impl Throttle {
    pub(super) fn new(rate: NonZeroU64, clock: Clock) -> Self {
        Self { rate, clock, free: Mutex::new(clock.now().mono) }
    }

    /// Bytes to ask a turn for at a time, at most.
    pub(super) fn piece_bytes(&self) -> u64 {
        (self.rate.get() / PIECES_PER_S).clamp(1, PIECE_BYTES_MAX)
    }

    /// Takes the next turn for `bytes`; they may go after the returned time. A turn that is not used
    /// is lost.
    pub(super) fn turn(&self, bytes: u64) -> Duration {
        let now = self.clock.now().mono;
        let lasts = Duration::from_secs_f64(bytes as f64 / self.rate.get() as f64);
        let mut free = self.free.lock();
        let start = (*free).max(now.checked_sub(BURST).unwrap_or(now));
        *free = start + lasts;
        start.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::time::Wall;

    #[tokio::test(start_paused = true)]
    async fn turns_of_all_askers_add_up_to_the_rate() {
        let throttle = Throttle::new(NonZeroU64::new(1000).unwrap(), Clock::simulated(Wall::default()));
        assert_eq!(throttle.turn(500), Duration::ZERO);
        assert_eq!(throttle.turn(500), Duration::from_millis(500));
        assert_eq!(throttle.turn(1), Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(60)).await;
        // Only a burst of the idle minute is left.
        assert_eq!(throttle.turn(20), Duration::ZERO);
        assert_eq!(throttle.turn(1), Duration::from_millis(10));
    }
}
