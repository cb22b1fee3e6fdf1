//! What we have agreed with others, as pure values and functions: with clients (RFC 9110, 9111), with peers (wire),
//! and with our future self (bytes on disk).
//!
//! Nothing in this room opens a socket or a file, reads a clock, takes a lock, draws a random
//! number, logs or counts: time, seeds and effects are parameters and results.

pub mod allowance;
pub mod authority;
pub mod flood;
pub mod framing;
pub mod health;
pub mod key;
pub mod object;
pub mod plan;
pub mod proxy;
pub mod purge;
pub mod relay;
pub mod scheduler;
pub mod seek;
pub mod segment;
pub mod semantics;
pub mod swarm;
pub mod time;
pub mod verdict;
pub mod wire;
