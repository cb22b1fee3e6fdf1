//! What peers are given: stored versions, versions that arrive, and, at an object's home edge, what the
//! origin has of it.
//!
//! ```text
//! Read ─┬─ by lease: the fill under it, as it comes; else what is stored
//!       └─ else:     what is stored; else a fill that streams, or that asks the origin without a lease
//! Open ─── what is stored and fresh; else a fill, begun here if need be, that asks the origin alone
//! Look ─── what is stored, without its bytes
//! ```
//! Nothing personal is given to anybody. A peer that waits for a fill gets a pulse now and then, so that it
//! can tell a slow origin from a dead node. A fill that itself waits for another node is waited for only under
//! the same lease: otherwise two nodes could wait for each other.

mod apart;
mod changed;
mod look;
mod open;
pub(super) mod out;
mod relay;
mod stored;
#[cfg(test)]
mod tests;

use super::fill::Followed;
use super::{Node, Worker};
use crate::peer::{Exchange, PeerRequest, Requests};
use crate::proto::key::{ObjectId, VariantId, VersionId};
use crate::proto::swarm::{Member, NodeId, Token};
use crate::proto::wire::{self, ask, code, reply};
use crate::telemetry::{PeerAnswer, enter};
use futures_util::FutureExt;
use hashbrown::HashMap;
use http::HeaderName;
use out::{Cut, Out, Sink};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;

/// Requests of peers that are answered at once, at most. Each holds a stream and at most two records.
const UPLOADS_MAX: usize = 512;
/// Of them, those of one peer at most.
const PEER_UPLOADS_MAX: usize = 128;

/// Answers `requests`, each in a task of `worker`, until they end. A node that stops can so await the tasks alone.
pub async fn run(worker: Arc<Worker>, mut requests: Requests) {
    let uploads = Arc::new(Uploads::default());
    while let Some(PeerRequest { from, ask, exchange }) = requests.recv().await {
        match uploads.enter(from.id) {
            Some(place) => {
                let own = Arc::clone(&worker);
                let open = enter(&worker.node.metrics.supply.open);
                worker.spawner.spawn(Box::pin(async move {
                    match ask {
                        ask::Kind::Look(look) => look::answer(&own.node, &look, exchange).await,
                        ask => answer(&own, &from, ask, exchange).await,
                    }
                    drop((place, open));
                }));
            }
            None => refuse(&worker.node, exchange),
        }
    }
}

/// Says that there is too much to do, without waiting.
fn refuse(node: &Node, mut exchange: Exchange) {
    node.metrics.supply.requests.of(PeerAnswer::Busy).inc();
    match exchange.send_message(&wire::Reply { kind: Some(busy()) }).now_or_never() {
        Some(Ok(())) => exchange.finish(),
        _ => exchange.reset(code::BUSY),
    }
}

pub(super) async fn answer<S: Sink>(worker: &Arc<Worker>, from: &Member, ask: ask::Kind, sink: S) {
    let node = &worker.node;
    let mut out = Out::new(sink, Arc::clone(&node.metrics));
    let gives = node.snapshot.load().config.node.roles.edge;
    let read = match &ask {
        ask::Kind::Read(read) => Some(read),
        ask::Kind::Open(open) => open.read.as_ref(),
        _ => None,
    };
    let apart = read.map_or(Ok(None), |read| apart::apart(node, read));
    let done = match ask {
        _ if !(gives && from.roles.edge) => Err(Cut::Reset(code::FORBIDDEN)),
        _ if apart.is_err() => Err(Cut::Reset(code::PROTOCOL)),
        _ if let Ok(Some(apart)) = apart => out.reply(apart).await,
        ask::Kind::Read(read) => match Wanted::parse(&read) {
            Some(wanted) => self::read(node, &wanted, &mut out).await,
            None => Err(Cut::Reset(code::PROTOCOL)),
        },
        ask::Kind::Open(open) => open::open(worker, from.address.ip(), open, &mut out).await,
        ask::Kind::Invalidate(invalidate) => changed::take(node, &invalidate).await,
        _ => Err(Cut::Reset(code::PROTOCOL)),
    };
    out.close(done);
}

/// Gives what is here of `wanted`.
async fn read<S: Sink>(node: &Node, wanted: &Wanted, out: &mut Out<S>) -> Result<(), Cut> {
    // Joined before the look-up, so that a fill which ends between the two is found in the store.
    let followed = node.fills.follow(wanted.object, wanted.variant, wanted.from);
    if let (Some(_), Followed::Live(live)) = (wanted.follow, &followed)
        && let Some(outcome) = relay::outcome(live, wanted.follow, out).await?
    {
        return relay::give(node, wanted, outcome, live, out).await;
    }
    let missing = match out.patient(stored::find(node, wanted)).await? {
        Ok(hit) => {
            drop(followed);
            return stored::give(node, wanted, &hit, out).await;
        }
        Err(missing) => missing,
    };
    match followed {
        Followed::Live(live) if wanted.follow.is_none() => match relay::outcome(&live, None, out).await? {
            Some(outcome) => relay::give(node, wanted, outcome, &live, out).await,
            None => out.reply(missing.into()).await,
        },
        Followed::Crowded => out.reply(busy()).await,
        Followed::Overtaken if missing == Denied::Gone => out.reply(Denied::Purged.into()).await,
        _ => out.reply(missing.into()).await,
    }
}

/// A [`wire::Read`], checked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    object: ObjectId,
    variant: VariantId,
    version: Option<VersionId>,
    from: u64,
    /// `None` is the end of the body.
    to: Option<u64>,
    follow: Option<Token>,
    held: Option<VersionId>,
}

impl Wanted {
    /// `None` if an identity has not its length or the range is none.
    fn parse(read: &wire::Read) -> Option<Self> {
        let id = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).ok();
        let version =
            |bytes: &[u8]| if bytes.is_empty() { Some(None) } else { Some(Some(VersionId(id(bytes)?))) };
        let to = (read.to > 0).then_some(read.to);
        if to.is_some_and(|to| to < read.from) {
            return None;
        }
        Some(Self {
            object: ObjectId(id(&read.object)?),
            variant: VariantId(id(&read.variant)?),
            version: version(&read.version)?,
            from: read.from,
            to,
            follow: read.follow,
            held: version(&read.held)?,
        })
    }

    /// The range of a body of `length` bytes. An asker that does not know the length may name the end of a
    /// chunk that the body does not fill.
    fn within(&self, length: u64) -> Result<Range<u64>, Cut> {
        let to = self.to.map_or(length, |to| to.min(length));
        if self.from <= to { Ok(self.from..to) } else { Err(Cut::Reset(code::PROTOCOL)) }
    }

    /// Whether a version is what is wanted.
    fn admits(&self, variant: VariantId, version: VersionId, vary: &[HeaderName]) -> Result<(), Denied> {
        if variant != self.variant {
            return Err(Denied::varies(vary));
        }
        if self.version.is_some_and(|wanted| wanted != version) {
            return Err(Denied::Gone);
        }
        Ok(())
    }
}

/// Why nothing is given.
#[derive(Debug, PartialEq, Eq)]
enum Denied {
    /// Nothing that is wanted is here, or none that may leave.
    Gone,
    /// A purge selects what is here, or overtook what arrives: who has had it no less long has no better.
    Purged,
    /// The object varies by these fields, and not as the asker took it to.
    Varies(Vec<String>),
}

impl Denied {
    fn varies(names: &[HeaderName]) -> Self {
        Self::Varies(stored::texts(names))
    }
}

impl From<Denied> for reply::Kind {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Gone => gone(),
            Denied::Purged => Self::Gone(wire::Gone { purged: true, ..wire::Gone::default() }),
            Denied::Varies(names) => Self::Varies(wire::Varies { names }),
        }
    }
}

fn gone() -> reply::Kind {
    reply::Kind::Gone(wire::Gone::default())
}

const fn busy() -> reply::Kind {
    reply::Kind::Busy(wire::Busy {})
}

/// The requests of peers in progress.
#[derive(Default)]
struct Uploads(Mutex<HashMap<NodeId, usize>>);

/// One of them; gives its place back when it is dropped.
struct Place {
    uploads: Arc<Uploads>,
    peer: NodeId,
}

impl Uploads {
    /// A place for a request of `peer`, if there is one.
    fn enter(self: &Arc<Self>, peer: NodeId) -> Option<Place> {
        let mut peers = self.0.lock();
        let (all, own) = (peers.values().sum::<usize>(), peers.get(&peer).copied().unwrap_or(0));
        if all >= UPLOADS_MAX || own >= PEER_UPLOADS_MAX {
            return None;
        }
        peers.insert(peer, own + 1);
        Some(Place { uploads: Arc::clone(self), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut peers = self.uploads.0.lock();
        if let Some(own) = peers.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}
