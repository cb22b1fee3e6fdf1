//! The node's part in the swarm: QUIC connections to other nodes, who they are, and what the
//! directory says. This room carries messages; what is asked of peers and given to them is decided in
//! `serve`, what the directory answers in `proto::swarm`.

mod exchange;
mod identity;
mod link;
mod members;
mod mesh;
mod seeds;

pub use exchange::{AskError, Exchange};
pub use mesh::{Answer, Blame, Inventory, Lease, Mesh, MeshError, MeshStart, PeerRequest, Requests};
