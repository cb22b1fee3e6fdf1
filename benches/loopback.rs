//! A whole node asked over loopback, on kept connections.
//!
//! Node, origin and client share one thread, so that no figure has wake-ups across threads in it: it
//! is the time that node, client and kernel take together, and a difference between two builds is the
//! node's. The last group has many connections, where the kernel's part is shared, as under load.

#[path = "functions/config.rs"]
mod config;

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput};
use futures_util::future::join_all;
use shoal::app::{Assembly, Surroundings};
use shoal::clock::Clock;
use shoal::front;
use shoal::net::{Listener, Stream, Tcp, Transport};
use shoal::origin::Resolver;
use shoal::store::FileDevice;
use shoal::task::Spawner;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

/// The program's own, so that what allocates costs here what it costs there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WARM_UP: Duration = Duration::from_millis(500);
const MEASUREMENT: Duration = Duration::from_secs(2);
const SAMPLES: usize = 50;
/// Connections of the last group.
const CONNECTIONS: usize = 16;
/// Requests after which a response should be stored.
const FILL_TRIES: usize = 1000;
/// Room for a head, or for as much of a body as is read at once.
const READ_BYTES: usize = 256 << 10;

const CONFIG: &str = r#"
[node]
name = "edge-1"
[listen]
http = ["127.0.0.1:0"]
[limits]
requests_per_connection = 1000000000
[[site]]
hosts = ["www.example.com"]
"#;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(WARM_UP)
        .measurement_time(MEASUREMENT)
        .sample_size(SAMPLES)
        .configure_from_args();
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let node = runtime.block_on(start()).expect("a node on loopback");
    bench_hits(&mut criterion, &runtime, node);
    bench_others(&mut criterion, &runtime, node);
    bench_many(&mut criterion, &runtime, node);
    criterion.final_summary();
}

fn bench_hits(criterion: &mut Criterion, runtime: &Runtime, node: SocketAddr) {
    let mut group = criterion.benchmark_group("hit");
    let mut client = runtime.block_on(Client::connect(node));
    for length in [1 << 10, 16 << 10, 1 << 20] {
        let request = get(&format!("/{length}"), "");
        runtime.block_on(client.fill(&request));
        runtime.block_on(client.expect(&request, "edge-1; hit"));
        group.throughput(Throughput::Bytes(length));
        group.bench_with_input(BenchmarkId::from_parameter(length), &request, |b, request| {
            b.iter(|| runtime.block_on(client.ask(request)));
        });
    }
    group.finish();
}

fn bench_others(criterion: &mut Criterion, runtime: &Runtime, node: SocketAddr) {
    let mut group = criterion.benchmark_group("other");
    let mut client = runtime.block_on(Client::connect(node));
    runtime.block_on(client.fill(&get("/1048576", "")));
    for (name, request, status) in [
        ("not modified", get("/1048576", "if-none-match: \"3f9a1c\"\r\n"), "HTTP/1.1 304"),
        ("range of 64 KiB", get("/1048576", "range: bytes=500000-565535\r\n"), "HTTP/1.1 206"),
        ("pass 1 KiB", get("/pass/1024", ""), "edge-1; fwd=bypass"),
    ] {
        runtime.block_on(client.expect(&request, status));
        group.bench_function(name, |b| b.iter(|| runtime.block_on(client.ask(&request))));
    }
    let mut unique = 0_u64;
    let mut next = move || {
        unique += 1;
        get(&format!("/1024?{unique}"), "")
    };
    runtime.block_on(client.expect(&next(), "edge-1; fwd=uri-miss"));
    group.bench_function("miss 1 KiB", |b| b.iter(|| runtime.block_on(client.ask(&next()))));
    group.finish();
}

fn bench_many(criterion: &mut Criterion, runtime: &Runtime, node: SocketAddr) {
    let mut group = criterion.benchmark_group(format!("hit on {CONNECTIONS} connections"));
    let connecting = join_all((0..CONNECTIONS).map(|_| Client::connect(node)));
    let mut clients = runtime.block_on(connecting);
    for length in [1 << 10, 16 << 10] {
        let request = get(&format!("/{length}"), "");
        runtime.block_on(clients[0].fill(&request));
        runtime.block_on(clients[0].expect(&request, "edge-1; hit"));
        group.throughput(Throughput::Elements(CONNECTIONS as u64));
        group.bench_with_input(BenchmarkId::from_parameter(length), &request, |b, request| {
            b.iter(|| runtime.block_on(join_all(clients.iter_mut().map(|client| client.ask(request)))));
        });
    }
    group.finish();
}

/// Starts an origin and a node before it, both on this runtime. Returns the node's address.
async fn start() -> anyhow::Result<SocketAddr> {
    let spawner = Spawner::current();
    let origin = Tcp.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let text = format!(
        "{CONFIG}origins = [\"http://{}\"]\n[[site.rules]]\npath = \"/pass/*\"\npass = true\n",
        origin.local_addr()?
    );
    spawner.spawn(serve_origin(origin, spawner.clone()));
    let surroundings = Surroundings {
        net: Arc::new(Tcp),
        clock: Clock::system(),
        device: Arc::new(FileDevice),
        resolver: Resolver::Fixed(Arc::default()),
        seed: None,
    };
    let assembly = Assembly::build(config::load(&text), surroundings, &spawner, None).await?;
    let worker = assembly.front(spawner.clone());
    let door = assembly.listen(&[])?.pop().ok_or_else(|| anyhow::anyhow!("one address is listened on"))?;
    let at = door.listener.local_addr()?;
    spawner.spawn_graceful(front::accept(worker, door));
    Ok(at)
}

/// Answers `GET /…<length>` with a body of that length, over and over.
async fn serve_origin(mut listener: Listener, spawner: Spawner) {
    while let Ok((stream, _)) = listener.accept().await {
        spawner.spawn(async move {
            // The node closes what it no longer needs; that is the end of this connection.
            let _ = answer(stream).await;
        });
    }
}

async fn answer(mut stream: Stream) -> io::Result<()> {
    let mut read = BytesMut::with_capacity(READ_BYTES);
    while stream.read_buf(&mut read).await? > 0 {
        while let Some(end) = head_end(&read) {
            let head = read.split_to(end);
            stream.write_all(&response(length_of_target(&head))).await?;
        }
    }
    Ok(())
}

fn response(length: usize) -> Vec<u8> {
    let mut response = format!(
        "HTTP/1.1 200 OK\r\nserver: origin\r\n\
         content-type: text/css; charset=utf-8\r\netag: \"3f9a1c\"\r\n\
         cache-control: public, max-age=86400\r\n\
         vary: accept-encoding\r\ncontent-length: {length}\r\n\r\n"
    )
    .into_bytes();
    response.resize(response.len() + length, 0x5a);
    response
}

fn length_of_target(head: &[u8]) -> usize {
    let digits = head
        .split(|byte| b" ?/".contains(byte))
        .find(|part| part.iter().all(u8::is_ascii_digit) && !part.is_empty());
    digits.and_then(number).expect("the targets asked for here have a length")
}

/// A request as a browser sends it, with `more` fields.
fn get(target: &str, more: &str) -> Bytes {
    Bytes::from(format!(
        "GET {target} HTTP/1.1\r\nhost: www.example.com\r\n\
         user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\n\
         accept: text/css,*/*;q=0.1\r\naccept-language: de-DE,de;q=0.8,en-US;q=0.5,en;q=0.3\r\n\
         accept-encoding: gzip, deflate, br, zstd\r\nreferer: https://www.example.com/products\r\n{more}\r\n"
    ))
}

/// A client with one connection.
struct Client {
    stream: Stream,
    read: BytesMut,
}

impl Client {
    async fn connect(node: SocketAddr) -> Self {
        let stream = Tcp.connect(node).await.expect("the node listens");
        Self { stream, read: BytesMut::with_capacity(READ_BYTES) }
    }

    /// Sends a request and reads the whole response. Returns its head.
    async fn ask(&mut self, request: &Bytes) -> BytesMut {
        self.stream.write_all(request).await.expect("the node reads requests");
        let end = loop {
            match head_end(&self.read) {
                Some(end) => break end,
                None => self.read_more().await,
            }
        };
        let head = self.read.split_to(end);
        let mut left = if head.starts_with(b"HTTP/1.1 304") { 0 } else { content_length(&head) };
        while left > self.read.len() {
            left -= self.read.len();
            self.read.clear();
            self.read_more().await;
        }
        let _ = self.read.split_to(left);
        head
    }

    /// Asks, and gives what the answer leaves behind the time to be stored.
    async fn fill(&mut self, request: &Bytes) {
        for _ in 0..FILL_TRIES {
            if self.ask(request).await.windows(5).any(|text| text == b"; hit") {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("the node does not store {request:?}");
    }

    /// Asks, and checks that the head has `text`: that this is the path to be measured.
    async fn expect(&mut self, request: &Bytes, text: &str) {
        let head = self.ask(request).await;
        let head = String::from_utf8_lossy(&head);
        assert!(head.contains(text), "expected {text} in {head}");
    }

    async fn read_more(&mut self) {
        self.read.reserve(READ_BYTES - self.read.len());
        let read = self.stream.read_buf(&mut self.read).await.expect("the node answers");
        assert!(read > 0, "the node keeps the connection");
    }
}

fn head_end(read: &[u8]) -> Option<usize> {
    read.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| at + 4)
}

fn content_length(head: &[u8]) -> usize {
    let name = b"content-length: ";
    let mut lines = head.split(|byte| *byte == b'\n');
    let digits = lines.find_map(|line| line.strip_prefix(name)).map(<[u8]>::trim_ascii);
    digits.and_then(number).expect("a length is stated")
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
