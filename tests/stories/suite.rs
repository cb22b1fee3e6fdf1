//! What the public HTTP cache suite tests and its npm release 0.4.5, the gate in CI, does not; and what the suite itself names
//! as not covered yet, by the numbers of its issues. Ids are those of the suite, commit b55b8bd.
//!
//! Elsewhere: `interim-*` (103 and 102) with the stories of the front; `other-age-delay` in the tests of `proto::semantics`;
//! `partial-*`, issues 189 (combining two 206) and 192 (416 of parts) in `partial`.

use crate::common::{Node, Origin, Reply, reply};
use shoal::clock::Clock;
use std::time::{Duration, UNIX_EPOCH};

const FRESH: &str = "Cache-Control: max-age=60";
const STALE: &str = "Cache-Control: max-age=0";
const ETAG: &str = "ETag: \"one\"";
const EARLY: &str = "Sun, 01 Nov 2020 10:00:00 GMT";
const LATE: &str = "Sun, 08 Nov 2020 10:00:00 GMT";

/// An HTTP date so many seconds from now.
fn date(seconds: i64) -> String {
    let now = Clock::system().now().wall.as_secs();
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs((now + seconds).unsigned_abs()))
}

/// Whether a second request is answered from what the first brought. `@n` in a field stands for the date in `n` seconds; what
/// the suite waits for is said by `Age`.
async fn is_cached(status: u16, fields: &[&str]) -> (bool, Reply) {
    let fields: Vec<String> = fields
        .iter()
        .map(|field| match field.split_once('@') {
            Some((name, seconds)) => format!("{name}{}", date(seconds.parse().unwrap())),
            None => (*field).to_owned(),
        })
        .collect();
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let origin = Origin::start().await;
    origin.says("/x", reply(status, &fields, "body"));
    let node = Node::with(&origin, "[cache]\nprofile = \"rfc\"").await;
    node.get("/x").await;
    node.settled().await;
    let second = node.get("/x").await;
    second.assert_is(status, "body");
    (origin.count("/x") == 1, second)
}

async fn check(id: &str, fields: &[&str], cached: bool) -> Reply {
    let (is, reply) = is_cached(200, fields).await;
    assert_eq!(is, cached, "{id}: {fields:?}: {}", reply.cache_status());
    reply
}

#[tokio::test]
async fn cdn_cache_control_decides_alone_if_it_is_valid() {
    for (id, cached, fields) in [
        ("cdn-max-age", true, &["CDN-Cache-Control: max-age=3600"][..]),
        ("cdn-max-age-max", true, &["CDN-Cache-Control: max-age=2147483648"]),
        ("cdn-max-age-max-plus", true, &["CDN-Cache-Control: max-age=99999999999"]),
        ("cdn-max-age-age", false, &["Date: @0", "CDN-Cache-Control: max-age=3600", "Age: 7200"]),
        (
            "cdn-max-age-space-before-equals",
            false,
            &["Cache-Control: max-age=1", "CDN-Cache-Control: max-age =100", "Age: 3"],
        ),
        (
            "cdn-max-age-space-after-equals",
            false,
            &["Cache-Control: max-age=1", "CDN-Cache-Control: max-age= 100", "Age: 3"],
        ),
        ("cdn-max-age-0", false, &["CDN-Cache-Control: max-age=0"]),
        ("cdn-max-age-extension", true, &["CDN-Cache-Control: foobar, max-age=3600"]),
        // RFC 9651 §3.1.2: a key is in lower case, so the field does not parse.
        ("cdn-max-age-case-insensitive", false, &["CDN-Cache-Control: MaX-aGe=3600"]),
        ("cdn-max-age-expires", true, &["CDN-Cache-Control: max-age=3600", "Expires: @-10000", "Date: @0"]),
        (
            "cdn-max-age-cc-max-age-invalid-expires",
            true,
            &["CDN-Cache-Control: max-age=3600", "Expires: 0", "Date: @0"],
        ),
        ("cdn-max-age-0-expires", false, &["CDN-Cache-Control: max-age=0", "Expires: @10000", "Date: @0"]),
        (
            "cdn-max-age-short-cc-max-age",
            true,
            &["Cache-Control: max-age=1", "CDN-Cache-Control: max-age=3600", "Age: 3"],
        ),
        (
            "cdn-max-age-long-cc-max-age",
            false,
            &["Cache-Control: max-age=3600", "CDN-Cache-Control: max-age=1", "Age: 3"],
        ),
        (
            "cdn-private",
            false,
            &["CDN-Cache-Control: private", "Cache-Control: max-age=10000", "Expires: @10000", "Date: @0"],
        ),
        (
            "cdn-no-cache",
            false,
            &["CDN-Cache-Control: no-cache", "Cache-Control: max-age=10000", "Expires: @10000", "Date: @0"],
        ),
        (
            "cdn-no-store-cc-fresh",
            false,
            &["Cache-Control: max-age=10000", "CDN-Cache-Control: no-store", "Expires: @10000", "Date: @0"],
        ),
        ("cdn-fresh-cc-nostore", true, &["Cache-Control: no-store", "CDN-Cache-Control: max-age=10000"]),
        (
            "cdn-cc-invalid-sh-type-unknown",
            false,
            &["CDN-Cache-Control: max-age=10000, &&&&&", "Cache-Control: no-store"],
        ),
        (
            "cdn-cc-invalid-sh-type-wrong",
            false,
            &["CDN-Cache-Control: max-age=\"10000\"", "Cache-Control: no-store"],
        ),
    ] {
        check(id, fields, cached).await;
    }
}

/// cdn-remove-header, cdn-remove-age-exceed, cdn-date-update-exceed, cdn-expires-update-exceed; other-date-update-expires,
/// other-date-update-expires-update.
#[tokio::test]
async fn fields_of_freshness_reach_the_client_as_the_origin_sent_them() {
    let (now, then) = (date(-2), date(-1));
    for control in ["CDN-Cache-Control: max-age=10000", "X-None: 1"] {
        let expires = if control.starts_with('X') { date(10_000) } else { then.clone() };
        let fields = [control, &format!("Date: {now}"), &format!("Expires: {expires}")];
        let hit = check("other-date-update-expires", &fields, true).await;
        assert_eq!((hit.field("date"), hit.field("expires")), (Some(&now[..]), Some(&expires[..])));
        assert!(hit.field("age").unwrap().parse::<u32>().unwrap() >= 2);
    }
    let fields = ["Cache-Control: max-age=10000", "CDN-Cache-Control: foo"];
    let (_, forwarded) = is_cached(200, &fields).await;
    assert_eq!(forwarded.field("cdn-cache-control"), Some("foo"));
}

#[tokio::test]
async fn ages_beyond_31_bits_and_lifetimes_that_are_over_are_stale() {
    check("freshness-max-age-stale", &["Cache-Control: max-age=2", "Age: 3"], false).await;
    for (id, age) in [
        ("age-parse-large-minus-one", "Age: 2147483647"),
        ("age-parse-large", "Age: 2147483648"),
        ("age-parse-larger", "Age: 2147483649"),
    ] {
        check(id, &["Date: @0", "Cache-Control: max-age=3600", age], false).await;
    }
    let fields = ["Cache-Control: max-age=3600, no-store, must-understand"];
    check("status-200-must-understand", &fields, true).await;
    assert!(!is_cached(599, &fields).await.0, "status-599-must-understand");
}

/// cc-resp-no-store-old-new, cc-resp-no-store-old-max-age.
#[tokio::test]
async fn an_answer_that_must_not_be_stored_leaves_an_older_one_in_use() {
    for control in ["Cache-Control: no-store", "Cache-Control: no-store, max-age=0"] {
        let origin = Origin::start().await;
        origin.says_in_turn("/x", [reply(200, &[FRESH], "old"), reply(200, &[control], "new")]);
        let node = Node::before(&origin).await;
        node.warm("/x").await;
        node.ask("GET", "/x", &["Cache-Control: no-cache"]).await.assert_is(200, "new");
        node.settled().await;
        let hit = node.get("/x").await;
        hit.assert_is(200, "old");
        hit.assert_hit();
    }
}

/// stale-while-revalidate, stale-while-revalidate-window.
#[tokio::test]
async fn within_its_window_what_is_stale_is_served_and_not_after_it() {
    for (age, cached) in [("Age: 3", true), ("Age: 7", false)] {
        let origin = Origin::start().await;
        let control = "Cache-Control: max-age=1, stale-while-revalidate=4";
        origin.says_in_turn(
            "/x",
            [reply(200, &[control, ETAG, age], "old"), reply(200, &["Cache-Control: no-cache", ETAG], "new")],
        );
        let node = Node::before(&origin).await;
        node.warm("/x").await;
        let second = node.get("/x").await;
        second.assert_is(200, if cached { "old" } else { "new" });
        node.settled().await;
        assert_eq!(origin.count("/x"), 2, "refreshed behind, or validated");
        node.get("/x").await.assert_is(200, "new");
    }
}

async fn with_fresh(fields: &[&str]) -> (Origin, Node) {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, fields, "body"));
    let node = Node::before(&origin).await;
    node.warm("/x").await;
    (origin, node)
}

/// Issue 177.
#[tokio::test]
async fn a_location_of_another_origin_is_not_invalidated() {
    for field in ["Location", "Content-Location"] {
        for (location, hit) in [
            ("http://other.test/x", true),
            ("https://site.test/x", true),
            ("http://site.test:8080/x", true),
            ("//other.test/x", true),
            ("http://site.test/x", false),
            ("/x", false),
        ] {
            let (origin, node) = with_fresh(&[FRESH]).await;
            origin.says("/form", reply(201, &[&format!("{field}: {location}")], ""));
            node.ask("POST", "/form", &["Content-Length: 0"]).await;
            let after = node.get("/x").await.cache_status().starts_with("edge; hit");
            assert_eq!(after, hit, "{field}: {location}");
        }
    }
}

/// Issue 178, and QUERY (RFC 10008).
#[tokio::test]
async fn safe_methods_do_not_invalidate() {
    for method in ["HEAD", "OPTIONS", "PROPFIND", "REPORT", "SEARCH", "QUERY"] {
        let (_origin, node) = with_fresh(&[FRESH, "Location: /x"]).await;
        let fields = if method == "HEAD" { &[][..] } else { &["Content-Length: 0"] };
        node.ask(method, "/x", fields).await.assert_is(200, if method == "HEAD" { "" } else { "body" });
        node.get("/x").await.assert_hit();
    }
}

/// RFC 10008: its answer depends on its content, so it is none of GET's, and GET's is none of it.
#[tokio::test]
async fn a_query_is_answered_by_the_origin_and_kept_apart_from_get() {
    let origin = Origin::start().await;
    origin.script("/x", |mut exchange| async move {
        let asked = exchange.asked.method.clone();
        let body = String::from_utf8(exchange.body().await).unwrap();
        exchange.send(reply(200, &[FRESH, "Content-Location: /x"], format!("{asked} {body}"))).await;
        exchange
    });
    let node = Node::before(&origin).await;
    for content in ["q=1", "q=2"] {
        let mut client = node.connect().await;
        client
            .send(format!("QUERY /x HTTP/1.1\r\nHost: site.test\r\nContent-Length: 3\r\n\r\n{content}"))
            .await;
        let answer = client.reply("QUERY").await;
        answer.assert_is(200, format!("QUERY {content}"));
        assert!(
            answer.cache_status().starts_with("edge; fwd=method; fwd-status=200"),
            "{}",
            answer.cache_status()
        );
    }
    node.warm("/x").await.assert_is(200, "GET ");
    node.get("/x").await.assert_hit();
}

/// Issue 179.
#[tokio::test]
async fn only_if_cached_is_answered_with_what_is_stored() {
    let (origin, node) = with_fresh(&[FRESH]).await;
    let hit = node.ask("GET", "/x", &["Cache-Control: only-if-cached"]).await;
    hit.assert_is(200, "body");
    hit.assert_hit();
    assert_eq!(node.ask("GET", "/none", &["Cache-Control: only-if-cached"]).await.status, 504);
    assert_eq!(origin.count_all(), 1);
}

/// Issues 180 and 181.
#[tokio::test]
async fn conditions_are_answered_from_what_is_stored() {
    let (origin, node) = with_fresh(&[FRESH, ETAG, &format!("Last-Modified: {EARLY}")]).await;
    for (fields, status) in [
        (vec!["If-Match: \"one\"".to_owned()], 200),
        (vec!["If-Match: \"two\", \"one\"".to_owned()], 200),
        (vec!["If-Match: *".to_owned()], 200),
        (vec!["If-Match: \"two\"".to_owned()], 412),
        (vec!["If-Match: W/\"one\"".to_owned()], 412),
        (vec![format!("If-Unmodified-Since: {LATE}")], 200),
        (vec![format!("If-Unmodified-Since: {EARLY}")], 200),
        (vec!["If-Unmodified-Since: Sun, 25 Oct 2020 10:00:00 GMT".to_owned()], 412),
        (vec!["If-None-Match: *".to_owned()], 304),
        (vec!["If-None-Match: \"two\"".to_owned()], 200),
        (vec!["Range: bytes=1-2".to_owned(), "If-Range: \"one\"".to_owned()], 206),
        (vec!["Range: bytes=1-2".to_owned(), "If-Range: \"two\"".to_owned()], 200),
        (vec!["Range: bytes=1-2".to_owned(), "If-Range: W/\"one\"".to_owned()], 200),
        (vec!["Range: bytes=1-2".to_owned(), format!("If-Range: {EARLY}")], 206),
        (vec!["Range: bytes=1-2".to_owned(), format!("If-Range: {LATE}")], 200),
    ] {
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        assert_eq!(node.ask("GET", "/x", &fields).await.status, status, "{fields:?}");
    }
    assert_eq!(origin.count("/x"), 1);
}

/// Issue 182.
#[tokio::test]
async fn fields_that_are_private_or_no_cache_by_name_are_not_replayed() {
    for control in ["private", "no-cache"] {
        let control = format!("Cache-Control: max-age=60, {control}=\"X-Own, Set-Cookie\"");
        let (_origin, node) = with_fresh(&[&control, "X-Own: 1", "Set-Cookie: a=b", "X-All: 2"]).await;
        let hit = node.get("/x").await;
        hit.assert_hit();
        assert_eq!(
            (hit.field("x-own"), hit.field("set-cookie"), hit.field("x-all")),
            (None, None, Some("2"))
        );
    }
}

/// Issue 183.
#[tokio::test]
async fn clients_bound_how_stale_or_how_fresh_an_answer_is() {
    for (fields, demand, hit) in [
        (["Cache-Control: max-age=10", "Age: 15"], "max-stale", true),
        (["Cache-Control: max-age=10", "Age: 15"], "max-stale=20", true),
        (["Cache-Control: max-age=10", "Age: 15"], "max-stale=4", false),
        (["Cache-Control: max-age=10, must-revalidate", "Age: 15"], "max-stale=20", false),
        (["Cache-Control: max-age=100", "Age: 15"], "min-fresh=60", true),
        (["Cache-Control: max-age=100", "Age: 15"], "min-fresh=90", false),
        (["Cache-Control: max-age=100", "Age: 15"], "max-age=30", true),
        (["Cache-Control: max-age=100", "Age: 15"], "max-age=10", false),
    ] {
        let (_origin, node) = with_fresh(&fields).await;
        let reply = node.ask("GET", "/x", &[&format!("Cache-Control: {demand}")]).await;
        assert_eq!(reply.cache_status().starts_with("edge; hit"), hit, "{fields:?} {demand}");
    }
}

/// Issues 184 and 185.
#[tokio::test]
async fn a_200_replaces_what_is_stale_and_a_304_makes_it_fresh() {
    for (answer, body) in
        [(reply(200, &[FRESH, "ETag: \"two\""], "new"), "new"), (reply(304, &[FRESH, ETAG], ""), "old")]
    {
        let origin = Origin::start().await;
        origin.says_in_turn("/x", [reply(200, &[STALE, ETAG], "old"), answer]);
        let node = Node::before(&origin).await;
        node.warm("/x").await;
        node.warm("/x").await.assert_is(200, body);
        let hit = node.get("/x").await;
        hit.assert_is(200, body);
        hit.assert_hit();
        assert_eq!(origin.asked("/x")[1].field("if-none-match"), Some("\"one\""));
    }
}

/// Issue 186; head-writethrough, head-200-freshness-update, head-200-update, head-200-retain.
#[tokio::test]
async fn the_answer_to_a_head_freshens_what_it_describes_and_drops_what_it_does_not() {
    for (head, after) in [
        (&[FRESH, ETAG, "X-New: 1"][..], Some("old")),
        (&[FRESH, ETAG, "X-New: 1", "Content-Length: 3"], Some("old")),
        (&[FRESH, ETAG, "Content-Length: 4"], None),
        (&[FRESH, "ETag: \"two\""], None),
    ] {
        let origin = Origin::start().await;
        let head: Vec<String> = head.iter().map(|field| (*field).to_owned()).collect();
        origin.script("/x", move |mut exchange| {
            let head = head.clone();
            async move {
                let head: Vec<&str> = head.iter().map(String::as_str).collect();
                let answer = match (&exchange.asked.method[..], exchange.nth) {
                    ("HEAD", _) => crate::common::origin::head(200, &head),
                    (_, 0) => reply(200, &[STALE, ETAG, "X-Kept: 1"], "old"),
                    _ => reply(200, &[FRESH, "ETag: \"two\""], "new"),
                };
                exchange.send(answer).await;
                exchange
            }
        });
        let node = Node::before(&origin).await;
        node.warm("/x").await;
        node.ask("HEAD", "/x", &[]).await;
        node.settled().await;
        let next = node.get("/x").await;
        assert_eq!(origin.asked("/x")[1].method, "HEAD");
        match after {
            Some(body) => {
                next.assert_is(200, body);
                next.assert_hit();
                assert_eq!((next.field("x-new"), next.field("x-kept")), (Some("1"), Some("1")));
            }
            None => {
                next.assert_is(200, "new");
                assert!(next.cache_status().contains("fwd=uri-miss"), "{}", next.cache_status());
                assert_eq!(origin.asked("/x")[2].field("if-none-match"), None);
            }
        }
    }
}

/// What a client shows or forbids must not change what others get.
#[tokio::test]
async fn the_answer_to_a_head_with_credentials_changes_nothing() {
    for field in ["Authorization: Basic eDp5", "Cache-Control: no-store"] {
        let origin = Origin::start().await;
        origin.script("/x", |mut exchange| async move {
            let answer = match &exchange.asked.method[..] {
                "HEAD" => reply(200, &[FRESH, "ETag: \"other\""], ""),
                _ if exchange.asked.field("if-none-match").is_some() => reply(304, &[FRESH, ETAG], ""),
                _ => reply(200, &[STALE, ETAG], "old"),
            };
            exchange.send(answer).await;
            exchange
        });
        let node = Node::before(&origin).await;
        node.warm("/x").await;
        node.ask("HEAD", "/x", &[field]).await;
        let next = node.get("/x").await;
        next.assert_is(200, "old");
        assert!(next.cache_status().contains("fwd=stale; fwd-status=304"), "{}", next.cache_status());
    }
}

/// Issue 188.
#[tokio::test]
async fn names_in_vary_have_no_case() {
    let origin = Origin::start().await;
    origin.says("/x", reply(200, &[FRESH, "Vary: X-fOO"], "body"));
    let node = Node::before(&origin).await;
    node.ask("GET", "/x", &["x-Foo: 1"]).await;
    node.settled().await;
    node.ask("GET", "/x", &["X-FOO: 1"]).await.assert_hit();
    let other = node.ask("GET", "/x", &["X-Foo: 2"]).await;
    assert!(other.cache_status().contains("fwd=vary-miss"), "{}", other.cache_status());
}

/// Issues 190 and 191.
#[tokio::test]
async fn statuses_are_stored_by_a_heuristic_if_they_are_defined_so_and_with_a_lifetime_all() {
    let modified = "Last-Modified: @-1000000";
    for status in [200, 203, 300, 301, 308, 404, 405, 410, 414, 501] {
        assert!(is_cached(status, &[modified, "Date: @0"]).await.0, "{status}");
    }
    for status in
        [201, 202, 302, 303, 307, 400, 403, 409, 418, 421, 422, 425, 429, 451, 500, 502, 503, 504, 599]
    {
        assert!(!is_cached(status, &[modified, "Date: @0"]).await.0, "{status}");
        assert!(is_cached(status, &[FRESH]).await.0, "{status} with a lifetime");
    }
    let origin = Origin::start().await;
    let place = "Content-Range: bytes 2000000-2000003/3000000";
    let modified = format!("Last-Modified: {}", date(-1_000_000));
    origin.says("/x", reply(206, &[&modified, place], "body"));
    let node = Node::before(&origin).await;
    for hit in [false, true] {
        let part = node.ask("GET", "/x", &["Range: bytes=2000000-2000003"]).await;
        part.assert_is(206, "body");
        assert_eq!(part.cache_status().starts_with("edge; hit"), hit, "{}", part.cache_status());
        node.settled().await;
    }
}

/// Issue 192.
#[tokio::test]
async fn a_416_is_handed_on_and_never_stored() {
    let origin = Origin::start().await;
    origin.says("/x", reply(416, &[FRESH, "Content-Range: bytes */10"], "no"));
    let node = Node::before(&origin).await;
    for asked in 1..=2 {
        let answer = node.ask("GET", "/x", &["Range: bytes=2000000-"]).await;
        assert_eq!((answer.status, answer.field("content-range")), (416, Some("bytes */10")));
        node.settled().await;
        assert_eq!(origin.count("/x"), asked);
    }
}

/// vary-normalise-lang-select: a response in the one language that a client likes best, with the profile `rfc` alone.
#[tokio::test]
async fn one_language_selects_what_is_in_it_and_nothing_else() {
    async fn two(settings: &str) -> (Origin, Node) {
        let origin = Origin::start().await;
        origin.script("/x", |mut exchange| async move {
            let device = exchange.asked.field("x-device").unwrap_or("none").to_owned();
            let accepted = exchange.asked.field("accept-language").unwrap_or("none").to_owned();
            let language = if accepted.contains("de") { "de" } else { "en" };
            let said = format!("Content-Language: {language}");
            let fields = [FRESH, "Vary: Accept-Language, X-Device", &said];
            exchange.send(reply(200, &fields, format!("{language} {device}"))).await;
            exchange
        });
        let node = Node::with(&origin, settings).await;
        node.ask("GET", "/x", &["Accept-Language: en, de"]).await.assert_is(200, "de none");
        node.settled().await;
        (origin, node)
    }
    let (_origin, node) = two("[cache]\nprofile = \"rfc\"").await;
    let hit = node.ask("GET", "/x", &["Accept-Language: fr;q=0.5, DE;q=1.0"]).await;
    hit.assert_is(200, "de none");
    hit.assert_hit();
    for (fields, body) in [
        (&["Accept-Language: en"][..], "en none"),
        (&["Accept-Language: fr, de"], "de none"),
        (&["Accept-Language: *"], "en none"),
        (&["Accept-Language: de", "X-Device: phone"], "de phone"),
        (&[], "en none"),
    ] {
        let other = node.ask("GET", "/x", fields).await;
        other.assert_is(200, body);
        assert!(other.cache_status().contains("fwd=vary-miss"), "{fields:?} {}", other.cache_status());
        node.settled().await;
    }
    for settings in ["", "[site.cache]\nselect_language = false\n[cache]\nprofile = \"rfc\""] {
        let (_origin, node) = two(settings).await;
        let other = node.ask("GET", "/x", &["Accept-Language: de"]).await;
        assert!(other.cache_status().contains("fwd=vary-miss"), "{settings} {}", other.cache_status());
    }
}

/// RFC 9875 §3: groups of the same origin go when the origin says so in its answer to an unsafe request, and by nothing else.
#[tokio::test]
async fn groups_are_invalidated_by_the_answer_to_an_unsafe_request() {
    let origin = Origin::start().await;
    let targets = [
        ("/a", "Cache-Groups: \"red\", \"big\""),
        ("/b", "Cache-Groups: \"blue\""),
        ("/c", "Surrogate-Key: red"),
    ];
    for (target, groups) in targets {
        origin.says(target, reply(200, &[FRESH, groups], "body"));
    }
    let invalidation = ["Cache-Group-Invalidation: \"red\";x=1, \"green\""];
    origin.says("/form", reply(200, &invalidation, ""));
    origin.says("/refused", reply(403, &invalidation, ""));
    let node = Node::before(&origin).await;
    let hits = async || {
        let mut hits = Vec::new();
        for host in ["site.test", "other.test"] {
            for (target, _) in targets {
                let mut client = node.connect().await;
                client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
                hits.push(client.reply("GET").await.cache_status().starts_with("edge; hit"));
                node.settled().await;
            }
        }
        hits
    };
    hits().await;
    let all = [true; 6];
    assert_eq!(hits().await, all);
    let own = ["Content-Length: 0", "Cache-Group-Invalidation: \"red\""];
    for (method, target) in [("GET", "/form"), ("OPTIONS", "/form"), ("POST", "/refused")] {
        node.ask(method, target, &own).await;
        assert_eq!(hits().await, all, "{method} {target}, and what a client says");
    }
    node.ask("POST", "/form", &["Content-Length: 0"]).await;
    assert_eq!(hits().await, [false, true, true, true, true, true], "of its own origin, and no tag");
    assert_eq!(node.metric("shoal_purge_requests_total{outcome=\"complete\""), 1.0);
}

/// Any client can cause it, so it is bounded, and takes nothing of what operators may do.
#[tokio::test]
async fn invalidations_of_groups_are_bounded() {
    let origin = Origin::start().await;
    origin.says("/form", reply(200, &["Cache-Group-Invalidation: \"red\""], ""));
    let node = Node::with(&origin, "[purge]\nrate = \"1/s\"\nburst = 11").await;
    for _ in 0..30 {
        node.ask("POST", "/form", &["Content-Length: 0"]).await.assert_is(200, "");
    }
    let limited = node.metric("shoal_purge_requests_total{outcome=\"limited\"");
    assert!((10.0..=19.0).contains(&limited), "{limited}");
    crate::purging::purge(&node, shoal::proto::purge::Mode::Hard, crate::purging::url("/x")).await;
}
