//! Makes connections: addresses tried in turn, TLS, the HTTP handshake, and the task that drives
//! each connection. The socket owns the permit of its connection, so the bound on connections holds
//! exactly, upgraded ones included.

use super::error::FetchError;
use super::pool::{Line, Session};
use super::request::Outgoing;
use super::resolve::Names;
use super::stats::OriginStats;
use super::upstream::Upstream;
use crate::net::{Net, Stream};
use crate::task::Spawner;
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::task::AtomicWaker;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long one address may take before the next is tried beside it (RFC 8305 §5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// How long a connection that is not needed any more may take to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest piece that is read at once, and so the read buffer of a busy connection.
const READ_BUFFER_MAX: usize = 128 << 10;
/// Bytes of a response head, or of trailers.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Streams on one HTTP/2 connection, where the peer allows more: beyond it, one TCP connection
/// and its window become the bottleneck.
const STREAMS_MAX: usize = 256;
/// HTTP/2 pings on a connection with streams, so that a dead peer is noticed.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// How long a ping may go unanswered.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes connections for one worker.
pub(super) struct Dialer {
    pub net: Net,
    pub names: Names,
    pub stats: Arc<OriginStats>,
    /// Owns the tasks that drive connections.
    pub spawner: Spawner,
}

/// A new connection, ready for requests.
pub(super) enum Connected {
    /// One request at a time.
    Http1(Line),
    /// Many at a time.
    Http2(Session),
}

impl Dialer {
    /// Connects to `upstream`, offering HTTP/2 only if `http2`. Unbounded in time: callers bring
    /// the deadline. Dropping it gives everything up.
    pub(super) async fn dial(
        &self,
        upstream: &Upstream,
        http2: bool,
        permit: OwnedSemaphorePermit,
    ) -> Result<Connected, FetchError> {
        let server = &upstream.server;
        let addresses = self
            .names
            .resolve(&server.host)
            .await
            .map_err(|reason| FetchError::Resolve { host: server.host.clone(), reason })?;
        let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, server.port));
        let stream = self.connect(addresses).await.map_err(FetchError::Connect)?;
        let (layer, http2) = match &upstream.tls {
            None => (Layer::Plain(stream), http2),
            Some(tls) => {
                let config = if http2 { &tls.any } else { &tls.http1 };
                let connector = TlsConnector::from(config.clone());
                let stream = connector.connect(tls.name.clone(), stream).await;
                let stream = stream.map_err(|error| FetchError::Tls(Box::new(error)))?;
                let chosen = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                (Layer::Tls(Box::new(stream)), chosen)
            }
        };
        let socket = Socket::new(layer, permit, self.stats.clone());
        if http2 { self.start_http2(socket).await } else { self.start_http1(socket).await }
    }

    /// Tries addresses in turn, each next one after a failure or after a moment; the first stream
    /// wins and the others are given up.
    async fn connect(&self, mut addresses: impl ExactSizeIterator<Item = SocketAddr>) -> io::Result<Stream> {
        let none = || io::Error::new(io::ErrorKind::AddrNotAvailable, "no address");
        let first = addresses.next().ok_or_else(none)?;
        if addresses.len() == 0 {
            return self.net.connect(first).await;
        }
        let mut trials = FuturesUnordered::new();
        trials.push(self.net.connect(first));
        loop {
            let more = addresses.len() > 0;
            tokio::select! {
                biased;
                Some(result) = trials.next() => match (result, addresses.next()) {
                    (Ok(stream), _) => return Ok(stream),
                    (Err(_), Some(next)) => trials.push(self.net.connect(next)),
                    (Err(error), None) if trials.is_empty() => return Err(error),
                    (Err(_), None) => {}
                },
                () = tokio::time::sleep(NEXT_ADDRESS_AFTER), if more => {
                    trials.extend(addresses.next().map(|next| self.net.connect(next)));
                }
            }
        }
    }

    async fn start_http1(&self, socket: Socket) -> Result<Connected, FetchError> {
        let inbound = socket.inbound.clone();
        let handshake = http1::Builder::new()
            .writev(true)
            .max_buf_size(READ_BUFFER_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .handshake::<_, Outgoing>(TokioIo::new(socket));
        let (sender, connection) = handshake.await.map_err(|error| FetchError::Protocol(Box::new(error)))?;
        let (abort, aborted) = oneshot::channel();
        self.spawner.spawn(drive_http1(connection.with_upgrades(), aborted));
        Ok(Connected::Http1(Line::new(sender, abort, inbound)))
    }

    async fn start_http2(&self, socket: Socket) -> Result<Connected, FetchError> {
        let inbound = socket.inbound.clone();
        let handshake = http2::Builder::new(Tasks(self.spawner.clone()))
            .timer(TokioTimer::new())
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake::<_, Outgoing>(TokioIo::new(socket));
        let (sender, mut connection) =
            handshake.await.map_err(|error| FetchError::Protocol(Box::new(error)))?;
        let streams_max = Arc::new(AtomicUsize::new(STREAMS_MAX.min(connection.current_max_send_streams())));
        let known = streams_max.clone();
        self.spawner.spawn(async move {
            // An error was told to the streams that it concerns.
            let _ended = poll_fn(|cx| {
                // The peer's limit comes first of all (RFC 9113 §3.4), but hyper reads it elsewhere.
                inbound.first.register(cx.waker());
                let poll = Pin::new(&mut connection).poll(cx);
                known.store(STREAMS_MAX.min(connection.current_max_send_streams()), Ordering::Relaxed);
                poll
            })
            .await;
        });
        Ok(Connected::Http2(Session::new(sender, streams_max, self.stats.clone())))
    }
}

/// Drives a connection until it ends by itself, is aborted (dropped where it stands), or is let go,
/// when it may close in order.
async fn drive_http1(connection: impl Future<Output = hyper::Result<()>>, aborted: oneshot::Receiver<()>) {
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        // An error was told to the request that it concerns, or nobody cares for an idle connection.
        _ended = &mut connection => return,
        abort = aborted => if abort.is_ok() { return },
    }
    let _closed = tokio::time::timeout(CLOSE_TIMEOUT, connection).await;
}

/// Lets hyper spawn what HTTP/2 needs: the connection, and a task per request.
#[derive(Clone)]
struct Tasks(Spawner);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// The socket of one connection.
struct Socket {
    layer: Layer,
    inbound: Arc<Inbound>,
    stats: Arc<OriginStats>,
    _permit: OwnedSemaphorePermit,
}

/// What was received on a connection.
#[derive(Default)]
pub(super) struct Inbound {
    bytes: AtomicU64,
    /// Woken by the first bytes.
    first: AtomicWaker,
}

impl Inbound {
    /// Bytes received so far, without TLS.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

enum Layer {
    Plain(Stream),
    Tls(Box<TlsStream<Stream>>),
}

impl Socket {
    fn new(layer: Layer, permit: OwnedSemaphorePermit, stats: Arc<OriginStats>) -> Self {
        stats.connects.add(1);
        stats.open.add(1);
        Self { layer, inbound: Arc::default(), stats, _permit: permit }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.stats.open.sub(1);
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let poll = match &mut this.layer {
            Layer::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Layer::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        let read = (buf.filled().len() - before) as u64;
        if this.inbound.bytes.fetch_add(read, Ordering::Relaxed) == 0 {
            this.inbound.first.wake();
        }
        poll
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().layer {
            Layer::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Layer::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().layer {
            Layer::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Layer::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().layer {
            Layer::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Layer::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().layer {
            Layer::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Layer::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.layer {
            Layer::Plain(stream) => stream.is_write_vectored(),
            Layer::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
