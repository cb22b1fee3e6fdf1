//! The demo's figures. Two are never mixed: `origin_ratio` is about how often the origin sends each
//! byte, `offload` about how much of what clients get it is spared.

use crate::cli::origin::Counts;
use crate::cli::replay::report::{Report, Served};
use bytesize::ByteSize;
use serde::Serialize;
use std::fmt;

/// All figures; the JSON line has these names.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    /// What the origin was asked for, by its own counts.
    origin: AtOrigin,
    /// Origin body bytes ÷ unique body bytes asked for; 1 is once each.
    origin_ratio: f64,
    /// 1 − origin body bytes ÷ body bytes that clients got.
    offload: f64,
    #[serde(flatten)]
    report: Report,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct AtOrigin {
    requests: u64,
    bytes: u64,
}

impl Summary {
    pub(super) fn new(report: Report, counts: Counts) -> Self {
        let Counts { requests, bytes, .. } = counts;
        Self {
            origin: AtOrigin { requests, bytes },
            origin_ratio: origin_ratio(bytes, report.unique_bytes),
            offload: offload(bytes, report.served_bytes.total()),
            report,
        }
    }

    /// Whether each answer was right.
    pub(super) const fn passed(&self) -> bool {
        self.report.passed()
    }
}

/// 0 when nothing was asked for.
pub(super) fn origin_ratio(origin_bytes: u64, unique_bytes: u64) -> f64 {
    if unique_bytes == 0 { 0.0 } else { origin_bytes as f64 / unique_bytes as f64 }
}

/// 0 when clients got nothing; below 0 if the origin sent more than they got.
pub(super) fn offload(origin_bytes: u64, client_bytes: u64) -> f64 {
    if client_bytes == 0 { 0.0 } else { 1.0 - origin_bytes as f64 / client_bytes as f64 }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.report)?;
        let Served { memory, disk, peer, origin } = self.report.served_bytes;
        let [memory, disk, peer, origin] = [memory, disk, peer, origin].map(ByteSize);
        writeln!(f, "served from  memory {memory} · disk {disk} · peers {peer} · origin {origin}")?;
        let (requests, bytes) = (self.origin.requests, ByteSize(self.origin.bytes));
        writeln!(f, "origin       {requests} requests · {bytes}")?;
        writeln!(f, "origin ratio {:.3} (origin bytes ÷ unique bytes asked for)", self.origin_ratio)?;
        writeln!(f, "offload      {:.1} % (of what clients got)", self.offload * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_ratios_have_their_own_denominators() {
        assert_eq!(origin_ratio(150, 100), 1.5);
        assert_eq!(offload(150, 600), 0.75);
        assert_eq!((origin_ratio(5, 0), offload(5, 0)), (0.0, 0.0));
    }
}
