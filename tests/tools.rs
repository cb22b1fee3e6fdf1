//! `shoal origin` and `shoal replay` as a user runs them: exit codes and last lines.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// The object whose answers are damaged by [`flipping_proxy`].
const DAMAGED: &[u8] = b"GET /obj/3?";

struct Origin {
    process: Child,
    addr: SocketAddr,
}

impl Origin {
    fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_shoal"))
            .args(["origin", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let listening = lines.next().unwrap();
        let addr = listening.strip_prefix("listening http ").unwrap().parse().unwrap();
        assert_eq!(lines.next().as_deref(), Some("ready"));
        Self { process, addr }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Passes bytes both ways, but flips a bit of the last byte of each answer for the damaged object.
/// Serves one connection after the other.
fn flipping_proxy(origin: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            pass(client.unwrap(), TcpStream::connect(origin).unwrap());
        }
    });
    addr
}

fn pass(mut client: TcpStream, mut origin: TcpStream) {
    let mut answers = BufReader::new(origin.try_clone().unwrap());
    loop {
        let Some(request) = read_head(&mut client) else { return drop(client.shutdown(Shutdown::Both)) };
        origin.write_all(&request).unwrap();
        let head = read_head(&mut answers).unwrap();
        let text = String::from_utf8(head.clone()).unwrap();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        answers.read_exact(&mut body).unwrap();
        if request.starts_with(DAMAGED) {
            *body.last_mut().unwrap() ^= 0x10;
        }
        client.write_all(&head).unwrap();
        client.write_all(&body).unwrap();
    }
}

fn read_head(stream: &mut impl Read) -> Option<Vec<u8>> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(head)
}

fn replay(trace: &Path, target: SocketAddr, flags: &[&str]) -> Output {
    let target = format!("http://{target}");
    let trace = trace.to_str().unwrap();
    let command = ["replay", "--trace", trace, "--target", &target, "--json", "--concurrency", "1"];
    Command::new(env!("CARGO_BIN_EXE_shoal")).args(command).args(flags).output().unwrap()
}

fn last_line(output: &Output) -> serde_json::Value {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    serde_json::from_str(text.lines().next_back().unwrap()).unwrap()
}

/// Five requests for three objects, two of which share an id; xz-compressed.
fn trace() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let mut encoder = liblzma::write::XzEncoder::new(&mut file, 1);
    encoder.write_all(b"1 1 100000\n2 3 5000\n3 1 100000\n4 1 7\n5 3 5000\n").unwrap();
    encoder.finish().unwrap();
    file
}

#[test]
fn a_right_answer_to_each_request_is_success() {
    let (origin, trace) = (Origin::start(), trace());
    let output = replay(trace.path(), origin.addr, &["--verify"]);
    let json = last_line(&output);
    assert_eq!(output.status.code(), Some(0), "{json}");
    assert_eq!((&json["requests"], &json["errors"], &json["mismatches"]), (&5.into(), &0.into(), &0.into()));
    assert_eq!(json["unique_bytes"], 105_007);
    assert_eq!(json["verdicts"]["other"], 5);
    assert!(json["latency"]["p99_us"].as_u64().unwrap() > 0);
}

#[test]
fn several_targets_are_asked_for_one_host() {
    let (listener, trace) = (TcpListener::bind("127.0.0.1:0").unwrap(), trace());
    let at = listener.local_addr().unwrap();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let head = read_head(&mut stream).unwrap();
        stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").unwrap();
        String::from_utf8(head).unwrap()
    });
    let refuses = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let more = ["--target", &format!("http://{refuses}"), "--host", "site.example", "--limit", "1"];
    replay(trace.path(), at, &more);
    assert!(asked.join().unwrap().contains("host: site.example\r\n"));
}

#[test]
fn a_proxy_that_flips_one_bit_is_found_out() {
    let (origin, trace) = (Origin::start(), trace());
    let proxy = flipping_proxy(origin.addr);
    let output = replay(trace.path(), proxy, &["--verify"]);
    let json = last_line(&output);
    assert_eq!(output.status.code(), Some(1), "{json}");
    assert_eq!((&json["requests"], &json["mismatches"], &json["errors"]), (&5.into(), &2.into(), &0.into()));
    // Without the check, and before the damaged object is asked for, there is nothing to find.
    assert_eq!(replay(trace.path(), proxy, &[]).status.code(), Some(0));
    assert_eq!(replay(trace.path(), proxy, &["--verify", "--limit", "1"]).status.code(), Some(0));
}

#[test]
fn a_trace_that_is_none_is_refused() {
    let origin = Origin::start();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "1 2 three\n").unwrap();
    let output = replay(file.path(), origin.addr, &[]);
    assert_ne!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 1"));
}
