//! Rules of the room, shown against servers that speak bytes.

mod balancing;
mod fixture;
mod http1;
mod http2;
mod names;
mod pooling;
mod tls;
