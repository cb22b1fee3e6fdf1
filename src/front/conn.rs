//! One client connection: TLS, the choice of HTTP version, its limits and its end.

use super::Front;
use super::gate::Entered;
use super::record::{ClientBody, Record};
use super::taking;
use super::upload::Upload;
use super::watch::{Expired, Watch, Watched, Wire};
use crate::body::Body;
use crate::config::model::Limits;
use crate::net::Stream;
use crate::serve::Client;
use crate::task::Spawner;
use crate::telemetry::{self, HandshakeFailure, HttpVersion, ListenerKind, enter};
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_rustls::TlsAcceptor;

/// Fields of a head that hyper reads without an allocation.
const HYPER_HEADERS: usize = 100;
/// HTTP/2: interval of keep-alive pings, and how long an answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// HTTP/2: streams that a peer may have reset before we saw them (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;
/// HTTP/2: stream errors of the peer's making before the connection is closed (CVE-2025-8671).
const LOCAL_RESETS_MAX: usize = 100;
/// HTTP/2: bytes that a stream buffers for sending.
const SEND_BUFFER: usize = 256 << 10;
/// TLS: bytes that are encrypted ahead of the socket; larger is cheaper in bulk.
const TLS_BUFFER: usize = 256 << 10;

/// A connection that was let in.
pub(super) struct Accepted {
    pub(super) stream: Stream,
    pub(super) from: SocketAddr,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    pub(super) kind: ListenerKind,
    pub(super) entered: Entered,
}

/// Serves a connection to its end.
pub(super) async fn serve(front: Arc<Front>, accepted: Accepted) {
    let Accepted { stream, from, tls, kind, entered } = accepted;
    let open = enter(front.worker.node.metrics.node.connections_open.of(kind));
    let limits = front.worker.node.snapshot.load().config.limits.clone();
    let mut client = Client { from, scheme: kind.into(), tls_name: None };
    let wire = match tls {
        None => Some((Wire::Plain(stream), None)),
        Some(config) => handshake(&front, &limits, stream, config, &mut client).await,
    };
    if let Some((wire, tls_version)) = wire {
        let watch = Watch::new(front.worker.node.clock);
        let serving = OnceLock::new();
        let connection =
            Connection { front: Arc::clone(&front), watch, limits, client, tls_version, serving };
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

struct Connection {
    front: Arc<Front>,
    watch: Arc<Watch>,
    limits: Limits,
    client: Client,
    tls_version: Option<&'static str>,
    /// Set by the first request, which tells the HTTP version.
    serving: OnceLock<telemetry::Entered>,
}

impl Connection {
    /// `place` is what the connection holds of the node's limits, also after it became a tunnel.
    async fn run(self, wire: Wire, place: Place) {
        let connection = Arc::new(self);
        let builder = connection.builder();
        let service = {
            let connection = Arc::clone(&connection);
            service_fn(move |request| {
                let connection = Arc::clone(&connection);
                async move { Ok::<_, Infallible>(connection.answer(request).await) }
            })
        };
        let io = TokioIo::new(Watched::new(wire, Arc::clone(&connection.watch), place));
        let mut serving = pin!(builder.serve_connection_with_upgrades(io, service));
        let drained = async {
            connection.front.drain.cancelled().await;
            connection.watch.left().await;
        };
        let mut drained = pin!(drained);
        let (mut draining, mut worn) = (false, false);
        loop {
            tokio::select! {
                ended = serving.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(from = %connection.client.from, error = %error, "connection ended");
                    }
                    return;
                }
                () = drained.as_mut(), if !draining => {
                    draining = true;
                    serving.as_mut().graceful_shutdown();
                }
                () = connection.watch.worn(), if !worn => {
                    worn = true;
                    serving.as_mut().graceful_shutdown();
                }
                expired = connection.watch.expired(&connection.limits) => {
                    connection.note(expired);
                    return;
                }
            }
        }
    }

    fn note(&self, expired: Expired) {
        tracing::debug!(from = %self.client.from, ?expired, "connection closed");
    }

    fn builder(&self) -> Builder<Tasks> {
        let mut builder = Builder::new(Tasks {
            spawner: self.front.worker.spawner.clone(),
            idle: self.limits.idle_timeout,
        });
        // `Watch` keeps the time; hyper's own limit would arm a timer for each request.
        builder.http1().timer(TokioTimer::new()).header_read_timeout(None).half_close(false);
        if self.limits.header_count > HYPER_HEADERS {
            // Costs an allocation per request; below hyper's own number `route` refuses.
            builder.http1().max_headers(self.limits.header_count);
        }
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.http2_streams)
            .max_header_list_size(u32::try_from(self.limits.header_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
            .max_local_error_reset_streams(LOCAL_RESETS_MAX)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_INTERVAL);
        builder
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<ClientBody> {
        let multiplexed = request.version() == Version::HTTP_2;
        let now = self.front.worker.node.clock.now();
        let draining = self.front.drain.is_cancelled();
        let is_last = self.watch.request_begins(now.mono, multiplexed, draining, &self.limits);
        self.serving.get_or_init(|| {
            let version = if multiplexed { HttpVersion::H2 } else { HttpVersion::H1 };
            enter(self.front.worker.node.metrics.node.connections_serving.of(version))
        });
        let (head, body) = request.into_parts();
        let (body, upload) = Upload::body(body, self.limits.body_bytes, self.limits.idle_timeout);
        let mut request = Request::from_parts(head, body);
        if !matches!(request.body(), Body::Empty) {
            request.extensions_mut().insert(upload.clone());
        }
        let from = (self.client.from.ip(), self.tls_version);
        let record = Record::begin(&self.front, &self.watch, &request, from, upload, now);
        let answer = self.front.worker.handle(request, &self.client, now).await;
        let mut response = record.respond(answer);
        // Said, so that the client does not send into a connection that is being closed.
        let is_last = is_last || self.front.drain.is_cancelled();
        if is_last && !multiplexed && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Runs the streams of an HTTP/2 connection as tasks of the worker.
#[derive(Clone)]
struct Tasks {
    spawner: Spawner,
    /// How long a stream's client may take nothing.
    idle: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, future: F) {
        self.spawner.spawn(taking::guarded(future, self.idle));
    }
}
