//! What a request says about the use of stored responses, parsed once.

use super::directives::{Argument, DELTA_MAX, seconds, visit_members};
use http::Method;
use http::header::{self, HeaderMap, HeaderValue};

/// What a method means to a cache (RFC 9110 §9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodClass {
    /// GET: answered from the store, its response may be stored.
    Get,
    /// HEAD: answered from the store.
    Head,
    /// Safe, but neither answered from the store nor stored.
    OtherSafe,
    /// Unsafe or unknown: invalidates if it succeeds.
    Unsafe,
}

impl MethodClass {
    /// The class of `method`. Safe are the methods that the IANA registry says so of.
    pub fn of(method: &Method) -> Self {
        match method.as_str() {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "OPTIONS" | "TRACE" | "PROPFIND" | "REPORT" | "SEARCH" | "QUERY" | "PRI" => Self::OtherSafe,
            _ => Self::Unsafe,
        }
    }

    /// Whether a stored response may answer.
    pub const fn is_cacheable(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}

/// What a request says about the use of stored responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// What the method means.
    pub method: MethodClass,
    /// `no-cache`, or `Pragma: no-cache` without `Cache-Control` (RFC 9111 §5.2.1.4, §5.4).
    pub no_cache: bool,
    /// `no-store` (§5.2.1.5).
    pub no_store: bool,
    /// `only-if-cached` (§5.2.1.7): a caller that has nothing to serve answers 504.
    pub only_if_cached: bool,
    /// `max-age` in seconds (§5.2.1.1); 0 if it is no number.
    pub max_age: Option<u32>,
    /// `min-fresh` in seconds (§5.2.1.3).
    pub min_fresh: Option<u32>,
    /// `max-stale` in seconds (§5.2.1.2); without an argument the largest number.
    pub max_stale: Option<u32>,
    /// Whether there is an `Authorization`.
    pub has_authorization: bool,
    /// Whether there is a `Cookie`.
    pub has_cookie: bool,
    /// Whether this is a GET with `Range`; other methods have no ranges (RFC 9110 §14.2).
    pub has_range: bool,
    /// Whether there is a precondition (RFC 9110 §13.1), `If-Range` not counted.
    pub conditional: bool,
}

impl RequestFacts {
    /// Reads the facts out of a request head.
    pub fn parse(method: &Method, fields: &HeaderMap) -> Self {
        let method = MethodClass::of(method);
        let mut facts = Self {
            method,
            no_cache: false,
            no_store: false,
            only_if_cached: false,
            max_age: None,
            min_fresh: None,
            max_stale: None,
            has_authorization: fields.contains_key(header::AUTHORIZATION),
            has_cookie: fields.contains_key(header::COOKIE),
            has_range: method == MethodClass::Get && fields.contains_key(header::RANGE),
            conditional: super::condition::PRECONDITIONS.iter().any(|name| fields.contains_key(name)),
        };
        if fields.contains_key(header::CACHE_CONTROL) {
            visit_members(fields, &header::CACHE_CONTROL, &mut |name, argument| facts.apply(name, argument));
        } else if fields.contains_key(header::PRAGMA) {
            visit_members(fields, &header::PRAGMA, &mut |name, _| {
                facts.no_cache |= name.eq_ignore_ascii_case(b"no-cache");
            });
        }
        facts
    }

    /// The same of a GET with these fields.
    #[must_use]
    pub const fn as_get(self) -> Self {
        Self { method: MethodClass::Get, ..self }
    }

    fn apply(&mut self, name: &[u8], argument: Argument<'_>) {
        let is = |directive: &str| name.eq_ignore_ascii_case(directive.as_bytes());
        if is("no-cache") {
            self.no_cache = true;
        } else if is("no-store") {
            self.no_store = true;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        } else if is("max-age") {
            self.max_age = self.max_age.or_else(|| Some(seconds(argument).unwrap_or(0)));
        } else if is("min-fresh") {
            self.min_fresh = self.min_fresh.or_else(|| seconds(argument));
        } else if is("max-stale") {
            let any = (argument == Argument::None).then_some(DELTA_MAX);
            self.max_stale = self.max_stale.or_else(|| any.or_else(|| seconds(argument)));
        }
    }
}

/// Whether a client sends its body only when it is told to, or has waited long enough (RFC 9110 §10.1.1).
pub fn expects_continue(request: &HeaderMap) -> bool {
    request.get(header::EXPECT).is_some_and(is_continue)
}

/// Whether an `Expect` is the one that there is (RFC 9110 §10.1.1).
pub fn is_continue(expected: &HeaderValue) -> bool {
    expected.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// How many more hops an OPTIONS may take, if it says so: with none left it is to be answered here (RFC 9110 §7.6.2). What is
/// no single number is not understood, and goes on as it is.
pub fn hops_left(method: &Method, request: &HeaderMap) -> Option<u64> {
    if method != Method::OPTIONS {
        return None;
    }
    let mut values = request.get_all(header::MAX_FORWARDS).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let digits = value.to_str().ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(lines: &[(&'static str, &'static str)]) -> RequestFacts {
        RequestFacts::parse(&Method::GET, &super::super::fixtures::head(lines))
    }

    #[test]
    fn methods_fall_into_their_classes() {
        for (name, class) in [
            ("GET", MethodClass::Get),
            ("HEAD", MethodClass::Head),
            ("OPTIONS", MethodClass::OtherSafe),
            ("PROPFIND", MethodClass::OtherSafe),
            ("QUERY", MethodClass::OtherSafe),
            ("POST", MethodClass::Unsafe),
            ("DELETE", MethodClass::Unsafe),
            ("M-SEARCH", MethodClass::Unsafe),
            ("get", MethodClass::Unsafe),
        ] {
            assert_eq!(MethodClass::of(&Method::from_bytes(name.as_bytes()).unwrap()), class, "{name}");
        }
    }

    #[test]
    fn request_directives_are_read_without_regard_to_case() {
        let facts = facts(&[(
            "cache-control",
            "No-Cache, NO-STORE, max-age=5, Min-Fresh=6, max-stale=7, only-if-cached",
        )]);
        assert!(facts.no_cache && facts.no_store && facts.only_if_cached);
        assert_eq!((facts.max_age, facts.min_fresh, facts.max_stale), (Some(5), Some(6), Some(7)));
    }

    #[test]
    fn malformed_request_directives_never_loosen() {
        assert_eq!(facts(&[("cache-control", "max-age=x")]).max_age, Some(0));
        assert_eq!(facts(&[("cache-control", "max-stale=x")]).max_stale, None);
        assert_eq!(facts(&[("cache-control", "max-stale")]).max_stale, Some(DELTA_MAX));
        assert_eq!(facts(&[("cache-control", "min-fresh")]).min_fresh, None);
    }

    #[test]
    fn request_seconds_saturate() {
        assert_eq!(facts(&[("cache-control", "max-age=99999999999")]).max_age, Some(DELTA_MAX));
    }

    #[test]
    fn pragma_counts_only_without_cache_control() {
        assert!(facts(&[("pragma", "foo, no-cache")]).no_cache);
        assert!(!facts(&[("pragma", "no-cache"), ("cache-control", "max-age=5")]).no_cache);
    }

    #[test]
    fn only_a_get_has_ranges() {
        let fields = super::super::fixtures::head(&[("range", "bytes=0-1")]);
        assert!(RequestFacts::parse(&Method::GET, &fields).has_range);
        assert!(!RequestFacts::parse(&Method::HEAD, &fields).has_range);
    }

    #[test]
    fn preconditions_make_a_request_conditional_and_if_range_does_not() {
        assert!(facts(&[("if-none-match", "*")]).conditional);
        assert!(facts(&[("if-unmodified-since", "x")]).conditional);
        assert!(!facts(&[("if-range", "\"a\"")]).conditional);
    }

    #[test]
    fn hops_are_counted_for_options_and_if_they_are_one_number() {
        for (values, hops) in [
            (&[][..], None),
            (&["0"], Some(0)),
            (&["007"], Some(7)),
            (&["18446744073709551615"], Some(u64::MAX)),
            (&["18446744073709551616"], None),
            (&["+1"], None),
            (&["-1"], None),
            (&["1, 2"], None),
            (&["1", "2"], None),
            (&[""], None),
        ] {
            let mut fields = HeaderMap::new();
            for value in values {
                fields.append(header::MAX_FORWARDS, value.parse().unwrap());
            }
            assert_eq!(hops_left(&Method::OPTIONS, &fields), hops, "{values:?}");
            assert_eq!(hops_left(&Method::POST, &fields), None);
        }
    }
}
