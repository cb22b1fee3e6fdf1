//! From a request head to site, rule and key.

use crate::{config, fixtures};
use criterion::Criterion;
use http::{HeaderMap, Method, Uri, Version};
use shoal::proto::key::Scheme;
use shoal::route::{Head, Router};
use std::fmt::Write;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

/// Sites of the large configuration.
const SITES: usize = 200;
/// Rules of its site that answers; the last matches.
const RULES: usize = 10;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    let (method, uri, headers) = (Method::GET, Uri::from_static(fixtures::TARGET), fixtures::browser());
    let head = head(&method, &uri, &headers);
    for (name, text) in
        [("one site", small()), ("200 sites, 10 rules", large(false)), ("query filter", large(true))]
    {
        let router = Router::new(&config::load(&text).config);
        assert!(router.resolve(&head).is_ok_and(|routed| routed.pass.is_none()), "{name}");
        group.bench_function(name, |b| b.iter(|| black_box(&router).resolve(black_box(&head))));
    }
    group.finish();
}

fn head<'a>(method: &'a Method, uri: &'a Uri, headers: &'a HeaderMap) -> Head<'a> {
    Head {
        method,
        uri,
        headers,
        scheme: Scheme::Http,
        version: Version::HTTP_11,
        tls_name: None,
        from: IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

fn small() -> String {
    format!("[[site]]\nhosts = [\"{}\"]\norigins = [\"http://127.0.0.1:8000\"]\n", fixtures::HOST)
}

/// Many sites with wildcards, and a site with rules; `filters` has its last rule drop a parameter.
fn large(filters: bool) -> String {
    let mut text = String::new();
    for site in 0..SITES - 1 {
        let _ = write!(text, "[[site]]\nhosts = [\"site{site}.example\", \"*.site{site}.example\"]\n");
        text.push_str("origins = [\"http://127.0.0.1:8000\"]\n");
    }
    text.push_str(&small());
    for rule in 1..RULES {
        let _ = write!(text, "[[site.rules]]\npath = \"/area{rule}/*\"\n");
    }
    text.push_str("[[site.rules]]\npath = \"/assets/*\"\n");
    if filters {
        text.push_str("query = { except = [\"v\"] }\n");
    }
    text
}
