//! What a message says about caching, parsed once.

use http::{HeaderMap, StatusCode};

/// What a response says about its own reuse, parsed once: when it is received, or read from disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseFacts {
    /// Status of the response.
    pub status: StatusCode,
}

impl ResponseFacts {
    /// Reads the facts out of a response head.
    pub fn parse(status: StatusCode, _fields: &HeaderMap) -> Self {
        Self { status }
    }
}

/// Why a response may be stored: the rule of RFC 9111 §3 that allowed it. Kept in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreReason {
    /// `max-age`.
    MaxAge,
}

impl StoreReason {
    /// The number of this reason in the head format; never reused.
    pub const fn code(self) -> u8 {
        1
    }

    /// The reason with number `code`.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::MaxAge),
            _ => None,
        }
    }
}
