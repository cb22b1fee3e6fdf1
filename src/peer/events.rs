//! What happens on connections, each thing brought to who deals with it. Nothing here waits, so that the
//! connections are always heard.

use super::directory;
use super::exchange::Exchange;
use super::link::LinkEvent;
use super::membership::Told;
use super::mesh::PeerRequest;
use super::node::Node;
use super::purges;
use crate::proto::swarm::Member;
use crate::proto::wire::ask;
use crate::telemetry::AskRefusal;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Takes what happens, for ever.
pub(super) async fn run(
    node: Arc<Node>,
    mut events: mpsc::Receiver<LinkEvent>,
    membership: mpsc::Sender<Told>,
    requests: mpsc::Sender<PeerRequest>,
) {
    while let Some(event) = events.recv().await {
        match event {
            // What finds the queue full is lost like any packet; roles are looked at again with each new view.
            LinkEvent::Up(link) => {
                node.desk.linked(link.member().id);
                drop(membership.try_send(Told::Linked(link.member().clone())));
            }
            LinkEvent::GoodBye(peer) => node.desk.said_good_bye(peer),
            LinkEvent::Datagram { link, bytes } => {
                if membership.try_send(Told::Packet(bytes)).is_err() {
                    tracing::debug!(peer = %link.member().id, "packet of the membership is dropped");
                }
            }
            // Sessions and exchanges see it themselves, and who is live is not for one connection to say.
            LinkEvent::Down(peer) => tracing::debug!(%peer, "connection is gone"),
            LinkEvent::Asked { link, ask, exchange } => {
                asked(&node, link.member(), ask, exchange, &requests);
            }
        }
    }
}

fn asked(
    node: &Arc<Node>,
    from: &Member,
    ask: ask::Kind,
    exchange: Exchange,
    requests: &mpsc::Sender<PeerRequest>,
) {
    match ask {
        ask::Kind::Resolve(resolve) => directory::serve_resolve(node, from, &resolve, exchange),
        ask::Kind::Session(session) => directory::serve_session(node, from, session.number, exchange),
        ask::Kind::Purges(purges) => purges::serve(node, from, purges, exchange),
        ask::Kind::Read(_) | ask::Kind::Open(_) | ask::Kind::Look(_) | ask::Kind::Invalidate(_) => {
            hand_over(node, from, ask, exchange, requests)
        }
        ask::Kind::Hello(_) => node.refuse(exchange, AskRefusal::Protocol),
    }
}

fn hand_over(
    node: &Node,
    from: &Member,
    ask: ask::Kind,
    exchange: Exchange,
    requests: &mpsc::Sender<PeerRequest>,
) {
    if !node.me.roles.edge || !from.roles.edge {
        return node.refuse(exchange, AskRefusal::Forbidden);
    }
    match requests.try_send(PeerRequest { from: from.clone(), ask, exchange }) {
        Ok(()) => {}
        Err(TrySendError::Full(request) | TrySendError::Closed(request)) => {
            node.refuse(request.exchange, AskRefusal::Busy);
        }
    }
}
