//! The layers that a configuration is made of, lowest first, and what is filled in once they are
//! merged.

use super::read::read;
use super::sections::RawConfig;
use super::tree::{INDEX_MAX, Kind, Layer, Node, Segment, join, merge, segments};
use super::{Flag, FlagValue, Machine, Mistake, Source, Sources};
use std::ffi::OsStr;
use std::path::Path;

/// Variables that begin like this are configuration. One underscore would not do: keys have
/// underscores themselves, and Kubernetes injects `NAME_PORT=tcp://…` for a service of this name.
const ENV_PREFIX: &str = "SHOAL__";

const DEFAULTS: &str = include_str!("defaults.toml");

/// Where a node listens that was told of no listener.
const FALLBACK_LISTENER: &str = "127.0.0.1:8080";

/// Size of a disk folder that was given none.
const DISK_SIZE: &str = "10GiB";

/// Client connections at most, however many descriptors there are.
const CONNECTIONS_MAX: u64 = 100_000;

/// Reads every source and checks each alone, so that a mistake is told with its place.
///
/// # Errors
/// All wrong keys and types of all sources.
pub(super) fn read_all(sources: &Sources) -> Result<Vec<Layer>, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut layers = vec![entries(defaults(&sources.machine))];
    let mut sites = 0;
    if let Some(path) = &sources.file {
        match read_file(path) {
            Ok(tree) => {
                mistakes.extend(read::<RawConfig>(&tree).1);
                if let Some(Kind::List(list)) = tree.at("site").map(|site| &site.kind) {
                    sites = list.len();
                }
                layers.push(entries(tree));
            }
            Err(mistake) => mistakes.push(mistake),
        }
    }
    for layer in [environment(&sources.env, &mut mistakes), flags(&sources.flags, sites, &mut mistakes)] {
        mistakes.extend(layer.0.iter().flat_map(check_alone));
        layers.push(layer);
    }
    if mistakes.is_empty() { Ok(layers) } else { Err(mistakes) }
}

/// Fills in what depends on other values: defaults of each site and rule, names, and choices that
/// stand for others.
pub(super) fn complete(mut merged: Node) -> Node {
    let (site, rule) = templates();
    if let Some(root) = merged.entries_mut() {
        if let Some(Kind::List(sites)) = root.get_mut("site").map(|site| &mut site.kind) {
            for (index, node) in sites.iter_mut().enumerate() {
                complete_site(node, index, &site, &rule);
            }
        }
        let is_edge = root.get("node").and_then(|node| node.at("roles")).is_none_or(names_edge);
        if let Some(listen) = root.get_mut("listen").filter(|_| is_edge) {
            complete_listen(listen);
        }
        if let Some(cache) = root.get_mut("cache") {
            complete_cache(cache);
        }
    }
    merged
}

/// The defaults for all but sites and rules.
pub(super) fn defaults(machine: &Machine) -> Node {
    let mut tree = parsed_defaults();
    let Some(root) = tree.entries_mut() else { return tree };
    root.remove("site");
    root.remove("rule");
    let mut set = |section: &str, key: &str, kind: Kind| {
        if let Some(section) = root.get_mut(section).and_then(Node::entries_mut) {
            section.insert(key.to_owned(), Node::new(&Source::Default, kind));
        }
    };
    // Each client connection may need one to an origin, and files and pools need some.
    let connections = (machine.descriptors.saturating_sub(128) / 2).clamp(64, CONNECTIONS_MAX);
    set("node", "name", Kind::Text(token_of(&machine.hostname)));
    set("node", "workers", Kind::Integer(i64::try_from(machine.cores).unwrap_or(1)));
    set("limits", "connections", Kind::Integer(i64::try_from(connections).unwrap_or(i64::MAX)));
    tree
}

/// The defaults of a site, and of a rule.
pub(super) fn templates() -> (Node, Node) {
    let mut tree = parsed_defaults();
    let mut take = |key: &str| {
        let root = tree.entries_mut().expect("a TOML document is a table");
        root.remove(key).expect("defaults.toml has it")
    };
    (take("site"), take("rule"))
}

fn parsed_defaults() -> Node {
    let mut tree = Node::from_toml(DEFAULTS, "defaults.toml").expect("defaults.toml is well-formed");
    own(&mut tree);
    tree
}

fn own(node: &mut Node) {
    node.source = Source::Default;
    match &mut node.kind {
        Kind::List(list) => list.iter_mut().for_each(own),
        Kind::Table(table) => table.values_mut().for_each(own),
        _ => {}
    }
}

/// A host name as a token (RFC 9110 §5.6.2).
fn token_of(hostname: &str) -> String {
    let token: String = hostname
        .chars()
        .take(63)
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') { c } else { '-' })
        .collect();
    if token.is_empty() { "shoal".to_owned() } else { token }
}

fn read_file(path: &Path) -> Result<Node, Mistake> {
    let name = path.display().to_string();
    let text = std::fs::read(path).map_err(|error| error.to_string());
    let text =
        text.and_then(|bytes| String::from_utf8(bytes).map_err(|_invalid| "not UTF-8 text".to_owned()));
    let text = text.map_err(|error| Mistake {
        source: Some(Source::File { path: name.clone(), at: None }),
        key: String::new(),
        what: format!("cannot be read: {error}"),
    })?;
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    // JSON is YAML.
    if ["yaml", "yml", "json"].iter().any(|yaml| extension.eq_ignore_ascii_case(yaml)) {
        Node::from_yaml(&text, &name)
    } else {
        Node::from_toml(&text, &name)
    }
}

fn environment(variables: &[(std::ffi::OsString, std::ffi::OsString)], mistakes: &mut Vec<Mistake>) -> Layer {
    let mut entries = Vec::new();
    for (name, value) in variables {
        let Some((name, key)) = name.to_str().and_then(|name| Some((name, name.strip_prefix(ENV_PREFIX)?)))
        else {
            continue;
        };
        let source = Source::Env { name: name.to_owned() };
        match (env_path(key), value.to_str()) {
            (Ok(path), Some(value)) => entries.push((path, Node::text(&source, value))),
            (Err(what), _) => mistakes.push(Mistake { source: Some(source), key: String::new(), what }),
            (_, None) => {
                let what = "value is not UTF-8 text".to_owned();
                mistakes.push(Mistake { source: Some(source), key: String::new(), what });
            }
        }
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Layer(entries)
}

/// `CACHE__DISK__0__PATH` → `cache.disk[0].path`.
fn env_path(key: &str) -> Result<String, String> {
    let mut path = String::new();
    for step in key.to_ascii_lowercase().split("__") {
        match step.parse::<usize>() {
            Ok(index) if index > INDEX_MAX => return Err(format!("an index is at most {INDEX_MAX}")),
            Ok(index) => path.push_str(&format!("[{index}]")),
            Err(_)
                if step.is_empty()
                    || !step.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') =>
            {
                return Err(format!("no key: expected {ENV_PREFIX}SECTION__KEY"));
            }
            Err(_) => path = join(&path, step),
        }
    }
    if path.starts_with('[') { Err(format!("no key: expected {ENV_PREFIX}SECTION__KEY")) } else { Ok(path) }
}

fn flags(flags: &[Flag], sites: usize, mistakes: &mut Vec<Mistake>) -> Layer {
    let mut entries = Vec::new();
    for flag in flags {
        let source = Source::Flag { name: flag.name.to_owned() };
        if sites > 1 && segments(flag.key).next() == Some(Segment::Key("site")) {
            let what = format!("the file has {sites} sites, and a flag cannot say which; set it in the file");
            mistakes.push(Mistake { source: Some(source), key: String::new(), what });
            continue;
        }
        let node = match &flag.value {
            FlagValue::One(value) => Node::text(&source, value),
            FlagValue::Many(values) => {
                let values = values.iter().map(|value| Node::text(&source, value)).collect();
                Node::new(&source, Kind::List(values))
            }
        };
        entries.push((flag.key.to_owned(), node));
    }
    Layer(entries)
}

fn entries(tree: Node) -> Layer {
    match tree.kind {
        Kind::Table(table) => Layer(table.into_iter().collect()),
        _ => Layer(Vec::new()),
    }
}

/// What is wrong with one setting, whatever the others are.
fn check_alone(entry: &(String, Node)) -> Vec<Mistake> {
    match merge(vec![Layer(vec![entry.clone()])]) {
        Ok(tree) => {
            let mistakes = read::<RawConfig>(&tree).1.into_iter();
            // The gaps before `site[1]` are for other settings to fill.
            mistakes.filter(|mistake| mistake.source.as_ref() == Some(&entry.1.source)).collect()
        }
        Err(mistake) => vec![mistake],
    }
}

fn complete_site(site: &mut Node, index: usize, defaults: &Node, rule_defaults: &Node) {
    fill(site, defaults);
    if let (Some(purge), Some(defaults)) =
        (site.entries_mut().and_then(|site| site.get_mut("purge")), defaults.at("purge"))
    {
        fill(purge, defaults);
    }
    let is_in_file = matches!(site.source, Source::File { .. });
    let Some(entries) = site.entries_mut() else { return };
    // `--origin` alone is a site for every host; a site in a file says which.
    if !is_in_file && entries.contains_key("origins") && !entries.contains_key("hosts") {
        let any = Node::text(&Source::Default, "*");
        entries.insert("hosts".to_owned(), Node::new(&Source::Default, Kind::List(vec![any])));
    }
    if !entries.contains_key("name") {
        let name = match entries.get("hosts").and_then(first_text) {
            Some("*") => "default".to_owned(),
            Some(host) => host.to_ascii_lowercase(),
            None => format!("site{index}"),
        };
        entries.insert("name".to_owned(), Node::text(&Source::Default, name));
    }
    if let Some(Kind::List(rules)) = entries.get_mut("rules").map(|rules| &mut rules.kind) {
        rules.iter_mut().for_each(|rule| fill(rule, rule_defaults));
    }
}

/// The first member of a list of texts, which the environment writes as one.
fn first_text(list: &Node) -> Option<&str> {
    match &list.kind {
        Kind::List(list) => first_text(list.first()?),
        Kind::Text(text) => text.split(',').next().map(str::trim),
        _ => None,
    }
}

/// Whether `node.roles` makes the node an edge, who has a listener in any case. A list that is wrong or empty is told
/// of later.
fn names_edge(roles: &Node) -> bool {
    match &roles.kind {
        Kind::List(list) => list.is_empty() || list.iter().any(names_edge),
        Kind::Text(text) => text.split(',').any(|role| role.trim() == "edge"),
        _ => true,
    }
}

fn complete_listen(listen: &mut Node) {
    let is_silent = ["http", "https"].iter().all(|key| match listen.at(key).map(|node| &node.kind) {
        Some(Kind::List(list)) => list.is_empty(),
        Some(Kind::Text(text)) => text.trim().is_empty(),
        _ => true,
    });
    if let Some(entries) = listen.entries_mut().filter(|_| is_silent) {
        let fallback = Node::text(&Source::Default, FALLBACK_LISTENER);
        entries.insert("http".to_owned(), Node::new(&Source::Default, Kind::List(vec![fallback])));
    }
}

fn complete_cache(cache: &mut Node) {
    let Some(entries) = cache.entries_mut() else { return };
    if let Some(profile) = entries.get("profile").cloned() {
        let is_rfc = matches!(&profile.kind, Kind::Text(text) if text.trim() == "rfc");
        let select = Node::new(&Source::Default, Kind::Bool(is_rfc));
        entries.entry("select_language".to_owned()).or_insert(select);
        for key in ["set_cookie", "errors"] {
            entries.entry(key.to_owned()).or_insert_with(|| profile.clone());
        }
    }
    if let Some(Kind::List(disks)) = entries.get_mut("disk").map(|disk| &mut disk.kind) {
        for disk in disks.iter_mut().filter_map(Node::entries_mut) {
            disk.entry("size".to_owned()).or_insert_with(|| Node::text(&Source::Default, DISK_SIZE));
        }
    }
}

fn fill(node: &mut Node, defaults: &Node) {
    if let (Some(entries), Kind::Table(defaults)) = (node.entries_mut(), &defaults.kind) {
        for (key, value) in defaults {
            entries.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}
