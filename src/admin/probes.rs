//! Probes and metrics: read only, nothing secret.

use super::{Phase, Readiness, listen};
use crate::net::Listener;
use crate::task::Spawner;
use crate::telemetry::{METRICS_CONTENT_TYPE, Metrics};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;

/// Serves `/livez` (200 while the process runs), `/readyz` (503 with the reason unless ready) and
/// `/metrics` on `listener` until `spawner` stops. It should be stopped last, so that a drain can be
/// watched.
pub fn serve_metrics(
    listener: Listener,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    spawner: &Spawner,
) {
    let phase = readiness.clone();
    metrics.on_scrape(move |samples| {
        let ready = f64::from(u8::from(phase.phase() == Phase::Ready));
        samples.gauge("shoal_node_ready", "Whether the node is ready for requests.", &[], ready);
    });
    let probes = Probes { metrics, readiness, spawner: spawner.clone() };
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(scrape))
        .with_state(Arc::new(probes));
    listen::serve(listener, router, spawner);
}

struct Probes {
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    spawner: Spawner,
}

async fn ready(State(probes): State<Arc<Probes>>) -> (StatusCode, String) {
    let phase = probes.readiness.phase();
    let status = if phase == Phase::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{}\n", phase.as_str()))
}

/// Off the runtime: with many sites the text has megabytes.
async fn scrape(State(probes): State<Arc<Probes>>) -> Response {
    let metrics = probes.metrics.clone();
    match probes.spawner.blocking(move || metrics.encode()).await {
        Some(text) => ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
