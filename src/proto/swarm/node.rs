//! Nodes and their roles.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Identity of a node: the first 128 bits of the BLAKE3 hash of its public key (as
/// SubjectPublicKeyInfo in DER).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct NodeId(pub [u8; 16]);

impl NodeId {
    /// The identity that a public key gives.
    pub fn of_key(public_key: &[u8]) -> Self {
        let hash = blake3::hash(public_key);
        Self(*hash.as_bytes().first_chunk().expect("a BLAKE3 hash has 32 bytes"))
    }

    /// Reads an identity from a message. `None` if it has not its length.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a node does in the fleet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct Roles {
    /// Serves clients and gives to peers.
    pub edge: bool,
    /// Keeps a part of the directory and grants leases.
    pub superpeer: bool,
}

impl Roles {
    /// An edge and nothing else.
    pub const EDGE: Self = Self { edge: true, superpeer: false };

    /// As bits on the wire.
    pub const fn bits(self) -> u32 {
        self.edge as u32 | (self.superpeer as u32) << 1
    }

    /// From bits on the wire; unknown ones are ignored.
    pub const fn of_bits(bits: u32) -> Self {
        Self { edge: bits & 1 != 0, superpeer: bits & 2 != 0 }
    }

    /// The roles that are in both.
    pub const fn and(self, other: Self) -> Self {
        Self { edge: self.edge && other.edge, superpeer: self.superpeer && other.superpeer }
    }

    /// The names of the roles.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [("edge", self.edge), ("superpeer", self.superpeer)]
            .into_iter()
            .filter_map(|(name, has)| has.then_some(name))
    }
}

/// A node as others know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Identity.
    pub id: NodeId,
    /// Where it is reached.
    pub address: SocketAddr,
    /// `node.name`.
    pub name: Arc<str>,
    /// `node.zone`, or empty.
    pub zone: Arc<str>,
    /// What its certificate lets it be and it says to be.
    pub roles: Roles,
    /// Its life: greater after a restart.
    pub incarnation: u64,
}
