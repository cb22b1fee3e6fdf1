//! The demo's figures. Two are never mixed: `origin_ratio` is about how often the origin sends each
//! byte, `offload` about how much of what clients get it is spared.

use super::counts::Metrics;
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
    /// What the edges did for one another, by their metrics; all 0 for one alone.
    peer: AmongPeers,
    #[serde(flatten)]
    report: Report,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct AtOrigin {
    requests: u64,
    bytes: u64,
}

/// What the edges of a fleet did for one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct AmongPeers {
    /// Leaves to ask the origin.
    leases: u64,
    /// Times that an edge was sent to one that was fetching already.
    follows: u64,
    /// Responses that came from several edges.
    multi_holder_fills: u64,
    /// Body bytes that came from an edge although they were here or on their way.
    duplicate_bytes: u64,
    /// Edges that another has left alone for their faults.
    quarantines: u64,
}

impl AmongPeers {
    fn of(edges: &[Metrics]) -> Self {
        let sum = |name, label| edges.iter().map(|metrics| metrics.sum(name, label)).sum();
        Self {
            leases: sum("shoal_swarm_lookups_total", "answer=\"lease\""),
            follows: sum("shoal_swarm_lookups_total", "answer=\"follow\""),
            multi_holder_fills: sum("shoal_multi_holder_fills_total", ""),
            duplicate_bytes: sum("shoal_peer_duplicate_bytes_total", ""),
            quarantines: sum("shoal_swarm_quarantines_total", ""),
        }
    }
}

/// Body bytes that edges sent to clients, by their metrics.
fn served_by(edges: &[Metrics]) -> Served {
    let of = |source: &str| {
        let label = format!("source=\"{source}\"");
        edges.iter().map(|metrics| metrics.sum("shoal_response_bytes_total", &label)).sum()
    };
    Served { memory: of("memory"), disk: of("disk"), peer: of("peer"), origin: of("origin") }
}

impl Summary {
    /// The figures of a fleet: what was served from where is counted at the edges, since a client cannot tell where the
    /// bytes of a response came from that several requests share.
    pub(super) fn of_fleet(mut report: Report, counts: Counts, edges: &[Metrics]) -> Self {
        report.served_bytes = served_by(edges);
        Self { peer: AmongPeers::of(edges), ..Self::new(report, counts) }
    }

    pub(super) fn new(report: Report, counts: Counts) -> Self {
        let Counts { requests, bytes, .. } = counts;
        Self {
            origin: AtOrigin { requests, bytes },
            origin_ratio: origin_ratio(bytes, report.unique_bytes),
            offload: offload(bytes, report.served_bytes.total()),
            peer: AmongPeers::default(),
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
        writeln!(f, "offload      {:.1} % (of what clients got)", self.offload * 100.0)?;
        if self.peer != AmongPeers::default() {
            let AmongPeers { leases, follows, multi_holder_fills, duplicate_bytes, quarantines } = self.peer;
            let duplicate = ByteSize(duplicate_bytes);
            writeln!(
                f,
                "among peers  {leases} leases · {follows} follows · {multi_holder_fills} from several"
            )?;
            writeln!(f, "             {duplicate} twice · {quarantines} quarantines")?;
        }
        Ok(())
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
