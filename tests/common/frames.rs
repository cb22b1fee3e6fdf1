//! HTTP/2 frame by frame, with no opinion on what may be sent, or how much of it.

use super::{in_time, until};
use parking_lot::Mutex;
use shoal::task::Spawner;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const COMPRESSION_ERROR: u32 = 9;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One connection. All that comes is read at once and remembered.
pub(crate) struct Frames {
    writer: OwnedWriteHalf,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    frames: Vec<Frame>,
    is_closed: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    fn code(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// A frame's bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields of a request, each a literal that nobody remembers.
pub(crate) fn fields(method: &str, target: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    let pseudo = [(":method", method), (":scheme", "http"), (":path", target), (":authority", "site.test")];
    for (name, value) in pseudo.iter().chain(more) {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "a short text");
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A whole GET.
pub(crate) fn get(stream: u32, target: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &fields("GET", target, &[]))
}

/// The client's reset of a stream.
pub(crate) fn cancel(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

impl Frames {
    /// A connection with default settings.
    pub(crate) async fn connect(at: SocketAddr) -> Self {
        Self::with(at, &[]).await
    }

    /// A connection with these settings.
    pub(crate) async fn with(at: SocketAddr, settings: &[u8]) -> Self {
        let mut frames = Self::silent(at).await;
        frames.send(PREFACE).await;
        frames.send(frame(SETTINGS, 0, 0, settings)).await;
        frames
    }

    /// A connection on which nothing was sent.
    pub(crate) async fn silent(at: SocketAddr) -> Self {
        let stream = TcpStream::connect(at).await.expect("the node listens");
        stream.set_nodelay(true).unwrap();
        let (reader, writer) = stream.into_split();
        let seen = Arc::new(Mutex::new(Seen::default()));
        Spawner::current().spawn(read(reader, Arc::clone(&seen)));
        Self { writer, seen }
    }

    /// Sends, whether or not the node still reads.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = in_time("the node's reading", self.writer.write_all(bytes.as_ref())).await;
    }

    /// Waits until something is to be found in what has come.
    pub(crate) async fn find<T>(&self, what: &str, find: impl Fn(&[Frame]) -> Option<T>) -> T {
        let found = || find(&self.seen.lock().frames);
        until(what, || found().is_some() || self.is_closed()).await;
        found().unwrap_or_else(|| panic!("closed without {what}: {:?}", self.kinds()))
    }

    /// The code of the GOAWAY that closes the connection, and the last stream that it served.
    pub(crate) async fn goaway(&self) -> (u32, u32) {
        let code = self.find("a GOAWAY", |frames| {
            let last = frames.iter().rev().find(|frame| frame.kind == GOAWAY)?;
            Some((last.code(4), last.code(0)))
        });
        let code = code.await;
        self.closed().await;
        code
    }

    /// The code with which a stream is reset.
    pub(crate) async fn reset(&self, stream: u32) -> u32 {
        let is_it = |frame: &&Frame| frame.kind == RST_STREAM && frame.stream == stream;
        let reset = self.find("a reset", |frames| frames.iter().find(is_it).map(|frame| frame.code(0)));
        reset.await
    }

    /// The frames of a stream up to its end.
    pub(crate) async fn whole(&self, stream: u32) -> Vec<Frame> {
        let whole = self.find("the end of a stream", |frames| {
            let of_it = frames.iter().filter(|frame| frame.stream == stream && frame.kind <= HEADERS);
            let of_it: Vec<_> = of_it.cloned().collect();
            of_it.last().is_some_and(|last| last.flags & END_STREAM != 0).then_some(of_it)
        });
        whole.await
    }

    /// Waits until a stream is answered with 200.
    pub(crate) async fn assert_is_ok(&self, stream: u32) {
        let whole = self.whole(stream).await;
        assert_eq!(whole[0].payload[0], 0x88, "status 200, which is in the static table: {whole:?}");
    }

    /// Waits until the connection goes on behind all that was sent.
    pub(crate) async fn assert_goes_on(&mut self) {
        self.send(frame(PING, 0, 0, b"still on")).await;
        let pong = self
            .find("a pong", |frames| frames.iter().any(|frame| frame.payload == b"still on").then_some(()));
        pong.await;
    }

    /// Waits for the end of the connection.
    pub(crate) async fn closed(&self) {
        until("the end of the connection", || self.is_closed()).await;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.seen.lock().is_closed
    }

    fn kinds(&self) -> Vec<(u8, u32)> {
        self.seen.lock().frames.iter().map(|frame| (frame.kind, frame.stream)).collect()
    }
}

async fn read(mut reader: OwnedReadHalf, seen: Arc<Mutex<Seen>>) {
    while let Some(frame) = next(&mut reader).await {
        seen.lock().frames.push(frame);
    }
    seen.lock().is_closed = true;
}

async fn next(reader: &mut OwnedReadHalf) -> Option<Frame> {
    let mut head = [0; 9];
    reader.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    reader.read_exact(&mut payload).await.ok()?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Some(Frame { kind: head[3], flags: head[4], stream, payload })
}
