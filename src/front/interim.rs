//! Interim responses over HTTP/1.1 (RFC 9110 §15.2), which hyper's server cannot send.
//!
//! They are written below it, between its messages. Bytes wait in the [`Outbox`] of the connection while the service
//! still works on the final response; hyper flushes after each call of the service, and flushes its stream only when
//! nothing of its own waits to be written: [`Watched`](super::watch::Watched) then writes them. The final response is
//! held back until all of them are written, so it never comes first, and one that was begun is ended before hyper
//! writes anything else (its own `100 Continue`).

use super::conn::Connection;
use super::record::ClientBody;
use crate::body::{Interim, Interims};
use bytes::{Buf, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// What is to be written between two messages. Bounded by [`INTERIMS_MAX`](crate::body::INTERIMS_MAX) heads, since
/// the next request is answered when this is empty.
#[derive(Default)]
pub(super) struct Outbox {
    waits: AtomicBool,
    heads: Mutex<Heads>,
}

#[derive(Default)]
struct Heads {
    bytes: BytesMut,
    /// Whether some of the first head was written.
    begun: bool,
}

impl Outbox {
    fn put(&self, interim: &Interim) {
        let mut heads = self.heads.lock();
        write_head(&mut heads.bytes, interim.status, &interim.fields);
        self.waits.store(true, Ordering::Release);
    }

    /// Whether anything is to be written.
    pub(super) fn waits(&self) -> bool {
        self.waits.load(Ordering::Acquire)
    }

    /// Whether a head was written in part, so that nothing else may be.
    pub(super) fn has_begun(&self) -> bool {
        self.waits() && self.heads.lock().begun
    }

    /// Writes all of it, and wakes the connection, whose final response may be waiting for that.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut heads = self.heads.lock();
        while !heads.bytes.is_empty() {
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, &heads.bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            heads.bytes.advance(written);
            heads.begun = true;
        }
        *heads = Heads::default();
        self.waits.store(false, Ordering::Release);
        cx.waker().wake_by_ref();
        Poll::Ready(Ok(()))
    }
}

/// Writes the head of a response (RFC 9112 §4).
pub(super) fn write_head(to: &mut BytesMut, status: StatusCode, fields: &HeaderMap) {
    to.extend_from_slice(b"HTTP/1.1 ");
    to.extend_from_slice(status.as_str().as_bytes());
    to.extend_from_slice(b" ");
    to.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    for (name, value) in fields {
        to.extend_from_slice(b"\r\n");
        to.extend_from_slice(name.as_str().as_bytes());
        to.extend_from_slice(b": ");
        to.extend_from_slice(value.as_bytes());
    }
    to.extend_from_slice(b"\r\n\r\n");
}

/// Answers a request, and sends what comes before the response.
pub(super) async fn answer(connection: Arc<Connection>, request: Request<Incoming>) -> Response<ClientBody> {
    let interims = if request.version() < Version::HTTP_11 { Interims::deaf() } else { Interims::default() };
    let outbox = &connection.watch.outbox;
    let mut answer = pin!(connection.answer(request, &interims));
    let mut answered = None;
    poll_fn(|cx| {
        if answered.is_none()
            && let Poll::Ready(response) = answer.as_mut().poll(cx)
        {
            answered = Some(response);
        }
        interims.take().iter().for_each(|interim| outbox.put(interim));
        match answered.take_if(|_| !outbox.waits()) {
            Some(response) => Poll::Ready(response),
            None => Poll::Pending,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http::header::LINK;
    use std::task::Waker;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_head_that_was_begun_is_ended_first() {
        let outbox = Outbox::default();
        assert!(!outbox.waits());
        let mut fields = HeaderMap::new();
        fields.append(LINK, HeaderValue::from_static("</a>; rel=preload"));
        fields.append(LINK, HeaderValue::from_static("</b>; rel=preload"));
        outbox.put(&Interim { status: StatusCode::EARLY_HINTS, fields });
        let (mut near, mut far) = tokio::io::duplex(10);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(!outbox.has_begun(), "it may still be overtaken by what is older");
        let mut read = String::new();
        while outbox.poll_write(&mut near, &mut cx).is_pending() {
            assert!(outbox.has_begun());
            let mut piece = [0; 10];
            let length = far.read(&mut piece).await.unwrap();
            read.push_str(std::str::from_utf8(&piece[..length]).unwrap());
        }
        assert!(!outbox.waits() && !outbox.has_begun());
        drop(near);
        far.read_to_string(&mut read).await.unwrap();
        assert_eq!(
            read,
            "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\nlink: </b>; rel=preload\r\n\r\n"
        );
    }
}
