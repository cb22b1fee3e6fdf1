//! One element of `Forwarded` (RFC 7239 §4): what a proxy says of the request that came to it.

use crate::proto::key::Scheme;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Parameters of an element that are read; more make it unreadable.
const PARAMETERS_MAX: usize = 16;

/// What is read of an element.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// `for`: whom the request came from; `None` if that is not said, unknown, or under a name that only the proxy knows.
    pub(super) from: Option<IpAddr>,
    /// `proto`: by which scheme it came.
    pub(super) scheme: Option<Scheme>,
}

/// Reads what stands between two commas. `None` if it is no element, such as half of one whose quoted value has a
/// comma.
pub(super) fn element(bytes: &[u8]) -> Option<Element> {
    let mut element = Element::default();
    let (mut has_from, mut has_scheme) = (false, false);
    let mut rest = bytes.trim_ascii();
    for _ in 0..PARAMETERS_MAX {
        let (name, value, after) = parameter(rest)?;
        if name.eq_ignore_ascii_case(b"for") {
            if std::mem::replace(&mut has_from, true) {
                return None;
            }
            element.from = node(&value);
        } else if name.eq_ignore_ascii_case(b"proto") {
            if std::mem::replace(&mut has_scheme, true) {
                return None;
            }
            element.scheme = scheme(&value);
        }
        match after {
            [] => return Some(element),
            [b';', more @ ..] => rest = more.trim_ascii_start(),
            _ => return None,
        }
    }
    None
}

/// `name=value`, and what follows it, white space left out.
fn parameter(bytes: &[u8]) -> Option<(&[u8], Vec<u8>, &[u8])> {
    let end = bytes.iter().position(|byte| !is_token(*byte))?;
    let (name, rest) = bytes.split_at(end);
    let rest = rest.strip_prefix(b"=")?;
    let (value, rest) = match rest {
        [b'"', quoted @ ..] => unquoted(quoted)?,
        // Colons and brackets should be quoted; who writes them bare means nothing else by them.
        _ => {
            let is_bare = |byte: u8| is_token(byte) || matches!(byte, b':' | b'[' | b']');
            let end = rest.iter().position(|byte| !is_bare(*byte)).unwrap_or(rest.len());
            (rest[..end].to_vec(), &rest[end..])
        }
    };
    (!name.is_empty() && !value.is_empty()).then_some((name, value, rest.trim_ascii_start()))
}

/// What is within quotes (RFC 9110 §5.6.4), and what follows them.
fn unquoted(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::new();
    let mut rest = bytes;
    loop {
        match rest {
            [b'"', after @ ..] => return Some((value, after)),
            [b'\\', byte, after @ ..] | [byte, after @ ..] => {
                value.push(*byte);
                rest = after;
            }
            [] => return None,
        }
    }
}

const fn is_token(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'#'
            | b'$'
            | b'%'
            | b'&'
            | b'\''
            | b'*'
            | b'+'
            | b'-'
            | b'.'
            | b'^'
            | b'_'
            | b'`'
            | b'|'
            | b'~'
    ) || byte.is_ascii_alphanumeric()
}

/// §6: an address, one of IPv6 in brackets, and perhaps a port. What is `unknown` or begins with `_` is no address.
fn node(value: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(value).ok()?;
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (IpAddr::V6(address.parse::<Ipv6Addr>().ok()?), port)
        }
        None => {
            let (address, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (IpAddr::V4(address.parse::<Ipv4Addr>().ok()?), port)
        }
    };
    (port.is_empty() || is_port(port.strip_prefix(':')?)).then(|| address.to_canonical())
}

/// A number, or a name for one (§6.3).
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(name) => {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        }
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// `http` or `https`, in any case.
pub(super) fn scheme(value: &[u8]) -> Option<Scheme> {
    if value.eq_ignore_ascii_case(b"https") {
        Some(Scheme::Https)
    } else if value.eq_ignore_ascii_case(b"http") {
        Some(Scheme::Http)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_an_element_are_read() {
        for (text, from, scheme) in [
            ("for=192.0.2.43", Some("192.0.2.43"), None),
            ("For=\"192.0.2.43:47011\"", Some("192.0.2.43"), None),
            ("for=192.0.2.43:47011", Some("192.0.2.43"), None),
            ("for=\"192.0.2.43:_port\"", Some("192.0.2.43"), None),
            ("FOR=\"[2001:db8:cafe::17]:4711\"", Some("2001:db8:cafe::17"), None),
            ("for=\"[2001:db8:cafe::17]\"", Some("2001:db8:cafe::17"), None),
            ("for=[2001:db8:cafe::17]", Some("2001:db8:cafe::17"), None),
            ("for=\"[::ffff:192.0.2.1]\"", Some("192.0.2.1"), None),
            ("for=\"192\\.0.2.43\"", Some("192.0.2.43"), None),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", Some("192.0.2.60"), Some(Scheme::Http)),
            (
                "by=\"[::1]\" ; host=\"a;b\\\"c\" ;\tproto=HTTPS; for=192.0.2.60",
                Some("192.0.2.60"),
                Some(Scheme::Https),
            ),
            ("proto=gopher", None, None),
            ("for=unknown", None, None),
            ("for=_gazonk", None, None),
            ("for=_1.2.3.4", None, None),
            // No addresses, so nobody is named.
            ("for=2001:db8:cafe::17", None, None),
            ("for=\"[192.0.2.1]\"", None, None),
            ("for=\"[2001:db8::1\"", None, None),
            ("for=\"[fe80::1%eth0]\"", None, None),
            ("for=\"192.0.2.43:\"", None, None),
            ("for=\"192.0.2.43:123456\"", None, None),
            ("for=\"192.0.2.43:80x\"", None, None),
            ("for=\"192.0.2.43, 192.0.2.44\"", None, None),
            ("for=192.0.2.043", None, None),
            ("secret=x", None, None),
        ] {
            let from = from.map(|from| from.parse().unwrap());
            assert_eq!(element(text.as_bytes()), Some(Element { from, scheme }), "{text}");
        }
    }

    #[test]
    fn what_is_no_element_says_nothing() {
        for text in [
            "",
            ";",
            "for",
            "for=",
            "=192.0.2.1",
            "for=192.0.2.1;",
            "for = 192.0.2.1",
            "for=\"192.0.2.1",
            "for=192.0.2.1\"",
            "for=192.0.2.1 proto=http",
            "for=192.0.2.1;for=192.0.2.2",
            "proto=http;proto=https",
            "for=\"192.0.2.1\\",
            "for=\"\"",
            "192.0.2.1",
            "for=\"192.0.2.1\"x",
        ] {
            assert_eq!(element(text.as_bytes()), None, "{text}");
        }
        let long = "a=b;".repeat(PARAMETERS_MAX) + "for=192.0.2.1";
        assert_eq!(element(long.as_bytes()), None);
    }
}
