//! `shoal origin`: a test origin whose every byte is known beforehand.
//!
//! `/obj/<id>?size=<n>` answers `n` bytes of [`Content`](crate::workload::Content) under its path;
//! `/` is a small website; `/-/stats` says what `/obj/` was asked for. Speaks HTTP/1.1 and HTTP/2
//! without TLS. Nothing here is part of a node.

mod body;
mod condition;
mod object;
mod picture;
mod respond;
mod site;
mod stats;
mod throttle;

use crate::clock::Clock;
use crate::net::{Listener, Stream, Tcp, Transport};
use crate::task::Spawner;
use anyhow::Context as _;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use respond::Responder;
pub(crate) use stats::Counts;
use std::future::Future;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

/// Connections served at a time; further ones wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 16_384;

/// How long a failed accept (descriptors exhausted, mostly) is not repeated.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long connections may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// Answers the tests' and demo's requests as a website's origin would.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    pub listen: SocketAddr,
    /// Body bytes per second over all responses together; unlimited by default.
    #[arg(long, value_name = "BYTES_PER_S")]
    pub rate: Option<NonZeroU64>,
    /// Milliseconds to wait before each response.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub delay: u64,
    /// Threads; one for each core by default.
    #[arg(long, value_name = "N")]
    pub workers: Option<std::num::NonZeroUsize>,
}

/// Runs the origin until SIGINT or SIGTERM. Says `listening http ADDR`, then `ready`, on stdout.
///
/// # Errors
/// If the address cannot be bound.
pub fn main(args: Args) -> anyhow::Result<ExitCode> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = args.workers {
        builder.worker_threads(workers.get());
    }
    builder.enable_all().build()?.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let spawner = Spawner::current();
        let addr = start(&args, Clock::system(), &spawner)
            .with_context(|| format!("cannot listen on {}", args.listen))?;
        // A reader that has gone is no reason to end: the origin still serves.
        drop(writeln!(io::stdout(), "listening http {addr}\nready"));
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        spawner.stop(STOP_LIMIT).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Starts an origin as tasks of `spawner`, which ends it; returns the address it listens on.
///
/// # Errors
/// The operating system's, such as an address in use.
pub fn start(args: &Args, clock: Clock, spawner: &Spawner) -> io::Result<SocketAddr> {
    let listener = Tcp.listen(args.listen)?;
    let addr = listener.local_addr()?;
    let responder = Arc::new(Responder::new(args.rate, Duration::from_millis(args.delay), clock));
    spawner.spawn(accept(listener, responder, spawner.clone()));
    Ok(addr)
}

async fn accept(mut listener: Listener, responder: Arc<Responder>, spawner: Spawner) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(place) = places.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let connection = serve(stream, responder.clone(), spawner.clone());
        spawner.spawn(async move {
            connection.await;
            drop(place);
        });
    }
}

/// Serves one connection to its end; that a client goes away is its affair.
async fn serve(stream: Stream, responder: Arc<Responder>, spawner: Spawner) {
    let answer = service_fn(move |request| {
        let responder = responder.clone();
        async move { Ok::<_, std::convert::Infallible>(responder.answer(&request).await) }
    });
    let server = auto::Builder::new(OnSpawner(spawner));
    drop(server.serve_connection(TokioIo::new(stream), answer).await);
}

/// Lets hyper spawn the streams of an HTTP/2 connection as tasks with an owner.
#[derive(Clone)]
struct OnSpawner(Spawner);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for OnSpawner {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

#[cfg(test)]
mod tests;
