//! `[metrics]` and `[admin]`

use super::Check;
use crate::config::model::Admin;
use crate::config::scalar::Address;
use schemars::JsonSchema;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Metrics and probes: read only, without secrets, so they may face a scraper's network.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Metrics")]
pub(super) struct RawMetrics {
    /// Address of `/metrics`, `/livez` and `/readyz`.
    listen: Option<Address>,
}

impl RawMetrics {
    pub(super) fn validate(self) -> Option<SocketAddr> {
        self.listen.map(|address| address.0)
    }
}

/// Admin interface.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Admin")]
pub(super) struct RawAdmin {
    /// Address of the interface. Without a token file it must be a loopback address.
    listen: Option<Address>,
    /// File with the bearer token that requests must show.
    token_file: Option<PathBuf>,
}

impl RawAdmin {
    pub(super) fn validate(self, check: &mut Check<'_>) -> Option<Admin> {
        let listen = self.listen?.0;
        check.require(
            listen.ip().to_canonical().is_loopback() || self.token_file.is_some(),
            "admin.listen",
            format!(
                "{listen} can be reached from other machines: set admin.token_file, or listen on 127.0.0.1"
            ),
        );
        Some(Admin { listen, token_file: self.token_file })
    }
}
