//! Clients that speak HTTP/2.

use super::Front;
use super::conn::{Connection, Io};
use super::taking::{self, Patience};
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// Interval of keep-alive pings, and how long an answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Streams that a peer may have reset before we saw them (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;
/// Stream errors of the peer's making before the connection is closed (CVE-2025-8671).
const LOCAL_RESETS_MAX: usize = 100;
/// Bytes that a stream buffers for sending.
const SEND_BUFFER: usize = 256 << 10;

/// Serves a connection to its end.
pub(super) async fn serve(connection: Arc<Connection>, io: Io) {
    let limits = &connection.limits;
    let mut builder = Builder::new(Tasks {
        front: Arc::clone(&connection.front),
        patience: Patience { idle: limits.idle_timeout, rate: limits.response_rate },
    });
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    let service = {
        let connection = Arc::clone(&connection);
        service_fn(move |request| {
            let connection = Arc::clone(&connection);
            async move { Ok::<_, Infallible>(connection.answer(request).await) }
        })
    };
    let mut serving = pin!(builder.serve_connection(TokioIo::new(io), service));
    connection.drive(serving.as_mut(), |serving| serving.graceful_shutdown()).await;
}

/// Runs the streams of a connection as tasks of the worker.
#[derive(Clone)]
struct Tasks {
    front: Arc<Front>,
    patience: Patience,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, future: F) {
        let front = Arc::clone(&self.front);
        let given_up = move |slowness| front.worker.node.metrics.node.slow_clients.of(slowness).inc();
        self.front.worker.spawner.spawn(taking::guarded(future, self.patience, given_up));
    }
}
