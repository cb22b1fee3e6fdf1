//! From a request head to what it means here: the site that answers, the rule for its path, the
//! cache key, and whether it may touch the cache at all.
//!
//! The rule of this room: the bytes in the key are the bytes that the origin is sent. A request
//! whose authority can be read in two ways is refused (RFC 9110 §7.2, §7.4), never guessed at; a
//! path that a rule could read in two ways is passed (web cache deception).
//!
//! Lives here: the host table, path patterns, the query filter, the key, the fields that tell the
//! origin about the client ([`forward`](Router::forward_headers)). Never: what may be stored
//! (`proto::semantics`), hop-by-hop fields, I/O. A [`Router`] is immutable; a reload makes a new one.

mod forward;
mod forwarded;
mod path;
mod refusal;
mod select;

use crate::config::model::{Config, Rule, Site, is_trusted};
use crate::proto::authority::Authority;
use crate::proto::key::{CacheKey, KeyParts, ObjectId, Scheme};
use crate::proto::semantics::{self, CachePolicy};
use hashbrown::HashMap;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;

use forward::Me;
pub use forward::selects_by;
pub(crate) use forward::{X_FORWARDED_HOST, X_FORWARDED_PROTO};
use path::Pattern;
pub use refusal::Refusal;
pub use select::{BadSelector, Unselectable};

/// A request head as the front read it.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Method.
    pub method: &'a Method,
    /// Request target: origin, absolute or asterisk form, or HTTP/2's pseudo-fields.
    pub uri: &'a Uri,
    /// Fields.
    pub headers: &'a HeaderMap,
    /// Scheme of the connection.
    pub scheme: Scheme,
    /// Version of the message.
    pub version: Version,
    /// Server name of the TLS handshake, if there was one.
    pub tls_name: Option<&'a str>,
    /// Address of the peer of the connection.
    pub from: IpAddr,
}

/// What a request means here.
#[derive(Clone, Debug)]
pub struct Routed {
    /// The site that answers.
    pub site: Arc<Site>,
    /// Index of the rule for the path in the site's rules.
    pub rule: Option<usize>,
    /// The cache key.
    pub key: CacheKey,
    /// Identity of the key.
    pub object: ObjectId,
    /// The validated authority in normal form, as in the key.
    pub host: HeaderValue,
    /// Path and query as the origin is sent them, as in the key. `*` for `OPTIONS *`.
    pub target: PathAndQuery,
    /// Why the request must not touch the cache, if it must not.
    pub pass: Option<PassReason>,
    /// The scheme by which the client asked; a trusted peer may state another than the connection's.
    pub scheme: Scheme,
    /// The client's address: the peer's, or what trusted peers say of theirs.
    pub client: IpAddr,
    /// Address of the peer of the connection.
    pub peer: IpAddr,
    /// Version of the request, for `Via`.
    pub version: Version,
}

impl Routed {
    /// The object and its key.
    pub fn keyed(&self) -> (ObjectId, &CacheKey) {
        (self.object, &self.key)
    }

    /// What may be stored of the answer.
    pub fn policy(&self) -> &CachePolicy {
        self.applied().map_or(&self.site.policy, |rule| &rule.policy)
    }

    /// Whether the answer is shared in the fleet.
    pub fn peers(&self) -> bool {
        self.applied().map_or(self.site.peers, |rule| rule.peers)
    }

    /// The rule for the path.
    pub fn applied(&self) -> Option<&Rule> {
        self.rule.and_then(|index| self.site.rules.get(index))
    }

    /// The validated authority.
    pub fn host_str(&self) -> &str {
        self.host.to_str().unwrap_or_default()
    }
}

/// Why a request is forwarded without touching the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassReason {
    /// The method is neither GET nor HEAD.
    Method,
    /// A rule says so.
    Rule,
    /// The client asks for another protocol on this connection.
    Upgrade,
    /// A GET or HEAD with a body, which origins read in different ways ("fat GET").
    BodyOnGet,
    /// A rule matches the path as written but not as an origin may read it, or the reverse.
    AmbiguousPath,
    /// An OPTIONS that may be forwarded no further, and is answered here (RFC 9110 §7.6.2).
    LastHop,
}

impl PassReason {
    /// Name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Rule => "rule",
            Self::Upgrade => "upgrade",
            Self::BodyOnGet => "body_on_get",
            Self::AmbiguousPath => "ambiguous_path",
            Self::LastHop => "last_hop",
        }
    }
}

/// The host table and the rules of all sites, ready for lookups.
#[derive(Debug)]
pub struct Router {
    sites: Vec<Compiled>,
    /// Exact host → first site that has it.
    exact: HashMap<String, usize>,
    /// What follows the `*` of `*.suffix`, dot included → first site that has it.
    suffixes: HashMap<String, usize>,
    /// First site with the host `*`.
    any: Option<usize>,
    trusted: Vec<IpNet>,
    uri_bytes: usize,
    query_parameters: usize,
    header_bytes: usize,
    header_count: usize,
    node: String,
    me: Me,
}

#[derive(Debug)]
struct Compiled {
    site: Arc<Site>,
    patterns: Vec<Pattern>,
}

/// `CDN-Loop` (RFC 8586).
pub(crate) const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

impl Router {
    /// The router of a configuration.
    pub fn new(config: &Config) -> Self {
        let mut router = Self {
            sites: Vec::with_capacity(config.sites.len()),
            exact: HashMap::new(),
            suffixes: HashMap::new(),
            any: None,
            trusted: config.trusted.clone(),
            uri_bytes: config.limits.uri_bytes,
            query_parameters: config.limits.query_parameters,
            header_bytes: config.limits.header_bytes,
            header_count: config.limits.header_count,
            node: config.node.name.clone(),
            me: Me::new(&config.node.name),
        };
        for (index, site) in config.sites.iter().enumerate() {
            for host in &site.hosts {
                router.add_host(host, index);
            }
            let patterns = site.rules.iter().map(|rule| Pattern::new(&rule.path)).collect();
            router.sites.push(Compiled { site: Arc::clone(site), patterns });
        }
        router
    }

    /// Says what a request means here. Allocates for the key of a long path, and where the host
    /// was not in normal form or the query is filtered; else nothing.
    ///
    /// # Errors
    /// Why the request must be refused; nothing was done.
    pub fn resolve(&self, head: &Head<'_>) -> Result<Routed, Refusal> {
        if matches!(*head.method, Method::CONNECT | Method::TRACE) {
            return Err(Refusal::Method);
        }
        self.check_size(head)?;
        // RFC 9110 §10.1.1: there is no other expectation.
        if head.headers.get_all(EXPECT).iter().any(|value| !semantics::is_continue(value)) {
            return Err(Refusal::Expectation);
        }
        let trusted = self.trusts(head.from);
        let scheme = effective_scheme(head, trusted)?;
        let host = request_host(head, scheme)?;
        let index = self.site_of(host.name()).ok_or(Refusal::UnknownHost)?;
        if head.tls_name.is_some_and(|name| self.site_of_tls_name(name) != Some(index)) {
            return Err(Refusal::Misdirected);
        }
        if forward::passed_before(head.headers, &self.node) {
            return Err(Refusal::Loop);
        }
        let target = request_target(head)?;
        if path::has_more_parameters(&target, self.query_parameters) {
            return Err(Refusal::TooManyParameters);
        }
        let Compiled { site, patterns } = &self.sites[index];
        let (rule, ambiguous) = path::first_match(patterns, target.path());
        let target = match rule.and_then(|index| site.rules[index].query.as_ref()) {
            Some(filter) => path::filter_query(target, filter)?,
            None => target,
        };
        let key =
            CacheKey::new(KeyParts { site: &site.name, scheme, host: host.as_str(), path: target.as_str() });
        let passed_by_rule = rule.is_some_and(|index| site.rules[index].pass);
        Ok(Routed {
            object: key.object(),
            key,
            rule,
            target,
            pass: pass_reason(head, passed_by_rule, ambiguous),
            scheme,
            client: if trusted {
                forward::client_address(head.headers, head.from, &self.trusted)
            } else {
                head.from
            },
            peer: head.from,
            version: head.version,
            site: Arc::clone(site),
            host: host.into_value(),
        })
    }

    fn add_host(&mut self, host: &str, index: usize) {
        if host == "*" {
            self.any.get_or_insert(index);
        } else if let Some(suffix) = host.strip_prefix('*') {
            self.suffixes.entry(suffix.to_owned()).or_insert(index);
        } else {
            self.exact.entry(host.to_owned()).or_insert(index);
        }
    }

    /// The first site in the order of the file that has a pattern for `name`. `*.suffix` stands
    /// for any number of labels, at least one.
    fn site_of(&self, name: &str) -> Option<usize> {
        let mut first = self.any;
        let mut keep = |found: Option<&usize>| {
            if let Some(&index) = found {
                first = Some(first.map_or(index, |first| first.min(index)));
            }
        };
        keep(self.exact.get(name));
        if !self.suffixes.is_empty() {
            for (at, _) in name.match_indices('.').filter(|(at, _)| *at > 0) {
                keep(self.suffixes.get(&name[at..]));
            }
        }
        first
    }

    fn site_of_tls_name(&self, name: &str) -> Option<usize> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            self.site_of(&name.to_ascii_lowercase())
        } else {
            self.site_of(name)
        }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        is_trusted(&self.trusted, address)
    }

    fn check_size(&self, head: &Head<'_>) -> Result<(), Refusal> {
        let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
        if target > self.uri_bytes {
            return Err(Refusal::UriTooLong);
        }
        // As on an HTTP/1.1 wire: name, ": ", value, CRLF.
        let bytes: usize =
            head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if head.headers.len() > self.header_count || bytes > self.header_bytes {
            return Err(Refusal::FieldsTooLarge);
        }
        Ok(())
    }
}

/// The scheme by which the client asked. Part of the key, because origins answer by it
/// (redirects to HTTPS): so the origin is told exactly this one.
fn effective_scheme(head: &Head<'_>, trusted: bool) -> Result<Scheme, Refusal> {
    if trusted && let Some(stated) = forward::stated_scheme(head.headers) {
        return Ok(stated);
    }
    match head.uri.scheme_str() {
        None => Ok(head.scheme),
        Some(scheme) if scheme == head.scheme.as_str() => Ok(head.scheme),
        Some("http") if trusted => Ok(Scheme::Http),
        Some("https") if trusted => Ok(Scheme::Https),
        // RFC 9110 §7.4: a secured target on a plain connection, or the reverse.
        Some("http" | "https") => Err(Refusal::Misdirected),
        Some(_) => Err(Refusal::BadTarget),
    }
}

/// The one authority of a request (RFC 9112 §3.2, RFC 9113 §8.3.1).
fn request_host(head: &Head<'_>, scheme: Scheme) -> Result<Authority, Refusal> {
    let mut fields = head.headers.get_all(HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Refusal::DuplicateHost);
    }
    let field = field.map(|value| Authority::from_field(value, scheme)).transpose()?;
    let target = match head.uri.authority() {
        Some(authority) => Some(Authority::parse(authority.as_str(), scheme)?),
        None => None,
    };
    match (target, field) {
        (Some(target), Some(field)) if target != field => Err(Refusal::HostMismatch),
        (Some(authority), _) | (None, Some(authority)) => Ok(authority),
        (None, None) => Err(Refusal::MissingHost),
    }
}

/// Path and query of the target as the origin is sent them, before the query filter.
fn request_target(head: &Head<'_>) -> Result<PathAndQuery, Refusal> {
    let Some(target) = head.uri.path_and_query() else { return Err(Refusal::BadTarget) };
    let text = target.as_str();
    if text == "*" {
        return if head.method == Method::OPTIONS { Ok(target.clone()) } else { Err(Refusal::BadTarget) };
    }
    path::check(text)?;
    if text == "/" {
        // Said anew: to `http` the path `#a` of HTTP/2 is an empty one, which it shows as `/` and sends as nothing.
        return Ok(PathAndQuery::from_static("/"));
    }
    if text.starts_with('/') {
        return Ok(target.clone());
    }
    if head.uri.authority().is_none() || !(text.is_empty() || text.starts_with('?')) {
        return Err(Refusal::BadTarget);
    }
    // RFC 9112 §3.2.1: an absolute form with an empty path is forwarded with the path "/".
    PathAndQuery::try_from(format!("/{text}")).map_err(|_invalid| Refusal::BadTarget)
}

fn pass_reason(head: &Head<'_>, by_rule: bool, ambiguous: bool) -> Option<PassReason> {
    // What leaves the cache out for every method comes first: the answer to a POST may be stored.
    if semantics::hops_left(head.method, head.headers) == Some(0) {
        Some(PassReason::LastHop)
    } else if wants_upgrade(head) {
        Some(PassReason::Upgrade)
    } else if by_rule {
        Some(PassReason::Rule)
    } else if ambiguous {
        Some(PassReason::AmbiguousPath)
    } else if !matches!(*head.method, Method::GET | Method::HEAD) {
        Some(PassReason::Method)
    } else if has_body(head.headers) {
        Some(PassReason::BodyOnGet)
    } else {
        None
    }
}

/// RFC 9110 §7.8: `Upgrade` counts only with the connection option, and only in HTTP/1.1. One to `h2c` is ignored, as
/// it may be: it would tunnel requests past the cache and every rule here.
fn wants_upgrade(head: &Head<'_>) -> bool {
    head.version == Version::HTTP_11
        && head.headers.contains_key(UPGRADE)
        && has_member(head.headers, CONNECTION, b"upgrade")
        && !has_member(head.headers, UPGRADE, b"h2c")
}

/// Whether a list field has a member, in any case.
fn has_member(headers: &HeaderMap, name: HeaderName, member: &[u8]) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|found| found.trim_ascii().eq_ignore_ascii_case(member))
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
}

#[cfg(test)]
mod tests;
