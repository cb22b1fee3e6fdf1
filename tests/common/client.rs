//! A client that writes the bytes that it is given and shows those that come back.

use super::in_time;
use super::wire::{Framed, Head, Wire};
use shoal::net::Duplex;
use std::net::SocketAddr;
use tokio::net::{TcpSocket, TcpStream};

/// The host that stories ask for.
pub(crate) const HOST: &str = "site.test";

/// One connection.
pub(crate) struct Client(Wire);

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// Whether the body came to the end that its framing promised.
    pub(crate) is_whole: bool,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Reply {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    /// What the node says became of the request.
    #[track_caller]
    pub(crate) fn cache_status(&self) -> &str {
        self.head.fields_named("cache-status").last().copied().expect("every answer has a Cache-Status")
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// A 200 from the store, without a request to the origin.
    #[track_caller]
    pub(crate) fn assert_hit(&self) {
        let status = self.cache_status();
        assert!(status.starts_with("edge; hit; ttl="), "no hit: {status}");
        assert!(self.is_whole, "cut");
    }

    /// A whole response with this status and body.
    #[track_caller]
    pub(crate) fn assert_is(&self, status: u16, body: impl AsRef<[u8]>) {
        assert_eq!(self.status, status, "{} {:?}", self.text(), self.head);
        assert!(self.is_whole, "cut after {} bytes", self.body.len());
        super::assert_same(&self.body, body.as_ref());
    }
}

/// A request head for [`HOST`].
pub(crate) fn request(method: &str, target: &str, fields: &[&str]) -> Vec<u8> {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n").into_bytes()
}

impl Client {
    pub(crate) async fn connect(at: SocketAddr) -> Self {
        let stream = in_time("a connection", TcpStream::connect(at)).await.expect("the node listens");
        stream.set_nodelay(true).expect("a socket option");
        Self::over(stream)
    }

    /// From an address of this machine, such as any of 127/8.
    pub(crate) async fn connect_from(from: &str, at: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
        let stream = in_time("a connection", socket.connect(at)).await.expect("the node listens");
        stream.set_nodelay(true).expect("a socket option");
        Self::over(stream)
    }

    pub(crate) fn over(stream: impl Duplex + 'static) -> Self {
        Self(Wire::new(stream))
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        in_time("the node's reading", self.0.write(bytes.as_ref())).await.expect("the node reads");
    }

    /// Sends, whether or not the node still reads.
    pub(crate) async fn send_anyway(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = in_time("the node's reading", self.0.write(bytes.as_ref())).await;
    }

    pub(crate) async fn get(&mut self, target: &str) -> Reply {
        self.ask("GET", target, &[]).await
    }

    pub(crate) async fn ask(&mut self, method: &str, target: &str, fields: &[&str]) -> Reply {
        self.send(request(method, target, fields)).await;
        self.reply(method).await
    }

    /// The response to a request with `method`.
    pub(crate) async fn reply(&mut self, method: &str) -> Reply {
        let head = self.head().await.expect("a response");
        let status = status(&head);
        let bodiless = method == "HEAD" || matches!(status, 100..=199 | 204 | 304);
        let framed =
            if bodiless { Framed { is_whole: true, ..Framed::default() } } else { self.body(&head).await };
        Reply { status, head, body: framed.bytes, is_whole: framed.is_whole, trailers: framed.trailers }
    }

    /// A response head; `None` if the connection was closed instead.
    pub(crate) async fn head(&mut self) -> Option<Head> {
        in_time("a response head", self.0.head()).await
    }

    /// The body behind a head.
    pub(crate) async fn body(&mut self, head: &Head) -> Framed {
        in_time("a response body", self.0.body(head, true)).await
    }

    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        in_time("a chunk", self.0.chunk()).await
    }

    pub(crate) async fn read_exactly(&mut self, length: usize) -> Vec<u8> {
        in_time("bytes", self.0.read_exactly(length)).await
    }

    /// That many bytes, or fewer if the connection is closed or reset before.
    pub(crate) async fn read_some(&mut self, length: usize) -> Vec<u8> {
        in_time("bytes", self.0.read_up_to(length)).await
    }

    /// Everything until the connection is closed.
    pub(crate) async fn read_to_end(&mut self) -> Vec<u8> {
        in_time("the end of the connection", self.0.read_to_end()).await
    }

    /// Reads a refusal for this reason, behind which the connection is closed.
    pub(crate) async fn refused(&mut self, status: u16, reason: &str) -> Reply {
        let reply = self.reply("GET").await;
        let told = (reply.status, reply.cache_status(), reply.field("connection"), reply.is_whole);
        assert_eq!(told, (status, &*format!("edge; detail={reason}"), Some("close"), true), "{reply:?}");
        let id = reply.field("x-request-id").expect("an id to look for in the log");
        assert!(reply.text().contains(id) && reply.text().contains(reason), "{}", reply.text());
        assert_eq!(reply.field("cache-control"), Some("no-store"));
        assert!(reply.field("date").is_some());
        let rest = self.read_to_end().await;
        assert!(rest.is_empty(), "more behind a refusal: {}", rest.escape_ascii());
        reply
    }

    pub(crate) async fn end_writing(&mut self) {
        self.0.end_writing().await;
    }
}

pub(crate) fn status(head: &Head) -> u16 {
    head.line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line")
}
