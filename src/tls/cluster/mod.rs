//! The cluster's own certificates: an authority, a certificate with roles for each node, and join tokens
//! with which a node without one gets one.
//!
//! A node is told from others by the hash of its public key, and what it may be stands in its certificate,
//! which only the cluster's authority makes. Trust towards origins and clients never lives here.
//!
//! ```text
//! Credentials::Files      certificate and key from files; reload reads them again, with the same key
//! Credentials::Authority  key of its own, certificate signed with the authority's key in hand, reload signs anew
//! Credentials::Token      key of its own, no certificate yet -> request -> a superpeer's Authority::enrol -> accept
//!                         later, with the certificate shown: request -> Authority::renew -> accept
//! ```
//! State: an [`Identity`] owns the key and the certificate in force. Handshakes read it without a lock; renewal
//! swaps it. A certificate that cannot be used never replaces one that works.

mod authority;
mod certified;
mod enrol;
mod error;
mod handshake;
mod identity;
mod key;
mod refusal;
mod token;

pub use authority::{Authority, ENROLLED_LIFETIME, LIFETIME_MAX};
pub use certified::{Certified, Description, is_name};
pub use error::{ClusterError, TokenError};
pub use handshake::Caller;
pub use identity::Identity;
pub use key::NodeKey;
pub use refusal::{refusal_of, refusal_of_connection};

/// The name that all node certificates are made for.
pub const SERVER_NAME: &str = "node.shoal";

/// Where the roles stand in a certificate: URIs among its alternative names that begin so.
const ROLE_URI: &str = "shoal://role/";

#[cfg(test)]
mod tests;
