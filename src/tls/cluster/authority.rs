//! The cluster's authority: makes certificates and join tokens.

use super::certified::{is_name, parse, validity};
use super::error::{ClusterError, TokenError};
use super::key::NodeKey;
use super::token::TokenKey;
use super::{ROLE_URI, SERVER_NAME};
use crate::proto::swarm::Roles;
use crate::proto::time::Wall;
use crate::proto::wire::enrol::REQUEST_BYTES_MAX;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long certificates live that nodes get without being written to files. They are renewed after two thirds of it.
pub const ENROLLED_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a certificate may live.
pub const LIFETIME_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// How far clocks of nodes may differ: a certificate is valid from so long before its making.
const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// Seconds since the Unix epoch that a certificate can name at most: the end of the year 9999.
const SECS_MAX: i64 = 253_402_300_799;

/// The authority of a cluster: certificate and private key. Clones are the same.
#[derive(Clone)]
pub struct Authority(Arc<Inner>);

struct Inner {
    issuer: Issuer<'static, KeyPair>,
    /// All certificates that nodes are to trust; of a time when authorities change there may be several.
    anchors: Vec<CertificateDer<'static>>,
    /// Its certificate in PEM, with those of the other anchors.
    pem: String,
    /// When its own certificate expires.
    not_after: Wall,
    tokens: TokenKey,
}

impl Authority {
    /// Makes a new authority: that of a new cluster.
    ///
    /// # Errors
    /// The name is none, or the system's cryptography fails.
    pub fn create(name: &str, now: Wall) -> Result<Self, ClusterError> {
        if !is_name(name) {
            return Err(ClusterError::Name);
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        // The name tells authorities apart that are called alike, so that a stranger's certificate is refused for
        // its issuer and not for a signature that looks forged.
        let fingerprint = blake3::hash(&key.subject_public_key_info()).to_hex();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, name);
        params
            .distinguished_name
            .push(DnType::CommonName, format!("{name} authority {}", &fingerprint[..12]));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now, now.plus(LIFETIME_MAX));
        let pem = params.self_signed(&key)?.pem();
        Self::new(pem, key)
    }

    /// Reads an authority from PEM: its certificate, with others that nodes are to trust too if there are any, and
    /// its private key.
    ///
    /// # Errors
    /// If one of them is malformed, or they do not belong together.
    pub fn load(ca_pem: &str, ca_key_pem: &str) -> Result<Self, ClusterError> {
        let key = KeyPair::from_pem(ca_key_pem).map_err(|error| ClusterError::Key(error.to_string()))?;
        Self::new(ca_pem.to_owned(), key)
    }

    fn new(pem: String, key: KeyPair) -> Result<Self, ClusterError> {
        let anchors = anchors(&pem)?;
        let public = key.subject_public_key_info();
        let mut own = None;
        for anchor in &anchors {
            let certificate = parse(anchor)?;
            if certificate.public_key().raw == public {
                own = Some((anchor, validity(&certificate).1));
            }
        }
        let (own, not_after) = own.ok_or(ClusterError::AuthorityKey)?;
        let tokens = TokenKey::derive(key.serialized_der());
        let issuer = Issuer::from_ca_cert_der(own, key)?;
        Ok(Self(Arc::new(Inner { issuer, anchors, pem, not_after, tokens })))
    }

    /// What nodes are to trust, in PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.0.pem
    }

    /// The private key, in PEM. Whoever has it can be any node of the cluster.
    pub fn key_pem(&self) -> String {
        self.0.issuer.key().serialize_pem()
    }

    pub(super) fn anchors(&self) -> &[CertificateDer<'static>] {
        &self.0.anchors
    }

    /// Makes a certificate for the key in a signing request; nothing else of the request is taken over. It is valid
    /// from five minutes ago, and no longer than the authority's own. Returned is the chain to be shown, the node's first.
    ///
    /// # Errors
    /// If the request is malformed or name, roles or lifetime are out of bounds; [`LIFETIME_MAX`].
    pub fn issue(
        &self,
        csr_der: &[u8],
        roles: Roles,
        name: &str,
        now: Wall,
        lifetime: Duration,
    ) -> Result<Vec<CertificateDer<'static>>, ClusterError> {
        if !is_name(name) {
            return Err(ClusterError::Name);
        }
        if roles == Roles::default() {
            return Err(ClusterError::NoRole);
        }
        if !(Duration::from_secs(1)..=LIFETIME_MAX).contains(&lifetime) {
            return Err(ClusterError::Lifetime);
        }
        if self.0.not_after <= now {
            return Err(ClusterError::AuthorityExpired);
        }
        let request = signing_request(csr_der)?;
        let mut params = node_params(roles, name)?;
        set_validity(&mut params, now, now.plus(lifetime).min(self.0.not_after));
        Ok(vec![params.signed_by(&request.public_key, &self.0.issuer)?.der().clone()])
    }

    /// As [`issue`](Self::issue), for a key in hand.
    ///
    /// # Errors
    /// As there.
    pub fn issue_for(
        &self,
        key: &NodeKey,
        roles: Roles,
        name: &str,
        now: Wall,
        lifetime: Duration,
    ) -> Result<Vec<CertificateDer<'static>>, ClusterError> {
        self.issue(&key.request()?, roles, name, now, lifetime)
    }

    /// Makes a join token. It gives these roles to as many nodes as show it, until it expires; `None` is never.
    ///
    /// # Errors
    /// There is no role.
    pub fn mint_token(&self, roles: Roles, expires: Option<Wall>) -> Result<String, ClusterError> {
        if roles == Roles::default() {
            return Err(ClusterError::NoRole);
        }
        Ok(self.0.tokens.mint(roles, expires, rand::random()))
    }

    /// The roles that a join token gives now.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify_token(&self, text: &str, now: Wall) -> Result<Roles, TokenError> {
        self.0.tokens.verify(text, now)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("not_after", &self.0.not_after).finish_non_exhaustive()
    }
}

/// All certificates in PEM, each of an authority; at least one.
pub(super) fn anchors(pem: &str) -> Result<Vec<CertificateDer<'static>>, ClusterError> {
    let anchors: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let anchors = anchors.map_err(|error| ClusterError::Authority(error.to_string()))?;
    if anchors.is_empty() {
        return Err(ClusterError::Authority("no certificate in it".to_owned()));
    }
    for anchor in &anchors {
        match parse(anchor) {
            Ok(certificate) if certificate.is_ca() => {}
            Ok(_) => return Err(ClusterError::Authority("it is not one of an authority".to_owned())),
            Err(error) => return Err(ClusterError::Authority(error.to_string())),
        }
    }
    Ok(anchors)
}

/// Reads a request, whose signature shows that the sender has the key.
fn signing_request(der: &[u8]) -> Result<CertificateSigningRequestParams, ClusterError> {
    if der.len() > REQUEST_BYTES_MAX {
        return Err(ClusterError::Request(format!("longer than {REQUEST_BYTES_MAX} bytes")));
    }
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
        .map_err(|error| ClusterError::Request(error.to_string()))?;
    // The kind of key is told from the kind of signature, which says nothing about the curve; the length does.
    let is_p256 = request.public_key.algorithm() == &PKCS_ECDSA_P256_SHA256
        && request.public_key.der_bytes().len() == P256_POINT;
    if is_p256 { Ok(request) } else { Err(ClusterError::Request("the key is not ECDSA P-256".to_owned())) }
}

/// Bytes of a public key of the curve P-256, uncompressed.
const P256_POINT: usize = 65;

fn node_params(roles: Roles, name: &str) -> Result<CertificateParams, ClusterError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names.push(SanType::DnsName(SERVER_NAME.try_into()?));
    for role in roles.names() {
        params.subject_alt_names.push(SanType::URI(format!("{ROLE_URI}{role}").try_into()?));
    }
    // Two certificates of one authority need different numbers, also those for the same key (RFC 5280 §4.1.2.2). The
    // first bit must not be set, and the first byte not be zero.
    let mut serial: [u8; 16] = rand::random();
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn set_validity(params: &mut CertificateParams, now: Wall, until: Wall) {
    let secs = |secs: i64| Duration::from_secs(secs.clamp(0, SECS_MAX).cast_unsigned());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + secs(now.as_secs().saturating_sub(BACKDATE.as_secs().cast_signed()));
    params.not_after = epoch + secs(until.as_secs());
}
