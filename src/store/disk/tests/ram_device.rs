//! A device in memory for tests. It writes down every change, so that a test can rebuild what a
//! disk may hold after a crash at any moment, and it can fail at any call.

use crate::store::disk::device::{Device, Folder, Storage};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::path::Path;
use std::sync::Arc;

/// The unit that a disk writes wholly or not at all.
const SECTOR: usize = 512;

/// File contents by name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// Something that happened, in order. `M` is what the test adds.
#[derive(Clone, Debug)]
pub(super) enum Event<M> {
    Create { name: String, size: usize },
    Remove { name: String },
    Write { name: String, offset: usize, bytes: Vec<u8> },
    Sync { name: String },
    Mark(M),
}

/// Which calls fail, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    /// The first call to fail, counted from 0.
    pub(super) call: u64,
    /// Whether all calls after it fail too.
    pub(super) lasting: bool,
    pub(super) kind: io::ErrorKind,
}

pub(super) struct RamDevice<M>(Arc<Mutex<State<M>>>);

struct State<M> {
    files: Files,
    locked: bool,
    log: Vec<Event<M>>,
    calls: u64,
    fault: Option<Fault>,
    /// Bytes that all files may have together.
    space: u64,
    /// Whether reads that must not wait succeed.
    cached: bool,
}

impl<M> Clone for RamDevice<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> RamDevice<M> {
    pub(super) fn new(files: Files) -> Self {
        let state = State {
            files,
            locked: false,
            log: Vec::new(),
            calls: 0,
            fault: None,
            space: u64::MAX,
            cached: true,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn set_fault(&self, fault: Option<Fault>) {
        self.0.lock().fault = fault;
    }

    pub(super) fn set_space(&self, space: u64) {
        self.0.lock().space = space;
    }

    pub(super) fn set_cached(&self, cached: bool) {
        self.0.lock().cached = cached;
    }

    pub(super) fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    pub(super) fn mark(&self, mark: M) {
        self.0.lock().log.push(Event::Mark(mark));
    }

    pub(super) fn take_log(&self) -> Vec<Event<M>> {
        std::mem::take(&mut self.0.lock().log)
    }

    pub(super) fn with_files<T>(&self, work: impl FnOnce(&mut Files) -> T) -> T {
        work(&mut self.0.lock().files)
    }
}

impl<M> State<M> {
    fn call(&mut self) -> io::Result<()> {
        let call = self.calls;
        self.calls += 1;
        match self.fault {
            Some(fault) if call == fault.call || (fault.lasting && call > fault.call) => {
                Err(fault.kind.into())
            }
            _ => Ok(()),
        }
    }

    fn file(&mut self, name: &str) -> io::Result<&mut Vec<u8>> {
        self.files.get_mut(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl<M: Send + 'static> Device for RamDevice<M> {
    fn open_folder(&self, _path: &Path) -> io::Result<Box<dyn Folder>> {
        let mut state = self.0.lock();
        state.call()?;
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(RamFolder(self.clone())))
    }
}

struct RamFolder<M>(RamDevice<M>);

impl<M> Drop for RamFolder<M> {
    fn drop(&mut self) {
        self.0.0.lock().locked = false;
    }
}

impl<M: Send + 'static> Folder for RamFolder<M> {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut state = self.0.0.lock();
        state.call()?;
        Ok(state.files.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn Storage>> {
        let mut state = self.0.0.lock();
        state.call()?;
        state.file(name)?;
        Ok(Arc::new(RamFile { device: self.0.clone(), name: name.to_owned() }))
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn Storage>> {
        let mut state = self.0.0.lock();
        state.call()?;
        let taken: u64 = state.files.values().map(|file| file.len() as u64).sum();
        if taken + size > state.space {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let size = size as usize;
        if state.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.files.insert(name.to_owned(), vec![0; size]);
        state.log.push(Event::Create { name: name.to_owned(), size });
        drop(state);
        Ok(Arc::new(RamFile { device: self.0.clone(), name: name.to_owned() }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.0.lock();
        state.call()?;
        state.file(name)?;
        state.files.remove(name);
        state.log.push(Event::Remove { name: name.to_owned() });
        Ok(())
    }
}

struct RamFile<M> {
    device: RamDevice<M>,
    name: String,
}

impl<M: Send> Storage for RamFile<M> {
    fn size(&self) -> io::Result<u64> {
        let mut state = self.device.0.lock();
        state.call()?;
        Ok(state.file(&self.name)?.len() as u64)
    }

    fn read(&self, parts: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<()> {
        let mut state = self.device.0.lock();
        state.call()?;
        let mut at = offset as usize;
        let file = state.file(&self.name)?;
        for part in parts {
            let end = at + part.len();
            part.copy_from_slice(file.get(at..end).ok_or(io::ErrorKind::UnexpectedEof)?);
            at = end;
        }
        Ok(())
    }

    fn read_now(&self, parts: &mut [IoSliceMut<'_>], offset: u64) -> bool {
        let cached = self.device.0.lock().cached;
        cached && self.read(parts, offset).is_ok()
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.device.0.lock();
        let result = state.call();
        // A write that fails may have done half of its work.
        let bytes = if result.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        let offset = offset as usize;
        let file = state.file(&self.name)?;
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
        state.log.push(Event::Write { name: self.name.clone(), offset, bytes: bytes.to_vec() });
        result
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.device.0.lock();
        state.call()?;
        state.log.push(Event::Sync { name: self.name.clone() });
        Ok(())
    }
}

/// What a crash leaves of writes that were not synced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Crash {
    /// The process was killed: all of them.
    Kill,
    /// The power failed: none.
    Lost,
    /// The power failed: any sectors of any of them.
    Torn { seed: u64 },
}

/// Goes through a log and gives what the disk holds at each moment.
pub(super) struct Replay<'a, M> {
    log: &'a [Event<M>],
    at: usize,
    synced: Files,
    /// Positions of writes in the log.
    unsynced: Vec<usize>,
}

impl<'a, M> Replay<'a, M> {
    pub(super) fn new(log: &'a [Event<M>]) -> Self {
        Self { log, at: 0, synced: Files::new(), unsynced: Vec::new() }
    }

    /// Takes the next event and returns it; `None` at the end.
    pub(super) fn step(&mut self) -> Option<&'a Event<M>> {
        let event = self.log.get(self.at)?;
        match event {
            Event::Create { name, size } => drop(self.synced.insert(name.clone(), vec![0; *size])),
            Event::Remove { name } => {
                self.synced.remove(name);
                self.settle(name, |_, _| {});
            }
            Event::Write { .. } => self.unsynced.push(self.at),
            Event::Sync { name } => {
                let mut files = std::mem::take(&mut self.synced);
                self.settle(name, |offset, bytes| {
                    let file = files.get_mut(name).expect("a synced file exists");
                    file[offset..offset + bytes.len()].copy_from_slice(bytes);
                });
                self.synced = files;
            }
            Event::Mark(_) => {}
        }
        self.at += 1;
        Some(event)
    }

    fn settle(&mut self, file: &str, mut apply: impl FnMut(usize, &[u8])) {
        let log = self.log;
        self.unsynced.retain(|position| match &log[*position] {
            Event::Write { name, offset, bytes } if name == file => {
                apply(*offset, bytes);
                false
            }
            _ => true,
        });
    }

    /// All that happened before this position of the log is durable under `crash`.
    pub(super) fn horizon(&self, crash: Crash) -> usize {
        match crash {
            Crash::Kill => self.at,
            Crash::Lost | Crash::Torn { .. } => self.unsynced.first().copied().unwrap_or(self.at),
        }
    }

    /// Events taken so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The files after a crash now.
    pub(super) fn files(&self, crash: Crash) -> Files {
        let mut files = self.synced.clone();
        let mut random = match crash {
            Crash::Lost => return files,
            Crash::Kill => None,
            Crash::Torn { seed } => Some(StdRng::seed_from_u64(seed)),
        };
        for position in &self.unsynced {
            let Event::Write { name, offset, bytes } = &self.log[*position] else { continue };
            let file = files.get_mut(name).expect("a written file exists");
            // Each write is lost, whole, or torn.
            let share = random.as_mut().map_or(1.0, |random| [0.0, 1.0, 0.5][random.random_range(0..3)]);
            let mut at = 0;
            while at < bytes.len() {
                let end = bytes.len().min((offset + at + SECTOR) / SECTOR * SECTOR - offset);
                if random.as_mut().is_none_or(|random| random.random_bool(share)) {
                    file[offset + at..offset + end].copy_from_slice(&bytes[at..end]);
                }
                at = end;
            }
        }
        files
    }
}
