//! Purges: what they select, which of them a node has applied, and what they make of stored responses.
//!
//! Each node keeps a log of the purges that it has applied, in its own order; how many that were is its [position](Log::position).
//! A stored response carries the position of its node at the moment its fetch began, and may be used only if no later purge of the
//! log selects it ([`Log::judge`]). So no clock has a part in it, nothing is walked over, and a hit whose position is the log's
//! costs one comparison.
//!
//! Between nodes a purge is named by who issued it and the how manieth it was ([`PurgeId`]). [`Coverage`] says for each issuer up
//! to which number a node has applied everything. Whoever covers less than another asks for [what it lacks](Log::missing) before
//! it takes anything from that other.
//!
//! The log keeps, for each [`Target`], the last purges alone, so it is bounded by the number of different targets. Beyond the bound the
//! oldest become a floor: all of their site, or of all sites, that was fetched before them. To purge too much is safe, to forget is not.
//!
//! Targets are hashes: neither the log nor a superpeer sees a URL or a tag.

mod coverage;
mod dialect;
mod log;
mod marks;
mod parcel;
mod record;
mod sync;
mod target;
mod wanted;

pub use coverage::{Coverage, Digest};
pub use dialect::{Dialect, Told};
pub use log::{Applied, Batch, Entry, Gap, Log};
pub use marks::{Judgement, MARKS_MAX, Subject, Tags};
pub use parcel::{Malformed, Messages, Parcel, Reception, Unpacking};
pub use record::{RECORD_LENGTH, Record};
pub use sync::{DEAD_FOR, JOIN_WAIT, SYNC_HORIZON, Standing, Sync};
pub use target::{Mode, Selector, SelectorKind, SiteId, Target};
pub use wanted::{BadTag, Shown, TAG_BYTES_MAX, Wanted, check_tag};

use std::fmt;

/// Selectors that one call may name.
pub const SELECTORS_MAX: usize = 1000;

/// One life of the log of one node: a random number, made with the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Issuer(pub u64);

/// Names a purge in the whole fleet, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PurgeId {
    /// Who issued it.
    pub issuer: Issuer,
    /// The how manieth of the issuer it is; 1 is the first.
    pub number: u64,
}

impl PurgeId {
    /// No issuer comes to this number: a higher one is refused wherever it comes from, so that counting on from one that was taken
    /// never overflows.
    pub const NUMBER_MAX: u64 = 1 << 62;
}

impl fmt::Display for PurgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.issuer.0, self.number)
    }
}

#[cfg(test)]
mod tests;
