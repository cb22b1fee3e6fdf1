use super::super::fixtures::head;
use super::*;
use http::Method;

type Lines<'a> = &'a [(&'static str, &'static str)];

const MODIFIED: (&str, &str) = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");

fn judge(request: Lines<'_>, status: u16, response: Lines<'_>) -> Result<StoreReason, NotStorable> {
    let request = RequestFacts::parse(&Method::GET, &head(request));
    let response = ResponseFacts::parse(StatusCode::from_u16(status).unwrap(), &head(response));
    storable(&request, &response, &CachePolicy::default())
}

fn check(rule: &str, status: u16, response: Lines<'_>, expected: Result<StoreReason, NotStorable>) {
    assert_eq!(judge(&[], status, response), expected, "{rule}");
}

#[test]
fn any_final_status_is_stored_with_explicit_freshness() {
    for status in [
        200, 203, 204, 299, 300, 301, 302, 303, 307, 308, 400, 404, 410, 412, 499, 500, 502, 503, 504, 599,
        999,
    ] {
        check("explicit", status, &[("cache-control", "max-age=5")], Ok(StoreReason::MaxAge));
    }
    for status in [206, 416] {
        check("part", status, &[("cache-control", "max-age=5")], Err(NotStorable::Partial));
    }
    for status in [101, 103, 304] {
        check("not final", status, &[("cache-control", "max-age=5")], Err(NotStorable::Status));
    }
}

#[test]
fn a_part_is_stored_if_it_was_asked_for_and_says_which_it_is() {
    const RANGE: (&str, &str) = ("range", "bytes=0-4");
    const PLACE: (&str, &str) = ("content-range", "bytes 0-4/10");
    const FRESH: (&str, &str) = ("cache-control", "max-age=5");
    assert_eq!(judge(&[RANGE], 206, &[FRESH, PLACE]), Ok(StoreReason::MaxAge));
    assert_eq!(judge(&[RANGE], 206, &[MODIFIED, PLACE]), Ok(StoreReason::Heuristic));
    for (request, response) in [
        (&[][..], &[FRESH, PLACE][..]),
        (&[RANGE], &[FRESH]),
        (&[RANGE], &[FRESH, PLACE, PLACE]),
        (&[RANGE], &[FRESH, ("content-range", "bytes */10")]),
        (&[RANGE], &[FRESH, ("content-range", "bytes 4-0/10")]),
    ] {
        assert_eq!(judge(request, 206, response), Err(NotStorable::Partial), "{request:?} {response:?}");
    }
    assert_eq!(judge(&[RANGE], 416, &[FRESH, PLACE]), Err(NotStorable::Partial));
}

#[test]
fn the_reason_is_what_gives_the_lifetime() {
    const DATE: &str = "Thu, 18 Aug 2050 02:01:18 GMT";
    check("s-maxage", 200, &[("cache-control", "max-age=5, s-maxage=5")], Ok(StoreReason::SMaxage));
    check("Expires", 200, &[("expires", DATE)], Ok(StoreReason::Expires));
    check("targeted", 200, &[("cdn-cache-control", "max-age=5")], Ok(StoreReason::CdnCacheControl));
    check("surrogate", 200, &[("surrogate-control", "max-age=5")], Ok(StoreReason::SurrogateControl));
    check(
        "targeted puts Expires out of force",
        200,
        &[("cdn-cache-control", "foo"), ("expires", DATE)],
        Err(NotStorable::NoLifetime),
    );
    check("none", 200, &[], Err(NotStorable::NoLifetime));
    check("a validator is no lifetime", 200, &[("etag", "\"a\"")], Err(NotStorable::NoLifetime));
    check(
        "no-cache with a validator",
        200,
        &[("cache-control", "no-cache"), ("etag", "\"a\"")],
        Ok(StoreReason::Validation),
    );
    check("no-cache without", 200, &[("cache-control", "no-cache")], Err(NotStorable::NoLifetime));
    check(
        "fresh but no-cache, without validator",
        200,
        &[("cache-control", "no-cache, max-age=5")],
        Err(NotStorable::NoUse),
    );
}

#[test]
fn a_response_that_no_request_can_use_is_not_stored() {
    const DATE: &str = "Thu, 18 Aug 2050 02:01:18 GMT";
    check("zero", 200, &[("cache-control", "max-age=0")], Err(NotStorable::NoUse));
    check(
        "zero with validator",
        200,
        &[("cache-control", "max-age=0"), ("etag", "\"a\"")],
        Ok(StoreReason::MaxAge),
    );
    check(
        "zero but may be stale",
        200,
        &[("cache-control", "max-age=0, stale-while-revalidate=5")],
        Ok(StoreReason::MaxAge),
    );
    check("invalid Expires", 200, &[("expires", "0")], Err(NotStorable::NoUse));
    check("past Expires", 200, &[("expires", DATE), ("date", DATE)], Err(NotStorable::NoUse));
    check(
        "past Expires with validator",
        200,
        &[("expires", DATE), ("date", DATE), MODIFIED],
        Ok(StoreReason::Expires),
    );
}

#[test]
fn heuristics_need_last_modified_and_a_status_or_public() {
    for status in [200, 203, 204, 300, 301, 308] {
        check("heuristic", status, &[MODIFIED], Ok(StoreReason::Heuristic));
    }
    let request = RequestFacts::parse(&Method::GET, &head(&[]));
    let rfc = CachePolicy { errors: Errors::Rfc, ..CachePolicy::default() };
    for status in [404, 405, 410, 414, 501] {
        check("an error", status, &[MODIFIED], Err(NotStorable::NoLifetime));
        check("public", status, &[MODIFIED, ("cache-control", "public")], Ok(StoreReason::Heuristic));
        check(
            "asked each time",
            status,
            &[MODIFIED, ("cache-control", "no-cache")],
            Ok(StoreReason::Validation),
        );
        let response = ResponseFacts::parse(StatusCode::from_u16(status).unwrap(), &head(&[MODIFIED]));
        assert_eq!(
            storable(&request, &response, &rfc),
            Ok(StoreReason::Heuristic),
            "{status} as the RFC allows"
        );
    }
    for status in [201, 202, 302, 307, 403, 500, 502, 503, 504, 599] {
        check("not heuristic", status, &[MODIFIED], Err(NotStorable::NoLifetime));
        check("but public", status, &[MODIFIED, ("cache-control", "public")], Ok(StoreReason::Heuristic));
    }
    check("public alone", 200, &[("cache-control", "public")], Err(NotStorable::NoLifetime));
}

#[test]
fn restrictions_win_over_lifetimes() {
    check("no-store", 200, &[("cache-control", "max-age=5, no-store")], Err(NotStorable::NoStore));
    check(
        "no-store and public",
        200,
        &[("cache-control", "public, max-age=5, no-store")],
        Err(NotStorable::NoStore),
    );
    check("private", 200, &[("cache-control", "private, max-age=5")], Err(NotStorable::Private));
    check(
        "qualified private",
        200,
        &[("cache-control", "private=\"x\", max-age=5")],
        Ok(StoreReason::MaxAge),
    );
    check("Vary *", 200, &[("cache-control", "max-age=5"), ("vary", "a, *")], Err(NotStorable::VaryStar));
    check("Vary", 200, &[("cache-control", "max-age=5"), ("vary", "a")], Ok(StoreReason::MaxAge));
}

#[test]
fn must_understand_overrides_no_store_for_known_statuses_only() {
    let lines: Lines<'_> = &[("cache-control", "max-age=5, no-store, must-understand")];
    check("known", 200, lines, Ok(StoreReason::MaxAge));
    check("unknown", 599, lines, Err(NotStorable::MustUnderstand));
    check(
        "unknown, without no-store",
        599,
        &[("cache-control", "max-age=5, must-understand")],
        Err(NotStorable::MustUnderstand),
    );
}

#[test]
fn authorization_needs_leave_to_share() {
    let with = |line| judge(&[("authorization", "Basic x")], 200, &[("cache-control", line)]);
    assert_eq!(with("max-age=5"), Err(NotStorable::Authorization));
    assert_eq!(with("max-age=5, public"), Ok(StoreReason::MaxAge));
    assert_eq!(with("max-age=5, must-revalidate"), Ok(StoreReason::MaxAge));
    assert_eq!(with("s-maxage=5"), Ok(StoreReason::SMaxage));
    assert_eq!(with("max-age=5, proxy-revalidate"), Err(NotStorable::Authorization));
}

#[test]
fn set_cookie_needs_an_explicit_word_unless_the_policy_is_the_rfc() {
    let cookie = ("set-cookie", "a=b");
    check("plain", 200, &[cookie, ("cache-control", "max-age=5")], Err(NotStorable::SetCookie));
    check("public", 200, &[cookie, ("cache-control", "max-age=5, public")], Ok(StoreReason::MaxAge));
    check("s-maxage", 200, &[cookie, ("cache-control", "s-maxage=5")], Ok(StoreReason::SMaxage));
    check("targeted", 200, &[cookie, ("cdn-cache-control", "max-age=5")], Ok(StoreReason::CdnCacheControl));
    check(
        "targeted without lifetime",
        200,
        &[cookie, MODIFIED, ("cdn-cache-control", "foo")],
        Err(NotStorable::SetCookie),
    );
    check(
        "withheld",
        200,
        &[cookie, ("cache-control", "max-age=5, private=\"set-cookie\"")],
        Ok(StoreReason::MaxAge),
    );
    let request = RequestFacts::parse(&Method::GET, &head(&[]));
    let response = ResponseFacts::parse(StatusCode::OK, &head(&[cookie, ("cache-control", "max-age=5")]));
    let rfc = CachePolicy { set_cookie: SetCookie::Rfc, ..CachePolicy::default() };
    assert_eq!(storable(&request, &response, &rfc), Ok(StoreReason::MaxAge));
}

#[test]
fn requests_that_forbid_or_cannot_store() {
    let fresh: Lines<'_> = &[("cache-control", "max-age=5")];
    assert_eq!(judge(&[("cache-control", "no-store")], 200, fresh), Err(NotStorable::RequestNoStore));
    assert_eq!(judge(&[("cookie", "a=b")], 200, fresh), Ok(StoreReason::MaxAge));
    assert_eq!(judge(&[("if-match", "\"a\"")], 412, fresh), Err(NotStorable::Status));
    let response = ResponseFacts::parse(StatusCode::OK, &head(fresh));
    for method in [Method::HEAD, Method::POST, Method::OPTIONS] {
        let request = RequestFacts::parse(&method, &head(&[]));
        assert_eq!(storable(&request, &response, &CachePolicy::default()), Err(NotStorable::Method));
    }
    let request = RequestFacts::parse(&Method::GET, &head(&[("cache-control", "no-store")]));
    let deaf = CachePolicy { honour_request_directives: false, ..CachePolicy::default() };
    assert_eq!(storable(&request, &response, &deaf), Ok(StoreReason::MaxAge));
}

#[test]
fn a_post_is_stored_only_as_its_target_and_with_explicit_freshness() {
    const FRESH: Lines<'_> = &[("cache-control", "max-age=5")];
    const MODIFIED: Lines<'_> = &[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")];
    let check =
        |rule: &str, (fields, status): (Lines<'_>, u16), response: Lines<'_>, is_of_target, expected| {
            let request = RequestFacts::parse(&Method::POST, &head(fields));
            let response = ResponseFacts::parse(StatusCode::from_u16(status).unwrap(), &head(response));
            let policy = CachePolicy::default();
            assert_eq!(storable_post(&request, &response, &policy, is_of_target), expected, "{rule}");
        };
    check("explicit and its target", (&[], 200), FRESH, true, Ok(StoreReason::MaxAge));
    check("not its target", (&[], 200), FRESH, false, Err(NotStorable::Method));
    check("another status", (&[], 201), FRESH, true, Err(NotStorable::Status));
    check("a guessed lifetime", (&[], 200), MODIFIED, true, Err(NotStorable::NoLifetime));
    check("as for GET", (&[("authorization", "x")], 200), FRESH, true, Err(NotStorable::Authorization));
}

#[test]
fn what_is_for_one_user_is_personal() {
    let is = |request: Lines<'_>, response: Lines<'_>| {
        let request = RequestFacts::parse(&Method::GET, &head(request));
        personal(&request, &ResponseFacts::parse(StatusCode::OK, &head(response)))
    };
    assert!(is(&[("authorization", "x")], &[("cache-control", "public")]));
    assert!(is(&[], &[("set-cookie", "a=b"), ("cache-control", "public")]));
    assert!(!is(&[("cookie", "a=b")], &[]));
}

#[test]
fn reasons_have_codes_and_names_of_their_own() {
    for reason in StoreReason::ALL {
        assert_eq!(StoreReason::from_code(reason.code()), Some(reason));
    }
    assert_eq!((0..=u8::MAX).filter_map(StoreReason::from_code).count(), StoreReason::ALL.len());
    let names: std::collections::HashSet<_> = NotStorable::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(names.len(), NotStorable::ALL.len());
}
