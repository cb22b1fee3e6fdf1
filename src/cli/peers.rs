//! `shoal peers`: the fleet as one node sees it.

use super::admin::AdminArgs;
use super::{print_json, print_line};
use bytesize::ByteSize;
use serde_json::Value;
use std::process::ExitCode;

/// What stands where the node says nothing.
const NOTHING: &str = "-";

/// Columns of the table.
const COLUMNS: [&str; 11] =
    ["NODE", "ID", "ADDRESS", "ROLES", "ZONE", "STATE", "ROUND TRIP", "GIVEN", "TAKEN", "SESSION", "FAULTS"];

/// Arguments of `peers`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    node: AdminArgs,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Asks and prints.
pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let report = args.node.get("/peers".to_owned())?;
    if args.json {
        print_json(&report)?;
    } else {
        print_line(&told(&report))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The report for a reader. What it lacks, since the node is of another version, is left out.
fn told(report: &Value) -> String {
    if report.is_null() {
        return "this node is not part of a fleet: peer.listen is not set".to_owned();
    }
    let me = &report["me"];
    let mut lines = vec![format!(
        "{} ({}) at {}, {}, zone {}",
        text(&me["name"]),
        text(&me["id"]),
        text(&me["address"]),
        list(&me["roles"], " and "),
        text(&me["zone"])
    )];
    let lookups = &report["lookups"];
    for (what, figures) in
        [("directory", &report["directory"]), ("lookups", lookups), ("answers", &lookups["answers"])]
    {
        if figures.is_object() {
            lines.push(format!("{what:<10} {}", self::figures(figures)));
        }
    }
    if let Some(leases) = report["leases_open"].as_u64() {
        lines.push(format!("{:<10} {leases} open", "leases"));
    }
    let members = report["members"].as_array().map_or(&[][..], Vec::as_slice);
    if members.is_empty() {
        lines.push("no other node is known".to_owned());
    } else {
        lines.push(String::new());
        lines.extend(table(members, &report["superpeers"]));
    }
    lines.join("\n")
}

fn table(members: &[Value], superpeers: &Value) -> Vec<String> {
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(members.iter().map(|member| row(member, superpeers)));
    let mut widths = [0; COLUMNS.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; COLUMNS.len()]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn row(member: &Value, superpeers: &Value) -> [String; COLUMNS.len()] {
    [
        text(&member["name"]),
        text(&member["id"]),
        text(&member["address"]),
        list(&member["roles"], ","),
        text(&member["zone"]),
        text(&member["state"]),
        member["round_trip_ms"].as_f64().map_or_else(|| NOTHING.to_owned(), |time| format!("{time:.1} ms")),
        bytes(&member["bytes_sent"]),
        bytes(&member["bytes_received"]),
        session(member, superpeers),
        faults(member),
    ]
}

/// The state of the session with a member that is a superpeer.
fn session(member: &Value, superpeers: &Value) -> String {
    let mut superpeers = superpeers.as_array().into_iter().flatten();
    let found = superpeers.find(|superpeer| !superpeer["id"].is_null() && superpeer["id"] == member["id"]);
    found.map_or_else(|| NOTHING.to_owned(), |superpeer| text(&superpeer["session"]))
}

fn faults(member: &Value) -> String {
    let counted = |key: &str, what: &str| {
        let count = member[key].as_u64().filter(|count| *count > 0)?;
        Some(format!("{what} {count}"))
    };
    let quarantined = (member["quarantined"] == true).then(|| "quarantined".to_owned());
    let faults = [quarantined, counted("stalls", "stalls"), counted("bad_chunks", "bad chunks")];
    let faults: Vec<String> = faults.into_iter().flatten().collect();
    if faults.is_empty() { NOTHING.to_owned() } else { faults.join(", ") }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        Value::String(text) if text.is_empty() => NOTHING.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list(value: &Value, between: &str) -> String {
    let members: Vec<String> = value.as_array().into_iter().flatten().map(text).collect();
    if members.is_empty() { NOTHING.to_owned() } else { members.join(between) }
}

fn bytes(value: &Value) -> String {
    value.as_u64().map_or_else(|| NOTHING.to_owned(), |bytes| ByteSize(bytes).to_string())
}

/// The members of an object that are not objects themselves.
fn figures(value: &Value) -> String {
    let members = value.as_object().into_iter().flatten();
    let members = members.filter(|(_, value)| !value.is_object() && !value.is_array());
    members
        .map(|(name, value)| format!("{} {}", name.replace('_', " "), text(value)))
        .collect::<Vec<_>>()
        .join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_fleet_is_a_row_for_each_node() {
        let report = json!({
            "me": {"name": "a", "id": "aa", "address": "127.0.0.1:1", "zone": "", "roles": ["edge", "superpeer"]},
            "members": [
                {"name": "b", "id": "bb", "address": "127.0.0.1:2", "zone": "z", "roles": ["edge", "superpeer"],
                 "state": "live", "round_trip_ms": 1.26, "bytes_sent": 1024, "bytes_received": 0,
                 "quarantined": false, "stalls": 0, "bad_chunks": 0},
                {"name": "c", "id": "cc", "roles": ["edge"], "quarantined": true, "stalls": 2, "bad_chunks": 1},
            ],
            "superpeers": [{"id": "bb", "name": "b", "session": "standing"}],
            "directory": {"objects": 3, "holdings_max": 10},
            "leases_open": 1,
            "lookups": {"count": 5, "answers": {"lease": 4}},
        });
        let expected = "\
a (aa) at 127.0.0.1:1, edge and superpeer, zone -
directory  holdings max 10 · objects 3
lookups    count 5
answers    lease 4
leases     1 open

NODE  ID  ADDRESS      ROLES           ZONE  STATE  ROUND TRIP  GIVEN    TAKEN  SESSION   FAULTS
b     bb  127.0.0.1:2  edge,superpeer  z     live   1.3 ms      1.0 KiB  0 B    standing  -
c     cc  -            edge            -     -      -           -        -      -         quarantined, stalls 2, bad chunks 1";
        assert_eq!(told(&report), expected);
    }

    #[test]
    fn a_report_that_says_little_is_told_all_the_same() {
        assert_eq!(told(&json!({})), "- (-) at -, -, zone -\nno other node is known");
        assert!(told(&json!({"members": [1, null], "superpeers": 5})).lines().count() == 5);
        assert_eq!(told(&Value::Null), "this node is not part of a fleet: peer.listen is not set");
    }
}
