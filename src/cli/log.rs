//! `shoal log`: requests as a node answers them.

use super::admin::{AdminArgs, Lines};
use super::plain::plain;
use super::print;
use bytesize::ByteSize;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// What the help ends with.
pub(super) const EXAMPLES: &str = "\
Filter: terms that must all hold, each a field, an operator and values of which one must hold.
  =  !=          site host method path target detail node id object verdict status client termination
  > >= < <= too  status duration ttfb bytes attempts
  `*` stands for any text, 5xx for a class of status; a value with a space or comma goes in \"quotes\".
  `path` is without the query, `target` with it; `node` is the edge or the origin server that was asked.

Examples:
  shoal log
  shoal log status=5xx,404 'path=/img/*'
  shoal log verdict=origin,pass 'duration>=250ms' --for 10s
  shoal log client=10.0.0.0/8 method!=GET --count 20 --json | jq .user_agent

It costs a request nothing while nobody reads; the node keeps at most 8192 lines or 4 MiB for a reader that is too slow, and
says how many it lost. At most 4 read or watch at a time.";

/// Arguments of `log`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which requests, such as `status=5xx`; all of them if none is said.
    #[arg(value_name = "TERM")]
    filter: Vec<String>,
    #[command(flatten)]
    node: AdminArgs,
    /// Print the records as JSON, one a line.
    #[arg(long)]
    json: bool,
    /// End after so many requests.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after this time, such as 10s.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
}

/// Reads and prints until it is enough.
pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let filter = args.filter.join(" ");
        let target = format!("/log?filter={}", utf8_percent_encode(&filter, NON_ALPHANUMERIC));
        let lines = args.node.lines(target).await?;
        tokio::select! {
            biased;
            _asked = interrupt.recv() => Ok(ExitCode::SUCCESS),
            _asked = terminate.recv() => Ok(ExitCode::SUCCESS),
            () = tokio::time::sleep(args.time.unwrap_or_default()), if args.time.is_some() => Ok(ExitCode::SUCCESS),
            told = tell(args, lines) => told,
        }
    })
}

async fn tell(args: &Args, mut lines: Lines) -> anyhow::Result<ExitCode> {
    let mut left = args.count;
    while left != Some(0) {
        let Some(line) = lines.next().await? else {
            eprintln!("shoal: the node has ended the log");
            return Ok(ExitCode::FAILURE);
        };
        let record: Value = serde_json::from_slice(&line)?;
        let dropped = record["dropped"].as_u64();
        let shown = match dropped {
            _ if args.json => plain(&String::from_utf8_lossy(&line)).into_owned(),
            Some(dropped) => {
                format!("... {dropped} requests are not shown: they came faster than they were read")
            }
            None => text(&record),
        };
        if !print(&shown)? {
            break;
        }
        if dropped.is_none() {
            left = left.map(|left| left - 1);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A record for a reader.
fn text(record: &Value) -> String {
    let word = |name: &str| record[name].as_str().unwrap_or("-");
    let number =
        |name: &str| record[name].as_u64().map_or_else(|| "-".to_owned(), |number| number.to_string());
    let time = word("ts").get(11..23).unwrap_or("-");
    let millis =
        record["duration"].as_f64().map_or_else(|| "-".to_owned(), |secs| format!("{:.1} ms", secs * 1e3));
    let mut line = format!(
        "{time} {verdict:<13} {status:>3} {bytes:>9} {millis:>10} {client} {method} {host}{target}",
        verdict = word("verdict"),
        status = number("status"),
        bytes = ByteSize(record["bytes_out"].as_u64().unwrap_or(0)).to_string(),
        client = word("client_ip"),
        method = word("method"),
        host = word("host"),
        target = word("target"),
    );
    for (name, what) in [("detail", ""), ("peer", "from "), ("upstream", "from ")] {
        if let Some(value) = record[name].as_str() {
            line.push_str(&format!(" [{what}{value}]"));
        }
    }
    if record["termination"] != "complete" {
        line.push_str(&format!(" [{}]", word("termination")));
    }
    plain(&line).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_is_a_line_that_a_terminal_may_show() {
        let record = json!({
            "ts": "2026-11-22T15:16:31.234Z", "verdict": "hit_memory", "status": 200, "bytes_out": 2048,
            "duration": 0.000_42, "client_ip": "192.0.2.1", "method": "GET", "host": "a.test",
            "target": "/\u{1b}]0;x\u{7}", "peer": "edge-2", "termination": "client_gone",
        });
        assert_eq!(
            text(&record),
            "15:16:31.234 hit_memory    200   2.0 KiB     0.4 ms 192.0.2.1 GET \
             a.test/\\u001b]0;x\\u0007 [from edge-2] [client_gone]"
        );
        assert_eq!(text(&json!({"ts": "ä"})).lines().count(), 1, "a record of another version");
    }
}
