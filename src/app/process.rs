//! One node on the threads of this process: workers, signals, and the end.

use super::assembly::{Assembly, BuildError, Surroundings};
use super::capacity;
use super::hooks;
use super::reload::{self, Reloader};
use super::service::ServiceManager;
use crate::admin::{self, Phase};
use crate::clock::Clock;
use crate::config::{self, Sources};
use crate::front::{self, Door, Front};
use crate::net::Tcp;
use crate::origin::Resolver;
use crate::store::FileDevice;
use crate::task::Spawner;
use crate::telemetry::logging;
use anyhow::Context;
use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long a node waits for its place in the fleet before it is ready without: it may be the first, or the superpeers
/// are gone, and to serve matters more than to spare the origin.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long tasks that were told to stop may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Threads of the control runtime.
const CONTROL_THREADS: usize = 2;

/// Memory of the cache, in bytes, from which huge pages are used: they save a hit some 5 % of its time,
/// but can hold 60 MiB that nobody uses.
const HUGE_PAGES_FROM: u64 = 512 << 20;

/// Runs a node until it is told to stop (`shoal run`).
///
/// # Errors
/// Mistakes in the configuration, or what keeps the node from starting.
pub fn run(sources: Sources) -> anyhow::Result<ExitCode> {
    let content = reload::content_of(&sources);
    let loaded = config::load(&sources)?;
    let log = logging::init(&loaded.config.log.filter, loaded.config.log.json)?;
    capacity::raise_descriptor_limit();
    capacity::check(&loaded.config);
    if loaded.config.cache.memory < HUGE_PAGES_FROM {
        avoid_huge_pages();
    }
    let control_runtime = Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("shoal-control")
        .enable_all()
        .build()?;
    control_runtime.block_on(async {
        let control = Spawner::current();
        let surroundings = Surroundings {
            net: Arc::new(Tcp),
            clock: Clock::system(),
            device: Arc::new(FileDevice),
            resolver: Resolver::system(),
            seed: None,
        };
        // Who is no edge serves no clients.
        let workers_count = if loaded.config.node.roles.edge { loaded.config.node.workers } else { 0 };
        let assembly = Assembly::build(loaded, surroundings, &control, Some(log)).await?;
        let mut opened = Opened::default();
        opened.0.extend(assembly.node.mesh.iter().map(|mesh| ("peer", mesh.me().address)));
        let workers = start_workers(&assembly, workers_count, &mut opened)?;
        // Stopped last, so that a drain can be watched.
        let watchers = Spawner::current();
        let manager = Arc::new(ServiceManager::of_process(Clock::system()));
        let reloader = Reloader::new(Arc::clone(&assembly), sources, content, Arc::clone(&manager));
        let reloader = Arc::new(reloader);
        open_doors_for_operators(&assembly, &reloader, &watchers, &mut opened)?;
        // Caught before anybody is told that the node runs, and may signal it.
        let signals = Signals::catch()?;
        become_ready(&assembly, &control);
        opened.announce();
        manager.ready(&opened.status());
        reloader.watch(&control);
        tokio::select! {
            () = serve_until_told(&assembly, &reloader, signals) => {}
            never = prove_alive(&manager, &workers) => match never {},
        }
        manager.stopping();
        finish(&assembly, workers, &control).await;
        watchers.stop(STOP_TIMEOUT).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Proves to the service manager that control runtime and workers are alive, for as long as it is polled.
async fn prove_alive(manager: &ServiceManager, workers: &[WorkerThread]) -> Infallible {
    manager.prove_alive(workers.iter().map(|worker| worker.spawner.clone()).collect()).await;
    // There is no manager that asks.
    std::future::pending().await
}

/// The addresses that were opened, told on standard output for whoever started the process.
#[derive(Default)]
struct Opened(Vec<(&'static str, SocketAddr)>);

impl Opened {
    /// All of them in a line.
    fn status(&self) -> String {
        let places: Vec<String> = self.0.iter().map(|(what, at)| format!("{what} {at}")).collect();
        format!("serving on {}", places.join(", "))
    }

    fn announce(&self) {
        let mut text: String = self.0.iter().map(|(what, at)| format!("listening {what} {at}\n")).collect();
        text.push_str("ready\n");
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// A worker thread, and how it is told that the time for its connections is over.
struct WorkerThread {
    thread: JoinHandle<()>,
    /// Its connections.
    connections: Spawner,
    /// Everything else that it runs.
    spawner: Spawner,
}

fn start_workers(
    assembly: &Arc<Assembly>,
    count: usize,
    opened: &mut Opened,
) -> Result<Vec<WorkerThread>, BuildError> {
    let mut prepared = Vec::with_capacity(count);
    if let Err(error) = prepare_workers(assembly, count, opened, &mut prepared) {
        // The end of a runtime may not be waited for within another.
        prepared.into_iter().for_each(|(runtime, _doors)| runtime.shutdown_background());
        return Err(error);
    }
    Ok(prepared
        .into_iter()
        .enumerate()
        .map(|(index, (runtime, doors))| {
            let spawner = Spawner::new(runtime.handle().clone());
            let front = assembly.front(spawner.clone());
            let connections = front.connections.clone();
            let thread = std::thread::Builder::new()
                .name(format!("shoal-worker-{index}"))
                .spawn(move || work(&runtime, front, doors))
                .expect("a thread can be started at process start");
            WorkerThread { thread, connections, spawner }
        })
        .collect())
}

fn prepare_workers(
    assembly: &Arc<Assembly>,
    count: usize,
    opened: &mut Opened,
    prepared: &mut Vec<(Runtime, Vec<Door>)>,
) -> Result<(), BuildError> {
    let mut taken = Vec::new();
    for _ in 0..count {
        let (runtime, doors) = prepared.push_mut((worker_runtime(), Vec::new()));
        let _within = runtime.enter();
        *doors = assembly.listen(&taken)?;
        if taken.is_empty() {
            taken = doors.iter().filter_map(|door| door.listener.local_addr().ok()).collect();
            let kind = |door: &Door| if door.tls.is_some() { "https" } else { "http" };
            opened.0.extend(doors.iter().map(kind).zip(taken.iter().copied()));
        }
    }
    Ok(())
}

fn worker_runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime can be made at process start")
}

/// One worker: accepts until the drain begins, then serves what is open until it ends or is stopped.
fn work(runtime: &Runtime, front: Arc<Front>, doors: Vec<Door>) {
    runtime.block_on(async {
        for door in doors {
            front.connections.spawn_graceful(front::accept(Arc::clone(&front), door));
        }
        front.worker.spawner.cancelled().await;
        // What was open past its time is dropped with the runtime.
        front.worker.spawner.drained(STOP_TIMEOUT).await;
    });
}

fn open_doors_for_operators(
    assembly: &Arc<Assembly>,
    reloader: &Arc<Reloader>,
    watchers: &Spawner,
    opened: &mut Opened,
) -> anyhow::Result<()> {
    let config = assembly.config();
    let listen = |at| crate::net::Transport::listen(&Tcp, at).with_context(|| format!("listen on {at}"));
    if let Some(at) = config.metrics {
        let listener = listen(at)?;
        opened.0.push(("metrics", listener.local_addr()?));
        let readiness = Arc::clone(&assembly.readiness);
        admin::serve_metrics(listener, Arc::clone(&assembly.node.metrics), readiness, watchers);
    }
    if let Some(admin) = &config.admin {
        let listener = listen(admin.listen)?;
        opened.0.push(("admin", listener.local_addr()?));
        admin::serve_admin(listener, admin, hooks::hooks(assembly, reloader), watchers)?;
    }
    Ok(())
}

/// Turns readiness on: at once for a single node, for one of a fleet when it has its place in it. Requests that come
/// before are answered.
fn become_ready(assembly: &Arc<Assembly>, control: &Spawner) {
    let Some(mesh) = assembly.node.mesh.clone() else { return assembly.readiness.enter(Phase::Ready) };
    let readiness = Arc::clone(&assembly.readiness);
    control.spawn(async move {
        match tokio::time::timeout(SETTLE_TIMEOUT, mesh.settled()).await {
            Ok(()) => tracing::info!("has its place in the fleet"),
            Err(_) => tracing::warn!("ready without a fleet: no superpeer was reached in {SETTLE_TIMEOUT:?}"),
        }
        readiness.enter(Phase::Ready);
    });
}

/// The signals that a node obeys.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }
}

/// Carries out signals until one of them (or the admin interface) begins the drain: HUP reloads; TERM,
/// INT and QUIT drain.
async fn serve_until_told(assembly: &Arc<Assembly>, reloader: &Reloader, mut signals: Signals) {
    loop {
        tokio::select! {
            _ = signals.hangup.recv() => {
                // The result is logged and counted where it arises.
                let _ = reloader.reload();
                continue;
            }
            _ = signals.terminate.recv() => {}
            _ = signals.interrupt.recv() => {}
            _ = signals.quit.recv() => {}
            () = assembly.drain.cancelled() => {}
        }
        break;
    }
    tracing::info!("draining");
    assembly.begin_drain();
}

/// Leaves the fleet, then waits for the open requests of clients and of peers, at most the drain timeout or until told
/// again, then stops the rooms: workers, what peers are given, the store, and what runs on the control runtime (the
/// mesh, housekeeping).
async fn finish(assembly: &Arc<Assembly>, workers: Vec<WorkerThread>, control: &Spawner) {
    let limit = assembly.config().node.drain_timeout;
    let drained = async {
        // At once, since peers who are named this node would wait for what it does not begin any more.
        assembly.leave().await;
        for worker in &workers {
            worker.connections.drained(Duration::MAX).await;
        }
        assembly.uploads.drained(Duration::MAX).await;
    };
    tokio::select! {
        () = drained => {}
        () = tokio::time::sleep(limit) => tracing::warn!("drain timed out, closing what is open"),
        () = told_again() => tracing::warn!("told again, closing what is open"),
    }
    for worker in workers {
        worker.spawner.stop(Duration::ZERO).await;
        let thread = worker.thread;
        control.blocking(move || thread.join().is_ok()).await;
    }
    assembly.uploads.stop(Duration::ZERO).await;
    assembly.node.store.close().await;
    // The mesh too, which says to whom it is connected that this node is gone.
    control.stop(STOP_TIMEOUT).await;
    tracing::info!("stopped");
}

async fn told_again() {
    let Ok(mut signals) = Signals::catch() else { return std::future::pending().await };
    tokio::select! {
        _ = signals.terminate.recv() => {}
        _ = signals.interrupt.recv() => {}
        _ = signals.quit.recv() => {}
    }
}

/// Asks the system for small pages only, so that memory given back is not held by a neighbour.
fn avoid_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay on");
    }
}
