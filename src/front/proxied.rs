//! Who a connection is from that a proxy hands on: its address is told ahead of all else, by the PROXY protocol.

use super::Front;
use super::gate::Entered;
use crate::config::model::Limits;
use crate::net::Stream;
use crate::proto::proxy::{self, Fault, Read};
use crate::telemetry::ProxyFailure;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::AsyncReadExt;

/// Reads the header in `header_timeout`; no byte behind it. The client's address, and the place of the connection among
/// those of that address; `None` if the connection is to be closed.
///
/// Who is in no trusted network is not read at all: its header would be as good as any, and to take it for a client
/// itself would let clients by the proxy, and what that enforces, at an address that is meant for it alone.
pub(super) async fn client(
    front: &Arc<Front>,
    limits: &Limits,
    stream: &mut Stream,
    from: SocketAddr,
    entered: Entered,
) -> Option<(SocketAddr, Entered)> {
    let told = if front.worker.node.snapshot.load().config.trusts(from.ip()) {
        let header = tokio::time::timeout(limits.header_timeout, header(stream));
        entered.unless_told(header).await?.unwrap_or(Err(ProxyFailure::Timeout))
    } else {
        Err(ProxyFailure::Untrusted)
    };
    match told {
        // The proxy speaks for itself, as in its checks, or does not know.
        Ok(None) => Some((from, entered)),
        Ok(Some(client)) => {
            let caps = front.caps(Some(client.ip()));
            Some((client, front.admitted(entered.of_client(client.ip(), caps))?))
        }
        Err(failure) => {
            front.worker.node.metrics.node.clients.proxy_failures.of(failure).inc();
            tracing::debug!(%from, reason = failure.as_str(), "PROXY header");
            None
        }
    }
}

async fn header(stream: &mut Stream) -> Result<Option<SocketAddr>, ProxyFailure> {
    // At most `proxy::LENGTH_MAX`, beyond which nothing is asked for.
    let mut bytes = Vec::new();
    loop {
        let more = match proxy::read(&bytes).map_err(failure)? {
            Read::Whole { client } => return Ok(client),
            Read::Needs(more) => more,
        };
        // All of these belong to the header, so what follows stays where it is.
        match (&mut *stream).take(more as u64).read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return Err(ProxyFailure::Closed),
            Ok(_) => {}
        }
    }
}

const fn failure(fault: Fault) -> ProxyFailure {
    match fault {
        Fault::Missing => ProxyFailure::Missing,
        Fault::Malformed => ProxyFailure::Malformed,
        Fault::TooLong => ProxyFailure::TooLong,
        Fault::Checksum => ProxyFailure::Checksum,
        Fault::Unsupported => ProxyFailure::Unsupported,
    }
}
