//! Key confusion: what two requests share, the origin must have been unable to tell apart. The bytes in the key are the bytes
//! that it is sent.

use super::{first_line, raw, telling};
use crate::common::client::HOST;
use crate::common::{Node, Origin};
use std::collections::HashSet;

fn get(target: &str, host: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[tokio::test]
async fn spellings_of_one_authority_are_one_key_and_the_origin_sees_one() {
    let origin = telling().await;
    let node = Node::before(&origin).await;
    let of_name: &[&str] =
        &["site.test", "SITE.test", "site.test.", "site.test:80", "site.test:", "Site.Test.:0080"];
    let of_port: &[&str] = &["site.test:8080", "SITE.test.:8080", "site.test:08080"];
    let of_address: &[&str] = &["[::1]", "[0:0:0:0:0:0:0:1]", "[::0:1]:80", "[0000::0001]:"];
    let mapped: &[&str] = &["[::ffff:192.0.2.1]", "[::FFFF:c000:201]"];
    let classes = [
        ("site.test", of_name),
        ("site.test:8080", of_port),
        ("[::1]", of_address),
        ("[::ffff:192.0.2.1]", mapped),
        ("192.0.2.1", &["192.0.2.1", "192.0.2.1:80"]),
        ("site.test:443", &["site.test:443"]),
        ("www.site.test", &["www.site.test"]),
    ];
    for (index, (normal, spellings)) in classes.iter().enumerate() {
        for spelling in *spellings {
            let answer = raw(&node, &get("/x", spelling)).await;
            assert_eq!(answer.status, 200, "{spelling}: {}", answer.text());
            assert!(answer.text().contains(&format!("\nhost: {normal}\n")), "{spelling}: {}", answer.text());
            node.settled().await;
        }
        assert_eq!(origin.count("/x"), index + 1, "{normal}");
    }
}

#[tokio::test]
async fn an_authority_that_could_be_read_in_two_ways_is_refused() {
    let origin = telling().await;
    let node = Node::before(&origin).await;
    for host in [
        "site.test@evil.test",
        "evil.test\\@site.test",
        "site.test#",
        "site.test#@evil.test",
        "site.test?",
        "site.test/x",
        "site.test,evil.test",
        "site.test;evil.test",
        "site.test:80:80",
        "site.test:80@evil.test",
        "site.test:+80",
        "site.test:0x50",
        "site.test:65536",
        "site.test:0",
        "site.test%2eevil.test",
        "site.test%00",
        "site..test",
        ".site.test",
        "site.test..",
        "site.test\tevil.test",
        "::1",
        "[::1",
        "[::1]x",
        "[fe80::1%25lo]",
        "[::1].site.test",
        "",
        ".",
        ":80",
    ] {
        let answer = raw(&node, &get("/x", host)).await;
        assert_eq!(answer.status, 400, "{host:?}: {}", answer.text());
    }
    assert_eq!(origin.count_all(), 0);
}

#[tokio::test]
async fn absolute_form_and_host_name_one_authority_or_the_request_is_refused() {
    let origin = telling().await;
    let node = Node::before(&origin).await;
    for (line, hosts) in [
        ("http://site.test/x", "Host: site.test"),
        ("http://SITE.test:80/x", "Host: site.test."),
        ("HTTP://site.test/x", "Host: site.test:80"),
        ("/x", "Host: site.test"),
    ] {
        let answer = raw(&node, &format!("GET {line} HTTP/1.1\r\n{hosts}\r\n\r\n")).await;
        assert_eq!(first_line(&answer), "GET /x HTTP/1.1", "{line} {hosts}");
        node.settled().await;
    }
    assert_eq!(origin.count_all(), 1, "one key, and the origin is asked in origin form");
    for (line, hosts, status) in [
        ("http://evil.test/x", "Host: site.test", 400),
        ("http://site.test/x", "Host: evil.test", 400),
        ("http://site.test:81/x", "Host: site.test", 400),
        ("http://evil.test@site.test/x", "Host: site.test", 400),
        ("http://site.test@evil.test/x", "Host: site.test", 400),
        ("http:///x", "Host: site.test", 400),
        ("http:/site.test/x", "Host: site.test", 400),
        ("site.test/x", "Host: site.test", 400),
        ("ftp://site.test/x", "Host: site.test", 400),
        ("https://site.test/x", "Host: site.test", 421),
        ("/x", "Host: site.test\r\nHost: site.test", 400),
        ("/x", "Host: site.test\r\nhost: evil.test", 400),
        ("/x", "Host: site.test\r\n Host: evil.test", 400),
        ("/x", "Host : site.test", 400),
        ("/x", "X: y\r\n\tHost: evil.test\r\nHost: site.test", 400),
    ] {
        let answer = raw(&node, &format!("GET {line} HTTP/1.1\r\n{hosts}\r\n\r\n")).await;
        assert_eq!(answer.status, status, "{line} {hosts:?}: {}", answer.text());
    }
    assert_eq!(origin.count_all(), 1);
    // Two slashes begin a path, not an authority.
    let answer = raw(&node, &get("//evil.test/x", HOST)).await;
    assert_eq!(first_line(&answer), "GET //evil.test/x HTTP/1.1");
    assert!(answer.text().contains("\nhost: site.test\n"), "{}", answer.text());
}

/// Paths and queries that some program takes for one another.
const FORMS: [&str; 62] = [
    "/x",
    "/X",
    "/x/",
    "//x",
    "/./x",
    "/a/../x",
    "/../x",
    "/x/.",
    "/x//",
    "/%78",
    "/%58",
    "/x%2f",
    "/x%2F",
    "/x%5c",
    "/x%5C",
    "/x\\",
    "/\\x",
    "/x;",
    "/x;a",
    "/x;a=b",
    "/x%3b",
    "/x%3B",
    "/x%23",
    "/x%23a",
    "/x%3f",
    "/x%3Fa",
    "/x?",
    "/x??",
    "/x?a",
    "/x?a=",
    "/x?a&",
    "/x?&a",
    "/x?a=b",
    "/x?a=%62",
    "/x?A=b",
    "/x?a=b&c",
    "/x?c&a=b",
    "/x?a=b;c",
    "/x?a=+",
    "/x?a=%20",
    "/x?a=%2b",
    "/x+y",
    "/x%20y",
    "/x%2by",
    "/x%00",
    "/x%00y",
    "/x%0a",
    "/x%0d%0a",
    "/x%09",
    "/x%2e",
    "/%2e/x",
    "/%2E/x",
    "/a/%2e%2e/x",
    "/a%2f..%2fx",
    "/a/..%2fx",
    "/x%252f",
    "/x%25252f",
    "/x%c0%af",
    "/x%e2%88%95",
    "/x.css",
    "/x|y",
    "/x~",
];

#[tokio::test]
async fn each_form_of_a_target_is_keyed_and_forwarded_as_it_is_written() {
    let origin = telling().await;
    let node = Node::before(&origin).await;
    for _ in 0..2 {
        for target in FORMS {
            let answer = raw(&node, &get(target, HOST)).await;
            assert_eq!(first_line(&answer), format!("GET {target} HTTP/1.1"));
            node.settled().await;
        }
    }
    assert_eq!(FORMS.iter().collect::<HashSet<_>>().len(), FORMS.len());
    assert_eq!(origin.count_all(), FORMS.len(), "none shares an answer with another, each has its own");
}

#[tokio::test]
async fn a_target_that_is_none_is_refused_or_is_what_the_origin_is_asked_for() {
    let origin = telling().await;
    let node = Node::before(&origin).await;
    for target in [
        "/x#", "/x#a", "/x#/../y", "/x?a#b", "/x%", "/x%2", "/x%zz", "/x%u002f", "/x<y", "/x>y", "/x\"y",
        "/x`y", "/x^y", "/x{y}", "/\u{e4}", "x", "*", "?x", "#x", "/x?a b", "/x\ty",
    ] {
        let before = origin.count_all();
        let answer = raw(&node, &get(target, HOST)).await;
        node.settled().await;
        if answer.status != 200 {
            assert_eq!((answer.status, origin.count_all()), (400, before), "{target}");
            continue;
        }
        // Whoever asks for what the origin was asked for gets the same.
        let line = first_line(&answer);
        let asked = line.split(' ').nth(1).unwrap().to_owned();
        assert_eq!(first_line(&raw(&node, &get(&asked, HOST)).await), line, "{target}");
        assert_eq!(origin.asked(&asked).len(), 1, "{target}: keyed as it is forwarded");
    }
}

#[tokio::test]
async fn sites_share_nothing_though_their_hosts_and_paths_read_alike() {
    let origin: Origin = telling().await;
    let site = |host: &str| format!("[[site]]\nhosts = [\"{host}\"]\norigins = [\"http://{}\"]\n", origin.at);
    let node = Node::of(&format!(
        "[node]\nname = \"edge\"\n[listen]\nhttp = [\"127.0.0.1:0\"]\n{}{}{}",
        site("a.test"),
        site("a.test.b.test"),
        site("*.a.test")
    ))
    .await;
    for (index, (host, target)) in
        [("a.test", "/b.test/x"), ("a.test.b.test", "/x"), ("b.a.test", "/x"), ("a.test", "/x")]
            .iter()
            .enumerate()
    {
        for _ in 0..2 {
            let answer = raw(&node, &get(target, host)).await;
            assert!(answer.text().contains(&format!("\nhost: {host}\n")), "{}", answer.text());
            node.settled().await;
        }
        assert_eq!(origin.count_all(), index + 1);
    }
}
