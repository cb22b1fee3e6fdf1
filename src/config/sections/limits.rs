//! `[limits]`

use super::Check;
use crate::config::model::Limits;
use crate::config::scalar::{Period, Size};
use schemars::JsonSchema;
use serde::Deserialize;

/// Limits on clients. Each keeps one client from taking what all need.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Limits")]
pub(super) struct RawLimits {
    /// Time for a whole request head, from its first byte (slow loris).
    #[schemars(extend("x-bounds" = "more than 0"))]
    header_timeout: Period,
    /// How long a connection may wait for its next request.
    #[schemars(extend("x-bounds" = "more than 0"))]
    keepalive_timeout: Period,
    /// Longest silence while a client sends a body or takes a response.
    #[schemars(extend("x-bounds" = "more than 0"))]
    idle_timeout: Period,
    /// Bytes per second of a request body, at least: a slower one is answered 408. Only time counts in which this node waited
    /// for the client, in the mean over `idle_timeout` of such time, and only until there is a response. 0 is any.
    body_rate: Size,
    /// Bytes per second that a client must take of a response that waits for it, at least: the connection of a slower one
    /// is closed, its stream in HTTP/2 reset. Measured like `body_rate`, so a response that has nothing to say (server-sent
    /// events, long polls) may last. 0 is any.
    response_rate: Size,
    /// Bytes of a request head; longer ones are answered 431. Not above what origins take.
    #[schemars(extend("x-bounds" = "1KiB to 1MiB"))]
    header_bytes: Size,
    /// Fields of a request head; more are answered 431.
    #[schemars(extend("x-bounds" = "at least 8"))]
    header_count: usize,
    /// Bytes of a request target; longer ones are answered 414.
    #[schemars(extend("x-bounds" = "256 bytes to 1MiB"))]
    uri_bytes: Size,
    /// Parameters of a query, whether `&` or `;` separates them; more are answered 414.
    #[schemars(extend("x-bounds" = "at least 1"))]
    query_parameters: usize,
    /// Bytes of a request body; longer ones are answered 413. 0 is no limit.
    body_bytes: Size,
    /// Requests on one connection before it is closed.
    #[schemars(extend("x-bounds" = "at least 1"))]
    requests_per_connection: u64,
    /// Age at which a connection is closed after its current request.
    #[schemars(extend("x-bounds" = "more than 0"))]
    connection_age: Period,
    /// Client connections over all listeners. When all are taken, a new one takes the place of the one that has waited
    /// longest without a request, and is closed only if all have requests in progress. Default: half of the open files that
    /// the process may have, at most 100000.
    #[schemars(extend("x-bounds" = "at least 1"))]
    connections: usize,
    /// Client connections from one address, or one /64 of IPv6, once more than half of `connections` are open: many
    /// clients may share an address, so below that there is no limit on one. A further one takes the place of the one of
    /// the same address that has waited longest. Addresses in `trusted_networks` stand for many clients and have no such limit.
    #[schemars(extend("x-bounds" = "at least 1"))]
    connections_per_ip: usize,
    /// Concurrent streams of an HTTP/2 connection.
    #[schemars(extend("x-bounds" = "at least 1"))]
    http2_streams: u32,
}

impl RawLimits {
    pub(super) fn validate(self, check: &mut Check<'_>) -> Limits {
        for (key, period) in [
            ("header_timeout", self.header_timeout),
            ("keepalive_timeout", self.keepalive_timeout),
            ("idle_timeout", self.idle_timeout),
            ("connection_age", self.connection_age),
        ] {
            check.require(!period.0.is_zero(), &format!("limits.{key}"), "must be longer than 0");
        }
        for (key, least, value) in [
            ("header_bytes", 1024, self.header_bytes.0),
            ("header_count", 8, self.header_count as u64),
            ("uri_bytes", 256, self.uri_bytes.0),
            ("query_parameters", 1, self.query_parameters as u64),
            ("requests_per_connection", 1, self.requests_per_connection),
            ("connections", 1, self.connections as u64),
            ("connections_per_ip", 1, self.connections_per_ip as u64),
            ("http2_streams", 1, self.http2_streams.into()),
        ] {
            check.require(value >= least, &format!("limits.{key}"), format!("expected at least {least}"));
        }
        // Read into memory before any rule is applied.
        for (key, value) in [("header_bytes", self.header_bytes.0), ("uri_bytes", self.uri_bytes.0)] {
            check.require(value <= 1 << 20, &format!("limits.{key}"), "expected at most 1MiB");
        }
        Limits {
            header_timeout: self.header_timeout.0,
            keepalive_timeout: self.keepalive_timeout.0,
            idle_timeout: self.idle_timeout.0,
            body_rate: self.body_rate.0,
            response_rate: self.response_rate.0,
            header_bytes: usize::try_from(self.header_bytes.0).unwrap_or(usize::MAX),
            header_count: self.header_count,
            uri_bytes: usize::try_from(self.uri_bytes.0).unwrap_or(usize::MAX),
            query_parameters: self.query_parameters,
            body_bytes: self.body_bytes.0,
            requests_per_connection: self.requests_per_connection,
            connection_age: self.connection_age.0,
            connections: self.connections,
            connections_per_ip: self.connections_per_ip,
            http2_streams: self.http2_streams,
        }
    }
}
