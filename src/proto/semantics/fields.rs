//! Which fields are forwarded and stored (RFC 9110 §7.6, RFC 9111 §3.1), and the fields that an
//! intermediary adds.

use super::directives::{members, withheld};
use crate::proto::time::Wall;
use http::Version;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;
use std::time::{Duration, UNIX_EPOCH};

/// Removes the fields that are for one connection only: the well-known ones and those that
/// `Connection` lists (RFC 9110 §7.6.1). `TE` goes too; who forwards a request over HTTP/2 or for
/// gRPC sets `TE: trailers` again. `Trailer` stays: it is for all recipients.
///
/// A name that `Connection` has no business to list, because the field is meant for all recipients
/// or because others decide by it, is not removed: otherwise a client could make its request or
/// our cache see something else than what was checked.
pub fn strip_hop_by_hop(fields: &mut HeaderMap) {
    strip_listed(fields);
    for name in &HOP_BY_HOP {
        fields.remove(name);
    }
}

/// Removes the fields that `Connection` lists and that nothing but this list makes those of one connection. Done to a request
/// before anything is read out of it, so that what is read, and stored under it, is what goes on. The well-known ones stay, for
/// who looks at them; they go on from nobody ([`is_hop_by_hop`]).
///
/// Options that ordinary clients send cost no allocation.
pub fn strip_listed(fields: &mut HeaderMap) {
    if !fields.contains_key(header::CONNECTION) {
        return;
    }
    let lines = fields.get_all(header::CONNECTION).iter();
    let listed: SmallVec<[HeaderName; 4]> =
        lines.flat_map(|line| members(line.as_bytes())).filter_map(listed).collect();
    for name in &listed {
        fields.remove(name);
    }
}

/// The field that a connection option makes one of the connection, if it may.
fn listed(option: &[u8]) -> Option<HeaderName> {
    const CLOSE: HeaderName = HeaderName::from_static("close");
    if option.eq_ignore_ascii_case(b"close") {
        return Some(CLOSE);
    }
    if HOP_BY_HOP.iter().any(|name| option.eq_ignore_ascii_case(name.as_str().as_bytes())) {
        return None;
    }
    HeaderName::from_bytes(option).ok().filter(|name| !is_end_to_end(name.as_str()))
}

/// Whether a field is for one connection, whatever `Connection` lists.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

/// Makes one field of a cookie that came in several, as HTTP/2 allows (RFC 9113 §8.2.3). To be done before a request is handed on
/// to anybody else: in crumbs, a comma would seem to part what a semicolon does.
pub fn join_crumbs(request: &mut HeaderMap) {
    if request.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<_> = request.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        request.insert(header::COOKIE, cookie);
    }
}

/// Removes from trailers what may not be among them (RFC 9110 §6.5.1): fields that frame or route the message, authenticate,
/// modify the request, control the response or say of what format the content is, those for one connection and those for
/// caches, and those that are `forbidden` besides. Whoever merges trailers into the head would be told there anew what was
/// decided by the head.
///
/// Names are compared with `_` as `-`, since CGI and its heirs cannot tell them apart. One that is no token goes: over
/// HTTP/2, `http` takes names with a quotation mark.
pub fn strip_trailers(trailers: &mut HeaderMap, forbidden: impl Fn(&str) -> bool) {
    let is_doomed = |name: &&HeaderName| {
        let dashed = name.as_str().replace('_', "-");
        !may_trail(&dashed) || forbidden(&dashed)
    };
    let doomed: SmallVec<[HeaderName; 8]> = trailers.keys().filter(is_doomed).cloned().collect();
    for name in doomed {
        trailers.remove(name);
    }
}

/// Whether a field may come behind the body. Those that say of the body what is known only then may: `ETag` (RFC 9110
/// §8.8.3), `Content-Digest` (RFC 9530).
fn may_trail(name: &str) -> bool {
    const PREFIXES: [&str; 3] = ["accept-", "proxy-", "sec-"];
    const NAMES: [&str; 9] = [
        "alt-svc",
        "clear-site-data",
        "cookie2",
        "expect",
        "refresh",
        "retry-after",
        "set-cookie2",
        "trailer",
        "warning",
    ];
    let is_forbidden = || {
        name.contains('"')
            || is_end_to_end(name)
            || HOP_BY_HOP.iter().chain(&TAGS).any(|other| other == name)
            || NAMES.contains(&name)
            || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    matches!(name, "accept-ranges" | "content-digest" | "etag" | "proxy-status") || !is_forbidden()
}

/// The fields of a response that are stored and replayed: the end-to-end ones (RFC 9111 §3.1),
/// without those that `private` or `no-cache` withhold by name, which must reach only the client
/// that asked. `Date` is kept; `Age` is not, since the head holds the initial age and each reply
/// computes its own. `Trailer` is not, since trailers are not stored. `Content-Length` is kept as
/// the origin sent it.
pub fn storable_fields(response: &HeaderMap) -> HeaderMap {
    let mut fields = replayable_fields(response);
    for name in withheld(response) {
        fields.remove(name);
    }
    fields
}

/// As [`storable_fields`], with those that are withheld by name.
pub(super) fn replayable_fields(response: &HeaderMap) -> HeaderMap {
    let mut fields = response.clone();
    strip_hop_by_hop(&mut fields);
    fields.remove(header::AGE);
    fields.remove(header::TRAILER);
    fields
}

/// The fields of a response that `private` or `no-cache` withhold by name from what is stored: only
/// the client whose request brought the response gets them (RFC 9111 §5.2.2.4, §5.2.2.7).
pub fn withheld_fields(response: &HeaderMap) -> HeaderMap {
    let names = withheld(response);
    if names.is_empty() {
        return HeaderMap::new();
    }
    let mut end_to_end = response.clone();
    strip_hop_by_hop(&mut end_to_end);
    let is_withheld = |(name, _): &(&HeaderName, &HeaderValue)| names.contains(name);
    let fields = end_to_end.iter().filter(is_withheld);
    fields.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Tags by which caches are purged and which are of no use to clients. `Cache-Groups` (RFC 9875) is not one of them: it is
/// for all caches, those of clients too.
const TAGS: [HeaderName; 6] = [
    HeaderName::from_static("surrogate-key"),
    HeaderName::from_static("xkey"),
    HeaderName::from_static("cache-tag"),
    HeaderName::from_static("cache-tags"),
    HeaderName::from_static("x-cache-tags"),
    HeaderName::from_static("x-magento-tags"),
];

/// Removes the tags that are meant for caches alone.
pub fn strip_tags(fields: &mut HeaderMap) {
    for name in &TAGS {
        fields.remove(name);
    }
}

pub(super) fn has_tags(fields: &HeaderMap) -> bool {
    TAGS.iter().any(|name| fields.contains_key(name))
}

/// Gives a response without `Date` the time of its reception (RFC 9110 §6.6.1).
pub fn ensure_date(response: &mut HeaderMap, received: Wall) {
    response.entry(header::DATE).or_insert_with(|| {
        /// The last second of the year 9999.
        const LAST: i64 = 253_402_300_799;
        let secs = received.as_secs().clamp(0, LAST) as u64;
        let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(secs));
        HeaderValue::try_from(text).expect("an HTTP date is visible ASCII")
    });
}

/// The `Via` member of this node for a message received with `version` (RFC 9110 §7.6.3). It is
/// appended behind those that are there. `node` is a token.
pub fn via(version: Version, node: &str) -> Option<HeaderValue> {
    let protocol = match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    };
    HeaderValue::try_from(format!("{protocol} {node}")).ok()
}

const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

fn is_end_to_end(name: &str) -> bool {
    const PREFIXES: [&str; 4] = ["content-", "if-", "x-forwarded-", "access-control-"];
    const NAMES: [&str; 29] = [
        "accept",
        "accept-encoding",
        "accept-language",
        "age",
        "authorization",
        "cache-control",
        "cache-status",
        "cdn-cache-control",
        "cdn-loop",
        "cookie",
        "date",
        "etag",
        "expires",
        "forwarded",
        "host",
        "last-modified",
        "location",
        "max-forwards",
        "origin",
        "pragma",
        "range",
        "set-cookie",
        "strict-transport-security",
        "surrogate-control",
        "surrogate-key",
        "vary",
        "via",
        "www-authenticate",
        "x-real-ip",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::head;
    use super::*;

    #[test]
    fn connection_options_and_hop_by_hop_fields_go() {
        let mut fields = head(&[
            ("connection", "x-a, X-B"),
            ("connection", "close"),
            ("x-a", "1"),
            ("x-b", "1"),
            ("x-c", "1"),
            ("close", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authentication-info", "1"),
            ("proxy-authorization", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "foo"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAA"),
            ("trailer", "x-t"),
        ]);
        strip_hop_by_hop(&mut fields);
        assert_eq!(fields, head(&[("x-c", "1"), ("trailer", "x-t")]));
    }

    #[test]
    fn what_connection_lists_goes_alone_and_the_well_known_stay_for_who_reads_them() {
        let stay = [("connection", "Close, Upgrade, TE, X-A, cookie"), ("upgrade", "b"), ("te", "trailers")];
        let mut fields = head(&[&stay[..], &[("x-a", "1"), ("close", "1"), ("cookie", "c")]].concat());
        strip_listed(&mut fields);
        assert_eq!(fields, head(&[&stay[..], &[("cookie", "c")]].concat()));
    }

    #[test]
    fn the_crumbs_of_a_cookie_are_one_field() {
        let mut fields =
            head(&[("cookie", "a=b"), ("x", "1"), ("cookie", "c=d"), ("x", "2"), ("cookie", "e=f")]);
        join_crumbs(&mut fields);
        assert_eq!(fields, head(&[("cookie", "a=b; c=d; e=f"), ("x", "1"), ("x", "2")]));
        let mut whole = head(&[("cookie", "a=b,c")]);
        join_crumbs(&mut whole);
        assert_eq!(whole, head(&[("cookie", "a=b,c")]));
    }

    #[test]
    fn connection_cannot_remove_what_decides() {
        let kept = [
            ("cache-control", "no-store"),
            ("vary", "accept"),
            ("age", "1"),
            ("host", "h"),
            ("cookie", "a"),
            ("authorization", "b"),
            ("set-cookie", "c"),
            ("x-forwarded-for", "1.2.3.4"),
            ("content-type", "text/html"),
            ("if-none-match", "*"),
            ("cdn-cache-control", "max-age=1"),
        ];
        let mut fields = head(&kept);
        for (name, _) in kept {
            fields.append(header::CONNECTION, HeaderValue::from_static(name));
        }
        strip_hop_by_hop(&mut fields);
        assert_eq!(fields, head(&kept));
    }

    #[test]
    fn trailers_say_nothing_that_was_decided_by_the_head() {
        let forbidden = [
            "accept-encoding",
            "access-control-allow-origin",
            "age",
            "authorization",
            "cache-control",
            "cdn-loop",
            "connection",
            "content-encoding",
            "content-length",
            "content_length",
            "content-range",
            "content-type",
            "cookie",
            "expect",
            "expires",
            "host",
            "if-none-match",
            "keep-alive",
            "location",
            "max-forwards",
            "proxy-authorization",
            "range",
            "retry-after",
            "set-cookie",
            "set_cookie",
            "surrogate-key",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "vary",
            "via",
            "www-authenticate",
            "x-forwarded-for",
            "x_forwarded_for",
            "x\"y",
        ];
        for name in forbidden {
            let mut trailers = head(&[(name, "1"), (name, "2"), ("x-sum", "3")]);
            strip_trailers(&mut trailers, |_| false);
            assert_eq!(trailers, head(&[("x-sum", "3")]), "{name}");
        }
        let kept = [
            ("grpc-status", "0"),
            ("grpc-message", ""),
            ("grpc-status-details-bin", "AA"),
            ("server-timing", "db"),
            ("content-digest", "sha-256=:AA=:"),
            ("etag", "\"a\""),
            ("x_sum", "3"),
        ];
        let mut trailers = head(&kept);
        strip_trailers(&mut trailers, |_| false);
        assert_eq!(trailers, head(&kept));
        strip_trailers(&mut trailers, |name| name != "x-sum");
        assert_eq!(trailers, head(&[("x_sum", "3")]));
    }

    #[test]
    fn stored_fields_have_no_age_and_nothing_withheld() {
        let response = head(&[
            ("cache-control", "max-age=60, private=\"set-cookie, x-user\", no-cache=\"x-once\""),
            ("set-cookie", "a=b"),
            ("x-user", "1"),
            ("x-once", "1"),
            ("x-all", "1"),
            ("age", "7"),
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("content-length", "10"),
            ("trailer", "x-t"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
        ]);
        let expected = head(&[
            ("cache-control", "max-age=60, private=\"set-cookie, x-user\", no-cache=\"x-once\""),
            ("x-all", "1"),
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("content-length", "10"),
        ]);
        assert_eq!(storable_fields(&response), expected);
        let withheld = head(&[("set-cookie", "a=b"), ("x-user", "1"), ("x-once", "1")]);
        assert_eq!(withheld_fields(&response), withheld);
        assert!(withheld_fields(&expected).is_empty(), "they are not there");
        assert!(withheld_fields(&head(&[("cache-control", "private"), ("x-user", "1")])).is_empty());
    }

    #[test]
    fn a_missing_date_is_that_of_reception_and_a_present_one_stays() {
        let mut fields = HeaderMap::new();
        ensure_date(&mut fields, Wall::from_secs(784_111_777));
        assert_eq!(fields, head(&[("date", "Sun, 06 Nov 1994 08:49:37 GMT")]));
        ensure_date(&mut fields, Wall::from_secs(0));
        assert_eq!(fields, head(&[("date", "Sun, 06 Nov 1994 08:49:37 GMT")]));
        for wall in [Wall::from_secs(i64::MIN), Wall::from_secs(i64::MAX)] {
            ensure_date(&mut HeaderMap::new(), wall);
        }
    }

    #[test]
    fn via_names_the_received_protocol() {
        assert_eq!(via(Version::HTTP_11, "edge-a").unwrap(), "1.1 edge-a");
        assert_eq!(via(Version::HTTP_2, "edge-a").unwrap(), "2 edge-a");
        assert_eq!(via(Version::HTTP_11, "edge\r\n"), None);
    }
}
