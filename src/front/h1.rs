//! Clients that speak HTTP/1.1, or 1.0.

use super::conn::{Connection, Io, Parting};
use super::interim;
use super::strict::Strict;
use hyper::server::conn::http1::{Builder, UpgradeableConnection};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;

/// Fields of a head that hyper reads without an allocation.
const HYPER_HEADERS: usize = 100;

/// Serves a connection to its end, or until it is a tunnel.
pub(super) async fn serve(connection: Arc<Connection>, io: Io) {
    let mut builder = Builder::new();
    // `Watch` keeps the time; hyper's own limit would arm a timer for each request.
    builder.timer(TokioTimer::new()).header_read_timeout(None).half_close(false);
    if connection.limits.header_count > HYPER_HEADERS {
        // Costs an allocation per request; below hyper's own number `route` refuses.
        builder.max_headers(connection.limits.header_count);
    }
    let service = {
        let connection = Arc::clone(&connection);
        service_fn(move |request| {
            let connection = Arc::clone(&connection);
            async move { Ok::<_, Infallible>(interim::answer(connection, request).await) }
        })
    };
    let io = TokioIo::new(Strict::new(io, Arc::clone(&connection)));
    let mut serving = pin!(builder.serve_connection(io, service).with_upgrades());
    let part = |serving: Pin<&mut UpgradeableConnection<_, _>>, parting| {
        // HTTP/1.1 has no word for the end of an idle connection.
        if parting == Parting::InOrder {
            serving.graceful_shutdown();
        }
        false
    };
    connection.drive(serving.as_mut(), part).await;
}
