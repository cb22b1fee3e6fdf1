//! One worker's HTTP/1.1 client: a kept connection to each target, driven by the worker's own task.

use super::tally::Failure;
use super::targets::Target;
use super::verdict::Seen;
use crate::clock::Clock;
use crate::net::{Net, Stream};
use crate::workload::{Content, Object};
use bytes::Bytes;
use http::header::HOST;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long nothing may come, before the head or within the body.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// A target that cut an answer is tried after these times, to tell one that died from one that
/// lives: a dying process may close its connections before its listener.
const DEATH_CHECKS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(50), Duration::from_millis(250)];

/// What one attempt came to.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// A complete, correct answer of this many bytes.
    Done { seen: Seen, bytes: u64, head_at: Instant },
    /// The target refused the connection, or did not accept it in time. Nothing was sent.
    Refused,
    /// The connection ended before any byte of an answer.
    NoByte,
    /// The connection ended within the answer.
    Cut,
    /// The answer, or its absence, is wrong.
    Wrong(Failure),
}

/// Keeps at most one connection to each target. Used by one task.
pub(crate) struct Client {
    net: Net,
    clock: Clock,
    connections: Vec<Option<Connection>>,
    verify: bool,
}

struct Connection {
    sender: http1::SendRequest<Empty<Bytes>>,
    driver: Driver,
    /// Bytes that have come, to tell whether an answer had begun.
    received: Arc<AtomicU64>,
}

/// The connection's own work, until it has ended.
type Driver = Option<Pin<Box<http1::Connection<TokioIo<Metered>, Empty<Bytes>>>>>;

impl Client {
    /// A client for `targets` targets that checks bodies if `verify`.
    pub(crate) fn new(net: Net, clock: Clock, targets: usize, verify: bool) -> Self {
        Self { net, clock, connections: (0..targets).map(|_| None).collect(), verify }
    }

    /// Asks `target`, the one of this index, for `object`. Dropping the future drops the connection.
    pub(crate) async fn attempt(&mut self, index: usize, target: &Target, object: Object) -> Attempt {
        let connection = match self.connections[index].take() {
            Some(mut kept) => kept.ready().await.then_some(kept),
            None => None,
        };
        let mut connection = match connection {
            Some(kept) => kept,
            None => match self.connect(target).await {
                Some(new) => new,
                None => return Attempt::Refused,
            },
        };
        let before = connection.received.load(Relaxed);
        let (attempt, reusable) = self.exchange(&mut connection, target, object).await;
        if reusable {
            self.connections[index] = Some(connection);
            return attempt;
        }
        match attempt {
            Attempt::Cut if connection.received.load(Relaxed) == before => Attempt::NoByte,
            other => other,
        }
    }

    async fn connect(&mut self, target: &Target) -> Option<Connection> {
        let stream = tokio::time::timeout(CONNECT_LIMIT, self.net.connect(target.addr)).await.ok()?.ok()?;
        let received = Arc::new(AtomicU64::new(0));
        let metered = Metered { stream, received: received.clone() };
        let (sender, driver) = http1::handshake(TokioIo::new(metered)).await.ok()?;
        Some(Connection { sender, driver: Some(Box::pin(driver)), received })
    }

    /// Sends the request and reads the answer; says, too, whether the connection can be used again.
    async fn exchange(
        &mut self,
        connection: &mut Connection,
        target: &Target,
        object: Object,
    ) -> (Attempt, bool) {
        let path = object.path();
        let request = Request::get(format!("{path}?size={}", object.size)).header(HOST, target.host.clone());
        let request = request.body(Empty::new()).expect("digits make a valid URI");
        let send = connection.sender.send_request(request);
        let response = match silence_limited(drive(&mut connection.driver, send)).await {
            None => return (Attempt::Wrong(Failure::Timeout), false),
            Some(Err(_)) => return (Attempt::Cut, false),
            Some(Ok(response)) => response,
        };
        let head_at = self.clock.now().mono;
        let (status, seen) = (response.status(), Seen::of(response.headers()));
        if status != StatusCode::OK {
            return (Attempt::Wrong(Failure::Status(status.as_u16())), false);
        }
        let content = self.verify.then(|| Content::of(&path));
        match receive(&mut connection.driver, response, content).await {
            Ok(bytes) if bytes == object.size => (Attempt::Done { seen, bytes, head_at }, true),
            Ok(came) => (Attempt::Wrong(Failure::Length { came }), true),
            Err(attempt) => (attempt, false),
        }
    }

    /// Whether the target no longer accepts connections.
    pub(crate) async fn has_died(&mut self, target: &Target) -> bool {
        for wait in DEATH_CHECKS {
            tokio::time::sleep(wait).await;
            if self.connect(target).await.is_none() {
                return true;
            }
        }
        false
    }
}

impl Connection {
    /// Waits until the next request can be sent; false if the connection has ended.
    async fn ready(&mut self) -> bool {
        let ready = drive(&mut self.driver, self.sender.ready());
        matches!(silence_limited(ready).await, Some(Ok(())))
    }
}

/// Reads and checks the body; the number of its bytes.
async fn receive(
    driver: &mut Driver,
    response: Response<Incoming>,
    content: Option<Content>,
) -> Result<u64, Attempt> {
    let mut body = response.into_body();
    let mut offset = 0;
    loop {
        let frame = match silence_limited(drive(driver, body.frame())).await {
            None => return Err(Attempt::Wrong(Failure::Timeout)),
            Some(Some(Err(_))) => return Err(Attempt::Cut),
            Some(None) => return Ok(offset),
            Some(Some(Ok(frame))) => frame,
        };
        let Ok(piece) = frame.into_data() else { continue };
        if content.is_some_and(|content| !content.matches(offset, &piece)) {
            return Err(Attempt::Wrong(Failure::Content { offset }));
        }
        offset += piece.len() as u64;
    }
}

/// Polls `future` and the connection that it depends on in one task, which spares the wake-ups of
/// a second one. When the connection has ended, the future learns it by its own means.
async fn drive<F: Future>(driver: &mut Driver, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(output);
        }
        if driver.as_mut().is_some_and(|connection| connection.as_mut().poll(cx).is_ready()) {
            *driver = None;
        }
        future.as_mut().poll(cx)
    })
    .await
}

async fn silence_limited<F: Future>(future: F) -> Option<F::Output> {
    tokio::time::timeout(SILENCE_LIMIT, future).await.ok()
}

/// A stream that counts what it has read.
struct Metered {
    stream: Stream,
    received: Arc<AtomicU64>,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.received.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        result
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
