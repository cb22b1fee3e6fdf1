//! Which site a connection is for: what its certificate was shown for, over HTTP/1.1 and HTTP/2, and nothing else.

use super::telling;
use crate::common::tls::{self, Http2};
use crate::common::{Client, Node, Origin};
use rustls_pki_types::CertificateDer;
use shoal::task::Spawner;
use tempfile::TempDir;

/// A node with two sites behind one certificate for all their names, as browsers need to share a connection
/// (RFC 9113 §9.1.1).
struct Shared {
    origin: Origin,
    node: Node,
    certificate: CertificateDer<'static>,
    _folder: TempDir,
}

async fn shared() -> Shared {
    let (origin, folder) = (telling().await, tempfile::tempdir().unwrap());
    let names = ["one.test", "www.one.test", "two.test", "nobody.test"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = format!("{{ cert = \"{}\", key = \"{}\" }}", cert.display(), key.display());
    let site = |hosts: &str| {
        format!("[[site]]\nhosts = {hosts}\norigins = [\"http://{}\"]\ntls = {tls}\n", origin.at)
    };
    let listen = "[listen]\nhttp = [\"127.0.0.1:0\"]\nhttps = [\"127.0.0.1:0\"]\n";
    let sites = site("[\"one.test\", \"www.one.test\"]") + &site("[\"two.test\"]");
    let node = Node::of(&format!("[node]\nname = \"edge\"\n{listen}{sites}")).await;
    Shared { origin, node, certificate: made.cert.der().clone(), _folder: folder }
}

fn get(host: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[tokio::test]
async fn over_http1_a_host_of_another_site_than_the_handshakes_is_421() {
    let shared = shared().await;
    let at = shared.node.doors[1];
    for (name, host, status) in [
        ("one.test", "one.test", 200),
        ("one.test", "ONE.test.:443", 200),
        ("one.test", "www.one.test", 200),
        ("one.test", "two.test", 421),
        ("two.test", "one.test", 421),
        ("one.test", "nobody.test", 421),
        ("nobody.test", "one.test", 421),
    ] {
        let mut client = tls::client(at, name, &shared.certificate).await;
        client.send(get(host)).await;
        let answer = client.reply("GET").await;
        assert_eq!(answer.status, status, "{name}: {host}: {}", answer.text());
        if status == 421 {
            assert_eq!(answer.field("connection"), Some("close"));
            assert_eq!(client.read_to_end().await, b"");
        }
    }
    // An absolute target is no way around.
    let mut client = tls::client(at, "one.test", &shared.certificate).await;
    client.send("GET https://two.test/x HTTP/1.1\r\nHost: two.test\r\n\r\n").await;
    assert_eq!(client.reply("GET").await.status, 421);
    assert!(shared.origin.all_asked().iter().all(|asked| asked.field("host") != Some("two.test")));
}

#[tokio::test]
async fn over_http2_a_connection_is_not_shared_by_sites() {
    let shared = shared().await;
    let tasks = Spawner::current();
    let stream = tls::connect(shared.node.doors[1], "one.test", &shared.certificate, b"h2").await.unwrap();
    let client = Http2::over(stream, &tasks).await;
    for (url, status) in [
        ("https://one.test/x", 200),
        ("https://two.test/x", 421),
        ("https://www.one.test/x", 200),
        ("https://nobody.test/x", 421),
        ("http://one.test/x", 421),
        ("https://one.test/x", 200),
    ] {
        assert_eq!(client.get(url).await.status.as_u16(), status, "{url}");
    }
    assert!(shared.origin.all_asked().iter().all(|asked| asked.field("host") != Some("two.test")));
}

#[tokio::test]
async fn over_http2_authority_and_host_must_be_one() {
    let origin = telling().await;
    let node = Node::before(&origin).await;
    for (host, is_one) in [("evil.test", false), ("SITE.test:80", true)] {
        let mut client = node.connect().await;
        send_http2(&mut client, host).await;
        let head = head_of_stream_1(&mut client).await;
        // RFC 7541 §6.1, appendix A: 200 is entry 8 of the static table, 400 is entry 12.
        assert_eq!(head[0], if is_one { 0x88 } else { 0x8c }, "{host}: {}", head.escape_ascii());
    }
    assert_eq!(origin.count_all(), 1);
}

/// GET of `/x` of site.test on stream 1, with a `host` of its own (RFC 9113 §8.3.1).
async fn send_http2(client: &mut Client, host: &str) {
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    client.send(b"\0\0\0\x04\0\0\0\0\0").await;
    let mut fields = b"\x82\x86\x04\x02/x\x01\x09site.test\x0f\x17".to_vec();
    fields.push(u8::try_from(host.len()).unwrap());
    fields.extend_from_slice(host.as_bytes());
    let length = u8::try_from(fields.len()).unwrap();
    client.send([&[0, 0, length, 1, 5, 0, 0, 0, 1][..], &fields].concat()).await;
}

/// The header block of the answer.
async fn head_of_stream_1(client: &mut Client) -> Vec<u8> {
    loop {
        let head = client.read_exactly(9).await;
        let payload = client.read_exactly(usize::from(head[1]) << 8 | usize::from(head[2])).await;
        if (head[3], head[8]) == (1, 1) {
            return payload;
        }
    }
}
