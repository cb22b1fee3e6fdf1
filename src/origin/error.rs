//! What can go wrong between this node and an upstream server, by whose fault, and whether the
//! server may have acted on the request.

use crate::tls::client::TlsError;
use rustix::io::Errno;
use std::error::Error;
use std::io;

/// Why a fetch gave no response. Retries that the rules allow were made before.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server's name has no address. Never sent.
    #[error("resolve {host}: {reason}")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's reason.
        reason: String,
    },
    /// No address of the server accepts connections. Never sent.
    #[error("connect: {0}")]
    Connect(#[source] io::Error),
    /// No connection, TLS included, within `connect_timeout`. Never sent.
    #[error("connect: no answer within the time limit")]
    ConnectTimeout,
    /// The TLS handshake failed, or the settings for it cannot be made. Never sent.
    #[error("TLS: {0}")]
    Tls(#[source] Box<dyn Error + Send + Sync>),
    /// All connections that the server may have stayed in use for `connect_timeout`, or too many
    /// requests wait for one. Never sent; not the server's fault.
    #[error("all connections to the server are in use")]
    TooManyConnections,
    /// The server that was pinned is not in the group any more. Never sent; nobody's fault.
    #[error("the pinned server is not in the group")]
    NoServer,
    /// The request cannot be sent upstream at all. Never sent; the caller's fault.
    #[error("request not sendable: {0}")]
    Request(&'static str),
    /// The server refused the request unprocessed (HTTP/2 `REFUSED_STREAM` or `GOAWAY`), or closed
    /// the connection before it was written. Never processed.
    #[error("refused unprocessed: {0}")]
    Refused(#[source] hyper::Error),
    /// No response head within `first_byte_timeout`. May have been processed.
    #[error("no response head within the time limit")]
    FirstByteTimeout,
    /// The connection ended before a response head. May have been processed.
    #[error("connection closed before a response: {0}")]
    Closed(#[source] hyper::Error),
    /// The server broke the protocol. May have been processed.
    #[error("protocol: {0}")]
    Protocol(#[source] Box<dyn Error + Send + Sync>),
    /// The request body ended in an error of its own: its sender's fault. May have been processed.
    #[error("request body failed")]
    RequestBody,
}

impl FetchError {
    /// The kind, for metrics and logs.
    pub const fn kind(&self) -> FailureKind {
        match self {
            Self::Resolve { .. } => FailureKind::Resolve,
            Self::Connect(_) => FailureKind::Connect,
            Self::ConnectTimeout => FailureKind::ConnectTimeout,
            Self::Tls(_) => FailureKind::Tls,
            Self::TooManyConnections => FailureKind::TooManyConnections,
            Self::NoServer => FailureKind::NoServer,
            Self::Request(_) => FailureKind::Request,
            Self::Refused(_) => FailureKind::Refused,
            Self::FirstByteTimeout => FailureKind::FirstByteTimeout,
            Self::Closed(_) => FailureKind::Closed,
            Self::Protocol(_) => FailureKind::Protocol,
            Self::RequestBody => FailureKind::RequestBody,
        }
    }

    /// The one name of this failure.
    pub const fn as_str(&self) -> &'static str {
        self.kind().as_str()
    }

    /// Whether the client is to be told 504 (Gateway Timeout) rather than 502 (RFC 9110 §15.6.5).
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::ConnectTimeout | Self::FirstByteTimeout)
    }

    /// Whether the client is to be told 503 (Service Unavailable), and to come again (RFC 9110 §15.6.4).
    pub const fn is_overload(&self) -> bool {
        matches!(self, Self::TooManyConnections)
    }

    /// Whether no server can have acted on the request, so that any method may be tried again.
    pub const fn never_processed(&self) -> bool {
        match self {
            Self::Resolve { .. }
            | Self::Connect(_)
            | Self::ConnectTimeout
            | Self::Tls(_)
            | Self::TooManyConnections
            | Self::NoServer
            | Self::Request(_)
            | Self::Refused(_) => true,
            Self::FirstByteTimeout | Self::Closed(_) | Self::Protocol(_) | Self::RequestBody => false,
        }
    }

    /// Whether it counts against the server's health.
    pub(super) fn is_server_fault(&self) -> bool {
        match self {
            Self::Connect(error) => !is_exhaustion_here(error),
            Self::Resolve { .. }
            | Self::ConnectTimeout
            | Self::Tls(_)
            | Self::FirstByteTimeout
            | Self::Closed(_)
            | Self::Protocol(_) => true,
            // A server that drains its connections (GOAWAY) is not ill.
            Self::Refused(_)
            | Self::TooManyConnections
            | Self::NoServer
            | Self::Request(_)
            | Self::RequestBody => false,
        }
    }
}

/// Whether this node has no descriptors or ports left, for which no server is to be avoided.
fn is_exhaustion_here(error: &io::Error) -> bool {
    let raw = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(raw, Some(Errno::MFILE | Errno::NFILE | Errno::ADDRNOTAVAIL | Errno::NOBUFS | Errno::NOMEM))
}

impl From<TlsError> for FetchError {
    fn from(error: TlsError) -> Self {
        Self::Tls(Box::new(error))
    }
}

/// What failed, as a metric label: the variants of [`FetchError`], and what can fail in a body
/// after its head was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// See [`FetchError::Resolve`].
    Resolve,
    /// See [`FetchError::Connect`].
    Connect,
    /// See [`FetchError::ConnectTimeout`].
    ConnectTimeout,
    /// See [`FetchError::Tls`].
    Tls,
    /// See [`FetchError::TooManyConnections`].
    TooManyConnections,
    /// See [`FetchError::NoServer`].
    NoServer,
    /// See [`FetchError::Request`].
    Request,
    /// See [`FetchError::Refused`].
    Refused,
    /// See [`FetchError::FirstByteTimeout`].
    FirstByteTimeout,
    /// See [`FetchError::Closed`].
    Closed,
    /// See [`FetchError::Protocol`].
    Protocol,
    /// See [`FetchError::RequestBody`].
    RequestBody,
    /// A response body was silent for longer than `between_bytes_timeout`.
    BodyStalled,
    /// A response body ended early or broke its framing.
    BodyBroken,
}

impl FailureKind {
    /// All kinds.
    pub const ALL: [Self; 14] = [
        Self::Resolve,
        Self::Connect,
        Self::ConnectTimeout,
        Self::Tls,
        Self::TooManyConnections,
        Self::NoServer,
        Self::Request,
        Self::Refused,
        Self::FirstByteTimeout,
        Self::Closed,
        Self::Protocol,
        Self::RequestBody,
        Self::BodyStalled,
        Self::BodyBroken,
    ];

    /// The one name of this kind.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls => "tls",
            Self::TooManyConnections => "too_many_connections",
            Self::NoServer => "no_server",
            Self::Request => "request",
            Self::Refused => "refused",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
            Self::RequestBody => "request_body",
            Self::BodyStalled => "body_stalled",
            Self::BodyBroken => "body_broken",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_descriptors_blames_no_server() {
        let connect = |errno: Errno| FetchError::Connect(io::Error::from_raw_os_error(errno.raw_os_error()));
        assert!(connect(Errno::CONNREFUSED).is_server_fault());
        assert!(!connect(Errno::MFILE).is_server_fault());
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        for (index, kind) in FailureKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, index, "counters are indexed by kind");
            assert!(FailureKind::ALL[..index].iter().all(|other| other.as_str() != kind.as_str()));
        }
    }
}
