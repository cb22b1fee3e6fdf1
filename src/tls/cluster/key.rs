//! A node's private key.

use super::error::ClusterError;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::aws_lc_rs;
use rustls::sign::SigningKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;

/// A node's private key, ECDSA P-256.
pub struct NodeKey(KeyPair);

impl NodeKey {
    /// A new key.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn create() -> Result<Self, ClusterError> {
        Ok(Self(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?))
    }

    /// Reads a key from PEM.
    ///
    /// # Errors
    /// If it is none, or of another kind.
    pub fn load(pem: &str) -> Result<Self, ClusterError> {
        let key = KeyPair::from_pem(pem).map_err(|error| ClusterError::Key(error.to_string()))?;
        let is_ours = key.algorithm() == &PKCS_ECDSA_P256_SHA256;
        if is_ours { Ok(Self(key)) } else { Err(ClusterError::Key("not of the kind ECDSA P-256".to_owned())) }
    }

    /// The key in PEM. A secret.
    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// A request (PKCS #10, in DER) for a certificate of this key. It asks for nothing: name and roles are the
    /// authority's to give.
    ///
    /// # Errors
    /// The system's cryptography fails.
    pub fn request(&self) -> Result<Vec<u8>, ClusterError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        Ok(params.serialize_request(&self.0)?.der().to_vec())
    }

    /// The key as handshakes use it.
    pub(super) fn signing(&self) -> Result<Arc<dyn SigningKey>, ClusterError> {
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.0.serialized_der().to_vec()));
        aws_lc_rs::sign::any_supported_type(&der).map_err(|error| ClusterError::Key(error.to_string()))
    }
}
