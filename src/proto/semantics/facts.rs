//! What a response says about its own reuse, parsed once.

use super::directives::{Delta, ResponseDirectives, delta_seconds, members};
use super::etag::EntityTag;
use super::fields::has_tags;
use super::{date, part, vary};
use http::StatusCode;
use http::header::{self, HeaderMap};

/// What a response says about its own reuse, parsed once: when it is received, or read from disk.
/// One lives in memory for each object that is there, so it is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseFacts {
    /// Status of the response.
    pub status: StatusCode,
    /// The directives that govern it.
    pub directives: ResponseDirectives,
    flags: u8,
    age: Delta,
    date: Moment,
    expires: Moment,
    last_modified: Moment,
}

/// The `Expires` of a response, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expires {
    /// There is none.
    Absent,
    /// There is one that is no date, or several: in the past (RFC 9111 §5.3).
    Invalid,
    /// This time.
    At(i64),
}

/// What kind of entity tag a response has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtagKind {
    /// None.
    None,
    /// One that may validate, but never combine bytes.
    Weak,
    /// One that names exact bytes.
    Strong,
}

const SET_COOKIE: u8 = 1;
const VARIES: u8 = 1 << 1;
const VARY_STAR: u8 = 1 << 2;
const ETAG_WEAK: u8 = 1 << 3;
const ETAG_STRONG: u8 = 1 << 4;
const TAGGED: u8 = 1 << 5;
const PART: u8 = 1 << 6;

/// Seconds since the epoch that may be absent or invalid, in eight bytes: the years 0 to 9999 of
/// HTTP dates leave the ends free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment(i64);

impl Moment {
    const ABSENT: Self = Self(i64::MIN);
    const INVALID: Self = Self(i64::MAX);

    fn of(date: Option<i64>) -> Self {
        date.map_or(Self::ABSENT, Self)
    }

    const fn get(self) -> Option<i64> {
        match self {
            Self::ABSENT | Self::INVALID => None,
            Self(secs) => Some(secs),
        }
    }
}

impl ResponseFacts {
    /// Reads the facts out of a response head.
    pub fn parse(status: StatusCode, fields: &HeaderMap) -> Self {
        Self {
            status,
            directives: ResponseDirectives::parse(fields),
            flags: flags(fields),
            age: age(fields),
            date: Moment::of(date::of_field(fields, header::DATE)),
            expires: match date::of_field(fields, header::EXPIRES) {
                None if fields.contains_key(header::EXPIRES) => Moment::INVALID,
                expires => Moment::of(expires),
            },
            last_modified: Moment::of(date::of_field(fields, header::LAST_MODIFIED)),
        }
    }

    /// `Age` in seconds (RFC 9111 §5.1). Not stored: a stored response has an initial age instead.
    pub const fn age(&self) -> Option<u32> {
        self.age.get()
    }

    /// `Date`, in seconds since the epoch; `None` if absent, repeated or no date.
    pub const fn date(&self) -> Option<i64> {
        self.date.get()
    }

    /// `Expires`.
    pub const fn expires(&self) -> Expires {
        match self.expires {
            Moment::ABSENT => Expires::Absent,
            Moment::INVALID => Expires::Invalid,
            Moment(secs) => Expires::At(secs),
        }
    }

    /// `Last-Modified`, in seconds since the epoch; `None` if absent, repeated or no date.
    pub const fn last_modified(&self) -> Option<i64> {
        self.last_modified.get()
    }

    /// Whether there is a `Set-Cookie`.
    pub const fn has_set_cookie(&self) -> bool {
        self.flags & SET_COOKIE != 0
    }

    /// Whether there are tags that are meant for caches alone ([`strip_tags`](super::strip_tags)).
    pub const fn has_tags(&self) -> bool {
        self.flags & TAGGED != 0
    }

    /// Whether this is one part of a representation, and says which (RFC 9110 §15.3.7.1).
    pub fn is_part(&self) -> bool {
        self.status == StatusCode::PARTIAL_CONTENT && self.flags & PART != 0
    }

    /// Whether `Vary` names fields.
    pub const fn varies(&self) -> bool {
        self.flags & VARIES != 0
    }

    /// Whether `Vary` is `*`, or as good as: no request selects this response again.
    pub const fn varies_on_everything(&self) -> bool {
        self.flags & VARY_STAR != 0
    }

    /// The kind of entity tag.
    pub const fn etag(&self) -> EtagKind {
        if self.flags & ETAG_STRONG != 0 {
            EtagKind::Strong
        } else if self.flags & ETAG_WEAK != 0 {
            EtagKind::Weak
        } else {
            EtagKind::None
        }
    }

    /// Whether there is something to validate with.
    pub const fn has_validator(&self) -> bool {
        self.flags & (ETAG_STRONG | ETAG_WEAK) != 0 || self.last_modified().is_some()
    }
}

fn flags(fields: &HeaderMap) -> u8 {
    let vary = match vary::names(fields) {
        None => VARY_STAR,
        Some(names) if names.is_empty() => 0,
        Some(_) => VARIES,
    };
    let etag = match EntityTag::of(fields) {
        None => 0,
        Some(EntityTag { weak: true, .. }) => ETAG_WEAK,
        Some(_) => ETAG_STRONG,
    };
    let set_cookie = if fields.contains_key(header::SET_COOKIE) { SET_COOKIE } else { 0 };
    let tagged = if has_tags(fields) { TAGGED } else { 0 };
    let part = if part::is_part(fields) { PART } else { 0 };
    vary | etag | set_cookie | tagged | part
}

/// RFC 9111 §5.1: the first member counts; what is no number is ignored.
fn age(fields: &HeaderMap) -> Delta {
    fields
        .get(header::AGE)
        .and_then(|line| members(line.as_bytes()).next())
        .and_then(delta_seconds)
        .map_or(Delta::NONE, Delta::of)
}

#[cfg(test)]
#[path = "facts_tests.rs"]
mod tests;
