//! The node's part in the swarm: QUIC connections to other nodes, who they are, and what the
//! directory says. This room carries messages; what is asked of peers and given to them is decided in
//! `serve`, what the directory answers in `proto::swarm`.

mod accept;
mod announce;
mod dial;
mod directory;
mod endpoint;
mod enrol;
mod events;
mod exchange;
mod frames;
mod hello;
mod identity;
mod invalidations;
mod lease;
mod link;
mod members;
mod membership;
mod mesh;
mod node;
mod purges;
mod quarantine;
mod refusal;
mod report;
mod resolve;
mod seeds;
mod session;
mod settled;
mod start;
mod table;
mod view;

pub use exchange::{AskError, Exchange};
pub use lease::Lease;
pub use mesh::{Answer, Blame, Inventory, Mesh, MeshError, MeshStart, PeerRequest, Requests};
pub use purges::{Delivery, LEFT, Receipt};

#[cfg(test)]
#[path = "tests/meshes/mod.rs"]
mod meshes;
#[cfg(test)]
mod tests;
