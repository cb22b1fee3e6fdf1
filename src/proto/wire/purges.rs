//! Purges on the wire: what a node has applied and what another lacks of it, and, apart from these, objects that an
//! unsafe request changed. Made of and read into typed values by [`proto::purge`](crate::proto::purge).

use prost::Message;

/// Items (issuers, steps, purges and floors together) that one [`Purges`] has at most: with 58 bytes each it is no longer than
/// a question may be.
pub const PURGES_MAX: usize = 4096;
/// Objects that one [`Invalidate`] names at most.
pub const INVALIDATED_MAX: usize = 1024;

/// What the sender has applied, and purges that the receiver may lack: question and answer alike. What does not fit into
/// one goes on in the next frame.
#[derive(Clone, PartialEq, Message)]
pub struct Purges {
    /// Hash of what the sender covers, 16 bytes. In the first one.
    #[prost(bytes = "vec", tag = "1")]
    pub digest: Vec<u8>,
    /// Whether `covered` is all that the sender covers. In the first one.
    #[prost(bool, tag = "2")]
    pub stated: bool,
    /// What the sender covers, by issuer.
    #[prost(message, repeated, tag = "3")]
    pub covered: Vec<Covered>,
    /// From where to where the purges below lead, by issuer.
    #[prost(message, repeated, tag = "4")]
    pub steps: Vec<PurgeStep>,
    /// Purges.
    #[prost(message, repeated, tag = "5")]
    pub entries: Vec<PurgeEntry>,
    /// Purges of whole sites or of everything that stand for forgotten ones.
    #[prost(message, repeated, tag = "6")]
    pub floors: Vec<PurgeEntry>,
    /// Of an answer, in the first one: as `purge::Reception`.
    #[prost(uint32, tag = "7")]
    pub reception: u32,
    /// Whether another follows that belongs to it.
    #[prost(bool, tag = "8")]
    pub more: bool,
}

/// All purges of an issuer up to this one.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Covered {
    /// The issuer.
    #[prost(fixed64, tag = "1")]
    pub issuer: u64,
    /// The number of the last.
    #[prost(uint64, tag = "2")]
    pub number: u64,
}

/// The purges of an issuer behind `basis`, up to `number`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct PurgeStep {
    /// The issuer.
    #[prost(fixed64, tag = "1")]
    pub issuer: u64,
    /// What whoever applies them must cover already.
    #[prost(uint64, tag = "2")]
    pub basis: u64,
    /// What is covered then.
    #[prost(uint64, tag = "3")]
    pub number: u64,
}

/// A purge of one target.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct PurgeEntry {
    /// Who issued it.
    #[prost(fixed64, tag = "1")]
    pub issuer: u64,
    /// The how manieth of the issuer it is.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// Code of the selector's kind (`purge::SelectorKind`).
    #[prost(uint32, tag = "3")]
    pub kind: u32,
    /// 0 hard, 1 soft.
    #[prost(uint32, tag = "4")]
    pub mode: u32,
    /// Hash of the site's name; 0 is all sites.
    #[prost(fixed64, tag = "5")]
    pub site: u64,
    /// Bytes of the path of a prefix; else 0.
    #[prost(uint32, tag = "6")]
    pub length: u32,
    /// First half of the hash of what is selected, little-endian.
    #[prost(fixed64, tag = "7")]
    pub hash_low: u64,
    /// Second half.
    #[prost(fixed64, tag = "8")]
    pub hash_high: u64,
}

/// A peer must not give what is asked: one of the two does not know all purges that the other does.
#[derive(Clone, PartialEq, Message)]
pub struct Apart {
    /// What the peer covers, all of it.
    #[prost(message, repeated, tag = "1")]
    pub covered: Vec<Covered>,
}

/// An unsafe request of a client changed these at the origin (RFC 9111 §4.4). Not passed on, and not answered: the stream ends.
#[derive(Clone, PartialEq, Message)]
pub struct Invalidate {
    /// `ObjectId`s, at most [`INVALIDATED_MAX`].
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub objects: Vec<Vec<u8>>,
}
