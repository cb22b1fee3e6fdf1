//! The effective configuration, key by key, with who set what. No value is a secret: keys and
//! tokens are named by file, and URLs with a password are refused.

use super::Source;
use super::tree::{Kind, Node, join};
use serde::Serialize;
use std::fmt;

/// A key with its effective value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown {
    /// Path of the key, such as `site[0].origins[1]`.
    pub key: String,
    /// The value, as written.
    pub value: serde_json::Value,
    /// Who set it.
    pub source: Source,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}  # {}", self.key, self.value, self.source)
    }
}

/// All values of a tree, in the order of their key paths.
pub(super) fn values(tree: &Node) -> Vec<Shown> {
    let mut shown = Vec::new();
    collect(tree, String::new(), &mut shown);
    shown
}

fn collect(node: &Node, key: String, shown: &mut Vec<Shown>) {
    let value = match &node.kind {
        Kind::Table(table) => {
            return table.iter().for_each(|(name, node)| collect(node, join(&key, name), shown));
        }
        Kind::List(list) if !list.is_empty() => {
            return list
                .iter()
                .enumerate()
                .for_each(|(index, node)| collect(node, format!("{key}[{index}]"), shown));
        }
        Kind::List(_) => serde_json::json!([]),
        Kind::Nothing => serde_json::Value::Null,
        Kind::Bool(value) => (*value).into(),
        Kind::Integer(value) => (*value).into(),
        Kind::Float(value) => (*value).into(),
        Kind::Text(value) => value.as_str().into(),
    };
    shown.push(Shown { key, value, source: node.source.clone() });
}
