//! Request bodies on their way in: bounded in length, silence and slowness.

use super::pace::Pace;
use crate::body::{Body, BodyError, UploadFault, UploadState};
use crate::config::model::Limits;
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
    pace: Pace,
    /// Runs while a frame is waited for.
    timer: Pin<Box<Sleep>>,
    /// Since when a frame is waited for.
    waiting: Option<Instant>,
}

impl<B> Upload<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BodyError>> + Send + Unpin + 'static,
{
    /// Bounds `body` to `body_bytes`, silences of `idle_timeout`, and, until there is an answer, `body_rate`.
    pub(super) fn body(body: B, limits: &Limits) -> (Body, UploadState) {
        let state = UploadState::default();
        if body.is_end_stream() {
            return (Body::Empty, state);
        }
        let left = if limits.body_bytes == 0 { u64::MAX } else { limits.body_bytes };
        if body.size_hint().lower() > left {
            state.failed(UploadFault::TooLarge);
        }
        let idle = limits.idle_timeout;
        let (pace, timer) = (Pace::new(limits.body_rate, idle), Box::pin(tokio::time::sleep(idle)));
        (Body::stream(Self { body, state: state.clone(), left, idle, pace, timer, waiting: None }), state)
    }

    fn fail(&self, fault: UploadFault, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.state.failed(fault);
        Poll::Ready(Some(Err(error)))
    }

    /// Waits for the client, which is at fault if it waits in vain.
    #[expect(clippy::disallowed_methods, reason = "timers are moved on, and their time compared")]
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let since = match self.waiting {
            Some(since) => since,
            None => {
                // Only now: until it was asked, the silence was not the client's.
                let now = Instant::now();
                self.timer.as_mut().reset(now + self.idle.min(self.pace.left_after(Duration::ZERO)));
                *self.waiting.insert(now)
            }
        };
        while self.timer.as_mut().poll(cx).is_ready() {
            let waited = since.elapsed();
            if waited >= self.idle {
                return self.fail(UploadFault::Stalled, BodyError::Stalled);
            }
            if self.is_too_slow(waited) {
                return self.fail(UploadFault::Slow, BodyError::Stalled);
            }
            let left = (self.idle - waited).min(self.pace.left_after(waited));
            self.timer.as_mut().reset(Instant::now() + left);
        }
        Poll::Pending
    }

    /// A client that is being answered may be in a conversation, with pauses of its own.
    fn is_too_slow(&self, waited: Duration) -> bool {
        self.pace.is_slow_after(waited) && !self.state.is_answered()
    }
}

impl<B> HttpBody for Upload<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BodyError>> + Send + Unpin + 'static,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            return this.wait(cx);
        };
        let length = data_length(&frame);
        this.pace.moved(length);
        if let Some(since) = this.waiting.take() {
            this.pace.waited(since.elapsed());
        }
        match frame {
            None => Poll::Ready(None),
            Some(Err(error)) => {
                let error = error.into();
                this.fail(UploadFault::of(&error), error)
            }
            Some(Ok(frame)) => {
                if this.is_too_slow(Duration::ZERO) && !this.body.is_end_stream() {
                    return this.fail(UploadFault::Slow, BodyError::Stalled);
                }
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

fn data_length<E>(frame: &Option<Result<Frame<Bytes>, E>>) -> u64 {
    let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
    data.map_or(0, Bytes::len) as u64
}
