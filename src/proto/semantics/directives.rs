//! `Cache-Control` (RFC 9111 §5.2) and the directives of a response: the only parser of it.

use super::targeted;
use http::header::{self, HeaderMap, HeaderName};
use smallvec::SmallVec;

/// Largest number of seconds that is told apart: RFC 9111 §1.2.2 lets all beyond saturate here.
pub(super) const DELTA_MAX: u32 = 1 << 31;

/// Seconds that may be absent, in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delta(u32);

impl Delta {
    pub(super) const NONE: Self = Self(u32::MAX);

    pub(super) const fn of(secs: u32) -> Self {
        Self(if secs > DELTA_MAX { DELTA_MAX } else { secs })
    }

    pub(super) const fn get(self) -> Option<u32> {
        if self.0 == u32::MAX { None } else { Some(self.0) }
    }

    /// RFC 9111 §4.2.1: of repeated directives the first counts.
    const fn set_first(&mut self, secs: u32) {
        if self.0 == u32::MAX {
            *self = Self::of(secs);
        }
    }
}

/// Which field's directives govern the response here (RFC 9213 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Governing {
    /// `CDN-Cache-Control`.
    CdnCacheControl,
    /// `Surrogate-Control`.
    SurrogateControl,
    /// `Cache-Control`, with `Expires` behind it.
    CacheControl,
}

/// The directives that govern a response, from the one field that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseDirectives {
    governing: Governing,
    flags: u16,
    max_age: Delta,
    s_maxage: Delta,
    stale_while_revalidate: Delta,
    stale_if_error: Delta,
}

const NO_STORE: u16 = 1;
const NO_CACHE: u16 = 1 << 1;
const PRIVATE: u16 = 1 << 2;
const PUBLIC: u16 = 1 << 3;
const MUST_REVALIDATE: u16 = 1 << 4;
const PROXY_REVALIDATE: u16 = 1 << 5;
const MUST_UNDERSTAND: u16 = 1 << 6;
const IMMUTABLE: u16 = 1 << 7;
const WITHHOLDS_SET_COOKIE: u16 = 1 << 8;

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $flag:ident;)*) => {
        $($(#[$doc])*
        pub const fn $name(&self) -> bool {
            self.flags & $flag != 0
        })*
    };
}

impl ResponseDirectives {
    /// Reads the directives out of the governing field of a response head.
    pub fn parse(fields: &HeaderMap) -> Self {
        let mut directives = Self {
            governing: Governing::CacheControl,
            flags: 0,
            max_age: Delta::NONE,
            s_maxage: Delta::NONE,
            stale_while_revalidate: Delta::NONE,
            stale_if_error: Delta::NONE,
        };
        let governing = targeted::visit(fields, &mut |name, argument| directives.apply(name, argument));
        directives.governing = governing;
        directives
    }

    /// The field that decided.
    pub const fn governing(&self) -> Governing {
        self.governing
    }

    /// Seconds of `max-age`; a value that is no number is 0, that is stale (RFC 9111 §4.2.1).
    pub const fn max_age(&self) -> Option<u32> {
        self.max_age.get()
    }

    /// Seconds of `s-maxage`, likewise.
    pub const fn s_maxage(&self) -> Option<u32> {
        self.s_maxage.get()
    }

    /// Seconds of `stale-while-revalidate` (RFC 5861 §3).
    pub const fn stale_while_revalidate(&self) -> Option<u32> {
        self.stale_while_revalidate.get()
    }

    /// Seconds of `stale-if-error` (RFC 5861 §4).
    pub const fn stale_if_error(&self) -> Option<u32> {
        self.stale_if_error.get()
    }

    flags! {
        /// `no-store` (RFC 9111 §5.2.2.5).
        no_store = NO_STORE;
        /// `no-cache` without field names (§5.2.2.4), or with names that cannot be withheld.
        no_cache = NO_CACHE;
        /// `private` without field names (§5.2.2.7), or with names that cannot be withheld.
        private = PRIVATE;
        /// `public` (§5.2.2.9).
        public = PUBLIC;
        /// `must-revalidate` (§5.2.2.2).
        must_revalidate = MUST_REVALIDATE;
        /// `proxy-revalidate` (§5.2.2.8).
        proxy_revalidate = PROXY_REVALIDATE;
        /// `must-understand` (§5.2.2.3).
        must_understand = MUST_UNDERSTAND;
        /// `immutable` (RFC 8246).
        immutable = IMMUTABLE;
        /// `private` or `no-cache` names `Set-Cookie`, so it is not among the stored fields.
        withholds_set_cookie = WITHHOLDS_SET_COOKIE;
    }

    fn apply(&mut self, name: &[u8], argument: Argument<'_>) {
        let Some(directive) = Directive::of(name) else { return };
        match directive {
            Directive::MaxAge => {
                self.max_age.set_first(seconds_or_stale(argument));
                if let Argument::Extended { stale, .. } = argument {
                    self.stale_while_revalidate.set_first(stale);
                }
            }
            Directive::SMaxage => self.s_maxage.set_first(seconds_or_stale(argument)),
            Directive::StaleWhileRevalidate => {
                self.stale_while_revalidate.set_first(seconds_or_stale(argument));
            }
            Directive::StaleIfError => self.stale_if_error.set_first(seconds_or_stale(argument)),
            Directive::NoStore => self.flags |= NO_STORE,
            Directive::NoCache => self.apply_qualified(NO_CACHE, argument),
            Directive::Private => self.apply_qualified(PRIVATE, argument),
            Directive::Public => self.flags |= PUBLIC,
            Directive::MustRevalidate => self.flags |= MUST_REVALIDATE,
            Directive::ProxyRevalidate => self.flags |= PROXY_REVALIDATE,
            Directive::MustUnderstand => self.flags |= MUST_UNDERSTAND,
            Directive::Immutable => self.flags |= IMMUTABLE,
        }
    }

    fn apply_qualified(&mut self, flag: u16, argument: Argument<'_>) {
        match withheld_names(argument) {
            None => self.flags |= flag,
            Some(names) if names.contains(&header::SET_COOKIE) => self.flags |= WITHHOLDS_SET_COOKIE,
            Some(_) => {}
        }
    }
}

/// The response directives that mean something to this cache.
#[derive(Clone, Copy)]
enum Directive {
    MaxAge,
    SMaxage,
    StaleWhileRevalidate,
    StaleIfError,
    NoStore,
    NoCache,
    Private,
    Public,
    MustRevalidate,
    ProxyRevalidate,
    MustUnderstand,
    Immutable,
}

impl Directive {
    /// `no-store-remote` is `Surrogate-Control`'s word to caches that are not beside the origin.
    fn of(name: &[u8]) -> Option<Self> {
        const NAMES: [(&str, Directive); 13] = [
            ("max-age", Directive::MaxAge),
            ("s-maxage", Directive::SMaxage),
            ("public", Directive::Public),
            ("no-cache", Directive::NoCache),
            ("no-store", Directive::NoStore),
            ("private", Directive::Private),
            ("must-revalidate", Directive::MustRevalidate),
            ("proxy-revalidate", Directive::ProxyRevalidate),
            ("stale-while-revalidate", Directive::StaleWhileRevalidate),
            ("stale-if-error", Directive::StaleIfError),
            ("must-understand", Directive::MustUnderstand),
            ("immutable", Directive::Immutable),
            ("no-store-remote", Directive::NoStore),
        ];
        NAMES.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name)).map(|&(_, is)| is)
    }
}

/// Whether `name` is a directive that means something to this cache.
pub(super) fn is_known(name: &[u8]) -> bool {
    Directive::of(name).is_some()
}

/// The fields that the qualified forms of `private` and `no-cache` in the governing field forbid
/// to store or to replay unvalidated (RFC 9111 §5.2.2.4, §5.2.2.7). They are not stored.
pub(super) fn withheld(fields: &HeaderMap) -> SmallVec<[HeaderName; 4]> {
    let mut all = SmallVec::new();
    targeted::visit(fields, &mut |name, argument| {
        if matches!(Directive::of(name), Some(Directive::NoCache | Directive::Private)) {
            all.extend(withheld_names(argument).unwrap_or_default());
        }
    });
    all
}

/// Whether there are any directives.
pub(super) fn are_stated(fields: &HeaderMap) -> bool {
    let mut any = false;
    targeted::visit(fields, &mut |_, _| any = true);
    any
}

/// What follows a directive's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argument<'a> {
    None,
    Token(&'a [u8]),
    /// Between the quotes, escapes not undone: no argument that is read here contains any.
    Quoted(&'a [u8]),
    /// An integer of a Structured Field.
    Integer(i64),
    /// `max-age=60+30` of `Surrogate-Control` (Edge Architecture Specification 1.0): fresh for the
    /// first number of seconds, and may be used stale for the second.
    Extended {
        fresh: u32,
        stale: u32,
    },
    /// Against the grammar, for example with space around the equals sign.
    Invalid,
}

/// Calls `visit` with each directive of the field `name`, over all lines, in order. Commas in
/// quoted strings do not separate (RFC 9110 §5.6.4).
pub(super) fn visit_members(
    fields: &HeaderMap,
    name: &HeaderName,
    visit: &mut dyn FnMut(&[u8], Argument<'_>),
) {
    for line in fields.get_all(name) {
        for member in members(line.as_bytes()) {
            let (name, argument) = split_member(member);
            if !name.is_empty() {
                visit(name, argument);
            }
        }
    }
}

/// The members of a comma-separated list, trimmed, with regard to quoted strings; empty members
/// included. An unclosed quote reaches to the end.
pub(super) fn members(mut line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let end = unquoted_comma(line);
        let member = &line[..end];
        match line.get(end + 1..) {
            Some(rest) => line = rest,
            None => ended = true,
        }
        Some(member.trim_ascii())
    })
}

fn unquoted_comma(line: &[u8]) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, &byte) in line.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    line.len()
}

fn split_member(member: &[u8]) -> (&[u8], Argument<'_>) {
    let Some(equals) = member.iter().position(|&byte| byte == b'=') else {
        return (member, Argument::None);
    };
    let (name, value) = (&member[..equals], &member[equals + 1..]);
    let spaced = name.trim_ascii_end() != name || value.trim_ascii_start() != value;
    let argument = match value {
        _ if spaced => Argument::Invalid,
        [b'"', inner @ .., b'"'] => Argument::Quoted(inner),
        [] | [b'"', ..] => Argument::Invalid,
        token => Argument::Token(token),
    };
    (name.trim_ascii_end(), argument)
}

/// RFC 9111 §1.2.2: digits only, saturating; the quoted form is accepted too (§5.2).
pub(super) fn seconds(argument: Argument<'_>) -> Option<u32> {
    match argument {
        Argument::Token(digits) | Argument::Quoted(digits) => delta_seconds(digits),
        Argument::Integer(secs) => Some(secs.clamp(0, i64::from(DELTA_MAX)) as u32),
        Argument::Extended { fresh, .. } => Some(fresh),
        Argument::None | Argument::Invalid => None,
    }
}

/// Digits as seconds, saturating at [`DELTA_MAX`]. `None` if there are none or other bytes.
pub(super) fn delta_seconds(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |secs, digit| {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        Some(secs.saturating_mul(10).saturating_add(digit).min(DELTA_MAX))
    })
}

/// RFC 9111 §4.2.1 encourages to take a response with invalid freshness information as stale.
fn seconds_or_stale(argument: Argument<'_>) -> u32 {
    seconds(argument).unwrap_or(0)
}

/// The names of a qualified `private` or `no-cache`; `None` if it counts as unqualified: because
/// it has no list, or a malformed one, or a name that decides about reuse and so cannot be left
/// out of the stored fields.
fn withheld_names(argument: Argument<'_>) -> Option<SmallVec<[HeaderName; 4]>> {
    let (Argument::Token(list) | Argument::Quoted(list)) = argument else { return None };
    let mut names = SmallVec::new();
    for member in list.split(|&byte| byte == b',') {
        let member = member.trim_ascii();
        if member.is_empty() {
            continue;
        }
        let name = HeaderName::from_bytes(member).ok().filter(|name| !decides_reuse(name))?;
        names.push(name);
    }
    (!names.is_empty()).then_some(names)
}

fn decides_reuse(name: &HeaderName) -> bool {
    const DECIDING: [HeaderName; 10] = [
        header::AGE,
        header::CACHE_CONTROL,
        header::CONTENT_ENCODING,
        header::CONTENT_TYPE,
        header::DATE,
        header::ETAG,
        header::EXPIRES,
        header::LAST_MODIFIED,
        header::LOCATION,
        header::VARY,
    ];
    DECIDING.contains(name) || targeted::FIELDS.contains(name)
}

#[cfg(test)]
#[path = "directives_tests.rs"]
mod tests;
