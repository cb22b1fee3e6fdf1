//! The directory of a superpeer, in service: sessions of other nodes (and of this one) feed it, questions are
//! answered from it. Its lock is held for single steps of the machine and never across an await.

use super::exchange::{AskError, Exchange};
use super::lease::RENEWED_MAX;
use super::node::Node;
use super::session::{HEARTBEAT, SEND_LIMIT, SILENCE_MAX, hear, say};
use crate::proto::key::ObjectId;
use crate::proto::swarm::{
    Directory, DirectoryAction, DirectoryStats, Ending, Finding, Member, NodeId, Party, Place, Query, Roles,
};
use crate::proto::wire::{self, code, note};
use crate::telemetry::AskRefusal;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};

/// Sessions that are served at a time.
const SESSIONS_MAX: usize = 16_384;
/// Answers that are being sent at a time; beyond it questions are answered busy.
const ANSWERS_MAX: usize = 4096;
/// Between two runs of the machine's deadlines at least, so that no deadline makes a busy loop.
const DEADLINES_APART: Duration = Duration::from_millis(5);

/// The directory and who feeds it.
pub(super) struct Service {
    state: Mutex<State>,
    /// The deadline came nearer.
    sooner: Notify,
    sessions: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

struct State {
    directory: Directory,
    fed_by: HashMap<NodeId, Feed>,
    opened: u64,
    deadline: Option<Instant>,
}

/// The session in force of a node.
#[derive(Clone, Copy)]
struct Feed {
    /// The node's life and its number for the session: the greater is the newer.
    order: (u64, u64),
    /// This superpeer's number for it.
    serial: u64,
}

impl Service {
    /// An empty directory of the superpeer `me`.
    pub(super) fn new(me: &Member, holdings_max: usize, now: Instant) -> Self {
        let directory = Directory::new(me.id, me.incarnation, holdings_max, now);
        Self {
            state: Mutex::new(State { directory, fed_by: HashMap::new(), opened: 0, deadline: None }),
            sooner: Notify::new(),
            sessions: Arc::new(Semaphore::new(SESSIONS_MAX)),
            answers: Arc::new(Semaphore::new(ANSWERS_MAX)),
        }
    }

    /// Its figures, and whether it is warming.
    pub(super) fn stats(&self, now: Instant) -> (DirectoryStats, bool) {
        let state = self.state.lock();
        (state.directory.stats(), state.directory.is_warming(now))
    }

    /// One step of the machine. What it wants done is done after the lock was let go.
    fn step<T>(&self, node: &Node, step: impl FnOnce(&mut State, Instant) -> T) -> T {
        let mut actions = Vec::new();
        let live_edges = node.view().edges().len();
        let (result, sooner) = {
            let mut state = self.state.lock();
            state.directory.expect_edges(live_edges);
            let result = step(&mut state, node.clock.mono());
            while let Some(action) = state.directory.poll() {
                actions.push(action);
            }
            let deadline = state.directory.deadline();
            let before = std::mem::replace(&mut state.deadline, deadline);
            let sooner = state.deadline.is_some_and(|now| before.is_none_or(|before| now < before));
            (result, sooner)
        };
        if sooner {
            self.sooner.notify_one();
        }
        for action in actions {
            carry_out(node, action);
        }
        result
    }
}

fn carry_out(node: &Node, action: DirectoryAction) {
    match action {
        DirectoryAction::Copy(object, granted) => {
            if let Some(other) = other_keeper(node, object) {
                node.tell(other, note::Kind::Granted(granted));
            }
        }
        DirectoryAction::Expired(holder, token) => {
            tracing::info!(node = %holder, number = token.number, "lease expired");
        }
    }
}

fn other_keeper(node: &Node, object: ObjectId) -> Option<NodeId> {
    node.view().keepers(object).into_iter().flatten().find(|keeper| *keeper != node.me.id)
}

/// Runs the machine's deadlines, for ever.
pub(super) async fn keep_time(node: Arc<Node>) {
    let Some(service) = &node.directory else { return };
    loop {
        let deadline = service.state.lock().deadline;
        let left = deadline.map(|at| at.saturating_duration_since(node.clock.mono()).max(DEADLINES_APART));
        tokio::select! {
            () = service.sooner.notified() => {}
            () = tokio::time::sleep(left.unwrap_or_default()), if left.is_some() => {
                service.step(&node, |state, now| {
                    if state.directory.deadline().is_some_and(|at| at <= now) {
                        state.directory.handle_deadline(now);
                    }
                });
            }
        }
    }
}

/// A session that feeds the directory; dropped, it is over.
pub(super) struct Opened {
    node: Arc<Node>,
    member: Member,
    serial: u64,
}

/// Opens a session of `member`. `None` if this node keeps no directory, or a newer session of it is open.
pub(super) fn open(node: &Arc<Node>, member: &Member, number: u64) -> Option<Opened> {
    let order = (member.incarnation, number);
    let serial = node.directory.as_ref()?.step(node, |state, now| {
        if state.fed_by.get(&member.id).is_some_and(|feed| feed.order >= order) {
            return None;
        }
        state.opened += 1;
        let serial = state.opened;
        state.fed_by.insert(member.id, Feed { order, serial });
        state.directory.handle_opened(party(member), serial, now);
        Some(serial)
    })?;
    Some(Opened { node: node.clone(), member: member.clone(), serial })
}

impl Opened {
    /// The node says something. Ignored if a newer session has taken the place of this one.
    pub(super) fn handle_note(&self, note: &note::Kind) {
        self.step(|directory, now| directory.handle_note(self.member.id, note, now));
    }

    /// Whether no newer session has taken its place.
    fn is_current(&self) -> bool {
        self.step(|_, _| ()).is_some()
    }

    fn step<T>(&self, step: impl FnOnce(&mut Directory, Instant) -> T) -> Option<T> {
        self.node.directory.as_ref()?.step(&self.node, |state, now| {
            let feed = state.fed_by.get(&self.member.id).filter(|feed| feed.serial == self.serial);
            feed.is_some().then(|| step(&mut state.directory, now))
        })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let Some(service) = &self.node.directory else { return };
        service.step(&self.node, |state, now| {
            if state.fed_by.get(&self.member.id).is_some_and(|feed| feed.serial == self.serial) {
                state.fed_by.remove(&self.member.id);
            }
            state.directory.handle_closed(self.member.id, self.serial, now);
        });
    }
}

/// Serves a session that `member` asks for, until it ends.
pub(super) fn serve_session(node: &Arc<Node>, member: &Member, number: u64, exchange: Exchange) {
    let Some(service) = node.directory.as_ref().filter(|_| member.roles != Roles::default()) else {
        return node.refuse(exchange, AskRefusal::Forbidden);
    };
    let Ok(place) = service.sessions.clone().try_acquire_owned() else {
        return node.refuse(exchange, AskRefusal::Busy);
    };
    let (owner, member) = (node.clone(), member.clone());
    node.spawner.spawn(async move {
        match open(&owner, &member, number) {
            Some(opened) => listen(opened, exchange).await,
            None => owner.refuse(exchange, AskRefusal::Busy),
        }
        drop(place);
    });
}

/// Hears what is said, and lets the other side know that it is heard.
async fn listen(opened: Opened, mut exchange: Exchange) {
    let node = opened.node.clone();
    let mut beat = tokio::time::interval(HEARTBEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last_heard = node.clock.mono();
    loop {
        let heard = tokio::select! {
            biased;
            () = node.leaving.cancelled() => {
                if say(&mut exchange, note::Kind::Leaving(wire::Leaving {})).await.is_ok() {
                    exchange.finish();
                }
                return;
            }
            _ = beat.tick() => {
                let silent = node.clock.mono().saturating_duration_since(last_heard) > SILENCE_MAX;
                if silent || !opened.is_current() {
                    return exchange.reset(code::CANCELLED);
                }
                say(&mut exchange, note::Kind::Renew(wire::Renew::default())).await.map(|()| None)
            }
            heard = hear(&mut exchange) => {
                last_heard = node.clock.mono();
                heard
            }
        };
        match heard {
            Ok(Some(note)) if !may_say(&opened.member, &note) => {
                return node.refuse(exchange, AskRefusal::Protocol);
            }
            Ok(Some(note)) => {
                opened.handle_note(&note);
                if matches!(note, note::Kind::Leaving(_)) {
                    return;
                }
            }
            Ok(None) => {}
            Err(AskError::Protocol) => return node.refuse(exchange, AskRefusal::Protocol),
            Err(_) => return,
        }
        // A peer that always has more to say must not keep others waiting.
        tokio::task::yield_now().await;
    }
}

/// Whether a node with these roles may say that, and not too much of it.
fn may_say(member: &Member, note: &note::Kind) -> bool {
    match note {
        note::Kind::Announce(announce) => {
            let holdings = announce.added.len() + announce.removed.len();
            holdings == 0 || (member.roles.edge && holdings <= wire::HOLDINGS_MAX)
        }
        note::Kind::Renew(renew) => renew.tokens.len() <= RENEWED_MAX,
        note::Kind::Done(_) | note::Kind::Gone(_) => member.roles.edge,
        note::Kind::Granted(granted) => member.roles.superpeer || granted.node == member.id.0,
        note::Kind::Leaving(_) => true,
    }
}

/// What the directory of this node says; `None` if it keeps none.
pub(super) fn resolve(node: &Node, asker: &Member, query: &Query) -> Option<Finding> {
    let service = node.directory.as_ref()?;
    Some(service.step(node, |state, now| state.directory.handle_resolve(&party(asker), query, now)))
}

/// Answers a question of `asker`.
pub(super) fn serve_resolve(
    node: &Arc<Node>,
    asker: &Member,
    resolve: &wire::Resolve,
    mut exchange: Exchange,
) {
    let Some(service) = node.directory.as_ref().filter(|_| asker.roles.edge) else {
        return node.refuse(exchange, AskRefusal::Forbidden);
    };
    let Ok(query) = Query::try_from(resolve) else {
        return node.refuse(exchange, AskRefusal::Protocol);
    };
    let Ok(place) = service.answers.clone().try_acquire_owned() else {
        return node.refuse(exchange, AskRefusal::Busy);
    };
    let finding = service.step(node, |state, now| state.directory.handle_resolve(&party(asker), &query, now));
    let (owner, asker) = (node.clone(), asker.id);
    node.spawner.spawn(async move {
        let resolved = wire::Resolved::from(&finding);
        let sent = tokio::time::timeout(SEND_LIMIT, exchange.send_message(&resolved)).await;
        if matches!(sent, Ok(Ok(()))) {
            exchange.finish();
        } else if let Finding::Lease(token, _) = finding {
            take_back(&owner, asker, token);
        }
        drop(place);
    });
}

/// The asker went away before it had its lease: nobody has to wait for its expiry.
fn take_back(node: &Node, asker: NodeId, token: wire::Token) {
    let Some(service) = &node.directory else { return };
    let ending = Ending::NotKept.code();
    let done = note::Kind::Done(wire::Done { token: Some(token), ending, holding: None });
    service.step(node, |state, now| state.directory.handle_note(asker, &done, now));
}

fn party(member: &Member) -> Party {
    let place = Place { node: member.id, address: member.address, zone: member.zone.clone() };
    Party { place, roles: member.roles }
}
