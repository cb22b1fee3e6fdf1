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
//! Purges+  -> Purges+                                     asked of any member
//! Look     -> Looked                                      asked of an edge, for `shoal explain`
//! Invalidate -> nothing                                   told to edges
//! ```
//! Messages are protobuf: fields that a version does not know are skipped. Body bytes go raw in
//! [`frame`]s. No message carries a time of day: ages and lifetimes are relative to the moment of
//! sending (design §4).
//!
//! # Two versions in one fleet
//!
//! The **major** version is the number in [`ALPN`]. Two that have none in common agree on [`VERSION_ALPN`] instead, whose
//! one rule never changes: the dialler says its [`Hello`] as on any connection (frame 0, `Ask` field 1; in it `program`,
//! `features`, `required` and `major` keep number and meaning), and the acceptor closes with [`close::VERSION`] and a
//! sentence that names both. So both ends log and count why, as `version`.
//!
//! The **minor** version and the features are in the hello. Each side speaks the highest minor version that both do, and
//! refuses the other if there is none, or if the other has set a bit of `required` that it does not know. Other feature
//! bits that are not known are ignored.
//!
//! | a minor version may add | and who does not know it |
//! |---|---|
//! | fields, also repeated ones, to any message | skips them |
//! | values of a number that stands for an enum | takes them for the most careful known one (`Ending`: failed), or ignores the bit (`Roles`) |
//! | kinds of [`Ask`] | resets that stream with [`code::UNSUPPORTED`]; the connection stands, and whoever asked goes on without: another holder, the origin |
//! | kinds of [`Note`] | skips them |
//! | kinds of [`Resolved`] and [`Reply`] | takes the question for unanswered, and blames nobody |
//! | types of frames from [`frame::SKIPPABLE`] on | skips them by their length. An unknown type below it ends the stream |
//! | codes of resets | takes them for a refusal |
//! | fields of members in gossip, in the bytes kept for that | passes them on unread |
//!
//! Whatever changes what the old parts mean is not for a minor version, unless the hello of the other says that it knows:
//! then a feature bit announces it. A new kind of answer is sent only to who is known to read it. A major version is
//! taken out of use by speaking two of them for one release. `golden_tests` holds the bytes of version 1.1.

pub mod enrol;
pub mod frame;
#[cfg(test)]
mod golden_tests;
mod hello;
pub mod look;
pub mod message;
pub mod purges;
pub mod reading;

pub use enrol::{Enrol, Enrolled, enrolled};
pub use frame::{Frame, FrameError, FrameHead};
pub use hello::Hello;
pub use look::{Look, Looked, SEEN_MAX, Seen};
pub use message::*;
pub use purges::{Apart, Covered, INVALIDATED_MAX, Invalidate, PURGES_MAX, PurgeEntry, PurgeStep, Purges};
pub use reading::*;

/// Major version of the wire.
pub const MAJOR: u32 = 1;
/// Protocol name of peer connections; its number is the [`MAJOR`] version.
pub const ALPN: &[u8] = b"shoal-peer/1";
/// Protocol name on which two that have no major version in common tell each other so. All releases know it.
pub const VERSION_ALPN: &[u8] = b"shoal-version";
/// Protocol name of the connection on which a node without a certificate asks for one.
pub const ENROL_ALPN: &[u8] = b"shoal-enrol/1";
/// The lowest and highest minor version that this build speaks.
pub const VERSIONS: (u32, u32) = (1, 1);
/// The feature bits that this build knows: `Hello::features` that it sets, and `Hello::required` that it accepts.
pub const FEATURES: u64 = 0;
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
    /// The question is of a kind that this version does not know.
    pub const UNSUPPORTED: u32 = 6;
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
