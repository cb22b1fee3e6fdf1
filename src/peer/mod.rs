//! The node's part in the swarm: QUIC connections to other nodes, who they are, and what the
//! directory says. This room carries messages; what is asked of peers and given to them is decided in
//! `serve`, what the directory answers in `proto::swarm`.

mod accept;
mod dial;
mod endpoint;
mod enrol;
mod exchange;
mod frames;
mod hello;
mod link;
mod members;
mod mesh;
mod refusal;
mod table;

pub use exchange::{AskError, Exchange};
pub use mesh::{Answer, Blame, Inventory, Lease, Mesh, MeshError, MeshStart, PeerRequest, Requests};

#[cfg(test)]
mod tests;
