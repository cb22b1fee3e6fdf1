//! A whole node in this process, on the runtime of its story.

use super::client::{Client, Reply, request};
use super::origin::Origin;
use super::{in_time, until};
use shoal::admin::Phase;
use shoal::app::{Assembly, Surroundings};
use shoal::clock::Clock;
use shoal::config::{self, Sources};
use shoal::front;
use shoal::net::Tcp;
use shoal::origin::Resolver;
use shoal::peer::Mesh;
use shoal::store::FileDevice;
use shoal::task::Spawner;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A running node with a folder of its own.
pub(crate) struct Node {
    pub(crate) assembly: Arc<Assembly>,
    /// Where it listens: plain addresses first, as configured.
    pub(crate) doors: Vec<SocketAddr>,
    spawner: Spawner,
    control: Spawner,
    folder: TempDir,
}

/// A configuration for the site `*` with one origin. `more` begins with further keys of the site and
/// may go on with other sections.
pub(crate) fn toml(origin: SocketAddr, more: &str) -> String {
    format!(
        "[node]\nname = \"edge\"\n[listen]\nhttp = [\"127.0.0.1:0\"]\n\
         [[site]]\nhosts = [\"*\"]\norigins = [\"http://{origin}\"]\n{more}\n"
    )
}

impl Node {
    /// A node with default settings in front of `origin`.
    pub(crate) async fn before(origin: &Origin) -> Self {
        Self::with(origin, "").await
    }

    /// A node in front of `origin` with `more` settings, as in [`toml`].
    pub(crate) async fn with(origin: &Origin, more: &str) -> Self {
        Self::of(&toml(origin.at, more)).await
    }

    /// A node with this configuration.
    pub(crate) async fn of(toml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let loaded = config::load(&sources(folder.path(), toml)).unwrap_or_else(|error| panic!("{error}"));
        let (spawner, control) = (Spawner::current(), Spawner::current());
        let surroundings = Surroundings {
            net: Arc::new(Tcp),
            clock: Clock::system(),
            device: Arc::new(FileDevice),
            resolver: Resolver::Fixed(Arc::default()),
            seed: None,
        };
        let assembly = Assembly::build(loaded, surroundings, &control, None).await.unwrap();
        let front = assembly.front(spawner.clone());
        let mut doors = Vec::new();
        for door in assembly.listen(&[]).unwrap() {
            doors.push(door.listener.local_addr().unwrap());
            spawner.spawn_graceful(front::accept(Arc::clone(&front), door));
        }
        assembly.readiness.enter(Phase::Ready);
        Self { assembly, doors, spawner, control, folder }
    }

    /// Puts another configuration in force.
    pub(crate) fn reload(&self, toml: &str) -> Result<Vec<&'static str>, String> {
        self.assembly.reload(config::load(&sources(self.folder.path(), toml)))
    }

    /// Ends the node as a drain does, the store last.
    pub(crate) async fn stop(self) {
        self.assembly.begin_drain();
        self.spawner.stop(Duration::from_secs(2)).await;
        in_time("the store's end", self.assembly.node.store.close()).await;
        self.control.stop(Duration::from_secs(5)).await;
    }

    /// Ends it as a crash does, as far as that is possible within a process: nobody is told.
    pub(crate) async fn crash(self) {
        self.spawner.stop(Duration::from_secs(2)).await;
        self.control.stop(Duration::from_secs(5)).await;
    }

    /// Says good-bye to the fleet and ends.
    pub(crate) async fn leave(self) {
        in_time("the good-bye", self.assembly.leave()).await;
        self.stop().await;
    }

    /// Its part in the fleet.
    pub(crate) fn mesh(&self) -> &Mesh {
        self.assembly.node.mesh.as_ref().expect("a node of a fleet")
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.doors[0]).await
    }

    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.ask("GET", target, &[]).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, method: &str, target: &str, fields: &[&str]) -> Reply {
        self.connect().await.ask(method, target, fields).await
    }

    /// Begins a request on a connection of its own.
    pub(crate) async fn begin(&self, method: &str, target: &str, fields: &[&str]) -> Client {
        let mut client = self.connect().await;
        client.send(request(method, target, fields)).await;
        client
    }

    /// Asks for `target` and waits until what is to be stored of it is stored.
    pub(crate) async fn warm(&self, target: &str) -> Reply {
        let reply = self.get(target).await;
        assert!(reply.status < 400, "{} {}", reply.status, reply.text());
        self.settled().await;
        reply
    }

    /// Waits until no fetch is in progress.
    pub(crate) async fn settled(&self) {
        until("fetches to end", || self.assembly.node.fills.open() == 0).await;
    }

    /// Value of the metric whose line begins with `series`; 0 without one.
    pub(crate) fn is_in_sync(&self) -> bool {
        let node = &self.assembly.node;
        node.purges.in_sync(node.clock.mono())
    }

    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.assembly.node.metrics.encode();
        let values = text.lines().filter(|line| line.starts_with(series));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    pub(crate) async fn explain(&self, url: &str) -> serde_json::Value {
        serde_json::to_value(self.assembly.node.explain(url).await.unwrap()).unwrap()
    }
}

fn sources(folder: &Path, toml: &str) -> Sources {
    let file = folder.join("shoal.toml");
    std::fs::write(&file, toml).unwrap();
    Sources { file: Some(file), ..Sources::default() }
}
