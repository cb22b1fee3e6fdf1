//! The demo's processes: started, heard until they are ready, and ended whatever happens.
//!
//! A process says `listening <what> <address>` for each socket, then `ready`, on its standard
//! output. It runs in a process group of its own, so that Ctrl-C reaches the demo alone, which ends
//! the processes in order.

use crate::task::Spawner;
use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// How long a process may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(15);

/// How long a process may take to end before it is killed.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Lines of standard error that are kept to explain a failure.
const COMPLAINTS_MAX: usize = 64;

/// How long a failed process's last words are waited for.
const COMPLETE_LIMIT: Duration = Duration::from_millis(500);

/// Bytes of one line; the rest is read as further lines.
const LINE_BYTES_MAX: u64 = 4096;

/// Lines before `ready`.
const LINES_MAX: usize = 64;

/// All processes, in the order of their start.
pub(super) struct Children {
    program: PathBuf,
    spawner: Spawner,
    list: Vec<Running>,
}

struct Running {
    name: String,
    child: Child,
    complaints: Complaints,
}

/// The last lines of a process's standard error.
#[derive(Clone, Default)]
struct Complaints {
    lines: Arc<Mutex<VecDeque<String>>>,
    /// Cancelled when standard error is closed, and so the lines are complete.
    complete: CancellationToken,
}

/// Where a process said that it listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Announced(Vec<(String, SocketAddr)>);

impl Announced {
    /// The address of this socket.
    pub(super) fn at(&self, what: &str) -> Option<SocketAddr> {
        self.0.iter().find(|(name, _)| name == what).map(|(_, addr)| *addr)
    }

    /// The address of the HTTP socket.
    ///
    /// # Errors
    /// If none was announced.
    pub(super) fn http(&self) -> anyhow::Result<SocketAddr> {
        self.at("http").context("a process announced no http address")
    }
}

impl Children {
    /// Children that run `program`; their outputs are read by tasks of `spawner`.
    pub(super) const fn new(program: PathBuf, spawner: Spawner) -> Self {
        Self { program, spawner, list: Vec::new() }
    }

    /// Starts a process and waits until it is ready. When this is dropped, the process still ends
    /// with the others.
    ///
    /// # Errors
    /// If it cannot be started, ends, or is not ready in time; with what it said last.
    pub(super) async fn start(
        &mut self,
        name: &str,
        arguments: &[impl AsRef<OsStr>],
    ) -> anyhow::Result<Announced> {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start the {name}"))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let complaints = Complaints::default();
        self.list.push(Running { name: name.to_owned(), child, complaints: complaints.clone() });
        if let Some(stderr) = stderr {
            self.spawner.spawn(keep_last(stderr, complaints.clone()));
        }
        let mut lines = BufReader::new(stdout.context("standard output is piped")?);
        let ready = tokio::time::timeout(READY_LIMIT, read_until_ready(&mut lines)).await;
        match ready {
            Ok(Ok(announced)) => {
                // Read on, lest the process blocks on a full pipe.
                self.spawner.spawn(async move { while let Ok(Some(_)) = next_line(&mut lines).await {} });
                Ok(announced)
            }
            Ok(Err(error)) => Err(error.context(complaints.quoted(&format!("the {name} failed")).await)),
            Err(_) => bail!(complaints.quoted(&format!("the {name} was not ready in time")).await),
        }
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    /// If it cannot be started, fails, or takes too long; with what it said.
    pub(super) async fn run(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let what = format!("`shoal {}`", arguments.join(" "));
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let output = tokio::time::timeout(READY_LIMIT, command.kill_on_drop(true).output()).await;
        let output = output.with_context(|| format!("{what} takes too long"))?;
        let output = output.with_context(|| format!("cannot start {what}"))?;
        if !output.status.success() {
            bail!("{what} failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(())
    }

    /// Waits until any process ends by itself, and says which; safe to drop.
    pub(super) async fn first_end(&mut self) -> String {
        if self.list.is_empty() {
            return std::future::pending().await;
        }
        let ends = self.list.iter_mut().map(|running| Box::pin(running.end()));
        let (end, ..) = futures_util::future::select_all(ends).await;
        end
    }

    /// Ends all processes, the last started first: TERM, and KILL when that does not help.
    pub(super) async fn end(&mut self) {
        while let Some(mut running) = self.list.pop() {
            running.terminate().await;
        }
    }
}

impl Complaints {
    /// `what` and the lines, once they are complete or the process keeps silent.
    async fn quoted(&self, what: &str) -> String {
        drop(tokio::time::timeout(COMPLETE_LIMIT, self.complete.cancelled()).await);
        let lines: String = self.lines.lock().iter().map(|line| format!("\n  {line}")).collect();
        format!("{what}{lines}")
    }
}

impl Running {
    async fn end(&mut self) -> String {
        let how = self.child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
        self.complaints.quoted(&format!("the {} ended by itself ({how})", self.name)).await
    }

    async fn terminate(&mut self) -> Option<ExitStatus> {
        // A process that was waited for has no id any more, so that no other is ever meant.
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()))?;
        if kill_process(pid, Signal::TERM).is_ok()
            && let Ok(ended) = tokio::time::timeout(END_LIMIT, self.child.wait()).await
        {
            return ended.ok();
        }
        drop(self.child.kill().await);
        self.child.wait().await.ok()
    }
}

/// What one line of a process says.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Listening(String, SocketAddr),
    Ready,
    Other,
}

fn parse(line: &str) -> Line {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["ready"] => Line::Ready,
        ["listening", what, addr] => {
            addr.parse().map_or(Line::Other, |addr| Line::Listening(what.to_owned(), addr))
        }
        _ => Line::Other,
    }
}

async fn read_until_ready(lines: &mut (impl AsyncBufReadExt + Unpin)) -> anyhow::Result<Announced> {
    let mut announced = Announced::default();
    for _ in 0..LINES_MAX {
        let line = next_line(lines).await?.context("it ended before it was ready")?;
        match parse(&line) {
            Line::Listening(what, addr) => announced.0.push((what, addr)),
            Line::Ready => return Ok(announced),
            Line::Other => {}
        }
    }
    bail!("it said too much before it was ready")
}

async fn next_line(lines: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    let count = lines.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
    Ok((count > 0).then(|| String::from_utf8_lossy(&line).trim_end().to_owned()))
}

async fn keep_last(stderr: impl AsyncRead + Unpin, complaints: Complaints) {
    let _complete = complaints.complete.drop_guard();
    let mut lines = BufReader::new(stderr);
    while let Ok(Some(line)) = next_line(&mut lines).await {
        let mut kept = complaints.lines.lock();
        if kept.len() == COMPLAINTS_MAX {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDR: &str = "127.0.0.1:8080";

    #[test]
    fn lines_are_understood_or_passed_over() {
        let addr: SocketAddr = ADDR.parse().unwrap();
        assert_eq!(parse("listening http 127.0.0.1:8080"), Line::Listening("http".into(), addr));
        assert_eq!(parse("ready"), Line::Ready);
        for other in [
            "",
            "listening",
            "listening http",
            "listening http localhost",
            "ready now",
            "listening http 1:1 x",
        ] {
            assert_eq!(parse(other), Line::Other, "{other}");
        }
    }

    fn shell() -> Children {
        Children::new("/bin/sh".into(), Spawner::current())
    }

    /// Says it is ready, then waits for a signal.
    const STAYS: &str = "echo listening http 127.0.0.1:8080; echo noise; echo listening metrics 127.0.0.1:1; \
                         echo ready; exec sleep 1000";

    #[tokio::test]
    async fn a_process_announces_its_sockets_and_is_ended() {
        let mut children = shell();
        let announced = children.start("edge", &["-c", STAYS]).await.unwrap();
        assert_eq!(announced.http().unwrap(), ADDR.parse().unwrap());
        assert!(announced.at("metrics").is_some() && announced.at("admin").is_none());
        let status = children.list[0].terminate().await.unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::TERM.as_raw()));
        // It was waited for, so there is nothing left to end.
        assert!(children.list[0].terminate().await.is_none());
    }

    #[tokio::test]
    async fn a_process_that_will_not_end_is_killed() {
        let mut children = shell();
        // What a process ignores, the program that replaces it ignores, too.
        let deaf = "trap '' TERM; echo listening http 127.0.0.1:8080; echo ready; exec sleep 1000";
        children.start("edge", &["-c", deaf]).await.unwrap();
        tokio::time::pause();
        let status = children.list[0].terminate().await.unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::KILL.as_raw()));
    }

    #[tokio::test]
    async fn a_process_that_fails_is_quoted() {
        let mut children = shell();
        let error = children.start("edge", &["-c", "echo no such flag >&2; exit 2"]).await.unwrap_err();
        assert!(format!("{error:#}").contains("no such flag"), "{error:#}");
    }

    #[tokio::test]
    async fn a_process_that_ends_by_itself_is_noticed() {
        let mut children = shell();
        children.start("origin", &["-c", STAYS]).await.unwrap();
        let short = "echo listening http 127.0.0.1:8080; echo ready; exit 3";
        children.start("edge", &["-c", short]).await.unwrap();
        let end = children.first_end().await;
        assert!(end.contains("edge") && end.contains('3'), "{end}");
        children.end().await;
        assert!(children.list.is_empty());
    }
}
