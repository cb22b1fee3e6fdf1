//! Certificate files: what is in them, what is wrong with them, whether they changed.

use crate::config::model::CertificateFiles;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::extensions::GeneralName;

/// Bytes of a certificate or key file at most.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// All certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct TlsErrors(pub Vec<TlsError>);

/// A certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("tls of {name}: {problem}")]
pub struct TlsError {
    /// The site it is for, or `(default)`.
    pub name: String,
    /// What is wrong.
    pub problem: CertificateProblem,
}

/// What is wrong with certificate or key.
#[derive(Debug, thiserror::Error)]
pub enum CertificateProblem {
    /// A file is missing or may not be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A file is far too large for what it should hold.
    #[error("{}: larger than {FILE_BYTES_MAX} bytes", .0.display())]
    TooLarge(PathBuf),
    /// A file is not PEM.
    #[error("{}: not PEM: {source}", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// Where reading stopped.
        source: pem::Error,
    },
    /// The certificate file holds no certificate.
    #[error("{}: no certificate in it", .0.display())]
    NoCertificate(PathBuf),
    /// The key file holds no private key that can be read.
    #[error("{}: no private key in it (PKCS#8, PKCS#1 or SEC1, not encrypted)", .0.display())]
    NoKey(PathBuf),
    /// The first certificate is malformed.
    #[error("{}: malformed certificate: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        reason: String,
    },
    /// The private key is malformed or of an unknown kind.
    #[error("{}: unusable private key: {reason}", path.display())]
    UnusableKey {
        /// The file.
        path: PathBuf,
        /// The library's words.
        reason: String,
    },
    /// The key belongs to another certificate.
    #[error("{}: does not match the certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The certificate file.
        cert: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// HTTPS is to be served and no certificate is given.
    #[error("listen.https needs a certificate: give one to a site or to listen")]
    NoneConfigured,
}

/// A certificate ready for use.
#[derive(Debug)]
pub(in crate::tls) struct Certificate {
    /// Chain and key.
    pub(in crate::tls) key: Arc<CertifiedKey>,
    /// DNS names that it is for, lower case.
    pub(super) names: Vec<String>,
    /// When it expires, in seconds since the epoch.
    pub(super) not_after: i64,
}

impl Certificate {
    /// Reads chain and key and checks that they belong together.
    pub(in crate::tls) fn read(files: &CertificateFiles) -> Result<Self, CertificateProblem> {
        let chain = read_chain(&files.cert)?;
        let (names, not_after) = describe(&files.cert, &chain)?;
        let key = read_key(&files.key)?;
        let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|error| {
            if error == Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
                CertificateProblem::Mismatch { cert: files.cert.clone(), key: files.key.clone() }
            } else {
                CertificateProblem::UnusableKey { path: files.key.clone(), reason: error.to_string() }
            }
        })?;
        Ok(Self { key: Arc::new(key), names, not_after })
    }

    /// Whether a client that asks for `host` accepts this certificate (RFC 9525 §6.3): by the whole
    /// name, or with `*` for its first label.
    pub(super) fn covers(&self, host: &str) -> bool {
        self.names.iter().any(|name| {
            let parent = |name: &str| name.split_once('.').map(|(_, parent)| parent.to_owned());
            name == host || (name.starts_with("*.") && parent(name) == parent(host))
        })
    }
}

/// What tells that certificate or key file is another than before; `None` for a missing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint([Option<[u64; 6]>; 2]);

impl Fingerprint {
    /// The files as they are now, behind symbolic links.
    pub(super) fn of(files: &CertificateFiles) -> Self {
        Self([&files.cert, &files.key].map(|path| {
            let file = std::fs::metadata(path).ok()?;
            let [mtime, mtime_nanos] = [file.mtime(), file.mtime_nsec()].map(i64::cast_unsigned);
            let changed = file.ctime().cast_unsigned();
            Some([file.dev(), file.ino(), file.size(), mtime, mtime_nanos, changed])
        }))
    }
}

/// All certificates in a PEM file; at least one.
pub(in crate::tls) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateProblem> {
    let pem = read_file(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|source| CertificateProblem::NotPem { path: path.into(), source })?;
    if chain.is_empty() { Err(CertificateProblem::NoCertificate(path.into())) } else { Ok(chain) }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateProblem> {
    PrivateKeyDer::from_pem_slice(&read_file(path)?).map_err(|source| match source {
        pem::Error::NoItemsFound => CertificateProblem::NoKey(path.into()),
        source => CertificateProblem::NotPem { path: path.into(), source },
    })
}

/// The content of a file of a size that certificates and keys have.
pub(in crate::tls) fn read_file(path: &Path) -> Result<Vec<u8>, CertificateProblem> {
    let unreadable = |source| CertificateProblem::Unreadable { path: path.into(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(CertificateProblem::TooLarge(path.into()));
    }
    Ok(bytes)
}

/// Names and expiry of the first certificate of a chain.
fn describe(path: &Path, chain: &[CertificateDer<'_>]) -> Result<(Vec<String>, i64), CertificateProblem> {
    let malformed = |reason| CertificateProblem::Malformed { path: path.into(), reason };
    let leaf = chain.first().ok_or_else(|| CertificateProblem::NoCertificate(path.into()))?;
    let (_, leaf) =
        x509_parser::parse_x509_certificate(leaf).map_err(|error| malformed(error.to_string()))?;
    let names = leaf.subject_alternative_name().map_err(|error| malformed(error.to_string()))?;
    let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    Ok((names.collect(), leaf.validity().not_after.timestamp()))
}
