//! How old a response is and how long it stays fresh (RFC 9111 §4.2).

use super::directives::{DELTA_MAX, Governing};
use super::facts::{Expires, ResponseFacts};
use super::policy::CachePolicy;
use super::storable::allows_heuristic;
use crate::proto::time::Wall;
use std::time::Duration;

/// How long a response is fresh, and what says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Seconds, counted from age 0.
    pub secs: u32,
    /// What they were taken from.
    pub source: LifetimeSource,
}

/// What a freshness lifetime was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LifetimeSource {
    /// `CDN-Cache-Control` (RFC 9213).
    CdnMaxAge,
    /// `Surrogate-Control`.
    SurrogateMaxAge,
    /// `s-maxage`.
    SMaxage,
    /// `max-age`.
    MaxAge,
    /// `Expires`.
    Expires,
    /// A share of the time since `Last-Modified` (RFC 9111 §4.2.2).
    Heuristic,
    /// Nothing: the response is never fresh.
    None,
}

impl LifetimeSource {
    /// The one name of this source.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CdnMaxAge => "cdn_max_age",
            Self::SurrogateMaxAge => "surrogate_max_age",
            Self::SMaxage => "s_maxage",
            Self::MaxAge => "max_age",
            Self::Expires => "expires",
            Self::Heuristic => "heuristic",
            Self::None => "none",
        }
    }
}

/// The age of a response at reception (RFC 9111 §4.2.3, `corrected_initial_age`): the larger of the
/// clock against `Date`, and `Age` plus the time that the response took. For a response freshened
/// by a 304, the facts are those of the 304.
pub fn corrected_initial_age(response: &ResponseFacts, request_sent: Wall, received: Wall) -> u32 {
    let apparent = response.date().map_or(0, |date| received.as_secs().saturating_sub(date).max(0) as u64);
    let delay = received.seconds_since(request_sent);
    let corrected = u64::from(response.age().unwrap_or(0)).saturating_add(delay);
    saturate(apparent.max(corrected))
}

/// The age of a stored response now (RFC 9111 §4.2.3). While the clock is behind the time of
/// reception, the age stays what it was then.
pub const fn current_age(initial_age: u32, received: Wall, now: Wall) -> u32 {
    saturate(now.seconds_since(received).saturating_add(initial_age as u64))
}

/// How long a response is fresh (RFC 9111 §4.2.1, §4.2.2), at most `policy.lifetime_max`.
/// `received` stands in for a missing or invalid `Date`.
pub fn lifetime(response: &ResponseFacts, received: Wall, policy: &CachePolicy) -> Lifetime {
    let Lifetime { secs, source } = stated_or_guessed(response, received, policy);
    Lifetime { secs: secs.min(whole_seconds(policy.lifetime_max)), source }
}

/// A duration of the policy in seconds.
pub(super) const fn whole_seconds(duration: Duration) -> u32 {
    saturate(duration.as_secs())
}

fn stated_or_guessed(response: &ResponseFacts, received: Wall, policy: &CachePolicy) -> Lifetime {
    let directives = &response.directives;
    let governing = directives.governing();
    if let Some(secs) = directives.s_maxage() {
        return Lifetime { secs, source: source_of(governing, LifetimeSource::SMaxage) };
    }
    if let Some(secs) = directives.max_age() {
        return Lifetime { secs, source: source_of(governing, LifetimeSource::MaxAge) };
    }
    let date = response.date().unwrap_or(received.as_secs());
    // RFC 9213 §2.2: a targeted field puts `Expires` out of force.
    if governing == Governing::CacheControl {
        match response.expires() {
            Expires::Absent => {}
            Expires::Invalid => return Lifetime { secs: 0, source: LifetimeSource::Expires },
            Expires::At(at) => {
                return Lifetime { secs: distance(date, at), source: LifetimeSource::Expires };
            }
        }
    }
    match response.last_modified() {
        Some(modified) if allows_heuristic(response) => {
            let share = u64::from(distance(modified, date)) * u64::from(policy.heuristic_percent) / 100;
            let secs = saturate(share).min(whole_seconds(policy.heuristic_max));
            Lifetime { secs, source: LifetimeSource::Heuristic }
        }
        _ => Lifetime { secs: 0, source: LifetimeSource::None },
    }
}

const fn source_of(governing: Governing, plain: LifetimeSource) -> LifetimeSource {
    match governing {
        Governing::CdnCacheControl => LifetimeSource::CdnMaxAge,
        Governing::SurrogateControl => LifetimeSource::SurrogateMaxAge,
        Governing::CacheControl => plain,
    }
}

/// Seconds from `from` to `to`, 0 if that is earlier.
const fn distance(from: i64, to: i64) -> u32 {
    let secs = to.saturating_sub(from);
    if secs < 0 { 0 } else { saturate(secs as u64) }
}

const fn saturate(secs: u64) -> u32 {
    if secs > DELTA_MAX as u64 { DELTA_MAX } else { secs as u32 }
}

#[cfg(test)]
#[path = "freshness_tests.rs"]
mod tests;
