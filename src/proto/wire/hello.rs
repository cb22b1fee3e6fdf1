//! What both ends of a connection say first. Both must read it whatever the other's version is: fields are added, and
//! none is given another meaning.

use prost::Message;

/// Who a node is and what it speaks.
#[derive(Clone, PartialEq, Message)]
pub struct Hello {
    /// Lowest minor version of the wire that it speaks.
    #[prost(uint32, tag = "1")]
    pub version_min: u32,
    /// Highest minor version.
    #[prost(uint32, tag = "2")]
    pub version_max: u32,
    /// Features as bits; unknown ones are ignored.
    #[prost(uint64, tag = "3")]
    pub features: u64,
    /// `node.name`.
    #[prost(string, tag = "4")]
    pub name: String,
    /// `node.zone`, or empty.
    #[prost(string, tag = "5")]
    pub zone: String,
    /// Roles as bits (`swarm::Roles`); believed only as far as the certificate says so.
    #[prost(uint32, tag = "6")]
    pub roles: u32,
    /// Address at which it can be reached, `ip:port`.
    #[prost(string, tag = "7")]
    pub address: String,
    /// Version of the program, for people.
    #[prost(string, tag = "8")]
    pub program: String,
    /// Starts of this node's process, for telling a restart: milliseconds of its clock, only compared
    /// with what the same node said before.
    #[prost(uint64, tag = "9")]
    pub incarnation: u64,
    /// Features that the other must know too, or refuse this node.
    #[prost(uint64, tag = "10")]
    pub required: u64,
    /// Major version of the wire that it speaks.
    #[prost(uint32, tag = "11")]
    pub major: u32,
}
