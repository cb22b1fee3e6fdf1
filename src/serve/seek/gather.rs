//! The chunks of a stored version behind the first, from several holders at once. `proto::scheduler` says
//! which chunk from whom; each is compared with the list of the version before any byte of it is used.

use super::super::fill::Arriving;
use super::super::intake::Broken;
use super::super::{Worker, rest};
use super::Trouble;
use super::follow::Taking;
use super::swarm::{Frames, Listener, Swarm};
use crate::clock::Clock;
use crate::config::model::Site;
use crate::peer::AskError;
use crate::proto::object::layout::{CHUNK_SIZE, chunk_count};
use crate::proto::plan::FetchReason;
use crate::proto::relay::{Checked, ChunkHash, Judgement, RelayFault, judge};
use crate::proto::scheduler::{Fault, Scheduler, Want};
use crate::proto::seek::Ground;
use crate::proto::swarm::Place;
use crate::proto::wire::{self, Frame, HOLDERS_MAX, ask, reply};
use crate::telemetry::SiteMetrics;
use bytes::Bytes;
use futures_util::future::{AbortHandle, Abortable, Aborted};
use futures_util::stream::{FuturesUnordered, StreamExt};
use http_body_util::BodyExt;
use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Chunks that are fetched ahead of the one that readers get next.
const WINDOW: u32 = 8;

/// What came of it.
pub(super) enum Gathered {
    /// All chunks.
    Whole,
    /// The holders are lost; what came in order was handed on.
    Dry,
}

/// Takes the chunks behind the first from `first` and `others`, which have them stored.
///
/// # Errors
/// If the fill can go on from no source.
pub(super) async fn gather<S: Swarm>(
    taking: &mut Taking<S>,
    first: Place,
    others: Vec<Place>,
) -> Result<Gathered, Broken> {
    let length = taking.intake.arriving.draft.length.unwrap_or(0);
    let chunks = 1..chunk_count(length);
    let places: Vec<_> = std::iter::once(first).chain(others).take(HOLDERS_MAX).collect();
    let now = taking.seeker.worker.node.clock.mono();
    let mut gathering = Gathering {
        scheduler: Scheduler::new(chunks.clone(), places.len(), WINDOW, now),
        holders: places.into_iter().map(|place| Holder { place, lost: false, gave: 0 }).collect(),
        flights: FuturesUnordered::new(),
        aloft: BTreeMap::new(),
        ready: BTreeMap::new(),
        next: chunks.start,
        end: chunks.end,
        length,
        dry: false,
        taking,
    };
    // It gave the first chunk.
    gathering.holders[0].gave = 1;
    let gathered = gathering.run().await;
    gathering.count();
    gathered
}

/// A node that has the version.
struct Holder {
    place: Place,
    /// Whether it failed for good.
    lost: bool,
    /// Chunks of it that were used.
    gave: u32,
}

/// Who fetches a chunk: a holder by its position, or the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Via {
    Holder(usize),
    Origin,
}

type Key = (u32, Via);
type Fetch<F> = Pin<Box<dyn Future<Output = Landed<F>> + Send>>;

/// What a fetch in progress came to.
struct Landed<F> {
    key: Key,
    came: Result<Came<F>, Trouble>,
}

enum Came<F> {
    /// So many bytes more; the rest is still on its way.
    Bytes(u64, Box<Flight<F>>),
    /// All bytes of the chunk, with the hash that the sender says they have. The origin says none.
    Chunk(Vec<Bytes>, Option<ChunkHash>),
}

/// A chunk on its way from a holder.
struct Flight<F> {
    listener: Listener<F>,
    parts: Vec<Bytes>,
    span: Range<u64>,
    received: u64,
}

/// A fetch that can be called off, and what it brought so far.
struct Aloft {
    abort: AbortHandle,
    received: u64,
}

struct Gathering<'a, S: Swarm> {
    taking: &'a mut Taking<S>,
    scheduler: Scheduler,
    holders: Vec<Holder>,
    /// At most as many as the scheduler wants: its window, and hedges.
    flights: FuturesUnordered<Abortable<Fetch<S::Frames>>>,
    aloft: BTreeMap<Key, Aloft>,
    /// Good chunks that wait for one before them; at most [`WINDOW`].
    ready: BTreeMap<u32, (Vec<Bytes>, ChunkHash)>,
    /// The chunk that readers get next.
    next: u32,
    end: u32,
    length: u64,
    dry: bool,
}

impl<S: Swarm> Gathering<'_, S> {
    async fn run(&mut self) -> Result<Gathered, Broken> {
        while self.next < self.end {
            while let Some(want) = self.scheduler.poll() {
                self.carry_out(want);
            }
            let deadline = self.scheduler.deadline();
            if self.dry || (self.flights.is_empty() && deadline.is_none()) {
                return Ok(Gathered::Dry);
            }
            let due = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            // What is at hand is taken before anybody is called late.
            let landed = tokio::select! {
                biased;
                Some(landed) = self.flights.next() => Some(landed),
                () = due => None,
            };
            match landed {
                Some(Ok(landed)) => self.handle(landed)?,
                Some(Err(Aborted)) => {}
                None => self.scheduler.handle_deadline(self.now()),
            }
            self.hand_on().await?;
        }
        Ok(Gathered::Whole)
    }

    /// Hands on the chunks that are next in order.
    async fn hand_on(&mut self) -> Result<(), Broken> {
        while let Some((parts, hash)) = self.ready.remove(&self.next) {
            self.taking.push_good(parts, Some(Checked { end: 0, hash })).await?;
            self.scheduler.handle_consumed(self.next, self.now());
            self.next += 1;
        }
        Ok(())
    }

    fn carry_out(&mut self, want: Want) {
        match want {
            Want::Fetch { chunk, source, .. } => {
                let span = self.span(chunk);
                let fetch = self.open(source, span.clone());
                let key = (chunk, Via::Holder(source));
                self.start(key, async move {
                    let came = fetch.await.map(|listener| {
                        Came::Bytes(0, Box::new(Flight { listener, parts: Vec::new(), span, received: 0 }))
                    });
                    Landed { key, came }
                });
            }
            Want::Cancel { chunk, source } => self.call_off((chunk, Via::Holder(source))),
            // Nobody is left who has it, or not all of those who were named have it.
            Want::Origin { .. } if self.lost_all() => self.dry = true,
            Want::Origin { chunk } => self.ask_origin(chunk),
        }
    }

    /// Whether no holder is left for any chunk. If so, those that only fell silent are not asked again either: the
    /// rest is sought as one, and not chunk by chunk at the origin.
    fn lost_all(&mut self) -> bool {
        let is_lost = |(source, holder): (usize, &Holder)| holder.lost || self.scheduler.is_lost(source);
        if !self.holders.iter().enumerate().all(is_lost) {
            return false;
        }
        for holder in self.holders.iter_mut().filter(|holder| !holder.lost) {
            holder.lost = true;
            self.taking.seeker.note(holder.place.node, Trouble::Unheard);
            self.taking.seeker.machine.avoid(holder.place.node);
        }
        true
    }

    fn start(&mut self, key: Key, fetch: impl Future<Output = Landed<S::Frames>> + Send + 'static) {
        let (abort, registration) = AbortHandle::new_pair();
        let received = self.aloft.get(&key).map_or(0, |aloft| aloft.received);
        self.aloft.insert(key, Aloft { abort, received });
        self.flights.push(Abortable::new(Box::pin(fetch), registration));
    }

    fn call_off(&mut self, key: Key) {
        if let Some(aloft) = self.aloft.remove(&key) {
            aloft.abort.abort();
            self.waste(aloft.received);
        }
    }

    /// Asks a holder for the chunk at `span`.
    fn open(
        &self,
        source: usize,
        span: Range<u64>,
    ) -> impl Future<Output = Result<Listener<S::Frames>, Trouble>> + Send + 'static {
        let (swarm, place) = (self.taking.seeker.swarm.clone(), self.holders[source].place.clone());
        let asking = &self.taking.seeker.asking;
        let version = self.taking.version.0.to_vec();
        let read = wire::Read {
            object: asking.object.0.to_vec(),
            variant: self.taking.intake.arriving.draft.variant.0.to_vec(),
            version: version.clone(),
            from: span.start,
            to: span.end,
            follow: None,
            // The version was judged when its head was given.
            ..wire::Read::default()
        };
        let (clock, quiet_max) =
            (self.taking.seeker.worker.node.clock, asking.site.origin.between_bytes_timeout);
        async move { open(swarm, place, read, (clock, quiet_max)).await }
    }

    fn ask_origin(&mut self, chunk: u32) {
        let (key, span) = ((chunk, Via::Origin), self.span(chunk));
        let seeker = &self.taking.seeker;
        let worker = Arc::clone(&seeker.worker);
        let (site, metrics) = (Arc::clone(&seeker.asking.site), Arc::clone(&seeker.asking.metrics));
        let arriving = Arc::clone(&self.taking.intake.arriving);
        self.start(key, async move {
            let came = from_origin(&worker, (&site, &metrics), &arriving, span).await;
            Landed { key, came: came.map(|parts| Came::Chunk(parts, None)).ok_or(Trouble::Gone) }
        });
    }

    fn handle(&mut self, Landed { key, came }: Landed<S::Frames>) -> Result<(), Broken> {
        match came {
            Ok(Came::Bytes(more, flight)) => {
                self.handle_bytes(key, more);
                self.start(key, async move { Landed { key, came: flight.fly().await } });
                Ok(())
            }
            Ok(Came::Chunk(parts, stated)) => {
                let aloft = self.aloft.remove(&key);
                self.handle_chunk(key, parts, stated, aloft.map_or(0, |aloft| aloft.received))
            }
            Err(trouble) => {
                let received = self.aloft.remove(&key).map_or(0, |aloft| aloft.received);
                self.waste(received);
                self.handle_failed(key, trouble);
                Ok(())
            }
        }
    }

    fn handle_bytes(&mut self, key: Key, more: u64) {
        let (chunk, Via::Holder(source)) = key else { return };
        if let Some(aloft) = self.aloft.get_mut(&key) {
            aloft.received += more;
        }
        self.taking.seeker.asking.metrics.taking.bytes.inc_by(more);
        let now = self.now();
        if more > 0 {
            self.scheduler.handle_bytes(chunk, source, more, now);
        }
    }

    fn handle_chunk(
        &mut self,
        key: Key,
        parts: Vec<Bytes>,
        stated: Option<ChunkHash>,
        received: u64,
    ) -> Result<(), Broken> {
        let (chunk, via) = key;
        let listed = self.taking.listed[chunk as usize];
        let judgement = judge(parts.iter().map(|part| &part[..]), &stated.unwrap_or(listed), &listed);
        let trouble = match (judgement, via) {
            (Judgement::Good, _) => {
                self.taken(key, parts, listed);
                return Ok(());
            }
            // The list is not the origin's: what was handed on is nobody's version.
            (_, Via::Origin) => return Err("the peers' version is not the origin's"),
            (Judgement::Bad, _) => RelayFault::Mismatch { exact: true }.into(),
            (Judgement::Disputed, _) => Trouble::Disputed,
        };
        self.waste(received);
        self.handle_failed(key, trouble);
        Ok(())
    }

    /// A chunk is there and good.
    fn taken(&mut self, (chunk, via): Key, parts: Vec<Bytes>, hash: ChunkHash) {
        let now = self.now();
        match via {
            Via::Holder(source) => {
                self.holders[source].gave += 1;
                self.scheduler.handle_done(chunk, source, now);
            }
            Via::Origin => {}
        }
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        let is_new = chunk >= self.next && !self.ready.contains_key(&chunk);
        if is_new {
            self.ready.insert(chunk, (parts, hash));
        } else {
            self.waste(bytes as u64);
        }
    }

    fn handle_failed(&mut self, (chunk, via): Key, trouble: Trouble) {
        let Via::Holder(source) = via else {
            // The origin has not this version any more, or not by range. Another holder may.
            self.dry = true;
            return;
        };
        let fault = fault(trouble);
        let node = self.holders[source].place.node;
        self.taking.seeker.note(node, trouble);
        if fault != Fault::Busy {
            self.holders[source].lost = true;
            self.taking.seeker.machine.avoid(node);
        }
        let now = self.now();
        self.scheduler.handle_failed(chunk, source, fault, now);
    }

    /// Counts what the fetches still in progress brought in vain, and whether several holders gave.
    fn count(&mut self) {
        let aloft = std::mem::take(&mut self.aloft);
        self.waste(aloft.values().map(|aloft| aloft.received).sum());
        if self.holders.iter().filter(|holder| holder.gave > 0).count() > 1 {
            self.taking.seeker.worker.node.metrics.node.taker.multi_holder_fills.inc();
        }
    }

    fn waste(&self, bytes: u64) {
        self.taking.seeker.worker.node.metrics.node.taker.duplicate_bytes.inc_by(bytes);
    }

    fn span(&self, chunk: u32) -> Range<u64> {
        let start = u64::from(chunk) * CHUNK_SIZE;
        start..(start + CHUNK_SIZE).min(self.length)
    }

    fn now(&self) -> std::time::Instant {
        self.taking.seeker.worker.node.clock.mono()
    }
}

impl<F: Frames> Flight<F> {
    /// Waits for the next frame.
    async fn fly(mut self: Box<Self>) -> Result<Came<F>, Trouble> {
        match self.listener.next().await? {
            Some(Frame::Data(bytes)) => {
                let more = bytes.len() as u64;
                self.received += more;
                if self.received > self.span.end - self.span.start {
                    return Err(RelayFault::TooLong.into());
                }
                self.parts.push(bytes);
                Ok(Came::Bytes(more, self))
            }
            Some(Frame::Chunk(hash)) if self.received == self.span.end - self.span.start => {
                Ok(Came::Chunk(self.parts, Some(hash)))
            }
            _ => Err(AskError::Protocol.into()),
        }
    }
}

/// Opens a read of a chunk of a version that is known.
async fn open<S: Swarm>(
    swarm: S,
    place: Place,
    read: wire::Read,
    (clock, quiet_max): (Clock, Duration),
) -> Result<Listener<S::Frames>, Trouble> {
    let version = read.version.clone();
    let frames = swarm.ask(&place, ask::Kind::Read(read)).await?;
    let mut listener = Listener::new(frames, clock, quiet_max);
    match listener.reply().await.map_err(Trouble::before_answer)? {
        reply::Kind::Head(head) if head.version == version => Ok(listener),
        reply::Kind::Head(_) | reply::Kind::Gone(_) => Err(Trouble::Gone),
        reply::Kind::Busy(_) => Err(AskError::Refused.into()),
        _ => Err(AskError::Protocol.into()),
    }
}

/// A chunk from the origin, by range of the very same version.
async fn from_origin(
    worker: &Worker,
    (site, metrics): (&Site, &SiteMetrics),
    arriving: &Arriving,
    span: Range<u64>,
) -> Option<Vec<Bytes>> {
    metrics.origin_fetches.inc(FetchReason::Resume as usize);
    metrics.taking.origin_fetches.of(Ground::PeersFailed).inc();
    let mut body = rest::range(worker, site, arriving, (span.start, span.end)).await?;
    let (mut parts, mut received) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.ok()?.into_data() else { continue };
        received += bytes.len() as u64;
        metrics.origin_bytes.inc_by(bytes.len() as u64);
        if received > span.end - span.start {
            return None;
        }
        parts.push(bytes);
    }
    (received == span.end - span.start).then_some(parts)
}

/// What the scheduler is told.
const fn fault(trouble: Trouble) -> Fault {
    match trouble {
        Trouble::Gone | Trouble::Disputed => Fault::Gone,
        Trouble::Ask(AskError::Unreachable | AskError::Quarantined) => Fault::Unreachable,
        Trouble::Unheard | Trouble::Ask(AskError::Silent) => Fault::Stalled,
        Trouble::Ask(AskError::Refused) => Fault::Busy,
        Trouble::Ask(AskError::Upstream | AskError::Protocol | AskError::Unsupported) | Trouble::Relay(_) => {
            Fault::Bad
        }
    }
}
