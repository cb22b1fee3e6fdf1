//! Peers that read a fill as it comes: a few, since each takes a part of what this node can send.

use super::{FillTable, Reader};
use crate::proto::key::{ObjectId, VariantId};
use std::ops::Deref;

/// Peers that read one fill at most. The directory sends others to those who follow already.
const FOLLOWERS_MAX: usize = 4;

/// A reader that is a peer; counted until it is dropped.
pub struct Follower(Reader);

/// What following a fill led to.
pub enum Followed {
    /// There is no such fill, or none that can still be read from there on.
    Nowhere,
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
        let Some((_, fill)) = fills.find(|(key, _)| *key == Some(variant)) else {
            return Followed::Nowhere;
        };
        match Reader::join(fill, from, false) {
            Some(reader) => Follower::of(reader).map_or(Followed::Crowded, Followed::Live),
            None => Followed::Nowhere,
        }
    }
}

impl Follower {
    /// Counts `reader` as a peer's. `None` if there are as many as may be.
    pub fn of(reader: Reader) -> Option<Self> {
        let mut state = reader.fill.state.lock();
        if state.followers >= FOLLOWERS_MAX {
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
