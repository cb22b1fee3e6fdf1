//! A node's own key and the certificate in force.

use super::SERVER_NAME;
use super::authority::{Authority, ENROLLED_LIFETIME, anchors};
use super::certified::{Certified, parse, validity};
use super::error::ClusterError;
use super::handshake::{provider, unix};
use super::key::NodeKey;
use crate::config::model::{CertificateFiles, Credentials, Peer};
use crate::proto::swarm::{NodeId, Roles};
use crate::proto::time::Wall;
use crate::proto::wire::enrol::CHAIN_MAX;
use crate::proto::wire::{Enrol, Enrolled, enrolled};
use crate::tls::server::CertificateProblem;
use crate::tls::server::files::{Certificate, read_file};
use arc_swap::ArcSwapOption;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, ServerName};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often certificate files are to be read again.
const FILES_READ_EVERY: Duration = Duration::from_secs(60);
/// Bytes of the file with the join token that are read.
const TOKEN_FILE_BYTES_MAX: u64 = 4096;
/// Characters of a peer's reason that are kept.
const REASON_CHARS_MAX: usize = 200;

/// A node's key, its certificate, and the authority that it trusts. Renewed in place: configurations made from it
/// always use the current certificate. Clones are the same.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    key: Arc<dyn SigningKey>,
    /// The identity that `key` gives.
    id: NodeId,
    /// What the node is configured to be called.
    name: Arc<str>,
    /// What the node is configured to be; its certificate must let it.
    roles: Roles,
    roots: Arc<RootCertStore>,
    source: Source,
    current: ArcSwapOption<Current>,
}

/// Where certificates come from.
enum Source {
    Files(CertificateFiles),
    Authority { authority: Authority, request: Vec<u8> },
    Enrolment { token: Option<PathBuf>, request: Vec<u8> },
}

/// The certificate in force.
struct Current {
    shown: Arc<CertifiedKey>,
    certified: Certified,
    not_after: Wall,
    /// When it was put in force.
    since: Wall,
}

impl Identity {
    /// The identity that the configuration says; without a certificate yet if it is to be got with a join token.
    ///
    /// # Errors
    /// Files that are missing or malformed, or a certificate that is not valid or does not let the node be what it
    /// is configured to be.
    pub fn load(peer: &Peer, node_name: &str, roles: Roles, now: Wall) -> Result<Self, ClusterError> {
        let ca = read_text(&peer.ca)?;
        match &peer.credentials {
            Credentials::Files(files) => {
                let certificate = Certificate::read(files)?;
                let source = Source::Files(files.clone());
                let key = certificate.key.key.clone();
                let identity = Self::new(key, node_name, roles, &anchors(&ca)?, source)?;
                identity.put_in_force(certificate.key.cert.clone(), now)?;
                Ok(identity)
            }
            Credentials::Token(path) => {
                read_token(path)?;
                Self::enrolling(&ca, node_name, roles, Some(path.clone()))
            }
            Credentials::Authority { ca_key } => {
                Self::issued(&Authority::load(&ca, &read_text(ca_key)?)?, roles, node_name, now)
            }
        }
    }

    /// The identity of a node that has the authority in hand: with a new key, for which it makes certificates itself.
    ///
    /// # Errors
    /// As of [`Authority::issue`].
    pub fn issued(authority: &Authority, roles: Roles, name: &str, now: Wall) -> Result<Self, ClusterError> {
        let key = NodeKey::create()?;
        let source = Source::Authority { authority: authority.clone(), request: key.request()? };
        let identity = Self::new(key.signing()?, name, roles, authority.anchors(), source)?;
        identity.reload(now)?;
        Ok(identity)
    }

    /// The identity of a node that has no certificate yet: a new key, and trust in the authority whose certificate
    /// is `ca_pem`.
    ///
    /// # Errors
    /// If that is no certificate of an authority.
    pub fn pending(ca_pem: &str, name: &str, roles: Roles) -> Result<Self, ClusterError> {
        Self::enrolling(ca_pem, name, roles, None)
    }

    fn enrolling(
        ca_pem: &str,
        name: &str,
        roles: Roles,
        token: Option<PathBuf>,
    ) -> Result<Self, ClusterError> {
        let key = NodeKey::create()?;
        let source = Source::Enrolment { token, request: key.request()? };
        Self::new(key.signing()?, name, roles, &anchors(ca_pem)?, source)
    }

    fn new(
        key: Arc<dyn SigningKey>,
        name: &str,
        roles: Roles,
        anchors: &[CertificateDer<'static>],
        source: Source,
    ) -> Result<Self, ClusterError> {
        let unusable = || ClusterError::Key("its public half is unknown".to_owned());
        let id = NodeId::of_key(&key.public_key().ok_or_else(unusable)?);
        let mut roots = RootCertStore::empty();
        for anchor in anchors {
            roots.add(anchor.clone()).map_err(|error| ClusterError::Authority(error.to_string()))?;
        }
        let (roots, name) = (Arc::new(roots), name.into());
        let current = ArcSwapOption::empty();
        Ok(Self(Arc::new(Inner { key, id, name, roles, roots, source, current })))
    }

    /// This node, as its current certificate says; before it has one, as it is configured. The key, and so the id,
    /// stays for the life of the process.
    pub fn certified(&self) -> Certified {
        let Inner { id, name, roles, current, .. } = &*self.0;
        match &*current.load() {
            Some(current) => current.certified.clone(),
            None => Certified { id: *id, name: name.clone(), roles: *roles },
        }
    }

    /// Whether there is a certificate. It may have expired since: [`not_after`](Self::not_after).
    pub fn is_ready(&self) -> bool {
        self.0.current.load().is_some()
    }

    /// When the current certificate expires.
    pub fn not_after(&self) -> Option<Wall> {
        self.0.current.load().as_ref().map(|current| current.not_after)
    }

    /// When the certificate is to be renewed: when two thirds of the time are over that it had left when it came, and
    /// for files every minute, since another tool may have changed them. `None` before there is one: at once.
    /// Stays in the past while renewals fail, so the caller needs a pause of its own between tries.
    pub fn renew_at(&self) -> Option<Wall> {
        let current = self.0.current.load();
        let current = current.as_ref()?;
        let left = Duration::from_secs(current.not_after.seconds_since(current.since));
        let after = match self.0.source {
            Source::Files(_) => FILES_READ_EVERY.min(left * 2 / 3),
            Source::Authority { .. } | Source::Enrolment { .. } => left * 2 / 3,
        };
        Some(current.since.plus(after))
    }

    /// Whether the certificate comes from a superpeer, by [`request`](Self::request) and [`accept`](Self::accept).
    /// Otherwise [`reload`](Self::reload) renews it.
    pub fn enrols(&self) -> bool {
        matches!(self.0.source, Source::Enrolment { .. })
    }

    /// The authority, if this node can enrol others.
    pub fn authority(&self) -> Option<&Authority> {
        match &self.0.source {
            Source::Authority { authority, .. } => Some(authority),
            Source::Files(_) | Source::Enrolment { .. } => None,
        }
    }

    /// The configured join token, read anew each time so that it can be replaced; empty if none is configured.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub fn token(&self) -> Result<String, ClusterError> {
        match &self.0.source {
            Source::Enrolment { token: Some(path), .. } => read_token(path),
            _ => Ok(String::new()),
        }
    }

    /// What to ask a superpeer, first with a token and for renewal with any.
    pub fn request(&self, token: &str, name: &str) -> Enrol {
        let csr = match &self.0.source {
            Source::Enrolment { request, .. } | Source::Authority { request, .. } => request.clone(),
            Source::Files(_) => Vec::new(),
        };
        Enrol { token: token.to_owned(), csr, name: name.to_owned() }
    }

    /// Takes a superpeer's answer and puts the certificate in force.
    ///
    /// # Errors
    /// If there is none, or it is not for our key, of this cluster, valid now and good for the configured roles. What
    /// was in force before stays so.
    pub fn accept(&self, enrolled: Enrolled, now: Wall) -> Result<(), ClusterError> {
        let chain = match enrolled.kind {
            Some(enrolled::Kind::Chain(chain)) => chain.certificates,
            Some(enrolled::Kind::Refused(reason)) => return Err(ClusterError::Refused(readable(&reason))),
            None => return Err(ClusterError::Answer),
        };
        if chain.len() > CHAIN_MAX {
            return Err(ClusterError::Answer);
        }
        self.put_in_force(chain.into_iter().map(CertificateDer::from).collect(), now)
    }

    /// Renews what needs nobody else: reads files again, or makes a new certificate with the authority's key. Does
    /// nothing for a node that enrols. Files must still be of the same key.
    ///
    /// # Errors
    /// If the new certificate cannot be used; the old one stays in force.
    pub fn reload(&self, now: Wall) -> Result<(), ClusterError> {
        match &self.0.source {
            Source::Files(files) => self.put_in_force(Certificate::read(files)?.key.cert.clone(), now),
            Source::Authority { authority, request } => {
                let Inner { name, roles, .. } = &*self.0;
                self.put_in_force(authority.issue(request, *roles, name, now, ENROLLED_LIFETIME)?, now)
            }
            Source::Enrolment { .. } => Ok(()),
        }
    }

    fn put_in_force(&self, chain: Vec<CertificateDer<'static>>, now: Wall) -> Result<(), ClusterError> {
        let Inner { key, id, roles, .. } = &*self.0;
        let (leaf, intermediates) = chain.split_first().ok_or(ClusterError::Answer)?;
        let certified = Certified::read(leaf)?;
        if certified.id != *id {
            return Err(ClusterError::OtherKey);
        }
        self.server_verifier()
            .verify_server_cert(leaf, intermediates, &server_name(), &[], unix(now))
            .map_err(ClusterError::Unverified)?;
        if certified.roles.and(*roles) != *roles {
            return Err(ClusterError::Roles { given: certified.roles, wanted: *roles });
        }
        let (_, not_after) = validity(&parse(leaf)?);
        let shown = Arc::new(CertifiedKey::new(chain, key.clone()));
        self.0.current.store(Some(Arc::new(Current { shown, certified, not_after, since: now })));
        Ok(())
    }

    /// Chain and key as handshakes show them.
    pub(super) fn shown(&self) -> Option<Arc<CertifiedKey>> {
        self.0.current.load().as_ref().map(|current| current.shown.clone())
    }

    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        self.0.roots.clone()
    }

    /// Checks that a chain leads to our authority and is for [`SERVER_NAME`].
    pub(super) fn server_verifier(&self) -> Arc<WebPkiServerVerifier> {
        WebPkiServerVerifier::builder_with_provider(self.roots(), provider())
            .build()
            .expect("there is an anchor, and no revocation list")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.certified()).finish()
    }
}

/// [`SERVER_NAME`] as TLS wants it.
fn server_name() -> ServerName<'static> {
    ServerName::try_from(SERVER_NAME).expect("the name is a valid one")
}

fn read_text(path: &Path) -> Result<String, ClusterError> {
    let bytes = read_file(path)?;
    String::from_utf8(bytes).map_err(|error| {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
        CertificateProblem::Unreadable { path: path.to_owned(), source }.into()
    })
}

fn read_token(path: &Path) -> Result<String, ClusterError> {
    let unreadable = |error| ClusterError::TokenFile { path: path.to_owned(), error };
    let mut token = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(TOKEN_FILE_BYTES_MAX).read_to_string(&mut token).map_err(unreadable)?;
    Ok(token.trim().to_owned())
}

/// A peer's words, fit for a log.
fn readable(reason: &str) -> String {
    reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect()
}
