//! `shoal replay`: asks one or several proxies for what a trace asked for, and checks the answers.
//!
//! [`engine`] runs workers, each with a [`client`] of its own; [`targets`] says who is asked;
//! [`verdict`] reads what the proxy says it did; [`tally`] keeps what came of it. The demo drives
//! the same engine. Nothing here is part of a node: it sees a proxy as any client does.

pub(crate) mod client;
pub(crate) mod engine;
pub(crate) mod report;
pub(crate) mod tally;
pub(crate) mod targets;
pub(crate) mod verdict;

use crate::clock::Clock;
use crate::task::Spawner;
use crate::workload::{Trace, generate};
use anyhow::Context as _;
use engine::{CONCURRENCY_MAX, Engine, Load, Verify};
use http::HeaderValue;
use indicatif::{ProgressBar, ProgressStyle};
use report::Report;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use targets::Target;

/// How often the progress bar moves.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Replays `time id size` lines as requests for `/obj/<id>?size=<size>`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The trace, plain or .xz.
    #[arg(long, value_name = "FILE", required_unless_present = "generated")]
    pub trace: Option<PathBuf>,
    /// Instead of a trace: this many generated requests.
    #[arg(long, value_name = "N", conflicts_with = "trace")]
    pub generated: Option<usize>,
    /// Seed of the generated requests.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Who is asked, in turn: `http://host:port`, the port optional. Several by commas or repetition; one that refuses
    /// is left out until it accepts again, and what it was to be asked goes to the next.
    #[arg(long, value_name = "URL", value_delimiter = ',', required = true)]
    pub target: Vec<String>,
    /// What the `Host` field says to each target: nodes of a fleet share what they are asked for under one name.
    /// Default: the target's own host and port.
    #[arg(long, value_name = "HOST")]
    pub host: Option<HeaderValue>,
    /// Requests in flight at a time.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=CONCURRENCY_MAX as i64))]
    pub concurrency: u16,
    /// Stop after this many requests.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Check each byte of each body.
    #[arg(long)]
    pub verify: bool,
    /// End with one line of JSON.
    #[arg(long)]
    pub json: bool,
}

/// Replays and reports. Success means: no error and no mismatch; requests that were in flight when
/// a target died are reported, but are no failure. Ends early, with a report, on SIGINT.
///
/// # Errors
/// If the trace cannot be read or a target's name cannot be resolved.
pub fn main(args: Args) -> anyhow::Result<ExitCode> {
    let limit = args.limit.unwrap_or(usize::MAX);
    let trace = match &args.trace {
        Some(path) => Trace::read(path, limit).with_context(|| path.display().to_string())?,
        None => generate(args.seed, args.generated.unwrap_or(0).min(limit)),
    };
    runtime()?.block_on(replay(args, trace))
}

/// A runtime for half of the cores: the proxy under test often runs on the same machine.
pub(crate) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread().worker_threads(cores.div_ceil(2)).enable_all().build()
}

async fn replay(args: Args, trace: Trace) -> anyhow::Result<ExitCode> {
    let mut targets = Vec::new();
    for url in &args.target {
        let target = Target::resolve(url).await?;
        targets.push(match &args.host {
            Some(host) => target.called(host.clone()),
            None => target,
        });
    }
    let requests = trace.requests().len() as u64;
    let load = Load {
        trace: Arc::new(trace),
        targets,
        concurrency: usize::from(args.concurrency),
        requests: Some(requests),
        verify: if args.verify { Verify::All } else { Verify::Nobody },
    };
    let engine = Engine::start(load, Clock::system(), &Spawner::current());
    watch(&engine, requests).await;
    let report = Report::of(&engine);
    let mut out = io::stdout().lock();
    write!(out, "{report}")?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows progress until the replay is done; SIGINT ends it after the requests in flight, a second
/// one at once.
async fn watch(engine: &Engine, requests: u64) {
    let style = "{elapsed_precise} {wide_bar} {human_pos}/{human_len} {per_sec} eta {eta} {msg}";
    let bar = ProgressBar::new(requests)
        .with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut tick = tokio::time::interval(PROGRESS_EVERY);
    let mut interrupted = false;
    loop {
        tokio::select! {
            () = engine.finished() => break,
            _ = tick.tick() => engine.tally(|tally| {
                bar.set_position(tally.requests);
                if tally.failures() > 0 {
                    bar.set_message(format!("{} errors, {} mismatches", tally.errors(), tally.mismatches));
                }
            }),
            _ = tokio::signal::ctrl_c() => {
                if interrupted {
                    break;
                }
                interrupted = true;
                engine.stop();
            }
        }
    }
    bar.finish_and_clear();
}

#[cfg(test)]
mod tests;
