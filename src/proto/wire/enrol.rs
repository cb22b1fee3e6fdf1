//! How a node gets its certificate. On a connection with [`ENROL_ALPN`](super::ENROL_ALPN) it opens one stream and
//! sends one frame with [`Enrol`]; a frame with [`Enrolled`] comes back.

use prost::{Message, Oneof};

/// Please make me a certificate.
#[derive(Clone, PartialEq, Message)]
pub struct Enrol {
    /// Join token. Not looked at if the connection shows a certificate that is still valid.
    #[prost(string, tag = "1")]
    pub token: String,
    /// Signing request, PKCS #10 in DER. Only its key counts. At most [`REQUEST_BYTES_MAX`].
    #[prost(bytes = "vec", tag = "2")]
    pub csr: Vec<u8>,
    /// `node.name`.
    #[prost(string, tag = "3")]
    pub name: String,
}

/// Bytes of a signing request at most.
pub const REQUEST_BYTES_MAX: usize = 4096;

/// Answer to [`Enrol`].
#[derive(Clone, PartialEq, Message)]
pub struct Enrolled {
    /// The answer. `None` is one that this version does not know.
    #[prost(oneof = "enrolled::Kind", tags = "1, 2")]
    pub kind: Option<enrolled::Kind>,
}

/// Kinds of [`Enrolled`].
pub mod enrolled {
    use super::{Chain, Oneof};

    /// The certificate, or why there is none.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Kind {
        /// The certificate.
        #[prost(message, tag = "1")]
        Chain(Chain),
        /// Why there is none, for people.
        #[prost(string, tag = "2")]
        Refused(String),
    }
}

/// A certificate with those that lead from it to the authority, which is left out.
#[derive(Clone, PartialEq, Message)]
pub struct Chain {
    /// Certificates in DER, the node's first; at most [`CHAIN_MAX`].
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub certificates: Vec<Vec<u8>>,
}

/// Certificates in a [`Chain`] at most.
pub const CHAIN_MAX: usize = 4;
