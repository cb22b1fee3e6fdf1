//! The program itself, as an operator starts it.

use super::in_time;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A running `shoal run`. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    doors: HashMap<String, SocketAddr>,
}

impl Process {
    /// Starts it and waits until it says that it is ready.
    pub(crate) async fn run(arguments: &[&str]) -> Self {
        Self::start(arguments, |_| ()).await
    }

    /// As [`run`](Self::run), with its diagnostic log in a file.
    pub(crate) async fn run_logged(arguments: &[&str], log: &Path) -> Self {
        let log = File::create(log).expect("a file for the log");
        Self::start(arguments, |command| {
            command.stderr(log);
        })
        .await
    }

    /// As [`run`](Self::run); `more` sets what else the process stands on.
    pub(crate) async fn start(arguments: &[&str], more: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shoal"));
        command
            .arg("run")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        more(&mut command);
        let mut child = command.spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut doors = HashMap::new();
        loop {
            let line = in_time("the program to be ready", lines.next_line()).await.unwrap();
            let line = line.expect("the program runs");
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["ready"] => return Self { child, doors },
                ["listening", what, at] => doors.insert(what.to_owned(), at.parse().expect("an address")),
                _ => panic!("unexpected line {line:?}"),
            };
        }
    }

    /// Whether it listens for this.
    pub(crate) fn listens(&self, what: &str) -> bool {
        self.doors.contains_key(what)
    }

    /// Where it listens for `http`, `https`, `peer`, `metrics` or `admin`.
    pub(crate) fn door(&self, what: &str) -> SocketAddr {
        self.doors[what]
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        kill_process(pid.expect("it runs"), signal).expect("a signal to a child");
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        in_time("the program's end", self.child.wait()).await.expect("a child")
    }
}
