//! A configuration as written, before it has a shape: values with the source of each.

use super::{Mistake, Source};
use config::{Map, Value, ValueKind};
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Largest index of an array in a key path, so that `SHOAL__SITE__4000000000__NAME` makes no room
/// for four thousand million sites.
pub(super) const INDEX_MAX: usize = 255;

/// A value and who wrote it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) source: Source,
    pub(super) kind: Kind,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// YAML's null, or a gap in an array.
    Nothing,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

/// What one source sets, by key path (`cache`, `cache.memory`, `site[0].origins`).
#[derive(Clone, Debug)]
pub(super) struct Layer(pub(super) Vec<(String, Node)>);

impl Node {
    pub(super) fn new(source: &Source, kind: Kind) -> Self {
        Self { source: source.clone(), kind }
    }

    pub(super) fn text(source: &Source, text: impl Into<String>) -> Self {
        Self::new(source, Kind::Text(text.into()))
    }

    /// Whether its text stands for any type: environment and flags know only text.
    pub(super) const fn is_loose(&self) -> bool {
        matches!(self.source, Source::Env { .. } | Source::Flag { .. })
    }

    /// The value at a key path below this one.
    pub(super) fn at(&self, path: &str) -> Option<&Self> {
        segments(path).try_fold(self, |node, segment| match (&node.kind, segment) {
            (Kind::Table(table), Segment::Key(key)) => table.get(key),
            (Kind::List(list), Segment::Index(index)) => list.get(index),
            _ => None,
        })
    }

    /// The same as a table's entries; empty if it is none.
    pub(super) fn entries_mut(&mut self) -> Option<&mut BTreeMap<String, Self>> {
        match &mut self.kind {
            Kind::Table(table) => Some(table),
            _ => None,
        }
    }

    /// Who wrote the value, or, for a table of several sources, the first part of it.
    pub(super) fn author(&self) -> &Source {
        match &self.kind {
            Kind::Table(table) if self.source == Source::Default => table
                .values()
                .map(Self::author)
                .find(|source| **source != Source::Default)
                .unwrap_or(&self.source),
            _ => &self.source,
        }
    }

    /// Reads TOML.
    pub(super) fn from_toml(text: &str, path: &str) -> Result<Self, Mistake> {
        let place =
            |offset: usize| Source::File { path: path.to_owned(), at: Some(line_and_column(text, offset)) };
        let table = DeTable::parse(text).map_err(|error| Mistake {
            source: Some(place(error.span().map_or(0, |span| span.start))),
            key: String::new(),
            what: error.message().replace('\n', ", "),
        })?;
        from_toml_table(table.get_ref(), place(0), &place)
    }

    /// Reads YAML.
    pub(super) fn from_yaml(text: &str, path: &str) -> Result<Self, Mistake> {
        use config::Source as _;
        let source = Source::File { path: path.to_owned(), at: None };
        let file = config::File::from_str(text, config::FileFormat::Yaml);
        let entries = file.collect().map_err(|error| Mistake {
            source: Some(source.clone()),
            key: String::new(),
            what: error.to_string().replace('\n', ", "),
        })?;
        Ok(from_value(Value::new(None, ValueKind::Table(entries)), &[source]))
    }
}

/// A step of a key path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment<'a> {
    Key(&'a str),
    Index(usize),
}

/// The steps of `site[0].origins`.
pub(super) fn segments(path: &str) -> impl Iterator<Item = Segment<'_>> {
    path.split(['.', '[']).filter(|step| !step.is_empty()).map(|step| {
        step.strip_suffix(']').and_then(|index| index.parse().ok()).map_or(Segment::Key(step), Segment::Index)
    })
}

/// `parent.key`.
pub(super) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// Puts the layers over one another, the first lowest: tables are merged, all else is replaced.
pub(super) fn merge(layers: Vec<Layer>) -> Result<Node, Mistake> {
    let mut sources = vec![Source::Default];
    let mut builder = config::Config::builder();
    for Layer(entries) in layers {
        let entries =
            entries.into_iter().map(|(path, node)| (path, into_value(node, &mut sources))).collect();
        builder = builder.add_source(Collected(entries));
    }
    let merged = builder.build().map_err(|error| Mistake {
        source: None,
        key: String::new(),
        what: error.to_string(),
    })?;
    Ok(from_value(merged.cache, &sources))
}

/// A layer as the `config` crate takes it.
#[derive(Clone, Debug)]
struct Collected(Map<String, Value>);

impl config::Source for Collected {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// The crate carries one string beside each value; here it is an index into `sources`.
fn into_value(node: Node, sources: &mut Vec<Source>) -> Value {
    let origin = sources.len().to_string();
    sources.push(node.source);
    let kind = match node.kind {
        Kind::Nothing => ValueKind::Nil,
        Kind::Bool(value) => ValueKind::Boolean(value),
        Kind::Integer(value) => ValueKind::I64(value),
        Kind::Float(value) => ValueKind::Float(value),
        Kind::Text(value) => ValueKind::String(value),
        Kind::List(list) => {
            ValueKind::Array(list.into_iter().map(|node| into_value(node, sources)).collect())
        }
        Kind::Table(table) => {
            ValueKind::Table(table.into_iter().map(|(key, node)| (key, into_value(node, sources))).collect())
        }
    };
    Value::new(Some(&origin), kind)
}

fn from_value(value: Value, sources: &[Source]) -> Node {
    let source = value
        .origin()
        .and_then(|origin| sources.get(origin.parse::<usize>().ok()?))
        .unwrap_or(&sources[0])
        .clone();
    let kind = match value.kind {
        ValueKind::Nil => Kind::Nothing,
        ValueKind::Boolean(value) => Kind::Bool(value),
        ValueKind::I64(value) => Kind::Integer(value),
        ValueKind::I128(value) => integer(value),
        ValueKind::U64(value) => integer(value),
        ValueKind::U128(value) => integer(value),
        ValueKind::Float(value) => Kind::Float(value),
        ValueKind::String(value) => Kind::Text(value),
        ValueKind::Array(list) => {
            Kind::List(list.into_iter().map(|value| from_value(value, sources)).collect())
        }
        ValueKind::Table(table) => {
            Kind::Table(table.into_iter().map(|(key, value)| (key, from_value(value, sources))).collect())
        }
    };
    Node { source, kind }
}

/// No key takes a number beyond 64 bits: a float makes it a wrong type and keeps its size visible.
fn integer<N: TryInto<i64> + ToString + Copy>(value: N) -> Kind {
    value
        .try_into()
        .map_or_else(|_| Kind::Float(value.to_string().parse().unwrap_or(f64::MAX)), Kind::Integer)
}

fn from_toml_table(
    table: &DeTable<'_>,
    source: Source,
    place: &dyn Fn(usize) -> Source,
) -> Result<Node, Mistake> {
    let entries = table
        .iter()
        .map(|(key, value)| {
            // An unknown key is pointed at itself; a wrong value too, on the same line.
            let source = place(key.span().start);
            Ok((key.get_ref().to_string(), from_toml_value(value, source, place)?))
        })
        .collect::<Result<_, Mistake>>()?;
    Ok(Node { source, kind: Kind::Table(entries) })
}

fn from_toml_value(
    value: &Spanned<DeValue<'_>>,
    source: Source,
    place: &dyn Fn(usize) -> Source,
) -> Result<Node, Mistake> {
    let kind = match value.get_ref() {
        DeValue::Boolean(value) => Kind::Bool(*value),
        DeValue::Integer(integer) => {
            let number = i64::from_str_radix(integer.as_str(), integer.radix());
            Kind::Integer(number.map_err(|_overflow| Mistake {
                source: Some(place(value.span().start)),
                key: String::new(),
                what: format!("integer {} is too large", integer.as_str()),
            })?)
        }
        DeValue::Float(value) => Kind::Float(value.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::String(value) => Kind::Text(value.to_string()),
        DeValue::Datetime(value) => Kind::Text(value.to_string()),
        DeValue::Array(list) => Kind::List(
            list.iter()
                .map(|value| from_toml_value(value, place(value.span().start), place))
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(table) => return from_toml_table(table, source, place),
    };
    Ok(Node { source, kind })
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}
