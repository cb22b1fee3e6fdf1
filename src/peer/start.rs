//! How a mesh comes up: who this node is, its endpoint, and the tasks around them.

use super::directory::Service;
use super::invalidations::Invalidations;
use super::lease::Leases;
use super::link::{LinkEvent, Links};
use super::membership::{self, Told};
use super::mesh::{MeshError, MeshStart, Requests};
use super::node::Node;
use super::purges::{Desk, reconcile};
use super::resolve::Lookups;
use super::seeds::Seeds;
use super::session::{self, Sessions};
use super::view::View;
use super::{announce, directory, enrol, events, invalidations, report};
use crate::config::model::Peer;
use crate::proto::swarm::Member;
use crate::tls::cluster::Identity;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Questions of peers that wait to be answered; further ones are refused.
const REQUESTS_MAX: usize = 1024;

/// What a mesh consists of, as its owner sees it.
pub(super) type Started = (Arc<Node>, mpsc::Sender<Told>, Requests);

/// Loads the identity that the configuration names and starts with it.
pub(super) async fn start(start: MeshStart) -> Result<Started, MeshError> {
    let (peer, node) = (peer(&start)?, &start.config.node);
    let identity = Identity::load(peer, &node.name, node.roles, start.clock.now().wall)?;
    start_as(start, identity).await
}

/// Binds the endpoint and starts the tasks.
pub(super) async fn start_as(start: MeshStart, identity: Identity) -> Result<Started, MeshError> {
    let (peer, config) = (peer(&start)?.clone(), &start.config.node);
    let me = Member {
        id: identity.certified().id,
        address: reached_at(&peer).await?,
        name: config.name.as_str().into(),
        zone: config.zone.as_deref().unwrap_or_default().into(),
        roles: config.roles,
        incarnation: u64::try_from(start.clock.now().wall.as_millis()).unwrap_or(0),
    };
    let (links, link_events) = Links::open(&start, identity, me)?;
    let (desk, compared) = Desk::new();
    let (invalidations, changed) = Invalidations::new();
    let node = Arc::new(node_of(start, &peer, links, (desk, invalidations)));
    let (membership, requests) = begin(&node, &peer, link_events);
    node.spawner.spawn(reconcile::run(node.clone(), compared, has_seeds(&node, &peer)));
    node.spawner.spawn(invalidations::run(node.clone(), changed));
    tracing::info!(node = %node.me.id, address = %node.me.address, "listens for peers");
    Ok((node, membership, requests))
}

/// Whether there is anybody to look for but this node.
fn has_seeds(node: &Node, peer: &Peer) -> bool {
    let me = node.me.address.to_string();
    peer.seeds.iter().any(|seed| *seed != me)
}

fn peer(start: &MeshStart) -> Result<&Peer, MeshError> {
    start.config.peer.as_ref().ok_or(MeshError::NoFleet)
}

fn node_of(
    start: MeshStart,
    peer: &Peer,
    links: Links,
    (desk, invalidations): (Desk, Invalidations),
) -> Node {
    let me = links.me().clone();
    let now = start.clock.mono();
    let alone = View::new(&me, Vec::new(), VecDeque::new(), |_| None);
    Node {
        directory: me.roles.superpeer.then(|| Service::new(&me, peer.directory_max, now)),
        me,
        clock: start.clock,
        spawner: start.spawner,
        metrics: start.metrics,
        purges: start.purges,
        desk,
        invalidations,
        inventory: start.inventory,
        links,
        views: watch::Sender::new(Arc::new(alone)),
        sessions: Sessions::default(),
        leases: Leases::default(),
        lookups: Lookups::default(),
        quarantine: Mutex::default(),
        leaving: CancellationToken::new(),
    }
}

/// Starts the tasks, all of which end with the spawner.
fn begin(
    node: &Arc<Node>,
    peer: &Peer,
    link_events: mpsc::Receiver<LinkEvent>,
) -> (mpsc::Sender<Told>, Requests) {
    let (told_tx, told_rx) = mpsc::channel(membership::TOLD_MAX);
    let (requests_tx, requests_rx) = mpsc::channel(REQUESTS_MAX);
    let spawner = &node.spawner;
    spawner.spawn(events::run(node.clone(), link_events, told_tx.clone(), requests_tx));
    spawner.spawn(membership::run(node.clone(), told_rx));
    spawner.spawn(membership::look_for_seeds(node.clone(), Seeds::new(&peer.seeds), told_tx.clone()));
    spawner.spawn(session::run(node.clone()));
    spawner.spawn(announce::run(node.clone()));
    spawner.spawn(directory::keep_time(node.clone()));
    spawner.spawn(keep_certified(node.clone(), peer.seeds.clone()));
    report::sample_into_metrics(node);
    (told_tx, requests_rx)
}

/// Whoever has no certificate yet knows no superpeers but the seeds.
async fn keep_certified(node: Arc<Node>, seeds: Vec<String>) {
    let seeds = Seeds::new(&seeds);
    let superpeers = async || {
        let view = node.view();
        let known = view.others().filter(|member| member.roles.superpeer).map(|member| member.address);
        let mut known: Vec<_> = known.collect();
        if known.is_empty() {
            known = seeds.resolve().await;
        }
        known
    };
    enrol::keep_certified(node.links.clone(), superpeers).await;
}

/// The address that others are told.
async fn reached_at(peer: &Peer) -> Result<SocketAddr, MeshError> {
    let named = match &peer.advertise {
        None => Some(peer.listen),
        Some(place) => {
            let resolved = Seeds::new(std::slice::from_ref(place)).resolve().await;
            // One that listens on an IPv4 address alone is not reached by IPv6.
            resolved.into_iter().find(|at| at.is_ipv4() || peer.listen.is_ipv6())
        }
    };
    let said = || peer.advertise.clone().unwrap_or_else(|| peer.listen.to_string());
    named.filter(|at| !at.ip().is_unspecified()).ok_or_else(|| MeshError::Advertise(said()))
}
