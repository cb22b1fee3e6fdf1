//! The admin API: JSON in and out, errors as RFC 9457 problems, each write in the audit log.
//!
//! | request | answer |
//! |---|---|
//! | `GET /status` | version, uptime, node, listeners, draining, store usage, connections |
//! | `GET /config` | the effective configuration |
//! | `GET /peers` | the node's part in the fleet, and the nodes that it knows; `null` for a single node |
//! | `GET /explain?url=…&fleet=true` | what the node would do with a request for the URL, and who else has it |
//! | `GET /log?filter=…` | requests as they end, a JSON object a line, until the client goes ([`live`]) |
//! | `GET /top?interval_ms=…` | figures, a JSON object a line for each interval, until the client goes |
//! | `POST /purge` | what became of a purge, at each node of the fleet |
//! | `GET /purges` | the last purges that were asked of this node, and the state of its purge log |
//! | `POST /reload` | reads the configuration again |
//! | `POST /drain` | stops accepting and finishes what is in progress |

use super::guard::Guard;
use super::listen::{self, Peer};
use super::live;
use super::problem::Problem;
use super::purge::{self, PurgeAnswer, PurgeCall};
use crate::config::model::Admin;
use crate::net::Listener;
use crate::task::Spawner;
use crate::telemetry::AccessLog;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::Value;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// How long a client waits for an answer. A write goes on after it.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// An answer in the making: JSON, or why there is none.
pub type AdminAnswer = Pin<Box<dyn Future<Output = Result<Value, String>> + Send>>;

/// What the rooms of the node answer and do.
pub struct AdminHooks {
    /// State of the node. Must not block.
    pub status: Box<dyn Fn() -> Value + Send + Sync>,
    /// The effective configuration, secrets left out. Must not block.
    pub config: Box<dyn Fn() -> Value + Send + Sync>,
    /// The node's part in the fleet; null for a single node. Must not block.
    pub peers: Box<dyn Fn() -> Value + Send + Sync>,
    /// Reads the configuration again. Runs to its end even if the client goes; one write at a time.
    pub reload: Box<dyn Fn() -> AdminAnswer + Send + Sync>,
    /// Begins to drain. As `reload`.
    pub drain: Box<dyn Fn() -> AdminAnswer + Send + Sync>,
    /// What the node would do with a request for a URL, and, if so asked, which nodes of the fleet have it; dropped if
    /// the client goes.
    pub explain: Box<dyn Fn(String, bool) -> AdminAnswer + Send + Sync>,
    /// Figures that change; an object. Must not block.
    pub top: Box<dyn Fn() -> Value + Send + Sync>,
    /// Where those who watch requests are told of them.
    pub access: Arc<AccessLog>,
    /// Purges. Runs to its end even if the client goes; as many at a time as the hook lets.
    pub purge: Box<dyn Fn(PurgeCall) -> PurgeAnswer + Send + Sync>,
    /// For how long a purge may have members waited for; below the time for an answer.
    pub purge_wait_max: Duration,
    /// The last purges, and the state of the log. Must not block.
    pub purges: Box<dyn Fn() -> Value + Send + Sync>,
}

/// Why the admin API was not started.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Others than this machine could use it.
    #[error("admin.listen {0} is not loopback: set admin.token_file")]
    TokenRequired(std::net::SocketAddr),
    /// The token cannot be read.
    #[error("admin.token_file {}: {source}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The listener has no address.
    #[error("admin.listen: {0}")]
    Listener(#[from] io::Error),
}

/// Serves the admin API on `listener` until `spawner` stops. `admin` says where the token is.
///
/// # Errors
/// A listener beyond loopback without a token, or a token that cannot be read.
pub fn serve_admin(
    listener: Listener,
    admin: &Admin,
    hooks: AdminHooks,
    spawner: &Spawner,
) -> Result<(), AdminError> {
    let at = listener.local_addr()?;
    if !at.ip().is_loopback() && admin.token_file.is_none() {
        return Err(AdminError::TokenRequired(at));
    }
    let guard = Guard::new(admin.token_file.clone(), spawner.clone()).map_err(|source| {
        let path = admin.token_file.clone().unwrap_or_default();
        AdminError::Token { path, source }
    })?;
    let has_token = admin.token_file.is_some();
    let api = Api { hooks, has_token, writes: Arc::new(Semaphore::new(1)), spawner: spawner.clone() };
    listen::serve(listener, router(Arc::new(api), guard), spawner);
    Ok(())
}

pub(super) struct Api {
    pub(super) hooks: AdminHooks,
    /// Whether clients must show a token.
    pub(super) has_token: bool,
    /// One permit: writes do not overlap.
    writes: Arc<Semaphore>,
    pub(super) spawner: Spawner,
}

fn router(api: Arc<Api>, guard: Guard) -> Router {
    Router::new()
        .route("/status", get(async |State(api): State<Arc<Api>>| Json((api.hooks.status)())))
        .route("/config", get(async |State(api): State<Arc<Api>>| Json((api.hooks.config)())))
        .route("/peers", get(async |State(api): State<Arc<Api>>| Json((api.hooks.peers)())))
        .route("/explain", get(explain))
        .route("/log", get(live::log))
        .route("/top", get(live::top))
        .route("/purge", post(purge::purge))
        .route("/purges", get(purge::past))
        .route("/reload", post(reload))
        .route("/drain", post(drain))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(guard, checked))
        .with_state(api)
}

async fn checked(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let mut response = match guard.check(request.headers()).await {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[derive(Deserialize)]
struct Explain {
    url: String,
    #[serde(default)]
    fleet: bool,
}

async fn explain(
    State(api): State<Arc<Api>>,
    query: Result<Query<Explain>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(Explain { url, fleet }) = query.map_err(|error| {
        let hint = "ask for /explain?url=https://host/path, percent-encoded";
        Problem::new(StatusCode::BAD_REQUEST, "url_missing", error.body_text(), hint)
    })?;
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, (api.hooks.explain)(url, fleet)).await;
    answer.map_err(|_late| late("the explanation took too long", "try again"))?.map(Json).map_err(|error| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not_explained", error, "check the URL")
    })
}

async fn reload(State(api): State<Arc<Api>>, Extension(peer): Extension<Peer>) -> Result<Response, Problem> {
    let value = api.write("reload", peer, || (api.hooks.reload)()).await?;
    Ok(Json(value).into_response())
}

async fn drain(State(api): State<Arc<Api>>, Extension(peer): Extension<Peer>) -> Result<Response, Problem> {
    let value = api.write("drain", peer, || (api.hooks.drain)()).await?;
    Ok((StatusCode::ACCEPTED, Json(value)).into_response())
}

impl Api {
    /// Runs one write to its end in a task of its own, so that a client that goes cannot stop it
    /// half way, and tells the audit log.
    async fn write(
        &self,
        action: &'static str,
        peer: Peer,
        begin: impl FnOnce() -> AdminAnswer,
    ) -> Result<Value, Problem> {
        let permit = self.writes.clone().try_acquire_owned().map_err(|_busy| {
            let detail = "another write is in progress";
            Problem::new(StatusCode::CONFLICT, "busy", detail, "try again when it has ended")
        })?;
        let (answer, answered) = oneshot::channel();
        self.spawner.spawn_graceful(audited(action, peer, begin(), permit, answer));
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, answered).await;
        let answered = answered.map_err(|_late| {
            late("the write goes on after this answer", "see /status and the log of the node")
        })?;
        answered.unwrap_or_else(|_panicked| Err("failed within the node".to_owned())).map_err(|error| {
            let hint = "nothing was changed; mend the cause and try again";
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not_done", error, hint)
        })
    }
}

async fn audited(
    action: &'static str,
    peer: Peer,
    work: AdminAnswer,
    permit: OwnedSemaphorePermit,
    answer: oneshot::Sender<Result<Value, String>>,
) {
    tracing::info!(target: "shoal::audit", action, peer = %peer.0, "begun");
    let result = work.await;
    drop(permit);
    match &result {
        Ok(_) => tracing::info!(target: "shoal::audit", action, peer = %peer.0, "done"),
        Err(error) => tracing::warn!(target: "shoal::audit", action, peer = %peer.0, error, "not done"),
    }
    // The client may have gone; the write is done all the same.
    let _ = answer.send(result);
}

pub(super) fn late(detail: &str, hint: &'static str) -> Problem {
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "late", detail, hint)
}

async fn unknown_path(request: Request) -> Problem {
    let detail = format!("no {}", request.uri().path());
    let hint =
        "there are /status, /config, /peers, /explain, /log, /top, /purge, /purges, /reload and /drain";
    Problem::new(StatusCode::NOT_FOUND, "unknown_path", detail, hint)
}

async fn wrong_method(request: Request) -> Problem {
    let detail = format!("{} is not for {}", request.method(), request.uri().path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", detail, "GET reads, POST writes")
}
