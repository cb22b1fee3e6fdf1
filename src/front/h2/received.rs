//! The body of a request as its stream brings it.

use super::untaken::{Entry, Untaken};
use crate::body::BodyError;
use bytes::Bytes;
use h2::RecvStream;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, request};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A request body. The client's window opens again by what is taken, so no more than a window is held.
pub(super) struct Received {
    /// `None` if there is no body, or it has ended.
    stream: Option<(RecvStream, Entry)>,
    /// What came together with the head.
    first: Option<Bytes>,
    /// As its head says; h2 sees to it that so many come (RFC 9113 §8.1.1).
    length: Option<u64>,
}

impl Received {
    /// The body behind `head`. That of a CONNECT is none: what would follow is a tunnel, and is refused. Nor is an end that
    /// came together with the head, in an empty frame of its own. Waits for nothing.
    pub(super) async fn new(head: &request::Parts, mut stream: RecvStream, untaken: &Arc<Untaken>) -> Self {
        let mut body = Self { stream: None, first: None, length: None };
        if head.method == Method::CONNECT || stream.is_end_stream() {
            return body;
        }
        // An error comes again when the body is read.
        if let Poll::Ready(Some(Ok(data))) = poll_fn(|cx| Poll::Ready(stream.poll_data(cx))).await {
            if data.is_empty() && stream.is_end_stream() {
                return body;
            }
            body.first = Some(data);
        }
        let entry = untaken.enter(&mut stream);
        (body.stream, body.length) = (Some((stream, entry)), length(&head.headers));
        body
    }
}

fn length(fields: &HeaderMap) -> Option<u64> {
    fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some((stream, _)) = &mut this.stream else { return Poll::Ready(None) };
        let data = match this.first.take() {
            Some(first) => Some(Ok(first)),
            None => ready!(stream.poll_data(cx)),
        };
        let frame = match data {
            Some(data) => {
                let taken = data.and_then(|bytes| {
                    stream.flow_control().release_capacity(bytes.len())?;
                    Ok(bytes)
                });
                if let (Some(length), Ok(bytes)) = (&mut this.length, &taken) {
                    *length = length.saturating_sub(bytes.len() as u64);
                }
                Some(taken.map(Frame::data))
            }
            None => {
                ready!(stream.poll_trailers(cx)).map(|trailers| trailers.map(Frame::trailers)).transpose()
            }
        };
        if !matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
            this.stream = None;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Client)))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(|(stream, _)| self.first.is_none() && stream.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.stream, self.length) {
            (None, _) => SizeHint::with_exact(0),
            (_, Some(length)) => SizeHint::with_exact(length),
            _ => SizeHint::default(),
        }
    }
}
