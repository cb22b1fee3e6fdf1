//! Nodes of a fleet as an operator starts them: processes with certificates in files.

use crate::common::client::Client;
use crate::common::node::toml;
use crate::common::process::Process;
use crate::common::{Node, Origin, Reply, content, in_time, reply};
use rustix::process::Signal;
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Command;
use tempfile::TempDir;

const FRESH: &str = "Cache-Control: max-age=600";

/// A folder with an authority in it.
struct Cluster(TempDir);

impl Cluster {
    fn new() -> Self {
        let cluster = Self(tempfile::tempdir().unwrap());
        cluster.cert(&["ca", "--out", &cluster.path("")]);
        cluster
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn cert(&self, arguments: &[&str]) {
        let output = Command::new(env!("CARGO_BIN_EXE_shoal")).arg("cert").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The flags of a node of this name, with a certificate for these roles.
    fn node(&self, name: &str, roles: &[&str], seeds: &[SocketAddr]) -> Vec<String> {
        let roles: Vec<&str> = roles.iter().flat_map(|role| ["--role", role]).collect();
        let node = ["node", "--ca", &self.path(""), "--out", &self.path(""), "--name", name];
        self.cert(&[&node[..], &roles].concat());
        let (cert, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}-key.pem")));
        let ca = self.path("ca.pem");
        let flags = ["--name", name, "--peer-ca", &ca, "--peer-cert", &cert, "--peer-key", &key];
        let open =
            ["--peer-listen", "--metrics", "--admin"].into_iter().flat_map(|flag| [flag, "127.0.0.1:0"]);
        let flags = flags.into_iter().chain(roles.iter().copied()).chain(open).map(str::to_owned);
        let seeds = seeds.iter().flat_map(|seed| ["--peer-seed".to_owned(), seed.to_string()]);
        flags.chain(seeds).collect()
    }
}

async fn run(flags: &[String], more: &[&str]) -> Process {
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Process::run(&flags).await
}

async fn get(at: SocketAddr, target: &str) -> Reply {
    Client::connect(at).await.get(target).await
}

/// What `shoal peers` prints, with these flags too.
async fn told(process: &Process, more: &[&str]) -> Vec<u8> {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_shoal"));
    let command = command.args(["peers", "--admin", &process.door("admin").to_string()]).args(more);
    let output = in_time("shoal peers", command.output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

async fn peers(process: &Process) -> Value {
    serde_json::from_slice(&told(process, &["--json"]).await).unwrap()
}

/// Waits until the node knows so many others and has its sessions.
async fn met(process: &Process, others: usize) {
    in_time("nodes to meet", async {
        loop {
            let report = peers(process).await;
            let stands = |superpeer: &Value| superpeer["session"] == "standing";
            let superpeers = report["superpeers"].as_array().unwrap();
            let known = report["members"].as_array().unwrap().len();
            if known == others && !superpeers.is_empty() && superpeers.iter().all(stands) {
                return;
            }
        }
    })
    .await;
}

async fn ready(process: &Process) {
    in_time("readiness", async { while get(process.door("metrics"), "/readyz").await.status != 200 {} })
        .await;
}

#[tokio::test]
async fn an_edge_is_ready_when_it_is_enrolled_and_superpeers_know_what_it_has_and_serves_before() {
    let (origin, cluster) = (Origin::start().await, Cluster::new());
    origin.says("/x", reply(200, &[FRESH], "body"));
    let ca = cluster.path("");
    let token = Command::new(env!("CARGO_BIN_EXE_shoal"))
        .args(["cert", "token", "--ca", &ca, "--role", "edge"])
        .output()
        .unwrap();
    std::fs::write(cluster.path("token"), token.stdout).unwrap();
    // Whoever has the address of a superpeer that is not there yet waits for it.
    let place = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let seed = place.local_addr().unwrap().to_string();
    let (url, ca, token) = (format!("http://{}", origin.at), cluster.path("ca.pem"), cluster.path("token"));
    let config = cluster.path("edge.toml");
    let peer = format!(
        "[peer]\nlisten = \"127.0.0.1:0\"\nseeds = [\"{seed}\"]\nca = \"{ca}\"\njoin_token_file = \"{token}\"\n"
    );
    std::fs::write(&config, peer).unwrap();
    let open = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];
    let edge =
        Process::run(&[&["--config", &config, "--name", "e", "--origin", &url][..], &open].concat()).await;
    let probe = get(edge.door("metrics"), "/readyz").await;
    assert_eq!((probe.status, probe.text()), (503, "starting\n"));
    get(edge.door("http"), "/x").await.assert_is(200, "body");

    drop(place);
    let key = cluster.path("ca-key.pem");
    let superpeer = format!("[peer]\nlisten = \"{seed}\"\nca = \"{ca}\"\nca_key = \"{key}\"\n");
    let config = cluster.path("superpeer.toml");
    std::fs::write(&config, superpeer).unwrap();
    let superpeer = Process::run(&["--config", &config, "--name", "s", "--role", "superpeer"]).await;
    ready(&edge).await;
    let metrics = get(edge.door("metrics"), "/metrics").await;
    for series in [
        "shoal_peer_certificate_renewals_total{result=\"success\"} 1",
        "shoal_swarm_sessions{state=\"standing\"} 1",
    ] {
        assert!(metrics.text().contains(series), "{series} in {}", metrics.text());
    }
    for process in [edge, superpeer] {
        process.signal(Signal::TERM);
        assert!(process.ended().await.success());
    }
}

#[tokio::test]
async fn a_superpeer_that_is_no_edge_is_ready_without_listeners_for_clients() {
    let cluster = Cluster::new();
    let process = run(&cluster.node("s", &["superpeer"], &[]), &[]).await;
    assert!(!process.listens("http") && process.listens("peer"));
    ready(&process).await;
    let report = peers(&process).await;
    assert_eq!(report["me"]["address"], process.door("peer").to_string());
    assert_eq!(report["me"]["roles"], serde_json::json!(["superpeer"]));
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());
}

#[tokio::test]
async fn an_edge_takes_from_another_what_it_has_and_one_that_leaves_is_not_named() {
    let (origin, cluster) = (Origin::start().await, Cluster::new());
    let (shared, own) = (content(3_000_000), content(100));
    origin.says("/x", reply(200, &[FRESH], &shared));
    origin.says("/y", reply(200, &[FRESH], &own));
    let url = format!("http://{}", origin.at);
    let serves = ["--listen", "127.0.0.1:0", "--origin", &url];
    let superpeer = run(&cluster.node("s", &["superpeer"], &[]), &[]).await;
    let seeds = [superpeer.door("peer")];
    let a = run(&cluster.node("a", &["edge"], &seeds), &serves).await;
    let b = run(&cluster.node("b", &["edge"], &seeds), &serves).await;
    for edge in [&a, &b] {
        met(edge, 2).await;
    }
    get(a.door("http"), "/x").await.assert_is(200, &shared);
    let given = get(b.door("http"), "/x").await;
    given.assert_is(200, &shared);
    assert!(given.cache_status().contains("detail=peer"), "{}", given.cache_status());
    assert_eq!(origin.count("/x"), 1);

    get(a.door("http"), "/y").await.assert_is(200, &own);
    a.signal(Signal::TERM);
    assert!(a.ended().await.success());
    get(b.door("http"), "/y").await.assert_is(200, &own);
    assert_eq!(origin.count("/y"), 2, "who had it is gone");
    for process in [b, superpeer] {
        process.signal(Signal::TERM);
        assert!(process.ended().await.success());
    }
}

#[tokio::test]
async fn a_node_alone_says_that_it_is_in_no_fleet_and_a_fleets_settings_wait_for_a_restart() {
    let origin = Origin::start().await;
    let (admin, url) = (["--admin", "127.0.0.1:0"], format!("http://{}", origin.at));
    let process = Process::run(&[&admin[..], &["--listen", "127.0.0.1:0", "--origin", &url]].concat()).await;
    assert_eq!(peers(&process).await, Value::Null);
    assert_eq!(told(&process, &[]).await, b"this node is not part of a fleet: peer.listen is not set\n");

    let cluster = Cluster::new();
    cluster.node("n", &["edge"], &[]);
    let fleet = format!(
        "[peer]\nlisten = \"127.0.0.1:0\"\nca = \"{}\"\ncert = \"{}\"\nkey = \"{}\"\n",
        cluster.path("ca.pem"),
        cluster.path("n.pem"),
        cluster.path("n-key.pem")
    );
    let node = Node::with(&origin, "").await;
    assert_eq!(node.reload(&toml(origin.at, &fleet)).unwrap(), ["peer"]);
    node.stop().await;
}

/// What `shoal explain` says of a URL, with these flags too.
async fn explained(process: &Process, url: &str, more: &[&str]) -> Vec<u8> {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_shoal"));
    let command = command.args(["explain", url, "--admin", &process.door("admin").to_string()]).args(more);
    let output = in_time("shoal explain", command.output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test]
async fn an_edge_that_does_not_answer_is_named_and_not_waited_for() {
    let (origin, cluster) = (Origin::start().await, Cluster::new());
    origin.says("/x", reply(200, &[FRESH], content(2000)));
    let url = format!("http://{}", origin.at);
    let serves = ["--listen", "127.0.0.1:0", "--origin", &url];
    let a = run(&cluster.node("a", &["edge", "superpeer"], &[]), &serves).await;
    let seeds = [a.door("peer")];
    let b = run(&cluster.node("b", &["edge"], &seeds), &serves).await;
    let c = run(&cluster.node("c", &["edge"], &seeds), &serves).await;
    for (edge, others) in [(&a, 2), (&b, 2), (&c, 2)] {
        met(edge, others).await;
    }
    get(b.door("http"), "/x").await.assert_is(200, content(2000));
    c.signal(Signal::STOP);
    let url = "http://site.test/x";
    let told: Value = serde_json::from_slice(&explained(&a, url, &["--json"]).await).unwrap();
    c.signal(Signal::CONT);
    let nodes = told["fleet"]["nodes"].as_array().unwrap();
    let states: Vec<_> = nodes.iter().map(|node| (&node["node"], &node["state"])).collect();
    let [(_, own), (_, has), (silent, state)] = states[..] else { panic!("{told}") };
    assert_eq!((own, has, silent), (&"nothing".into(), &"memory".into(), &"c".into()));
    assert_eq!(state, "no answer within 500 ms");

    let text = String::from_utf8(explained(&b, url, &[]).await).unwrap();
    assert!(text.contains("  answers  this node\n") && text.contains("NODE  ZONE  STATE"), "{text}");
    let local: Value = serde_json::from_slice(&explained(&b, url, &["--local", "--json"]).await).unwrap();
    assert!(local["fleet"].is_null() && local["stored"][0]["length"] == 2000, "{local}");
}
