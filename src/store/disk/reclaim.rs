//! Emptying the oldest segment, in steps between the batches of the writer, on its thread.
//!
//! One thread for both is what orders a kept record against a queued `Drop`; the argument is in
//! `proto::segment`'s `reclaim`.

use super::queue::Job;
use super::segments::{self, Segment};
use super::writer::{BATCH_BYTES, Writer};
use super::{Fate, Place};
use crate::proto::segment::{Draft, Entry, RECORD_HEADER, Reclaim, RecordKind, Scan};
use std::collections::VecDeque;
use std::sync::Arc;

/// A segment that is being emptied.
pub(super) struct Victim {
    segment: Arc<Segment>,
    scan: Scan,
    reclaim: Reclaim,
}

impl Writer {
    /// Makes `segment` the victim.
    pub(super) fn begin_reclaim(&mut self, segment: Arc<Segment>) {
        let size = self.shared.geometry.segment;
        let trailer = segment.trailer(size).unwrap_or_else(|error| {
            self.read_failed(&error);
            None
        });
        let scan =
            Scan::new(segment.number, segment.key, segment.generation(), segment.size.min(size), trailer);
        self.victim = Some(Victim { segment, scan, reclaim: Reclaim::new(size) });
    }

    /// Goes through as much of the victim as the jobs to come ask for. Before they are sequenced,
    /// and with an empty buffer: all earlier records have been told of.
    pub(super) fn reclaim_ahead(&mut self, jobs: &VecDeque<Job>) {
        let Some(victim) = self.victim.as_mut() else { return };
        let bytes = jobs.iter().map(|job| (job.record.payload.len() + RECORD_HEADER) as u64).sum();
        victim.reclaim.handle_write(bytes);
        while self.victim.as_ref().is_some_and(|victim| victim.reclaim.is_due()) {
            self.reclaim_record();
        }
    }

    /// Goes through all that is left of the victim.
    pub(super) fn finish_reclaim(&mut self) {
        while self.victim.is_some() {
            self.reclaim_record();
        }
    }

    /// Sees to the next record of the victim; after the last one, frees it.
    fn reclaim_record(&mut self) {
        let Some(victim) = self.victim.as_mut() else { return };
        let segment = Arc::clone(&victim.segment);
        let next = victim.scan.next(|offset, buffer| segment.read(offset, buffer));
        let entry = next.unwrap_or_else(|error| {
            self.read_failed(&error);
            None
        });
        match entry {
            Some(entry) => self.decide(&segment, &entry),
            None => self.free_victim(),
        }
    }

    fn decide(&mut self, segment: &Segment, entry: &Entry) {
        let Some(victim) = self.victim.as_mut() else { return };
        victim.reclaim.handle_scanned(u64::from(entry.place.length));
        // A drop is needed no longer when its segment is the oldest.
        let Some(kind) = entry.kind.filter(|kind| *kind != RecordKind::Drop) else { return };
        let Some(owner) = self.owner() else { return };
        if owner.fate(kind, &entry.header.id, entry.place) == Fate::Gone {
            return;
        }
        if !self.keep(segment, kind, entry) {
            self.lose(&entry.header.id, entry.place);
        }
    }

    /// Copies a record into the open segment.
    fn keep(&mut self, segment: &Segment, kind: RecordKind, entry: &Entry) -> bool {
        let Place { offset, length, .. } = entry.place;
        let may =
            self.open.is_some() && self.victim.as_mut().is_some_and(|victim| victim.reclaim.keep(length));
        if !may {
            return false;
        }
        let mut payload = vec![0; entry.header.length as usize];
        if let Err(error) = segment.read(offset + RECORD_HEADER as u32, &mut payload) {
            self.read_failed(&error);
            return false;
        }
        if !entry.header.matches(&payload) {
            self.shared.counters.damaged.add(1);
            return false;
        }
        let draft = Draft {
            kind,
            rewritten: true,
            shared: entry.header.shared,
            id: entry.header.id,
            position: entry.header.position,
            expiry: entry.header.expiry,
            sum: entry.header.sum,
            payload: &payload,
            unknown: entry.header.unknown,
        };
        let placed = self.place_kept(draft, entry.place);
        if self.buffered() >= BATCH_BYTES {
            self.flush_kept();
        }
        placed
    }

    /// Voids the victim, so that it can be filled again. What was kept of it, or replaced what it
    /// held, must be written, told of and durable before.
    fn free_victim(&mut self) {
        self.flush_kept();
        self.sync();
        let Some(Victim { segment, .. }) = self.victim.take() else { return };
        let used = u64::from(segment.used());
        let generation = self.generation();
        let header = self.shared.header(segment.number, generation);
        let renewed = if segment.size == header.size {
            segment.renew(&header)
        } else {
            Err(std::io::ErrorKind::UnexpectedEof.into())
        };
        if let Err(error) = renewed {
            self.discard(&segment, &error);
        } else {
            self.free.push_back(segment);
        }
        self.shared.counters.reclaimed_segments.add(1);
        self.shared.counters.reclaimed_bytes.add(used);
    }

    /// Removes a segment that cannot be voided. If that fails too, the next start would find its
    /// records again, also those dropped since: so nothing newer may be reclaimed.
    fn discard(&mut self, segment: &Segment, error: &std::io::Error) {
        self.fail("free a segment", error);
        match self.folder.remove(&segments::name(segment.number)) {
            Ok(()) => self.shared.remove(segment.number),
            Err(error) => {
                self.fail("remove a segment", &error);
                self.give_up("an old segment can neither be reused nor removed");
            }
        }
    }

    /// Flushes a buffer that holds nothing but what was kept.
    fn flush_kept(&mut self) {
        let unwritten = self.flush().err().unwrap_or_default();
        debug_assert!(unwritten.is_empty(), "reclaim begins with an empty buffer");
    }

    fn read_failed(&self, error: &std::io::Error) {
        self.shared.counters.read_errors.add(1);
        tracing::warn!(%error, "a segment cannot be read for reuse");
    }
}
