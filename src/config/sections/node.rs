//! `[node]`

use super::Check;
use crate::config::model::Node;
use crate::config::scalar::Period;
use crate::proto::swarm::Roles;
use schemars::JsonSchema;
use serde::Deserialize;

/// Worker threads at most.
const WORKERS_MAX: usize = 1024;

/// Identity of the node.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Node")]
pub(super) struct RawNode {
    /// Name in `Cache-Status`, `Via`, `CDN-Loop` and logs: letters, digits, `-`, `.`, `_`. Unlike
    /// that of any other node. Default: the host name.
    #[schemars(extend("x-bounds" = "1 to 63 characters"))]
    name: String,
    /// Failure zone of the node, for choosing near peers. An empty one is none, as where a platform
    /// does not know it.
    #[schemars(extend("x-bounds" = "at most 63 characters"))]
    zone: Option<String>,
    /// What the node does; both if it is told both. Default: edge.
    #[schemars(extend("x-bounds" = "at least one"))]
    roles: Vec<RawRole>,
    /// Worker threads. Default: the cores that the process may use.
    #[schemars(extend("x-bounds" = "1 to 1024"))]
    workers: usize,
    /// How long requests in progress may take to end when the node is asked to stop.
    drain_timeout: Period,
    /// Whether the configuration is reloaded by itself within seconds when its file changes, as files of a ConfigMap do.
    /// Otherwise it is when the node is told to.
    watch_config: bool,
}

/// A part that a node plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Role")]
enum RawRole {
    /// Serves clients, and gives to other nodes what it has.
    #[default]
    Edge,
    /// Keeps the directory of who has what, and says who asks the origin. Two are enough for a fleet.
    Superpeer,
}

impl RawNode {
    pub(super) fn validate(self, check: &mut Check<'_>) -> Node {
        let is_name = |name: &str| {
            (1..=63).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        };
        let has = |role: RawRole| self.roles.contains(&role);
        let zone = self.zone.filter(|zone| !zone.is_empty());
        let rule = "expected 1 to 63 letters, digits, `-`, `.` or `_`";
        check.require(is_name(&self.name), "node.name", rule);
        check.require(zone.as_deref().is_none_or(is_name), "node.zone", rule);
        check.require(!self.roles.is_empty(), "node.roles", "expected \"edge\", \"superpeer\" or both");
        let range = 1..=WORKERS_MAX;
        check.require(range.contains(&self.workers), "node.workers", format!("expected 1 to {WORKERS_MAX}"));
        Node {
            name: self.name,
            zone,
            roles: Roles {
                // A node without any role is refused above, and not for the lack of sites too.
                edge: self.roles.is_empty() || has(RawRole::Edge),
                superpeer: has(RawRole::Superpeer),
            },
            workers: self.workers,
            drain_timeout: self.drain_timeout.0,
            watch_config: self.watch_config,
        }
    }
}
