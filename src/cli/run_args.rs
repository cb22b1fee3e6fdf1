//! The flags of a node: `shoal run`, and everything that looks at the same configuration.

use crate::config::{Flag, FlagValue, Sources};
use std::path::PathBuf;

/// Flags that say what a node does. Each is checked as the key that it sets, so that the same
/// words are right and wrong in a file, in the environment and here.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RunArgs {
    /// Configuration file: TOML, or YAML by its extension
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name of the node [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Failure zone of the node
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,
    /// What the node does: edge or superpeer; may be repeated [default: edge]
    #[arg(long, value_name = "ROLE")]
    pub role: Vec<String>,
    /// Address for HTTP; may be repeated [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<String>,
    /// Address for HTTPS; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub listen_tls: Vec<String>,
    /// Certificate chain of the site, in PEM
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<String>,
    /// Private key of the site, in PEM
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<String>,
    /// URL of the origin; repeated for several servers of one origin
    #[arg(long, value_name = "URL")]
    pub origin: Vec<String>,
    /// Address of the admin interface [default: off]
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
    /// Address of metrics and probes [default: off]
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<String>,
    /// Memory of the cache; 1MiB is 1048576 bytes, 1MB is 1000000 [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    pub cache_memory: Option<String>,
    /// Folder of the disk cache [default: none]
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<String>,
    /// What the folder may take [default: 10GiB]
    #[arg(long, value_name = "SIZE")]
    pub cache_disk: Option<String>,
    /// Worker threads [default: the cores]
    #[arg(long, value_name = "N")]
    pub workers: Option<String>,
    /// What is stored: explicit, or as the RFC allows: rfc [default: explicit]
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<String>,
    /// Access log: a file, - for standard output, or off [default: off]
    #[arg(long, value_name = "PATH|-|off", allow_hyphen_values = true)]
    pub access_log: Option<String>,
    /// UDP address of the node in the fleet [default: no fleet]
    #[arg(long, value_name = "ADDR")]
    pub peer_listen: Option<String>,
    /// Address by which others reach it, if it is another
    #[arg(long, value_name = "HOST:PORT")]
    pub peer_advertise: Option<String>,
    /// Another node of the fleet; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    pub peer_seed: Vec<String>,
    /// Certificate of the fleet's authority, in PEM
    #[arg(long, value_name = "FILE")]
    pub peer_ca: Option<String>,
    /// Certificate of the node, in PEM
    #[arg(long, value_name = "FILE")]
    pub peer_cert: Option<String>,
    /// Private key of the node, in PEM
    #[arg(long, value_name = "FILE")]
    pub peer_key: Option<String>,
    /// Instead of a certificate: a join token, in a file
    #[arg(long, value_name = "FILE")]
    pub peer_token_file: Option<String>,
    /// Instead of a certificate, on a superpeer: private key of the fleet's authority, in PEM
    #[arg(long, value_name = "FILE")]
    pub peer_ca_key: Option<String>,
}

impl RunArgs {
    /// Where the configuration comes from, this process's environment and machine included.
    pub fn sources(&self) -> Sources {
        Sources::of_process(self.config.clone(), self.flags())
    }

    /// The keys that these flags set.
    pub fn flags(&self) -> Vec<Flag> {
        let lists = [
            ("--listen", "listen.http", &self.listen),
            ("--listen-tls", "listen.https", &self.listen_tls),
            ("--origin", "site[0].origins", &self.origin),
            ("--role", "node.roles", &self.role),
            ("--peer-seed", "peer.seeds", &self.peer_seed),
        ];
        let values = [
            ("--tls-cert", "site[0].tls.cert", &self.tls_cert),
            ("--tls-key", "site[0].tls.key", &self.tls_key),
            ("--admin", "admin.listen", &self.admin),
            ("--metrics", "metrics.listen", &self.metrics),
            ("--cache-memory", "cache.memory", &self.cache_memory),
            ("--cache-dir", "cache.disk[0].path", &self.cache_dir),
            ("--cache-disk", "cache.disk[0].size", &self.cache_disk),
            ("--workers", "node.workers", &self.workers),
            ("--profile", "cache.profile", &self.profile),
            ("--access-log", "log.access", &self.access_log),
            ("--name", "node.name", &self.name),
            ("--zone", "node.zone", &self.zone),
            ("--peer-listen", "peer.listen", &self.peer_listen),
            ("--peer-advertise", "peer.advertise", &self.peer_advertise),
            ("--peer-ca", "peer.ca", &self.peer_ca),
            ("--peer-cert", "peer.cert", &self.peer_cert),
            ("--peer-key", "peer.key", &self.peer_key),
            ("--peer-token-file", "peer.join_token_file", &self.peer_token_file),
            ("--peer-ca-key", "peer.ca_key", &self.peer_ca_key),
        ];
        let lists = lists.into_iter().filter(|(_, _, values)| !values.is_empty());
        let lists =
            lists.map(|(name, key, values)| Flag { name, key, value: FlagValue::Many(values.clone()) });
        let values = values
            .into_iter()
            .filter_map(|(name, key, value)| Some(Flag { name, key, value: FlagValue::One(value.clone()?) }));
        lists.chain(values).collect()
    }
}
