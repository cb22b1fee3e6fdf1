//! LOOK: what a node has of an object, for an operator who wants to know. Nothing is sent of the body, nothing is
//! fetched, and nothing personal is told. A node that does not know the question refuses the stream.

use super::Head;
use prost::Message;

/// Versions that an answer tells of, at most.
pub const SEEN_MAX: usize = 8;

/// What do you have of this object?
#[derive(Clone, PartialEq, Message)]
pub struct Look {
    /// `ObjectId`.
    #[prost(bytes = "vec", tag = "1")]
    pub object: Vec<u8>,
}

/// Answer to [`Look`].
#[derive(Clone, PartialEq, Message)]
pub struct Looked {
    /// What is stored, at most [`SEEN_MAX`].
    #[prost(message, repeated, tag = "1")]
    pub seen: Vec<Seen>,
    /// Whether there are more.
    #[prost(bool, tag = "2")]
    pub more: bool,
    /// Whether a version arrives there.
    #[prost(bool, tag = "3")]
    pub arriving: bool,
}

/// A stored version.
#[derive(Clone, PartialEq, Message)]
pub struct Seen {
    /// Its head, without hashes.
    #[prost(message, optional, tag = "1")]
    pub head: Option<Head>,
    /// Records that it is of.
    #[prost(uint32, tag = "2")]
    pub records: u32,
    /// Those of them in memory.
    #[prost(uint32, tag = "3")]
    pub memory: u32,
    /// Those of them on disk.
    #[prost(uint32, tag = "4")]
    pub disk: u32,
}
