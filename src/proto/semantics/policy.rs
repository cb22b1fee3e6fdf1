//! The operator's say in what is stored and for how long.

use std::time::Duration;

/// Site or rule policy. The defaults are those of the `explicit` profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachePolicy {
    /// What `Set-Cookie` means for storing.
    pub set_cookie: SetCookie,
    /// What an error without a stated lifetime means for storing it.
    pub errors: Errors,
    /// Share of the distance from `Last-Modified` to `Date` that is the heuristic lifetime, in
    /// percent (RFC 9111 §4.2.2 suggests 10).
    pub heuristic_percent: u32,
    /// Longest heuristic lifetime.
    pub heuristic_max: Duration,
    /// How long a stale response may stand in for a failing origin when the response itself sets
    /// no `stale-if-error` and does not forbid it; zero is never. A response whose lifetime is 0
    /// never does unless it says so itself.
    pub stale_if_error: Duration,
    /// Longest lifetime that is believed.
    pub lifetime_max: Duration,
    /// Whether request directives of clients (`no-cache`, `max-age=0`, ...) are obeyed.
    pub honour_request_directives: bool,
    /// Whether a response in the one language that a client likes best may answer it, though it was selected by another
    /// `Accept-Language`. RFC 9111 §4.1 does not foresee this.
    pub select_language: bool,
    /// Whether clients get the tags that are meant for caches ([`strip_tags`](super::strip_tags)).
    pub expose_tags: bool,
}

/// What `Set-Cookie` in a response means for storing it (design §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetCookie {
    /// Stored only with `public`, `s-maxage` or a targeted cache-control field.
    Explicit,
    /// Stored as RFC 9111 allows (§7.3 there).
    Rfc,
}

/// What an error (4xx or 5xx) without a stated lifetime means for storing it. A client that gets the
/// origin to fail by what is no part of the key would have everybody see the error (CPDoS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errors {
    /// Not stored, unless it is marked `public` or is stored only to be validated each time.
    Explicit,
    /// Stored for a heuristic lifetime where RFC 9111 §4.2.2 allows.
    Rfc,
}

impl Default for CachePolicy {
    fn default() -> Self {
        Self {
            set_cookie: SetCookie::Explicit,
            errors: Errors::Explicit,
            heuristic_percent: 10,
            heuristic_max: Duration::from_secs(24 * 3600),
            stale_if_error: Duration::from_secs(24 * 3600),
            lifetime_max: Duration::from_secs(365 * 24 * 3600),
            honour_request_directives: true,
            select_language: false,
            expose_tags: false,
        }
    }
}
