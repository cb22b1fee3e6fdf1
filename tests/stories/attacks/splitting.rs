//! Response splitting: no line end gets from a request, or a broken origin, into the head of an answer.

use super::{FRESH, raw, telling};
use crate::common::client::HOST;
use crate::common::{Node, Origin, in_time, reply};
use serde_json::Value;

#[tokio::test]
async fn an_answer_with_a_broken_field_is_502_and_not_stored() {
    let origin = Origin::start().await;
    for (index, field) in [
        &b"X-A: b\rX-Evil: c"[..],
        b"X-A: b\r\r\nX-Evil: c",
        b"X-A: b\0c",
        b"X-A: b\x01c",
        b"X-A: b\x7fc",
        b"X-A: b\r\n X-Evil: c",
        b"X-A: b\r\n\tX-Evil: c",
        b"X-A : b",
        b"X A: b",
        b"X-A\r\n: b",
        b": b",
        b"X-A\0: b",
        b"X-\xc3\xa4: b",
        b"no colon",
    ]
    .iter()
    .enumerate()
    {
        let target = format!("/x{index}");
        let broken = [
            b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n",
            *field,
            b"\r\nContent-Length: 4\r\n\r\nevil",
        ]
        .concat();
        origin.says_in_turn(&target, [broken, reply(200, &[FRESH], "good")]);
        let node = Node::with(&origin, "retries = 0").await;
        let answer = node.get(&target).await;
        assert_eq!(answer.status, 502, "{}: {}", field.escape_ascii(), answer.text());
        assert_eq!(answer.field("x-evil"), None);
        node.settled().await;
        node.get(&target).await.assert_is(200, "good");
    }
}

#[tokio::test]
async fn line_ends_in_a_target_stay_what_they_are() {
    let (origin, folder) = (telling().await, tempfile::tempdir().unwrap());
    let log = folder.path().join("access.log");
    let node = Node::with(&origin, &format!("[log]\naccess = \"{}\"", log.display())).await;
    let targets = [
        "/%0d%0aSet-Cookie:%20id=evil",
        "/%0D%0ALocation:%20http://evil.test/",
        "/x?a=%0d%0a%0d%0aHTTP/1.1%20200%20OK",
        "/%250d%250aX:%20y",
        "/%e5%98%8a%e5%98%8dSet-Cookie:x",
        "/x?\\r\\nSet-Cookie:x",
    ];
    for target in targets {
        for _ in 0..2 {
            let answer = node.get(target).await;
            assert_eq!(super::first_line(&answer), format!("GET {target} HTTP/1.1"));
            assert_eq!((answer.field("set-cookie"), answer.field("location")), (None, None));
            node.settled().await;
        }
        assert_eq!(origin.count(target), 1);
        // Nor do the answers that this node makes repeat it.
        let refused = node.ask("GET", target, &["Via: 1.1 edge"]).await;
        assert_eq!((refused.status, refused.field("set-cookie")), (508, None));
        assert!(!refused.text().contains("evil"), "{}", refused.text());
    }
    for bare in ["/x\rSet-Cookie: x", "/x\nSet-Cookie: x HTTP/1.1", "/x\r\nSet-Cookie: x", "/x\0", "/x\u{b}y"]
    {
        let answer = raw(&node, format!("GET {bare} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        assert_eq!((answer.status, answer.field("set-cookie")), (400, None), "{bare:?}");
    }
    // Each request is one line of the log.
    let text = in_time("the log", async {
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if text.lines().count() >= targets.len() * 3 && text.ends_with('\n') {
                return text;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let logged: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    for target in targets {
        assert_eq!(logged.iter().filter(|line| line["target"] == target).count(), 3, "{target}");
    }
}

#[tokio::test]
async fn what_a_client_calls_its_request_is_not_what_this_node_does() {
    let origin = telling().await;
    let node = Node::before(&origin).await;
    let fields = [
        "X-Request-Id: evil\"; detail=x",
        "traceparent: 00-evil",
        "Cache-Status: evil; hit",
        "Via: 1.1 edge",
        "Age: 5",
    ];
    let refused = node.ask("GET", "/x", &fields).await;
    assert_eq!(refused.status, 508);
    let id = refused.field("x-request-id").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(refused.head.fields_named("cache-status"), ["edge; detail=loop"]);
    let whole = format!("{:?}{}", refused.head, refused.text());
    assert!(!whole.contains("evil"), "{whole}");
    // What was handled before this node stands before what it says itself.
    origin.says("/y", reply(200, &[FRESH, "Cache-Status: origin; hit; detail=\"a\""], "body"));
    for _ in 0..2 {
        let answer = node.warm("/y").await;
        let lines = answer.head.fields_named("cache-status");
        assert_eq!((lines.len(), lines[0]), (2, "origin; hit; detail=\"a\""));
        assert!(lines[1].starts_with("edge; "), "{lines:?}");
    }
}
