//! The rules of routing. Attacks by name are those of the literature on caches and proxies.

use super::*;
use crate::config::{self, Flag, FlagValue, Sources};
use crate::proto::key::decode;
use crate::proto::semantics::Vary;
use proptest::prelude::*;
use std::io::Write;
use std::sync::LazyLock;

const SITES: &str = "\
trusted_networks = [\"10.0.0.0/8\"]
[node]
name = \"edge-1\"
[[site]]
name = \"shop\"
hosts = [\"shop.example\", \"*.shop.example\"]
origins = [\"http://127.0.0.1:1\"]
[[site.rules]]
path = \"/private/*\"
pass = true
[[site.rules]]
path = \"/search\"
query = { only = [\"q\", \"page\"] }
[[site.rules]]
path = \"/static/*\"
query = { except = [\"utm_source\"] }
[[site]]
name = \"blog\"
hosts = [\"blog.example\", \"[::1]\", \"127.0.0.1\"]
origins = [\"http://127.0.0.1:1\"]
origin_host = \"backend.internal\"
";

/// The router of [`SITES`].
fn sites() -> &'static Router {
    static ROUTER: LazyLock<Router> = LazyLock::new(|| router(SITES));
    &ROUTER
}

fn router(text: &str) -> Router {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    Router::new(&config::load(&sources).unwrap_or_else(|errors| panic!("{errors}")).config)
}

#[derive(Clone)]
struct Request {
    method: Method,
    uri: String,
    headers: HeaderMap,
    scheme: Scheme,
    version: Version,
    tls_name: Option<&'static str>,
    from: &'static str,
}

fn request(uri: &str) -> Request {
    Request {
        method: Method::GET,
        uri: uri.to_owned(),
        headers: HeaderMap::new(),
        scheme: Scheme::Http,
        version: Version::HTTP_11,
        tls_name: None,
        from: "192.0.2.1",
    }
}

/// A GET of a path of the shop.
fn shop(uri: &str) -> Request {
    request(uri).header("host", "shop.example")
}

impl Request {
    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        self
    }

    fn method(mut self, method: &str) -> Self {
        self.method = method.parse().expect("a method");
        self
    }

    fn tls(mut self, name: &'static str) -> Self {
        self.scheme = Scheme::Https;
        self.tls_name = Some(name);
        self
    }

    fn from(mut self, from: &'static str) -> Self {
        self.from = from;
        self
    }

    fn resolve(&self, router: &Router) -> Result<Routed, Refusal> {
        let uri: Uri = self.uri.parse().map_err(|_invalid| Refusal::BadTarget)?;
        router.resolve(&Head {
            method: &self.method,
            uri: &uri,
            headers: &self.headers,
            scheme: self.scheme,
            version: self.version,
            tls_name: self.tls_name,
            from: self.from.parse().expect("an address"),
        })
    }

    #[track_caller]
    fn routed(&self) -> Routed {
        self.resolve(sites()).unwrap_or_else(|refusal| panic!("{} refused: {refusal}", self.uri))
    }

    #[track_caller]
    fn check_refused(&self, expected: Refusal) {
        let refused = self.resolve(sites()).map(|routed| format!("{:?}", routed.key));
        assert_eq!(refused, Err(expected), "{} {:?}", self.uri, self.headers);
    }

    /// The fields that the origin is sent.
    #[track_caller]
    fn forwarded(&self) -> HeaderMap {
        let router = sites();
        let routed = self.resolve(router).expect("routed");
        let mut headers = self.headers.clone();
        router.forward_headers(&routed, &mut headers);
        headers
    }
}

fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().expect("visible")).collect()
}

#[test]
fn a_key_has_site_scheme_host_and_target_as_forwarded() {
    let routed = shop("/a?b=c").routed();
    let parts = KeyParts { site: "shop", scheme: Scheme::Http, host: "shop.example", path: "/a?b=c" };
    assert_eq!(decode(routed.key.as_bytes()), Some(parts));
    assert_eq!((routed.target.as_str(), routed.host_str(), routed.pass), ("/a?b=c", "shop.example", None));
    assert_eq!(routed.object, routed.key.object());
}

#[test]
fn one_host_has_one_normal_form() {
    for (written, normal) in [
        ("shop.example", "shop.example"),
        ("SHOP.Example", "shop.example"),
        ("shop.example.", "shop.example"),
        ("shop.example:80", "shop.example"),
        ("shop.example:", "shop.example"),
        ("shop.example.:0080", "shop.example"),
        ("shop.example:8080", "shop.example:8080"),
        ("shop.example:08080", "shop.example:8080"),
        ("shop.example:443", "shop.example:443"),
        ("a.b.Shop.example", "a.b.shop.example"),
        ("[::1]", "[::1]"),
        ("[0:0::0:1]:8080", "[::1]:8080"),
        ("127.0.0.1:8080", "127.0.0.1:8080"),
    ] {
        assert_eq!(request("/").header("host", written).routed().host_str(), normal, "{written}");
    }
    let https = request("/").header("host", "shop.example:443").tls("shop.example").routed();
    assert_eq!(https.host_str(), "shop.example");
}

#[test]
fn a_host_that_is_none_is_refused() {
    for host in [
        "",
        " ",
        ".",
        "..",
        "a..b",
        ".shop.example",
        "shop.example..",
        "user@shop.example",
        "shop.example:0",
        "shop.example:65536",
        "shop.example:http",
        "shop.example:80:80",
        "shop.example:+80",
        "shop.example/x",
        "shop.example?x",
        "shop.example#x",
        "shop example",
        "shop.example,blog.example",
        "shop%2eexample",
        "shöp.example",
        "[::1",
        "::1",
        "[::1]x",
        "[::g]",
        "[fe80::1%25eth0]",
        "shop.example\\@blog.example",
    ] {
        request("/").header("host", host).check_refused(Refusal::BadHost);
    }
    request("/").header("host", &"a".repeat(254)).check_refused(Refusal::BadHost);
}

#[test]
fn host_of_troubles() {
    request("/").check_refused(Refusal::MissingHost);
    shop("/").header("host", "shop.example").check_refused(Refusal::DuplicateHost);
    shop("/").header("host", "blog.example").check_refused(Refusal::DuplicateHost);
    shop("http://blog.example/").check_refused(Refusal::HostMismatch);
    shop("http://shop.example:81/").check_refused(Refusal::HostMismatch);
    shop("http://u@shop.example/").check_refused(Refusal::BadHost);
    shop("https://shop.example/").check_refused(Refusal::Misdirected);
    shop("ftp://shop.example/").check_refused(Refusal::BadTarget);
    request("/").header("host", "other.example").check_refused(Refusal::UnknownHost);
    request("/").header("host", "example").check_refused(Refusal::UnknownHost);
    assert_eq!(shop("http://SHOP.example:80/x").routed().key, shop("/x").routed().key);
    assert_eq!(request("http://shop.example/x").routed().key, shop("/x").routed().key);
    assert_eq!(shop("http://shop.example").routed().target, "/");
    assert_eq!(shop("http://shop.example?q").routed().target, "/?q");
}

#[test]
fn domain_fronting_is_misdirected() {
    shop("/").tls("blog.example").check_refused(Refusal::Misdirected);
    shop("/").tls("other.example").check_refused(Refusal::Misdirected);
    assert_eq!(shop("/").tls("WWW.shop.example").routed().site.name, "shop");
}

#[test]
fn the_first_site_with_a_host_answers() {
    let sites = "\
[[site]]
name = \"a\"
hosts = [\"x.example\", \"*.deep.example\"]
origins = [\"http://o\"]
[[site]]
name = \"b\"
hosts = [\"*.example\"]
origins = [\"http://o\"]
[[site]]
name = \"c\"
hosts = [\"late.example\", \"example\"]
origins = [\"http://o\"]
[[site]]
name = \"rest\"
hosts = [\"*\"]
origins = [\"http://o\"]
";
    let router = router(sites);
    for (host, site) in [
        ("x.example", "a"),
        ("q.deep.example", "a"),
        ("deep.example", "b"),
        ("y.x.example", "b"),
        ("late.example", "b"),
        ("example", "c"),
        ("example.org", "rest"),
    ] {
        let routed = request("/").header("host", host).resolve(&router).expect("routed");
        assert_eq!(routed.site.name, site, "{host}");
    }
}

#[test]
fn targets_that_are_none_are_refused() {
    for target in ["*", "/%", "/%2", "/%zz", "/a%g0?x", "/\u{7f}", "/\u{e4}", "/?\u{e4}"] {
        shop(target).check_refused(Refusal::BadTarget);
    }
    shop(&format!("/{}", "a".repeat(8192))).check_refused(Refusal::UriTooLong);
    for separator in ["&", ";"] {
        shop(&format!("/?{}", vec!["a=1"; 257].join(separator))).check_refused(Refusal::TooManyParameters);
        shop(&format!("/?{}", vec!["a=1"; 256].join(separator))).routed();
    }
    shop(&format!("/?{}", "&".repeat(256))).check_refused(Refusal::TooManyParameters);
    shop(&format!("/?{}", "a".repeat(1000))).routed();
    assert_eq!(shop("/?q=100%").routed().target, "/?q=100%");
    // Of a target that is nothing but a fragment, which clients do not send, nothing is left; the origin is sent a path.
    assert_eq!(Uri::from(shop("http://shop.example#a").routed().target).path(), "/");
    let asterisk = shop("*").method("OPTIONS").routed();
    assert_eq!((asterisk.target.as_str(), asterisk.pass), ("*", Some(PassReason::Method)));
}

#[test]
fn heads_beyond_the_limits_are_refused() {
    let many = (0..100).fold(shop("/"), |request, _| request.header("x", "1"));
    many.check_refused(Refusal::FieldsTooLarge);
    shop("/").header("x", &"a".repeat(32 << 10)).check_refused(Refusal::FieldsTooLarge);
}

#[test]
fn expectations_other_than_to_go_on_are_refused() {
    for value in ["foo", "", "100-continue, x"] {
        shop("/").header("expect", value).check_refused(Refusal::Expectation);
    }
    shop("/").header("expect", "100-continue").header("expect", "x").check_refused(Refusal::Expectation);
    shop("/").header("expect", "100-Continue").routed();
}

#[test]
fn connect_and_trace_are_not_implemented() {
    shop("/").method("TRACE").check_refused(Refusal::Method);
    shop("shop.example:80").method("CONNECT").check_refused(Refusal::Method);
    assert_eq!(Refusal::Method.status(), 501);
}

#[test]
fn what_is_not_for_the_cache_is_passed_with_its_reason() {
    let cases = [
        (shop("/"), None),
        (shop("/").method("HEAD"), None),
        (shop("/").method("POST"), Some(PassReason::Method)),
        (shop("/").method("get"), Some(PassReason::Method)),
        (shop("/").method("OPTIONS"), Some(PassReason::Method)),
        (shop("/private/x"), Some(PassReason::Rule)),
        (shop("/private/x").method("POST"), Some(PassReason::Rule)),
        (shop("/static/../private/x").method("POST"), Some(PassReason::AmbiguousPath)),
        (shop("/").header("content-length", "3"), Some(PassReason::BodyOnGet)),
        (shop("/").header("content-length", "0"), None),
        (shop("/").header("transfer-encoding", "chunked"), Some(PassReason::BodyOnGet)),
        (shop("/").header("upgrade", "websocket"), None),
        (
            shop("/").header("upgrade", "websocket").header("connection", "keep-alive, Upgrade"),
            Some(PassReason::Upgrade),
        ),
        (shop("/").header("upgrade", "websocket, H2C").header("connection", "upgrade"), None),
    ];
    for (request, expected) in cases {
        assert_eq!(request.routed().pass, expected, "{} {:?}", request.uri, request.headers);
    }
}

#[test]
fn a_rule_in_doubt_is_passed() {
    for path in [
        "/static/..%2fprivate/x",
        "/static/%2e%2e/private/x",
        "/static/../private/x",
        "/static/..;/private/x",
        "/static\\..\\private\\x",
        "/%70rivate/x",
        "/%2570rivate/x",
        "/private;a=b/x",
        "/private%2fx",
        "//private/x",
        "/./private/x",
        "/private/../static/x",
        "/private/..",
        "/a/..%252f..%252fprivate/x",
        // An origin that takes off one layer reads /private/..., one that takes off two /static/x.
        "/static/..%2fprivate%2f..%252f..%252fstatic%252fx",
        // One that leaves parameters of segments alone reads /private/..;/static/x.
        "/static/../private/..;/static/x",
        "/search%23x",
        "/search%3fx",
        "/search%00.css",
        "/search%0a.css",
        "/search%2523x",
        "/static/..%c0%afprivate/x",
        "/static/%c0%ae%c0%ae/private/x",
        "/static/x%23/../../private/x",
    ] {
        let routed = shop(path).routed();
        assert_eq!((routed.pass, routed.rule), (Some(PassReason::AmbiguousPath), None), "{path}");
        assert_eq!(routed.target, path, "forwarded as written");
    }
    for (path, rule) in [
        ("/static/a%20b", Some(2)),
        ("/static/a;v=1", Some(2)),
        ("/static/a/../b", Some(2)),
        ("/search", Some(1)),
        ("/search/", None),
        ("/privates", None),
        ("/.well-known/x", None),
        ("/other/a%2fb", None),
        ("/static/a%23b", Some(2)),
        ("/static/%c3%a9%e9", Some(2)),
    ] {
        assert_eq!(shop(path).routed().rule, rule, "{path}");
        assert_ne!(shop(path).routed().pass, Some(PassReason::AmbiguousPath), "{path}");
    }
}

#[test]
fn the_query_filter_keeps_order_and_bytes() {
    for (written, forwarded) in [
        ("/search?q=1&x=2&page=3", "/search?q=1&page=3"),
        ("/search?page=3&q=1", "/search?page=3&q=1"),
        ("/search?q=a%26b+c", "/search?q=a%26b+c"),
        ("/search?q&Q=1&q=", "/search?q&q="),
        ("/search?x=1", "/search"),
        ("/search?", "/search"),
        ("/search?q=1;x=2", "/search?q=1;x=2"),
        ("/search?x=1;q=2", "/search"),
        ("/search?%71=1&q=2", "/search?q=2"),
        ("/static/a?utm_source=x&b=1&&c", "/static/a?b=1&&c"),
        ("/static/a?utm%5Fsource=x", "/static/a?utm%5Fsource=x"),
        ("/other?utm_source=x&x", "/other?utm_source=x&x"),
    ] {
        let routed = shop(written).routed();
        assert_eq!(routed.target, forwarded, "{written}");
        assert_eq!(decode(routed.key.as_bytes()).map(|parts| parts.path), Some(forwarded), "{written}");
    }
}

#[test]
fn requests_that_origins_may_tell_apart_have_different_keys() {
    let targets = [
        "/a", "/a/", "/A", "/a?", "/a??", "/a%3f", "/a%3F", "/a?x", "/a?x=", "/a?x&y", "/a?y&x", "/a?x;y",
        "/a%00", "//a", "/./a", "/%61", "/a;", "/a;x", "/a%2f", "/a%5c", "/a\\", "/a%23", "/a%252f",
        "/a?x=%20", "/a?x=+",
    ];
    let mut requests: Vec<Request> = targets.iter().map(|target| shop(target)).collect();
    requests.push(request("/a").header("host", "shop.example:8080"));
    requests.push(request("/a").header("host", "www.shop.example"));
    requests.push(request("/a").header("host", "blog.example"));
    requests.push(shop("/a").tls("shop.example"));
    let keys: std::collections::HashSet<_> = requests.iter().map(|request| request.routed().object).collect();
    assert_eq!(keys.len(), requests.len());
}

#[test]
fn unkeyed_fields_change_neither_key_nor_what_the_origin_sees() {
    let plain = shop("/x");
    let poisoned = [
        "x-forwarded-host",
        "x-forwarded-scheme",
        "x-forwarded-prefix",
        "x-forwarded-port",
        "x-forwarded-user",
        "x-host",
        "x-original-url",
        "x-rewrite-url",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "forwarded",
        "x_forwarded_host",
        "x-original_url",
        "proxy",
        "x-real-ip",
        "true-client-ip",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded",
        "remote_user",
        "x-auth-request-email",
        "x-invoke-status",
    ];
    let attack = poisoned.into_iter().fold(plain.clone(), |request, name| request.header(name, "evil"));
    assert_eq!(attack.routed().key, plain.routed().key);
    let sorted = |headers: &HeaderMap| {
        let mut lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&attack.forwarded()), sorted(&plain.forwarded()));
}

#[test]
fn the_origin_is_told_of_the_client() {
    let headers = shop("/").header("accept", "x").from("2001:db8::1").forwarded();
    for (name, value) in [
        ("host", "shop.example"),
        ("x-forwarded-for", "2001:db8::1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "shop.example"),
        ("forwarded", "for=\"[2001:db8::1]\";host=\"shop.example\";proto=http"),
        ("via", "1.1 edge-1"),
        ("cdn-loop", "edge-1"),
        ("accept", "x"),
    ] {
        assert_eq!(all(&headers, name), [value], "{name}");
    }
    let other = request("/").header("host", "blog.example:81").forwarded();
    assert_eq!(
        (all(&other, "host"), all(&other, "x-forwarded-host")),
        (vec!["backend.internal"], vec!["blog.example:81"])
    );
}

#[test]
fn a_trusted_peer_is_believed_and_appended_to() {
    let request = shop("/")
        .from("10.0.0.1")
        .header("x-forwarded-for", "198.51.100.7, 203.0.113.9")
        .header("x-forwarded-for", "10.0.0.2:4711")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "evil.example")
        .header("x-forwarded-port", "443")
        .header("x-forwarded-user", "ann")
        .header("x-real-ip", "<script>")
        .header("x-original-url", "/admin")
        .header("forwarded", "for=1.2.3.4;host=evil.example")
        .header("via", "1.1 lb")
        .header("cdn-loop", "other; v=1");
    let routed = request.routed();
    assert_eq!((routed.client.to_string().as_str(), routed.scheme), ("203.0.113.9", Scheme::Https));
    assert_eq!(decode(routed.key.as_bytes()).map(|parts| parts.scheme), Some(Scheme::Https));
    let headers = request.forwarded();
    for (name, value) in [
        ("x-forwarded-for", "198.51.100.7, 203.0.113.9, 10.0.0.2, 10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.example"),
        ("x-forwarded-user", "ann"),
        ("x-real-ip", "203.0.113.9"),
        (
            "forwarded",
            "for=198.51.100.7, for=203.0.113.9, for=10.0.0.2, for=10.0.0.1;host=\"shop.example\";proto=https",
        ),
        ("via", "1.1 lb, 1.1 edge-1"),
        ("cdn-loop", "other; v=1, edge-1"),
    ] {
        assert_eq!(all(&headers, name), [value], "{name}");
    }
    for gone in ["x-forwarded-port", "x-original-url"] {
        assert_eq!(all(&headers, gone), [""; 0], "{gone}: it may be the client's");
    }
}

#[test]
fn the_client_is_the_rightmost_address_that_is_not_trusted() {
    for (from, fields, client) in [
        ("192.0.2.1", &["198.51.100.7"][..], "192.0.2.1"),
        ("10.0.0.1", &[], "10.0.0.1"),
        ("10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", &["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", &["198.51.100.7, 10.0.0.3"], "198.51.100.7"),
        ("10.0.0.1", &["10.0.0.4, 10.0.0.3"], "10.0.0.4"),
        ("10.0.0.1", &["1.1.1.1, rubbish, 10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", &["1.1.1.1,"], "10.0.0.1"),
        ("10.0.0.1", &["[2001:db8::1]:80"], "2001:db8::1"),
        ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
        ("::ffff:10.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7"),
    ] {
        let request = fields
            .iter()
            .fold(shop("/").from(from), |request, field| request.header("x-forwarded-for", field));
        assert_eq!(request.routed().client.to_string(), client, "{from} {fields:?}");
    }
}

#[test]
fn forwarded_is_read_like_the_other_where_that_is_not_there() {
    for (fields, client) in [
        (&["for=198.51.100.7"][..], "198.51.100.7"),
        (&["for=1.1.1.1, for=198.51.100.7;proto=http"], "198.51.100.7"),
        (&["for=1.1.1.1", "For=\"[2001:db8::1]:_x\", for=\"10.0.0.3:80\""], "2001:db8::1"),
        (&["for=10.0.0.4, for=10.0.0.3"], "10.0.0.4"),
        (&["for=1.1.1.1, for=unknown, for=10.0.0.3"], "10.0.0.3"),
        (&["for=1.1.1.1, for=_hidden"], "10.0.0.1"),
        (&["for=1.1.1.1, proto=https"], "10.0.0.1"),
        (&["for=1.1.1.1,"], "10.0.0.1"),
        // What a client wrote does not change how what was appended is read.
        (&["for=\"1.1.1.1, for=198.51.100.7"], "198.51.100.7"),
        (&["for=\"", "for=198.51.100.7"], "198.51.100.7"),
        (&["for=1.1.1.1;x=\"a, for=198.51.100.7;y=\"b\""], "198.51.100.7"),
    ] {
        let request = fields
            .iter()
            .fold(shop("/").from("10.0.0.1"), |request, field| request.header("forwarded", field));
        assert_eq!(request.routed().client.to_string(), client, "{fields:?}");
        let stranger = request.clone().from("192.0.2.1");
        assert_eq!(stranger.routed().client.to_string(), "192.0.2.1", "{fields:?}");
    }
}

#[test]
fn both_fields_name_the_client_that_is_believed() {
    let own = "for=10.0.0.1;host=\"shop.example\";proto=http";
    for (xff, forwarded, client, xff_out, forwarded_out) in [
        (None, None, "10.0.0.1", "10.0.0.1", own.to_owned()),
        (
            Some("198.51.100.7"),
            None,
            "198.51.100.7",
            "198.51.100.7, 10.0.0.1",
            format!("for=198.51.100.7, {own}"),
        ),
        (
            None,
            Some("for=\"[2001:db8::1]:80\""),
            "2001:db8::1",
            "2001:db8::1, 10.0.0.1",
            format!("for=\"[2001:db8::1]\", {own}"),
        ),
        (
            Some("198.51.100.7, 10.0.0.2"),
            Some("for=\"198.51.100.7:1\", for=10.0.0.2;by=_x"),
            "198.51.100.7",
            "198.51.100.7, 10.0.0.2, 10.0.0.1",
            format!("for=198.51.100.7, for=10.0.0.2, {own}"),
        ),
        (
            Some("198.51.100.7"),
            Some("for=203.0.113.66"),
            "198.51.100.7",
            "198.51.100.7, 10.0.0.1",
            format!("for=198.51.100.7, {own}"),
        ),
        (Some("unknown"), Some("for=203.0.113.66"), "10.0.0.1", "10.0.0.1", own.to_owned()),
    ] {
        let mut request = shop("/").from("10.0.0.1");
        for (name, value) in [("x-forwarded-for", xff), ("forwarded", forwarded)] {
            request = value.into_iter().fold(request, |request, value| request.header(name, value));
        }
        assert_eq!(request.routed().client.to_string(), client, "{xff:?} {forwarded:?}");
        let headers = request.forwarded();
        assert_eq!(all(&headers, "x-forwarded-for"), [xff_out], "{xff:?} {forwarded:?}");
        assert_eq!(all(&headers, "forwarded"), [forwarded_out.as_str()], "{xff:?} {forwarded:?}");
    }
}

#[test]
fn the_scheme_in_forwarded_counts_where_that_field_tells_the_client() {
    let request = |fields: &[(&'static str, &'static str)]| {
        fields.iter().fold(shop("/").from("10.0.0.1"), |request, (name, value)| request.header(name, value))
    };
    let forwarded = ("forwarded", "for=198.51.100.7;proto=http, for=10.0.0.2;proto=https");
    for (fields, scheme) in [
        (&[forwarded][..], Scheme::Https),
        (&[forwarded, ("x-forwarded-proto", "http")], Scheme::Http),
        (&[forwarded, ("x-forwarded-for", "198.51.100.7")], Scheme::Http),
    ] {
        assert_eq!(request(fields).routed().scheme, scheme, "{fields:?}");
    }
}

#[test]
fn a_request_that_was_here_before_is_a_loop() {
    for (name, value) in [
        ("cdn-loop", "edge-1"),
        ("cdn-loop", "a, EDGE-1; x=y"),
        ("via", "1.1 edge-1"),
        ("via", "1.0 a, HTTP/1.1 edge-1 (x)"),
    ] {
        shop("/").header(name, value).check_refused(Refusal::Loop);
    }
    for (name, value) in
        [("cdn-loop", "edge-10, edge; edge-1"), ("via", "edge-1"), ("via", "1.1 edge-10 edge-1")]
    {
        shop("/").header(name, value).routed();
    }
    assert_eq!(Refusal::Loop.status(), 508);
}

#[test]
fn a_site_of_flags_answers_for_every_host() {
    let value = FlagValue::Many(vec!["http://127.0.0.1:1".to_owned()]);
    let flags = vec![Flag { name: "--origin", key: "site[0].origins", value }];
    let config = config::load(&Sources { flags, ..Sources::default() }).expect("valid").config;
    let routed =
        request("/").header("host", "anything.example:8080").resolve(&Router::new(&config)).expect("routed");
    assert_eq!((routed.site.name.as_str(), routed.host_str()), ("default", "anything.example:8080"));
}

#[test]
fn of_what_is_not_told_nothing_is_changed() {
    let names = [
        "accept",
        "accept-encoding",
        "cookie",
        "rsc",
        "user-agent",
        "authorization",
        "range",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-port",
        "x_forwarded_host",
        "x-forwarded-user",
        "x-original-url",
        "x-real-ip",
        "proxy",
        "via",
        "cdn-loop",
        "cf-access-jwt-assertion",
    ];
    for from in ["192.0.2.1", "10.0.0.1"] {
        let asked = names.iter().fold(shop("/").from(from), |asked, name| asked.header(name, "1"));
        let (routed, sent) = (asked.resolve(sites()).expect("routed"), asked.forwarded());
        for name in asked.headers.keys().filter(|name| !sites().tells(&routed, name)) {
            assert_eq!(all(&sent, name.as_str()), all(&asked.headers, name.as_str()), "{name} from {from}");
        }
        let told = |name: &&&str| sites().tells(&routed, &name.parse().expect("a name"));
        assert_eq!(names.iter().filter(told).count(), names.len() - 7);
    }
}

#[test]
fn a_vary_selects_by_what_differs_within_a_key() {
    for (written, expected) in [
        ("Accept, X-Forwarded-Proto, Host, X-Original-URL", "accept"),
        ("X-Forwarded-Host, X-HTTP-Method-Override", ""),
        ("Accept, X-Real-IP, X-Forwarded-User", "accept, x-forwarded-user, x-real-ip"),
        ("Accept, X-Forwarded-For", "*"),
        ("Forwarded", "*"),
        ("*", "*"),
        ("", ""),
    ] {
        let vary = |value: &str| {
            let value = HeaderValue::from_str(value).expect("a value");
            Vary::of(&HeaderMap::from_iter([(http::header::VARY, value)]))
        };
        assert_eq!(selects_by(vary(written)), vary(expected), "{written}");
    }
}

proptest! {
    #[test]
    fn no_head_makes_routing_panic(
        method in "[A-Z]{1,7}|GET|OPTIONS",
        uri in prop_oneof![
            "[/?&%=;.\\\\a-f0-9*#:@\\[\\]]{0,30}",
            "https?://[a-z.:@\\[\\]0-9]{0,20}/?[/?&%=;.a-f0-9]{0,20}",
            ".{0,20}",
        ],
        host in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..3),
        forwarded in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..3),
    ) {
        let router = sites();
        let mut request = request(&uri).from("10.0.0.1").method(&method);
        for value in host.iter().filter_map(|host| HeaderValue::from_bytes(host).ok()) {
            request.headers.append("host", value);
        }
        for value in forwarded.iter().filter_map(|value| HeaderValue::from_bytes(value).ok()) {
            for name in ["x-forwarded-for", "x-forwarded-proto", "via", "cdn-loop", "forwarded"] {
                request.headers.append(name, value.clone());
            }
        }
        if let Ok(routed) = request.resolve(router) {
            router.forward_headers(&routed, &mut request.headers);
        }
        request.headers.insert("host", HeaderValue::from_static("shop.example"));
        if let Ok(routed) = request.resolve(router) {
            router.forward_headers(&routed, &mut request.headers);
            prop_assert_eq!(decode(routed.key.as_bytes()).map(|parts| parts.path.to_owned()), Some(routed.target.to_string()));
        }
    }

    #[test]
    fn two_paths_never_share_a_key(a in "/[a-c%2f./;?&=]{0,8}", b in "/[a-c%2f./;?&=]{0,8}") {
        let (first, second) = (shop(&a).method("POST").resolve(sites()), shop(&b).method("POST").resolve(sites()));
        if let (Ok(first), Ok(second)) = (first, second) {
            prop_assert_eq!(a == b, first.key == second.key);
        }
    }
}
