//! Dialling: one dial at a time to each address, and pauses after those that fail.

use super::exchange::{AskError, Exchange};
use super::hello;
use super::link::{Link, Shared};
use super::refusal::Refusal;
use crate::proto::swarm::NodeId;
use crate::proto::wire;
use crate::telemetry::{Outcome, PeerRefusal};
use crate::tls::cluster::{Certified, ClusterError, SERVER_NAME};
use parking_lot::Mutex;
use quinn::Connection;
use rustls_pki_types::CertificateDer;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Time for a connection to stand, hellos included.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// Pause after a first dial that failed; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// After so long without a dial, failures are forgotten.
const MEMORY: Duration = Duration::from_secs(60);
/// Addresses that are dialled or paused at once.
const DIALS_MAX: usize = 4096;

/// Where a dial goes, and who must be there.
type Goal = (SocketAddr, Option<NodeId>);
/// How a dial ends; `None` while it goes on.
type Landing = Option<Result<Link, AskError>>;

/// Dials under way and pauses.
pub(super) struct Dials {
    me: NodeId,
    goals: Mutex<HashMap<Goal, Dial>>,
}

enum Dial {
    Underway(watch::Receiver<Landing>),
    Failed { again_at: Instant, pause: Duration },
}

/// What one who wants a connection is to do.
enum Turn {
    /// Somebody dials already.
    Join(watch::Receiver<Landing>),
    /// Dial; the last pause was so long.
    Lead(watch::Sender<Landing>, watch::Receiver<Landing>, Duration),
    /// Not now.
    Pause,
}

impl Dials {
    pub(super) fn new(me: NodeId) -> Self {
        Self { me, goals: Mutex::default() }
    }

    fn turn(&self, goal: Goal, now: Instant) -> Turn {
        let mut goals = self.goals.lock();
        let mut pause = Duration::ZERO;
        match goals.get(&goal) {
            // A dial whose task ended without a word was cancelled with the node.
            Some(Dial::Underway(landing)) if landing.has_changed().is_ok() || landing.borrow().is_some() => {
                return Turn::Join(landing.clone());
            }
            Some(Dial::Failed { again_at, .. }) if now < *again_at => return Turn::Pause,
            Some(Dial::Failed { again_at, pause: last }) if now < *again_at + MEMORY => pause = *last,
            Some(Dial::Underway(_) | Dial::Failed { .. }) | None => {}
        }
        if goals.len() >= DIALS_MAX {
            goals.retain(|_, dial| match dial {
                Dial::Underway(_) => true,
                Dial::Failed { again_at, .. } => now < *again_at,
            });
            if goals.len() >= DIALS_MAX {
                return Turn::Pause;
            }
        }
        let (sender, receiver) = watch::channel(None);
        goals.insert(goal, Dial::Underway(receiver.clone()));
        Turn::Lead(sender, receiver, pause)
    }

    fn landed(&self, goal: Goal) {
        self.goals.lock().remove(&goal);
    }

    fn failed(&self, goal: Goal, last: Duration, now: Instant) {
        let pause = (last * 2).clamp(PAUSE_FIRST, PAUSE_MAX);
        let again_at = now + self.spread(pause);
        self.goals.lock().insert(goal, Dial::Failed { again_at, pause });
    }

    /// Three to five quarters of a pause, each node its own: a superpeer that comes back is not dialled by all at once.
    fn spread(&self, pause: Duration) -> Duration {
        pause * (192 + u32::from(self.me.0[0]) / 2) / 256
    }
}

impl Shared {
    /// Dials, or joins a dial under way. The dial goes on if this is dropped.
    pub(super) async fn dial(
        self: &Arc<Self>,
        to: SocketAddr,
        expect: Option<NodeId>,
    ) -> Result<Link, AskError> {
        if !self.identity.is_ready() || self.endpoint().is_none() {
            return Err(AskError::Unreachable);
        }
        let goal = (to, expect);
        let mut landing = match self.dials.turn(goal, self.clock.mono()) {
            Turn::Join(landing) => landing,
            Turn::Pause => return Err(AskError::Unreachable),
            Turn::Lead(sender, landing, pause) => {
                let shared = self.clone();
                self.spawner.spawn(async move {
                    let outcome = shared.dial_once(goal, pause).await;
                    sender.send_replace(Some(outcome));
                });
                landing
            }
        };
        let landed = landing.wait_for(Option::is_some).await.ok().and_then(|landing| landing.clone());
        landed.unwrap_or(Err(AskError::Unreachable))
    }

    async fn dial_once(self: &Arc<Self>, goal: Goal, pause: Duration) -> Result<Link, AskError> {
        let attempt = tokio::time::timeout(CONNECT_LIMIT, self.reach(goal)).await;
        let dials = &self.metrics.node.links.dials;
        match attempt.unwrap_or_else(|_elapsed| Err(Refusal::timeout())) {
            Ok(link) => {
                dials.of(Outcome::Success).inc();
                self.dials.landed(goal);
                Ok(link)
            }
            Err(refusal) => {
                dials.of(Outcome::Failure).inc();
                self.refusals.note(goal.0, true, &refusal);
                self.dials.failed(goal, pause, self.clock.mono());
                Err(AskError::Unreachable)
            }
        }
    }

    async fn reach(self: &Arc<Self>, (to, expect): Goal) -> Result<Link, Refusal> {
        let gone = || Refusal::new(PeerRefusal::Other, "this node is going away");
        let endpoint = self.endpoint().ok_or_else(gone)?;
        let connecting = endpoint
            .connect_with(self.client.clone(), to, SERVER_NAME)
            .map_err(|error| Refusal::new(PeerRefusal::Other, error.to_string()))?;
        drop(endpoint);
        let connection = connecting.await?;
        let link = self.introduce(&connection, to, expect).await;
        link.map_err(|refusal| refusal.concerning(&connection))
    }

    /// Says hello on a connection that this node dialled, and takes it into use if the answer is good.
    async fn introduce(
        self: &Arc<Self>,
        connection: &Connection,
        to: SocketAddr,
        expect: Option<NodeId>,
    ) -> Result<Link, Refusal> {
        let agreed = alpn(connection);
        let has_major = match agreed.as_deref() {
            Some(wire::ALPN) => true,
            Some(wire::VERSION_ALPN) => false,
            _ => return Err(ClusterError::Protocol.into()),
        };
        let chain = chain(connection);
        let certified = Certified::read(chain.first().ok_or(ClusterError::NoCertificate)?)?;
        if certified.id == self.me.id {
            return Err(Refusal::new(PeerRefusal::Itself, "the address is this node's own"));
        }
        if let Some(expected) = expect.filter(|expected| *expected != certified.id) {
            let words = format!("node {} is there, not {expected}", certified.id);
            return Err(Refusal::new(PeerRefusal::Identity, words));
        }
        let mut exchange = Exchange::opened(certified.id, connection.open_bi().await?);
        let ask = wire::Ask { kind: Some(wire::ask::Kind::Hello(self.hello.clone())) };
        exchange.send_message(&ask).await?;
        // Without a common major version the answer is that the connection is closed, with the reason.
        let hello = hello::answered(&mut exchange).await?;
        if !has_major {
            return Err(hello::other_major(&hello));
        }
        exchange.finish();
        let member = hello::judge(&hello, &certified, connection.remote_address())?;
        self.stand(connection.clone(), member, Some(to)).await
    }
}

/// The protocol that the handshake agreed on.
pub(super) fn alpn(connection: &Connection) -> Option<Vec<u8>> {
    let handshake = connection.handshake_data()?.downcast::<quinn::crypto::rustls::HandshakeData>().ok()?;
    handshake.protocol
}

/// The certificates that the other side showed.
pub(super) fn chain(connection: &Connection) -> Vec<CertificateDer<'static>> {
    let chain = connection.peer_identity().and_then(|chain| chain.downcast().ok());
    chain.map_or_else(Vec::new, |chain| *chain)
}
