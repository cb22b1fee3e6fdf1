//! Unkeyed input: what a client says beside the key must not change the answer that others get.

use super::{FRESH, raw, telling, trusting, with_trailers};
use crate::common::client::{HOST, request};
use crate::common::origin::chunk;
use crate::common::{Node, Origin, reply};
use http::HeaderValue;

/// Fields that origins and their frameworks have been found to answer by.
const STEERING: [&str; 50] = [
    "X-Forwarded",
    "X-Forwarded-By",
    "X-Forwarded-Host",
    "X-Forwarded-Method",
    "X-Forwarded-Path",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Proto",
    "X-Forwarded-Protocol",
    "X-Forwarded-Scheme",
    "X-Forwarded-Server",
    "X-Forwarded-Ssl",
    "X-Forwarded-Uri",
    "Forwarded",
    "X-Host",
    "X-Host-Override",
    "X-HTTP-Host-Override",
    "X-Original-Host",
    "X-Original-Method",
    "X-Original-URI",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-HTTP-Method",
    "X-HTTP-Method-Override",
    "X-Method-Override",
    "X-HTTP-Path-Override",
    "X-HTTP-DestinationURL",
    "X-Scheme",
    "X-URL-Scheme",
    "Front-End-Https",
    "X-ARR-SSL",
    "CF-Visitor",
    "CloudFront-Forwarded-Proto",
    "X-Envoy-Original-Path",
    "X-Invoke-Path",
    "X-Invoke-Status",
    "X-Matched-Path",
    "X-Middleware-Subrequest",
    "X-Now-Route-Matches",
    "Proxy",
    // As CGI and its heirs read them.
    "X_Forwarded_Host",
    "X_Original-URL",
    "x_http_method_override",
    "X-Forwarded_Proto",
    // Of the client's address.
    "X-Forwarded-For",
    "X-Real-IP",
    "True-Client-IP",
    "CF-Connecting-IP",
    "X-Client-IP",
    "Client_IP",
];

/// Fields by which proxies that authenticate say who the client is.
const IDENTITY: [&str; 10] = [
    "Remote-User",
    "Remote_User",
    "X-Remote-User",
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Client-Cert",
    "X-Auth-Request-Email",
    "X-WebAuth-User",
    "X-SSL-Client-DN",
    "Cf-Access-Jwt-Assertion",
];

fn evil(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{name}: evil.test")).collect()
}

#[tokio::test]
async fn nothing_that_steers_an_origin_passes_from_a_client() {
    let origin = telling().await;
    let node = Node::before(&origin).await;
    let fields = evil(&[&STEERING[..], &IDENTITY].concat());
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    for (method, target) in [("GET", "/x"), ("POST", "/x"), ("GET", "/x?range")] {
        let told = node.ask(method, target, &fields).await;
        assert_eq!(told.status, 200);
        assert!(!told.text().contains("evil"), "{method} {target}: {}", told.text());
        node.settled().await;
        let plain = node.ask(method, target, &[]).await;
        assert_eq!(told.text(), plain.text(), "{method} {target}: as if they had not been sent");
    }
    // Also where the client's own request is forwarded because it asks for a part far behind.
    node.ask("GET", "/far", &[&fields[..], &["Range: bytes=99999990-"]].concat()).await;
    let seen = format!("{:?}", origin.asked("/far")[0].head);
    assert!(!seen.contains("evil"), "{seen}");
}

#[tokio::test]
async fn trailers_steer_an_origin_no_more_than_a_head() {
    let origin = Origin::start().await;
    origin.otherwise(|mut exchange| async move {
        let trailers = exchange.framed_body().await.trailers;
        let names: Vec<_> = trailers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        exchange.send(reply(200, &["Cache-Control: no-store"], names.join(" "))).await;
        exchange
    });
    const DECIDING: [&str; 13] = [
        "Via",
        "CDN-Loop",
        "Authorization",
        "Cookie",
        "Range",
        "If-Match",
        "Expect",
        "Cache-Control",
        "Content-Type",
        "Connection",
        "Proxy-Authorization",
        "X-User-Id",
        "X_User_Id",
    ];
    let names = [&STEERING[..], &IDENTITY, &DECIDING, &["X-Checksum"]].concat();
    let more = "identity_fields = [\"X-User-Id\"]";
    // Whoever sends them: a trusted proxy tells what it tells in the head.
    for node in [Node::with(&origin, more).await, trusting(&origin, "127.0.0.0/8", more).await] {
        let announced = format!("Trailer: {}", names.join(", "));
        let mut attack = request("POST", "/x", &["Transfer-Encoding: chunked", &announced]);
        attack.extend(chunk("body"));
        attack.extend(format!("0\r\n{}\r\n\r\n", evil(&names).join("\r\n")).into_bytes());
        raw(&node, attack).await.assert_is(200, "x-checksum");
        let value = HeaderValue::from_static("evil.test");
        // Which `h2` does not send.
        let names = names.iter().filter(|name| **name != "Connection");
        let trailers = names.map(|name| (name.parse().expect("a name"), value.clone())).collect();
        let (got, _) = with_trailers(&node, trailers).await;
        assert_eq!(got.escape_ascii().to_string(), "x-checksum", "over HTTP/2");
    }
}

#[tokio::test]
async fn behind_a_trusted_proxy_a_client_steers_no_more() {
    let origin = telling().await;
    let node = trusting(&origin, "127.0.0.0/8", "").await;
    let fields = evil(&STEERING);
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let told = node.ask("GET", "/x", &fields).await;
    assert!(!told.text().contains("evil"), "{}", told.text());
    node.settled().await;
    assert_eq!(node.get("/x").await.text(), told.text());
    // What the proxy says of the client is passed on as it is believed.
    let fields = [
        "X-Forwarded-For: <script>, 198.51.100.7, 203.0.113.9",
        "Forwarded: for=1.2.3.4;host=evil.test;proto=https",
        "X-Real-IP: \"><script>",
    ];
    node.ask("GET", "/y", &fields).await;
    let asked = &origin.asked("/y")[0];
    assert_eq!(asked.field("x-forwarded-for"), Some("198.51.100.7, 203.0.113.9, 127.0.0.1"));
    assert_eq!(
        asked.field("forwarded"),
        Some("for=198.51.100.7, for=203.0.113.9, for=127.0.0.1;host=\"site.test\";proto=http")
    );
    assert_eq!(asked.field("x-real-ip"), Some("203.0.113.9"));
}

#[tokio::test]
async fn a_scheme_that_a_trusted_proxy_states_is_in_the_key() {
    let origin = telling().await;
    let node = trusting(&origin, "127.0.0.0/8", "").await;
    for (field, scheme) in [
        ("X-Forwarded-Proto: https", "https"),
        ("X-Forwarded-Proto: http", "http"),
        ("X-Forwarded-Proto: http, HTTPS", "https"),
        ("X-Forwarded-Proto: evil", "http"),
        ("X: y", "http"),
    ] {
        let answer = node.ask("GET", "/x", &[field]).await;
        assert!(
            answer.text().contains(&format!("\nx-forwarded-proto: {scheme}\n")),
            "{field}: {}",
            answer.text()
        );
        node.settled().await;
    }
    assert_eq!(origin.count("/x"), 2, "one answer for each scheme");
}

#[tokio::test]
async fn identities_are_taken_from_trusted_networks_alone() {
    let origin = telling().await;
    let more = "identity_fields = [\"X-User-Id\"]";
    let (names, own) = (["X-User-Id", "X_User_Id", "X-USER-ID"], "X-Auth-Request-User");
    let fields = evil(&[&names[..1], &[own]].concat());
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let node = trusting(&origin, "127.0.0.0/8", more).await;
    node.ask("GET", "/trusted", &fields).await;
    let asked = &origin.asked("/trusted")[0];
    assert_eq!((asked.field("x-user-id"), asked.field(own)), (Some("evil.test"), Some("evil.test")));
    let node = Node::with(&origin, more).await;
    for name in names {
        let target = format!("/{name}");
        node.ask("GET", &target, &[&*format!("{name}: evil.test"), "X-User-Ids: kept"]).await;
        let asked = &origin.asked(&target)[0];
        assert_eq!((asked.field(name), asked.field("x-user-ids")), (None, Some("kept")), "{name}");
    }
}

#[tokio::test]
async fn a_fat_get_neither_is_stored_nor_changes_what_is() {
    let origin = Origin::start().await;
    // Prefers the parameters of a body, as some frameworks do also for GET.
    origin.script("/x?lang=en", |mut exchange| async move {
        let body = exchange.body().await;
        exchange.send(reply(200, &[FRESH], if body.is_empty() { b"en".to_vec() } else { body })).await;
        exchange
    });
    let node = Node::before(&origin).await;
    let length = ["Content-Type: application/x-www-form-urlencoded", "Content-Length: 9"];
    let fat = [
        [request("GET", "/x?lang=en", &length), b"lang=evil".to_vec()].concat(),
        [request("GET", "/x?lang=en", &["Transfer-Encoding: chunked"]), chunk("lang=evil"), chunk("")]
            .concat(),
    ];
    for bytes in &fat {
        let answer = raw(&node, bytes).await;
        assert_eq!((answer.status, answer.text()), (200, "lang=evil"));
        assert!(answer.cache_status().ends_with("detail=body_on_get"), "{}", answer.cache_status());
        node.settled().await;
    }
    node.warm("/x?lang=en").await.assert_is(200, "en");
    for bytes in &fat {
        raw(&node, bytes).await.assert_is(200, "lang=evil");
        let hit = node.get("/x?lang=en").await;
        hit.assert_is(200, "en");
        hit.assert_hit();
    }
}

#[tokio::test]
async fn a_fetch_for_all_carries_no_wish_of_one() {
    let origin = telling().await;
    let node = Node::before(&origin).await;
    let wishes = [
        "Expect: 100-continue",
        "Range: bytes=0-0",
        "If-Range: \"x\"",
        "If-Match: \"x\"",
        "If-None-Match: \"x\"",
        "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
        "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
        "TE: gzip",
        "Content-Length: 0",
    ];
    let mut client = node.connect().await;
    client.send(format!("HEAD /y HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    client.reply("HEAD").await;
    node.ask("GET", "/x", &wishes).await;
    for name in wishes.map(|wish| wish.split(':').next().unwrap()) {
        assert_eq!(origin.asked("/x")[0].field(name), None, "{name}");
    }
}
