//! The log of one node.

use super::coverage::{Coverage, Digest, ISSUERS_MAX};
use super::marks::{Judgement, MARKS_MAX, Mark, Marks, Subject, is_floor};
use super::record::Record;
use super::target::{SiteId, Target};
use super::{Issuer, Mode, PurgeId};
use crate::proto::object::PurgePosition;
use crate::proto::time::Wall;

/// A purge of one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: PurgeId,
    /// What it selects.
    pub target: Target,
}

/// Purges that are applied together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// What whoever applies it must cover already, of the issuers that `coverage` names.
    pub basis: Coverage,
    /// What is covered when it has been applied, of issuers that may be fewer than all.
    pub coverage: Coverage,
    /// The purges beyond the basis, but for those of which only the floor is left.
    pub entries: Vec<Entry>,
    /// Applied even if they are covered: purges that were forgotten are among them.
    pub floors: Vec<Entry>,
}

/// Why a batch is not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gap {
    /// It begins where this log has not come to yet.
    #[error("purges before it have not been applied yet")]
    Behind,
    /// The log keeps count of as many issuers as it may.
    #[error("the purge log knows {ISSUERS_MAX} issuers already")]
    Issuers,
}

/// What applying a batch changes; to be made durable before it is [applied](Log::apply).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The position of the log from then on.
    pub position: PurgePosition,
    /// When, by this node's clock.
    pub at: Wall,
    /// What is new.
    pub entries: Vec<Entry>,
    /// What is covered by it.
    pub coverage: Coverage,
}

impl Applied {
    /// Whether nothing is new.
    pub fn is_nothing(&self) -> bool {
        self.entries.is_empty() && self.coverage.is_empty()
    }

    /// What is to be written. What is covered comes last, so that a part of it that was written alone is applied again.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let (position, at) = (self.position, self.at);
        let entries = self.entries.iter().map(move |&entry| Record::Entry { entry, position, at });
        entries.chain(self.coverage.iter().map(Record::Covered))
    }
}

/// The purges that a node has applied.
#[derive(Debug)]
pub struct Log {
    issuer: Issuer,
    position: PurgePosition,
    coverage: Coverage,
    digest: Digest,
    /// Purges of which only a floor is left, or less: up to which number of each issuer there are such.
    forgotten: Coverage,
    marks: Marks,
    folded: u64,
}

impl Log {
    /// An empty log of a node that issues its purges as `issuer`.
    pub fn new(issuer: Issuer) -> Self {
        Self {
            issuer,
            position: PurgePosition::default(),
            coverage: Coverage::default(),
            digest: Coverage::default().digest(),
            forgotten: Coverage::default(),
            marks: Marks::default(),
            folded: 0,
        }
    }

    /// The log that these records, in the order in which they were written, are of. `None` if they do not say whose it is.
    pub fn restore(records: impl IntoIterator<Item = Record>) -> Option<Self> {
        let mut records = records.into_iter();
        let Some(Record::Issuer(issuer)) = records.next() else { return None };
        let mut log = Self::new(issuer);
        for record in records {
            match record {
                Record::Issuer(_) | Record::Snapshot => {}
                Record::Entry { entry, position, at } => {
                    log.position = log.position.max(position);
                    log.marks.set(entry.target, entry.id, (position, at), &mut log.forgotten);
                }
                Record::Covered(id) => log.coverage.add(id),
                Record::Forgotten(id) => log.forgotten.add(id),
                Record::Position(position) => log.position = log.position.max(position),
            }
        }
        log.fold();
        log.digest = log.coverage.digest();
        Some(log)
    }

    /// All that is to be kept, as records.
    pub fn snapshot(&self) -> Vec<Record> {
        let mut marks: Vec<_> = self.marks.iter().collect();
        marks.sort_by_key(|(target, mark)| (mark.position, **target));
        let entries = marks.into_iter().flat_map(|(&target, mark)| {
            let &Mark { position, at, .. } = mark;
            mark.ids.iter().map(move |&id| Record::Entry { entry: Entry { id, target }, position, at })
        });
        [Record::Issuer(self.issuer), Record::Position(self.position)]
            .into_iter()
            .chain(entries)
            .chain(self.forgotten.iter().map(Record::Forgotten))
            .chain(self.coverage.iter().map(Record::Covered))
            .collect()
    }

    /// As whom this node issues purges.
    pub fn issuer(&self) -> Issuer {
        self.issuer
    }

    /// Purges are issued under another name from now on, since it is not known how many were under the old one.
    pub fn rename(&mut self, issuer: Issuer) {
        self.issuer = issuer;
    }

    /// How many times purges were applied.
    pub fn position(&self) -> PurgePosition {
        self.position
    }

    /// Which purges have been applied.
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// Hash of the coverage.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Targets that are kept apart.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether nothing was ever purged.
    pub fn is_empty(&self) -> bool {
        self.marks.len() == 0
    }

    /// Targets that became floors since this log was restored or made.
    pub fn folded(&self) -> u64 {
        self.folded
    }

    /// A batch of new purges of this node, numbered from the next on. To be applied here before anything else is issued.
    pub fn issue(&self, targets: impl IntoIterator<Item = Target>) -> Batch {
        let (issuer, before) = (self.issuer, self.coverage.number(self.issuer));
        let entries: Vec<_> = (before + 1..)
            .zip(targets)
            .map(|(number, target)| Entry { id: PurgeId { issuer, number }, target })
            .collect();
        Batch {
            basis: std::iter::once(PurgeId { issuer, number: before }).collect(),
            coverage: entries.last().map(|last| last.id).into_iter().collect(),
            entries,
            floors: Vec::new(),
        }
    }

    /// What applying `batch` at `now` changes.
    ///
    /// # Errors
    /// If it does not follow on what was applied.
    pub fn prepare(&self, batch: &Batch, now: Wall) -> Result<Applied, Gap> {
        let follows = |id: PurgeId| self.coverage.number(id.issuer) >= batch.basis.number(id.issuer);
        if !batch.coverage.iter().all(follows) {
            return Err(Gap::Behind);
        }
        let coverage: Coverage = batch.coverage.iter().filter(|id| !self.coverage.has(*id)).collect();
        let unknown = coverage.iter().filter(|id| self.coverage.number(id.issuer) == 0).count();
        if self.coverage.len() + unknown > ISSUERS_MAX {
            return Err(Gap::Issuers);
        }
        // Nothing is applied that the batch does not say to be covered by it: it would be applied again.
        let is_new = |entry: &&Entry| !self.coverage.has(entry.id) && coverage.has(entry.id);
        let mut entries: Vec<_> = batch.entries.iter().filter(is_new).copied().collect();
        if !coverage.is_empty() {
            entries.extend(&batch.floors);
        }
        let position = PurgePosition(self.position.0 + u64::from(!entries.is_empty()));
        Ok(Applied { position, at: now, entries, coverage })
    }

    /// Applies what [`prepare`](Self::prepare) has just said.
    pub fn apply(&mut self, applied: &Applied) {
        for Entry { id, target } in &applied.entries {
            self.marks.set(*target, *id, (applied.position, applied.at), &mut self.forgotten);
        }
        self.position = applied.position;
        self.coverage.merge(&applied.coverage);
        self.digest = self.coverage.digest();
        self.fold();
    }

    fn fold(&mut self) {
        self.folded += self.marks.fold(MARKS_MAX, &mut self.forgotten) as u64;
    }

    /// What a log that covers `theirs` lacks of this one.
    pub fn missing(&self, theirs: &Coverage) -> Batch {
        let coverage: Coverage = self.coverage.iter().filter(|id| !theirs.has(*id)).collect();
        let basis = coverage.iter().map(|id| PurgeId { number: theirs.number(id.issuer), ..id }).collect();
        let lacks = |id: &PurgeId| !theirs.has(*id);
        let has_forgotten = self.forgotten.iter().any(|id| lacks(&id));
        let mut entries = Vec::new();
        let mut floors = Vec::new();
        for (&target, mark) in self.marks.iter() {
            entries.extend(mark.ids.iter().copied().filter(lacks).map(|id| Entry { id, target }));
            if has_forgotten && (is_floor(target.kind) || mark.is_crowded()) {
                floors.extend(mark.ids.last().map(|&id| Entry { id, target }));
            }
        }
        Batch { basis, coverage, entries, floors }
    }

    /// What purges later than `since` make of `subject`.
    pub fn judge(&self, subject: &Subject<'_>, since: PurgePosition) -> Judgement {
        if since >= self.position { Judgement::Clear } else { self.marks.judge(subject, since) }
    }

    /// What this log said was lost: nothing that was fetched before may be used. `newest` is the position of the latest fetch.
    pub fn lost(&self, newest: PurgePosition, now: Wall) -> Applied {
        // No other node is told of a purge with number 0: everybody covers it.
        let id = PurgeId { issuer: self.issuer, number: 0 };
        let entry = Entry { id, target: Target::site(Mode::Hard, SiteId::ALL) };
        let position = PurgePosition(newest.max(self.position).0 + 1);
        Applied { position, at: now, entries: vec![entry], coverage: Coverage::default() }
    }
}
