//! The program from outside: what a shell and a script see of the commands about configuration.

use std::process::{Command, Output};

fn shoal(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shoal")).args(args).env_clear().output().expect("the program starts")
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).expect("JSON on standard output")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const ORIGIN: [&str; 2] = ["--origin", "http://127.0.0.1:8000"];

#[test]
fn check_says_ok_in_a_line() {
    let output = shoal(&[&["check"][..], &ORIGIN, &["--workers", "1"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        "ok: 1 site, 1 origin server on http://127.0.0.1:8080; cache 256.0 MiB in memory, no disk; 2 values set\n"
    );
    assert_eq!(json(&shoal(&[&["check", "--json"][..], &ORIGIN].concat()))["ok"], true);
}

#[test]
fn check_exits_with_2_and_all_mistakes() {
    let args = ["--workers", "0", "--admin", "0.0.0.0:1", "--cache-disk", "1GiB"];
    let output = shoal(&[&["check"][..], &ORIGIN, &args].concat());
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "--workers: node.workers: expected 1 to 1024\n\
         --cache-disk: cache.disk[0].path: a disk cache needs a folder: give `path`, or --cache-dir\n\
         --admin: admin.listen: 0.0.0.0:1 can be reached from other machines: set admin.token_file, or listen on 127.0.0.1\n"
    );
    let output = shoal(&[&["check", "--json"][..], &args].concat());
    assert_eq!(output.status.code(), Some(2));
    let answer = json(&output);
    assert_eq!(answer["ok"], false);
    assert_eq!(answer["mistakes"].as_array().map(Vec::len), Some(4));
}

#[test]
fn check_reads_the_certificates() {
    let tls =
        ["--listen-tls", "127.0.0.1:0", "--tls-cert", "/nowhere/cert.pem", "--tls-key", "/nowhere/key.pem"];
    let output = shoal(&[&["check"][..], &ORIGIN, &tls].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/nowhere/cert.pem"), "{}", text(&output.stderr));
}

#[test]
fn every_flag_sets_its_key() {
    let flags = [
        ("--listen", "127.0.0.1:1", "listen.http[0]"),
        ("--listen-tls", "127.0.0.1:2", "listen.https[0]"),
        ("--tls-cert", "/cert", "site[0].tls.cert"),
        ("--tls-key", "/key", "site[0].tls.key"),
        ("--origin", "http://o:1", "site[0].origins[0]"),
        ("--admin", "127.0.0.1:3", "admin.listen"),
        ("--metrics", "127.0.0.1:4", "metrics.listen"),
        ("--cache-memory", "2GiB", "cache.memory"),
        ("--cache-dir", "/cache", "cache.disk[0].path"),
        ("--cache-disk", "3GiB", "cache.disk[0].size"),
        ("--workers", "5", "node.workers"),
        ("--profile", "rfc", "cache.profile"),
        ("--access-log", "-", "log.access"),
        ("--name", "n", "node.name"),
        ("--zone", "z", "node.zone"),
        ("--role", "edge", "node.roles[0]"),
        ("--peer-listen", "127.0.0.1:6", "peer.listen"),
        ("--peer-advertise", "a:7", "peer.advertise"),
        ("--peer-seed", "s:8", "peer.seeds[0]"),
        ("--peer-ca", "/ca", "peer.ca"),
        ("--peer-cert", "/node-cert", "peer.cert"),
        ("--peer-key", "/node-key", "peer.key"),
    ];
    let args: Vec<&str> = flags.iter().flat_map(|(flag, value, _)| [*flag, *value]).collect();
    let shown = json(&shoal(&[&["config", "show", "--json"][..], &args].concat()));
    check_shown(&shown, &flags);

    // A node has one kind of credentials.
    let fleet = ["--role", "superpeer", "--peer-listen", "127.0.0.1:0", "--peer-ca", "/ca"];
    for (flag, key) in [("--peer-token-file", "peer.join_token_file"), ("--peer-ca-key", "peer.ca_key")] {
        let shown = json(&shoal(&[&["config", "show", "--json"][..], &fleet, &[flag, "/file"]].concat()));
        check_shown(&shown, &[(flag, "/file", key)]);
    }
}

#[track_caller]
fn check_shown(shown: &serde_json::Value, flags: &[(&str, &str, &str)]) {
    for (flag, value, key) in flags {
        let shown = shown.as_array().and_then(|all| all.iter().find(|shown| shown["key"] == *key));
        let shown = shown.unwrap_or_else(|| panic!("{key} is shown"));
        assert_eq!((&shown["value"], &shown["source"]["name"]), (&(*value).into(), &(*flag).into()));
    }
}

#[test]
fn check_tells_of_the_fleet_and_reads_its_certificates() {
    let (_folder, path) = cluster();
    let (ca, key) = (path("ca/ca.pem"), path("ca/ca-key.pem"));
    let superpeer =
        ["--name", "n", "--role", "superpeer", "--peer-listen", "127.0.0.1:7400", "--peer-ca", &ca];
    let check = |more: &[&str]| shoal(&[&["check"][..], &superpeer, more].concat());
    let output = check(&["--peer-seed", "a:7400", "--peer-ca-key", &key]);
    assert_eq!(
        (text(&output.stdout), text(&output.stderr)),
        ("ok: superpeer of a fleet on 127.0.0.1:7400, 1 seed; 6 values set\n".to_owned(), String::new())
    );
    let output = check(&["--peer-ca-key", &ca]);
    assert_eq!((output.status.code(), text(&output.stderr).lines().count()), (Some(2), 1));
    assert!(text(&output.stderr).starts_with("peer: "), "{}", text(&output.stderr));
    // A certificate for another role.
    let made = shoal(&["cert", "node", "--ca", &ca, "--name", "n", "--role", "edge", "--out", &path("n")]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let output = check(&["--peer-cert", &path("n/n.pem"), "--peer-key", &path("n/n-key.pem")]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
}

#[test]
fn config_show_names_sources_and_config_schema_is_json() {
    let output = shoal(&[&["config", "show", "--cache-memory", "1GiB"][..], &ORIGIN].concat());
    let text = text(&output.stdout);
    assert!(text.contains("\ncache.memory = \"1GiB\"  # --cache-memory\n"), "{text}");
    assert!(text.contains("\nlog.filter = \"info\"  # default\n"), "{text}");
    assert!(json(&shoal(&["config", "schema"]))["properties"]["site"].is_object());
}

/// A folder with an authority in `ca`, and what makes paths in it.
fn cluster() -> (tempfile::TempDir, impl Fn(&str) -> String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path().to_owned();
    let path = move |name: &str| root.join(name).to_str().expect("a path in UTF-8").to_owned();
    let output = shoal(&["cert", "ca", "--out", &path("ca"), "--name", "fleet"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    (folder, path)
}

fn mode(path: &str) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[test]
fn cert_makes_an_authority_once_with_a_secret_key() {
    let (_folder, path) = cluster();
    assert_eq!((mode(&path("ca/ca.pem")), mode(&path("ca/ca-key.pem"))), (0o644, 0o600));
    let shown = json(&shoal(&["cert", "show", &path("ca/ca.pem"), "--json"]));
    assert_eq!((&shown[0]["kind"], &shown[0]["state"]), (&"authority".into(), &"valid".into()));

    let before = std::fs::read(path("ca/ca-key.pem")).unwrap();
    std::fs::remove_file(path("ca/ca.pem")).unwrap();
    let output = shoal(&["cert", "ca", "--out", &path("ca")]);
    let refusal = format!("shoal: {} exists already and is not overwritten\n", path("ca/ca-key.pem"));
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), refusal));
    assert_eq!(std::fs::read(path("ca/ca-key.pem")).unwrap(), before);
    assert!(!std::path::Path::new(&path("ca/ca.pem")).exists());
}

#[test]
fn cert_keeps_an_authority_that_is_there_if_asked_to() {
    let (_folder, path) = cluster();
    let read = |name: &str| std::fs::read(path(name)).unwrap();
    let before = (read("ca/ca.pem"), read("ca/ca-key.pem"));
    let keep = |folder: &str| shoal(&["cert", "ca", "--out", &path(folder), "--keep"]).status.code();
    assert_eq!((keep("ca"), keep("new")), (Some(0), Some(0)));
    assert_eq!((read("ca/ca.pem"), read("ca/ca-key.pem")), before);
    // The halves of two authorities are none.
    std::fs::copy(path("new/ca.pem"), path("ca/ca.pem")).unwrap();
    assert_eq!(keep("ca"), Some(1));
    std::fs::remove_file(path("ca/ca.pem")).unwrap();
    assert_eq!(keep("ca"), Some(1), "a key without its certificate is not replaced");
    assert_eq!(read("ca/ca-key.pem"), before.1);
}

#[test]
fn cert_makes_a_nodes_certificate_and_renews_it_for_the_same_key() {
    let (_folder, path) = cluster();
    let (ca, out) = (path("ca"), path("nodes"));
    let node = |more: &[&str]| {
        let args = ["cert", "node", "--ca", &ca, "--name", "edge-1", "--out", &out, "--role", "edge"];
        shoal(&[&args, more].concat())
    };
    let show = || json(&shoal(&["cert", "show", &path("nodes/edge-1.pem"), "--json"]))[0].clone();
    assert_eq!(node(&["--renew"]).status.code(), Some(1), "there is nothing to renew");
    let output = node(&["--role", "superpeer", "--lifetime", "2days"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(mode(&path("nodes/edge-1-key.pem")), 0o600);
    let first = show();
    assert_eq!((&first["kind"], &first["name"]), (&"node".into(), &"edge-1".into()));
    assert_eq!(first["roles"], serde_json::json!(["edge", "superpeer"]));
    let shown = text(&shoal(&["cert", "show", &path("nodes/edge-1.pem")]).stdout);
    assert!(shown.contains("\n  roles     edge, superpeer\n") && shown.ends_with(": valid\n"), "{shown}");

    assert_eq!(node(&[]).status.code(), Some(1), "an existing certificate is not overwritten");
    assert_eq!(show(), first);
    let output = node(&["--renew"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let second = show();
    assert_eq!((&second["id"], &second["roles"]), (&first["id"], &serde_json::json!(["edge"])));
    assert!(second["not_after"].as_str() > first["not_after"].as_str());

    let args = ["cert", "node", "--ca", &ca, "--name", "ca", "--out", &ca, "--role", "edge", "--renew"];
    let output = shoal(&args);
    assert_eq!(output.status.code(), Some(1), "the authority is not a node to be renewed");
    assert_eq!(json(&shoal(&["cert", "show", &path("ca/ca.pem"), "--json"]))[0]["kind"], "authority");
}

#[test]
fn cert_token_prints_a_token_that_the_authority_knows() {
    use shoal::proto::{swarm::Roles, time::Wall};
    use shoal::tls::cluster::{Authority, TokenError};
    let (_folder, path) = cluster();
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    let authority = Authority::load(&read("ca/ca.pem"), &read("ca/ca-key.pem")).unwrap();
    let key = path("ca/ca-key.pem");
    let token = |more: &[&str]| {
        let output = shoal(&[&["cert", "token", "--role", "edge"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let far = Wall::from_secs(100_000_000_000);
    let short = token(&["--ca", &path("ca"), "--ttl", "1h"]);
    assert_eq!(authority.verify_token(&short, Wall::from_secs(0)), Ok(Roles::EDGE));
    assert_eq!(authority.verify_token(&short, far), Err(TokenError::Expired));
    let eternal = token(&["--ca", &path("ca/ca.pem"), "--ca-key", &key, "--ttl", "never"]);
    assert_eq!(authority.verify_token(&eternal, far), Ok(Roles::EDGE));
    for ttl in ["1h", "never"] {
        let out = path("ca/token");
        assert_eq!(token(&["--ca", &path("ca"), "--ttl", ttl, "--out", &out]), "", "not printed too");
        assert_eq!(mode(&out), 0o600);
        assert_eq!(authority.verify_token(read("ca/token").trim(), Wall::from_secs(0)), Ok(Roles::EDGE));
    }
    assert_eq!(authority.verify_token(read("ca/token").trim(), far), Ok(Roles::EDGE), "it was replaced");
}

#[test]
fn cert_tells_wrong_usage_from_files_that_cannot_be_used() {
    let (_folder, path) = cluster();
    let ca = path("ca");
    let token = |more: &[&str]| shoal(&[&["cert", "token", "--ca", &ca], more].concat());
    for usage in [&[][..], &["--role", "king"], &["--role", "edge", "--ttl", "soon"]] {
        assert_eq!(token(usage).status.code(), Some(2), "{usage:?}");
    }
    let nodes = ["cert", "node", "--ca", &ca, "--out", &ca, "--role", "edge", "--name"];
    assert_eq!(shoal(&[&nodes[..], &["../up"]].concat()).status.code(), Some(2));
    let output = shoal(&["cert", "show", &path("ca/ca-key.pem")]);
    let nothing = format!("shoal: {}: no certificate in it\n", path("ca/ca-key.pem"));
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), nothing));
    let output = shoal(&["cert", "token", "--ca", "/nowhere/ca.pem", "--role", "edge"]);
    let missing = "shoal: /nowhere/ca.pem: No such file or directory (os error 2)\n".to_owned();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), missing));
}

#[test]
fn version_is_that_of_the_package() {
    assert_eq!(json(&shoal(&["version", "--json"]))["version"], env!("CARGO_PKG_VERSION"));
    assert!(text(&shoal(&["version"]).stdout).starts_with(concat!("shoal ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn wrong_usage_exits_with_2() {
    assert_eq!(shoal(&["check", "--no-such-flag"]).status.code(), Some(2));
    assert_eq!(shoal(&[]).status.code(), Some(2));
}

#[test]
fn a_node_that_cannot_start_says_why_once_and_exits_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let output = shoal(&[&["run"][..], &ORIGIN, &["--listen", &at]].concat());
    let in_use = format!("shoal: listen on {at}: Address already in use (os error 98)\n");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), in_use));

    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let output = shoal(&[&["run"][..], &ORIGIN, &["--listen", "127.0.0.1:0", "--cache-dir", path]].concat());
    let no_folder =
        format!("shoal: disk tier: cannot open the folder in {path}: File exists (os error 17)\n");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), no_folder));
}
