//! `shoal explain URL`: asks the admin interface of a running node.

use super::admin::AdminArgs;
use super::{print_json, print_line};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::process::ExitCode;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The URL to explain, such as `http://example.com/logo.svg`.
    url: String,
    #[command(flatten)]
    node: AdminArgs,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Asks and prints.
pub fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let answer =
        args.node.get(format!("/explain?url={}", utf8_percent_encode(&args.url, NON_ALPHANUMERIC)))?;
    if args.json {
        print_json(&answer)?;
    } else {
        tell(&answer)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the answer for a reader.
fn tell(answer: &Value) -> anyhow::Result<()> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    print_line(&text(&answer["url"]))?;
    print_line(&format!(
        "  next     {}: {}",
        text(&answer["next"]["verdict"]),
        text(&answer["next"]["why"])
    ))?;
    print_line(&format!("  site     {}  rule {}", text(&answer["site"]), text(&answer["rule"])))?;
    let key = &answer["key"];
    print_line(&format!(
        "  key      {} {}://{}{}",
        text(&key["site"]),
        text(&key["scheme"]),
        text(&key["host"]),
        text(&key["path"])
    ))?;
    print_line(&format!("  object   {}", text(&answer["object"])))?;
    for variant in answer["stored"].as_array().into_iter().flatten() {
        let records = &variant["records"];
        print_line(&format!(
            "  stored   {} bytes in {} record(s): {} in memory, {} on disk, {} being written",
            text(&variant["length"]),
            records[0],
            records[1],
            records[2],
            records[3]
        ))?;
        let fresh = &variant["freshness"];
        if fresh.is_object() {
            print_line(&format!(
                "           age {} = {} at reception + {} since; lifetime {} from {}; ttl {}",
                fresh["age"],
                fresh["initial_age"],
                fresh["resident"],
                fresh["lifetime"],
                text(&fresh["lifetime_from"]),
                fresh["ttl"]
            ))?;
        }
        let vary: Vec<String> = variant["vary"].as_array().into_iter().flatten().map(text).collect();
        if !vary.is_empty() {
            print_line(&format!("           varies by {}", vary.join(", ")))?;
        }
    }
    Ok(())
}
