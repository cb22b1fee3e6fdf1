//! Pages that are made from the program, or held to it: every key of the configuration, every metric, every log line
//! that asks something of the operator. `SHOAL_RENEW=1 cargo test --test stories reference` writes the first two anew.

use crate::common::client::HOST;
use crate::common::reply;
use crate::fleet::cluster::{BOTH, Fleet};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const RENEW: &str = "SHOAL_RENEW";
/// Labels whose values the configuration, the machine or the fleet decides.
const OPEN_LABELS: [&str; 4] = ["site", "node", "zone", "server"];
/// Files of the source tree in which macros are looked for, at least.
const SOURCES_MIN: usize = 200;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Holds a committed page to what it is made from, or renews it.
fn check(page: &str, made: &str) {
    let path = root().join(page);
    if std::env::var_os(RENEW).is_some() {
        return fs::write(&path, made).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let differs = committed.lines().zip(made.lines()).find(|(old, new)| old != new);
    assert!(
        committed == made,
        "{page} is not what the program says ({differs:?}). If the change is meant, renew the page:\n\
         \n    {RENEW}=1 cargo test --test stories reference\n"
    );
}

#[test]
fn the_page_of_keys_is_that_of_the_schema() {
    let made = shoal::config::reference::page();
    check("config/REFERENCE.md", &made);
    let output =
        std::process::Command::new(env!("CARGO_BIN_EXE_shoal")).args(["config", "reference"]).output();
    assert!(output.unwrap().stdout == made.as_bytes(), "the sub-command prints the same page");
    for line in made.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.replace("\\|", "").split('|').map(|cell| cell.trim().to_owned()).collect();
        assert!(!cells[6].is_empty(), "no meaning: {line}");
    }
}

const METRICS: &str = "\
# Every metric

What a node says at `/metrics`, made by a test from the scrape of a node that is edge and superpeer in a fleet, with memory, disk and \
one site. A label has the values that are named, all present from the start; `site` is `name` of a `[[site]]`. Which of them raise \
alerts is in `prometheus/rules.yaml`, and what to do then in `RUNBOOK.md`.

| metric | type | labels | meaning |
|---|---|---|---|
";

/// A family of a scrape.
#[derive(Default)]
struct Family {
    help: String,
    kind: String,
    labels: BTreeMap<String, BTreeSet<String>>,
}

fn families(scrape: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut last = String::new();
    for line in scrape.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            families.entry(name.to_owned()).or_default().help = help.replace('|', "\\|");
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
            last = name.to_owned();
        } else if let Some((_, labels)) = line.split_once('{') {
            let family = families.get_mut(&last).unwrap();
            for (label, value) in labels_of(labels.rsplit_once('}').unwrap().0) {
                family.labels.entry(label).or_default().insert(value);
            }
        }
    }
    families
}

/// `a="x",b="y"` as pairs; no value in a scrape of these tests has a quote.
fn labels_of(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let pairs = text.split("\",").map(|pair| pair.split_once('=').unwrap());
    pairs
        .filter(|(label, _)| *label != "le")
        .map(|(label, value)| (label.to_owned(), value.trim_matches('"').to_owned()))
}

#[tokio::test]
async fn the_page_of_metrics_is_that_of_a_scrape() {
    let folder = tempfile::tempdir().unwrap();
    let disk = format!("[[cache.disk]]\npath = {:?}\nsize = \"64MiB\"\n", folder.path());
    let fleet = Fleet::of(&[BOTH], &disk).await;
    fleet.origin.says("/x", reply(200, &["Cache-Control: max-age=60"], "body"));
    fleet.edge(0).warm("/x").await.assert_is(200, "body");
    let mut page = METRICS.to_owned();
    for (name, family) in families(&fleet.edge(0).assembly.node.metrics.encode()) {
        let labels: Vec<_> = family
            .labels
            .iter()
            .map(|(label, values)| {
                match OPEN_LABELS.contains(&label.as_str()) || name == "shoal_build_info" {
                    true => format!("`{label}`"),
                    false => {
                        format!(
                            "`{label}`: {}",
                            values.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
                        )
                    }
                }
            })
            .collect();
        page += &format!("| `{name}` | {} | {} | {} |\n", family.kind, labels.join("<br>"), family.help);
    }
    assert!(!page.contains(HOST) && !page.contains("127.0.0.1"), "what one node has is in the page");
    check("grafana/METRICS.md", &page);
}

/// The messages of all `warn!`, `error!` and audit events in the sources, up to their first argument.
fn told() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    assert!(files.len() >= SOURCES_MIN, "only {} sources were found", files.len());
    let mut told = BTreeSet::new();
    for path in files.iter().filter(|path| !path.to_string_lossy().contains("tests")) {
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        for name in ["warn!(", "error!(", "info!("] {
            for (at, _) in code.match_indices(&format!("tracing::{name}")) {
                let strings = strings(&code[at + "tracing::".len() + name.len()..]);
                let is_audit = strings.iter().any(|text| text == "shoal::audit");
                if name != "info!(" || is_audit {
                    let message = strings.last().unwrap_or_else(|| panic!("{}: no message", path.display()));
                    told.insert(message.split('{').next().unwrap().trim_end_matches([' ', ':']).to_owned());
                }
            }
        }
        let named =
            ["use tracing::", "tracing::event!", "tracing::span!"].iter().find(|name| code.contains(**name));
        assert!(
            named.is_none(),
            "{}: write tracing::warn! and the like, so that this test finds it",
            path.display()
        );
    }
    told
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The string literals in the arguments of a macro whose parenthesis was opened just before `code`.
fn strings(code: &str) -> Vec<String> {
    let (mut strings, mut depth, mut chars) = (Vec::new(), 1, code.chars());
    while let Some(c) = chars.next() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            '"' => strings.push(string(&mut chars)),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    strings
}

/// The rest of a string literal. A backslash at the end of a line joins it with the next.
fn string(chars: &mut std::str::Chars<'_>) -> String {
    let mut text = String::new();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('\n') => {
                    let rest = chars.as_str().trim_start();
                    *chars = rest.chars();
                }
                other => text.extend(other),
            },
            c => text.push(c),
        }
    }
    text
}

#[test]
fn each_log_line_that_asks_something_stands_in_its_page() {
    let page = fs::read_to_string(root().join("grafana/LOGS.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: BTreeMap<&str, &str> = rows.collect();
    let told = told();
    let missing: Vec<_> = told.iter().filter(|message| !documented.contains_key(message.as_str())).collect();
    assert!(missing.is_empty(), "grafana/LOGS.md has no row, with cause and action, for {missing:#?}");
    let stale: Vec<_> = documented.keys().filter(|message| !told.contains(**message)).collect();
    assert!(stale.is_empty(), "grafana/LOGS.md has rows for what no source says: {stale:#?}");
    for (message, rest) in documented {
        let cells: Vec<_> = rest.split('|').map(str::trim).collect();
        assert!(cells.len() == 5 && cells[1..4].iter().all(|cell| !cell.is_empty()), "{message}: {cells:?}");
    }
}
