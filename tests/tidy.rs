//! The structure of the source tree, held to the table in `src/ARCHITECTURE.md`: which room may use
//! which, that `proto` is pure, and that functions and files stay small.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 500;

/// Words that a pure room has no use for.
const IMPURE: [&str; 10] = [
    "tokio::",
    "std::fs",
    "std::net::Tcp",
    "std::thread",
    "Mutex",
    "RwLock",
    "rand::",
    "tracing::",
    "prometheus::",
    "println!",
];

/// A room and the rooms that it may use, from the table of `ARCHITECTURE.md`.
fn arrows() -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(root().join("src/ARCHITECTURE.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.filter_map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let rooms = cells.get(1)?.split('`').filter(|cell| !cell.trim_matches([' ', ',']).is_empty());
        let may_use: Vec<String> = cells.get(3)?.split(',').map(|room| room.trim().to_owned()).collect();
        Some(rooms.map(move |room| (room.to_owned(), may_use.clone())).collect::<Vec<_>>())
    })
    .flatten()
    .collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Each source file with its room and its lines without tests.
fn files() -> Vec<(PathBuf, String, Vec<String>)> {
    let mut found = Vec::new();
    let src = root().join("src");
    sources(&src, &mut found);
    let is_test = |path: &PathBuf| path.to_string_lossy().contains("tests");
    found
        .into_iter()
        .filter(|path| !is_test(path))
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().map(str::to_owned);
            let lines = lines.take_while(|line| line != "#[cfg(test)]").collect();
            let name = path.strip_prefix(&src).unwrap().to_owned();
            let room = name.components().next().unwrap().as_os_str().to_string_lossy();
            let room = room.trim_end_matches(".rs").to_owned();
            (name, room, lines)
        })
        .collect()
}

#[test]
fn rooms_use_only_the_rooms_that_the_table_allows() {
    let arrows = arrows();
    assert!(arrows.len() > 12, "the table of ARCHITECTURE.md was not read: {arrows:?}");
    let mut wrong = Vec::new();
    for (name, room, lines) in files() {
        if ["lib", "main"].contains(&room.as_str()) {
            continue;
        }
        let Some(allowed) = arrows.get(&room) else {
            wrong.push(format!("{}: room {room} is not in the table", name.display()));
            continue;
        };
        for line in lines.iter().filter(|line| !line.trim_start().starts_with("//")) {
            for used in line.split("crate::").skip(1) {
                let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let may = used == room || allowed.contains(&used) || allowed.contains(&"all".to_owned());
                if !may && !used.is_empty() && arrows.contains_key(&used) {
                    wrong.push(format!("{}: {room} uses {used}", name.display()));
                }
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn proto_is_pure() {
    let mut wrong = Vec::new();
    for (name, room, lines) in files() {
        for (number, line) in lines.iter().enumerate().filter(|_| room == "proto") {
            let code = line.split("//").next().unwrap_or_default();
            wrong.extend(
                IMPURE
                    .iter()
                    .filter(|word| code.contains(**word))
                    .map(|word| format!("{}:{}: {word}", name.display(), number + 1)),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_and_functions_stay_small() {
    let mut wrong = Vec::new();
    for (name, _, lines) in files() {
        if lines.len() > FILE_LINES_MAX {
            wrong.push(format!("{}: {} lines", name.display(), lines.len()));
        }
        let mut open: Option<(usize, String)> = None;
        for (number, line) in lines.iter().enumerate() {
            let text = line.trim_start();
            let indent = &line[..line.len() - text.len()];
            let begins = [
                "fn ",
                "pub fn ",
                "async fn ",
                "pub async fn ",
                "pub(super) fn ",
                "pub(crate) fn ",
                "pub(super) async fn ",
                "pub const fn ",
                "const fn ",
            ];
            if open.is_none()
                && !text.contains('$')
                && begins.iter().any(|begin| text.starts_with(begin))
                && !text.ends_with([';', '}'])
            {
                open = Some((number, format!("{indent}}}")));
            }
            if let Some((from, end)) = &open
                && line == end
            {
                if number - from + 1 > FUNCTION_LINES_MAX {
                    wrong.push(format!("{}:{}: {} lines", name.display(), from + 1, number - from + 1));
                }
                open = None;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
