//! What the origin is told about the client, and what a client may not tell it: the fields that
//! are no part of the key must not change the answer (cache poisoning by unkeyed input).

use super::forwarded::{self, Element};
use super::{CDN_LOOP, Routed, Router};
use crate::config::model::is_trusted;
use crate::proto::key::Scheme;
use crate::proto::semantics::{self, Vary};
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, COOKIE, Entry, FORWARDED, HOST, ORIGIN, USER_AGENT, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use ipnet::IpNet;
use smallvec::SmallVec;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Fields that this node sets.
const SET: [HeaderName; 7] =
    [HOST, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO, FORWARDED, VIA, CDN_LOOP];

/// Fields that many answers vary by, and of which nothing is changed unless the site takes one for an identity.
const PLAIN: [HeaderName; 6] = [ACCEPT_ENCODING, ACCEPT_LANGUAGE, ACCEPT, ORIGIN, USER_AGENT, COOKIE];

/// Hops of `X-Forwarded-For` that are read, from the right.
const FORWARDED_HOPS_MAX: usize = 32;

/// Fields that some origins take for the URL, method, host or scheme of the request, beside those that
/// begin with [`X_FORWARDED`]. What of it is true is in the key, so they are removed whoever sent them:
/// also behind a trusted proxy they may be the client's. Compared with `_` as `-`, since CGI and its heirs
/// cannot tell them apart.
const STEERING: [&str; 30] = [
    "cf-visitor",
    "cloudfront-forwarded-proto",
    "forwarded",
    "front-end-https",
    "x-arr-ssl",
    "x-envoy-original-host",
    "x-envoy-original-path",
    "x-forwarded",
    "x-host",
    "x-host-override",
    "x-http-destinationurl",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-http-path-override",
    // Of a framework whose pages were poisoned by what it tells itself.
    "x-invoke-path",
    "x-invoke-query",
    "x-invoke-status",
    "x-matched-path",
    "x-method-override",
    "x-middleware-subrequest",
    "x-now-route-matches",
    "x-original-host",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-uri",
    "x-rewrite-url",
    "x-scheme",
    "x-url-scheme",
];

/// How fields begin that say what a proxy was asked; this node sets those that it knows to be true.
const X_FORWARDED: &str = "x-forwarded-";

/// Fields in which proxies tell the client's address. From others they are removed; those of a
/// trusted one get the address that is believed, since what stands there may be the client's.
const ADDRESS: [&str; 14] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "client-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "true-client-ip",
    "x-azure-clientip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-original-forwarded-for",
    "x-originating-ip",
    "x-real-ip",
    "x-remote-ip",
];

/// Fields in which proxies that authenticate tell who the client is, beside those that begin as in
/// [`IDENTITIES`] and those of `site.identity_fields`. Only a trusted one may.
const IDENTITY: [&str; 12] = [
    "remote-user",
    "x-authenticated-user",
    "x-client-cert",
    "x-forwarded-access-token",
    "x-forwarded-client-cert",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-user",
    "x-ms-client-principal",
    "x-remote-user",
    "x-webauth-user",
];

/// How the fields of such proxies begin that have several.
const IDENTITIES: [&str; 8] = [
    "cf-access-",
    "ssl-client-",
    "tailscale-user-",
    "x-amzn-oidc-",
    "x-auth-request-",
    "x-goog-authenticated-user-",
    "x-ms-client-principal-",
    "x-ssl-client-",
];

impl Router {
    /// Makes the fields of a client's request those of the request to the origin: sets `Host`,
    /// `X-Forwarded-For`, `-Proto`, `-Host`, `Forwarded` (RFC 7239), `Via` (RFC 9110 §7.6.3) and
    /// `CDN-Loop` (RFC 8586), and removes what else would say the same of the request, or, unless a
    /// trusted peer sent it, of the client. Hop-by-hop fields must be gone already, so that
    /// `Connection` cannot name these. What it does to which names is what [`tells`](Self::tells) says.
    pub fn forward_headers(&self, routed: &Routed, headers: &mut HeaderMap) {
        let is_trusted = is_trusted(&self.trusted, routed.peer);
        let (mut chain, mut forwarded) = (String::new(), String::new());
        if is_trusted {
            told_hops(headers, &mut chain, &mut forwarded);
        }
        remove_overrides(headers, is_trusted, routed);
        let host = match &routed.site.origin.host {
            Some(host) => value(host.as_bytes()),
            None => routed.host.clone(),
        };
        headers.insert(HOST, host);
        let peer = routed.peer.to_canonical();
        write!(chain, "{peer}").expect("writing to a string cannot fail");
        headers.insert(X_FORWARDED_FOR, text(chain));
        headers.insert(X_FORWARDED_HOST, routed.host.clone());
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(routed.scheme.as_str()));
        write_for(&mut forwarded, peer);
        for part in [";host=\"", routed.host_str(), "\";proto=", routed.scheme.as_str()] {
            forwarded.push_str(part);
        }
        headers.insert(FORWARDED, text(forwarded));
        append(headers, VIA, self.me.via(routed.version));
        append(headers, CDN_LOOP, self.me.name.clone());
    }

    /// Whether the origin may be sent another value of this field, or none, than the client wrote: then who wants to know
    /// what an answer was selected by must ask [`forward_headers`](Self::forward_headers).
    pub fn tells(&self, routed: &Routed, name: &HeaderName) -> bool {
        let own = &routed.site.identity_fields;
        if PLAIN.contains(name) {
            return own.iter().any(|field| field == name.as_str());
        }
        SET.contains(name) || fate(name.as_str(), false, own) != Fate::Keep
    }
}

/// What the `Vary` of an origin means here. Fields of which all requests with one key have the same select nothing; by the
/// client's address, which the origin is told, no other client's request selects.
pub fn selects_by(vary: Vary) -> Vary {
    let Vary::Fields(list) = &vary else { return vary };
    let names = list.names();
    if names.iter().any(|name| [X_FORWARDED_FOR, FORWARDED].contains(name)) {
        return Vary::Star;
    }
    if !names.iter().any(is_constant) {
        return vary;
    }
    let mut rest = names.iter().filter(|name| !is_constant(name)).cloned().peekable();
    if rest.peek().is_none() { Vary::None } else { Vary::Fields(rest.collect()) }
}

/// Whether the origin is sent the same of this field with each request for one key: what is in the key, or nothing.
fn is_constant(name: &HeaderName) -> bool {
    [HOST, X_FORWARDED_HOST, X_FORWARDED_PROTO].contains(name) || STEERING.contains(&name.as_str())
}

impl Routed {
    /// Takes out of the trailers of the request what may not be among any (`semantics::strip_trailers`), and what
    /// [`Router::forward_headers`] sets, changes or removes in the head, whoever sent it: an origin that merges them into
    /// the head would believe them there.
    pub fn trailer_rule(&self) -> impl Fn(&mut HeaderMap) + Send + Unpin + use<> {
        let site = Arc::clone(&self.site);
        move |trailers| {
            let steers = |name: &str| fate(name, false, &site.identity_fields) != Fate::Keep;
            semantics::strip_trailers(trailers, steers);
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

/// The client's address as trusted peers tell it, in `X-Forwarded-For` if that is there, else in `Forwarded`: from the
/// right, the first that is not trusted itself. What cannot be read, or is no address, ends the search, since everything
/// left of it may be the client's invention.
///
/// Members are parted at commas from the right, quoted or not: those that count were appended by trusted proxies, which
/// quote none, and nothing that a client wrote left of them, such as a quote that never ends, changes how they are read.
pub(super) fn client_address(headers: &HeaderMap, from: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let mut client = from;
    for hop in hops(headers) {
        client = hop;
        if !is_trusted(trusted, hop) {
            break;
        }
    }
    client
}

/// The hops that a trusted peer tells of, the nearest first, up to one that is no address: what is left of that may be
/// anything.
fn hops(headers: &HeaderMap) -> SmallVec<[IpAddr; 8]> {
    if headers.contains_key(X_FORWARDED_FOR) {
        members(headers, &X_FORWARDED_FOR).rev().take(FORWARDED_HOPS_MAX).map_while(hop_address).collect()
    } else {
        let address = |member| forwarded::element(member)?.from;
        members(headers, &FORWARDED).rev().take(FORWARDED_HOPS_MAX).map_while(address).collect()
    }
}

/// The scheme that a trusted peer states; its own statement is the last. `Forwarded` is asked where it is asked for the
/// client too.
pub(super) fn stated_scheme(headers: &HeaderMap) -> Option<Scheme> {
    let Some(last) = headers.get_all(X_FORWARDED_PROTO).iter().next_back() else {
        let last =
            members(headers, &FORWARDED).next_back().filter(|_| !headers.contains_key(X_FORWARDED_FOR));
        return last.and_then(forwarded::element).and_then(|Element { scheme, .. }| scheme);
    };
    forwarded::scheme(last.as_bytes().rsplit(|byte| *byte == b',').next()?.trim_ascii())
}

/// Whether `Via` or `CDN-Loop` names `node`.
pub(super) fn passed_before(headers: &HeaderMap, node: &str) -> bool {
    let names_node =
        |name: Option<&[u8]>| name.is_some_and(|name| name.eq_ignore_ascii_case(node.as_bytes()));
    members(headers, &CDN_LOOP)
        .any(|member| names_node(member.split(|byte| *byte == b';').next().map(<[u8]>::trim_ascii)))
        || members(headers, &VIA).any(|member| names_node(words(member).nth(1)))
}

fn members<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a> {
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

/// Writes the hops that a trusted peer tells of to `X-Forwarded-For` and `Forwarded`, the nearest to the client first.
/// Most proxies know one of these and hand the other on as the client wrote it; an origin that reads that one is not to
/// be deceived.
fn told_hops(headers: &HeaderMap, chain: &mut String, forwarded: &mut String) {
    for hop in hops(headers).into_iter().rev() {
        write!(chain, "{hop}, ").expect("writing to a string cannot fail");
        write_for(forwarded, hop);
        forwarded.push_str(", ");
    }
}

/// `for=…` (RFC 7239 §4, §6): an IPv6 address is quoted.
fn write_for(element: &mut String, address: IpAddr) {
    let written = match address {
        IpAddr::V4(address) => write!(element, "for={address}"),
        IpAddr::V6(address) => write!(element, "for=\"[{address}]\""),
    };
    written.expect("writing to a string cannot fail");
}

/// What is done to a field of the client's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Keep,
    Remove,
    /// Gets the client's address as it is believed.
    Address,
}

fn remove_overrides(headers: &mut HeaderMap, is_trusted: bool, routed: &Routed) {
    let fate =
        |name: &HeaderName| (name.clone(), fate(name.as_str(), is_trusted, &routed.site.identity_fields));
    let doomed: SmallVec<[(HeaderName, Fate); 8]> =
        headers.keys().map(fate).filter(|(_, fate)| *fate != Fate::Keep).collect();
    for (name, fate) in doomed {
        if fate == Fate::Address {
            headers.insert(name, text(routed.client.to_canonical().to_string()));
        } else {
            headers.remove(name);
        }
    }
}

fn fate(name: &str, is_trusted: bool, identity_fields: &[String]) -> Fate {
    let dashed;
    let name = if name.contains('_') {
        dashed = name.replace('_', "-");
        &dashed
    } else {
        name
    };
    let is_identity = || {
        IDENTITY.contains(&name)
            || IDENTITIES.iter().any(|begin| name.starts_with(begin))
            || identity_fields.iter().any(|field| field == name)
    };
    // "httpoxy": CGI programs take `Proxy` for their own proxy setting.
    if STEERING.contains(&name) || name == "proxy" {
        Fate::Remove
    } else if ADDRESS.contains(&name) {
        if is_trusted { Fate::Address } else { Fate::Remove }
    } else if is_identity() {
        if is_trusted { Fate::Keep } else { Fate::Remove }
    } else if name.starts_with(X_FORWARDED) {
        Fate::Remove
    } else {
        Fate::Keep
    }
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
