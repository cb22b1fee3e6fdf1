//! The body of a response on its way into the windows of its stream and connection.
//!
//! A client may leave the window of one stream shut while its connection lives on and answers pings
//! (CVE-2019-9517 and its like). Its response then waits for ever, with the fill that it reads, or with a connection
//! to the origin. So who waits for room waits for a bounded time.

use super::SEND_BUFFER;
use crate::front::conn::Connection;
use crate::front::pace::Pace;
use crate::front::record::ClientBody;
use crate::telemetry::Slowness;
use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as HttpBody;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::{Sleep, sleep};

/// A body that is being sent. Dropped before its end it resets the stream.
pub(super) struct Sending<'a> {
    connection: &'a Connection,
    stream: SendStream<Bytes>,
    body: ClientBody,
    /// What was taken from the body and is not sent.
    piece: Bytes,
    /// Whether nothing follows `piece`.
    is_last: bool,
    /// How fast the client takes it.
    pace: Pace,
    /// Since when it takes nothing.
    waiting_since: Option<Instant>,
    /// Made at the first wait: a response that fits into the window arms none.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<'a> Sending<'a> {
    pub(super) fn new(connection: &'a Connection, stream: SendStream<Bytes>, body: ClientBody) -> Self {
        let pace = Pace::new(connection.limits.response_rate, connection.limits.idle_timeout);
        let (piece, is_last, waiting_since, timer) = (Bytes::new(), false, None, None);
        Self { connection, stream, body, piece, is_last, pace, waiting_since, timer }
    }

    /// Sends what is at hand of the body. Bytes leave this only as the window has room for them, so that nobody is thought
    /// to have taken what he has not.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        while !self.piece.is_empty() {
            let wanted = self.piece.len().min(SEND_BUFFER);
            let room = ready!(self.poll_room(wanted, cx))?;
            let piece = self.piece.split_to(wanted.min(room));
            self.pace.moved(piece.len() as u64);
            self.stream.send_data(piece, self.is_last && self.piece.is_empty())?;
        }
        Poll::Ready(Ok(()))
    }

    /// Bytes that may be sent, more than none.
    fn poll_room(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<Result<usize, h2::Error>> {
        // Only now that there is something to send: room that is kept for later is lost to other streams.
        self.stream.reserve_capacity(wanted);
        loop {
            match self.stream.capacity() {
                0 => {}
                room => {
                    if let Some(since) = self.waiting_since.take() {
                        self.pace.waited(self.waited(since));
                    }
                    return Poll::Ready(Ok(room));
                }
            }
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                // The stream is over.
                Poll::Ready(None) => return Poll::Ready(Err(Reason::CANCEL.into())),
                Poll::Pending => {
                    let slowness = ready!(self.poll_slow(cx));
                    self.body.give_up(slowness);
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(Reason::CANCEL.into()));
                }
            }
        }
    }

    fn waited(&self, since: Instant) -> Duration {
        self.connection.watch.now().saturating_duration_since(since)
    }

    /// Ready when the client has taken nothing, or too little, for too long. The timer is not moved with each wait: the times
    /// are compared when it fires.
    fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<Slowness> {
        let since = *self.waiting_since.get_or_insert_with(|| self.connection.watch.now());
        let idle = self.connection.limits.idle_timeout;
        loop {
            let waited = self.waited(since);
            if waited >= idle {
                return Poll::Ready(Slowness::ResponseStalled);
            }
            if self.pace.is_slow_after(waited) {
                return Poll::Ready(Slowness::ResponseSlow);
            }
            let look = (idle - waited).min(self.pace.left_after(waited));
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(look)));
            ready!(timer.as_mut().poll(cx));
            timer.set(sleep(look));
        }
    }
}

impl Future for Sending<'_> {
    type Output = Result<(), h2::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            ready!(this.poll_piece(cx))?;
            if this.is_last {
                return Poll::Ready(Ok(()));
            }
            let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
                // The client may give up while it is we who keep it waiting.
                return this.stream.poll_reset(cx).map(|reason| Err(reason?.into()));
            };
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => {
                        this.is_last = this.body.is_end_stream();
                        this.piece = piece;
                        if this.is_last && this.piece.is_empty() {
                            return Poll::Ready(this.stream.send_data(Bytes::new(), true));
                        }
                    }
                    Err(frame) => match frame.into_trailers() {
                        Ok(trailers) => {
                            this.stream.reserve_capacity(0);
                            return Poll::Ready(this.stream.send_trailers(trailers));
                        }
                        Err(_of_no_known_kind) => {}
                    },
                },
                Some(Err(_)) => {
                    this.stream.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(Err(Reason::INTERNAL_ERROR.into()));
                }
                None => return Poll::Ready(this.stream.send_data(Bytes::new(), true)),
            }
        }
    }
}
