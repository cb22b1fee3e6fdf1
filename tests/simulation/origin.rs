//! The origin of a simulation: objects with versions, at the pace that a story sets. It remembers who asked for what.

use super::story::now;
use super::wire::{Head, Wire};
use bytes::Bytes;
use parking_lot::Mutex;
use shoal::task::Spawner;
use shoal::workload::random::{Random, hash};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use turmoil::net::{TcpListener, TcpStream};

pub(crate) const PORT: u16 = 80;

/// Bytes that are sent at once.
const PIECE: usize = 16 << 10;

/// What there is under one path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object {
    pub(crate) length: usize,
    /// The one that is sent; all from 1 on were at some time.
    pub(crate) version: u64,
    pub(crate) kind: Kind,
    /// Before the head is sent.
    pub(crate) pause: Duration,
    /// Time for each piece of the body.
    pub(crate) pace: Duration,
    /// How many of the next answers break off in the middle of their body.
    pub(crate) breaks: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Fresh for longer than any story.
    Lasting,
    /// Fresh for a second.
    Brief,
    /// For the one who asks: each answer differs and sets a cookie.
    Cookie,
    /// For the one who asks: each answer differs and says that it is private.
    Private,
    /// For the one who asks with credentials: each answer differs, and nothing else is said.
    Credentials,
}

impl Kind {
    pub(crate) fn is_personal(self) -> bool {
        !matches!(self, Self::Lasting | Self::Brief)
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    /// The node.
    pub(crate) by: IpAddr,
    #[expect(dead_code, reason = "shown when a story fails")]
    pub(crate) at: Duration,
    /// Whether it asks for a part.
    pub(crate) is_range: bool,
}

/// Clones are the same origin.
#[derive(Clone, Default)]
pub(crate) struct Origin(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: HashMap<String, Object>,
    contents: HashMap<(String, u64), Bytes>,
    asked: Vec<Asked>,
    broken: Vec<(String, Duration)>,
    /// To whom each personal answer was given.
    given: Vec<IpAddr>,
}

impl Origin {
    pub(crate) fn put(&self, path: &str, object: Object) {
        self.0.lock().objects.insert(path.to_owned(), object);
    }

    /// An object that lasts, sent at once.
    pub(crate) fn has(&self, path: &str, length: usize) {
        self.put(path, Object::lasting(length));
    }

    pub(crate) fn change(&self, path: &str, change: impl FnOnce(&mut Object)) {
        change(self.0.lock().objects.get_mut(path).unwrap());
    }

    pub(crate) fn object(&self, path: &str) -> Object {
        self.0.lock().objects[path]
    }

    /// Requests for `path`, of parts too.
    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        self.0.lock().asked.iter().filter(|asked| asked.path == path).cloned().collect()
    }

    pub(crate) fn count(&self, path: &str) -> usize {
        self.asked(path).len()
    }

    /// How many answers for `path` broke off.
    pub(crate) fn breaks(&self, path: &str) -> usize {
        self.0.lock().broken.iter().filter(|(broken, _)| broken == path).count()
    }

    /// Whether one did since then.
    pub(crate) fn broke_off(&self, path: &str, since: Duration) -> bool {
        self.0.lock().broken.iter().any(|(broken, at)| broken == path && *at >= since)
    }

    /// Whether `body` is what `path` had or has, whole; if it is personal, whether it was given to `node`.
    pub(crate) fn knows(&self, path: &str, body: &[u8], node: IpAddr) -> bool {
        let mut state = self.0.lock();
        let object = state.objects[path];
        if object.kind.is_personal() {
            let serial = std::str::from_utf8(body).ok().and_then(|text| text.split(' ').nth(1)?.parse().ok());
            return serial.is_some_and(|serial: usize| state.given.get(serial) == Some(&node));
        }
        (1..=object.version).any(|version| state.content(path, version, object.length) == body)
    }

    /// Whether `body` is that version of `path`.
    pub(crate) fn is(&self, path: &str, version: u64, body: &[u8]) -> bool {
        let mut state = self.0.lock();
        let length = state.objects[path].length;
        state.content(path, version, length) == body
    }

    /// The software of the origin's host.
    pub(crate) async fn run(self) -> turmoil::Result {
        let spawner = Spawner::current();
        let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], PORT))).await?;
        loop {
            let (stream, from) = listener.accept().await?;
            spawner.spawn(self.clone().serve(stream, from.ip()));
        }
    }

    async fn serve(self, stream: TcpStream, from: IpAddr) {
        let mut wire = Wire::new(stream);
        while let Some(head) = wire.head().await {
            if self.answer(&mut wire, &head, from).await.is_err() {
                return;
            }
        }
    }

    /// Answers one request. An error ends the connection.
    async fn answer(&self, wire: &mut Wire, head: &Head, from: IpAddr) -> std::io::Result<()> {
        let path = head.line.split(' ').nth(1).unwrap().to_owned();
        let range = head.field("range").map(ToOwned::to_owned);
        let (object, body, breaks) = {
            let mut state = self.0.lock();
            let asked = Asked { path: path.clone(), by: from, at: now(), is_range: range.is_some() };
            state.asked.push(asked);
            let object = *state.objects.get(&path).unwrap_or_else(|| panic!("{path} was never linked"));
            let breaks = object.breaks > 0;
            if breaks {
                state.objects.get_mut(&path).unwrap().breaks -= 1;
            }
            (object, state.body(&path, &object, from), breaks)
        };
        tokio::time::sleep(object.pause).await;
        let tag = format!("\"{}\"", object.version);
        if !object.kind.is_personal() && head.field("if-none-match") == Some(tag.as_str()) {
            return wire.write(&object.head("304 Not Modified", "")).await;
        }
        let part = range
            .filter(|_| head.field("if-range").is_none_or(|shown| shown == tag) && !object.kind.is_personal())
            .map(|range| part(&range, body.len()));
        let (first, last, status) = match part {
            Some((first, last)) if first < body.len() => (first, last, "206 Partial Content"),
            Some(_) => {
                let all = format!("Content-Range: bytes */{}\r\nContent-Length: 0\r\n", body.len());
                return wire.write(&object.head("416 Range Not Satisfiable", &all)).await;
            }
            None => (0, body.len() - 1, "200 OK"),
        };
        let mut more = format!("Content-Length: {}\r\n", last + 1 - first);
        if status.starts_with("206") {
            more += &format!("Content-Range: bytes {first}-{last}/{}\r\n", body.len());
        }
        wire.write(&object.head(status, &more)).await?;
        let end = if breaks { usize::midpoint(first, last) } else { last + 1 };
        for piece in body[first..end].chunks(PIECE) {
            tokio::time::sleep(object.pace).await;
            wire.write(piece).await?;
        }
        if !breaks {
            return Ok(());
        }
        self.0.lock().broken.push((path, now()));
        Err(std::io::ErrorKind::ConnectionAborted.into())
    }
}

/// First and last byte of a range.
fn part(range: &str, length: usize) -> (usize, usize) {
    let (first, last) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).unwrap();
    let last = last.parse::<usize>().map_or(length - 1, |last| last.min(length - 1));
    (first.parse().unwrap(), last)
}

impl Object {
    pub(crate) const fn lasting(length: usize) -> Self {
        let (pause, pace) = (Duration::ZERO, Duration::ZERO);
        Self { length, version: 1, kind: Kind::Lasting, pause, pace, breaks: 0 }
    }

    fn head(&self, status: &str, more: &str) -> Vec<u8> {
        let tag = format!("ETag: \"{}\"\r\n", self.version);
        let about = match self.kind {
            Kind::Lasting => format!("Cache-Control: max-age=86400\r\nSurrogate-Key: all\r\n{tag}"),
            Kind::Brief => format!("Cache-Control: max-age=1\r\n{tag}"),
            Kind::Cookie => "Cache-Control: max-age=60\r\nSet-Cookie: who=you\r\n".to_owned(),
            Kind::Private => "Cache-Control: private, max-age=60\r\n".to_owned(),
            Kind::Credentials => "Cache-Control: max-age=60\r\n".to_owned(),
        };
        format!("HTTP/1.1 {status}\r\n{about}{more}\r\n").into_bytes()
    }
}

impl State {
    fn body(&mut self, path: &str, object: &Object, from: IpAddr) -> Bytes {
        if object.kind.is_personal() {
            self.given.push(from);
            let text = format!("for {} alone ", self.given.len() - 1);
            return text.repeat(object.length.div_ceil(text.len())).into();
        }
        self.content(path, object.version, object.length)
    }

    fn content(&mut self, path: &str, version: u64, length: usize) -> Bytes {
        let made = || {
            let mut random = Random::new(hash(path.as_bytes()) ^ version);
            let words = (0..length.div_ceil(8)).flat_map(|_| random.word().to_le_bytes());
            words.take(length).collect()
        };
        self.contents.entry((path.to_owned(), version)).or_insert_with(made).clone()
    }
}
