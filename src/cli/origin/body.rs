//! Response bodies, made as they are sent.

use super::stats::InFlight;
use super::throttle::Throttle;
use crate::workload::Content;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::time::Sleep;

/// Bytes made at a time.
const PIECE_BYTES: u64 = 64 * 1024;

/// Where a body's bytes come from.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    /// Kept.
    Fixed(Bytes),
    /// Made on demand: the first `size` bytes of the content.
    Made(Content, u64),
}

impl Payload {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Fixed(bytes) => bytes.len() as u64,
            Self::Made(_, size) => *size,
        }
    }

    /// The bytes of `part`, which lies within the payload.
    fn piece(&self, part: Range<u64>) -> Bytes {
        match self {
            Self::Fixed(bytes) => bytes.slice(part.start as usize..part.end as usize),
            Self::Made(content, _) => {
                let mut out = Vec::new();
                content.append(&mut out, part.start, (part.end - part.start) as usize);
                out.into()
            }
        }
    }
}

/// A part of a payload on its way.
pub(super) struct OriginBody {
    payload: Payload,
    left: Range<u64>,
    pace: Option<Pace>,
    counted: Option<InFlight>,
}

impl OriginBody {
    /// The bytes `part` of `payload`, which must lie within it.
    pub(super) fn new(payload: Payload, part: Range<u64>, throttle: Option<Arc<Throttle>>) -> Self {
        let pace = throttle.map(|throttle| Pace { throttle, waiting: None });
        Self { payload, left: part, pace, counted: None }
    }

    pub(super) fn empty() -> Self {
        Self { payload: Payload::Fixed(Bytes::new()), left: 0..0, pace: None, counted: None }
    }

    /// Keeps the request in flight until the body ends, and counts its bytes.
    pub(super) fn count(&mut self, request: InFlight) {
        self.counted = Some(request);
    }
}

impl Body for OriginBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Range { start, end } = self.left;
        if start == end {
            return Poll::Ready(None);
        }
        let limit = self.pace.as_ref().map_or(PIECE_BYTES, |pace| pace.throttle.piece_bytes());
        let piece = start..end.min(start + limit);
        let bytes = piece.end - piece.start;
        if let Some(pace) = &mut self.pace {
            ready!(pace.poll_turn(bytes, cx));
        }
        self.left.start = piece.end;
        if let Some(request) = &self.counted {
            request.sent(bytes);
        }
        Poll::Ready(Some(Ok(Frame::data(self.payload.piece(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.end - self.left.start)
    }
}

/// Waits for a turn on the shared line.
struct Pace {
    throttle: Arc<Throttle>,
    /// The turn that was taken and has not come.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    fn poll_turn(&mut self, bytes: u64, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting.is_none() {
            let wait = self.throttle.turn(bytes);
            if wait.is_zero() {
                return Poll::Ready(());
            }
            self.waiting = Some(Box::pin(tokio::time::sleep(wait)));
        }
        if let Some(turn) = &mut self.waiting {
            ready!(turn.as_mut().poll(cx));
        }
        self.waiting = None;
        Poll::Ready(())
    }
}
