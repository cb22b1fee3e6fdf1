//! Certificates made on the spot, and clients that believe in them.

use super::client::Client;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{CertificateDer, ServerName};
use shoal::task::Spawner;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A certificate with its key in files of a folder.
pub(crate) struct Pair {
    pub(crate) der: CertificateDer<'static>,
    /// `{ cert = …, key = … }`, as in a configuration.
    pub(crate) toml: String,
}

/// Makes a certificate for `host`.
pub(crate) fn certificate(folder: &Path, host: &str) -> Pair {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    let (cert, key) = (folder.join(format!("{host}.pem")), folder.join(format!("{host}.key")));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let toml = format!("{{ cert = \"{}\", key = \"{}\" }}", cert.display(), key.display());
    Pair { der: made.cert.der().clone(), toml }
}

/// Connects as a client that trusts `trusted` alone and asks for `name`.
pub(crate) async fn connect(
    at: SocketAddr,
    name: &str,
    trusted: &CertificateDer<'static>,
    alpn: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    handshake(TcpStream::connect(at).await?, name, trusted, alpn).await
}

/// The same, over a connection that was opened before.
pub(crate) async fn handshake(
    stream: TcpStream,
    name: &str,
    trusted: &CertificateDer<'static>,
    alpn: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// An HTTP/1.1 client over TLS.
pub(crate) async fn client(at: SocketAddr, name: &str, trusted: &CertificateDer<'static>) -> Client {
    Client::over(connect(at, name, trusted, b"http/1.1").await.expect("a certificate for this name"))
}

/// An HTTP/2 client.
pub(crate) struct Http2(http2::SendRequest<Full<Bytes>>);

/// A response over HTTP/2.
pub(crate) struct Http2Reply {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Bytes,
}

impl Http2 {
    /// Speaks HTTP/2 over `stream`; `tasks` owns the connection.
    pub(crate) async fn over(stream: impl shoal::net::Duplex + 'static, tasks: &Spawner) -> Self {
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tasks.spawn(async move {
            let _ = connection.await;
        });
        Self(sender)
    }

    pub(crate) async fn get(&self, url: &str) -> Http2Reply {
        self.get_if_open(url).await.expect("an open connection")
    }

    /// `None` if the server has said that it does not serve this request any more (RFC 9113 §6.8).
    pub(crate) async fn get_if_open(&self, url: &str) -> Option<Http2Reply> {
        self.ask_if_open(url, &[]).await
    }

    pub(crate) async fn ask(&self, url: &str, fields: &[(&str, &str)]) -> Http2Reply {
        self.ask_if_open(url, fields).await.expect("an open connection")
    }

    async fn ask_if_open(&self, url: &str, fields: &[(&str, &str)]) -> Option<Http2Reply> {
        let request = Request::get(url);
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Full::default()).unwrap();
        let sent = super::in_time("a response", self.0.clone().try_send_request(request)).await;
        let response = match sent {
            Ok(response) => response,
            Err(error) if error.message().is_some() => return None,
            Err(error) if is_going_away(error.error()) => return None,
            Err(error) => panic!("a request failed: {:?}", error.error()),
        };
        let (head, body) = response.into_parts();
        let body = super::in_time("a body", body.collect()).await.unwrap().to_bytes();
        Some(Http2Reply { status: head.status, fields: head.headers, body })
    }
}

/// Whether a GOAWAY without a fault is why a request was not sent.
fn is_going_away(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| cause.is_go_away() && cause.reason() == Some(h2::Reason::NO_ERROR))
}
