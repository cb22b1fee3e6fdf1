//! `Cache-Status` (RFC 9211): one member for this node.
//!
//! The field is a list in which each cache that handled the response, origin first, has a member;
//! ours is appended as a line behind those that the response has. Members stored with a response
//! tell how it got here, and stay.

use http::StatusCode;
use http::header::HeaderValue;
use smallvec::SmallVec;
use std::fmt;
use std::io::Write;

/// Why a request went forward (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FwdReason {
    /// The cache was told not to handle the request.
    Bypass,
    /// The method needs forwarding.
    Method,
    /// Nothing is stored for the URI.
    UriMiss,
    /// Something is stored for the URI, but for other selecting fields.
    VaryMiss,
    /// Nothing usable is stored, and which of the two it was is not known.
    Miss,
    /// A fresh response is stored, but the request does not accept it.
    Request,
    /// What is stored is stale.
    Stale,
    /// Only a part of what is asked for is stored.
    Partial,
}

impl FwdReason {
    /// The token of RFC 9211.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// The member of this node. Its `Display` is the Structured Field.
#[derive(Clone, Copy, Debug)]
pub struct CacheStatus<'a> {
    node: &'a str,
    outcome: Outcome,
    fwd_status: Option<StatusCode>,
    ttl: Option<i64>,
    stored: bool,
    collapsed: bool,
    key: Option<&'a str>,
    detail: Option<&'a str>,
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Hit,
    Forward(FwdReason),
    Own,
}

impl<'a> CacheStatus<'a> {
    /// The request was answered from the store of `node`, without going forward.
    pub const fn hit(node: &'a str) -> Self {
        Self::new(node, Outcome::Hit)
    }

    /// The request went forward because of `reason`.
    pub const fn forward(node: &'a str, reason: FwdReason) -> Self {
        Self::new(node, Outcome::Forward(reason))
    }

    /// `node` made the response itself, as for a refusal.
    pub const fn own(node: &'a str) -> Self {
        Self::new(node, Outcome::Own)
    }

    /// The status that the next hop answered (§2.3).
    #[must_use]
    pub const fn fwd_status(mut self, status: StatusCode) -> Self {
        self.fwd_status = Some(status);
        self
    }

    /// Remaining lifetime in seconds, negative if stale (§2.4).
    #[must_use]
    pub const fn ttl(mut self, secs: i64) -> Self {
        self.ttl = Some(secs);
        self
    }

    /// The response was stored (§2.5).
    #[must_use]
    pub const fn stored(mut self) -> Self {
        self.stored = true;
        self
    }

    /// The request joined another one that had gone forward (§2.6).
    #[must_use]
    pub const fn collapsed(mut self) -> Self {
        self.collapsed = true;
        self
    }

    /// The cache key (§2.7); only for those who may see it.
    #[must_use]
    pub const fn key(mut self, key: &'a str) -> Self {
        self.key = Some(key);
        self
    }

    /// What else is worth saying (§2.8).
    #[must_use]
    pub const fn detail(mut self, detail: &'a str) -> Self {
        self.detail = Some(detail);
        self
    }

    /// The field value, to be appended.
    pub fn to_value(&self) -> HeaderValue {
        let mut text = SmallVec::<[u8; 192]>::new();
        write!(text, "{self}").expect("memory can be written to");
        HeaderValue::from_bytes(&text).expect("tokens and strings are written as visible ASCII")
    }

    const fn new(node: &'a str, outcome: Outcome) -> Self {
        Self {
            node,
            outcome,
            fwd_status: None,
            ttl: None,
            stored: false,
            collapsed: false,
            key: None,
            detail: None,
        }
    }
}

impl fmt::Display for CacheStatus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_token_or_string(f, self.node)?;
        match self.outcome {
            Outcome::Hit => f.write_str("; hit")?,
            Outcome::Forward(reason) => write!(f, "; fwd={}", reason.as_str())?,
            Outcome::Own => {}
        }
        if let Some(status) = self.fwd_status {
            write!(f, "; fwd-status={}", status.as_u16())?;
        }
        if self.stored {
            f.write_str("; stored")?;
        }
        if self.collapsed {
            f.write_str("; collapsed")?;
        }
        if let Some(secs) = self.ttl {
            // RFC 9651 §3.3.1 has integers of 15 digits.
            const INTEGER_MAX: i64 = 999_999_999_999_999;
            write!(f, "; ttl={}", secs.clamp(-INTEGER_MAX, INTEGER_MAX))?;
        }
        if let Some(key) = self.key {
            f.write_str("; key=")?;
            write_string(f, key)?;
        }
        if let Some(detail) = self.detail {
            f.write_str("; detail=")?;
            write_token_or_string(f, detail)?;
        }
        Ok(())
    }
}

fn write_token_or_string(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    if is_token(text) { f.write_str(text) } else { write_string(f, text) }
}

/// RFC 9651 §3.3.4.
fn is_token(text: &str) -> bool {
    const OTHERS: &[u8] = b":/!#$%&'*+-.^_`|~";
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '*')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || OTHERS.contains(&byte))
}

/// RFC 9651 §3.3.3, with `?` for what a string cannot hold.
fn write_string(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    use fmt::Write;
    f.write_char('"')?;
    for char in text.chars() {
        match char {
            '"' | '\\' => write!(f, "\\{char}")?,
            ' '..='~' => f.write_char(char)?,
            _ => f.write_char('?')?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sfv::{FieldType, List, Parser};

    #[test]
    fn members_read_as_designed() {
        assert_eq!(
            CacheStatus::hit("edge-a").ttl(30).detail("memory").to_value(),
            "edge-a; hit; ttl=30; detail=memory"
        );
        let forward = CacheStatus::forward("edge-a", FwdReason::Stale)
            .fwd_status(StatusCode::NOT_MODIFIED)
            .ttl(-5)
            .stored()
            .collapsed()
            .detail("origin");
        assert_eq!(
            forward.to_value(),
            "edge-a; fwd=stale; fwd-status=304; stored; collapsed; ttl=-5; detail=origin"
        );
        assert_eq!(CacheStatus::own("edge-a").detail("limit").to_value(), "edge-a; detail=limit");
    }

    #[test]
    fn what_is_no_token_is_a_string() {
        assert_eq!(
            CacheStatus::hit("1 edge").key("a\"b\\c\u{e9}").to_value(),
            "\"1 edge\"; hit; key=\"a\\\"b\\\\c?\""
        );
    }

    proptest! {
        #[test]
        fn every_member_is_a_structured_field(node: String, key: String, detail: String, ttl: i64) {
            let status = CacheStatus::forward(&node, FwdReason::VaryMiss).key(&key).detail(&detail).ttl(ttl);
            let value = status.to_value();
            prop_assert_eq!(List::parse(Parser::new(value.as_bytes())).unwrap().len(), 1);
        }
    }
}
