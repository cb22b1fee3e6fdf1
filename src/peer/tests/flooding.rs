//! Who floods a node with first packets, from addresses that are not its own.

use super::super::accept::HANDSHAKES_UNPROVEN_MAX;
use super::super::endpoint;
use super::refusing::Stranger;
use super::*;
use crate::tls::cluster::SERVER_NAME;
use tokio::net::UdpSocket;

/// How a QUIC packet begins that asks to prove an address (RFC 9000 §17.2.5).
const RETRY: u8 = 0xf0;

/// What goes to a node from one address, and what comes back, which nobody gets to see.
struct OneWay {
    inside: UdpSocket,
    outside: UdpSocket,
    sent: usize,
    answered: usize,
    retries: usize,
}

impl OneWay {
    async fn to(node: &Node) -> Self {
        let inside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let outside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        outside.connect(node.at()).await.unwrap();
        Self { inside, outside, sent: 0, answered: 0, retries: 0 }
    }

    /// Carries one packet.
    async fn step(&mut self) {
        let (mut one, mut other) = ([0; 2048], [0; 2048]);
        tokio::select! {
            received = self.inside.recv(&mut one) => {
                let length = received.unwrap();
                self.sent += self.outside.send(&one[..length]).await.unwrap();
            }
            received = self.outside.recv(&mut other) => {
                let length = received.unwrap();
                self.answered += length;
                self.retries += usize::from(other[..length].first().is_some_and(|first| first & RETRY == RETRY));
            }
        }
    }
}

#[tokio::test]
async fn with_many_handshakes_open_an_address_must_prove_itself_and_gets_no_more_than_it_sent() {
    let authority = authority();
    let (node, stranger) = (Node::of(&authority, BOTH), Stranger::of(&authority));
    let mut flood = OneWay::to(&node).await;
    let at = flood.inside.local_addr().unwrap();
    let client = endpoint::client(stranger.identity.client(Clock::system())).unwrap();
    let begin = || stranger.endpoint.connect_with(client.clone(), at, SERVER_NAME).unwrap();
    let handshakes: Vec<_> = (0..HANDSHAKES_UNPROVEN_MAX + 8).map(|_| begin()).collect();
    in_time(async {
        while flood.retries == 0 {
            flood.step().await;
        }
    })
    .await;
    // RFC 9000 §8.1.
    assert!(flood.answered <= 3 * flood.sent, "{} bytes for {}", flood.answered, flood.sent);
    // Who can be reached at its address is let in meanwhile.
    let connection = stranger.connect(&node).await;
    assert!(connection.close_reason().is_none());
    drop(handshakes);
}
