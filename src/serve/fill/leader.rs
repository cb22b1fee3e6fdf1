//! The writing end of a fill.

use super::{Arriving, Fill, FillTable, LAGGARD_WAIT, Phase, Refreshed, Under, WINDOW_BYTES};
use crate::body::{INTERIMS_MAX, Interim};
use crate::origin::Fetched;
use crate::proto::object::PurgePosition;
use crate::proto::purge::Judgement;
use crate::serve::failure::Failure;
use crate::store::Hit;
use bytes::Bytes;
use http::StatusCode;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

/// The writing end of a fill, owned by the task that fetches.
pub struct Leader {
    pub(super) fill: Arc<Fill>,
    pub(super) table: Arc<FillTable>,
    pub(super) ended: bool,
}

/// Whom a fill with a full window waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Nobody: who falls behind reads from the store.
    Free,
    /// The fastest reader: who falls behind it asks the origin for the rest.
    Fastest,
    /// The slowest reader: who falls behind is cut, and waited for no more.
    Slowest,
}

impl Leader {
    /// The response is storable and its body follows.
    pub fn stream(&self, arriving: Arc<Arriving>) {
        // A part stays listed as what was asked for.
        if arriving.draft.status != StatusCode::PARTIAL_CONTENT {
            self.table.relist(&self.fill, arriving.draft.variant);
        }
        self.publish(Phase::Streaming(arriving));
    }

    /// Where interim responses of the origin are to be handed: all who wait for the head are told of them at once, and who
    /// joins later, but before the head, then.
    pub fn interims(&self) -> impl Fn(Interim) + Send + Sync + 'static {
        let fill = Arc::clone(&self.fill);
        move |interim| {
            let mut state = fill.state.lock();
            if matches!(state.phase, Phase::Asking) && state.interims.len() < INTERIMS_MAX {
                state.interims.push(Arc::new(interim));
                let wakers = state.wake();
                drop(state);
                wakers.into_iter().for_each(Waker::wake);
            }
        }
    }

    /// Hands body bytes to the readers; they are woken by [`wake`](Self::wake). If the window is full,
    /// waits for whom `pace` says, at most [`LAGGARD_WAIT`].
    pub async fn push(&self, bytes: Bytes, pace: Pace) {
        {
            let mut state = self.fill.state.lock();
            state.push(bytes);
            state.drop_consumed();
            if state.end - state.start <= WINDOW_BYTES {
                return;
            }
        }
        if pace != Pace::Free {
            self.wake();
            let room = poll_fn(|cx| self.poll_room(pace, cx));
            let _ = tokio::time::timeout(LAGGARD_WAIT, room).await;
        }
        let mut state = self.fill.state.lock();
        while state.end - state.start > WINDOW_BYTES {
            state.drop_front();
        }
    }

    fn poll_room(&self, pace: Pace, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.fill.state.lock();
        state.drop_consumed();
        let from = if pace == Pace::Fastest { state.fastest() } else { state.slowest_in_reach() };
        // A reader may wait for what is far ahead.
        if state.end.saturating_sub(from.max(state.start)) <= WINDOW_BYTES {
            return Poll::Ready(());
        }
        state.leader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Wakes the readers.
    pub fn wake(&self) {
        let wakers = self.fill.state.lock().wake();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether anybody reads.
    pub fn has_readers(&self) -> bool {
        self.fill.state.lock().readers > 0
    }

    /// The purge position before anybody was asked: no purge beyond it is known to be heeded by what comes.
    pub fn position(&self) -> PurgePosition {
        self.fill.position
    }

    /// Whether nothing of it may be kept: the object was invalidated since this fetch began, another fetch took its place, or a
    /// purge overtook it. What a soft purge overtook may be kept, being stale from then on.
    pub fn is_doomed(&self) -> bool {
        self.fill.doomed.load(Ordering::Acquire) || self.table.judge(&self.fill) == Judgement::Hard
    }

    /// Whether a purge overtook this fetch.
    pub fn is_overtaken(&self) -> bool {
        self.table.is_overtaken(&self.fill)
    }

    /// The body is whole; `hit` is the stored version, unless the store could not keep it.
    pub fn complete(mut self, arriving: Arc<Arriving>, hit: Option<Hit>) {
        self.end(Phase::Complete(arriving, hit));
    }

    /// The body failed.
    pub fn broken(mut self, arriving: Arc<Arriving>, why: &'static str) {
        self.end(Phase::Broken(arriving, why));
    }

    /// Says on what ground it fetches; readers that wait for that are woken.
    pub fn under(&self, under: Under) {
        let mut state = self.fill.state.lock();
        state.under = under;
        let wakers = state.wake();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The body comes from a peer: nothing counts as checked until [`checked`](Self::checked) says so. To be
    /// called before [`stream`](Self::stream).
    pub fn distrust(&self) {
        self.fill.state.lock().checked = Some(0);
    }

    /// The next chunk, which ends at body offset `end`, is complete, and `hash` is its own. Readers are woken.
    pub fn checked(&self, end: u64, hash: [u8; 32]) {
        let mut state = self.fill.state.lock();
        state.hashes.push(hash);
        if let Some(checked) = &mut state.checked {
            *checked = end;
        }
        let wakers = state.wake();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// A peer's response turned out to be of another variant than was sought: readers plan anew.
    pub fn unfit(mut self) {
        self.end(Phase::Unfit);
    }

    /// A peer says that the response may not be stored: those who wait go alone.
    pub fn not_stored_elsewhere(mut self, server_error: bool) {
        self.end(Phase::NotStored { server_error });
    }

    /// The origin, or a peer, said that the stored version is still good.
    pub fn refreshed(mut self, refreshed: Refreshed) {
        self.end(Phase::Refreshed(Arc::new(refreshed)));
    }

    /// The response must not be stored: the initiator gets it if it is still there.
    pub fn not_stored(mut self, fetched: Fetched, server_error: bool) {
        self.fill.state.lock().own = Some(Box::new(fetched));
        self.end(Phase::NotStored { server_error });
    }

    /// There was no response.
    pub fn failed(mut self, failure: Failure) {
        self.end(Phase::Failed(failure));
    }

    fn end(&mut self, phase: Phase) {
        self.ended = true;
        self.table.remove(&self.fill);
        self.publish(phase);
    }

    fn publish(&self, phase: Phase) {
        let mut state = self.fill.state.lock();
        state.phase = phase;
        let wakers = state.wake();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Leader {
    /// A leader that is dropped before its end (its task was cancelled, or panicked) fails the fill:
    /// readers never wait for nobody.
    fn drop(&mut self) {
        self.table.open.fetch_sub(1, Ordering::Relaxed);
        if self.ended {
            return;
        }
        let phase = self.fill.state.lock().phase.clone();
        match phase {
            Phase::Streaming(arriving) => self.end(Phase::Broken(arriving, "leader gone")),
            _ => self.end(Phase::Failed(Failure::Abandoned)),
        }
    }
}
