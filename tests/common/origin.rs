//! An origin that answers each path as its story says, byte by byte, and remembers what it was asked.

use super::wire::{Framed, Head, Wire};
use super::{in_time, until};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use shoal::task::Spawner;
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};

type Script = Arc<dyn Fn(Exchange) -> BoxFuture<'static, Exchange> + Send + Sync>;

/// An HTTP/1.1 server on a port of its own.
pub(crate) struct Origin {
    pub(crate) at: SocketAddr,
    state: Arc<State>,
    spawner: Spawner,
}

#[derive(Default)]
struct State {
    scripts: Mutex<HashMap<String, Script>>,
    /// For targets without one of their own.
    otherwise: Mutex<Option<Script>>,
    asked: Mutex<Vec<Asked>>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) head: Head,
}

impl Asked {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }
}

/// A request in the hands of its script.
pub(crate) struct Exchange {
    pub(crate) asked: Asked,
    /// Requests for this target before this one.
    pub(crate) nth: usize,
    wire: Wire,
    keeps: bool,
}

impl Exchange {
    /// Sends bytes, unless the node has gone.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.sends(bytes).await;
    }

    /// Sends bytes. Whether the node was there to take them.
    pub(crate) async fn sends(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.keeps &= self.wire.write(bytes.as_ref()).await.is_ok();
        self.keeps
    }

    /// Sends bytes, and says whether the node is still there.
    pub(crate) async fn send_or_end(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.send(bytes).await;
        self.keeps
    }

    /// The body of the request.
    pub(crate) async fn body(&mut self) -> Vec<u8> {
        self.framed_body().await.bytes
    }

    /// The body of the request and how it ended.
    pub(crate) async fn framed_body(&mut self) -> Framed {
        let head = self.asked.head.clone();
        let framed = self.wire.body(&head, false).await;
        self.keeps &= framed.is_whole;
        framed
    }

    /// Some bytes of what follows the request; none at the end of the stream.
    pub(crate) async fn read_some(&mut self) -> Vec<u8> {
        self.wire.read_some().await
    }

    /// Whether the node has gone, as far as was seen when something was sent.
    pub(crate) fn is_closed(&self) -> bool {
        !self.keeps
    }

    /// Says that the connection is closed when the script ends.
    pub(crate) fn close(&mut self) {
        self.keeps = false;
    }
}

impl Origin {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (state, spawner) = (Arc::new(State::default()), Spawner::current());
        let (shared, tasks) = (Arc::clone(&state), spawner.clone());
        spawner.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tasks.spawn(serve(Arc::clone(&shared), stream));
            }
        });
        Self { at, state, spawner }
    }

    /// Answers every request for `target` by `script`.
    pub(crate) fn script<F>(&self, target: &str, script: impl Fn(Exchange) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Exchange> + Send + 'static,
    {
        let script: Script = Arc::new(move |exchange| Box::pin(script(exchange)));
        self.state.scripts.lock().insert(target.to_owned(), script);
    }

    /// Answers by `script` every request for a target that has none of its own.
    pub(crate) fn otherwise<F>(&self, script: impl Fn(Exchange) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Exchange> + Send + 'static,
    {
        *self.state.otherwise.lock() = Some(Arc::new(move |exchange| Box::pin(script(exchange))));
    }

    /// Answers every request for `target` with these bytes.
    pub(crate) fn says(&self, target: &str, answer: Vec<u8>) {
        self.says_in_turn(target, [answer]);
    }

    /// Answers requests for `target` with one after the other; the last is repeated.
    pub(crate) fn says_in_turn(&self, target: &str, answers: impl IntoIterator<Item = Vec<u8>>) {
        let answers: Arc<Vec<Vec<u8>>> = Arc::new(answers.into_iter().collect());
        let first = self.count(target);
        self.script(target, move |mut exchange| {
            let answers = Arc::clone(&answers);
            async move {
                exchange.body().await;
                exchange.send(&answers[(exchange.nth - first).min(answers.len() - 1)]).await;
                exchange
            }
        });
    }

    /// Requests for `target` so far.
    pub(crate) fn count(&self, target: &str) -> usize {
        self.asked(target).len()
    }

    /// All requests so far.
    pub(crate) fn count_all(&self) -> usize {
        self.state.asked.lock().len()
    }

    /// All requests in the order of their coming.
    pub(crate) fn all_asked(&self) -> Vec<Asked> {
        self.state.asked.lock().clone()
    }

    /// The requests for `target` in the order of their coming.
    pub(crate) fn asked(&self, target: &str) -> Vec<Asked> {
        self.state.asked.lock().iter().filter(|asked| asked.target == target).cloned().collect()
    }

    /// Waits until `count` requests for `target` have come.
    pub(crate) async fn asked_times(&self, target: &str, count: usize) {
        until(&format!("{count} requests for {target} at the origin"), || self.count(target) >= count).await;
    }

    /// Ends the server: from now on its address refuses connections.
    pub(crate) async fn stop(&self) {
        in_time("the origin's end", self.spawner.stop(std::time::Duration::from_secs(5))).await;
    }
}

async fn serve(state: Arc<State>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut wire = Wire::new(stream);
    while let Some(head) = wire.head().await {
        let mut words = head.line.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let asked = Asked { method, target: target.clone(), head };
        let nth = {
            let mut all = state.asked.lock();
            all.push(asked.clone());
            all.iter().filter(|other| other.target == target).count() - 1
        };
        let script = state.scripts.lock().get(&target).cloned();
        let script = script.or_else(|| state.otherwise.lock().clone());
        let mut exchange = Exchange { asked, nth, wire, keeps: true };
        exchange = match script {
            Some(script) => script(exchange).await,
            None => {
                exchange.send(reply(404, &["Cache-Control: no-store"], b"no script")).await;
                exchange
            }
        };
        if !exchange.keeps {
            return;
        }
        wire = exchange.wire;
    }
}

/// A response with a `Content-Length`.
pub(crate) fn reply(status: u16, fields: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let length = format!("Content-Length: {}", body.as_ref().len());
    let fields: Vec<&str> = fields.iter().copied().chain([length.as_str()]).collect();
    let mut bytes = head(status, &fields);
    bytes.extend_from_slice(body.as_ref());
    bytes
}

/// A response head.
pub(crate) fn head(status: u16, fields: &[&str]) -> Vec<u8> {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("HTTP/1.1 {status} Status\r\n{fields}\r\n").into_bytes()
}

/// One chunk of a chunked body; the last if empty.
pub(crate) fn chunk(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", bytes.as_ref().len()).into_bytes();
    chunk.extend_from_slice(bytes.as_ref());
    chunk.extend_from_slice(b"\r\n");
    chunk
}
