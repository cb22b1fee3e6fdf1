//! Certificates that clients see: which one for which name, and reload when their files change.
//!
//! [`Certificates`] owns what is served. A handshake reads one snapshot without a lock; a reload
//! builds a new one and swaps it. Files that cannot be used never replace a certificate that works.

pub(super) mod files;
mod names;

pub use files::{CertificateProblem, TlsError, TlsErrors};

use crate::config::model::{CertificateFiles, Config};
use crate::task::Spawner;
use crate::telemetry::{Metrics, Outcome};
use arc_swap::ArcSwap;
use files::{Certificate, Fingerprint};
use names::Names;
use parking_lot::Mutex;
use rustls::crypto::aws_lc_rs::{self, Ticketer, cipher_suite};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedCipherSuite};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How often certificate files are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// Cipher suites in our order: AES-128-GCM is the fastest where AES is in hardware, and as safe.
const CIPHER_SUITES: [SupportedCipherSuite; 9] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// The TLS side of all HTTPS listeners: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN, resumption by
/// tickets whose keys rotate in memory, no early data (it can be replayed).
///
/// # Errors
/// The system gives no random bytes for the ticket keys.
pub fn server_config(certificates: Arc<Certificates>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = rustls::crypto::CryptoProvider {
        cipher_suites: CIPHER_SUITES.to_vec(),
        ..aws_lc_rs::default_provider()
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ignore_client_order = true;
    config.ticketer = Ticketer::new()?;
    Ok(Arc::new(config))
}

/// All certificates of a node by server name.
pub struct Certificates {
    served: ArcSwap<Names>,
    /// Locked by reloads only, so that two of them cannot undo each other.
    entries: Mutex<Vec<Entry>>,
    metrics: Arc<Metrics>,
}

/// Where a certificate comes from and what was read there last.
struct Entry {
    source: Source,
    /// The files as they were at the last try.
    seen: Fingerprint,
    certificate: Certificate,
}

/// A certificate that the configuration asks for.
#[derive(Clone)]
struct Source {
    /// Name of the site, or [`DEFAULT`].
    name: String,
    /// Hosts of the site; none for the default.
    hosts: Vec<String>,
    files: CertificateFiles,
}

/// Name of the certificate of `listen.tls`; no host is named like this.
const DEFAULT: &str = "(default)";

impl Certificates {
    /// Reads all certificates of `config`. Blocks on files. Registers the expiry times with `metrics`.
    ///
    /// # Errors
    /// All certificates that cannot be used, each with file and reason.
    pub fn load(config: &Config, metrics: Arc<Metrics>) -> Result<Arc<Self>, TlsErrors> {
        Self::load_sources(Source::all(config)?, metrics)
    }

    fn load_sources(sources: Vec<Source>, metrics: Arc<Metrics>) -> Result<Arc<Self>, TlsErrors> {
        let entries = read_all(sources)?;
        let certificates = Arc::new(Self {
            served: ArcSwap::from_pointee(Names::new(&entries)),
            entries: Mutex::new(entries),
            metrics,
        });
        let weak = Arc::downgrade(&certificates);
        certificates.metrics.on_scrape(move |samples| {
            for (name, at) in weak.upgrade().iter().flat_map(|certificates| certificates.expiries()) {
                samples.gauge(
                    "shoal_tls_certificate_expiry_timestamp_seconds",
                    "When a certificate in use expires.",
                    &[("site", &name)],
                    at as f64,
                );
            }
        });
        Ok(certificates)
    }

    /// Reads all certificates of a new `config` and serves them. Blocks on files.
    ///
    /// # Errors
    /// As [`load`](Self::load); the old certificates stay.
    pub fn reload(&self, config: &Config) -> Result<(), TlsErrors> {
        self.reload_sources(Source::all(config)).inspect_err(|_| self.count(Outcome::Failure))
    }

    fn reload_sources(&self, sources: Result<Vec<Source>, TlsErrors>) -> Result<(), TlsErrors> {
        let mut entries = self.entries.lock();
        *entries = read_all(sources?)?;
        self.served.store(Arc::new(Names::new(&entries)));
        self.count(Outcome::Success);
        Ok(())
    }

    /// Reads again what has changed on disk since the last try. A certificate whose files cannot be
    /// used keeps its old one; the others are replaced. Blocks on files.
    pub fn refresh(&self) {
        let mut entries = self.entries.lock();
        let mut replaced = false;
        for entry in entries.iter_mut() {
            replaced |= self.refresh_one(entry);
        }
        if replaced {
            self.served.store(Arc::new(Names::new(&entries)));
        }
    }

    /// Calls [`refresh`](Self::refresh) every few seconds until `spawner` stops. Works for files that
    /// are replaced, rewritten, or swapped by a symbolic link above them.
    pub fn watch(self: &Arc<Self>, spawner: &Spawner) {
        let (certificates, owner) = (self.clone(), spawner.clone());
        spawner.spawn(async move {
            loop {
                tokio::time::sleep(WATCH_INTERVAL).await;
                let certificates = certificates.clone();
                owner.blocking(move || certificates.refresh()).await;
            }
        });
    }

    /// When each certificate in use expires, in seconds since the epoch, by site name.
    pub fn expiries(&self) -> Vec<(String, i64)> {
        self.served.load().expiries.clone()
    }

    fn refresh_one(&self, entry: &mut Entry) -> bool {
        // Taken before reading, so that a change during the read is seen next time.
        let now = Fingerprint::of(&entry.source.files);
        if now == entry.seen {
            return false;
        }
        entry.seen = now;
        match Certificate::read(&entry.source.files) {
            Ok(certificate) => {
                tracing::info!(site = entry.source.name, "certificate reloaded");
                entry.certificate = certificate;
                self.count(Outcome::Success);
                true
            }
            Err(error) => {
                tracing::error!(site = entry.source.name, %error, "certificate not reloaded; the old one stays");
                self.count(Outcome::Failure);
                false
            }
        }
    }

    fn count(&self, outcome: Outcome) {
        self.metrics.node.certificate_reloads.of(outcome).inc();
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.served.load().find(hello.server_name())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificates").field(&self.served.load()).finish()
    }
}

/// Reads all certificates of `config` without keeping them, for checking a configuration.
///
/// # Errors
/// As [`Certificates::load`].
pub fn check(config: &Config) -> Result<(), TlsErrors> {
    read_all(Source::all(config)?).map(drop)
}

impl Source {
    /// All certificates that `config` asks for; none is a mistake if HTTPS is to be served.
    fn all(config: &Config) -> Result<Vec<Self>, TlsErrors> {
        let sites = config.sites.iter().filter_map(|site| {
            let files = site.tls.clone()?;
            Some(Self { name: site.name.clone(), hosts: site.hosts.clone(), files })
        });
        let default = config.listen.tls.clone();
        let default = default.map(|files| Self { name: DEFAULT.to_owned(), hosts: Vec::new(), files });
        let sources: Vec<_> = sites.chain(default).collect();
        if sources.is_empty() && !config.listen.https.is_empty() {
            let problem = CertificateProblem::NoneConfigured;
            return Err(TlsErrors(vec![TlsError { name: DEFAULT.to_owned(), problem }]));
        }
        Ok(sources)
    }
}

fn read_all(sources: Vec<Source>) -> Result<Vec<Entry>, TlsErrors> {
    let (mut entries, mut errors) = (Vec::new(), Vec::new());
    for source in sources {
        let seen = Fingerprint::of(&source.files);
        match Certificate::read(&source.files) {
            Ok(certificate) => entries.push(Entry { source, seen, certificate }),
            Err(problem) => errors.push(TlsError { name: source.name, problem }),
        }
    }
    if errors.is_empty() { Ok(entries) } else { Err(TlsErrors(errors)) }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
