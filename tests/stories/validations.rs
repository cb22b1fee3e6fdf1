//! What validates a stored response and says something new of it: whose it is, and which requests select it (RFC 9111 §3.2,
//! §4.1, §4.3.4, §4.3.5, §5.2.2.4, §5.2.2.7).

use crate::common::{Barrier, Client, Node, Origin, Reply, origin, reply, turns};
use futures_util::future::join_all;

const FRESH: &str = "Cache-Control: max-age=60";
const ETAG: &str = "ETag: \"one\"";
const OLD: &str = "Age: 90";
const PROFILES: [&str; 2] = ["explicit", "rfc"];

fn lines(fields: &[&str]) -> Vec<String> {
    fields.iter().map(|field| (*field).to_owned()).collect()
}

/// An origin that has a response with the fields `first`, and then says of it what is in `update`: in the answer to a
/// validation, which waits for `barrier`, or to a HEAD. Who asks without a condition, later, gets another body.
async fn with(profile: &str, (first, update): (&[&str], &[&str]), barrier: Barrier) -> (Origin, Node) {
    let server = Origin::start().await;
    let (first, update) = (lines(first), lines(update));
    server.script("/x", move |mut exchange| {
        let (first, update, barrier) = (first.clone(), update.clone(), barrier.clone());
        async move {
            let mut fields: Vec<&str> = update.iter().map(String::as_str).collect();
            fields.push(ETAG);
            let is_conditional = exchange.asked.field("if-none-match").is_some();
            let answer = if exchange.asked.method == "HEAD" {
                origin::head(200, &fields)
            } else if is_conditional {
                barrier.pass().await;
                reply(304, &fields, "")
            } else if exchange.nth == 0 {
                let mut fields: Vec<&str> = first.iter().map(String::as_str).collect();
                fields.extend([ETAG, OLD]);
                reply(200, &fields, "old")
            } else {
                reply(200, &[FRESH, "ETag: \"two\""], format!("new {}", exchange.nth))
            };
            exchange.send(answer).await;
            exchange
        }
    });
    let node = Node::with(&server, &format!("[cache]\nprofile = \"{profile}\"")).await;
    (server, node)
}

fn open() -> Barrier {
    let barrier = Barrier::closed();
    barrier.open();
    barrier
}

/// The stored response after a validation by `method`, and what its client got.
async fn validated(profile: &str, method: &str, of: (&[&str], &[&str])) -> (Reply, Reply) {
    let (_origin, node) = with(profile, of, open()).await;
    node.warm("/x").await.assert_is(200, "old");
    let own = node.ask(method, "/x", &[]).await;
    node.settled().await;
    let hit = node.get("/x").await;
    hit.assert_is(200, "old");
    hit.assert_hit();
    (own, hit)
}

fn of_own(reply: &Reply) -> [Option<&str>; 3] {
    ["x-own", "set-cookie", "x-all"].map(|name| reply.field(name))
}

#[tokio::test]
async fn what_is_withheld_by_name_reaches_only_the_client_whose_request_brought_it() {
    let update = ["X-Own: victim", "Set-Cookie: sess=victim", "X-All: 1"];
    for profile in PROFILES {
        for method in ["GET", "HEAD"] {
            for directive in ["private", "no-cache"] {
                let control = format!("Cache-Control: max-age=60, {directive}=\"X-Own, Set-Cookie\"");
                let case = format!("{profile} {method} {directive}");
                // The stored response says so.
                let (own, hit) = validated(profile, method, (&[&control], &update)).await;
                assert_eq!(of_own(&own), [Some("victim"), Some("sess=victim"), Some("1")], "{case}");
                assert_eq!(of_own(&hit), [None, None, Some("1")], "{case}");
                // What validates it says so for the first time.
                let (own, hit) =
                    validated(profile, method, (&[FRESH, "X-Own: before"], &[&control, "X-All: 1"])).await;
                assert_eq!(of_own(&own), [None, None, Some("1")], "{case}");
                assert_eq!(of_own(&hit), [None, None, Some("1")], "{case}");
            }
        }
    }
}

#[tokio::test]
async fn a_cookie_that_a_validation_brings_without_directives_is_of_one_client() {
    for profile in PROFILES {
        for method in ["GET", "HEAD"] {
            let public = ["Cache-Control: public, max-age=60"];
            let (own, hit) = validated(profile, method, (&public, &["Set-Cookie: sess=victim"])).await;
            assert_eq!(of_own(&own), [None, Some("sess=victim"), None], "{profile} {method}");
            assert_eq!(of_own(&hit), [None; 3], "{profile} {method}");
        }
    }
}

/// Clients that wait for one validation, told by their fields; the first began it.
async fn waiting(node: &Node, barrier: &Barrier, fields: &[&str]) -> Vec<Reply> {
    node.warm("/x").await;
    let mut clients: Vec<Client> = Vec::new();
    for field in fields {
        clients.push(node.begin("GET", "/x", &[field]).await);
        turns().await;
    }
    barrier.open();
    join_all(clients.iter_mut().map(|client| client.reply("GET"))).await
}

#[tokio::test]
async fn who_waits_for_a_validation_gets_nothing_that_is_the_initiators() {
    let barrier = Barrier::closed();
    let control = "Cache-Control: max-age=60, private=\"X-Own\"";
    let (origin, node) = with("explicit", (&[control], &["X-Own: victim"]), barrier.clone()).await;
    let replies = waiting(&node, &barrier, &["X-A: 1", "X-A: 2", "X-A: 3"]).await;
    let own: Vec<_> = replies.iter().map(|reply| reply.field("x-own")).collect();
    assert_eq!(own, [Some("victim"), None, None]);
    assert_eq!(origin.count("/x"), 2);
}

#[tokio::test]
async fn who_waits_for_a_validation_that_makes_it_private_goes_alone() {
    for control in ["Cache-Control: private, max-age=60", "Cache-Control: no-store"] {
        let barrier = Barrier::closed();
        let (_origin, node) =
            with("explicit", (&[FRESH], &[control, "X-Own: victim"]), barrier.clone()).await;
        let replies = waiting(&node, &barrier, &["X-A: 1", "X-A: 2", "X-A: 3"]).await;
        replies[0].assert_is(200, "old");
        assert_eq!(replies[0].field("x-own"), Some("victim"));
        for reply in &replies[1..] {
            assert!(reply.text().starts_with("new") && reply.field("x-own").is_none(), "{}", reply.text());
        }
    }
}

#[tokio::test]
async fn a_validation_that_says_by_what_it_varies_is_obeyed() {
    for method in ["GET", "HEAD"] {
        for (before, after) in [
            (&[FRESH][..], &[FRESH, "Vary: X-A"][..]),
            (&[FRESH], &[FRESH, "Vary: *"]),
            (&[FRESH, "Vary: X-B"], &[FRESH, "Vary: X-B, X-A"]),
            (&[FRESH, "Vary: X-B"], &[FRESH, "Vary: X-A"]),
            (&[FRESH], &[FRESH, "Vary: X-Forwarded-For"]),
        ] {
            let case = format!("{method} {before:?} {after:?}");
            let (_origin, node) = with("explicit", (before, after), open()).await;
            node.warm("/x").await;
            let own = node.ask(method, "/x", &["X-A: 1"]).await;
            own.assert_is(200, if method == "GET" { "old" } else { "" });
            assert_eq!(own.field("vary"), after[1].strip_prefix("Vary: "), "{case}");
            node.settled().await;
            let other = node.ask("GET", "/x", &["X-A: 2"]).await;
            assert!(other.text().starts_with("new"), "{case}: {}", other.cache_status());
        }
    }
}

#[tokio::test]
async fn a_validation_with_the_same_vary_renews_the_variant() {
    let same = [["Vary: X-A", "Vary: x-a"], ["Vary: Host, X-A", "Vary: Host, X-A"]];
    let cases = ["GET", "HEAD"].into_iter().flat_map(|method| same.map(|same| (method, same)));
    for (method, [first, update]) in cases {
        let (_origin, node) = with("explicit", (&[FRESH, first], &[FRESH, update]), open()).await;
        node.ask("GET", "/x", &["X-A: 1"]).await.assert_is(200, "old");
        node.settled().await;
        node.ask(method, "/x", &["X-A: 1"]).await;
        node.settled().await;
        let hit = node.ask("GET", "/x", &["X-A: 1"]).await;
        hit.assert_is(200, "old");
        hit.assert_hit();
    }
}

#[tokio::test]
async fn who_waits_for_a_validation_that_says_by_what_it_varies_plans_anew() {
    let barrier = Barrier::closed();
    let (origin, node) = with("explicit", (&[FRESH], &[FRESH, "Vary: X-A"]), barrier.clone()).await;
    let replies = waiting(&node, &barrier, &["X-A: 1", "X-A: 2", "X-A: 2"]).await;
    replies[0].assert_is(200, "old");
    for reply in &replies[1..] {
        reply.assert_is(200, "new 2");
    }
    assert_eq!(origin.count("/x"), 3, "those who select the same share a fetch");
}

/// The same for a part and the answer that brings more of it.
#[tokio::test]
async fn what_is_withheld_by_name_of_a_part_is_withheld_of_the_whole() {
    let server = Origin::start().await;
    server.script("/x", |mut exchange| async move {
        let answer = match exchange.nth {
            0 => reply(
                206,
                &["Cache-Control: max-age=60, private=\"X-Own\"", ETAG, "Content-Range: bytes 0-3/8"],
                "0123",
            ),
            _ => reply(206, &[ETAG, "Content-Range: bytes 4-7/8", "X-Own: victim"], "4567"),
        };
        exchange.send(answer).await;
        exchange
    });
    let node = Node::before(&server).await;
    node.ask("GET", "/x", &["Range: bytes=-4"]).await.assert_is(206, "0123");
    node.settled().await;
    let own = node.get("/x").await;
    own.assert_is(200, "01234567");
    assert_eq!(own.field("x-own"), Some("victim"));
    node.settled().await;
    let hit = node.get("/x").await;
    hit.assert_hit();
    assert_eq!(hit.field("x-own"), None);
}
