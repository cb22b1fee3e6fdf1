//! What a client sends over HTTP/1, judged before hyper reads it.
//!
//! The bytes are read into hyper's buffer and judged there by [`Framing`]; hyper is given one message at a time, a head
//! only when it is complete and unambiguous, and nothing of the next before the response to this one is on its way in
//! full. So there is no byte that hyper could read as a request and this node as something else, what follows an upgrade
//! request stays here until the protocol is switched, and a refusal is always the next thing to be said.
//!
//! ```text
//! Open ── ambiguous before a message ──> Refused: answered here, then closed
//!   ├──── ambiguous within a body ─────> Broken: the body fails, which is answered as a failed upload
//!   └──── 101 was sent ────────────────> Tunnel: nothing is judged any more
//! ```
//!
//! While a request is answered the client is read from all the same, so that it is seen to leave. A reset ends its request at
//! once. So does the end of what it sends, since a client that has closed and one that has only ended its writing cannot be
//! told apart, unless a whole further request came before: such a client waits for more than one answer, and gets them in
//! order, until only the last is left. The mere beginning of a request, or what is none, changes nothing.

use super::conn::{Connection, Io};
use super::farewell::{Farewell, Linger};
use super::watch::Call;
use crate::proto::framing::{Fault, Framing, Limits};
use crate::serve::Refusal;
use bytes::{Buf, BytesMut};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes behind a request that are kept while it is answered: as much as a head of the usual limits may have. A client that
/// sends more ahead is read from again when it is answered, and not seen to leave before.
const EARLY_MAX: usize = 64 << 10;

/// The stream of an HTTP/1 connection as hyper sees it.
pub(super) struct Strict {
    io: Io,
    connection: Arc<Connection>,
    framing: Framing,
    /// Read and not passed on: the beginning of a head, or what follows a message that is not answered yet. Bounded by
    /// the limits on a head or [`EARLY_MAX`], and by what hyper reads at once.
    held: BytesMut,
    /// How many of the bytes held may be passed on.
    granted: usize,
    /// Whether the other bytes held were judged and found to lack what follows.
    starved: bool,
    /// Messages of which hyper was given anything.
    passed: u64,
    /// Messages whose responses were sent in full.
    settled: u64,
    phase: Phase,
    at_end: bool,
    linger: Option<Linger>,
}

enum Phase {
    Open,
    Refused(Box<Farewell>),
    Broken(Fault),
    Tunnel,
    /// Ends without a word.
    Closed,
}

impl Strict {
    pub(super) fn new(io: Io, connection: Arc<Connection>) -> Self {
        let limits = &connection.limits;
        let framing = Framing::new(Limits {
            target_bytes: limits.uri_bytes,
            field_bytes: limits.header_bytes,
            fields: limits.header_count,
        });
        connection.watch.listens();
        Self {
            io,
            connection,
            framing,
            held: BytesMut::new(),
            granted: 0,
            starved: false,
            passed: 0,
            settled: 0,
            phase: Phase::Open,
            at_end: false,
            linger: None,
        }
    }

    /// Reads and judges until there is something to pass on, or an end.
    fn poll_judged(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.phase {
                Phase::Open => {}
                Phase::Refused(farewell) => return farewell.poll_gone(&mut self.io, cx).map(Ok),
                Phase::Broken(fault) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, *fault)));
                }
                Phase::Tunnel => return self.poll_raw(cx, buf),
                Phase::Closed => return Poll::Ready(Ok(())),
            }
            if self.granted > 0 {
                self.give(buf);
                return Poll::Ready(Ok(()));
            }
            if self.framing.is_between() {
                self.heed();
                if !matches!(self.phase, Phase::Open) {
                    continue;
                }
                if self.settled != self.passed {
                    return self.poll_early(cx, buf);
                }
            }
            if !self.held.is_empty() && !self.starved {
                self.judge_held();
            } else if ready!(self.poll_fresh(cx, buf))? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Does what the connection was called to do, if it was.
    fn heed(&mut self) {
        match self.connection.watch.call() {
            Call::Nothing => {}
            Call::Tunnel if self.settled == self.passed => self.phase = Phase::Tunnel,
            Call::Tunnel => {}
            Call::Late if self.settled == self.passed && self.starved => {
                let held = std::mem::take(&mut self.held);
                self.refuse(Refusal::SlowHead, &held);
            }
            Call::Late => self.phase = Phase::Closed,
        }
    }

    /// Judges what was held back.
    fn judge_held(&mut self) {
        if self.framing.is_between() {
            self.connection.watch.was_read();
        }
        match self.framing.take(&self.held) {
            Ok(taken) => (self.granted, self.starved) = (taken.length, taken.wants_more),
            Err(fault) => {
                let held = std::mem::take(&mut self.held);
                self.found(fault, &held);
            }
        }
    }

    /// Reads from the client and judges in place. Whether there is something to pass on, be it the end.
    fn poll_fresh(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        if read.is_empty() {
            self.at_end = true;
            return Poll::Ready(Ok(true));
        }
        if self.starved {
            self.held.extend_from_slice(read);
            self.starved = false;
            buf.set_filled(before);
            return Poll::Ready(Ok(false));
        }
        match self.framing.take(read) {
            Ok(taken) if taken.length == read.len() => {
                self.passed = self.framing.messages();
                Poll::Ready(Ok(true))
            }
            Ok(taken) => {
                self.held.extend_from_slice(&read[taken.length..]);
                self.starved = taken.wants_more;
                self.passed = self.framing.messages();
                buf.set_filled(before + taken.length);
                Poll::Ready(Ok(taken.length > 0))
            }
            Err(fault) => {
                let read = read.to_vec();
                buf.set_filled(before);
                self.found(fault, &read);
                Poll::Ready(Ok(false))
            }
        }
    }

    /// Passes on bytes that were held and judged.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let length = self.granted.min(buf.remaining());
        buf.put_slice(&self.held[..length]);
        self.held.advance(length);
        self.granted -= length;
        self.passed = self.framing.messages();
    }

    /// Reads while a request is being answered: to see whether its client leaves. What comes is kept.
    fn poll_early(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        while self.held.len() < EARLY_MAX {
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
            let read = &buf.filled()[before..];
            if read.is_empty() {
                self.at_end = true;
                return if self.holds_request() { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
            self.held.extend_from_slice(read);
            self.starved = false;
            buf.set_filled(before);
        }
        // Woken when the response was sent.
        Poll::Pending
    }

    /// Whether a further request was read, with a complete head.
    fn holds_request(&self) -> bool {
        let next = Framing::new(self.framing.limits()).take(&self.held);
        next.is_ok_and(|taken| taken.length > 0)
    }

    fn poll_raw(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        self.granted = self.held.len();
        self.give(buf);
        Poll::Ready(Ok(()))
    }

    /// Refuses what has no single meaning.
    fn found(&mut self, fault: Fault, seen: &[u8]) {
        if self.passed == self.settled {
            self.refuse(fault.into(), seen);
        } else {
            // Its head is with hyper. No end of the body follows, so that its request is never completed anywhere.
            self.connection.count_refusal(fault.into());
            self.phase = Phase::Broken(fault);
        }
    }

    fn refuse(&mut self, refusal: Refusal, seen: &[u8]) {
        self.phase = Phase::Refused(Box::new(Farewell::new(&self.connection, refusal, seen)));
    }

    /// Whether hyper writes what it was told to. Else it is its own word on a head that it cannot read, which comes
    /// when all is answered; it is said here in its stead.
    fn is_told(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let begun = self.connection.watch.begun();
        if begun == self.passed && begun != self.settled {
            return Ok(true);
        }
        if matches!(self.phase, Phase::Tunnel) || self.connection.watch.call() == Call::Tunnel {
            return Ok(true);
        }
        if begun > self.passed {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a request of bytes that are none"));
        }
        if matches!(self.phase, Phase::Open) {
            let refusal = match bytes.get(9..12) {
                Some(b"431") => Refusal::FieldsTooLarge,
                Some(b"414") => Refusal::UriTooLong,
                _ => Refusal::Malformed,
            };
            self.refuse(refusal, &[]);
        }
        Ok(false)
    }

    /// Whether the client may have sent what nobody read.
    fn is_unread(&self) -> bool {
        let is_open = matches!(self.phase, Phase::Open | Phase::Broken(_));
        is_open && !self.at_end && (!self.held.is_empty() || !self.framing.is_between())
    }
}

impl AsyncRead for Strict {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_judged(cx, buf)
    }
}

impl AsyncWrite for Strict {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_told(buf)? {
            return Pin::new(&mut this.io).poll_write(cx, buf);
        }
        Poll::Ready(Ok(buf.len()))
    }

    /// hyper flushes when it has nothing more to write: then all that was begun and ended is sent in full.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Phase::Refused(farewell) = &mut this.phase {
            return farewell.poll_sent(&mut this.io, cx).map(Ok);
        }
        ready!(Pin::new(&mut this.io).poll_flush(cx))?;
        if this.settled != this.passed && this.connection.watch.ended() == this.passed {
            this.settled = this.passed;
            if !this.held.is_empty() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Phase::Refused(farewell) = &mut this.phase {
            return farewell.poll_gone(&mut this.io, cx).map(Ok);
        }
        if this.linger.is_some() || this.is_unread() {
            return this.linger.get_or_insert_default().poll(&mut this.io, cx).map(Ok);
        }
        Pin::new(&mut this.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_told(bufs.first().map_or(&[], |first| first))? {
            return Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        }
        Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
