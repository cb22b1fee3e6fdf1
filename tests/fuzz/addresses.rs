//! The client's address, as those who are believed tell it.

use super::harness::fields;
use super::harness::lines;
use super::heads::{TRUSTED, router};
use http::{HeaderMap, Method, Uri, Version};
use shoal::proto::key::Scheme;
use shoal::route::Head;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

pub(crate) const WORDS: &[&str] = &[
    "X-Forwarded-For: ",
    "Forwarded: ",
    "10.0.0.1",
    "192.0.2.7",
    "[2001:db8::1]",
    "[2001:db8::1]:443",
    "192.0.2.7:80",
    "::ffff:10.0.0.1",
    "::ffff:192.0.2.9",
    "::1",
    ", ",
    ",",
    "unknown",
    "_hidden",
    "for=",
    "\"",
    ";",
    "\n",
    "010.0.0.1",
    "1.2.3",
    " ",
];

/// Hops that are read at most.
const HOPS_MAX: usize = 32;

/// Fields of a request that came from a trusted network.
pub(crate) fn client_addresses(bytes: &[u8]) {
    let mut headers = fields(lines(bytes));
    headers.insert("host", "shop.example".parse().unwrap());
    for name in ["via", "cdn-loop"] {
        headers.remove(name);
    }
    let found = client(&headers, TRUSTED).expect("nothing to refuse");
    if headers.contains_key("x-forwarded-for") {
        assert_eq!(found, expected(&headers));
    } else if found != TRUSTED {
        assert!(told(&headers).contains(&found), "nobody said {found}");
    }
    for from in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1"] {
        let from: IpAddr = from.parse().unwrap();
        assert_eq!(client(&headers, from), Some(from), "who is not trusted is the client");
    }
}

/// What the router says. Nothing if the request is refused, which can be for the length of its fields alone.
fn client(headers: &HeaderMap, from: IpAddr) -> Option<IpAddr> {
    let (method, uri) = (&Method::GET, &Uri::from_static("/"));
    let (scheme, version) = (Scheme::Http, Version::HTTP_11);
    let routed = router().resolve(&Head { method, uri, headers, scheme, version, tls_name: None, from });
    routed.ok().map(|routed| routed.client)
}

/// From the right, the first that is not trusted. What cannot be read ends it, and so does the bound.
fn expected(headers: &HeaderMap) -> IpAddr {
    let lines: Vec<_> =
        headers.get_all("x-forwarded-for").iter().map(|line| line.as_bytes().to_vec()).collect();
    let joined = lines.join(&b","[..]);
    if lines.is_empty() {
        return TRUSTED;
    }
    let mut client = TRUSTED;
    let hops: Vec<_> = joined.split(|byte| *byte == b',').collect();
    for hop in hops.iter().rev().take(HOPS_MAX) {
        let Some(address) = address(super::model::trim(hop)) else { break };
        client = address;
        let is_trusted = match address {
            IpAddr::V4(address) => address.octets()[0] == 10,
            IpAddr::V6(address) => address == Ipv6Addr::LOCALHOST,
        };
        if !is_trusted {
            break;
        }
    }
    client
}

/// All that `Forwarded` names behind a `for=`, however badly the rest of it is written.
fn told(headers: &HeaderMap) -> Vec<IpAddr> {
    let lines = headers.get_all("forwarded").iter().map(|line| line.as_bytes().to_ascii_lowercase());
    let text = lines.collect::<Vec<_>>().join(&b","[..]);
    let text = String::from_utf8_lossy(&text);
    let values = text.split("for=").skip(1).map(|rest| rest.split([';', ',']).next().unwrap_or_default());
    let plain = values.map(|value| value.replace(['"', '\\'], ""));
    plain.filter_map(|value| address(value.trim().as_bytes())).collect()
}

fn address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = text.parse().ok().or_else(|| bare?.parse().ok());
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(match address {
        IpAddr::V6(address) => address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4),
        address => address,
    })
}
