//! The reading end of a fill.

use super::{Arriving, Fill, Kept, Phase, READERS_MAX, Refreshed, Slot, State, Under, WINDOW_BYTES};
use crate::body::Interims;
use crate::origin::Fetched;
use crate::serve::failure::Failure;
use crate::store::Hit;
use bytes::Bytes;
use smallvec::SmallVec;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What a fill came to, as one of its readers sees it.
pub enum Outcome {
    /// A storable response is arriving, or has arrived without being kept.
    Streaming(Arc<Arriving>),
    /// It has arrived and is stored.
    Stored(Arc<Arriving>, Hit),
    /// The stored version was validated; what is not [kept](Kept::Yes) of that is for the reader alone that began the fill.
    Refreshed(Arc<Refreshed>),
    /// This reader began the fill and the response is its own.
    Own(Box<Fetched>, bool),
    /// The response is somebody else's; the flag says that it is a server error.
    NotStored(bool),
    /// It is of another variant, or nothing to be used: plan anew.
    Unfit,
    /// There was no response.
    Failed(Failure),
}

/// What a reader finds at its cursor.
pub enum Piece {
    /// The next bytes.
    Bytes(Bytes),
    /// The window has moved on: the bytes from this offset on must come from elsewhere.
    Behind(u64),
    /// The body has been read to its end.
    End,
    /// The body failed.
    Broken(&'static str),
}

/// The reading end of a fill; dropping it leaves the fill.
pub struct Reader {
    pub(super) fill: Arc<Fill>,
    slot: usize,
    initiator: bool,
}

impl Reader {
    /// A reader from body offset `from` on. `None` if what is there is gone already, or there are too many.
    pub(super) fn join(fill: &Arc<Fill>, from: u64, initiator: bool) -> Option<Self> {
        let mut state = fill.state.lock();
        let gone = match &state.phase {
            Phase::Streaming(arriving) => state.start > from && !arriving.partial.starts_stored(),
            _ => false,
        };
        if gone || state.readers >= READERS_MAX {
            return None;
        }
        state.readers += 1;
        let free = state.slots.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            state.slots.push(None);
            state.slots.len() - 1
        });
        state.slots[slot] = Some(Slot { cursor: from, waker: None });
        drop(state);
        Some(Self { fill: Arc::clone(fill), slot, initiator })
    }

    /// Waits until the origin has answered or failed. Bounded by the leader's own time limits.
    pub async fn outcome(&self) -> Outcome {
        poll_fn(|cx| self.poll_outcome(cx)).await
    }

    /// As [`outcome`](Self::outcome); the interim responses that come until then, or came before, go to `interims`.
    pub async fn outcome_after(&self, interims: &Interims) -> Outcome {
        let mut heard = 0;
        poll_fn(|cx| {
            // First, so that what comes in between wakes.
            let outcome = self.poll_outcome(cx);
            let more: SmallVec<[_; 2]> = self.fill.state.lock().interims[heard..].iter().cloned().collect();
            heard += more.len();
            more.into_iter().for_each(|interim| interims.offer(interim));
            outcome
        })
        .await
    }

    /// As [`outcome`](Self::outcome).
    pub fn poll_outcome(&self, cx: &Context<'_>) -> Poll<Outcome> {
        let mut state = self.fill.state.lock();
        let outcome = match state.phase.clone() {
            Phase::Asking => {
                state.park(self.slot, cx);
                return Poll::Pending;
            }
            Phase::Streaming(arriving) | Phase::Complete(arriving, None) | Phase::Broken(arriving, _) => {
                Outcome::Streaming(arriving)
            }
            Phase::Complete(arriving, Some(hit)) => Outcome::Stored(arriving, hit),
            Phase::Refreshed(refreshed) => match refreshed.kept {
                Kept::OtherVariant if !self.initiator => Outcome::Unfit,
                Kept::NotStorable(_) if !self.initiator => Outcome::NotStored(false),
                _ => Outcome::Refreshed(refreshed),
            },
            Phase::NotStored { server_error } => match state.own.take_if(|_| self.initiator) {
                Some(own) => Outcome::Own(own, server_error),
                None => Outcome::NotStored(server_error),
            },
            Phase::Unfit => Outcome::Unfit,
            Phase::Failed(failure) => Outcome::Failed(failure),
        };
        Poll::Ready(outcome)
    }

    /// On what ground the fill fetches, as soon as that is decided or it has ended.
    pub fn poll_under(&self, cx: &Context<'_>) -> Poll<Under> {
        let mut state = self.fill.state.lock();
        if state.under == Under::Undecided && matches!(state.phase, Phase::Asking) {
            state.park(self.slot, cx);
            return Poll::Pending;
        }
        Poll::Ready(state.under)
    }

    /// Waits until the content up to body offset `offset` was compared with its hash, as far as it needs
    /// that. `Err` says why it never will.
    pub fn poll_checked(&self, offset: u64, cx: &Context<'_>) -> Poll<Result<(), &'static str>> {
        let mut state = self.fill.state.lock();
        match state.phase {
            _ if state.checked.is_none_or(|checked| checked >= offset) => Poll::Ready(Ok(())),
            Phase::Streaming(_) => {
                state.park(self.slot, cx);
                Poll::Pending
            }
            Phase::Broken(_, why) => Poll::Ready(Err(why)),
            _ => Poll::Ready(Err("not checked")),
        }
    }

    /// BLAKE3 of chunk `index`, once it is complete and checked; `None` if it never will be.
    pub fn poll_chunk_hash(&self, index: u32, cx: &Context<'_>) -> Poll<Option<[u8; 32]>> {
        let mut state = self.fill.state.lock();
        let hash = state.hashes.get(index as usize).copied();
        if hash.is_none() && matches!(state.phase, Phase::Streaming(_)) {
            state.park(self.slot, cx);
            return Poll::Pending;
        }
        Poll::Ready(hash)
    }

    /// Body bytes that have come so far.
    pub fn received(&self) -> u64 {
        self.fill.state.lock().end
    }

    /// Moves this reader to body offset `offset`, before its first read.
    pub fn seek(&self, offset: u64) {
        if let Some(slot) = &mut self.fill.state.lock().slots[self.slot] {
            slot.cursor = offset;
        }
    }

    /// The bytes at this reader's cursor, which advances over them.
    pub fn poll_piece(&self, cx: &Context<'_>) -> Poll<Piece> {
        let mut state = self.fill.state.lock();
        let cursor = state.slots[self.slot].as_ref().map_or(0, |slot| slot.cursor);
        if cursor < state.start {
            return Poll::Ready(Piece::Behind(cursor));
        }
        if let Some(bytes) = state.piece_at(cursor) {
            state.advance(self.slot, cursor + bytes.len() as u64);
            return Poll::Ready(Piece::Bytes(bytes));
        }
        match state.phase {
            Phase::Complete(..) => Poll::Ready(Piece::End),
            Phase::Broken(_, why) => Poll::Ready(Piece::Broken(why)),
            Phase::Streaming(_) => {
                state.park(self.slot, cx);
                Poll::Pending
            }
            _ => Poll::Ready(Piece::Broken("no body")),
        }
    }

    /// Says that this reader took the bytes up to `offset` from elsewhere.
    pub fn advance(&self, offset: u64) {
        self.fill.state.lock().advance(self.slot, offset);
    }
}

impl State {
    fn park(&mut self, slot: usize, cx: &Context<'_>) {
        if let Some(slot) = &mut self.slots[slot] {
            slot.waker = Some(cx.waker().clone());
        }
    }

    fn advance(&mut self, slot: usize, cursor: u64) {
        if let Some(slot) = &mut self.slots[slot] {
            slot.cursor = cursor;
        }
        if self.end - self.start > WINDOW_BYTES
            && let Some(leader) = self.leader.take()
        {
            leader.wake();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.fill.state.lock();
        state.slots[self.slot] = None;
        state.readers -= 1;
        if self.initiator {
            state.own = None;
        }
        let leader = state.leader.take();
        drop(state);
        if let Some(leader) = leader {
            leader.wake();
        }
    }
}
