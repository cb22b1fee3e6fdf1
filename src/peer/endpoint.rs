//! The QUIC endpoint: one socket that dials and accepts, its limits, and who owns its tasks.

use crate::net::Datagrams;
use crate::task::Spawner;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{
    AsyncTimer, AsyncUdpSocket, ClientConfig, Endpoint, EndpointConfig, MtuDiscoveryConfig, Runtime,
    ServerConfig, TransportConfig, VarInt,
};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Streams that a peer may have open at once.
pub(super) const STREAMS_MAX: u32 = 256;
/// Bytes that a peer may send on one stream before they are read: 1 GB/s at a round trip of 4 ms.
const STREAM_WINDOW: u32 = 4 << 20;
/// The same over all streams of a connection.
const CONNECTION_WINDOW: u32 = 32 << 20;
/// Bytes on their way to one peer.
const SEND_WINDOW: u64 = 16 << 20;
/// The same as [`CONNECTION_WINDOW`], for a peer whose certificate and hello have not been seen yet.
const STRANGER_WINDOW: u32 = 256 << 10;
/// Streams of a peer whose hello has not been seen yet.
const STRANGER_STREAMS_MAX: u32 = 1;
/// A peer that sends nothing for so long is gone. Three signs of life must be lost for that.
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// Signs of life on a quiet connection.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// Round trip that is assumed until one was measured. Nodes of a fleet are near each other; and with the usual 333 ms a
/// lost first packet would be sent again only after the time to connect is over. Too low a guess costs a
/// packet that is sent twice.
const FIRST_ROUND_TRIP: Duration = Duration::from_millis(20);
/// Datagrams that wait to be read or sent, in bytes.
const DATAGRAM_WINDOW: usize = 256 << 10;
/// Packet size that every network carries, from which larger ones are tried.
const PACKET_FIRST: u16 = 1200;
/// Largest packet that is tried. QUIC's library hands ten packets to the kernel at once, which takes at most
/// 64 KiB; so this is the most that loopback and jumbo frames can give.
const PACKET_MAX: u16 = 6500;
/// Connection attempts that wait to be looked at; further ones are refused.
const INCOMING_MAX: usize = 256;
/// Bytes of first packets kept for one such attempt.
const INCOMING_BUFFER: u64 = 64 << 10;
/// The same for all of them.
const INCOMING_BUFFER_ALL: u64 = 4 << 20;

/// Makes the endpoint. The server side can be exchanged later.
///
/// # Errors
/// The socket's.
pub(super) fn open(
    datagrams: Datagrams,
    server: ServerConfig,
    seed: Option<[u8; 32]>,
    spawner: Spawner,
) -> io::Result<Endpoint> {
    let mut config = EndpointConfig::default();
    config.rng_seed(seed);
    config.max_udp_payload_size(PACKET_MAX).map_err(io::Error::other)?;
    let runtime = Arc::new(Owned { inner: datagrams.runtime, spawner });
    Endpoint::new_with_abstract_socket(config, Some(server), datagrams.socket, runtime)
}

/// How to dial.
///
/// # Errors
/// If the cryptographic library has no cipher for first packets.
pub(super) fn client(tls: Arc<rustls::ClientConfig>) -> Result<ClientConfig, NoInitialCipherSuite> {
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport(CONNECTION_WINDOW, STREAMS_MAX)));
    Ok(config)
}

/// How to accept: whoever comes is a stranger, until [`trust`] is called.
///
/// # Errors
/// If the cryptographic library has no cipher for first packets.
pub(super) fn server(tls: Arc<rustls::ServerConfig>) -> Result<ServerConfig, NoInitialCipherSuite> {
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport(STRANGER_WINDOW, STRANGER_STREAMS_MAX)));
    config.max_incoming(INCOMING_MAX);
    config.incoming_buffer_size(INCOMING_BUFFER);
    config.incoming_buffer_size_total(INCOMING_BUFFER_ALL);
    Ok(config)
}

/// Gives an accepted connection the limits of a peer.
pub(super) fn trust(connection: &quinn::Connection) {
    connection.set_receive_window(CONNECTION_WINDOW.into());
    connection.set_max_concurrent_bi_streams(STREAMS_MAX.into());
}

fn transport(window: u32, streams: u32) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(PACKET_MAX);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(streams.into())
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(window.into())
        .send_window(SEND_WINDOW)
        .max_idle_timeout(Some(IDLE_LIMIT.try_into().expect("seconds fit")))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(FIRST_ROUND_TRIP)
        .initial_mtu(PACKET_FIRST)
        .mtu_discovery_config(Some(discovery))
        .datagram_receive_buffer_size(Some(DATAGRAM_WINDOW))
        .datagram_send_buffer_size(DATAGRAM_WINDOW);
    config
}

/// The network's runtime, whose tasks belong to the node. They end by themselves when the endpoint is closed, and must not
/// end before: streams wait on them.
#[derive(Debug)]
struct Owned {
    inner: Arc<dyn Runtime>,
    spawner: Spawner,
}

impl Runtime for Owned {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        self.inner.new_timer(at)
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.spawner.spawn_graceful(task);
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.inner.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }
}
