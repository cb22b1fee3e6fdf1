//! A fleet with an authority of its own.

use crate::common::{Node, Origin, in_time};
use shoal::proto::swarm::Roles;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// Nodes before one origin; each can reach all others.
pub(crate) struct Fleet {
    pub(crate) origin: Origin,
    pub(crate) nodes: Vec<Node>,
    pub(crate) authority: TestAuthority,
    ports: Vec<SocketAddr>,
}

/// An authority in files.
pub(crate) struct TestAuthority {
    folder: TempDir,
}

impl TestAuthority {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::shoal(&["cert", "ca", "--out", &text(folder.path().join("ca"))]);
        Self { folder }
    }

    fn shoal(arguments: &[&str]) {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_shoal")).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca/ca.pem")
    }

    /// Certificate and key of a node.
    pub(crate) fn node(&self, name: &str, roles: Roles) -> (PathBuf, PathBuf) {
        let out = self.folder.path().join(name);
        let (ca, folder) = (text(self.folder.path().join("ca")), text(out.clone()));
        let mut arguments = vec!["cert", "node", "--ca", &ca, "--name", name, "--out", &folder];
        arguments.extend(roles.names().flat_map(|role| ["--role", role]));
        Self::shoal(&arguments);
        (out.join(format!("{name}.pem")), out.join(format!("{name}-key.pem")))
    }
}

fn text(path: PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

pub(crate) const SUPERPEER: Roles = Roles { edge: false, superpeer: true };
pub(crate) const BOTH: Roles = Roles { edge: true, superpeer: true };

/// An address that no other socket of the stories gets until a node takes it: no two calls give the same, and systems choose
/// ports by themselves from above these.
fn free_address() -> SocketAddr {
    const PORTS: std::ops::Range<u16> = 10_000..30_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    // So that two runs at a time begin at different places.
    let first = std::process::id().wrapping_mul(641);
    let addresses = std::iter::repeat_with(|| {
        let port = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        SocketAddr::from((Ipv4Addr::LOCALHOST, PORTS.start + port as u16))
    });
    let mut free = addresses.take(count as usize).filter(|address| UdpSocket::bind(address).is_ok());
    free.next().expect("a free port")
}

impl Fleet {
    /// Two superpeers and `edges` edges, formed. Nodes are in that order, edges from index 2 on.
    pub(crate) async fn of_edges(edges: usize) -> Self {
        let mut roles = vec![SUPERPEER, SUPERPEER];
        roles.extend(std::iter::repeat_n(Roles::EDGE, edges));
        Self::of(&roles, "").await
    }

    /// Nodes with these roles, formed; `site` are further keys of the site.
    pub(crate) async fn of(roles: &[Roles], site: &str) -> Self {
        let (origin, authority) = (Origin::start().await, TestAuthority::new());
        // Two places more than there are nodes, for those that come later.
        let ports: Vec<_> = (0..roles.len() + 2).map(|_| free_address()).collect();
        let mut fleet = Self { origin, nodes: Vec::new(), authority, ports };
        for (index, roles) in roles.iter().enumerate() {
            let node = Node::of(&fleet.toml(index, *roles, site)).await;
            fleet.nodes.push(node);
        }
        fleet.formed().await;
        fleet
    }

    pub(crate) fn toml(&self, index: usize, roles: Roles, site: &str) -> String {
        let name = format!("node{index}");
        let (cert, key) = self.authority.node(&name, roles);
        let names: Vec<_> = roles.names().collect();
        let seeds: Vec<_> = self.ports.iter().map(SocketAddr::to_string).collect();
        let mut toml = format!("[node]\nname = \"{name}\"\nroles = {names:?}\n");
        if roles.edge {
            let origin = self.origin.at;
            toml += &format!(
                "[listen]\nhttp = [\"127.0.0.1:0\"]\n[[site]]\nname = \"s\"\nhosts = [\"*\"]\norigins = [\"http://{origin}\"]\n{site}\n"
            );
        }
        toml + &format!(
            "[peer]\nlisten = \"{}\"\nseeds = {seeds:?}\nca = {:?}\ncert = {cert:?}\nkey = {key:?}\n",
            self.ports[index],
            self.authority.ca()
        )
    }

    /// Waits until every node knows every other and all purges, and every edge has a session with every superpeer that is
    /// ready.
    pub(crate) async fn formed(&self) {
        let superpeers = self.nodes.iter().filter(|node| node.mesh().me().roles.superpeer).count();
        in_time("the fleet to form", async {
            loop {
                let all_known = self
                    .nodes
                    .iter()
                    .all(|node| node.metric("shoal_swarm_members") >= self.nodes.len() as f64);
                let ready = self
                    .edges()
                    .all(|node| node.metric("shoal_swarm_sessions{state=\"standing\"}") >= superpeers as f64);
                let in_sync = self.nodes.iter().all(Node::is_in_sync);
                if all_known && ready && in_sync {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    pub(crate) fn edges(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.mesh().me().roles.edge)
    }

    pub(crate) fn edge(&self, index: usize) -> &Node {
        self.edges().nth(index).unwrap()
    }

    /// Waits until all fills have ended and what they brought is announced.
    pub(crate) async fn settled(&self) {
        for node in self.edges() {
            node.settled().await;
        }
    }
}
