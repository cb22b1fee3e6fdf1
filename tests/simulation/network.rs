//! A simulated network that loses datagrams. Streams lose nothing, since those of the simulation repeat nothing.

use super::turmoil_net::Turmoil;
use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use shoal::net::{Datagrams, Listener, NetFuture, Stream, Transport};
use shoal::workload::random::Random;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The network of one node.
pub(crate) struct Network {
    /// Part of the datagrams that it sends to nowhere.
    pub(crate) loss: f64,
    pub(crate) seed: u64,
}

impl Transport for Network {
    fn connect(&self, to: SocketAddr) -> NetFuture<'_, Stream> {
        Turmoil.connect(to)
    }

    fn listen(&self, at: SocketAddr) -> io::Result<Listener> {
        Turmoil.listen(at)
    }

    fn listen_beside(&self, at: SocketAddr) -> io::Result<Listener> {
        Turmoil.listen_beside(at)
    }

    fn datagrams(&self, at: SocketAddr) -> io::Result<Datagrams> {
        let Datagrams { socket, runtime } = Turmoil.datagrams(at)?;
        let random = Mutex::new(Random::new(self.seed));
        Ok(Datagrams { socket: Arc::new(Socket { socket, loss: self.loss, random }), runtime })
    }
}

#[derive(Debug)]
struct Socket {
    socket: Arc<dyn AsyncUdpSocket>,
    loss: f64,
    random: Mutex<Random>,
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let is_lost = self.random.lock().unit() < self.loss;
        if is_lost { Ok(()) } else { self.socket.try_send(transmit) }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}
