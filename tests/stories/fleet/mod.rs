//! Stories of a fleet: whole nodes in this process, over real QUIC and TCP on loopback, counted at the origin.

mod bodies;
pub(crate) mod cluster;
mod failing;
mod looking;
mod sharing;
mod trust;
mod versions;
