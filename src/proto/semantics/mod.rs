//! The HTTP cache rules (RFC 9110, 9111, 5861, 9211, 9213) as questions answered with `now` passed in.

mod facts;
mod policy;

pub use facts::{ResponseFacts, StoreReason};
pub use policy::{CachePolicy, SetCookie};
