//! The page with every key, made from the schema: so what it says is what the doc comments of the raw shapes say.

use super::schema::{resolve, schema};
use super::tree::join;
use serde_json::{Map, Value};

/// Keys, and tables of keys, that take effect at the next start. All others do at a reload.
pub const RESTART: [&str; 11] = [
    "node.name",
    "node.roles",
    "node.zone",
    "node.workers",
    "listen",
    "cache.memory",
    "cache.disk",
    "peer",
    "metrics",
    "admin",
    "log.format",
];

/// What stands above the tables.
const INTRODUCTION: &str = "\
# Every key of the configuration

Made by `shoal config reference` from the schema in `src/config`; a test holds the two together. To change what stands here, \
change the doc comment of the key, and renew the page as the test says. A file to begin with is `shoal.toml`, one with every \
key `shoal-commented.toml`.

- A **size** is `\"256MiB\"` (1 MiB is 1048576 bytes), `\"1MB\"` (1000000 bytes) or an integer number of bytes. A **duration** has \
units: `\"500ms\"`, `\"30s\"`, `\"1h 30m\"`, `\"7days\"`.
- **Applies** says when a change is in force: at a *reload* (`kill -HUP`, or `POST /reload`), which keeps cache and connections, \
or at the next *start*.
- Each key can come from the environment, which wins over the file: `SHOAL__CACHE__MEMORY=1GiB`. Flags win over both.
- An unknown key, a wrong type and a value out of bounds are mistakes: `shoal check` names all at once, and a node with one \
does not start, or keeps what it had before a reload.
";

/// The page, in Markdown.
pub fn page() -> String {
    let root = schema();
    let mut page = INTRODUCTION.to_owned();
    let mut top = Vec::new();
    let mut tables = Vec::new();
    for (key, property) in properties(&root, &root) {
        if is_table(&root, items(&root, property)) { &mut tables } else { &mut top }.push((key, property));
    }
    section(&root, &mut page, ("At the top", "Before the first table.", ""), &top);
    for (key, property) in tables {
        table(&root, &mut page, key, property);
    }
    page
}

/// A table and those within it.
fn table(root: &Value, page: &mut String, path: &str, property: &Value) {
    let shape = items(root, property);
    let (mut keys, mut inner) = (Vec::new(), Vec::new());
    for (key, property) in properties(root, shape) {
        let is_inner = is_table(root, items(root, property));
        if is_inner { &mut inner } else { &mut keys }.push((key, property));
    }
    let is_list = resolve(root, property).get("items").is_some();
    let title = if is_list { format!("`[[{path}]]`") } else { format!("`[{path}]`") };
    let about = text(property, "description").or_else(|| text(shape, "description")).unwrap_or_default();
    section(root, page, (&title, &about, path), &keys);
    for (key, property) in inner {
        table(root, page, &join(path, key), property);
    }
}

fn section(
    root: &Value,
    page: &mut String,
    (title, about, path): (&str, &str, &str),
    keys: &[(&str, &Value)],
) {
    page.push_str(&format!("\n## {title}\n\n{about}\n\n"));
    page.push_str("| key | type | default | bounds | applies | meaning |\n|---|---|---|---|---|---|\n");
    for (key, property) in keys {
        let shape = resolve(root, property);
        let default = property.get("default").map(|value| format!("`{value}`")).unwrap_or_default();
        let bounds = text(property, "x-bounds").unwrap_or_default();
        let applies = if needs_restart(&join(path, key)) { "start" } else { "reload" };
        let mut meaning = text(property, "description").unwrap_or_default();
        for value in alternatives(items(root, property)) {
            let name = value.get("const").map(Value::to_string).unwrap_or_default();
            meaning += &format!("<br>`{name}`: {}", text(value, "description").unwrap_or_default());
        }
        let kind = kind(root, property, shape);
        page.push_str(&format!("| `{key}` | {kind} | {default} | {bounds} | {applies} | {meaning} |\n"));
    }
}

fn needs_restart(key: &str) -> bool {
    RESTART
        .iter()
        .any(|part| key.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// What a value is, in words.
fn kind(root: &Value, property: &Value, shape: &Value) -> String {
    if shape.get("items").is_some() {
        let item = items(root, property);
        return format!("list of {}", plural(&kind(root, shape.get("items").unwrap_or(item), item)));
    }
    if !alternatives(shape).is_empty() {
        return "one of".to_owned();
    }
    match name_of(property) {
        Some("Size") => return "size".to_owned(),
        Some("Period") => return "duration".to_owned(),
        Some("Address") => return "`ip:port`".to_owned(),
        Some("Network") => return "network".to_owned(),
        _ => {}
    }
    let first = match shape.get("type") {
        Some(Value::Array(types)) => types.first().and_then(Value::as_str),
        Some(Value::String(single)) => Some(single.as_str()),
        _ => None,
    };
    match first {
        Some("integer") => "integer",
        Some("boolean") => "boolean",
        Some("object") => "table",
        _ => "text",
    }
    .to_owned()
}

fn plural(kind: &str) -> String {
    match kind {
        "one of" => "one or more of".to_owned(),
        "text" => "texts".to_owned(),
        other => format!("{other}s"),
    }
}

/// The shape's name that a property refers to.
fn name_of(property: &Value) -> Option<&str> {
    let at = property.get("anyOf").and_then(|any| any.get(0)).unwrap_or(property);
    at.get("$ref").and_then(Value::as_str)?.rsplit('/').next()
}

/// The shape of a list's items, or the property's own.
fn items<'a>(root: &'a Value, property: &'a Value) -> &'a Value {
    let shape = resolve(root, property);
    shape.get("items").map_or(shape, |items| resolve(root, items))
}

fn is_table(root: &Value, shape: &Value) -> bool {
    properties(root, shape).next().is_some()
}

fn properties<'a>(root: &'a Value, shape: &'a Value) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let found: Option<&Map<_, _>> = resolve(root, shape).get("properties").and_then(Value::as_object);
    found.into_iter().flatten().map(|(key, property)| (key.as_str(), property))
}

/// The values of an enum.
fn alternatives(shape: &Value) -> &[Value] {
    shape.get("oneOf").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A text of the schema on one line, fit for a cell.
fn text(at: &Value, key: &str) -> Option<String> {
    let text = at.get(key)?.as_str()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|"))
}
