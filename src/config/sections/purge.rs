//! `[purge]` and `[site.purge]`

use super::Check;
use crate::config::model::{Purging, SitePurging};
use crate::config::scalar::{Frequency, Network};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;

/// The most that one call can cost: 1000 selectors at 100 for one, and the call itself.
const BURST_MIN: u32 = 11;

/// Limits on purges that are asked of this node, by whatever way.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Purge")]
pub(super) struct RawPurge {
    /// Calls in the long run; each 100 selectors of a call count as another. More are answered 429.
    rate: Frequency,
    /// Calls at once.
    #[schemars(extend("x-bounds" = "at least 11"))]
    burst: u32,
}

impl RawPurge {
    pub(super) fn validate(self, check: &mut Check<'_>) -> Purging {
        check.require(self.burst >= BURST_MIN, "purge.burst", format!("expected at least {BURST_MIN}"));
        Purging { rate: self.rate.0, burst: self.burst }
    }
}

/// Purges by requests of a site's own system, as plug-ins send them to Varnish or a CDN: `PURGE`, `BAN` and Fastly's API.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "SitePurge")]
pub(super) struct RawSitePurge {
    /// Whether such requests are obeyed. If not, they are forwarded like any other.
    methods: bool,
    /// Networks that may send them. With `token_file` too, both must be right.
    networks: Vec<Network>,
    /// File with the token that such requests must show: `Authorization: Bearer`, `X-Purge-Token` or `Fastly-Key`.
    token_file: Option<PathBuf>,
    /// Whether clients see the fields that carry tags (`Surrogate-Key`, `Cache-Tag`, `xkey`).
    expose_tags: bool,
}

impl RawSitePurge {
    pub(super) fn validate(self, key: &str, check: &mut Check<'_>) -> SitePurging {
        let is_guarded = !self.networks.is_empty() || self.token_file.is_some();
        check.require(
            !self.methods || is_guarded,
            &format!("{key}.methods"),
            "anybody could purge: give `networks`, `token_file` or both",
        );
        SitePurging {
            methods: self.methods,
            networks: self.networks.into_iter().map(|network| network.0).collect(),
            token_file: self.token_file,
            expose_tags: self.expose_tags,
        }
    }
}
