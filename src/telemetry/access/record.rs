//! What is told about one request.

use crate::proto::key::ObjectId;
use crate::proto::time::Wall;
use crate::proto::verdict::Verdict;
use crate::telemetry::RequestId;
use http::{Method, Version};
use std::net::IpAddr;
use std::time::Duration;

/// One finished request.
#[derive(Clone, Debug)]
pub struct AccessRecord<'a> {
    /// When its head had arrived.
    pub at: Wall,
    /// Its id.
    pub request_id: RequestId,
    /// The client, behind trusted proxies too.
    pub client: IpAddr,
    /// HTTP version.
    pub version: Version,
    /// TLS version such as `TLSv1.3`; `None` for plain HTTP.
    pub tls: Option<&'a str>,
    /// Host as asked for; empty if none.
    pub host: &'a str,
    /// Method.
    pub method: &'a Method,
    /// Path and query as asked for.
    pub target: &'a str,
    /// Name of the site; empty if none was found.
    pub site: &'a str,
    /// Status of the response head; `None` if none was sent.
    pub status: Option<u16>,
    /// What became of it.
    pub verdict: Verdict,
    /// Why: the reason behind verdict and status (`Cache-Status` detail, refusal, error kind).
    pub detail: Option<&'a str>,
    /// Identity of the object that it is for, if it was routed.
    pub object: Option<ObjectId>,
    /// Body bytes received.
    pub bytes_in: u64,
    /// Body bytes sent.
    pub bytes_out: u64,
    /// From the request head to the end of the response.
    pub duration: Duration,
    /// From the request head to the response head.
    pub first_byte: Option<Duration>,
    /// Age of the response in seconds.
    pub age: Option<u64>,
    /// Freshness left in seconds, negative when stale.
    pub ttl: Option<i64>,
    /// The upstream server that was asked last.
    pub upstream: Option<&'a str>,
    /// The edge that gave the response, if one did: its name, or its identity if that is not known.
    pub peer: Option<&'a str>,
    /// Status that the upstream server gave.
    pub upstream_status: Option<u16>,
    /// Requests sent upstream for this one.
    pub attempts: u32,
    /// `Referer`, any bytes.
    pub referer: Option<&'a [u8]>,
    /// `User-Agent`, any bytes.
    pub user_agent: Option<&'a [u8]>,
    /// Who ended it and why.
    pub termination: Termination,
}

/// Who ended a request and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Termination {
    /// The whole response was sent.
    Complete,
    /// The client closed or reset the connection or stream.
    ClientGone,
    /// The client was silent, or took nothing, for too long.
    ClientTimeout,
    /// The upstream failed after the response head was sent.
    UpstreamError,
    /// The upstream was silent for too long after the response head was sent.
    UpstreamTimeout,
    /// The client fell too far behind a fill that cannot be repeated.
    Laggard,
    /// The node stopped.
    Shutdown,
    /// A failure of the node itself.
    Internal,
}

impl Termination {
    /// All ends.
    pub const ALL: [Self; 8] = [
        Self::Complete,
        Self::ClientGone,
        Self::ClientTimeout,
        Self::UpstreamError,
        Self::UpstreamTimeout,
        Self::Laggard,
        Self::Shutdown,
        Self::Internal,
    ];

    /// The one name of this end.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientGone => "client_gone",
            Self::ClientTimeout => "client_timeout",
            Self::UpstreamError => "upstream_error",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Laggard => "laggard",
            Self::Shutdown => "shutdown",
            Self::Internal => "internal",
        }
    }
}
