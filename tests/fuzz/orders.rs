//! What is to be purged, by requests and by the admin API; filters of the live log; join tokens.

use super::harness::{fields, lines};
use super::heads::router;
use http::{Method, Uri};
use shoal::proto::authority::Authority;
use shoal::proto::key::Scheme;
use shoal::proto::purge::{
    Mode, SELECTORS_MAX, Selector, SelectorKind, TAG_BYTES_MAX, Told, Wanted, check_tag,
};
use shoal::proto::swarm::Roles;
use shoal::proto::time::Wall;
use shoal::proto::verdict::Verdict;
use shoal::telemetry::access::filter::{FILTER_BYTES_MAX, TERMS_MAX};
use shoal::telemetry::access::{AccessRecord, Filter, Termination};
use shoal::tls::cluster::Authority as Cluster;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;
use std::time::Duration;

pub(crate) const WORDS: &[&str] = &[
    "PURGE ",
    "BAN ",
    "PURGEKEYS ",
    "POST ",
    "/service/s/purge",
    "/purge/key",
    "/purge_all",
    "Fastly-Key: k\n",
    "Fastly-Soft-Purge: 1\n",
    "Surrogate-Key: a b\n",
    "xkey-softpurge: a\n",
    "Cache-Tags: ",
    "X-Magento-Tags-Pattern: ",
    "((^|,)a(,|$))",
    "|",
    ".*",
    "^/",
    "$",
    "X-Purge-Method: regex\n",
    "X-Url: ",
    "X-Host: ",
    "X-Content-Type: ",
    "\\.",
    "\\d",
    "%2f",
    "?",
    "\n",
    "shop.example",
];

/// A request line and fields of a request to purge, at `shop.example`.
pub(crate) fn purge_requests(bytes: &[u8]) {
    let mut all = lines(bytes);
    let line = String::from_utf8_lossy(all.next().unwrap_or_default()).into_owned();
    let (method, path) = line.split_once(' ').unwrap_or((&line, "/"));
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
    let fields = fields(all);
    if Told::is_order(&method, path, &fields) && method == Method::POST {
        assert!(
            path.starts_with("/service/") && fields.contains_key("fastly-key"),
            "no page of the site is taken for an order"
        );
    }
    let Ok((mode, told)) = Told::read(&method, "shop.example", path, &fields) else { return };
    assert!(
        mode == Mode::Hard
            || fields.contains_key("fastly-soft-purge")
            || fields.contains_key("xkey-softpurge")
    );
    let asked = bytes.len();
    match told {
        Told::Tags(tags) => {
            assert!((1..=SELECTORS_MAX).contains(&tags.len()));
            assert!(tags.iter().all(|tag| check_tag(tag).is_ok()));
            // A tag is at most as long as what asked for it, but where bytes were no text.
            assert!(tags.iter().map(String::len).sum::<usize>() <= 3 * asked + 3);
        }
        Told::Path(path) | Told::Prefix(path) => {
            assert!(path.starts_with('/') && path.len() <= 3 * asked, "a path of the host");
            assert!(!path.contains(".*"), "what is no literal is refused");
            let wanted = Wanted::Prefix(format!("https://shop.example{path}"));
            if let Ok(selector) = router().selector(&wanted) {
                assert_eq!(selector.kind(), SelectorKind::Prefix);
            }
        }
        Told::Url | Told::Host | Told::Site => {}
    }
}

pub(crate) const SELECTOR_WORDS: &[&str] = &[
    "https://",
    "http://",
    "ftp://",
    "shop.example",
    "SHOP.example.",
    "blog.example",
    ":80",
    ":443",
    "/search?q=1&x=2",
    "/static/a?utm=1",
    "*",
    "#",
    "?",
    "@",
    "%2f",
    "%zz",
    "//",
    "..",
    " ",
    "[::1]",
];

/// A URL, prefix, host, site and tag at once.
pub(crate) fn purge_selectors(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    if let Ok(selector) = router().selector(&Wanted::Url(text.clone())) {
        let Selector::Url { site, host, path } = &selector else { panic!("{selector} is no URL") };
        is_of_a_site(site, host);
        // As the http crate reads it.
        let uri: Option<Uri> = text.split('#').next().and_then(|text| text.parse().ok());
        if let Some(target) =
            uri.filter(|uri| uri.scheme().is_some()).and_then(|uri| uri.into_parts().path_and_query)
        {
            assert_eq!(*path, super::heads::filtered(target.as_str()), "{text}");
        }
        assert!(path.starts_with('/') && path.len() <= text.len() + 1);
        // What it selects, asked for again in normal form, is the same.
        let scheme = if Authority::parse(host, Scheme::Https).is_ok_and(|other| other.as_str() == host) {
            "https"
        } else {
            "http"
        };
        let again = router().selector(&Wanted::Url(format!("{scheme}://{host}{path}")));
        assert_eq!(again.map(|again| again.target(Mode::Soft)), Ok(selector.target(Mode::Soft)));
    }
    if let Ok(selector) = router().selector(&Wanted::Prefix(text.clone())) {
        let Selector::Prefix { site, host, path } = &selector else { panic!("{selector} is no prefix") };
        is_of_a_site(site, host);
        assert!(path.starts_with('/') && usize::from(selector.target(Mode::Hard).length) <= path.len());
    }
    if let Ok(Selector::Host { site, host }) = router().selector(&Wanted::Host(text.clone())) {
        is_of_a_site(&site, &host);
    }
    let site = router().selector(&Wanted::Site(text.clone()));
    assert_eq!(site.is_ok(), ["shop", "blog.example"].contains(&&*text));
    let tag = router().selector(&Wanted::Tag { site: None, tag: text.clone() });
    assert_eq!(tag.is_ok(), check_tag(&text).is_ok());
    assert!(tag.is_err() || (1..=TAG_BYTES_MAX).contains(&text.len()));
    // What is wrong is told on one line, whatever was asked.
    if let Err(error) = router().selectors(&[Wanted::Url(text)]) {
        let told = error.to_string();
        assert!(!told.contains(['\n', '\r', '\u{1b}']), "{told:?}");
    }
}

fn is_of_a_site(site: &str, host: &str) {
    let name =
        host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name);
    let is_shop = name == "shop.example" || name.ends_with(".shop.example") || name == "[::1]";
    assert_eq!(site, if is_shop { "shop" } else { "blog.example" }, "{host}");
}

pub(crate) const FILTER_WORDS: &[&str] = &[
    "site",
    "host",
    "method",
    "path",
    "target",
    "detail",
    "node",
    "id",
    "object",
    "verdict",
    "status",
    "client",
    "termination",
    "duration",
    "ttfb",
    "bytes",
    "attempts",
    "=",
    "!=",
    ">",
    ">=",
    "<",
    "<=",
    ",",
    " ",
    "\"",
    "\\",
    "*",
    "5xx",
    "hit_memory",
    "10.0.0.0/8",
    "250ms",
    "64KiB",
    "complete",
];

/// A filter of the live log.
pub(crate) fn log_filters(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match text.parse::<Filter>() {
        Ok(filter) => {
            let admits = filter.admits(&record());
            assert!(
                text.len() <= FILTER_BYTES_MAX
                    && text.split_whitespace().next().is_some() | filter.admits(&record())
            );
            // Terms are joined by and: with one more that nothing meets, nothing is admitted; with a repeated one, the same is.
            let with = |more: &str| format!("{text} {more}").parse::<Filter>().ok();
            assert!(with("site=shop").is_none_or(|more| more.admits(&record()) == admits));
            assert!(with("site!=shop").is_none_or(|more| !more.admits(&record())));
        }
        Err(error) => {
            assert!((1..=text.chars().count() + 1).contains(&error.at), "{error}");
            assert!(error.what.len() < 2000 + 8 * text.len());
        }
    }
    assert!(format!("{text}\"").matches('=').count() <= TERMS_MAX || text.len() > TERMS_MAX);
}

fn record() -> AccessRecord<'static> {
    AccessRecord {
        at: Wall::from_secs(0),
        request_id: Default::default(),
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        version: http::Version::HTTP_11,
        tls: None,
        host: "shop.example",
        method: &Method::GET,
        target: "/img/a.png?x=1",
        site: "shop",
        status: Some(200),
        verdict: Verdict::HitMemory,
        detail: None,
        object: None,
        bytes_in: 0,
        bytes_out: 1234,
        duration: Duration::from_millis(5),
        first_byte: None,
        age: None,
        ttl: None,
        upstream: None,
        peer: None,
        upstream_status: None,
        attempts: 0,
        referer: None,
        user_agent: None,
        termination: Termination::Complete,
    }
}

fn cluster() -> &'static Cluster {
    static CLUSTER: LazyLock<Cluster> =
        LazyLock::new(|| Cluster::create("test", Wall::from_secs(1_000_000)).unwrap());
    &CLUSTER
}

/// Tokens that were given out: of an edge, of a superpeer until a time, and of one that has passed.
pub(crate) fn minted_tokens() -> Vec<Vec<u8>> {
    static TOKENS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let superpeer = Roles { edge: false, superpeer: true };
        [
            (Roles::EDGE, None),
            (superpeer, Some(Wall::from_secs(2_000_000))),
            (Roles::EDGE, Some(Wall::from_secs(1))),
        ]
        .map(|(roles, until)| cluster().mint_token(roles, until).unwrap().into_bytes())
        .to_vec()
    });
    TOKENS.clone()
}

/// A token that somebody shows: good only if it was given out and has not passed.
pub(crate) fn join_tokens(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let minted = minted_tokens();
    let place = minted.iter().position(|token| token == text.trim().as_bytes());
    let expected = match place {
        Some(0) => Some(Roles::EDGE),
        Some(1) => Some(Roles { edge: false, superpeer: true }),
        _ => None,
    };
    assert_eq!(cluster().verify_token(&text, Wall::from_secs(1_000_001)).ok(), expected);
}
