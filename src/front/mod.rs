//! The door: listeners, TLS, HTTP/1.1 and HTTP/2, and the limits on clients. Decides nothing about
//! caching; every request goes to `serve`, and every failure becomes a response in `respond`.
//!
//! Each worker has listeners of its own (`SO_REUSEPORT`) and serves the connections that it accepted.

mod conn;
mod gate;
mod h1;
mod h2;
mod interim;
mod record;
mod respond;
mod upload;
mod watch;

pub use gate::Gate;

use crate::net::{Listener, Stream};
use crate::proto::key::Scheme;
use crate::serve::Worker;
use crate::task::Spawner;
use crate::telemetry::{AccessLog, ListenerKind, RequestIds, Shed};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Pause after an accept that failed for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What the connections of one worker need.
pub struct Front {
    /// Who answers.
    pub worker: Arc<Worker>,
    /// Where requests are logged.
    pub access: Arc<AccessLog>,
    /// Source of request ids.
    pub ids: Arc<RequestIds>,
    /// Connections of the whole node.
    pub gate: Arc<Gate>,
    /// Owner of the connections, apart from the worker's other tasks, so that a drain can wait for them.
    pub connections: Spawner,
    /// Cancelled when connections are to finish their requests and close.
    pub drain: CancellationToken,
}

/// A listener and what is spoken on it.
pub struct Door {
    /// The socket.
    pub listener: Listener,
    /// TLS settings, if clients speak TLS here.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// Accepts connections until the drain begins, then closes the listener. Those that the system has accepted by then are
/// served too, since their clients may have sent a request.
pub async fn accept(front: Arc<Front>, mut door: Door) {
    let metrics = Arc::clone(&front.worker.node.metrics);
    loop {
        let accepted = tokio::select! {
            () = front.drain.cancelled() => break,
            accepted = door.listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => admit(&front, door.tls.clone(), stream, from),
            Err(error) => {
                metrics.node.accept_errors.inc();
                tracing::debug!(%error, "accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    for (stream, from) in door.listener.close() {
        admit(&front, door.tls.clone(), stream, from);
    }
}

/// Serves a connection, unless too many are open.
fn admit(front: &Arc<Front>, tls: Option<Arc<rustls::ServerConfig>>, stream: Stream, from: SocketAddr) {
    let kind = if tls.is_some() { ListenerKind::Https } else { ListenerKind::Http };
    let metrics = &front.worker.node.metrics.node;
    metrics.connections_accepted.inc();
    let limits = &front.worker.node.snapshot.load().config.limits;
    match front.gate.enter(from.ip(), limits.connections, limits.connections_per_ip) {
        Ok(entered) => {
            let accepted = conn::Accepted { stream, from, tls, kind, entered };
            front.connections.spawn_graceful(conn::serve(Arc::clone(front), accepted));
        }
        Err(limit) => metrics.connections_shed.of(limit).inc(),
    }
}

impl From<ListenerKind> for Scheme {
    fn from(kind: ListenerKind) -> Self {
        match kind {
            ListenerKind::Http => Self::Http,
            ListenerKind::Https => Self::Https,
        }
    }
}

/// Which limit refuses a connection.
pub(crate) type Limit = Shed;
