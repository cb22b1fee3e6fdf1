//! Trust towards origins: the TLS settings with which this node speaks to upstream servers.
//!
//! The node's own certificates, and trust between nodes, never live here. A [`ClientConfigs`] owns
//! the cache: settings are made once for each distinct choice and made anew when a file of trust
//! anchors changed, so that a reload takes effect and session tickets survive it otherwise.

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why no TLS settings could be made. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of trust anchors cannot be read.
    #[error("{path}: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The file of trust anchors holds something that is no certificate, or none at all.
    #[error("{path}: {reason}", path = .path.display())]
    Anchors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system has no trust anchors, so no certificate could be checked.
    #[error("no trust anchors on this system: {0}")]
    NoSystemAnchors(String),
    /// The cryptography refuses the settings.
    #[error("TLS settings: {0}")]
    Settings(#[from] rustls::Error),
}

/// Makes and keeps TLS settings. One per node.
#[derive(Default)]
pub struct ClientConfigs {
    made: Mutex<HashMap<Settings, Made>>,
    system: Mutex<Option<Arc<RootCertStore>>>,
}

/// What tells settings apart; as many as distinct choices in the configuration.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Settings {
    verify: bool,
    ca: Option<PathBuf>,
    alpn_h2: bool,
}

struct Made {
    /// The content of the file of trust anchors when the settings were made.
    anchors: Option<Vec<u8>>,
    config: Arc<ClientConfig>,
}

impl ClientConfigs {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// The settings for origins whose certificates are checked or not (`verify`), against the
    /// anchors in the PEM file `ca` or the system's, and to whom HTTP/2 is offered (`alpn_h2`)
    /// before HTTP/1.1. The same value is returned for the same choice as long as the file is the
    /// same. Reads files, so it is called per connection pool, never per request.
    ///
    /// # Errors
    /// [`TlsError`]; a failure is not kept, so the next call tries again.
    pub fn config(
        &self,
        verify: bool,
        ca: Option<&Path>,
        alpn_h2: bool,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let ca = ca.filter(|_| verify);
        let anchors = ca.map(read).transpose()?;
        let settings = Settings { verify, ca: ca.map(Path::to_owned), alpn_h2 };
        let mut made = self.made.lock();
        if let Some(kept) = made.get(&settings).filter(|kept| kept.anchors == anchors) {
            return Ok(kept.config.clone());
        }
        let roots = match (ca, &anchors) {
            (Some(path), Some(pem)) => Some(Arc::new(parse_anchors(path, pem)?)),
            _ if verify => Some(self.system_anchors()?),
            _ => None,
        };
        let config = Arc::new(client_config(roots, alpn_h2)?);
        made.insert(settings, Made { anchors, config: config.clone() });
        Ok(config)
    }

    fn system_anchors(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut system = self.system.lock();
        if let Some(anchors) = &*system {
            return Ok(anchors.clone());
        }
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Old anchors that rustls cannot use are usual in system stores; only none is an error.
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            let reason = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
            return Err(TlsError::NoSystemAnchors(reason));
        }
        Ok(system.insert(Arc::new(roots)).clone())
    }
}

/// Settings that trust `roots`, or anyone if there are none.
fn client_config(roots: Option<Arc<RootCertStore>>, alpn_h2: bool) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let mut config = match roots {
        Some(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(DangerousNoVerifier(provider)))
            .with_no_client_auth(),
    };
    config.alpn_protocols =
        if alpn_h2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(config)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn parse_anchors(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let wrong = |reason: String| TlsError::Anchors { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("holds no certificate".to_owned())) } else { Ok(roots) }
}

/// Accepts any certificate from anyone: the connection is encrypted, but not known to end at the
/// origin. Only for `tls_verify = false`. Signatures are still checked, so that a handshake is at
/// least by the owner of the certificate that was shown.
#[derive(Debug)]
struct DangerousNoVerifier(Arc<CryptoProvider>);

impl ServerCertVerifier for DangerousNoVerifier {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_anchor(path: &Path) {
        let key = rcgen::generate_simple_self_signed(vec!["origin.test".into()]).unwrap();
        std::fs::write(path, key.cert.pem()).unwrap();
    }

    #[test]
    fn settings_are_made_once_for_each_choice_and_anew_when_the_anchors_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        write_anchor(&path);
        let configs = ClientConfigs::new();
        let first = configs.config(true, Some(&path), false).unwrap();
        assert!(Arc::ptr_eq(&first, &configs.config(true, Some(&path), false).unwrap()));
        assert!(!Arc::ptr_eq(&first, &configs.config(true, Some(&path), true).unwrap()));
        write_anchor(&path);
        assert!(!Arc::ptr_eq(&first, &configs.config(true, Some(&path), false).unwrap()));
    }

    #[test]
    fn a_missing_or_empty_file_of_anchors_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let configs = ClientConfigs::new();
        assert!(matches!(configs.config(true, Some(&path), false), Err(TlsError::Read { .. })));
        std::fs::write(&path, "no certificate").unwrap();
        assert!(matches!(configs.config(true, Some(&path), false), Err(TlsError::Anchors { .. })));
    }

    #[test]
    fn http2_is_offered_only_where_asked_for() {
        let configs = ClientConfigs::new();
        assert_eq!(configs.config(false, None, false).unwrap().alpn_protocols, [b"http/1.1".to_vec()]);
        let both = configs.config(false, None, true).unwrap();
        assert_eq!(both.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    }
}
