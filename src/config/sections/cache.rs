//! `[cache]`, and the policy keys of sites and rules.

use super::Check;
use crate::config::model::{Cache, Disk};
use crate::config::scalar::{Period, Size};
use crate::proto::semantics::{CachePolicy, Errors, SetCookie};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;

/// Less memory than this holds no useful object beside its own index.
const MEMORY_MIN: u64 = 1 << 20;
/// Less disk than this holds too few segments to reclaim one while another is written.
const DISK_MIN: u64 = 64 << 20;

/// Sizes of the cache and what it may store.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Cache")]
pub(super) struct RawCache {
    /// Memory for stored heads and bodies.
    #[schemars(extend("x-bounds" = "at least 1MiB"))]
    memory: Size,
    /// Folders on disk; at most one in this version.
    disk: Vec<RawDisk>,
    /// How bold the cache is; other keys follow it unless they are set themselves.
    profile: RawProfile,
    /// What `Set-Cookie` in a response means for storing it. Default: as the profile says.
    set_cookie: RawProfile,
    /// What an error (4xx, 5xx) that states no lifetime means for storing it. Default: as the profile says.
    errors: RawProfile,
    /// Share of the time since `Last-Modified` that a response without lifetime is fresh, in
    /// percent (RFC 9111 §4.2.2). 0 is never.
    #[schemars(extend("x-bounds" = "0 to 100"))]
    heuristic_percent: u32,
    /// Longest lifetime of a response that states none.
    heuristic_max: Period,
    /// How long a stale response may stand in for a failing origin when the response itself does
    /// not say. 0s is never.
    stale_if_error: Period,
    /// Longest lifetime that is believed.
    lifetime_max: Period,
    /// Whether `Cache-Control` in requests is obeyed (`no-cache` of a browser's reload).
    honour_request_directives: bool,
    /// Whether a response whose `Content-Language` is what a client's `Accept-Language` ranks first, and alone, answers it, also if
    /// it was stored for another `Accept-Language`. Saves fetches where languages are all that the origin selects by; it goes
    /// beyond RFC 9111. Default: with profile `rfc`.
    select_language: bool,
}

/// How bold the cache is.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Profile")]
enum RawProfile {
    /// A response with `Set-Cookie` is stored only with `public`, `s-maxage` or a targeted field
    /// such as `CDN-Cache-Control`; an error only with `public` or a lifetime.
    #[default]
    Explicit,
    /// As RFC 9111 allows.
    Rfc,
}

/// A folder of the disk cache.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Disk")]
pub(super) struct RawDisk {
    /// The folder; made if missing. Nothing else may write to it.
    path: Option<PathBuf>,
    /// What everything in the folder may take. Default: 10GiB.
    #[schemars(extend("x-bounds" = "at least 64MiB"))]
    size: Size,
}

/// What may be stored. Keys that are not set are as in `[cache]`, or in the site for a rule.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Policy")]
pub(super) struct RawPolicy {
    /// As `cache.set_cookie`.
    set_cookie: Option<RawProfile>,
    /// As `cache.errors`.
    errors: Option<RawProfile>,
    /// As `cache.heuristic_percent`.
    #[schemars(extend("x-bounds" = "0 to 100"))]
    heuristic_percent: Option<u32>,
    /// As `cache.heuristic_max`.
    heuristic_max: Option<Period>,
    /// As `cache.stale_if_error`.
    stale_if_error: Option<Period>,
    /// As `cache.lifetime_max`.
    lifetime_max: Option<Period>,
    /// As `cache.honour_request_directives`.
    honour_request_directives: Option<bool>,
    /// As `cache.select_language`.
    select_language: Option<bool>,
}

impl RawCache {
    /// The policy of sites that set nothing else.
    pub(super) fn policy(&self) -> CachePolicy {
        CachePolicy {
            set_cookie: self.set_cookie.into(),
            errors: self.errors.into(),
            heuristic_percent: self.heuristic_percent,
            heuristic_max: self.heuristic_max.0,
            stale_if_error: self.stale_if_error.0,
            lifetime_max: self.lifetime_max.0,
            honour_request_directives: self.honour_request_directives,
            select_language: self.select_language,
            expose_tags: false,
        }
    }

    pub(super) fn validate(self, check: &mut Check<'_>) -> Cache {
        check.require(self.memory.0 >= MEMORY_MIN, "cache.memory", "expected at least 1MiB");
        check_percent(self.heuristic_percent, "cache", check);
        if self.disk.len() > 1 {
            check.mistake("cache.disk[1]", "this version has one folder at most");
        }
        let disks = self.disk.into_iter().enumerate().filter_map(|(index, disk)| disk.validate(index, check));
        Cache { memory: self.memory.0, disks: disks.collect() }
    }
}

impl RawDisk {
    fn validate(self, index: usize, check: &mut Check<'_>) -> Option<Disk> {
        let key = format!("cache.disk[{index}]");
        check.require(self.size.0 >= DISK_MIN, &format!("{key}.size"), "expected at least 64MiB");
        let path = self.path.filter(|path| !path.as_os_str().is_empty());
        if path.is_none() {
            check.mistake(format!("{key}.path"), "a disk cache needs a folder: give `path`, or --cache-dir");
        }
        Some(Disk { path: path?, size: self.size.0 })
    }
}

impl RawPolicy {
    /// `base` with the keys that are set here. `key` is the path of these keys.
    pub(super) fn over(self, base: &CachePolicy, key: &str, check: &mut Check<'_>) -> CachePolicy {
        let policy = CachePolicy {
            set_cookie: self.set_cookie.map_or(base.set_cookie, SetCookie::from),
            errors: self.errors.map_or(base.errors, Errors::from),
            heuristic_percent: self.heuristic_percent.unwrap_or(base.heuristic_percent),
            heuristic_max: self.heuristic_max.map_or(base.heuristic_max, |period| period.0),
            stale_if_error: self.stale_if_error.map_or(base.stale_if_error, |period| period.0),
            lifetime_max: self.lifetime_max.map_or(base.lifetime_max, |period| period.0),
            honour_request_directives: self
                .honour_request_directives
                .unwrap_or(base.honour_request_directives),
            select_language: self.select_language.unwrap_or(base.select_language),
            expose_tags: base.expose_tags,
        };
        if self.heuristic_percent.is_some() {
            check_percent(policy.heuristic_percent, key, check);
        }
        policy
    }
}

fn check_percent(percent: u32, key: &str, check: &mut Check<'_>) {
    check.require(percent <= 100, &format!("{key}.heuristic_percent"), "expected 0 to 100");
}

impl From<RawProfile> for SetCookie {
    fn from(profile: RawProfile) -> Self {
        match profile {
            RawProfile::Explicit => Self::Explicit,
            RawProfile::Rfc => Self::Rfc,
        }
    }
}

impl From<RawProfile> for Errors {
    fn from(profile: RawProfile) -> Self {
        match profile {
            RawProfile::Explicit => Self::Explicit,
            RawProfile::Rfc => Self::Rfc,
        }
    }
}
