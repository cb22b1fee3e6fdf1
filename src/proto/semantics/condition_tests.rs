use super::super::fixtures::head;
use super::*;
use http::HeaderValue;
use proptest::prelude::*;

type Lines<'a> = &'a [(&'static str, &'static str)];

const BEFORE: &str = "Tue, 31 Dec 2019 00:00:00 GMT";
const MODIFIED: &str = "Wed, 01 Jan 2020 00:00:00 GMT";
const AFTER: &str = "Thu, 02 Jan 2020 00:00:00 GMT";

fn evaluate(method: Method, request: Lines<'_>, status: u16, stored: Lines<'_>) -> Condition {
    let stored = head(stored);
    let stored = Validators::of(StatusCode::from_u16(status).unwrap(), &stored);
    condition(&method, &head(request), &stored)
}

/// Against a 200 with a strong tag and a date.
fn check(rule: &str, request: Lines<'_>, expected: Condition) {
    let stored = &[("etag", "\"a\""), ("last-modified", MODIFIED)];
    assert_eq!(evaluate(Method::GET, request, 200, stored), expected, "{rule}");
}

use Condition::{NotModified, PreconditionFailed, Proceed};

#[test]
fn if_none_match_is_answered_by_weak_comparison() {
    check("none", &[], Proceed);
    check("same", &[("if-none-match", "\"a\"")], NotModified);
    check("weak", &[("if-none-match", "W/\"a\"")], NotModified);
    check("other", &[("if-none-match", "\"b\"")], Proceed);
    check("middle of a list", &[("if-none-match", "\"x\", \"a\",\"y\"")], NotModified);
    check("second line", &[("if-none-match", "\"x\""), ("if-none-match", "\"a\"")], NotModified);
    check("comma in a tag", &[("if-none-match", "\"x,\"a\",\"")], Proceed);
    check("backslash in a tag escapes nothing", &[("if-none-match", "\"x\\\", \"a\"")], NotModified);
    check("any", &[("if-none-match", "*")], NotModified);
    check("a tag named star", &[("if-none-match", "\"*\"")], Proceed);
}

#[test]
fn if_none_match_overrides_if_modified_since() {
    check("other tag, later date", &[("if-none-match", "\"b\""), ("if-modified-since", AFTER)], Proceed);
    check(
        "same tag, earlier date",
        &[("if-none-match", "\"a\""), ("if-modified-since", BEFORE)],
        NotModified,
    );
}

#[test]
fn if_modified_since_compares_dates() {
    check("same", &[("if-modified-since", MODIFIED)], NotModified);
    check("later", &[("if-modified-since", AFTER)], NotModified);
    check("earlier", &[("if-modified-since", BEFORE)], Proceed);
    check("RFC 850", &[("if-modified-since", "Wednesday, 01-Jan-20 00:00:00 GMT")], NotModified);
    check("asctime", &[("if-modified-since", "Wed Jan  1 00:00:00 2020")], NotModified);
    check("no date", &[("if-modified-since", "x")], Proceed);
    let dated = &[("date", MODIFIED)];
    assert_eq!(evaluate(Method::GET, &[("if-modified-since", MODIFIED)], 200, dated), NotModified);
    assert_eq!(evaluate(Method::GET, &[("if-modified-since", BEFORE)], 200, dated), Proceed);
    assert_eq!(evaluate(Method::GET, &[("if-modified-since", AFTER)], 200, &[]), Proceed);
}

#[test]
fn if_match_is_answered_by_strong_comparison_and_comes_first() {
    check("same", &[("if-match", "\"x\", \"a\"")], Proceed);
    check("any", &[("if-match", "*")], Proceed);
    check("other", &[("if-match", "\"b\"")], PreconditionFailed);
    check("weak", &[("if-match", "W/\"a\"")], PreconditionFailed);
    check("before If-None-Match", &[("if-match", "\"b\""), ("if-none-match", "\"a\"")], PreconditionFailed);
    check("then If-None-Match", &[("if-match", "\"a\""), ("if-none-match", "\"a\"")], NotModified);
    check(
        "overrides If-Unmodified-Since",
        &[("if-match", "\"a\""), ("if-unmodified-since", BEFORE)],
        Proceed,
    );
    let weak = &[("etag", "W/\"a\"")];
    assert_eq!(evaluate(Method::GET, &[("if-match", "\"a\"")], 200, weak), PreconditionFailed);
}

#[test]
fn if_unmodified_since_compares_dates() {
    check("earlier", &[("if-unmodified-since", BEFORE)], PreconditionFailed);
    check("same", &[("if-unmodified-since", MODIFIED)], Proceed);
    check("later", &[("if-unmodified-since", AFTER)], Proceed);
    check("no date", &[("if-unmodified-since", "x")], Proceed);
    assert_eq!(evaluate(Method::GET, &[("if-unmodified-since", BEFORE)], 200, &[("etag", "\"a\"")]), Proceed);
}

#[test]
fn method_and_status_decide_what_conditions_mean() {
    let stored: Lines<'_> = &[("etag", "\"a\""), ("last-modified", MODIFIED)];
    let same: Lines<'_> = &[("if-none-match", "\"a\"")];
    assert_eq!(evaluate(Method::HEAD, same, 200, stored), NotModified);
    assert_eq!(evaluate(Method::PUT, same, 200, stored), PreconditionFailed);
    assert_eq!(evaluate(Method::PUT, &[("if-modified-since", AFTER)], 200, stored), Proceed);
    for status in [301, 404, 500] {
        assert_eq!(evaluate(Method::GET, same, status, stored), Proceed, "{status}");
        assert_eq!(evaluate(Method::GET, &[("if-match", "\"b\"")], status, stored), Proceed, "{status}");
    }
}

#[test]
fn unquoted_tags_validate_but_only_weakly() {
    assert_eq!(evaluate(Method::GET, &[("if-none-match", "abc")], 200, &[("etag", "abc")]), NotModified);
    assert_eq!(evaluate(Method::GET, &[("if-match", "abc")], 200, &[("etag", "abc")]), PreconditionFailed);
}

#[test]
fn our_conditions_replace_those_of_the_client() {
    let client: Lines<'_> = &[
        ("if-none-match", "\"theirs\""),
        ("if-match", "\"theirs\""),
        ("if-modified-since", AFTER),
        ("if-unmodified-since", AFTER),
        ("if-range", "\"theirs\""),
        ("range", "bytes=0-1"),
        ("accept", "x"),
    ];
    let ours = |stored: Lines<'_>| {
        let mut request = head(client);
        let conditional = make_conditional(&mut request, &head(stored));
        (conditional, request)
    };
    assert_eq!(
        ours(&[("etag", "W/\"a\""), ("last-modified", MODIFIED)]),
        (true, head(&[("accept", "x"), ("if-none-match", "W/\"a\""), ("if-modified-since", MODIFIED)]))
    );
    assert_eq!(
        ours(&[("last-modified", MODIFIED)]),
        (true, head(&[("accept", "x"), ("if-modified-since", MODIFIED)]))
    );
    assert_eq!(ours(&[("last-modified", "x")]), (false, head(&[("accept", "x")])));
    assert_eq!(ours(&[]), (false, head(&[("accept", "x")])));
}

proptest! {
    #[test]
    fn no_bytes_panic(line in prop::collection::vec(any::<u8>(), 0..60)) {
        let Ok(value) = HeaderValue::from_bytes(&line) else { return Ok(()) };
        let request: HeaderMap = PRECONDITIONS.into_iter().map(|name| (name, value.clone())).collect();
        let stored = HeaderMap::from_iter([(header::ETAG, value.clone()), (header::LAST_MODIFIED, value)]);
        let _ = condition(&Method::GET, &request, &Validators::of(StatusCode::OK, &stored));
        let _ = make_conditional(&mut request.clone(), &stored);
    }

    #[test]
    fn what_is_stored_answers_its_own_tag(opaque in "[!#-~]{0,12}", others in "(\"[!#-~]{0,6}\", ){0,3}") {
        let tag = format!("\"{opaque}\"");
        let stored = HeaderMap::from_iter([(header::ETAG, HeaderValue::try_from(&tag).unwrap())]);
        let request = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::try_from(format!("{others}{tag}")).unwrap())]);
        let validators = Validators::of(StatusCode::OK, &stored);
        prop_assert_eq!(condition(&Method::GET, &request, &validators), NotModified);
    }
}
