#![doc = include_str!("ARCHITECTURE.md")]

pub mod admin;
pub mod app;
pub mod body;
pub mod cli;
pub mod clock;
pub mod config;
pub mod front;
pub mod net;
pub mod origin;
pub mod peer;
pub mod proto;
pub mod purge;
pub mod route;
pub mod serve;
pub mod store;
pub mod task;
pub mod telemetry;
pub mod tls;
pub mod token;
pub mod workload;

// Tests of rooms share parts with those in `tests/`, which know the crate by its name.
#[cfg(test)]
extern crate self as shoal;
