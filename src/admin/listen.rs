//! HTTP/1.1 for both listeners: few connections, short lives, small heads.

use super::live::Taking;
use crate::net::{Listener, Stream};
use crate::task::Spawner;
use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Connections open on one listener; further ones wait in the kernel's queue.
pub(super) const CONNECTIONS_MAX: usize = 128;
/// Time for a whole request head, and for the next request on an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request head.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Age at which a connection is closed, so that slow readers cannot hold all of them. One whose client takes a live
/// answer has as long again.
pub(super) const CONNECTION_AGE_MAX: Duration = Duration::from_secs(300);
/// Time for the request in progress when its connection is to be closed.
const CLOSE_GRACE: Duration = Duration::from_secs(5);
/// Pause after a failed accept, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The address at the other end of a connection, as a request extension.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Serves `router` on `listener` until `spawner` stops; requests in progress then have
/// [`CLOSE_GRACE`].
pub(super) fn serve(mut listener: Listener, router: Router, spawner: &Spawner) {
    let owner = spawner.clone();
    spawner.spawn(async move {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((stream, from)) => {
                    let (router, spawner) = (router.clone(), owner.clone());
                    owner.spawn_graceful(async move {
                        serve_connection(stream, Peer(from), router, spawner).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
}

async fn serve_connection(stream: Stream, peer: Peer, router: Router, spawner: Spawner) {
    let taking = Taking::default();
    let taken = taking.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(taken.clone());
        TowerToHyperService::new(router.clone()).call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = spawner.cancelled() => None,
        () = aged(&taking) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(CLOSE_GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %peer.0, %error, "admin connection ended");
    }
}

/// Ends when the connection is old and no live answer is taken on it.
async fn aged(taking: &Taking) {
    loop {
        tokio::time::sleep(CONNECTION_AGE_MAX).await;
        if !taking.take() {
            return;
        }
    }
}
