//! The messages, as protobuf structs written by hand. Identities are byte strings; readers refuse other lengths.

use super::hello::Hello;
use super::purges::{Invalidate, Purges};
use super::reading::{Open, Read};
use prost::{Message, Oneof};

/// The first message of every stream.
#[derive(Clone, PartialEq, Message)]
pub struct Ask {
    /// What is asked. `None` is a kind that this version does not know.
    #[prost(oneof = "ask::Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub kind: Option<ask::Kind>,
}

/// Kinds of [`Ask`].
pub mod ask {
    use super::{Hello, Invalidate, Oneof, Open, Purges, Read, Resolve, Session};

    /// What is asked.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Kind {
        /// Who are you?
        #[prost(message, tag = "1")]
        Hello(Hello),
        /// Who has this object?
        #[prost(message, tag = "2")]
        Resolve(Resolve),
        /// Keep what I have in your directory.
        #[prost(message, tag = "3")]
        Session(Session),
        /// Send me a stored or arriving version.
        #[prost(message, tag = "4")]
        Read(Read),
        /// You are its home: send me this object, from the origin if need be.
        #[prost(message, tag = "5")]
        Open(Open),
        /// What have you applied? This is what you may lack.
        #[prost(message, tag = "6")]
        Purges(Purges),
        /// What do you have of this object?
        #[prost(message, tag = "7")]
        Look(crate::proto::wire::Look),
        /// These have changed.
        #[prost(message, tag = "8")]
        Invalidate(Invalidate),
    }
}

/// RESOLVE: who has this variant of this object, or may fetch it?
#[derive(Clone, PartialEq, Message)]
pub struct Resolve {
    /// `ObjectId`.
    #[prost(bytes = "vec", tag = "1")]
    pub object: Vec<u8>,
    /// `VariantId`, as far as the asker knows what the object varies by.
    #[prost(bytes = "vec", tag = "2")]
    pub variant: Vec<u8>,
    /// Whether the asker knows what the object varies by, or that it does not. If not, holders of any variant
    /// can tell it.
    #[prost(bool, tag = "3")]
    pub vary_known: bool,
    /// Whether the asker has a stale version that could be validated: then only fresher holders help.
    #[prost(bool, tag = "4")]
    pub held: bool,
    /// Whether the asker would fetch from the origin under a lease. If not, holders only are named.
    #[prost(bool, tag = "5")]
    pub lease_wanted: bool,
    /// `NodeId`s that the asker will not ask (again); at most [`AVOID_MAX`].
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub avoid: Vec<Vec<u8>>,
    /// How many of those to be avoided have had only what a purge selects.
    #[prost(uint32, tag = "7")]
    pub purged: u32,
    /// Lease whose fetch a purge overtook: nobody may follow it any more.
    #[prost(message, optional, tag = "8")]
    pub overtaken: Option<Token>,
}

/// Nodes that a [`Resolve`] may name to be avoided, at most.
pub const AVOID_MAX: usize = 16;

/// Answer to [`Resolve`].
#[derive(Clone, PartialEq, Message)]
pub struct Resolved {
    /// The answer. `None` is one that this version does not know.
    #[prost(oneof = "resolved::Kind", tags = "1, 2, 3, 4, 5, 6")]
    pub kind: Option<resolved::Kind>,
}

/// Kinds of [`Resolved`].
pub mod resolved {
    use super::{Alone, Follow, Grant, Holders, Oneof, Place, Warming};

    /// What is to be done.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Kind {
        /// These have it.
        #[prost(message, tag = "1")]
        Holders(Holders),
        /// Nobody has it: fetch it from the origin.
        #[prost(message, tag = "2")]
        Lease(Grant),
        /// Somebody is fetching it, or relays it: read it there while it comes.
        #[prost(message, tag = "3")]
        Follow(Follow),
        /// This node has a fresher version than the one held.
        #[prost(message, tag = "4")]
        Fresher(Place),
        /// It was found not to be worth sharing: go to the origin, without telling.
        #[prost(message, tag = "5")]
        Alone(Alone),
        /// The directory does not know yet what every node has.
        #[prost(message, tag = "6")]
        Warming(Warming),
    }
}

/// A node and how it is reached.
#[derive(Clone, PartialEq, Message)]
pub struct Place {
    /// `NodeId`.
    #[prost(bytes = "vec", tag = "1")]
    pub node: Vec<u8>,
    /// `ip:port`.
    #[prost(string, tag = "2")]
    pub address: String,
    /// Its zone, or empty.
    #[prost(string, tag = "3")]
    pub zone: String,
}

/// Nodes that have it, nearest first, at most [`HOLDERS_MAX`].
#[derive(Clone, PartialEq, Message)]
pub struct Holders {
    /// The nodes.
    #[prost(message, repeated, tag = "1")]
    pub places: Vec<Place>,
}

/// Holders that an answer names at most.
pub const HOLDERS_MAX: usize = 8;

/// A fencing token: which superpeer granted it, in which life of it, and the how manieth.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct Token {
    /// First eight bytes of the superpeer's `NodeId`, little-endian.
    #[prost(fixed64, tag = "1")]
    pub issuer: u64,
    /// The superpeer's life, its incarnation.
    #[prost(fixed64, tag = "2")]
    pub term: u64,
    /// Counts its grants.
    #[prost(uint64, tag = "3")]
    pub number: u64,
}

/// A lease.
#[derive(Clone, PartialEq, Message)]
pub struct Grant {
    /// Its token.
    #[prost(message, optional, tag = "1")]
    pub token: Option<Token>,
    /// After so many milliseconds without a [`Renew`] it is given to another.
    #[prost(uint32, tag = "2")]
    pub term_millis: u32,
}

/// Whom to follow.
#[derive(Clone, PartialEq, Message)]
pub struct Follow {
    /// The node to read from.
    #[prost(message, optional, tag = "1")]
    pub place: Option<Place>,
    /// The lease under which the version arrives.
    #[prost(message, optional, tag = "2")]
    pub token: Option<Token>,
}

/// Not worth sharing.
#[derive(Clone, PartialEq, Message)]
pub struct Alone {
    /// For so long; the asker need not ask again before.
    #[prost(uint32, tag = "1")]
    pub for_millis: u32,
}

/// Not ready to answer.
#[derive(Clone, PartialEq, Message)]
pub struct Warming {}

/// Opens a session; [`Note`]s follow both ways.
#[derive(Clone, PartialEq, Message)]
pub struct Session {
    /// Counts the sessions of this node's life: a newer one takes the place of an older.
    #[prost(uint64, tag = "1")]
    pub number: u64,
}

/// A message within a session.
#[derive(Clone, PartialEq, Message)]
pub struct Note {
    /// What is said. `None` is a kind that this version does not know, and is skipped.
    #[prost(oneof = "note::Kind", tags = "1, 2, 3, 4, 5, 6")]
    pub kind: Option<note::Kind>,
}

/// Kinds of [`Note`].
pub mod note {
    use super::{Announce, Done, Gone, Granted, Leaving, Oneof, Renew};

    /// What is said.
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Kind {
        /// Edge to superpeer: what it has and has no more.
        #[prost(message, tag = "1")]
        Announce(Announce),
        /// Edge to superpeer: its leases are being worked on. Also the heartbeat of the session.
        #[prost(message, tag = "2")]
        Renew(Renew),
        /// Edge to superpeer: a lease came to its end.
        #[prost(message, tag = "3")]
        Done(Done),
        /// Edge to superpeer: a node that was named does not have it.
        #[prost(message, tag = "4")]
        Gone(Gone),
        /// Superpeer to superpeer: a copy of a grant; or edge to superpeer, after a reconnect: a
        /// lease that it works under.
        #[prost(message, tag = "5")]
        Granted(Granted),
        /// Either way: the sender goes away in order.
        #[prost(message, tag = "6")]
        Leaving(Leaving),
    }
}

/// What an edge has and has no more.
#[derive(Clone, PartialEq, Message)]
pub struct Announce {
    /// What it has.
    #[prost(message, repeated, tag = "1")]
    pub added: Vec<Holding>,
    /// What it has no more.
    #[prost(message, repeated, tag = "2")]
    pub removed: Vec<Holding>,
    /// Everything that it had when the session began has been named.
    #[prost(bool, tag = "3")]
    pub complete: bool,
}

/// Holdings that one [`Announce`] names at most.
pub const HOLDINGS_MAX: usize = 4096;

/// A variant of an object.
#[derive(Clone, PartialEq, Message)]
pub struct Holding {
    /// `ObjectId`.
    #[prost(bytes = "vec", tag = "1")]
    pub object: Vec<u8>,
    /// `VariantId`.
    #[prost(bytes = "vec", tag = "2")]
    pub variant: Vec<u8>,
    /// For how many more seconds it is fresh; 0 if it is stale.
    #[prost(uint32, tag = "3")]
    pub fresh_secs: u32,
}

/// These leases are being worked on.
#[derive(Clone, PartialEq, Message)]
pub struct Renew {
    /// Their tokens.
    #[prost(message, repeated, tag = "1")]
    pub tokens: Vec<Token>,
}

/// A lease came to its end.
#[derive(Clone, PartialEq, Message)]
pub struct Done {
    /// Its token.
    #[prost(message, optional, tag = "1")]
    pub token: Option<Token>,
    /// As `swarm::Ending`.
    #[prost(uint32, tag = "2")]
    pub ending: u32,
    /// What is stored now, if anything is; its variant may be another than was asked for.
    #[prost(message, optional, tag = "3")]
    pub holding: Option<Holding>,
}

/// A node that was named does not have it.
#[derive(Clone, PartialEq, Message)]
pub struct Gone {
    /// What was sought.
    #[prost(message, optional, tag = "1")]
    pub holding: Option<Holding>,
    /// `NodeId` of the node that was named.
    #[prost(bytes = "vec", tag = "2")]
    pub node: Vec<u8>,
    /// Whether it had what a purge selects.
    #[prost(bool, tag = "3")]
    pub purged: bool,
}

/// A grant, told to others than its receiver.
#[derive(Clone, PartialEq, Message)]
pub struct Granted {
    /// Its token.
    #[prost(message, optional, tag = "1")]
    pub token: Option<Token>,
    /// What it is for.
    #[prost(message, optional, tag = "2")]
    pub holding: Option<Holding>,
    /// `NodeId` of the edge that has it.
    #[prost(bytes = "vec", tag = "3")]
    pub node: Vec<u8>,
    /// Whether it has ended.
    #[prost(bool, tag = "4")]
    pub ended: bool,
}

/// Going away.
#[derive(Clone, PartialEq, Message)]
pub struct Leaving {}
