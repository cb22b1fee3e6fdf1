//! How fast a segment is emptied for reuse, and how much of it may be kept.
//!
//! The victim is always the oldest segment, by the sequence of its records. That, and that reclaim
//! and new records are sequenced by one writer, is what makes a `Drop` safe to forget. Claim: when
//! the segment of a `Drop` D of object O is reused, no record of O that D dropped is on disk.
//!
//! 1. Segments are filled one after the other, so their sequences do not overlap, and the victim's
//!    are lower than all others'. A record dropped by D has a lower sequence than D, so it lies in
//!    D's segment, which is voided as a whole by its new header, or in an older one, which was
//!    voided before: a voided segment's new header is durable before the next segment is touched,
//!    and a segment that can be neither voided nor removed stops reclaim for good.
//! 2. Rewriting gives an old record a new sequence. The owner forgets O before it queues D. The
//!    writer asks for a record's fate and sequences its copy in one step, taking nothing from the
//!    queue in between. If it asks after it took D, the answer is `Gone`. If it asks before, the
//!    copy's sequence is lower than D's, and 1 holds for the copy.
//! 3. So also for a newer record N that replaces R: N's place is in the index (`done` was called)
//!    before a later fate is asked, so R is `Gone`; or N is still queued, and comes after R's copy.
//!
//! What this cannot give: a `Drop` in a damaged part of a segment, or one not yet durable when the
//! power fails, is lost, and what it dropped in older segments is found again. Purges do not rest
//! on it: each record carries its purge position, and the purge log is durable.

/// The share of a segment's bytes that may be kept by writing them again: 1 / this. New records
/// get at least the rest of each segment, so writing always gets on.
const KEEP_SHARE: u32 = 2;
/// Bytes of the victim to go through for each byte of new records. The victim must be free before
/// the open segment is full, whatever was kept.
const PACE: u64 = 4;

/// The reclaim of one segment.
#[derive(Clone, Copy, Debug)]
pub struct Reclaim {
    keep_left: u32,
    owed: u64,
}

impl Reclaim {
    /// Of a segment of `size` bytes.
    pub const fn new(size: u32) -> Self {
        Self { keep_left: size / KEEP_SHARE, owed: 0 }
    }

    /// `bytes` of new records are about to be written.
    pub const fn handle_write(&mut self, bytes: u64) {
        self.owed = self.owed.saturating_add(bytes.saturating_mul(PACE));
    }

    /// `bytes` of the victim were gone through.
    pub const fn handle_scanned(&mut self, bytes: u64) {
        self.owed = self.owed.saturating_sub(bytes);
    }

    /// Whether more of the victim should be gone through now.
    pub const fn is_due(&self) -> bool {
        self.owed > 0
    }

    /// Takes `bytes` from what may be kept; `false` if so much is not left.
    pub const fn keep(&mut self, bytes: u32) -> bool {
        match self.keep_left.checked_sub(bytes) {
            Some(left) => {
                self.keep_left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_half_of_a_segment_is_kept() {
        let mut reclaim = Reclaim::new(1000);
        assert!(reclaim.keep(499) && !reclaim.keep(2) && reclaim.keep(1) && !reclaim.keep(1));
    }

    #[test]
    fn the_victim_is_done_before_the_kept_and_the_new_fill_a_segment() {
        let (size, record) = (1_000_000, 1000);
        let (mut reclaim, mut scanned, mut written, mut kept) = (Reclaim::new(size), 0, 0, 0);
        while scanned < size {
            reclaim.handle_write(u64::from(record));
            written += record;
            while reclaim.is_due() && scanned < size {
                scanned += record;
                reclaim.handle_scanned(u64::from(record));
                kept += if reclaim.keep(record) { record } else { 0 };
            }
        }
        assert!(written + kept < size, "{written} new and {kept} kept");
    }
}
