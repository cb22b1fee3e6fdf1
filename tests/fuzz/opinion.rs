//! A second opinion on RFC 9111: the crate `http-cache-semantics` as a shared cache, and Shoal with its `rfc` profile, asked
//! about the same requests and responses, made of what origins and clients send and of oddities.
//!
//! Where the two may differ there is a function that says so, named in the answers of `*_differs`, with the sentence that
//! decides. Each is as narrow as the difference: it looks at the case, never at the answers. What none of them names must agree.

use super::harness::{cases, run};
use super::model;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_cache_semantics::{AfterResponse, BeforeRequest, CacheOptions, CachePolicy as Other};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use shoal::proto::key::ObjectId;
use shoal::proto::semantics::{
    CachePolicy, Errors, RequestFacts, ResponseFacts, Reuse, SetCookie, Stored, Vary, corrected_initial_age,
    current_age, lifetime, make_conditional, merge_304, reuse, storable, storable_fields, strip_hop_by_hop,
    validates,
};
use shoal::proto::time::Wall;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Cases for each case of a target: they are cheap, and most of them say little.
const CASES_FACTOR: u32 = 16;
/// Seconds by which heuristic lifetimes of some decades may differ: the other reckons a tenth as a short binary fraction.
const HEURISTIC_ERROR: u64 = 16;
/// When the response came, in seconds since the epoch.
const RECEIVED: i64 = 1_700_000_000;

/// Two requests, the response to the first, and when the second came.
#[derive(Clone, Debug)]
struct Case {
    method: &'static str,
    first: Fields,
    status: u16,
    response: Fields,
    second: Fields,
    later: u32,
}

type Fields = Vec<(&'static str, String)>;

impl Case {
    fn request(&self) -> Request<()> {
        request(self.method, &self.first)
    }

    fn response(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap();
        *response.headers_mut() = head(&self.response);
        response
    }

    fn facts(&self) -> ResponseFacts {
        ResponseFacts::parse(StatusCode::from_u16(self.status).unwrap(), &head(&self.response))
    }

    fn other(&self) -> Other {
        Other::new_options(&self.request(), &self.response(), at(0), CacheOptions::default())
    }

    fn received(&self) -> Wall {
        Wall::from_secs(RECEIVED)
    }

    /// Directives of the response, by the simple reading.
    fn directives(&self) -> Vec<(String, Option<Vec<u8>>)> {
        model::directives(values(&self.response, "cache-control"))
    }

    fn says(&self, name: &str) -> bool {
        self.directives().iter().any(|(known, _)| known == name)
    }

    fn has(&self, name: &str) -> bool {
        values(&self.response, name).next().is_some()
    }

    fn asks(&self, name: &str) -> bool {
        model::directives(values(&self.second, "cache-control")).iter().any(|(known, _)| known == name)
    }
}

fn values<'a>(fields: &'a Fields, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.as_bytes())
}

fn head(fields: &Fields) -> HeaderMap {
    let mut head = HeaderMap::new();
    for (name, value) in fields {
        head.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    head
}

fn request(method: &str, fields: &Fields) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
    *request.uri_mut() = "http://shop.example/a".parse().unwrap();
    *request.headers_mut() = head(fields);
    request
}

fn at(later: u32) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(RECEIVED as u64 + u64::from(later))
}

fn policy() -> CachePolicy {
    // The other opinion has no longest lifetime, and knows no stale responses but those that a client allows.
    CachePolicy {
        set_cookie: SetCookie::Rfc,
        heuristic_max: Duration::from_secs(u64::from(u32::MAX)),
        lifetime_max: Duration::from_secs(u64::from(u32::MAX)),
        stale_if_error: Duration::ZERO,
        errors: Errors::Rfc,
        ..CachePolicy::default()
    }
}

/// A number of seconds as origins write it, odd ones among them.
fn seconds() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => select(vec!["0", "1", "10", "60", "600", "3600", "86400"]).prop_map(str::to_owned),
        3 => (0..100_000_u32).prop_map(|secs| secs.to_string()),
        1 => select(vec!["-1", "abc", "1.5", "\"60\"", "'60'", "007", "3000000000", "99999999999999999999999", ""]).prop_map(str::to_owned),
    ]
}

fn directive() -> impl Strategy<Value = String> {
    let timed = select(vec!["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"]);
    let plain = select(vec![
        "no-store",
        "no-cache",
        "private",
        "public",
        "must-revalidate",
        "proxy-revalidate",
        "must-understand",
        "immutable",
        "no-transform",
        "pre-check=0",
        "foo=1",
    ]);
    let odd = select(vec![
        "foo=\"a, b\"",
        "no-cache=\"x-a\"",
        "private=\"set-cookie\"",
        "max-age",
        "PUBLIC",
        "Max-Age=5",
        "public, public",
    ]);
    prop_oneof![
        24 => (timed, seconds()).prop_map(|(name, secs)| format!("{name}={secs}")),
        12 => plain.prop_map(str::to_owned),
        1 => odd.prop_map(str::to_owned),
    ]
}

/// A date near the reception, in one of the forms of RFC 9110 §5.6.7 or in none.
fn date() -> impl Strategy<Value = String> {
    let text = |at: i64, form: u8| {
        let imf = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(at as u64));
        match form {
            0..6 => imf,
            6 => imf.replace("GMT", "UTC"),
            7 => format!("{} {} {} {} {}", &imf[..3], &imf[8..11], &imf[5..7], &imf[17..25], &imf[12..16]),
            8 => imf.to_lowercase(),
            _ => imf.replace("GMT", "+0000"),
        }
    };
    let offset = prop_oneof![Just(0), -100..100_i64, -1_000_000..1_000_000_i64, Just(-800_000_000)];
    prop_oneof![
        9 => (offset, 0..10_u8).prop_map(move |(offset, form)| text(RECEIVED + offset, form)),
        1 => select(vec!["0", "-1", "now", ""]).prop_map(str::to_owned),
    ]
}

fn tag() -> impl Strategy<Value = String> {
    select(vec!["\"a\"", "\"b\"", "W/\"a\"", "W/\"b\"", "\"\""]).prop_map(str::to_owned)
}

fn response() -> impl Strategy<Value = Fields> {
    let one = |name: &'static str, value: BoxedStrategy<String>| {
        option::of(value.prop_map(move |value| (name, value)))
    };
    let lines = vec(vec(directive(), 0..3).prop_map(|all| ("cache-control", all.join(", "))), 0..=2);
    let age = prop_oneof![seconds(), Just("5, 7".to_owned())].boxed();
    let vary = select(vec!["accept", "Accept, x-a", "*", "accept-encoding", "", "accept, *"])
        .prop_map(str::to_owned)
        .boxed();
    let cookie = Just("id=1".to_owned()).boxed();
    let pragma = Just("no-cache".to_owned()).boxed();
    let weighted = |name, value: BoxedStrategy<String>| prop_oneof![4 => Just(None), 1 => one(name, value)];
    (
        lines,
        one("expires", date().boxed()),
        one("date", date().boxed()),
        one("last-modified", date().boxed()),
        one("etag", tag().boxed()),
        weighted("age", age),
        weighted("vary", vary),
        weighted("set-cookie", cookie),
        weighted("pragma", pragma),
        weighted("content-length", select(vec!["5", "10"]).prop_map(str::to_owned).boxed()),
    )
        .prop_map(|(lines, expires, date, modified, etag, age, vary, cookie, pragma, length)| {
            let singles = [expires, date, modified, etag, age, vary, cookie, pragma, length];
            lines.into_iter().chain(singles.into_iter().flatten()).collect()
        })
}

fn asked() -> impl Strategy<Value = Fields> {
    let directive = prop_oneof![
        (select(vec!["max-age", "min-fresh", "max-stale"]), seconds())
            .prop_map(|(name, secs)| format!("{name}={secs}")),
        select(vec!["no-cache", "no-store", "max-stale", "foo"]).prop_map(str::to_owned),
    ];
    let fields = prop_oneof![
        6 => Just(None),
        4 => vec(directive, 1..3).prop_map(|all| Some(("cache-control", all.join(", ")))),
        1 => Just(Some(("pragma", "no-cache".to_owned()))),
        1 => Just(Some(("authorization", "Basic YTpi".to_owned()))),
    ];
    let selecting = vec(
        (select(vec!["accept", "x-a", "accept-encoding"]), select(vec!["a", "b", "a, b"]))
            .prop_map(|(name, value)| (name, value.to_owned())),
        0..3,
    );
    (fields, selecting).prop_map(|(field, mut selecting)| {
        selecting.sort();
        selecting.dedup_by_key(|(name, _)| *name);
        field.into_iter().chain(selecting).collect()
    })
}

fn case() -> impl Strategy<Value = Case> {
    let status = prop_oneof![
        6 => Just(200_u16),
        3 => select(vec![203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501]),
        2 => select(vec![201, 202, 206, 299, 304, 400, 403, 412, 416, 418, 500, 502, 503, 504, 599]),
    ];
    let method = prop_oneof![8 => Just("GET"), 1 => select(vec!["HEAD", "POST", "PUT", "OPTIONS", "QUERY"])];
    // Often what somebody counts to: a second more or less decides.
    let later =
        prop_oneof![Just(0_u32), select(vec![1, 10, 50, 59, 60, 540, 600, 3599, 3600]), 0..100_000_u32];
    (method, asked(), status, response(), asked(), later).prop_map(
        |(method, first, status, response, second, later)| Case {
            method,
            first,
            status,
            response,
            second,
            later,
        },
    )
}

/// What both say of a case, and why that may differ if it may.
struct Verdicts {
    ours: String,
    theirs: String,
    may_differ: Option<&'static str>,
}

fn verdicts(ours: impl fmt::Debug, theirs: impl fmt::Debug, may_differ: Option<&'static str>) -> Verdicts {
    Verdicts { ours: format!("{ours:?}"), theirs: format!("{theirs:?}"), may_differ }
}

/// Asks both about many cases. Says of each class of differences how many cases it took out, and how many of them differ;
/// one that takes out almost all would make the test worth nothing.
fn agree<T: fmt::Debug>(
    name: &str,
    values: &impl Strategy<Value = T>,
    judge: impl Fn(&T) -> Option<Verdicts>,
) {
    let tally = RefCell::new(BTreeMap::<&str, (u32, u32)>::new());
    let count = cases() * CASES_FACTOR;
    run(name, count, values, |case| {
        let Some(Verdicts { ours, theirs, may_differ }) = judge(&case) else { return };
        let differs = ours != theirs;
        assert!(!differs || may_differ.is_some(), "ours: {ours}, theirs: {theirs}");
        let mut tally = tally.borrow_mut();
        let (all, differing) = tally.entry(may_differ.unwrap_or(COMPARED)).or_default();
        *all += 1;
        *differing += u32::from(differs);
    });
    for (class, (all, differing)) in tally.borrow().iter() {
        println!("{name}: {class}: {all}, of which {differing} differ");
    }
    let compared = tally.borrow().get(COMPARED).map_or(0, |(all, _)| *all);
    assert!(compared >= count / 40, "{compared} of {count} cases are compared");
}

/// The class of the cases that may not differ.
const COMPARED: &str = "compared";

/// The first reason why two answers may differ.
fn first(reasons: &[(&'static str, bool)]) -> Option<&'static str> {
    reasons.iter().find(|(_, differs)| *differs).map(|(name, _)| *name)
}

#[test]
fn both_store_the_same_responses() {
    agree("storing", &case(), |case| {
        let request = case.request();
        let asked = RequestFacts::parse(request.method(), request.headers());
        let ours = storable(&asked, &case.facts(), &policy()).is_ok();
        Some(verdicts(ours, case.other().is_storable(), storing_differs(case)))
    });
}

fn storing_differs(case: &Case) -> Option<&'static str> {
    first(&[
        ("directives are read differently", reading_differs(case)),
        // RFC 9110 §9.3.2, §9.3.3: a response to HEAD has no content to store, and one to POST is stored for a GET only if its
        // Content-Location says that it is of the target; `storable_post` is asked for that. The other stores both.
        ("only GET", matches!(case.method, "HEAD" | "POST")),
        // RFC 9111 §3: a final status that is not understood may be stored unless must-understand is there. The other keeps to a list.
        ("final statuses", !is_listed(case.status) && !matches!(case.status, 206 | 304 | 416)),
        // RFC 9111 §5.2.2.3: a cache that implements must-understand "SHOULD ignore the no-store directive" then.
        ("must-understand", case.says("must-understand")),
        // RFC 9111 §5.2.2.7: the qualified form of private lets all but the named fields be stored.
        ("qualified private", qualified(case, "private")),
        // RFC 9111 §4.1: "A stored response with a Vary header field value containing a member '*' always fails to match", so
        // there is no use in storing it. The other stores it and never uses it.
        ("Vary: *", values(&case.response, "vary").any(|value| value.contains(&b'*'))),
        // RFC 9111 §4.2.2: without explicit freshness a lifetime comes from Last-Modified; without that, or on no-cache without a
        // validator, or stale from the start, no use is left but asking again for all of it. To store is a MAY (§3).
        ("of no use", is_of_no_use(case)),
    ])
}

/// The statuses that the other opinion understands.
fn is_listed(status: u16) -> bool {
    [200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501].contains(&status)
}

/// RFC 9111 §5.2: names have no case, lists are cut with regard to quotes, and an argument in single quotes or with a quoted number
/// is read as RFC 9110 §5.6 writes it. The other cuts at each comma, knows lower case only, and takes off quotes anywhere.
fn reading_differs(case: &Case) -> bool {
    let all = values(&case.response, "cache-control")
        .chain(values(&case.first, "cache-control"))
        .chain(values(&case.second, "cache-control"));
    let text = String::from_utf8_lossy(&all.collect::<Vec<_>>().join(&b',')).into_owned();
    let repeated = |fields: &Fields| {
        let mut names: Vec<_> =
            model::directives(values(fields, "cache-control")).into_iter().map(|(name, _)| name).collect();
        names.sort();
        names.windows(2).any(|pair| pair[0] == pair[1])
    };
    // RFC 9111 §4.2.1: of repeated directives "either the first occurrence should be used or the response should be considered
    // stale"; the other does the second, in the form of must-revalidate, and also where it is no question of freshness.
    text.contains('"')
        || text.bytes().any(|byte| byte.is_ascii_uppercase())
        || [&case.response, &case.first, &case.second].into_iter().any(repeated)
}

fn qualified(case: &Case, name: &str) -> bool {
    case.directives().iter().any(|(known, argument)| known == name && argument.is_some())
}

fn is_of_no_use(case: &Case) -> bool {
    let facts = case.facts();
    let explicit = case.says("max-age") || case.says("s-maxage") || case.has("expires");
    let is_fresh_at_first = lifetime(&facts, case.received(), &policy()).secs > 0;
    let may_be_stale = case.says("stale-while-revalidate") || case.says("stale-if-error");
    if explicit {
        !facts.has_validator() && (case.says("no-cache") || !is_fresh_at_first && !may_be_stale)
    } else {
        facts.last_modified().is_none() && !(case.says("no-cache") && facts.has_validator())
            || case.says("no-cache") && !facts.has_validator()
    }
}

#[test]
fn both_find_the_same_lifetime() {
    agree("lifetimes", &case(), |case| {
        let other = case.other();
        // Seen at the first second, the age is what the response says of itself.
        let age = other.age(at(0)).as_secs();
        let mut theirs = other.time_to_live(at(0)).as_secs();
        let ours = u64::from(lifetime(&case.facts(), case.received(), &policy()).secs).saturating_sub(age);
        if is_heuristic(case) && ours.abs_diff(theirs) <= HEURISTIC_ERROR {
            theirs = ours;
        }
        Some(verdicts(ours, theirs, lifetime_differs(case)))
    });
}

fn lifetime_differs(case: &Case) -> Option<&'static str> {
    first(&[
        ("storing", storing_differs(case).is_some()),
        // It has none where it stores nothing.
        ("not stored", !case.other().is_storable()),
        // RFC 9111 §5.2.2.4: no-cache says when to validate, not how long it is fresh. For the other it is 0.
        ("no-cache", case.says("no-cache")),
        ("pragma", pragma_differs(case)),
        // RFC 9111 §5.2.2.8: proxy-revalidate counts "once the response has become stale". For the other it is stale at once.
        ("proxy-revalidate", case.says("proxy-revalidate")),
        // RFC 9111 §7.3: "Set-Cookie … does not inhibit caching". The other takes it for stale without `public`.
        ("set-cookie", case.has("set-cookie")),
        // RFC 8246 says nothing of how long. The other takes a day.
        ("immutable", case.says("immutable")),
        ("dates", dates_differ(case)),
        ("numbers", numbers_differ(&case.response)),
        ("a heuristic of a status that allows none", heuristic_differs(case)),
    ])
}

/// RFC 9111 §5.4: in a response, Pragma means nothing. For the other it is no-cache.
fn pragma_differs(case: &Case) -> bool {
    case.has("pragma") && !case.has("cache-control")
}

/// RFC 9110 §5.6.7: the three forms, in any letter case; §5.3: "Expires" with anything else is in the past, and a Date that is none is as
/// if absent. The other reads dates as mail does: with other zones, and not asctime.
fn dates_differ(case: &Case) -> bool {
    ["expires", "date", "last-modified"].into_iter().flat_map(|name| values(&case.response, name)).any(
        |value| {
            let text = std::str::from_utf8(value).unwrap();
            httpdate::parse_http_date(text).is_err() != is_no_date(text) || text.len() == 24
        },
    )
}

/// Whether neither of the two can take it for a date.
fn is_no_date(text: &str) -> bool {
    !text.contains(':')
}

/// RFC 9111 §1.2.2: what is too large counts as 2147483648; §4.2.1: what is no number is stale. The other has 64 bits, leaves a directive
/// without an argument out, and takes what does not fit for 0.
fn numbers_differ(fields: &Fields) -> bool {
    model::directives(values(fields, "cache-control")).iter().any(|(name, argument)| {
        let is_timed = ["max-age", "s-maxage", "min-fresh", "max-stale"].contains(&&**name);
        is_timed && model::seconds(argument).is_none_or(|secs| secs == 1 << 31)
    })
}

/// RFC 9111 §4.2.2: heuristics are for statuses that "are defined as heuristically cacheable", and for responses that say public.
fn heuristic_differs(case: &Case) -> bool {
    let explicit = case.says("max-age") || case.says("s-maxage") || case.has("expires");
    !explicit
        && !case.says("public")
        && ![200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501].contains(&case.status)
}

#[test]
fn both_count_the_same_age() {
    agree("ages", &case(), |case| {
        let initial = corrected_initial_age(&case.facts(), case.received(), case.received());
        let ours = current_age(initial, case.received(), Wall::from_secs(RECEIVED + i64::from(case.later)));
        Some(verdicts(u64::from(ours), case.other().age(at(case.later)).as_secs(), age_differs(case)))
    });
}

fn age_differs(case: &Case) -> Option<&'static str> {
    first(&[
        // RFC 9111 §4.2.3: apparent_age is a lower bound. The other goes by Age alone.
        ("apparent age", case.facts().date().is_some_and(|date| date < RECEIVED)),
        // RFC 9111 §5.1: of a list the first member counts. The other ignores the whole.
        ("a list", values(&case.response, "age").any(|value| value.contains(&b','))),
        // RFC 9111 §1.2.2, as for directives.
        (
            "saturation",
            values(&case.response, "age")
                .any(|value| model::digits_of(value).is_some_and(|age| age >= 1 << 31)),
        ),
    ])
}

#[test]
fn both_use_the_same_responses_unasked() {
    agree("reuse", &case(), |case| {
        let second = request(case.method, &case.second);
        let facts = case.facts();
        let initial_age = corrected_initial_age(&facts, case.received(), case.received());
        let stored =
            Stored { facts: &facts, received: case.received(), initial_age, purged: None, in_sync: true };
        let now = Wall::from_secs(RECEIVED + i64::from(case.later));
        let ours = reuse(&RequestFacts::parse(second.method(), second.headers()), &stored, now, &policy());
        let vary = Vary::of(&head(&case.response));
        let selected = vary.variant(ObjectId::default(), &head(&case.first));
        let is_selected =
            selected.is_some() && selected == vary.variant(ObjectId::default(), second.headers());
        let theirs = matches!(case.other().before_request(&second, at(case.later)), BeforeRequest::Fresh(_));
        Some(verdicts(is_selected && matches!(ours, Reuse::Fresh { .. }), theirs, reuse_differs(case)))
    });
}

fn reuse_differs(case: &Case) -> Option<&'static str> {
    first(&[
        ("lifetime", lifetime_differs(case).is_some() && !is_never_fresh(case)),
        // RFC 9111 §5.2.2.4: no-cache "MUST NOT be used to satisfy any other request without forwarding it for validation". For the
        // other it is stale from the start, and max-stale accepts it.
        ("no-cache with max-stale", is_never_fresh(case) && case.asks("max-stale")),
        ("age", age_differs(case).is_some()),
        ("numbers", numbers_differ(&case.second)),
        // Clients send max-age=0 to have it validated, and by the letter an age of 0 passes it (§5.2.1.1). We validate.
        ("max-age=0", case.asks("max-age") && second_seconds(case, "max-age") == Some(0)),
        // RFC 9111 §5.2.1.2: max-stale says how far beyond its *lifetime*; the other counts likewise, but leaves the end out, as it leaves
        // proxy-revalidate and s-maxage out, which forbid it (§5.2.2.8, §5.2.2.10: s-maxage "incorporates the semantics of the proxy-revalidate response directive").
        (
            "max-stale",
            case.asks("max-stale") && (case.says("s-maxage") || is_at_the_end(case) || case.asks("max-age")),
        ),
        ("heuristic by binary fractions", is_near_its_end(case)),
    ])
}

/// What both take for one that must be validated.
fn is_never_fresh(case: &Case) -> bool {
    case.says("no-cache") && storing_differs(case).is_none() && case.other().is_storable()
}

fn second_seconds(case: &Case, name: &str) -> Option<u32> {
    let all = model::directives(values(&case.second, "cache-control"));
    all.iter().find(|(known, _)| known == name).and_then(|(_, argument)| model::seconds(argument))
}

/// Whether it is stale by exactly what the client accepts.
fn is_at_the_end(case: &Case) -> bool {
    let lifetime = lifetime(&case.facts(), case.received(), &policy()).secs;
    let age = corrected_initial_age(&case.facts(), case.received(), case.received()) + case.later;
    second_seconds(case, "max-stale")
        .is_some_and(|secs| i64::from(age) - i64::from(lifetime) == i64::from(secs))
}

fn is_heuristic(case: &Case) -> bool {
    !case.says("max-age") && !case.says("s-maxage") && !case.has("expires") && case.has("last-modified")
}

/// Whether some seconds more or less of a heuristic lifetime decides.
fn is_near_its_end(case: &Case) -> bool {
    let left = i64::from(lifetime(&case.facts(), case.received(), &policy()).secs)
        - i64::from(corrected_initial_age(&case.facts(), case.received(), case.received()) + case.later);
    let bounds = [0]
        .into_iter()
        .chain(["min-fresh", "max-stale"].into_iter().filter_map(|name| second_seconds(case, name)));
    is_heuristic(case)
        && bounds.into_iter().any(|bound| left.abs().abs_diff(i64::from(bound)) <= HEURISTIC_ERROR)
}

#[test]
fn both_validate_by_the_same_tags_and_dates() {
    agree("validation", &case(), |case| {
        let is_of_both = storing_differs(case).is_none() && case.other().is_storable();
        let second = request(case.method, &case.second);
        let theirs = match case.other().before_request(&second, at(case.later)) {
            BeforeRequest::Stale { request, matches: true } if is_of_both => request.headers,
            _ => return None,
        };
        let mut ours = second.headers().clone();
        strip_hop_by_hop(&mut ours);
        let is_conditional = make_conditional(&mut ours, &storable_fields(&head(&case.response)));
        let conditions =
            |fields: &HeaderMap| ["if-none-match", "if-modified-since"].map(|name| fields.get(name).cloned());
        assert_eq!(is_conditional, conditions(&ours).iter().any(Option::is_some));
        // RFC 9110 §13.1.3: who gets a date that is none "MUST ignore" it, so it is not sent. The other sends what it has.
        let no_date = case.has("last-modified") && case.facts().last_modified().is_none();
        Some(verdicts(conditions(&ours), conditions(&theirs), first(&[("a date that is none", no_date)])))
    });
}

#[test]
fn both_update_the_same_responses_by_a_304() {
    agree("updates", &(case(), response()), |(case, update)| {
        if storing_differs(case).is_some() || !case.other().is_storable() {
            return None;
        }
        let (stored, update) = (head(&case.response), head(update));
        let mut answer = Response::new(());
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        *answer.headers_mut() = update.clone();
        let theirs = case.other().after_response(&request("GET", &case.second), &answer, at(case.later));
        let (ours, updated) = (validates(&stored, &update), matches!(theirs, AfterResponse::NotModified(..)));
        if let AfterResponse::NotModified(_, parts) = theirs
            && ours
        {
            merged_alike(&storable_fields(&stored), &update, &parts.headers);
        }
        Some(verdicts(ours, updated, update_differs(&stored, &update)))
    });
}

fn update_differs(stored: &HeaderMap, update: &HeaderMap) -> Option<&'static str> {
    let has_tag = update.contains_key("etag");
    first(&[
        // By the letter of RFC 9111 §4.3.4 a 304 without any validator identifies only a stored response that "also lacks a validator".
        // It answers what was asked about one response, by its validator, and origins leave theirs out of it; we take it for the
        // answer that it is. The other goes by the letter, but for a stored tag beside which there is no date.
        ("no validator in the 304", !has_tag && !update.contains_key("last-modified")),
        // §4.3.4: weak validators that "correspond" identify it. A date is such a one: dates are compared as times (RFC 9110 §5.6.7),
        // and only where there is no tag. The other compares bytes, and looks at dates beside a weak tag that is not stored.
        ("dates", update.contains_key("last-modified") && (!has_tag || !stored.contains_key("etag"))),
    ])
}

/// RFC 9111 §3.2: what the 304 has replaces what is stored. The other replaces what both have, of several lines the last, and never
/// Content-Encoding and its like; so only fields of one line that both have are compared, without those that it makes itself.
fn merged_alike(stored: &HeaderMap, update: &HeaderMap, theirs: &HeaderMap) {
    let ours = merge_304(stored, update).fields;
    let is_single = |fields: &HeaderMap, name: &HeaderName| fields.get_all(name).iter().count() == 1;
    for name in stored.keys().filter(|name| !["date", "age", "etag"].contains(&name.as_str())) {
        let is_plain = is_single(stored, name) && (is_single(update, name) || !update.contains_key(name));
        // §5.2.2.4: what no-cache or private name is not stored. The generated ones name x-a and set-cookie.
        if is_plain && theirs.contains_key(name) && name != "set-cookie" {
            assert_eq!(ours.get(name), theirs.get(name), "{name}");
        }
    }
}
