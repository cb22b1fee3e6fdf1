//! Request bodies on their way in: bounded in length, silence and slowness.

use super::h2::Untaken;
use super::pace::Pace;
use crate::body::{Body, BodyError, UploadFault, UploadState};
use crate::config::model::Limits;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How often within `idle_timeout` it is looked whether a client over HTTP/2 has room to send.
const LOOKS: u32 = 8;

/// A request body under the limits.
pub(super) struct Upload<B> {
    body: B,
    state: UploadState,
    left: u64,
    idle: Duration,
    pace: Pace,
    /// Runs while a frame is waited for.
    timer: Pin<Box<Sleep>>,
    /// Set while a frame is waited for.
    waiting: Option<Waiting>,
    /// Over HTTP/2: what its client has sent on all streams and is not taken.
    untaken: Option<Arc<Untaken>>,
}

/// A client that is waited for.
struct Waiting {
    /// Since when, moved on by the time in which it had no room to send.
    since: Instant,
    /// When it was last looked whether it has room, and what was seen.
    looked: Instant,
    has_room: bool,
}

impl Waiting {
    /// For how long the client has been waited for. The time between two looks is its own if it had room at both.
    fn look(&mut self, has_room: bool) -> Duration {
        let more = self.looked.elapsed();
        self.looked += more;
        if !(self.has_room && has_room) {
            self.since += more;
        }
        self.has_room = has_room;
        self.looked - self.since
    }
}

impl<B> Upload<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BodyError>> + Send + Unpin + 'static,
{
    /// Bounds `body` to `body_bytes`, silences of `idle_timeout`, and, until there is an answer, `body_rate`. While what is
    /// `untaken` leaves the client no room to send, it is not silent.
    pub(super) fn body(body: B, limits: &Limits, untaken: Option<&Arc<Untaken>>) -> (Body, UploadState) {
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
        let (waiting, untaken) = (None, untaken.cloned());
        let upload = Self { body, state: state.clone(), left, idle, pace, timer, waiting, untaken };
        (Body::stream(upload), state)
    }

    fn fail(&self, fault: UploadFault, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.state.failed(fault);
        Poll::Ready(Some(Err(error)))
    }

    /// Waits for the client, which is at fault if it waits in vain.
    #[expect(clippy::disallowed_methods, reason = "timers are moved on, and their time compared")]
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let look = if self.untaken.is_some() { self.idle / LOOKS } else { self.idle };
        if self.waiting.is_none() {
            // Only now: until it was asked, the silence was not the client's.
            let now = Instant::now();
            self.waiting = Some(Waiting { since: now, looked: now, has_room: true });
            self.timer.as_mut().reset(now + look.min(self.pace.left_after(Duration::ZERO)));
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let has_room = self.untaken.as_ref().is_none_or(|untaken| untaken.leaves_room());
            let waited = self.waiting.as_mut().map_or(Duration::ZERO, |waiting| waiting.look(has_room));
            if waited >= self.idle {
                return self.fail(UploadFault::Stalled, BodyError::Stalled);
            }
            if self.is_too_slow(waited) {
                return self.fail(UploadFault::Slow, BodyError::Stalled);
            }
            let left = look.min(self.idle - waited).min(self.pace.left_after(waited));
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
        if let Some(mut waiting) = this.waiting.take() {
            this.pace.waited(waiting.look(waiting.has_room));
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
