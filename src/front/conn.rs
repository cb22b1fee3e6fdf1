//! One client connection: TLS, the choice of HTTP version, its limits and its end.

use super::farewell::LINGER_TIME;
use super::gate::Entered;
use super::h2::Untaken;
use super::record::{ClientBody, Record};
use super::upload::Upload;
use super::watch::{Expired, Watch, Watched, Wire};
use super::{Front, h1, h2, proxied};
use crate::body::{Body, BodyError, Interims};
use crate::config::model::Limits;
use crate::net::Stream;
use crate::proto::flood::PREFACE;
use crate::proto::semantics;
use crate::serve::Client;
use crate::telemetry::{self, HandshakeFailure, HttpVersion, ListenerKind, enter};
use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body as HttpBody;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio_rustls::TlsAcceptor;

/// TLS: bytes that are encrypted ahead of the socket; larger is cheaper in bulk.
const TLS_BUFFER: usize = 256 << 10;

/// How long a connection that was shed is kept for its last word, if the socket does not take that at once. Another waits for
/// what it holds.
const SHED_TIME: Duration = Duration::from_millis(50);

/// An end from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    /// After what the client has asked so far.
    InOrder,
    /// Without anything more.
    AtOnce,
}

/// A connection that was let in.
pub(super) struct Accepted {
    pub(super) stream: Stream,
    pub(super) from: SocketAddr,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    pub(super) kind: ListenerKind,
    /// Whether the client's address is told ahead of all else.
    pub(super) proxied: bool,
    pub(super) entered: Entered,
}

/// Serves a connection to its end.
pub(super) async fn serve(front: Arc<Front>, accepted: Accepted) {
    let Accepted { mut stream, mut from, tls, kind, proxied, mut entered } = accepted;
    let open = enter(front.worker.node.metrics.node.connections_open.of(kind));
    let limits = front.worker.node.snapshot.load().config.limits.clone();
    if proxied {
        let told = proxied::client(&front, &limits, &mut stream, from, entered).await;
        let Some(client) = told else { return };
        (from, entered) = client;
    }
    let mut client = Client { from, scheme: kind.into(), tls_name: None };
    let wire = match tls {
        None => Some((Wire::Plain(stream), None)),
        Some(config) => {
            let handshake = handshake(&front, &limits, stream, config, &mut client);
            entered.unless_told(handshake).await.flatten()
        }
    };
    if let Some((wire, tls_version)) = wire {
        let watch = Watch::new(front.worker.node.clock, entered.seat(), &limits);
        let serving = OnceLock::new();
        let (front, untaken) = (Arc::clone(&front), Arc::default());
        let connection = Connection { front, watch, limits, client, tls_version, untaken, serving };
        connection.run(wire, (entered, open)).await;
    }
}

async fn handshake(
    front: &Front,
    limits: &Limits,
    stream: Stream,
    config: Arc<rustls::ServerConfig>,
    client: &mut Client,
) -> Option<(Wire, Option<&'static str>)> {
    let handshake = TlsAcceptor::from(config).accept(stream);
    let failed = match tokio::time::timeout(limits.header_timeout, handshake).await {
        Ok(Ok(mut stream)) => {
            let session = stream.get_mut().1;
            session.set_buffer_limit(Some(TLS_BUFFER));
            client.tls_name = session.server_name().map(Arc::from);
            let version = session.protocol_version().and_then(|version| version.as_str());
            return Some((Wire::Tls(Box::new(stream)), version));
        }
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => HandshakeFailure::Protocol,
        Ok(Err(_)) => HandshakeFailure::Closed,
        Err(_) => HandshakeFailure::Timeout,
    };
    front.worker.node.metrics.node.tls_handshake_failures.of(failed).inc();
    None
}

/// The place of a connection among all that are open, by the limit and by the metric.
type Place = (Entered, telemetry::Entered);
/// The stream of a connection. Its place is what it holds of the node's limits, also after it became a tunnel.
pub(super) type Io = Watched<Wire, Place>;

/// A connection whose client may speak.
pub(super) struct Connection {
    pub(super) front: Arc<Front>,
    pub(super) watch: Arc<Watch>,
    pub(super) limits: Limits,
    pub(super) client: Client,
    pub(super) tls_version: Option<&'static str>,
    /// What came over HTTP/2 and nobody has taken yet.
    pub(super) untaken: Arc<Untaken>,
    /// Set by the first request.
    serving: OnceLock<telemetry::Entered>,
}

impl Connection {
    async fn run(self, wire: Wire, place: Place) {
        let connection = Arc::new(self);
        let mut io = Watched::new(wire, Arc::clone(&connection.watch), place);
        let version = tokio::select! {
            version = version(&mut io) => version,
            () = connection.left() => return,
            expired = connection.watch.expired(&connection.limits) => return connection.note(expired),
        };
        match version {
            Ok(HttpVersion::H1) => h1::serve(connection, io).await,
            Ok(HttpVersion::H2) => h2::serve(connection, io).await,
            Err(error) => tracing::debug!(from = %connection.client.from, %error, "connection ended"),
        }
    }

    /// Drives the connection to its end: its own, that of a limit, or, after the requests in progress, that of a
    /// drain or of its age. `part` begins an end from this side; whether there is something to be said to the client at once.
    pub(super) async fn drive<S, E>(
        &self,
        mut serving: Pin<&mut S>,
        part: impl Fn(Pin<&mut S>, Parting) -> bool,
    ) where
        S: Future<Output = Result<(), E>>,
        E: std::fmt::Display,
    {
        let mut left = std::pin::pin!(self.left());
        let (mut draining, mut worn) = (false, false);
        loop {
            tokio::select! {
                ended = serving.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(from = %self.client.from, error = %error, "connection ended");
                    }
                    return;
                }
                () = left.as_mut(), if !draining => {
                    draining = true;
                    part(serving.as_mut(), Parting::InOrder);
                }
                () = self.watch.worn(), if !worn => {
                    worn = true;
                    part(serving.as_mut(), Parting::InOrder);
                }
                expired = self.watch.expired(&self.limits) => {
                    if expired == Expired::Head && self.watch.is_told_late() {
                        // Over HTTP/1.1 a client that has begun a head is told.
                        let _ = tokio::time::timeout(LINGER_TIME, serving.as_mut()).await;
                    } else if let Some(time) = farewell_time(expired)
                        && part(serving.as_mut(), Parting::AtOnce)
                    {
                        let _ = tokio::time::timeout(time, serving.as_mut()).await;
                    }
                    return self.note(expired);
                }
            }
        }
    }

    /// Resolves when a drain is on and lets this connection end.
    async fn left(&self) {
        self.front.drain.cancelled().await;
        self.watch.left().await;
    }

    fn note(&self, expired: Expired) {
        if let Some(slowness) = expired.slowness() {
            self.front.worker.node.metrics.node.clients.slow.of(slowness).inc();
        }
        tracing::debug!(from = %self.client.from, ?expired, "connection closed");
    }

    /// Answers one request. What is to be told before the response goes to `interims`.
    pub(super) async fn answer<B>(&self, request: Request<B>, interims: &Interims) -> Response<ClientBody>
    where
        B: HttpBody<Data = Bytes, Error: Into<BodyError>> + Send + Unpin + 'static,
    {
        let multiplexed = request.version() == Version::HTTP_2;
        let now = self.front.worker.node.clock.now();
        let draining = self.front.drain.is_cancelled();
        let is_last = self.watch.request_begins(now.mono, multiplexed, draining, &self.limits);
        self.serving.get_or_init(|| {
            let version = if multiplexed { HttpVersion::H2 } else { HttpVersion::H1 };
            enter(self.front.worker.node.metrics.node.connections_serving.of(version))
        });
        let (mut head, body) = request.into_parts();
        semantics::join_crumbs(&mut head.headers);
        let untaken = multiplexed.then_some(&self.untaken);
        let (body, upload) = Upload::body(body, &self.limits, untaken);
        let mut request = Request::from_parts(head, body);
        if !matches!(request.body(), Body::Empty) {
            request.extensions_mut().insert(upload.clone());
        }
        let from = (self.client.from.ip(), self.tls_version);
        let record = Record::begin(&self.front, &self.watch, &request, from, upload, now);
        let answer = self.front.worker.handle(request, &self.client, now, interims).await;
        let mut response = record.respond(answer);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.watch.tunnels();
        }
        // Said, so that the client does not send into a connection that is being closed.
        let is_last = is_last || self.front.drain.is_cancelled();
        if is_last && !multiplexed && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// For how long a client may take to hear that its connection is closed; `None` if it takes nothing as it is.
const fn farewell_time(expired: Expired) -> Option<Duration> {
    match expired {
        Expired::Idle | Expired::Head => Some(LINGER_TIME),
        Expired::Shed => Some(SHED_TIME),
        Expired::Stalled | Expired::Slow => None,
    }
}

/// Which version the client speaks, by what it sends first. All that was read stays to be read.
async fn version(io: &mut Io) -> io::Result<HttpVersion> {
    let mut read = [0; PREFACE.len()];
    let mut length = 0;
    while length < PREFACE.len() && PREFACE.starts_with(&read[..length]) {
        match io.read(&mut read[length..]).await? {
            0 => break,
            more => length += more,
        }
    }
    io.rewind(Bytes::copy_from_slice(&read[..length]));
    Ok(if read == *PREFACE { HttpVersion::H2 } else { HttpVersion::H1 })
}
