use super::super::fixtures::head;
use super::*;
use http::StatusCode;
use proptest::prelude::*;

type Lines<'a> = &'a [(&'static str, &'static str)];

const DATE: (&str, &str) = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
const SECS: i64 = 784_111_777;
const HOUR_LATER: &str = "Sun, 06 Nov 1994 09:49:37 GMT";
const HOUR_BEFORE: &str = "Sun, 06 Nov 1994 07:49:37 GMT";

fn check(rule: &str, status: u16, lines: Lines<'_>, secs: u32, source: LifetimeSource) {
    let facts = ResponseFacts::parse(StatusCode::from_u16(status).unwrap(), &head(lines));
    let lifetime = lifetime(&facts, Wall::from_secs(SECS), &CachePolicy::default());
    assert_eq!(lifetime, Lifetime { secs, source }, "{rule}");
}

#[test]
fn the_first_stated_lifetime_counts() {
    use LifetimeSource as Source;
    let later = ("expires", HOUR_LATER);
    check("s-maxage", 200, &[("cache-control", "max-age=1, s-maxage=9")], 9, Source::SMaxage);
    check("zero s-maxage", 200, &[("cache-control", "max-age=9, s-maxage=0")], 0, Source::SMaxage);
    check("max-age over Expires", 200, &[("cache-control", "max-age=9"), DATE, later], 9, Source::MaxAge);
    check(
        "invalid max-age over Expires",
        200,
        &[("cache-control", "max-age=x"), DATE, later],
        0,
        Source::MaxAge,
    );
    check("Expires", 200, &[DATE, later], 3600, Source::Expires);
    check("Expires against Date", 200, &[("date", HOUR_BEFORE), later], 7200, Source::Expires);
    check("Expires without Date", 200, &[later], 3600, Source::Expires);
    check("Expires with an invalid Date", 200, &[("date", "x"), later], 3600, Source::Expires);
    check("past Expires", 200, &[DATE, ("expires", HOUR_BEFORE)], 0, Source::Expires);
    check(
        "invalid Expires",
        200,
        &[DATE, ("expires", "0"), ("last-modified", HOUR_BEFORE)],
        0,
        Source::Expires,
    );
    check("targeted", 200, &[("cdn-cache-control", "max-age=9"), DATE, later], 9, Source::CdnMaxAge);
    check("targeted s-maxage", 200, &[("cdn-cache-control", "max-age=1, s-maxage=9")], 9, Source::CdnMaxAge);
    check("targeted without lifetime", 200, &[("cdn-cache-control", "foo"), DATE, later], 0, Source::None);
    check("surrogate", 200, &[("surrogate-control", "max-age=9")], 9, Source::SurrogateMaxAge);
    check("nothing", 200, &[DATE], 0, Source::None);
}

#[test]
fn a_guess_is_a_tenth_of_the_time_since_modification() {
    use LifetimeSource::{Heuristic, None};
    let modified = ("last-modified", HOUR_BEFORE);
    check("a tenth", 200, &[DATE, modified], 360, Heuristic);
    check("without Date, since reception", 200, &[modified], 360, Heuristic);
    check("in the future", 200, &[DATE, ("last-modified", HOUR_LATER)], 0, Heuristic);
    check(
        "at most a day",
        200,
        &[DATE, ("last-modified", "Sun, 06 Nov 1983 08:49:37 GMT")],
        86_400,
        Heuristic,
    );
    check("not for any status", 403, &[DATE, modified], 0, None);
    check("but for public", 403, &[DATE, modified, ("cache-control", "public")], 360, Heuristic);
}

#[test]
fn lifetimes_end_at_the_policys_bound() {
    let facts = ResponseFacts::parse(StatusCode::OK, &head(&[("cache-control", "max-age=99999999999")]));
    let policy = CachePolicy { lifetime_max: Duration::from_secs(60), ..CachePolicy::default() };
    assert_eq!(lifetime(&facts, Wall::default(), &policy).secs, 60);
    let policy = CachePolicy { lifetime_max: Duration::MAX, ..CachePolicy::default() };
    assert_eq!(lifetime(&facts, Wall::default(), &policy).secs, DELTA_MAX);
}

fn initial_age(lines: Lines<'_>, sent: i64, received: i64) -> u32 {
    let facts = ResponseFacts::parse(StatusCode::OK, &head(lines));
    corrected_initial_age(&facts, Wall::from_secs(SECS + sent), Wall::from_secs(SECS + received))
}

#[test]
fn initial_age_is_the_larger_of_both_views() {
    assert_eq!(initial_age(&[DATE], 0, 0), 0);
    assert_eq!(initial_age(&[DATE], 5, 7), 7, "apparent age");
    assert_eq!(initial_age(&[DATE], -9, -7), 2, "a Date in the future is no age, but the delay is");
    assert_eq!(initial_age(&[DATE, ("age", "100")], 5, 7), 102, "Age and delay");
    assert_eq!(
        initial_age(&[("date", HOUR_BEFORE), ("age", "100")], 0, 0),
        3600,
        "the clock says more than Age"
    );
    assert_eq!(initial_age(&[("date", "x"), ("age", "100")], 0, 0), 100, "invalid Date");
    assert_eq!(initial_age(&[DATE], 9, 0), 0, "the clock went back");
    assert_eq!(initial_age(&[("age", "2147483648")], 0, 9), DELTA_MAX);
}

#[test]
fn age_grows_with_the_clock_and_never_shrinks_below_the_initial() {
    let at = Wall::from_secs;
    assert_eq!(current_age(5, at(100), at(107)), 12);
    assert_eq!(current_age(5, at(100), at(100)), 5);
    assert_eq!(current_age(5, at(100), at(0)), 5);
}

proptest! {
    #[test]
    fn ages_and_lifetimes_saturate(
        initial: u32, received: i64, now: i64, secs: u64, date: i64, percent: u32,
        stated in "[0-9]{1,30}",
    ) {
        let (received, now) = (Wall::from_millis(received), Wall::from_millis(now));
        let age = current_age(initial, received, now);
        prop_assert!(age <= DELTA_MAX && age >= initial.min(DELTA_MAX));
        let mut fields = head(&[("last-modified", HOUR_BEFORE), ("expires", HOUR_LATER)]);
        let policy = CachePolicy {
            heuristic_percent: percent,
            heuristic_max: Duration::from_secs(secs),
            lifetime_max: Duration::from_secs(secs),
            ..CachePolicy::default()
        };
        let facts = ResponseFacts::parse(StatusCode::OK, &fields);
        prop_assert!(lifetime(&facts, Wall::from_secs(date), &policy).secs <= DELTA_MAX);
        fields.remove("expires");
        let facts = ResponseFacts::parse(StatusCode::OK, &fields);
        prop_assert!(lifetime(&facts, Wall::from_secs(date), &policy).secs <= DELTA_MAX);
        fields.insert("age", stated.try_into().unwrap());
        let facts = ResponseFacts::parse(StatusCode::OK, &fields);
        prop_assert!(corrected_initial_age(&facts, now, received) <= DELTA_MAX);
    }
}
