//! The stream below h2: what passes it is counted, and nothing more is read once there is too much of it.

use crate::front::watch::Watch;
use crate::proto::flood::{Flood, Meter};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the meter found; told to the connection, which h2 does not let reach its stream.
#[derive(Default)]
pub(super) struct Verdict(AtomicU8);

impl Verdict {
    /// What there was too much of, if there was.
    pub(super) fn flood(&self) -> Option<Flood> {
        let found = self.0.load(Ordering::Relaxed).checked_sub(1)?;
        Flood::ALL.get(usize::from(found)).copied()
    }

    fn is(&self, flood: Flood) {
        self.0.store(flood as u8 + 1, Ordering::Relaxed);
    }
}

/// A stream whose frames are counted. The task that reads it is the one that looks at the verdict.
pub(super) struct Metered<S> {
    stream: S,
    meter: Meter,
    watch: Arc<Watch>,
    verdict: Arc<Verdict>,
    in_head: bool,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S, watch: Arc<Watch>, verdict: Arc<Verdict>) -> Self {
        Self { stream, meter: Meter::default(), watch, verdict, in_head: false }
    }

    /// Looks at what was read. A head that has not ended is timed from here on.
    fn read(&mut self, bytes: &[u8]) -> Result<(), Flood> {
        let watch = &self.watch;
        self.meter.received(bytes, || watch.now())?;
        if self.meter.is_in_head() != self.in_head {
            self.in_head = !self.in_head;
            watch.is_in_head(self.in_head);
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.verdict.flood().is_some() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Err(flood) = this.read(&buf.filled()[before..]) {
            this.verdict.is(flood);
            buf.set_filled(before);
            return Poll::Pending;
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = polled {
            this.meter.sent(written);
        }
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(written)) = polled {
            this.meter.sent(written);
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
