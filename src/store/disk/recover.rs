//! Opening a store: which files are its segments, and what records they hold.
//!
//! Nothing is written here but the first segment of a new store. Segments that cannot be used (no
//! readable header, another store's, of another size) are removed: they are named as ours, and
//! the folder is locked. Files with other names are not touched.

use super::device::{Device, Folder, Storage};
use super::segments::{self, Segment, Shared};
use super::{DiskConfig, DiskError, Found};
use crate::proto::segment::{
    Entry, Geometry, HEADER_BLOCK, HeaderError, MAJOR, RECORD_HEADER, RecordKind, SEGMENT_HEADER,
    SEGMENTS_MAX, Scan, ScanEnd, SegmentHeader, StoreId, Trailer,
};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Records handed over at a time.
const FOUND_BATCH: usize = 1024;
/// More than the records of any segment. Sequences go on this much above the highest found, so
/// that records which could not be read this time cannot come later than newer ones if they can
/// be read the next.
const SEQUENCE_GAP: u64 = 1 << 23;

/// How far an opening is, for those who wait for it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Segments that were read.
    pub(super) segments: AtomicU64,
    /// Segments that there are; 0 until that is known.
    pub(super) segments_all: AtomicU64,
}

impl Progress {
    /// Tells an operator who waits for a large folder.
    pub(super) fn tell(&self, elapsed: Duration) {
        let (segments, all) =
            (self.segments.load(Ordering::Relaxed), self.segments_all.load(Ordering::Relaxed));
        tracing::info!(segments, of = all, ?elapsed, "the disk tier is being read");
    }
}

/// An opened store.
pub(super) struct Recovered {
    pub(super) folder: Box<dyn Folder>,
    pub(super) shared: Arc<Shared>,
    pub(super) free: VecDeque<Arc<Segment>>,
    /// The oldest first.
    pub(super) sealed: VecDeque<Arc<Segment>>,
    pub(super) next_sequence: u64,
    pub(super) next_generation: u32,
    pub(super) records: u64,
}

/// Opens the store and hands its records to `found` in batches, oldest first, until it says
/// `false`. Blocks.
pub(super) fn recover(
    config: &DiskConfig,
    device: &dyn Device,
    progress: &Progress,
    found: impl FnMut(Vec<Found>) -> bool,
) -> Result<Recovered, DiskError> {
    // A mistake in the configuration is told before anything is touched.
    choose(config, None)?;
    let files = Files::open(config, device)?;
    let mut candidates = files.candidates()?;
    let identity = identity(&candidates);
    let geometry = choose(config, identity.map(|(_, size)| size))?;
    let store = identity.map_or_else(|| StoreId(rand::random()), |(store, _)| store);
    files.remove_strangers(&mut candidates, (store, geometry.segment))?;

    let next_generation =
        candidates.iter().map(|candidate| candidate.header.generation).max().unwrap_or(0).saturating_add(1);
    let numbers = candidates.iter().map(|candidate| candidate.header.number + 1).max().unwrap_or(0);
    let shared = Arc::new(Shared::new(store, geometry, config.size, numbers));
    let mut aged = candidates.into_iter().map(|candidate| Aged::new(candidate, &shared)).collect::<Vec<_>>();
    aged.sort_by_key(|aged| (aged.first, aged.segment.number));
    files.remove_surplus(&mut aged, geometry.segments as usize)?;

    let mut recovered = Recovered {
        folder: files.folder,
        shared,
        free: VecDeque::new(),
        sealed: VecDeque::new(),
        next_sequence: 1,
        next_generation,
        records: 0,
    };
    progress.segments_all.store(aged.len() as u64, Ordering::Relaxed);
    recovered.scan_all(aged, progress, found);
    recovered.next_sequence = recovered.next_sequence.saturating_add(SEQUENCE_GAP);
    if recovered.sealed.is_empty() {
        recovered.create_first(config)?;
    }
    Ok(recovered)
}

fn choose(config: &DiskConfig, existing: Option<u32>) -> Result<Geometry, DiskError> {
    Geometry::choose(config.size, existing)
        .map_err(|too_small| DiskError::TooSmall { size: config.size, least: too_small.least })
}

/// The store that most segments are of, and their size: there is no other file that says it.
fn identity(candidates: &[Candidate]) -> Option<(StoreId, u32)> {
    let mut votes: HashMap<_, u32> = HashMap::new();
    for candidate in candidates {
        *votes.entry((candidate.header.store, candidate.header.size)).or_default() += 1;
    }
    votes.into_iter().max_by_key(|(identity, votes)| (*votes, *identity)).map(|(identity, _)| identity)
}

/// A file with a segment's name and header.
struct Candidate {
    header: SegmentHeader,
    file: Arc<dyn Storage>,
    size: u64,
}

/// A segment of this store, and the sequence of its first record; 0 if it has none.
struct Aged {
    segment: Arc<Segment>,
    trailer: Option<Trailer>,
    first: u64,
}

impl Aged {
    fn new(Candidate { header, file, size }: Candidate, shared: &Shared) -> Self {
        // `remove_strangers` left none that is larger than a segment.
        let segment = Segment::new(&header, file, u32::try_from(size).unwrap_or(header.size));
        let trailer = segment.trailer(header.size).unwrap_or_else(|error| {
            tell_unreadable(shared, header.number, &error);
            None
        });
        let trailer = trailer.filter(|trailer| trailer.generation == header.generation);
        let mut aged = Self { segment: Arc::new(segment), trailer, first: 0 };
        aged.first = match trailer {
            Some(trailer) => trailer.first,
            None => aged.first_by_header(shared),
        };
        aged
    }

    fn first_by_header(&self, shared: &Shared) -> u64 {
        let mut scan = self.scan(None);
        let first = scan.next(|offset, buffer| self.segment.read(offset, buffer));
        let first = first.unwrap_or_else(|error| {
            tell_unreadable(shared, self.segment.number, &error);
            None
        });
        first.map_or(0, |entry| entry.header.sequence)
    }

    fn scan(&self, trailer: Option<Trailer>) -> Scan {
        let segment = &self.segment;
        Scan::new(segment.number, segment.key, segment.generation(), segment.size, trailer)
    }
}

/// The locked folder.
struct Files<'a> {
    config: &'a DiskConfig,
    folder: Box<dyn Folder>,
}

impl<'a> Files<'a> {
    fn open(config: &'a DiskConfig, device: &dyn Device) -> Result<Self, DiskError> {
        match device.open_folder(&config.path) {
            Ok(folder) => Ok(Self { config, folder }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(DiskError::Locked { path: config.path.clone() })
            }
            Err(error) => Err(io_error(config, "open the folder", error)),
        }
    }

    /// All files with the name and the header of a segment. Those with the name alone are removed.
    fn candidates(&self) -> Result<Vec<Candidate>, DiskError> {
        let names = self.folder.names().map_err(|error| io_error(self.config, "list the files", error))?;
        let (ours, others): (Vec<_>, Vec<_>) =
            names.iter().partition(|name| segments::number(name).is_some());
        let foreign: Vec<_> =
            others.iter().filter(|name| name.as_str() != super::device::LOCK_NAME).collect();
        if let Some(first) = foreign.first() {
            let (path, count) = (self.config.path.display(), foreign.len());
            tracing::warn!(%path, count, %first, "files that are not of the disk tier are ignored; they take space");
        }
        // The files are told apart before one is removed: a later release's are left alone.
        let mut candidates = Vec::new();
        let mut useless = Vec::new();
        for name in ours {
            match self.candidate(name)? {
                Some(candidate) => candidates.push(candidate),
                None => useless.push(name),
            }
        }
        for name in useless {
            self.remove(name, "it has no valid header")?;
        }
        Ok(candidates)
    }

    fn candidate(&self, name: &str) -> Result<Option<Candidate>, DiskError> {
        // Failing to open says nothing of the content, but of permissions and limits.
        let file = self.folder.open(name).map_err(|error| io_error(self.config, "open a segment", error))?;
        let mut bytes = [0; SEGMENT_HEADER];
        let read = file.size().and_then(|size| {
            file.read(&mut [IoSliceMut::new(&mut bytes)], 0)?;
            Ok(size)
        });
        let Ok(size) = read else { return Ok(None) };
        match SegmentHeader::decode(&bytes) {
            Ok(header) if segments::number(name) == Some(header.number) && header.number < SEGMENTS_MAX => {
                Ok(Some(Candidate { header, file, size }))
            }
            Ok(_) | Err(HeaderError::Invalid) => Ok(None),
            Err(HeaderError::Version(major, minor)) => Err(DiskError::Format {
                path: self.config.path.clone(),
                found: (major, minor),
                supported: MAJOR,
            }),
            Err(HeaderError::Features(unknown)) => {
                Err(DiskError::Features { path: self.config.path.clone(), unknown })
            }
        }
    }

    /// Removes segments of other stores and sizes.
    fn remove_strangers(
        &self,
        candidates: &mut Vec<Candidate>,
        (store, size): (StoreId, u32),
    ) -> Result<(), DiskError> {
        let fits = |candidate: &Candidate| {
            let header = &candidate.header;
            (header.store, header.size) == (store, size) && candidate.size <= u64::from(size)
        };
        for stranger in candidates.extract_if(.., |candidate| !fits(candidate)) {
            self.remove(&segments::name(stranger.header.number), "it is of another store or size")?;
        }
        Ok(())
    }

    /// Removes the oldest segments when there are more than allowed. Never others: a `Drop` in a
    /// newer one may be all that keeps a record in an older one from coming back.
    fn remove_surplus(&self, aged: &mut Vec<Aged>, allowed: usize) -> Result<(), DiskError> {
        let surplus = aged.len().saturating_sub(allowed);
        for oldest in aged.drain(..surplus) {
            self.remove(&segments::name(oldest.segment.number), "the disk tier was made smaller")?;
        }
        Ok(())
    }

    fn remove(&self, name: &str, reason: &'static str) -> Result<(), DiskError> {
        tracing::warn!(path = %self.config.path.display(), name, reason, "a disk segment is removed");
        // If it stayed, it would count for more than the configured size, or come back.
        self.folder.remove(name).map_err(|error| io_error(self.config, "remove a segment", error))
    }
}

impl Recovered {
    fn scan_all(&mut self, aged: Vec<Aged>, progress: &Progress, mut found: impl FnMut(Vec<Found>) -> bool) {
        let mut batch = Vec::with_capacity(FOUND_BATCH);
        let mut wanted = true;
        for aged in aged {
            let mut scan = aged.scan(aged.trailer);
            if let Some(trailer) = aged.trailer {
                self.next_sequence = self.next_sequence.max(trailer.last.saturating_add(1));
            }
            while let Some(entry) = self.next(&aged.segment, &mut scan) {
                self.next_sequence = self.next_sequence.max(entry.header.sequence.saturating_add(1));
                // A torn copy must not hide the record that it was made from, which was durable.
                if entry.header.rewritten
                    && scan.end() == ScanEnd::Unsealed
                    && !is_intact(&aged.segment, &entry)
                {
                    continue;
                }
                let Some(record) = to_found(entry) else { continue };
                self.records += 1;
                batch.push(record);
                if batch.len() == FOUND_BATCH {
                    wanted = wanted && found(std::mem::replace(&mut batch, Vec::with_capacity(FOUND_BATCH)));
                }
            }
            if scan.end() == ScanEnd::Damaged {
                self.shared.counters.damaged.add(1);
                tracing::warn!(
                    segment = aged.segment.number,
                    "a disk segment is damaged; some records are lost"
                );
            }
            let used = scan.position();
            aged.segment.set_used(if used > HEADER_BLOCK { used } else { 0 });
            self.shared.insert(Arc::clone(&aged.segment));
            self.sealed.push_back(aged.segment);
            progress.segments.fetch_add(1, Ordering::Relaxed);
        }
        if wanted && !batch.is_empty() {
            found(batch);
        }
    }

    fn next(&self, segment: &Segment, scan: &mut Scan) -> Option<Entry> {
        scan.next(|offset, buffer| segment.read(offset, buffer)).unwrap_or_else(|error| {
            tell_unreadable(&self.shared, segment.number, &error);
            None
        })
    }

    /// Makes the first segment, to find out now whether the store can work.
    fn create_first(&mut self, config: &DiskConfig) -> Result<(), DiskError> {
        let number = self.shared.vacant().expect("no segment exists");
        let header = self.shared.header(number, self.next_generation);
        self.next_generation = self.next_generation.saturating_add(1);
        let segment = segments::create(&*self.folder, &header).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                DiskError::NoSpace { path: config.path.clone(), segment: u64::from(header.size) }
            }
            _ => io_error(config, "make the first segment", error),
        })?;
        let segment = Arc::new(segment);
        self.shared.insert(Arc::clone(&segment));
        self.free.push_back(segment);
        Ok(())
    }
}

fn is_intact(segment: &Segment, entry: &Entry) -> bool {
    let mut payload = vec![0; entry.header.length as usize];
    let read = segment.read(entry.place.offset + RECORD_HEADER as u32, &mut payload);
    read.is_ok() && entry.header.matches(&payload)
}

/// The record as the owner is told of it; `None` for kinds that are not known.
fn to_found(entry: Entry) -> Option<Found> {
    let header = entry.header;
    Some(Found {
        kind: entry.kind?,
        id: header.id,
        place: entry.place,
        sequence: header.sequence,
        position: header.position,
        expiry: header.expiry,
        shared: header.shared,
        payload: if entry.kind == Some(RecordKind::Seal) { Bytes::from(entry.payload) } else { Bytes::new() },
    })
}

fn tell_unreadable(shared: &Shared, segment: u32, error: &io::Error) {
    shared.counters.read_errors.add(1);
    tracing::warn!(segment, %error, "a disk segment cannot be read; its records are lost");
}

fn io_error(config: &DiskConfig, action: &'static str, source: io::Error) -> DiskError {
    DiskError::Io { action, path: config.path.clone(), source }
}
