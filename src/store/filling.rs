//! A version that is being written.

use super::Hit;
use bytes::Bytes;

/// Why a fill was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The object was invalidated since the fill began.
    #[error("invalidated while it was fetched")]
    Superseded,
    /// The body has another length than the head said.
    #[error("body of {found} bytes, {expected} were announced")]
    Length {
        /// As announced.
        expected: u64,
        /// As received.
        found: u64,
    },
    /// Neither tier had room for all of it.
    #[error("no room")]
    Lost,
}

/// A version that is being written, owned by the leader of its fill. Dropped before
/// [`seal`](Self::seal), nothing of it becomes visible and its memory is given back.
pub struct Filling(());

impl Filling {
    /// Adds body bytes. May wait for the disk's queue. Never fails: what cannot be kept is
    /// [lost](Self::is_lost).
    pub async fn append(&mut self, bytes: &[u8]) {
        let _ = bytes;
        todo!()
    }

    /// Whether the version can no longer be stored.
    pub fn is_lost(&self) -> bool {
        todo!()
    }

    /// A reader of the records that are finished.
    pub fn partial(&self) -> Partial {
        todo!()
    }

    /// Ends the body and makes the version visible, in place of older ones of its variant.
    ///
    /// # Errors
    /// If the version is not kept; nothing is visible then.
    pub async fn seal(self) -> Result<Hit, SealError> {
        todo!()
    }
}

/// A reader of the finished records of a fill in progress.
#[derive(Clone)]
pub struct Partial(());

impl Partial {
    /// The body bytes of record `index`, if it is finished and still held by a tier.
    pub fn starts_stored(&self) -> bool {
        todo!()
    }
    /// x
    pub async fn record(&self, index: u32) -> Option<Bytes> {
        let _ = index;
        todo!()
    }
}
