//! Clients that were given up, for what they did or since others needed their place.

use super::labels::{PerLabel, ProxyFailure, Shed, ShedWhat, Slowness};
use super::registry::Registry;
use crate::proto::flood::Flood;
use prometheus::IntCounter;

/// Counters of client connections that this node ended.
pub struct ClientMetrics {
    /// Closed because a limit was reached.
    pub shed: PerLabel<Shed, PerLabel<ShedWhat, IntCounter>>,
    /// Given up because they were too slow.
    pub slow: PerLabel<Slowness, IntCounter>,
    /// Closed because of what a proxy told of the client's address, or did not.
    pub proxy_failures: PerLabel<ProxyFailure, IntCounter>,
    /// HTTP/2, closed for what there was too much of.
    pub floods: PerLabel<Flood, IntCounter>,
}

impl ClientMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let shed = registry.counters(
            "shoal_connections_shed_total",
            "Client connections closed because a limit was reached: the new one, or one that waited and gave way to it.",
            ["limit", "what"],
        );
        let slow = registry.counters(
            "shoal_slow_clients_total",
            "Clients whose request or connection was given up because they were too slow.",
            ["reason"],
        );
        let proxies = registry.counters(
            "shoal_proxy_header_failures_total",
            "Client connections closed because their PROXY header was missing, wrong or not to be believed.",
            ["reason"],
        );
        let floods = registry.counters(
            "shoal_http2_floods_total",
            "HTTP/2 connections closed because the client sent too many frames of a kind.",
            ["kind"],
        );
        Self {
            shed: PerLabel::new(|limit| PerLabel::new(|what| shed.child([limit, what]))),
            slow: PerLabel::new(|label| slow.child([label])),
            proxy_failures: PerLabel::new(|label| proxies.child([label])),
            floods: PerLabel::new(|label| floods.child([label])),
        }
    }
}
