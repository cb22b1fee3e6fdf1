//! Whether a stored response may answer a request now (RFC 9111 §4, RFC 5861, RFC 8246). On the
//! path of every hit: integer arithmetic only.
//!
//! A soft purge ends the lifetime: the windows of `stale-while-revalidate` and `stale-if-error` begin there. A node that may not
//! know of all purges confirms everything first. If that fails it does not know whether what it has is stale, so it takes it
//! for what has gone stale this moment: it stands in for the origin where such a response may (RFC 9111 §4.2.4), and not where
//! `must-revalidate`, `proxy-revalidate` or `s-maxage` forbid that.

use super::cache_status::FwdReason;
use super::facts::ResponseFacts;
use super::freshness::{current_age, lifetime, whole_seconds};
use super::policy::CachePolicy;
use super::request::RequestFacts;
use crate::proto::time::Wall;

/// What is judged of a stored response.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// What it says of its own reuse.
    pub facts: &'a ResponseFacts,
    /// When it was received.
    pub received: Wall,
    /// Its age then, in seconds.
    pub initial_age: u32,
    /// Since when a soft purge made it stale, if one did.
    pub purged: Option<Wall>,
    /// Whether all purges are known that may have made it stale.
    pub in_sync: bool,
}

/// How a stored response may be used. `age` is its current age and `ttl` its lifetime minus its
/// age, both in seconds; `ttl` is not positive when it is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Serve it. With a `ttl` that is not positive only because the client allowed that by
    /// `max-stale` (RFC 9111 §5.2.1.2).
    Fresh {
        /// Current age.
        age: u32,
        /// Remaining lifetime.
        ttl: i64,
    },
    /// Serve it and refresh it behind (RFC 5861 §3).
    StaleWhileRevalidate {
        /// Current age.
        age: u32,
        /// Remaining lifetime, not positive.
        ttl: i64,
    },
    /// Ask the origin first.
    Validate {
        /// Current age.
        age: u32,
        /// Remaining lifetime; positive if only the client or `no-cache` demands to ask.
        ttl: i64,
        /// Why.
        why: ValidateReason,
        /// Whether it may be served all the same if the origin fails (RFC 9111 §4.2.4, RFC 5861 §4).
        if_error: bool,
    },
}

/// Why a stored response must be validated before use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValidateReason {
    /// It is stale.
    Stale,
    /// It says `no-cache`.
    NoCache,
    /// The request says `no-cache`.
    RequestNoCache,
    /// It is older than the request's `max-age`.
    RequestMaxAge,
    /// It is not fresh for as long as the request's `min-fresh`.
    RequestMinFresh,
    /// A purge made it stale.
    Purged,
    /// This node may not know of a purge that made it stale.
    OutOfSync,
}

impl ValidateReason {
    /// The one name of this reason.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::NoCache => "no_cache",
            Self::RequestNoCache => "request_no_cache",
            Self::RequestMaxAge => "request_max_age",
            Self::RequestMinFresh => "request_min_fresh",
            Self::Purged => "purged",
            Self::OutOfSync => "out_of_sync",
        }
    }

    /// The reason of RFC 9211 §2.2 for going forward. What a request demands of a response that is stale anyway, with `ttl`
    /// seconds left, is no reason of its own.
    pub const fn fwd(self, ttl: i64) -> FwdReason {
        match self {
            Self::RequestNoCache | Self::RequestMaxAge | Self::RequestMinFresh if ttl > 0 => {
                FwdReason::Request
            }
            _ => FwdReason::Stale,
        }
    }
}

/// Whether `stored` may answer `request` at `now`. The caller has found that method, key and
/// selecting fields fit, and handles `only-if-cached`.
pub fn reuse(request: &RequestFacts, stored: &Stored<'_>, now: Wall, policy: &CachePolicy) -> Reuse {
    let age = current_age(stored.initial_age, stored.received, now);
    let lifetime = lifetime(stored.facts, stored.received, policy).secs;
    let own_ttl = i64::from(lifetime) - i64::from(age);
    let ttl = stored.purged.map_or(own_ttl, |at| own_ttl.min(-seconds(now, at)));
    // While it is fresh, `-ttl` is negative and so below any window. What may have been purged is as if it had gone stale now.
    let stale_for = if stored.in_sync { -ttl } else { (-ttl).max(0) };
    let if_error = stale_for < i64::from(error_window(stored.facts, lifetime, policy));
    let validate = |why, if_error| Reuse::Validate { age, ttl, why, if_error };
    // RFC 9111 §5.2.2.4.
    if stored.facts.directives.no_cache() {
        return validate(ValidateReason::NoCache, false);
    }
    if policy.honour_request_directives {
        match client_demand(request, stored.facts, age, ttl) {
            Demand::None => {}
            Demand::AcceptsStale if stored.in_sync => return Reuse::Fresh { age, ttl },
            Demand::AcceptsStale => {}
            // §5.2.1.4: this client wants no answer that the origin has not confirmed.
            Demand::Validate(ValidateReason::RequestNoCache) => {
                return validate(ValidateReason::RequestNoCache, false);
            }
            Demand::Validate(why) => return validate(why, if_error),
        }
    }
    if !stored.in_sync {
        validate(ValidateReason::OutOfSync, if_error)
    } else if ttl > 0 {
        // RFC 9111 §4.2.
        Reuse::Fresh { age, ttl }
    } else if -ttl < i64::from(refresh_window(stored.facts)) {
        // RFC 5861 §3.
        Reuse::StaleWhileRevalidate { age, ttl }
    } else if own_ttl > 0 {
        validate(ValidateReason::Purged, if_error)
    } else {
        // RFC 9111 §4.2.4.
        validate(ValidateReason::Stale, if_error)
    }
}

/// From `earlier` to `now`, in whole seconds; 0 when the clock went back.
fn seconds(now: Wall, earlier: Wall) -> i64 {
    i64::try_from(now.seconds_since(earlier)).unwrap_or(i64::MAX)
}

enum Demand {
    None,
    AcceptsStale,
    Validate(ValidateReason),
}

/// RFC 9111 §5.2.1.
fn client_demand(request: &RequestFacts, response: &ResponseFacts, age: u32, ttl: i64) -> Demand {
    let age = i64::from(age);
    // §5.2.1.4.
    if request.no_cache {
        return Demand::Validate(ValidateReason::RequestNoCache);
    }
    // §5.2.1.3.
    if request.min_fresh.is_some_and(|secs| ttl.max(0) < i64::from(secs)) {
        return Demand::Validate(ValidateReason::RequestMinFresh);
    }
    // RFC 8246 §2: a reload does not make an immutable response that is still fresh be validated.
    let immutable = response.directives.immutable() && ttl > 0;
    let oldest = request.max_age.filter(|_| !immutable).map(i64::from);
    // §5.2.1.2.
    if let Some(extra) = request.max_stale.filter(|_| !forbids_stale(response)) {
        // The age at which it went stale.
        let lifetime = ttl.saturating_add(age);
        let limit = oldest.map_or(lifetime, |oldest| oldest.min(lifetime));
        if age <= limit.saturating_add(i64::from(extra)) {
            return Demand::AcceptsStale;
        }
    }
    // §5.2.1.1. By the letter an age of 0 passes `max-age=0`; but clients send it to have it validated.
    if oldest.is_some_and(|oldest| age > oldest || oldest == 0) {
        return Demand::Validate(ValidateReason::RequestMaxAge);
    }
    Demand::None
}

/// Seconds after the end of the lifetime in which the response is served while it is refreshed.
///
/// An origin that sends `stale-while-revalidate` or `stale-if-error` beside `s-maxage` names its
/// own exception from what `s-maxage` implies (RFC 9111 §5.2.2.10), and is taken at its word.
fn refresh_window(response: &ResponseFacts) -> u32 {
    if requires_validation(response) {
        return 0;
    }
    response.directives.stale_while_revalidate().unwrap_or(0)
}

/// Seconds after the end of the lifetime in which the response stands in for a failing origin. The
/// policy's default is for responses that were fresh once, not for those with a lifetime of 0.
fn error_window(response: &ResponseFacts, lifetime: u32, policy: &CachePolicy) -> u32 {
    if requires_validation(response) {
        return 0;
    }
    match response.directives.stale_if_error() {
        Some(secs) => secs,
        None if forbids_stale(response) || lifetime == 0 => 0,
        None => whole_seconds(policy.stale_if_error),
    }
}

/// §5.2.2.2, §5.2.2.4, §5.2.2.8: never stale, whatever else is said.
const fn requires_validation(response: &ResponseFacts) -> bool {
    let directives = &response.directives;
    directives.must_revalidate() || directives.proxy_revalidate() || directives.no_cache()
}

/// §4.2.4: not stale unless the response itself says otherwise. `s-maxage` implies
/// `proxy-revalidate`.
const fn forbids_stale(response: &ResponseFacts) -> bool {
    requires_validation(response) || response.directives.s_maxage().is_some()
}

#[cfg(test)]
#[path = "reuse_tests.rs"]
mod tests;
