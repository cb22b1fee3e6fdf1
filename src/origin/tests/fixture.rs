//! A node's origin room, and servers on loopback whose every byte the test writes.

use crate::body::{Body, BodyError};
use crate::clock::Clock;
use crate::config::model::{Balance, OriginGroup, OriginServer};
use crate::net::Tcp;
use crate::origin::{FetchError, Fetched, FixedNames, OriginShared, OriginStats, Origins, Resolver};
use crate::proto::time::Wall;
use crate::task::Spawner;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use std::borrow::Borrow;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The room as one worker has it.
pub(super) struct Rig {
    pub origins: Origins,
    pub shared: Arc<OriginShared>,
    pub spawner: Spawner,
    pub names: Arc<FixedNames>,
}

impl Rig {
    pub(super) fn new() -> Self {
        let (spawner, names) = (Spawner::current(), Arc::new(FixedNames::default()));
        let clock = Clock::simulated(Wall::from_secs(1_800_000_000));
        let resolver = Resolver::Fixed(names.clone());
        let shared = OriginShared::new(Arc::new(Tcp), clock, spawner.clone(), resolver);
        let origins = Origins::new(shared.clone(), spawner.clone());
        Self { origins, shared, spawner, names }
    }

    pub(super) fn stats(&self) -> &OriginStats {
        self.shared.stats()
    }

    pub(super) async fn get(
        &self,
        group: impl Borrow<Arc<OriginGroup>>,
        path: &str,
    ) -> Result<Fetched, FetchError> {
        self.origins.fetch(group.borrow(), request("GET", path, Body::Empty), None).await
    }

    /// A whole exchange: the body must come in full.
    pub(super) async fn read(&self, group: impl Borrow<Arc<OriginGroup>>, path: &str) -> String {
        text(self.get(group, path).await.unwrap()).await.unwrap()
    }
}

pub(super) fn request(method: &str, path: &str, body: Body) -> Request<Body> {
    Request::builder().method(method).uri(path).header("host", "site.test").body(body).unwrap()
}

pub(super) async fn text(fetched: Fetched) -> Result<String, BodyError> {
    let bytes = fetched.response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

/// A request body whose frames the test sends.
pub(super) fn streaming() -> (tokio::sync::mpsc::Sender<Result<Bytes, BodyError>>, Body) {
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    (sender, Body::stream(Frames(receiver)))
}

struct Frames(tokio::sync::mpsc::Receiver<Result<Bytes, BodyError>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(|frame| frame.map(http_body::Frame::data)))
    }
}

/// Defaults that suit most tests: no retries, one failure does no harm.
pub(super) fn group(servers: &[OriginServer]) -> OriginGroup {
    OriginGroup {
        servers: servers.to_vec(),
        balance: Balance::RoundRobin,
        host: None,
        tls_verify: true,
        tls_ca: None,
        http2: false,
        connect_timeout: Duration::from_secs(3),
        first_byte_timeout: Duration::from_secs(30),
        between_bytes_timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(60),
        idle_max: 64,
        connections_max: 100,
        retries: 0,
        fail_max: 3,
        fail_timeout: Duration::from_secs(10),
    }
}

/// A server of which the test plays every part.
pub(super) struct Server(TcpListener);

impl Server {
    pub(super) async fn new() -> Self {
        Self(TcpListener::bind(("127.0.0.1", 0)).await.unwrap())
    }

    /// A server that accepts no connections.
    pub(super) async fn down() -> OriginServer {
        Self::new().await.server()
    }

    pub(super) fn server(&self) -> OriginServer {
        OriginServer { tls: false, host: "127.0.0.1".into(), port: self.0.local_addr().unwrap().port() }
    }

    pub(super) fn group(&self) -> Arc<OriginGroup> {
        Arc::new(group(&[self.server()]))
    }

    pub(super) async fn accept(&self) -> Peer {
        Peer { stream: self.0.accept().await.unwrap().0, buffer: Vec::new() }
    }

    pub(super) async fn accept_stream(&self) -> TcpStream {
        self.0.accept().await.unwrap().0
    }

    /// Accepts a connection, reads one request head and answers it.
    pub(super) async fn answer(&self, response: impl AsRef<str>) -> Peer {
        let mut peer = self.accept().await;
        peer.head().await;
        peer.send(response.as_ref()).await;
        peer
    }
}

/// The server's side of one connection.
pub(super) struct Peer {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Peer {
    /// Reads a request head, blank line included.
    pub(super) async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// Reads up to and including `mark`.
    pub(super) async fn until(&mut self, mark: &str) -> String {
        loop {
            let found = self.buffer.windows(mark.len()).position(|window| window == mark.as_bytes());
            if let Some(start) = found {
                let rest = self.buffer.split_off(start + mark.len());
                let read = std::mem::replace(&mut self.buffer, rest);
                return String::from_utf8(read).unwrap();
            }
            let count = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert_ne!(count, 0, "the connection ended before {mark:?}: {:?}", self.buffer);
        }
    }

    pub(super) async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Answers the next request on this connection.
    pub(super) async fn answer(&mut self, response: impl AsRef<str>) -> String {
        let head = self.head().await;
        self.send(response.as_ref()).await;
        head
    }

    /// Waits until the other side closed or reset the connection.
    pub(super) async fn closed(mut self) {
        let mut rest = [0; 4096];
        while !matches!(self.stream.read(&mut rest).await, Ok(0) | Err(_)) {}
    }
}

/// A response with a body of known length.
pub(super) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
