//! From a tree to a raw shape, collecting every wrong key and type on the way.
//!
//! serde ends at the first error. So a tree is read again without the values that were wrong, until
//! it can be read; all shapes have defaults for what is missing. Unknown keys need no second pass.

use super::tree::{Kind, Node, join};
use super::{MISTAKES_MAX, Mistake, Source};
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Expected, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::forward_to_deserialize_any;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet, btree_map};
use std::fmt;

/// Reads `node`. The value lacks what was wrong; use it only if there are no mistakes.
pub(super) fn read<T: DeserializeOwned + Default>(node: &Node) -> (T, Vec<Mistake>) {
    let log = Log::default();
    for _ in 0..MISTAKES_MAX {
        match T::deserialize(Reader { node, path: String::new(), log: &log }) {
            Ok(value) => return (value, log.into_mistakes()),
            Err(fault) => log.add(fault),
        }
    }
    (T::default(), log.into_mistakes())
}

/// The nearest of `known` to `given`, if it is near enough to be meant.
pub(super) fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_ascii_lowercase().replace('-', "_");
    let reach = (given.len() / 3).max(1);
    known
        .map(|known| (distance(&given, known), known))
        .filter(|(distance, known)| *distance <= reach || (given.len() > 2 && known.starts_with(&given)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Edits (insert, delete, replace, swap neighbours) from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// Mistakes so far, and the paths that later passes leave out.
#[derive(Default)]
struct Log {
    mistakes: RefCell<Vec<Mistake>>,
    wrong: RefCell<HashSet<String>>,
}

impl Log {
    fn add(&self, fault: Fault) {
        let (key, source) = fault.place.unwrap_or_default();
        if self.wrong.borrow_mut().insert(key.clone()) {
            self.mistakes.borrow_mut().push(Mistake { source, key, what: fault.what });
        }
    }

    fn is_wrong(&self, path: &str) -> bool {
        self.wrong.borrow().contains(path)
    }

    fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes.into_inner()
    }
}

/// What serde found wrong, and where.
#[derive(Debug)]
struct Fault {
    what: String,
    place: Option<(String, Option<Source>)>,
}

impl Fault {
    fn new(what: String) -> Self {
        Self { what, place: None }
    }

    /// Places the fault, unless it was placed further in.
    fn at(mut self, path: &str, node: &Node) -> Self {
        self.place.get_or_insert_with(|| (path.to_owned(), Some(node.author().clone())));
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self::new(what.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        // serde's words for types are those of programmers.
        let expected = match expected.as_str() {
            "usize" | "u64" | "u32" | "i64" => "a whole number",
            "a boolean" => "true or false",
            "a string" | "path string" => "text in quotes",
            other => other,
        };
        Self::new(format!("expected {expected}, found {found}").replace('`', ""))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        let expected = expected.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" or ");
        Self::new(format!("expected {expected}, found \"{found}\""))
    }
}

struct Reader<'a> {
    node: &'a Node,
    path: String,
    log: &'a Log,
}

impl<'a> Reader<'a> {
    /// The text that stands for a bool or number.
    fn loose(&self) -> Option<&'a str> {
        match &self.node.kind {
            Kind::Text(text) if self.node.is_loose() => Some(text),
            _ => None,
        }
    }

    fn found(&self) -> Unexpected<'a> {
        match &self.node.kind {
            Kind::Nothing => Unexpected::Other("nothing"),
            Kind::Bool(value) => Unexpected::Bool(*value),
            Kind::Integer(value) => Unexpected::Signed(*value),
            Kind::Float(value) => Unexpected::Float(*value),
            Kind::Text(value) => Unexpected::Str(value),
            Kind::List(_) => Unexpected::Other("a list"),
            Kind::Table(_) => Unexpected::Other("a table"),
        }
    }

    fn log_unknown(&self, table: &BTreeMap<String, Node>, known: &'static [&'static str]) {
        for (key, node) in table.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            let what = match nearest(key, known.iter().copied()) {
                Some(near) => format!("unknown key; did you mean `{near}`?"),
                None => format!("unknown key; known here: {}", known.join(", ")),
            };
            self.log.add(Fault::new(what).at(&join(&self.path, key), node));
        }
    }
}

macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match self.loose().map(str::parse) {
                Some(Ok(value)) => visitor.visit_i64(value),
                _ => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.kind {
            Kind::Nothing => Err(de::Error::invalid_type(self.found(), &visitor)),
            Kind::Bool(value) => visitor.visit_bool(*value),
            Kind::Integer(value) => visitor.visit_i64(*value),
            Kind::Float(value) => visitor.visit_f64(*value),
            Kind::Text(value) => visitor.visit_str(value),
            Kind::List(_) | Kind::Table(_) => Err(de::Error::invalid_type(self.found(), &visitor)),
        }
    }

    integers!(deserialize_u32 deserialize_u64 deserialize_i64);

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.loose().map(str::parse) {
            Some(Ok(value)) => visitor.visit_bool(value),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.kind {
            Kind::Nothing => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.node.kind {
            Kind::Text(text) => visitor.visit_enum(StrDeserializer::new(text)),
            _ => Err(de::Error::invalid_type(self.found(), &"a word in quotes")),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let split: Vec<Node>;
        let list = match (&self.node.kind, self.loose()) {
            (Kind::List(list), _) => list,
            (_, Some(text)) => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                split = parts.map(|part| Node::text(&self.node.source, part)).collect();
                &split
            }
            _ => return Err(de::Error::invalid_type(self.found(), &"a list")),
        };
        visitor.visit_seq(Elements { nodes: list.iter().enumerate(), path: &self.path, log: self.log })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let Kind::Table(table) = &self.node.kind else {
            return Err(de::Error::invalid_type(self.found(), &"a table"));
        };
        self.log_unknown(table, fields);
        visitor.visit_map(Entries { nodes: table.iter(), next: None, path: &self.path, log: self.log })
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct tuple tuple_struct map identifier ignored_any
    }
}

struct Elements<'a> {
    nodes: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
    path: &'a str,
    log: &'a Log,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        for (index, node) in self.nodes.by_ref() {
            let path = format!("{}[{index}]", self.path);
            if !self.log.is_wrong(&path) {
                let reader = Reader { node, path: path.clone(), log: self.log };
                return seed.deserialize(reader).map(Some).map_err(|fault| fault.at(&path, node));
            }
        }
        Ok(None)
    }
}

struct Entries<'a> {
    nodes: btree_map::Iter<'a, String, Node>,
    next: Option<(String, &'a Node)>,
    path: &'a str,
    log: &'a Log,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        for (key, node) in self.nodes.by_ref() {
            let path = join(self.path, key);
            if !self.log.is_wrong(&path) {
                self.next = Some((path, node));
                return seed.deserialize(StrDeserializer::<Fault>::new(key)).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let (path, node) = self.next.take().expect("serde asks for a value after its key");
        let reader = Reader { node, path: path.clone(), log: self.log };
        seed.deserialize(reader).map_err(|fault| fault.at(&path, node))
    }
}
