//! Sessions with superpeers, from the side of the one that tells them something: what it has, that its leases are
//! being worked on, and how they ended.
//!
//! ```text
//! Opening --first note of the superpeer--> Standing --silence, loss, Leaving, not live any more--> ended
//!    ^                                                                                               |
//!    +------------------------------ pause, while the superpeer is live -----------------------------+
//! ```
//! A superpeer that is also an edge keeps a session with itself, which takes the same path without a network.
//! On a session only this side says much; the superpeer sends heartbeats, so that two nodes never
//! both wait for the other to read.

use super::exchange::{AskError, Exchange};
use super::lease::RENEWED_MAX;
use super::node::Node;
use crate::proto::key::ObjectId;
use crate::proto::swarm::{self, Member, NodeId};
use crate::proto::wire::{self, Announce, Frame, Note, ask, note};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::RwLock;
use prost::Message;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

/// Between two heartbeats.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(500);
/// A side that has said nothing for so long is taken for dead.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(6);
/// How long a note may wait for the other side's window.
pub(super) const SEND_LIMIT: Duration = Duration::from_secs(5);
/// How long connecting, asking and the superpeer's first note may take together.
const OPEN_LIMIT: Duration = Duration::from_secs(3);
/// Pause after a session that could not be opened, or ended at once; doubled each time up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Notes about leases and the like that wait for the session; more are dropped.
const NOTES_MAX: usize = 4096;
/// Announcements that wait for the session, each of at most `wire::HOLDINGS_MAX` holdings.
const ANNOUNCEMENTS_MAX: usize = 8;

/// A session that stands.
pub(super) struct Session {
    /// The superpeer.
    pub(super) superpeer: NodeId,
    number: u64,
    notes: mpsc::Sender<note::Kind>,
    announcements: mpsc::Sender<Announce>,
    unannounced: AtomicBool,
}

impl Session {
    /// Says something that is not an announcement. It is dropped if too much waits.
    pub(super) fn tell(&self, note: note::Kind) -> bool {
        self.notes.try_send(note).is_ok()
    }

    /// Announces; waits for room at most `limit`.
    pub(super) async fn announce(&self, announce: Announce, limit: Duration) -> bool {
        self.announcements.send_timeout(announce, limit).await.is_ok()
    }

    /// Marks that everything has to be announced to it.
    pub(super) fn set_unannounced(&self) {
        self.unannounced.store(true, Ordering::Relaxed);
    }

    /// Whether everything has to be announced to it.
    pub(super) fn is_unannounced(&self) -> bool {
        self.unannounced.load(Ordering::Relaxed)
    }

    /// As [`is_unannounced`](Self::is_unannounced); a round begins if so.
    pub(super) fn take_unannounced(&self) -> bool {
        self.unannounced.swap(false, Ordering::Relaxed)
    }
}

/// The sessions of this node with superpeers.
#[derive(Default)]
pub(super) struct Sessions {
    standing: RwLock<HashMap<NodeId, Arc<Session>>>,
    numbers: AtomicU64,
    /// A session began to stand, so that there is something to announce.
    pub(super) began: Notify,
}

impl Sessions {
    /// The session with `superpeer`, if it stands.
    pub(super) fn get(&self, superpeer: NodeId) -> Option<Arc<Session>> {
        self.standing.read().get(&superpeer).cloned()
    }

    /// All that stand.
    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        self.standing.read().values().cloned().collect()
    }

    /// How many stand.
    pub(super) fn len(&self) -> usize {
        self.standing.read().len()
    }

    /// The superpeers to ask about `object`, among those with a standing session.
    pub(super) fn ranked(&self, object: ObjectId) -> [Option<NodeId>; 2] {
        let standing = self.standing.read();
        let (first, second) = swarm::top_two(standing.keys().copied(), object);
        [first, second]
    }

    fn begin(&self, superpeer: NodeId, number: u64) -> Queues {
        let (notes, notes_rx) = mpsc::channel(NOTES_MAX);
        let (announcements, announcements_rx) = mpsc::channel(ANNOUNCEMENTS_MAX);
        let session = Session { superpeer, number, notes, announcements, unannounced: AtomicBool::new(true) };
        self.standing.write().insert(superpeer, Arc::new(session));
        self.began.notify_one();
        Queues { notes: notes_rx, announcements: announcements_rx }
    }

    fn end(&self, superpeer: NodeId, number: u64) {
        let mut standing = self.standing.write();
        if standing.get(&superpeer).is_some_and(|session| session.number == number) {
            standing.remove(&superpeer);
        }
    }
}

struct Queues {
    notes: mpsc::Receiver<note::Kind>,
    announcements: mpsc::Receiver<Announce>,
}

/// Keeps a session with each live superpeer, until this node leaves.
pub(super) async fn run(node: Arc<Node>) {
    let mut views = node.views.subscribe();
    let mut kept = HashSet::new();
    let mut sessions = FuturesUnordered::new();
    loop {
        if node.leaving.is_cancelled() && sessions.is_empty() {
            return;
        }
        let view = views.borrow_and_update().clone();
        for superpeer in view.superpeers().iter().filter(|_| !node.leaving.is_cancelled()) {
            let useful = *superpeer != node.me.id || node.me.roles.edge;
            if useful && kept.insert(*superpeer) {
                sessions.push(keep(node.clone(), *superpeer));
            }
        }
        tokio::select! {
            Some(ended) = sessions.next() => {
                kept.remove(&ended);
            }
            changed = views.changed() => if changed.is_err() { return },
            // The sessions see it too, and end.
            () = node.leaving.cancelled(), if sessions.is_empty() => {}
        }
    }
}

/// Keeps a session with `superpeer` for as long as it is live.
async fn keep(node: Arc<Node>, superpeer: NodeId) -> NodeId {
    let mut views = node.views.subscribe();
    let mut pause = PAUSE_MIN;
    while let Some(member) = node.live_superpeer(superpeer)
        && !node.leaving.is_cancelled()
    {
        pause = match hold(&node, &member).await {
            Ended::Lost => PAUSE_MIN,
            Ended::Left => PAUSE_MAX,
            Ended::Refused(error) => {
                tracing::debug!(%superpeer, %error, "no session");
                PAUSE_MAX.min(pause * 2)
            }
        };
        // Whoever is seen alive anew is tried at once.
        let life = member.incarnation;
        let again = views.wait_for(|view| view.member(superpeer).is_none_or(|now| now.incarnation != life));
        tokio::select! {
            _ = again, if superpeer != node.me.id => {}
            () = tokio::time::sleep(pause) => {}
            () = node.leaving.cancelled() => {}
        }
    }
    superpeer
}

/// Why a session is no more.
enum Ended {
    /// It never stood.
    Refused(AskError),
    /// It stood, and broke or became needless.
    Lost,
    /// A side left in order.
    Left,
}

async fn hold(node: &Arc<Node>, member: &Member) -> Ended {
    let number = node.sessions.numbers.fetch_add(1, Ordering::Relaxed) + 1;
    let wire = match tokio::time::timeout(OPEN_LIMIT, Wire::open(node, member, number)).await {
        Ok(Ok(wire)) => wire,
        Ok(Err(error)) => return Ended::Refused(error),
        Err(_) => return Ended::Refused(AskError::Silent),
    };
    let queues = node.sessions.begin(member.id, number);
    let standing = Standing { node, superpeer: member.id, number };
    tracing::info!(superpeer = %member.id, name = %member.name, "session stands");
    let ended = talk(&standing, wire, queues).await;
    tracing::info!(superpeer = %member.id, name = %member.name, "session ended");
    ended
}

/// A session in the table of those that stand, also if its task is dropped.
struct Standing<'a> {
    node: &'a Arc<Node>,
    superpeer: NodeId,
    number: u64,
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.node.sessions.end(self.superpeer, self.number);
    }
}

async fn talk(standing: &Standing<'_>, mut wire: Wire, mut queues: Queues) -> Ended {
    let node = standing.node;
    let mut views = node.views.subscribe();
    let mut beat = tokio::time::interval(HEARTBEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last_heard = node.clock.mono();
    views.mark_changed();
    loop {
        // All branches can be dropped: a queue keeps what was not received, an exchange a frame half read.
        let said = tokio::select! {
            biased;
            () = node.leaving.cancelled() => return wire.leave().await,
            changed = views.changed() => {
                if changed.is_err() || node.live_superpeer(standing.superpeer).is_none() {
                    return Ended::Lost;
                }
                present(standing, &mut wire).await
            }
            _ = beat.tick() => {
                if wire.is_silent(last_heard, node.clock.mono()) {
                    return Ended::Lost;
                }
                renew(standing, &mut wire).await
            }
            heard = wire.hear() => match heard {
                Ok(Some(note::Kind::Leaving(_))) => return Ended::Left,
                Ok(_) => {
                    last_heard = node.clock.mono();
                    Ok(())
                }
                Err(error) => Err(error),
            },
            Some(note) = queues.notes.recv() => wire.say(note).await,
            Some(announce) = queues.announcements.recv() => wire.say(note::Kind::Announce(announce)).await,
        };
        if let Err(error) = said {
            tracing::debug!(superpeer = %standing.superpeer, %error, "session broke");
            return Ended::Lost;
        }
    }
}

/// Tells the superpeer of all leases that it should know of: it may be new to them.
async fn present(standing: &Standing<'_>, wire: &mut Wire) -> Result<(), AskError> {
    let node = standing.node;
    for note in node.leases.presented_to(standing.superpeer, &node.view(), node.me.id) {
        wire.say(note).await?;
    }
    Ok(())
}

async fn renew(standing: &Standing<'_>, wire: &mut Wire) -> Result<(), AskError> {
    let node = standing.node;
    let mut tokens = node.leases.renewed_with(standing.superpeer, &node.view());
    loop {
        let rest = tokens.split_off(tokens.len().min(RENEWED_MAX));
        wire.say(note::Kind::Renew(wire::Renew { tokens })).await?;
        if rest.is_empty() {
            return Ok(());
        }
        tokens = rest;
    }
}

/// How notes reach the superpeer.
enum Wire {
    /// Over a stream.
    Remote(Exchange),
    /// It is this node.
    Local(super::directory::Opened),
}

impl Wire {
    /// Opens a session, and waits until the superpeer has taken it.
    async fn open(node: &Arc<Node>, member: &Member, number: u64) -> Result<Self, AskError> {
        if member.id == node.me.id {
            return super::directory::open(node, &node.me, number).map(Self::Local).ok_or(AskError::Refused);
        }
        let link = node.link(member.id, member.address).await?;
        // Until the connection stands, its role is only what is said of it.
        if !link.member().roles.superpeer {
            return Err(AskError::Refused);
        }
        let mut exchange = link.ask(ask::Kind::Session(wire::Session { number })).await?;
        match hear(&mut exchange).await? {
            Some(note::Kind::Leaving(_)) => Err(AskError::Refused),
            _ => Ok(Self::Remote(exchange)),
        }
    }

    async fn say(&mut self, note: note::Kind) -> Result<(), AskError> {
        match self {
            Self::Local(opened) => {
                opened.handle_note(&note);
                Ok(())
            }
            Self::Remote(exchange) => say(exchange, note).await,
        }
    }

    /// The next note of the superpeer; never one from this node itself.
    async fn hear(&mut self) -> Result<Option<note::Kind>, AskError> {
        match self {
            Self::Local(_) => std::future::pending().await,
            Self::Remote(exchange) => hear(exchange).await,
        }
    }

    fn is_silent(&self, last_heard: Instant, now: Instant) -> bool {
        matches!(self, Self::Remote(_)) && now.saturating_duration_since(last_heard) > SILENCE_MAX
    }

    async fn leave(mut self) -> Ended {
        let said = self.say(note::Kind::Leaving(wire::Leaving {})).await;
        if let (Ok(()), Self::Remote(exchange)) = (said, self) {
            exchange.finish();
        }
        Ended::Left
    }
}

/// Sends a note; bounded in time.
pub(super) async fn say(exchange: &mut Exchange, kind: note::Kind) -> Result<(), AskError> {
    let note = Note { kind: Some(kind) };
    let sent = tokio::time::timeout(SEND_LIMIT, exchange.send_message(&note)).await;
    sent.unwrap_or(Err(AskError::Silent))
}

/// The next note; `Ok(None)` is one of a kind that this version does not know. Unbounded in time, safe to drop.
pub(super) async fn hear(exchange: &mut Exchange) -> Result<Option<note::Kind>, AskError> {
    match exchange.frame().await? {
        Some(Frame::Message(bytes)) => {
            Note::decode(bytes).map(|note| note.kind).ok().ok_or(AskError::Protocol)
        }
        Some(_) => Err(AskError::Protocol),
        None => Err(AskError::Unreachable),
    }
}
