//! The purges that this node has applied: in memory for judging, on disk so that no restart forgets them.
//!
//! ```text
//! issue | apply ──> keeper: numbered, written and made durable (journal) ──> log in memory ──> position
//! a hit: head.position == position? else judge, once, and remembered
//! ```
//! One task applies purges, one after the other; all others read. A purge that was answered is durable and counts for every
//! request that comes later. Without a disk tier nothing is written: what is stored goes with the log.
//!
//! Also here: whether this node is in sync with its fleet, so that it knows of all purges of the last seconds.

mod journal;
mod keeper;

use crate::clock::Clock;
use crate::proto::key;
use crate::proto::object::{Head, PurgePosition};
pub use crate::proto::purge::SYNC_HORIZON;
use crate::proto::purge::{
    Batch, Coverage, Digest, Gap, Issuer, Judgement, Log, Mode, PurgeId, Selector, Subject,
};
use crate::proto::time::Wall;
use crate::store::Device;
use crate::task::Spawner;
use crate::telemetry::Metrics;
use journal::Journal;
use keeper::{Command, Keeper};
use parking_lot::RwLock;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// Purges that wait for the keeper; who comes later waits in turn.
const COMMANDS_MAX: usize = 64;
/// Name of the log's folder within that of the disk tier.
const FOLDER: &str = "purges";

/// Why a purge was not applied here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurgeError {
    /// It does not follow on what was applied.
    #[error(transparent)]
    Gap(#[from] Gap),
    /// The log could not be written. Nothing was applied.
    #[error("the purge log cannot be written: {0}")]
    Journal(String),
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
}

/// Why the log was not opened.
#[derive(Debug, thiserror::Error)]
#[error("purge log {}: {error}", path.display())]
pub struct OpenError {
    /// The folder.
    path: PathBuf,
    /// The operating system's answer.
    error: io::Error,
}

/// What stands in the log already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Targets that are kept apart.
    pub entries: usize,
    /// Targets that became floors since the start.
    pub folded: u64,
    /// How many times purges were applied.
    pub position: PurgePosition,
    /// Issuers of purges.
    pub issuers: usize,
}

/// What the log stands on.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Time.
    pub clock: Clock,
    /// Where it counts.
    pub metrics: &'a Arc<Metrics>,
    /// Owner of its task.
    pub spawner: &'a Spawner,
}

/// The purges of this node. Clones are the same.
#[derive(Clone)]
pub struct Purges(Arc<Shared>);

struct Shared {
    /// That of the log, to be read without a lock.
    position: AtomicU64,
    log: RwLock<Log>,
    commands: mpsc::Sender<Command>,
    clock: Clock,
    metrics: Arc<Metrics>,
    begun: Instant,
    /// Until when this node is in sync, in milliseconds since `begun`; [`u64::MAX`] is for ever.
    synced_until: AtomicU64,
}

impl Purges {
    /// A log that is not on disk, since nothing that is stored is. A node without a fleet is in sync for ever.
    pub fn unwritten(in_fleet: bool, surroundings: Surroundings<'_>) -> Self {
        Self::of(Log::new(Issuer(rand::random())), None, in_fleet, surroundings)
    }

    /// Opens the log in `disk`, the folder of the disk tier. `newest` is the latest position of what is stored there, `None` if
    /// nothing is: a log that does not reach so far was lost, and then nothing stored may be used.
    ///
    /// # Errors
    /// If the folder cannot be read or written.
    pub async fn open(
        (device, disk): (Arc<dyn Device>, &Path),
        newest: Option<PurgePosition>,
        in_fleet: bool,
        surroundings: Surroundings<'_>,
    ) -> Result<Self, OpenError> {
        let path = disk.join(FOLDER);
        let (at, now) = (path.clone(), surroundings.clock.now().wall);
        let new = Log::new(Issuer(rand::random()));
        let opened =
            surroundings.spawner.blocking(move || Journal::open(&*device, &at, new, newest, now)).await;
        let opened = opened.unwrap_or_else(|| Err(io::Error::other("its reader panicked")));
        let (journal, log) = opened.map_err(|error| OpenError { path, error })?;
        Ok(Self::of(log, Some(journal), in_fleet, surroundings))
    }

    fn of(log: Log, journal: Option<Journal>, in_fleet: bool, surroundings: Surroundings<'_>) -> Self {
        let Surroundings { clock, metrics, spawner } = surroundings;
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        let shared = Shared {
            position: AtomicU64::new(log.position().0),
            log: RwLock::new(log),
            commands,
            clock,
            metrics: Arc::clone(metrics),
            begun: clock.mono(),
            synced_until: AtomicU64::new(if in_fleet { 0 } else { u64::MAX }),
        };
        let shared = Arc::new(shared);
        spawner.spawn(Keeper::new(&shared, journal, spawner.clone()).run(queue));
        Self(shared)
    }

    /// How many times purges were applied. One atomic load.
    #[inline]
    pub fn position(&self) -> PurgePosition {
        PurgePosition(self.0.position.load(Ordering::Acquire))
    }

    /// What purges make of a stored response. One comparison if none was applied since it was last asked.
    #[inline]
    pub fn judge(&self, head: &Head) -> Judgement {
        let now = self.position();
        if head.position.get() >= now { Judgement::Clear } else { self.judge_anew(head) }
    }

    #[cold]
    fn judge_anew(&self, head: &Head) -> Judgement {
        // A key that cannot be read selects nothing, and nothing could select it.
        let Some(key) = key::decode(head.key()) else { return Judgement::Hard };
        let fields = head.fields();
        let log = self.0.log.read();
        let judgement = log.judge(&Subject { key, fields: Some(&fields) }, head.position.get());
        if judgement == Judgement::Clear {
            head.position.raise(log.position());
        }
        judgement
    }

    /// What purges that were applied after `since` make of what is being fetched.
    pub fn judge_since(&self, subject: &Subject<'_>, since: PurgePosition) -> Judgement {
        if since >= self.position() { Judgement::Clear } else { self.0.log.read().judge(subject, since) }
    }

    /// Whether a purge that was applied after `since` may select what is being fetched.
    pub fn overtakes(&self, subject: &Subject<'_>, since: PurgePosition) -> bool {
        self.judge_since(subject, since) != Judgement::Clear
    }

    /// Issues a purge of this node: numbered, durable, and applied here when this returns. Goes on if the caller goes.
    ///
    /// # Errors
    /// If it could not be made durable; then nothing is purged.
    pub async fn issue(&self, mode: Mode, selectors: &[Selector]) -> Result<Batch, PurgeError> {
        let targets = selectors.iter().map(|selector| selector.target(mode)).collect();
        self.command(|done| Command::Issue { targets, done }).await
    }

    /// Applies what another node knows of. What is covered already changes nothing.
    ///
    /// # Errors
    /// If it does not follow on what was applied here, or could not be made durable.
    pub async fn apply(&self, batch: Batch) -> Result<(), PurgeError> {
        self.command(|done| Command::Apply { batch, done }).await
    }

    async fn command<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, PurgeError>>) -> Command,
    ) -> Result<T, PurgeError> {
        let (done, answer) = oneshot::channel();
        self.0.commands.send(command(done)).await.map_err(|_stopped| PurgeError::Stopping)?;
        answer.await.unwrap_or(Err(PurgeError::Stopping))
    }

    /// As whom this node issues purges.
    pub fn issuer(&self) -> Issuer {
        self.0.log.read().issuer()
    }

    /// Which purges have been applied.
    pub fn coverage(&self) -> Coverage {
        self.0.log.read().coverage().clone()
    }

    /// Hash of the coverage.
    pub fn digest(&self) -> Digest {
        self.0.log.read().digest()
    }

    /// Whether all that `other` covers has been applied.
    pub fn covers(&self, other: &Coverage) -> bool {
        self.0.log.read().coverage().covers(other)
    }

    /// Whether a purge has been applied.
    pub fn has(&self, id: PurgeId) -> bool {
        self.0.log.read().coverage().has(id)
    }

    /// What a node that covers `theirs` lacks.
    pub fn missing(&self, theirs: &Coverage) -> Batch {
        self.0.log.read().missing(theirs)
    }

    /// Figures of the log.
    pub fn usage(&self) -> Usage {
        let log = self.0.log.read();
        let (entries, folded) = (log.len(), log.folded());
        Usage { entries, folded, position: log.position(), issuers: log.coverage().len() }
    }

    /// Whether this node knows of all purges of its fleet, but for those of the last [`SYNC_HORIZON`]. If not, nothing stored
    /// is to be served without asking the origin.
    #[inline]
    pub fn in_sync(&self, now: Instant) -> bool {
        let until = self.0.synced_until.load(Ordering::Acquire);
        until == u64::MAX || self.millis(now) < until
    }

    /// This node is in sync until `until`, as far as is known now.
    pub fn synced(&self, until: Instant) {
        self.0.synced_until.store(self.millis(until), Ordering::Release);
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.0.begun).as_millis()).unwrap_or(u64::MAX - 1)
    }
}

impl Shared {
    /// Whether this node was ever in sync in this life.
    fn has_compared(&self) -> bool {
        self.synced_until.load(Ordering::Acquire) != 0
    }

    fn now(&self) -> Wall {
        self.clock.now().wall
    }
}

#[cfg(test)]
mod tests;
