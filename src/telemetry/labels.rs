//! Closed label vocabularies: one enum each, named in one place.

use crate::proto::flood::Flood;
use crate::proto::verdict::Source;
use std::marker::PhantomData;

/// An enum whose values label a metric.
pub trait Label: Copy + 'static {
    /// All values in the order of their discriminants.
    const ALL: &'static [Self];
    /// The one name of this value.
    fn as_str(self) -> &'static str;
    /// Position in [`ALL`](Self::ALL).
    fn position(self) -> usize;
}

/// One handle for each value of an enum.
pub struct PerLabel<L, M> {
    children: Box<[M]>,
    label: PhantomData<L>,
}

impl<L: Label, M> PerLabel<L, M> {
    /// Resolves a handle for each value.
    pub(super) fn new(child: impl Fn(&'static str) -> M) -> Self {
        let children = L::ALL.iter().map(|label| child(label.as_str())).collect();
        Self { children, label: PhantomData }
    }

    /// The handle of `label`.
    pub fn of(&self, label: L) -> &M {
        &self.children[label.position()]
    }
}

/// Makes an enum with a name for each value.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// The one name of this value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];
            fn as_str(self) -> &'static str { Self::as_str(self) }
            fn position(self) -> usize { self as usize }
        }
    };
}

pub(super) use label;

label! {
    /// The listener that a client connected to.
    ListenerKind {
        /// Plain HTTP.
        Http = "http",
        /// HTTP over TLS.
        Https = "https",
    }
}
label! {
    /// The HTTP version that a connection speaks.
    HttpVersion {
        /// HTTP/1.0 or 1.1.
        H1 = "h1",
        /// HTTP/2.
        H2 = "h2",
    }
}
label! {
    /// The limit by which a connection was shed.
    Shed {
        /// Connections of the node.
        Node = "node",
        /// Connections of one client address.
        Address = "address",
    }
}
label! {
    /// What a connection was doing when it was shed.
    ShedWhat {
        /// It had just come, and nobody could give way.
        New = "new",
        /// It waited for its next request, and gave way.
        Idle = "idle",
        /// It had not sent its first request, and gave way.
        Head = "head",
    }
}
label! {
    /// In what a client was too slow.
    Slowness {
        /// A request head was not whole in time.
        Head = "head",
        /// No byte of a request body came in time.
        BodyStalled = "body_stalled",
        /// A request body came, but too slowly.
        BodySlow = "body_slow",
        /// No byte of a response was taken in time.
        ResponseStalled = "response_stalled",
        /// A response was taken, but too slowly.
        ResponseSlow = "response_slow",
    }
}
label! {
    /// Why the address that a proxy told ahead of a connection (PROXY protocol) was not taken.
    ProxyFailure {
        /// The connection is from no trusted network.
        Untrusted = "untrusted",
        /// There is no such header.
        Missing = "missing",
        /// It is not what it must be.
        Malformed = "malformed",
        /// It is longer than any proxy's.
        TooLong = "too_long",
        /// Its checksum is that of another.
        Checksum = "checksum",
        /// It speaks of a protocol or version that cannot come here.
        Unsupported = "unsupported",
        /// It did not come in time.
        Timeout = "timeout",
        /// The connection was closed before.
        Closed = "closed",
    }
}
label! {
    /// How a TLS handshake failed.
    HandshakeFailure {
        /// It was not done in time.
        Timeout = "timeout",
        /// The client closed or reset the connection.
        Closed = "closed",
        /// No agreement: versions, suites, names, or bytes that are not TLS.
        Protocol = "protocol",
    }
}
label! {
    /// What a lookup with the superpeers came to.
    LookupAnswer {
        /// Nodes that have it.
        Holders = "holders",
        /// The leave to fetch it.
        Lease = "lease",
        /// A node at which it arrives.
        Follow = "follow",
        /// A node with a fresher version.
        Fresher = "fresher",
        /// It is not worth sharing.
        Alone = "alone",
        /// No superpeer answered in time, or none knew enough.
        Unreachable = "unreachable",
    }
}
label! {
    /// Why a peer's question was refused.
    AskRefusal {
        /// Too many are being answered.
        Busy = "busy",
        /// The peer, or this node, has not the role for it.
        Forbidden = "forbidden",
        /// It was not what it must be.
        Protocol = "protocol",
    }
}
label! {
    /// Why a peer and this node did not come together. Whichever end refused, both see the like.
    PeerRefusal {
        /// The certificate was made by another authority.
        OtherCluster = "other_cluster",
        /// The certificate has expired.
        Expired = "expired",
        /// The certificate will be valid later, or the clock is behind.
        NotYetValid = "not_yet_valid",
        /// None was shown.
        NoCertificate = "no_certificate",
        /// The certificate does not let the node be what it says it is.
        WrongRole = "wrong_role",
        /// The certificate is of the cluster, and not one of a node.
        NotANode = "not_a_node",
        /// No agreement: protocol, bytes that are not TLS, or a message that is not a hello.
        Protocol = "protocol",
        /// The two speak no common version of the wire, or one needs a feature that the other does not know.
        Version = "version",
        /// Another node answered than the one expected.
        Identity = "identity",
        /// The node reached itself, as is usual where it is among its own seeds.
        Itself = "self",
        /// The limit of connections is reached.
        Full = "full",
        /// It was not done in time.
        Timeout = "timeout",
        /// Anything else; often the other end is gone.
        Other = "other",
    }
}
label! {
    /// Why a stream that a peer opened was refused.
    StreamRefusal {
        /// No question came in time.
        Timeout = "timeout",
        /// What came is no question.
        Protocol = "protocol",
        /// The question is of a kind that this version does not know.
        Unsupported = "unsupported",
        /// More questions wait than may.
        Busy = "busy",
    }
}
label! {
    /// Whether an operation did what it should.
    Outcome {
        /// It did.
        Success = "success",
        /// It changed nothing.
        Failure = "failure",
    }
}
label! {
    /// Where the bytes come from that a peer is given.
    Given {
        /// From the store.
        Stored = "stored",
        /// From a fill, as they arrive.
        Relayed = "relayed",
    }
}
label! {
    /// What a peer that asks for a version is answered.
    PeerAnswer {
        /// A stored version.
        Stored = "stored",
        /// A version that is arriving.
        Relayed = "relayed",
        /// The version is the one that the peer holds.
        Same = "same",
        /// The object varies by other fields than the peer took it to.
        Varies = "varies",
        /// Nothing of it is here that may be given away.
        Gone = "gone",
        /// Too many read here already.
        Busy = "busy",
        /// The origin's response may not be stored.
        NotStored = "not_stored",
        /// The origin gave no response.
        Failed = "failed",
        /// One of the two has not applied all purges that the other has.
        Apart = "apart",
        /// The request is malformed or not allowed.
        Refused = "refused",
    }
}

/// The class of a response status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusClass {
    /// No response head was sent.
    None,
    /// 101.
    Informational,
    /// 2xx.
    Success,
    /// 3xx.
    Redirection,
    /// 4xx.
    ClientError,
    /// 5xx, and anything that is no status.
    ServerError,
}

impl StatusClass {
    /// All classes in the order of their metrics.
    pub const ALL: [Self; 6] = [
        Self::None,
        Self::Informational,
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
    ];

    /// The class of a status.
    pub const fn of(status: Option<u16>) -> Self {
        match status {
            None => Self::None,
            Some(100..=199) => Self::Informational,
            Some(200..=299) => Self::Success,
            Some(300..=399) => Self::Redirection,
            Some(400..=499) => Self::ClientError,
            Some(_) => Self::ServerError,
        }
    }

    /// The one name of this class.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        }
    }
}

impl Label for Source {
    const ALL: &'static [Self] = &Self::ALL;
    fn as_str(self) -> &'static str {
        Self::as_str(self)
    }
    fn position(self) -> usize {
        self as usize
    }
}

impl Label for Flood {
    const ALL: &'static [Self] = Self::ALL;
    fn as_str(self) -> &'static str {
        Self::as_str(self)
    }
    fn position(self) -> usize {
        self as usize
    }
}
