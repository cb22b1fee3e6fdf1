//! Those who watch requests as they end: readers of the live log, and watchers of the hottest objects.
//!
//! ```text
//! request ends ── mode has WATCHED? ─no─ nothing more
//!                  └yes─ each reader: filter admits? ── line made once ── its ring ── next() ── the operator
//!                        each watcher: counted, unless the count is in use at this moment
//! ```
//! A reader has a ring of its own, so a slow one loses lines and nobody else does. When the ring is full the oldest
//! lines go, and the reader is told how many.

use super::filter::Filter;
use super::hottest::{HotObject, Hottest};
use super::{AccessLog, AccessRecord, WATCHED, format};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Readers and watchers at a time.
pub const READERS_MAX: usize = 4;
/// Lines that wait for one reader.
pub(super) const RING_LINES_MAX: usize = 8192;
/// Bytes of lines that wait for one reader. [`READERS_MAX`] times this is the most that all of it takes.
pub(super) const RING_BYTES_MAX: usize = 4 << 20;
/// Bytes that a reader is given at a time, a line more or less.
const BATCH_BYTES: usize = 64 << 10;

/// There are [`READERS_MAX`] already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{READERS_MAX} are reading already")]
pub struct Crowded;

/// All who watch.
#[derive(Default)]
pub(super) struct Tail {
    present: RwLock<Vec<Arc<Present>>>,
    /// Lines that readers were too slow for, of all readers that ever were.
    pub(super) lost: AtomicU64,
}

/// One who watches.
enum Present {
    Reader { filter: Filter, ring: Mutex<Ring>, wake: Notify },
    Watcher { hottest: Mutex<Hottest>, skipped: AtomicU64 },
}

/// Lines that wait for a reader.
#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Bytes>,
    bytes: usize,
    dropped: u64,
}

/// Some lines of the live log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Lines before these that the reader was too slow for.
    pub dropped: u64,
    /// JSON objects, each with its newline.
    pub lines: Vec<Bytes>,
}

/// A reader of the live log; leaves when it is dropped.
pub struct LogReader(Attached);

/// A watcher of the hottest objects; leaves when it is dropped.
pub struct HotWatcher(Attached);

struct Attached {
    log: Arc<AccessLog>,
    present: Arc<Present>,
}

/// What was asked for most since it was last taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hot {
    /// Requests for objects that were counted.
    pub counted: u64,
    /// Requests not counted, since several ended at one moment.
    pub skipped: u64,
    /// The objects, hottest first.
    pub objects: Vec<HotObject>,
}

impl AccessLog {
    /// Reads the requests that `filter` admits from now on.
    ///
    /// # Errors
    /// Too many watch already.
    pub fn read(self: &Arc<Self>, filter: Filter) -> Result<LogReader, Crowded> {
        self.attach(Present::Reader { filter, ring: Mutex::default(), wake: Notify::new() }).map(LogReader)
    }

    /// Counts what is asked for from now on.
    ///
    /// # Errors
    /// Too many watch already.
    pub fn watch(self: &Arc<Self>) -> Result<HotWatcher, Crowded> {
        let skipped = AtomicU64::new(0);
        self.attach(Present::Watcher { hottest: Mutex::default(), skipped }).map(HotWatcher)
    }

    fn attach(self: &Arc<Self>, present: Present) -> Result<Attached, Crowded> {
        let mut all = self.tail.present.write();
        if all.len() == READERS_MAX {
            return Err(Crowded);
        }
        let present = Arc::new(present);
        all.push(Arc::clone(&present));
        // Under the lock, so that the flag says what the list says.
        self.mode.fetch_or(WATCHED, Ordering::Relaxed);
        Ok(Attached { log: Arc::clone(self), present })
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let mut all = self.log.tail.present.write();
        all.retain(|present| !Arc::ptr_eq(present, &self.present));
        if all.is_empty() {
            self.log.mode.fetch_and(!WATCHED, Ordering::Relaxed);
        }
    }
}

impl Tail {
    /// How many watch.
    pub(super) fn len(&self) -> usize {
        self.present.read().len()
    }

    /// Tells all who watch of a request.
    pub(super) fn tell(&self, record: &AccessRecord<'_>) {
        let mut line: Option<Bytes> = None;
        for present in self.present.read().iter() {
            match &**present {
                Present::Reader { filter, ring, wake } if filter.admits(record) => {
                    let line = line.get_or_insert_with(|| {
                        let mut text = Vec::with_capacity(1024);
                        format::json(&mut text, record);
                        text.into()
                    });
                    let dropped = ring.lock().push(line.clone());
                    self.lost.fetch_add(dropped, Ordering::Relaxed);
                    wake.notify_one();
                }
                Present::Reader { .. } => {}
                Present::Watcher { hottest, skipped } => match hottest.try_lock() {
                    Some(mut hottest) => hottest.count(record),
                    None => drop(skipped.fetch_add(1, Ordering::Relaxed)),
                },
            }
        }
    }
}

impl Ring {
    /// Adds a line. Returns how many went for it.
    fn push(&mut self, line: Bytes) -> u64 {
        let before = self.dropped;
        if line.len() > RING_BYTES_MAX {
            self.dropped += 1;
            return 1;
        }
        while (self.lines.len() >= RING_LINES_MAX || self.bytes + line.len() > RING_BYTES_MAX)
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= oldest.len();
            self.dropped += 1;
        }
        self.bytes += line.len();
        self.lines.push_back(line);
        self.dropped - before
    }

    fn take(&mut self) -> Batch {
        let mut batch = Batch { dropped: std::mem::take(&mut self.dropped), lines: Vec::new() };
        let mut bytes = 0;
        while bytes < BATCH_BYTES
            && let Some(line) = self.lines.pop_front()
        {
            bytes += line.len();
            batch.lines.push(line);
        }
        self.bytes -= bytes;
        batch
    }
}

impl LogReader {
    /// Waits for lines. Nothing is lost when it is dropped.
    pub async fn next(&self) -> Batch {
        let Present::Reader { ring, wake, .. } = &*self.0.present else { return Batch::default() };
        loop {
            let batch = ring.lock().take();
            if batch != Batch::default() {
                return batch;
            }
            // What was pushed since is remembered by the wake.
            wake.notified().await;
        }
    }
}

impl HotWatcher {
    /// The `count` objects asked for most since this was last asked.
    pub fn take(&self, count: usize) -> Hot {
        let Present::Watcher { hottest, skipped } = &*self.0.present else {
            return Hot { counted: 0, skipped: 0, objects: Vec::new() };
        };
        // In place of it, so that requests do not find it locked for as long as sorting takes.
        let mut hottest = std::mem::take(&mut *hottest.lock());
        let (counted, objects) = hottest.take(count);
        Hot { counted, skipped: skipped.swap(0, Ordering::Relaxed), objects }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{counter, record};
    use super::*;
    use crate::config::model::{AccessFormat, AccessLog as Target};
    use crate::proto::key::ObjectId;
    use crate::task::Spawner;
    use futures_util::FutureExt;

    fn log() -> Arc<AccessLog> {
        AccessLog::new(&Target::Off, AccessFormat::Json, counter(), &Spawner::current())
            .expect("nothing to open")
    }

    fn targets(batch: &Batch) -> Vec<String> {
        let target = |line: &Bytes| {
            let line: serde_json::Value = serde_json::from_slice(line).expect("JSON");
            line["target"].as_str().expect("text").to_owned()
        };
        batch.lines.iter().map(target).collect()
    }

    #[tokio::test]
    async fn records_are_gathered_only_while_somebody_watches() {
        let log = log();
        assert!(!log.is_on(), "nobody reads, and there is no file");
        let reader = log.read(Filter::default()).expect("room");
        let watcher = log.watch().expect("room");
        assert!(log.is_on());
        drop(reader);
        assert!(log.is_on(), "one still watches");
        drop(watcher);
        assert!(!log.is_on());
    }

    #[tokio::test]
    async fn a_reload_of_the_file_keeps_those_who_watch() {
        let log = log();
        let reader = log.read(Filter::default()).expect("room");
        log.reload(&Target::Off, AccessFormat::Combined).expect("nothing to open");
        log.log(&record("/a", b""));
        assert_eq!(targets(&reader.next().await), ["/a"]);
        drop(reader);
        assert!(!log.is_on());
    }

    #[tokio::test]
    async fn there_are_few_readers_and_the_place_of_one_who_leaves_is_free() {
        let log = log();
        let mut readers: Vec<_> =
            (0..READERS_MAX).map(|_| log.read(Filter::default()).expect("room")).collect();
        assert!(matches!(log.read(Filter::default()), Err(Crowded)));
        assert!(matches!(log.watch(), Err(Crowded)));
        readers.pop();
        assert!(log.watch().is_ok());
    }

    #[tokio::test]
    async fn each_reader_gets_what_its_filter_admits() {
        let log = log();
        let all = log.read(Filter::default()).expect("room");
        let some = log.read("path=/a*".parse().expect("a filter")).expect("room");
        for target in ["/a", "/b", "/ab"] {
            log.log(&record(target, b"\x1b[31m"));
        }
        assert_eq!(targets(&all.next().await), ["/a", "/b", "/ab"]);
        let batch = some.next().await;
        assert_eq!(targets(&batch), ["/a", "/ab"]);
        assert!(!batch.lines.concat().contains(&0x1b), "a terminal may show it");
        assert!(some.next().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_slow_reader_loses_the_oldest_lines_and_is_told_how_many() {
        let log = log();
        let reader = log.read(Filter::default()).expect("room");
        for number in 0..RING_LINES_MAX + 3 {
            log.log(&record(&format!("/{number}"), b""));
        }
        let mut batch = reader.next().await;
        assert_eq!(batch.dropped + log.tail.lost.load(Ordering::Relaxed), 6);
        let mut found = targets(&batch);
        while found.len() < RING_LINES_MAX {
            batch = reader.next().await;
            assert!(batch.dropped == 0 && batch.lines.concat().len() < 2 * BATCH_BYTES);
            found.extend(targets(&batch));
        }
        let kept: Vec<_> = (3..RING_LINES_MAX + 3).map(|number| format!("/{number}")).collect();
        assert!(found == kept, "from {:?} to {:?}", found.first(), found.last());
    }

    #[test]
    fn a_ring_is_bounded_in_bytes_too() {
        let mut ring = Ring::default();
        let line = Bytes::from(vec![b'x'; RING_BYTES_MAX / 4]);
        let dropped: u64 = (0..6).map(|_| ring.push(line.clone())).sum();
        assert_eq!((dropped, ring.lines.len(), ring.bytes), (2, 4, RING_BYTES_MAX / 4 * 4));
        assert_eq!(ring.push(vec![b'x'; RING_BYTES_MAX + 1].into()), 1, "it cannot be kept at all");
        assert_eq!((ring.take().dropped, ring.lines.len(), ring.bytes), (3, 3, RING_BYTES_MAX / 4 * 3));
    }

    #[tokio::test]
    async fn a_watcher_counts_from_one_look_to_the_next() {
        let log = log();
        let watcher = log.watch().expect("room");
        let mut record = record("/a", b"");
        record.object = Some(ObjectId([1; 16]));
        log.log(&record);
        log.log(&record);
        let hot = watcher.take(5);
        assert_eq!((hot.counted, hot.skipped, hot.objects.len(), hot.objects[0].requests), (2, 0, 1, 2));
        assert_eq!(watcher.take(5).counted, 0);
    }
}
