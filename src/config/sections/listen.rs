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
    /// Addresses of `http` and `https` to which only proxies connect that tell the client's address first, by the PROXY
    /// protocol, version 1 or 2 (HAProxy `send-proxy`, nginx `proxy_protocol on`, load balancers of clouds). The proxies must be
    /// in `trusted_networks`: any other connection to such an address is closed, as is one without a valid header.
    proxy_protocol: Vec<Address>,
}

impl RawListen {
    pub(super) fn validate(self, roles: Roles, has_trusted: bool, check: &mut Check<'_>) -> Listen {
        for (key, list) in [("listen.http", &self.http), ("listen.https", &self.https)] {
            let what =
                "a node that is no edge serves no clients: add \"edge\" to node.roles, or leave this out";
            check.require(roles.edge || list.is_empty(), key, what);
        }
        let addresses = |list: Vec<Address>| list.into_iter().map(|address| address.0).collect::<Vec<_>>();
        let (http, https) = (addresses(self.http), addresses(self.https));
        let proxy_protocol = addresses(self.proxy_protocol);
        for (index, at) in proxy_protocol.iter().enumerate() {
            let is_listened_on = http.contains(at) || https.contains(at);
            let what = "expected an address that is in listen.http or listen.https";
            check.require(is_listened_on, &format!("listen.proxy_protocol[{index}]"), what);
        }
        let what =
            "no proxy would be believed, and every connection closed: name the proxies in trusted_networks";
        check.require(proxy_protocol.is_empty() || has_trusted, "listen.proxy_protocol", what);
        Listen { http, https, proxy_protocol, tls: None }
    }
}
