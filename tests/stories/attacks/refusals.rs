//! What bad input, and bad origins, get: an answer that is short and typed, with the id of the request; the same reason in the
//! answer, in the log and in a counter; and nothing stored.

use super::{FRESH, raw, telling};
use crate::common::client::{HOST, request};
use crate::common::origin::chunk;
use crate::common::{Barrier, Node, Origin, Reply, in_time, reply};
use serde_json::Value;
use std::path::PathBuf;
use tempfile::TempDir;

/// An answer of this node's own is no longer than this.
const BODY_MAX: usize = 200;

/// A node with an access log.
struct Observed {
    node: Node,
    log: PathBuf,
    lines: usize,
    _folder: TempDir,
}

impl Observed {
    async fn before(origin: &Origin, site: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        let more = format!(
            "{site}\n[limits]\nbody_bytes = \"1KiB\"\nidle_timeout = \"200ms\"\n[log]\naccess = \"{}\"",
            log.display()
        );
        Self { node: Node::with(origin, &more).await, log, lines: 0, _folder: folder }
    }

    /// The next line of the log.
    async fn line(&mut self) -> Value {
        let nth = self.lines;
        self.lines += 1;
        in_time("a line in the access log", async {
            loop {
                let text = std::fs::read_to_string(&self.log).unwrap_or_default();
                if let Some(line) = text.split_inclusive('\n').nth(nth).filter(|line| line.ends_with('\n')) {
                    return serde_json::from_str(line).expect(line);
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// Checks all that an answer of this node's own must be, and that it moved `counter`.
    async fn assert_typed(&mut self, answer: &Reply, status: u16, reason: &str, counter: &str) {
        let text = answer.text();
        assert_eq!(answer.status, status, "{reason}: {text}");
        assert!(text.len() <= BODY_MAX && text.contains(reason), "{reason}: {text}");
        let id = answer.field("x-request-id").expect("an id to look for in the log");
        assert!(text.contains(id), "{text}");
        assert_eq!(answer.cache_status(), format!("edge; detail={reason}"));
        assert_eq!(answer.field("cache-control"), Some("no-store"));
        assert_eq!(answer.field("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(answer.field("retry-after").is_some(), status == 503, "{reason}");
        for name in ["server", "location", "set-cookie", "age", "etag"] {
            assert_eq!(answer.field(name), None, "{reason}: {name}");
        }
        let line = self.line().await;
        assert_eq!(
            (&line["detail"], &line["status"], &line["request_id"]),
            (&Value::from(reason), &Value::from(status), &Value::from(id))
        );
        assert_eq!(self.node.metric(counter), 1.0, "{counter}");
    }
}

fn refused(reason: &str) -> String {
    format!("shoal_requests_refused_total{{reason=\"{reason}\"}}")
}

fn failed(reason: &str) -> String {
    format!("shoal_origin_failures_total{{site=\"default\",kind=\"{reason}\"}}")
}

#[tokio::test]
async fn refusals_by_host_target_and_method_are_typed_logged_and_counted() {
    let origin = telling().await;
    let parameters = format!("/x?{}", "a&".repeat(300));
    let cases: [(&str, u16, Vec<u8>); 7] = [
        ("host_mismatch", 400, request("GET", "http://evil.test/x", &[])),
        ("bad_target", 400, request("GET", "/%zz", &[])),
        ("too_many_parameters", 414, request("GET", &parameters, &[])),
        ("misdirected", 421, request("GET", "https://site.test/x", &[])),
        ("loop", 508, request("GET", "/x", &["Via: 1.1 edge"])),
        ("method", 501, request("TRACE", "/x", &[])),
        ("only_if_cached", 504, request("GET", "/x", &["Cache-Control: only-if-cached"])),
    ];
    let mut observed = Observed::before(&origin, "").await;
    for (reason, status, bytes) in cases {
        let answer = raw(&observed.node, bytes).await;
        observed.assert_typed(&answer, status, reason, &refused(reason)).await;
    }
    assert_eq!(origin.count_all(), 0);
    let first = observed.node.warm("/x").await;
    assert!(first.cache_status().contains("fwd=uri-miss"), "{}", first.cache_status());
}

#[tokio::test]
async fn an_unknown_host_is_typed_logged_and_counted_though_no_site_has_it() {
    let origin = telling().await;
    let mut observed = Observed::before(&origin, "").await;
    let path = observed.log.display().to_string();
    let other = format!(
        "[node]\nname = \"edge\"\n[listen]\nhttp = [\"127.0.0.1:0\"]\n[[site]]\nhosts = [\"other.test\"]\n\
         origins = [\"http://{}\"]\n[log]\naccess = \"{path}\"",
        origin.at
    );
    observed.node = Node::of(&other).await;
    let answer = raw(&observed.node, format!("GET /x HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    observed.assert_typed(&answer, 421, "unknown_host", &refused("unknown_host")).await;
    assert_eq!(answer.field("connection"), Some("close"));
    assert_eq!(observed.node.metric("shoal_requests_total{site=\"(none)\",verdict=\"refused\""), 1.0);
}

#[tokio::test]
async fn uploads_that_are_too_large_or_stall_or_break_are_typed_logged_and_counted() {
    let origin = Origin::start().await;
    origin.otherwise(|mut exchange| async move {
        exchange.body().await;
        exchange.send(reply(200, &[FRESH, "Content-Location: /x"], "taken")).await;
        exchange
    });
    let cases: [(&str, u16, Vec<u8>); 3] = [
        ("body_too_large", 413, request("POST", "/x", &["Content-Length: 1025"])),
        (
            "body_too_large",
            413,
            [request("POST", "/x", &["Transfer-Encoding: chunked"]), chunk(vec![b'a'; 1025]), chunk("")]
                .concat(),
        ),
        ("body_stalled", 408, request("POST", "/x", &["Content-Length: 10"])),
    ];
    for (reason, status, bytes) in cases {
        let mut observed = Observed::before(&origin, "").await;
        let mut client = observed.node.connect().await;
        client.send_anyway(bytes).await;
        let answer = client.reply("POST").await;
        observed.assert_typed(&answer, status, reason, &refused(reason)).await;
        assert_eq!(answer.field("connection"), Some("close"));
        assert_eq!(client.read_to_end().await, b"");
        let next = observed.node.get("/x").await;
        assert!(next.cache_status().contains("fwd=uri-miss"), "{reason}: {}", next.cache_status());
    }
}

#[tokio::test]
async fn origins_that_fail_are_typed_logged_and_counted() {
    for (reason, status) in
        [("closed", 502), ("protocol", 502), ("connect", 502), ("first_byte_timeout", 504)]
    {
        let origin = Origin::start().await;
        origin.script("/x", move |mut exchange| async move {
            match reason {
                "protocol" => exchange.send("HELLO\r\n\r\n").await,
                "first_byte_timeout" => drop(exchange.read_some().await),
                _ => {}
            }
            exchange.close();
            exchange
        });
        let mut observed = Observed::before(&origin, "retries = 0\nfirst_byte_timeout = \"100ms\"").await;
        if reason == "connect" {
            origin.stop().await;
        }
        let answer = observed.node.get("/x").await;
        assert!(!answer.text().contains("127.0.0.1"), "no word about the origin: {}", answer.text());
        observed.assert_typed(&answer, status, reason, &failed(reason)).await;
        observed.node.settled().await;
        let again = observed.node.ask("GET", "/x", &["Cache-Control: only-if-cached"]).await;
        assert_eq!(again.status, 504, "nothing is stored");
    }
}

#[tokio::test]
async fn an_origin_without_a_free_connection_is_503_and_says_when_to_come_again() {
    let (origin, barrier) = (Origin::start().await, Barrier::closed());
    let held = barrier.clone();
    origin.script("/slow", move |mut exchange| {
        let held = held.clone();
        async move {
            held.pass().await;
            exchange.send(reply(200, &[FRESH], "slow")).await;
            exchange
        }
    });
    origin.says("/x", reply(200, &[FRESH], "body"));
    let site = "connections_max = 1\nconnect_timeout = \"100ms\"\nretries = 0";
    let mut observed = Observed::before(&origin, site).await;
    let mut first = observed.node.begin("GET", "/slow", &[]).await;
    origin.asked_times("/slow", 1).await;
    let answer = observed.node.get("/x").await;
    observed.assert_typed(&answer, 503, "too_many_connections", &failed("too_many_connections")).await;
    assert_eq!(answer.field("retry-after"), Some("1"));
    barrier.open();
    first.reply("GET").await.assert_is(200, "slow");
    observed.node.settled().await;
    observed.node.warm("/x").await.assert_is(200, "body");
    observed.node.get("/x").await.assert_hit();
}

#[tokio::test]
async fn over_http2_refusals_are_the_same() {
    let origin = telling().await;
    let mut observed = Observed::before(&origin, "").await;
    let tasks = shoal::task::Spawner::current();
    let stream = tokio::net::TcpStream::connect(observed.node.doors[0]).await.unwrap();
    let client = crate::common::tls::Http2::over(stream, &tasks).await;
    let url = "http://site.test/x";
    let (large, target) = ("a".repeat(40_000), format!("{url}?{}", "a".repeat(40_000)));
    for (reason, status, url, fields) in [
        ("too_many_parameters", 414, format!("{url}?{}", "a&".repeat(300)), vec![]),
        ("misdirected", 421, "https://site.test/x".to_owned(), vec![]),
        ("bad_host", 400, "http://site..test/x".to_owned(), vec![]),
        ("unknown_expectation", 417, url.to_owned(), vec![("expect", "foo")]),
        ("fields_too_large", 431, url.to_owned(), vec![("cookie", &*large)]),
        ("uri_too_long", 414, target, vec![]),
    ] {
        let answer = client.ask(&url, &fields).await;
        assert_eq!(answer.fields["cache-control"], "no-store", "{reason}");
        assert!(std::str::from_utf8(&answer.body).unwrap().contains(reason), "{reason}: {:?}", answer.body);
        let field = |name: &str| answer.fields.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(
            (answer.status.as_u16(), field("cache-status")),
            (status, Some(format!("edge; detail={reason}")))
        );
        let line = observed.line().await;
        assert_eq!(
            (line["detail"].as_str(), line["request_id"].as_str().map(str::to_owned)),
            (Some(reason), field("x-request-id"))
        );
        assert_eq!(observed.node.metric(&refused(reason)), 1.0);
    }
    assert_eq!(origin.count_all(), 0);
    let expected = client.ask(url, &[("expect", "100-continue")]).await;
    assert_eq!(expected.status, 200);
    // Within the limits of fields and target alike, though HTTP/2 counts more for each field.
    let fields: Vec<_> = (0..99).map(|nth| (format!("x-{nth}"), "v".repeat(315))).collect();
    let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(client.ask(&format!("{url}?{}", "a".repeat(8000)), &fields).await.status, 200);
}

/// What is stored, and answers with 412 or 416, is for others to keep; that answer is not.
#[tokio::test]
async fn demands_that_are_not_met_tell_the_version_and_nothing_that_lets_others_store_the_answer() {
    let origin = Origin::start().await;
    let fields = [
        "Cache-Control: public, max-age=3600",
        "Expires: Thu, 01 Jan 2099 00:00:00 GMT",
        "Set-Cookie: a=b",
        "Surrogate-Control: max-age=9",
        "X-Own: 1",
        "ETag: \"one\"",
        "Vary: Accept",
        "Content-Type: text/css",
    ];
    origin.says("/x", reply(200, &fields, "0123456789"));
    let mut observed = Observed::before(&origin, "").await;
    // The first is answered from what is arriving, the others from what is stored.
    for (demand, status, reason) in [
        ("If-Match: \"two\"", 412, "precondition_failed"),
        ("If-Match: \"two\"", 412, "precondition_failed"),
        ("Range: bytes=10-", 416, "range_not_satisfiable"),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = observed.node.ask(method, "/x", &[demand]).await;
            observed.node.settled().await;
            if (method, status) == ("HEAD", 416) {
                // `Range` is of GET alone.
                assert_eq!(answer.status, 200);
                observed.line().await;
                continue;
            }
            assert_eq!((answer.status, answer.field("cache-control")), (status, Some("no-store")));
            for name in ["age", "set-cookie", "expires", "surrogate-control", "x-own", "connection"] {
                assert_eq!(answer.field(name), None, "{name}");
            }
            assert_eq!(answer.field("content-range"), (status == 416).then_some("bytes */10"));
            let version = (answer.field("etag"), answer.field("vary"));
            assert_eq!(version, (status == 412).then_some(("\"one\"", "Accept")).unzip());
            assert_eq!(answer.field("content-type"), Some("text/plain; charset=utf-8"));
            assert!(answer.cache_status().contains("; ttl="), "{}", answer.cache_status());
            let id = answer.field("x-request-id").expect("an id to look for in the log");
            let text = answer.text();
            assert_eq!(method == "HEAD", text.is_empty());
            assert!(text.is_empty() || text.contains(id) && text.contains(reason), "{text}");
            let line = observed.line().await;
            assert_eq!((&line["request_id"], &line["detail"]), (&Value::from(id), &Value::from(reason)));
            assert_eq!((&line["status"], &line["termination"]), (&status.into(), &"complete".into()));
        }
    }
    observed.node.get("/x").await.assert_is(200, "0123456789");
    assert_eq!(origin.count("/x"), 1);
}

#[tokio::test]
async fn a_head_that_is_refused_ends_as_it_should() {
    let origin = telling().await;
    let mut observed = Observed::before(&origin, "").await;
    let refused = observed.node.ask("HEAD", "/x", &["Via: 1.1 edge"]).await;
    refused.assert_is(508, "");
    let line = observed.line().await;
    assert_eq!((&line["bytes_out"], &line["termination"]), (&0.into(), &"complete".into()));
}
