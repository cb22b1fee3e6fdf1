//! `shoal demo`: an origin, an edge and a workload on this machine, to be watched and browsed.
//!
//! [`children`] runs `shoal origin` and `shoal run` as processes and ends them; the replay's engine
//! asks the edge; [`table`] shows it live; [`summary`] has the figures. Everything written is in
//! one temporary folder, removed at the end. Nothing here is part of a node: what the edge did is
//! read from its answers, and what reached the origin from the origin's own counts.

mod children;
mod counts;
mod folder;
mod summary;
mod table;

use super::replay::engine::{Engine, Load};
use super::replay::report::Report;
use super::replay::runtime;
use super::replay::targets::Target;
use crate::clock::Clock;
use crate::task::Spawner;
use crate::workload::{Trace, generate};
use anyhow::Context as _;
use children::{Announced, Children};
use folder::Folder;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use summary::Summary;
use table::Table;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often the table is refreshed.
const TABLE_EVERY: Duration = Duration::from_secs(1);

/// How long tasks may take to end after the processes.
const TASKS_END_LIMIT: Duration = Duration::from_secs(1);

/// Requests in flight at a time.
const CONCURRENCY: usize = 32;

/// Requests of the generated workload, which starts over when it ends.
const REQUESTS: usize = generate::REQUESTS_FITTED;

/// The origin is as slow as a near one, so that the table shows what a hit is worth.
const ORIGIN_DELAY_MS: &str = "5";

/// Less than the workload, so that the disk has its part.
const CACHE_MEMORY: &str = "64MiB";
const CACHE_DISK: &str = "1GiB";

/// Shows an edge at work: starts an origin and an edge, and asks the edge for a site's traffic.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How long to ask, such as 15s or 2m.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Ask for what this trace asked for (`time id size` lines, plain or .xz).
    #[arg(long, value_name = "FILE", conflicts_with = "seed")]
    pub trace: Option<PathBuf>,
    /// The workload to generate when there is no trace.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// End after the workload, with one line of JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs the demo. Success means that each answer was right, byte for byte. Without `--json` it
/// stays up after the workload until SIGINT, SIGTERM or SIGHUP; with any of these it cleans up.
///
/// # Errors
/// If the trace cannot be read, a process does not start or ends by itself.
pub fn main(args: Args) -> anyhow::Result<ExitCode> {
    let trace = match &args.trace {
        Some(path) => Trace::read(path, usize::MAX).with_context(|| path.display().to_string())?,
        None => generate(args.seed, REQUESTS),
    };
    runtime()?.block_on(run(args, Arc::new(trace)))
}

async fn run(args: Args, trace: Arc<Trace>) -> anyhow::Result<ExitCode> {
    let folder = Folder::create(&std::env::temp_dir()).context("cannot make a temporary folder")?;
    let mut stage = Stage::new(std::env::current_exe()?)?;
    let result = stage.perform(&args, trace, folder.path()).await;
    stage.end().await;
    result
}

/// The processes and tasks of a demo, and what ends it.
struct Stage {
    spawner: Spawner,
    children: Children,
    ending: Ending,
}

impl Stage {
    /// Processes will run `program`.
    fn new(program: PathBuf) -> io::Result<Self> {
        let spawner = Spawner::current();
        let children = Children::new(program, spawner.clone());
        Ok(Self { spawner, children, ending: Ending::listen()? })
    }

    /// Everything between making the folder and ending the processes.
    async fn perform(&mut self, args: &Args, trace: Arc<Trace>, folder: &Path) -> anyhow::Result<ExitCode> {
        let Some(started) = self.ending.unless(start(&mut self.children, folder)).await else {
            return Ok(ExitCode::FAILURE);
        };
        let place = started?;
        let summary = self.ask(args.duration, trace, &place).await?;
        let mut out = io::stdout();
        write!(out, "{summary}")?;
        if args.json {
            writeln!(out, "{}", serde_json::to_string(&summary)?)?;
        } else if !self.ending.came {
            write!(out, "{}", place.invitation())?;
            if let Some(end) = self.ending.unless(self.children.first_end()).await {
                anyhow::bail!(end);
            }
        }
        Ok(if summary.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Asks the edge for `duration`, or until the demo is to end.
    async fn ask(&mut self, duration: Duration, trace: Arc<Trace>, place: &Place) -> anyhow::Result<Summary> {
        let targets = vec![Target::resolve(&format!("http://{}", place.edge)).await?];
        let load = Load { trace, targets, concurrency: CONCURRENCY, requests: None, verify: true };
        let engine = Engine::start(load, Clock::system(), &self.spawner);
        let mut table = Table::new(duration);
        let mut tick = tokio::time::interval(TABLE_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        tick.reset();
        let over = tokio::time::sleep(duration);
        tokio::pin!(over);
        loop {
            tokio::select! {
                _ = tick.tick() => table.show(&engine, counts::fetch(place.origin).await.ok()),
                () = &mut over => break,
                () = engine.finished() => break,
                () = self.ending.comes() => break,
                end = self.children.first_end() => anyhow::bail!(end),
            }
        }
        engine.stop();
        // Requests in flight end within their deadlines; who does not want to wait says so again.
        self.ending.unless(engine.finished()).await;
        let counts = counts::fetch(place.origin).await.context("the origin does not tell its counts")?;
        Ok(Summary::new(Report::of(&engine), counts))
    }

    async fn end(&mut self) {
        self.children.end().await;
        self.spawner.stop(TASKS_END_LIMIT).await;
    }
}

/// Where the processes listen.
struct Place {
    origin: SocketAddr,
    edge: SocketAddr,
    metrics: Option<SocketAddr>,
}

impl Place {
    /// What to try while it is up.
    fn invitation(&self) -> String {
        let (edge, origin) = (self.edge, self.origin);
        let metrics = self.metrics.map_or(String::new(), |at| format!("  curl -s http://{at}/metrics\n"));
        format!(
            "\nThe edge is up at http://{edge}/ (its origin at http://{origin}/). Try:\n  \
             curl -sI http://{edge}/\n  \
             curl -s -o /dev/null -D - 'http://{edge}/obj/hello?size=1000000'\n  \
             curl -s -o /dev/null -D - -r 0-99 http://{edge}/video.mp4\n  \
             curl -s http://{origin}/-/stats\n{metrics}Ctrl-C ends it and removes all it wrote.\n"
        )
    }
}

/// Starts the origin, then the edge before it.
async fn start(children: &mut Children, folder: &Path) -> anyhow::Result<Place> {
    let own = |name: &str| name.to_owned();
    let loopback = || own("127.0.0.1:0");
    let arguments = [own("origin"), own("--listen"), loopback(), own("--delay"), own(ORIGIN_DELAY_MS)];
    let origin = children.start("origin", &arguments).await?.http()?;
    let folder = folder.to_str().context("the temporary folder's path is not UTF-8")?;
    let flags = [
        ("--listen", loopback()),
        ("--origin", format!("http://{origin}")),
        ("--metrics", loopback()),
        ("--cache-memory", own(CACHE_MEMORY)),
        ("--cache-dir", own(folder)),
        ("--cache-disk", own(CACHE_DISK)),
        ("--access-log", own("off")),
    ];
    let mut arguments = vec![own("run")];
    arguments.extend(flags.into_iter().flat_map(|(name, value)| [own(name), value]));
    let edge: Announced = children.start("edge", &arguments).await?;
    Ok(Place { origin, edge: edge.http()?, metrics: edge.at("metrics") })
}

/// The signals that end the demo.
struct Ending {
    signals: [Signal; 3],
    came: bool,
}

impl Ending {
    fn listen() -> io::Result<Self> {
        let signals = [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ];
        Ok(Self { signals, came: false })
    }

    /// Waits for a signal; safe to drop.
    async fn comes(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        self.came = true;
    }

    /// The output of `future`, unless a signal comes before, which drops it.
    async fn unless<F: Future>(&mut self, future: F) -> Option<F::Output> {
        tokio::select! {
            output = future => Some(output),
            () = self.comes() => None,
        }
    }
}

#[cfg(test)]
mod tests;
