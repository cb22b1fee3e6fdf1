//! What operators see of a node: the rooms' numbers as metrics, and the answers of the admin
//! interface.

use super::assembly::Assembly;
use super::reload::Reloader;
use crate::admin::{AdminAnswer, AdminHooks, PurgeCall, PurgeReply};
use crate::origin::FailureKind;
use crate::peer::Mesh;
use crate::proto::purge::MARKS_MAX;
use crate::serve::{By, NotDone, Order, WAIT_DEFAULT, WAIT_MAX, Way};
use crate::store::{Departure, DiskState, DiskUsage, StoreUsage};
use crate::telemetry::Samples;
use serde_json::{Value, json};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// The metrics that `shoal top` shows, and what others begin with.
const TOP_METRICS: [&str; 9] = [
    "shoal_requests_total",
    "shoal_response_bytes_total",
    "shoal_request_duration_seconds",
    "shoal_time_to_first_byte_seconds",
    "shoal_origin_fetches_total",
    "shoal_origin_failures_total",
    "shoal_origin_bytes_total",
    "shoal_peer_taken_bytes_total",
    "shoal_peer_given_bytes_total",
];
const TOP_METRICS_BEGIN: &str = "shoal_purge";

/// Exposes the numbers that the rooms keep.
pub(super) fn sample(assembly: &Arc<Assembly>) {
    let weak = Arc::downgrade(assembly);
    assembly.node.metrics.on_scrape(move |samples| {
        if let Some(assembly) = weak.upgrade() {
            // A node that is only a superpeer stores nothing, and its bounds would be taken for those of edges.
            if assembly.config().node.roles.edge {
                sample_store(&assembly, samples);
            }
            sample_purges(&assembly, samples);
            sample_origins(&assembly, samples);
        }
    });
}

fn sample_store(assembly: &Assembly, samples: &mut Samples) {
    let usage = assembly.node.store.usage();
    let index = &usage.index;
    let gauges = [
        ("shoal_memory_bytes", "Bytes that the memory tier holds.", usage.memory),
        ("shoal_memory_bound_bytes", "Bytes that the memory tier may hold.", usage.memory_bound),
        ("shoal_memory_entries", "Heads and slices in the memory tier.", usage.memory_entries),
        ("shoal_index_objects", "Objects known.", index.objects),
        ("shoal_index_bytes", "Memory of the index, about, beside the memory tier.", index.bytes),
        ("shoal_index_bound_bytes", "Bound of that.", index.bytes_bound),
        ("shoal_store_fills", "Versions being written.", index.fills),
    ];
    for (name, help, value) in gauges {
        samples.gauge(name, help, &[], value as f64);
    }
    let refused = "Heads and slices not taken into memory because the bound would have been passed.";
    samples.counter("shoal_memory_refusals_total", refused, &[], usage.memory_refusals);
    for reason in Departure::ALL {
        let help = "Versions that left the store other than for a newer one.";
        let labels = [("reason", reason.as_str())];
        samples.counter("shoal_store_departures_total", help, &labels, index.departed(reason));
    }
    if let Some(disk) = &usage.disk {
        sample_disk(disk, samples);
    }
}

fn sample_purges(assembly: &Assembly, samples: &mut Samples) {
    let (purges, usage) = (&assembly.node.purges, assembly.node.purges.usage());
    let in_sync = u64::from(purges.in_sync(assembly.node.clock.mono()));
    let gauges = [
        ("shoal_purge_in_sync", "Whether all purges of the fleet are known here.", in_sync),
        ("shoal_purge_position", "How many times purges were applied here.", usage.position.0),
        ("shoal_purge_log_entries", "Targets of purges that are kept apart.", usage.entries as u64),
        ("shoal_purge_log_bound_entries", "Bound of that.", MARKS_MAX as u64),
        (
            "shoal_purge_issuers",
            "Nodes whose purges were applied, each counted for each life of its log.",
            usage.issuers as u64,
        ),
    ];
    for (name, help, value) in gauges {
        samples.gauge(name, help, &[], value as f64);
    }
    let floors = "Targets that became purges of their whole site, or of everything, since the log was full.";
    samples.counter("shoal_purge_floors_total", floors, &[], usage.folded);
}

fn purge_status(assembly: &Assembly) -> Value {
    let (purges, usage) = (&assembly.node.purges, assembly.node.purges.usage());
    json!({
        "in_sync": purges.in_sync(assembly.node.clock.mono()),
        "position": usage.position.0,
        "entries": usage.entries,
        "bound_entries": MARKS_MAX,
    })
}

fn sample_disk(disk: &DiskUsage, samples: &mut Samples) {
    let writable = u64::from(disk.state == DiskState::Running);
    let gauges = [
        ("shoal_disk_writable", "Whether the disk tier takes records.", writable),
        ("shoal_disk_bound_bytes", "Bytes that the disk tier may take.", disk.size),
        ("shoal_disk_allocated_bytes", "Bytes of its files.", disk.allocated),
        ("shoal_disk_used_bytes", "Bytes of segments that hold records, also dead ones.", disk.used),
        ("shoal_disk_segments", "Segments that exist.", disk.segments),
        ("shoal_disk_segments_free", "Segments that can be written without reclaiming.", disk.segments_free),
        ("shoal_disk_queue_bytes", "Bytes of records waiting to be written.", disk.queued),
        ("shoal_disk_queue_bound_bytes", "Bound of that.", disk.queue_limit),
    ];
    for (name, help, value) in gauges {
        samples.gauge(name, help, &[], value as f64);
    }
    let counters = [
        ("shoal_disk_written_records_total", "Records written.", disk.written_records),
        ("shoal_disk_written_bytes_total", "Bytes written for them.", disk.written_bytes),
        ("shoal_disk_read_errors_total", "Reads that the device failed.", disk.read_errors),
        ("shoal_disk_write_errors_total", "Writes that the device failed.", disk.write_errors),
        ("shoal_disk_damaged_total", "Records whose sums did not match.", disk.damaged),
        ("shoal_disk_reclaimed_segments_total", "Segments made free for reuse.", disk.reclaimed_segments),
        ("shoal_disk_rewritten_bytes_total", "Bytes kept by writing them again.", disk.rewritten_bytes),
    ];
    for (name, help, value) in counters {
        samples.counter(name, help, &[], value);
    }
}

fn store_status(usage: &StoreUsage) -> Value {
    json!({
        "memory_bytes": usage.memory,
        "memory_bound_bytes": usage.memory_bound,
        "objects": usage.index.objects,
        "index_bytes": usage.index.bytes,
        "disk": usage.disk.as_ref().map(|disk| json!({
            "writable": disk.state == DiskState::Running,
            "bound_bytes": disk.size,
            "used_bytes": disk.used,
            "damaged": disk.damaged,
        })),
    })
}

fn sample_origins(assembly: &Assembly, samples: &mut Samples) {
    let stats = assembly.origins.stats();
    let counters = [
        ("shoal_origin_connects_total", "Connections opened to origins.", stats.connects.read()),
        ("shoal_origin_reuses_total", "Requests sent on a connection that was open.", stats.reuses.read()),
        ("shoal_origin_retries_total", "Attempts after the first.", stats.retries.read()),
    ];
    for (name, help, value) in counters {
        samples.counter(name, help, &[], value);
    }
    for kind in FailureKind::ALL {
        let help = "Failed attempts, those that a retry made good included.";
        samples.counter(
            "shoal_origin_attempt_failures_total",
            help,
            &[("kind", kind.as_str())],
            stats.failures(kind),
        );
    }
    for view in assembly.origins.upstreams() {
        let server = format!("{}:{}", view.server.host, view.server.port);
        let labels = [("server", server.as_str())];
        let gauges = [
            (
                "shoal_origin_server_available",
                "Whether the server is used.",
                f64::from(u8::from(view.available)),
            ),
            ("shoal_origin_server_requests", "Requests in progress.", view.in_progress as f64),
            ("shoal_origin_server_connections", "Connections open.", view.open as f64),
            ("shoal_origin_server_connections_max", "Connections allowed.", view.connections_max as f64),
        ];
        for (name, help, value) in gauges {
            samples.gauge(name, help, &labels, value);
        }
    }
}

/// The answers of the admin interface.
pub(super) fn hooks(assembly: &Arc<Assembly>, reloader: &Arc<Reloader>) -> AdminHooks {
    let status = Arc::downgrade(assembly);
    let config = Arc::downgrade(assembly);
    let peers = Arc::downgrade(assembly);
    let reload = Arc::clone(reloader);
    let drain = Arc::downgrade(assembly);
    let explain = Arc::downgrade(assembly);
    let (purge, purges) = (Arc::downgrade(assembly), Arc::downgrade(assembly));
    let (top, began) = (Arc::downgrade(assembly), assembly.node.clock.mono());
    AdminHooks {
        status: Box::new(move || with(&status, status_of)),
        config: Box::new(move || with(&config, |assembly| json!(assembly.loaded.lock().shown))),
        peers: Box::new(move || {
            with(&peers, |assembly| json!(assembly.node.mesh.as_ref().map(Mesh::report)))
        }),
        reload: Box::new(move || reload_answer(Arc::clone(&reload))),
        drain: Box::new(move || {
            let assembly = drain.clone();
            Box::pin(async move {
                Ok(with(&assembly, |assembly| {
                    assembly.begin_drain();
                    json!({ "draining": true })
                }))
            })
        }),
        explain: Box::new(move |url, fleet| {
            let assembly = explain.clone();
            Box::pin(async move {
                let assembly = assembly.upgrade().ok_or("the node is stopping")?;
                let node = &assembly.node;
                let explanation =
                    if fleet { node.explain_in_fleet(&url).await } else { node.explain(&url).await }?;
                serde_json::to_value(explanation).map_err(|error| error.to_string())
            })
        }),
        purge: Box::new(move |call| Box::pin(purge_reply(purge.clone(), call))),
        purge_wait_max: WAIT_MAX,
        purges: Box::new(move || with(&purges, |assembly| assembly.node.past_orders())),
        top: Box::new(move || with(&top, |assembly| top_of(assembly, began))),
        access: Arc::clone(&assembly.access),
    }
}

fn with(assembly: &Weak<Assembly>, show: impl FnOnce(&Assembly) -> Value) -> Value {
    assembly.upgrade().map_or(Value::Null, |assembly| show(&assembly))
}

async fn purge_reply(assembly: Weak<Assembly>, call: PurgeCall) -> PurgeReply {
    let Some(assembly) = assembly.upgrade() else {
        return PurgeReply::Failed("the node is stopping".to_owned());
    };
    let PurgeCall { wanted, mode, wait, from, cli, token } = call;
    let way = if cli { Way::Cli } else { Way::Admin };
    let by = By { way, from, token: token.then(|| "admin".to_owned()) };
    let order = Order { wanted, mode, wait: wait.unwrap_or(WAIT_DEFAULT), by };
    match assembly.node.order(order).await {
        Ok(done) if done.complete => PurgeReply::Complete(json!(done)),
        Ok(done) => PurgeReply::Partial(json!(done)),
        Err(NotDone::Limited { after }) => {
            PurgeReply::Limited { why: NotDone::Limited { after }.to_string(), after }
        }
        Err(NotDone::Invalid(error)) => PurgeReply::Invalid(error.to_string()),
        Err(NotDone::Failed(error)) => PurgeReply::Failed(error.to_string()),
    }
}

fn reload_answer(reloader: Arc<Reloader>) -> AdminAnswer {
    Box::pin(
        async move { reloader.reload().map(|waiting| json!({ "reloaded": true, "needs_restart": waiting })) },
    )
}

/// The status and, beside it, the metrics that change with requests. `began` is when the node's time is counted from.
fn top_of(assembly: &Assembly, began: Instant) -> Value {
    let mut figures = status_of(assembly);
    let uptime = assembly.node.clock.mono().saturating_duration_since(began);
    let wanted = |name: &str| TOP_METRICS.contains(&name) || name.starts_with(TOP_METRICS_BEGIN);
    if let Value::Object(figures) = &mut figures {
        figures.insert("uptime_ms".to_owned(), json!(u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX)));
        figures.insert("metrics".to_owned(), assembly.node.metrics.figures(wanted));
        figures.insert("peers".to_owned(), json!(assembly.node.mesh.as_ref().map(Mesh::report)));
    }
    figures
}

fn status_of(assembly: &Assembly) -> Value {
    let config = assembly.config();
    let store = assembly.node.store.usage();
    let servers: Vec<Value> = assembly
        .origins
        .upstreams()
        .iter()
        .map(|view| {
            json!({
                "server": format!("{}:{}", view.server.host, view.server.port),
                "available": view.available,
                "requests": view.in_progress,
                "connections": view.open,
            })
        })
        .collect();
    json!({
        "node": config.node.name,
        "roles": config.node.roles.names().collect::<Vec<_>>(),
        "peer": assembly.node.mesh.as_ref().map(|mesh| mesh.me().address),
        "version": env!("CARGO_PKG_VERSION"),
        "phase": assembly.readiness.phase().as_str(),
        "workers": config.node.workers,
        "sites": config.sites.iter().map(|site| &site.name).collect::<Vec<_>>(),
        "connections": assembly.gate.open(),
        "fills": assembly.node.fills.open(),
        "store": store_status(&store),
        "purges": purge_status(assembly),
        "origins": servers,
    })
}
