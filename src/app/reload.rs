//! Reads the configuration again, because a signal or the admin interface says so. One at a time, so that the latest file
//! is the one in force at the end.

use super::assembly::Assembly;
use super::service::ServiceManager;
use crate::config::{self, Sources};
use parking_lot::Mutex;
use std::sync::Arc;

/// Puts configurations in force in a running node.
pub(super) struct Reloader {
    assembly: Arc<Assembly>,
    sources: Sources,
    manager: Arc<ServiceManager>,
    /// Locked while a configuration is read and put in force.
    turn: Mutex<()>,
}

impl Reloader {
    /// For a node that was built from `sources`.
    pub(super) fn new(assembly: Arc<Assembly>, sources: Sources, manager: Arc<ServiceManager>) -> Self {
        Self { assembly, sources, manager, turn: Mutex::new(()) }
    }

    /// Reads the configuration again and puts it in force, or keeps the old one whole; logged, counted and told to the
    /// service manager. Returns what changes only after a restart. Blocks on files.
    ///
    /// # Errors
    /// What is wrong with the new one.
    pub(super) fn reload(&self) -> Result<Vec<&'static str>, String> {
        let _turn = self.turn.lock();
        self.manager.reloading();
        let applied = self.assembly.reload(config::load(&self.sources));
        self.manager.ready(&match &applied {
            Ok(_) => "the configuration was reloaded".to_owned(),
            Err(error) => format!("the configuration was not reloaded, the old one stays in force: {error}"),
        });
        applied
    }
}
