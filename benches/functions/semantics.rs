//! The cache rules.

use crate::fixtures::{self, RECEIVED};
use criterion::Criterion;
use http::{HeaderMap, Method, StatusCode};
use shoal::proto::semantics::{
    self, CachePolicy, CacheStatus, Condition, Ranges, RequestFacts, ResponseFacts, Reuse, Stored,
    Validators, Vary,
};
use std::hint::black_box;
use std::time::Duration;

pub(crate) fn bench_requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request facts");
    let reload = fixtures::browser_with(&[("cache-control", "no-cache"), ("pragma", "no-cache")]);
    for (name, fields) in [("browser", fixtures::browser()), ("reload", reload)] {
        group.bench_function(name, |b| b.iter(|| RequestFacts::parse(&Method::GET, black_box(&fields))));
    }
    group.finish();
}

pub(crate) fn bench_responses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("response");
    let (request, fields, policy) = (fixtures::browser(), fixtures::response(), CachePolicy::default());
    let request = RequestFacts::parse(&Method::GET, &request);
    let facts = ResponseFacts::parse(StatusCode::OK, &fields);
    assert!(semantics::storable(&request, &facts, &policy).is_ok());
    group.bench_function("facts", |b| b.iter(|| ResponseFacts::parse(StatusCode::OK, black_box(&fields))));
    group.bench_function("storable", |b| {
        b.iter(|| semantics::storable(black_box(&request), black_box(&facts), &policy));
    });
    group.bench_function("stored fields", |b| b.iter(|| semantics::storable_fields(black_box(&fields))));
    group.finish();
}

pub(crate) fn bench_reuse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reuse");
    let (request, policy) = (RequestFacts::parse(&Method::GET, &fixtures::browser()), CachePolicy::default());
    let facts = ResponseFacts::parse(StatusCode::OK, &fixtures::response());
    let stored = Stored { facts: &facts, received: RECEIVED, initial_age: 1, purged: None, in_sync: true };
    let now = RECEIVED.plus(Duration::from_secs(600));
    assert!(matches!(semantics::reuse(&request, &stored, now, &policy), Reuse::Fresh { .. }));
    group.bench_function("fresh", |b| {
        b.iter(|| semantics::reuse(black_box(&request), black_box(&stored), black_box(now), &policy));
    });
    let object = fixtures::key().object();
    let headers = fixtures::browser();
    for fields in ["accept-encoding", "accept-language"] {
        let Vary::Fields(list) =
            Vary::of(&HeaderMap::from_iter([(http::header::VARY, http::HeaderValue::from_static(fields))]))
        else {
            unreachable!("a name was listed");
        };
        group.bench_function(format!("variant by {fields}"), |b| {
            b.iter(|| list.variant(black_box(object), black_box(&headers)));
        });
    }
    group.finish();
}

pub(crate) fn bench_replies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reply");
    let stored = fixtures::response();
    for (name, field) in [
        ("If-None-Match", ("if-none-match", "\"aaaaaa-1111\", W/\"3f9a1c-5e2b\"")),
        ("If-Modified-Since", ("if-modified-since", "Tue, 20 Oct 2026 08:00:00 GMT")),
    ] {
        let request = fixtures::browser_with(&[field]);
        let judge = |request: &HeaderMap| {
            semantics::condition(&Method::GET, request, &Validators::of(StatusCode::OK, black_box(&stored)))
        };
        assert_eq!(judge(&request), Condition::NotModified, "{name}");
        group.bench_function(name, |b| b.iter(|| judge(black_box(&request))));
    }
    for (name, value) in [("one range", "bytes=1000-1999"), ("three ranges", "bytes=0-99, 5000-5999, -500")] {
        let request = fixtures::browser_with(&[("range", value)]);
        assert!(matches!(semantics::ranges(&request, &stored, 1 << 20), Ranges::One(_) | Ranges::Many(_)));
        group.bench_function(name, |b| b.iter(|| semantics::ranges(black_box(&request), &stored, 1 << 20)));
    }
    group.bench_function("Cache-Status", |b| {
        b.iter(|| CacheStatus::hit(black_box("edge-1")).ttl(black_box(2999)).detail("memory").to_value());
    });
    group.finish();
}
