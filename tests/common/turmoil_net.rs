//! A simulated network for whole nodes: streams and datagrams of turmoil behind the node's own seam. Time and timers are
//! tokio's, which turmoil drives, so quinn's runtime for tokio fits as it is.

use futures_util::FutureExt;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use shoal::net::{Accept, Datagrams, Listener, NetFuture, Stream, Transport};
use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use turmoil::net::{TcpListener, TcpStream, UdpSocket};

/// The network of the simulated host that calls. Hosts bind `0.0.0.0` or loopback only.
#[derive(Debug, Default)]
pub(crate) struct Turmoil;

impl Transport for Turmoil {
    fn connect(&self, to: SocketAddr) -> NetFuture<'_, Stream> {
        Box::pin(async move { Ok(Stream::Other(Box::new(TcpStream::connect(to).await?))) })
    }

    fn listen(&self, at: SocketAddr) -> io::Result<Listener> {
        let listener = at_once(TcpListener::bind(at))?;
        Ok(Listener::Other(Box::new(Listening(listener))))
    }

    /// A simulated node has one worker.
    fn listen_beside(&self, _at: SocketAddr) -> io::Result<Listener> {
        Err(io::ErrorKind::AddrInUse.into())
    }

    fn datagrams(&self, at: SocketAddr) -> io::Result<Datagrams> {
        let socket = Arc::new(at_once(UdpSocket::bind(at))?);
        let socket = Arc::new(Socket { socket, readable: Mutex::default() });
        Ok(Datagrams { socket, runtime: Arc::new(quinn::TokioRuntime) })
    }
}

/// Turmoil's binds are asynchronous in name only.
fn at_once<T>(bind: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    bind.now_or_never().expect("turmoil binds without waiting")
}

struct Listening(TcpListener);

impl Accept for Listening {
    fn accept(&mut self) -> NetFuture<'_, (Stream, SocketAddr)> {
        Box::pin(async move {
            let (stream, from) = self.0.accept().await?;
            Ok((Stream::Other(Box::new(stream)), from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

type Readable = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// A datagram socket. While `readable` waits, it alone may read.
struct Socket {
    socket: Arc<UdpSocket>,
    readable: Mutex<Option<Readable>>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        // To a host that is not there a datagram is lost, as on a real network.
        let _ = self.socket.try_send_to(transmit.contents, transmit.destination);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut waiting = self.readable.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(readable) = waiting.as_mut() {
                std::task::ready!(readable.as_mut().poll(cx))?;
                *waiting = None;
            }
            match self.socket.try_recv_from(&mut bufs[0]) {
                Ok((len, addr)) => {
                    meta[0] = RecvMeta { addr, len, stride: len, ecn: None, dst_ip: None };
                    return Poll::Ready(Ok(1));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let socket = self.socket.clone();
                    *waiting = Some(Box::pin(async move { socket.readable().await }));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
