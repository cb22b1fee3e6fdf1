//! `shoal purge`: removes content from the caches of the fleet, through the admin interface of one of its nodes.

use super::admin::{AdminArgs, Answer};
use super::{EXIT_USAGE, print_json, print_line};
use crate::clock::Clock;
use crate::proto::purge::SELECTORS_MAX;
use anyhow::{Context, bail};
use clap::ArgGroup;
use http::StatusCode;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Exit code if some live nodes have not applied it in time.
const EXIT_PARTIAL: u8 = 3;
/// Bytes of a line in a list.
const LINE_BYTES_MAX: u64 = 16 << 10;
/// Bytes of selectors in one call; a node takes a MiB.
const CALL_BYTES_MAX: usize = 700 << 10;
/// How often a call of a list is made again because the node says that there are too many.
const RETRIES_MAX: u32 = 100;
/// Longest pause before that.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A list that takes longer than this shows how far it is.
const QUIET: Duration = Duration::from_secs(1);

/// Arguments of `purge`.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("what").required(true).multiple(true)
    .args(["urls", "prefixes", "tags", "hosts", "sites", "all", "from_file", "list"])))]
pub(super) struct Args {
    /// URLs, with all their variants, such as `https://shop.example/logo.svg`.
    #[arg(value_name = "URL")]
    urls: Vec<String>,
    /// All URLs that begin so, such as `https://shop.example/blog/`.
    #[arg(long = "prefix", value_name = "URL")]
    prefixes: Vec<String>,
    /// All responses with this tag (`Surrogate-Key`, `xkey`, `Cache-Tag`, `Cache-Groups`); of all sites, or of `--of`.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// The site that tags are of.
    #[arg(long, value_name = "SITE", requires = "tags")]
    of: Option<String>,
    /// All of a host.
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// All of a site, by its name.
    #[arg(long = "site", value_name = "SITE")]
    sites: Vec<String>,
    /// Everything.
    #[arg(long)]
    all: bool,
    /// Do not ask before everything is purged.
    #[arg(long, short)]
    yes: bool,
    /// URLs from a file, one a line; `-` is standard input. Empty lines and those that begin with `#` are left out.
    #[arg(long, value_name = "F", conflicts_with_all = ["urls", "prefixes", "tags", "hosts", "sites", "all", "list"])]
    from_file: Option<PathBuf>,
    /// Make it stale instead of removing it: it may still be served while it is revalidated, or if the origin fails.
    #[arg(long)]
    soft: bool,
    /// How long nodes are waited for, at most 25s.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// Show the last purges that were asked of the node, and its purge log.
    #[arg(long, conflicts_with_all = ["urls", "prefixes", "tags", "hosts", "sites", "all"])]
    list: bool,
    /// Print the answer as JSON; of a list, one a line.
    #[arg(long)]
    json: bool,
    /// Print a line for each node.
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    node: AdminArgs,
}

/// Purges and tells what became of it.
pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    if args.list {
        return list(args);
    }
    if let Some(path) = &args.from_file {
        return from_file(args, path);
    }
    if args.all && !args.yes && !confirmed()? {
        eprintln!("shoal: nothing was purged: --all purges everything on all nodes; add --yes");
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    let mut call = call(args, &args.urls);
    let others =
        [("prefixes", &args.prefixes), ("tags", &args.tags), ("hosts", &args.hosts), ("sites", &args.sites)];
    for (key, selectors) in others {
        call[key] = json!(selectors);
    }
    call["all"] = json!(args.all);
    if let Some(site) = &args.of {
        call["site"] = json!(site);
    }
    let answer = purged(args.node.post("/purge".to_owned(), &call)?)?;
    if args.json {
        print_json(&answer)?;
    } else {
        told(&answer, &what(args), args.verbose).iter().try_for_each(|line| print_line(line))?;
    }
    Ok(exit(answer["complete"] == true))
}

fn exit(complete: bool) -> ExitCode {
    if complete { ExitCode::SUCCESS } else { ExitCode::from(EXIT_PARTIAL) }
}

fn call(args: &Args, urls: &[String]) -> Value {
    let wait = u64::try_from(args.wait.as_millis()).unwrap_or(u64::MAX);
    json!({ "urls": urls, "soft": args.soft, "wait_ms": wait })
}

fn purged(answer: Answer) -> anyhow::Result<Value> {
    match answer.status {
        StatusCode::OK | StatusCode::ACCEPTED => Ok(answer.value),
        _ => bail!("nothing was purged: {}", answer.problem()),
    }
}

/// Asks on a terminal; elsewhere there is nobody to ask.
fn confirmed() -> anyhow::Result<bool> {
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Ok(false);
    }
    eprint!("Purge everything on all nodes of the fleet? [y/N] ");
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().take(16).read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// What was purged, in words: `2 urls, 1 tag`.
fn what(args: &Args) -> String {
    let counts = [
        ("url", args.urls.len()),
        ("prefix", args.prefixes.len()),
        ("tag", args.tags.len()),
        ("host", args.hosts.len()),
        ("site", args.sites.len()),
    ];
    let some = counts.into_iter().filter(|(_, count)| *count > 0).map(|(noun, count)| counted(count, noun));
    some.chain(args.all.then(|| "everything".to_owned())).collect::<Vec<_>>().join(", ")
}

fn counted(count: usize, noun: &str) -> String {
    let plural = match (count, noun) {
        (1, _) => "",
        (_, "prefix") => "es",
        _ => "s",
    };
    format!("{count} {noun}{plural}")
}

/// The answer for a reader: a line, and one for each node if some have not applied it or `verbose`.
fn told(answer: &Value, what: &str, verbose: bool) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (applied, live) = (&answer["applied"], &answer["live"]);
    let done = if answer["mode"] == "soft" { "made stale" } else { "purged" };
    let id = text(&answer["id"]);
    let mut lines = vec![format!(
        "{done} {what} · id {id} · applied {applied}/{live} live in {}",
        millis(&answer["millis"])
    )];
    if verbose || answer["complete"] != true {
        for node in answer["nodes"].as_array().into_iter().flatten() {
            let became = if node["applied"] == true {
                format!("applied in {}", millis(&node["millis"]))
            } else {
                format!("NOT applied: {}", text(&node["why"]))
            };
            lines.push(format!("  {}  {became}", text(&node["name"])));
        }
    }
    lines
}

fn millis(value: &Value) -> String {
    match value.as_f64() {
        Some(millis) if millis < 10.0 => format!("{millis:.1} ms"),
        Some(millis) => format!("{millis:.0} ms"),
        None => "-".to_owned(),
    }
}

/// Purges the URLs of a list, so many in each call.
fn from_file(args: &Args, path: &Path) -> anyhow::Result<ExitCode> {
    let is_stdin = path.as_os_str() == "-";
    let (input, bytes): (Box<dyn Read>, Option<u64>) = if is_stdin {
        (Box::new(std::io::stdin()), None)
    } else {
        let file = File::open(path).with_context(|| format!("{}", path.display()))?;
        let length = file.metadata().ok().filter(|file| file.is_file()).map(|file| file.len());
        (Box::new(file), length)
    };
    let mut list = List { input: BufReader::new(input), line: 0, read: 0, ahead: None };
    let mut progress = Progress { bar: None, begun: Clock::system().mono(), bytes };
    let (mut urls, mut complete, mut nodes) = (0, true, Value::Null);
    loop {
        let batch =
            list.batch().with_context(|| format!("{} URLs of {} were purged", urls, path.display()))?;
        if batch.is_empty() {
            break;
        }
        let answer = patiently(args, &batch).with_context(|| format!("{urls} URLs were purged, and then"))?;
        urls += batch.len();
        if args.json {
            print_line(&answer.to_string())?;
        }
        if answer["complete"] != true {
            complete = false;
            nodes = answer;
        }
        progress.at(urls, list.read);
    }
    progress.end();
    if !args.json {
        let done = if args.soft { "made stale" } else { "purged" };
        let time = humantime::format_duration(Duration::from_millis(progress.elapsed().as_millis() as u64));
        print_line(&format!("{done} {} in {time}", counted(urls, "url")))?;
        if !complete {
            told(&nodes, "the last that is not everywhere", true)
                .iter()
                .try_for_each(|line| print_line(line))?;
        }
    }
    Ok(exit(complete))
}

/// One call, made again while the node says that there are too many.
fn patiently(args: &Args, urls: &[String]) -> anyhow::Result<Value> {
    for _ in 0..RETRIES_MAX {
        let answer = args.node.post("/purge".to_owned(), &call(args, urls))?;
        match answer.retry_after {
            Some(pause) if answer.status == StatusCode::TOO_MANY_REQUESTS => {
                std::thread::sleep(pause.min(PAUSE_MAX));
            }
            _ => return purged(answer),
        }
    }
    bail!("the node still says that there are too many purges")
}

/// A list of URLs, one a line.
struct List<R> {
    input: R,
    /// Lines read.
    line: usize,
    /// Bytes read.
    read: u64,
    /// A URL that had no place in the last batch.
    ahead: Option<String>,
}

impl<R: BufRead> List<R> {
    /// The URLs of the next call; none at the end.
    fn batch(&mut self) -> anyhow::Result<Vec<String>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < SELECTORS_MAX {
            let Some(url) = self.ahead.take().map_or_else(|| self.next(), |url| Ok(Some(url)))? else {
                break;
            };
            bytes += url.len();
            if bytes > CALL_BYTES_MAX && !batch.is_empty() {
                self.ahead = Some(url);
                break;
            }
            batch.push(url);
        }
        Ok(batch)
    }

    fn next(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            let mut line = Vec::new();
            let length = self.input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? as u64;
            if length == 0 {
                return Ok(None);
            }
            self.line += 1;
            self.read += length;
            if length == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
                bail!("line {} is longer than {LINE_BYTES_MAX} bytes", self.line);
            }
            let text = String::from_utf8(line).with_context(|| format!("line {}", self.line))?;
            let url = text.trim();
            if !url.is_empty() && !url.starts_with('#') {
                return Ok(Some(url.to_owned()));
            }
        }
    }
}

/// Shows on a terminal how far a list is, if it takes a while.
struct Progress {
    bar: Option<ProgressBar>,
    begun: Instant,
    /// Length of the list, if known.
    bytes: Option<u64>,
}

impl Progress {
    fn elapsed(&self) -> Duration {
        Clock::system().mono().saturating_duration_since(self.begun)
    }

    fn at(&mut self, urls: usize, read: u64) {
        if self.bar.is_none() && self.elapsed() > QUIET {
            let bar = self.bytes.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            let shape =
                if self.bytes.is_some() { "{bar:40} {percent}% {msg} {eta} left" } else { "{spinner} {msg}" };
            bar.set_style(
                ProgressStyle::with_template(shape).unwrap_or_else(|_wrong| ProgressStyle::default_bar()),
            );
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(read);
            bar.set_message(format!("{} purged", counted(urls, "url")));
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn list(args: &Args) -> anyhow::Result<ExitCode> {
    let answer = args.node.get("/purges".to_owned())?;
    if args.json {
        print_json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let log = &answer["log"];
    let sync = if log["in_sync"] == true { "in sync" } else { "NOT in sync" };
    print_line(&format!(
        "log: {} of {} targets, position {}, {} issuers, {sync}",
        log["entries"], log["entries_max"], log["position"], log["issuers"]
    ))?;
    for past in answer["purges"].as_array().into_iter().flatten() {
        print_line(&row(past))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A purge of the past, as a line.
fn row(past: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let at = past["at_ms"].as_u64().map(|at| std::time::UNIX_EPOCH + Duration::from_millis(at));
    let at = at.map_or_else(|| "-".to_owned(), |at| humantime::format_rfc3339_millis(at).to_string());
    let first: Vec<String> = past["first"].as_array().into_iter().flatten().map(text).collect();
    let more = past["selectors"].as_u64().unwrap_or(0).saturating_sub(first.len() as u64);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let by = &past["by"];
    format!(
        "{at}  {}  {} {}{more}  by {} from {}  applied {}/{} in {}",
        text(&past["id"]),
        text(&past["mode"]),
        first.join(", "),
        text(&by["way"]),
        text(&by["from"]),
        past["applied"],
        past["live"],
        millis(&past["millis"])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_a_line_and_one_for_each_node_if_one_missed() {
        let node = |name: &str, applied: bool| json!({"name": name, "applied": applied, "millis": 3.25, "why": "silent"});
        let mut answer = json!({"id": "3f-7", "mode": "hard", "selectors": 1, "applied": 2, "live": 2, "complete": true,
            "millis": 12.4, "nodes": [node("a", true), node("b", true)]});
        assert_eq!(told(&answer, "1 url", false), ["purged 1 url · id 3f-7 · applied 2/2 live in 12 ms"]);
        assert_eq!(told(&answer, "1 url", true)[1..], ["  a  applied in 3.2 ms", "  b  applied in 3.2 ms"]);
        answer["complete"] = json!(false);
        answer["nodes"][1] = node("b", false);
        assert_eq!(told(&answer, "1 url", false)[2], "  b  NOT applied: silent");
    }

    #[test]
    fn a_list_is_cut_into_calls_by_number_and_by_bytes() {
        let list = |text: String| List { input: std::io::Cursor::new(text), line: 0, read: 0, ahead: None };
        let mut short = list(format!("# of today\n\n{}", "a.example/x\r\n".repeat(2500)));
        let sizes: Vec<_> = (0..4).map(|_| short.batch().expect("read").len()).collect();
        assert_eq!(sizes, [1000, 1000, 500, 0]);
        let mut long = list(format!("a.example/{}\n", "x".repeat(10_000)).repeat(200));
        let mut total = 0;
        while let batch @ [_, ..] = &long.batch().expect("read")[..] {
            assert!(batch.iter().map(String::len).sum::<usize>() <= CALL_BYTES_MAX);
            total += batch.len();
        }
        assert_eq!(total, 200);
        let error = list(format!("a\n{}", "x".repeat(20_000))).batch().expect_err("too long");
        assert_eq!(error.to_string(), "line 2 is longer than 16384 bytes");
    }
}
