//! What a client has sent on a connection and nobody has taken yet.
//!
//! All uploads of a connection share its window. One whose origin reads slowly keeps its part of it, and if little is left the
//! client cannot send on the others either: that is no silence of the client's.

use super::CONNECTION_WINDOW;
use h2::{FlowControl, RecvStream, StreamId};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;

/// Bytes of the connection's window that a client should have, so that it is waited for: some frames of the usual size. What
/// was taken is told to the client a little later, so that it may see a third less than there is.
const ROOM_MIN: usize = 64 << 10;

/// The uploads in progress of one connection, at most as many as its streams.
#[derive(Default)]
pub(in crate::front) struct Untaken(Mutex<HashMap<StreamId, FlowControl>>);

impl Untaken {
    /// Whether the client has room to send. Asked seldom: each upload is looked at.
    pub(in crate::front) fn leaves_room(&self) -> bool {
        let untaken: usize = self.0.lock().values().map(FlowControl::used_capacity).sum();
        untaken.saturating_add(ROOM_MIN) <= CONNECTION_WINDOW as usize
    }

    /// Counts what comes on `stream`, until the entry is dropped.
    pub(super) fn enter(self: &Arc<Self>, stream: &mut RecvStream) -> Entry {
        let id = stream.stream_id();
        self.0.lock().insert(id, stream.flow_control().clone());
        Entry { untaken: Arc::clone(self), id }
    }
}

/// An upload that is counted.
pub(super) struct Entry {
    untaken: Arc<Untaken>,
    id: StreamId,
}

impl Drop for Entry {
    fn drop(&mut self) {
        // Dropped outside the lock, since it takes one of h2's own.
        let _flow = self.untaken.0.lock().remove(&self.id);
    }
}
