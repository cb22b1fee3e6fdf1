use super::fixture::*;
use crate::config::model::{OriginGroup, OriginServer};
use crate::origin::{FetchError, Fetched};
use http_body_util::BodyExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::join;
use tokio_rustls::TlsAcceptor;

/// An authority made for one test, with a server certificate for `origin.test`.
struct Authority {
    folder: TempDir,
    acceptor: TlsAcceptor,
}

impl Authority {
    fn new(protocols: &[&str]) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["origin.test".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let certificate = leaf.signed_by(&key, &issuer).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self { folder, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn group(&self, server: &Server, host: &str) -> OriginGroup {
        let mut config = group(&[OriginServer { tls: true, host: host.into(), ..server.server() }]);
        config.tls_ca = Some(self.ca());
        config
    }

    /// Answers one request over TLS; tells the name that was asked for.
    async fn answer(&self, server: &Server) -> Result<Option<String>, std::io::Error> {
        let mut stream = self.acceptor.accept(server.accept_stream().await).await?;
        let name = stream.get_ref().1.server_name().map(str::to_owned);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut head).await?;
        }
        stream.write_all(ok("secret").as_bytes()).await?;
        stream.flush().await?;
        Ok(name)
    }
}

async fn fetch(
    config: OriginGroup,
    authority: &Authority,
    server: &Server,
) -> (Result<Fetched, FetchError>, std::io::Result<Option<String>>) {
    let rig = Rig::new();
    rig.names.set("origin.test", vec![[127, 0, 0, 1].into()], Duration::from_secs(60));
    rig.names.set("other.test", vec![[127, 0, 0, 1].into()], Duration::from_secs(60));
    join!(rig.get(Arc::new(config), "/"), authority.answer(server))
}

#[tokio::test]
async fn a_certificate_of_the_configured_authority_is_trusted_and_the_name_is_sent() {
    let (authority, server) = (Authority::new(&["http/1.1"]), Server::new().await);
    let (fetched, name) = fetch(authority.group(&server, "origin.test"), &authority, &server).await;
    assert_eq!(text(fetched.unwrap()).await.unwrap(), "secret");
    assert_eq!(name.unwrap().as_deref(), Some("origin.test"));
}

#[tokio::test]
async fn an_address_is_no_server_name() {
    let (authority, server) = (Authority::new(&[]), Server::new().await);
    let (fetched, name) = fetch(authority.group(&server, "127.0.0.1"), &authority, &server).await;
    assert_eq!(text(fetched.unwrap()).await.unwrap(), "secret");
    assert_eq!(name.unwrap(), None);
}

#[tokio::test]
async fn an_unknown_issuer_or_another_name_is_refused() {
    let (authority, stranger) = (Authority::new(&[]), Authority::new(&[]));
    let server = Server::new().await;
    let (fetched, _) = fetch(stranger.group(&server, "origin.test"), &authority, &server).await;
    assert!(matches!(fetched, Err(FetchError::Tls(_))));
    let (fetched, _) = fetch(authority.group(&server, "other.test"), &authority, &server).await;
    assert!(matches!(fetched, Err(FetchError::Tls(_))));
}

#[tokio::test]
async fn without_verification_any_certificate_will_do() {
    let (authority, server) = (Authority::new(&[]), Server::new().await);
    let mut config = authority.group(&server, "other.test");
    (config.tls_verify, config.tls_ca) = (false, None);
    let (fetched, _) = fetch(config, &authority, &server).await;
    assert_eq!(text(fetched.unwrap()).await.unwrap(), "secret");
}

#[tokio::test]
async fn a_missing_file_of_anchors_is_a_tls_error() {
    let (authority, server) = (Authority::new(&[]), Server::new().await);
    let mut config = authority.group(&server, "origin.test");
    config.tls_ca = Some(authority.folder.path().join("none.pem"));
    assert!(matches!(Rig::new().get(&Arc::new(config), "/").await, Err(FetchError::Tls(_))));
}

#[tokio::test]
async fn http2_is_spoken_where_the_server_chooses_it_and_http1_elsewhere() {
    let (authority, server) = (Authority::new(&["h2"]), Server::new().await);
    let rig = Rig::new();
    rig.names.set("origin.test", vec![[127, 0, 0, 1].into()], Duration::from_secs(60));
    let mut config = authority.group(&server, "origin.test");
    config.http2 = true;
    let config = Arc::new(config);
    let serve = async {
        let stream = authority.acceptor.accept(server.accept_stream().await).await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        assert_eq!(request.uri(), "https://site.test/");
        respond.send_response(http::Response::new(()), true).unwrap();
        while connection.accept().await.is_some() {}
    };
    let read = async {
        let fetched = rig.get(&config, "/").await.unwrap();
        assert_eq!(fetched.response.version(), http::Version::HTTP_2);
        fetched.response.into_body().collect().await.unwrap();
        tokio::task::yield_now().await;
    };
    tokio::select! {
        () = serve => panic!("the connection is kept"),
        () = read => {}
    }

    let (authority, server) = (Authority::new(&["http/1.1"]), Server::new().await);
    let mut config = authority.group(&server, "origin.test");
    config.http2 = true;
    let (fetched, _) = fetch(config, &authority, &server).await;
    assert_eq!(text(fetched.unwrap()).await.unwrap(), "secret");
}
