//! The stream below h2: what passes it is counted, and nothing more is read once there is too much of it.

use crate::front::watch::{Watch, written};
use crate::proto::flood::{Flood, Meter};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the meter found too much of; told to the connection, which h2 does not let reach its stream.
pub(super) type Verdict = OnceLock<Flood>;

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
        if this.verdict.get().is_some() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Err(flood) = this.read(&buf.filled()[before..]) {
            // Nothing is read after the first.
            let _ = this.verdict.set(flood);
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
        this.meter.sent(written(&polled));
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.meter.sent(written(&polled));
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
