//! `[peer]`

use super::Check;
use crate::config::model::{CertificateFiles, Credentials, Node, Peer};
use crate::config::scalar::Address;
use crate::proto::authority::normal_host;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;

/// What a place of a node looks like, for messages.
const EXPECTED: &str = "expected an address or a name with its port, as in \"10.0.0.1:7400\"";

/// The fleet: nodes that fetch from one another what they can, and from the origin only what none of them has.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Peer")]
pub(super) struct RawPeer {
    /// UDP address on which other nodes connect to this one, and from which it connects to them.
    listen: Option<Address>,
    /// `host:port` by which others reach this node, if it is not `listen`: in a container, behind NAT, or with `listen`
    /// on all addresses. Default: `listen`.
    advertise: Option<String>,
    /// `host:port` of some other nodes, superpeers at best: the rest is learned from them. All addresses of a name
    /// count; a name that begins with `_` is looked up as SRV and has no port.
    seeds: Vec<String>,
    /// Certificate of the fleet's authority (`shoal cert ca`), in PEM.
    ca: Option<PathBuf>,
    /// The node's certificate (`shoal cert node`), in PEM; with `key`. Or give `join_token_file`, or `ca_key`.
    cert: Option<PathBuf>,
    /// The node's private key.
    key: Option<PathBuf>,
    /// File with a join token (`shoal cert token`), for which a superpeer with `ca_key` gives this node its certificate.
    join_token_file: Option<PathBuf>,
    /// Private key of the fleet's authority, on a superpeer: it makes its own certificate and those of nodes that show
    /// a join token.
    ca_key: Option<PathBuf>,
    /// Stored responses that the directory of a superpeer keeps track of, each counted for each node that has it.
    #[schemars(extend("x-bounds" = "at least 1"))]
    directory_max: usize,
}

impl RawPeer {
    pub(super) fn validate(self, node: &Node, check: &mut Check<'_>) -> Option<Peer> {
        self.check_places(check);
        check.require(self.directory_max >= 1, "peer.directory_max", "expected at least 1");
        let Some(listen) = self.listen else {
            self.check_unused(node, check);
            return None;
        };
        check.require(
            self.ca.is_some(),
            "peer.ca",
            "missing: the certificate of the fleet's authority; `shoal cert ca` makes one",
        );
        let credentials = self.credentials(node, check);
        Some(Peer {
            listen: listen.0,
            advertise: self.advertise,
            seeds: self.seeds,
            ca: self.ca?,
            credentials: credentials?,
            directory_max: self.directory_max,
        })
    }

    /// Without `listen` there is no fleet, and nothing may speak of one.
    fn check_unused(&self, node: &Node, check: &mut Check<'_>) {
        let paths = [&self.ca, &self.cert, &self.key, &self.join_token_file, &self.ca_key];
        if self.advertise.is_some() || !self.seeds.is_empty() || paths.iter().any(|path| path.is_some()) {
            check.mistake(
                "peer.listen",
                "missing: the UDP address of this node in the fleet, such as \"0.0.0.0:7400\"",
            );
        } else if node.roles.superpeer {
            check.mistake(
                "node.roles",
                "a superpeer is part of a fleet: set peer.listen and what goes with it",
            );
        }
    }

    fn check_places(&self, check: &mut Check<'_>) {
        let is_everywhere = self.listen.as_ref().is_some_and(|listen| listen.0.ip().is_unspecified());
        if is_everywhere && self.advertise.is_none() {
            check.mistake(
                "peer.advertise",
                "missing: with peer.listen on all addresses, others must be told one of them",
            );
        }
        if let Some(place) = &self.advertise
            && let Err(what) = check_place(place)
        {
            check.mistake("peer.advertise", what);
        }
        for (index, seed) in self.seeds.iter().enumerate() {
            let checked = if seed.starts_with('_') { check_service(seed) } else { check_place(seed) };
            if let Err(what) = checked {
                check.mistake(format!("peer.seeds[{index}]"), what);
            }
        }
    }

    fn credentials(&self, node: &Node, check: &mut Check<'_>) -> Option<Credentials> {
        let has_files = self.cert.is_some() || self.key.is_some();
        let given = [
            ("cert", has_files),
            ("join_token_file", self.join_token_file.is_some()),
            ("ca_key", self.ca_key.is_some()),
        ];
        let given: Vec<&str> = given.into_iter().filter_map(|(key, is)| is.then_some(key)).collect();
        match given[..] {
            [] => {
                let what = "the node has no certificate: give `cert` and `key`, or `join_token_file`, or on a superpeer `ca_key`";
                check.mistake("peer", what);
            }
            [one] => return self.only(one, node, check),
            [first, second, ..] => {
                let what =
                    format!("the node's certificate comes from `{first}` already: give one of the two");
                check.mistake(format!("peer.{second}"), what);
            }
        }
        None
    }

    /// The credentials of this one kind.
    fn only(&self, kind: &str, node: &Node, check: &mut Check<'_>) -> Option<Credentials> {
        match kind {
            "cert" => {
                check.require(self.cert.is_some(), "peer.cert", "missing: a key needs its certificate");
                check.require(self.key.is_some(), "peer.key", "missing: a certificate needs its key");
                let files = CertificateFiles { cert: self.cert.clone()?, key: self.key.clone()? };
                Some(Credentials::Files(files))
            }
            "join_token_file" => self.join_token_file.clone().map(Credentials::Token),
            _ => {
                check.require(
                    node.roles.superpeer,
                    "peer.ca_key",
                    "only a superpeer has the authority's key: add \"superpeer\" to node.roles, or give `join_token_file`",
                );
                self.ca_key.clone().map(|ca_key| Credentials::Authority { ca_key })
            }
        }
    }
}

/// `host:port`, of a node that can be reached there.
fn check_place(place: &str) -> Result<(), String> {
    let host_end = place.rfind(':').ok_or(EXPECTED)?;
    let (host, port) = (&place[..host_end], &place[host_end + 1..]);
    let is_port =
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse().is_ok_and(|port: u16| port != 0);
    // Of IPv6 only the form in brackets tells host from port.
    let is_host = normal_host(host).is_ok() && (host.starts_with('[') || !host.contains(':'));
    if !is_host || !is_port {
        return Err(EXPECTED.to_owned());
    }
    match place.parse::<std::net::SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => Err("nobody is reached at this address".to_owned()),
        _ => Ok(()),
    }
}

/// The name of an SRV record.
fn check_service(name: &str) -> Result<(), String> {
    if name.contains(':') {
        return Err("an SRV record says the port itself: give the name alone".to_owned());
    }
    let is_label = |label: &str| {
        let label = label.strip_prefix('_').unwrap_or(label);
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() <= 253 && name.split('.').all(is_label) && name.contains('.') {
        Ok(())
    } else {
        Err("expected the name of an SRV record, as in \"_shoal._udp.example.com\"".to_owned())
    }
}
