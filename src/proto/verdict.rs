//! What became of a request: one enum, named alike in access log, `Cache-Status`, metrics and tests.

/// The verdict on one request (design §2). Every request has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Served fresh from memory.
    HitMemory,
    /// Served fresh from disk.
    HitDisk,
    /// Served from a fill that another request had started.
    HitCollapsed,
    /// Served from the store after the origin answered 304 to a validation.
    Revalidated,
    /// Served stale while a refresh runs behind (RFC 5861 §3).
    StaleWhileRevalidate,
    /// Served stale because the origin failed (RFC 5861 §4, RFC 9111 §4.2.4).
    StaleIfError,
    /// Fetched from another edge.
    Peer,
    /// Fetched from the origin for the cache.
    Origin,
    /// Forwarded without the cache's part: method, upgrade, policy or a response not to be stored.
    Pass,
    /// It was a purge of the site's own system, and was done.
    Purge,
    /// Refused by a rule or limit, before any upstream was asked.
    Refused,
    /// Could not be answered: upstream failed and nothing stored may be used.
    Error,
}

impl Verdict {
    /// All verdicts, in the order of their metrics.
    pub const ALL: [Self; 12] = [
        Self::HitMemory,
        Self::HitDisk,
        Self::HitCollapsed,
        Self::Revalidated,
        Self::StaleWhileRevalidate,
        Self::StaleIfError,
        Self::Peer,
        Self::Origin,
        Self::Pass,
        Self::Purge,
        Self::Refused,
        Self::Error,
    ];

    /// The one name of this verdict.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HitMemory => "hit_memory",
            Self::HitDisk => "hit_disk",
            Self::HitCollapsed => "hit_collapsed",
            Self::Revalidated => "revalidated",
            Self::StaleWhileRevalidate => "stale_while_revalidate",
            Self::StaleIfError => "stale_if_error",
            Self::Peer => "peer",
            Self::Origin => "origin",
            Self::Pass => "pass",
            Self::Purge => "purge",
            Self::Refused => "refused",
            Self::Error => "error",
        }
    }
}

/// Where the body bytes of a response came from, as a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The memory tier.
    Memory,
    /// The disk tier.
    Disk,
    /// Another edge.
    Peer,
    /// The origin.
    Origin,
    /// Made by this node: errors, 304 and other bodies of its own.
    Node,
}

impl Source {
    /// All sources.
    pub const ALL: [Self; 5] = [Self::Memory, Self::Disk, Self::Peer, Self::Origin, Self::Node];

    /// The one name of this source.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Peer => "peer",
            Self::Origin => "origin",
            Self::Node => "node",
        }
    }
}
