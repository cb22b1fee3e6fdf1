//! `[listen]`

use crate::config::model::Listen;
use crate::config::scalar::Address;
use schemars::JsonSchema;
use serde::Deserialize;

/// Where clients connect.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Listen")]
pub(super) struct RawListen {
    /// Addresses for plain HTTP/1.1 and HTTP/2 with prior knowledge.
    http: Vec<Address>,
    /// Addresses for HTTPS; some site must have a certificate.
    https: Vec<Address>,
}

impl RawListen {
    pub(super) fn validate(self) -> Listen {
        let addresses = |list: Vec<Address>| list.into_iter().map(|address| address.0).collect();
        Listen { http: addresses(self.http), https: addresses(self.https), tls: None }
    }
}
