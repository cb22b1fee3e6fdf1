//! When a node has taken its place in the fleet, so that it costs the origin no more than the others do.

use super::node::Node;
use super::report::wanted;
use std::time::Duration;

/// Between two looks: what is looked at changes in several places and has no event in common.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a node that has its place waits until it knows all purges: before, each request would be validated, which is better
/// than none.
const SYNC_WAIT: Duration = Duration::from_secs(5);

/// Ends when this node has a certificate, as an edge a session with each live superpeer and with one at least, and as a
/// superpeer a directory that is not warming; and, as far as that comes soon, knows all purges of the fleet. Without any
/// superpeer it never ends: the caller bounds it.
pub(super) async fn settled(node: &Node) {
    while !is_settled(node) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let in_sync = async {
        while !node.purges.in_sync(node.clock.mono()) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    if tokio::time::timeout(SYNC_WAIT, in_sync).await.is_err() {
        tracing::warn!("not in sync yet: what is stored is validated at each request");
    }
}

fn is_settled(node: &Node) -> bool {
    let is_warming = |service: &super::directory::Service| service.stats(node.clock.mono()).1;
    node.links.is_certified()
        && (!node.me.roles.edge || tells_all_superpeers(node))
        && !node.directory.as_ref().is_some_and(is_warming)
}

fn tells_all_superpeers(node: &Node) -> bool {
    let mut superpeers = wanted(node).peekable();
    superpeers.peek().is_some() && superpeers.all(|superpeer| node.sessions.get(superpeer).is_some())
}
