//! Who is alive: foca (SWIM with suspicion) without sockets or clocks.

use crate::proto::swarm::Member;
use bytes::Bytes;
use std::net::SocketAddr;
use std::time::Instant;

/// What the machine wants done.
pub(super) enum MemberAction {
    /// Send this packet (at most 1,100 bytes) to this node.
    Send {
        /// To whom; a seed whose identity is not known yet has only an address.
        to: SocketAddr,
        /// The packet.
        packet: Bytes,
    },
    /// This node is alive, or is so again in a new life, or has other roles.
    Up(Member),
    /// This node is dead or has left.
    Down(Member),
}

/// The membership machine.
pub(super) struct Members(());

impl Members {
    /// A machine that knows only `me`.
    pub(super) fn new(_me: Member, _seed: u64, _now: Instant) -> Self {
        Self(())
    }

    /// Asks a seed to be let in.
    pub(super) fn join(&mut self, _seed: SocketAddr, _now: Instant) {
        let () = self.0;
        todo!()
    }

    /// A packet came.
    pub(super) fn handle_packet(&mut self, _packet: &[u8], _now: Instant) {
        todo!()
    }

    /// The [`deadline`](Self::deadline) has passed.
    pub(super) fn handle_deadline(&mut self, _now: Instant) {
        todo!()
    }

    /// When to call [`handle_deadline`](Self::handle_deadline).
    pub(super) fn deadline(&self) -> Option<Instant> {
        todo!()
    }

    /// Says good-bye to all.
    pub(super) fn leave(&mut self, _now: Instant) {
        todo!()
    }

    /// What is to be done; ask until `None`.
    pub(super) fn poll(&mut self) -> Option<MemberAction> {
        todo!()
    }

    /// All live members but this node.
    pub(super) fn live(&self) -> Vec<Member> {
        todo!()
    }
}
