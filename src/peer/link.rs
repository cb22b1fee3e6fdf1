//! Connections to other nodes: at most one in use to each, dialled when it is needed.

use super::exchange::{AskError, Exchange};
use super::mesh::{MeshError, MeshStart};
use crate::proto::swarm::{Member, NodeId};
use crate::proto::wire;
use crate::tls::cluster::Identity;
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// What happens on connections. The channel is bounded; its reader must keep up.
pub(super) enum LinkEvent {
    /// A connection stands, and hellos were exchanged: whoever dialled.
    Up(Link),
    /// The last connection to this node is gone.
    Down(NodeId),
    /// A peer asks something; never `Hello`.
    Asked {
        /// On which connection.
        link: Link,
        /// What.
        ask: wire::ask::Kind,
        /// Where to answer.
        exchange: Exchange,
    },
    /// A datagram came (membership).
    Datagram {
        /// From whom.
        link: Link,
        /// Its content.
        bytes: Bytes,
    },
}

/// A connection to a node whose certificate was checked and whose hello came. Clones are the same.
#[derive(Clone)]
pub(super) struct Link(Arc<()>);

impl Link {
    /// Who is at the other end: identity and roles as the certificate says (roles: those that the hello says too).
    pub(super) fn member(&self) -> &Member {
        let _ = &self.0;
        todo!()
    }

    /// Opens a stream and asks.
    pub(super) async fn ask(&self, _ask: wire::ask::Kind) -> Result<Exchange, AskError> {
        todo!()
    }

    /// Sends a datagram; dropped if there is no room.
    pub(super) fn datagram(&self, _bytes: Bytes) {
        todo!()
    }

    /// Smoothed round trip.
    pub(super) fn round_trip(&self) -> Duration {
        todo!()
    }

    /// Bytes sent and received on this connection.
    pub(super) fn bytes(&self) -> (u64, u64) {
        todo!()
    }
}

/// All connections of a node. Clones are the same.
#[derive(Clone)]
pub(super) struct Links(Arc<()>);

impl Links {
    /// Binds the endpoint and accepts.
    pub(super) fn open(
        _start: &MeshStart,
        _identity: Identity,
        _me: Member,
    ) -> Result<(Self, mpsc::Receiver<LinkEvent>), MeshError> {
        todo!()
    }

    /// The connection to `node` if one stands.
    pub(super) fn get(&self, _node: NodeId) -> Option<Link> {
        let _ = &self.0;
        todo!()
    }

    /// The connection to a node, dialled if none stands; dials to one address are joined, and an address that just
    /// failed is not tried again at once. `expect` is who must be there, if that is known.
    pub(super) async fn connect(&self, _to: SocketAddr, _expect: Option<NodeId>) -> Result<Link, AskError> {
        todo!()
    }

    /// All standing connections.
    pub(super) fn all(&self) -> Vec<Link> {
        todo!()
    }

    /// Closes all connections in order.
    pub(super) async fn close(&self) {
        todo!()
    }
}
