//! What this node asks of peers: how the leader of a fill gets its version when the node is part of a fleet.
//!
//! `proto::seek` decides; this carries out its steps. A version that is stored at a peer is checked chunk by
//! chunk before any byte of it is used ([`gather`]); one that arrives there is handed on as it comes, and
//! checked by the end of each chunk ([`follow`]). What a peer says of freshness, variants and storing is
//! judged anew here ([`head`]).

mod follow;
mod gather;
mod head;
mod swarm;
#[cfg(test)]
mod tests;

use super::Worker;
use super::fill::{Leader, Refreshed, Under};
use super::lead::{self, Asking, Reach};
use super::leave::Leave;
use super::renewal::Renewal;
use crate::peer::{Answer, AskError, Blame, Lease};
use crate::proto::key::{VariantId, VersionId};
use crate::proto::object::layout::{CHUNK_SIZE, HEAD_BODY_MAX};
use crate::proto::purge::Coverage;
use crate::proto::relay::{Checked, Checker, RelayFault};
use crate::proto::seek::{By, Event, Facts, Reading, Seek, Step};
use crate::proto::semantics::{ResponseFacts, VaryList};
use crate::proto::swarm::{Holding, NodeId, Place, Query};
use crate::proto::time::Wall;
use crate::proto::wire::{self, Frame, ask, reply};
use crate::telemetry::PeerFailure;
use bytes::Bytes;
pub(super) use head::fields;
use head::{Unusable, Version};
use http::header::{AUTHORIZATION, COOKIE};
use std::sync::Arc;
use std::time::Duration;
use swarm::{Frames, Listener, Swarm};

/// Shortest time for which the directory says that an object is not worth sharing. For less it says so of
/// this moment (no room for a lease, nobody to follow), and requests on this node go on sharing.
const ALONE_MIN: Duration = Duration::from_secs(1);
/// Issuers of purges that a question states: 22 bytes each.
const READ_ISSUERS_MAX: usize = 8192;

/// Gets the version of a fill from a peer if one has it, and from the origin otherwise.
pub(super) async fn seek<S: Swarm>(worker: Arc<Worker>, swarm: S, asking: Asking, leader: Leader) {
    let mut seeker = Seeker::new(worker, swarm, asking);
    match seeker.find(&leader, Event::Begun, None).await {
        Found::Given(given) => follow::take(seeker, leader, *given).await,
        Found::Same(refreshed) => leader.refreshed(*refreshed),
        Found::Origin(leave) => lead::from_origin(seeker.worker, seeker.asking, leader, leave).await,
        Found::Unfit | Found::Rest(..) => leader.unfit(),
        Found::NotStored => leader.not_stored_elsewhere(seeker.server_error),
    }
}

/// One search.
struct Seeker<S> {
    worker: Arc<Worker>,
    swarm: S,
    asking: Asking,
    machine: Seek,
    /// The lease that the directory gave.
    lease: Option<Lease>,
    /// Whether the response that may not be stored is a server error.
    server_error: bool,
}

/// What a search came to.
enum Found<F> {
    /// A peer gives the version.
    Given(Box<Given<F>>),
    /// A peer gives the rest of the version that was taken.
    Rest(Listener<F>, NodeId),
    /// The stored version is good, says a peer.
    Same(Box<Refreshed>),
    /// The origin is to be asked.
    Origin(Leave),
    /// Those who wait plan anew.
    Unfit,
    /// Those who wait go alone.
    NotStored,
}

/// A version that a peer gives.
struct Given<F> {
    version: Version,
    /// The first chunk, whole and good, if it was waited for.
    first: Option<FirstChunk>,
    /// The rest, if it follows on the same stream.
    rest: Option<Listener<F>>,
    /// Who gives it.
    from: Place,
    /// Who else has it.
    others: Vec<Place>,
}

/// A first chunk, in parts; an empty body has none.
type FirstChunk = (Vec<Bytes>, Option<Checked>);

/// What is left of a version that was taken.
struct Left {
    version: VersionId,
    length: Option<u64>,
    from: u64,
}

/// What is wrong with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// The exchange failed.
    Ask(AskError),
    /// It was silent before it gave an answer, or gave too little of it to be waited for.
    Unheard,
    /// Its bytes are not what they should be.
    Relay(RelayFault),
    /// Its bytes are not those that another's list has.
    Disputed,
    /// It has not, or not any more, what is asked for.
    Gone,
}

impl Trouble {
    /// What an error before the answer means: who has not begun to give has not stalled.
    fn before_answer(error: AskError) -> Self {
        if error == AskError::Silent { Self::Unheard } else { Self::Ask(error) }
    }
}

impl From<AskError> for Trouble {
    fn from(error: AskError) -> Self {
        Self::Ask(error)
    }
}

impl From<RelayFault> for Trouble {
    fn from(fault: RelayFault) -> Self {
        Self::Relay(fault)
    }
}

impl<S: Swarm> Seeker<S> {
    fn new(worker: Arc<Worker>, swarm: S, asking: Asking) -> Self {
        let node = &worker.node;
        let (object, held) = (asking.object, asking.stale.is_some());
        let facts = Facts {
            me: swarm.me(),
            object,
            variant: node.variant(object, &asking.selecting),
            vary_known: held || node.store.vary(object).is_some() || node.known.is_storable(object),
            held,
            lease_wanted: asking.reach == Reach::Swarm,
        };
        Self { machine: Seek::new(facts), worker, swarm, asking, lease: None, server_error: false }
    }

    /// Does what the machine says, until it has a version, or `left` of one, or none.
    async fn find(&mut self, leader: &Leader, mut event: Event, left: Option<&Left>) -> Found<S::Frames> {
        let mut found = None;
        loop {
            event = match self.machine.next(event) {
                Step::Resolve(query) => {
                    if left.is_none() {
                        leader.under(Under::Undecided);
                    }
                    self.resolve(query).await
                }
                Step::Read(place, by) => {
                    leader.under(match by {
                        By::Follow(token) => Under::Lease(token),
                        By::Holder | By::Home | By::Fresher => Under::Peer,
                    });
                    Event::Read(self.read(place, by, left, &mut found).await)
                }
                Step::Take => {
                    return found.take().expect("the machine takes only what was read");
                }
                Step::Origin(ground) => {
                    return Found::Origin(Leave { ground, lease: self.lease.take() });
                }
                Step::Unfit => return Found::Unfit,
                Step::NotStored => return Found::NotStored,
            };
        }
    }

    async fn resolve(&mut self, query: Query) -> Event {
        let (object, lease_wanted) = (query.object, query.lease_wanted);
        match self.swarm.resolve(query).await {
            Answer::Holders(places) => Event::Holders(places),
            Answer::Lease(lease) => {
                self.lease = Some(lease);
                Event::Lease
            }
            Answer::Follow(place, token) => Event::Follow(place, token),
            Answer::Fresher(place) => Event::Fresher(place),
            Answer::Alone(time) => {
                if lease_wanted && time >= ALONE_MIN {
                    self.worker.node.known.uncacheable(object, self.now());
                }
                Event::Alone
            }
            // The home edge asks without cookies, which would not be what this request asks.
            Answer::Unreachable if self.asking.request.has_cookie => Event::Unreachable(None),
            Answer::Unreachable => Event::Unreachable(self.swarm.home(object)),
        }
    }

    /// Asks a peer. What it gives is put into `found`.
    async fn read(
        &mut self,
        place: Place,
        by: By,
        left: Option<&Left>,
        found: &mut Option<Found<S::Frames>>,
    ) -> Reading {
        self.asking.metrics.taking.fetches.of(by.into()).inc();
        let node = place.node;
        let mut sent = self.now();
        let mut replied = self.reply(&place, by, left, false).await;
        if let Ok((_, reply::Kind::Apart(apart))) = &replied
            && let Ok(theirs) = Coverage::of_wire(&apart.covered)
            && self.swarm.catch_up(&place, theirs).await.is_ok()
        {
            sent = self.now();
            replied = self.reply(&place, by, left, true).await;
        }
        let (listener, reply) = match replied {
            Ok(replied) => replied,
            Err(error) => return self.unanswered(node, Trouble::before_answer(error)),
        };
        let received = (self.now(), self.now().seconds_since(sent));
        match (reply, left) {
            (reply::Kind::Head(head), Some(left)) => self.rest(head, left, (listener, node), found),
            (reply::Kind::Head(head), None) if head.same => {
                self.same(&head, (node, by), received, found).await
            }
            (reply::Kind::Head(head), None) => {
                let version = head::version(&self.asking, head, received);
                self.given(version, listener, (place, by), found).await
            }
            (reply::Kind::Varies(varies), _) => match head::vary_list(&varies.names) {
                Some(vary) => self.varies(head::variant(&self.asking, vary.as_ref()), vary, (node, by)),
                None => self.unanswered(node, AskError::Protocol.into()),
            },
            (reply::Kind::Gone(gone), _) if gone.purged => self.purged(node, by),
            (reply::Kind::Gone(_), _) => self.gone(node, by),
            // It may have it all the same, so the directory is not told.
            (reply::Kind::Apart(_), _) => {
                self.note(node, Trouble::Gone);
                Reading::Gone
            }
            (reply::Kind::Busy(_), _) => self.unanswered(node, AskError::Refused.into()),
            (reply::Kind::NotStored(not), _) => self.not_stored(not.server_error, not.of_object),
            (reply::Kind::Failed(_), _) => Reading::OriginFailed,
        }
    }

    /// Asks a peer and hears its answer. `in_words` states the purges that are covered here, and not only their hash.
    async fn reply(
        &self,
        place: &Place,
        by: By,
        left: Option<&Left>,
        in_words: bool,
    ) -> Result<(Listener<S::Frames>, reply::Kind), AskError> {
        let frames = self.swarm.ask(place, self.question(by, left, in_words)).await?;
        let quiet_max = self.asking.site.origin.first_byte_timeout;
        let mut listener = Listener::new(frames, self.worker.node.clock, quiet_max);
        let reply = listener.reply().await?;
        Ok((listener, reply))
    }

    fn question(&self, by: By, left: Option<&Left>, in_words: bool) -> ask::Kind {
        let purges = &self.worker.node.purges;
        let held = self.asking.stale.as_ref().filter(|_| left.is_none());
        let read = wire::Read {
            object: self.asking.object.0.to_vec(),
            variant: self.machine.variant().0.to_vec(),
            version: left.map(|left| left.version.0.to_vec()).unwrap_or_default(),
            from: left.map_or(0, |left| left.from),
            // What is stored comes with its first chunk; the others are asked for one by one.
            to: if left.is_none() && matches!(by, By::Holder | By::Fresher) { CHUNK_SIZE } else { 0 },
            follow: if let By::Follow(token) = by { Some(token) } else { None },
            held: held.map(|hit| hit.head.version.0.to_vec()).unwrap_or_default(),
            // Read after the position that the fill began at (`supply::apart`). What is left of a version was judged with its head.
            digest: left.map_or_else(|| purges.digest().0.to_vec(), |_| Vec::new()),
            covered: in_words
                .then(|| purges.coverage())
                .filter(is_short)
                .map(|all| all.to_wire())
                .unwrap_or_default(),
        };
        if by != By::Home {
            return ask::Kind::Read(read);
        }
        let headers = self.asking.forward.headers();
        let fields = headers.iter().filter(|(name, _)| !matches!(**name, COOKIE | AUTHORIZATION));
        let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| wire::Field {
            name: name.as_str().to_owned(),
            value: value.as_bytes().to_vec(),
        };
        let key = self.asking.key.as_bytes().to_vec();
        ask::Kind::Open(wire::Open { key, fields: fields.map(field).collect(), read: Some(read), hops: 1 })
    }

    /// A head came. If it can be used and its body is stored or small, waits for the first chunk.
    async fn given(
        &mut self,
        version: Result<Version, Unusable>,
        mut listener: Listener<S::Frames>,
        (from, by): (Place, By),
        found: &mut Option<Found<S::Frames>>,
    ) -> Reading {
        let version = match version {
            Ok(Version { draft, .. }) if self.is_outdated(draft.initial_age, draft.received) => {
                return self.gone(from.node, by);
            }
            Ok(version) => version,
            Err(Unusable::Gone) => return self.gone(from.node, by),
            Err(Unusable::Protocol) => return self.unanswered(from.node, AskError::Protocol.into()),
            Err(Unusable::Varies(variant, vary)) => return self.varies(variant, vary, (from.node, by)),
            Err(Unusable::NotStorable(not, status)) => {
                let (node, metrics) = (&self.worker.node, &self.asking.metrics);
                lead::remember(node, metrics, self.asking.object, not, status);
                return self.not_stored(lead::is_server_error(status), false);
            }
        };
        let is_small = version.draft.length.is_some_and(|length| length <= HEAD_BODY_MAX);
        let mut first = None;
        if !version.arriving || is_small {
            let limit = self.asking.site.origin.first_byte_timeout;
            let (taken, mut received) = (&self.asking.metrics.taking, 0);
            let read = first_chunk(&mut listener, &version, &mut received);
            let read = tokio::time::timeout(limit, read).await.unwrap_or(Err(AskError::Silent.into()));
            taken.bytes.inc_by(received);
            match read {
                Ok(chunk) => first = Some(chunk),
                Err(trouble) => {
                    self.worker.node.metrics.node.taker.duplicate_bytes.inc_by(received);
                    return self.unanswered(from.node, trouble);
                }
            }
        }
        listener.bear(self.asking.site.origin.between_bytes_timeout);
        // A stored version was asked of a holder up to its first chunk's end.
        let stored = !version.arriving && matches!(by, By::Holder | By::Fresher);
        let (variant, others) = (version.draft.variant, self.machine.others());
        let rest = (!stored).then_some(listener);
        *found = Some(Found::Given(Box::new(Given { version, first, rest, from, others })));
        Reading::Taken(variant)
    }

    /// What is left of a version is to be had there, if it is the same version.
    fn rest(
        &self,
        head: wire::Head,
        left: &Left,
        (mut listener, node): (Listener<S::Frames>, NodeId),
        found: &mut Option<Found<S::Frames>>,
    ) -> Reading {
        let other_length = matches!((head.length, left.length), (Some(there), Some(here)) if there != here);
        if head.version != left.version.0 || head.key != self.asking.key.as_bytes() || other_length {
            return self.unanswered(node, Trouble::Gone);
        }
        listener.bear(self.asking.site.origin.between_bytes_timeout);
        *found = Some(Found::Rest(listener, node));
        Reading::Taken(self.machine.variant())
    }

    /// A peer says that the version held is good.
    async fn same(
        &mut self,
        head: &wire::Head,
        (node, by): (NodeId, By),
        (received, delay): (Wall, u64),
        found: &mut Option<Found<S::Frames>>,
    ) -> Reading {
        let Some(held) = self.asking.stale.clone() else {
            return self.unanswered(node, AskError::Protocol.into());
        };
        let is_same = head.key == held.head.key() && head.version == held.head.version.0;
        let (true, Some(fields)) = (is_same, head::fields(&head.fields)) else { return self.gone(node, by) };
        let age = head::age(head.age, delay);
        let facts = ResponseFacts::parse(held.head.status, &fields);
        // What the origin has just validated for all who follow is good for each of them, however short its life.
        let is_stored = matches!(by, By::Holder | By::Fresher);
        if is_stored && head::is_stale(&self.asking, &facts, (received, age))
            || self.is_outdated(age, received)
        {
            return self.gone(node, by);
        }
        // Judged as what comes whole from a peer: whose answer this is, the origin alone may say.
        let renewal = Renewal::of(&self.asking, &held, (&fields, age, received));
        let Some(renewal) = renewal.filter(Renewal::is_for_all) else { return self.gone(node, by) };
        let refreshed = renewal.carry_out(&self.worker.node, &self.asking, &held).await;
        *found = Some(Found::Same(Box::new(refreshed)));
        Reading::Taken(held.head.variant)
    }

    /// A peer has the object under this list, by which the request selects `variant`.
    fn varies(&mut self, variant: VariantId, vary: Option<VaryList>, (node, by): (NodeId, By)) -> Reading {
        if variant == self.machine.variant() {
            return self.gone(node, by);
        }
        self.worker.node.known.storable(self.asking.object, vary);
        // What is held was stored under the other list.
        self.asking.stale = None;
        Reading::Varies(variant)
    }

    /// Whether what had this age when it was received may be older than the last invalidation here: a client
    /// that changed something here must not be given what was before (RFC 9111 §4.4). Ages are in whole seconds.
    fn is_outdated(&self, age: u32, received: Wall) -> bool {
        let invalidated = self.worker.node.known.invalidated_at(self.asking.object);
        invalidated.is_some_and(|at| received <= at.plus(Duration::from_secs(u64::from(age) + 1)))
    }

    fn not_stored(&mut self, server_error: bool, of_object: bool) -> Reading {
        if of_object {
            self.worker.node.known.uncacheable(self.asking.object, self.now());
        }
        self.server_error = server_error;
        Reading::NotStored
    }

    fn gone(&self, node: NodeId, by: By) -> Reading {
        if matches!(by, By::Holder | By::Fresher) {
            let (object, variant) = (self.asking.object, self.machine.variant());
            self.swarm.gone(Holding { object, variant, fresh_secs: 0 }, node, false);
        }
        self.note(node, Trouble::Gone);
        Reading::Gone
    }

    /// What the peer has, a purge selects: who has had it no less long has no better.
    fn purged(&self, node: NodeId, by: By) -> Reading {
        if matches!(by, By::Holder | By::Fresher) {
            let (object, variant) = (self.asking.object, self.machine.variant());
            self.swarm.gone(Holding { object, variant, fresh_secs: 0 }, node, true);
        }
        self.note(node, Trouble::Gone);
        Reading::Purged
    }

    fn unanswered(&self, node: NodeId, trouble: Trouble) -> Reading {
        self.note(node, trouble);
        Reading::Unanswered
    }

    /// Counts what is wrong with a peer, and blames it for what is its own fault.
    fn note(&self, node: NodeId, trouble: Trouble) {
        let (failure, blame) = match trouble {
            Trouble::Gone => (PeerFailure::Gone, None),
            Trouble::Disputed | Trouble::Relay(RelayFault::Mismatch { exact: false }) => {
                (PeerFailure::Disputed, None)
            }
            Trouble::Relay(RelayFault::Mismatch { exact: true }) => {
                (PeerFailure::BadChunk, Some(Blame::BadChunk))
            }
            Trouble::Relay(_) | Trouble::Ask(AskError::Protocol) => {
                (PeerFailure::Protocol, Some(Blame::Protocol))
            }
            Trouble::Unheard => (PeerFailure::Stalled, None),
            Trouble::Ask(AskError::Silent) => (PeerFailure::Stalled, Some(Blame::Stalled)),
            Trouble::Ask(AskError::Upstream) => (PeerFailure::Upstream, None),
            Trouble::Ask(AskError::Unsupported) => (PeerFailure::Unsupported, None),
            Trouble::Ask(AskError::Refused) => (PeerFailure::Busy, None),
            Trouble::Ask(AskError::Unreachable | AskError::Quarantined) => (PeerFailure::Unreachable, None),
        };
        self.worker.node.metrics.node.taker.failures.of(failure).inc();
        if let Some(blame) = blame {
            self.swarm.blame(node, blame);
        }
        tracing::debug!(object = %self.asking.object, %node, ?trouble, "peer is of no use");
    }

    fn now(&self) -> Wall {
        self.worker.node.clock.now().wall
    }
}

/// Whether it fits into a question. If not, that both have caught up and cover the same must do.
fn is_short(coverage: &Coverage) -> bool {
    coverage.len() <= READ_ISSUERS_MAX
}

/// Waits for the first chunk of a body whose length is known, whole and good.
async fn first_chunk<F: Frames>(
    listener: &mut Listener<F>,
    version: &Version,
    received: &mut u64,
) -> Result<FirstChunk, Trouble> {
    let mut checker = Checker::new(version.draft.length);
    let mut parts = Vec::new();
    if checker.is_whole() {
        return Ok((parts, None));
    }
    loop {
        match listener.next().await? {
            Some(Frame::Data(bytes)) => {
                *received += bytes.len() as u64;
                checker.handle_data(&bytes)?;
                parts.push(bytes);
            }
            Some(Frame::Chunk(hash)) => {
                let checked = checker.handle_chunk(hash)?;
                let is_listed = version.hashes.first().is_none_or(|listed| *listed == hash);
                // Both are its own.
                return if is_listed { Ok((parts, Some(checked))) } else { Err(AskError::Protocol.into()) };
            }
            _ => return Err(AskError::Protocol.into()),
        }
    }
}
