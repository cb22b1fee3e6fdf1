//! `[[site]]` and `[[site.rules]]`

use super::cache::RawPolicy;
use super::purge::RawSitePurge;
use super::{Check, origin};
use crate::config::model::{Balance, CertificateFiles, OriginGroup, QueryFilter, Rule, Site};
use crate::config::scalar::Period;
use crate::proto::authority::{Authority, normal_host};
use crate::proto::key::Scheme;
use crate::proto::semantics::CachePolicy;
use crate::proto::swarm::Roles;
use http::HeaderName;
use http::header::{COOKIE, HOST};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A website.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Site")]
pub(super) struct RawSite {
    /// Name in metrics and cache keys. Default: the first host, or `default` for `*`.
    name: String,
    /// Host names: exact, `*.example.com` for all names below, or `*` for any.
    hosts: Vec<String>,
    /// The origin's servers, as `http://host:port` or `https://host:port`.
    origins: Vec<String>,
    /// Certificate that clients see.
    tls: Option<RawTls>,
    /// `Host` that the origin sees. Default: the client's.
    origin_host: Option<String>,
    /// How a server is chosen for a request.
    balance: RawBalance,
    /// Time to connect to a server, TLS included.
    #[schemars(extend("x-bounds" = "more than 0"))]
    connect_timeout: Period,
    /// Time from a sent request to the head of the response.
    #[schemars(extend("x-bounds" = "more than 0"))]
    first_byte_timeout: Period,
    /// Longest silence within a response.
    #[schemars(extend("x-bounds" = "more than 0"))]
    between_bytes_timeout: Period,
    /// How long an idle connection to a server is kept; less than the server keeps it.
    idle_timeout: Period,
    /// Idle connections kept for each server and worker.
    idle_max: usize,
    /// Connections to each server at most.
    #[schemars(extend("x-bounds" = "at least 1"))]
    connections_max: usize,
    /// Tries on other servers after a failure that allows one.
    #[schemars(extend("x-bounds" = "at most 16"))]
    retries: u32,
    /// Consecutive failures after which a server is avoided.
    #[schemars(extend("x-bounds" = "at least 1"))]
    fail_max: u32,
    /// How long a failing server is avoided at first; doubles up to 30 times this.
    #[schemars(extend("x-bounds" = "more than 0"))]
    fail_timeout: Period,
    /// Whether to speak HTTP/2 to the origin: by ALPN with https, with prior knowledge with http.
    origin_http2: bool,
    /// Whether the certificates of https origins are checked.
    origin_tls_verify: bool,
    /// File with trust anchors in PEM for https origins, instead of the system's.
    origin_tls_ca: Option<PathBuf>,
    /// Whether responses are shared in the fleet. If not, they never leave this node, and it never asks others for them.
    peers: bool,
    /// Fields of requests in which a proxy before this node tells the origin who the client is, beside the usual ones
    /// (`Remote-User`, `X-Forwarded-User`, `X-Auth-Request-*` and their like). They are taken from `trusted_networks`
    /// alone, and dropped from anyone else.
    identity_fields: Vec<String>,
    /// What may be stored of this site.
    cache: RawPolicy,
    /// Purges by requests of the site's own system. Off unless `methods` is set.
    purge: RawSitePurge,
    /// Rules for some paths, in order; the first match wins.
    rules: Vec<RawRule>,
}

/// Certificate files in PEM.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Tls")]
pub(super) struct RawTls {
    /// Certificate chain.
    cert: Option<PathBuf>,
    /// Private key.
    key: Option<PathBuf>,
}

/// How a server is chosen.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Balance")]
enum RawBalance {
    /// In turn.
    #[default]
    RoundRobin,
    /// The one with the fewest requests in progress.
    LeastConnections,
}

/// A rule for some paths of a site.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Rule")]
pub(super) struct RawRule {
    /// Path, exact (`/search`) or a prefix ending in `*` (`/api/*`). Without the query.
    path: String,
    /// Never store, always forward.
    pass: bool,
    /// Query parameters that count; all if not set.
    query: Option<RawQuery>,
    /// What may be stored under this rule.
    cache: RawPolicy,
    /// Whether requests with cookies may wait for one another's answer before one was seen to be
    /// cacheable.
    coalesce_cookies: bool,
    /// As `peers` of the site, for these paths. Default: as the site says.
    peers: Option<bool>,
}

/// Query parameters that are part of the cache key and sent to the origin. Set one of the two.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Query")]
struct RawQuery {
    /// Only these.
    only: Option<Vec<String>>,
    /// All but these.
    except: Option<Vec<String>>,
}

/// All sites; `base` is the policy of `[cache]`. A node that is no edge has none.
pub(super) fn validate(
    raw: Vec<RawSite>,
    base: &CachePolicy,
    roles: Roles,
    check: &mut Check<'_>,
) -> Vec<Arc<Site>> {
    if !roles.edge && !raw.is_empty() {
        check.mistake(
            "site",
            "a node that is no edge serves no site: add \"edge\" to node.roles, or leave sites and --origin out",
        );
        return Vec::new();
    }
    if roles.edge && raw.is_empty() {
        check.mistake(
            "site",
            "no site and no origin: give --origin http://127.0.0.1:8000, or a [[site]] with hosts and origins",
        );
    }
    let mut sites = Vec::with_capacity(raw.len());
    for (index, site) in raw.into_iter().enumerate() {
        sites.push(Arc::new(site.validate(&format!("site[{index}]"), base, check)));
    }
    check_unique(&sites, check);
    sites
}

impl RawSite {
    fn validate(mut self, key: &str, base: &CachePolicy, check: &mut Check<'_>) -> Site {
        let is_name = !self.name.is_empty()
            && self.name.len() <= 253
            && self.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._*[]:".contains(&byte));
        if !self.hosts.is_empty() {
            check.require(is_name, &format!("{key}.name"), "expected letters, digits, `-`, `.` or `_`");
        }
        check.require(
            !self.hosts.is_empty(),
            &format!("{key}.hosts"),
            "missing: expected host names, or \"*\" for any",
        );
        let hosts = self.hosts.iter().enumerate().filter_map(|(index, host)| {
            normal_pattern(host).map_err(|what| check.mistake(format!("{key}.hosts[{index}]"), what)).ok()
        });
        let hosts = hosts.collect();
        let mut policy = self.cache.clone().over(base, &format!("{key}.cache"), check);
        let purge = std::mem::take(&mut self.purge).validate(&format!("{key}.purge"), check);
        policy.expose_tags = purge.expose_tags;
        let rules = self.rules.iter().enumerate();
        let rules = rules
            .map(|(index, rule)| rule.validate(&format!("{key}.rules[{index}]"), &policy, self.peers, check));
        let rules = rules.collect();
        let tls = self.tls.as_ref().and_then(|tls| tls.validate(&format!("{key}.tls"), check));
        let identity_fields = identity_fields(&self.identity_fields, key, check);
        Site {
            name: self.name.clone(),
            hosts,
            tls,
            policy,
            peers: self.peers,
            purge,
            identity_fields,
            rules,
            origin: self.origin_group(key, check).into(),
        }
    }

    fn origin_group(self, key: &str, check: &mut Check<'_>) -> OriginGroup {
        let missing = "missing: expected URLs such as \"http://127.0.0.1:8000\"";
        check.require(!self.origins.is_empty(), &format!("{key}.origins"), missing);
        let mut servers = Vec::with_capacity(self.origins.len());
        for (index, url) in self.origins.iter().enumerate() {
            match origin::parse(url) {
                Ok(server) if servers.contains(&server) => {
                    check.mistake(format!("{key}.origins[{index}]"), "the same server twice");
                }
                Ok(server) => servers.push(server),
                Err(what) => check.mistake(format!("{key}.origins[{index}]"), what),
            }
        }
        self.check_ranges(key, check);
        if let Some(host) = &self.origin_host {
            let is_authority = Authority::parse(host, Scheme::Http).is_ok();
            check.require(
                is_authority,
                &format!("{key}.origin_host"),
                "expected a host name, with or without port",
            );
        }
        OriginGroup {
            servers,
            balance: match self.balance {
                RawBalance::RoundRobin => Balance::RoundRobin,
                RawBalance::LeastConnections => Balance::LeastConnections,
            },
            host: self.origin_host,
            tls_verify: self.origin_tls_verify,
            tls_ca: self.origin_tls_ca,
            http2: self.origin_http2,
            connect_timeout: self.connect_timeout.0,
            first_byte_timeout: self.first_byte_timeout.0,
            between_bytes_timeout: self.between_bytes_timeout.0,
            idle_timeout: self.idle_timeout.0,
            idle_max: self.idle_max,
            connections_max: self.connections_max,
            retries: self.retries,
            fail_max: self.fail_max,
            fail_timeout: self.fail_timeout.0,
        }
    }

    fn check_ranges(&self, key: &str, check: &mut Check<'_>) {
        for (name, period) in [
            ("connect_timeout", self.connect_timeout),
            ("first_byte_timeout", self.first_byte_timeout),
            ("between_bytes_timeout", self.between_bytes_timeout),
            ("fail_timeout", self.fail_timeout),
        ] {
            check.require(!period.0.is_zero(), &format!("{key}.{name}"), "must be longer than 0");
        }
        check.require(self.connections_max >= 1, &format!("{key}.connections_max"), "expected at least 1");
        check.require(self.fail_max >= 1, &format!("{key}.fail_max"), "expected at least 1");
        check.require(self.retries <= 16, &format!("{key}.retries"), "expected at most 16");
    }
}

impl RawTls {
    fn validate(&self, key: &str, check: &mut Check<'_>) -> Option<CertificateFiles> {
        check.require(self.cert.is_some(), &format!("{key}.cert"), "missing: a key needs its certificate");
        check.require(self.key.is_some(), &format!("{key}.key"), "missing: a certificate needs its key");
        Some(CertificateFiles { cert: self.cert.clone()?, key: self.key.clone()? })
    }
}

impl RawRule {
    fn validate(&self, key: &str, base: &CachePolicy, peers: bool, check: &mut Check<'_>) -> Rule {
        if let Err(what) = check_path(&self.path) {
            check.mistake(format!("{key}.path"), what);
        }
        Rule {
            path: self.path.clone(),
            pass: self.pass,
            policy: self.cache.clone().over(base, &format!("{key}.cache"), check),
            query: self.query.as_ref().and_then(|query| query.validate(&format!("{key}.query"), check)),
            coalesce_cookies: self.coalesce_cookies,
            peers: self.peers.unwrap_or(peers),
        }
    }
}

impl RawQuery {
    fn validate(&self, key: &str, check: &mut Check<'_>) -> Option<QueryFilter> {
        let filter = match (&self.only, &self.except) {
            (Some(names), None) => QueryFilter::Only(names.clone()),
            (None, Some(names)) => QueryFilter::Except(names.clone()),
            _ => {
                check.mistake(key, "expected one of `only` and `except`");
                return None;
            }
        };
        let (QueryFilter::Only(names) | QueryFilter::Except(names)) = &filter;
        let is_name = |name: &String| !name.is_empty() && !name.contains(['&', '=', '#', ' ']);
        check.require(names.iter().all(is_name), key, "a parameter's name has no `&`, `=`, `#` or space");
        Some(filter)
    }
}

/// Names as they are compared; one that a request cannot do without is a mistake.
fn identity_fields(names: &[String], site: &str, check: &mut Check<'_>) -> Vec<String> {
    let fields = names.iter().enumerate().filter_map(|(index, name)| match HeaderName::try_from(name) {
        Ok(name) if name != HOST && name != COOKIE => Some(name.as_str().replace('_', "-")),
        _ => {
            check.mistake(
                format!("{site}.identity_fields[{index}]"),
                "expected the name of a request field, neither Host nor Cookie",
            );
            None
        }
    });
    fields.collect()
}

/// A host pattern in lower case.
fn normal_pattern(pattern: &str) -> Result<String, String> {
    if pattern == "*" {
        return Ok(pattern.to_owned());
    }
    let (star, name) = pattern.strip_prefix("*.").map_or(("", pattern), |name| ("*.", name));
    match normal_host(name) {
        Ok(name) => Ok(format!("{star}{name}")),
        Err(_) if !name.is_ascii() => Err("expected the ASCII form of the name (\"xn--...\")".to_owned()),
        Err(_) if name.contains("://") => Err("expected a host name, not a URL".to_owned()),
        Err(_) if name.contains(':') => Err("a host pattern has no port".to_owned()),
        Err(_) => Err("expected a host name, `*.` and a host name, or `*`".to_owned()),
    }
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if !path.starts_with('/') {
        return Err("expected a path that begins with `/`");
    }
    if path.strip_suffix('*').unwrap_or(path).contains('*') {
        return Err("`*` stands only at the end");
    }
    if path.contains(['?', '#']) {
        return Err("a path pattern has no query");
    }
    if path.bytes().any(|byte| byte.is_ascii_control() || b" ;\\".contains(&byte)) {
        return Err("a path pattern has no spaces, control characters, `;` or `\\`");
    }
    // The start of a prefix's last segment may be anything, the end of an exact path a slash.
    let (directory, last) = path.rsplit_once('/').unwrap_or_default();
    let is_resolved = |segment: &str| !matches!(segment, "" | "." | "..");
    if !directory.split('/').skip(1).all(is_resolved) || matches!(last, "." | "..") {
        return Err("a path pattern has no empty, `.` or `..` segments");
    }
    Ok(())
}

/// Names mark cache keys and metrics, and a host in two sites would never reach the second.
fn check_unique(sites: &[Arc<Site>], check: &mut Check<'_>) {
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut hosts: HashMap<&str, usize> = HashMap::new();
    for (index, site) in sites.iter().enumerate() {
        if let Some(other) = names.insert(&site.name, index) {
            check.mistake(
                format!("site[{index}].name"),
                format!("\"{}\" is already the name of site[{other}]", site.name),
            );
        }
        for host in &site.hosts {
            if let Some(other) = hosts.insert(host, index) {
                check.mistake(
                    format!("site[{index}].hosts"),
                    format!("\"{host}\" is already a host of site[{other}]"),
                );
            }
        }
    }
}
