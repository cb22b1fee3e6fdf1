//! What an operator tells a running process, and what it answers: over the admin interface, by files, and to the service
//! manager.

use crate::common::client::{request, status};
use crate::common::node::toml;
use crate::common::origin::head;
use crate::common::process::Process;
use crate::common::tls::{self, Pair, certificate};
use crate::common::{Barrier, Client, Origin, Reply, reply};
use serde_json::Value;
use std::path::PathBuf;
use tempfile::TempDir;

const FRESH: &str = "Cache-Control: max-age=600";

/// A folder with a configuration file in it.
pub(super) struct Folder(TempDir);

impl Folder {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn file(&self) -> String {
        self.path("shoal.toml").to_str().unwrap().to_owned()
    }

    /// Writes the file anew: a node with `more` of its site, with doors for operators, and `node` in its own section.
    pub(super) fn write(&self, origin: &Origin, node: &str, more: &str) {
        let doors = "[metrics]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";
        let text = format!("{}{doors}", toml(origin.at, more));
        std::fs::write(self.file(), text.replace("[node]\n", &format!("[node]\nworkers = 1\n{node}")))
            .unwrap();
    }
}

pub(super) async fn get(process: &Process, door: &str, target: &str) -> Reply {
    Client::connect(process.door(door)).await.get(target).await
}

/// A write on the admin interface: its status and what it says.
async fn post(process: &Process, target: &str) -> (u16, Value) {
    let mut client = Client::connect(process.door("admin")).await;
    client.send(format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")).await;
    let answer = client.reply("POST").await;
    (answer.status, serde_json::from_slice(&answer.body).expect("JSON"))
}

pub(super) async fn metric(process: &Process, series: &str) -> f64 {
    let answer = get(process, "metrics", "/metrics").await;
    let line = answer.text().lines().find(|line| line.starts_with(series)).map(str::to_owned);
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect(series)
}

#[tokio::test]
async fn a_reload_over_http_says_what_it_did_and_a_wrong_one_why_not() {
    let (origin, folder) = (Origin::start().await, Folder::new());
    origin.says("/x", reply(200, &[FRESH], "body"));
    folder.write(&origin, "", "");
    let process = Process::run_logged(&["--config", &folder.file()], &folder.path("log")).await;
    let mut client = Client::connect(process.door("http")).await;
    client.get("/x").await.assert_is(200, "body");

    folder.write(
        &origin,
        "",
        "[[site.rules]]\npath = \"/passed\"\npass = true\n[cache]\nmemory = \"64MiB\"\n",
    );
    let (status, told) = post(&process, "/reload").await;
    assert_eq!(
        (status, &told),
        (200, &serde_json::json!({ "reloaded": true, "needs_restart": ["cache.memory"] }))
    );
    assert!(client.get("/passed").await.cache_status().contains("fwd=bypass"), "the new rule is in force");
    client.get("/x").await.assert_hit();
    let good = metric(&process, "shoal_config_last_reload_success_timestamp_seconds").await;
    assert!(good > 1.6e9, "{good}");
    assert_eq!(metric(&process, "shoal_config_last_reload_successful").await, 1.0);

    folder.write(&origin, "nmae = \"edge\"\n", "");
    let (status, told) = post(&process, "/reload").await;
    let why = told["detail"].as_str().unwrap();
    assert_eq!((status, &told["code"]), (422, &"not_done".into()));
    assert!(why.contains("shoal.toml:3:") && why.contains("nmae"), "{why}");
    let log = std::fs::read_to_string(folder.path("log")).unwrap();
    assert!(log.contains("the old one stays in force") && log.contains("nmae"), "{log}");
    assert!(client.get("/passed").await.cache_status().contains("fwd=bypass"), "the old rule stays");
    client.get("/x").await.assert_hit();
    assert_eq!(metric(&process, "shoal_config_last_reload_successful").await, 0.0);
    assert_eq!(metric(&process, "shoal_config_last_reload_success_timestamp_seconds").await, good);
    assert_eq!(metric(&process, "shoal_config_reloads_total{result=\"failure\"}").await, 1.0);
    assert_eq!(get(&process, "metrics", "/readyz").await.status, 200);

    // What is mended is taken up.
    folder.write(&origin, "", "");
    assert_eq!(post(&process, "/reload").await.0, 200);
    assert_eq!(metric(&process, "shoal_config_last_reload_successful").await, 1.0);
    assert_eq!(metric(&process, "shoal_config_reloads_total{result=\"success\"}").await, 3.0);
}

#[tokio::test]
async fn a_reload_over_http_takes_new_certificates_and_no_broken_ones() {
    let (origin, folder) = (Origin::start().await, Folder::new());
    origin.says("/x", reply(200, &[FRESH], "body"));
    let old = certificate(folder.0.path(), "site.test");
    folder.write(&origin, "", &format!("tls = {}\n", old.toml));
    let text = std::fs::read_to_string(folder.file()).unwrap();
    let text = text.replace("[listen]\n", "[listen]\nhttps = [\"127.0.0.1:0\"]\n");
    std::fs::write(folder.file(), text).unwrap();
    let process = Process::run(&["--config", &folder.file()]).await;
    let at = process.door("https");
    let shows = async |pair: &Pair| tls::connect(at, "site.test", &pair.der, b"http/1.1").await.is_ok();
    let mut client = tls::client(at, "site.test", &old.der).await;
    client.get("/x").await.assert_is(200, "body");

    let new = certificate(folder.0.path(), "site.test");
    assert_eq!(post(&process, "/reload").await.0, 200);
    assert!(shows(&new).await && !shows(&old).await);
    client.get("/x").await.assert_hit();

    std::fs::write(folder.path("site.test.pem"), "no certificate").unwrap();
    let (status, told) = post(&process, "/reload").await;
    assert_eq!(status, 422);
    assert!(told["detail"].as_str().unwrap().contains("site.test.pem"), "{told}");
    assert!(shows(&new).await, "the one that works stays");
    client.get("/x").await.assert_hit();
}

#[tokio::test]
async fn a_drain_over_http_ends_the_process_when_its_requests_have_ended() {
    let (origin, barrier, folder) = (Origin::start().await, Barrier::closed(), Folder::new());
    let held = barrier.clone();
    origin.script("/slow", move |mut exchange| {
        let held = held.clone();
        async move {
            exchange.send(head(200, &[FRESH, "Content-Length: 4"])).await;
            held.pass().await;
            exchange.send("body").await;
            exchange
        }
    });
    folder.write(&origin, "", "");
    let process = Process::run(&["--config", &folder.file()]).await;
    let mut client = Client::connect(process.door("http")).await;
    client.send(request("GET", "/slow", &[])).await;
    let begun = client.head().await.unwrap();
    assert_eq!(status(&begun), 200);
    assert_eq!(post(&process, "/drain").await, (202, serde_json::json!({ "draining": true })));
    let ready = get(&process, "metrics", "/readyz").await;
    assert_eq!((ready.status, ready.text()), (503, "draining\n"));
    barrier.open();
    let body = client.body(&begun).await;
    assert_eq!((&body.bytes[..], body.is_whole), (&b"body"[..], true));
    assert_eq!(client.read_to_end().await, b"");
    assert!(process.ended().await.success());
}
