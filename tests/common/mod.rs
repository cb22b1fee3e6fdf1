//! What the stories of one node are told with: an origin that does as it is told, a client that
//! sees every byte, and the node between them. All on loopback, on ports that the system gives.

pub(crate) mod client;
pub(crate) mod frames;
pub(crate) mod node;
pub(crate) mod origin;
pub(crate) mod process;
pub(crate) mod tls;
pub(crate) mod wire;

pub(crate) use client::{Client, Reply};
pub(crate) use node::Node;
pub(crate) use origin::{Origin, reply};

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Longest time that a step of a story may take: beyond it the node hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Turns of the runtime after which every socket and task that could go on has gone on.
const TURNS: usize = 64;

/// Ends a story that hangs.
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("still waiting for: {what}"),
    }
}

/// Lets everything on this (single-threaded) runtime go on as far as it can: each turn polls the
/// sockets once. Makes a race that a story is about likely; no assertion depends on it.
pub(crate) async fn turns() {
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

/// Waits until `is_so`.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    in_time(what, async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Something that waits until the story lets it go on.
#[derive(Clone)]
pub(crate) struct Barrier(Arc<Semaphore>);

impl Barrier {
    pub(crate) fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets all pass, now and later.
    pub(crate) fn open(&self) {
        self.0.close();
    }

    pub(crate) async fn pass(&self) {
        let passed = self.0.acquire().await;
        assert!(passed.is_err(), "a barrier has no permits, it is only closed or open");
    }
}

/// `length` bytes that differ from one another and from those at other places.
pub(crate) fn content(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Compares bodies without printing megabytes.
pub(crate) fn assert_same(found: &[u8], expected: &[u8]) {
    if found != expected {
        let differs = found.iter().zip(expected).position(|(a, b)| a != b);
        panic!("{} bytes instead of {}, first difference at {differs:?}", found.len(), expected.len());
    }
}
