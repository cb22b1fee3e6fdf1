//! `Cache-Control`, `CDN-Cache-Control` and `Surrogate-Control`.

use super::harness::{field, fields, lines};
use super::model;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use sfv::FieldType;
use shoal::proto::semantics::{
    CachePolicy, Governing, LifetimeSource, RequestFacts, ResponseDirectives, ResponseFacts, lifetime,
    storable_fields, withheld_fields,
};
use shoal::proto::time::Wall;

pub(crate) const WORDS: &[&str] = &[
    "max-age=",
    "s-maxage=",
    "no-store",
    "no-cache",
    "private",
    "public",
    "must-revalidate",
    "proxy-revalidate",
    "must-understand",
    "immutable",
    "stale-while-revalidate=",
    "stale-if-error=",
    "max-stale",
    "min-fresh=",
    "only-if-cached",
    "no-cache=\"set-cookie\"",
    "private=\"x-user\"",
    ",",
    ", ",
    "=",
    "\"",
    "\\",
    ";",
    "\n",
    "60",
    "2147483648",
    "99999999999999999999",
    "-1",
    "1.5",
    "?0",
    "?1",
    "(a b)",
    "CDN-Cache-Control: ",
    "Surrogate-Control: ",
    "Cache-Control: ",
    "Expires: ",
    "60+30",
    ";edge",
];

/// What RFC 9111 §1.2.2 lets seconds end at.
const SECONDS_MAX: u32 = 1 << 31;

/// The lines of one `Cache-Control`, of a response and of a request.
pub(crate) fn cache_control(bytes: &[u8]) {
    let head = field("cache-control", bytes);
    let read = ResponseDirectives::parse(&head);
    let model = model::directives(head.get_all("cache-control").iter().map(HeaderValue::as_bytes));
    let has = |name: &str| model.iter().any(|(known, _)| known == name);
    let seconds = |name: &str| {
        let first = model.iter().find(|(known, _)| known == name);
        first.map(|(_, argument)| model::seconds(argument).unwrap_or(0))
    };

    assert_eq!(read.governing(), Governing::CacheControl);
    assert_eq!(read.max_age(), seconds("max-age"));
    assert_eq!(read.s_maxage(), seconds("s-maxage"));
    assert_eq!(read.stale_while_revalidate(), seconds("stale-while-revalidate"));
    assert_eq!(read.stale_if_error(), seconds("stale-if-error"));
    assert_eq!(read.no_store(), has("no-store") || has("no-store-remote"));
    assert_eq!(read.public(), has("public"));
    assert_eq!(read.must_revalidate(), has("must-revalidate"));
    assert_eq!(read.proxy_revalidate(), has("proxy-revalidate"));
    assert_eq!(read.must_understand(), has("must-understand"));
    assert_eq!(read.immutable(), has("immutable"));
    // An unqualified one can only be one that is there, and what is there without a list is unqualified.
    for (flag, name) in [(read.private(), "private"), (read.no_cache(), "no-cache")] {
        assert!(!flag || has(name));
        assert!(flag || !model.iter().any(|(known, argument)| known == name && argument.is_none()));
    }

    let request = RequestFacts::parse(&Method::GET, &head);
    assert_eq!(request.max_age, seconds("max-age"));
    assert_eq!((request.no_store, request.no_cache), (has("no-store"), has("no-cache")));
    assert_eq!(request.only_if_cached, has("only-if-cached"));
    for secs in [request.max_age, request.min_fresh, request.max_stale, read.s_maxage()].into_iter().flatten()
    {
        assert!(secs <= SECONDS_MAX);
    }
    nothing_that_is_said_can_be_taken_back(&head, read);
    upper_case_says_the_same(&head, read);
    what_is_withheld_is_not_stored(&head);
}

/// Another line can only add: whatever quotes are left open, `no-store` on a line of its own counts.
fn nothing_that_is_said_can_be_taken_back(head: &HeaderMap, read: ResponseDirectives) {
    let mut more = head.clone();
    more.append("cache-control", HeaderValue::from_static("no-store, private, max-age=7"));
    let more = ResponseDirectives::parse(&more);
    assert!(more.no_store() && more.private());
    assert_eq!(more.max_age(), read.max_age().or(Some(7)), "the first counts");
    assert_eq!((more.public(), more.no_cache()), (read.public(), read.no_cache()));
}

fn upper_case_says_the_same(head: &HeaderMap, read: ResponseDirectives) {
    let mut upper = HeaderMap::new();
    for value in head.get_all("cache-control") {
        let value = HeaderValue::from_bytes(&value.as_bytes().to_ascii_uppercase()).unwrap();
        upper.append("cache-control", value);
    }
    assert_eq!(ResponseDirectives::parse(&upper), read);
}

fn what_is_withheld_is_not_stored(head: &HeaderMap) {
    let mut response = head.clone();
    for name in ["set-cookie", "x-user", "x-other", "etag", "connection"] {
        response.insert(name, HeaderValue::from_static("x-other"));
    }
    let (stored, withheld) = (storable_fields(&response), withheld_fields(&response));
    assert!(withheld.keys().all(|name| !stored.contains_key(name)));
    assert!(stored.contains_key("etag"), "what decides about reuse stays");
    let directives = ResponseDirectives::parse(head);
    assert_eq!(directives.withholds_set_cookie(), withheld.contains_key("set-cookie"));
}

/// A response head: which field governs, and that it does so alone (RFC 9213 §2.2).
pub(crate) fn targeted(bytes: &[u8]) {
    let head = fields(lines(bytes));
    let read = ResponseDirectives::parse(&head);
    let structured = structured(&head);
    assert_eq!(read.governing() == Governing::CdnCacheControl, structured.is_some());
    if let Some(dictionary) = &structured {
        agrees_with_sfv(read, dictionary);
        // Whatever the other fields say: nothing changes.
        let mut alone = HeaderMap::new();
        for value in head.get_all("cdn-cache-control") {
            alone.append("cdn-cache-control", value.clone());
        }
        assert_eq!(ResponseDirectives::parse(&alone), read);
        alone.insert("cache-control", HeaderValue::from_static("no-store, private, max-age=9"));
        alone.insert("surrogate-control", HeaderValue::from_static("no-store, max-age=9"));
        assert_eq!(ResponseDirectives::parse(&alone), read);
    }
    let facts = ResponseFacts::parse(StatusCode::OK, &head);
    let policy = CachePolicy::default();
    let received = Wall::from_secs(1_000_000_000);
    let fresh = lifetime(&facts, received, &policy);
    assert!(u64::from(fresh.secs) <= policy.lifetime_max.as_secs());
    let expected = match (
        facts.directives.governing(),
        facts.directives.max_age().or_else(|| facts.directives.s_maxage()),
    ) {
        (Governing::CdnCacheControl, Some(_)) => Some(LifetimeSource::CdnMaxAge),
        (Governing::SurrogateControl, Some(_)) => Some(LifetimeSource::SurrogateMaxAge),
        (Governing::CacheControl, _) => None,
        _ => {
            assert_ne!(fresh.source, LifetimeSource::Expires, "a targeted field puts Expires out of force");
            None
        }
    };
    assert!(expected.is_none_or(|expected| fresh.source == expected));
}

/// The dictionary of a `CDN-Cache-Control` that counts, as the library of Structured Fields reads the joined lines.
fn structured(head: &HeaderMap) -> Option<sfv::Dictionary> {
    let values: Vec<_> =
        head.get_all("cdn-cache-control").iter().map(|value| value.as_bytes().trim_ascii()).collect();
    let joined = values.into_iter().filter(|value| !value.is_empty()).collect::<Vec<_>>().join(&b", "[..]);
    let dictionary = sfv::Dictionary::parse(sfv::Parser::new(&joined)).ok()?;
    let is_integer = |name: &str| {
        dictionary.get(name).is_none_or(
            |entry| matches!(entry, sfv::ListEntry::Item(item) if item.bare_item.as_integer().is_some()),
        )
    };
    (!dictionary.is_empty() && is_integer("max-age") && is_integer("s-maxage")).then_some(dictionary)
}

fn agrees_with_sfv(read: ResponseDirectives, dictionary: &sfv::Dictionary) {
    let item = |name: &str| match dictionary.get(name) {
        Some(sfv::ListEntry::Item(item)) => Some(&item.bare_item),
        _ => None,
    };
    let seconds = |name: &str| {
        let value = item(name)?.as_integer()?;
        Some(i64::from(value).clamp(0, i64::from(SECONDS_MAX)) as u32)
    };
    assert_eq!(read.max_age(), seconds("max-age"));
    assert_eq!(read.s_maxage(), seconds("s-maxage"));
    for (flag, name) in [
        (read.no_store(), "no-store"),
        (read.must_revalidate(), "must-revalidate"),
        (read.public(), "public"),
    ] {
        match item(name).map(|value| value.as_boolean()) {
            Some(Some(value)) if name != "no-store" => assert_eq!(flag, value),
            Some(Some(true)) => assert!(flag),
            None if dictionary.get(name).is_none() && dictionary.get("no-store-remote").is_none() => {
                assert!(!flag)
            }
            _ => {}
        }
    }
}
