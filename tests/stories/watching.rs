//! What an operator sees while it happens: `shoal log` and `shoal top`, as processes beside the node's.

use crate::common::client::Client;
use crate::common::process::Process;
use crate::common::{Origin, in_time, reply};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::process::{Output, Stdio};
use tokio::process::{Child, Command};

const FRESH: &str = "Cache-Control: max-age=600";

async fn node(origin: &Origin) -> Process {
    let url = format!("http://{}", origin.at);
    let open = ["--listen", "--metrics", "--admin"].into_iter().flat_map(|flag| [flag, "127.0.0.1:0"]);
    Process::run(&open.chain(["--origin", &url]).collect::<Vec<_>>()).await
}

fn shoal(process: &Process, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_shoal"))
        .args(arguments)
        .args(["--admin", &process.door("admin").to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts")
}

/// Begins to watch, and waits until the node knows of so many who do.
async fn watching(process: &Process, arguments: &[&str], readers: usize) -> Child {
    let child = shoal(process, arguments);
    readers_are(process, readers).await;
    child
}

async fn readers_are(process: &Process, readers: usize) {
    let line = format!("shoal_live_readers {readers}\n");
    in_time("the node to know of its readers", async {
        while !Client::connect(process.door("metrics")).await.get("/metrics").await.text().contains(&line) {}
    })
    .await;
}

async fn get(process: &Process, target: &str) {
    Client::connect(process.door("http")).await.get(target).await;
}

async fn ended(child: Child) -> Output {
    in_time("the command's end", child.wait_with_output()).await.expect("a child")
}

fn lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[tokio::test]
async fn the_log_shows_what_its_filter_admits_as_it_happens_and_ends_by_itself() {
    let origin = Origin::start().await;
    origin.says("/a", reply(200, &[FRESH], "body"));
    origin.says("/b?x=%1b", reply(404, &["Cache-Control: no-store"], "none"));
    let process = node(&origin).await;
    get(&process, "/a").await;
    let all = watching(&process, &["log", "--json", "--count", "3"], 1).await;
    let some = watching(&process, &["log", "status=404", "path=/b*", "--json", "--count", "1"], 2).await;
    for target in ["/a", "/b?x=%1b", "/a"] {
        get(&process, target).await;
    }
    let all = ended(all).await;
    assert_eq!(all.status.code(), Some(0), "{}", String::from_utf8_lossy(&all.stderr));
    let all = lines(&all);
    let told: Vec<_> = all
        .iter()
        .map(|line| (line["target"].as_str().unwrap(), line["verdict"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [("/a", "hit_memory"), ("/b?x=%1b", "pass"), ("/a", "hit_memory")]);
    assert_eq!(all[0]["object"].as_str().map(str::len), Some(32));
    assert_eq!(all[1]["upstream"], origin.at.to_string());
    let some = lines(&ended(some).await);
    assert_eq!((some.len(), &some[0]), (1, &all[1]), "one record, whoever reads it");
    readers_are(&process, 0).await;
}

#[tokio::test]
async fn a_log_that_is_interrupted_or_whose_time_is_over_ends_in_order() {
    let process = node(&Origin::start().await).await;
    let log = watching(&process, &["log"], 1).await;
    let pid = Pid::from_raw(log.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(ended(log).await.status.code(), Some(0));
    let timed = ended(shoal(&process, &["log", "--for", "10ms"])).await;
    assert_eq!((timed.status.code(), timed.stdout.len()), (Some(0), 0));
    // A node that stops does not wait for those who watch.
    let log = watching(&process, &["log"], 1).await;
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());
    assert_eq!(ended(log).await.status.code(), Some(1), "it ended before it should");
}

#[tokio::test]
async fn what_cannot_be_read_is_said() {
    let process = node(&Origin::start().await).await;
    let wrong = ended(shoal(&process, &["log", "verdict=miss"])).await;
    assert_eq!(wrong.status.code(), Some(1));
    let text = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(text.contains("at character 1: no verdict \"miss\"; there are hit_memory"), "{text}");
    let mut readers = Vec::new();
    for number in 1..=4 {
        readers.push(watching(&process, &["log"], number).await);
    }
    let fifth = ended(shoal(&process, &["top", "--json"])).await;
    assert_eq!(fifth.status.code(), Some(1));
    let text = String::from_utf8_lossy(&fifth.stderr).into_owned();
    assert!(text.contains("4 are reading already"), "{text}");
}

#[tokio::test]
async fn an_interval_of_top_is_an_object_with_what_happened_in_it() {
    let origin = Origin::start().await;
    origin.says("/hot", reply(200, &[FRESH], "0123456789"));
    let process = node(&origin).await;
    get(&process, "/hot").await;
    let top = watching(&process, &["top", "--json", "--count", "2", "--interval", "250ms"], 1).await;
    let asking = async {
        loop {
            get(&process, "/hot").await;
        }
    };
    let output = tokio::select! {
        output = ended(top) => output,
        () = asking => unreachable!("it never ends"),
    };
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let reports = lines(&output);
    let [_, report] = &reports[..] else { panic!("{reports:?}") };
    let all = &report["all"];
    assert!(all["requests"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(
        (&all["hit_ratio"], &report["purges"]["in_sync"], &report["peers"]),
        (&1.0.into(), &true.into(), &Value::Null)
    );
    assert_eq!(report["sites"].as_object().unwrap().len(), 1);
    assert_eq!(report["hottest"][0]["name"], "site.test/hot");
    assert!((report["hottest"][0]["share"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    assert_eq!(report["origin"]["servers"][0]["available"], true);
    readers_are(&process, 0).await;

    let plain = ended(shoal(&process, &["top", "--count", "1", "--interval", "250ms"])).await;
    let text = String::from_utf8(plain.stdout).unwrap();
    assert!(
        text.contains("requests  ") && text.contains("ORIGIN SERVER") && !text.contains('\u{1b}'),
        "{text}"
    );
}
