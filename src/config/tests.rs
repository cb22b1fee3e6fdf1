//! The rules of configuration, told by what `load` says.

use super::*;
use crate::config::model::{AccessLog, QueryFilter};
use crate::proto::semantics::{CachePolicy, SetCookie};
use crate::proto::swarm::Roles;
use proptest::prelude::*;
use std::io::Write;
use std::time::Duration;

const COMMENTED: &str = include_str!("../../config/shoal-commented.toml");
const EXAMPLE: &str = include_str!("../../config/shoal.toml");

/// A configuration in a file of its own, whose name is replaced by `F` in messages.
struct Case {
    sources: Sources,
    _file: Option<tempfile::NamedTempFile>,
}

fn file(text: impl AsRef<[u8]>, extension: &str) -> Case {
    let mut file = tempfile::Builder::new().suffix(extension).tempfile().expect("a temporary file");
    file.write_all(text.as_ref()).expect("written");
    let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    Case { sources, _file: Some(file) }
}

fn toml(text: &str) -> Case {
    file(text, ".toml")
}

fn nothing() -> Case {
    Case { sources: Sources::default(), _file: None }
}

impl Case {
    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.env.push((name.into(), value.into()));
        self
    }

    fn flag(mut self, name: &'static str, key: &'static str, value: &str) -> Self {
        self.sources.flags.push(Flag { name, key, value: FlagValue::One(value.to_owned()) });
        self
    }

    fn origin(mut self, urls: &[&str]) -> Self {
        let value = FlagValue::Many(urls.iter().map(|url| (*url).to_owned()).collect());
        self.sources.flags.push(Flag { name: "--origin", key: "site[0].origins", value });
        self
    }

    fn loaded(&self) -> Loaded {
        load(&self.sources).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn mistakes(&self) -> Vec<String> {
        let errors = load(&self.sources).expect_err("mistakes");
        let name = self.sources.file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        errors
            .to_string()
            .lines()
            .map(|line| line.replacen(&name, "F", usize::from(!name.is_empty())))
            .collect()
    }

    #[track_caller]
    fn check_mistakes(&self, expected: &[&str]) {
        assert_eq!(self.mistakes(), expected);
    }
}

fn value_of(loaded: &Loaded, key: &str) -> serde_json::Value {
    let shown = loaded.shown.iter().find(|shown| shown.key == key);
    shown.unwrap_or_else(|| panic!("{key} is shown")).value.clone()
}

#[test]
fn an_origin_alone_is_a_configuration() {
    let config = nothing().origin(&["http://127.0.0.1:8000", "https://[::1]"]).loaded().config;
    assert_eq!(config.listen.http, ["127.0.0.1:8080".parse().expect("an address")]);
    assert_eq!(
        (config.sites[0].name.as_str(), config.sites[0].hosts.as_slice()),
        ("default", &["*".to_owned()][..])
    );
    let servers: Vec<_> = config.sites[0]
        .origin
        .servers
        .iter()
        .map(|server| (server.tls, server.host.as_str(), server.port))
        .collect();
    assert_eq!(servers, [(false, "127.0.0.1", 8000), (true, "::1", 443)]);
    assert_eq!(config.cache.memory, 256 << 20);
    assert!(config.cache.disks.is_empty() && config.metrics.is_none() && config.admin.is_none());
}

#[test]
fn nothing_at_all_is_told_what_to_do() {
    nothing().check_mistakes(&[
        "site: no site and no origin: give --origin http://127.0.0.1:8000, or a [[site]] with hosts and origins",
    ]);
}

#[test]
fn later_layers_win_and_are_named_as_the_source() {
    let text = "[cache]\nmemory = \"1GiB\"\n[node]\nname = \"a\"\nzone = \"z\"\n";
    let case = toml(text)
        .env("SHOAL__NODE__NAME", "b")
        .env("SHOAL__CACHE__MEMORY", "2GiB")
        .flag("--cache-memory", "cache.memory", "3GiB")
        .origin(&["http://o"]);
    let loaded = case.loaded();
    assert_eq!((loaded.config.cache.memory, loaded.config.node.name.as_str()), (3 << 30, "b"));
    let source = |key: &str| loaded.origin_of[key].to_string();
    let path = case.sources.file.as_ref().expect("a file").display().to_string();
    assert_eq!(source("cache.memory"), "--cache-memory");
    assert_eq!(source("node.name"), "SHOAL__NODE__NAME");
    assert_eq!(source("node.zone"), format!("{path}:5:1"));
    assert_eq!(source("node.workers"), "default");
}

#[test]
fn an_empty_zone_is_none() {
    let zone = |value| {
        nothing().env("SHOAL__NODE__ZONE", value).origin(&["http://o"]).loaded().config.node.zone.clone()
    };
    assert_eq!((zone(""), zone("eu-1").as_deref()), (None, Some("eu-1")));
}

#[test]
fn all_wrong_keys_and_types_of_all_sources_are_told_at_once() {
    let text = "\
trusted_network = []
[listen]
http = [\":8080\", 5]
[cache]
memry = \"1GiB\"
stale_if_error = 30
heuristic_max = \"30\"
disk = { path = \"x\" }
[[site]]
orgins = []
balance = \"random\"
[[site.rules]]
pas = true
pass = \"yes\"
";
    toml(text)
        .env("SHOAL__NODE__WORKERS", "many")
        .env("SHOAL__CACHE", "5")
        .env("SHOAL__SIDE__X", "1")
        .env("SHOAL__", "1")
        .env("SHOAL__SITE__999__NAME", "1")
        .flag("--cache-memory", "cache.memory", "5XB")
        .check_mistakes(&[
            "F:1:1: trusted_network: unknown key; did you mean `trusted_networks`?",
            "F:3:9: listen.http[0]: an address has a host: \"0.0.0.0:8080\" for all, \"127.0.0.1:8080\" for this machine?",
            "F:3:18: listen.http[1]: expected an address such as \"127.0.0.1:8080\", found integer 5",
            "F:5:1: cache.memry: unknown key; did you mean `memory`?",
            "F:6:1: cache.stale_if_error: a duration needs a unit, as in \"30s\"",
            "F:7:1: cache.heuristic_max: a duration needs a unit: \"30s\"?",
            "F:8:1: cache.disk: expected a list, found a table",
            "F:10:1: site[0].orgins: unknown key; did you mean `origins`?",
            "F:11:1: site[0].balance: expected \"round_robin\" or \"least_connections\", found \"random\"",
            "F:13:1: site[0].rules[0].pas: unknown key; did you mean `pass`?",
            "F:14:1: site[0].rules[0].pass: expected true or false, found string \"yes\"",
            "SHOAL__: no key: expected SHOAL__SECTION__KEY",
            "SHOAL__SITE__999__NAME: an index is at most 255",
            "SHOAL__CACHE: cache: expected a table, found string \"5\"",
            "SHOAL__NODE__WORKERS: node.workers: expected a whole number, found string \"many\"",
            "SHOAL__SIDE__X: side: unknown key; did you mean `site`?",
            "--cache-memory: cache.memory: expected a size such as \"256MiB\" or a number of bytes, found \"5XB\"",
        ]);
}

#[test]
fn all_that_is_wrong_in_meaning_is_told_at_once() {
    let text = "\
[node]
name = \"a b\"
[listen]
http = [\"127.0.0.1:80\"]
https = [\"127.0.0.1:443\"]
[metrics]
listen = \"127.0.0.1:80\"
[admin]
listen = \"0.0.0.0:9000\"
[[site]]
hosts = [\"Example.com\", \"a.com:80\", \"http://b\", \"*x\"]
origins = [\"http://u:secret@x\", \"ftp://x\", \"http://x/y\", \"x:1\", \"http://y:0\", \"http://z\", \"http://Z:80/\"]
origin_host = \"a b\"
fail_max = 0
tls = { cert = \"c\" }
rules = [{ path = \"x\" }, { path = \"/a*b\" }, { path = \"/a/../b\", query = {} }]
[[site]]
name = \"example.com\"
hosts = [\"example.com\"]
cache = { heuristic_percent = 101 }
[cache]
memory = 5
disk = [{ size = \"1MiB\" }, { path = \"d\" }]
";
    toml(text).check_mistakes(&[
        "F:2:1: node.name: expected 1 to 63 letters, digits, `-`, `.` or `_`",
        "F:5:1: listen.https: no site has a certificate: give `tls` in a site, or --tls-cert and --tls-key",
        "F:7:1: metrics.listen: 127.0.0.1:80 is already the address of listen.http[0]",
        "F:9:1: admin.listen: 0.0.0.0:9000 can be reached from other machines: set admin.token_file, or listen on 127.0.0.1",
        "F:11:25: site[0].hosts[1]: a host pattern has no port",
        "F:11:37: site[0].hosts[2]: expected a host name, not a URL",
        "F:11:49: site[0].hosts[3]: expected a host name, `*.` and a host name, or `*`",
        "F:12:12: site[0].origins[0]: an origin URL has no user or password",
        "F:12:33: site[0].origins[1]: scheme \"ftp\" is neither http nor https",
        "F:12:44: site[0].origins[2]: an origin URL has no path: requests keep the path that the client asked for",
        "F:12:58: site[0].origins[3]: a URL begins with its scheme: \"http://x:1\" or \"https://x:1\"?",
        "F:12:65: site[0].origins[4]: expected scheme, host and port, as in \"http://127.0.0.1:8000\"",
        "F:12:91: site[0].origins[6]: the same server twice",
        "F:13:1: site[0].origin_host: expected a host name, with or without port",
        "F:14:1: site[0].fail_max: expected at least 1",
        "F:15:1: site[0].tls.key: missing: a certificate needs its key",
        "F:16:12: site[0].rules[0].path: expected a path that begins with `/`",
        "F:16:28: site[0].rules[1].path: `*` stands only at the end",
        "F:16:47: site[0].rules[2].path: a path pattern has no empty, `.` or `..` segments",
        "F:16:65: site[0].rules[2].query: expected one of `only` and `except`",
        "F:17:1: site[1].origins: missing: expected URLs such as \"http://127.0.0.1:8000\"",
        "F:18:1: site[1].name: \"example.com\" is already the name of site[0]",
        "F:19:1: site[1].hosts: \"example.com\" is already a host of site[0]",
        "F:20:11: site[1].cache.heuristic_percent: expected 0 to 100",
        "F:22:1: cache.memory: expected at least 1MiB",
        "F:23:9: cache.disk[0].path: a disk cache needs a folder: give `path`, or --cache-dir",
        "F:23:11: cache.disk[0].size: expected at least 64MiB",
        "F:23:28: cache.disk[1]: this version has one folder at most",
    ]);
}

#[test]
fn mistakes_are_told_to_programs_too() {
    let errors = load(&nothing().flag("--workers", "node.workers", "x").sources).expect_err("a mistake");
    let expected = serde_json::json!({ "mistakes": [{
        "source": { "kind": "flag", "name": "--workers" },
        "key": "node.workers",
        "what": "expected a whole number, found string \"x\"",
    }]});
    assert_eq!(errors.to_json(), expected);
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_its_place() {
    toml("a = 1\nb = = 2\n").check_mistakes(&["F:2:5: extra `=`, expected nothing"]);
    file(b"a = \xff", ".toml").check_mistakes(&["F: cannot be read: not UTF-8 text"]);
    assert!(file("site: [\n  : x", ".yaml").mistakes()[0].starts_with("F: "));
    let missing = Sources { file: Some("/nonexistent/shoal.toml".into()), ..Sources::default() };
    let errors = load(&missing).expect_err("no such file").to_string();
    assert!(errors.starts_with("/nonexistent/shoal.toml: cannot be read: "), "{errors}");
}

#[test]
fn yaml_says_the_same_as_toml() {
    let yaml = "site:\n  - hosts: [a.com]\n    origins: [\"http://x:1\"]\ncache: {memory: 1GiB}\n";
    let config = file(yaml, ".yaml").loaded().config;
    assert_eq!((config.sites[0].name.as_str(), config.cache.memory), ("a.com", 1 << 30));
    file("site:\n  - orgins: [x]\n", ".yml")
        .check_mistakes(&["F: site[0].orgins: unknown key; did you mean `origins`?"]);
}

#[test]
fn a_dotted_key_in_quotes_is_no_path() {
    assert!(
        toml("\"cache.memory\" = \"1GiB\"").mistakes()[0].starts_with("F:1:1: cache.memory: unknown key")
    );
}

#[test]
fn a_flag_speaks_of_the_only_site() {
    let one = "[[site]]\nhosts = [\"a.com\"]\norigins = [\"http://old\"]\n";
    let config = toml(one).origin(&["http://new"]).loaded().config;
    assert_eq!(
        (config.sites[0].hosts[0].as_str(), config.sites[0].origin.servers[0].host.as_str()),
        ("a.com", "new")
    );
    let two = format!("{one}[[site]]\nhosts = [\"b.com\"]\norigins = [\"http://b\"]\n");
    toml(&two)
        .origin(&["http://new"])
        .check_mistakes(&["--origin: the file has 2 sites, and a flag cannot say which; set it in the file"]);
}

#[test]
fn a_site_in_a_file_must_say_its_hosts() {
    toml("[[site]]\norigins = [\"http://x\"]\n")
        .check_mistakes(&["F:1:1: site[0].hosts: missing: expected host names, or \"*\" for any"]);
}

#[test]
fn a_disk_size_needs_a_folder_but_a_folder_needs_no_size() {
    let with_dir = nothing().origin(&["http://x"]).flag("--cache-dir", "cache.disk[0].path", "/c");
    assert_eq!(with_dir.loaded().config.cache.disks, [model::Disk { path: "/c".into(), size: 10 << 30 }]);
    let with_size = nothing().origin(&["http://x"]).flag("--cache-disk", "cache.disk[0].size", "1GiB");
    with_size.check_mistakes(&[
        "--cache-disk: cache.disk[0].path: a disk cache needs a folder: give `path`, or --cache-dir",
    ]);
}

#[test]
fn the_environment_writes_lists_with_commas_and_indices() {
    let config = nothing()
        .env("SHOAL__LISTEN__HTTP", "127.0.0.1:1, [::1]:2")
        .env("SHOAL__SITE__0__ORIGINS", "http://a,http://b")
        .env("SHOAL__SITE__0__ORIGIN_HTTP2", "true")
        .env("SHOAL__CACHE__DISK__0__PATH", "/c")
        .env("SHOAL__NODE__WORKERS", "3")
        .env("SHOAL__LIMITS__BODY_BYTES", "0")
        .env("SHOAL_PORT", "tcp://10.0.0.1:80")
        .loaded()
        .config;
    assert_eq!((config.listen.http.len(), config.sites[0].origin.servers.len()), (2, 2));
    assert_eq!((config.node.workers, config.limits.body_bytes), (3, 0));
    assert!(config.sites[0].origin.http2 && config.cache.disks[0].path.as_os_str() == "/c");
}

#[test]
fn policies_are_inherited_from_cache_to_site_to_rule() {
    let text = "\
[cache]
profile = \"rfc\"
stale_if_error = \"1h\"
[[site]]
hosts = [\"a.com\"]
origins = [\"http://x\"]
cache = { lifetime_max = \"2h\" }
[[site.rules]]
path = \"/api/*\"
pass = true
cache = { set_cookie = \"explicit\", select_language = false }
query = { except = [\"utm_source\"] }
";
    let config = toml(text).loaded().config;
    let site = &config.sites[0];
    let hour = Duration::from_secs(3600);
    assert_eq!((site.policy.set_cookie, site.policy.stale_if_error), (SetCookie::Rfc, hour));
    let rule = &site.rules[0];
    assert_eq!((rule.policy.set_cookie, rule.policy.lifetime_max), (SetCookie::Explicit, 2 * hour));
    assert_eq!(rule.policy.stale_if_error, hour);
    assert!(site.policy.select_language && !rule.policy.select_language);
    assert!(rule.pass && rule.query == Some(QueryFilter::Except(vec!["utm_source".to_owned()])));
}

#[test]
fn the_default_policy_is_that_of_the_cache_rules() {
    assert_eq!(nothing().origin(&["http://x"]).loaded().config.sites[0].policy, CachePolicy::default());
}

#[test]
fn sizes_tell_powers_of_two_from_powers_of_ten() {
    for (written, bytes) in
        [("2MiB", 2 << 20), ("2MB", 2_000_000), ("2000000", 2_000_000), ("1.5GiB", 3 << 29)]
    {
        let case = nothing().origin(&["http://x"]).flag("--cache-memory", "cache.memory", written);
        assert_eq!(case.loaded().config.cache.memory, bytes, "{written}");
    }
}

#[test]
fn the_access_log_is_off_stdout_or_a_file() {
    let table = [("off", AccessLog::Off), ("-", AccessLog::Stdout), ("/l", AccessLog::File("/l".into()))];
    for (written, expected) in table {
        let case = nothing().origin(&["http://x"]).flag("--access-log", "log.access", written);
        assert_eq!(case.loaded().config.log.access, expected);
    }
}

/// An edge of a fleet; `more` are further keys of `[peer]`, and sections after it.
fn fleet(more: &str) -> Case {
    toml(&format!("[peer]\nlisten = \"10.0.0.1:7400\"\nca = \"/ca\"\n{more}\n")).origin(&["http://x"])
}

#[test]
fn a_node_is_alone_unless_it_listens_for_peers() {
    let config = nothing().origin(&["http://x"]).loaded().config;
    assert_eq!((&config.peer, config.node.roles), (&None, Roles::EDGE));
    let more = "join_token_file = \"/t\"\nadvertise = \"edge-1.example:7400\"\n\
                seeds = [\"10.0.0.1:7400\", \"[::1]:7400\", \"fleet.local:7400\", \"_shoal._udp.example.com\"]\n";
    let peer = fleet(more).loaded().config.peer.clone().expect("a fleet");
    assert_eq!((peer.listen.port(), peer.seeds.len(), peer.directory_max), (7400, 4, 10_000_000));
    assert_eq!((peer.advertise.as_deref(), peer.ca.to_str()), (Some("edge-1.example:7400"), Some("/ca")));
    assert_eq!(peer.credentials, model::Credentials::Token("/t".into()));
}

#[test]
fn a_node_has_one_kind_of_credentials() {
    let files = model::CertificateFiles { cert: "/c".into(), key: "/k".into() };
    let of = |more: &str| fleet(more).loaded().config.peer.clone().expect("a fleet").credentials;
    assert_eq!(of("cert = \"/c\"\nkey = \"/k\""), model::Credentials::Files(files));
    let authority = model::Credentials::Authority { ca_key: "/k".into() };
    assert_eq!(of("ca_key = \"/k\"\n[node]\nroles = [\"edge\", \"superpeer\"]"), authority);

    fleet("").check_mistakes(&[
        "F:3:1: peer: the node has no certificate: give `cert` and `key`, or `join_token_file`, or on a superpeer `ca_key`",
    ]);
    fleet("cert = \"/c\"").check_mistakes(&["F:3:1: peer.key: missing: a certificate needs its key"]);
    fleet("key = \"/k\"").check_mistakes(&["F:3:1: peer.cert: missing: a key needs its certificate"]);
    fleet("cert = \"/c\"\nkey = \"/k\"\njoin_token_file = \"/t\"").check_mistakes(&[
        "F:6:1: peer.join_token_file: the node's certificate comes from `cert` already: give one of the two",
    ]);
    fleet("ca_key = \"/k\"").check_mistakes(&[
        "F:4:1: peer.ca_key: only a superpeer has the authority's key: add \"superpeer\" to node.roles, or give `join_token_file`",
    ]);
}

#[test]
fn what_is_wrong_with_a_fleet_is_told_at_once() {
    let text = "\
[peer]
listen = \"0.0.0.0:7400\"
join_token_file = \"/t\"
advertise = \"0.0.0.0:7400\"
directory_max = 0
seeds = [\"a\", \"a:0\", \"::1:7400\", \"http://a:1\", \"_shoal._udp.a:1\", \"_shoal\"]
";
    let place = "expected an address or a name with its port, as in \"10.0.0.1:7400\"";
    toml(text).origin(&["http://x"]).check_mistakes(&[
        "F:4:1: peer.advertise: nobody is reached at this address",
        "F:4:1: peer.ca: missing: the certificate of the fleet's authority; `shoal cert ca` makes one",
        "F:5:1: peer.directory_max: expected at least 1",
        &format!("F:6:10: peer.seeds[0]: {place}"),
        &format!("F:6:15: peer.seeds[1]: {place}"),
        &format!("F:6:22: peer.seeds[2]: {place}"),
        &format!("F:6:34: peer.seeds[3]: {place}"),
        "F:6:48: peer.seeds[4]: an SRV record says the port itself: give the name alone",
        "F:6:67: peer.seeds[5]: expected the name of an SRV record, as in \"_shoal._udp.example.com\"",
    ]);
    let missing = "peer.listen: missing: the UDP address of this node in the fleet, such as \"0.0.0.0:7400\"";
    toml("[peer]\nca = \"/ca\"\n").origin(&["http://x"]).check_mistakes(&[&format!("F:2:1: {missing}")]);
    let everywhere = "[peer]\nlisten = \"0.0.0.0:7400\"\nca = \"/ca\"\njoin_token_file = \"/t\"\n";
    let advertise =
        "peer.advertise: missing: with peer.listen on all addresses, others must be told one of them";
    assert!(
        toml(everywhere).origin(&["http://x"]).mistakes().iter().any(|mistake| mistake.ends_with(advertise))
    );
}

#[test]
fn who_is_no_edge_serves_no_clients() {
    let superpeer = "[node]\nroles = [\"superpeer\"]\n[peer]\nlisten = \"10.0.0.1:7400\"\nca = \"/ca\"\nca_key = \"/k\"\n";
    let config = toml(superpeer).loaded().config;
    assert!(config.sites.is_empty() && config.listen.http.is_empty() && config.listen.https.is_empty());
    assert_eq!(config.node.roles, Roles { edge: false, superpeer: true });
    let config =
        toml(superpeer).env("SHOAL__NODE__ROLES", "edge, superpeer").origin(&["http://x"]).loaded().config;
    assert_eq!((config.node.roles, config.listen.http.len()), (Roles { edge: true, superpeer: true }, 1));

    let serves = format!(
        "{superpeer}[listen]\nhttps = [\"127.0.0.1:1\"]\n[[site]]\nhosts = [\"a\"]\norigins = [\"http://x\"]\n"
    );
    toml(&serves).check_mistakes(&[
        "F:8:1: listen.https: a node that is no edge serves no clients: add \"edge\" to node.roles, or leave this out",
        "F:9:3: site: a node that is no edge serves no site: add \"edge\" to node.roles, or leave sites and --origin out",
    ]);
    toml("[node]\nroles = [\"superpeer\"]\n").check_mistakes(&[
        "F:2:1: node.roles: a superpeer is part of a fleet: set peer.listen and what goes with it",
    ]);
    toml("[node]\nroles = []\n")
        .origin(&["http://x"])
        .check_mistakes(&["F:2:1: node.roles: expected \"edge\", \"superpeer\" or both"]);
}

#[test]
fn a_rule_shares_in_the_fleet_what_its_site_shares_unless_it_says_so() {
    let text = "\
[[site]]
hosts = [\"a.com\"]
origins = [\"http://x\"]
peers = false
rules = [{ path = \"/a\" }, { path = \"/b\", peers = true }]
[[site]]
hosts = [\"b.com\"]
origins = [\"http://x\"]
rules = [{ path = \"/a\" }, { path = \"/b\", peers = false }]
";
    let config = toml(text).loaded().config;
    let shared: Vec<_> = config
        .sites
        .iter()
        .map(|site| (site.peers, site.rules.iter().map(|rule| rule.peers).collect::<Vec<_>>()))
        .collect();
    assert_eq!(shared, [(false, vec![false, true]), (true, vec![true, false])]);
}

#[test]
fn purges_by_request_are_off_and_need_a_guard() {
    let site =
        |more: &str| toml(&format!("[[site]]\nhosts = [\"a.com\"]\norigins = [\"http://x\"]\n{more}\n"));
    let purge = |more: &str| site(more).loaded().config.sites[0].purge.clone();
    let off = purge("");
    assert!(!off.methods && !off.expose_tags && off.networks.is_empty() && off.token_file.is_none());
    let on = purge("purge = { methods = true, networks = [\"10.0.0.0/8\", \"::1\"] }");
    assert!(on.methods && !on.expose_tags && on.networks.len() == 2);
    let on = purge("[site.purge]\nmethods = true\ntoken_file = \"/t\"\nexpose_tags = true");
    assert!(on.methods && on.expose_tags && on.token_file.is_some());
    let exposing = site("rules = [{ path = \"/a\" }]\n[site.purge]\nexpose_tags = true").loaded().config;
    assert!(exposing.sites[0].policy.expose_tags && exposing.sites[0].rules[0].policy.expose_tags);
    site("purge = { methods = true }").check_mistakes(&[
        "F:4:11: site[0].purge.methods: anybody could purge: give `networks`, `token_file` or both",
    ]);
}

#[test]
fn a_rate_has_a_period() {
    let rate = |text: &str| toml(&format!("[purge]\nrate = {text}\n")).origin(&["http://x"]);
    let default = nothing().origin(&["http://x"]).loaded().config.purge;
    assert_eq!(
        (default.rate.units.get(), default.rate.per, default.burst),
        (20, Duration::from_secs(1), 100)
    );
    let hourly = rate("\" 5 / h\"").loaded().config.purge.rate;
    assert_eq!((hourly.units.get(), hourly.per), (5, Duration::from_secs(3600)));
    rate("5").check_mistakes(&["F:2:1: purge.rate: a rate needs a period, as in \"20/s\""]);
    for wrong in ["0/s", "-1/s", "5/d", "5", "/s", "5/"] {
        let expected = format!("F:2:1: purge.rate: expected a rate such as \"20/s\", found \"{wrong}\"");
        rate(&format!("\"{wrong}\"")).check_mistakes(&[&expected]);
    }
    let burst = toml("[purge]\nburst = 10\n").origin(&["http://x"]);
    burst.check_mistakes(&["F:2:1: purge.burst: expected at least 11"]);
}

#[test]
fn an_admin_interface_beyond_loopback_needs_a_token() {
    let open = "[admin]\nlisten = \"[::]:9000\"\ntoken_file = \"/t\"\n";
    let admin = toml(open).origin(&["http://x"]).loaded().config.admin.clone();
    assert_eq!(admin.and_then(|admin| admin.token_file), Some("/t".into()));
    for loopback in ["127.0.0.1:9000", "[::1]:9000", "[::ffff:127.0.0.1]:9000"] {
        nothing().origin(&["http://x"]).flag("--admin", "admin.listen", loopback).loaded();
    }
}

#[test]
fn a_node_is_named_after_its_machine() {
    for (hostname, name) in [("edge-1.example", "edge-1.example"), ("söme host", "s-me-host"), ("", "shoal")]
    {
        let mut case = nothing().origin(&["http://x"]);
        case.sources.machine.hostname = hostname.to_owned();
        assert_eq!(case.loaded().config.node.name, name);
    }
}

#[test]
fn the_examples_load() {
    assert_eq!(EXAMPLE.lines().count(), 8);
    toml(EXAMPLE).loaded();
    toml(COMMENTED).loaded();
}

#[test]
fn proxies_are_listened_for_where_clients_are_and_only_if_some_are_believed() {
    let site = "[[site]]\nhosts = [\"*\"]\norigins = [\"http://127.0.0.1:1\"]\n";
    let listen = |trusted: &str, proxied: &str| {
        let listen = "http = [\"127.0.0.1:80\"]\n";
        toml(&format!(
            "trusted_networks = [{trusted}]\n[listen]\n{listen}proxy_protocol = [\"{proxied}\"]\n{site}"
        ))
    };
    let loaded = listen("\"10.0.0.0/8\"", "127.0.0.1:80").loaded();
    assert_eq!(loaded.config.listen.proxy_protocol, loaded.config.listen.http);
    listen("\"10.0.0.0/8\"", "127.0.0.1:81").check_mistakes(&[
        "F:4:19: listen.proxy_protocol[0]: expected an address that is in listen.http or listen.https",
    ]);
    listen("", "127.0.0.1:80").check_mistakes(&[
        "F:4:1: listen.proxy_protocol: no proxy would be believed, and every connection closed: name the proxies in trusted_networks",
    ]);
}

/// The commented example with every key in force.
fn uncommented() -> String {
    let is_key = |line: &&str| {
        line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
    };
    COMMENTED.lines().map(|line| if is_key(&line) { &line[1..] } else { line }).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_commented_example_shows_the_defaults() {
    let loaded = toml(&uncommented()).loaded();
    let defaults = toml(COMMENTED).loaded();
    let of_machine = ["node.name", "node.workers", "limits.connections"];
    let is_example =
        |key: &str| of_machine.contains(&key) || key.starts_with("cache.disk") || key == "listen.http[0]";
    for default in defaults.shown.iter().filter(|shown| !is_example(&shown.key)) {
        assert_eq!(value_of(&loaded, &default.key), default.value, "{}", default.key);
    }
}

#[test]
fn schema_and_commented_example_have_every_key() {
    let keys = schema::keys();
    assert!(keys.len() > 70 && keys.contains(&"site.rules.query.only".to_owned()), "{keys:?}");
    let text = uncommented();
    for key in keys {
        let name = key.rsplit('.').next().unwrap_or_default();
        assert!(text.contains(&format!("{name} = ")), "{key} is not in the commented example");
    }
    // What the machine does not decide and is not optional has a default in one place.
    let sections = super::schema();
    assert_eq!(sections["$defs"]["Cache"]["properties"]["memory"]["default"], "256MiB");
    assert_eq!(sections["$defs"]["Site"]["properties"]["retries"]["default"], 1);
    assert_eq!(sections["$defs"]["Cache"]["additionalProperties"], false);
    assert!(sections["$defs"]["Limits"]["properties"]["body_bytes"]["description"].is_string());
}

#[test]
fn the_nearest_key_is_named_only_if_it_is_near() {
    let known = ["memory", "disk", "stale_if_error"];
    let near = |given| read::nearest(given, known.into_iter());
    for (given, expected) in [
        ("memroy", Some("memory")),
        ("Memory", Some("memory")),
        ("stale-if-error", Some("stale_if_error")),
        ("stale", Some("stale_if_error")),
        ("disks", Some("disk")),
        ("ttl", None),
        ("", None),
    ] {
        assert_eq!(near(given), expected, "{given}");
    }
}

/// Bits of configuration in any order, so that more than the parser is reached.
fn shuffled() -> impl Strategy<Value = String> {
    let bits = prop::sample::select(vec![
        "[[site]]\n",
        "[cache]\n",
        "[listen]\n",
        "[[site.rules]]\n",
        "hosts",
        "origins",
        "memory",
        "disk",
        "path",
        "http",
        " = ",
        "\"a.com\"",
        "\"http://x\"",
        "\"/a*\"",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "\n",
        "5",
        "-1",
        "true",
        "\"1GiB\"",
        "é",
        "#",
        ": ",
        "- ",
        "  ",
        "9223372036854775808",
        "1e999",
        "nan",
        "\"\"",
        "tls",
        "cert",
        "query",
        "only",
    ]);
    prop::collection::vec(bits, 0..40).prop_map(|bits| bits.concat())
}

proptest! {
    #[test]
    fn no_bytes_of_a_file_make_loading_panic(bytes: Vec<u8>) {
        let _ = load(&file(&bytes, ".toml").sources);
        let _ = load(&file(&bytes, ".yaml").sources);
    }

    #[test]
    fn no_text_of_a_file_makes_loading_panic(text in shuffled()) {
        let _ = load(&file(&text, ".toml").sources);
        let _ = load(&file(&text, ".yaml").sources);
    }

    #[test]
    fn no_environment_makes_loading_panic(name in "SHOAL__[A-Z0-9_\\[\\].]{0,20}", value: String) {
        let _ = load(&nothing().env(&name, &value).sources);
    }

    #[test]
    fn no_origin_url_makes_loading_panic(url: String, rest in "(https?://)?[a-z0-9.:@/\\[\\]]{0,12}") {
        let _ = load(&nothing().origin(&[&url, &rest]).sources);
    }
}

/// A value out of bounds for each key that the reference says has some.
const OUT_OF_BOUNDS: [(&str, &str); 30] = [
    ("purge.burst", "10"),
    ("node.name", "\"\""),
    ("node.zone", "\"0123456789012345678901234567890123456789012345678901234567890123\""),
    ("node.roles", "[]"),
    ("node.workers", "1025"),
    ("cache.memory", "1"),
    ("cache.disk.size", "1"),
    ("cache.heuristic_percent", "101"),
    ("limits.header_timeout", "\"0s\""),
    ("limits.keepalive_timeout", "\"0s\""),
    ("limits.idle_timeout", "\"0s\""),
    ("limits.connection_age", "\"0s\""),
    ("limits.header_bytes", "1023"),
    ("limits.header_count", "7"),
    ("limits.uri_bytes", "255"),
    ("limits.query_parameters", "0"),
    ("limits.requests_per_connection", "0"),
    ("limits.connections", "0"),
    ("limits.connections_per_ip", "0"),
    ("limits.http2_streams", "0"),
    ("peer.directory_max", "0"),
    ("site.connect_timeout", "\"0s\""),
    ("site.first_byte_timeout", "\"0s\""),
    ("site.between_bytes_timeout", "\"0s\""),
    ("site.fail_timeout", "\"0s\""),
    ("site.connections_max", "0"),
    ("site.fail_max", "0"),
    ("site.retries", "17"),
    ("site.cache.heuristic_percent", "101"),
    ("site.rules.cache.heuristic_percent", "101"),
];

#[test]
fn the_bounds_that_the_reference_tells_are_those_that_hold() {
    let page = reference::page();
    let mut table = String::new();
    let mut told = Vec::new();
    for line in page.lines() {
        let cells: Vec<_> = line.split(" | ").collect();
        if let Some(title) = line.strip_prefix("## ") {
            table = title.trim_matches(['`', '[', ']']).to_owned();
        } else if cells.len() >= 6 && line.starts_with("| `") && !cells[3].is_empty() {
            told.push(tree::join(&table, cells[0].trim_matches(['|', ' ', '`'])));
        }
    }
    let mut expected: Vec<_> = OUT_OF_BOUNDS.iter().map(|(key, _)| (*key).to_owned()).collect();
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
    for (key, value) in OUT_OF_BOUNDS {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
        let site = "[[site]]\nhosts = [\"*\"]\norigins = [\"http://127.0.0.1:1\"]\n";
        let text = match table {
            "site" => format!("{site}{name} = {value}\n"),
            "site.cache" => format!("{site}[site.cache]\n{name} = {value}\n"),
            "site.rules.cache" => {
                format!("{site}[[site.rules]]\npath = \"/\"\ncache = {{ {name} = {value} }}\n")
            }
            "cache.disk" => format!("{site}[[cache.disk]]\npath = \"a\"\n{name} = {value}\n"),
            _ => format!("{site}[{table}]\n{name} = {value}\n"),
        };
        let mistakes = toml(&text).mistakes().join("\n");
        assert!(mistakes.contains(name), "{key} = {value}: {mistakes}");
    }
}
