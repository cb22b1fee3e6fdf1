//! Validated configuration: what the rooms read. A value of these types has passed every check,
//! so no room checks again. A reload builds a whole new [`Config`] and swaps it.

use crate::proto::allowance::Rate;
use crate::proto::semantics::CachePolicy;
use crate::proto::swarm::Roles;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Everything that a node was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Identity of the node.
    pub node: Node,
    /// Where clients connect.
    pub listen: Listen,
    /// Sites in the order of the file; the first match wins.
    pub sites: Vec<Arc<Site>>,
    /// Sizes of the tiers and the defaults of what may be stored.
    pub cache: Cache,
    /// Limits on clients.
    pub limits: Limits,
    /// Networks whose forwarding fields (`X-Forwarded-*`, `Forwarded`) and PROXY headers are believed.
    pub trusted: Vec<IpNet>,
    /// Where metrics and probes are served; `None` is nowhere.
    pub metrics: Option<SocketAddr>,
    /// The admin interface; `None` is off.
    pub admin: Option<Admin>,
    /// The fleet; `None` is a single node.
    pub peer: Option<Peer>,
    /// Limits on purges.
    pub purge: Purging,
    /// Logs.
    pub log: Log,
}

impl Config {
    /// Whether `address` is in a network that is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        is_trusted(&self.trusted, address)
    }
}

/// Whether `address` is in one of the networks. An IPv4 address is one however it is written.
pub fn is_trusted(trusted: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|network| network.contains(&address))
}

/// Identity of the node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name in `Cache-Status`, `Via`, logs. A token of RFC 9110 §5.6.2.
    pub name: String,
    /// Failure zone, for choosing near peers.
    pub zone: Option<String>,
    /// What it does in the fleet; an edge unless told otherwise. A node that is no edge serves no clients.
    pub roles: Roles,
    /// Worker threads; at least 1.
    pub workers: usize,
    /// How long a drain may take before connections are cut.
    pub drain_timeout: Duration,
    /// Whether a change of the configuration file is a reload, without being told.
    pub watch_config: bool,
}

/// Where clients connect.
#[derive(Clone, Debug, Default)]
pub struct Listen {
    /// Plain HTTP addresses.
    pub http: Vec<SocketAddr>,
    /// HTTPS addresses.
    pub https: Vec<SocketAddr>,
    /// Those of both to which proxies connect that tell the client's address first (PROXY protocol).
    pub proxy_protocol: Vec<SocketAddr>,
    /// Certificate for HTTPS clients whose name no site's certificate is for.
    pub tls: Option<CertificateFiles>,
}

/// A virtual host with its rules.
#[derive(Clone, Debug)]
pub struct Site {
    /// Name in metrics and in cache keys: the first host unless given.
    pub name: String,
    /// Host patterns, lower case: exact, `*.suffix`, or `*` for any.
    pub hosts: Vec<String>,
    /// The upstream servers.
    pub origin: Arc<OriginGroup>,
    /// Certificate for these hosts, if the site has its own.
    pub tls: Option<CertificateFiles>,
    /// What may be stored, unless a rule says otherwise.
    pub policy: CachePolicy,
    /// Whether responses are shared in the fleet, unless a rule says otherwise.
    pub peers: bool,
    /// Who may purge by requests to the site.
    pub purge: SitePurging,
    /// Request fields that tell the origin who the client is, in lower case and with `-` for `_`: taken from trusted
    /// networks alone.
    pub identity_fields: Vec<String>,
    /// Path rules in order; the first match wins.
    pub rules: Vec<Rule>,
}

/// Limits on purges that are asked of this node, by whatever way.
#[derive(Clone, Copy, Debug)]
pub struct Purging {
    /// Calls in the long run.
    pub rate: Rate,
    /// Calls at once; at least what one call can cost.
    pub burst: u32,
}

/// Purges by requests to a site (`PURGE` and its like).
#[derive(Clone, Debug, Default)]
pub struct SitePurging {
    /// Whether such requests are obeyed; else they are forwarded like any other. If they are, `networks` or `token_file` is set.
    pub methods: bool,
    /// Networks of those who may; empty is all.
    pub networks: Vec<IpNet>,
    /// File with the token that they must show; `None` is none.
    pub token_file: Option<PathBuf>,
    /// Whether clients see the fields that carry tags.
    pub expose_tags: bool,
}

/// A rule for some paths of a site.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Path pattern: exact, or a prefix ending in `*`.
    pub path: String,
    /// Never store, always forward.
    pub pass: bool,
    /// What may be stored under this rule.
    pub policy: CachePolicy,
    /// Query parameters kept in key and forwarded request; `None` keeps all.
    pub query: Option<QueryFilter>,
    /// Whether requests with `Cookie` may share a fill before a response was seen to be cacheable.
    pub coalesce_cookies: bool,
    /// Whether responses under this rule are shared in the fleet.
    pub peers: bool,
}

/// Which query parameters are part of the key and of the forwarded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryFilter {
    /// Only these.
    Only(Vec<String>),
    /// All but these.
    Except(Vec<String>),
}

/// The upstream servers of a site.
#[derive(Clone, Debug)]
pub struct OriginGroup {
    /// The servers; at least one.
    pub servers: Vec<OriginServer>,
    /// How one is chosen.
    pub balance: Balance,
    /// The `Host` that the origin sees: the client's if `None`.
    pub host: Option<String>,
    /// Whether HTTPS certificates of the origin are checked.
    pub tls_verify: bool,
    /// Trust anchors in PEM instead of the system's.
    pub tls_ca: Option<PathBuf>,
    /// Whether to speak HTTP/2: to `https` origins by ALPN, to `http` origins with prior knowledge.
    pub http2: bool,
    /// Time to connect, TLS included.
    pub connect_timeout: Duration,
    /// Time from the sent request head to the response head.
    pub first_byte_timeout: Duration,
    /// Longest silence within a response body.
    pub between_bytes_timeout: Duration,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// Idle connections kept for each server and worker.
    pub idle_max: usize,
    /// Connections to each server at most, over all workers.
    pub connections_max: usize,
    /// Tries on other servers after a failure that allows one.
    pub retries: u32,
    /// Consecutive failures after which a server is avoided.
    pub fail_max: u32,
    /// How long it is avoided at first; doubles up to 30 times this.
    pub fail_timeout: Duration,
}

/// One upstream server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OriginServer {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Name or address literal, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// How a server is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// In turn.
    RoundRobin,
    /// The one with the fewest requests in progress.
    LeastConnections,
}

/// Sizes of the tiers.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Bytes of memory for stored bodies and heads.
    pub memory: u64,
    /// Disk folders; at most one in this version.
    pub disks: Vec<Disk>,
}

/// A folder of the disk tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The folder; made if missing.
    pub path: PathBuf,
    /// Bytes that everything in it may take.
    pub size: u64,
}

/// Certificate and key in PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateFiles {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// Limits on clients; defaults in `defaults.toml`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Time for a whole request head.
    pub header_timeout: Duration,
    /// How long a connection may wait for its next request.
    pub keepalive_timeout: Duration,
    /// Longest silence while a client sends a body or takes a response.
    pub idle_timeout: Duration,
    /// Bytes per second of a request body, at least, in the mean over `idle_timeout` of waiting for it; 0 is any.
    pub body_rate: u64,
    /// Bytes per second of a response that its client takes, at least, likewise; 0 is any.
    pub response_rate: u64,
    /// Bytes of a request head.
    pub header_bytes: usize,
    /// Fields of a request head.
    pub header_count: usize,
    /// Bytes of a request target.
    pub uri_bytes: usize,
    /// Parameters of a query.
    pub query_parameters: usize,
    /// Bytes of a request body; 0 is no limit.
    pub body_bytes: u64,
    /// Requests on one connection before it is closed.
    pub requests_per_connection: u64,
    /// Age at which a connection is closed after its current request.
    pub connection_age: Duration,
    /// Client connections over all listeners.
    pub connections: usize,
    /// Client connections from one address (IPv6: one /64), enforced while more than half of `connections` are open,
    /// on all but trusted networks.
    pub connections_per_ip: usize,
    /// Concurrent streams of an HTTP/2 connection.
    pub http2_streams: u32,
}

/// The admin interface.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it listens; not loopback only with a token.
    pub listen: SocketAddr,
    /// File with the bearer token.
    pub token_file: Option<PathBuf>,
}

/// How a node takes part in a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// UDP address on which peers connect, and from which this node connects.
    pub listen: SocketAddr,
    /// Address that others are told, as `ip:port` or `host:port`; `listen` if `None`.
    pub advertise: Option<String>,
    /// `host:port` of nodes to begin with. A host may have many addresses (headless Service), and a name that
    /// begins with `_` is looked up as SRV, without a port.
    pub seeds: Vec<String>,
    /// Certificate of the cluster's authority.
    pub ca: PathBuf,
    /// Where the node's own certificate comes from.
    pub credentials: Credentials,
    /// Holdings that the directory of a superpeer keeps at most.
    pub directory_max: usize,
}

/// Where a node's certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// From files made by `shoal cert node`, read again when they change.
    Files(CertificateFiles),
    /// From a superpeer, which is shown this file's token (`shoal cert token`).
    Token(PathBuf),
    /// Made by the node itself, with the authority's key: for superpeers, which then enrol others.
    Authority {
        /// The authority's private key.
        ca_key: PathBuf,
    },
}

/// Logs.
#[derive(Clone, Debug)]
pub struct Log {
    /// Filter of the diagnostic log, in `tracing` directives.
    pub filter: String,
    /// Diagnostic log as JSON lines.
    pub json: bool,
    /// The access log.
    pub access: AccessLog,
    /// Format of the access log.
    pub access_format: AccessFormat,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Appended to a file, opened anew on reload.
    File(PathBuf),
}

/// Format of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// One JSON object a line.
    Json,
    /// The combined log format of Apache and nginx.
    Combined,
}
