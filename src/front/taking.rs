//! Whether the client of an HTTP/2 stream takes its response.
//!
//! A client may leave the window of one stream shut while its connection lives on and answers pings
//! (CVE-2019-9517 and its like). Its response then waits for ever, with the fill that it reads, or with
//! a connection to the origin. Nothing of that is seen on the wire, only in who is to act next: hyper asks
//! a body for its next frame when the window has room, so after each frame it is the client's turn until
//! the next is asked for.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Sleep, sleep};

tokio::task_local! {
    /// Of the stream whose task runs. hyper makes the task and calls the service within it, and has no
    /// other way to take something along.
    static STREAM: Arc<Turn>;
}

/// Who is to act next, as a number that grows with each change: odd when it is the client.
#[derive(Debug, Default)]
pub(super) struct Turn(AtomicU64);

impl Turn {
    /// The turn of the stream whose task runs, if that is one of HTTP/2.
    pub(super) fn of_this_stream() -> Option<Arc<Self>> {
        STREAM.try_with(Arc::clone).ok()
    }

    /// A frame was handed out.
    pub(super) fn is_the_clients(&self) {
        self.0.fetch_add(2, Ordering::Relaxed);
        self.0.fetch_or(1, Ordering::Relaxed);
    }

    /// A frame was asked for and is not there yet.
    pub(super) fn is_ours(&self) {
        self.0.fetch_and(!1, Ordering::Relaxed);
    }

    fn now(&self) -> Option<u64> {
        let turn = self.0.load(Ordering::Relaxed);
        (turn & 1 == 1).then_some(turn)
    }
}

/// Runs the task of a stream. It is dropped, which resets the stream, when its client took nothing for
/// longer than `idle`.
pub(super) async fn guarded<F: Future<Output = ()>>(stream: F, idle: Duration) {
    let turn = Arc::new(Turn::default());
    let mut stream = pin!(STREAM.scope(Arc::clone(&turn), stream));
    let mut waiting: Option<(u64, Pin<Box<Sleep>>)> = None;
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(now) = turn.now() else {
            waiting = None;
            return Poll::Pending;
        };
        // A response that fits into the window never comes here, and arms no timer.
        if waiting.as_ref().is_none_or(|(since, _)| *since != now) {
            waiting = Some((now, Box::pin(sleep(idle))));
        }
        waiting.as_mut().map_or(Poll::Pending, |(_, timer)| timer.as_mut().poll(cx))
    })
    .await;
}
