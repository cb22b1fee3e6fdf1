//! What the fleet is told of this node's store.

use crate::peer::Inventory;
use crate::proto::swarm::{Changes, Holding};
use crate::store::Store;
use std::sync::Arc;

/// The store as the room `peer`, which does not know it, sees it.
pub(super) struct Stock(Store);

impl Stock {
    /// From now on the store notes what changes.
    pub(super) fn watch(store: &Store) -> Arc<dyn Inventory> {
        store.watch();
        Arc::new(Self(store.clone()))
    }
}

impl Inventory for Stock {
    fn changes(&self, max: usize) -> Changes {
        self.0.changes(max)
    }

    fn holdings(&self, cursor: u64, max: usize) -> (Vec<Holding>, Option<u64>) {
        self.0.holdings(cursor, max)
    }
}
