//! What an unsafe request makes invalid (RFC 9111 §4.4).

use super::request::MethodClass;
use crate::proto::key::Scheme;
use http::header::{self, HeaderMap};
use http::uri::{Authority, PathAndQuery};
use http::{Method, StatusCode};
use smallvec::SmallVec;

/// Whether a request with `method` that was answered by `status` invalidates its target: unsafe or
/// unknown, and 2xx or 3xx.
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    let succeeded = status.is_success() || status.is_redirection();
    succeeded && MethodClass::of(method) == MethodClass::Unsafe
}

/// The further URIs that it invalidates: those of `Location` and `Content-Location`, if they have
/// the origin of the target, as path and query, each once. `host` is the validated authority of the
/// target as in its key, `path` its path and query. At most two.
pub fn invalidation_targets(
    scheme: Scheme,
    host: &str,
    path: &str,
    response: &HeaderMap,
) -> SmallVec<[String; 2]> {
    let mut targets = SmallVec::new();
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let target = response
            .get(name)
            .and_then(|value| value.to_str().ok())
            .and_then(|reference| resolve(scheme, host, path, reference.trim()));
        if let Some(target) = target
            && target != path
            && !targets.contains(&target)
        {
            targets.push(target);
        }
    }
    targets
}

/// Whether the `Content-Location` of a response is its target (RFC 9110 §8.7), given as for
/// [`invalidation_targets`]. Of several, none is.
pub fn is_of_target(scheme: Scheme, host: &str, path: &str, response: &HeaderMap) -> bool {
    let mut lines = response.get_all(header::CONTENT_LOCATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let target = line.to_str().ok().and_then(|reference| resolve(scheme, host, path, reference.trim()));
    target.as_deref() == Some(path)
}

/// Resolves a URI reference (RFC 3986 §5.2) to a path and query of the same origin.
fn resolve(scheme: Scheme, host: &str, base: &str, reference: &str) -> Option<String> {
    let reference = reference.split('#').next().unwrap_or_default();
    let local = match split_scheme(reference) {
        Some((other, _)) if !other.eq_ignore_ascii_case(scheme.as_str()) => return None,
        Some((_, rest)) => rest.strip_prefix("//").map(|rest| of_same_authority(scheme, host, rest))??,
        None => match reference.strip_prefix("//") {
            Some(rest) => of_same_authority(scheme, host, rest)?,
            None => reference,
        },
    };
    let absolute = absolute_path(base, local, local.len() == reference.len());
    // Only what could be the target of a request can be the key of an object.
    absolute.parse::<PathAndQuery>().ok().map(|_| absolute)
}

/// The scheme of a reference that has one (RFC 3986 §3.1).
fn split_scheme(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let is_scheme =
        scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.bytes().all(legal);
    is_scheme.then_some((scheme, rest))
}

/// What follows the authority in `rest`, if the authority is `host`.
fn of_same_authority<'a>(scheme: Scheme, host: &str, rest: &'a str) -> Option<&'a str> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let own_port = match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    };
    let origin_of = |text: &str| {
        let authority = text.parse::<Authority>().ok()?;
        Some((authority.host().to_ascii_lowercase(), authority.port_u16().unwrap_or(own_port)))
    };
    let same = origin_of(&rest[..end])? == origin_of(host)?;
    same.then_some(&rest[end..])
}

/// RFC 3986 §5.2.2 for a reference without authority, or with ours (`relative` is false then).
fn absolute_path(base: &str, reference: &str, relative: bool) -> String {
    let base_path = base.split('?').next().unwrap_or_default();
    let (path, query) = match reference.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (reference, None),
    };
    let path = match path {
        "" if relative && query.is_none() => return base.to_owned(),
        "" if relative => base_path.to_owned(),
        "" => "/".to_owned(),
        absolute if absolute.starts_with('/') => without_dot_segments(absolute),
        merged => {
            let folder = base_path.rfind('/').map_or("/", |slash| &base_path[..=slash]);
            without_dot_segments(&format!("{folder}{merged}"))
        }
    };
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    }
}

/// RFC 3986 §5.2.4, for an absolute path.
fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut folder = false;
    for segment in path.split('/').skip(1) {
        folder = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let mut plain = String::with_capacity(path.len());
    for segment in &kept {
        plain.push('/');
        plain.push_str(segment);
    }
    if folder || kept.is_empty() {
        plain.push('/');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::head;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_unsafe_methods_that_succeed_invalidate() {
        for (method, status, expected) in [
            ("POST", 200, true),
            ("PUT", 204, true),
            ("DELETE", 303, true),
            ("M-SEARCH", 200, true),
            ("POST", 404, false),
            ("POST", 500, false),
            ("GET", 200, false),
            ("OPTIONS", 200, false),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(invalidates(&method, status), expected, "{method} {status}");
        }
    }

    fn check(rule: &str, location: &'static str, expected: &[&str]) {
        let response = head(&[("location", location)]);
        let targets = invalidation_targets(Scheme::Https, "example.com", "/a/b?c", &response);
        assert_eq!(targets.as_slice(), expected, "{rule}: {location}");
    }

    #[test]
    fn locations_of_the_same_origin_are_targets() {
        check("absolute", "https://example.com/x?y=z", &["/x?y=z"]);
        check("own port and letter case", "HTTPS://EXAMPLE.com:443/x", &["/x"]);
        check("no path", "https://example.com", &["/"]);
        check("no path but query", "https://example.com?q", &["/?q"]);
        check("network path", "//example.com/x", &["/x"]);
        check("absolute path", "/x/../y/./z#frag", &["/y/z"]);
        check("relative path", "x", &["/a/x"]);
        check("relative path upwards", "../x/", &["/x/"]);
        check("upwards to a folder", "/x/y/..", &["/x/"]);
        check("upwards beyond the root", "../../../..", &["/"]);
        check("query only", "?x", &["/a/b?x"]);
        check("a colon in a path", "./x:y", &["/a/x:y"]);
        check("the target itself is no further one", "", &[]);
    }

    #[test]
    fn locations_of_other_origins_are_not() {
        check("other host", "https://other.example/x", &[]);
        check("other scheme", "http://example.com/x", &[]);
        check("other port", "https://example.com:8443/x", &[]);
        check("user information", "https://example.com@other.example/x", &[]);
        check("a scheme without authority", "mailto:a@example.com", &[]);
        check("not a URI", "https://example.com/ x", &[]);
    }

    #[test]
    fn location_and_content_location_count_once() {
        let response = head(&[("location", "/x"), ("content-location", "/y")]);
        assert_eq!(invalidation_targets(Scheme::Http, "h:81", "/", &response).as_slice(), ["/x", "/y"]);
        let response = head(&[("location", "/x"), ("content-location", "http://h:81/x")]);
        assert_eq!(invalidation_targets(Scheme::Http, "h:81", "/", &response).as_slice(), ["/x"]);
    }

    #[test]
    fn content_location_names_the_target_itself_or_not() {
        for (line, expected) in [
            ("/a/b?c", true),
            ("https://example.com/a/b?c", true),
            ("b?c", true),
            ("/a/b", false),
            ("/A/b?c", false),
            ("https://other.example/a/b?c", false),
        ] {
            let response = head(&[("content-location", line)]);
            assert_eq!(is_of_target(Scheme::Https, "example.com", "/a/b?c", &response), expected, "{line}");
        }
        for response in [head(&[]), head(&[("content-location", "/x"), ("content-location", "/x")])] {
            assert!(!is_of_target(Scheme::Https, "example.com", "/x", &response));
        }
    }

    proptest! {
        #[test]
        fn every_target_is_an_absolute_path(reference in "[ -~]{0,40}", base in "/[a-z./?]{0,20}") {
            if let Some(target) = resolve(Scheme::Http, "h", &base, &reference) {
                prop_assert!(target.starts_with('/'));
            }
        }
    }
}
