//! The body of a response on its way into the windows of its stream and connection.
//!
//! A client may leave the window of one stream shut while its connection lives on and answers pings
//! (CVE-2019-9517 and its like). Its response then waits for ever, with the fill that it reads, or with a connection
//! to the origin. So who waits for room waits for a bounded time.

use super::SEND_BUFFER;
use crate::clock::Clock;
use crate::front::record::ClientBody;
use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as HttpBody;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::{Sleep, sleep};

/// A body that is being sent. Dropped before its end it resets the stream.
pub(super) struct Sending {
    stream: SendStream<Bytes>,
    body: ClientBody,
    /// What was taken from the body and is not sent.
    piece: Bytes,
    /// Whether nothing follows `piece`.
    is_last: bool,
    clock: Clock,
    /// How long the client may take nothing.
    idle: Duration,
    /// Since when it takes nothing.
    waiting_since: Option<Instant>,
    /// Made at the first wait: a response that fits into the window arms none.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Sending {
    pub(super) const fn new(
        stream: SendStream<Bytes>,
        body: ClientBody,
        clock: Clock,
        idle: Duration,
    ) -> Self {
        let (waiting_since, timer) = (None, None);
        Self { stream, body, piece: Bytes::new(), is_last: false, clock, idle, waiting_since, timer }
    }

    /// Sends what is at hand of the body. The last bytes leave this only as the window has room for them, so that
    /// nobody is thought to have taken a response who has not; those before may wait in h2.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        while !self.piece.is_empty() {
            let wanted = self.piece.len().min(SEND_BUFFER);
            let room = ready!(self.poll_room(if self.is_last { wanted } else { 1 }, cx))?;
            let piece = self.piece.split_to(if self.is_last { wanted.min(room) } else { wanted });
            self.stream.send_data(piece, self.is_last && self.piece.is_empty())?;
        }
        Poll::Ready(Ok(()))
    }

    /// Bytes that may be sent, more than none. Where a client is to take a minimum in a time, this is where it is waited for.
    fn poll_room(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<Result<usize, h2::Error>> {
        // Only now that there is something to send: room that is kept for later is lost to other streams.
        self.stream.reserve_capacity(wanted);
        loop {
            match self.stream.capacity() {
                0 => {}
                room => {
                    self.waiting_since = None;
                    return Poll::Ready(Ok(room));
                }
            }
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                // The stream is over.
                Poll::Ready(None) => return Poll::Ready(Err(Reason::CANCEL.into())),
                Poll::Pending => {
                    ready!(self.poll_stall(cx));
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(Reason::CANCEL.into()));
                }
            }
        }
    }

    /// Ready when the client has taken nothing for too long. The timer is not moved with each wait: it is compared with the
    /// start of the present one when it fires.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.waiting_since.get_or_insert_with(|| self.clock.mono());
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.idle)));
        loop {
            ready!(timer.as_mut().poll(cx));
            let waited = self.clock.mono().saturating_duration_since(since);
            if waited >= self.idle {
                return Poll::Ready(());
            }
            timer.set(sleep(self.idle - waited));
        }
    }
}

impl Future for Sending {
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
