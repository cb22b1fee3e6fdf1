//! Request ids: a random prefix per process and a counter.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The source of request ids of a node.
#[derive(Debug)]
pub struct RequestIds {
    prefix: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// Ids under `prefix`, which should be drawn at random for each process so that ids of
    /// different nodes and runs differ.
    pub const fn new(prefix: u64) -> Self {
        Self { prefix, next: AtomicU64::new(0) }
    }

    /// The next id.
    pub fn next(&self) -> RequestId {
        RequestId { prefix: self.prefix, number: self.next.fetch_add(1, Ordering::Relaxed) }
    }
}

/// The id of one request; printed as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct RequestId {
    prefix: u64,
    number: u64,
}

impl RequestId {
    /// One of `shards`, in turn.
    pub(super) const fn shard(self, shards: usize) -> usize {
        (self.number % shards as u64) as usize
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.prefix, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_within_and_between_processes() {
        let (a, b) = (RequestIds::new(1), RequestIds::new(2));
        let (first, second, other) = (a.next(), a.next(), b.next());
        assert!(first != second && first != other);
        assert_eq!(second.to_string(), "00000000000000010000000000000001");
    }
}
