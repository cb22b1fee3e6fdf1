//! What two nodes tell each other of purges: a coverage and a batch, cut into messages, and put together again with every
//! part checked.

use super::coverage::{Coverage, Digest, ISSUERS_MAX};
use super::log::{Batch, Entry};
use super::marks::{IDS_MAX, MARKS_MAX};
use super::target::{Mode, PREFIX_MAX, SelectorKind, SiteId, Target};
use super::{Issuer, PurgeId};
use crate::proto::wire::{self, PURGES_MAX, PurgeEntry, PurgeStep};
use std::iter::Peekable;

/// Purges in one parcel: as many as a log keeps apart.
const ENTRIES_MAX: usize = MARKS_MAX * IDS_MAX;

/// What became of the purges that a node was told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reception {
    /// All are applied.
    #[default]
    Applied,
    /// They begin where the node has not come to yet: it states what it covers.
    Behind,
    /// Its log cannot be written.
    Unwritten,
    /// Its log knows as many issuers as it may.
    Full,
    /// It is stopping.
    Stopping,
}

impl Reception {
    const ALL: [Self; 5] = [Self::Applied, Self::Behind, Self::Unwritten, Self::Full, Self::Stopping];

    fn code(self) -> u32 {
        self as u32
    }

    fn of_code(code: u32) -> Result<Self, Malformed> {
        let known = usize::try_from(code).ok().and_then(|code| Self::ALL.get(code));
        known.copied().ok_or(Malformed("reception"))
    }
}

/// What a node says of itself and tells another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parcel {
    /// Hash of what it covers.
    pub digest: Digest,
    /// All that it covers, if the other needs to know.
    pub coverage: Option<Coverage>,
    /// What the other may lack.
    pub batch: Batch,
    /// Of an answer: what became of the purges that it answers.
    pub reception: Reception,
}

/// Which part of a message is not what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("purges with a wrong {0}")]
pub struct Malformed(&'static str);

impl Parcel {
    /// The messages that it is sent in; at least one.
    pub fn messages(&self) -> Messages<'_> {
        let covered = self.coverage.iter().flat_map(Coverage::iter);
        let basis = &self.batch.basis;
        let steps = self.batch.coverage.iter().map(|id| (id, basis.number(id.issuer)));
        Messages {
            parcel: self,
            is_first: true,
            covered: (Box::new(covered) as Box<dyn Iterator<Item = _> + Send>).peekable(),
            steps: (Box::new(steps) as Box<dyn Iterator<Item = _> + Send>).peekable(),
            entries: self.batch.entries.iter().peekable(),
            floors: self.batch.floors.iter().peekable(),
        }
    }
}

/// A parcel in messages.
pub struct Messages<'a> {
    parcel: &'a Parcel,
    is_first: bool,
    covered: Peekable<Box<dyn Iterator<Item = PurgeId> + Send + 'a>>,
    steps: Peekable<Box<dyn Iterator<Item = (PurgeId, u64)> + Send + 'a>>,
    entries: Peekable<std::slice::Iter<'a, Entry>>,
    floors: Peekable<std::slice::Iter<'a, Entry>>,
}

impl Messages<'_> {
    fn is_done(&mut self) -> bool {
        let (covered, steps) = (self.covered.peek().is_none(), self.steps.peek().is_none());
        covered && steps && self.entries.peek().is_none() && self.floors.peek().is_none()
    }
}

impl Iterator for Messages<'_> {
    type Item = wire::Purges;

    fn next(&mut self) -> Option<wire::Purges> {
        let is_first = std::mem::take(&mut self.is_first);
        if !is_first && self.is_done() {
            return None;
        }
        let mut message = wire::Purges::default();
        if is_first {
            message.digest = self.parcel.digest.0.to_vec();
            message.stated = self.parcel.coverage.is_some();
            message.reception = self.parcel.reception.code();
        }
        let mut room = PURGES_MAX;
        message.covered = self.covered.by_ref().take(room).map(wire::Covered::from).collect();
        room -= message.covered.len();
        message.steps = self.steps.by_ref().take(room).map(|(id, basis)| step(id, basis)).collect();
        room -= message.steps.len();
        message.entries = self.entries.by_ref().take(room).map(PurgeEntry::from).collect();
        room -= message.entries.len();
        message.floors = self.floors.by_ref().take(room).map(PurgeEntry::from).collect();
        message.more = !self.is_done();
        Some(message)
    }
}

/// A parcel of which not all messages have come.
#[derive(Debug, Default)]
pub struct Unpacking {
    parcel: Parcel,
    begun: bool,
    is_whole: bool,
    last_covered: Option<Issuer>,
    last_step: Option<Issuer>,
}

impl Unpacking {
    /// Takes the next message. Says whether it was the last.
    ///
    /// # Errors
    /// If it is not what must come; nothing of the parcel may be used then.
    pub fn take(&mut self, message: &wire::Purges) -> Result<bool, Malformed> {
        let parts =
            [&message.covered.len(), &message.steps.len(), &message.entries.len(), &message.floors.len()];
        if self.is_whole || parts.into_iter().sum::<usize>() > PURGES_MAX {
            return Err(Malformed("length"));
        }
        if !std::mem::replace(&mut self.begun, true) {
            let digest = <[u8; 16]>::try_from(&message.digest[..]).or(Err(Malformed("digest")))?;
            self.parcel.digest = Digest(digest);
            self.parcel.coverage = message.stated.then(Coverage::default);
            self.parcel.reception = Reception::of_code(message.reception)?;
        } else if !message.digest.is_empty() || message.stated || message.reception != 0 {
            return Err(Malformed("continuation"));
        }
        message.covered.iter().try_for_each(|covered| self.cover(covered))?;
        message.steps.iter().try_for_each(|step| self.step(step))?;
        let batch = &mut self.parcel.batch;
        for entry in &message.entries {
            batch.entries.push(Entry::try_from(entry)?);
        }
        for floor in &message.floors {
            batch.floors.push(Entry::try_from(floor)?);
        }
        if batch.entries.len() > ENTRIES_MAX || batch.floors.len() > MARKS_MAX {
            return Err(Malformed("length"));
        }
        self.is_whole = !message.more;
        Ok(self.is_whole)
    }

    fn cover(&mut self, covered: &wire::Covered) -> Result<(), Malformed> {
        let coverage = self.parcel.coverage.as_mut().ok_or(Malformed("coverage"))?;
        let id = PurgeId::from(*covered);
        in_order(&mut self.last_covered, id, coverage.len())?;
        coverage.add(id);
        Ok(())
    }

    fn step(&mut self, step: &PurgeStep) -> Result<(), Malformed> {
        let (issuer, batch) = (Issuer(step.issuer), &mut self.parcel.batch);
        let id = PurgeId { issuer, number: step.number };
        in_order(&mut self.last_step, id, batch.coverage.len())?;
        if step.basis >= step.number {
            return Err(Malformed("step"));
        }
        batch.coverage.add(id);
        batch.basis.add(PurgeId { number: step.basis, ..id });
        Ok(())
    }

    /// The whole.
    ///
    /// # Errors
    /// If not all of it has come, or its parts do not fit together.
    pub fn finish(self) -> Result<Parcel, Malformed> {
        let batch = &self.parcel.batch;
        let is_within = |entry: &Entry| {
            batch.coverage.has(entry.id) && entry.id.number > batch.basis.number(entry.id.issuer)
        };
        let is_floor = |floor: &Entry| matches!(floor.target.kind, SelectorKind::Site | SelectorKind::All);
        if !self.is_whole {
            return Err(Malformed("end"));
        }
        if !batch.entries.iter().all(is_within) {
            return Err(Malformed("entry"));
        }
        if !batch.floors.iter().all(is_floor) {
            return Err(Malformed("floor"));
        }
        Ok(self.parcel)
    }
}

/// Each issuer is named once, and in order, with a number that it can have come to.
fn in_order(last: &mut Option<Issuer>, id: PurgeId, known: usize) -> Result<(), Malformed> {
    if last.is_some_and(|last| last >= id.issuer) || id.number == 0 || known >= ISSUERS_MAX {
        return Err(Malformed("order of issuers"));
    }
    if id.number > PurgeId::NUMBER_MAX {
        return Err(Malformed("number"));
    }
    *last = Some(id.issuer);
    Ok(())
}

impl Coverage {
    /// As a part of a message.
    pub fn to_wire(&self) -> Vec<wire::Covered> {
        self.iter().map(wire::Covered::from).collect()
    }

    /// What a message states.
    ///
    /// # Errors
    /// If it names an issuer twice, out of order or with number 0, or too many.
    pub fn of_wire(covered: &[wire::Covered]) -> Result<Self, Malformed> {
        let (mut coverage, mut last) = (Self::default(), None);
        for id in covered.iter().map(|covered| PurgeId::from(*covered)) {
            in_order(&mut last, id, coverage.len())?;
            coverage.add(id);
        }
        Ok(coverage)
    }
}

fn step(PurgeId { issuer, number }: PurgeId, basis: u64) -> PurgeStep {
    PurgeStep { issuer: issuer.0, basis, number }
}

impl From<PurgeId> for wire::Covered {
    fn from(PurgeId { issuer, number }: PurgeId) -> Self {
        Self { issuer: issuer.0, number }
    }
}

impl From<wire::Covered> for PurgeId {
    fn from(covered: wire::Covered) -> Self {
        Self { issuer: Issuer(covered.issuer), number: covered.number }
    }
}

impl From<&Entry> for PurgeEntry {
    fn from(Entry { id, target }: &Entry) -> Self {
        let hash = u128::from_le_bytes(target.hash);
        Self {
            issuer: id.issuer.0,
            number: id.number,
            kind: target.kind.code().into(),
            mode: target.mode as u32,
            site: target.site.0,
            length: target.length.into(),
            hash_low: hash as u64,
            hash_high: (hash >> 64) as u64,
        }
    }
}

impl TryFrom<&PurgeEntry> for Entry {
    type Error = Malformed;

    fn try_from(entry: &PurgeEntry) -> Result<Self, Malformed> {
        let kind =
            u8::try_from(entry.kind).ok().and_then(SelectorKind::from_code).ok_or(Malformed("kind"))?;
        let mode = usize::try_from(entry.mode).ok().and_then(|mode| Mode::ALL.get(mode));
        let mode = *mode.ok_or(Malformed("mode"))?;
        let (site, hash) =
            (SiteId(entry.site), u128::from(entry.hash_high) << 64 | u128::from(entry.hash_low));
        let length = u16::try_from(entry.length).or(Err(Malformed("length of a prefix")))?;
        let length_fits = match kind {
            SelectorKind::Prefix => usize::from(length) <= PREFIX_MAX,
            _ => length == 0,
        };
        if !length_fits {
            return Err(Malformed("length of a prefix"));
        }
        let is_site = matches!(kind, SelectorKind::Site | SelectorKind::All);
        let site_fits = match kind {
            SelectorKind::All => site == SiteId::ALL,
            SelectorKind::Tag => true,
            _ => site != SiteId::ALL,
        };
        if !site_fits || (is_site && hash != 0) {
            return Err(Malformed("target"));
        }
        if entry.number > PurgeId::NUMBER_MAX {
            return Err(Malformed("number"));
        }
        let target = Target { kind, mode, site, length, hash: hash.to_le_bytes() };
        Ok(Self { id: PurgeId { issuer: Issuer(entry.issuer), number: entry.number }, target })
    }
}

#[cfg(test)]
#[path = "parcel_tests.rs"]
mod tests;
