//! Accepting: connections of other nodes, and on each the streams and datagrams that they begin.

use super::dial::{alpn, chain};
use super::endpoint;
use super::enrol;
use super::exchange::{AskError, Exchange};
use super::hello;
use super::link::{Link, LinkEvent, Shared, priority};
use super::refusal::Refusal;
use crate::proto::wire::{self, Frame, close, code};
use crate::telemetry::{Outcome, PeerRefusal, StreamRefusal};
use crate::tls::cluster::{Caller, Certified};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use prost::Message;
use quinn::{Connection, ConnectionError, Incoming, RecvStream, SendStream, VarInt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Handshakes with nodes that dialled, at once; further ones wait in the endpoint's queue.
const HANDSHAKES_MAX: usize = 128;
/// With more handshakes than this, an address must first prove that it is one.
pub(super) const HANDSHAKES_UNPROVEN_MAX: usize = HANDSHAKES_MAX / 2;
/// Time for a handshake and the hellos.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(2);
/// Time for the first frame of a stream.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of a question, or of a note within a session: the fields of a request, or a full announcement. What is decoded
/// takes up to some twenty times that, so nobody may send as much as a head with its hashes is.
const ASK_MAX: usize = 256 << 10;

impl Shared {
    /// Accepts until the endpoint is closed.
    pub(super) async fn accept(self: &Arc<Self>) {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let enrolments = Arc::new(enrol::Desk::new(self.clock));
        // Each handshake ends in bounded time, so this waits in bounded time.
        while let Ok(permit) = handshakes.clone().acquire_owned().await {
            let Some(endpoint) = self.endpoint() else { return };
            let Some(incoming) = endpoint.accept().await else { return };
            drop(endpoint);
            let busy = handshakes.available_permits() < HANDSHAKES_MAX - HANDSHAKES_UNPROVEN_MAX;
            if busy && !incoming.remote_address_validated() && incoming.may_retry() {
                // It was asked whether that may be; otherwise the other side finds out by a timeout.
                let _ = incoming.retry();
                continue;
            }
            let (shared, desk) = (self.clone(), enrolments.clone());
            self.spawner.spawn(async move { shared.welcome(incoming, &desk, permit).await });
        }
    }

    async fn welcome(self: Arc<Self>, incoming: Incoming, desk: &enrol::Desk, permit: OwnedSemaphorePermit) {
        let remote = incoming.remote_address();
        let shook = tokio::time::timeout(HANDSHAKE_LIMIT, self.shake_hands(incoming, desk)).await;
        drop(permit);
        if let Err(refusal) = shook.unwrap_or_else(|_elapsed| Err(Refusal::timeout())) {
            self.refusals.note(remote, false, &refusal);
        }
    }

    async fn shake_hands(self: &Arc<Self>, incoming: Incoming, desk: &enrol::Desk) -> Result<(), Refusal> {
        if !self.has_room() {
            incoming.refuse();
            return Err(Refusal::new(PeerRefusal::Full, "this node has too many connections"));
        }
        let connection = incoming.accept()?.await?;
        let outcome = match Caller::of(alpn(&connection).as_deref(), &chain(&connection)) {
            Ok(Caller::Node(certified)) => self.greet(&connection, &certified).await,
            Ok(Caller::Enrolling(certified)) => self.enrol(desk, &connection, certified).await,
            Ok(Caller::OtherMajor(certified)) => Err(self.turn_away(&connection, &certified).await),
            Err(error) => Err(error.into()),
        };
        outcome.map_err(|refusal| refusal.concerning(&connection))
    }

    /// Hears the hello of a node that dialled, answers it, and takes the connection into use.
    async fn greet(self: &Arc<Self>, connection: &Connection, certified: &Certified) -> Result<(), Refusal> {
        if certified.id == self.me.id {
            return Err(Refusal::new(PeerRefusal::Itself, "the address is this node's own"));
        }
        let streams = connection.accept_bi().await?;
        let mut exchange = Exchange::accepted(certified.id, streams, ASK_MAX);
        let hello = hello::asked(&mut exchange).await?;
        let member = hello::judge(&hello, certified, connection.remote_address())?;
        exchange.send_encoded(self.hello_frame.clone()).await?;
        exchange.finish();
        endpoint::trust(connection);
        self.stand(connection.clone(), member, None).await?;
        Ok(())
    }

    /// Hears which major version the other speaks, to name it in the refusal.
    async fn turn_away(&self, connection: &Connection, certified: &Certified) -> Refusal {
        let hello = async {
            let streams = connection.accept_bi().await?;
            hello::asked(&mut Exchange::accepted(certified.id, streams, ASK_MAX)).await
        };
        hello.await.map_or_else(|refusal| refusal, |hello| hello::other_major(&hello))
    }

    /// Serves a connection until it is gone.
    pub(super) async fn attend(self: &Arc<Self>, link: Link) {
        // Bounded by the streams that a peer may have open.
        let mut questions = FuturesUnordered::new();
        loop {
            // All three may be dropped at any time without a loss.
            tokio::select! {
                biased;
                stream = link.connection().accept_bi() => match stream {
                    Ok(streams) => questions.push(self.question(&link, streams)),
                    Err(_) => break,
                },
                Some(asked) = questions.next() => self.pass_on(asked),
                datagram = link.connection().read_datagram() => match datagram {
                    Ok(bytes) => self.pass_on(Some(LinkEvent::Datagram { link: link.clone(), bytes })),
                    Err(_) => break,
                },
            }
        }
        self.fall(&link).await;
        let reason = link.connection().close_reason();
        if let Some(ConnectionError::ApplicationClosed(closed)) = reason
            && closed.error_code == VarInt::from_u32(close::LEAVING)
        {
            self.pass_on(Some(LinkEvent::GoodBye(link.member().id)));
        }
    }

    /// Reads what a peer asks on a stream that it opened. `None` if the stream was refused, or given up by the peer.
    async fn question(&self, link: &Link, streams: (SendStream, RecvStream)) -> Option<LinkEvent> {
        let mut exchange = Exchange::accepted(link.member().id, streams, ASK_MAX);
        let first = tokio::time::timeout(ASK_LIMIT, exchange.frame()).await;
        let ask = match first {
            Ok(Ok(Some(Frame::Message(bytes)))) => wire::Ask::decode(bytes).ok(),
            Ok(Ok(_) | Err(AskError::Protocol)) => None,
            Ok(Err(_)) => return None,
            Err(_elapsed) => return self.refuse(exchange, StreamRefusal::Timeout),
        };
        match ask.map(|ask| ask.kind) {
            Some(None) => self.refuse(exchange, StreamRefusal::Unsupported),
            Some(Some(wire::ask::Kind::Hello(_))) | None => self.refuse(exchange, StreamRefusal::Protocol),
            Some(Some(ask)) => {
                exchange.prefer(priority(&ask));
                Some(LinkEvent::Asked { link: link.clone(), ask, exchange })
            }
        }
    }

    fn refuse(&self, exchange: Exchange, reason: StreamRefusal) -> Option<LinkEvent> {
        self.metrics.node.links.streams_refused.of(reason).inc();
        exchange.reset(match reason {
            StreamRefusal::Timeout | StreamRefusal::Protocol => code::PROTOCOL,
            StreamRefusal::Unsupported => code::UNSUPPORTED,
            StreamRefusal::Busy => code::BUSY,
        });
        None
    }

    /// Hands an event to the mesh, unless too many wait there already.
    fn pass_on(&self, event: Option<LinkEvent>) {
        let Some(event) = event else { return };
        let Err(TrySendError::Full(event) | TrySendError::Closed(event)) = self.events.try_send(event) else {
            return;
        };
        match event {
            LinkEvent::Asked { exchange, .. } => {
                self.refuse(exchange, StreamRefusal::Busy);
            }
            LinkEvent::Datagram { .. } => self.metrics.node.links.datagrams_dropped.inc(),
            LinkEvent::Up(_) | LinkEvent::Down(_) | LinkEvent::GoodBye(_) => {}
        }
    }

    async fn enrol(
        &self,
        desk: &enrol::Desk,
        connection: &Connection,
        shown: Option<Certified>,
    ) -> Result<(), Refusal> {
        let answered = desk.serve(&self.identity, connection, shown).await;
        let outcome = if answered.is_ok() { Outcome::Success } else { Outcome::Failure };
        self.metrics.node.links.issued.of(outcome).inc();
        answered
    }
}
