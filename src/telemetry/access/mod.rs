//! The access log: one line per request, written by a writer of its own, and told to those who watch.
//!
//! A request formats its line into one of a few buffers under a short lock and never waits for the
//! file: when a buffer is full the line is dropped and counted. One task swaps the buffers out every
//! 200 ms, or as soon as one holds 64 KiB, and writes them on the blocking pool. Owner of the lines not yet written: [`AccessLog`]; of the open file: its writer.

pub mod filter;
mod format;
mod hottest;
mod record;
mod sink;
mod tail;

pub use filter::{Filter, FilterError};
pub use hottest::{HotObject, SLOTS_MAX};
pub use record::{AccessRecord, Termination};
pub use tail::{Batch, Crowded, Hot, HotWatcher, LogReader, READERS_MAX};

use crate::config::model::{AccessFormat, AccessLog as Target};
use crate::task::Spawner;
use crate::telemetry::Metrics;
use parking_lot::Mutex;
use prometheus::IntCounter;
use sink::Sink;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Buffers that requests write to, so that workers seldom meet at a lock.
const SHARDS: usize = 8;
/// Bytes that a buffer holds at most; [`SHARDS`] times this is the bound of the whole queue, and as
/// much again may be with the writer.
const SHARD_BYTES_MAX: usize = 512 * 1024;
/// Bytes in one buffer that wake the writer before its time.
const FLUSH_BYTES: usize = 64 * 1024;
/// The longest time that a line waits before it is written.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);

/// Why the access log could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("access log {}: {source}", path.display())]
pub struct AccessLogError {
    path: PathBuf,
    source: io::Error,
}

/// The access log of a node. Costs one relaxed load per request when it is off and nobody watches.
pub struct AccessLog {
    /// The format of the file, and whether anybody watches ([`WATCHED`]): all that a request asks.
    mode: AtomicU8,
    tail: tail::Tail,
    shards: [Mutex<Vec<u8>>; SHARDS],
    /// Set by a reload, taken by the writer.
    next_sink: Mutex<Option<Sink>>,
    wake: Notify,
    dropped: IntCounter,
}

/// Values of [`AccessLog::mode`].
const OFF: u8 = 0;
const JSON: u8 = 1;
const COMBINED: u8 = 2;
/// Added to it while somebody watches.
const WATCHED: u8 = 4;

impl AccessLog {
    /// Opens `target` and starts the writer on `spawner`. Lines that cannot be kept are counted in
    /// `dropped`. When `spawner` is stopped the writer writes what it has and ends, so it should be
    /// stopped after the last request.
    ///
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn new(
        target: &Target,
        format: AccessFormat,
        dropped: IntCounter,
        spawner: &Spawner,
    ) -> Result<Arc<Self>, AccessLogError> {
        let sink = open(target)?;
        let log = Arc::new(Self {
            mode: AtomicU8::new(mode(target, format)),
            tail: tail::Tail::default(),
            shards: Default::default(),
            next_sink: Mutex::new(Some(sink)),
            wake: Notify::new(),
            dropped,
        });
        spawner.spawn_graceful(write_until_stopped(log.clone(), spawner.clone()));
        Ok(log)
    }

    /// Whether anybody wants records; callers may skip gathering one.
    pub fn is_on(&self) -> bool {
        self.mode.load(Ordering::Relaxed) != OFF
    }

    /// Tells those who watch, and queues one record; never waits for the file or for who watches.
    pub fn log(&self, record: &AccessRecord<'_>) {
        let mode = self.mode.load(Ordering::Relaxed);
        if mode & WATCHED != 0 {
            self.tail.tell(record);
        }
        let write = match mode & !WATCHED {
            JSON => format::json,
            COMBINED => format::combined,
            _ => return,
        };
        let mut lines = self.shards[record.request_id.shard(SHARDS)].lock();
        let before = lines.len();
        write(&mut lines, record);
        if lines.len() > SHARD_BYTES_MAX {
            lines.truncate(before);
            self.dropped.inc();
        } else if before < FLUSH_BYTES && lines.len() >= FLUSH_BYTES {
            self.wake.notify_one();
        }
    }

    /// Opens `target` anew, also when it is the same file (which log rotation has renamed), and
    /// writes `format` from now on.
    ///
    /// # Errors
    /// The file cannot be opened; the log goes on as it was.
    pub fn reload(&self, target: &Target, format: AccessFormat) -> Result<(), AccessLogError> {
        let sink = open(target)?;
        *self.next_sink.lock() = Some(sink);
        let format = mode(target, format);
        // It always succeeds: the closure never declines.
        let _ =
            self.mode.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(old & WATCHED | format));
        self.wake.notify_one();
        Ok(())
    }

    /// Adds bound and use of the queue to `metrics`.
    pub fn expose(self: &Arc<Self>, metrics: &Metrics) {
        let log = Arc::downgrade(self);
        metrics.on_scrape(move |samples| {
            let Some(log) = log.upgrade() else { return };
            let queued: usize = log.shards.iter().map(|shard| shard.lock().len()).sum();
            let (name, help) = ("shoal_access_log_queue_bytes", "Access log lines that wait to be written.");
            samples.gauge(name, help, &[], queued as f64);
            let (name, help) = ("shoal_access_log_queue_max_bytes", "Bound of the access log queue.");
            samples.gauge(name, help, &[], (SHARDS * SHARD_BYTES_MAX) as f64);
            let (name, help) = ("shoal_live_readers", "Readers of the live log and watchers of hot objects.");
            samples.gauge(name, help, &[], log.tail.len() as f64);
            let (name, help) =
                ("shoal_live_lost_total", "Lines that readers of the live log were too slow for.");
            samples.counter(name, help, &[], log.tail.lost.load(Ordering::Relaxed));
        });
    }

    fn has_file(&self) -> bool {
        self.mode.load(Ordering::Relaxed) & !WATCHED != OFF
    }

    fn has_work(&self) -> bool {
        self.next_sink.lock().is_some() || self.shards.iter().any(|shard| !shard.lock().is_empty())
    }
}

fn mode(target: &Target, format: AccessFormat) -> u8 {
    match (target, format) {
        (Target::Off, _) => OFF,
        (_, AccessFormat::Json) => JSON,
        (_, AccessFormat::Combined) => COMBINED,
    }
}

fn open(target: &Target) -> Result<Sink, AccessLogError> {
    match target {
        Target::Off => Ok(Sink::nowhere()),
        Target::Stdout => Ok(Sink::stdout()),
        Target::File(path) => {
            Sink::append(path).map_err(|source| AccessLogError { path: path.clone(), source })
        }
    }
}

async fn write_until_stopped(log: Arc<AccessLog>, spawner: Spawner) {
    let writer = Arc::new(Mutex::new(Writer { sink: Sink::nowhere(), lines: Default::default() }));
    loop {
        // Read before writing: what was logged before the stop is then in the last round.
        let last = spawner.is_cancelled();
        if !last {
            tokio::select! {
                () = spawner.cancelled() => {}
                () = log.wake.notified() => {}
                () = tokio::time::sleep(FLUSH_INTERVAL), if log.has_file() => {}
            }
        }
        if log.has_work() {
            let (log, writer) = (log.clone(), writer.clone());
            spawner.blocking(move || writer.lock().write(&log)).await;
        }
        if last {
            return;
        }
    }
}

/// What the writer owns; locked only by the one blocking job that is in progress.
struct Writer {
    sink: Sink,
    lines: [Vec<u8>; SHARDS],
}

impl Writer {
    fn write(&mut self, log: &AccessLog) {
        if let Some(sink) = log.next_sink.lock().take() {
            self.sink = sink;
        }
        for (shard, lines) in log.shards.iter().zip(&mut self.lines) {
            std::mem::swap(&mut *shard.lock(), lines);
            if !lines.is_empty() {
                log.dropped.inc_by(self.sink.write(lines));
                lines.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests;
