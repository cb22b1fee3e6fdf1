//! `shoal explain URL`: asks the admin interface of a running node.

use super::admin::AdminArgs;
use super::plain::plain;
use super::{print_json, print_line};
use bytesize::ByteSize;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::process::ExitCode;

/// What the help ends with.
pub(super) const EXAMPLES: &str = "\
Examples:
  shoal explain http://example.com/logo.svg
  shoal explain http://example.com/logo.svg --local
  shoal explain http://example.com/logo.svg --json | jq .fleet.nodes

In a fleet each live edge is asked what it has of the object, for 500 ms; one that does not answer is named. Responses that
are personal are told to nobody.";

/// Columns of the table of nodes.
const COLUMNS: [&str; 7] = ["NODE", "ZONE", "STATE", "AGE", "TTL LEFT", "SIZE", "VARIES BY"];

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
    /// Ask this node only, not the fleet.
    #[arg(long)]
    local: bool,
}

/// Asks and prints.
pub fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let url = utf8_percent_encode(&args.url, NON_ALPHANUMERIC);
    let answer = args.node.get(format!("/explain?url={url}&fleet={}", !args.local))?;
    if args.json {
        print_json(&answer)?;
    } else {
        tell(&answer)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the answer for a reader.
fn tell(answer: &Value) -> anyhow::Result<()> {
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
    if answer["fleet"].is_object() {
        print_line(&fleet(&answer["fleet"]).join("\n"))?;
    }
    Ok(())
}

/// A value as others wrote it, without what a terminal obeys.
fn text(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    plain(&text).into_owned()
}

/// Who has it, a node a line, or several if it has several versions.
fn fleet(fleet: &Value) -> Vec<String> {
    let holders: Vec<String> = fleet["holders"].as_array().into_iter().flatten().map(text).collect();
    let known = if holders.is_empty() { text(&fleet["directory"]) } else { holders.join(", ") };
    let mut lines = vec![
        format!("  answers  {}", text(&fleet["next"])),
        format!("  fleet    the directory names: {known}; home edge {}", text(&fleet["home"])),
    ];
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    for node in fleet["nodes"].as_array().into_iter().flatten() {
        rows.extend(holder(node));
    }
    let widths: [usize; COLUMNS.len()] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        lines.push(format!("    {}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned());
    }
    if let Some(count) = fleet["not_asked"].as_u64().filter(|count| *count > 0) {
        lines.push(format!("    and {count} more edges, which were not asked"));
    }
    lines
}

/// The rows of a node.
fn holder(node: &Value) -> Vec<[String; COLUMNS.len()]> {
    let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let (name, zone, state) = (text(&node["node"]), or_none(text(&node["zone"])), text(&node["state"]));
    let none = || "-".to_owned();
    let versions = node["versions"].as_array().map_or(&[][..], Vec::as_slice);
    if versions.is_empty() {
        return vec![[name, zone, state, none(), none(), none(), none()]];
    }
    let row = |held: &Value| {
        let vary: Vec<String> = held["vary"].as_array().into_iter().flatten().map(text).collect();
        let size = held["length"].as_u64().map_or_else(none, |length| ByteSize(length).to_string());
        let seconds = |value: &Value| format!("{} s", text(value));
        let (age, ttl) = (seconds(&held["age"]), seconds(&held["ttl"]));
        [name.clone(), zone.clone(), state.clone(), age, ttl, size, or_none(vary.join(", "))]
    };
    versions.iter().map(row).collect()
}
