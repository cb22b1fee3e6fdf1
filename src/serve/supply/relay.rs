//! Giving a peer what is arriving, as it comes.

use super::out::{Cut, Out, Sink};
use super::stored::{fields, texts};
use super::{Denied, Node, Wanted, gone, stored};
use crate::proto::object::layout::{CHUNK_SIZE, record_at, record_span};
use crate::proto::semantics;
use crate::proto::swarm::Token;
use crate::proto::wire::{self, code, reply};
use crate::serve::failure::Failure;
use crate::serve::fill::{Arriving, Kept, Outcome, Piece, Reader, Under};
use crate::telemetry::Given;
use bytes::Bytes;
use std::future::poll_fn;
use std::task::{Context, Poll};

/// What a fill came to, as far as a peer that follows under `follow` may wait for that. Anybody may read what
/// has begun to arrive; a fill that still waits for another node is waited for under its own lease only, so
/// that no two nodes wait for each other. `None` if this peer may not wait.
pub(super) async fn outcome<S: Sink>(
    reader: &Reader,
    follow: Option<Token>,
    out: &mut Out<S>,
) -> Result<Option<Outcome>, Cut> {
    out.patient(poll_fn(|cx| poll_outcome(reader, follow, cx))).await
}

fn poll_outcome(reader: &Reader, follow: Option<Token>, cx: &Context<'_>) -> Poll<Option<Outcome>> {
    loop {
        if let Poll::Ready(outcome) = reader.poll_outcome(cx) {
            return Poll::Ready(Some(outcome));
        }
        match reader.poll_under(cx) {
            Poll::Pending | Poll::Ready(Under::Origin) => return Poll::Pending,
            Poll::Ready(Under::Lease(token)) if follow == Some(token) => return Poll::Pending,
            Poll::Ready(Under::Lease(_) | Under::Peer) => return Poll::Ready(None),
            // It ended between the two, so there is an outcome now.
            Poll::Ready(Under::Undecided) => {}
        }
    }
}

/// Answers with what a fill came to.
pub(super) async fn give<S: Sink>(
    node: &Node,
    wanted: &Wanted,
    outcome: Outcome,
    reader: &Reader,
    out: &mut Out<S>,
) -> Result<(), Cut> {
    let other = match outcome {
        Outcome::Streaming(arriving) => return stream(node, wanted, &arriving, reader, out).await,
        Outcome::Stored(_, hit) => return stored::give(node, wanted, &hit, out).await,
        Outcome::Refreshed(refreshed) => match refreshed.kept {
            Kept::Yes => return stored::give(node, wanted, &refreshed.hit, out).await,
            Kept::OtherVariant => gone(),
            Kept::NotStorable(not) => {
                let of_object = not.is_of_object();
                reply::Kind::NotStored(wire::NotStored { server_error: false, of_object })
            }
        },
        Outcome::Own(_, server_error) | Outcome::NotStored(server_error) => {
            let of_object = node.known.is_uncacheable(wanted.object, node.clock.now().wall);
            reply::Kind::NotStored(wire::NotStored { server_error, of_object })
        }
        Outcome::Unfit => gone(),
        Outcome::Failed(failure) => reply::Kind::Failed(wire::Failed { reason: reason(&failure).to_owned() }),
    };
    out.reply(other).await
}

fn reason(failure: &Failure) -> &'static str {
    match failure {
        Failure::Origin(error) => error.as_str(),
        _ => "abandoned",
    }
}

async fn stream<S: Sink>(
    node: &Node,
    wanted: &Wanted,
    arriving: &Arriving,
    reader: &Reader,
    out: &mut Out<S>,
) -> Result<(), Cut> {
    let draft = &arriving.draft;
    let names = arriving.vary.as_ref().map_or(&[][..], |vary| vary.names());
    let admitted =
        if draft.stays() { Err(Denied::Gone) } else { wanted.admits(draft.variant, draft.version, names) };
    if let Err(other) = admitted {
        return out.reply(other.into()).await;
    }
    let same = wanted.held == Some(draft.version);
    if let Some(length) = draft.length.filter(|_| !same) {
        wanted.within(length)?;
    }
    let head = wire::Head {
        key: draft.key.as_bytes().to_vec(),
        status: u32::from(draft.status.as_u16()),
        fields: fields(&draft.fields),
        age: semantics::current_age(draft.initial_age, draft.received, node.clock.now().wall),
        length: draft.length,
        variant: draft.variant.0.to_vec(),
        version: draft.version.0.to_vec(),
        vary: texts(names),
        arriving: true,
        hashes: Vec::new(),
        same,
    };
    out.reply(reply::Kind::Head(head)).await?;
    if same {
        return Ok(());
    }
    reader.seek(wanted.from);
    // Up to the end of the body means to where it turns out to be. Who names no version did not know that it is
    // arriving, and takes all of what does.
    let to =
        wanted.to.filter(|to| wanted.version.is_some() && draft.length.is_none_or(|length| *to < length));
    Relay { out, arriving, reader, from: wanted.from, cursor: wanted.from, to }.run().await
}

/// A body on its way through this node.
struct Relay<'a, S> {
    out: &'a mut Out<S>,
    arriving: &'a Arriving,
    reader: &'a Reader,
    from: u64,
    cursor: u64,
    /// `None` is the end of the body.
    to: Option<u64>,
}

impl<S: Sink> Relay<'_, S> {
    async fn run(mut self) -> Result<(), Cut> {
        while self.to != Some(self.cursor) {
            match self.piece().await? {
                Some(bytes) => self.send(bytes).await?,
                None => return self.end().await,
            }
        }
        Ok(())
    }

    /// The bytes at the cursor; `None` at the end of the body.
    async fn piece(&mut self) -> Result<Option<Bytes>, Cut> {
        let reader = self.reader;
        match self.out.patient(poll_fn(|cx| reader.poll_piece(cx))).await? {
            Piece::Bytes(bytes) => Ok(Some(bytes)),
            Piece::End => Ok(None),
            Piece::Broken(_) => Err(Cut::Reset(code::UPSTREAM)),
            Piece::Behind(at) => {
                let index = record_at(at);
                let record = self.out.patient(self.arriving.partial.record(index)).await?;
                let from = (at - record_span(index).start) as usize;
                let record = record.filter(|record| from < record.len());
                record.map(|record| Some(record.slice(from..))).ok_or(Cut::Reset(code::UPSTREAM))
            }
        }
    }

    /// Sends `bytes`, up to the end of the range, with the hash of each chunk behind it.
    async fn send(&mut self, mut bytes: Bytes) -> Result<(), Cut> {
        if let Some(to) = self.to {
            bytes.truncate(usize::try_from(to - self.cursor).unwrap_or(usize::MAX));
        }
        while !bytes.is_empty() {
            let room = CHUNK_SIZE - self.cursor % CHUNK_SIZE;
            let part = bytes.split_to(bytes.len().min(room as usize));
            self.cursor += part.len() as u64;
            self.out.data(part, Given::Relayed).await?;
            if self.cursor.is_multiple_of(CHUNK_SIZE) {
                self.chunk().await?;
            }
        }
        self.reader.advance(self.cursor);
        Ok(())
    }

    /// Sends the hash of the chunk that ends at the cursor, which the fill knows as soon as it has checked it.
    async fn chunk(&mut self) -> Result<(), Cut> {
        let (reader, index) = (self.reader, ((self.cursor - 1) / CHUNK_SIZE) as u32);
        let hash = self.out.patient(poll_fn(|cx| reader.poll_chunk_hash(index, cx))).await?;
        self.out.chunk(hash.ok_or(Cut::Reset(code::UPSTREAM))?).await
    }

    async fn end(&mut self) -> Result<(), Cut> {
        if self.cursor > self.reader.received() {
            return Err(Cut::Reset(code::PROTOCOL));
        }
        if self.cursor > self.from && !self.cursor.is_multiple_of(CHUNK_SIZE) {
            self.chunk().await?;
        }
        self.out.end(self.cursor).await
    }
}
