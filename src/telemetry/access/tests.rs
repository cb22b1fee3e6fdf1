use super::*;
use crate::clock::Clock;
use crate::proto::time::Wall;
use crate::proto::verdict::Verdict;
use crate::telemetry::{RequestIds, Vocabulary};
use http::{Method, Version};
use proptest::prelude::*;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};

const STOP: Duration = Duration::from_secs(10);

pub(super) fn record<'a>(target: &'a str, user_agent: &'a [u8]) -> AccessRecord<'a> {
    AccessRecord {
        at: Wall::from_millis(1_795_360_591_234),
        request_id: RequestIds::new(7).next(),
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        version: Version::HTTP_11,
        tls: Some("TLSv1.3"),
        host: "example.com",
        method: &Method::GET,
        target,
        site: "shop",
        status: Some(200),
        verdict: Verdict::HitMemory,
        detail: None,
        object: None,
        bytes_in: 0,
        bytes_out: 1234,
        duration: Duration::from_micros(1_000_089),
        first_byte: Some(Duration::from_micros(42)),
        age: Some(3),
        ttl: Some(-1),
        upstream: None,
        peer: None,
        upstream_status: None,
        attempts: 0,
        referer: None,
        user_agent: Some(user_agent),
        termination: Termination::Complete,
    }
}

fn json(record: &AccessRecord<'_>) -> (String, serde_json::Value) {
    let mut line = Vec::new();
    format::json(&mut line, record);
    let line = String::from_utf8(line).expect("UTF-8");
    let value = serde_json::from_str(&line).expect("JSON");
    (line, value)
}

fn combined(record: &AccessRecord<'_>) -> String {
    let mut line = Vec::new();
    format::combined(&mut line, record);
    String::from_utf8(line).expect("ASCII")
}

pub(super) fn counter() -> IntCounter {
    IntCounter::new("dropped_total", "d").expect("valid")
}

fn is_one_line(line: &str) -> bool {
    let ends = |c: char| matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}');
    line.find(ends) == Some(line.len() - 1)
}

#[test]
fn a_json_line_has_the_documented_fields() {
    let (line, _) = json(&record("/a?b=c", b"curl/8"));
    assert_eq!(
        line,
        concat!(
            r#"{"ts":"2026-11-22T15:16:31.234Z","request_id":"00000000000000070000000000000000","#,
            r#""client_ip":"192.0.2.1","proto":"HTTP/1.1","tls":"TLSv1.3","host":"example.com","#,
            r#""method":"GET","target":"/a?b=c","site":"shop","status":200,"verdict":"hit_memory","#,
            r#""bytes_in":0,"bytes_out":1234,"duration":1.000089,"ttfb":0.000042,"age":3,"ttl":-1,"#,
            r#""attempts":0,"user_agent":"curl/8","termination":"complete"}"#,
            "\n"
        )
    );
}

#[test]
fn a_combined_line_is_what_log_readers_know() {
    assert_eq!(
        combined(&record("/a", b"say \"hi\"\n\\")),
        "192.0.2.1 - - [22/Nov/2026:15:16:31 +0000] \"GET /a HTTP/1.1\" 200 1234 \"-\" \
         \"say \\x22hi\\x22\\x0A\\x5C\"\n"
    );
}

#[test]
fn times_outside_the_calendar_are_clamped() {
    for (millis, year) in [(i64::MIN, "1970"), (i64::MAX, "9999")] {
        let record = AccessRecord { at: Wall::from_millis(millis), ..record("/", b"") };
        assert!(combined(&record).contains(year));
        assert!(json(&record).0.contains(year));
    }
}

proptest! {
    #[test]
    fn every_json_line_parses_back_to_its_values(target in ".*", host in ".*", agent in ".*") {
        let record = AccessRecord { host: &host, detail: Some(&agent), ..record(&target, agent.as_bytes()) };
        let (line, value) = json(&record);
        prop_assert!(is_one_line(&line));
        prop_assert_eq!(&value["target"], &target);
        prop_assert_eq!(&value["host"], &host);
        prop_assert_eq!(&value["user_agent"], &agent);
        prop_assert_eq!(&value["detail"], &agent);
    }

    #[test]
    fn one_record_is_one_line_whatever_bytes_come(bytes: Vec<u8>, target: String) {
        let record = AccessRecord { referer: Some(&bytes), ..record(&target, &bytes) };
        let (line, value) = json(&record);
        prop_assert!(is_one_line(&line));
        prop_assert_eq!(&value["referer"], &*String::from_utf8_lossy(&bytes));
        let line = combined(&record);
        prop_assert!(is_one_line(&line));
        prop_assert!(line.trim_end().bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        prop_assert_eq!(line.matches('"').count(), 6, "no field ends its quotes early");
    }
}

#[tokio::test]
async fn lines_reach_the_file_before_the_log_stops() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let (spawner, dropped) = (Spawner::current(), counter());
    let log = AccessLog::new(&Target::File(path.clone()), AccessFormat::Json, dropped.clone(), &spawner)
        .expect("opens");
    let ids = RequestIds::new(1);
    for _ in 0..100 {
        log.log(&AccessRecord { request_id: ids.next(), ..record("/", b"") });
    }
    assert!(spawner.stop(STOP).await);
    assert_eq!(fs::read_to_string(&path).expect("written").lines().count(), 100);
    assert_eq!(dropped.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_line_is_written_within_the_flush_interval() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let spawner = Spawner::current();
    let log =
        AccessLog::new(&Target::File(path.clone()), AccessFormat::Json, counter(), &spawner).expect("opens");
    log.log(&record("/", b""));
    tokio::time::timeout(Duration::from_secs(60), async {
        while fs::read(&path).expect("exists").is_empty() {
            tokio::time::sleep(FLUSH_INTERVAL).await;
        }
    })
    .await
    .expect("written without being stopped");
    assert!(spawner.stop(STOP).await);
}

#[tokio::test]
async fn a_full_queue_drops_and_counts_and_never_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let (spawner, dropped) = (Spawner::current(), counter());
    let log = AccessLog::new(&Target::File(path.clone()), AccessFormat::Json, dropped.clone(), &spawner)
        .expect("opens");
    // The writer runs on this thread's runtime, so it cannot run before the next await.
    let agent = vec![b'a'; 64 * 1024];
    let (ids, sent) = (RequestIds::new(1), 2 * SHARDS * SHARD_BYTES_MAX / agent.len());
    for _ in 0..sent {
        log.log(&AccessRecord { request_id: ids.next(), ..record("/", &agent) });
    }
    let vocabulary = Vocabulary { not_stored: &[], origin_fetch: &[], origin_failure: &[], refusal: &[] };
    let metrics = Metrics::new("edge", None, vocabulary, Clock::system());
    log.expose(&metrics);
    let queued: usize = log.shards.iter().map(|shard| shard.lock().len()).sum();
    let text = metrics.encode();
    assert!(text.contains(&format!("\nshoal_access_log_queue_bytes {queued}\n")), "{text}");
    assert!(text.contains("\nshoal_access_log_queue_max_bytes 4194304\n"), "{text}");
    assert!(spawner.stop(STOP).await);
    let written = fs::read_to_string(&path).expect("written");
    assert!(written.len() <= SHARDS * SHARD_BYTES_MAX);
    assert!(dropped.get() > 0);
    assert_eq!(written.lines().count() + dropped.get() as usize, sent, "each line is written or counted");
}

#[tokio::test]
async fn a_reload_opens_the_file_that_rotation_renamed_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, rotated) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let (spawner, target) = (Spawner::current(), Target::File(path.clone()));
    let log = AccessLog::new(&target, AccessFormat::Json, counter(), &spawner).expect("opens");
    fs::rename(&path, &rotated).expect("renamed");
    log.reload(&target, AccessFormat::Combined).expect("opens");
    log.log(&record("/after", b""));
    assert!(spawner.stop(STOP).await);
    assert!(fs::read_to_string(&path).expect("written").contains("\"GET /after HTTP/1.1\""));
    assert!(fs::read(&rotated).expect("kept").is_empty());
}

#[tokio::test]
async fn a_target_that_cannot_be_opened_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let spawner = Spawner::current();
    let log =
        AccessLog::new(&Target::File(path.clone()), AccessFormat::Json, counter(), &spawner).expect("opens");
    let missing = Target::File(folder.path().join("missing/access.log"));
    let error = log.reload(&missing, AccessFormat::Json).expect_err("no such folder");
    assert!(error.to_string().contains("missing/access.log"), "{error}");
    log.log(&record("/", b""));
    assert!(spawner.stop(STOP).await);
    assert_eq!(fs::read_to_string(&path).expect("written").lines().count(), 1);
}

#[tokio::test]
async fn an_access_log_that_is_off_keeps_nothing() {
    let spawner = Spawner::current();
    let log = AccessLog::new(&Target::Off, AccessFormat::Json, counter(), &spawner).expect("opens");
    assert!(!log.is_on());
    log.log(&record("/", b""));
    assert!(log.shards.iter().all(|shard| shard.lock().is_empty()));
    assert!(spawner.stop(STOP).await);
}
