//! How nodes shake hands: both show certificates of the cluster, in TLS 1.3, each time anew. There is no resumption,
//! so that a connection is never older than the check of its certificates, and no early data, which can be replayed.

use super::certified::Certified;
use super::error::ClusterError;
use super::identity::Identity;
use crate::clock::Clock;
use crate::proto::time::Wall;
use crate::proto::wire;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;
use std::time::Duration;

impl Identity {
    /// For dialling peers: shows the certificate, trusts the cluster's authority alone, ALPN `wire::ALPN` (or, with
    /// one who has another major version, `wire::VERSION_ALPN`), TLS 1.3 only, no 0-RTT. The server name to dial is [`SERVER_NAME`](super::SERVER_NAME).
    pub fn client(&self, clock: Clock) -> Arc<ClientConfig> {
        Arc::new(self.client_config(clock, &[wire::ALPN, wire::VERSION_ALPN], Shown::Always(self.clone())))
    }

    /// For asking a superpeer for a certificate, ALPN `wire::ENROL_ALPN`. Shows the certificate if there is one that
    /// has not expired, so that it is renewed; trusts and dials as [`client`](Self::client) does.
    pub fn enrolling_client(&self, clock: Clock) -> Arc<ClientConfig> {
        Arc::new(self.client_config(clock, &[wire::ENROL_ALPN], Shown::WhileValid(self.clone(), clock)))
    }

    fn client_config(&self, clock: Clock, alpn: &[&[u8]], shown: Shown) -> ClientConfig {
        let mut config = ClientConfig::builder_with_details(provider(), Arc::new(Time(clock)))
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites of TLS 1.3")
            .with_webpki_verifier(self.server_verifier())
            .with_client_cert_resolver(Arc::new(shown));
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.resumption = Resumption::disabled();
        config
    }

    /// For accepting peers, whose certificates are demanded for `wire::ALPN`. With `wire::ENROL_ALPN` a client
    /// without certificate gets in too, if this node can enrol: the caller must check ALPN and certificate, by
    /// [`Caller::of`].
    pub fn server(&self, clock: Clock) -> Arc<ServerConfig> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider());
        let (verifier, alpn) = match self.authority() {
            Some(_) => {
                (verifier.allow_unauthenticated(), vec![wire::ALPN, wire::ENROL_ALPN, wire::VERSION_ALPN])
            }
            None => (verifier, vec![wire::ALPN, wire::VERSION_ALPN]),
        };
        let verifier = verifier.build().expect("there is an anchor, and no revocation list");
        let mut config = ServerConfig::builder_with_details(provider(), Arc::new(Time(clock)))
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites of TLS 1.3")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Shown::Always(self.clone())));
        config.alpn_protocols = alpn.into_iter().map(<[u8]>::to_vec).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Arc::new(config)
    }
}

/// Who is at the other end of an accepted connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A node of the cluster, for `wire::ALPN`.
    Node(Certified),
    /// One who wants a certificate, for `wire::ENROL_ALPN`: the first with a token if it shows none
    /// ([`Authority::enrol`](super::Authority::enrol)), the next otherwise ([`Authority::renew`](super::Authority::renew)).
    Enrolling(Option<Certified>),
    /// A node of the cluster that speaks no major version of this build, for `wire::VERSION_ALPN`: to be told so.
    OtherMajor(Certified),
}

impl Caller {
    /// Reads it from what the handshake agreed on and verified.
    ///
    /// # Errors
    /// If it may not be here: no certificate, not one of a node, no protocol.
    pub fn of(alpn: Option<&[u8]>, chain: &[CertificateDer<'_>]) -> Result<Self, ClusterError> {
        let certified = chain.first().map(Certified::read).transpose()?;
        match alpn {
            Some(wire::ALPN) => certified.map(Self::Node).ok_or(ClusterError::NoCertificate),
            Some(wire::ENROL_ALPN) => Ok(Self::Enrolling(certified)),
            Some(wire::VERSION_ALPN) => certified.map(Self::OtherMajor).ok_or(ClusterError::NoCertificate),
            _ => Err(ClusterError::Protocol),
        }
    }
}

/// Cryptography of peer connections, with the suite first that is the fastest where AES is in hardware.
pub(super) fn provider() -> Arc<CryptoProvider> {
    let cipher_suites = vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() })
}

/// Wall time as certificates are checked at. Before 1970 is 1970.
pub(super) fn unix(wall: Wall) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(wall.as_secs().max(0).cast_unsigned()))
}

/// The node's clock, which may be a simulated one.
#[derive(Debug)]
struct Time(Clock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix(self.0.now().wall))
    }
}

/// What a handshake shows: always what is in force at that moment.
#[derive(Debug)]
enum Shown {
    /// Expired or not: the other end then knows why it refuses.
    Always(Identity),
    /// Nothing rather than an expired certificate, with which nobody would be let in.
    WhileValid(Identity, Clock),
}

impl Shown {
    fn certificate(&self) -> Option<Arc<CertifiedKey>> {
        match self {
            Self::Always(identity) => identity.shown(),
            Self::WhileValid(identity, clock) => {
                let valid = identity.not_after()? > clock.now().wall;
                valid.then(|| identity.shown()).flatten()
            }
        }
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _roots: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certificate()
    }

    fn has_certs(&self) -> bool {
        self.certificate().is_some()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certificate()
    }
}
