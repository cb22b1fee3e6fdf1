//! How a mesh comes up: who this node is, its endpoint, and the tasks around them.

use super::directory::Service;
use super::lease::Leases;
use super::link::{LinkEvent, Links};
use super::membership::{self, Told};
use super::mesh::{MeshError, MeshStart, Requests};
use super::node::Node;
use super::resolve::Lookups;
use super::seeds::Seeds;
use super::session::{self, Sessions};
use super::view::View;
use super::{announce, directory, events, report};
use crate::config::model::Peer;
use crate::proto::swarm::Member;
use crate::tls::cluster::Identity;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Questions of peers that wait to be answered; further ones are refused.
const REQUESTS_MAX: usize = 1024;
/// How long the name in `peer.advertise` may take to be resolved.
const ADVERTISE_LIMIT: Duration = Duration::from_secs(10);
/// Holdings that a directory keeps if the configuration does not say.
const HOLDINGS_DEFAULT: usize = 1 << 20;

/// Binds the endpoint and starts the tasks.
pub(super) async fn start(start: MeshStart) -> Result<(Arc<Node>, mpsc::Sender<Told>, Requests), MeshError> {
    let Some(peer) = start.config.peer.clone() else { return Err(MeshError::Advertise(String::new())) };
    let now = start.clock.now();
    let config = &start.config.node;
    let identity = Identity::load(&peer, &config.name, config.roles, now.wall)?;
    let me = Member {
        id: identity.certified().id,
        address: reached_at(&peer).await?,
        name: config.name.as_str().into(),
        zone: config.zone.as_deref().unwrap_or_default().into(),
        roles: config.roles,
        incarnation: u64::try_from(now.wall.as_millis()).unwrap_or(0),
    };
    let (links, link_events) = Links::open(&start, identity.clone(), me)?;
    let node = Arc::new(node_of(start, &peer, links));
    let (membership, requests) = begin(&node, &peer, link_events);
    tracing::info!(node = %node.me.id, address = %node.me.address, "listens for peers");
    Ok((node, membership, requests))
}
