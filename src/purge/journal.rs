//! The log's file: records one behind the other, in a file of fixed size; when it is full, what counts is written to a new one.
//!
//! ```text
//! purges-<generation>:  snapshot of the log · Snapshot · records as they come · zeros
//! ```
//! A file counts once its snapshot is whole; older ones are removed then. Each start begins a new file, and so does the next write
//! after one that failed, so that nothing is ever written behind what is not known to be there.

use crate::proto::object::PurgePosition;
use crate::proto::purge::{Log, RECORD_LENGTH, Record};
use crate::proto::time::Wall;
use crate::store::Device;
use crate::store::disk::{Folder, Storage};
use std::io::{self, IoSliceMut};
use std::path::Path;
use std::sync::Arc;

/// Records that a new file has room for beyond its snapshot, at least; at most as many as the snapshot has.
const ROOM_MIN: usize = 1024;
/// Longest file that is read: some times what a log can come to.
const FILE_MAX: u64 = 256 << 20;
const PREFIX: &str = "purges-";

/// The file that is written to.
pub(super) struct Journal {
    folder: Box<dyn Folder>,
    generation: u64,
    /// `None` after a write that failed.
    file: Option<File>,
}

struct File {
    storage: Arc<dyn Storage>,
    /// Records in it.
    written: usize,
    /// Records that fit.
    room: usize,
}

/// What a file said.
struct Found {
    log: Log,
    /// Whether there are good records behind a bad one.
    damaged: bool,
}

impl Journal {
    /// Opens the folder and reads its log; `new` is the log if there is none. Blocks.
    pub(super) fn open(
        device: &dyn Device,
        path: &Path,
        new: Log,
        newest: Option<PurgePosition>,
        now: Wall,
    ) -> io::Result<(Self, Log)> {
        let folder = device.open_folder(path)?;
        let mut generations: Vec<u64> =
            folder.names()?.iter().filter_map(|name| name.strip_prefix(PREFIX)?.parse().ok()).collect();
        generations.sort_unstable_by(|one, other| other.cmp(one));
        let mut found = None;
        for generation in &generations {
            found = read(&*folder, *generation)?;
            if found.is_some() {
                break;
            }
        }
        let (is_new, issuer) = (found.is_none(), new.issuer());
        let Found { mut log, damaged } = found.unwrap_or(Found { log: new, damaged: false });
        if let Some(newest) = newest.filter(|newest| is_new || damaged || *newest > log.position()) {
            tracing::warn!(
                folder = %path.display(),
                "the purge log is missing or damaged: nothing that is stored will be used"
            );
            log.rename(issuer);
            log.apply(&log.lost(newest, now));
        }
        let generation = generations.first().copied().unwrap_or(0);
        let mut journal = Self { folder, generation, file: None };
        journal.renew(&log.snapshot())?;
        for generation in generations {
            journal.folder.remove(&name(generation))?;
        }
        Ok((journal, log))
    }

    /// Whether `count` more records need a new file.
    pub(super) fn is_full(&self, count: usize) -> bool {
        self.file.as_ref().is_none_or(|file| file.written + count > file.room)
    }

    /// Writes `records`, durably; to a new file behind `snapshot` if there is one. Blocks.
    ///
    /// # Errors
    /// What the system says. Nothing counts as written then.
    pub(super) fn append(&mut self, records: &[Record], snapshot: Option<Vec<Record>>) -> io::Result<()> {
        if let Some(mut snapshot) = snapshot {
            let old = self.generation;
            snapshot.extend(records);
            self.renew(&snapshot)?;
            // Left behind, it is removed at the next start.
            drop(self.folder.remove(&name(old)));
            return Ok(());
        }
        let Some(mut file) = self.file.take() else { return Err(io::Error::other("no file is open")) };
        file.append(records)?;
        self.file = Some(file);
        Ok(())
    }

    /// Begins a new file.
    fn renew(&mut self, snapshot: &[Record]) -> io::Result<()> {
        self.file = None;
        // Also if it comes to nothing: its name may be taken.
        self.generation += 1;
        let room = snapshot.len() + 1 + snapshot.len().max(ROOM_MIN);
        let storage = self.folder.create(&name(self.generation), (room * RECORD_LENGTH) as u64)?;
        let mut file = File { storage, written: 0, room };
        file.append(&[snapshot, &[Record::Snapshot]].concat())?;
        self.file = Some(file);
        Ok(())
    }
}

impl File {
    fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let bytes: Vec<u8> = records.iter().flat_map(Record::encode).collect();
        self.storage.write(&bytes, (self.written * RECORD_LENGTH) as u64)?;
        self.storage.sync()?;
        self.written += records.len();
        Ok(())
    }
}

fn name(generation: u64) -> String {
    format!("{PREFIX}{generation}")
}

/// Reads a file; `None` if its snapshot is not whole.
fn read(folder: &dyn Folder, generation: u64) -> io::Result<Option<Found>> {
    let storage = folder.open(&name(generation))?;
    let size = storage.size()?;
    if size > FILE_MAX {
        return Err(io::Error::other(format!("{} is too long to be a purge log", name(generation))));
    }
    let mut bytes = vec![0; size as usize];
    storage.read(&mut [IoSliceMut::new(&mut bytes)], 0)?;
    let decoded: Vec<Option<Record>> =
        bytes.as_chunks::<RECORD_LENGTH>().0.iter().map(Record::decode).collect();
    let good = decoded.iter().position(Option::is_none).unwrap_or(decoded.len());
    let (records, rest) = decoded.split_at(good);
    if !records.contains(&Some(Record::Snapshot)) {
        return Ok(None);
    }
    let damaged = rest.iter().any(Option::is_some);
    Ok(Log::restore(records.iter().copied().flatten()).map(|log| Found { log, damaged }))
}
