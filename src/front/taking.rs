//! Whether the client of an HTTP/2 stream takes its response.
//!
//! A client may leave the window of one stream shut while its connection lives on and answers pings
//! (CVE-2019-9517 and its like). Its response then waits for ever, with the fill that it reads, or with
//! a connection to the origin. Nothing of that is seen on the wire, only in who is to act next: hyper asks
//! a body for its next frame when the window has room, so after each frame it is the client's turn until
//! the next is asked for, and then it has taken the frame before.

use super::pace::Pace;
use crate::telemetry::Slowness;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

tokio::task_local! {
    /// Of the stream whose task runs. hyper makes the task and calls the service within it, and has no
    /// other way to take something along.
    static STREAM: Arc<Turn>;
}

/// Who is to act next in a stream, and what the client has taken of its response.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// A number that grows with each change: odd when it is the client's turn.
    number: AtomicU64,
    /// Bytes handed out with the last frame, which the client is to take.
    handed: AtomicU64,
    /// Bytes taken since they were last counted.
    taken: AtomicU64,
    given_up: AtomicBool,
}

impl Turn {
    /// The turn of the stream whose task runs, if that is one of HTTP/2.
    pub(super) fn of_this_stream() -> Option<Arc<Self>> {
        STREAM.try_with(Arc::clone).ok()
    }

    /// A frame with this many bytes was handed out.
    pub(super) fn is_the_clients(&self, bytes: u64) {
        self.was_taken(bytes);
        self.number.fetch_add(2, Ordering::Relaxed);
        self.number.fetch_or(1, Ordering::Relaxed);
    }

    /// A frame was asked for and is not there yet.
    pub(super) fn is_ours(&self) {
        self.was_taken(0);
        self.number.fetch_and(!1, Ordering::Relaxed);
    }

    /// Whether the stream was ended because its client was too slow.
    pub(super) fn given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    fn was_taken(&self, next: u64) {
        let taken = self.handed.swap(next, Ordering::Relaxed);
        self.taken.fetch_add(taken, Ordering::Relaxed);
    }

    fn now(&self) -> Option<u64> {
        let number = self.number.load(Ordering::Relaxed);
        (number & 1 == 1).then_some(number)
    }
}

/// How long a client may take nothing, and how fast it must be.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    pub(super) idle: Duration,
    /// Bytes per second, over `idle` of waiting; 0 is any.
    pub(super) rate: u64,
}

/// A turn of the client's.
struct Waiting {
    turn: u64,
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

/// Runs the task of a stream. It is dropped, which resets the stream, when its client took nothing, or too little,
/// for too long.
pub(super) async fn guarded<F: Future<Output = ()>>(
    stream: F,
    patience: Patience,
    given_up: impl FnOnce(Slowness),
) {
    let turn = Arc::new(Turn::default());
    let mut stream = pin!(STREAM.scope(Arc::clone(&turn), stream));
    let mut pace = Pace::new(patience.rate, patience.idle);
    let mut waiting: Option<Waiting> = None;
    let slowness = poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        let now = turn.now();
        if waiting.as_ref().is_some_and(|waiting| Some(waiting.turn) != now) {
            pace.moved(turn.taken.swap(0, Ordering::Relaxed));
            pace.waited(waiting.take().map_or(Duration::ZERO, |waiting| waiting.since.elapsed()));
        }
        let Some(now) = now else { return Poll::Pending };
        if pace.is_slow_after(Duration::ZERO) {
            return Poll::Ready(Some(Slowness::ResponseSlow));
        }
        // A response that fits into the window never comes here, and arms no timer.
        let waiting = waiting
            .get_or_insert_with(|| Waiting::new(now, patience.idle.min(pace.left_after(Duration::ZERO))));
        waiting.poll(cx, patience.idle, &pace)
    })
    .await;
    if let Some(slowness) = slowness {
        turn.given_up.store(true, Ordering::Relaxed);
        given_up(slowness);
    }
}

#[expect(clippy::disallowed_methods, reason = "timers are moved on, and their time compared")]
impl Waiting {
    fn new(turn: u64, look: Duration) -> Self {
        Self { turn, since: Instant::now(), timer: Box::pin(sleep(look)) }
    }

    /// Ready when the client is given up.
    fn poll(&mut self, cx: &mut Context<'_>, idle: Duration, pace: &Pace) -> Poll<Option<Slowness>> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let waited = self.since.elapsed();
            if waited >= idle {
                return Poll::Ready(Some(Slowness::ResponseStalled));
            }
            if pace.is_slow_after(waited) {
                return Poll::Ready(Some(Slowness::ResponseSlow));
            }
            self.timer.as_mut().reset(Instant::now() + (idle - waited).min(pace.left_after(waited)));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::sync::Mutex;

    /// What became of a stream that hands out 1000 bytes each second, `frames` times, and then waits for more to send.
    async fn given_up(rate: u64, frames: usize) -> Option<Slowness> {
        let seen = Arc::new(Mutex::new(None));
        let stream = async {
            let turn = Turn::of_this_stream().expect("a stream");
            for _ in 0..frames {
                turn.is_the_clients(1000);
                sleep(Duration::from_secs(1)).await;
            }
            turn.is_ours();
            pending::<()>().await;
        };
        let patience = Patience { idle: Duration::from_secs(10), rate };
        let told = Arc::clone(&seen);
        let guarded =
            guarded(stream, patience, move |slowness| *told.lock().expect("one task") = Some(slowness));
        let _ = tokio::time::timeout(Duration::from_secs(3600), guarded).await;
        *seen.lock().expect("one task")
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_less_than_enough_is_given_up_and_who_is_sent_nothing_is_not() {
        assert_eq!(given_up(1100, 100).await, Some(Slowness::ResponseSlow));
        assert_eq!(given_up(900, 100).await, None);
        assert_eq!(given_up(0, 100).await, None);
        assert_eq!(given_up(1 << 30, 5).await, None, "an hour without anything to take");
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_given_up() {
        let stream = async {
            Turn::of_this_stream().expect("a stream").is_the_clients(1);
            pending::<()>().await;
        };
        let seen = Mutex::new(None);
        let patience = Patience { idle: Duration::from_secs(10), rate: 0 };
        guarded(stream, patience, |slowness| *seen.lock().expect("one task") = Some(slowness)).await;
        assert_eq!(*seen.lock().expect("one task"), Some(Slowness::ResponseStalled));
    }
}
