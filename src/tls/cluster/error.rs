//! What can be wrong with certificates, tokens and authorities. Nothing is changed when one of these comes.

use crate::proto::swarm::Roles;
use crate::tls::server::CertificateProblem;
use std::io;
use std::path::PathBuf;

/// Why something of the cluster's certificates cannot be used. What was in force before stays in force.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A file with certificate or key cannot be used.
    #[error(transparent)]
    File(#[from] CertificateProblem),
    /// The file with the join token cannot be read.
    #[error("join token: {}: {error}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        error: io::Error,
    },
    /// The authority's certificate is missing, or is not one of an authority.
    #[error("certificate of the authority: {0}")]
    Authority(String),
    /// The authority's key belongs to none of the certificates that were given.
    #[error("the key of the authority belongs to another certificate")]
    AuthorityKey,
    /// The authority's own certificate has expired.
    #[error("the certificate of the authority has expired")]
    AuthorityExpired,
    /// A private key cannot be used.
    #[error("private key: {0}")]
    Key(String),
    /// A signing request is malformed, not signed with its own key, or for another kind of key than ECDSA P-256.
    #[error("signing request: {0}")]
    Request(String),
    /// A name that no node and no authority may have.
    #[error("a name has 1 to 63 letters, digits, `-`, `.` or `_`")]
    Name,
    /// A certificate without a role would be of no use.
    #[error("a node needs at least one role")]
    NoRole,
    /// A lifetime that is nothing or too long.
    #[error("a certificate lives from a second to ten years")]
    Lifetime,
    /// The certificate is not one of a node.
    #[error("not a node's certificate: {0}")]
    NotANode(&'static str),
    /// There is no certificate where one is needed.
    #[error("no certificate was shown")]
    NoCertificate,
    /// A connection without one of the protocols that nodes speak.
    #[error("no protocol that nodes speak was agreed on")]
    Protocol,
    /// The certificate is for another key. A node keeps its key, and so its identity, as long as it runs.
    #[error("the certificate is for another key than this node began with")]
    OtherKey,
    /// The certificate is not of this cluster, or not valid now.
    #[error("{0}")]
    Unverified(rustls::Error),
    /// The certificate does not let the node be what it is configured to be.
    #[error("the certificate gives the role {}, and the node is to be {}", names(*given), names(*wanted))]
    Roles {
        /// Roles in the certificate.
        given: Roles,
        /// Roles in the configuration.
        wanted: Roles,
    },
    /// The superpeer gave no certificate.
    #[error("enrolment refused: {0}")]
    Refused(String),
    /// The superpeer's answer is empty or not a chain of certificates.
    #[error("the answer to the enrolment holds no certificate")]
    Answer,
    /// The join token is refused.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The certificate could not be made.
    #[error("a certificate cannot be made: {0}")]
    Making(#[from] rcgen::Error),
}

/// Why a join token gives no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token.
    #[error("the join token is malformed")]
    Malformed,
    /// It was made by another authority, or changed.
    #[error("the join token is not of this cluster")]
    OtherCluster,
    /// Its time is over.
    #[error("the join token has expired")]
    Expired,
}

fn names(roles: Roles) -> String {
    let names: Vec<_> = roles.names().collect();
    if names.is_empty() { "none".to_owned() } else { names.join(" and ") }
}
