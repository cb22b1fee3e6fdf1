//! A line of the access log, from a record to the buffer of its writer.

use crate::fixtures::{self, RECEIVED};
use criterion::Criterion;
use http::{Method, Version};
use prometheus::IntCounter;
use shoal::config::model::{AccessFormat, AccessLog as Target};
use shoal::proto::key::ObjectId;
use shoal::proto::verdict::Verdict;
use shoal::task::Spawner;
use shoal::telemetry::access::Termination;
use shoal::telemetry::{AccessLog, AccessRecord, RequestId, RequestIds};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Builder;

/// Longest wait for the writer's end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("access log");
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    for (name, format) in [("json", AccessFormat::Json), ("combined", AccessFormat::Combined)] {
        let spawner = Spawner::new(runtime.handle().clone());
        let dropped = IntCounter::new("dropped_total", "lines").expect("a valid name");
        let target = Target::File(PathBuf::from("/dev/null"));
        let log = AccessLog::new(&target, format, dropped, &spawner).expect("the device is there");
        let ids = RequestIds::new(0x00c0_ffee);
        // Lines that the writer is too slow for are formatted all the same before they are dropped.
        group.bench_function(name, |b| b.iter(|| log.log(black_box(&record(ids.next())))));
        runtime.block_on(spawner.stop(STOP_TIMEOUT));
    }
    let spawner = Spawner::new(runtime.handle().clone());
    let dropped = IntCounter::new("dropped_total", "lines").expect("a valid name");
    let log = AccessLog::new(&Target::Off, AccessFormat::Json, dropped, &spawner).expect("nothing to open");
    let ids = RequestIds::new(0x00c0_ffee);
    // What a request does when there is no file.
    let ends = || {
        if black_box(&log).is_on() {
            log.log(black_box(&record(ids.next())));
        }
    };
    group.bench_function("off, nobody watches", |b| b.iter(ends));
    let nothing = log.read("status=599".parse().expect("a filter")).expect("room");
    group.bench_function("a reader who wants none", |b| b.iter(ends));
    drop(nothing);
    let all = log.read("".parse().expect("a filter")).expect("room");
    group.bench_function("a reader who wants all and is too slow", |b| b.iter(ends));
    drop(all);
    let watcher = log.watch().expect("room");
    group.bench_function("a watcher of the hottest", |b| b.iter(ends));
    drop(watcher);
    runtime.block_on(spawner.stop(STOP_TIMEOUT));
    group.finish();
}

static GET: Method = Method::GET;

/// A hit.
fn record(request_id: RequestId) -> AccessRecord<'static> {
    AccessRecord {
        at: RECEIVED,
        request_id,
        client: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)),
        version: Version::HTTP_11,
        tls: Some("TLSv1.3"),
        host: fixtures::HOST,
        method: &GET,
        target: fixtures::TARGET,
        site: fixtures::HOST,
        status: Some(200),
        verdict: Verdict::HitMemory,
        detail: None,
        object: Some(ObjectId([7; 16])),
        bytes_in: 0,
        bytes_out: 16_384,
        duration: Duration::from_micros(48),
        first_byte: Some(Duration::from_micros(31)),
        age: Some(601),
        ttl: Some(2999),
        upstream: None,
        peer: None,
        upstream_status: None,
        attempts: 0,
        referer: Some(b"https://www.example.com/products/chairs"),
        user_agent: Some(b"Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"),
        termination: Termination::Complete,
    }
}
