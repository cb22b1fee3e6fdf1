//! The only place that names socket types, so that a whole node can run on a simulated network.

use socket2::{Domain, Protocol, Socket, Type};
use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Connections that may wait to be accepted on one listener.
const LISTEN_BACKLOG: i32 = 4096;
/// Bytes of the receive and of the send buffer that a datagram socket asks for.
const DATAGRAM_BUFFER: usize = 4 << 20;
/// Buffers below this are worth a warning.
const DATAGRAM_BUFFER_LOW: usize = 1 << 20;

/// A future of this module.
pub type NetFuture<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// Where streams and datagrams come from: the machine's TCP and UDP, or a simulation's.
pub trait Transport: Send + Sync {
    /// Opens a stream to `to`. Unbounded in time: callers bring a deadline.
    fn connect(&self, to: SocketAddr) -> NetFuture<'_, Stream>;
    /// Listens on `at`; port 0 takes a free port.
    ///
    /// # Errors
    /// The operating system's, such as an address in use.
    fn listen(&self, at: SocketAddr) -> io::Result<Listener>;
    /// Listens once more where this process listens already, so that connections are spread over both.
    ///
    /// # Errors
    /// The operating system's.
    fn listen_beside(&self, at: SocketAddr) -> io::Result<Listener>;
    /// A datagram socket on `at`, as QUIC wants it; port 0 takes a free port.
    ///
    /// # Errors
    /// The operating system's, such as an address in use.
    fn datagrams(&self, at: SocketAddr) -> io::Result<Datagrams>;
}

/// A datagram socket, and the time and timers that belong to it: a simulated network has its own.
pub struct Datagrams {
    /// Sends and receives.
    pub socket: Arc<dyn quinn::AsyncUdpSocket>,
    /// What the time is, and timers.
    pub runtime: Arc<dyn quinn::Runtime>,
}

/// A shared transport.
pub type Net = Arc<dyn Transport>;

/// The machine's own TCP and UDP.
#[derive(Debug, Default)]
pub struct Tcp;

impl Transport for Tcp {
    fn connect(&self, to: SocketAddr) -> NetFuture<'_, Stream> {
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        })
    }

    /// Must be called within a runtime.
    fn listen(&self, at: SocketAddr) -> io::Result<Listener> {
        // Where another process shares its port too, the kernel would give each a part of the
        // connections, and both would seem to work. A socket that does not share finds it out.
        bound(at, false)?;
        self.listen_beside(at)
    }

    /// Sockets share their port (`SO_REUSEPORT`), so that each worker has a listener of its own
    /// and the kernel spreads connections over them. Must be called within a runtime.
    fn listen_beside(&self, at: SocketAddr) -> io::Result<Listener> {
        let socket = bound(at, true)?;
        socket.set_nonblocking(true)?;
        socket.listen(LISTEN_BACKLOG)?;
        Ok(Listener::Tcp(tokio::net::TcpListener::from_std(socket.into())?))
    }

    /// Must be called within a runtime. A socket on an IPv6 address takes IPv4 too: a node has one address for all
    /// peers, whatever family theirs is.
    fn datagrams(&self, at: SocketAddr) -> io::Result<Datagrams> {
        let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if at.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        enlarge_buffers(&socket);
        socket.bind(&at.into())?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let socket = quinn::Runtime::wrap_udp_socket(&*runtime, socket.into())?;
        Ok(Datagrams { socket, runtime })
    }
}

/// Asks for large buffers: at 1 GB/s a wait of 4 ms for the processor fills 4 MiB, and what overflows is sent again.
fn enlarge_buffers(socket: &Socket) {
    // A system that refuses still has its default, which is judged below.
    let _ = socket.set_recv_buffer_size(DATAGRAM_BUFFER);
    let _ = socket.set_send_buffer_size(DATAGRAM_BUFFER);
    // Linux answers with twice what can be used: half is for its own book-keeping.
    let received = socket.recv_buffer_size().unwrap_or(0) / 2;
    let sent = socket.send_buffer_size().unwrap_or(0) / 2;
    if received.min(sent) < DATAGRAM_BUFFER_LOW {
        tracing::warn!(
            receive_bytes = received,
            send_bytes = sent,
            wanted_bytes = DATAGRAM_BUFFER,
            "the system gives UDP small buffers, so transfers between peers will lose packets and be slow: raise \
             net.core.rmem_max and net.core.wmem_max"
        );
    }
}

fn bound(at: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&at.into())?;
    Ok(socket)
}

/// A listening socket.
pub enum Listener {
    /// TCP.
    Tcp(tokio::net::TcpListener),
    /// A simulation's.
    Other(Box<dyn Accept>),
}

/// What a simulated listener does.
pub trait Accept: Send {
    /// Waits for the next stream; safe to drop.
    fn accept(&mut self) -> NetFuture<'_, (Stream, SocketAddr)>;
    /// The address that was bound.
    ///
    /// # Errors
    /// The simulation's.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

impl Listener {
    /// Waits for the next stream; safe to drop.
    ///
    /// # Errors
    /// The operating system's; those about one connection (reset before accepted) or about
    /// exhausted descriptors pass, so callers pause and go on.
    pub async fn accept(&mut self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), from))
            }
            Self::Other(listener) => listener.accept().await,
        }
    }

    /// Stops listening. What is returned was connected already and waited to be accepted: at most as many as may wait.
    pub fn close(self) -> Vec<(Stream, SocketAddr)> {
        let Self::Tcp(listener) = self else { return Vec::new() };
        let Ok(listener) = listener.into_std() else { return Vec::new() };
        // Asked of the system itself: the runtime may not have been told of the latest.
        let waiting = (0..LISTEN_BACKLOG).map_while(|_| match listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            accepted => Some(accepted.ok()),
        });
        let streams = waiting.flatten().filter_map(|(stream, from)| {
            stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).ok()?;
            Some((Stream::Tcp(tokio::net::TcpStream::from_std(stream).ok()?), from))
        });
        streams.collect()
    }

    /// The bound address, with the port that was taken for port 0.
    ///
    /// # Errors
    /// The operating system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Other(listener) => listener.local_addr(),
        }
    }
}

/// Short messages to one receiver on this machine, over a Unix datagram socket.
pub struct Notices {
    socket: UnixDatagram,
    to: UnixAddr,
}

impl Notices {
    /// Messages to the socket at `to`: an absolute path, or `@` and the name of an abstract socket.
    ///
    /// # Errors
    /// Another kind of address, or the operating system's.
    pub fn to(to: &OsStr) -> io::Result<Self> {
        let to = match to.as_bytes() {
            [b'@', name @ ..] if !name.is_empty() => UnixAddr::from_abstract_name(name)?,
            [b'/', ..] => UnixAddr::from_pathname(to)?,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "neither a path nor an abstract socket",
                ));
            }
        };
        let socket = UnixDatagram::unbound()?;
        // A receiver that does not read may not hold this process up.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, to })
    }

    /// Sends one message, now or not at all.
    ///
    /// # Errors
    /// The operating system's, such as a receiver that is gone or whose queue is full.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        self.socket.send_to_addr(message, &self.to).map(drop)
    }
}

/// A byte stream that is not TCP.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connected byte stream.
pub enum Stream {
    /// TCP.
    Tcp(tokio::net::TcpStream),
    /// A simulation's, or a layer over another stream.
    Other(Box<dyn Duplex>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Other(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Other(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Other(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Other(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Other(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Other(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_listened_on_is_taken_and_shared_only_knowingly() {
        let first = Tcp.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let at = first.local_addr().unwrap();
        let second = Tcp.listen(at).err().map(|error| error.kind());
        assert_eq!(second, Some(io::ErrorKind::AddrInUse));
        assert_eq!(Tcp.listen_beside(at).unwrap().local_addr().unwrap(), at);
        drop(first);
        assert!(Tcp.listen(at).is_ok(), "free again at once");
    }

    #[tokio::test]
    async fn a_datagram_socket_shares_its_port_with_nobody() {
        let first = Tcp.datagrams("127.0.0.1:0".parse().unwrap()).unwrap();
        let at = first.socket.local_addr().unwrap();
        assert_ne!(at.port(), 0);
        assert_eq!(Tcp.datagrams(at).err().map(|error| error.kind()), Some(io::ErrorKind::AddrInUse));
    }
}
