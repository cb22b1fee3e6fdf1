//! `POST /purge` and `GET /purges`. Purges bear being done side by side, so they do not wait for the place of writes.

use super::api::{ANSWER_TIMEOUT, Api, late};
use super::listen::Peer;
use super::problem::Problem;
use crate::proto::purge::{Mode, Wanted};
use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Extension, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Bytes of a request.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Time for the whole of it.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How the program's own command names itself.
pub const CLI_AGENT: &str = "shoal/";

/// A purge that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgeCall {
    /// What is to be purged.
    pub wanted: Vec<Wanted>,
    /// Hard or soft.
    pub mode: Mode,
    /// For how long live members are waited for; `None` is as usual.
    pub wait: Option<Duration>,
    /// Address of the client.
    pub from: IpAddr,
    /// Whether it is the program's own command.
    pub cli: bool,
    /// Whether the client had to show the admin token.
    pub token: bool,
}

/// What became of it.
#[derive(Clone, Debug)]
pub enum PurgeReply {
    /// All live members have applied it.
    Complete(Value),
    /// It is applied here, and not everywhere yet.
    Partial(Value),
    /// It selects what cannot be; nothing was purged.
    Invalid(String),
    /// Too many are asked for; nothing was purged.
    Limited {
        /// Why.
        why: String,
        /// When to ask again.
        after: Duration,
    },
    /// It could not be made durable; nothing was purged.
    Failed(String),
}

/// A reply in the making.
pub type PurgeAnswer = Pin<Box<dyn Future<Output = PurgeReply> + Send>>;

/// The body of a call.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    urls: Vec<String>,
    prefixes: Vec<String>,
    tags: Vec<String>,
    hosts: Vec<String>,
    sites: Vec<String>,
    all: bool,
    site: Option<String>,
    soft: bool,
    wait_ms: Option<u64>,
}

impl Asked {
    /// Tags are of `site`, or of all.
    fn wanted(self) -> Vec<Wanted> {
        let Self { urls, prefixes, tags, hosts, sites, all, site, .. } = self;
        let tags = tags.into_iter().map(|tag| Wanted::Tag { site: site.clone(), tag });
        let wanted = urls.into_iter().map(Wanted::Url).chain(prefixes.into_iter().map(Wanted::Prefix));
        let wanted = wanted.chain(tags).chain(hosts.into_iter().map(Wanted::Host));
        wanted.chain(sites.into_iter().map(Wanted::Site)).chain(all.then_some(Wanted::All)).collect()
    }
}

/// `GET /purges`
pub(super) async fn past(State(api): State<Arc<Api>>) -> Json<Value> {
    Json((api.hooks.purges)())
}

/// `POST /purge`
pub(super) async fn purge(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Problem> {
    let agent = request.headers().get(header::USER_AGENT);
    let cli = agent.is_some_and(|agent| agent.as_bytes().starts_with(CLI_AGENT.as_bytes()));
    let asked = read(request).await?;
    if asked.site.is_some() && asked.tags.is_empty() {
        let detail = "`site` says of which site the tags are, and there are none";
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad_selector",
            detail,
            "all of a site is in `sites`",
        ));
    }
    let wait = asked.wait_ms.map(Duration::from_millis);
    if wait.is_some_and(|wait| wait > api.hooks.purge_wait_max) {
        let detail = format!("wait_ms: at most {}", api.hooks.purge_wait_max.as_millis());
        let hint = "members that did not acknowledge in time hear of it all the same";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "wait_too_long", detail, hint));
    }
    let mode = if asked.soft { Mode::Soft } else { Mode::Hard };
    let from = peer.0.ip().to_canonical();
    let call = PurgeCall { mode, wait, from, cli, token: api.has_token, wanted: asked.wanted() };
    let (done, answer) = oneshot::channel();
    let work = (api.hooks.purge)(call);
    // A task of its own: a client that goes cannot stop it half way.
    api.spawner.spawn_graceful(async move {
        let _ = done.send(work.await);
    });
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
    let answer = answer.map_err(|_late| late("the purge goes on after this answer", "see /purges"))?;
    respond(answer.unwrap_or_else(|_panicked| PurgeReply::Failed("failed within the node".to_owned())))
}

async fn read(request: Request) -> Result<Asked, Problem> {
    let body = tokio::time::timeout(BODY_TIMEOUT, to_bytes(request.into_body(), BODY_BYTES_MAX)).await;
    let body = body.map_err(|_late| {
        Problem::new(StatusCode::REQUEST_TIMEOUT, "body_late", "the request did not end", "send it at once")
    })?;
    let body = body.map_err(|error| {
        let mut source: Option<&dyn std::error::Error> = Some(&error);
        while let Some(cause) = source {
            if cause.is::<http_body_util::LengthLimitError>() {
                let detail = format!("more than {BODY_BYTES_MAX} bytes");
                return Problem::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "too_large",
                    detail,
                    "ask in several calls",
                );
            }
            source = cause.source();
        }
        Problem::new(StatusCode::BAD_REQUEST, "body_broken", error.to_string(), "send the whole request")
    })?;
    let wrong = |detail: String| {
        let hint = r#"send JSON such as {"urls":["https://shop.example/a"],"soft":false}"#;
        Problem::new(StatusCode::BAD_REQUEST, "not_understood", detail, hint)
    };
    // A list would be taken for the members in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(wrong("expected a JSON object".to_owned()));
    }
    serde_json::from_slice(&body).map_err(|error| wrong(error.to_string()))
}

fn respond(reply: PurgeReply) -> Result<Response, Problem> {
    const NOTHING: &str = "nothing was purged; mend the cause and try again";
    match reply {
        PurgeReply::Complete(value) => Ok(Json(value).into_response()),
        PurgeReply::Partial(value) => Ok((StatusCode::ACCEPTED, Json(value)).into_response()),
        PurgeReply::Invalid(why) => {
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_selector", why, NOTHING))
        }
        PurgeReply::Limited { why, after } => {
            let hint = "nothing was purged; put more selectors into one call, or see purge.rate";
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_purges", why, hint);
            Err(problem.retry_after(after.as_secs() + 1))
        }
        PurgeReply::Failed(why) => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_purged", why, NOTHING))
        }
    }
}
