//! TLS: certificates that clients see, by SNI and reloaded when their files change; trust towards
//! origins.

pub mod client;
pub mod cluster;
pub mod server;
