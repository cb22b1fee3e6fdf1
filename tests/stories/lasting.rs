//! What outlives a process: the disk tier, restarts, kills and drains.

use crate::common::client::{Client, status};
use crate::common::node::toml;
use crate::common::origin::head;
use crate::common::process::Process;
use crate::common::{Barrier, Node, Origin, assert_same, content, in_time, reply};
use rustix::process::Signal;
use std::path::Path;
use std::sync::Arc;

const FRESH: &str = "Cache-Control: max-age=600";

fn disk(folder: &Path) -> String {
    format!("[[cache.disk]]\npath = \"{}\"\nsize = \"64MiB\"", folder.display())
}

#[tokio::test]
async fn what_is_on_disk_survives_a_restart_without_the_origin() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let large = content(3_000_000);
    origin.says("/small", reply(200, &[FRESH, "ETag: \"s\"", "X-Kept: yes"], "body"));
    origin.says("/large", reply(200, &[FRESH], &large));
    origin.script("/varied", |mut exchange| async move {
        let language = exchange.asked.field("accept-language").unwrap_or("none").to_owned();
        exchange.send(reply(200, &[FRESH, "Vary: Accept-Language"], language)).await;
        exchange
    });
    let node = Node::with(&origin, &disk(folder.path())).await;
    for target in ["/small", "/large"] {
        node.warm(target).await;
    }
    for language in ["de", "en"] {
        node.ask("GET", "/varied", &[&format!("Accept-Language: {language}")]).await;
        node.settled().await;
    }
    node.stop().await;
    let before = origin.count_all();

    let node = Node::with(&origin, &disk(folder.path())).await;
    let small = node.get("/small").await;
    small.assert_is(200, "body");
    small.assert_hit();
    assert!(small.cache_status().ends_with("; detail=disk"), "{}", small.cache_status());
    assert_eq!((small.field("x-kept"), small.field("etag")), (Some("yes"), Some("\"s\"")));
    assert_eq!(node.ask("GET", "/small", &["If-None-Match: \"s\""]).await.status, 304);
    let whole = node.get("/large").await;
    whole.assert_is(200, &large);
    whole.assert_hit();
    node.ask("GET", "/large", &["Range: bytes=1500000-2500000"])
        .await
        .assert_is(206, &large[1_500_000..=2_500_000]);
    for language in ["en", "de"] {
        let hit = node.ask("GET", "/varied", &[&format!("Accept-Language: {language}")]).await;
        hit.assert_is(200, language);
        hit.assert_hit();
    }
    assert_eq!(origin.count_all(), before);
    node.stop().await;
}

#[tokio::test]
async fn a_folder_of_another_major_format_ends_the_start_with_a_message_and_keeps_its_files() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    origin.says("/x", reply(200, &[FRESH], "body"));
    let node = Node::with(&origin, &disk(folder.path())).await;
    node.warm("/x").await;
    node.stop().await;
    let segment = folder.path().join("segment-00000000");
    let mut bytes = std::fs::read(&segment).unwrap();
    // Major and minor version, and the sum of the header.
    bytes[8..12].copy_from_slice(&[9, 0, 3, 0]);
    let sum = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&segment, &bytes).unwrap();

    let (at, url) = (folder.path().to_str().unwrap(), format!("http://{}", origin.at));
    let flags =
        ["run", "--listen", "127.0.0.1:0", "--origin", &url, "--cache-dir", at, "--cache-disk", "64MiB"];
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_shoal"));
    let output = in_time("the refusal", command.args(flags).output()).await.unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words}");
    let expected = format!(
        "the cache in {at} has disk format 9.3, and this release reads 1.x alone; nothing was changed: \
         start the release that wrote it, name another folder, or empty this one"
    );
    assert!(words.lines().any(|line| line.starts_with("shoal: ") && line.ends_with(&expected)), "{words}");
    assert!(std::fs::read(&segment).unwrap() == bytes, "nothing is touched");
}

#[tokio::test]
async fn what_was_invalidated_does_not_come_back_with_a_restart() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    origin.says("/x", reply(200, &[FRESH], "body"));
    let node = Node::with(&origin, &disk(folder.path())).await;
    node.warm("/x").await;
    node.ask("POST", "/x", &[]).await;
    node.stop().await;
    let node = Node::with(&origin, &disk(folder.path())).await;
    let fetched = node.get("/x").await;
    assert!(fetched.cache_status().contains("fwd=uri-miss"), "{}", fetched.cache_status());
    node.stop().await;
}

#[tokio::test]
async fn a_validation_outlives_a_restart() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    origin.says_in_turn(
        "/x",
        [
            reply(200, &["Cache-Control: max-age=10", "Age: 20", "ETag: \"one\""], "body"),
            reply(304, &[FRESH, "ETag: \"one\""], ""),
        ],
    );
    let node = Node::with(&origin, &disk(folder.path())).await;
    node.warm("/x").await;
    node.warm("/x").await;
    node.stop().await;
    let node = Node::with(&origin, &disk(folder.path())).await;
    let hit = node.get("/x").await;
    hit.assert_is(200, "body");
    hit.assert_hit();
    assert_eq!(origin.count("/x"), 2);
    node.stop().await;
}

#[tokio::test]
async fn what_falls_out_of_memory_is_served_from_disk() {
    const OBJECTS: usize = 12;
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let bodies: Vec<Vec<u8>> = (0..OBJECTS).map(|number| content(300_000 + number)).collect();
    for (number, body) in bodies.iter().enumerate() {
        origin.says(&format!("/{number}"), reply(200, &[FRESH], body));
    }
    let more = format!("[cache]\nmemory = \"1MiB\"\n{}", disk(folder.path()));
    let node = Node::with(&origin, &more).await;
    for number in 0..OBJECTS {
        node.warm(&format!("/{number}")).await;
    }
    let mut from_disk = 0;
    for (number, body) in bodies.iter().enumerate() {
        let hit = node.get(&format!("/{number}")).await;
        hit.assert_is(200, body);
        hit.assert_hit();
        from_disk += usize::from(hit.cache_status().ends_with("detail=disk"));
        let usage = node.assembly.node.store.usage();
        assert!(usage.memory <= 1 << 20, "{}", usage.memory);
    }
    assert!(from_disk >= OBJECTS - 4, "{from_disk}");
    assert_eq!(origin.count_all(), OBJECTS);
    node.stop().await;
}

/// A configuration file for the program.
fn written(folder: &Path, origin: &Origin, more: &str) -> String {
    let file = folder.join("shoal.toml");
    let toml = format!("{}\n[metrics]\nlisten = \"127.0.0.1:0\"\n", toml(origin.at, more));
    let toml = toml.replace("[node]\n", "[node]\nworkers = 1\n");
    std::fs::write(&file, toml).unwrap();
    file.to_str().unwrap().to_owned()
}

async fn get(process: &Process, target: &str) -> crate::common::Reply {
    Client::connect(process.door("http")).await.get(target).await
}

async fn probe(process: &Process, target: &str) -> crate::common::Reply {
    Client::connect(process.door("metrics")).await.get(target).await
}

#[tokio::test]
async fn the_program_runs_with_two_flags_and_says_where() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH], "body"));
    let url = format!("http://{}", origin.at);
    let process =
        Process::run(&["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--origin", &url]).await;
    get(&process, "/x").await.assert_is(200, "body");
    assert_eq!(probe(&process, "/livez").await.status, 200);
    assert_eq!(probe(&process, "/readyz").await.status, 200);
    let metrics = probe(&process, "/metrics").await;
    assert!(metrics.text().contains("shoal_requests_total{site=\"default\",verdict=\"origin\""));
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());
}

#[tokio::test]
async fn a_wrong_configuration_is_told_whole_and_exits_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shoal.toml");
    std::fs::write(&file, "[node]\nnmae = \"edge\"\n[cache]\nmemory = \"much\"\n").unwrap();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_shoal"))
        .args(["run", "--config", file.to_str().unwrap()])
        .output();
    let output = in_time("the program's end", output).await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("shoal.toml:2:") && told.contains("name"), "{told}");
    assert!(told.contains("shoal.toml:4:"), "{told}");
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_fill_leaves_no_wrong_byte() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let body = Arc::new(content(6_000_000));
    let whole = content(500_000);
    origin.says("/before", reply(200, &[FRESH], &whole));
    let sent = Arc::clone(&body);
    origin.script("/x", move |mut exchange| {
        let sent = Arc::clone(&sent);
        async move {
            let length = format!("Content-Length: {}", sent.len());
            exchange.send(head(200, &[FRESH, "ETag: \"one\"", &length])).await;
            let end = if exchange.nth == 0 { 4_000_000 } else { sent.len() };
            exchange.send(&sent[..end]).await;
            if exchange.nth == 0 {
                exchange.read_some().await;
                exchange.close();
            }
            exchange
        }
    });
    let config = written(folder.path(), &origin, &disk(&folder.path().join("cache")));
    let process = Process::run(&["--config", &config]).await;
    get(&process, "/before").await.assert_is(200, &whole);
    let mut client = Client::connect(process.door("http")).await;
    client.send(crate::common::client::request("GET", "/x", &[])).await;
    client.head().await.unwrap();
    assert_same(&client.read_exactly(3_500_000).await, &body[..3_500_000]);
    process.signal(Signal::KILL);
    process.ended().await;

    let process = Process::run(&["--config", &config]).await;
    get(&process, "/before").await.assert_is(200, &whole);
    let fetched = get(&process, "/x").await;
    fetched.assert_is(200, &*body);
    assert!(fetched.cache_status().contains("fwd=uri-miss"), "{}", fetched.cache_status());
    get(&process, "/x").await.assert_is(200, &*body);
    assert_eq!(origin.count("/x"), 2);
}

#[tokio::test]
async fn a_drain_ends_what_is_in_flight_and_takes_nothing_new() {
    let (origin, barrier, folder) = (Origin::start().await, Barrier::closed(), tempfile::tempdir().unwrap());
    let held = barrier.clone();
    origin.script("/x", move |mut exchange| {
        let held = held.clone();
        async move {
            exchange.send(head(200, &[FRESH, "Content-Length: 8"])).await;
            exchange.send("half").await;
            held.pass().await;
            exchange.send("half").await;
            exchange
        }
    });
    let process = Process::run(&["--config", &written(folder.path(), &origin, "")]).await;
    let mut client = Client::connect(process.door("http")).await;
    client.send(crate::common::client::request("GET", "/x", &[])).await;
    assert_eq!(status(&client.head().await.unwrap()), 200);
    assert_eq!(client.read_exactly(4).await, b"half");
    let mut idle = Client::connect(process.door("http")).await;
    process.signal(Signal::TERM);
    in_time("readiness to end", async {
        while probe(&process, "/readyz").await.status != 503 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(probe(&process, "/livez").await.status, 200);
    in_time("the door to close", async {
        while tokio::net::TcpStream::connect(process.door("http")).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(idle.read_to_end().await, b"", "an idle connection is closed, whatever the others do");
    barrier.open();
    assert_eq!(client.read_exactly(4).await, b"half");
    assert_eq!(client.read_to_end().await, b"");
    assert!(process.ended().await.success());
}

#[tokio::test]
async fn a_reload_keeps_cache_and_connections_and_a_wrong_one_changes_nothing() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    origin.says("/x", reply(200, &[FRESH], "body"));
    origin.says("/passed", reply(200, &[FRESH], "body"));
    let config = written(folder.path(), &origin, "");
    let process = Process::run(&["--config", &config]).await;
    let mut client = Client::connect(process.door("http")).await;
    client.get("/x").await.assert_is(200, "body");
    client.get("/passed").await.assert_is(200, "body");

    written(folder.path(), &origin, "[[site.rules]]\npath = \"/passed\"\npass = true");
    process.signal(Signal::HUP);
    in_time("the new rule", async {
        while !client.get("/passed").await.cache_status().contains("fwd=bypass") {}
    })
    .await;
    client.get("/x").await.assert_hit();
    assert_eq!(origin.count("/x"), 1);

    std::fs::write(&config, "[node]\nname = 7\n").unwrap();
    process.signal(Signal::HUP);
    in_time("the failure to be counted", async {
        let failure = "shoal_config_reloads_total{result=\"failure\"} 1";
        while !probe(&process, "/metrics").await.text().contains(failure) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    client.get("/x").await.assert_hit();
    assert!(client.get("/passed").await.cache_status().contains("fwd=bypass"));
    assert_eq!(probe(&process, "/readyz").await.status, 200);
}
