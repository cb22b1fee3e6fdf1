//! What purges make of requests, one rule each.

use super::stage::*;
use crate::proto::object::PurgePosition;
use crate::proto::purge::{Mode, Selector};
use crate::proto::verdict::Verdict;
use crate::proto::wire::{ask, reply};
use crate::store::Departure;
use http::{Method, StatusCode};
use std::sync::Arc;
use std::time::Duration;

const DAY: &str = "cache-control: max-age=86400\r\nsurrogate-key: chairs tables\r\nxkey: x\r\ncache-tag: a,b\r\ncache-groups: \"g\"\r\n";
const SECOND: Duration = Duration::from_secs(1);

async fn stage(page: Page) -> Stage {
    let origin = Origin::new();
    origin.put("/a", page);
    Stage::before(&origin, Making::plain()).await
}

fn slow(page: Page) -> Page {
    Page { waits: [SECOND; 2], ..page }
}

#[tokio::test(start_paused = true)]
async fn what_a_hard_purge_selects_is_as_if_not_stored_and_leaves_the_store() {
    for selector in [
        url("/a"),
        tag("tables"),
        tag("b"),
        tag("g"),
        Selector::Prefix { site: "shop".into(), host: HOST.into(), path: "/".into() },
        Selector::Host { site: "shop".into(), host: HOST.into() },
        Selector::Site { site: "shop".into() },
        Selector::All,
    ] {
        let stage = stage(Page::new(DAY)).await;
        stage.node().store.watch();
        stage.get("/a").await;
        stage.settle().await;
        assert_eq!(stage.get("/a").await.verdict, Verdict::HitMemory);
        drop(stage.node().store.changes(9));
        stage.origin.change("/a", |page| page.version = 2);
        stage.purge(Mode::Hard, selector.clone()).await;
        let got = stage.get("/a").await;
        assert_eq!(
            (got.verdict, got.reason, got.version()),
            (Verdict::Origin, Some("purged"), 2),
            "{selector}"
        );
        assert!(got.fields["cache-status"].to_str().unwrap().contains("fwd=uri-miss"));
        let conditional = stage.origin.asked("/a")[1].contains_key("if-none-match");
        assert!(!conditional, "what is gone is not validated");
        let usage = stage.node().store.usage();
        assert_eq!(usage.index.departed(Departure::Purged), 1);
        assert_eq!(stage.node().metrics.purges.meets.get(), 1);
        stage.settle().await;
        assert_eq!(stage.get("/a").await.verdict, Verdict::HitMemory);
    }
}

#[tokio::test(start_paused = true)]
async fn the_directory_hears_of_what_a_look_up_found_purged() {
    let stage = stage(Page::new(DAY)).await;
    stage.node().store.watch();
    stage.get("/a").await;
    stage.settle().await;
    drop(stage.node().store.changes(9));
    stage.purge(Mode::Hard, url("/a")).await;
    let (said, _) = stage.ask_as_peer(ask::Kind::Read(read("/a"))).await;
    assert!(matches!(said, Some(reply::Kind::Gone(_))), "{said:?}");
    let removed = stage.node().store.changes(9).removed;
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].object, cache_key("/a").object());
}

#[tokio::test(start_paused = true)]
async fn a_purge_of_something_else_costs_nothing_and_is_looked_at_once() {
    let stage = stage(Page::new(DAY)).await;
    stage.get("/a").await;
    stage.settle().await;
    stage.purge(Mode::Hard, url("/b")).await;
    assert_eq!(stage.stored("/a").unwrap().head.position.get(), PurgePosition(0));
    assert_eq!(stage.get("/a").await.verdict, Verdict::HitMemory);
    assert_eq!(stage.stored("/a").unwrap().head.position.get(), PurgePosition(1));
}

#[tokio::test(start_paused = true)]
async fn windows_of_staleness_begin_at_a_soft_purge() {
    let fields = "cache-control: max-age=86400, stale-while-revalidate=10, stale-if-error=20\r\n";
    let stage = stage(Page::new(fields)).await;
    stage.get("/a").await;
    stage.settle().await;
    stage.purge(Mode::Soft, url("/a")).await;
    stage.origin.change("/a", |page| (page.version, page.down) = (2, true));
    tokio::time::sleep(9 * SECOND).await;
    let got = stage.get("/a").await;
    assert_eq!((got.verdict, got.version()), (Verdict::StaleWhileRevalidate, 1));
    stage.settle().await;
    tokio::time::sleep(10 * SECOND).await;
    let got = stage.get("/a").await;
    assert_eq!((got.verdict, got.version()), (Verdict::StaleIfError, 1));
    tokio::time::sleep(SECOND).await;
    let got = stage.get("/a").await;
    assert_eq!((got.verdict, got.status), (Verdict::Pass, StatusCode::SERVICE_UNAVAILABLE), "both are over");
    stage.origin.change("/a", |page| (page.version, page.down) = (1, false));
    let got = stage.get("/a").await;
    assert_eq!((got.verdict, got.version()), (Verdict::Revalidated, 1), "it was only stale");
    assert_eq!(stage.get("/a").await.verdict, Verdict::HitMemory, "the origin said so after the purge");
}

#[tokio::test(start_paused = true)]
async fn a_peer_is_not_given_what_a_soft_purge_made_stale() {
    let stage = stage(Page::new("cache-control: max-age=86400, stale-while-revalidate=600\r\n")).await;
    stage.get("/a").await;
    stage.settle().await;
    let (said, _) = stage.ask_as_peer(ask::Kind::Read(read("/a"))).await;
    assert!(matches!(said, Some(reply::Kind::Head(_))), "{said:?}");
    stage.purge(Mode::Soft, url("/a")).await;
    let (said, _) = stage.ask_as_peer(ask::Kind::Read(read("/a"))).await;
    assert!(matches!(said, Some(reply::Kind::Gone(_))), "{said:?}");
    let mut opened = open("/a");
    opened
        .fields
        .push(crate::proto::wire::Field { name: "cache-control".into(), value: b"max-stale".to_vec() });
    let (said, _) = stage.ask_as_peer(ask::Kind::Open(opened)).await;
    assert!(
        matches!(said, Some(reply::Kind::Gone(_))),
        "not even to a client that bears stale ones: {said:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_a_purge_overtook_serves_who_reads_it_and_nobody_new() {
    for (mode, asking) in [(Mode::Hard, true), (Mode::Hard, false), (Mode::Soft, true), (Mode::Soft, false)] {
        let stage = stage(slow(Page::new(DAY))).await;
        let (own, early) = (stage.clone(), stage.clone());
        let first = async { tokio::join!(own.get("/a"), early.get("/a")) };
        let late = async {
            // Before its head, or within its body.
            tokio::time::sleep(if asking { SECOND / 2 } else { SECOND * 3 / 2 }).await;
            stage.origin.change("/a", |page| page.version = 2);
            stage.purge(mode, tag("chairs")).await;
            let (peer, got) = tokio::join!(stage.ask_as_peer(ask::Kind::Read(read("/a"))), stage.get("/a"));
            assert!(matches!(peer.0, Some(reply::Kind::Gone(_))), "no peer follows it: {:?}", peer.0);
            got
        };
        let ((one, other), late) = tokio::join!(first, late);
        assert_eq!((one.version(), other.version()), (1, 1), "{mode:?}");
        assert_eq!(other.verdict, Verdict::HitCollapsed);
        assert!(one.body.is_ok() && other.body.is_ok());
        assert_eq!((late.verdict, late.version()), (Verdict::Origin, 2), "{mode:?}");
        stage.settle().await;
        let got = stage.get("/a").await;
        assert_eq!((got.verdict, got.version()), (Verdict::HitMemory, 2), "{mode:?}: the new one is kept");
        assert_eq!(stage.node().metrics.purges.fills.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_fetch_brings_carries_the_position_at_which_it_began() {
    let stage = stage(slow(Page::new(DAY))).await;
    let other = async {
        tokio::time::sleep(SECOND / 2).await;
        stage.purge(Mode::Hard, url("/b")).await;
    };
    tokio::join!(stage.get("/a"), other);
    stage.settle().await;
    assert_eq!(stage.stored("/a").unwrap().head.position.get(), PurgePosition(0));
    // A validation carries its own.
    tokio::time::sleep(Duration::from_secs(90_000)).await;
    assert_eq!(stage.get("/a").await.verdict, Verdict::Revalidated);
    assert_eq!(stage.stored("/a").unwrap().head.position.get(), PurgePosition(1));
}

#[tokio::test(start_paused = true)]
async fn a_validation_that_a_purge_overtook_makes_nothing_fresh() {
    for mode in Mode::ALL {
        let stage = stage(Page::new("cache-control: max-age=10\r\n")).await;
        stage.get("/a").await;
        stage.settle().await;
        tokio::time::sleep(20 * SECOND).await;
        stage.origin.change("/a", |page| page.waits[0] = SECOND);
        let purge = async {
            tokio::time::sleep(SECOND / 2).await;
            stage.origin.change("/a", |page| page.version = 2);
            stage.purge(mode, url("/a")).await;
        };
        tokio::join!(stage.get("/a"), purge);
        stage.settle().await;
        assert_eq!(stage.get("/a").await.version(), 2, "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_post_that_a_purge_overtook_is_not_used_again() {
    let fields = "cache-control: max-age=600\r\ncontent-location: /a\r\n";
    let stage = stage(Page::new(fields)).await;
    stage.ask(Method::POST, "/a", &[]).await.unwrap();
    stage.settle().await;
    assert_eq!(stage.get("/a").await.verdict, Verdict::HitMemory, "without a purge it is stored");
    stage.origin.change("/a", |page| page.waits = [SECOND; 2]);
    for wait in [SECOND / 2, SECOND * 3 / 2] {
        let purge = async {
            tokio::time::sleep(wait).await;
            stage.origin.change("/a", |page| page.version += 1);
            stage.purge(Mode::Hard, url("/a")).await;
        };
        let (posted, ()) = tokio::join!(stage.ask(Method::POST, "/a", &[]), purge);
        assert!(posted.unwrap().body.is_ok());
        stage.settle().await;
        let now = stage.origin.change("/a", |page| page.version);
        assert_eq!(stage.get("/a").await.version(), now, "{wait:?}");
        stage.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_out_of_sync_validates_what_is_fresh_and_gives_peers_nothing_stored() {
    let origin = Origin::new();
    origin.put("/a", Page::new("cache-control: max-age=600, stale-while-revalidate=600\r\n"));
    origin.put("/s", Page::new("cache-control: s-maxage=600\r\n"));
    let stage = Stage::before(&origin, Making { in_fleet: true, ..Making::plain() }).await;
    let purges = &stage.node().purges;
    let synced = || purges.synced(stage.node().clock.mono() + 10 * SECOND);
    synced();
    for path in ["/a", "/s"] {
        stage.get(path).await;
        stage.settle().await;
        assert_eq!(stage.get(path).await.verdict, Verdict::HitMemory);
    }
    tokio::time::sleep(11 * SECOND).await;
    let got = stage.get("/a").await;
    assert_eq!(got.verdict, Verdict::Revalidated);
    assert!(got.fields["cache-status"].to_str().unwrap().contains("fwd=stale"));
    let next = stage.node().explain(&format!("http://{HOST}/a")).await.unwrap();
    assert!(!next.in_sync && next.next.why.contains("(out_of_sync)"), "{next:?}");
    let (said, _) = stage.ask_as_peer(ask::Kind::Read(read("/a"))).await;
    assert!(matches!(said, Some(reply::Kind::Gone(_))), "{said:?}");

    // Without the origin it may be as stale as what has just gone stale.
    origin.change("/a", |page| page.down = true);
    origin.change("/s", |page| page.down = true);
    assert_eq!(stage.get("/a").await.verdict, Verdict::StaleIfError);
    let got = stage.get("/s").await;
    assert_eq!(
        (got.verdict, got.status),
        (Verdict::Pass, StatusCode::SERVICE_UNAVAILABLE),
        "s-maxage forbids it"
    );
    let only = stage.ask(Method::GET, "/a", &[("cache-control", "only-if-cached")]).await;
    assert!(only.is_err(), "nothing is certain without asking");

    synced();
    assert_eq!(stage.get("/a").await.verdict, Verdict::HitMemory);
    assert_eq!(stage.get("/s").await.verdict, Verdict::HitMemory);
}

#[tokio::test(start_paused = true)]
async fn tags_for_caches_are_stored_and_given_to_peers_but_not_to_clients() {
    const TAGS: [&str; 3] = ["surrogate-key", "xkey", "cache-tag"];
    let origin = Origin::new();
    let uncached = DAY.replace("max-age=86400", "no-store");
    let posted = format!("{DAY}content-location: /p\r\n");
    for (path, fields) in [("/a", DAY), ("/own", &uncached), ("/passed/a", DAY), ("/p", &posted)] {
        origin.put(path, Page::new(fields));
    }
    origin.put("/named", Page::new(&DAY.replace("max-age=86400", "max-age=60, no-cache=\"xkey\"")));
    let stage = Stage::before(&origin, Making::plain()).await;
    for (method, path) in [
        (Method::GET, "/a"),
        (Method::GET, "/a"),
        (Method::HEAD, "/a"),
        (Method::GET, "/own"),
        (Method::GET, "/own"),
        (Method::GET, "/passed/a"),
        (Method::POST, "/p"),
        (Method::GET, "/named"),
    ] {
        let got = stage.ask(method.clone(), path, &[]).await.unwrap();
        for name in TAGS {
            assert!(!got.fields.contains_key(name), "{method} {path}: {name} by {:?}", got.verdict);
        }
        assert_eq!(got.fields["cache-groups"], "\"g\"", "{method} {path}");
        stage.settle().await;
    }
    let unchanged = stage.ask(Method::GET, "/a", &[("if-none-match", "\"1\"")]).await.unwrap();
    assert_eq!(unchanged.status, StatusCode::NOT_MODIFIED);
    assert!(TAGS.iter().all(|name| !unchanged.fields.contains_key(*name)));
    let (said, _) = stage.ask_as_peer(ask::Kind::Read(read("/a"))).await;
    let Some(reply::Kind::Head(head)) = said else { panic!("{said:?}") };
    assert!(TAGS.iter().all(|name| head.fields.iter().any(|field| field.name == *name)));
}

#[tokio::test(start_paused = true)]
async fn explain_tells_what_purges_make_of_what_is_stored() {
    let stage = stage(Page::new(DAY)).await;
    stage.get("/a").await;
    stage.settle().await;
    let explain = async || stage.node().explain(&format!("http://{HOST}/a")).await.unwrap();
    assert_eq!(explain().await.stored[0].purges.judgement, "clear");
    stage.purge(Mode::Soft, url("/a")).await;
    tokio::time::sleep(7 * SECOND).await;
    let said = explain().await;
    let judged = &said.stored[0].purges;
    assert_eq!((judged.position, judged.judgement, judged.stale_for), (0, "soft", Some(7)));
    assert!(said.purge_position == 1 && said.next.why.contains("(purged)"), "{said:?}");
    stage.purge(Mode::Hard, tag("chairs")).await;
    let said = explain().await;
    assert_eq!((said.stored[0].purges.judgement, said.next.verdict), ("hard", "origin"));
}

#[tokio::test(start_paused = true)]
async fn purges_without_end_do_not_keep_a_request_from_its_answer() {
    let stage =
        stage(Page { waits: [SECOND, Duration::ZERO], ..Page::new("cache-control: max-age=0\r\n") }).await;
    stage.get("/a").await;
    stage.settle().await;
    let storm = Stage { origin: Arc::clone(&stage.origin), worker: Arc::clone(&stage.worker) };
    let purging = async move {
        loop {
            tokio::time::sleep(SECOND / 3).await;
            storm.purge(Mode::Hard, Selector::All).await;
        }
    };
    let got = tokio::select! {
        got = stage.get("/a") => got,
        () = purging => unreachable!("it has no end"),
    };
    assert_eq!((got.status, got.version()), (StatusCode::OK, 1));
    assert!(stage.origin.asked("/a").len() <= 8, "{}", stage.origin.asked("/a").len());
}
