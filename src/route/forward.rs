//! What the origin is told about the client, and what a client may not tell it: the fields that
//! are no part of the key must not change the answer (cache poisoning by unkeyed input).

use super::forwarded::{self, Element};
use super::{CDN_LOOP, Routed, Router};
use crate::proto::key::Scheme;
use bytes::Bytes;
use http::header::{Entry, FORWARDED, HOST, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use ipnet::IpNet;
use smallvec::SmallVec;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Hops of `X-Forwarded-For` that are read, from the right.
const FORWARDED_HOPS_MAX: usize = 32;

/// Fields by which a client could change what the origin takes for the URL, method, scheme or
/// client address; `X-Forwarded-*` besides. Compared with `_` as `-`, since CGI and its heirs
/// cannot tell them apart.
const OVERRIDES: [&str; 20] = [
    "forwarded",
    "x-host",
    "x-original-host",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-http-host-override",
    "x-http-path-override",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-scheme",
    "x-url-scheme",
    "front-end-https",
    "x-original-forwarded-for",
];

impl Router {
    /// Makes the fields of a client's request those of the request to the origin: sets `Host`,
    /// `X-Forwarded-For`, `-Proto`, `-Host`, `Forwarded` (RFC 7239), `Via` (RFC 9110 §7.6.3) and
    /// `CDN-Loop` (RFC 8586), and removes the fields that override them unless a trusted peer sent
    /// them. Hop-by-hop fields must be gone already, so that `Connection` cannot name these.
    pub fn forward_headers(&self, routed: &Routed, headers: &mut HeaderMap) {
        let is_trusted = is_trusted(&self.trusted, routed.peer);
        remove_overrides(headers, is_trusted);
        if is_trusted {
            self.agree(routed, headers);
        }
        let host = match &routed.site.origin.host {
            Some(host) => value(host.as_bytes()),
            None => routed.host.clone(),
        };
        headers.insert(HOST, host);
        append(headers, X_FORWARDED_FOR, text(routed.peer.to_canonical().to_string()));
        // Always what the key says, also when a trusted peer said otherwise: both steer answers.
        headers.insert(X_FORWARDED_HOST, routed.host.clone());
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(routed.scheme.as_str()));
        append(headers, FORWARDED, text(forwarded_element(routed)));
        append(headers, VIA, self.me.via(routed.version));
        append(headers, CDN_LOOP, self.me.name.clone());
    }
}

impl Router {
    /// Makes both fields of a trusted peer name the client that is believed. Most proxies know one of them and hand the
    /// other on as the client wrote it: an origin that reads that one is not to be deceived.
    fn agree(&self, routed: &Routed, headers: &mut HeaderMap) {
        let client = routed.client.to_canonical();
        if headers.contains_key(FORWARDED)
            && client_by_forwarded(headers, routed.peer, &self.trusted) != client
        {
            headers.remove(FORWARDED);
        }
        if client == routed.peer.to_canonical() {
            return;
        }
        for (name, member) in [(X_FORWARDED_FOR, client.to_string()), (FORWARDED, for_parameter(client))] {
            headers.entry(name).or_insert_with(|| text(member));
        }
    }
}

/// How this node names itself to others, made once.
#[derive(Debug)]
pub(super) struct Me {
    name: HeaderValue,
    /// For HTTP/1.0, 1.1, 2 and 3.
    vias: [HeaderValue; 4],
}

impl Me {
    pub(super) fn new(node: &str) -> Self {
        let via = |protocol| text(format!("{protocol} {node}"));
        Self { name: text(node.to_owned()), vias: ["1.0", "1.1", "2", "3"].map(via) }
    }

    /// RFC 9110 §7.6.3: the protocol name is left out for HTTP.
    fn via(&self, version: Version) -> HeaderValue {
        let index = match version {
            Version::HTTP_10 => 0,
            Version::HTTP_2 => 2,
            Version::HTTP_3 => 3,
            _ => 1,
        };
        self.vias[index].clone()
    }
}

/// Whether `address` is in one of the networks. An IPv4 address is one however it is written.
pub(super) fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|network| network.contains(&address))
}

/// The client's address as trusted peers tell it, in `X-Forwarded-For` if that is there, else in `Forwarded`: from the
/// right, the first that is not trusted itself. What cannot be read, or is no address, ends the search, since everything
/// left of it may be the client's invention.
///
/// Members are parted at commas from the right, quoted or not: those that count were appended by trusted proxies, which
/// quote none, and nothing that a client wrote left of them, such as a quote that never ends, changes how they are read.
pub(super) fn client_address(headers: &HeaderMap, from: IpAddr, trusted: &[IpNet]) -> IpAddr {
    if headers.contains_key(X_FORWARDED_FOR) {
        nearest_client(members(headers, &X_FORWARDED_FOR).rev().map(hop_address), from, trusted)
    } else {
        client_by_forwarded(headers, from, trusted)
    }
}

fn client_by_forwarded(headers: &HeaderMap, from: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let hops = members(headers, &FORWARDED).rev().map(|member| forwarded::element(member)?.from);
    nearest_client(hops, from, trusted)
}

fn nearest_client(hops: impl Iterator<Item = Option<IpAddr>>, from: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let mut client = from;
    for hop in hops.take(FORWARDED_HOPS_MAX) {
        let Some(address) = hop else { return client };
        client = address;
        if !is_trusted(trusted, address) {
            return client;
        }
    }
    client
}

/// The scheme that a trusted peer states; its own statement is the last. `Forwarded` is asked where it is asked for the
/// client too.
pub(super) fn stated_scheme(headers: &HeaderMap) -> Option<Scheme> {
    let Some(last) = headers.get_all(X_FORWARDED_PROTO).iter().next_back() else {
        let last =
            members(headers, &FORWARDED).next_back().filter(|_| !headers.contains_key(X_FORWARDED_FOR));
        return last.and_then(forwarded::element).and_then(|Element { scheme, .. }| scheme);
    };
    let stated = last.as_bytes().rsplit(|byte| *byte == b',').next()?.trim_ascii();
    if stated.eq_ignore_ascii_case(b"https") {
        Some(Scheme::Https)
    } else if stated.eq_ignore_ascii_case(b"http") {
        Some(Scheme::Http)
    } else {
        None
    }
}

/// Whether `Via` or `CDN-Loop` names `node`.
pub(super) fn passed_before(headers: &HeaderMap, node: &str) -> bool {
    let names_node =
        |name: Option<&[u8]>| name.is_some_and(|name| name.eq_ignore_ascii_case(node.as_bytes()));
    members(headers, &CDN_LOOP)
        .any(|member| names_node(member.split(|byte| *byte == b';').next().map(<[u8]>::trim_ascii)))
        || members(headers, &VIA).any(|member| names_node(words(member).nth(1)))
}

fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl DoubleEndedIterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

fn words(member: &[u8]) -> impl Iterator<Item = &[u8]> {
    member.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty())
}

/// One hop of `X-Forwarded-For`: an address, with or without port and brackets.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?;
    let literal = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let address = match literal.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => hop.parse::<SocketAddr>().ok()?.ip(),
    };
    Some(address.to_canonical())
}

fn remove_overrides(headers: &mut HeaderMap, is_trusted: bool) {
    // "httpoxy": CGI programs take this field for their own proxy setting.
    headers.remove("proxy");
    if is_trusted {
        return;
    }
    let doomed: SmallVec<[HeaderName; 8]> =
        headers.keys().filter(|name| overrides(name.as_str())).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

fn overrides(name: &str) -> bool {
    let dashed;
    let name = if name.contains('_') {
        dashed = name.replace('_', "-");
        &dashed
    } else {
        name
    };
    name.starts_with("x-forwarded-") || OVERRIDES.contains(&name)
}

/// `for=…` (RFC 7239 §6): an IPv6 address is quoted.
fn for_parameter(address: IpAddr) -> String {
    let mut element = String::with_capacity(80);
    let written = match address.to_canonical() {
        IpAddr::V4(address) => write!(element, "for={address}"),
        IpAddr::V6(address) => write!(element, "for=\"[{address}]\""),
    };
    written.expect("writing to a string cannot fail");
    element
}

/// `for=…;host="…";proto=…` (RFC 7239 §4): an authority, which may have a port, is quoted.
fn forwarded_element(routed: &Routed) -> String {
    let mut element = for_parameter(routed.peer);
    for part in [";host=\"", routed.host_str(), "\";proto=", routed.scheme.as_str()] {
        element.push_str(part);
    }
    element
}

/// Adds a member to a list field, as one line.
fn append(headers: &mut HeaderMap, name: HeaderName, member: HeaderValue) {
    match headers.entry(name) {
        Entry::Vacant(field) => drop(field.insert(member)),
        Entry::Occupied(mut field) => {
            let mut list: Vec<u8> = Vec::with_capacity(64);
            for line in field.iter() {
                list.extend_from_slice(line.as_bytes());
                list.extend_from_slice(b", ");
            }
            list.extend_from_slice(member.as_bytes());
            field.insert(value(&list));
        }
    }
}

fn text(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("made of addresses and validated names")
}

fn value(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(bytes).expect("made of field values, addresses and validated names")
}
