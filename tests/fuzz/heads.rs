//! The head of a request: authority, target, key, and what the origin is told.

use super::harness::{fields, lines};
use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use shoal::config::{self, Sources};
use shoal::proto::authority::{Authority, normal_host};
use shoal::proto::key::{self, CacheKey, KeyParts, Scheme};
use shoal::proto::semantics::strip_hop_by_hop;
use shoal::route::{Head, Refusal, Routed, Router};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

pub(crate) const WORDS: &[&str] = &[
    "GET ",
    "POST ",
    "OPTIONS ",
    "CONNECT ",
    " HTTP/1.1",
    " HTTP/1.0",
    " HTTP/2",
    "Host: shop.example\n",
    "Host: ",
    "SHOP.example.",
    ":80",
    ":443",
    ":8080",
    "http://shop.example/",
    "https://",
    "*",
    "/search?q=",
    "&utm=1",
    ";",
    "%2f",
    "%2e%2e",
    "/../",
    "//",
    "\\",
    "%00",
    "%",
    "?",
    "#",
    "@",
    "X-Forwarded-Host: evil.example\n",
    "X-Forwarded-Proto: https\n",
    "X_Forwarded_For: 1.2.3.4\n",
    "X-Original-URL: /admin\n",
    "Forwarded: for=1.2.3.4\n",
    "Connection: x-forwarded-for\n",
    "Content-Length: 5\n",
    "Transfer-Encoding: chunked\n",
    "Upgrade: websocket\nConnection: upgrade\n",
    "CDN-Loop: edge\n",
    "Via: 1.1 edge\n",
    "\n",
    "\n\n",
    "[::1]",
    "blog.example",
    "/private/",
    "/static/",
];

const SITES: &str = r#"
trusted_networks = ["10.0.0.0/8", "::1"]
[node]
name = "edge"
[[site]]
name = "shop"
hosts = ["shop.example", "*.shop.example", "[::1]"]
origins = ["http://127.0.0.1:1"]
[[site.rules]]
path = "/search"
query = { only = ["q", "page"] }
[[site.rules]]
path = "/static/*"
query = { except = ["utm"] }
[[site.rules]]
path = "/private/*"
pass = true
[[site]]
hosts = ["blog.example"]
origins = ["http://127.0.0.1:1"]
"#;

/// Who is believed what it says of its clients.
pub(crate) const TRUSTED: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const UNTRUSTED: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A router of two sites.
pub(crate) fn router() -> &'static Router {
    static ROUTER: LazyLock<Router> = LazyLock::new(|| {
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        file.write_all(SITES.as_bytes()).unwrap();
        let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
        Router::new(&config::load(&sources).unwrap_or_else(|errors| panic!("{errors}")).config)
    });
    &ROUTER
}

/// A request that was read without doubt.
struct Request {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    version: Version,
    scheme: Scheme,
}

impl Request {
    /// A request line and fields. Bytes that a reader of heads would not let through make it none.
    fn read<'a>(lines: impl IntoIterator<Item = &'a [u8]>, scheme: Scheme) -> Option<Self> {
        let mut lines = lines.into_iter();
        let mut words = lines.next()?.split(|byte| *byte == b' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next());
        let version = match version {
            Some(b"HTTP/1.0") => Version::HTTP_10,
            Some(b"HTTP/2") => Version::HTTP_2,
            _ => Version::HTTP_11,
        };
        let (method, uri) = (Method::from_bytes(method).ok()?, Uri::try_from(target).ok()?);
        Some(Self { method, uri, headers: fields(lines), version, scheme })
    }

    fn resolve(&self, from: IpAddr) -> Result<Routed, Refusal> {
        let Self { method, uri, headers, version, scheme } = self;
        let head = Head { method, uri, headers, scheme: *scheme, version: *version, tls_name: None, from };
        router().resolve(&head)
    }

    /// The fields that the origin is sent.
    fn forwarded(&self, routed: &Routed) -> HeaderMap {
        let mut headers = self.headers.clone();
        strip_hop_by_hop(&mut headers);
        router().forward_headers(routed, &mut headers);
        headers
    }
}

/// The head of a request: a request line and fields.
pub(crate) fn heads(bytes: &[u8]) {
    for scheme in [Scheme::Http, Scheme::Https] {
        let Some(request) = Request::read(lines(bytes), scheme) else { return };
        for from in [UNTRUSTED, TRUSTED] {
            match request.resolve(from) {
                Ok(routed) => is_sound(&request, &routed, from),
                Err(refusal) => {
                    assert!(refusal.status().is_client_error() || refusal.status().is_server_error());
                    let is_twice = request.headers.get_all("host").iter().count() > 1;
                    assert!(!is_twice || refusal != Refusal::MissingHost);
                }
            }
        }
    }
}

fn is_sound(request: &Request, routed: &Routed, from: IpAddr) {
    let parts = key::decode(routed.key.as_bytes()).unwrap();
    assert_eq!(routed.object, routed.key.object());
    // What is in the key is what the origin is sent.
    assert_eq!((parts.host, parts.path), (routed.host_str(), routed.target.as_str()));
    assert_eq!((parts.site, parts.scheme), (&*routed.site.name, routed.scheme));
    assert!(parts.path.starts_with('/') || (parts.path == "*" && request.method == Method::OPTIONS));
    assert!(parts.path.bytes().all(|byte| byte > b' ' && byte != 0x7f), "no byte that ends a line or a word");
    assert_eq!(
        Authority::parse(parts.host, parts.scheme).unwrap().as_str(),
        parts.host,
        "a host in normal form"
    );
    assert!(request.headers.get_all("host").iter().count() <= 1);
    let written = request.uri.path_and_query().map_or("", |target| target.as_str());
    let written = if written.is_empty() || written.starts_with('?') {
        format!("/{written}")
    } else {
        written.to_owned()
    };
    assert_eq!(parts.path, filtered(&written), "as it was written, but for the parameters that a rule drops");
    if from == UNTRUSTED {
        assert_eq!((routed.client, routed.scheme), (from, request.scheme));
    }
    let has_body = request.headers.contains_key("transfer-encoding")
        || request.headers.get("content-length").is_some_and(|length| length != "0");
    assert!(routed.pass.is_some() || !has_body, "a GET with a body is read in two ways");
    assert!(routed.pass.is_some() || matches!(request.method, Method::GET | Method::HEAD));

    let headers = request.forwarded(routed);
    let one = |name: &str| {
        assert_eq!(headers.get_all(name).iter().count(), 1, "one {name}");
        headers[name].to_str().unwrap_or_default()
    };
    assert_eq!(one("host"), parts.host);
    assert_eq!(one("x-forwarded-host"), parts.host);
    assert_eq!(one("x-forwarded-proto"), parts.scheme.as_str());
    let own = HeaderValue::from_str(&from.to_string()).unwrap();
    assert!(headers["x-forwarded-for"].as_bytes().ends_with(own.as_bytes()));
    if from == UNTRUSTED {
        assert_eq!(headers["x-forwarded-for"], own, "what a client says of its address is not passed on");
        let told =
            ["x-original-url", "x-rewrite-url", "x-http-method-override", "x_forwarded_for", "x-real-ip"];
        assert!(told.iter().all(|name| !headers.contains_key(*name)), "no field that overrides the key");
        assert_eq!(elements(&headers), 1);
    }
    assert!(!headers.contains_key("proxy"), "httpoxy");
    // Whoever sends it back is found out.
    let uri = if parts.path == "*" { "*".to_owned() } else { parts.path.to_owned() };
    let again = Request { uri: uri.parse().unwrap(), headers, method: request.method.clone(), ..*request };
    assert_eq!(again.resolve(from).err(), Some(Refusal::Loop));
    // The same request in normal form has the same key.
    let host = HeaderMap::from_iter([(http::header::HOST, routed.host.clone())]);
    let normal = Request {
        headers: host,
        scheme: routed.scheme,
        method: request.method.clone(),
        uri: again.uri,
        ..*request
    };
    assert_eq!(normal.resolve(UNTRUSTED).unwrap().key, routed.key);
}

/// A target without the parameters that the rules of [`SITES`] drop. A `;` separates nothing.
pub(crate) fn filtered(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let name = |parameter: &str| parameter.split('=').next().unwrap_or_default().to_owned();
    let is_kept = |parameter: &&str| match path {
        "/search" => ["q", "page"].contains(&&*name(parameter)),
        // Where an origin may read another path no rule is applied.
        path if path.starts_with("/static/") && !is_ambiguous(path) => name(parameter) != "utm",
        _ => true,
    };
    if query.split('&').all(|parameter| is_kept(&parameter)) {
        return target.to_owned();
    }
    let kept: Vec<_> = query.split('&').filter(is_kept).collect();
    if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
}

/// Whether the path, read as an origin may, is no longer below `/static/`: some step leads up, or what is left is the folder itself.
fn is_ambiguous(path: &str) -> bool {
    let mut decoded = path.to_owned();
    for _ in 0..3 {
        let bytes: Vec<u8> = percent_encoding::percent_decode_str(&decoded).collect();
        decoded = String::from_utf8_lossy(&bytes).into_owned();
    }
    if !path.contains(['%', '\\', ';']) && !path.contains("//") && !path.contains("/.") {
        return false;
    }
    let mut steps = Vec::new();
    let mut ends = false;
    for step in decoded.split(['/', '\\']) {
        let step = step.split(';').next().unwrap_or_default();
        ends = ["", ".", ".."].contains(&step);
        match step {
            "" | "." => {}
            ".." => drop(steps.pop()),
            step => steps.push(step.to_owned()),
        }
    }
    let normal = format!("/{}{}", steps.join("/"), if ends && !steps.is_empty() { "/" } else { "" });
    !normal.starts_with("/static/")
}

/// Elements of `Forwarded`; each has the parameters that this node writes, or it is another's.
fn elements(headers: &HeaderMap) -> usize {
    let value = headers["forwarded"].as_bytes();
    let elements = super::model::split(value, b',', true);
    let own = String::from_utf8(super::model::trim(elements.last().unwrap()).to_vec()).unwrap();
    let pairs: BTreeMap<_, _> = own.split(';').map(|pair| pair.split_once('=').unwrap()).collect();
    assert_eq!(pairs.keys().copied().collect::<Vec<_>>(), ["for", "host", "proto"]);
    elements.len()
}

/// Two heads with an empty line between them: one key if, and only if, the origin is sent the same.
pub(crate) fn key_policy(bytes: &[u8]) {
    let (first, second) = super::harness::halves(bytes);
    let both = [first, second].map(|lines| Request::read(lines, Scheme::Http));
    let [Some(one), Some(other)] = both else { return };
    let (Ok(of_one), Ok(of_other)) = (one.resolve(UNTRUSTED), other.resolve(UNTRUSTED)) else { return };
    let sent = |routed: &Routed| {
        (
            routed.site.name.clone(),
            routed.host.clone(),
            routed.target.as_str().to_owned(),
            routed.scheme.as_str(),
        )
    };
    assert_eq!(sent(&of_one) == sent(&of_other), of_one.key == of_other.key);
    assert_eq!(of_one.key == of_other.key, of_one.object == of_other.object);
    // All that the key does not tell and an origin might go by is the same for both.
    if of_one.key == of_other.key && one.method == other.method {
        let (mut one, mut other) = (one.forwarded(&of_one), other.forwarded(&of_other));
        for name in ["host", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-for", "forwarded"] {
            assert_eq!(one.remove(name), other.remove(name), "{name}");
        }
    }
}

pub(crate) const HOST_WORDS: &[&str] = &[
    "shop.example",
    ":80",
    ":443",
    ":",
    ".",
    "..",
    "[",
    "]",
    "[::1]",
    "::ffff:1.2.3.4",
    "@",
    "_",
    "-",
    "xn--",
    "%41",
    "0x7f",
    "65536",
    " ",
    "\t",
    ",",
    "/",
];

/// A `Host`.
pub(crate) fn authorities(bytes: &[u8]) {
    let Ok(field) = HeaderValue::from_bytes(bytes) else { return };
    for scheme in [Scheme::Http, Scheme::Https] {
        let read = Authority::from_field(&field, scheme);
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(Authority::parse(&text, scheme), read);
        if let Some(expected) = named(&text, scheme) {
            assert_eq!(read.as_ref().ok().map(Authority::as_str), Some(&*expected), "{text}");
        }
        let Ok(authority) = read else { continue };
        let normal = authority.as_str();
        assert_eq!(Authority::parse(normal, scheme).unwrap().as_str(), normal);
        assert!(normal.len() <= bytes.len().max(48) && !normal.is_empty());
        assert!(!normal.bytes().any(|byte| byte.is_ascii_uppercase() || b" @/\\?#,;%\"<>".contains(&byte)));
        // An http URI of it has the same host, as another parser reads it.
        let uri: Uri = format!("{}://{normal}/", scheme.as_str()).parse().unwrap();
        assert_eq!(uri.host(), Some(authority.name()));
        let own = if scheme == Scheme::Http { 80 } else { 443 };
        assert!(uri.port_u16().is_none_or(|port| port != own && port != 0));
        assert_eq!(normal_host(authority.name()).as_deref(), Ok(authority.name()));
    }
}

/// The normal form of a name of letters and digits, with or without a port, where there is no doubt.
fn named(text: &str, scheme: Scheme) -> Option<String> {
    let (name, port) = text.split_once(':').unwrap_or((text, ""));
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if name.len() > 253 || !name.split('.').all(is_label) || port.len() > 5 {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let own = if scheme == Scheme::Http { 80 } else { 443 };
    match super::model::digits_of(port.as_bytes()) {
        None if port.is_empty() => Some(name),
        Some(port) if port == own => Some(name),
        Some(port @ 1..=65535) => Some(format!("{name}:{port}")),
        _ => None,
    }
}

/// Some keys.
pub(crate) fn encoded_keys() -> Vec<Vec<u8>> {
    let parts = [("shop", "shop.example", "/a?b=c"), ("", "", ""), ("s", "h", "/\u{fc}")];
    let keys =
        parts.map(|(site, host, path)| CacheKey::new(KeyParts { site, scheme: Scheme::Https, host, path }));
    keys.map(|key| key.as_bytes().to_vec()).to_vec()
}

/// An encoded key.
pub(crate) fn keys(bytes: &[u8]) {
    if let Some(parts) = key::decode(bytes) {
        assert_eq!(CacheKey::new(parts).as_bytes(), bytes, "a key has one encoding");
    }
}
