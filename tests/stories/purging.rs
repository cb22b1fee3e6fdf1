//! What was purged is gone, or stale: whatever selected it, however it is stored, and after a restart.

use crate::common::{Node, Origin, Reply, content, reply};
use shoal::proto::purge::{Mode, Wanted};
use shoal::serve::{By, Order, Way};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

const FRESH: &str = "Cache-Control: max-age=600";

/// Purges, and waits until it is done.
pub(crate) async fn purge(node: &Node, mode: Mode, wanted: Wanted) {
    let by = By { way: Way::Admin, from: Ipv4Addr::LOCALHOST.into(), token: None };
    let order = Order { wanted: vec![wanted], mode, wait: Duration::from_secs(5), by };
    let done = node.assembly.node.order(order).await.unwrap();
    assert!(done.complete);
}

pub(crate) fn url(path: &str) -> Wanted {
    Wanted::Url(format!("https://site.test{path}"))
}

fn prefix(path: &str) -> Wanted {
    Wanted::Prefix(format!("site.test{path}"))
}

fn tag(tag: &str) -> Wanted {
    Wanted::Tag { site: None, tag: tag.to_owned() }
}

/// Whether a request was answered without the origin.
async fn is_hit(node: &Node, target: &str, fields: &[&str]) -> bool {
    let reply = node.ask("GET", target, fields).await;
    assert!(matches!(reply.status, 200 | 206), "{} {}", reply.status, reply.text());
    node.settled().await;
    reply.cache_status().starts_with("edge; hit")
}

async fn warm(node: &Node, target: &str, fields: &[&str]) -> Reply {
    let reply = node.ask("GET", target, fields).await;
    node.settled().await;
    reply
}

#[tokio::test]
async fn a_url_goes_with_all_variants_ranges_and_chunks_and_nothing_else_goes() {
    let origin = Origin::start().await;
    let large = content(3_000_000);
    for target in ["/x", "/x?y", "/xy"] {
        origin.says(target, reply(200, &[FRESH], "body"));
    }
    origin.says("/large", reply(200, &[FRESH, "ETag: \"l\""], &large));
    origin.script("/varied", |mut exchange| async move {
        let language = exchange.asked.field("accept-language").unwrap_or("none").to_owned();
        exchange.send(reply(200, &[FRESH, "Vary: Accept-Language"], language)).await;
        exchange
    });
    let node = Node::before(&origin).await;
    let languages = ["Accept-Language: de", "Accept-Language: en"];
    for target in ["/x", "/x?y", "/xy", "/large"] {
        warm(&node, target, &[]).await;
    }
    for language in languages {
        warm(&node, "/varied", &[language]).await;
        assert!(is_hit(&node, "/varied", &[language]).await);
    }
    purge(&node, Mode::Hard, url("/x")).await;
    assert!(!is_hit(&node, "/x", &[]).await && is_hit(&node, "/x", &[]).await, "fetched anew, and kept");
    assert!(is_hit(&node, "/x?y", &[]).await && is_hit(&node, "/xy", &[]).await);
    purge(&node, Mode::Hard, url("/varied")).await;
    for language in languages {
        assert!(!is_hit(&node, "/varied", &[language]).await, "{language}");
    }
    for range in ["Range: bytes=0-9", "Range: bytes=2500000-2500009"] {
        warm(&node, "/large", &[]).await;
        assert!(is_hit(&node, "/large", &[range]).await);
        purge(&node, Mode::Hard, url("/large")).await;
        assert!(!is_hit(&node, "/large", &[range]).await, "{range}");
    }
}

#[tokio::test]
async fn prefixes_hosts_sites_and_all_take_what_is_theirs() {
    let origin = Origin::start().await;
    for target in ["/blog/a", "/blog/b?c", "/blog", "/x"] {
        origin.says(target, reply(200, &[FRESH], "body"));
    }
    let sites = format!(
        "[node]\nname = \"edge\"\n[listen]\nhttp = [\"127.0.0.1:0\"]\n\
         [[site]]\nname = \"one\"\nhosts = [\"site.test\", \"www.site.test\"]\norigins = [\"http://{0}\"]\n\
         [[site]]\nname = \"two\"\nhosts = [\"two.test\"]\norigins = [\"http://{0}\"]\n",
        origin.at
    );
    let node = Node::of(&sites).await;
    let all = [
        ("site.test", "/blog/a"),
        ("site.test", "/blog/b?c"),
        ("site.test", "/blog"),
        ("www.site.test", "/blog/a"),
        ("two.test", "/blog/a"),
    ];
    let hits = async || {
        let mut hits = Vec::new();
        for (host, target) in all {
            let mut client = node.connect().await;
            client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            let reply = client.reply("GET").await;
            node.settled().await;
            hits.push(reply.cache_status().starts_with("edge; hit"));
        }
        hits
    };
    assert_eq!(hits().await, [false; 5]);
    assert_eq!(hits().await, [true; 5]);
    for (wanted, left) in [
        (prefix("/blog/"), [false, false, true, true, true]),
        (prefix("/blog"), [false, false, false, true, true]),
        (Wanted::Host("www.site.test".to_owned()), [true, true, true, false, true]),
        (Wanted::Site("one".to_owned()), [false, false, false, false, true]),
        (Wanted::All, [false; 5]),
    ] {
        for mode in [Mode::Hard, Mode::Soft] {
            purge(&node, mode, wanted.clone()).await;
            assert_eq!(hits().await, left, "{mode:?} {wanted:?}");
            assert_eq!(hits().await, [true; 5], "{mode:?} {wanted:?}: once");
        }
    }
}

#[tokio::test]
async fn a_tag_is_read_from_each_of_its_fields() {
    let origin = Origin::start().await;
    let fields = [
        "Surrogate-Key: red blue",
        "xkey: red blue",
        "Cache-Tag: red, blue",
        "Cache-Groups: \"red\", \"blue\"",
        "Cache-Tags: red blue",
        "X-Cache-Tags: red,blue",
        "X-Magento-Tags: red,blue",
    ];
    for (index, field) in fields.iter().enumerate() {
        origin.says(&format!("/{index}"), reply(200, &[FRESH, field], "body"));
    }
    origin.says("/green", reply(200, &[FRESH, "Surrogate-Key: green"], "body"));
    let node = Node::before(&origin).await;
    for purged in ["red", "blue"] {
        let targets: Vec<String> = (0..fields.len()).map(|index| format!("/{index}")).collect();
        for target in targets.iter().map(String::as_str).chain(["/green"]) {
            warm(&node, target, &[]).await;
            assert!(is_hit(&node, target, &[]).await, "{target}");
        }
        purge(&node, Mode::Hard, tag(purged)).await;
        for (target, field) in targets.iter().zip(fields) {
            assert!(!is_hit(&node, target, &[]).await, "{field} has {purged}");
        }
        assert!(is_hit(&node, "/green", &[]).await);
    }
    let of_other = Wanted::Tag { site: Some("default".to_owned()), tag: "green".to_owned() };
    purge(&node, Mode::Hard, of_other).await;
    assert!(!is_hit(&node, "/green", &[]).await);
}

#[tokio::test]
async fn soft_is_stale_and_is_validated_or_served_meanwhile() {
    let origin = Origin::start().await;
    let validated = "ETag: \"v\"";
    origin.says_in_turn("/x", [reply(200, &[FRESH, validated], "body"), reply(304, &[FRESH, validated], "")]);
    let meanwhile = "Cache-Control: max-age=600, stale-while-revalidate=60";
    origin.says_in_turn("/swr", [reply(200, &[meanwhile], "old"), reply(200, &[meanwhile], "new")]);
    origin.says_in_turn("/failing", [reply(200, &[FRESH], "old"), reply(503, &[], "")]);
    let node = Node::before(&origin).await;
    for target in ["/x", "/swr", "/failing"] {
        warm(&node, target, &[]).await;
        purge(&node, Mode::Soft, url(target)).await;
    }
    let validated = node.get("/x").await;
    validated.assert_is(200, "body");
    assert!(validated.cache_status().contains("detail=revalidated"), "{}", validated.cache_status());
    node.settled().await;
    assert!(is_hit(&node, "/x", &[]).await, "good again");
    let stale = node.get("/swr").await;
    stale.assert_is(200, "old");
    assert!(stale.cache_status().contains("stale_while_revalidate"), "{}", stale.cache_status());
    node.settled().await;
    node.get("/swr").await.assert_is(200, "new");
    node.get("/failing").await.assert_is(200, "old");
    // Gone is gone: no stale response stands in for a failing origin.
    purge(&node, Mode::Hard, url("/failing")).await;
    assert_eq!(node.get("/failing").await.status, 503);
}

fn disk(folder: &Path) -> String {
    format!("[[cache.disk]]\npath = \"{}\"\nsize = \"64MiB\"", folder.display())
}

#[tokio::test]
async fn what_was_purged_does_not_come_back_with_a_restart() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    for target in ["/gone", "/stale", "/kept", "/tagged"] {
        origin.says(target, reply(200, &[FRESH, &format!("xkey: {}", &target[1..])], "body"));
    }
    let node = Node::with(&origin, &disk(folder.path())).await;
    for target in ["/gone", "/stale", "/kept", "/tagged"] {
        warm(&node, target, &[]).await;
    }
    purge(&node, Mode::Hard, url("/gone")).await;
    purge(&node, Mode::Soft, url("/stale")).await;
    purge(&node, Mode::Hard, tag("tagged")).await;
    node.stop().await;
    let node = Node::with(&origin, &disk(folder.path())).await;
    for target in ["/gone", "/stale", "/tagged"] {
        assert!(!is_hit(&node, target, &[]).await, "{target}");
    }
    assert!(is_hit(&node, "/kept", &[]).await);
    assert_eq!(["/gone", "/stale", "/kept", "/tagged"].map(|target| origin.count(target)), [2, 2, 1, 2]);
    node.stop().await;
}
