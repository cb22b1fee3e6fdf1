//! The request machine: what to do next with a request for which the cache may have a part.
//!
//! ```text
//! Arrived ── Pass
//!    └────── Lookup ── Found fresh ──────────── Deliver
//!              │  └─── Found stale in window ── DeliverAndRefresh
//!              │  └─── Found stale ──┐
//!              └────── Missed ───────┴─ Fetch (join | alone | forward) ── Filled ── Deliver*
//!                                                                          └─ other variant: Lookup
//! ```
//! Pure: `serve` carries out each step and brings back the event that it led to.

use crate::proto::semantics::{RequestFacts, Reuse};
use crate::proto::verdict::{Source, Verdict};

/// Most times that one request is planned anew because a fill turned out to be of no use to it.
/// Beyond it the request is forwarded for itself.
pub const REPLANS_MAX: u8 = 4;

/// What is known of a request before anything is looked up.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// What the request says of caching.
    pub request: RequestFacts,
    /// Whether the method is HEAD.
    pub head: bool,
    /// Whether a range is asked for that starts so far into the body that the origin is asked for that range alone.
    pub far_range: bool,
    /// Whether one range is asked for, without a condition of its own, so that others may want the same.
    pub one_range: bool,
    /// Whether the key is remembered as not storable.
    pub uncacheable: bool,
    /// Whether this request may share its fetch with others: it carries nothing personal, or the key
    /// is remembered as storable; and it does not forbid to store.
    pub shareable: bool,
    /// Times that this request was planned anew.
    pub replans: u8,
}

/// Where a stored response was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// In memory.
    Memory,
    /// On disk.
    Disk,
}

/// Why nothing stored can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// Nothing of this key is stored.
    Uri,
    /// Something is stored, but for other values of the selecting fields.
    Vary,
    /// What the index named could not be read, or was given up since.
    Damaged,
    /// What is stored was purged.
    Purged,
    /// A part of it is stored, which is not all that is asked for.
    Partial,
}

/// How a fill ended, as this request sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// The response is arriving and will be stored. `collapsed`: another request began it.
    Streaming {
        /// Whether another request began the fill.
        collapsed: bool,
        /// Whether it comes from a peer or from the origin.
        source: Source,
    },
    /// The stored response was validated.
    Refreshed {
        /// Whether another request began the validation.
        collapsed: bool,
    },
    /// The response is not to be stored, and this request began the fill, so it is its own.
    Own {
        /// Whether its status is 500, 502, 503 or 504 (RFC 5861 §4).
        server_error: bool,
    },
    /// The response to another request is not to be stored.
    NotStored {
        /// Whether its status is 500, 502, 503 or 504 (RFC 5861 §4).
        server_error: bool,
    },
    /// The response is of another variant than this request selects, or what was validated has been purged.
    Unfit,
    /// The origin could not be reached or did not answer.
    Failed,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// The request was routed.
    Arrived,
    /// A stored response was found and judged.
    Found(Tier, Reuse),
    /// No stored response can be used.
    Missed(Miss),
    /// A fetch came to an end, or to the point where its response can be delivered. `stale` says
    /// whether the stored response, if any, may stand in for a failed origin.
    Filled {
        /// The outcome.
        filled: Filled,
        /// Whether a stored response may be served stale on error now.
        stale: bool,
    },
}

/// How an origin is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// With a fill that requests for the same object share.
    Join,
    /// With a fill of its own; stored if it may be.
    Alone,
    /// With the client's own request, conditions and range included; stored if it may be.
    Forward,
}

/// Why an origin is asked; also the label of `shoal_origin_fetches_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchReason {
    /// Nothing stored.
    Miss,
    /// Only other variants stored.
    VaryMiss,
    /// A stored record was damaged.
    Damaged,
    /// What was stored was purged.
    Purged,
    /// The stored response must be validated.
    Revalidate,
    /// Stale-while-revalidate: a refresh behind a delivered response.
    Refresh,
    /// A range far from the start of an object that is not stored, or the rest of one of which a part is.
    Range,
    /// A HEAD request for an object that is not stored.
    Head,
    /// The key is remembered as not storable.
    Uncacheable,
    /// Method, rule or protocol leave the cache out.
    Pass,
    /// A reader fell behind its fill and continued by range.
    Laggard,
    /// The peers that gave a body were lost before its end, and it is continued by range.
    Resume,
    /// A part of what is asked for is stored, and the rest is fetched.
    Complete,
}

impl FetchReason {
    /// All reasons, in the order of their metrics.
    pub const ALL: [Self; 13] = [
        Self::Miss,
        Self::VaryMiss,
        Self::Damaged,
        Self::Purged,
        Self::Revalidate,
        Self::Refresh,
        Self::Range,
        Self::Head,
        Self::Uncacheable,
        Self::Pass,
        Self::Laggard,
        Self::Resume,
        Self::Complete,
    ];

    /// The names of all reasons, in the same order.
    pub const NAMES: [&'static str; 13] = [
        "miss",
        "vary_miss",
        "damaged",
        "purged",
        "revalidate",
        "refresh",
        "range",
        "head",
        "uncacheable",
        "pass",
        "laggard",
        "resume",
        "complete",
    ];

    /// The one name of this reason.
    pub const fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Look the key up.
    Lookup,
    /// Serve what was found in the store.
    Deliver(Verdict),
    /// Serve the stale response that was found and refresh it behind.
    DeliverAndRefresh,
    /// Fetch it, from a peer or from the origin, then report [`Event::Filled`].
    Fetch(How, FetchReason),
    /// Serve the fill's response as it arrives.
    DeliverFill(Verdict),
    /// Serve the fill's response, which nobody else gets.
    DeliverOwn,
    /// Answer 504: the client wants a stored response only (RFC 9111 §5.2.1.7).
    OnlyIfCached,
    /// Answer with the failure of the fetch.
    Fail,
}

/// The step that follows `event`.
pub fn next(facts: &Facts, event: Event) -> Step {
    match event {
        Event::Arrived => Step::Lookup,
        Event::Found(tier, reuse) => found(facts, tier, reuse),
        Event::Missed(_) if facts.request.only_if_cached => Step::OnlyIfCached,
        Event::Missed(miss) => fetch(facts, miss),
        Event::Filled { filled, stale } => filled_step(facts, filled, stale),
    }
}

fn found(facts: &Facts, tier: Tier, reuse: Reuse) -> Step {
    match (reuse, tier) {
        (Reuse::Fresh { .. }, Tier::Memory) => Step::Deliver(Verdict::HitMemory),
        (Reuse::Fresh { .. }, Tier::Disk) => Step::Deliver(Verdict::HitDisk),
        (Reuse::StaleWhileRevalidate { .. }, _) => Step::DeliverAndRefresh,
        (Reuse::Validate { .. }, _) if facts.request.only_if_cached => Step::OnlyIfCached,
        // Its answer says whether what is stored is still good, without the body (RFC 9111 §4.3.5).
        (Reuse::Validate { .. }, _) if facts.head => Step::Fetch(How::Forward, FetchReason::Head),
        (Reuse::Validate { .. }, _) => Step::Fetch(sharing(facts), FetchReason::Revalidate),
    }
}

fn fetch(facts: &Facts, miss: Miss) -> Step {
    let reason = match miss {
        Miss::Uri => FetchReason::Miss,
        Miss::Vary => FetchReason::VaryMiss,
        Miss::Damaged => FetchReason::Damaged,
        Miss::Purged => FetchReason::Purged,
        Miss::Partial => FetchReason::Complete,
    };
    let of_part = miss == Miss::Partial && facts.one_range;
    if facts.head {
        Step::Fetch(How::Forward, FetchReason::Head)
    } else if facts.uncacheable || facts.replans >= REPLANS_MAX {
        Step::Fetch(How::Forward, FetchReason::Uncacheable)
    } else if facts.one_range && facts.shareable && (facts.far_range || of_part) {
        Step::Fetch(How::Join, FetchReason::Range)
    } else if facts.far_range || of_part {
        Step::Fetch(How::Forward, FetchReason::Range)
    } else {
        Step::Fetch(sharing(facts), reason)
    }
}

fn sharing(facts: &Facts) -> How {
    if facts.shareable && facts.replans < REPLANS_MAX { How::Join } else { How::Alone }
}

fn filled_step(facts: &Facts, filled: Filled, stale: bool) -> Step {
    match filled {
        Filled::Streaming { collapsed: true, .. } => Step::DeliverFill(Verdict::HitCollapsed),
        Filled::Streaming { source: Source::Peer, .. } => Step::DeliverFill(Verdict::Peer),
        Filled::Streaming { .. } => Step::DeliverFill(Verdict::Origin),
        Filled::Refreshed { .. } => Step::Deliver(Verdict::Revalidated),
        Filled::Own { server_error: true } | Filled::NotStored { server_error: true } | Filled::Failed
            if stale =>
        {
            Step::Deliver(Verdict::StaleIfError)
        }
        Filled::Own { .. } => Step::DeliverOwn,
        Filled::NotStored { .. } => Step::Fetch(How::Forward, FetchReason::Uncacheable),
        Filled::Unfit if facts.replans < REPLANS_MAX => Step::Lookup,
        Filled::Unfit => Step::Fetch(How::Forward, FetchReason::Uncacheable),
        Filled::Failed => Step::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, Method};

    #[test]
    fn only_who_began_a_fill_from_a_peer_has_it_from_the_peer() {
        let facts = Facts {
            request: RequestFacts::parse(&Method::GET, &HeaderMap::new()),
            head: false,
            far_range: false,
            one_range: false,
            uncacheable: false,
            shareable: true,
            replans: 1,
        };
        for (collapsed, source, verdict) in [
            (false, Source::Origin, Verdict::Origin),
            (false, Source::Peer, Verdict::Peer),
            (true, Source::Origin, Verdict::HitCollapsed),
            (true, Source::Peer, Verdict::HitCollapsed),
        ] {
            let filled = Filled::Streaming { collapsed, source };
            assert_eq!(next(&facts, Event::Filled { filled, stale: false }), Step::DeliverFill(verdict));
        }
    }
}
