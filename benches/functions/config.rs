//! Configurations for nodes and routers under measurement, read as the program reads its own.

use shoal::config::{self, Loaded, Machine, Sources};

/// What a file with `text` says, with nothing from the environment.
pub(crate) fn load(text: &str) -> Loaded {
    let folder = tempfile::tempdir().expect("a folder for the configuration");
    let file = folder.path().join("shoal.toml");
    std::fs::write(&file, text).expect("the configuration is written");
    let sources =
        Sources { file: Some(file), env: Vec::new(), flags: Vec::new(), machine: Machine::default() };
    config::load(&sources).unwrap_or_else(|errors| panic!("{errors}"))
}
