//! A node, assembled.

use super::hooks;
use super::stock::Stock;
use crate::admin::{Phase, Readiness};
use crate::clock::Clock;
use crate::config::model::Config;
use crate::config::reference::RESTART;
use crate::config::{ConfigErrors, Loaded};
use crate::front::{Door, Front, Gate};
use crate::net::Net;
use crate::origin::{FailureKind, OriginShared, Origins, Resolver};
use crate::peer::{Mesh, MeshError, MeshStart};
use crate::proto::object::PurgePosition;
use crate::proto::plan::FetchReason;
use crate::proto::semantics::NotStorable;
use crate::purge::{self, Purges};
use crate::serve::{self, Failure, FillTable, Known, Node, Orders, Snapshot, Worker};
use crate::store::{Device, DiskConfig, Store, StoreConfig, StoreError};
use crate::task::Spawner;
use crate::telemetry::access::AccessLogError;
use crate::telemetry::logging::{self, LogHandle};
use crate::telemetry::{AccessLog, Metrics, Outcome, RequestIds, Vocabulary};
use crate::tls::server::{Certificates, TlsErrors, server_config};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What a node stands on.
pub struct Surroundings {
    /// Where streams come from.
    pub net: Net,
    /// Time.
    pub clock: Clock,
    /// What the disk tier writes to.
    pub device: Arc<dyn Device>,
    /// How origins' names are resolved.
    pub resolver: Resolver,
    /// What the randomness of connections with peers is drawn from; `None` is the system's. Simulations set it.
    pub seed: Option<[u8; 32]>,
}

/// Why a node was not built. Nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The purge log could not be opened.
    #[error(transparent)]
    Purges(#[from] purge::OpenError),
    /// A certificate cannot be used.
    #[error(transparent)]
    Certificates(#[from] TlsErrors),
    /// No TLS settings can be made.
    #[error("TLS settings")]
    Tls(#[from] rustls::Error),
    /// The node cannot take its part in the fleet.
    #[error(transparent)]
    Peer(#[from] MeshError),
    /// The access log cannot be opened.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    /// An address cannot be listened on.
    #[error("listen on {at}: {error}")]
    Listen {
        /// The address.
        at: SocketAddr,
        /// The operating system's answer.
        error: io::Error,
    },
}

/// A node without threads of its own.
pub struct Assembly {
    /// What its workers share.
    pub node: Arc<Node>,
    /// Whether it is ready for requests.
    pub readiness: Arc<Readiness>,
    /// Cancelled when it is to finish its requests and stop.
    pub drain: CancellationToken,
    /// The filter of the diagnostic log, if this node governs it.
    pub log: Option<LogHandle>,
    /// The configuration with the source of each value.
    pub loaded: Mutex<Arc<Loaded>>,
    pub(super) gate: Arc<Gate>,
    pub(super) origins: Arc<OriginShared>,
    /// What peers are being given, and fetches for it.
    pub(super) uploads: Spawner,
    pub(super) access: Arc<AccessLog>,
    ids: Arc<RequestIds>,
    certificates: Arc<Certificates>,
    net: Net,
}

/// Names of the label values that other rooms own.
const NOT_STORED: [&str; NotStorable::ALL.len()] = names(&NotStorable::ALL);

macro_rules! names_of {
    ($name:ident, $kind:ty) => {
        const fn $name<const N: usize>(all: &[$kind; N]) -> [&'static str; N] {
            let mut names = [""; N];
            let mut index = 0;
            while index < N {
                names[index] = all[index].as_str();
                index += 1;
            }
            names
        }
    };
}
names_of!(names, NotStorable);
names_of!(failure_names, FailureKind);

const FAILURES: [&str; FailureKind::ALL.len()] = failure_names(&FailureKind::ALL);

const VOCABULARY: Vocabulary = Vocabulary {
    not_stored: &NOT_STORED,
    origin_fetch: &FetchReason::NAMES,
    origin_failure: &FAILURES,
    refusal: &Failure::REFUSALS,
};

impl Assembly {
    /// Opens the store and makes everything that workers need. Housekeeping runs on `control`.
    ///
    /// # Errors
    /// The first room that could not be opened.
    pub async fn build(
        loaded: Loaded,
        surroundings: Surroundings,
        control: &Spawner,
        log: Option<LogHandle>,
    ) -> Result<Arc<Self>, BuildError> {
        let config = Arc::clone(&loaded.config);
        let clock = surroundings.clock;
        let metrics = Metrics::new(&config.node.name, config.node.zone.as_deref(), VOCABULARY, clock);
        let certificates = Certificates::load(&config, Arc::clone(&metrics))?;
        certificates.watch(control);
        let access = AccessLog::new(
            &config.log.access,
            config.log.access_format,
            metrics.node.access_log_dropped.clone(),
            control,
        )?;
        access.expose(&metrics);
        let Surroundings { net, device, resolver, seed, .. } = surroundings;
        let store = Store::open(store_config(&config), Arc::clone(&device), clock, control).await?;
        let around = purge::Surroundings { clock, metrics: &metrics, spawner: control };
        let purges = open_purges(&config, device, store.newest_found(), around).await?;
        let origins = OriginShared::new(Arc::clone(&net), clock, control.clone(), resolver);
        let mut fleet = None;
        if config.peer.is_some() {
            let (config, net, metrics) = (Arc::clone(&config), Arc::clone(&net), Arc::clone(&metrics));
            let (spawner, inventory) = (control.clone(), Stock::watch(&store));
            let purges = purges.clone();
            let start = MeshStart { config, net, clock, spawner, metrics, purges, inventory, seed };
            fleet = Some(Mesh::start(start).await?);
        }
        let (mesh, requests) = fleet.unzip();
        metrics.node.config_loaded(Outcome::Success, clock.now().wall.as_secs());
        let node = Arc::new(Node {
            snapshot: ArcSwap::from_pointee(Snapshot::new(config, &metrics)),
            store,
            fills: Arc::new(FillTable::new(purges.clone())),
            known: Known::default(),
            purges,
            orders: Orders::default(),
            mesh,
            metrics,
            clock,
        });
        let uploads = control.child();
        if let Some(requests) = requests {
            // Connections to origins outlast the uploads for which they were opened.
            let origins = Origins::new(Arc::clone(&origins), control.clone());
            let worker = Worker { node: Arc::clone(&node), origins, spawner: uploads.clone() };
            control.spawn(serve::supply(Arc::new(worker), requests));
        }
        let assembly = Self {
            node,
            readiness: Arc::new(Readiness::new()),
            drain: CancellationToken::new(),
            log,
            loaded: Mutex::new(Arc::new(loaded)),
            gate: Gate::new(clock),
            origins,
            uploads,
            access,
            ids: Arc::new(RequestIds::new(rand::random())),
            certificates,
            net,
        };
        let assembly = Arc::new(assembly);
        hooks::sample(&assembly);
        Ok(assembly)
    }

    /// What the connections of one worker need; `spawner` owns its tasks.
    pub fn front(&self, spawner: Spawner) -> Arc<Front> {
        let origins = Origins::new(Arc::clone(&self.origins), spawner.clone());
        let connections = spawner.child();
        Arc::new(Front {
            worker: Arc::new(Worker { node: Arc::clone(&self.node), origins, spawner }),
            access: Arc::clone(&self.access),
            ids: Arc::clone(&self.ids),
            gate: Arc::clone(&self.gate),
            connections,
            // A token of the worker's own, since each connection asks it often.
            drain: self.drain.child_token(),
        })
    }

    /// Listens on the addresses of the configuration, within the runtime of one worker. `taken` are
    /// the addresses that the first worker got, in the order of the result; empty for the first.
    ///
    /// # Errors
    /// The first address that cannot be listened on.
    pub fn listen(&self, taken: &[SocketAddr]) -> Result<Vec<Door>, BuildError> {
        let config = self.config();
        let tls = if config.listen.https.is_empty() {
            None
        } else {
            Some(server_config(Arc::clone(&self.certificates))?)
        };
        let plain = config.listen.http.iter().map(|at| (*at, None));
        let secure = config.listen.https.iter().map(|at| (*at, tls.clone()));
        plain
            .chain(secure)
            .enumerate()
            .map(|(index, (at, tls))| {
                let listener = match taken.get(index) {
                    Some(at) => self.net.listen_beside(*at),
                    None => self.net.listen(at),
                };
                let listener = listener.map_err(|error| BuildError::Listen { at, error })?;
                Ok(Door { listener, tls, proxied: config.listen.proxy_protocol.contains(&at) })
            })
            .collect()
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.node.snapshot.load().config)
    }

    /// Puts a new configuration in force, or keeps the old one whole. Cache and connections stay.
    /// Returns what changed only after a restart.
    ///
    /// # Errors
    /// What is wrong with the new one.
    pub fn reload(&self, loaded: Result<Loaded, ConfigErrors>) -> Result<Vec<&'static str>, String> {
        let metrics = &self.node.metrics.node;
        let applied = loaded.map_err(|errors| errors.to_string()).and_then(|loaded| self.apply(loaded));
        let now = self.node.clock.now().wall.as_secs();
        match &applied {
            Ok(waiting) => {
                metrics.config_loaded(Outcome::Success, now);
                tracing::info!(needs_restart = ?waiting, "configuration reloaded");
            }
            Err(error) => {
                metrics.config_loaded(Outcome::Failure, now);
                tracing::error!(%error, "configuration not reloaded, the old one stays in force");
            }
        }
        applied
    }

    fn apply(&self, loaded: Loaded) -> Result<Vec<&'static str>, String> {
        let (old, new) = (self.config(), Arc::clone(&loaded.config));
        logging::parse(&new.log.filter).map_err(|error| error.to_string())?;
        self.access.reload(&new.log.access, new.log.access_format).map_err(|error| error.to_string())?;
        if let Err(error) = self.certificates.reload(&new) {
            // Opened a moment ago; if it cannot be any more, lines are dropped and counted.
            let _ = self.access.reload(&old.log.access, old.log.access_format);
            return Err(error.to_string());
        }
        if let Some(log) = &self.log {
            log.set_filter(&new.log.filter).map_err(|error| error.to_string())?;
        }
        let waiting = needs_restart(&old, &new);
        self.node.snapshot.store(Arc::new(Snapshot::new(Arc::clone(&new), &self.node.metrics)));
        let names: Vec<&str> = new.sites.iter().map(|site| site.name.as_str()).collect();
        self.node.metrics.retain_sites(&names);
        *self.loaded.lock() = Arc::new(loaded);
        Ok(waiting)
    }

    /// Tells the fleet that this node leaves, so that nobody waits for it any more; bounded. What peers are being sent
    /// goes on. Nothing to do for a single node.
    pub async fn leave(&self) {
        if let Some(mesh) = &self.node.mesh {
            mesh.leave().await;
        }
    }

    /// Ends new connections and lets those that are open finish their requests.
    pub fn begin_drain(&self) {
        self.readiness.enter(Phase::Draining);
        self.drain.cancel();
    }
}

/// The purge log, beside what it is about.
async fn open_purges(
    config: &Config,
    device: Arc<dyn Device>,
    newest: Option<PurgePosition>,
    around: purge::Surroundings<'_>,
) -> Result<Purges, purge::OpenError> {
    let in_fleet = config.peer.is_some();
    match config.cache.disks.first() {
        None => Ok(Purges::unwritten(in_fleet, around)),
        Some(disk) => Purges::open((device, &disk.path), newest, in_fleet, around).await,
    }
}

fn store_config(config: &Config) -> StoreConfig {
    let disk = config.cache.disks.first().map(|disk| DiskConfig { path: disk.path.clone(), size: disk.size });
    StoreConfig { memory: config.cache.memory, disk }
}

/// The sections whose changes need a new process.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let addresses = |config: &Config| {
        let listen = &config.listen;
        (listen.http.clone(), listen.https.clone(), listen.proxy_protocol.clone())
    };
    let listen = addresses(old) != addresses(new);
    let admin = |config: &Config| config.admin.as_ref().map(|admin| (admin.listen, admin.token_file.clone()));
    let changed: [_; RESTART.len()] = [
        ("node.name", old.node.name != new.node.name),
        ("node.roles", old.node.roles != new.node.roles),
        ("node.zone", old.node.zone != new.node.zone),
        ("node.workers", old.node.workers != new.node.workers),
        ("listen", listen),
        ("cache.memory", old.cache.memory != new.cache.memory),
        ("cache.disk", old.cache.disks != new.cache.disks),
        ("peer", old.peer != new.peer),
        ("metrics", old.metrics != new.metrics),
        ("admin", admin(old) != admin(new)),
        ("log.format", old.log.json != new.log.json),
    ];
    debug_assert_eq!(changed.map(|(key, _)| key), RESTART, "the reference says the same");
    changed.into_iter().filter_map(|(section, changed)| changed.then_some(section)).collect()
}
