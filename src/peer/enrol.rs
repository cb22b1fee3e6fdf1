//! How nodes get certificates from superpeers: both sides, and renewal.

use super::dial::{alpn, chain};
use super::exchange::{AskError, Exchange};
use super::link::{Links, Shared};
use super::refusal::Refusal;
use crate::clock::Clock;
use crate::proto::swarm::NodeId;
use crate::proto::wire::{self, Enrol, Enrolled, Frame, close, enrolled};
use crate::telemetry::{Outcome, PeerRefusal};
use crate::tls::cluster::{Certified, ClusterError, Identity, SERVER_NAME};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use prost::Message;
use quinn::{Connection, VarInt};
use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Time for one superpeer to answer, from the first packet on.
pub(super) const ENROL_LIMIT: Duration = Duration::from_secs(3);
/// Pause after a round in which no superpeer gave a certificate; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Longest sleep before the time of renewal is looked at again: the wall clock may have been set.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Silence of a superpeer after which the next is asked as well.
const ASKED_APART: Duration = Duration::from_millis(250);
/// Superpeers asked in one round.
const ASKED_MAX: usize = 16;
/// Bytes of a request; the token and the signing request are its largest parts.
const REQUEST_MAX: usize = 16 << 10;
/// Requests answered in one [`RATE_PERIOD`]; further ones are refused and come again.
const RATE_MAX: u32 = 100;
/// See [`RATE_MAX`].
const RATE_PERIOD: Duration = Duration::from_secs(1);
/// Time for the one who asked to take the answer and close.
const PARTING_LIMIT: Duration = Duration::from_secs(1);

/// Keeps the node's certificate in force, for ever: gets the first if there is none, and renews it in time; reads files
/// again every minute. `superpeers` says where to ask. One that cannot be had is asked for again, with growing
/// pauses; what is in force stays so.
pub(super) async fn keep_certified<F, Fut>(links: Links, superpeers: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Vec<SocketAddr>>,
{
    let shared = &*links.0;
    let mut pause = Duration::ZERO;
    loop {
        sleep_until_due(shared).await;
        let before = shared.identity.not_after();
        let renewed = if shared.identity.enrols() {
            ask_all(shared, &superpeers().await).await
        } else {
            reload(shared).await
        };
        let renewals = &shared.metrics.node.links.renewals;
        match renewed {
            Ok(()) => {
                renewals.of(Outcome::Success).inc();
                pause = Duration::ZERO;
                if shared.identity.not_after() != before {
                    tell(&shared.identity);
                }
            }
            Err(refusal) => {
                renewals.of(Outcome::Failure).inc();
                pause = (pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX);
                let again_ms = pause.as_millis() as u64;
                tracing::warn!(again_ms, "this node gets no certificate: {}", refusal.words);
                tokio::time::sleep(pause).await;
            }
        }
    }
}

fn tell(identity: &Identity) {
    let Certified { id, name, roles } = identity.certified();
    let roles: Vec<_> = roles.names().collect();
    let expires = identity.not_after().map(crate::proto::time::Wall::as_secs);
    tracing::info!(%id, %name, ?roles, expires_unix_seconds = expires, "certificate of this node in force");
}

async fn sleep_until_due(shared: &Shared) {
    while let Some(due) = shared.identity.renew_at() {
        let left = due.as_millis().saturating_sub(shared.clock.now().wall.as_millis());
        let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0) else { return };
        tokio::time::sleep(Duration::from_millis(left).min(LOOK_EVERY)).await;
    }
}

/// Reads files again or signs anew. Both may take a while, so a blocking thread does it.
async fn reload(shared: &Shared) -> Result<(), Refusal> {
    let (identity, now) = (shared.identity.clone(), shared.clock.now().wall);
    let reloaded = shared.spawner.blocking(move || identity.reload(now)).await;
    match reloaded {
        Some(reloaded) => Ok(reloaded?),
        None => Err(Refusal::new(PeerRefusal::Other, "its reading broke off")),
    }
}

/// Asks one superpeer after the other until one gives a certificate; the next one when the one before has refused or been
/// silent for a moment, since seeds are often the addresses of nodes that are gone. The error is the last that came.
async fn ask_all(shared: &Shared, superpeers: &[SocketAddr]) -> Result<(), Refusal> {
    let mut outcome = Err(Refusal::new(PeerRefusal::Other, "no superpeer is known"));
    // A name that stands for all nodes of the fleet stands for this one too.
    let mut others: VecDeque<_> = superpeers.iter().copied().take(ASKED_MAX).collect();
    others.retain(|superpeer| *superpeer != shared.me.address);
    let mut asked = FuturesUnordered::new();
    loop {
        if let Some(superpeer) = others.pop_front() {
            asked.push(async move {
                let answer = tokio::time::timeout(ENROL_LIMIT, ask(shared, superpeer)).await;
                (superpeer, answer.unwrap_or_else(|_elapsed| Err(Refusal::timeout())))
            });
        }
        tokio::select! {
            answer = asked.next() => match answer {
                Some((_, Ok(()))) => return Ok(()),
                Some((superpeer, Err(refusal))) => {
                    shared.refusals.note(superpeer, true, &refusal);
                    outcome = Err(refusal);
                }
                None => return outcome,
            },
            () = tokio::time::sleep(ASKED_APART), if !others.is_empty() => {}
        }
    }
}

async fn ask(shared: &Shared, superpeer: SocketAddr) -> Result<(), Refusal> {
    let request = request(shared).await?;
    let gone = || Refusal::new(PeerRefusal::Other, "this node is going away");
    let config = super::endpoint::client(shared.identity.enrolling_client(shared.clock))
        .map_err(|error| Refusal::new(PeerRefusal::Protocol, error.to_string()))?;
    let connection = shared
        .endpoint()
        .ok_or_else(gone)?
        .connect_with(config, superpeer, SERVER_NAME)
        .map_err(|error| Refusal::new(PeerRefusal::Other, error.to_string()))?
        .await?;
    let enrolled =
        exchange(&connection, &request).await.map_err(|refusal| refusal.concerning(&connection))?;
    connection.close(VarInt::from_u32(close::LEAVING), b"that was all");
    Ok(shared.identity.accept(enrolled, shared.clock.now().wall)?)
}

async fn request(shared: &Shared) -> Result<Enrol, Refusal> {
    let identity = shared.identity.clone();
    // The token is in a file, read anew each time, so that it can be replaced.
    let token = shared.spawner.blocking(move || identity.token()).await;
    let unread = || Refusal::new(PeerRefusal::Other, "the reading of the join token broke off");
    let token = token.ok_or_else(unread)??;
    Ok(shared.identity.request(&token, &shared.me.name))
}

async fn exchange(connection: &Connection, request: &Enrol) -> Result<Enrolled, Refusal> {
    if alpn(connection).as_deref() != Some(wire::ENROL_ALPN) {
        return Err(ClusterError::Protocol.into());
    }
    // The token lets in whoever has it, so it is shown to superpeers alone.
    let chain = chain(connection);
    let certified = Certified::read(chain.first().ok_or(ClusterError::NoCertificate)?)?;
    if !certified.roles.superpeer {
        return Err(Refusal::new(
            PeerRefusal::WrongRole,
            "it is no superpeer, so it is not shown the join token",
        ));
    }
    let mut exchange = Exchange::opened(certified.id, connection.open_bi().await?);
    exchange.send_message(request).await?;
    let enrolled = Enrolled::decode(message(&mut exchange).await?);
    exchange.finish();
    enrolled.map_err(|error| Refusal::new(PeerRefusal::Protocol, error.to_string()))
}

async fn message(exchange: &mut Exchange) -> Result<Bytes, Refusal> {
    match exchange.frame().await? {
        Some(Frame::Message(bytes)) => Ok(bytes),
        _ => Err(AskError::Protocol.into()),
    }
}

/// Where a superpeer gives out certificates, a bounded number in a second.
pub(super) struct Desk {
    clock: Clock,
    served: Mutex<(Option<Instant>, u32)>,
}

impl Desk {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, served: Mutex::default() }
    }

    /// Answers the one request of a connection. `shown` is the certificate that is to be renewed. The caller bounds the
    /// time.
    ///
    /// # Errors
    /// If no certificate was issued.
    pub(super) async fn serve(
        &self,
        identity: &Identity,
        connection: &Connection,
        shown: Option<Certified>,
    ) -> Result<(), Refusal> {
        let no_authority = || Refusal::new(PeerRefusal::Protocol, "this node has not the authority's key");
        let authority = identity.authority().ok_or_else(no_authority)?;
        if !self.admit() {
            return Err(Refusal::new(PeerRefusal::Full, "too many ask for certificates at once"));
        }
        let mut exchange = Exchange::accepted(NodeId::default(), connection.accept_bi().await?, REQUEST_MAX);
        let enrol = Enrol::decode(message(&mut exchange).await?)
            .map_err(|error| Refusal::new(PeerRefusal::Protocol, error.to_string()))?;
        let now = self.clock.now().wall;
        let (answer, by) = match &shown {
            Some(shown) => (authority.renew(&enrol, shown, now), "certificate"),
            None => (authority.enrol(&enrol, now), "token"),
        };
        exchange.send_message(&answer).await?;
        exchange.finish();
        // The one who asked closes when it has the answer; to close first could overtake it.
        let _ = tokio::time::timeout(PARTING_LIMIT, connection.closed()).await;
        record(connection.remote_address(), by, answer)
    }

    fn admit(&self) -> bool {
        let now = self.clock.mono();
        let mut served = self.served.lock();
        if served.0.is_none_or(|since| now.saturating_duration_since(since) >= RATE_PERIOD) {
            *served = (Some(now), 0);
        }
        served.1 += 1;
        served.1 <= RATE_MAX
    }
}

/// Writes down who got a certificate.
fn record(from: SocketAddr, by: &str, answer: Enrolled) -> Result<(), Refusal> {
    let chain = match answer.kind {
        Some(enrolled::Kind::Chain(chain)) => chain,
        Some(enrolled::Kind::Refused(words)) => return Err(Refusal::new(PeerRefusal::NoCertificate, words)),
        None => return Err(ClusterError::Answer.into()),
    };
    let leaf = chain.certificates.first().ok_or(ClusterError::Answer)?;
    let Certified { id, name, roles } = Certified::read(&leaf.as_slice().into())?;
    let roles: Vec<_> = roles.names().collect();
    tracing::info!(target: "shoal::audit", %id, %name, ?roles, %from, by, "certificate issued");
    Ok(())
}
