//! The JSON schema of a configuration file, for editors and for the documentation.

use super::layer;
use super::sections::RawConfig;
use super::show;
use super::{Machine, tree::Node};
use serde_json::Value;

/// The schema, with the doc comment and the default of every key.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(RawConfig).to_value();
    let (site, rule) = layer::templates();
    // What follows the machine has no default in the schema.
    let mut defaults = layer::defaults(&Machine::default());
    for (section, key) in [("node", "name"), ("node", "workers"), ("limits", "connections")] {
        if let Some(section) = defaults.entries_mut().and_then(|root| root.get_mut(section)) {
            section.entries_mut().and_then(|entries| entries.remove(key));
        }
    }
    strip_zero_defaults(&mut schema);
    for (definition, defaults) in [("", &defaults), ("Site", &site), ("Rule", &rule)] {
        add_defaults(&mut schema, definition, defaults);
    }
    schema
}

/// Every key of the schema as a path without indices (`site.rules.path`), for tests of completeness.
#[cfg(test)]
pub(super) fn keys() -> Vec<String> {
    fn walk(root: &Value, at: &Value, path: &str, keys: &mut Vec<String>) {
        let Some(properties) = resolve(root, at).get("properties").and_then(Value::as_object) else {
            keys.push(path.to_owned());
            return;
        };
        for (key, value) in properties {
            let items = resolve(root, value).get("items").unwrap_or(value);
            walk(root, items, &super::tree::join(path, key), keys);
        }
    }
    let root = schema();
    let mut keys = Vec::new();
    walk(&root, &root, "", &mut keys);
    keys
}

/// Follows `$ref`, and the one shape in an `anyOf` with null.
pub(super) fn resolve<'a>(root: &'a Value, at: &'a Value) -> &'a Value {
    let at = at.get("anyOf").and_then(|any| any.get(0)).unwrap_or(at);
    let name = at.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/$defs/"));
    name.and_then(|name| root.get("$defs")?.get(name)).unwrap_or(at)
}

/// The shapes' own defaults are placeholders: what is missing in one layer comes from a lower one.
fn strip_zero_defaults(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let is_shape = object.contains_key("properties");
            object.remove("default");
            if is_shape {
                object.remove("required");
            }
            object.values_mut().for_each(strip_zero_defaults);
        }
        Value::Array(list) => list.iter_mut().for_each(strip_zero_defaults),
        _ => {}
    }
}

fn add_defaults(schema: &mut Value, definition: &str, defaults: &Node) {
    for shown in show::values(defaults) {
        let (section, key) = shown.key.rsplit_once('.').unwrap_or(("", &shown.key));
        let definition = match (definition, section) {
            ("", "") => None,
            ("", section) => {
                let at = schema.get("properties").and_then(|properties| properties.get(section));
                let reference = at.and_then(|at| at.get("$ref")).and_then(Value::as_str);
                reference.and_then(|path| path.rsplit('/').next()).map(str::to_owned)
            }
            (definition, _) => Some(definition.to_owned()),
        };
        let shape = match definition {
            Some(definition) => schema.get_mut("$defs").and_then(|defs| defs.get_mut(definition)),
            None => Some(&mut *schema),
        };
        let property = shape.and_then(|shape| shape.get_mut("properties")?.get_mut(key)?.as_object_mut());
        if let Some(property) = property {
            property.insert("default".to_owned(), shown.value);
        }
    }
}
