//! Request bodies on their way in: bounded in length and silence.

use crate::body::{Body, BodyError, UploadFault, UploadState};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A request body under the limits.
pub(super) struct Upload<B> {
    body: B,
    state: UploadState,
    left: u64,
    idle: Duration,
    /// Runs while a frame is waited for.
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<B> Upload<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BodyError>> + Send + Unpin + 'static,
{
    /// Bounds `body` to `limit` bytes (0 is no limit) and silences of `idle`.
    pub(super) fn body(body: B, limit: u64, idle: Duration) -> (Body, UploadState) {
        let state = UploadState::default();
        if body.is_end_stream() {
            return (Body::Empty, state);
        }
        let left = if limit == 0 { u64::MAX } else { limit };
        if body.size_hint().lower() > left {
            state.failed(UploadFault::TooLarge);
        }
        let timer = Box::pin(tokio::time::sleep(idle));
        (Body::stream(Self { body, state: state.clone(), left, idle, timer, waiting: false }), state)
    }

    fn fail(&self, fault: UploadFault, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.state.failed(fault);
        Poll::Ready(Some(Err(error)))
    }
}

impl<B> HttpBody for Upload<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BodyError>> + Send + Unpin + 'static,
{
    type Data = Bytes;
    type Error = BodyError;

    #[expect(clippy::disallowed_methods, reason = "a timer is moved on, no time is kept")]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            if !this.waiting {
                // Only now: until it was asked, the silence was not the client's.
                this.waiting = true;
                this.timer.as_mut().reset(Instant::now() + this.idle);
            }
            return match this.timer.as_mut().poll(cx) {
                Poll::Ready(()) => this.fail(UploadFault::Stalled, BodyError::Stalled),
                Poll::Pending => Poll::Pending,
            };
        };
        this.waiting = false;
        match frame {
            None => Poll::Ready(None),
            Some(Err(error)) => this.fail(UploadFault::Broken, error.into()),
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                if length > this.left {
                    return this.fail(UploadFault::TooLarge, BodyError::TooLarge(this.left));
                }
                this.left -= length;
                this.state.received_more(length);
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
