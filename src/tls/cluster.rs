//! The cluster's own certificates: an authority, a certificate with roles for each node, and join tokens
//! with which a node without one gets one.

use crate::clock::Clock;
use crate::proto::swarm::{NodeId, Roles};
use rustls_pki_types::CertificateDer;
use std::sync::Arc;

/// Why something of the cluster's certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A placeholder.
    #[error("{0}")]
    Unusable(String),
}

/// Who a certificate says that a node is. Its chain was verified by the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// Hash of its public key.
    pub id: NodeId,
    /// `node.name` at the time of issue, for people.
    pub name: Arc<str>,
    /// What it may be.
    pub roles: Roles,
}

impl Certified {
    /// Reads a node's certificate.
    ///
    /// # Errors
    /// If it is not one of a node.
    pub fn read(_certificate: &CertificateDer<'_>) -> Result<Self, ClusterError> {
        todo!()
    }
}

/// A node's key, its certificate, and the authority that it trusts. Renewed in place: configurations made from it
/// always use the current certificate. Clones are the same.
#[derive(Clone)]
pub struct Identity(Arc<()>);

impl Identity {
    /// This node, as its current certificate says. The key, and so the id, stays for the life of the process.
    pub fn certified(&self) -> Certified {
        let _ = &self.0;
        todo!()
    }

    /// For dialling peers: shows the certificate, trusts the cluster's authority alone, ALPN `wire::ALPN`, TLS 1.3
    /// only, no 0-RTT. The server name to dial is [`SERVER_NAME`].
    pub fn client(&self, _clock: Clock) -> Arc<rustls::ClientConfig> {
        todo!()
    }

    /// For accepting peers, whose certificates are demanded for `wire::ALPN`. With `wire::ENROL_ALPN` a client
    /// without certificate gets in too, if this node can enrol: the caller must check ALPN and certificate.
    pub fn server(&self, _clock: Clock) -> Arc<rustls::ServerConfig> {
        todo!()
    }
}

/// The name that all node certificates are made for.
pub const SERVER_NAME: &str = "node.shoal";
