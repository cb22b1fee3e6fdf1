//! What an edge asks the directory and what it is answered, as typed values.

use super::{NodeId, Roles};
use crate::proto::key::{ObjectId, VariantId};
pub use crate::proto::wire::Token;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A RESOLVE, as its asker means it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The object.
    pub object: ObjectId,
    /// The variant, as far as the asker knows what the object varies by.
    pub variant: VariantId,
    /// Whether the asker knows what the object varies by, or that it does not.
    pub vary_known: bool,
    /// Whether the asker holds a stale version, so that only fresher holders help.
    pub held: bool,
    /// Whether it would fetch from the origin under a lease. Otherwise only holders are named.
    pub lease_wanted: bool,
    /// Nodes that it will not ask (again); at most `wire::AVOID_MAX`.
    pub avoid: Vec<NodeId>,
    /// How many holders that were named had only what a purge selects. After [`PURGED_MAX`] no holder is named any more: a
    /// fetch costs less than asking all in vain.
    pub purged: u32,
    /// A lease whose fetch a purge overtook, as its holder or a follower said: it is given to another.
    pub overtaken: Option<Token>,
}

impl Query {
    /// Who has or fetches the object; nothing changes by it.
    pub fn look(object: ObjectId, variant: VariantId) -> Self {
        Self {
            object,
            variant,
            vary_known: false,
            held: false,
            lease_wanted: false,
            avoid: Vec::new(),
            purged: 0,
            overtaken: None,
        }
    }
}

/// Holders of what a purge selects that are asked at most.
pub const PURGED_MAX: u32 = 2;

/// A node and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Identity.
    pub node: NodeId,
    /// Address.
    pub address: SocketAddr,
    /// Zone, or empty.
    pub zone: Arc<str>,
}

/// What the directory answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// These have it, fresh as far as is known; nearest first, at most `wire::HOLDERS_MAX`, never none.
    Holders(Vec<Place>),
    /// Nobody has it: the asker may fetch it, and renews within the term.
    Lease(Token, Duration),
    /// It arrives at this node under this lease: read it there as it comes.
    Follow(Place, Token),
    /// This node has a fresher version than the stale one that the asker holds.
    Fresher(Place),
    /// Not worth sharing, for so long.
    Alone(Duration),
    /// The directory does not know yet what every node has.
    Warming,
}

/// How a lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The version is stored at the lease holder.
    Stored,
    /// It was delivered but is not kept (no room, overtaken by an invalidation).
    NotKept,
    /// The response may not be stored, and others would get the like: tell them to go alone.
    Uncacheable,
    /// The response may not be stored, which says nothing of others.
    NotStorable,
    /// The origin gave no response, or broke off.
    Failed,
}

impl Ending {
    /// As on the wire.
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// From the wire; what is not known counts as failed.
    pub const fn of_code(code: u32) -> Self {
        match code {
            0 => Self::Stored,
            1 => Self::NotKept,
            2 => Self::Uncacheable,
            3 => Self::NotStorable,
            _ => Self::Failed,
        }
    }
}

/// A node with which the directory has a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Where it is.
    pub place: Place,
    /// Its roles.
    pub roles: Roles,
}

/// A variant that a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The object.
    pub object: ObjectId,
    /// The variant.
    pub variant: VariantId,
    /// Seconds for which it stays fresh; 0 if it is stale.
    pub fresh_secs: u32,
}

/// What a node has and has no more, since it was last asked.
#[derive(Debug, Default)]
pub struct Changes {
    /// Variants that are there now, or whose freshness changed.
    pub added: Vec<Holding>,
    /// Variants that are gone.
    pub removed: Vec<Holding>,
    /// Some were dropped, so that everything must be announced anew.
    pub overflowed: bool,
    /// There are more.
    pub more: bool,
}
