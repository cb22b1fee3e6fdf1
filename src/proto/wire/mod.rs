//! What nodes say to each other.
//!
//! A connection is QUIC with both certificates of the cluster and ALPN [`ALPN`]. Whoever wants something
//! opens a bidirectional stream and sends one frame with an [`Ask`]; what follows depends on what was
//! asked:
//!
//! ```text
//! Hello    -> Hello                                       first stream of a connection, both ways
//! Resolve  -> Resolved                                    asked of a superpeer
//! Session  -> Note* <-> Note*                             to a superpeer, for as long as both live
//! Read     -> (Pulse* Reply) (Data* Pulse* Chunk)* End    asked of an edge
//! Open     -> as for Read                                 asked of the home edge
//! Look     -> Looked                                      asked of an edge, for `shoal explain`
//! ```
//! Messages are protobuf: fields that a version does not know are skipped. Body bytes go raw in
//! [`frame`]s. No message carries a time of day: ages and lifetimes are relative to the moment of
//! sending (design §4).

pub mod enrol;
pub mod frame;
pub mod look;
pub mod message;

pub use enrol::{Enrol, Enrolled, enrolled};
pub use frame::{Frame, FrameError, FrameHead};
pub use look::{Look, Looked, SEEN_MAX, Seen};
pub use message::*;

/// Protocol name of peer connections; its number is the major version.
pub const ALPN: &[u8] = b"shoal-peer/1";
/// Protocol name of the connection on which a node without a certificate asks for one.
pub const ENROL_ALPN: &[u8] = b"shoal-enrol/1";
/// The lowest and highest minor version that this build speaks.
pub const VERSIONS: (u32, u32) = (1, 1);
/// Longest encoded message: a stored head of the largest size with its chunk hashes must fit.
pub const MESSAGE_MAX: usize = 4 << 20;
/// Longest payload of a `Data` frame that is sent.
pub const DATA_MAX: usize = 64 << 10;

/// Codes with which streams are reset or stopped, as QUIC application errors.
pub mod code {
    /// No longer wanted; nothing is wrong.
    pub const CANCELLED: u32 = 0;
    /// The upstream of a relay sent bytes that do not match their hash, or broke off.
    pub const UPSTREAM: u32 = 1;
    /// The message or frame is not what must come now.
    pub const PROTOCOL: u32 = 2;
    /// The sender has not the right to ask that.
    pub const FORBIDDEN: u32 = 3;
    /// Too much at once.
    pub const BUSY: u32 = 4;
    /// The node is going away.
    pub const LEAVING: u32 = 5;
}

/// Codes with which connections are closed, as QUIC application errors; the reason says the same in words.
pub mod close {
    /// The node is going away.
    pub const LEAVING: u32 = 0;
    /// No common version of the wire.
    pub const VERSION: u32 = 1;
    /// The hello is missing, is none, or says what cannot be.
    pub const HELLO: u32 = 2;
    /// Another node was expected.
    pub const IDENTITY: u32 = 3;
    /// Too many connections.
    pub const FULL: u32 = 4;
    /// A newer connection to the same node is used.
    pub const REPLACED: u32 = 5;
    /// The certificate is not one that this connection needs.
    pub const CERTIFICATE: u32 = 6;
    /// A node reached itself.
    pub const ITSELF: u32 = 7;
}
