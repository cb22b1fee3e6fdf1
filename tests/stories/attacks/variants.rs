//! An answer belongs to the request that the origin saw (RFC 9111 §4.1), not to the one that a client wrote: otherwise a field that
//! does not get there stores the answer to one request under the name of another.

use super::{FRESH, trusting};
use crate::common::client::Client;
use crate::common::frames::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, fields, frame};
use crate::common::{Node, Origin, Reply, reply};

/// A trusted proxy, by its address.
const PROXY: &str = "127.0.0.2";

/// An origin whose answers vary by the field that a path names, and say what it saw of it.
async fn varying() -> Origin {
    let origin = Origin::start().await;
    origin.otherwise(|mut exchange| async move {
        exchange.body().await;
        let target = exchange.asked.head.line.split(' ').nth(1).unwrap_or_default().to_owned();
        let name = target.trim_start_matches('/').to_owned();
        let seen = format!("saw {}", exchange.asked.field(&name).unwrap_or("nothing"));
        let fields = [FRESH, &format!("Vary: {name}"), &format!("Content-Location: {target}")];
        exchange.send(reply(200, &fields, seen)).await;
        exchange
    });
    origin
}

/// What is answered once all that was asked before is stored.
async fn ask_from(node: &Node, from: &str, target: &str, fields: &[&str]) -> Reply {
    let mut client = Client::connect_from(from, node.doors[0]).await;
    let reply = client.ask("GET", target, fields).await;
    node.settled().await;
    reply
}

async fn behind_a_proxy(origin: &Origin) -> Node {
    trusting(origin, &format!("{PROXY}/32"), "identity_fields = [\"X-User-Id\", \"Origin\"]").await
}

#[tokio::test]
async fn what_connection_removes_selects_nothing() {
    let origin = varying().await;
    let node = Node::before(&origin).await;
    for name in ["RSC", "User-Agent", "HX-Request", "X-Requested-With", "Referer", "Close"] {
        for method in ["GET", "POST"] {
            let target = format!("/{}", name.to_lowercase());
            let written = format!("{name}: 1");
            let attack = [&*format!("Connection: close, {name}"), &written];
            let attacked = node.ask(method, &target, &attack).await;
            assert_eq!(attacked.text(), "saw nothing", "{method} {name}");
            node.settled().await;
            let victim = ask_from(&node, "127.0.0.1", &target, &[&written]).await;
            assert_eq!(victim.text(), "saw 1", "{method} {name}");
            let plain = ask_from(&node, "127.0.0.1", &target, &[]).await;
            assert_eq!(plain.text(), "saw nothing", "{method} {name}");
            plain.assert_hit();
        }
    }
}

#[tokio::test]
async fn an_identity_that_a_client_writes_selects_no_answer_for_one() {
    let origin = varying().await;
    let node = behind_a_proxy(&origin).await;
    for name in ["X-Forwarded-User", "X-User-Id", "X_User_Id", "Origin"] {
        let written = format!("{name}: root");
        let of_a_client = async |target: &str| {
            let answer = ask_from(&node, "127.0.0.1", target, &[&written]).await;
            assert_eq!(answer.text(), "saw nothing", "{target}");
        };
        let of_the_proxy = async |target: &str| {
            let answer = ask_from(&node, PROXY, target, &[&written]).await;
            assert_eq!(answer.text(), "saw root", "{target}");
        };
        let target = format!("/{name}");
        of_the_proxy(&target).await;
        of_a_client(&target).await;
        of_the_proxy(&target).await;
        let target = format!("/{}", name.to_lowercase());
        of_a_client(&target).await;
        of_the_proxy(&target).await;
        of_a_client(&target).await;
    }
}

#[tokio::test]
async fn what_varies_by_the_clients_address_is_for_no_other_client() {
    let origin = varying().await;
    let node = behind_a_proxy(&origin).await;
    for from in ["127.0.0.1", "127.0.0.3", "127.0.0.1"] {
        let answer = ask_from(&node, from, "/x-forwarded-for", &[]).await;
        assert_eq!(answer.text(), format!("saw {from}"));
        let answer = ask_from(&node, from, "/forwarded", &["Forwarded: for=9.9.9.9"]).await;
        assert!(answer.text().contains(&format!("for={from};")), "{}", answer.text());
    }
    // Told by a trusted proxy alone, and as it is believed.
    for client in ["198.51.100.7", "198.51.100.8"] {
        let told = format!("X-Forwarded-For: {client}");
        let answer = ask_from(&node, PROXY, "/x-real-ip", &[&told, "X-Real-IP: 9.9.9.9"]).await;
        assert_eq!(answer.text(), format!("saw {client}"));
    }
    for invented in [&["X-Real-IP: 198.51.100.7"][..], &["X-Real-IP: 198.51.100.9"], &[]] {
        let answer = ask_from(&node, "127.0.0.1", "/x-real-ip", invented).await;
        assert_eq!(answer.text(), "saw nothing");
    }
    assert_eq!(origin.count("/x-real-ip"), 3, "two clients of the proxy, and all others");
}

#[tokio::test]
async fn what_is_the_same_for_all_is_one_answer() {
    let origin = varying().await;
    let node = Node::before(&origin).await;
    for (name, seen) in [
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "site.test"),
        ("X-HTTP-Method-Override", "nothing"),
        ("X-Original-URL", "nothing"),
        ("X-Forwarded-Port", "nothing"),
        ("Proxy-Authorization", "nothing"),
        ("Via", "1.1 edge"),
        ("TE", "nothing"),
    ] {
        let target = format!("/{name}");
        for (at, written) in [&[][..], &[&*format!("{name}: evil")], &[]].iter().enumerate() {
            if name == "Via" && at == 1 {
                continue;
            }
            let answer = ask_from(&node, "127.0.0.1", &target, written).await;
            assert_eq!(answer.text(), format!("saw {seen}"), "{name}");
        }
        assert_eq!(origin.count(&target), 1, "{name}");
        let next = node.explain(&format!("http://site.test{target}")).await["next"]["verdict"].clone();
        assert_eq!(next, "hit_memory", "{name}");
    }
    ask_from(&node, "127.0.0.1", "/Host", &[]).await;
    ask_from(&node, "127.0.0.1", "/Host", &[]).await.assert_hit();
}

#[tokio::test]
async fn a_cookie_in_crumbs_is_the_one_that_the_origin_sees() {
    let origin = varying().await;
    let node = Node::before(&origin).await;
    let mut frames = Frames::connect(node.doors[0]).await;
    let crumbs = fields("GET", "/cookie", &[("cookie", "a=1"), ("cookie", "b=2")]);
    frames.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &crumbs)).await;
    let answer: Vec<u8> = frames
        .whole(1)
        .await
        .iter()
        .filter(|frame| frame.kind == DATA)
        .flat_map(|frame| frame.payload.clone())
        .collect();
    assert_eq!(String::from_utf8_lossy(&answer), "saw a=1; b=2");
    node.settled().await;
    let comma = ask_from(&node, "127.0.0.1", "/cookie", &["Cookie: a=1,b=2"]).await;
    assert_eq!(comma.text(), "saw a=1,b=2");
    ask_from(&node, "127.0.0.1", "/cookie", &["Cookie: a=1; b=2"]).await.assert_hit();
    // Over HTTP/1.1 several are joined alike, since origins see one.
    ask_from(&node, "127.0.0.1", "/cookie", &["Cookie: a=1", "Cookie: b=2"]).await.assert_hit();
}
