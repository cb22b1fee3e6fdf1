//! The client's address, as a proxy in front of the node tells it: by the PROXY protocol, or in fields of the request.

use crate::common::client::{Client, request};
use crate::common::tls::{self, certificate};
use crate::common::{Node, Origin, reply, until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const V1: &str = "PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\n";

async fn origin() -> Origin {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &["Cache-Control: no-store"], "body"));
    origin
}

fn toml(origin: &Origin, trusted: &str, more: &str) -> String {
    format!(
        "trusted_networks = [\"{trusted}\"]\n[node]\nname = \"edge\"\n\
         [listen]\nhttp = [\"127.0.0.1:0\"]\nproxy_protocol = [\"127.0.0.1:0\"]\n\
         [[site]]\nhosts = [\"*\"]\norigins = [\"http://{}\"]\n{more}\n",
        origin.at
    )
}

/// A header of version 2 for a client of IPv4 or IPv6.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, block].concat()
}

fn failures(node: &Node, reason: &str) -> f64 {
    node.metric(&format!("shoal_proxy_header_failures_total{{reason=\"{reason}\"}}"))
}

#[tokio::test]
async fn the_address_that_a_listed_proxy_tells_is_the_clients() {
    let origin = origin().await;
    let node = Node::of(&toml(&origin, "127.0.0.1/32", "")).await;
    let ipv6 = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[7], &[0; 16], &[0, 80, 0, 80]].concat();
    for (header, client, element) in [
        (V1.as_bytes().to_vec(), "203.0.113.7", "203.0.113.7"),
        (v2(0x21, 0x11, &[203, 0, 113, 9, 10, 0, 0, 1, 0, 80, 0, 80]), "203.0.113.9", "203.0.113.9"),
        (v2(0x21, 0x21, &[&ipv6[..], &[1, 0, 2], b"h2"].concat()), "2001:db8::7", "\"[2001:db8::7]\""),
        // The proxy's own check.
        (v2(0x20, 0x00, &[]), "127.0.0.1", "127.0.0.1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1", "127.0.0.1"),
    ] {
        let mut proxy = node.connect().await;
        proxy.send(&header).await;
        for _ in 0..2 {
            proxy.send(request("GET", "/x", &[])).await;
            proxy.reply("GET").await.assert_is(200, "body");
        }
        let asked = origin.asked("/x").pop().unwrap();
        assert_eq!(asked.field("x-forwarded-for"), Some(client));
        let element = format!("for={element};host=\"site.test\";proto=http");
        assert_eq!(asked.field("forwarded"), Some(element.as_str()));
    }
}

#[tokio::test]
async fn what_the_client_says_behind_the_header_is_a_clients_word() {
    let origin = origin().await;
    let node = Node::of(&toml(&origin, "127.0.0.1/32", "")).await;
    let mut proxy = node.connect().await;
    proxy.send(V1).await;
    let fields = [
        "X-Forwarded-For: 1.1.1.1",
        "Forwarded: for=1.1.1.1",
        "X-Real-IP: 1.1.1.1",
        "X-Forwarded-Proto: https",
    ];
    proxy.send(request("GET", "/x", &fields)).await;
    proxy.reply("GET").await.assert_is(200, "body");
    let asked = origin.asked("/x").pop().unwrap();
    assert_eq!(asked.field("x-forwarded-for"), Some("203.0.113.7"));
    assert_eq!((asked.field("x-real-ip"), asked.field("x-forwarded-proto")), (None, Some("http")));
    // Nor is a second header one.
    let mut proxy = node.connect().await;
    proxy.send([V1, V1].concat()).await;
    proxy.send_anyway(request("GET", "/x", &[])).await;
    let answer = proxy.read_to_end().await;
    assert!(answer.starts_with(b"HTTP/1.1 400 ") || answer.is_empty(), "{}", answer.escape_ascii());
    assert_eq!(origin.count("/x"), 1);
}

#[tokio::test]
async fn a_header_may_come_in_pieces_and_ahead_of_tls() {
    let (origin, folder) = (origin().await, tempfile::tempdir().unwrap());
    let pair = certificate(folder.path(), "site.test");
    let toml = toml(&origin, "127.0.0.0/8", &format!("tls = {}", pair.toml));
    let node = Node::of(&toml.replace("http = [\"127.0.0.1:0\"]", "https = [\"127.0.0.1:0\"]")).await;
    let mut stream = TcpStream::connect(node.doors[0]).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in V1.as_bytes().chunks(10) {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut client = Client::over(tls::handshake(stream, "site.test", &pair.der, b"http/1.1").await.unwrap());
    client.get("/x").await.assert_is(200, "body");
    let asked = origin.asked("/x").pop().unwrap();
    assert_eq!(asked.field("x-forwarded-for"), Some("203.0.113.7"));
    assert_eq!(asked.field("x-forwarded-proto"), Some("https"));
}

#[tokio::test]
async fn who_is_in_no_listed_network_is_neither_believed_nor_served() {
    let origin = origin().await;
    let node = Node::of(&toml(&origin, "10.0.0.0/8", "")).await;
    for first in [V1, ""] {
        let mut stranger = node.connect().await;
        stranger.send_anyway(first).await;
        stranger.send_anyway(request("GET", "/x", &[])).await;
        assert_eq!(stranger.read_to_end().await, b"");
    }
    assert_eq!((failures(&node, "untrusted"), origin.count_all()), (2.0, 0));
}

#[tokio::test]
async fn without_a_valid_header_the_connection_is_closed() {
    let origin = origin().await;
    let more = "[limits]\nheader_timeout = \"150ms\"";
    let node = Node::of(&toml(&origin, "127.0.0.1/32", more)).await;
    let get = "GET /x HTTP/1.1\r\nHost: site.test\r\n\r\n";
    let checksum = [&[203, 0, 113, 9, 10, 0, 0, 1, 0, 80, 0, 80, 3, 0, 4][..], &[1; 4]].concat();
    for (reason, bytes) in [
        ("missing", get.as_bytes().to_vec()),
        ("malformed", format!("PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\n{get}").into_bytes()),
        ("too_long", format!("PROXY UNKNOWN {}", "x".repeat(200)).into_bytes()),
        ("checksum", v2(0x21, 0x11, &checksum)),
        ("unsupported", v2(0x21, 0x12, &[0; 12])),
        ("timeout", b"PROXY TCP4".to_vec()),
    ] {
        let mut proxy = node.connect().await;
        proxy.send_anyway(bytes).await;
        assert_eq!(proxy.read_to_end().await, b"", "{reason}");
        assert_eq!(failures(&node, reason), 1.0, "{reason}");
    }
    let mut gone = node.connect().await;
    gone.send("PROXY").await;
    drop(gone);
    until("it to be noticed", || failures(&node, "closed") == 1.0).await;
    assert_eq!((node.metric("shoal_proxy_header_failures_total"), origin.count_all()), (7.0, 0));
}

#[tokio::test]
async fn the_share_of_an_address_is_that_of_the_client() {
    let origin = origin().await;
    let more = "[limits]\nconnections = 6\nconnections_per_ip = 1";
    let node = Node::of(&toml(&origin, "127.0.0.1/32", more)).await;
    let mut clients = Vec::new();
    for last in [1, 2, 3, 4, 4] {
        let mut proxy = node.connect().await;
        proxy.send(format!("PROXY TCP4 203.0.113.{last} 10.0.0.1 4711 80\r\n")).await;
        proxy.send(request("GET", "/x", &[])).await;
        proxy.reply("GET").await.assert_is(200, "body");
        clients.push(proxy);
    }
    // The fifth took the place of the fourth, of the same client.
    assert_eq!(clients[3].read_to_end().await, b"");
    assert_eq!(node.metric("shoal_connections_shed_total{limit=\"address\",what=\"idle\"}"), 1.0);
    assert_eq!(node.metric("shoal_connections_shed_total"), 1.0);
    for index in [0, 1, 2, 4] {
        clients[index].get("/x").await.assert_is(200, "body");
    }
}

#[tokio::test]
async fn only_trusted_proxies_tell_of_their_client_in_fields() {
    let origin = origin().await;
    let fields = ["X-Forwarded-For: 203.0.113.66, 198.51.100.7", "Forwarded: for=203.0.113.66"];
    let only_forwarded = ["Forwarded: for=203.0.113.66, for=\"[2001:db8::1]:80\";proto=https"];
    let own = "for=127.0.0.1;host=\"site.test\";proto=http";
    let mistrusting = Node::before(&origin).await;
    mistrusting.ask("GET", "/x", &fields).await.assert_is(200, "body");
    let asked = origin.asked("/x").pop().unwrap();
    assert_eq!((asked.field("x-forwarded-for"), asked.field("forwarded")), (Some("127.0.0.1"), Some(own)));
    let toml = crate::common::node::toml(origin.at, "");
    let trusting = Node::of(&format!("trusted_networks = [\"127.0.0.0/8\"]\n{toml}")).await;
    trusting.ask("GET", "/x", &fields).await.assert_is(200, "body");
    let asked = origin.asked("/x").pop().unwrap();
    assert_eq!(asked.field("x-forwarded-for"), Some("203.0.113.66, 198.51.100.7, 127.0.0.1"));
    // The proxy does not know this field, or it would say the same, so the client may have written it.
    assert_eq!(asked.field("forwarded"), Some(format!("for=203.0.113.66, for=198.51.100.7, {own}").as_str()));
    trusting.ask("GET", "/x", &only_forwarded).await.assert_is(200, "body");
    let asked = origin.asked("/x").pop().unwrap();
    assert_eq!(asked.field("x-forwarded-for"), Some("203.0.113.66, 2001:db8::1, 127.0.0.1"));
    assert_eq!(asked.field("x-forwarded-proto"), Some("https"));
    let both = "for=203.0.113.66, for=\"[2001:db8::1]\", for=127.0.0.1;host=\"site.test\";proto=https";
    assert_eq!(asked.field("forwarded"), Some(both));
}
