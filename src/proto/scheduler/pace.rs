//! How long chunks take: mean and deviation, smoothed as TCP does with round trips (RFC 6298).

use std::time::Duration;

/// Chunks that must have come before anything is called late.
const CHUNKS_MIN: u32 = 4;
/// What takes less is never late.
const LATE_MIN: Duration = Duration::from_millis(100);
/// What takes this many deviations longer than the mean is late.
const DEVIATIONS: u32 = 4;

#[derive(Default)]
pub(super) struct Pace {
    chunks: u32,
    mean: Duration,
    deviation: Duration,
}

impl Pace {
    pub(super) fn handle_done(&mut self, took: Duration) {
        self.chunks = self.chunks.saturating_add(1);
        if self.chunks == 1 {
            (self.mean, self.deviation) = (took, took / 2);
        } else {
            self.deviation = (self.deviation * 3 + self.mean.abs_diff(took)) / 4;
            self.mean = (self.mean * 7 + took) / 8;
        }
    }

    /// After how long a chunk is late, once that can be said.
    pub(super) fn late_after(&self) -> Option<Duration> {
        let late = (self.mean + self.deviation * DEVIATIONS).max(LATE_MIN);
        (self.chunks >= CHUNKS_MIN).then_some(late)
    }
}
