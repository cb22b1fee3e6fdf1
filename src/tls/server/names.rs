//! Which certificate for which server name.

use super::{DEFAULT, Entry};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A snapshot of all names.
#[derive(Default)]
pub(super) struct Names {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By the part behind `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
    /// By site name, in seconds since the epoch.
    pub(super) expiries: Vec<(String, i64)>,
}

impl Names {
    /// Hosts of sites come first, in their order; then the names that certificates are for, so that
    /// a site without a certificate is served by one that covers it. Without `listen.tls`, clients
    /// that match nothing see the certificate of the site for any host, or the first.
    pub(super) fn new(entries: &[Entry]) -> Self {
        let mut names = Self::default();
        for entry in entries {
            for host in entry.source.hosts.iter().filter(|host| *host != "*") {
                if !entry.certificate.covers(host) {
                    tracing::warn!(site = entry.source.name, host, "certificate is not for this host");
                }
                names.add(host, entry);
            }
        }
        for entry in entries {
            for name in &entry.certificate.names {
                names.add(name, entry);
            }
        }
        let default = entries
            .iter()
            .find(|entry| entry.source.name == DEFAULT)
            .or_else(|| entries.iter().find(|entry| entry.source.hosts.iter().any(|host| host == "*")))
            .or_else(|| entries.first());
        let expiry = |entry: &Entry| (entry.source.name.clone(), entry.certificate.not_after);
        names.expiries = entries.iter().map(expiry).collect();
        names.default = default.map(|entry| entry.certificate.key.clone());
        names
    }

    /// The certificate for a client that asked for `name`: exact, else by the longest wildcard,
    /// else the default.
    pub(super) fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        name.and_then(|name| self.named(&name.to_ascii_lowercase())).or(self.default.as_ref()).cloned()
    }

    fn named(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        if let Some(key) = self.exact.get(name) {
            return Some(key);
        }
        // A server name has at most 127 labels.
        let parents = std::iter::successors(Some(name), |name| Some(name.split_once('.')?.1));
        parents.skip(1).find_map(|parent| self.wildcard.get(parent))
    }

    fn add(&mut self, name: &str, entry: &Entry) {
        let (map, name) = match name.strip_prefix("*.") {
            Some(parent) => (&mut self.wildcard, parent),
            None => (&mut self.exact, name),
        };
        map.entry(name.to_owned()).or_insert_with(|| entry.certificate.key.clone());
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names")
            .field("exact", &self.exact.keys())
            .field("wildcard", &self.wildcard.keys())
            .finish_non_exhaustive()
    }
}
