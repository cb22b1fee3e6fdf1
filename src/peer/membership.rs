//! The loop around the membership machine: packets, deadlines and seeds go in; packets and views come out.

use super::link::Link;
use super::members::{MemberAction, Members};
use super::node::Node;
use super::seeds::Seeds;
use super::view::{Departed, View, note_departed, note_returned};
use crate::proto::swarm::Member;
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// What is told to the loop and not yet heard. Packets beyond it are dropped, which the protocol bears.
pub(super) const TOLD_MAX: usize = 1024;
/// Packets that wait for a connection to be made; more are dropped.
const DIALS_MAX: usize = 64;
/// How long a packet waits for a connection.
const DIAL_LIMIT: Duration = Duration::from_secs(2);
/// Between two looks at the seeds while nobody else is known.
const SEEDS_ALONE: Duration = Duration::from_secs(1);
/// Between two looks at the seeds otherwise: they heal a fleet that fell into parts.
const SEEDS_TOGETHER: Duration = Duration::from_secs(30);
/// Seeds asked at a time; a name may have more addresses.
const SEEDS_ASKED_MAX: usize = 16;

/// What the loop is told.
pub(super) enum Told {
    /// A packet came.
    Packet(Bytes),
    /// A connection stands with this node, whose roles are certified.
    Linked(Member),
    /// Ask these to be let in.
    Seeds(Vec<SocketAddr>),
    /// Say good-bye; answered when that was sent.
    Leave(oneshot::Sender<()>),
}

/// Runs the membership of this node, for ever.
pub(super) async fn run(node: Arc<Node>, mut told: mpsc::Receiver<Told>) {
    let seed = u64::from_le_bytes(*node.me.id.0.first_chunk().expect("an identity has 16 bytes"));
    let members = Members::new(node.me.clone(), seed ^ node.me.incarnation, node.clock.mono());
    let mut membership =
        Membership { node, members, departed: VecDeque::new(), dials: Arc::new(Semaphore::new(DIALS_MAX)) };
    loop {
        let wake = membership.members.deadline();
        let pause = wake.map(|at| at.saturating_duration_since(membership.node.clock.mono()));
        let heard = tokio::select! {
            heard = told.recv() => match heard {
                Some(heard) => Some(heard),
                None => return,
            },
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => None,
        };
        let good_bye = membership.step(heard);
        membership.carry_out();
        // The packets of the good-bye are with their connections now.
        if let Some(said) = good_bye {
            let _ = said.send(());
        }
    }
}

struct Membership {
    node: Arc<Node>,
    members: Members,
    departed: VecDeque<Departed>,
    dials: Arc<Semaphore>,
}

impl Membership {
    fn step(&mut self, heard: Option<Told>) -> Option<oneshot::Sender<()>> {
        let now = self.node.clock.mono();
        match heard {
            None => self.members.handle_deadline(now),
            Some(Told::Packet(packet)) => self.members.handle_packet(&packet, now),
            Some(Told::Linked(member)) => self.check_roles(&member),
            Some(Told::Seeds(seeds)) => self.join(&seeds, now),
            Some(Told::Leave(said)) => {
                self.members.leave(now);
                return Some(said);
            }
        }
        None
    }

    fn join(&mut self, seeds: &[SocketAddr], now: Instant) {
        let view = self.node.view();
        let unknown = seeds.iter().filter(|seed| **seed != self.node.me.address && view.at(**seed).is_none());
        for seed in unknown.take(SEEDS_ASKED_MAX) {
            self.members.join(*seed, now);
        }
    }

    /// Roles that a certificate does not give were believed until the connection stood.
    fn check_roles(&mut self, linked: &Member) {
        let view = self.node.view();
        let believed = view.member(linked.id).map(|member| member.roles);
        if believed.is_some_and(|roles| roles.and(linked.roles) != roles) {
            tracing::warn!(node = %linked.id, name = %linked.name, "claims roles that its certificate does not give");
            self.publish();
        }
    }

    fn carry_out(&mut self) {
        let mut changed = false;
        while let Some(action) = self.members.poll() {
            match action {
                MemberAction::Send { to, packet } => self.send(to, packet),
                MemberAction::Up(member) => {
                    tracing::info!(node = %member.id, name = %member.name, address = %member.address, "is live");
                    note_returned(&mut self.departed, member.id);
                    changed = true;
                }
                MemberAction::Down(member) => {
                    tracing::info!(node = %member.id, name = %member.name, address = %member.address, "is gone");
                    note_departed(&mut self.departed, member, self.node.clock.mono());
                    changed = true;
                }
            }
        }
        if changed {
            self.publish();
        }
    }

    fn publish(&self) {
        let certified = |id| self.node.links.get(id).map(|link| link.member().roles);
        let view = View::new(&self.node.me, self.members.live(), self.departed.clone(), certified);
        self.node.views.send_replace(Arc::new(view));
    }

    fn send(&self, to: SocketAddr, packet: Bytes) {
        if let Some(link) = self.standing(to) {
            return link.datagram(packet);
        }
        let Ok(dial) = self.dials.clone().try_acquire_owned() else { return };
        let links = self.node.links.clone();
        self.node.spawner.spawn(async move {
            if let Ok(Ok(link)) = tokio::time::timeout(DIAL_LIMIT, links.connect(to, None)).await {
                link.datagram(packet);
            }
            drop(dial);
        });
    }

    fn standing(&self, to: SocketAddr) -> Option<Link> {
        self.node.links.get(self.node.view().at(to)?)
    }
}

/// Looks for the seeds, for ever: they may come up later, and their names may change their meaning.
pub(super) async fn look_for_seeds(node: Arc<Node>, seeds: Seeds, told: mpsc::Sender<Told>) {
    let mut views = node.views.subscribe();
    for round in 0_u64.. {
        if node.leaving.is_cancelled() {
            return;
        }
        let resolved = seeds.resolve().await;
        if !resolved.is_empty() && told.send(Told::Seeds(resolved)).await.is_err() {
            return;
        }
        let pause = if node.view().is_alone() { SEEDS_ALONE } else { SEEDS_TOGETHER };
        let pause = pause.mul_f64(0.75 + node.jitter(round) / 2.0);
        let deadline = node.clock.mono() + pause;
        // Whoever finds itself alone begins to look at once.
        loop {
            let left = deadline.saturating_duration_since(node.clock.mono());
            tokio::select! {
                () = tokio::time::sleep(left) => break,
                changed = views.changed() => if changed.is_err() || node.view().is_alone() { break },
            }
        }
    }
}
