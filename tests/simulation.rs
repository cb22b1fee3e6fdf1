//! Whole fleets on a simulated network: real nodes, real QUIC, virtual time, and failures by seed. `SHOAL_SEED` runs
//! each story with that seed alone. Keys of nodes and all that is drawn by a story come from the seed; what TLS draws
//! does not, so that two runs may differ by a few bytes in a packet.

#![expect(clippy::unwrap_used, reason = "a story that cannot be told fails")]

#[path = "common/turmoil_net.rs"]
mod turmoil_net;
#[expect(dead_code, reason = "not all of it is needed here")]
#[path = "common/wire.rs"]
mod wire;

#[path = "simulation/chaos.rs"]
mod chaos;
#[path = "simulation/crashes.rs"]
mod crashes;
#[path = "simulation/crowds.rs"]
mod crowds;
#[path = "simulation/fleet.rs"]
mod fleet;
#[path = "simulation/keys.rs"]
mod keys;
#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/networks.rs"]
mod networks;
#[path = "simulation/origin.rs"]
mod origin;
#[path = "simulation/partitions.rs"]
mod partitions;
#[path = "simulation/purges.rs"]
mod purges;
#[path = "simulation/story.rs"]
mod story;
