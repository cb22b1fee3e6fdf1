//! Purges between nodes: a new one is told to all at once; what was missed is asked for.
//!
//! ```text
//! spread     issuer ── Purges{batch} ──> each live member ── applied | behind, and what it covers ──> what it lacks
//! reconcile  node ── Purges{digest} ──> each superpeer ── the same | what it covers ──> Purges{what it lacks, what I cover}
//!                                                                                   <── what I lack
//! ```
//! All is questions and answers on streams of their own ([`talk`], [`answer`]); an answer never leads to another question, so
//! nothing can go round in circles. Whether the node is in sync follows from the comparisons ([`reconcile`]).

mod answer;
pub(super) mod reconcile;
mod talk;

pub(super) use answer::serve;
pub(super) use talk::catch_up;

use super::exchange::AskError;
use super::node::Node;
use crate::proto::purge::{Batch, Parcel, Reception};
use crate::proto::swarm::{Member, NodeId};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use talk::{Sealed, Talk};
use tokio::sync::{Semaphore, mpsc};

/// Members that are told of a purge at a time.
const TOLD_MAX: usize = 256;
/// Pause before a member that did not answer is asked again; doubled each time up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// How long one attempt may take: a stream on a connection that is dead and not known to be is not waited for longer.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(1);
/// Times that a member which is behind is sent what it lacks, in one attempt. It moves on meanwhile, but only forwards.
const ROUNDS_MAX: usize = 3;

/// Why a member that left has not applied a purge: it serves nobody any more, or does not know that it is cut off and serves
/// nothing unasked after a while. It does not count as live.
pub const LEFT: &str = "left the fleet";
const SILENT: &str = "silent";
const UNREACHABLE: &str = "cannot be reached";
const REFUSES: &str = "refuses";
const IGNORANT: &str = "does not know purges";
const UNWRITTEN: &str = "cannot write its purge log";
const FULL: &str = "its purge log knows too many issuers";
const STOPPING: &str = "is stopping";
const BEHIND: &str = "is behind";

/// What became of a purge at one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The member.
    pub node: NodeId,
    /// Its name.
    pub name: Arc<str>,
    /// What became of it there.
    pub delivery: Delivery,
}

/// Whether a member has applied a purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It has, and said so after this time.
    Applied(Duration),
    /// It has not in time, as far as is known here, because of this.
    Missed(&'static str),
}

impl Receipt {
    /// Whether the member was still live at the end.
    pub fn is_live(&self) -> bool {
        self.delivery != Delivery::Missed(LEFT)
    }
}

/// What bounds the purges that this node tells and is told, and what wakes its comparisons.
pub(super) struct Desk {
    answers: Arc<Semaphore>,
    long_answers: Arc<Semaphore>,
    told: mpsc::Sender<reconcile::Told>,
}

impl Desk {
    pub(super) fn new() -> (Self, reconcile::Hears) {
        let (told, hears) = mpsc::channel(reconcile::TOLD_MAX);
        let answers = Arc::new(Semaphore::new(answer::ANSWERS_MAX));
        let long_answers = Arc::new(Semaphore::new(answer::LONG_ANSWERS_MAX));
        (Self { answers, long_answers, told }, hears)
    }

    /// A connection to this node stands.
    pub(super) fn linked(&self, node: NodeId) {
        // The next round comes anyway.
        let _ = self.told.try_send(reconcile::Told::Linked(node));
    }

    /// This node closed its connection in order.
    pub(super) fn said_good_bye(&self, node: NodeId) {
        let _ = self.told.try_send(reconcile::Told::GoodBye(node));
    }
}

/// Tells all live members of `batch`, also those that come meanwhile, and waits for each at most until `limit` has passed.
pub(super) async fn spread(node: &Arc<Node>, batch: &Batch, limit: Duration) -> Vec<Receipt> {
    debug_assert!(node.purges.covers(&batch.coverage));
    let begun = node.clock.mono();
    let parcel = Parcel { digest: node.purges.digest(), batch: batch.clone(), ..Parcel::default() };
    let telling = Telling {
        node: Arc::clone(node),
        batch,
        sealed: Sealed::new(&parcel),
        places: Semaphore::new(TOLD_MAX),
        begun,
        deadline: begun + limit,
    };
    let mut views = node.views.subscribe();
    let (mut known, mut receipts) = (HashSet::new(), Vec::new());
    let mut open = FuturesUnordered::new();
    loop {
        let view = views.borrow_and_update().clone();
        for member in view.others().filter(|member| known.insert(member.id)) {
            open.push(telling.tell(member.clone()));
        }
        tokio::select! {
            receipt = open.next() => match receipt {
                Some(receipt) => receipts.push(receipt),
                None => break,
            },
            changed = views.changed() => if changed.is_err() { break },
        }
    }
    drop(open);
    let view = node.view();
    for receipt in receipts.iter_mut().filter(|receipt: &&mut Receipt| view.member(receipt.node).is_none()) {
        if matches!(receipt.delivery, Delivery::Missed(_)) {
            receipt.delivery = Delivery::Missed(LEFT);
        }
    }
    receipts.sort_by(|a, b| (&a.name, a.node).cmp(&(&b.name, b.node)));
    receipts
}

/// A purge on its way to everybody.
struct Telling<'a> {
    node: Arc<Node>,
    batch: &'a Batch,
    sealed: Sealed,
    places: Semaphore,
    begun: Instant,
    deadline: Instant,
}

impl Telling<'_> {
    async fn tell(&self, member: Member) -> Receipt {
        let mut views = self.node.views.subscribe();
        let left = views.wait_for(|view| view.member(member.id).is_none());
        let delivery = tokio::select! {
            biased;
            delivery = self.deliver(&member) => delivery,
            _ = left => Delivery::Missed(LEFT),
        };
        if let Delivery::Missed(reason) = delivery {
            tracing::warn!(node = %member.id, name = %member.name, reason, "purge is not acknowledged");
        }
        Receipt { node: member.id, name: Arc::clone(&member.name), delivery }
    }

    /// Again and again, until it is applied there or the time is over.
    async fn deliver(&self, member: &Member) -> Delivery {
        let (mut pause, mut reason) = (PAUSE_MIN, SILENT);
        loop {
            let left = self.deadline.saturating_duration_since(self.now());
            if left.is_zero() {
                return Delivery::Missed(reason);
            }
            match tokio::time::timeout(left.min(ATTEMPT_LIMIT), self.attempt(member)).await {
                Ok(Ok(())) => {
                    return Delivery::Applied(self.now().saturating_duration_since(self.begun));
                }
                // Nothing that changes within a moment.
                Ok(Err(IGNORANT)) => return Delivery::Missed(IGNORANT),
                Ok(Err(why)) => reason = why,
                Err(_elapsed) => reason = SILENT,
            }
            let left = self.deadline.saturating_duration_since(self.now());
            tokio::time::sleep(pause.min(left)).await;
            pause = PAUSE_MAX.min(pause * 2);
        }
    }

    async fn attempt(&self, member: &Member) -> Result<(), &'static str> {
        let _place = self.places.acquire().await.map_err(|_closed| STOPPING)?;
        let link = self.node.link(member.id, member.address).await.map_err(reason)?;
        let talk = Talk { node: &self.node, link: &link };
        let mut answer = talk.ask(&self.sealed).await.map_err(reason)?;
        for _ in 0..ROUNDS_MAX {
            match answer.reception {
                Reception::Applied => return Ok(()),
                Reception::Unwritten => return Err(UNWRITTEN),
                Reception::Full => return Err(FULL),
                Reception::Stopping => return Err(STOPPING),
                Reception::Behind => {}
            }
            let theirs = answer.coverage.ok_or(REFUSES)?;
            if theirs.covers(&self.batch.coverage) {
                return Ok(());
            }
            let parcel = Parcel {
                digest: self.node.purges.digest(),
                batch: self.node.purges.missing(&theirs),
                ..Parcel::default()
            };
            answer = talk.ask(&Sealed::new(&parcel)).await.map_err(reason)?;
        }
        Err(BEHIND)
    }

    fn now(&self) -> Instant {
        self.node.clock.mono()
    }
}

fn reason(error: AskError) -> &'static str {
    match error {
        AskError::Unreachable => UNREACHABLE,
        AskError::Silent => SILENT,
        // A kind of question that it does not know; the first versions said so with the other.
        AskError::Unsupported | AskError::Protocol => IGNORANT,
        AskError::Upstream | AskError::Refused | AskError::Quarantined => REFUSES,
    }
}
