//! How purges are asked for: by the requests that content management systems send, and by `shoal purge`.

use crate::common::client::HOST;
use crate::common::process::Process;
use crate::common::{Node, Origin, Reply, in_time, reply};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use tempfile::TempDir;

const FRESH: &str = "Cache-Control: max-age=600";
const TOKEN: &str = "X-Purge-Token: secret";

/// A folder with a token in it, and the settings of a site that wants it.
fn token(more: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cms.token");
    std::fs::write(&file, "secret\n").unwrap();
    let purge = format!("[site.purge]\nmethods = true\ntoken_file = \"{}\"\n{more}", file.display());
    (folder, purge)
}

/// The purges that the node has done, the latest first: mode and selectors.
fn done(node: &Node) -> Vec<(String, Vec<String>)> {
    let past = node.assembly.node.past_orders();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let first = |purge: &Value| purge["first"].as_array().unwrap().iter().map(text).collect();
    past["purges"].as_array().unwrap().iter().map(|purge| (text(&purge["mode"]), first(purge))).collect()
}

fn counted(node: &Node, outcome: &str) -> f64 {
    node.metric(&format!("shoal_purge_requests_total{{outcome=\"{outcome}\""))
}

fn json(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_else(|error| panic!("{error}: {}", reply.text()))
}

#[tokio::test]
async fn without_the_setting_purges_are_requests_like_any_other() {
    let origin = Origin::start().await;
    for target in ["/x", "/service/a/purge"] {
        origin.says(target, reply(200, &[], "of the origin"));
    }
    let node = Node::before(&origin).await;
    for method in ["PURGE", "BAN", "PURGEKEYS"] {
        node.ask(method, "/x", &["xkey: a"]).await.assert_is(200, "of the origin");
    }
    node.ask("POST", "/service/a/purge", &["Fastly-Key: k", "Surrogate-Key: a"])
        .await
        .assert_is(200, "of the origin");
    assert_eq!((origin.count_all(), done(&node).len()), (4, 0));
}

#[tokio::test]
async fn who_shows_the_token_may_purge_and_nobody_else_and_nothing_reaches_the_origin() {
    let (origin, (_folder, purge)) = (Origin::start().await, token(""));
    let node = Node::with(&origin, &purge).await;
    let long = format!("X-Purge-Token: secret{}", "x".repeat(100));
    for wrong in
        ["X-Purge-Token: secre", "X-Purge-Token: ", &long, "Authorization: Basic secret", "X-Other: secret"]
    {
        let refused = node.ask("PURGE", "/x", &[wrong]).await;
        assert_eq!((refused.status, json(&refused)["code"].as_str()), (403, Some("forbidden")), "{wrong}");
    }
    assert_eq!((counted(&node, "refused"), done(&node).len()), (5.0, 0));
    for right in [TOKEN, "Authorization: Bearer secret", "Fastly-Key: secret"] {
        let answer = node.ask("PURGE", "/x?y=z", &[right]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.field("cache-control"), Some("no-store"));
        assert_eq!(answer.cache_status(), "edge; detail=purge");
        let told = json(&answer);
        assert_eq!((&told["mode"], &told["applied"], &told["live"]), (&"hard".into(), &1.into(), &1.into()));
        assert_eq!((&told["complete"], &told["selectors"]), (&true.into(), &1.into()));
        assert_eq!((&told["nodes"][0]["name"], &told["nodes"][0]["applied"]), (&"edge".into(), &true.into()));
        assert!(
            told["id"].as_str().is_some_and(|id| id.contains('-')) && told["millis"].as_f64() > Some(0.0)
        );
    }
    assert_eq!(counted(&node, "complete"), 3.0);
    assert_eq!(done(&node)[0], ("hard".to_owned(), vec![format!("url http://{HOST}/x?y=z")]));
    let by = node.assembly.node.past_orders()["purges"][0]["by"].clone();
    assert_eq!(
        (&by["way"], &by["token"], &by["from"]),
        (&"method".into(), &"cms.token".into(), &"127.0.0.1".into())
    );
    assert_eq!(origin.count_all(), 0);
    let verdict =
        |name: &str| node.metric(&format!("shoal_requests_total{{site=\"default\",verdict=\"{name}\""));
    assert_eq!((verdict("purge"), verdict("refused"), verdict("pass")), (3.0, 5.0, 0.0));
}

#[tokio::test]
async fn a_token_that_cannot_be_read_lets_nobody_in() {
    let (origin, (folder, purge)) = (Origin::start().await, token(""));
    let node = Node::with(&origin, &purge).await;
    std::fs::remove_file(folder.path().join("cms.token")).unwrap();
    let refused = node.ask("PURGE", "/x", &[TOKEN]).await;
    assert_eq!((refused.status, json(&refused)["code"].as_str()), (503, Some("token_unreadable")));
    assert_eq!((origin.count_all(), done(&node).len()), (0, 0));
}

#[tokio::test]
async fn networks_are_those_of_the_client_as_trusted_peers_tell_it() {
    let origin = Origin::start().await;
    let site = |networks: &str| format!("[site.purge]\nmethods = true\nnetworks = [\"{networks}\"]");
    let near = Node::with(&origin, &site("127.0.0.0/8")).await;
    assert_eq!(near.ask("PURGE", "/x", &[]).await.status, 200);
    let far = Node::with(&origin, &site("10.0.0.0/8")).await;
    assert_eq!(far.ask("PURGE", "/x", &[]).await.status, 403);
    assert_eq!(
        far.ask("PURGE", "/x", &["X-Forwarded-For: 10.1.1.1"]).await.status,
        403,
        "anybody can say so"
    );

    let toml = crate::common::node::toml(origin.at, &site("10.0.0.0/8"));
    let behind = Node::of(&format!("trusted_networks = [\"127.0.0.0/8\"]\n{toml}")).await;
    assert_eq!(behind.ask("PURGE", "/x", &["X-Forwarded-For: 10.1.1.1"]).await.status, 200);
    assert_eq!(behind.ask("PURGE", "/x", &["X-Forwarded-For: 10.1.1.1, 192.0.2.1"]).await.status, 403);
    assert_eq!(behind.ask("PURGE", "/x", &[]).await.status, 403);
    assert_eq!(origin.count_all(), 0);
}

#[tokio::test]
async fn with_a_token_and_networks_both_must_be_right() {
    let origin = Origin::start().await;
    for (networks, given, status) in
        [("127.0.0.1", TOKEN, 200), ("127.0.0.1", "X-Purge-Token: x", 403), ("10.0.0.0/8", TOKEN, 403)]
    {
        let (_folder, purge) = token(&format!("networks = [\"{networks}\"]"));
        let node = Node::with(&origin, &purge).await;
        assert_eq!(node.ask("PURGE", "/x", &[given]).await.status, status, "{networks} {given}");
    }
}

#[tokio::test]
async fn plug_ins_are_understood_within_their_own_site() {
    let (origin, (_folder, purge)) = (Origin::start().await, token(""));
    let more = format!("rules = [{{ path = \"/s\", query = {{ only = [\"q\"] }} }}]\n{purge}");
    let node = Node::with(&origin, &more).await;
    let cases: [(&str, &[&str], &str, &str); 12] = [
        ("PURGE /s?utm=1&q=2", &[], "hard", "url http://site.test/s?q=2"),
        ("PURGE /x", &["Fastly-Soft-Purge: 1"], "soft", "url http://site.test/x"),
        ("PURGE /blog/.*", &["X-Purge-Method: regex"], "hard", "prefix http://site.test/blog/"),
        ("PURGE /", &["Surrogate-Key: a"], "hard", "tag a of default"),
        ("PURGE /", &["xkey-softpurge: a"], "soft", "tag a of default"),
        ("PURGE /", &["X-Magento-Tags-Pattern: ((^|,)cat_p_1(,|$))"], "hard", "tag cat_p_1 of default"),
        ("PURGE /", &["X-Magento-Tags-Pattern: .*"], "hard", "site default"),
        ("BAN /", &["Cache-Tags: node:1"], "hard", "tag node:1 of default"),
        ("BAN /", &["X-Url: ^/a$", "X-Host: ^(site\\.test)$"], "hard", "url http://site.test/a"),
        ("BAN /", &["X-Host: site.test"], "hard", "host http://site.test"),
        ("POST /service/abc/purge/key", &["Fastly-Key: secret"], "hard", "tag key of default"),
        ("POST /service/abc/purge_all", &["Fastly-Key: secret"], "hard", "site default"),
    ];
    for (line, fields, mode, selector) in cases {
        let (method, target) = line.split_once(' ').unwrap();
        let answer = node.ask(method, target, &[fields, &[TOKEN]].concat()).await;
        assert_eq!(answer.status, 200, "{line}: {}", answer.text());
        assert_eq!(done(&node)[0], (mode.to_owned(), vec![selector.to_owned()]), "{line} {fields:?}");
    }
    for (line, field, status) in [
        ("PURGE /[a-z]+.*", "X-Purge-Method: regex", 501),
        ("PURGE /", "X-Magento-Tags-Pattern: cat_p_[0-9]+", 501),
        ("BAN /", "X-Url: \\.png$", 501),
        ("BAN /", "X-Host: other.test", 501),
        ("BAN /x", "X-Nothing: x", 501),
        ("POST /service/abc/purge", "Fastly-Key: secret", 501),
        ("PURGE /", "xkey: ,", 400),
    ] {
        let (method, target) = line.split_once(' ').unwrap();
        let answer = node.ask(method, target, &[field, TOKEN]).await;
        assert_eq!(answer.status, status, "{line} {field}: {}", answer.text());
        assert!(json(&answer)["detail"].as_str().is_some_and(|why| why.len() > 10), "{}", answer.text());
    }
    assert_eq!((counted(&node, "invalid"), done(&node).len(), origin.count_all()), (7.0, 12, 0));
    assert_eq!(node.ask("POST", "/service/abc/purge_all", &[]).await.status, 404, "the origin's own page");
    assert_eq!(origin.count_all(), 1);
}

#[tokio::test]
async fn beyond_the_rate_purges_are_refused_and_told_when_to_come_again() {
    let (origin, (_folder, purge)) = (Origin::start().await, token(""));
    let node = Node::with(&origin, &format!("{purge}[purge]\nrate = \"1/h\"\nburst = 11\n")).await;
    for _ in 0..11 {
        assert_eq!(node.ask("PURGE", "/x", &[TOKEN]).await.status, 200);
    }
    let limited = node.ask("PURGE", "/x", &[TOKEN]).await;
    assert_eq!((limited.status, json(&limited)["code"].as_str()), (429, Some("too_many_purges")));
    let after: u64 = limited.field("retry-after").unwrap().parse().unwrap();
    assert!((3000..=3601).contains(&after), "{after}");
    assert_eq!((counted(&node, "limited"), done(&node).len()), (1.0, 11));
    // A reload changes the rate at once.
    let toml = crate::common::node::toml(origin.at, &format!("{purge}[purge]\nrate = \"1000/s\"\n"));
    node.reload(&toml).unwrap();
    let again = node.ask("PURGE", "/x", &[TOKEN]).await;
    assert_eq!(again.status, 200, "{}", again.text());
}

#[tokio::test]
async fn many_selectors_cost_more_than_one() {
    let (origin, (_folder, purge)) = (Origin::start().await, token(""));
    let node = Node::with(&origin, &format!("{purge}[purge]\nrate = \"1/h\"\nburst = 11\n")).await;
    let tags: String = (0..1000).map(|tag| format!("{tag} ")).collect();
    assert_eq!(node.ask("PURGE", "/", &[TOKEN, &format!("xkey: {tags}")]).await.status, 200);
    assert_eq!(node.ask("PURGE", "/", &[TOKEN]).await.status, 429);
}

/// A node with an admin interface, and its diagnostic log.
async fn admin(origin: &Origin, folder: &Path) -> (Process, std::path::PathBuf) {
    let (log, config) = (folder.join("stderr"), folder.join("shoal.toml"));
    let more = "name = \"shop\"\n[log]\nformat = \"json\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    std::fs::write(&config, crate::common::node::toml(origin.at, more)).unwrap();
    (Process::run_logged(&["--config", config.to_str().unwrap()], &log).await, log)
}

async fn shoal(at: SocketAddr, arguments: &[&str]) -> Output {
    shoal_with(at, arguments, "").await
}

/// `shoal purge` with this on its standard input.
async fn shoal_with(at: SocketAddr, arguments: &[&str], input: &str) -> Output {
    use tokio::io::AsyncWriteExt;
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_shoal"));
    let pipe = std::process::Stdio::piped;
    command.arg("purge").args(arguments).args(["--admin", &at.to_string()]);
    let mut child = command.stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that reads nothing has gone.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    in_time("shoal purge", child.wait_with_output()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn the_command_purges_and_says_what_became_of_it() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    origin.says("/x", reply(200, &[FRESH], "body"));
    let (node, _log) = admin(&origin, folder.path()).await;
    let at = node.door("admin");
    let output = shoal(at, &["https://site.test/x", "site.test/y"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let line = text(&output.stdout);
    assert!(line.starts_with("purged 2 urls · id ") && line.contains(" · applied 1/1 live in "), "{line}");
    assert_eq!(line.lines().count(), 1);
    let output = shoal(at, &["--tag", "a", "--tag", "b", "--of", "shop", "--soft", "-v"]).await;
    let told = text(&output.stdout);
    assert!(told.starts_with("made stale 2 tags · id ") && told.contains("\n  edge  applied in "), "{told}");
    let more =
        ["--prefix", "site.test/blog/*", "--host", "site.test", "--site", "shop", "--all", "--yes", "--json"];
    let output = shoal(at, &more).await;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["selectors"], &answer["complete"]), (&4.into(), &true.into()));

    let listed = text(&shoal(at, &["--list"]).await.stdout);
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines[0].starts_with("log: 8 of 65536 targets, position 3, 1 issuers, in sync"), "{listed}");
    assert_eq!(lines.len(), 4, "{listed}");
    assert!(
        lines[2].contains("soft tag a of shop, tag b of shop  by cli from 127.0.0.1  applied 1/1 in "),
        "{listed}"
    );
    let json: Value = serde_json::from_slice(&shoal(at, &["--list", "--json"]).await.stdout).unwrap();
    assert_eq!(json["purges"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn the_command_says_what_is_wrong_and_purges_nothing() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let (node, _log) = admin(&origin, folder.path()).await;
    let at = node.door("admin");
    let fails = async |arguments: &[&str], code: i32, why: &str| {
        let output = shoal(at, arguments).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(why), "{arguments:?}: {}", text(&output.stderr));
    };
    fails(
        &["site.test/x", "ftp://site.test/"],
        1,
        "nothing was purged: url 1 (ftp://site.test/): the scheme",
    )
    .await;
    fails(&["--site", "other"], 1, "no site is named other").await;
    fails(&["--tag", "a,b"], 1, "a tag has no spaces, commas").await;
    fails(&["site.test/x", "--wait", "26s"], 1, "wait_ms: at most 25000").await;
    fails(&["--all"], 2, "add --yes").await;
    fails(&[], 2, "required").await;
    fails(&["--from-file", "/no/such/file"], 1, "/no/such/file").await;
    let listed: Value = serde_json::from_slice(&shoal(at, &["--list", "--json"]).await.stdout).unwrap();
    assert_eq!(listed["purges"].as_array().map(Vec::len), Some(0));
    drop(node);
    let gone = shoal(SocketAddr::from(([127, 0, 0, 1], 1)), &["site.test/x"]).await;
    assert_eq!(gone.status.code(), Some(1));
}

#[tokio::test]
async fn a_list_is_purged_in_as_many_calls_as_it_takes() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let (node, _log) = admin(&origin, folder.path()).await;
    let at = node.door("admin");
    let urls: String = (0..2500).map(|number| format!("https://site.test/{number}\n")).collect();
    let file = folder.path().join("urls");
    std::fs::write(&file, format!("# of today\n\n{urls}")).unwrap();
    let output = shoal(at, &["--from-file", file.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("purged 2500 urls in "), "{}", text(&output.stdout));
    let output = shoal_with(at, &["--from-file", "-", "--json"], &urls).await;
    let calls: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        calls.iter().map(|call| call["selectors"].as_u64().unwrap()).collect::<Vec<_>>(),
        [1000, 1000, 500]
    );
    let output = shoal_with(at, &["--from-file", "-"], &format!("{urls}nobody\n/x\n")).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("2000 URLs were purged, and then: nothing was purged: url 501 (/x)"),
        "{}",
        text(&output.stderr)
    );
}

#[tokio::test]
async fn each_purge_is_a_line_of_the_audit_log_whatever_became_of_it() {
    let (origin, folder) = (Origin::start().await, tempfile::tempdir().unwrap());
    let (node, log) = admin(&origin, folder.path()).await;
    let at = node.door("admin");
    let output =
        shoal(at, &["site.test/a\\u{1b}", "site.test/b", "site.test/c", "site.test/d", "--soft", "--json"])
            .await;
    let answer: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    shoal(at, &["nobody"]).await;
    shoal(at, &["--site", "other"]).await;
    let lines: Vec<Value> = in_time("lines in the log", async {
        loop {
            let text = std::fs::read_to_string(&log).unwrap();
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let lines: Vec<Value> = lines.filter(|line| line["target"] == "shoal::audit").collect();
            if lines.len() >= 3 {
                return lines;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let field = |line: usize, name: &str| {
        let line = &lines[line];
        line["fields"].get(name).or_else(|| line.get(name)).cloned().unwrap_or(Value::Null)
    };
    assert_eq!((field(0, "action"), field(0, "outcome")), ("purge".into(), "complete".into()));
    assert_eq!(
        (field(0, "id"), field(0, "way"), field(0, "from")),
        (answer["id"].clone(), "cli".into(), "127.0.0.1".into())
    );
    assert_eq!(
        (field(0, "mode"), field(0, "selectors"), field(0, "applied")),
        ("soft".into(), 4.into(), 1.into())
    );
    assert_eq!(field(0, "first"), "url site.test/a\\\\u{1b}; url site.test/b; url site.test/c");
    assert!(field(0, "millis").as_f64() > Some(0.0));
    assert_eq!((field(2, "outcome"), field(2, "selectors")), ("invalid".into(), 1.into()));
    assert!(field(2, "why").as_str().unwrap().contains("no site is named other"));
}
