//! `shoal demo`: an origin, one edge or a fleet, and a workload on this machine, to be watched and browsed.
//!
//! [`children`] runs `shoal origin` and `shoal run` as processes and ends them; [`edges`] says what with; the replay's
//! engine asks the edges, a fleet with a flash [`crowd`] first; [`table`] shows it live; [`summary`] has the figures.
//! Everything written is in one temporary folder, removed at the end. Nothing here is part of a node: what the edges
//! did is read from their answers and metrics, and what reached the origin from the origin's own counts.

mod children;
mod counts;
mod crowd;
mod edges;
mod folder;
mod summary;
mod table;

use super::origin::Counts;
use super::replay::engine::{Engine, Load, Verify};
use super::replay::report::Report;
use super::replay::runtime;
use super::replay::targets::Target;
use crate::clock::Clock;
use crate::task::Spawner;
use crate::workload::{Trace, generate};
use anyhow::Context as _;
use children::Children;
use counts::Metrics;
use edges::Edge;
use folder::Folder;
use http::HeaderValue;
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

/// What the origin of a fleet sends in a second, so that a flash crowd lasts long enough for all to come while the
/// first fetch is in progress.
const ORIGIN_RATE: &str = "67108864";

/// The site of a fleet, since what its edges share has one name at all of them.
const FLEET_HOST: &str = "demo.example";

/// Edges at most: each is a process.
const EDGES_MAX: u16 = 32;

/// Shows edges at work: starts an origin and one edge or several before it, and asks them for a site's traffic.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How long to ask, such as 15s or 2m.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Edges; several are a fleet that fetches from one another, and are asked by a flash crowd first.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(EDGES_MAX)))]
    pub edges: u16,
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
        let count = usize::from(args.edges);
        let Some(started) = self.ending.unless(start(&mut self.children, folder, count)).await else {
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

    /// Asks a fleet for one object at once, then all edges for `duration`, or until the demo is to end.
    async fn ask(&mut self, duration: Duration, trace: Arc<Trace>, place: &Place) -> anyhow::Result<Summary> {
        let targets = place.targets().await?;
        let mix = Load {
            trace,
            targets: targets.clone(),
            concurrency: CONCURRENCY,
            requests: None,
            verify: Verify::All,
        };
        let table = Table::new(duration);
        if !place.is_fleet() {
            let report = self.play(mix, duration, table, place).await?;
            return Ok(Summary::new(report, place.counts().await?));
        }
        let mut report = self.play(crowd::load(targets)?, duration, table, place).await?;
        eprintln!("flash crowd  {} clients, {:.1} s", report.requests, report.seconds);
        if !self.ending.came {
            let table = Table::new(duration).after(&report);
            report = self.play(mix, duration, table, place).await?.after(&report);
        }
        Ok(Summary::of_fleet(report, place.counts().await?, &place.metrics().await?))
    }

    /// Asks as `load` says until it is done, `duration` is over, or the demo is to end.
    async fn play(
        &mut self,
        load: Load,
        duration: Duration,
        mut table: Table,
        place: &Place,
    ) -> anyhow::Result<Report> {
        let engine = Engine::start(load, Clock::system(), &self.spawner);
        let mut tick = tokio::time::interval(TABLE_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        tick.reset();
        let over = tokio::time::sleep(duration);
        tokio::pin!(over);
        loop {
            tokio::select! {
                _ = tick.tick() => table.show(&engine, counts::of_origin(place.origin).await.ok()),
                () = &mut over => break,
                () = engine.finished() => break,
                () = self.ending.comes() => break,
                end = self.children.first_end() => anyhow::bail!(end),
            }
        }
        engine.stop();
        // Requests in flight end within their deadlines; who does not want to wait says so again.
        self.ending.unless(engine.finished()).await;
        Ok(Report::of(&engine))
    }

    async fn end(&mut self) {
        self.children.end().await;
        self.spawner.stop(TASKS_END_LIMIT).await;
    }
}

/// Where the processes listen.
struct Place {
    origin: SocketAddr,
    /// At least one.
    edges: Vec<Edge>,
}

impl Place {
    const fn is_fleet(&self) -> bool {
        self.edges.len() > 1
    }

    async fn targets(&self) -> anyhow::Result<Vec<Target>> {
        let mut targets = Vec::with_capacity(self.edges.len());
        for edge in &self.edges {
            let target = Target::resolve(&format!("http://{}", edge.http)).await?;
            let host = HeaderValue::from_static(FLEET_HOST);
            targets.push(if self.is_fleet() { target.called(host) } else { target });
        }
        Ok(targets)
    }

    /// What the origin was asked for.
    async fn counts(&self) -> anyhow::Result<Counts> {
        counts::of_origin(self.origin).await.context("the origin does not tell its counts")
    }

    /// The metrics of all edges.
    async fn metrics(&self) -> anyhow::Result<Vec<Metrics>> {
        let mut all = Vec::with_capacity(self.edges.len());
        for at in self.edges.iter().filter_map(|edge| edge.metrics) {
            all.push(counts::metrics(at).await.context("an edge does not tell its metrics")?);
        }
        Ok(all)
    }

    /// What to try while it is up.
    fn invitation(&self) -> String {
        let origin = self.origin;
        let tries = if self.is_fleet() { self.try_fleet() } else { self.try_edge() };
        format!("{tries}  curl -s http://{origin}/-/stats\nCtrl-C ends it and removes all it wrote.\n")
    }

    fn try_edge(&self) -> String {
        let (Edge { http: edge, metrics, .. }, origin) = (self.edges[0], self.origin);
        let metrics = metrics.map_or(String::new(), |at| format!("  curl -s http://{at}/metrics\n"));
        format!(
            "\nThe edge is up at http://{edge}/ (its origin at http://{origin}/). Try:\n  \
             curl -sI http://{edge}/\n  \
             curl -s -o /dev/null -D - 'http://{edge}/obj/hello?size=1000000'\n  \
             curl -s -o /dev/null -D - -r 0-99 http://{edge}/video.mp4\n{metrics}"
        )
    }

    fn try_fleet(&self) -> String {
        let mut text = format!("\nThe edges are up (their origin at http://{}/). Try:\n", self.origin);
        for Edge { http, .. } in &self.edges {
            text += &format!(
                "  curl -s -o /dev/null -D - -H 'Host: {FLEET_HOST}' 'http://{http}/obj/hello?size=1000000'\n"
            );
        }
        text.extend(self.edges[0].admin.map(|admin| format!("  shoal peers --admin {admin}\n")));
        text.extend(self.edges[0].metrics.map(|at| format!("  curl -s http://{at}/metrics\n")));
        text
    }
}

/// Starts the origin, then `count` edges before it.
async fn start(children: &mut Children, folder: &Path, count: usize) -> anyhow::Result<Place> {
    let mut arguments = vec!["origin", "--listen", "127.0.0.1:0", "--delay", ORIGIN_DELAY_MS];
    if count > 1 {
        arguments.extend(["--rate", ORIGIN_RATE]);
    }
    let origin = children.start("origin", &arguments).await?.http()?;
    let edges = edges::start(children, origin, folder, count).await?;
    edges::meet(&edges).await?;
    Ok(Place { origin, edges })
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
