//! Reading a version from a peer: the questions and the head of the answer, as protobuf structs written by hand.

use super::message::{Gone, Token};
use super::purges::{Apart, Covered};
use prost::{Message, Oneof};

/// Send me a version.
#[derive(Clone, PartialEq, Message)]
pub struct Read {
    /// `ObjectId`.
    #[prost(bytes = "vec", tag = "1")]
    pub object: Vec<u8>,
    /// `VariantId`, as far as the asker knows what the object varies by.
    #[prost(bytes = "vec", tag = "2")]
    pub variant: Vec<u8>,
    /// `VersionId`, if only this one will do: for later chunks and for what is left of a version.
    #[prost(bytes = "vec", tag = "3")]
    pub version: Vec<u8>,
    /// First body byte.
    #[prost(uint64, tag = "4")]
    pub from: u64,
    /// Body byte before which to end; 0 is the end of the body. Otherwise the end of a chunk. An arriving version
    /// comes to its end if none is named.
    #[prost(uint64, tag = "5")]
    pub to: u64,
    /// Lease under which it arrives there, if it is to be followed.
    #[prost(message, optional, tag = "6")]
    pub follow: Option<Token>,
    /// `VersionId` of what the asker has and wants validated: the body is left out if it is that.
    #[prost(bytes = "vec", tag = "7")]
    pub held: Vec<u8>,
    /// Hash of the purges that the asker covers, all of which the giver must cover. Empty is not checked: the asker is of an
    /// older version, or reads on in a version whose head it was given.
    #[prost(bytes = "vec", tag = "8")]
    pub digest: Vec<u8>,
    /// These purges, in words, if it was found that the hashes differ.
    #[prost(message, repeated, tag = "9")]
    pub covered: Vec<Covered>,
}

/// Send me an object, from the origin if need be: asked of its home edge by one that no superpeer
/// answers. Resolved by the receiver's own routes, never passed on. Without cookies and authorization.
#[derive(Clone, PartialEq, Message)]
pub struct Open {
    /// The encoded `CacheKey`, to be compared with the receiver's own.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// Request fields, as they would be sent to the origin.
    #[prost(message, repeated, tag = "2")]
    pub fields: Vec<Field>,
    /// What is to be read of it; its identities are what the asker takes them for.
    #[prost(message, optional, tag = "3")]
    pub read: Option<Read>,
    /// Always 1: a home edge does not ask another.
    #[prost(uint32, tag = "4")]
    pub hops: u32,
}

/// A field of a message head.
#[derive(Clone, PartialEq, Message)]
pub struct Field {
    /// Name, lower case.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Value.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// First answer to [`Read`] and [`Open`]; body frames follow a head alone.
#[derive(Clone, PartialEq, Message)]
pub struct Reply {
    /// The answer. `None` is one that this version does not know.
    #[prost(oneof = "reply::Kind", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub kind: Option<reply::Kind>,
}

/// Kinds of [`Reply`].
pub mod reply {
    use super::{Apart, Busy, Failed, Gone, Head, NotStored, Oneof, Varies};

    /// What comes, or why nothing does.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Kind {
        /// The version; its body follows unless it is the one held.
        #[prost(message, tag = "1")]
        Head(Head),
        /// The object varies by other fields than the asker took it to.
        #[prost(message, tag = "2")]
        Varies(Varies),
        /// Nothing of it is here that may be given away.
        #[prost(message, tag = "3")]
        Gone(Gone),
        /// Too many read here already.
        #[prost(message, tag = "4")]
        Busy(Busy),
        /// The origin's response may not be stored: ask for yourself.
        #[prost(message, tag = "5")]
        NotStored(NotStored),
        /// The origin gave no response.
        #[prost(message, tag = "6")]
        Failed(Failed),
        /// One of the two has not applied all purges that the other has.
        #[prost(message, tag = "7")]
        Apart(Apart),
    }
}

/// Head of a version.
#[derive(Clone, PartialEq, Message)]
pub struct Head {
    /// The encoded `CacheKey`.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// Status.
    #[prost(uint32, tag = "2")]
    pub status: u32,
    /// End-to-end fields as stored.
    #[prost(message, repeated, tag = "3")]
    pub fields: Vec<Field>,
    /// Current age in seconds, at the moment of sending (RFC 9111 §4.2.3).
    #[prost(uint32, tag = "4")]
    pub age: u32,
    /// Length of the body, if known.
    #[prost(uint64, optional, tag = "5")]
    pub length: Option<u64>,
    /// `VariantId`.
    #[prost(bytes = "vec", tag = "6")]
    pub variant: Vec<u8>,
    /// `VersionId`.
    #[prost(bytes = "vec", tag = "7")]
    pub version: Vec<u8>,
    /// The request fields that the object varies by.
    #[prost(string, repeated, tag = "8")]
    pub vary: Vec<String>,
    /// Whether the version is still arriving at the sender.
    #[prost(bool, tag = "9")]
    pub arriving: bool,
    /// BLAKE3 hashes of the chunks, 32 bytes each; all of them if the version is stored and its beginning was
    /// asked for, else none.
    #[prost(bytes = "vec", tag = "10")]
    pub hashes: Vec<u8>,
    /// Whether the version is the one that the asker holds, so that no body follows.
    #[prost(bool, tag = "11")]
    pub same: bool,
}

/// What the object varies by.
#[derive(Clone, PartialEq, Message)]
pub struct Varies {
    /// Names of the request fields, in the order of the list.
    #[prost(string, repeated, tag = "1")]
    pub names: Vec<String>,
}

/// Too many read here.
#[derive(Clone, PartialEq, Message)]
pub struct Busy {}

/// The response may not be stored.
#[derive(Clone, PartialEq, Message)]
pub struct NotStored {
    /// Whether its status is 500, 502, 503 or 504.
    #[prost(bool, tag = "1")]
    pub server_error: bool,
    /// Whether others would get the like, so that it is worth remembering.
    #[prost(bool, tag = "2")]
    pub of_object: bool,
}

/// The origin gave no response.
#[derive(Clone, PartialEq, Message)]
pub struct Failed {
    /// The named reason.
    #[prost(string, tag = "1")]
    pub reason: String,
}
