//! The swarm, without its sockets: who is who, where an object's directory and home are, what the
//! directory knows and answers, and how an edge seeks an object.

mod convert;
mod directory;
mod node;
mod query;
mod rendezvous;

pub use convert::ConvertError;
pub use directory::{Directory, DirectoryAction, DirectoryStats};
pub use node::{Member, NodeId, Roles};
pub use query::{Changes, Ending, Finding, Holding, PURGED_MAX, Party, Place, Query, Token};
pub use rendezvous::{home, top_two};
