//! An authority, and nodes whose keys come from the seed: who they are decides which directory and which home an
//! object has.

use super::fleet::WALL;
use data_encoding::BASE64;
use shoal::proto::swarm::Roles;
use shoal::proto::time::Wall;
use shoal::tls::cluster::{Authority, NodeKey};
use shoal::workload::random;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Two hours before simulations begin, since clocks of nodes may be behind.
const ISSUED: Wall = Wall::from_secs(WALL.as_secs() - 7200);
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// What comes before the number in a PKCS #8 key of P-256: version, algorithm, and the frame of the number.
const BEFORE: [u8; 36] = [
    0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
    0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25, 0x02, 0x01, 0x01, 0x04,
    0x20, 0x00,
];

/// An authority in a folder.
pub(crate) struct Keys<'a> {
    folder: &'a Path,
    authority: Authority,
}

impl<'a> Keys<'a> {
    pub(crate) fn create(folder: &'a Path) -> Self {
        let authority = Authority::create("fleet", ISSUED).unwrap();
        fs::write(folder.join("ca.pem"), authority.certificate_pem()).unwrap();
        Self { folder, authority }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Certificate and key of a node.
    pub(crate) fn node(&self, name: &str, roles: Roles, seed: u64) -> (PathBuf, PathBuf) {
        let key = NodeKey::load(&key_pem(seed)).unwrap();
        let chain = self.authority.issue_for(&key, roles, name, ISSUED, LIFETIME).unwrap();
        let (certificate, private) =
            (self.folder.join(format!("{name}.pem")), self.folder.join(format!("{name}-key.pem")));
        let text: String = chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect();
        fs::write(&certificate, text).unwrap();
        fs::write(&private, key.pem()).unwrap();
        (certificate, private)
    }
}

/// A key that everybody can compute.
fn key_pem(seed: u64) -> String {
    // The first byte is zero, so the number is below the order of the curve.
    let mut der = BEFORE.to_vec();
    let number: Vec<u8> = (0..4).flat_map(|index| random::word(seed, index).to_be_bytes()).collect();
    der.extend_from_slice(&number[1..]);
    pem("PRIVATE KEY", &der)
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: String =
        text.as_bytes().chunks(64).map(|line| format!("{}\n", std::str::from_utf8(line).unwrap())).collect();
    format!("-----BEGIN {label}-----\n{lines}-----END {label}-----\n")
}
