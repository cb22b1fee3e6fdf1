//! `Vary`, the fields that are passed on and stored, `Location`, and `Cache-Status`, which is written here and read elsewhere.

use super::harness::{fields, halves, lines};
use super::model;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sfv::FieldType;
use shoal::proto::key::{ObjectId, Scheme};
use shoal::proto::semantics::{
    CacheStatus, FwdReason, Merged, ResponseFacts, VARY_NAMES_MAX, Vary, invalidation_targets, is_of_target,
    merge_304, storable_fields, strip_hop_by_hop, withheld_fields,
};

pub(crate) const VARY_WORDS: &[&str] = &[
    "Vary: ",
    "Accept: ",
    "Accept-Encoding: ",
    "Accept-Language: ",
    "Cookie: ",
    "*",
    ",",
    ", ",
    ";q=",
    ";q=0.5",
    ";q=1.000",
    "gzip",
    "GZIP",
    "en",
    "EN-us",
    "\n",
    "\n\n",
    "accept",
    "x-a: ",
    "\"",
    " ",
];

/// A response and a request, an empty line, and another request.
pub(crate) fn variants(bytes: &[u8]) {
    let (first, second) = halves(bytes);
    let (first, mut second) = (fields(first), fields(second));
    let vary = Vary::of(&first);
    let object = ObjectId([7; 16]);
    let names: Vec<Vec<u8>> = first
        .get_all("vary")
        .iter()
        .flat_map(|line| model::split(line.as_bytes(), b',', false).into_iter().collect::<Vec<_>>())
        .map(|name| model::trim(&name).to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect();
    let facts = ResponseFacts::parse(StatusCode::OK, &first);
    assert_eq!(
        (facts.varies(), facts.varies_on_everything()),
        match vary {
            Vary::None => (false, false),
            Vary::Fields(_) => (true, false),
            Vary::Star => (false, true),
        }
    );
    if names.iter().any(|name| name == b"*") {
        assert_eq!(vary, Vary::Star, "RFC 9111 §4.1");
    }
    let Vary::Fields(list) = &vary else {
        let one = vary.variant(object, &first);
        assert_eq!(one, vary.variant(object, &second), "no field selects");
        assert_eq!(one.is_none(), vary == Vary::Star);
        return;
    };
    assert!((1..=VARY_NAMES_MAX).contains(&list.names().len()));
    assert!(list.names().iter().all(|name| names.iter().any(|known| known == name.as_str().as_bytes())));
    assert!(list.names().is_sorted_by(|one, other| one.as_str() < other.as_str()));

    // The response is of the first request too: its other fields select nothing.
    let one = list.variant(object, &first);
    assert_eq!(one, list.variant(object, &first));
    let is_same = one == list.variant(object, &second);
    let alike = |name: &HeaderName| meaning(name, &first) == meaning(name, &second);
    assert_eq!(
        is_same,
        list.names().iter().all(alike),
        "they are one variant if the origin was asked the same"
    );
    // Nothing but what is named selects.
    let others: Vec<_> = second.keys().filter(|name| !list.names().contains(name)).cloned().collect();
    let before = list.variant(object, &second);
    others.iter().for_each(|name| drop(second.remove(name)));
    assert_eq!(list.variant(object, &second), before);
    let selecting = list.selecting(&second);
    assert_eq!(selecting.len(), list.names().len());
    assert!(selecting.iter().all(|field| field.value.is_some() == second.contains_key(&field.name)));
}

/// What a field of a request asks for: its members, as far as it says of itself that they differ.
fn meaning(name: &HeaderName, request: &HeaderMap) -> Option<Vec<Vec<u8>>> {
    request.get(name)?;
    let lines = request.get_all(name);
    let members = lines.iter().flat_map(|line| model::split(line.as_bytes(), b',', true));
    let plain = |member: Vec<u8>| {
        let parts = member.split(|byte| *byte == b';').map(|part| model::trim(part).to_ascii_lowercase());
        parts.collect::<Vec<_>>().join(&b';')
    };
    Some(match name.as_str() {
        "accept-encoding" => members.map(plain).collect(),
        "accept-language" => {
            let mut all: Vec<_> = members.map(plain).filter(|member| !member.is_empty()).collect();
            let weighted: Option<Vec<_>> = all.iter().map(|member| weight(member)).collect();
            if let Some(mut weighted) = weighted {
                weighted.sort();
                all = weighted.into_iter().map(|(language, weight)| [language, weight].concat()).collect();
            }
            all
        }
        _ => members.map(|member| model::trim(&member).to_vec()).collect(),
    })
}

/// A language and its weight in thousandths (RFC 9110 §12.4.2), as text.
fn weight(member: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (language, weight) = match member.iter().position(|byte| *byte == b';') {
        None => (member, 1000),
        Some(at) => {
            let digits = std::str::from_utf8(member[at + 1..].strip_prefix(b"q=")?).ok()?;
            let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
            if whole.len() != 1
                || fraction.len() > 3
                || !format!("{whole}{fraction}").bytes().all(|b| b.is_ascii_digit())
            {
                return None;
            }
            (&member[..at], format!("{whole}{fraction:0<3}").parse::<u32>().ok()?)
        }
    };
    Some((language.to_vec(), format!("|{weight}").into_bytes()))
}

pub(crate) const WORDS: &[&str] = &[
    "Connection: ",
    "close",
    ", ",
    "x-hop",
    "x-hop: 1\n",
    "Keep-Alive: timeout=5\n",
    "TE: trailers\n",
    "Upgrade: h2c\n",
    "Transfer-Encoding: chunked\n",
    "Cache-Control: private=\"x-user\"\n",
    "x-user: 1\n",
    "Set-Cookie: a\n",
    "Age: 1\n",
    "ETag: \"a\"\n",
    "Content-Length: 5\n",
    "\n\n",
    "\n",
    "Trailer: x\n",
    "Proxy-Authorization: x\n",
];

/// Fields that are for one connection (RFC 9110 §7.6.1).
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// The head of a response, an empty line, and that of a 304.
pub(crate) fn end_to_end(bytes: &[u8]) {
    let (stored, update) = halves(bytes);
    let (response, update) = (fields(stored), fields(update));
    let mut passed = response.clone();
    strip_hop_by_hop(&mut passed);
    assert!(HOP_BY_HOP.iter().all(|name| !passed.contains_key(*name)));
    let mut again = passed.clone();
    strip_hop_by_hop(&mut again);
    assert_eq!(again, passed);
    for name in
        response.get_all("connection").iter().flat_map(|line| model::split(line.as_bytes(), b',', true))
    {
        let name = model::trim(&name).to_ascii_lowercase();
        if name.starts_with(b"x-") && !name.starts_with(b"x-forwarded-") && name != b"x-real-ip" {
            assert!(
                !passed.contains_key(std::str::from_utf8(&name).unwrap_or_default()),
                "what Connection lists goes"
            );
        }
    }
    // What decides about the request or the cache cannot be listed away.
    for name in ["cache-control", "vary", "set-cookie", "age", "host", "content-length", "x-forwarded-for"] {
        assert_eq!(passed.get_all(name).iter().count(), response.get_all(name).iter().count());
    }

    let kept = storable_fields(&response);
    assert!(kept.keys().all(|name| passed.contains_key(name)) && !kept.contains_key("age"));
    assert_eq!(storable_fields(&kept), kept);
    assert!(withheld_fields(&response).keys().all(|name| !kept.contains_key(name)));

    let Merged { fields: merged, withheld } = merge_304(&kept, &update);
    assert_eq!(merge_304(&merged, &update), Merged { fields: merged.clone(), withheld: withheld.clone() });
    assert!(withheld_fields(&merged).is_empty(), "what the merged fields withhold is not among them");
    assert!(withheld.keys().all(|name| !merged.contains_key(name) && update.contains_key(name)));
    assert!(HOP_BY_HOP.iter().all(|name| !merged.contains_key(*name)));
    assert_eq!(merged.get("content-length"), kept.get("content-length"), "RFC 9111 §3.2");
    if kept.contains_key("etag") {
        assert_eq!(merged.get("etag"), kept.get("etag"), "the bytes did not change");
    }
    let new = storable_fields(&update);
    for name in merged.keys().filter(|name| !["content-length", "etag"].contains(&name.as_str())) {
        let source = if new.contains_key(name) { &new } else { &kept };
        assert!(merged.get_all(name).iter().eq(source.get_all(name)), "{name} is of one of the two");
    }
}

pub(crate) const URI_WORDS: &[&str] = &[
    "Location: ",
    "Content-Location: ",
    "http://",
    "https://",
    "//",
    "shop.example",
    ":443",
    ":80",
    "/a",
    "..",
    "/../",
    ".",
    "?x=1",
    "#part",
    "@",
    "%2e",
    "\\",
    "\n",
    ":",
    "[::1]",
];

/// The fields of an answer to a POST of `https://shop.example/a/b?c`.
pub(crate) fn invalidations(bytes: &[u8]) {
    let response = fields(lines(bytes));
    let (host, path) = ("shop.example", "/a/b?c");
    let targets = invalidation_targets(Scheme::Https, host, path, &response);
    assert!(targets.len() <= 2);
    for target in &targets {
        assert!(target.starts_with('/') && target != path && !target.contains('#'));
        assert!(target.parse::<http::uri::PathAndQuery>().is_ok());
        let resolved = target.split('?').next().unwrap();
        assert!(
            !resolved.split('/').any(|segment| matches!(segment, "." | "..")),
            "dots are resolved: {target}"
        );
        assert!(target.len() <= path.len() + bytes.len() + 1);
    }
    for name in ["location", "content-location"] {
        let mut one = HeaderMap::new();
        let Some(value) = response.get(name) else { continue };
        one.insert(name, value.clone());
        let own = invalidation_targets(Scheme::Https, host, path, &one);
        assert!(own.iter().all(|target| targets.contains(target)));
        // By the parser of the http crate: what names another host never selects here.
        let text = value.to_str().unwrap_or_default().trim();
        let other = text
            .parse::<http::Uri>()
            .ok()
            .and_then(|uri| Some((uri.scheme_str()?.to_owned(), uri.host()?.to_owned())));
        if let Some((scheme, named)) =
            other.filter(|(scheme, _)| ["http", "https"].contains(&scheme.as_str()))
        {
            let is_own = scheme == "https" && named.eq_ignore_ascii_case(host);
            assert!(is_own || own.is_empty(), "{text} is of another origin");
        }
        if name == "content-location" && is_of_target(Scheme::Https, host, path, &one) {
            assert!(own.is_empty(), "a target is not its own further target");
        }
    }
}

/// Three lines: node, key and detail. Read as the Structured Field that RFC 9211 says it is.
pub(crate) fn cache_status(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.split('\n');
    let mut part = || parts.next().unwrap_or_default();
    let (node, key, detail) = (part(), part(), part());
    let ttl = i64::from_le_bytes(*blake3::hash(bytes).as_bytes().first_chunk().unwrap());
    let status = CacheStatus::forward(node, FwdReason::Stale).key(key).detail(detail).ttl(ttl).stored();
    let value = status.to_value();
    let list = sfv::List::parse(sfv::Parser::new(value.as_bytes())).unwrap();
    let [sfv::ListEntry::Item(item)] = &list[..] else { panic!("{value:?} is one member") };
    let read = |item: &sfv::BareItem| {
        let token = item.as_token().map(|token| token.as_str().to_owned());
        token.or_else(|| item.as_string().map(|text| text.as_str().to_owned())).unwrap()
    };
    let visible =
        |text: &str| text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect::<String>();
    assert_eq!(read(&item.bare_item), visible(node));
    assert_eq!(read(&item.params["key"]), visible(key));
    assert_eq!(read(&item.params["detail"]), visible(detail));
    assert_eq!(item.params["fwd"].as_token().map(|token| token.as_str()), Some("stale"));
    assert_eq!(item.params["stored"].as_boolean(), Some(true));
    assert_eq!(i64::from(item.params["ttl"].as_integer().unwrap()).signum(), ttl.signum());
    assert!(HeaderValue::from_bytes(value.as_bytes()).is_ok());
}
