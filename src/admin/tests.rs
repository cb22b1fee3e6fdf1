use super::*;
use crate::clock::Clock;
use crate::config::model::{AccessFormat, AccessLog as Target, Admin};
use crate::net::{Accept, Listener, NetFuture, Stream, Tcp, Transport};
use crate::proto::purge::{Mode, Wanted};
use crate::task::Spawner;
use crate::telemetry::{AccessLog, Metrics, Vocabulary};
use serde_json::{Value, json};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

const LIMIT: Duration = Duration::from_secs(20);
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn listener() -> (Listener, SocketAddr) {
    let listener = Tcp.listen(LOOPBACK).expect("a free port");
    let at = listener.local_addr().expect("bound");
    (listener, at)
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

async fn connect(at: SocketAddr) -> Stream {
    Tcp.connect(at).await.expect("a listener")
}

/// One request with these lines behind the request line, on a connection of its own.
async fn ask(at: SocketAddr, request_line: &str, lines: &[&str]) -> Answer {
    let mut stream = connect(at).await;
    let mut request = format!("{request_line} HTTP/1.1\r\nConnection: close\r\n");
    for line in lines {
        request.push_str(line);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.expect("connected");
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(LIMIT, stream.read_to_end(&mut bytes)).await;
    read.expect("an answer in time").expect("an answer");
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

async fn ask_local(at: SocketAddr, request_line: &str) -> Answer {
    ask(at, request_line, &["Host: localhost"]).await
}

fn ready(result: Result<Value, &'static str>) -> AdminAnswer {
    Box::pin(async move { result.map_err(str::to_owned) })
}

fn dropped() -> prometheus::IntCounter {
    prometheus::IntCounter::new("dropped_total", "d").expect("valid")
}

fn hooks() -> AdminHooks {
    AdminHooks {
        status: Box::new(|| json!({"version": "1"})),
        config: Box::new(|| json!({"node": {"name": "edge"}})),
        peers: Box::new(|| json!({"members": []})),
        reload: Box::new(|| ready(Err("edge.toml:3: no such key"))),
        drain: Box::new(|| ready(Ok(json!({"draining": true})))),
        explain: Box::new(|url, fleet| Box::pin(async move { Ok(json!({ "url": url, "fleet": fleet })) })),
        top: Box::new(|| json!({"node": "edge"})),
        access: AccessLog::new(&Target::Off, AccessFormat::Json, dropped(), &Spawner::current())
            .expect("no file"),
        purge: Box::new(|call| Box::pin(async move { PurgeReply::Complete(json!(format!("{call:?}"))) })),
        purge_wait_max: Duration::from_secs(25),
        purges: Box::new(|| json!({"purges": []})),
    }
}

fn admin(token_file: Option<PathBuf>) -> Admin {
    Admin { listen: LOOPBACK, token_file }
}

fn start(hooks: AdminHooks, token_file: Option<PathBuf>) -> (SocketAddr, Spawner) {
    let (spawner, (listener, at)) = (Spawner::current(), listener());
    serve_admin(listener, &admin(token_file), hooks, &spawner).expect("allowed");
    (at, spawner)
}

fn start_probes() -> (SocketAddr, Arc<Readiness>, Spawner) {
    let vocabulary = Vocabulary { not_stored: &[], origin_fetch: &[], origin_failure: &[], refusal: &[] };
    let metrics = Metrics::new("edge", None, vocabulary, Clock::system());
    let (spawner, (listener, at)) = (Spawner::current(), listener());
    let readiness = Arc::new(Readiness::new());
    serve_metrics(listener, metrics, readiness.clone(), &spawner);
    (at, readiness, spawner)
}

#[tokio::test]
async fn readiness_says_why_not() {
    let (at, readiness, _spawner) = start_probes();
    for (phase, status) in [(Phase::Starting, 503), (Phase::Ready, 200), (Phase::Draining, 503)] {
        readiness.enter(phase);
        let answer = ask_local(at, "GET /readyz").await;
        assert_eq!((answer.status, answer.body.trim_end()), (status, phase.as_str()));
        assert_eq!(ask_local(at, "GET /livez").await.status, 200, "alive while {}", phase.as_str());
    }
    readiness.enter(Phase::Ready);
    assert_eq!(readiness.phase(), Phase::Draining, "who drains does not become ready any more");
}

#[tokio::test]
async fn metrics_are_text_that_prometheus_reads_and_nothing_can_be_written() {
    let (at, readiness, _spawner) = start_probes();
    readiness.enter(Phase::Ready);
    let answer = ask_local(at, "GET /metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(answer.body.contains("\nshoal_node_ready 1\n"), "{}", answer.body);
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(ask_local(at, &format!("POST {path}")).await.status, 405);
    }
    assert_eq!(ask_local(at, "GET /status").await.status, 404);
}

#[tokio::test]
async fn the_api_answers_what_the_hooks_say() {
    let (at, _spawner) = start(hooks(), None);
    assert_eq!(ask_local(at, "GET /status").await.json(), json!({"version": "1"}));
    assert_eq!(ask_local(at, "GET /config").await.json(), json!({"node": {"name": "edge"}}));
    assert_eq!(ask_local(at, "GET /peers").await.json(), json!({"members": []}));
    let answer = ask_local(at, "GET /explain?url=https%3A%2F%2Fa.example%2Fb%3Fc%3Dd").await;
    assert_eq!(answer.json(), json!({"url": "https://a.example/b?c=d", "fleet": false}));
    let answer = ask_local(at, "GET /explain?url=https%3A%2F%2Fa.example%2Fb&fleet=true").await;
    assert_eq!(answer.json()["fleet"], true);
    let answer = ask_local(at, "POST /drain").await;
    assert_eq!((answer.status, answer.json()), (202, json!({"draining": true})));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn errors_are_problems_with_code_and_hint() {
    let (at, _spawner) = start(hooks(), None);
    for (request, status, code) in [
        ("GET /nowhere", 404, "unknown_path"),
        ("GET /reload", 405, "wrong_method"),
        ("GET /explain", 400, "url_missing"),
        ("POST /reload", 422, "not_done"),
    ] {
        let answer = ask_local(at, request).await;
        assert_eq!(answer.status, status, "{request}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{request}");
        let problem = answer.json();
        assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)));
        for member in ["title", "detail", "hint"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
        }
    }
    let failed = ask_local(at, "POST /reload").await.json();
    assert_eq!(failed["detail"], "edge.toml:3: no such key", "the reason reaches the operator");
    assert_eq!(ask_local(at, "GET /reload").await.header("allow"), Some("POST"), "RFC 9110 §15.5.6");
}

#[tokio::test]
async fn what_cannot_be_watched_is_a_problem_and_nobody_watches_after() {
    let hooks = hooks();
    let access = hooks.access.clone();
    let (at, _spawner) = start(hooks, None);
    for (target, code) in [
        ("/log?filter=sight%3Da", "filter"),
        ("/log?fitler=a", "query"),
        ("/top?interval_ms=10", "out_of_range"),
        ("/top?objects=100000", "out_of_range"),
        ("/top?interval_ms=soon", "query"),
    ] {
        let answer = ask_local(at, &format!("GET {target}")).await;
        assert_eq!((answer.status, &answer.json()["code"]), (400, &code.into()), "{target}");
    }
    assert_eq!(ask(at, "GET /log", &["Host: example.com"]).await.json()["code"], "foreign_host");
    assert!(!access.is_on());
}

#[tokio::test]
async fn a_live_answer_ends_with_the_node_and_with_its_client() {
    let hooks = hooks();
    let access = hooks.access.clone();
    let (at, spawner) = start(hooks, None);
    let mut client = connect(at).await;
    client.write_all(b"GET /log HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("connected");
    let mut begun = [0; 15];
    client.read_exact(&mut begun).await.expect("a head");
    assert!(begun.starts_with(b"HTTP/1.1 200") && access.is_on());
    drop(client);
    tokio::time::timeout(LIMIT, async {
        while access.is_on() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("nobody watches any more");

    let mut client = connect(at).await;
    client
        .write_all(b"GET /top?interval_ms=60000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .expect("connected");
    let mut text = String::new();
    // The first figures come at once, the next in a minute.
    while !text.contains("\"hottest\":{\"counted\":0") {
        let mut part = [0; 1024];
        let read =
            tokio::time::timeout(LIMIT, client.read(&mut part)).await.expect("in time").expect("figures");
        assert!(read > 0, "{text}");
        text.push_str(std::str::from_utf8(&part[..read]).expect("text"));
    }
    assert!(spawner.stop(LIMIT).await, "a live answer holds nobody up");
    let end = tokio::time::timeout(LIMIT, client.read_to_end(&mut Vec::new())).await;
    end.expect("in time").expect("an end in order");
}

#[tokio::test]
async fn without_a_token_only_local_names_are_answered() {
    let (at, _spawner) = start(hooks(), None);
    for (host, status) in [
        ("localhost", 200),
        ("LOCALHOST:9090", 200),
        ("127.0.0.1:9090", 200),
        ("[::1]:9090", 200),
        ("rebound.example", 403),
        ("127.0.0.1.rebound.example", 403),
        ("localhost.rebound.example:80", 403),
        ("", 403),
    ] {
        let answer = ask(at, "GET /status", &[&format!("Host: {host}")]).await;
        assert_eq!(answer.status, status, "{host}");
    }
    assert_eq!(ask(at, "GET /status", &[]).await.status, 403, "no Host");
    let two = ask(at, "GET /status", &["Host: localhost", "Host: rebound.example"]).await;
    assert_eq!(two.status, 403);
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let (at, _spawner) = start(hooks(), None);
    for (line, status) in [
        ("Origin: https://evil.example", 403),
        ("Origin: null", 403),
        ("Sec-Fetch-Site: cross-site", 403),
        ("Sec-Fetch-Site: same-site", 403),
        ("Sec-Fetch-Site: none", 200),
    ] {
        assert_eq!(ask(at, "GET /status", &["Host: localhost", line]).await.status, status, "{line}");
    }
}

#[tokio::test]
async fn with_a_token_each_request_must_bear_the_current_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n").expect("written");
    let (at, _spawner) = start(hooks(), Some(file.clone()));
    let with = async |authorization: &str| {
        let line = format!("Authorization: {authorization}");
        ask(at, "GET /status", &["Host: edge.example", &line]).await.status
    };
    let refused = ask(at, "GET /status", &["Host: edge.example"]).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    assert_eq!(refused.json()["code"], "token_required");
    assert_eq!(ask_local(at, "GET /nowhere").await.status, 401, "paths are not told either");
    for (authorization, status) in [
        ("Bearer first", 200),
        ("bearer first", 200),
        ("Bearer firs", 401),
        ("Bearer first1", 401),
        ("Bearer ", 401),
        ("Basic first", 401),
    ] {
        assert_eq!(with(authorization).await, status, "{authorization}");
    }
    std::fs::write(&file, "second").expect("written");
    assert_eq!((with("Bearer first").await, with("Bearer second").await), (401, 200));
    std::fs::write(&file, "").expect("written");
    assert_eq!(with("Bearer ").await, 503, "an empty token lets nobody in");
}

#[tokio::test]
async fn an_api_for_others_wants_a_token_that_can_be_read() {
    struct Facing;
    impl Accept for Facing {
        fn accept(&mut self) -> NetFuture<'_, (Stream, SocketAddr)> {
            Box::pin(std::future::pending())
        }
        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(SocketAddr::from(([192, 0, 2, 1], 80)))
        }
    }
    let facing = || Listener::Other(Box::new(Facing));
    let spawner = Spawner::current();
    let open = serve_admin(facing(), &admin(None), hooks(), &spawner);
    assert!(matches!(open, Err(AdminError::TokenRequired(_))));
    let missing = serve_admin(facing(), &admin(Some("/no/such/file".into())), hooks(), &spawner);
    assert!(matches!(missing, Err(AdminError::Token { .. })));
}

/// `POST /purge` with this body and these lines.
async fn ask_purge(at: SocketAddr, body: &str, lines: &[&str]) -> Answer {
    let length = format!("Content-Length: {}", body.len());
    let lines = [&["Host: localhost", &length][..], lines, &["", body]].concat();
    // The blank line behind the fields is `ask`'s, so the body ends in one too many; it is beyond its length.
    ask(at, "POST /purge", &lines).await
}

fn replying(reply: PurgeReply) -> AdminHooks {
    AdminHooks { purge: Box::new(move |_| Box::pin(std::future::ready(reply.clone()))), ..hooks() }
}

#[tokio::test]
async fn a_purge_is_told_to_the_node_as_it_was_asked_for() {
    let (calls, mut called) = mpsc::channel(1);
    let purge = move |call| -> PurgeAnswer {
        let calls = calls.clone();
        Box::pin(async move {
            calls.send(call).await.expect("the test listens");
            PurgeReply::Complete(json!({"id": "1-1"}))
        })
    };
    let (at, _spawner) = start(AdminHooks { purge: Box::new(purge), ..hooks() }, None);
    let body = r#"{"urls":["a/1"],"prefixes":["a/2"],"tags":["t"],"hosts":["h"],"sites":["s"],"all":true,"site":"shop","soft":true,"wait_ms":7}"#;
    let answer = ask_purge(at, body, &["User-Agent: shoal/0.1.0"]).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"id": "1-1"})));
    let text = str::to_owned;
    let tag = Wanted::Tag { site: Some(text("shop")), tag: text("t") };
    let (host, site) = (Wanted::Host(text("h")), Wanted::Site(text("s")));
    let expected = PurgeCall {
        wanted: vec![Wanted::Url(text("a/1")), Wanted::Prefix(text("a/2")), tag, host, site, Wanted::All],
        mode: Mode::Soft,
        wait: Some(Duration::from_millis(7)),
        from: Ipv4Addr::LOCALHOST.into(),
        cli: true,
        token: false,
    };
    assert_eq!(called.recv().await, Some(expected));
    ask_purge(at, r#"{"all":true}"#, &["User-Agent: curl/8"]).await;
    let plain = called.recv().await.expect("called");
    assert_eq!((plain.mode, plain.wait, plain.cli), (Mode::Hard, None, false));
    assert_eq!(ask_local(at, "GET /purges").await.json(), json!({"purges": []}));
}

#[tokio::test]
async fn what_became_of_a_purge_is_told_by_the_status() {
    let why = || "because".to_owned();
    let after = Duration::from_millis(1500);
    for (reply, status, code) in [
        (PurgeReply::Complete(json!({})), 200, None),
        (PurgeReply::Partial(json!({})), 202, None),
        (PurgeReply::Invalid(why()), 422, Some("bad_selector")),
        (PurgeReply::Limited { why: why(), after }, 429, Some("too_many_purges")),
        (PurgeReply::Failed(why()), 503, Some("not_purged")),
    ] {
        let (at, _spawner) = start(replying(reply), None);
        let answer = ask_purge(at, r#"{"all":true}"#, &[]).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, code));
        assert_eq!(answer.header("retry-after"), (status == 429).then_some("2"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        if code.is_some() {
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
            assert_eq!(answer.json()["detail"], "because");
        }
    }
}

#[tokio::test]
async fn a_call_that_cannot_be_read_purges_nothing() {
    let purge = |_| -> PurgeAnswer { panic!("nothing is to be purged") };
    let (at, _spawner) = start(AdminHooks { purge: Box::new(purge), ..hooks() }, None);
    for (body, status, code) in [
        ("", 400, "not_understood"),
        ("[]", 400, "not_understood"),
        (r#"{"url":["a"]}"#, 400, "not_understood"),
        (r#"{"urls":"a"}"#, 400, "not_understood"),
        (r#"{"urls":["a"],"wait_ms":-1}"#, 400, "not_understood"),
        (r#"{"urls":["a"],"wait_ms":25001}"#, 422, "wait_too_long"),
        (r#"{"urls":["a"],"site":"shop"}"#, 422, "bad_selector"),
    ] {
        let answer = ask_purge(at, body, &[]).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{body}");
    }
    let large = format!(r#"{{"urls":["{}"]}}"#, "a".repeat(1 << 20));
    let answer = ask_purge(at, &large, &[]).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (413, Some("too_large")));
    assert_eq!(ask_local(at, "GET /purge").await.status, 405);
    assert_eq!(ask_local(at, "POST /purges").await.status, 405);
}

#[tokio::test]
async fn purges_do_not_wait_for_a_write() {
    let ((begun, mut begins), (done, mut ends)) = (mpsc::channel(1), mpsc::channel(1));
    let (at, _spawner) = start(slow_reload(begun, done), None);
    let mut client = connect(at).await;
    client.write_all(b"POST /reload HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("connected");
    let release = begins.recv().await.expect("begun");
    assert_eq!(ask_purge(at, r#"{"all":true}"#, &[]).await.status, 200);
    release.send(()).expect("the write still waits");
    ends.recv().await.expect("the write ends");
}

/// A reload that tells when it begins, waits to be released, and tells when it is done.
fn slow_reload(begun: mpsc::Sender<oneshot::Sender<()>>, done: mpsc::Sender<()>) -> AdminHooks {
    let reload = move || -> AdminAnswer {
        let (begun, done) = (begun.clone(), done.clone());
        Box::pin(async move {
            let (release, released) = oneshot::channel();
            begun.send(release).await.expect("the test listens");
            released.await.expect("the test releases");
            done.send(()).await.expect("the test listens");
            Ok(json!({}))
        })
    };
    AdminHooks { reload: Box::new(reload), ..hooks() }
}

#[tokio::test]
async fn a_write_ends_though_its_client_has_gone_and_no_other_overlaps_it() {
    let ((begun, mut begins), (done, mut ends)) = (mpsc::channel(1), mpsc::channel(1));
    let (at, spawner) = start(slow_reload(begun, done), None);
    let mut client = connect(at).await;
    client.write_all(b"POST /reload HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("connected");
    let release = begins.recv().await.expect("begun");
    let answer = ask_local(at, "POST /drain").await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (409, Some("busy")));
    drop(client);
    // Listener and write are left when the connection has ended.
    let gone = async {
        while spawner.running() > 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.expect("the node sees that the client has gone");
    release.send(()).expect("the write still waits");
    ends.recv().await.expect("the write ends");
    assert_eq!(ask_local(at, "POST /drain").await.status, 202, "and gives its place back");
}

#[tokio::test]
async fn a_write_that_panics_is_answered_and_gives_its_place_back() {
    let reload = || -> AdminAnswer { Box::pin(async { panic!("a fault in a room") }) };
    let (at, _spawner) = start(AdminHooks { reload: Box::new(reload), ..hooks() }, None);
    assert_eq!(ask_local(at, "POST /reload").await.status, 422);
    assert_eq!(ask_local(at, "POST /drain").await.status, 202);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_is_cut() {
    let (at, _readiness, _spawner) = start_probes();
    let mut client = connect(at).await;
    client.write_all(b"GET /livez HTTP/1.1\r\nHost: local").await.expect("connected");
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(LIMIT, client.read_to_end(&mut bytes)).await;
    assert!(read.is_ok(), "closed within the limit");
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_a_place() {
    let (at, _readiness, _spawner) = start_probes();
    let mut held = Vec::new();
    for _ in 0..listen::CONNECTIONS_MAX {
        let mut client = connect(at).await;
        client.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("connected");
        client.read_u8().await.expect("an answer");
        held.push(client);
    }
    let mut late = connect(at).await;
    late.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("connected");
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(50), late.read_exact(&mut byte)).await;
    assert!(early.is_err(), "no place yet");
    held.pop();
    tokio::time::timeout(LIMIT, late.read_exact(&mut byte)).await.expect("a place").expect("an answer");
}

#[tokio::test]
async fn a_stop_closes_idle_connections_and_the_listener() {
    let (at, _readiness, spawner) = start_probes();
    let mut idle = connect(at).await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("connected");
    idle.read_u8().await.expect("an answer");
    assert!(spawner.stop(LIMIT).await);
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.expect("closed in order");
    assert!(Tcp.connect(at).await.is_err(), "nobody listens");
}
