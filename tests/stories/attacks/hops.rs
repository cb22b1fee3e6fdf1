//! Hop-by-hop abuse: `Connection` removes what is for one connection, and never what others decide by.

use super::{FRESH, raw, telling, with_trailers};
use crate::common::client::request;
use crate::common::origin::{chunk, head};
use crate::common::{Node, Origin, reply};
use http::{HeaderMap, HeaderName};

const ALL: &str = "Connection: keep-alive, X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, Forwarded, Authorization, Cookie, \
     Host, Content-Length, Content-Type, Cache-Control, Via, CDN-Loop, Accept, Accept-Encoding, Range, Origin, X-Hop";

#[tokio::test]
async fn a_client_cannot_remove_what_the_origin_is_told_or_decides_by() {
    let origin = telling().await;
    let node = Node::before(&origin).await;
    let fields = [
        ALL,
        "Authorization: Basic eDp5",
        "Cookie: id=1",
        "Cache-Control: no-cache",
        "Accept: text/html",
        "Accept-Encoding: gzip",
        "Origin: http://site.test",
        "X-Hop: 1",
        "X-Kept: 1",
    ];
    node.ask("GET", "/x", &fields).await;
    let asked = &origin.asked("/x")[0];
    for (name, value) in [
        ("host", "site.test"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "site.test"),
        ("x-forwarded-proto", "http"),
        ("forwarded", "for=127.0.0.1;host=\"site.test\";proto=http"),
        ("via", "1.1 edge"),
        ("cdn-loop", "edge"),
        ("authorization", "Basic eDp5"),
        ("cookie", "id=1"),
        ("cache-control", "no-cache"),
        ("accept", "text/html"),
        ("accept-encoding", "gzip"),
        ("origin", "http://site.test"),
        ("x-kept", "1"),
    ] {
        assert_eq!(asked.field(name), Some(value), "{name}");
    }
    assert_eq!((asked.field("x-hop"), asked.field("connection")), (None, None));
    // What the request says of caching was seen before anything was removed.
    node.settled().await;
    assert!(
        !node.get("/x").await.cache_status().contains("hit"),
        "an answer to Authorization is nobody else's"
    );
}

#[tokio::test]
async fn a_length_that_connection_lists_frames_all_the_same() {
    let origin = Origin::start().await;
    origin.script("/x", |mut exchange| async move {
        let body = exchange.body().await;
        exchange.send(reply(200, &["Cache-Control: no-store"], body)).await;
        exchange
    });
    let node = Node::before(&origin).await;
    let smuggled = String::from_utf8(request("GET", "/smuggled", &[])).unwrap();
    for framing in ["Content-Length", "Transfer-Encoding"] {
        let (value, body) = if framing == "Content-Length" {
            (smuggled.len().to_string(), smuggled.clone())
        } else {
            ("chunked".to_owned(), format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len()))
        };
        let attack =
            request("POST", "/x", &[&format!("Connection: {framing}"), &format!("{framing}: {value}")]);
        raw(&node, [attack, body.into_bytes()].concat()).await.assert_is(200, &smuggled);
    }
    assert_eq!(origin.count("/smuggled"), 0);
}

#[tokio::test]
async fn fields_for_one_connection_reach_no_origin_listed_or_not() {
    let origin = telling().await;
    let node = Node::before(&origin).await;
    let fields = [
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic eDp5",
        "Proxy-Authenticate: Basic",
        "TE: gzip, trailers;q=0.5",
        "Upgrade: h2c",
        "HTTP2-Settings: AAA",
        "X-Kept: 1",
    ];
    for (method, target) in [("GET", "/x"), ("POST", "/y")] {
        node.ask(method, target, &fields).await;
        let asked = &origin.asked(target)[0];
        for name in fields[..7].iter().map(|field| field.split(':').next().unwrap()) {
            assert_eq!(asked.field(name), None, "{method} {name}");
        }
        assert_eq!((asked.field("connection"), asked.field("x-kept")), (None, Some("1")));
    }
    // The one thing that TE may say is said anew.
    node.ask("POST", "/z", &["Connection: TE", "TE: trailers"]).await;
    assert!(matches!(origin.asked("/z")[0].field("te"), Some("trailers")));
}

#[tokio::test]
async fn an_upgrade_needs_its_connection_option_and_h2c_is_none() {
    let origin = telling().await;
    let node = Node::before(&origin).await;
    for fields in [
        &["Upgrade: websocket"][..],
        &["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__"],
        &["Upgrade: websocket, h2c", "Connection: Upgrade"],
        &["Upgrade: H2C", "Connection: upgrade"],
    ] {
        let answer = node.ask("GET", "/x", fields).await;
        assert_eq!(answer.status, 200, "{fields:?}");
        node.settled().await;
    }
    assert_eq!(origin.count("/x"), 1, "they are plain requests, answered from the store");
    assert_eq!(origin.asked("/x")[0].field("upgrade"), None);
}

/// RFC 9110 §7.8: a server ignores it there.
#[tokio::test]
async fn http_1_0_knows_no_upgrade() {
    let origin = telling().await;
    let node = Node::before(&origin).await;
    let answer = "GET /x HTTP/1.0\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(raw(&node, answer).await.status, 200);
    let asked = &origin.asked("/x")[0];
    assert_eq!((asked.field("upgrade"), asked.field("connection")), (None, None));
    node.settled().await;
    node.get("/x").await.assert_hit();
}

#[tokio::test]
async fn trailers_of_an_answer_say_nothing_that_is_for_its_head() {
    const NAMES: [&str; 12] = [
        "Set-Cookie",
        "Cache-Control",
        "CDN-Cache-Control",
        "Expires",
        "Vary",
        "Location",
        "Content-Disposition",
        "Connection",
        "Keep-Alive",
        "Access-Control-Allow-Origin",
        "Surrogate-Key",
        "X-Sum",
    ];
    let origin = Origin::start().await;
    origin.script("/x", |mut exchange| async move {
        exchange.body().await;
        let announced = format!("Trailer: {}", NAMES.join(", "));
        exchange
            .send(head(200, &["Cache-Control: no-store", "Transfer-Encoding: chunked", &announced]))
            .await;
        exchange.send(chunk("body")).await;
        exchange.send(format!("0\r\n{}: 42\r\n\r\n", NAMES.join(": 42\r\n"))).await;
        exchange
    });
    let node = Node::before(&origin).await;
    let answer = node.ask("GET", "/x", &["TE: trailers", "Connection: TE"]).await;
    answer.assert_is(200, "body");
    let names: Vec<_> = answer.trailers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    assert_eq!(names, ["x-sum"]);
    let (body, trailers) = with_trailers(&node, HeaderMap::new()).await;
    let names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
    assert_eq!((&*body, &*names), (&b"body"[..], &["x-sum"][..]), "over HTTP/2");
}

#[tokio::test]
async fn an_answer_cannot_remove_by_connection_what_forbids_to_store_it() {
    let origin = Origin::start().await;
    let list = "Connection: Cache-Control, Set-Cookie, Vary, ETag, Age, Expires, CDN-Cache-Control, Content-Type, \
                Strict-Transport-Security, Access-Control-Allow-Origin, X-Hop";
    let cases: [(&str, &'static [&'static str]); 4] = [
        ("/private", &["Cache-Control: private, max-age=60"]),
        ("/no-store", &["Cache-Control: no-store"]),
        ("/cookie", &[FRESH, "Set-Cookie: id=1"]),
        ("/star", &[FRESH, "Vary: *"]),
    ];
    for (target, fields) in cases {
        let all = [fields, &[list, "X-Hop: 1", "Strict-Transport-Security: max-age=1"]].concat();
        origin.says(target, reply(200, &all, "body"));
    }
    let node = Node::before(&origin).await;
    for (target, fields) in cases {
        for _ in 0..2 {
            let answer = node.get(target).await;
            node.settled().await;
            assert_eq!(
                (answer.field("x-hop"), answer.field("strict-transport-security")),
                (None, Some("max-age=1"))
            );
            for field in fields {
                let (name, value) = field.split_once(": ").unwrap();
                assert_eq!(answer.field(name), Some(value), "{target}");
            }
        }
        assert_eq!(origin.count(target), 2, "{target}");
    }
}

#[tokio::test]
async fn fields_of_the_origins_connection_are_neither_delivered_nor_stored() {
    let origin = Origin::start().await;
    let mut answer = head(
        200,
        &[
            FRESH,
            "Transfer-Encoding: chunked",
            "Connection: close",
            "Keep-Alive: timeout=5",
            "Proxy-Authenticate: Basic",
            "Proxy-Authentication-Info: x",
            "Proxy-Connection: close",
            "Upgrade: h2c",
            "TE: x",
            "Trailer: X-T",
        ],
    );
    answer.extend_from_slice(b"4\r\nbody\r\n0\r\nX-T: 1\r\n\r\n");
    origin.says("/x", answer);
    let node = Node::before(&origin).await;
    for _ in 0..2 {
        let mut client = node.connect().await;
        let reply = client.get("/x").await;
        node.settled().await;
        for name in [
            "keep-alive",
            "proxy-authenticate",
            "proxy-authentication-info",
            "proxy-connection",
            "upgrade",
            "te",
            "connection",
        ] {
            assert_eq!(reply.field(name), None, "{name}");
        }
        // The client's connection is its own.
        client.get("/x").await.assert_hit();
    }
}
