//! The raw shape of each section and what it must mean, a file per section.
//!
//! A raw shape has a field for each key, in the types that the layers are read into. Its `Default`
//! is a placeholder for a layer that does not set the key: `defaults.toml` has the real ones.

mod admin;
mod cache;
mod limits;
mod listen;
mod log;
mod node;
mod origin;
mod peer;
mod purge;
mod site;

use super::model::Config;
use super::scalar::Network;
use super::tree::Node;
use super::{Mistake, Source};
use schemars::JsonSchema;
use serde::Deserialize;
use std::net::SocketAddr;

/// Configuration of a Shoal node.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "Shoal")]
pub(super) struct RawConfig {
    /// Identity of the node.
    node: node::RawNode,
    /// Where clients connect. With neither `http` nor `https`: 127.0.0.1:8080.
    listen: listen::RawListen,
    /// The websites, in order; the first that has a request's host answers it.
    site: Vec<site::RawSite>,
    /// Sizes of the cache and what it may store.
    cache: cache::RawCache,
    /// Metrics and probes. Off unless `listen` is set.
    metrics: admin::RawMetrics,
    /// Admin interface. Off unless `listen` is set.
    admin: admin::RawAdmin,
    /// Limits on clients.
    limits: limits::RawLimits,
    /// The fleet. Off unless `listen` is set.
    peer: peer::RawPeer,
    /// Limits on purges that are asked of this node, by whatever way.
    purge: purge::RawPurge,
    /// Logs.
    log: log::RawLog,
    /// Networks of load balancers and proxies in front of this node. What they say of the client is believed: who it is, its
    /// address in `X-Forwarded-For` or, without that, `Forwarded`, its scheme in `X-Forwarded-Proto`, and the PROXY headers at
    /// `listen.proxy_protocol`. From anyone else it is dropped. A proxy in them must set or remove `X-Forwarded-For`.
    trusted_networks: Vec<Network>,
}

/// Turns the shapes into what the rooms read.
///
/// # Errors
/// Everything that is wrong in meaning. `tree` is what `raw` was read from, for the sources.
pub(super) fn validate(raw: RawConfig, tree: &Node) -> Result<Config, Vec<Mistake>> {
    let mut check = Check { tree, mistakes: Vec::new() };
    let check_mut = &mut check;
    let policy = raw.cache.policy();
    let node = raw.node.validate(check_mut);
    let has_trusted = !raw.trusted_networks.is_empty();
    let config = Config {
        sites: site::validate(raw.site, &policy, node.roles, check_mut),
        cache: raw.cache.validate(check_mut),
        limits: raw.limits.validate(check_mut),
        trusted: raw.trusted_networks.into_iter().map(|network| network.0).collect(),
        metrics: raw.metrics.validate(),
        admin: raw.admin.validate(check_mut),
        peer: raw.peer.validate(&node, check_mut),
        purge: raw.purge.validate(check_mut),
        log: raw.log.validate(check_mut),
        listen: raw.listen.validate(node.roles, has_trusted, check_mut),
        node,
    };
    check_listeners(&config, check_mut);
    if check.mistakes.is_empty() { Ok(config) } else { Err(check.mistakes) }
}

/// Where validation writes down what is wrong.
struct Check<'a> {
    tree: &'a Node,
    mistakes: Vec<Mistake>,
}

impl Check<'_> {
    fn mistake(&mut self, key: impl Into<String>, what: impl Into<String>) {
        let key = key.into();
        let source = self.source(&key);
        self.mistakes.push(Mistake { source, key, what: what.into() });
    }

    /// Notes it if `is_right` is false.
    fn require(&mut self, is_right: bool, key: &str, what: impl Into<String>) {
        if !is_right {
            self.mistake(key, what);
        }
    }

    /// Who wrote the key, or else what surrounds it.
    fn source(&self, key: &str) -> Option<Source> {
        let mut path = key;
        loop {
            if let Some(node) = self.tree.at(path) {
                return Some(node.author().clone()).filter(|source| *source != Source::Default);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}

/// Listeners that need what nobody gave, or that stand on one another's address.
fn check_listeners(config: &Config, check: &mut Check<'_>) {
    let secure = config.node.roles.edge && !config.listen.https.is_empty();
    if secure && config.sites.iter().all(|site| site.tls.is_none()) {
        check.mistake(
            "listen.https",
            "no site has a certificate: give `tls` in a site, or --tls-cert and --tls-key",
        );
    }
    let http =
        config.listen.http.iter().enumerate().map(|(index, at)| (format!("listen.http[{index}]"), *at));
    let https =
        config.listen.https.iter().enumerate().map(|(index, at)| (format!("listen.https[{index}]"), *at));
    let metrics = config.metrics.map(|at| ("metrics.listen".to_owned(), at));
    let admin = config.admin.as_ref().map(|admin| ("admin.listen".to_owned(), admin.listen));
    let mut seen: Vec<(String, SocketAddr)> = Vec::new();
    for (key, at) in http.chain(https).chain(metrics).chain(admin) {
        // Port 0 takes a free port each time.
        match seen.iter().find(|(_, other)| *other == at && at.port() != 0) {
            Some((other, _)) => check.mistake(key, format!("{at} is already the address of {other}")),
            None => seen.push((key, at)),
        }
    }
}
