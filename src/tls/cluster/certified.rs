//! What stands in a certificate.

use super::error::ClusterError;
use super::{ROLE_URI, SERVER_NAME};
use crate::proto::swarm::{NodeId, Roles};
use crate::proto::time::Wall;
use rustls_pki_types::CertificateDer;
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// Bytes of a node's name at most.
const NAME_BYTES_MAX: usize = 63;

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
    /// Reads a node's certificate. Roles that this version does not know are passed over.
    ///
    /// # Errors
    /// [`ClusterError::NotANode`].
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, ClusterError> {
        Self::of(&parse(certificate)?)
    }

    fn of(certificate: &X509Certificate<'_>) -> Result<Self, ClusterError> {
        let refuse = |why| Err(ClusterError::NotANode(why));
        if certificate.is_ca() {
            return refuse("it is one of an authority");
        }
        let Ok(Some(names)) = certificate.subject_alternative_name() else {
            return refuse("it has no alternative names");
        };
        let (mut is_node, mut roles) = (false, Roles::default());
        for name in &names.value.general_names {
            match name {
                GeneralName::DNSName(name) => is_node |= *name == SERVER_NAME,
                GeneralName::URI(uri) => match uri.strip_prefix(ROLE_URI) {
                    Some("edge") => roles.edge = true,
                    Some("superpeer") => roles.superpeer = true,
                    _ => {}
                },
                _ => {}
            }
        }
        if !is_node {
            return refuse("it is for another server name");
        }
        if roles == Roles::default() {
            return refuse("it has no role");
        }
        let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let Some(name) = name.filter(|name| is_name(name)) else {
            return refuse("its common name is no name of a node");
        };
        Ok(Self { id: NodeId::of_key(certificate.public_key().raw), name: name.into(), roles })
    }
}

/// Whether a node may be called so: as `node.name`, since it goes into fields and logs.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

/// A certificate for people to read. Nothing of it was verified.
#[derive(Clone, Debug)]
pub struct Description {
    /// Whom it is for, as it says.
    pub subject: String,
    /// Who made it, as it says.
    pub issuer: String,
    /// Whether it is one of an authority.
    pub is_authority: bool,
    /// The node that it is for, if it is one of a node.
    pub node: Option<Certified>,
    /// From when on it is valid.
    pub not_before: Wall,
    /// Until when it is valid.
    pub not_after: Wall,
}

impl Description {
    /// Reads any certificate.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, ClusterError> {
        let certificate = parse(certificate)?;
        let (not_before, not_after) = validity(&certificate);
        Ok(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            is_authority: certificate.is_ca(),
            node: Certified::of(&certificate).ok(),
            not_before,
            not_after,
        })
    }
}

/// Reads a certificate in DER, with nothing behind it.
pub(super) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, ClusterError> {
    match x509_parser::parse_x509_certificate(certificate) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(ClusterError::NotANode("it is malformed")),
    }
}

/// When a certificate becomes valid and when it ceases to be.
pub(super) fn validity(certificate: &X509Certificate<'_>) -> (Wall, Wall) {
    let validity = certificate.validity();
    (Wall::from_secs(validity.not_before.timestamp()), Wall::from_secs(validity.not_after.timestamp()))
}
