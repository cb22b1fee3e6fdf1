//! Web cache deception: a victim is led to a path that the origin takes for a personal page and a careless cache for a file.

use crate::common::{Node, Origin, reply};

/// Forms of a path under which origins have been found to serve `/account`.
const DISGUISES: [&str; 24] = [
    "/account/x.css",
    "/account/x.js",
    "/account/x.png?v=1",
    "/account.css",
    "/account;x.css",
    "/account%3bx.css",
    "/account%2fx.css",
    "/account%2Fx.css",
    "/account%5cx.css",
    "/account\\x.css",
    "/account%23x.css",
    "/account%2523x.css",
    "/account%3fx.css",
    "/account%00x.css",
    "/account%0ax.css",
    "/account%09x.css",
    "/account/%2e%2e/x.css",
    "/static/..%2faccount",
    "/static/..%2faccount%3fx.css",
    "/static/%2e%2e/account",
    "/static/..%5caccount",
    "/static/..;/account",
    "/static/..%252faccount",
    "/static/x%2f..%2f..%2faccount%23.css",
];

/// Serves everybody an own page, with `fields`.
async fn personal(fields: &'static [&'static str]) -> Origin {
    let origin = Origin::start().await;
    origin.otherwise(move |mut exchange| async move {
        let who = exchange.asked.field("cookie").unwrap_or("nobody").to_owned();
        exchange.send(reply(200, fields, who)).await;
        exchange
    });
    origin
}

async fn assert_each_gets_the_own(node: &Node, target: &str) {
    for who in ["id=victim", "id=attacker"] {
        let answer = node.ask("GET", target, &[&format!("Cookie: {who}")]).await;
        assert_eq!((answer.status, answer.text()), (200, who), "{target}: {}", answer.cache_status());
        node.settled().await;
    }
}

#[tokio::test]
async fn nothing_is_stored_for_its_extension_or_type() {
    for fields in [
        &[][..],
        &["Content-Type: text/css"],
        &["Content-Type: image/png", "ETag: \"a\""],
        &["Cache-Control: private, max-age=60", "Content-Type: text/css"],
        &["Cache-Control: max-age=60", "Set-Cookie: id=new", "Content-Type: text/css"],
    ] {
        let origin = personal(fields).await;
        let node = Node::before(&origin).await;
        for target in DISGUISES {
            assert_each_gets_the_own(&node, target).await;
        }
    }
}

#[tokio::test]
async fn a_bold_rule_for_files_does_not_reach_a_page_in_disguise() {
    // The page says what lets it be stored under the rule, and nowhere else.
    let origin = personal(&["Cache-Control: max-age=60", "Set-Cookie: id=new"]).await;
    let rule =
        "[[site.rules]]\npath = \"/static/*\"\ncoalesce_cookies = true\ncache = { set_cookie = \"rfc\" }";
    let node = Node::with(&origin, rule).await;
    for target in DISGUISES {
        assert_each_gets_the_own(&node, target).await;
    }
    // The rule is in force where the path can be read in one way only.
    node.warm("/static/x.css").await;
    node.get("/static/x.css").await.assert_hit();
}

#[tokio::test]
async fn a_page_that_is_passed_is_passed_in_each_disguise() {
    // The origin is careless too: only the rule keeps the page out of the cache.
    let origin = personal(&["Cache-Control: max-age=60"]).await;
    let rules = "[[site.rules]]\npath = \"/account\"\npass = true\n[[site.rules]]\npath = \"/account/*\"\npass = true";
    let node = Node::with(&origin, rules).await;
    for target in DISGUISES {
        // What an origin routes by what stands before the dot is another path to everybody else.
        if target == "/account.css" {
            continue;
        }
        assert_each_gets_the_own(&node, target).await;
    }
    for target in [
        "/account",
        "/account?x",
        "//account",
        "/./account",
        "/%61ccount",
        "/x/..%2faccount",
        "/account%c0%afx",
    ] {
        assert_each_gets_the_own(&node, target).await;
    }
    node.warm("/accounts").await;
    node.get("/accounts").await.assert_hit();
}

#[tokio::test]
async fn a_rule_holds_only_if_each_layer_of_encoding_agrees() {
    let origin = personal(&["Cache-Control: max-age=60"]).await;
    let rules = "[[site.rules]]\npath = \"/private/*\"\npass = true\n[[site.rules]]\npath = \"/static/*\"";
    let node = Node::with(&origin, rules).await;
    for target in [
        // /private/..%2f..%2fstatic%2fx for who decodes once, /static/x for who decodes twice.
        "/static/..%2fprivate%2f..%252f..%252fstatic%252fx",
        // /private/..;/static/x for who leaves parameters of segments alone.
        "/static/..%2fprivate/..;/static/x",
        // /private/x for who takes # as a character, /static/y for whom it ends the path.
        "/static/y%23/..%2f..%2fprivate/x",
        "/static/..%c0%afprivate/x",
    ] {
        assert_each_gets_the_own(&node, target).await;
    }
}
