//! TLS and HTTP/2.

use crate::common::tls::{self, Http2, Pair, certificate};
use crate::common::{Node, Origin, reply};
use futures_util::future::join_all;
use shoal::task::Spawner;
use tempfile::TempDir;

const FRESH: &str = "Cache-Control: max-age=60";

/// A node with two sites, each with a certificate, on an HTTP and an HTTPS address.
struct TwoSites {
    origin: Origin,
    node: Node,
    one: Pair,
    two: Pair,
    folder: TempDir,
}

fn toml(origin: &Origin, one: &Pair, two: &Pair) -> String {
    let site = |host: &str, pair: &Pair| {
        format!("[[site]]\nhosts = [\"{host}\"]\norigins = [\"http://{}\"]\ntls = {}\n", origin.at, pair.toml)
    };
    "[node]\nname = \"edge\"\n[listen]\nhttp = [\"127.0.0.1:0\"]\nhttps = [\"127.0.0.1:0\"]\n".to_owned()
        + &site("one.test", one)
        + &site("two.test", two)
}

async fn two_sites() -> TwoSites {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    origin.says("/x", reply(200, &[FRESH], "body"));
    let (one, two) = (certificate(folder.path(), "one.test"), certificate(folder.path(), "two.test"));
    let node = Node::of(&toml(&origin, &one, &two)).await;
    TwoSites { origin, node, one, two, folder }
}

fn get(host: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[tokio::test]
async fn each_site_shows_its_own_certificate() {
    let sites = two_sites().await;
    let at = sites.node.doors[1];
    for (name, pair) in [("one.test", &sites.one), ("two.test", &sites.two)] {
        let mut client = tls::client(at, name, &pair.der).await;
        client.send(get(name)).await;
        client.reply("GET").await.assert_is(200, "body");
    }
    assert!(tls::connect(at, "one.test", &sites.two.der, b"http/1.1").await.is_err());
    assert_eq!(sites.origin.count("/x"), 2, "sites share nothing");
    assert_eq!(sites.origin.asked("/x")[0].field("x-forwarded-proto"), Some("https"));
}

#[tokio::test]
async fn a_connection_for_one_site_does_not_serve_another() {
    let sites = two_sites().await;
    let mut client = tls::client(sites.node.doors[1], "one.test", &sites.one.der).await;
    client.send(get("two.test")).await;
    assert_eq!(client.reply("GET").await.status, 421);
    assert_eq!(sites.origin.count_all(), 0);
}

#[tokio::test]
async fn plain_and_secure_answers_are_kept_apart() {
    let sites = two_sites().await;
    let mut plain = sites.node.connect().await;
    plain.send(get("one.test")).await;
    assert!(plain.reply("GET").await.cache_status().contains("fwd=uri-miss"));
    let mut secure = tls::client(sites.node.doors[1], "one.test", &sites.one.der).await;
    secure.send(get("one.test")).await;
    assert!(secure.reply("GET").await.cache_status().contains("fwd=uri-miss"));
    assert_eq!(sites.origin.count("/x"), 2);
}

#[tokio::test]
async fn http2_serves_misses_and_hits_to_many_streams() {
    let sites = two_sites().await;
    let tasks = Spawner::current();
    let stream = tls::connect(sites.node.doors[1], "one.test", &sites.one.der, b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let client = Http2::over(stream, &tasks).await;
    let replies = join_all((0..50).map(|_| client.get("https://one.test/x"))).await;
    for reply in replies {
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"body"[..]));
    }
    sites.node.settled().await;
    let hit = client.get("https://one.test/x").await;
    assert!(hit.fields["cache-status"].to_str().unwrap().starts_with("edge; hit; ttl="));
    assert!(hit.fields.contains_key("age"));
    assert_eq!(sites.origin.count("/x"), 1);
    assert_eq!(client.get("https://two.test/x").await.status.as_u16(), 421);
}

#[tokio::test]
async fn http2_is_spoken_without_tls_by_prior_knowledge() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH], "body"));
    let node = Node::before(&origin).await;
    let tasks = Spawner::current();
    let stream = tokio::net::TcpStream::connect(node.doors[0]).await.unwrap();
    let client = Http2::over(stream, &tasks).await;
    assert_eq!(&client.get("http://site.test/x").await.body[..], b"body");
    node.settled().await;
    // What HTTP/2 stored serves HTTP/1.1.
    node.get("/x").await.assert_hit();
}

#[tokio::test]
async fn an_http2_connection_that_fails_a_request_goes_on() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH], "body"));
    let node = Node::before(&origin).await;
    let tasks = Spawner::current();
    let stream = tokio::net::TcpStream::connect(node.doors[0]).await.unwrap();
    let client = Http2::over(stream, &tasks).await;
    let long = client.get(&format!("http://site.test/{}", "a".repeat(9000))).await;
    assert_eq!(long.status.as_u16(), 414);
    assert_eq!(client.get("http://site.test/x").await.status.as_u16(), 200);
}

#[tokio::test]
async fn a_reload_takes_new_certificates_and_keeps_connections() {
    let sites = two_sites().await;
    let at = sites.node.doors[1];
    let mut old = tls::client(at, "one.test", &sites.one.der).await;
    old.send(get("one.test")).await;
    old.reply("GET").await.assert_is(200, "body");
    let renewed = certificate(sites.folder.path(), "one.test");
    sites.node.reload(&toml(&sites.origin, &renewed, &sites.two)).unwrap();
    let mut new = tls::client(at, "one.test", &renewed.der).await;
    new.send(get("one.test")).await;
    new.reply("GET").await.assert_is(200, "body");
    old.send(get("one.test")).await;
    old.reply("GET").await.assert_is(200, "body");
}

#[tokio::test]
async fn plain_text_on_the_secure_port_gets_nothing() {
    let sites = two_sites().await;
    let mut client = crate::common::Client::connect(sites.node.doors[1]).await;
    client.send_anyway(get("one.test")).await;
    assert!(!client.read_to_end().await.starts_with(b"HTTP/1.1 200"));
    assert_eq!(sites.origin.count_all(), 0);
}
