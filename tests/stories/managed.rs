//! A running process and what it stands on: the service manager that started it, and the file of its configuration.

use super::commands::{Folder, get, metric};
use crate::common::process::Process;
use crate::common::{Client, Origin, in_time, reply};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use std::ffi::OsStr;
use std::fs::File;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::symlink;
use std::process::Stdio;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};

const FRESH: &str = "Cache-Control: max-age=600";

/// Hears what the process tells whoever started it.
struct Manager(UnixDatagram);

impl Manager {
    /// The lines of the next message.
    async fn told(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let length = in_time("a message", self.0.recv(&mut bytes)).await.unwrap();
        std::str::from_utf8(&bytes[..length]).unwrap().lines().map(str::to_owned).collect()
    }

    /// Whether it was told nothing more.
    fn heard_all(&self) -> bool {
        self.0.try_recv(&mut [0; 1]).is_err()
    }
}

/// Starts the program, with its standard output in a file.
fn start(folder: &Folder, socket: &OsStr, watchdog: Option<&str>) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shoal"));
    command.args(["run", "--config", &folder.file()]).env("NOTIFY_SOCKET", socket);
    command.envs(watchdog.map(|micros| ("WATCHDOG_USEC", micros)));
    let out = File::create(folder.path("out")).unwrap();
    command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().unwrap()
}

fn signal(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    kill_process(pid.expect("it runs"), signal).unwrap();
}

fn microseconds_since_boot() -> i64 {
    let at = clock_gettime(ClockId::Monotonic);
    at.tv_sec * 1_000_000 + at.tv_nsec / 1000
}

#[tokio::test]
async fn the_service_manager_hears_of_readiness_reloads_and_the_end() {
    let (origin, folder) = (Origin::start().await, Folder::new());
    origin.says("/x", reply(200, &[FRESH], "body"));
    folder.write(&origin, "", "");
    let socket = folder.path("notify");
    let manager = Manager(UnixDatagram::bind(&socket).unwrap());
    let mut child = start(&folder, socket.as_os_str(), None);

    let told = manager.told().await;
    // What is open was said before, and answers by now.
    let out = std::fs::read_to_string(folder.path("out")).unwrap();
    assert!(out.ends_with("\nready\n"), "{out:?}");
    let at = out.lines().find_map(|line| line.strip_prefix("listening http ")).unwrap();
    assert_eq!(told[0], "READY=1");
    assert!(told[1].starts_with(&format!("STATUS=serving on http {at}, ")), "{told:?}");
    Client::connect(at.parse().unwrap()).await.get("/x").await.assert_is(200, "body");

    for (node, outcome) in
        [("", "was reloaded"), ("nmae = 1\n", "was not reloaded, the old one stays in force: ")]
    {
        folder.write(&origin, node, "");
        let before = microseconds_since_boot();
        signal(&child, Signal::HUP);
        let told = manager.told().await;
        assert_eq!(told[0], "RELOADING=1");
        let at = told[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse::<i64>().unwrap();
        assert!((before..=microseconds_since_boot()).contains(&at), "the time of now: {told:?}");
        let told = manager.told().await;
        assert_eq!(told[0], "READY=1", "it serves, with the new configuration or the old");
        assert!(told[1].starts_with(&format!("STATUS=the configuration {outcome}")), "{told:?}");
    }

    signal(&child, Signal::TERM);
    assert_eq!(manager.told().await[0], "STOPPING=1");
    assert!(in_time("the end", child.wait()).await.unwrap().success());
    assert!(manager.heard_all());
}

#[tokio::test]
async fn a_node_that_cannot_listen_is_never_ready() {
    let (origin, folder) = (Origin::start().await, Folder::new());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    folder.write(&origin, "", "");
    let text = std::fs::read_to_string(folder.file()).unwrap();
    let at = taken.local_addr().unwrap().to_string();
    // The last of its doors.
    let doors = text.replace("[admin]\nlisten = \"127.0.0.1:0\"", &format!("[admin]\nlisten = \"{at}\""));
    assert_ne!(doors, text);
    std::fs::write(folder.file(), doors).unwrap();
    let socket = folder.path("notify");
    let manager = Manager(UnixDatagram::bind(&socket).unwrap());
    let mut child = start(&folder, socket.as_os_str(), None);
    assert_eq!(in_time("the end", child.wait()).await.unwrap().code(), Some(1));
    assert!(manager.heard_all());
}

#[tokio::test]
async fn the_watchdog_is_told_as_often_as_it_asks() {
    let (origin, folder) = (Origin::start().await, Folder::new());
    folder.write(&origin, "", "");
    // An abstract socket, named like this folder, which no other test has.
    let name = folder.path("").file_name().unwrap().to_str().unwrap().to_owned();
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let socket = std::os::unix::net::UnixDatagram::bind_addr(&address).unwrap();
    socket.set_nonblocking(true).unwrap();
    let manager = Manager(UnixDatagram::from_std(socket).unwrap());
    let started = std::time::Duration::from_micros(microseconds_since_boot().unsigned_abs());
    let _child = start(&folder, OsStr::new(&format!("@{name}")), Some("100000"));
    assert_eq!(manager.told().await[0], "READY=1");
    for _ in 0..3 {
        assert_eq!(manager.told().await, ["WATCHDOG=1"]);
    }
    let now = std::time::Duration::from_micros(microseconds_since_boot().unsigned_abs());
    assert!(now - started >= std::time::Duration::from_millis(150), "no more often than twice in its time");
}

#[tokio::test]
async fn a_file_that_is_swapped_beneath_its_link_is_taken_up_by_itself() {
    let (origin, folder) = (Origin::start().await, Folder::new());
    origin.says("/x", reply(200, &[FRESH], "body"));
    // As the files of a ConfigMap: a link to a file beneath a link to the folder of this version.
    let version = |name: &str, node: &str, more: &str| {
        folder.write(&origin, node, more);
        std::fs::create_dir(folder.path(name)).unwrap();
        std::fs::rename(folder.file(), folder.path(name).join("shoal.toml")).unwrap();
    };
    let swap = |name: &str| {
        symlink(name, folder.path("..tmp")).unwrap();
        std::fs::rename(folder.path("..tmp"), folder.path("..data")).unwrap();
    };
    version("1", "watch_config = true\n", "");
    version("2", "watch_config = true\n", "[[site.rules]]\npath = \"/x\"\npass = true\n");
    version("3", "watch_config = true\nnmae = 1\n", "");
    version("4", "watch_config = true\n", "");
    swap("1");
    symlink("..data/shoal.toml", folder.file()).unwrap();
    let process = Process::run(&["--config", &folder.file()]).await;
    let mut client = Client::connect(process.door("http")).await;
    client.get("/x").await.assert_is(200, "body");
    client.get("/x").await.assert_hit();

    swap("2");
    in_time("the new rule", async {
        while !client.get("/x").await.cache_status().contains("fwd=bypass") {
            client = Client::connect(process.door("http")).await;
        }
    })
    .await;
    assert_eq!(metric(&process, "shoal_config_reloads_total{result=\"success\"}").await, 2.0);

    swap("3");
    let failures = "shoal_config_reloads_total{result=\"failure\"}";
    in_time("the failure", async { while metric(&process, failures).await == 0.0 {} }).await;
    assert!(client.get("/x").await.cache_status().contains("fwd=bypass"), "the old rule stays");

    swap("4");
    in_time("the mended file", async {
        while metric(&process, "shoal_config_last_reload_successful").await == 0.0 {}
    })
    .await;
    assert_eq!(metric(&process, failures).await, 1.0, "a wrong file is tried once, until it changes");
    get(&process, "http", "/x").await.assert_hit();
}
