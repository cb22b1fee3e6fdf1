use super::*;
use crate::clock::Clock;
use crate::telemetry::Vocabulary;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConnection};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn metrics() -> Arc<Metrics> {
    let vocabulary = Vocabulary { not_stored: &[], origin_fetch: &[], origin_failure: &[], refusal: &[] };
    Metrics::new("edge", None, vocabulary, Clock::system())
}

/// Certificates made at run time in a folder of their own.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn files(&self, name: &str) -> CertificateFiles {
        CertificateFiles { cert: self.path(&format!("{name}.pem")), key: self.path(&format!("{name}.key")) }
    }

    /// Writes a new certificate for `names` and returns it.
    fn write(&self, name: &str, names: &[&str]) -> CertificateDer<'static> {
        let files = self.files(name);
        write_pair(&files, names)
    }

    fn source(&self, name: &str, hosts: &[&str]) -> Source {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Source { name: name.to_owned(), hosts, files: self.files(name) }
    }

    fn default(&self, name: &str) -> Source {
        Source { name: DEFAULT.to_owned(), ..self.source(name, &[]) }
    }
}

fn write_pair(files: &CertificateFiles, names: &[&str]) -> CertificateDer<'static> {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("valid names");
    replace(&files.cert, made.cert.pem().as_bytes());
    replace(&files.key, made.signing_key.serialize_pem().as_bytes());
    made.cert.der().clone()
}

/// Writes as careful tools do: a new file renamed over the old one.
fn replace(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).expect("written");
    fs::rename(&new, path).expect("renamed");
}

#[derive(Debug)]
struct TrustAnyone;

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn client() -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAnyone))
        .with_no_client_auth()
}

/// A handshake in memory; an address as `name` sends no SNI.
fn handshake(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>, name: &str) -> ClientConnection {
    let name = ServerName::try_from(name.to_owned()).expect("a valid name");
    let mut client = ClientConnection::new(client.clone(), name).expect("valid");
    let mut server = ServerConnection::new(server.clone()).expect("valid");
    while client.wants_write() || server.wants_write() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("memory");
        server.read_tls(&mut &bytes[..]).expect("memory");
        server.process_new_packets().expect("a handshake");
        bytes.clear();
        server.write_tls(&mut bytes).expect("memory");
        client.read_tls(&mut &bytes[..]).expect("memory");
        client.process_new_packets().expect("a handshake");
    }
    assert!(!client.is_handshaking());
    client
}

/// The certificate that a client sees who asks for `name`.
fn seen(certificates: &Arc<Certificates>, name: &str) -> CertificateDer<'static> {
    let server = server_config(certificates.clone()).expect("random bytes");
    let connection = handshake(&server, &Arc::new(client()), name);
    connection.peer_certificates().expect("a chain")[0].clone()
}

fn load(sources: Vec<Source>) -> Arc<Certificates> {
    Certificates::load_sources(sources, metrics()).expect("usable files")
}

#[test]
fn the_server_name_picks_the_certificate() {
    let folder = Folder::new();
    let exact = folder.write("exact", &["www.a.example"]);
    let wildcard = folder.write("wildcard", &["*.a.example"]);
    let default = folder.write("default", &["other.example"]);
    let certificates = load(vec![
        folder.source("wildcard", &["*.a.example"]),
        folder.source("exact", &["www.a.example"]),
        folder.default("default"),
    ]);
    for (name, expected) in [
        ("www.a.example", &exact),
        ("WWW.A.example", &exact),
        ("img.a.example", &wildcard),
        ("deep.img.a.example", &wildcard),
        ("a.example", &default),
        ("unknown.example", &default),
        ("192.0.2.1", &default),
    ] {
        assert_eq!(&seen(&certificates, name), expected, "{name}");
    }
}

#[test]
fn a_site_for_any_host_is_served_by_the_names_of_its_certificate_and_as_default() {
    let folder = Folder::new();
    let first = folder.write("first", &["a.example"]);
    let any = folder.write("any", &["b.example", "*.b.example"]);
    let certificates = load(vec![folder.source("first", &["a.example"]), folder.source("any", &["*"])]);
    for (name, expected) in [("a.example", &first), ("x.b.example", &any), ("c.example", &any)] {
        assert_eq!(&seen(&certificates, name), expected, "{name}");
    }
}

#[test]
fn of_two_certificates_for_a_name_the_first_site_wins_and_hosts_beat_alternative_names() {
    let folder = Folder::new();
    let a = folder.write("a", &["a.example", "b.example"]);
    let b = folder.write("b", &["b.example", "a.example"]);
    let sources = vec![folder.source("a", &["a.example"]), folder.source("b", &["b.example", "a.example"])];
    let certificates = load(sources);
    assert_eq!(seen(&certificates, "a.example"), a);
    assert_eq!(seen(&certificates, "b.example"), b);
}

#[test]
fn renewed_files_are_served_without_a_restart() {
    let folder = Folder::new();
    let old = folder.write("a", &["a.example"]);
    let certificates = load(vec![folder.source("a", &["a.example"])]);
    assert_eq!(seen(&certificates, "a.example"), old);
    let new = folder.write("a", &["a.example"]);
    certificates.refresh();
    assert_eq!(seen(&certificates, "a.example"), new);
}

#[test]
fn a_symbolic_link_swapped_above_the_files_is_seen() {
    let folder = Folder::new();
    let pair = |version: &str| {
        let at = folder.path(version);
        fs::create_dir(&at).expect("made");
        write_pair(&CertificateFiles { cert: at.join("a.pem"), key: at.join("a.key") }, &["a.example"])
    };
    let link = |version: &str| {
        std::os::unix::fs::symlink(version, folder.path("..new")).expect("linked");
        fs::rename(folder.path("..new"), folder.path("..data")).expect("renamed");
    };
    let (old, new) = (pair("v1"), pair("v2"));
    link("v1");
    let data = folder.path("..data");
    let files = CertificateFiles { cert: data.join("a.pem"), key: data.join("a.key") };
    let certificates = load(vec![Source { files, ..folder.source("a", &["a.example"]) }]);
    assert_eq!(seen(&certificates, "a.example"), old);
    link("v2");
    certificates.refresh();
    assert_eq!(seen(&certificates, "a.example"), new);
}

#[test]
fn bad_new_files_keep_the_old_certificate_and_hold_up_no_other() {
    let folder = Folder::new();
    let (a, _) = (folder.write("a", &["a.example"]), folder.write("b", &["b.example"]));
    let metrics = metrics();
    let sources = vec![folder.source("a", &["a.example"]), folder.source("b", &["b.example"])];
    let certificates = Certificates::load_sources(sources, metrics.clone()).expect("usable");
    let b = folder.write("b", &["b.example"]);
    replace(&folder.files("a").cert, b"no certificate");
    certificates.refresh();
    assert_eq!(seen(&certificates, "a.example"), a);
    assert_eq!(seen(&certificates, "b.example"), b);
    certificates.refresh();
    assert_eq!(metrics.node.certificate_reloads.of(Outcome::Failure).get(), 1, "each change is tried once");
    let mended = folder.write("a", &["a.example"]);
    certificates.refresh();
    assert_eq!(seen(&certificates, "a.example"), mended);
}

#[test]
fn a_reload_that_fails_keeps_everything() {
    let folder = Folder::new();
    let old = folder.write("a", &["a.example"]);
    let certificates = load(vec![folder.source("a", &["a.example"])]);
    folder.write("a", &["a.example"]);
    let sources = vec![folder.source("a", &["a.example"]), folder.source("missing", &["b.example"])];
    let errors = certificates.reload_sources(Ok(sources)).expect_err("a file is missing");
    assert!(errors.to_string().contains("missing.pem"), "{errors}");
    assert_eq!(seen(&certificates, "a.example"), old);
}

#[test]
fn all_mistakes_are_told_at_once_with_file_and_reason() {
    let folder = Folder::new();
    for name in ["mismatch", "empty", "no-key", "garbage", "not-pem"] {
        folder.write(name, &["a.example"]);
    }
    fs::copy(folder.files("empty").key, folder.files("mismatch").key).expect("copied");
    replace(&folder.files("empty").cert, b"");
    replace(&folder.files("no-key").key, b"");
    let der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    replace(&folder.files("garbage").cert, der.as_bytes());
    replace(&folder.files("not-pem").cert, b"-----BEGIN CERTIFICATE-----\nAAAA");
    let names = ["missing", "mismatch", "empty", "no-key", "garbage", "not-pem"];
    let sources = names.map(|name| folder.source(name, &["a.example"])).into();
    let errors = Certificates::load_sources(sources, metrics()).expect_err("all are bad").0;
    let file = |error: &TlsError| match &error.problem {
        CertificateProblem::Unreadable { path, .. } => ("unreadable", path.clone()),
        CertificateProblem::Mismatch { key, .. } => ("mismatch", key.clone()),
        CertificateProblem::NoCertificate(path) => ("no certificate", path.clone()),
        CertificateProblem::NoKey(path) => ("no key", path.clone()),
        CertificateProblem::Malformed { path, .. } => ("malformed", path.clone()),
        CertificateProblem::NotPem { path, .. } => ("not PEM", path.clone()),
        other => panic!("unexpected: {other}"),
    };
    assert_eq!(
        errors.iter().map(file).collect::<Vec<_>>(),
        [
            ("unreadable", folder.files("missing").cert),
            ("mismatch", folder.files("mismatch").key),
            ("no certificate", folder.files("empty").cert),
            ("no key", folder.files("no-key").key),
            ("malformed", folder.files("garbage").cert),
            ("not PEM", folder.files("not-pem").cert),
        ]
    );
}

#[test]
fn http2_and_aes_128_come_first_and_sessions_resume_without_early_data() {
    let folder = Folder::new();
    folder.write("a", &["a.example"]);
    let certificates = load(vec![folder.source("a", &["a.example"])]);
    let server = server_config(certificates).expect("random bytes");
    let mut config = client();
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let config = Arc::new(config);
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let connection = handshake(&server, &config, "a.example");
        assert_eq!(connection.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(connection.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        let suite = connection.negotiated_cipher_suite().expect("agreed").suite();
        assert_eq!(suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(connection.handshake_kind(), Some(kind));
    }
    assert_eq!(server.max_early_data_size, 0);
}

#[test]
fn tls_1_2_is_spoken_with_aes_128_first() {
    let folder = Folder::new();
    folder.write("a", &["a.example"]);
    let server = server_config(load(vec![folder.source("a", &["a.example"])])).expect("random bytes");
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("known")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAnyone))
        .with_no_client_auth();
    let connection = handshake(&server, &Arc::new(config), "a.example");
    let suite = connection.negotiated_cipher_suite().expect("agreed").suite();
    assert_eq!(suite, rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
}

#[test]
fn expiry_times_are_exposed_by_site() {
    let folder = Folder::new();
    let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).expect("valid");
    params.not_after = rcgen::date_time_ymd(2033, 5, 18);
    let key = rcgen::KeyPair::generate().expect("random bytes");
    let certificate = params.self_signed(&key).expect("valid");
    replace(&folder.files("a").cert, certificate.pem().as_bytes());
    replace(&folder.files("a").key, key.serialize_pem().as_bytes());
    let metrics = metrics();
    let sources = vec![folder.source("a", &["a.example"])];
    let certificates = Certificates::load_sources(sources, metrics.clone()).expect("usable");
    assert_eq!(certificates.expiries(), [("a".to_owned(), 1_999_987_200)]);
    let series = "shoal_tls_certificate_expiry_timestamp_seconds{site=\"a\"} 1999987200\n";
    assert!(metrics.encode().contains(series));
}

#[tokio::test(start_paused = true)]
async fn the_watch_picks_up_renewed_files() {
    let folder = Folder::new();
    folder.write("a", &["a.example"]);
    let certificates = load(vec![folder.source("a", &["a.example"])]);
    let spawner = Spawner::current();
    certificates.watch(&spawner);
    let new = folder.write("a", &["a.example"]);
    tokio::time::timeout(WATCH_INTERVAL * 3, async {
        while seen(&certificates, "a.example") != new {
            tokio::time::sleep(WATCH_INTERVAL / 2).await;
        }
    })
    .await
    .expect("seen within two rounds");
    assert!(spawner.stop(Duration::from_secs(10)).await);
}
