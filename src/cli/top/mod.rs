//! `shoal top`: what a node does, interval by interval.
//!
//! The node sends figures ([`figures`]), two of them make a [`report`], and that is drawn ([`view`]) or printed.

mod figures;
mod report;
mod view;

use super::admin::{AdminArgs, Lines};
use super::print;
use anyhow::Context;
use figures::{Change, Figures};
use report::Report;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// What the help ends with.
pub(super) const EXAMPLES: &str = "\
Examples:
  shoal top
  shoal top --interval 5s --admin 10.0.0.1:9090 --token-file /etc/shoal/token
  shoal top --json --count 1 | jq .all.hit_ratio

On a terminal it is drawn anew each interval, elsewhere printed. Rates are by the second, of the last interval. Objects are
counted while somebody watches and not at all otherwise; their rates are what is certain, so a rare one may show less.";

/// Size of a terminal that does not tell it, and width of what is printed elsewhere.
const SIZE: (usize, usize) = (120, 40);
/// Take over the screen, and give it back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the upper left corner; the rest of the line, and of the screen, away.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_REST: &str = "\x1b[J";

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    node: AdminArgs,
    /// Print each interval as a JSON object, one a line.
    #[arg(long)]
    json: bool,
    /// Time between two looks, from 250ms to 60s.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// End after so many intervals.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Hot objects that are told, at most 512.
    #[arg(long, value_name = "N", default_value_t = 20)]
    objects: usize,
}

/// Where reports go.
enum Out {
    Json,
    Text,
    Screen(Screen),
}

/// The terminal, taken over until this is dropped.
struct Screen;

/// Watches until it is enough.
pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let target = format!("/top?interval_ms={}&objects={}", args.interval.as_millis(), args.objects);
        let lines = args.node.lines(target).await?;
        let out = match (args.json, std::io::stdout().is_terminal()) {
            (true, _) => Out::Json,
            (false, false) => Out::Text,
            (false, true) => Out::Screen(Screen::enter()?),
        };
        tokio::select! {
            biased;
            _asked = interrupt.recv() => Ok(ExitCode::SUCCESS),
            _asked = terminate.recv() => Ok(ExitCode::SUCCESS),
            told = watch(lines, out, args.count) => told,
        }
    })
}

async fn watch(mut lines: Lines, out: Out, mut left: Option<u64>) -> anyhow::Result<ExitCode> {
    let mut before: Option<Figures> = None;
    while left != Some(0) {
        let Some(line) = lines.next().await? else {
            drop(out);
            eprintln!("shoal: the node has ended the answer");
            return Ok(ExitCode::FAILURE);
        };
        let now: Figures = serde_json::from_slice(&line).context("figures of the node")?;
        if let Some(before) = &before {
            if !out.tell(&Report::of(&Change::new(before, &now)))? {
                break;
            }
            left = left.map(|left| left - 1);
        }
        before = Some(now);
    }
    Ok(ExitCode::SUCCESS)
}

impl Out {
    /// Tells a report. Returns whether anybody still wants to know.
    fn tell(&self, report: &Report) -> anyhow::Result<bool> {
        match self {
            Self::Json => print(&super::plain::plain(&serde_json::to_string(report)?)),
            Self::Text => print(&format!("{}\n", view::lines(report, (SIZE.0, usize::MAX)).join("\n"))),
            Self::Screen(screen) => screen.draw(&view::lines(report, size())).map(|()| true),
        }
    }
}

impl Screen {
    fn enter() -> anyhow::Result<Self> {
        write!(std::io::stdout(), "{ENTER}{HOME}{CLEAR_REST}one moment ...")?;
        std::io::stdout().flush()?;
        Ok(Self)
    }

    fn draw(&self, lines: &[String]) -> anyhow::Result<()> {
        // In one write, so that it does not flicker; no newline behind the last, which would scroll.
        let lines = lines.join(&format!("{CLEAR_LINE}\r\n"));
        let mut out = std::io::stdout().lock();
        write!(out, "{HOME}{lines}{CLEAR_LINE}{CLEAR_REST}")?;
        Ok(out.flush()?)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = write!(std::io::stdout(), "{LEAVE}");
        let _ = std::io::stdout().flush();
    }
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    let told = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let told = told.map(|size| (usize::from(size.ws_col), usize::from(size.ws_row)));
    told.filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or(SIZE)
}
