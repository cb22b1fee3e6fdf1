//! The door: listeners, TLS, HTTP/1.1 and HTTP/2, and the limits on clients. Decides nothing about
//! caching; every request goes to `serve`, and every failure becomes a response in `respond`.
//!
//! Each worker has listeners of its own (`SO_REUSEPORT`) and serves the connections that it accepted.

mod conn;
mod farewell;
mod gate;
mod h1;
mod h2;
mod interim;
mod pace;
mod proxied;
mod record;
mod respond;
mod strict;
mod upload;
mod watch;

pub use gate::Gate;

use gate::{Admitted, Caps, Entered};

use crate::net::{Listener, Stream};
use crate::proto::key::Scheme;
use crate::serve::Worker;
use crate::task::Spawner;
use crate::telemetry::{AccessLog, ListenerKind, RequestIds, Shed, ShedWhat};
use std::net::{IpAddr, SocketAddr};
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
    /// Whether connections come from a proxy that tells the client's address ahead of them (PROXY protocol).
    pub proxied: bool,
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
            Ok((stream, from)) => admit(&front, (door.tls.clone(), door.proxied), stream, from),
            Err(error) => {
                metrics.node.accept_errors.inc();
                tracing::debug!(%error, "accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    for (stream, from) in door.listener.close() {
        admit(&front, (door.tls.clone(), door.proxied), stream, from);
    }
}

/// Serves a connection, unless too many are open and nobody gives way.
fn admit(
    front: &Arc<Front>,
    (tls, proxied): (Option<Arc<rustls::ServerConfig>>, bool),
    stream: Stream,
    from: SocketAddr,
) {
    let kind = if tls.is_some() { ListenerKind::Https } else { ListenerKind::Http };
    front.worker.node.metrics.node.connections_accepted.inc();
    // The connections of a proxy are counted by its clients, when they are known.
    let caps = front.caps((!proxied).then_some(from.ip()));
    let Some(entered) = front.admitted(front.gate.enter(from.ip(), caps)) else { return };
    let accepted = conn::Accepted { stream, from, tls, kind, proxied, entered };
    front.connections.spawn_graceful(conn::serve(Arc::clone(front), accepted));
}

impl Front {
    /// The limits for a connection of `client`; `None` for one whose client is not known yet. Proxies and load
    /// balancers that are trusted stand for many clients each, and have no limit of their own.
    fn caps(&self, client: Option<IpAddr>) -> Caps {
        let snapshot = self.worker.node.snapshot.load();
        let limits = &snapshot.config.limits;
        let is_limited = client.is_some_and(|client| !snapshot.config.trusts(client));
        Caps { total: limits.connections, per_address: is_limited.then_some(limits.connections_per_ip) }
    }

    /// Counts what became of a connection at the gate.
    fn admitted(&self, admitted: Result<Admitted, Limit>) -> Option<Entered> {
        let shed = &self.worker.node.metrics.node.clients.shed;
        match admitted {
            Ok(Admitted { entered, instead_of }) => {
                if let Some((limit, what)) = instead_of {
                    shed.of(limit).of(what).inc();
                }
                Some(entered)
            }
            Err(limit) => {
                shed.of(limit).of(ShedWhat::New).inc();
                None
            }
        }
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

/// By which limit a connection is shed.
pub(crate) type Limit = Shed;
