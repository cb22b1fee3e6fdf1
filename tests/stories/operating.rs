//! What an operator sees: the access log, metrics and `explain`.

use crate::common::node::toml;
use crate::common::{Node, Origin, in_time, reply, turns};
use futures_util::future::{join, join_all};
use serde_json::Value;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const FRESH: &str = "Cache-Control: max-age=60";

/// The lines of an access log, once there are `count`.
async fn lines(log: &Path, count: usize) -> Vec<String> {
    in_time("lines in the access log", async {
        loop {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            if text.ends_with('\n') && text.lines().count() >= count {
                return text.lines().map(str::to_owned).collect();
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn each_request_is_one_line_of_json_with_its_verdict() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    origin.says("/x?a=1", reply(200, &[FRESH], "body"));
    let log = folder.path().join("access.log");
    let node = Node::with(&origin, &format!("[log]\naccess = \"{}\"", log.display())).await;
    node.warm("/x?a=1").await;
    node.ask("GET", "/x?a=1", &["User-Agent: \"quoted\"", "Referer: http://from.test/"]).await.assert_hit();
    node.ask("GET", "/x", &["Via: 1.1 edge"]).await;

    let lines: Vec<Value> =
        lines(&log, 3).await.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    let verdicts: Vec<&str> = lines.iter().map(|line| line["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["origin", "hit_memory", "refused"]);
    let upstreams: Vec<&Value> = lines.iter().map(|line| &line["upstream"]).collect();
    assert_eq!(upstreams, [&Value::from(origin.at.to_string()), &Value::Null, &Value::Null]);
    let hit = &lines[1];
    assert_eq!(
        (
            &hit["status"],
            &hit["method"],
            &hit["target"],
            &hit["host"],
            &hit["bytes_out"],
            &hit["termination"]
        ),
        (&200.into(), &"GET".into(), &"/x?a=1".into(), &"site.test".into(), &4.into(), &"complete".into())
    );
    assert_eq!((&hit["user_agent"], &hit["referer"]), (&"\"quoted\"".into(), &"http://from.test/".into()));
    assert_eq!((&hit["site"], &hit["client_ip"]), (&"default".into(), &"127.0.0.1".into()));
    assert_eq!((&lines[2]["status"], &lines[2]["detail"]), (&508.into(), &"loop".into()));
}

#[tokio::test]
async fn the_id_in_an_error_answer_is_that_of_the_log() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let log = folder.path().join("access.log");
    let node = Node::with(&origin, &format!("[log]\naccess = \"{}\"", log.display())).await;
    let refused = node.ask("GET", "/x", &["Cache-Control: only-if-cached"]).await;
    let line: Value = serde_json::from_str(&lines(&log, 1).await[0]).unwrap();
    assert_eq!(line["request_id"].as_str(), refused.field("x-request-id"));
}

#[tokio::test]
async fn the_combined_format_is_one_line_too() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    origin.says("/x", reply(200, &[FRESH], "body"));
    let log = folder.path().join("access.log");
    let more = format!("[log]\naccess = \"{}\"\naccess_format = \"combined\"", log.display());
    let node = Node::with(&origin, &more).await;
    node.warm("/x").await;
    let line = &lines(&log, 1).await[0];
    assert!(
        line.starts_with("127.0.0.1 - - [") && line.ends_with("\"GET /x HTTP/1.1\" 200 4 \"-\" \"-\""),
        "{line}"
    );
}

#[tokio::test]
async fn every_request_is_counted_under_one_verdict() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH], "body"));
    origin.says("/p", reply(200, &["Cache-Control: private"], "body"));
    origin.says_in_turn(
        "/s",
        [
            reply(200, &["Cache-Control: max-age=10", "Age: 20", "ETag: \"one\""], "body"),
            reply(304, &["Cache-Control: max-age=10", "Age: 20", "ETag: \"one\""], ""),
            reply(503, &[], ""),
        ],
    );
    let node = Node::before(&origin).await;
    for target in ["/x", "/x", "/x", "/p", "/s", "/s", "/s"] {
        node.warm(target).await;
    }
    node.ask("POST", "/p", &[]).await;
    node.ask("GET", "/x", &["Via: 1.1 edge"]).await;
    node.ask("GET", "/cold", &["Cache-Control: only-if-cached"]).await;
    let verdict = |name: &str| {
        ["default", "(none)"]
            .iter()
            .map(|site| node.metric(&format!("shoal_requests_total{{site=\"{site}\",verdict=\"{name}\"")))
            .sum::<f64>()
    };
    let counts = ["origin", "hit_memory", "pass", "revalidated", "stale_if_error", "refused"].map(verdict);
    assert_eq!(counts, [2.0, 2.0, 2.0, 1.0, 1.0, 2.0]);
    assert_eq!(node.metric("shoal_requests_total{"), 10.0);
    let sent = |source: &str| {
        node.metric(&format!("shoal_response_bytes_total{{site=\"default\",source=\"{source}\""))
    };
    assert_eq!((sent("memory"), sent("origin")), (16.0, 16.0));
    assert_eq!(node.metric("shoal_origin_bytes_total{site=\"default\"}"), 16.0);
    let aged = |series: &str| node.metric(&format!("shoal_response_age_seconds_{series}"));
    assert_eq!(aged("count{site=\"default\"}"), 6.0, "those from the cache or for it");
    assert_eq!(
        aged("bucket{site=\"default\",le=\"10\"}"),
        3.0,
        "the others were twenty seconds old when they came"
    );
    assert_eq!(node.metric("shoal_origin_first_byte_seconds_count{site=\"default\"}"), 5.0);
    assert_eq!(node.metric("shoal_origin_fetches_total{site=\"default\",reason=\"revalidate\"}"), 2.0);
    assert_eq!(node.metric("shoal_responses_not_stored_total{site=\"default\",reason=\"private\"}"), 1.0);
}

#[tokio::test]
async fn collapsed_requests_and_followers_are_counted() {
    let (origin, barrier) = (Origin::start().await, crate::common::Barrier::closed());
    let held = barrier.clone();
    origin.script("/x", move |mut exchange| {
        let held = held.clone();
        async move {
            held.pass().await;
            exchange.send(reply(200, &[FRESH], "body")).await;
            exchange
        }
    });
    let node = Node::before(&origin).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(node.begin("GET", "/x", &[]).await);
    }
    crate::common::turns().await;
    barrier.open();
    for client in &mut clients {
        client.reply("GET").await.assert_is(200, "body");
    }
    assert_eq!(node.metric("shoal_requests_total{site=\"default\",verdict=\"hit_collapsed\""), 2.0);
    assert_eq!(node.metric("shoal_requests_collapsed_total{site=\"default\"}"), 2.0);
}

#[tokio::test]
async fn explain_says_what_the_next_request_will_come_to() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH, "ETag: \"one\""], "body"));
    origin.says("/stale", reply(200, &["Cache-Control: max-age=10", "Age: 20"], "body"));
    let node = Node::with(&origin, "[[site.rules]]\npath = \"/api/*\"\npass = true").await;
    let verdict = async |path: &str| {
        let explained = node.explain(&format!("http://site.test{path}")).await;
        explained["next"]["verdict"].as_str().unwrap().to_owned()
    };
    assert_eq!(verdict("/x").await, "origin");
    assert_eq!(verdict("/api/x").await, "pass");
    node.warm("/x").await;
    node.warm("/stale").await;
    assert_eq!(verdict("/stale").await, "revalidated");
    assert_eq!(verdict("/x").await, "hit_memory");

    let explained = node.explain("http://site.test/x").await;
    assert_eq!((&explained["site"], &explained["key"]["path"]), (&"default".into(), &"/x".into()));
    let freshness = &explained["stored"][0]["freshness"];
    assert_eq!((&freshness["lifetime"], &freshness["etag"]), (&60.into(), &"\"one\"".into()));
    assert_eq!(freshness["stored_because"], "max_age");
    let (lifetime, age) = (freshness["lifetime"].as_i64().unwrap(), freshness["age"].as_i64().unwrap());
    assert_eq!(freshness["ttl"].as_i64().unwrap(), lifetime - age);
    assert_eq!(origin.count_all(), 2, "explaining asks the origin nothing");
}

#[tokio::test]
async fn a_wrong_reload_keeps_the_old_configuration_whole() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH], "body"));
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    let wrong = node.reload("[cache]\nmemory = \"much\"\n").unwrap_err();
    assert!(wrong.contains("cache.memory"), "{wrong}");
    node.get("/x").await.assert_hit();
    let waiting = node.reload(&toml(origin.at, "[cache]\nmemory = \"64MiB\"")).unwrap();
    assert_eq!(waiting, ["cache.memory"], "what needs a restart is said");
    node.get("/x").await.assert_hit();
}

#[tokio::test]
async fn a_hundred_reloads_under_load_fail_no_request() {
    const RELOADS: usize = 100;
    const CLIENTS: usize = 8;
    let origin = Origin::start().await;
    for client in 0..CLIENTS {
        origin.says(&format!("/{client}"), reply(200, &["Cache-Control: max-age=60"], "kept"));
        origin.says(&format!("/{client}/never"), reply(200, &["Cache-Control: no-store"], "passed"));
    }
    let node = Node::before(&origin).await;
    let reloading = AtomicBool::new(true);
    let ask = async |client: usize| {
        let mut connection = node.connect().await;
        let mut asked = 0;
        while reloading.load(Ordering::Relaxed) {
            connection.get(&format!("/{client}")).await.assert_is(200, "kept");
            connection.get(&format!("/{client}/never")).await.assert_is(200, "passed");
            asked += 1;
            if asked % 100 == 0 {
                // A connection ends after a thousand requests, in order and announced.
                connection = node.connect().await;
            }
        }
        asked
    };
    let reload = async {
        for round in 0..RELOADS {
            let limits = format!("[limits]\nheader_count = {}\n", 50 + round);
            node.reload(&toml(origin.at, &limits)).unwrap();
            turns().await;
        }
        reloading.store(false, Ordering::Relaxed);
    };
    let (asked, ()) = join(join_all((0..CLIENTS).map(ask)), reload).await;
    assert!(asked.iter().sum::<usize>() > RELOADS, "hardly any load: {asked:?}");
    assert_eq!(node.metric("shoal_config_reloads_total{result=\"success\"}") as usize, 1 + RELOADS);
}
