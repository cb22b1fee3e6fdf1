//! The replay against origins and broken proxies on loopback.

use super::engine::Verify;
use super::*;
use crate::cli::origin;
use crate::net::{Listener, Stream, Tcp, Transport};
use crate::workload::{Content, Object};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What a broken proxy does with the request of this number, counted from 0.
#[derive(Clone, Copy)]
enum Fault {
    None,
    /// Flips one bit of the body's last byte.
    Flip,
    /// Says and sends one byte less than the object has.
    Short,
    /// Closes before any byte of the answer.
    Silent,
    /// Closes within the body.
    Cut,
    /// Closes within the body, and the listener before.
    Die,
    Status,
}

/// A server of objects that answers one connection after the other, `fault` deciding how.
fn broken_proxy(spawner: &Spawner, fault: impl Fn(usize) -> Fault + Send + 'static) -> SocketAddr {
    let mut listener = Some(Tcp.listen("127.0.0.1:0".parse().unwrap()).unwrap());
    let addr = listener.as_ref().unwrap().local_addr().unwrap();
    spawner.spawn(async move {
        let answered = AtomicUsize::new(0);
        while let Some(open) = &mut listener {
            let (mut stream, _) = open.accept().await.unwrap();
            while let Some(object) = read_request(&mut stream).await {
                let fault = fault(answered.fetch_add(1, Ordering::Relaxed));
                if !answer(&mut stream, &mut listener, object, fault).await {
                    break;
                }
            }
        }
    });
    addr
}

/// Reads the head of `GET /obj/<id>?size=<n>`.
async fn read_request(stream: &mut Stream) -> Option<Object> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let text = String::from_utf8(head).unwrap();
    let target = text.strip_prefix("GET /obj/")?.split(' ').next()?;
    let (id, size) = target.split_once("?size=")?;
    Some(Object { id: id.parse().unwrap(), size: size.parse().unwrap() })
}

/// Answers; whether the connection goes on.
async fn answer(stream: &mut Stream, listener: &mut Option<Listener>, object: Object, fault: Fault) -> bool {
    let mut body = Vec::new();
    Content::of(&object.path()).append(&mut body, 0, object.size as usize);
    let (mut status, mut sent) = (200, body.len());
    match fault {
        Fault::None => {}
        Fault::Flip => *body.last_mut().unwrap() ^= 1,
        Fault::Short => drop(body.pop()),
        Fault::Silent => return false,
        Fault::Cut => sent /= 2,
        Fault::Die => {
            *listener = None;
            sent /= 2;
        }
        Fault::Status => status = 502,
    }
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\ncache-status: p; hit; detail=memory\r\n\r\n",
        body.len()
    );
    sent = sent.min(body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body[..sent]).await.unwrap();
    sent == body.len()
}

/// An address that refuses connections.
fn refusing() -> SocketAddr {
    Tcp.listen("127.0.0.1:0".parse().unwrap()).unwrap().local_addr().unwrap()
}

const OBJECTS: [Object; 4] = [
    Object { id: 1, size: 1000 },
    Object { id: 2, size: 70_001 },
    Object { id: 1, size: 20 },
    Object { id: 1, size: 1000 },
];

async fn run(targets: &[SocketAddr], concurrency: usize, spawner: &Spawner) -> Report {
    let mut list = Vec::new();
    for addr in targets {
        list.push(Target::resolve(&format!("http://{addr}")).await.unwrap());
    }
    let trace = Arc::new(Trace::from_requests(OBJECTS).unwrap());
    let load = Load { trace, targets: list, concurrency, requests: Some(4), verify: Verify::All };
    let engine = Engine::start(load, Clock::system(), spawner);
    engine.finished().await;
    Report::of(&engine)
}

/// Replays four requests one after the other over one target with this fault.
async fn check(fault: impl Fn(usize) -> Fault + Send + 'static) -> Report {
    let spawner = Spawner::current();
    let addr = broken_proxy(&spawner, fault);
    run(&[addr], 1, &spawner).await
}

const fn at(number: usize, fault: Fault) -> impl Fn(usize) -> Fault {
    move |answered| if answered == number { fault } else { Fault::None }
}

#[tokio::test]
async fn the_origin_alone_answers_all_without_mismatch() {
    let spawner = Spawner::current();
    let args = origin::Args { listen: "127.0.0.1:0".parse().unwrap(), rate: None, delay: 0, workers: None };
    let addr = origin::start(&args, Clock::system(), &spawner).unwrap();
    let report = run(&[addr, addr], 3, &spawner).await;
    assert!(report.passed(), "{report}");
    assert_eq!((report.requests, report.bytes, report.unique_bytes), (4, 72_021, 71_021));
    assert_eq!((report.verdicts["other"], report.served_bytes.origin), (4, 72_021));
}

#[tokio::test]
async fn verdicts_and_latencies_are_reported() {
    let report = check(|_| Fault::None).await;
    assert!(report.passed(), "{report}");
    assert_eq!((report.verdicts["hit_memory"], report.served_bytes.memory), (4, 72_021));
    assert!(report.latency.p50_us > 0 && report.latency.max_us >= report.latency.p99_us);
    let json: serde_json::Value = serde_json::to_value(&report).unwrap();
    for name in ["requests", "errors", "mismatches", "unique_bytes", "verdicts", "latency"] {
        assert!(!json[name].is_null(), "{name}");
    }
}

#[tokio::test]
async fn two_runs_are_reported_together() {
    let report = check(|_| Fault::None).await;
    let earlier = check(at(0, Fault::Flip)).await;
    let latency = report.latency.max_us;
    let both = report.clone().after(&earlier);
    assert_eq!((both.requests, both.mismatches, both.unique_bytes), (8, 1, 2 * report.unique_bytes));
    assert_eq!((both.bytes, both.latency.max_us), (report.bytes + earlier.bytes, latency));
    assert_eq!(both.verdicts.values().sum::<u64>(), 7);
    assert_eq!(both.served_bytes.total(), both.bytes);
    assert!(!both.passed() && both.examples == earlier.examples);
}

#[test]
fn one_worker_in_so_many_checks_bodies() {
    let covered = |verify: Verify| (0..21).filter(|worker| verify.covers(*worker)).count();
    assert_eq!([Verify::Nobody, Verify::All, Verify::OneIn(10)].map(covered), [0, 21, 3]);
}

#[tokio::test]
async fn one_flipped_bit_fails_the_replay() {
    let report = check(at(1, Fault::Flip)).await;
    assert_eq!((report.mismatches, report.errors, report.requests), (1, 0, 4));
    assert!(!report.passed());
}

#[tokio::test]
async fn a_body_of_another_length_is_a_mismatch() {
    let report = check(at(0, Fault::Short)).await;
    assert_eq!((report.mismatches, report.errors), (1, 0));
}

#[tokio::test]
async fn another_status_is_an_error() {
    let report = check(at(2, Fault::Status)).await;
    assert_eq!((report.mismatches, report.errors, report.error_kinds.status), (0, 1, 1));
}

#[tokio::test]
async fn a_cut_answer_is_an_error_and_is_not_asked_for_again() {
    let report = check(at(1, Fault::Cut)).await;
    assert_eq!((report.error_kinds.cut, report.errors, report.retried, report.interrupted), (1, 1, 0, 0));
    assert_eq!(report.requests, 4);
}

#[tokio::test]
async fn a_request_without_any_answer_is_tried_again() {
    let report = check(at(1, Fault::Silent)).await;
    assert!(report.passed(), "{report}");
    assert_eq!((report.retried, report.requests), (1, 4));
    let report = check(|_| Fault::Silent).await;
    assert_eq!((report.error_kinds.no_answer, report.requests), (4, 4));
}

#[tokio::test]
async fn a_target_that_refuses_is_left_out() {
    let spawner = Spawner::current();
    let addr = broken_proxy(&spawner, |_| Fault::None);
    let report = run(&[refusing(), addr], 1, &spawner).await;
    assert!(report.passed(), "{report}");
    assert_eq!(report.requests, 4);
}

#[tokio::test]
async fn what_was_in_flight_when_a_target_died_is_listed_apart() {
    let spawner = Spawner::current();
    let dying = broken_proxy(&spawner, at(1, Fault::Die));
    let living = broken_proxy(&spawner, |_| Fault::None);
    // The dying one has the requests 0 and 2 and, were it alive, none after.
    let report = run(&[dying, living], 1, &spawner).await;
    assert_eq!((report.interrupted, report.errors, report.mismatches), (1, 0, 0), "{report}");
    assert_eq!(report.requests, 4);
    assert!(report.passed());
}

#[tokio::test(start_paused = true)]
async fn a_replay_without_any_target_ends() {
    let spawner = Spawner::current();
    let trace = Arc::new(Trace::from_requests(OBJECTS).unwrap());
    let target = Target::resolve(&format!("http://{}", refusing())).await.unwrap();
    let load = Load { trace, targets: vec![target], concurrency: 2, requests: Some(4), verify: Verify::All };
    let engine = Engine::start(load, Clock::simulated(crate::proto::time::Wall::default()), &spawner);
    engine.finished().await;
    let report = Report::of(&engine);
    assert!(report.gave_up && !report.passed());
    assert_eq!((report.error_kinds.unreachable, report.requests), (2, 2));
    assert!(engine.elapsed() >= targets::ALL_DOWN_LIMIT);
}

#[tokio::test]
async fn a_stopped_replay_finishes_what_is_in_flight() {
    let spawner = Spawner::current();
    let addr = broken_proxy(&spawner, |_| Fault::None);
    let trace = Arc::new(Trace::from_requests(OBJECTS).unwrap());
    let target = Target::resolve(&format!("http://{addr}")).await.unwrap();
    let load = Load { trace, targets: vec![target], concurrency: 1, requests: None, verify: Verify::All };
    let engine = Engine::start(load, Clock::system(), &spawner);
    while engine.tally(|tally| tally.requests) < 9 {
        tokio::task::yield_now().await;
    }
    engine.stop();
    engine.finished().await;
    let report = Report::of(&engine);
    assert!(report.passed() && report.requests >= 9);
    // The trace has started over, but what is distinct stays so.
    assert_eq!(report.unique_bytes, 71_021);
}
