//! Clients that speak HTTP/2 (RFC 9113), on the `h2` crate itself: framing, fields, flow control and the rules on
//! single messages are its own; which streams are served, how, and for how long is decided here.
//!
//! ```text
//! Watched ── Metered (floods) ── h2 ── Serving ── a stream: answer ── Sending
//! ```
//! A stream is polled first where its head was read, together with all others that came in the same read. A hit is then
//! complete, and the responses of all leave in few writes. What has to wait goes on as a task of the worker.

mod metered;
mod received;
mod sending;
mod stream;
mod untaken;

pub(super) use untaken::Untaken;

use super::conn::{Connection, Io, Parting};
use crate::config::model::Limits;
use crate::proto::flood::Flood;
use crate::serve::Refusal;
use bytes::Bytes;
use h2::server::{self, Builder, Handshake, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::Request;
use metered::{Metered, Verdict};
use smallvec::SmallVec;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// Interval of keep-alive pings, and how long an answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Streams that a peer may have reset before we saw them (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;
/// Stream errors of the peer's making before the connection is closed (CVE-2025-8671).
const LOCAL_RESETS_MAX: usize = 100;
/// How long a stream that ended before its upload is remembered, at most. A client that was answered early, or refused, goes
/// on sending until it hears of it, which is no error (RFC 9113 §5.4.2): a round trip, and what its own queues hold.
const REMEMBERED_TIME: Duration = Duration::from_secs(10);
/// Streams that are remembered so, at least; at least two for each that may be open. One more is forgotten at once, and what
/// still comes on it is held against its client ([`LOCAL_RESETS_MAX`]). Some hundred bytes each.
const REMEMBERED_MIN: usize = 1024;
/// Bytes that a stream buffers for sending.
const SEND_BUFFER: usize = 256 << 10;
/// Bytes that a client may send ahead on one stream. Less than on all, so that an upload that nobody takes leaves room for
/// others.
const STREAM_WINDOW: u32 = 256 << 10;
/// Bytes that it may send ahead on all streams of a connection: what one connection can make this node hold of its uploads.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// What h2 counts for each field beside its name and value (RFC 9113 §10.5.1); the limits of this node count
/// [`FIELD_WEIGHT`].
const FIELD_WEIGHT_H2: usize = 32;
/// As on an HTTP/1.1 wire: `: ` and CRLF.
const FIELD_WEIGHT: usize = 4;
/// Bytes by which a head may pass the limits of this node before h2 refuses it, of its own and without a word to the log: one
/// frame. The target, which has a limit of its own, and the other pseudo-fields are within.
const HEAD_SLACK: usize = 16 << 10;
/// Streams that are read before the first of them is answered; room for them is held on the stack.
const ROUND: usize = 8;

type Stream = Metered<Io>;
type Accepted = (Request<RecvStream>, SendResponse<Bytes>);

/// Serves a connection to its end.
pub(super) async fn serve(connection: Arc<Connection>, io: Io) {
    let verdict = Arc::new(Verdict::default());
    let io = Metered::new(io, Arc::clone(&connection.watch), Arc::clone(&verdict));
    let state = State::Handshake(settings(&connection.limits).handshake(io));
    let leaving = Leaving::No;
    let mut serving = pin!(Serving { connection: Arc::clone(&connection), verdict, state, leaving });
    connection.drive(serving.as_mut(), |serving, parting| serving.get_mut().part(parting)).await;
}

fn settings(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.http2_streams)
        .max_header_list_size(head_bytes(limits))
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_concurrent_reset_streams(REMEMBERED_MIN.max(2 * limits.http2_streams as usize))
        .reset_stream_duration(REMEMBERED_TIME)
        .max_local_error_reset_streams(Some(LOCAL_RESETS_MAX))
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

/// Bytes of a head, as h2 counts them, from which on it is not even looked at. `route` judges what is below, as of a client
/// that speaks HTTP/1.1, so it is more than any head that it lets pass.
fn head_bytes(limits: &Limits) -> u32 {
    let fields = limits.header_count.saturating_mul(FIELD_WEIGHT_H2 - FIELD_WEIGHT);
    let bytes = limits.header_bytes.saturating_add(fields);
    u32::try_from(bytes.saturating_add(limits.uri_bytes).saturating_add(HEAD_SLACK)).unwrap_or(u32::MAX)
}

/// A connection from its settings to its end.
struct Serving {
    connection: Arc<Connection>,
    verdict: Arc<Verdict>,
    state: State,
    leaving: Leaving,
}

enum State {
    Handshake(Handshake<Stream, Bytes>),
    Open(server::Connection<Stream, Bytes>, Option<Pings>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// New streams are served.
    No,
    /// The client is told to open no more; those that it has opened are served.
    InOrder,
    /// Nothing is served any more.
    AtOnce,
}

impl Serving {
    /// Whether the client is told.
    fn part(&mut self, parting: Parting) -> bool {
        match parting {
            Parting::InOrder => self.leave(),
            Parting::AtOnce => self.abandon(),
        }
        matches!(self.state, State::Open(..))
    }

    /// Serves what the client has asked so far, and nothing that it asks later.
    fn leave(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::InOrder;
            if let State::Open(open, _) = &mut self.state {
                open.graceful_shutdown();
            }
        }
    }

    /// Serves nothing more, and tells the client which of its requests were served (RFC 9113 §6.8).
    fn abandon(&mut self) {
        if let State::Open(open, _) = &mut self.state {
            self.leaving = Leaving::AtOnce;
            open.abrupt_shutdown(Reason::NO_ERROR);
        }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let State::Open(open, pings) = &mut self.state else { return Poll::Pending };
        // Each round answers what was read, and sends the answers. The runtime's budget for reads bounds them.
        loop {
            if self.leaving == Leaving::AtOnce {
                return open.poll_closed(cx);
            }
            let (round, ended) = accept(open, cx);
            if let Some(flood) = self.verdict.get().copied() {
                self.connection.flooded(flood);
                self.leaving = Leaving::AtOnce;
                open.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                continue;
            }
            let answers = !round.is_empty();
            for (request, respond) in round {
                stream::begin(&self.connection, request, respond, cx);
            }
            if let Some(ended) = ended {
                return Poll::Ready(ended.inspect_err(|error| self.connection.ended_by(error)));
            }
            if !answers {
                break;
            }
        }
        if pings.as_mut().is_some_and(|pings| pings.poll_silence(cx).is_ready()) {
            tracing::debug!(from = %self.connection.client.from, "no answer to a ping");
            self.leaving = Leaving::AtOnce;
            open.abrupt_shutdown(Reason::NO_ERROR);
            return open.poll_closed(cx);
        }
        Poll::Pending
    }
}

/// The streams that are there to be answered, and the end of the connection if it came.
fn accept(
    open: &mut server::Connection<Stream, Bytes>,
    cx: &mut Context<'_>,
) -> (SmallVec<[Accepted; ROUND]>, Option<Result<(), h2::Error>>) {
    let mut round = SmallVec::new();
    // Ends: no more streams are open than may be, and those that the client resets meanwhile are counted.
    loop {
        match open.poll_accept(cx) {
            Poll::Ready(Some(Ok(accepted))) => round.push(accepted),
            Poll::Ready(Some(Err(error))) => return (round, Some(Err(error))),
            Poll::Ready(None) => return (round, Some(Ok(()))),
            Poll::Pending => return (round, None),
        }
    }
}

impl Future for Serving {
    type Output = Result<(), h2::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let State::Handshake(handshake) = &mut this.state {
            let mut open = ready!(Pin::new(handshake).poll(cx))?;
            if this.leaving == Leaving::InOrder {
                open.graceful_shutdown();
            }
            let pings = open.ping_pong().map(Pings::new);
            this.state = State::Open(open, pings);
        }
        this.poll_open(cx)
    }
}

impl Connection {
    fn flooded(&self, flood: Flood) {
        self.front.worker.node.metrics.node.clients.floods.of(flood).inc();
        tracing::debug!(from = %self.client.from, flood = flood.as_str(), "connection closed");
    }

    /// Counts what h2 itself found too much of.
    fn ended_by(&self, error: &h2::Error) {
        if !error.is_library() {
            return;
        }
        match error.reason() {
            Some(Reason::ENHANCE_YOUR_CALM) => self.flooded(Flood::Broken),
            // Of a head that is far too long and goes on; one that does not unpack breaks the protocol.
            Some(Reason::COMPRESSION_ERROR) => {
                self.count_refusal(Refusal::FieldsTooLarge);
                tracing::debug!(from = %self.client.from, "request head far too large, connection closed");
            }
            _ => {}
        }
    }
}

/// Keep-alive pings: a peer that is gone without a word is noticed.
struct Pings {
    pings: PingPong,
    waiting: bool,
    timer: Pin<Box<Sleep>>,
}

impl Pings {
    fn new(pings: PingPong) -> Self {
        Self { pings, waiting: false, timer: Box::pin(sleep(PING_INTERVAL)) }
    }

    /// Ready when a ping was not answered in time.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting && self.pings.poll_pong(cx).is_ready() {
            self.waiting = false;
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            // A ping that cannot be sent belongs to a connection that is ending.
            if self.waiting || self.pings.send_ping(Ping::opaque()).is_err() {
                return Poll::Ready(());
            }
            self.waiting = self.pings.poll_pong(cx).is_pending();
            self.timer.set(sleep(PING_INTERVAL));
        }
        Poll::Pending
    }
}
