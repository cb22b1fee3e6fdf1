//! Reads the configuration again: because a signal or the admin interface says so, or because its file has changed. One
//! at a time, so that the latest file is the one in force at the end.

use super::assembly::Assembly;
use super::capacity;
use super::service::ServiceManager;
use crate::clock::Clock;
use crate::config::{self, Sources};
use crate::task::Spawner;
use parking_lot::Mutex;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the file is looked at (`node.watch_config`).
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How long a file that could not be put in force is left alone. What it names, such as a certificate, may come after it.
const RETRY_AFTER: Duration = Duration::from_secs(30);
/// Bytes of the file that are compared; a longer one is seen to change if these do.
const COMPARED_BYTES_MAX: u64 = 16 << 20;

/// The content of a configuration file, for telling whether it has changed.
type Content = blake3::Hash;

/// Puts configurations in force in a running node.
pub(super) struct Reloader {
    assembly: Arc<Assembly>,
    sources: Sources,
    manager: Arc<ServiceManager>,
    /// Locked while a configuration is read and put in force.
    last: Mutex<Last>,
}

/// The last try.
struct Last {
    /// Of the file as it was just before; `None` if it could not be read.
    content: Option<Content>,
    /// When it failed, if it did.
    failed: Option<Instant>,
}

impl Reloader {
    /// For a node that was built from `sources` when their file had this content.
    pub(super) fn new(
        assembly: Arc<Assembly>,
        sources: Sources,
        content: Option<Content>,
        manager: Arc<ServiceManager>,
    ) -> Self {
        Self { assembly, sources, manager, last: Mutex::new(Last { content, failed: None }) }
    }

    /// Reads the configuration again and puts it in force, or keeps the old one whole; logged, counted and told to the
    /// service manager. Returns what changes only after a restart. Blocks on files.
    ///
    /// # Errors
    /// What is wrong with the new one.
    pub(super) fn reload(&self) -> Result<Vec<&'static str>, String> {
        self.reload_at(&mut self.last.lock())
    }

    fn reload_at(&self, last: &mut Last) -> Result<Vec<&'static str>, String> {
        self.manager.reloading();
        // Before the file is read for its meaning, so that a change during that is seen next time.
        last.content = content_of(&self.sources);
        let applied = self.assembly.reload(config::load(&self.sources));
        last.failed = applied.is_err().then(|| self.clock().mono());
        if applied.is_ok() {
            capacity::check(&self.assembly.config());
        }
        self.manager.ready(&match &applied {
            Ok(_) => "the configuration was reloaded".to_owned(),
            Err(error) => format!("the configuration was not reloaded, the old one stays in force: {error}"),
        });
        applied
    }

    /// Reloads when the file has changed, until `spawner` stops, as long as `node.watch_config` is set. Sees files that
    /// are written, renamed into place, or swapped by a symbolic link above them.
    pub(super) fn watch(self: &Arc<Self>, spawner: &Spawner) {
        let (reloader, owner) = (Arc::clone(self), spawner.clone());
        spawner.spawn(async move {
            let mut seen = None;
            loop {
                tokio::time::sleep(WATCH_INTERVAL).await;
                if reloader.assembly.config().node.watch_config {
                    let reloader = Arc::clone(&reloader);
                    seen = owner.blocking(move || reloader.look(seen)).await.flatten();
                }
            }
        });
    }

    /// Reloads if the file has other content than at the last try, and the same as when it was looked at before: who
    /// writes it has finished. Returns the content.
    fn look(&self, before: Option<Content>) -> Option<Content> {
        // A file that is not there is being replaced, or was removed: neither is a new configuration.
        let content = content_of(&self.sources)?;
        let mut last = self.last.lock();
        let retry =
            last.failed.is_some_and(|at| self.clock().mono().saturating_duration_since(at) >= RETRY_AFTER);
        if Some(content) == before && (Some(content) != last.content || retry) {
            tracing::info!(file = ?self.sources.file, "the configuration file has changed");
            // The result is logged and counted where it arises.
            let _ = self.reload_at(&mut last);
        }
        Some(content)
    }

    fn clock(&self) -> Clock {
        self.assembly.node.clock
    }
}

/// What the file of `sources` says now; `None` without one, or if it cannot be read.
pub(super) fn content_of(sources: &Sources) -> Option<Content> {
    let read = |path: &Path| -> io::Result<Content> {
        let mut bytes = Vec::new();
        File::open(path)?.take(COMPARED_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(blake3::hash(&bytes))
    };
    read(sources.file.as_deref()?).ok()
}
