use super::super::fixtures::head;
use super::*;
use http::{Method, StatusCode};
use proptest::prelude::*;
use std::time::Duration;

const RECEIVED: Wall = Wall::from_secs(1_000_000);

/// Judges a response with `directives` (and an entity tag), received at age 0, after `age` seconds.
fn judge_under(policy: &CachePolicy, request: &'static str, directives: &'static str, age: u32) -> Reuse {
    let request = if request.is_empty() { head(&[]) } else { head(&[("cache-control", request)]) };
    let request = RequestFacts::parse(&Method::GET, &request);
    let response = head(&[("cache-control", directives), ("etag", "\"a\"")]);
    let facts = ResponseFacts::parse(StatusCode::OK, &response);
    let stored = Stored { facts: &facts, received: RECEIVED, initial_age: 0, purged: None, in_sync: true };
    reuse(&request, &stored, RECEIVED.plus(Duration::from_secs(age.into())), policy)
}

fn judge(request: &'static str, directives: &'static str, age: u32) -> Reuse {
    judge_under(&CachePolicy::default(), request, directives, age)
}

fn fresh(age: u32, ttl: i64) -> Reuse {
    Reuse::Fresh { age, ttl }
}

fn validate(why: ValidateReason, age: u32, ttl: i64, if_error: bool) -> Reuse {
    Reuse::Validate { age, ttl, why, if_error }
}

#[test]
fn fresh_is_served_and_stale_is_validated() {
    assert_eq!(judge("", "max-age=10", 9), fresh(9, 1));
    assert_eq!(judge("", "max-age=10", 10), validate(ValidateReason::Stale, 10, 0, true));
    assert_eq!(judge("", "max-age=10", 15), validate(ValidateReason::Stale, 15, -5, true));
    assert_eq!(judge("", "max-age=10, must-revalidate", 9), fresh(9, 1));
}

#[test]
fn no_cache_is_validated_each_time_and_never_served_on_error() {
    assert_eq!(judge("", "max-age=10, no-cache", 1), validate(ValidateReason::NoCache, 1, 9, false));
    let reuse = judge("max-stale", "max-age=10, no-cache, stale-if-error=99", 1);
    assert_eq!(reuse, validate(ValidateReason::NoCache, 1, 9, false));
}

fn check_error(rule: &str, directives: &'static str, age: u32, expected: bool) {
    match judge("", directives, age) {
        Reuse::Validate { why: ValidateReason::Stale, if_error, .. } => {
            assert_eq!(if_error, expected, "{rule}")
        }
        other => panic!("{rule}: {other:?}"),
    }
}

#[test]
fn stale_stands_in_for_a_failing_origin_by_default_unless_forbidden() {
    check_error("default", "max-age=10", 20, true);
    check_error("default ends", "max-age=10", 10 + 86_400, false);
    check_error("must-revalidate", "max-age=10, must-revalidate", 20, false);
    check_error("proxy-revalidate", "max-age=10, proxy-revalidate", 20, false);
    check_error("s-maxage", "s-maxage=10", 20, false);
    check_error("never was fresh", "max-age=0", 20, false);
    check_error("stale-if-error", "max-age=10, stale-if-error=11", 20, true);
    check_error("stale-if-error ends", "max-age=10, stale-if-error=10", 20, false);
    check_error("stale-if-error of 0", "max-age=10, stale-if-error=0", 10, false);
    check_error("longer than the default", "max-age=10, stale-if-error=999999", 500_000, true);
    check_error("named beside s-maxage", "s-maxage=10, stale-if-error=60", 20, true);
    check_error("must-revalidate over it", "max-age=10, must-revalidate, stale-if-error=60", 20, false);
}

#[test]
fn stale_while_revalidate_serves_within_its_window() {
    let swr = |age, ttl| Reuse::StaleWhileRevalidate { age, ttl };
    assert_eq!(judge("", "max-age=10, stale-while-revalidate=5", 9), fresh(9, 1));
    assert_eq!(judge("", "max-age=10, stale-while-revalidate=5", 10), swr(10, 0));
    assert_eq!(judge("", "max-age=10, stale-while-revalidate=5", 14), swr(14, -4));
    assert_eq!(
        judge("", "max-age=10, stale-while-revalidate=5", 15),
        validate(ValidateReason::Stale, 15, -5, true)
    );
    assert_eq!(judge("", "s-maxage=10, stale-while-revalidate=5", 14), swr(14, -4));
    assert_eq!(
        judge("", "max-age=10, stale-while-revalidate=5, must-revalidate", 12),
        validate(ValidateReason::Stale, 12, -2, false)
    );
    assert_eq!(
        judge("", "max-age=10, stale-while-revalidate=0", 10),
        validate(ValidateReason::Stale, 10, 0, true)
    );
}

#[test]
fn clients_can_demand_more() {
    use ValidateReason::{RequestMaxAge, RequestMinFresh, RequestNoCache};
    assert_eq!(judge("no-cache", "max-age=10", 1), validate(RequestNoCache, 1, 9, false));
    assert_eq!(judge("max-age=5", "max-age=10", 5), fresh(5, 5));
    assert_eq!(judge("max-age=5", "max-age=10", 6), validate(RequestMaxAge, 6, 4, true));
    assert_eq!(judge("max-age=0", "max-age=10", 0), validate(RequestMaxAge, 0, 10, true));
    assert_eq!(judge("max-age=x", "max-age=10", 1), validate(RequestMaxAge, 1, 9, true));
    assert_eq!(judge("min-fresh=9", "max-age=10", 1), fresh(1, 9));
    assert_eq!(judge("min-fresh=10", "max-age=10", 1), validate(RequestMinFresh, 1, 9, true));
    let swr = "max-age=10, stale-while-revalidate=50";
    assert_eq!(
        judge("max-age=5", swr, 12),
        validate(RequestMaxAge, 12, -2, true),
        "no stale against a client's will"
    );
    assert_eq!(judge("min-fresh=1", swr, 12), validate(RequestMinFresh, 12, -2, true));
}

#[test]
fn clients_can_be_content_with_less_unless_the_response_forbids() {
    assert_eq!(judge("max-stale=5", "max-age=10", 15), fresh(15, -5));
    assert_eq!(judge("max-stale=5", "max-age=10", 16), validate(ValidateReason::Stale, 16, -6, true));
    assert_eq!(judge("max-stale", "max-age=10", 99_999_999), fresh(99_999_999, -99_999_989));
    for forbidding in ["max-age=10, must-revalidate", "max-age=10, proxy-revalidate", "s-maxage=10"] {
        assert_eq!(
            judge("max-stale", forbidding, 15),
            validate(ValidateReason::Stale, 15, -5, false),
            "{forbidding}"
        );
    }
    assert_eq!(judge("max-age=5, max-stale=2", "max-age=10", 7), fresh(7, 3));
    assert_eq!(
        judge("max-age=99, max-stale=2", "max-age=10", 13),
        validate(ValidateReason::Stale, 13, -3, true)
    );
    assert_eq!(
        judge("max-age=5, max-stale=2", "max-age=10", 8),
        validate(ValidateReason::RequestMaxAge, 8, 2, true)
    );
}

#[test]
fn a_reload_does_not_validate_what_is_immutable_and_fresh() {
    use ValidateReason::{RequestMaxAge, RequestNoCache};
    assert_eq!(judge("max-age=0", "max-age=10, immutable", 5), fresh(5, 5));
    assert_eq!(judge("no-cache", "max-age=10, immutable", 5), validate(RequestNoCache, 5, 5, false));
    assert_eq!(judge("max-age=0", "max-age=10, immutable", 10), validate(RequestMaxAge, 10, 0, true));
    assert_eq!(judge("max-age=0", "max-age=10, immutable", 12), validate(RequestMaxAge, 12, -2, true));
}

#[test]
fn a_policy_may_turn_a_deaf_ear_to_clients() {
    let deaf = CachePolicy { honour_request_directives: false, ..CachePolicy::default() };
    assert_eq!(judge_under(&deaf, "no-cache", "max-age=10", 1), fresh(1, 9));
    assert_eq!(judge_under(&deaf, "max-age=0", "max-age=10", 1), fresh(1, 9));
    let reuse = judge_under(&deaf, "max-stale", "max-age=10", 11);
    assert_eq!(reuse, validate(ValidateReason::Stale, 11, -1, true));
}

#[test]
fn a_policy_may_forbid_stale_on_error() {
    let strict = CachePolicy { stale_if_error: Duration::ZERO, ..CachePolicy::default() };
    assert_eq!(judge_under(&strict, "", "max-age=10", 10), validate(ValidateReason::Stale, 10, 0, false));
}

#[test]
fn the_initial_age_counts() {
    let facts = ResponseFacts::parse(StatusCode::OK, &head(&[("cache-control", "max-age=3600")]));
    let stored = Stored { facts: &facts, received: RECEIVED, initial_age: 3599, purged: None, in_sync: true };
    let request = RequestFacts::parse(&Method::GET, &head(&[]));
    let policy = CachePolicy::default();
    assert_eq!(reuse(&request, &stored, RECEIVED, &policy), fresh(3599, 1));
    assert_eq!(reuse(&request, &stored, Wall::from_secs(0), &policy), fresh(3599, 1), "the clock went back");
    let later = RECEIVED.plus(Duration::from_secs(1));
    assert_eq!(reuse(&request, &stored, later, &policy), validate(ValidateReason::Stale, 3600, 0, true));
}

proptest! {
    #[test]
    fn stale_is_never_served_silently_where_it_is_forbidden(
        age in 0u32..100, lifetime in 0u32..50, client in prop::option::of(0u32..100),
        which in 0usize..3, swr in 0u32..100,
    ) {
        let forbidding = ["must-revalidate", "proxy-revalidate", "no-cache"][which];
        let line = format!("max-age={lifetime}, {forbidding}, stale-while-revalidate={swr}, stale-if-error={swr}");
        let mut fields = head(&[]);
        fields.insert("cache-control", line.try_into().unwrap());
        let facts = ResponseFacts::parse(StatusCode::OK, &fields);
        let mut request = RequestFacts::parse(&Method::GET, &head(&[]));
        request.max_stale = client;
        let stored = Stored { facts: &facts, received: RECEIVED, initial_age: age, purged: None, in_sync: true };
        match reuse(&request, &stored, RECEIVED, &CachePolicy::default()) {
            Reuse::Fresh { ttl, .. } => prop_assert!(ttl > 0 && !facts.directives.no_cache()),
            Reuse::StaleWhileRevalidate { .. } => prop_assert!(false, "stale was served"),
            Reuse::Validate { ttl, if_error, .. } => prop_assert!(!if_error || ttl > 0),
        }
    }
}

/// Judges what a soft purge hit `purged` seconds after its reception, or what a node out of sync has.
fn judge_purged(directives: &'static str, age: u32, purged: Option<u32>, in_sync: bool) -> Reuse {
    judge_purged_for("", directives, age, purged, in_sync)
}

fn judge_purged_for(
    request: &'static str,
    directives: &'static str,
    age: u32,
    purged: Option<u32>,
    in_sync: bool,
) -> Reuse {
    let request = if request.is_empty() { head(&[]) } else { head(&[("cache-control", request)]) };
    let request = RequestFacts::parse(&Method::GET, &request);
    let facts = ResponseFacts::parse(StatusCode::OK, &head(&[("cache-control", directives)]));
    let after = |secs: u32| RECEIVED.plus(Duration::from_secs(secs.into()));
    let stored =
        Stored { facts: &facts, received: RECEIVED, initial_age: 0, purged: purged.map(after), in_sync };
    reuse(&request, &stored, after(age), &CachePolicy::default())
}

#[test]
fn a_soft_purge_ends_the_lifetime_and_begins_the_windows() {
    const WINDOWS: &str = "max-age=1000, stale-while-revalidate=10, stale-if-error=20";
    let swr = |age, ttl| Reuse::StaleWhileRevalidate { age, ttl };
    assert_eq!(judge_purged(WINDOWS, 100, Some(100), true), swr(100, 0), "at once");
    assert_eq!(judge_purged(WINDOWS, 109, Some(100), true), swr(109, -9));
    let purged = |age, ttl, if_error| validate(ValidateReason::Purged, age, ttl, if_error);
    assert_eq!(judge_purged(WINDOWS, 110, Some(100), true), purged(110, -10, true));
    assert_eq!(judge_purged(WINDOWS, 120, Some(100), true), purged(120, -20, false));
    assert_eq!(judge_purged("max-age=1000, must-revalidate", 100, Some(100), true), purged(100, 0, false));
    assert_eq!(judge_purged("s-maxage=1000", 100, Some(100), true), purged(100, 0, false));
    // What was stale before is no fresher for it.
    assert_eq!(
        judge_purged(WINDOWS, 1015, Some(1012), true),
        validate(ValidateReason::Stale, 1015, -15, true)
    );
    assert_eq!(judge_purged(WINDOWS, 50, Some(100), true), swr(50, 0), "the clock went back");
}

#[test]
fn what_a_client_accepts_counts_from_a_soft_purge() {
    let judge = |request, age| judge_purged_for(request, "max-age=1000", age, Some(100), true);
    assert_eq!(judge("max-stale=5", 105), fresh(105, -5));
    assert!(matches!(judge("max-stale=5", 106), Reuse::Validate { .. }));
    let why = |reuse| if let Reuse::Validate { why, .. } = reuse { Some(why) } else { None };
    assert_eq!(why(judge("min-fresh=1", 100)), Some(ValidateReason::RequestMinFresh));
    assert_eq!(why(judge("max-age=200", 100)), Some(ValidateReason::Purged));
    let immutable = judge_purged_for("max-age=0", "max-age=1000, immutable", 100, Some(100), true);
    assert_eq!(why(immutable), Some(ValidateReason::RequestMaxAge), "it is not fresh any more");
}

#[test]
fn out_of_sync_nothing_is_served_unasked_and_stands_in_only_where_a_stale_one_may() {
    let unsure = |age, ttl, if_error| validate(ValidateReason::OutOfSync, age, ttl, if_error);
    let judge = |directives, age| judge_purged(directives, age, None, false);
    assert_eq!(judge("max-age=100", 10), unsure(10, 90, true));
    assert_eq!(judge("max-age=100, stale-while-revalidate=50", 110), unsure(110, -10, true));
    for strict in ["max-age=100, must-revalidate", "max-age=100, proxy-revalidate", "s-maxage=100"] {
        assert_eq!(judge(strict, 10), unsure(10, 90, false), "{strict}");
    }
    assert_eq!(judge("s-maxage=100, stale-if-error=5", 104), unsure(104, -4, true));
    assert_eq!(judge("s-maxage=100, stale-if-error=5", 105), unsure(105, -5, false));
    assert_eq!(judge("max-age=100, no-cache", 10), validate(ValidateReason::NoCache, 10, 90, false));
    let client = judge_purged_for("max-stale", "max-age=100", 110, None, false);
    assert_eq!(client, unsure(110, -10, true), "a client cannot accept what was purged");
}
