//! The way of a body, wherever it comes from, into its fill and the store.

use super::Node;
use super::fill::{Arriving, Leader, Pace, WINDOW_BYTES};
use super::lead::Asking;
use super::leave::Leave;
use crate::proto::object::HeadDraft;
use crate::proto::relay::{Checker, RelayFault};
use crate::proto::semantics;
use crate::store::{Filling, Lookup};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;

/// Bytes after which readers are woken even while more bytes are at hand.
const WAKE_BYTES: usize = 64 << 10;

/// Most bytes that are fetched beyond what was asked for, when a range was: before it, and after its readers have left. So a
/// request for one byte costs the origin no more than twice this (RangeAmp, DSN 2020). In a fleet, whose members share whole
/// objects, it is a fill's window before it.
pub(super) const RANGE_EXTRA_MAX: u64 = 1 << 20;

/// Why a fill ends before its body, as its readers are told.
pub(super) type Broken = &'static str;

/// A body on its way.
pub(super) struct Intake {
    pub(super) leader: Leader,
    pub(super) arriving: Arc<Arriving>,
    filling: Filling,
    received: u64,
    unwoken: usize,
    /// Whether only a range was asked for.
    is_sparing: bool,
}

impl Intake {
    /// Opens the fill for readers; its bytes follow.
    pub(super) fn begin(leader: Leader, arriving: Arc<Arriving>, filling: Filling) -> Self {
        leader.stream(Arc::clone(&arriving));
        Self { leader, arriving, filling, received: 0, unwoken: 0, is_sparing: false }
    }

    /// The same, for a request that asked for a range: it is ended soon after its readers have left.
    pub(super) fn sparing(self, is_sparing: bool) -> Self {
        Self { is_sparing, ..self }
    }

    /// Bytes of the body so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Wakes the readers: no more bytes are at hand.
    pub(super) fn wake(&mut self) {
        self.leader.wake();
        self.unwoken = 0;
    }

    /// Moves the next bytes into the window and the store. Readers are woken when 64 KiB have gathered.
    ///
    /// # Errors
    /// If nobody wants them any more.
    pub(super) async fn push(&mut self, bytes: Bytes) -> Result<(), Broken> {
        if !self.leader.has_readers() && !self.is_worth_finishing() {
            return Err(ABANDONED);
        }
        self.received += bytes.len() as u64;
        self.unwoken += bytes.len();
        let pace = self.pace();
        self.leader.push(bytes.clone(), pace).await;
        if self.unwoken >= WAKE_BYTES {
            self.wake();
        }
        self.filling.append(&bytes).await;
        Ok(())
    }

    /// Moves the next bytes, which are the origin's, and notes for those who relay them what they hash to.
    ///
    /// # Errors
    /// As for [`push`](Self::push), or if the body is longer than it said.
    pub(super) async fn push_trusted(
        &mut self,
        bytes: Bytes,
        checker: Option<&mut Checker>,
    ) -> Result<(), Broken> {
        self.push(bytes.clone()).await?;
        let Some(checker) = checker else { return Ok(()) };
        let leader = &self.leader;
        checker.handle_trusted(&bytes, |good| leader.checked(good.end, good.hash)).map_err(length_is_wrong)
    }

    /// The origin has sent all that it has.
    ///
    /// # Errors
    /// If the body has another length than it said.
    pub(super) fn end_trusted(&self, checker: &mut Checker) -> Result<(), Broken> {
        if let Some(last) = checker.handle_trusted_end().map_err(length_is_wrong)? {
            self.leader.checked(last.end, last.hash);
        }
        Ok(())
    }

    /// The body failed.
    pub(super) fn broken(self, why: Broken) {
        self.leader.broken(self.arriving, why);
    }

    /// The body failed. What came of it is kept with these status and fields, if there are any.
    pub(super) async fn cut(self, node: &Node, kept: Option<(StatusCode, HeaderMap)>, why: Broken) {
        let Self { leader, arriving, mut filling, .. } = self;
        let outdone = is_outdone(node, &arriving.draft).await;
        let kept = kept.filter(|_| !outdone && !leader.is_doomed());
        let filing = match kept {
            None => None,
            Some((status, fields)) => {
                filling.cut(status, fields);
                filling.publish().await.ok().and_then(|(_hit, filing)| filing)
            }
        };
        node.metrics.purges.fills.inc_by(u64::from(leader.is_overtaken()));
        leader.broken(arriving, why);
        if let Some(filing) = filing {
            filing.queue().await;
        }
    }

    /// All has come: the version is put in the store, and the directory is told.
    pub(super) async fn complete(self, node: &Node, asking: &Asking, leave: Leave) {
        let Self { leader, arriving, filling, received, .. } = self;
        if arriving.draft.length.is_some_and(|length| length != received) {
            leave.failed();
            return leader.broken(arriving, LENGTH);
        }
        if leader.is_overtaken() {
            node.metrics.purges.fills.inc();
        }
        // An invalidation from here on finds what is sealed, one before has doomed the fill. A purge from here on is seen by
        // whoever looks up what is sealed, from its position.
        let outdone =
            arriving.draft.status == StatusCode::PARTIAL_CONTENT && is_outdone(node, &arriving.draft).await;
        if outdone || leader.is_doomed() {
            leader.complete(arriving, None);
            return leave.not_kept();
        }
        match filling.publish().await {
            Err(_) => {
                leader.complete(arriving, None);
                leave.not_kept();
            }
            Ok((hit, filing)) => {
                leader.complete(arriving, Some(hit.clone()));
                leave.stored(asking, &hit, node.clock.now().wall);
                if let Some(filing) = filing {
                    filing.queue().await;
                }
            }
        }
    }

    fn is_worth_finishing(&self) -> bool {
        let length = self.arriving.draft.length;
        if self.is_sparing {
            return length.is_some_and(|length| length.saturating_sub(self.received) <= RANGE_EXTRA_MAX);
        }
        worth_finishing(self.received, length)
    }

    /// A laggard may be left behind if the bytes that it misses can be had elsewhere: from the store, or
    /// from the origin by a range of the very same version (design §5).
    fn pace(&self) -> Pace {
        if !self.filling.is_lost() {
            Pace::Free
        } else if semantics::strong_etag(&self.arriving.draft.fields).is_some() {
            Pace::Fastest
        } else {
            Pace::Slowest
        }
    }
}

/// The body is not as long as it said.
pub(super) const LENGTH: Broken = "body has not its stated length";
/// Nobody wants the body any more.
pub(super) const ABANDONED: Broken = "abandoned by all readers";

const fn length_is_wrong(_: RelayFault) -> Broken {
    LENGTH
}

/// Whether a whole version is stored that a part must not take the place of: it is of the same version, or came later.
async fn is_outdone(node: &Node, part: &HeadDraft) -> bool {
    let hit = match node.store.find(part.key.object(), |_| part.variant) {
        Lookup::Memory(hit) => Some(hit),
        Lookup::OnDisk(on_disk) => node.store.load(on_disk).await.ok(),
        Lookup::Miss(_) => None,
    };
    hit.filter(|hit| !hit.head.is_part()).is_some_and(|hit| {
        let etag = semantics::strong_etag(&part.fields);
        let same = etag.is_some() && etag == semantics::strong_etag(&hit.head.fields());
        same || hit.head.received >= part.received
    })
}

/// Whether a body that nobody waits for any more is fetched to its end (design §5): it is small, or
/// more than half of it has come.
fn worth_finishing(received: u64, length: Option<u64>) -> bool {
    match length {
        Some(length) => length <= WINDOW_BYTES || received >= length / 2,
        None => received <= WINDOW_BYTES,
    }
}
