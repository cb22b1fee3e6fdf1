//! Giving a peer what is stored.

use super::out::{Cut, Out, Sink};
use super::{Denied, Node, Wanted, gone};
use crate::proto::key;
use crate::proto::object::Head;
use crate::proto::object::layout::{CHUNK_SIZE, chunk_count, record_at, record_span};
use crate::proto::purge::Judgement;
use crate::proto::semantics;
use crate::proto::wire::{self, code, reply};
use crate::store::{Hit, Lookup, MissReason};
use crate::telemetry::Given;
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use std::ops::Range;

/// What is stored of `wanted`, if it may be given; else what the asker is told if there is nothing better. A node that may
/// not know of all purges gives nothing.
pub(super) async fn find(node: &Node, wanted: &Wanted) -> Result<Hit, Denied> {
    if !node.purges.in_sync(node.clock.mono()) {
        return Err(Denied::Gone);
    }
    let hit = match node.store.find(wanted.object, |_| wanted.variant) {
        Lookup::Memory(hit) => hit,
        Lookup::OnDisk(on_disk) => node.store.load(on_disk).await.map_err(|_damaged| Denied::Gone)?,
        Lookup::Miss(reason) => return Err(missing(node, wanted, reason)),
    };
    admitted(node, wanted, &hit)?;
    Ok(hit)
}

/// A peer that knows less of what the object varies by is told. One that names a variant which is not here may
/// know as much: it sees the list that it has already.
fn missing(node: &Node, wanted: &Wanted, reason: MissReason) -> Denied {
    let knows_none = wanted.variant == key::variant(wanted.object, std::iter::empty());
    let list = match reason {
        MissReason::Vary => node.store.vary(wanted.object),
        MissReason::Uri => node.known.vary(wanted.object).filter(|_| knows_none),
    };
    list.map_or(Denied::Gone, |list| Denied::varies(list.names()))
}

/// What a purge selects is not given, be it only stale: the asker would take it for as new as its own purges.
fn admitted(node: &Node, wanted: &Wanted, hit: &Hit) -> Result<(), Denied> {
    let head = &hit.head;
    let judgement = node.purges.judge(head);
    if judgement != Judgement::Clear {
        node.metrics.purges.meets.inc();
    }
    if judgement == Judgement::Hard {
        node.store.drop_purged(hit);
    }
    if head.stays() {
        return Err(Denied::Gone);
    }
    if judgement != Judgement::Clear {
        return Err(Denied::Purged);
    }
    wanted.admits(head.variant, head.version, &names(head))
}

/// Gives `hit`, if it may be given.
pub(super) async fn give<S: Sink>(
    node: &Node,
    wanted: &Wanted,
    hit: &Hit,
    out: &mut Out<S>,
) -> Result<(), Cut> {
    if let Err(other) = admitted(node, wanted, hit) {
        return out.reply(other.into()).await;
    }
    let length = hit.head.length.unwrap_or(0);
    let mut head = head_of(node, &hit.head);
    if wanted.held == Some(hit.head.version) {
        head.same = true;
        return out.reply(reply::Kind::Head(head)).await;
    }
    let range = wanted.within(length)?;
    let chunks = chunk_count(length) as usize;
    let hashes = node.store.chunk_hashes(hit).unwrap_or_default();
    let Some(hashes) = hashes.get(..chunks) else { return out.reply(gone()).await };
    // Who reads on has the list already.
    if range.start == 0 {
        head.hashes = hashes.concat();
    }
    out.reply(reply::Kind::Head(head)).await?;
    send(hit, range, (length, hashes), out).await
}

/// Sends the bytes `range` of a body of `length` bytes.
async fn send<S: Sink>(
    hit: &Hit,
    range: Range<u64>,
    (length, hashes): (u64, &[[u8; 32]]),
    out: &mut Out<S>,
) -> Result<(), Cut> {
    let mut at = range.start;
    while at < range.end {
        let index = record_at(at);
        let record = record(hit, index, out).await?;
        let from = (at - record_span(index).start) as usize;
        let left = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        let to = record.len().min(from.saturating_add(left));
        if from >= to {
            return Err(Cut::Reset(code::UPSTREAM));
        }
        out.data(record.slice(from..to), Given::Stored).await?;
        at += (to - from) as u64;
        // No record crosses the end of a chunk.
        if at == length || at.is_multiple_of(CHUNK_SIZE) {
            out.chunk(hashes[((at - 1) / CHUNK_SIZE) as usize]).await?;
        }
    }
    if at == length { out.end(length).await } else { Ok(()) }
}

async fn record<S: Sink>(hit: &Hit, index: u32, out: &mut Out<S>) -> Result<Bytes, Cut> {
    if index == 0 {
        return Ok(hit.head.body());
    }
    if let Some(record) = hit.record_now(index) {
        return Ok(record);
    }
    out.patient(hit.record(index)).await?.map_err(|_lost| Cut::Reset(code::UPSTREAM))
}

/// A head as it travels, without hashes.
pub(super) fn head_of(node: &Node, head: &Head) -> wire::Head {
    wire::Head {
        key: head.key().to_vec(),
        status: u32::from(head.status.as_u16()),
        fields: fields(&head.fields()),
        age: semantics::current_age(head.initial_age, head.received, node.clock.now().wall),
        length: head.length,
        variant: head.variant.0.to_vec(),
        version: head.version.0.to_vec(),
        vary: texts(&names(head)),
        arriving: false,
        hashes: Vec::new(),
        same: false,
    }
}

/// The names of the fields that the variant was selected by.
fn names(head: &Head) -> Vec<HeaderName> {
    head.selecting().into_iter().map(|selecting| selecting.name).collect()
}

/// Names as they travel.
pub(super) fn texts(names: &[HeaderName]) -> Vec<String> {
    names.iter().map(|name| name.as_str().to_owned()).collect()
}

/// Fields as they travel.
pub(super) fn fields(fields: &HeaderMap) -> Vec<wire::Field> {
    let field = |(name, value): (&HeaderName, &http::HeaderValue)| wire::Field {
        name: name.as_str().to_owned(),
        value: value.as_bytes().to_vec(),
    };
    fields.iter().map(field).collect()
}
