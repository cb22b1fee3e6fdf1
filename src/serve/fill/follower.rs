//! Peers that read a fill as it comes: a few, since each takes a part of what this node can send.

use super::{FillTable, Phase, Reader};
use crate::proto::key::{ObjectId, VariantId};
use std::ops::Deref;

/// Peers that read one fill at most. The directory sends others to those who follow already.
const FOLLOWERS_MAX: usize = 4;
/// Peers that read one fill at most of those who found no directory, and whom nobody sends elsewhere: the
/// home edge spares the origin all of them.
const GUESTS_MAX: usize = 64;

/// A reader that is a peer; counted until it is dropped.
pub struct Follower(Reader);

/// What following a fill led to.
pub enum Followed {
    /// There is no such fill, or none that can still be read from there on.
    Nowhere,
    /// A purge overtook it, so that nobody new may read it.
    Overtaken,
    /// As many follow it as may.
    Crowded,
    /// It can be read.
    Live(Follower),
}

impl FillTable {
    /// Joins the fill of `variant` for a peer that reads from body offset `from` on; never begins one.
    pub fn follow(&self, object: ObjectId, variant: VariantId, from: u64) -> Followed {
        let shard = self.shard(object).lock();
        let mut fills = shard.get(&object).into_iter().flatten();
        let Some((_, fill)) = fills.find(|(key, _)| *key == Some(variant)) else { return Followed::Nowhere };
        if self.is_overtaken(fill) {
            return Followed::Overtaken;
        }
        match Reader::join(fill, from, false) {
            Some(reader) => Follower::of(reader, FOLLOWERS_MAX).map_or(Followed::Crowded, Followed::Live),
            None => Followed::Nowhere,
        }
    }
}

impl FillTable {
    /// Whether a version of the object that may be told of is arriving.
    pub fn is_arriving(&self, object: ObjectId) -> bool {
        let shard = self.shard(object).lock();
        let mut fills = shard.get(&object).into_iter().flatten();
        fills.any(|(_, fill)| match &fill.state.lock().phase {
            Phase::Streaming(arriving) => !arriving.draft.stays(),
            _ => false,
        })
    }
}

impl Follower {
    /// Counts `reader` as that of a peer that came without a directory. `None` if there are as many as may be.
    pub fn guest(reader: Reader) -> Option<Self> {
        Self::of(reader, GUESTS_MAX)
    }

    fn of(reader: Reader, max: usize) -> Option<Self> {
        let mut state = reader.fill.state.lock();
        if state.followers >= max {
            return None;
        }
        state.followers += 1;
        drop(state);
        Some(Self(reader))
    }
}

impl Deref for Follower {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.0
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.fill.state.lock().followers -= 1;
    }
}
