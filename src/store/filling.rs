//! A version that is being written.
//!
//! Its bytes are cut into records as they come. Slices go to memory and disk as they are complete;
//! the head waits for the end, since it has the length and a hash of the body, and is written with
//! the seal behind all slices: a version found without them at a start was never complete.

use super::body::{Body, Left};
use super::chunks::ChunkHashes;
use super::disk::{NewRecord, RecordId, RecordKind};
use super::filing::{Filing, FillState, Registration, SliceFiled};
use super::hit::{Hit, Tier};
use super::index::{Anchor, SEAL_INDEX, Variant, lean_id};
use super::inner::{Inner, coarse_expiry};
use super::memory::{MemoryKey, Tracked};
use super::seal::{Seal, edition};
use super::vary_list;
use crate::proto::key::VersionId;
use crate::proto::object::{HeadDraft, layout};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;

/// Longest body that is kept, in bytes: bounds the chunk hashes in memory and in the seal.
pub(super) const BODY_MAX: u64 = 64 << 30;

/// Why a fill was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The object was invalidated since the fill began.
    #[error("invalidated while it was fetched")]
    Superseded,
    /// The body has another length than the head said.
    #[error("body of {found} bytes, {expected} were announced")]
    Length {
        /// As announced.
        expected: u64,
        /// As received.
        found: u64,
    },
    /// Neither tier had room for all of it.
    #[error("no room")]
    Lost,
}

/// A version that is being written, owned by the leader of its fill. Dropped before
/// [`seal`](Self::seal), nothing of it becomes visible and its memory is given back.
pub struct Filling {
    registration: Arc<Registration>,
    draft: HeadDraft,
    edition: VersionId,
    /// Body bytes taken in, also after it was lost.
    length: u64,
    /// The record that is being filled.
    buffer: Vec<u8>,
    /// Of the bytes before the buffer; of all that came, if it is lost.
    hashes: ChunkHashes,
    lost: bool,
    sealed: bool,
}

impl Filling {
    pub(super) fn new(inner: Arc<Inner>, draft: HeadDraft) -> Self {
        let lost = draft.length.is_some_and(|length| length > inner.object_max.min(BODY_MAX));
        let mut filling = Self {
            edition: edition(draft.version, draft.received),
            registration: Registration::new(inner, draft.key.object()),
            draft,
            length: 0,
            buffer: Vec::new(),
            hashes: ChunkHashes::default(),
            lost,
            sealed: false,
        };
        if !lost {
            filling.buffer = filling.buffer_for(0);
        }
        filling
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.registration.inner
    }

    fn state(&self) -> &Arc<FillState> {
        &self.registration.state
    }

    /// Adds body bytes. May wait for the disk's queue. Never fails: what cannot be kept is
    /// [lost](Self::is_lost). Dropped before it is ready, the fill is lost.
    pub async fn append(&mut self, mut bytes: &[u8]) {
        let mut at = self.length;
        self.length += bytes.len() as u64;
        let most = self.draft.length.unwrap_or(u64::MAX).min(self.inner().object_max).min(BODY_MAX);
        if self.lost || self.length > most || self.state().is_superseded() {
            self.give_up(at);
            self.hashes.update(at, bytes);
            return;
        }
        // Set for as long as a wait may not come back, so that a gap can never be sealed.
        self.lost = true;
        while !bytes.is_empty() {
            let index = layout::record_at(at);
            let end = layout::record_span(index).end;
            let room = usize::try_from(end - at).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.buffer.extend_from_slice(now);
            (bytes, at) = (later, at + now.len() as u64);
            if at == end && !self.finish(index).await {
                self.give_up(at);
                self.hashes.update(at, bytes);
                return;
            }
        }
        self.lost = false;
    }

    /// Whether the version can no longer be stored.
    pub fn is_lost(&self) -> bool {
        self.lost || self.state().is_superseded() || self.state().body().is_some_and(|body| body.is_broken())
    }

    /// The body ends here: what came of it is a part, and to be stored with these status and fields.
    pub fn cut(&mut self, status: StatusCode, fields: HeaderMap) {
        self.draft.status = status;
        self.draft.fields = fields;
        self.draft.length = Some(self.length);
    }

    /// BLAKE3 of the chunks that are complete so far, also of a version that is [lost](Self::is_lost). None
    /// beyond the longest body that can be kept, nor after an [`append`](Self::append) that was dropped.
    pub fn hashes(&self) -> &[[u8; 32]] {
        self.hashes.complete()
    }

    /// The body is complete: [`hashes`](Self::hashes), the last chunk's included. No byte may be appended
    /// after. An empty body has no chunk.
    pub fn finish_hashes(&mut self) -> &[[u8; 32]] {
        self.hashes.end(self.length - self.buffer.len() as u64, &self.buffer);
        self.hashes.complete()
    }

    /// A reader of the records that are finished.
    pub fn partial(&self) -> Partial {
        Partial(self.state().clone())
    }

    /// Ends the body, makes the version visible, in place of older ones of its variant, and hands it
    /// to the disk, whose queue it may wait for; dropped then, the version stays in memory only.
    ///
    /// # Errors
    /// If the version is not kept; nothing is visible then.
    pub async fn seal(self) -> Result<Hit, SealError> {
        let (hit, filing) = self.publish().await?;
        if let Some(filing) = filing {
            filing.queue().await;
        }
        Ok(hit)
    }

    /// The first half of [`seal`](Self::seal), for those who must not wait for the disk with what they
    /// do when the version is visible.
    ///
    /// # Errors
    /// As for `seal`.
    pub async fn publish(mut self) -> Result<(Hit, Option<Filing>), SealError> {
        match self.draft.length {
            Some(expected) if expected != self.length => {
                return Err(SealError::Length { expected, found: self.length });
            }
            _ => self.draft.length = Some(self.length),
        }
        self.finish_hashes();
        let last = layout::record_count(self.length) - 1;
        // A body of full records only was finished as it came.
        if last > 0 && !self.buffer.is_empty() && !self.is_lost() && !self.finish(last).await {
            self.give_up(self.length);
        }
        if self.state().is_superseded() {
            return Err(SealError::Superseded);
        }
        if self.is_lost() {
            return Err(SealError::Lost);
        }
        let block = self.encode(last == 0);
        self.buffer = Vec::new();
        let (hit, number) = self.enter_index(block)?;
        self.sealed = true;
        let filing = self.inner().disk().is_some().then(|| {
            let (head, seal) = self.records(&hit);
            Filing::new(self.registration.clone(), number, head, seal)
        });
        Ok((hit, filing))
    }

    /// A buffer for record `index`: of exact size if the length is known.
    fn buffer_for(&self, index: u32) -> Vec<u8> {
        let span = layout::record_span_within(index, self.draft.length.unwrap_or(0));
        Vec::with_capacity(usize::try_from(span.end - span.start).unwrap_or(0))
    }

    /// The record is complete: hands it to the tiers. `false` if neither can keep it.
    async fn finish(&mut self, index: u32) -> bool {
        let next = self.buffer_for(index + 1);
        let buffer = std::mem::replace(&mut self.buffer, next);
        // An allocation of exact size, by a copy only if the length was not known.
        let bytes = Bytes::from(buffer.into_boxed_slice());
        self.hashes.update(layout::record_span(index).start, &bytes);
        if index == 0 {
            return self.state().first.set(bytes).is_ok();
        }
        self.finish_slice(index, bytes).await
    }

    async fn finish_slice(&mut self, index: u32, bytes: Bytes) -> bool {
        let inner = self.inner().clone();
        let body = self.body();
        let length = bytes.len();
        let (bytes, tracked) = match inner.reserve(body.resident(), length as u64) {
            Some(reservation) => {
                let absent = MemoryKey::absent(body.object, body.variant, index);
                (reservation.hold(bytes), Some(inner.memory.seat(absent)))
            }
            None => (bytes, None),
        };
        let stay = tracked.as_ref().map(Tracked::key);
        let disk = inner.disk();
        if body.push(bytes.clone(), tracked, disk.is_some()) == Left::Broken {
            return false;
        }
        if let Some(stay) = stay {
            body.enter(&inner, index, stay, length);
        }
        if let Some(disk) = disk {
            let done = SliceFiled::new(body.clone(), &inner, index);
            let record = self.record(RecordKind::Slice, body.record_id(index), 0, bytes);
            // A refused slice may still be in memory.
            let _ = disk.append(record, move |result| done.end(result)).await;
        }
        !body.is_broken() && !self.state().is_superseded()
    }

    fn body(&self) -> Arc<Body> {
        let (object, variant) = (self.registration.object, self.draft.variant);
        let new = || Arc::new(Body::new(object, variant, self.edition, self.inner().me.clone()));
        self.state().body.get_or_init(new).clone()
    }

    fn encode(&self, whole: bool) -> Bytes {
        let first = self.state().first.get().map_or(&self.buffer[..], |first| first);
        let digest = self.hashes().first().copied();
        // An empty body has no chunk, but a hash.
        self.draft.encode(first, whole, &digest.unwrap_or_else(|| *blake3::hash(&[]).as_bytes()))
    }

    /// Puts the version into the index. Returns also its number.
    fn enter_index(&mut self, block: Bytes) -> Result<(Hit, u64), SealError> {
        let inner = self.inner().clone();
        let object = self.registration.object;
        let body = self.state().body().cloned();
        if let Some(body) = &body {
            body.set_hashes(self.hashes().into());
        }
        let resident = body.as_ref().map_or(0, |body| body.resident());
        let (head, admitted) = inner.decode_head(block, resident).ok_or(SealError::Lost)?;
        let queued = inner.disk().is_some();
        if !admitted && !queued {
            return Err(SealError::Lost);
        }
        let tracked = admitted.then(|| inner.memory.seat(MemoryKey::absent(object, self.draft.variant, 0)));
        let stay = tracked.as_ref().map(Tracked::key);
        let vary = vary_list(&self.draft.selecting);
        let lean = body.is_none() && vary.is_none();
        let number = inner.index.next_number();
        let variant = Variant {
            id: self.draft.variant,
            edition: if lean { VersionId::default() } else { self.edition },
            number,
            position: self.draft.position,
            expiry: coarse_expiry(&head),
            head: Some(head.clone()),
            tracked,
            queued,
            shared: !head.stays(),
            place: None,
            seal: None,
            body: body.clone(),
            accessed: false,
        };
        if !inner.index.publish(object, vary, variant, Some(self.state())) {
            return Err(SealError::Superseded);
        }
        // For the fill's readers, if the body was too short for an own record 0.
        let _ = self.state().first.set(head.body());
        if let Some(stay) = stay {
            inner.enter_head(object, stay, &head);
        }
        Ok((
            Hit { head, tier: Tier::Memory, object, anchor: Anchor::Number(number), body, pinned: None },
            number,
        ))
    }

    /// The head's record and the seal that it may need.
    fn records(&self, hit: &Hit) -> (NewRecord, Option<NewRecord>) {
        let vary = vary_list(&self.draft.selecting);
        let (head, expiry) = (hit.head.block().clone(), coarse_expiry(&hit.head));
        if hit.body.is_none() && vary.is_none() {
            return (self.record(RecordKind::Head, lean_id(hit.object), expiry, head), None);
        }
        let id =
            RecordId { object: hit.object, variant: self.draft.variant, version: self.edition, index: 0 };
        let names = vary.map(|list| list.names().to_vec()).unwrap_or_default();
        let hashes = if hit.body.is_some() { self.hashes().to_vec() } else { Vec::new() };
        let seal = Seal { length: self.length, vary: names, hashes }.encode();
        let seal_id = RecordId { index: SEAL_INDEX, ..id };
        let seal = seal.map(|payload| self.record(RecordKind::Seal, seal_id, expiry, payload));
        (self.record(RecordKind::Head, id, expiry, head), seal)
    }

    fn record(&self, kind: RecordKind, id: RecordId, expiry: u32, payload: Bytes) -> NewRecord {
        let shared = kind == RecordKind::Head && !self.draft.stays();
        NewRecord { kind, id, position: self.draft.position, expiry, shared, payload }
    }

    /// Goes on without the store, with the hashes alone. The buffer ends at `end`.
    fn give_up(&mut self, end: u64) {
        self.hashes.update(end - self.buffer.len() as u64, &self.buffer);
        self.abandon();
    }

    fn abandon(&mut self) {
        self.lost = true;
        self.buffer = Vec::new();
        if let Some(body) = self.state().body() {
            body.abandon();
        }
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        if !self.sealed {
            self.abandon();
            self.inner().settle();
        }
    }
}

/// A reader of the finished records of a fill, also after its end.
#[derive(Clone)]
pub struct Partial(Arc<FillState>);

impl Partial {
    /// Whether all that is finished can be read, from the first byte on.
    pub fn starts_stored(&self) -> bool {
        self.0.first.get().is_some() && !self.0.body().is_some_and(|body| body.is_broken())
    }

    /// The body bytes of record `index`, if it is finished and a tier still has it.
    pub async fn record(&self, index: u32) -> Option<Bytes> {
        if index == 0 {
            return self.0.first.get().cloned();
        }
        let body = self.0.body()?.clone();
        if index > body.slices() {
            return None;
        }
        body.read(index).await.ok()
    }
}
