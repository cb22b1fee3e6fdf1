//! A body that a peer gives: its first chunk, then the rest from several holders ([`gather`](super::gather))
//! or live as it comes; and when a source is lost, from another one, or at last from the origin.

use super::super::fill::{Arriving, Leader};
use super::super::intake::{Broken, Intake};
use super::super::leave::Leave;
use super::super::rest;
use super::gather::{Gathered, gather};
use super::swarm::{Listener, Swarm};
use super::{Found, Given, Left, Seeker, Trouble};
use crate::peer::AskError;
use crate::proto::key::VersionId;
use crate::proto::object::layout::CHUNK_SIZE;
use crate::proto::plan::FetchReason;
use crate::proto::relay::{Checked, Checker, ChunkHash, RelayFault};
use crate::proto::seek::{Event, Ground};
use crate::proto::swarm::NodeId;
use crate::proto::verdict::Source;
use crate::proto::wire::Frame;
use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderMap;
use http_body_util::BodyExt;
use std::sync::Arc;

/// Bytes that were handed to clients and turned out to be wrong cannot be taken back.
const WRONG: Broken = "a peer's bytes do not match their hash";

/// A version on its way from peers.
pub(super) struct Taking<S> {
    pub(super) seeker: Seeker<S>,
    pub(super) intake: Intake,
    pub(super) checker: Checker,
    pub(super) version: VersionId,
    /// The hashes of all chunks, if a peer had the version stored.
    pub(super) listed: Vec<ChunkHash>,
    /// Bytes that the present source sends once more.
    repeated: usize,
}

/// Where the next bytes come from.
enum From<F> {
    Peer(Listener<F>, NodeId),
    Origin(Leave),
}

/// Takes the version that a peer gives into the fill.
pub(super) async fn take<S: Swarm>(seeker: Seeker<S>, leader: Leader, given: Given<S::Frames>) {
    let worker = Arc::clone(&seeker.worker);
    let node = &worker.node;
    let Given { version, first, rest, from, others } = given;
    node.known.storable(seeker.asking.object, version.vary.clone());
    let filling = node.store.begin(version.draft.clone());
    let arriving = Arc::new(Arriving {
        facts: version.facts,
        vary: version.vary,
        partial: filling.partial(),
        withheld: HeaderMap::new(),
        source: Source::Peer,
        server: None,
        peer: Some(from.node),
        draft: version.draft,
    });
    leader.distrust();
    let mut taking = Taking {
        checker: Checker::new(arriving.draft.length),
        version: arriving.draft.version,
        intake: Intake::begin(leader, arriving, filling),
        listed: version.hashes,
        repeated: 0,
        seeker,
    };
    let came = async {
        if let Some((parts, checked)) = first {
            taking.push_good(parts, checked).await?;
        }
        if taking.checker.is_whole() {
            return Ok(Leave::of(Ground::Off));
        }
        let source = match rest {
            Some(listener) => From::Peer(listener, from.node),
            None => match gather(&mut taking, from, others).await? {
                Gathered::Whole => return Ok(Leave::of(Ground::Off)),
                Gathered::Dry => taking.resume().await,
            },
        };
        taking.follow(source).await
    };
    match came.await {
        Ok(leave) => taking.intake.complete(node, &taking.seeker.asking, leave).await,
        Err(why) => taking.intake.broken(why),
    }
}

impl<S: Swarm> Taking<S> {
    /// Takes the rest from one source after the other. Returns the leave under which the origin gave the
    /// last part, if it did.
    async fn follow(&mut self, mut source: From<S::Frames>) -> Result<Leave, Broken> {
        loop {
            match source {
                From::Origin(leave) => {
                    self.end_at_origin(leave.ground).await?;
                    return Ok(leave);
                }
                From::Peer(listener, node) => {
                    if self.relay(listener, node).await? {
                        return Ok(Leave::of(Ground::Off));
                    }
                }
            }
            source = self.resume().await;
        }
    }

    /// Finds who has the rest, from the next byte on. If a chunk is open, its last byte is asked for once
    /// more, since the hash of a chunk follows only a byte of it.
    async fn resume(&mut self) -> From<S::Frames> {
        self.checker.change_source();
        self.repeated = usize::from(self.checker.offset() > self.checker.checked());
        let left = Left {
            version: self.version,
            length: self.intake.arriving.draft.length,
            from: self.checker.offset() - self.repeated as u64,
        };
        match self.seeker.find(&self.intake.leader, Event::Lost, Some(&left)).await {
            Found::Rest(listener, node) => From::Peer(listener, node),
            Found::Origin(leave) => From::Origin(leave),
            // Nothing else is an answer to what was asked.
            _ => From::Origin(Leave::of(Ground::PeersFailed)),
        }
    }

    /// Hands on what a peer sends as it comes. Returns whether that was all; if not, the peer is lost.
    ///
    /// # Errors
    /// If the fill can go on from no source.
    async fn relay(&mut self, mut listener: Listener<S::Frames>, node: NodeId) -> Result<bool, Broken> {
        loop {
            let frame = match listener.next().now_or_never() {
                Some(frame) => frame,
                None => {
                    self.intake.wake();
                    listener.next().await
                }
            };
            let trouble = match frame {
                Ok(Some(Frame::Data(bytes))) => match self.push_live(bytes).await? {
                    Ok(()) => continue,
                    Err(fault) => fault.into(),
                },
                Ok(Some(Frame::Chunk(hash))) => match self.check(hash) {
                    Ok(()) => continue,
                    Err(trouble) => trouble,
                },
                Ok(Some(Frame::End(length))) => match self.checker.handle_end(length) {
                    Ok(()) => return Ok(true),
                    Err(fault) => fault.into(),
                },
                // It ends in order where a chunk does: it gives no more, which is no fault.
                Ok(None) if self.checker.offset() == self.checker.checked() => Trouble::Gone,
                Ok(_) => AskError::Protocol.into(),
                Err(error) => error.into(),
            };
            self.seeker.note(node, trouble);
            if matches!(trouble, Trouble::Disputed | Trouble::Relay(RelayFault::Mismatch { .. })) {
                return Err(WRONG);
            }
            // All is there, and only the last word was lost.
            return Ok(self.is_known_whole());
        }
    }

    fn is_known_whole(&self) -> bool {
        self.intake.arriving.draft.length == Some(self.checker.checked())
    }

    /// Hands on bytes whose chunk is not complete yet.
    async fn push_live(&mut self, mut bytes: Bytes) -> Result<Result<(), RelayFault>, Broken> {
        let repeated = self.repeated.min(bytes.len());
        drop(bytes.split_to(repeated));
        self.repeated -= repeated;
        if bytes.is_empty() {
            return Ok(Ok(()));
        }
        if let Err(fault) = self.checker.handle_data(&bytes) {
            return Ok(Err(fault));
        }
        self.seeker.asking.metrics.taking.bytes.inc_by(bytes.len() as u64);
        self.intake.push(bytes).await.map(Ok)
    }

    /// A peer says what the chunk that is complete hashes to.
    fn check(&mut self, hash: ChunkHash) -> Result<(), Trouble> {
        let checked = self.checker.handle_chunk(hash)?;
        self.agree(checked)
    }

    /// A chunk was found good; it must also be what the list says, if there is one.
    fn agree(&self, Checked { end, hash }: Checked) -> Result<(), Trouble> {
        let index = end.div_ceil(CHUNK_SIZE).saturating_sub(1);
        let listed = usize::try_from(index).ok().and_then(|index| self.listed.get(index));
        if listed.is_some_and(|listed| *listed != hash) {
            return Err(Trouble::Disputed);
        }
        self.intake.leader.checked(end, hash);
        Ok(())
    }

    /// Takes a whole chunk that was found good before any byte of it is used.
    pub(super) async fn push_good(
        &mut self,
        parts: Vec<Bytes>,
        checked: Option<Checked>,
    ) -> Result<(), Broken> {
        let Some(Checked { hash, .. }) = checked else { return Ok(()) };
        let mut length = 0;
        for part in parts {
            length += part.len() as u64;
            self.intake.push(part).await?;
        }
        let good = self.checker.handle_good(length, hash);
        self.intake.leader.checked(good.end, good.hash);
        self.intake.wake();
        Ok(())
    }

    /// Takes the rest from the origin, by range of the very same version. What a lost peer had sent of
    /// the chunk that is open is asked for once more, since nobody vouches for it.
    async fn end_at_origin(&mut self, ground: Ground) -> Result<(), Broken> {
        const NO_SOURCE: Broken = "no source has the rest of the body";
        let metrics = Arc::clone(&self.seeker.asking.metrics);
        metrics.origin_fetches.inc(FetchReason::Resume as usize);
        metrics.taking.origin_fetches.of(ground).inc();
        let (worker, site) = (&self.seeker.worker, &self.seeker.asking.site);
        let from = self.checker.checked();
        let rest = rest::of(worker, (site, &metrics), &self.intake.arriving, from).await;
        let mut body = rest.ok_or(NO_SOURCE)?;
        let mut proof = self.checker.proof();
        loop {
            let frame = match body.frame().now_or_never() {
                Some(frame) => frame,
                None => {
                    self.intake.wake();
                    body.frame().await
                }
            };
            let bytes = match frame {
                None => break,
                Some(Err(_)) => return Err("upstream body failed"),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => bytes,
                    Err(_trailers) => continue,
                },
            };
            metrics.origin_bytes.inc_by(bytes.len() as u64);
            let behind = proof.handle(&bytes).or(Err(WRONG))?;
            self.push_origin(bytes.slice(bytes.len() - behind..)).await?;
        }
        if !proof.is_complete() {
            return Err(NO_SOURCE);
        }
        let last = self.checker.handle_trusted_end().or(Err("body has not its stated length"))?;
        last.map_or(Ok(()), |last| self.agree(last).or(Err(WRONG)))
    }

    async fn push_origin(&mut self, bytes: Bytes) -> Result<(), Broken> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut good = Vec::new();
        self.checker
            .handle_trusted(&bytes, |checked| good.push(checked))
            .or(Err("body has not its stated length"))?;
        self.intake.push(bytes).await?;
        good.into_iter().try_for_each(|checked| self.agree(checked)).or(Err(WRONG))
    }
}
