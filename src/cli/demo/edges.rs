//! The edges of a demo: one alone, or a fleet with certificates of its own.

use super::children::{Announced, Children};
use super::counts;
use anyhow::Context as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Less than the workload, so that the disk has its part.
const CACHE_MEMORY: &str = "64MiB";
const CACHE_DISK: &str = "1GiB";

/// Edges of a fleet that are superpeers too: the loss of one is survived.
const SUPERPEERS: usize = 2;

/// How long the edges of a fleet may take to know one another.
const MEET_LIMIT: Duration = Duration::from_secs(15);

/// How often they are asked meanwhile.
const MEET_EVERY: Duration = Duration::from_millis(50);

/// A free port of this machine alone.
const LOOPBACK: &str = "127.0.0.1:0";

/// Where an edge listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub(super) http: SocketAddr,
    pub(super) metrics: Option<SocketAddr>,
    /// Only edges of a fleet have one.
    pub(super) admin: Option<SocketAddr>,
}

impl Edge {
    fn of(announced: &Announced) -> anyhow::Result<Self> {
        Ok(Self { http: announced.http()?, metrics: announced.at("metrics"), admin: announced.at("admin") })
    }
}

/// Starts `count` edges before `origin`, which write below `folder`.
///
/// # Errors
/// If one of them does not start.
pub(super) async fn start(
    children: &mut Children,
    origin: SocketAddr,
    folder: &Path,
    count: usize,
) -> anyhow::Result<Vec<Edge>> {
    let folder = folder.to_str().context("the temporary folder's path is not UTF-8")?;
    if count == 1 {
        let flags = flags(origin, folder);
        return Ok(vec![Edge::of(&children.start("edge", &run(flags)).await?)?]);
    }
    certify(children, folder, count).await?;
    let (mut edges, mut seeds) = (Vec::with_capacity(count), Vec::new());
    for number in 1..=count {
        let name = format!("edge-{number}");
        let mut flags = flags(origin, &format!("{folder}/{name}"));
        flags.extend(fleet_flags(folder, &name, number, count));
        flags.extend(seeds.iter().map(|seed: &SocketAddr| ("--peer-seed", seed.to_string())));
        let announced = children.start(&name, &run(flags)).await?;
        if number <= SUPERPEERS {
            seeds.push(announced.at("peer").context("an edge announced no address for its peers")?);
        }
        edges.push(Edge::of(&announced)?);
    }
    Ok(edges)
}

fn run(flags: Vec<(&str, String)>) -> Vec<String> {
    let words = flags.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    std::iter::once("run".to_owned()).chain(words).collect()
}

fn flags(origin: SocketAddr, cache: &str) -> Vec<(&'static str, String)> {
    vec![
        ("--listen", LOOPBACK.to_owned()),
        ("--origin", format!("http://{origin}")),
        ("--metrics", LOOPBACK.to_owned()),
        ("--cache-memory", CACHE_MEMORY.to_owned()),
        ("--cache-dir", cache.to_owned()),
        ("--cache-disk", CACHE_DISK.to_owned()),
        ("--access-log", "off".to_owned()),
    ]
}

/// What makes the edge of this number, counted from 1, one of a fleet.
fn fleet_flags(folder: &str, name: &str, number: usize, count: usize) -> Vec<(&'static str, String)> {
    // The edges share the machine's cores.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut flags = vec![
        ("--name", name.to_owned()),
        ("--workers", (cores / count).max(1).to_string()),
        ("--admin", LOOPBACK.to_owned()),
        ("--peer-listen", LOOPBACK.to_owned()),
        ("--peer-ca", format!("{folder}/ca.pem")),
        ("--peer-cert", format!("{folder}/{name}.pem")),
        ("--peer-key", format!("{folder}/{name}-key.pem")),
    ];
    flags.extend(roles(number).iter().map(|role| ("--role", (*role).to_owned())));
    flags
}

const fn roles(number: usize) -> &'static [&'static str] {
    if number <= SUPERPEERS { &["edge", "superpeer"] } else { &["edge"] }
}

/// Makes an authority, and a certificate of each edge, as an operator would.
async fn certify(children: &Children, folder: &str, count: usize) -> anyhow::Result<()> {
    children.run(&["cert", "ca", "--name", "demo", "--out", folder]).await?;
    for number in 1..=count {
        let name = format!("edge-{number}");
        let mut arguments = vec!["cert", "node", "--ca", folder, "--out", folder, "--name", &name];
        arguments.extend(roles(number).iter().flat_map(|role| ["--role", role]));
        children.run(&arguments).await?;
    }
    Ok(())
}

/// Waits until each edge of a fleet knows all others and has the ear of the superpeers.
///
/// # Errors
/// If that takes too long.
pub(super) async fn meet(edges: &[Edge]) -> anyhow::Result<()> {
    let met = async {
        for edge in edges {
            let Some(admin) = edge.admin else { continue };
            while !counts::has_met(admin, edges.len() - 1).await.unwrap_or(false) {
                tokio::time::sleep(MEET_EVERY).await;
            }
        }
    };
    tokio::time::timeout(MEET_LIMIT, met).await.context("the edges did not find one another in time")
}
