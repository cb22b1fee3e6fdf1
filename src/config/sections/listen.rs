//! `[listen]`

use super::Check;
use crate::config::model::Listen;
use crate::config::scalar::Address;
use crate::proto::swarm::Roles;
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
    pub(super) fn validate(self, roles: Roles, check: &mut Check<'_>) -> Listen {
        for (key, list) in [("listen.http", &self.http), ("listen.https", &self.https)] {
            let what =
                "a node that is no edge serves no clients: add \"edge\" to node.roles, or leave this out";
            check.require(roles.edge || list.is_empty(), key, what);
        }
        let addresses = |list: Vec<Address>| list.into_iter().map(|address| address.0).collect();
        Listen { http: addresses(self.http), https: addresses(self.https), tls: None }
    }
}
