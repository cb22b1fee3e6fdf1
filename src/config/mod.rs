//! Configuration: raw shapes as operators write them, and the validated values that rooms use.
//!
//! ```text
//! defaults.toml ─┐
//! file ──────────┤  layer: trees with a source for each value ── each read alone (mistakes: keys, types)
//! SHOAL__A__B ───┤
//! flags ─────────┘→ merged by the `config` crate → completed → raw shapes → model (mistakes: meaning)
//! ```
//!
//! All mistakes of a stage are reported at once. Lives here: shapes, layers, validation, the JSON
//! schema. Never: opening what the configuration names (certificates, folders, sockets). A reload
//! calls [`load`] again with the same [`Sources`].

mod layer;
pub mod model;
mod read;
pub mod reference;
mod scalar;
mod schema;
mod sections;
mod show;
mod tree;

pub use schema::schema;
pub use show::Shown;

use sections::RawConfig;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a configuration comes from, lowest first: defaults, file, environment, flags.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file, or YAML by its extension (`.yaml`, `.yml`).
    pub file: Option<PathBuf>,
    /// Environment; only `SHOAL__SECTION__KEY` is read.
    pub env: Vec<(OsString, OsString)>,
    /// What the command line says.
    pub flags: Vec<Flag>,
    /// What the machine says.
    pub machine: Machine,
}

impl Sources {
    /// Sources with the environment and the facts of this process.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        Self { file, env: std::env::vars_os().collect(), flags, machine: Machine::this() }
    }
}

/// One key that the command line sets.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As the user wrote it, with dashes.
    pub name: &'static str,
    /// The key that it sets, such as `cache.memory` or `cache.disk[0].path`.
    pub key: &'static str,
    /// Its value, or values if it may be repeated.
    pub value: FlagValue,
}

/// What a flag was given.
#[derive(Clone, Debug)]
pub enum FlagValue {
    /// One value.
    One(String),
    /// One for each time that it was given.
    Many(Vec<String>),
}

/// Facts of the machine that some defaults follow.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Host name; the node's name is made from it.
    pub hostname: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Open files that a node in this process may have.
    pub descriptors: u64,
}

impl Default for Machine {
    /// A small machine without a name.
    fn default() -> Self {
        Self { hostname: "shoal".to_owned(), cores: 1, descriptors: 1024 }
    }
}

impl Machine {
    /// This machine.
    pub fn this() -> Self {
        let fallback = Self::default();
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname")
            .ok()
            .or_else(|| std::env::var("HOSTNAME").ok())
            .map_or(fallback.hostname, |name| name.trim().to_owned());
        Self {
            hostname,
            cores: std::thread::available_parallelism().map_or(fallback.cores, usize::from),
            // A node takes all that it may have when it starts.
            descriptors: rustix::process::getrlimit(rustix::process::Resource::Nofile)
                .maximum
                .unwrap_or(u64::MAX),
        }
    }
}

/// A configuration that passed every check.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// For the rooms.
    pub config: Arc<model::Config>,
    /// Which source set each key, such as `cache.memory` or `site[0].origins[1]`.
    pub origin_of: BTreeMap<String, Source>,
    /// Every key with its effective value, in the order of the key paths.
    pub shown: Vec<Shown>,
}

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Source {
    /// Nobody: it is the default.
    Default,
    /// A file. Line and column count from 1, in characters; YAML has none.
    File {
        /// The file.
        path: String,
        /// Line and column.
        at: Option<(usize, usize)>,
    },
    /// A variable of the environment.
    Env {
        /// Its name.
        name: String,
    },
    /// A flag of the command line.
    Flag {
        /// Its name, with dashes.
        name: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, at: None } => f.write_str(path),
            Self::File { path, at: Some((line, column)) } => write!(f, "{path}:{line}:{column}"),
            Self::Env { name } | Self::Flag { name } => f.write_str(name),
        }
    }
}

/// Something in the configuration that cannot stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// Who wrote it; `None` if nobody did, as for something missing.
    pub source: Option<Source>,
    /// Path of the key, such as `site[0].origins[1]`; empty for a file as a whole.
    pub key: String,
    /// What is wrong and what would be right.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = self.source.as_ref().filter(|source| **source != Source::Default) {
            write!(f, "{source}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

/// All mistakes of a stage: one a line. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct ConfigErrors {
    /// At least one; at most 100.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl ConfigErrors {
    /// `{"mistakes": [{"source": …, "key": …, "what": …}]}`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "mistakes": self.mistakes })
    }
}

/// Mistakes reported at once; a file in the wrong format could give thousands.
const MISTAKES_MAX: usize = 100;

/// Reads, merges and checks a configuration.
///
/// # Errors
/// First all wrong keys and types of all sources, then all that is wrong in meaning.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigErrors> {
    let layers = layer::read_all(sources).map_err(errors)?;
    let merged = tree::merge(layers).map_err(|mistake| errors(vec![mistake]))?;
    let completed = layer::complete(merged);
    let (raw, mistakes) = read::read::<RawConfig>(&completed);
    if !mistakes.is_empty() {
        return Err(errors(mistakes));
    }
    let config = sections::validate(raw, &completed).map_err(errors)?;
    let shown = show::values(&completed);
    let origin_of = shown.iter().map(|shown| (shown.key.clone(), shown.source.clone())).collect();
    Ok(Loaded { config: Arc::new(config), origin_of, shown })
}

/// In the order of the file, then environment and flags, then what nobody wrote.
fn errors(mut mistakes: Vec<Mistake>) -> ConfigErrors {
    mistakes.sort_by_key(|mistake| match &mistake.source {
        Some(Source::File { at, .. }) => (0, *at),
        Some(Source::Env { .. }) => (1, None),
        Some(Source::Flag { .. }) => (2, None),
        Some(Source::Default) | None => (3, None),
    });
    mistakes.truncate(MISTAKES_MAX);
    ConfigErrors { mistakes }
}

#[cfg(test)]
mod tests;
