//! Parts of objects: stored, served, completed and put together (RFC 9111 §3.3, §3.4; RFC 9110 §14).

use crate::common::origin::head;
use crate::common::{Barrier, Node, Origin, content, reply, until};
use crate::purging::{purge, url};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shoal::proto::purge::Mode;
use std::sync::Arc;

const FRESH: &str = "Cache-Control: max-age=60";
const LENGTH: usize = 3_000_000;

/// A resource of an origin that serves ranges as it should.
#[derive(Clone)]
struct Resource {
    body: Arc<Mutex<(Vec<u8>, String)>>,
    /// Bytes that it was asked for.
    sent: Arc<Mutex<usize>>,
}

impl Resource {
    fn at(origin: &Origin, target: &str, body: &[u8], control: &'static str) -> Self {
        let body = Arc::new(Mutex::new((body.to_vec(), "\"one\"".to_owned())));
        let resource = Self { body, sent: Arc::default() };
        let own = resource.clone();
        origin.script(target, move |mut exchange| {
            let (body, etag) = own.body.lock().clone();
            let sent = Arc::clone(&own.sent);
            async move {
                let asked = &exchange.asked;
                let same = asked.field("if-range").is_none_or(|tag| tag == etag);
                let etag_line = format!("ETag: {etag}");
                let answer =
                    match asked.field("range").filter(|_| same).map(|range| bounds(range, body.len())) {
                        _ if asked.field("if-none-match") == Some(&etag) => {
                            reply(304, &[control, &etag_line], "")
                        }
                        None => reply(200, &[control, &etag_line], &body),
                        Some(None) => reply(416, &[&format!("Content-Range: bytes */{}", body.len())], ""),
                        Some(Some((from, to))) => {
                            let place = format!("Content-Range: bytes {from}-{}/{}", to - 1, body.len());
                            reply(206, &[control, &etag_line, &place], &body[from..to])
                        }
                    };
                *sent.lock() += answer.len();
                exchange.send(answer).await;
                exchange
            }
        });
        resource
    }

    fn become_version(&self, body: &[u8], etag: &str) {
        *self.body.lock() = (body.to_vec(), etag.to_owned());
    }

    fn take_sent(&self) -> usize {
        std::mem::take(&mut self.sent.lock())
    }
}

/// From and to of a single range of `length` bytes; `None` if it cannot be satisfied.
fn bounds(range: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (from, to) = match (first, last) {
        ("", suffix) => (length.saturating_sub(suffix.parse().unwrap()), length),
        (first, "") => (first.parse().unwrap(), length),
        (first, last) => (first.parse().unwrap(), (last.parse::<usize>().unwrap() + 1).min(length)),
    };
    (from < to).then_some((from, to))
}

fn range(from: usize, to: usize) -> String {
    format!("Range: bytes={from}-{}", to - 1)
}

async fn part(node: &Node, target: &str, from: usize, to: usize) -> crate::common::Reply {
    let reply = node.ask("GET", target, &[&range(from, to)]).await;
    node.settled().await;
    reply
}

async fn with_resource() -> (Origin, Resource, Node, Vec<u8>) {
    let body = content(LENGTH);
    let origin = Origin::start().await;
    let resource = Resource::at(&origin, "/x", &body, FRESH);
    let node = Node::before(&origin).await;
    (origin, resource, node, body)
}

/// The suite's partial-store-partial-reuse-partial, -byterange, -absent and -suffix, whose origin counts a byte too many.
#[tokio::test]
async fn ranges_within_a_stored_part_are_served_from_it() {
    let origin = Origin::start().await;
    origin.says("/x", reply(206, &[FRESH, "Content-Range: bytes 4-9/10"], "01234"));
    let node = Node::before(&origin).await;
    let first = node.ask("GET", "/x", &["Range: bytes=-5"]).await;
    first.assert_is(206, "01234");
    assert_eq!(first.cache_status(), "edge; fwd=uri-miss; fwd-status=206; stored; ttl=60; detail=origin");
    node.settled().await;
    for (range, body) in [("-5", "01234"), ("6-8", "234"), ("6-", "234"), ("-1", "4")] {
        let hit = node.ask("GET", "/x", &[&format!("Range: bytes={range}")]).await;
        hit.assert_is(206, body);
        hit.assert_hit();
    }
    assert_eq!(origin.asked("/x").len(), 1);
    assert_eq!(origin.asked("/x")[0].field("range"), Some("bytes=-5"));
}

/// The suite's partial-store-partial-complete, which has no validator: nothing is put together then.
#[tokio::test]
async fn without_a_strong_validator_the_rest_is_asked_for_and_never_joined() {
    for validator in ["X-None: 1", "ETag: W/\"weak\"", "Last-Modified: Sun, 01 Nov 2020 10:00:00 GMT"] {
        let origin = Origin::start().await;
        origin.script("/x", move |mut exchange| async move {
            let answer = match exchange.asked.field("range") {
                Some("bytes=-5") => reply(206, &[FRESH, validator, "Content-Range: bytes 0-4/10"], "01234"),
                Some(_) => reply(206, &[FRESH, validator, "Content-Range: bytes 5-9/10"], "WRONG"),
                None => reply(200, &[FRESH, validator], "0123456789"),
            };
            exchange.send(answer).await;
            exchange
        });
        let node = Node::before(&origin).await;
        node.ask("GET", "/x", &["Range: bytes=-5"]).await.assert_is(206, "01234");
        node.settled().await;
        node.get("/x").await.assert_is(200, "0123456789");
        let asked = origin.asked("/x");
        let ranges: Vec<_> = asked.iter().map(|asked| asked.field("range")).collect();
        assert_eq!(ranges, [Some("bytes=-5"), Some("bytes=5-"), None], "{validator}");
    }
}

#[tokio::test]
async fn a_whole_request_asks_only_for_what_is_missing_behind() {
    let (origin, resource, node, body) = with_resource().await;
    // RFC 9111 §3.3: a body that broke off is a part.
    origin.script("/x", {
        let body = body.clone();
        move |mut exchange| {
            let body = body.clone();
            async move {
                exchange
                    .send(head(200, &[FRESH, "ETag: \"one\"", &format!("Content-Length: {LENGTH}")]))
                    .await;
                exchange.send(&body[..LENGTH / 2]).await;
                exchange.close();
                exchange
            }
        }
    });
    assert!(!node.get("/x").await.is_whole, "a cut body is never passed off as whole");
    node.settled().await;
    let resource = Resource { sent: resource.sent, ..Resource::at(&origin, "/x", &body, FRESH) };
    let before = origin.count("/x");
    let whole = node.get("/x").await;
    whole.assert_is(200, &body);
    assert_eq!(whole.field("content-length"), Some("3000000"));
    assert_eq!(whole.field("content-range"), None);
    assert!(whole.cache_status().starts_with("edge; fwd=partial; fwd-status="), "{}", whole.cache_status());
    let asked = origin.asked("/x");
    assert_eq!(asked.len(), before + 1);
    let from = asked[before].field("range").unwrap().trim_start_matches("bytes=").trim_end_matches('-');
    assert!((1..=LENGTH / 2).contains(&from.parse().unwrap()), "{from}");
    assert_eq!(asked[before].field("if-range"), Some("\"one\""));
    node.settled().await;
    let hit = node.get("/x").await;
    hit.assert_is(200, &body);
    hit.assert_hit();
    let _ = resource;
}

#[tokio::test]
async fn a_part_in_the_middle_is_completed_at_both_ends() {
    let (origin, resource, node, body) = with_resource().await;
    part(&node, "/x", 1_500_000, 2_000_000).await.assert_is(206, &body[1_500_000..2_000_000]);
    resource.take_sent();
    node.get("/x").await.assert_is(200, &body);
    assert!(resource.take_sent() < LENGTH - 500_000 + 2000, "the part is not fetched again");
    let asked = origin.asked("/x");
    let ranges: Vec<_> = asked.iter().map(|asked| asked.field("range").unwrap()).collect();
    assert_eq!(ranges, ["bytes=1500000-1999999", "bytes=0-1499999", "bytes=2000000-2999999"]);
    node.settled().await;
    node.get("/x").await.assert_hit();
}

/// Suite issue 189: combining two 206.
#[tokio::test]
async fn two_parts_of_one_version_become_one() {
    let (origin, _, node, body) = with_resource().await;
    part(&node, "/x", 1_200_000, 1_300_000).await;
    part(&node, "/x", 1_250_000, 1_400_000).await.assert_is(206, &body[1_250_000..1_400_000]);
    assert_eq!(origin.asked("/x")[1].field("range"), Some("bytes=1300000-1399999"));
    part(&node, "/x", 1_100_000, 1_250_000).await.assert_is(206, &body[1_100_000..1_250_000]);
    assert_eq!(origin.asked("/x")[2].field("range"), Some("bytes=1100000-1199999"));
    let all = part(&node, "/x", 1_100_000, 1_400_000).await;
    all.assert_is(206, &body[1_100_000..1_400_000]);
    all.assert_hit();
    assert_eq!(all.field("content-range"), Some("bytes 1100000-1399999/3000000"));
    let many = node.ask("GET", "/x", &["Range: bytes=1100000-1100009,1399990-1399999"]).await;
    assert!(many.status == 206 && many.body.windows(10).any(|bytes| bytes == &body[1_399_990..1_400_000]));
    assert_eq!(origin.count("/x"), 3);
}

#[tokio::test]
async fn parts_of_two_versions_are_never_joined() {
    let (_origin, resource, node, _) = with_resource().await;
    part(&node, "/x", 1_200_000, 1_300_000).await;
    let other: Vec<u8> = content(LENGTH).iter().map(|byte| !byte).collect();
    resource.become_version(&other, "\"two\"");
    // If-Range makes it a 200, which takes the part's place.
    part(&node, "/x", 1_250_000, 1_400_000).await.assert_is(206, &other[1_250_000..1_400_000]);
    node.get("/x").await.assert_is(200, &other);
}

/// An origin that knows no If-Range gives a part of the new version: it takes the place of the old.
#[tokio::test]
async fn a_part_of_another_version_replaces_the_stored_one() {
    let origin = Origin::start().await;
    let other = content(400_000);
    origin.script("/x", {
        let other = other.clone();
        move |mut exchange| {
            let other = other.clone();
            async move {
                let asked = exchange.asked.field("range").expect("a range").to_owned();
                let (from, to) = bounds(&asked, 3_000_000).unwrap();
                let tag = if exchange.nth == 0 { "ETag: \"one\"" } else { "ETag: \"two\"" };
                let place = format!("Content-Range: bytes {from}-{}/3000000", to - 1);
                exchange.send(reply(206, &[FRESH, tag, &place], &other[..to - from])).await;
                exchange
            }
        }
    });
    let node = Node::before(&origin).await;
    part(&node, "/x", 1_200_000, 1_300_000).await.assert_is(206, &other[..100_000]);
    part(&node, "/x", 1_250_000, 1_400_000).await.assert_is(206, &other[..150_000]);
    let hit = part(&node, "/x", 1_250_000, 1_400_000).await;
    hit.assert_hit();
    assert_eq!(hit.field("etag"), Some("\"two\""));
    assert_eq!(origin.count("/x"), 3, "the part of the old version, the misfit, and all of the new");
}

#[tokio::test]
async fn a_stale_part_is_validated_and_a_changed_one_replaced() {
    let body = content(LENGTH);
    let origin = Origin::start().await;
    let resource = Resource::at(&origin, "/x", &body, "Cache-Control: max-age=0");
    let node = Node::before(&origin).await;
    part(&node, "/x", 1_200_000, 1_300_000).await;
    let again = part(&node, "/x", 1_210_000, 1_220_000).await;
    again.assert_is(206, &body[1_210_000..1_220_000]);
    assert!(again.cache_status().contains("fwd=stale; fwd-status=304"), "{}", again.cache_status());
    let asked = origin.asked("/x");
    assert_eq!(asked[1].field("if-none-match"), Some("\"one\""));
    assert_eq!(asked[1].field("range"), Some("bytes=1210000-1219999"));
    let other: Vec<u8> = body.iter().map(|byte| !byte).collect();
    resource.become_version(&other, "\"two\"");
    resource.take_sent();
    part(&node, "/x", 1_210_000, 1_220_000).await.assert_is(206, &other[1_210_000..1_220_000]);
    assert!(resource.take_sent() < 11_000, "only what was asked for");
}

/// Suite issue 192: 416. Suite issue 181: If-Range.
#[tokio::test]
async fn a_part_answers_416_and_if_range_by_what_it_knows() {
    let (origin, _, node, body) = with_resource().await;
    part(&node, "/x", 1_200_000, 1_300_000).await;
    let beyond = node.ask("GET", "/x", &["Range: bytes=3000000-"]).await;
    assert_eq!((beyond.status, beyond.field("content-range")), (416, Some("bytes */3000000")));
    let same = node.ask("GET", "/x", &["Range: bytes=1200000-1200009", "If-Range: \"one\""]).await;
    same.assert_is(206, &body[1_200_000..1_200_010]);
    same.assert_hit();
    assert_eq!(origin.count("/x"), 1);
    let other = node.ask("GET", "/x", &["Range: bytes=1200000-1200009", "If-Range: \"two\""]).await;
    other.assert_is(200, &body);
}

#[tokio::test]
async fn head_is_not_answered_from_a_part() {
    let (origin, _, node, _) = with_resource().await;
    part(&node, "/x", 1_200_000, 1_300_000).await;
    let head = node.ask("HEAD", "/x", &[]).await;
    assert_eq!((head.status, head.field("content-length")), (200, Some("3000000")));
    assert_eq!(origin.asked("/x")[1].method, "HEAD");
}

#[tokio::test]
async fn requests_for_one_range_share_one_fetch() {
    let (origin, _, node, body) = with_resource().await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(node.begin("GET", "/x", &["Range: bytes=1200000-1299999"]).await);
    }
    let mut collapsed = 0;
    for client in &mut clients {
        let reply = client.reply("GET").await;
        reply.assert_is(206, &body[1_200_000..1_300_000]);
        collapsed +=
            usize::from(reply.cache_status().contains("collapsed") || reply.cache_status().contains("hit;"));
    }
    assert_eq!((origin.count("/x"), collapsed), (1, 4));
}

#[tokio::test]
async fn a_purge_an_invalidation_and_authorization_hold_for_parts() {
    let (origin, _, node, _) = with_resource().await;
    origin.says("/change", reply(204, &["Location: /x"], ""));
    part(&node, "/x", 1_200_000, 1_300_000).await;
    node.ask("POST", "/change", &["Content-Length: 0"]).await;
    let after = part(&node, "/x", 1_200_000, 1_300_000).await;
    assert!(after.cache_status().contains("fwd=uri-miss"), "{}", after.cache_status());
    purge(&node, Mode::Hard, url("/x")).await;
    let after = part(&node, "/x", 1_200_000, 1_300_000).await;
    assert!(after.cache_status().contains("fwd=uri-miss"), "{}", after.cache_status());
    // What is fetched with credentials is not stored, also if it is a part.
    let fields = ["Range: bytes=1500000-1500009", "Authorization: Basic eDp5"];
    node.ask("GET", "/x", &fields).await;
    node.settled().await;
    let asked = origin.count("/x");
    part(&node, "/x", 1_500_000, 1_500_010).await;
    assert_eq!(origin.count("/x"), asked + 1);
}

#[tokio::test]
async fn parts_are_kept_by_variant() {
    let origin = Origin::start().await;
    origin.script("/x", |mut exchange| async move {
        let language = exchange.asked.field("accept-language").unwrap_or("none").to_owned();
        let vary = [FRESH, "Vary: Accept-Language", "Content-Range: bytes 2000000-2000001/3000000"];
        exchange.send(reply(206, &vary, &language[..2])).await;
        exchange
    });
    let node = Node::before(&origin).await;
    for (language, hit) in [("de", false), ("en", false), ("de", true), ("en", true)] {
        let fields = ["Range: bytes=2000000-2000001", &format!("Accept-Language: {language}")];
        let reply = node.ask("GET", "/x", &fields).await;
        reply.assert_is(206, language);
        assert_eq!(reply.cache_status().starts_with("edge; hit"), hit, "{}", reply.cache_status());
        node.settled().await;
    }
}

#[tokio::test]
async fn a_part_never_takes_the_place_of_the_whole() {
    let (origin, barrier) = (Origin::start().await, Barrier::closed());
    let (body, held) = (content(LENGTH), barrier.clone());
    origin.script("/x", {
        let body = body.clone();
        move |mut exchange| {
            let (body, held) = (body.clone(), held.clone());
            async move {
                let tag = "ETag: \"one\"";
                let answer = match exchange.asked.field("range") {
                    None => reply(200, &[FRESH, tag], &body),
                    Some(_) => {
                        held.pass().await;
                        reply(
                            206,
                            &[FRESH, tag, "Content-Range: bytes 2000000-2000009/3000000"],
                            &body[2_000_000..2_000_010],
                        )
                    }
                };
                exchange.send(answer).await;
                exchange
            }
        }
    });
    let node = Node::before(&origin).await;
    let mut late = node.begin("GET", "/x", &["Range: bytes=2000000-2000009"]).await;
    until("the range to be asked for", || origin.count("/x") == 1).await;
    node.get("/x").await.assert_is(200, &body);
    until("the whole to be stored", || node.assembly.node.fills.open() == 1).await;
    barrier.open();
    late.reply("GET").await.assert_is(206, &body[2_000_000..2_000_010]);
    node.settled().await;
    let hit = node.get("/x").await;
    hit.assert_is(200, &body);
    hit.assert_hit();
}

/// RangeAmp (DSN 2020): what a range costs the origin is bounded by what it asks for and a constant.
#[tokio::test]
async fn a_small_range_costs_the_origin_little() {
    // As long as a body may be that is fetched to its end for nobody.
    let length = 8 << 20;
    let body = Arc::new(content(length));
    let origin = Origin::start().await;
    origin.script("/x", {
        let body = Arc::clone(&body);
        move |mut exchange| {
            let body = Arc::clone(&body);
            async move {
                let fields = [FRESH, "ETag: \"one\"", &format!("Content-Length: {length}")];
                exchange.send(head(200, &fields)).await;
                for part in body.chunks(64 << 10) {
                    if !exchange.send_or_end(part).await {
                        break;
                    }
                }
                exchange
            }
        }
    });
    let node = Node::before(&origin).await;
    for (from, asked) in [(0, 1), (1 << 20, 2)] {
        let target = "/x";
        node.ask("GET", target, &[&range(from, from + 1)]).await.assert_is(206, &body[from..=from]);
        node.settled().await;
        let taken = node.metric("shoal_origin_bytes_total");
        assert!(taken <= f64::from((asked * 3) << 20), "{taken} bytes");
    }
}

#[tokio::test]
async fn parts_outlive_a_restart() {
    let body = content(LENGTH);
    let origin = Origin::start().await;
    Resource::at(&origin, "/x", &body, FRESH);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let settings =
        format!("[cache]\nmemory = \"8MiB\"\n[[cache.disk]]\npath = \"{path}\"\nsize = \"256MiB\"");
    let node = Node::with(&origin, &settings).await;
    part(&node, "/x", 1_200_000, 2_300_000).await.assert_is(206, &body[1_200_000..2_300_000]);
    node.stop().await;
    let node = Node::with(&origin, &settings).await;
    let hit = part(&node, "/x", 1_300_000, 2_200_000).await;
    hit.assert_is(206, &body[1_300_000..2_200_000]);
    hit.assert_hit();
    node.get("/x").await.assert_is(200, &body);
    let ranges: Vec<_> =
        origin.asked("/x").iter().map(|asked| asked.field("range").map(str::to_owned)).collect();
    assert_eq!(ranges[1].as_deref(), Some("bytes=0-1199999"));
    assert_eq!(origin.count("/x"), 3);
}

/// Whatever parts are asked for in whatever order, while the resource changes now and then: no answer has a byte of
/// another version than its entity tag says.
#[tokio::test]
async fn no_answer_is_made_of_two_versions() {
    let seed: u64 =
        std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let length = 1_800_000;
    let first = content(length);
    let version = |number: u8| -> Vec<u8> { first.iter().map(|byte| byte ^ number).collect() };
    let origin = Origin::start().await;
    let resource = Resource::at(&origin, "/x", &version(0), "Cache-Control: max-age=1");
    resource.become_version(&version(0), "\"0\"");
    let node = Node::before(&origin).await;
    let mut newest = 0;
    for _ in 0..60 {
        if random.random_bool(0.08) {
            newest += 1;
            resource.become_version(&version(newest), &format!("\"{newest}\""));
        }
        let from = random.random_range(0..length);
        let to = (from + random.random_range(1..700_000)).min(length);
        let fields = match random.random_range(0..8) {
            0 => vec![],
            1 => vec![format!("Range: bytes={from}-")],
            2 => vec![format!("Range: bytes=-{}", length - from)],
            3 => vec!["Cache-Control: no-cache".to_owned(), range(from, to)],
            _ => vec![range(from, to)],
        };
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        let reply = node.ask("GET", "/x", &fields).await;
        assert!(reply.is_whole, "{fields:?}");
        let tag: u8 = reply.field("etag").unwrap().trim_matches('"').parse().unwrap();
        let of = version(tag);
        match reply.field("content-range") {
            None => reply.assert_is(200, &of),
            Some(place) => {
                let (from, to) =
                    bounds(&format!("bytes={}", &place[6..place.find('/').unwrap()]), length).unwrap();
                reply.assert_is(206, &of[from..to]);
            }
        }
        if random.random_bool(0.5) {
            node.settled().await;
        }
    }
}
