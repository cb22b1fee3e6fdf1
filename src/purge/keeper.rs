//! The one task that applies purges.

use super::journal::Journal;
use super::{PurgeError, Shared};
use crate::proto::purge::{Batch, Issuer, Target};
use crate::task::Spawner;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use tokio::sync::{mpsc, oneshot};

/// What the keeper is told.
pub(super) enum Command {
    /// Issue a purge of these targets.
    Issue { targets: Vec<Target>, done: oneshot::Sender<Result<Batch, PurgeError>> },
    /// Apply what another node knows of.
    Apply { batch: Batch, done: oneshot::Sender<Result<(), PurgeError>> },
}

/// Writes and applies, one command after the other.
pub(super) struct Keeper {
    shared: Weak<Shared>,
    /// `None` without a disk tier.
    journal: Option<Journal>,
    spawner: Spawner,
    /// Whether this node took a new name, since it issued before it had heard of its fleet.
    renamed: bool,
}

impl Keeper {
    pub(super) fn new(shared: &Arc<Shared>, journal: Option<Journal>, spawner: Spawner) -> Self {
        Self { shared: Arc::downgrade(shared), journal, spawner, renamed: false }
    }

    /// Until nobody can command any more.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        while let Some(command) = queue.recv().await {
            let Some(shared) = self.shared.upgrade() else { return };
            // Who asked may have gone; what was purged is purged.
            match command {
                Command::Issue { targets, done } => {
                    self.named(&shared);
                    let batch = shared.log.read().issue(targets);
                    let applied = self.apply(&shared, &batch).await;
                    drop(done.send(applied.map(|()| batch)));
                }
                Command::Apply { batch, done } => drop(done.send(self.apply(&shared, &batch).await)),
            }
        }
    }

    /// Numbers go on where the journal ends. If an old one was put back, others know purges of this name that it does not,
    /// and would take a number that is used again for one that they have applied. The first comparison with them brings what
    /// is missing; before it, this node issues under a name of this life.
    fn named(&mut self, shared: &Shared) {
        if !self.renamed && self.journal.is_some() && !shared.has_compared() {
            self.renamed = true;
            shared.log.write().rename(Issuer(rand::random()));
        }
    }

    /// Durable first, then in force.
    async fn apply(&mut self, shared: &Shared, batch: &Batch) -> Result<(), PurgeError> {
        let applied = shared.log.read().prepare(batch, shared.now())?;
        if applied.is_nothing() {
            return Ok(());
        }
        if let Some(mut journal) = self.journal.take() {
            let records: Vec<_> = applied.records().collect();
            let snapshot = journal.is_full(records.len()).then(|| shared.log.read().snapshot());
            let written = self.spawner.blocking(move || {
                let written = journal.append(&records, snapshot);
                (journal, written)
            });
            let (journal, written) = written.await.ok_or(PurgeError::Stopping)?;
            self.journal = Some(journal);
            written.map_err(|error| PurgeError::Journal(error.to_string()))?;
        }
        for entry in &applied.entries {
            shared.metrics.purges.applied(entry.target.kind, entry.target.mode).inc();
        }
        let mut log = shared.log.write();
        log.apply(&applied);
        shared.position.store(log.position().0, Ordering::Release);
        Ok(())
    }
}
