//! Purges by requests to a site, as content management systems and their plug-ins send them: off unless `site.purge.methods`
//! is set, only for who may, and of that site only. None of them reaches the origin.
//!
//! What they mean is read in `proto::purge` ([`Told`]), where their sources are named.

use super::deliver::{Answer, Notes, mark};
use super::orders::{By, Order, WAIT_DEFAULT, Way};
use super::{Done, Exchange, NotDone};
use crate::body::Body;
use crate::proto::purge::{Told, Wanted};
use crate::proto::semantics::CacheStatus;
use crate::proto::verdict::Verdict;
use crate::route::Routed;
use crate::telemetry::PurgeOutcome;
use crate::token;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Whether a request is to be answered here rather than forwarded.
pub(super) fn is_order(routed: &Routed, request: &Request<Body>) -> bool {
    routed.site.purge.methods
        && !matches!(*request.method(), Method::GET | Method::HEAD)
        && Told::is_order(request.method(), path_of(request.uri()), request.headers())
}

/// Purges, or says why not.
pub(super) async fn answer(exchange: Exchange, request: Request<Body>) -> Answer {
    let by = By {
        way: Way::Method,
        from: exchange.routed.client.to_canonical(),
        token: exchange.site().purge.token_file.as_deref().map(name_of),
    };
    // A body says nothing that is read.
    let (head, _body) = request.into_parts();
    let reply = match carry_out(&exchange, &head, by.clone()).await {
        Ok(Ok(done)) => Reply::done(&done),
        Ok(Err(not_done)) => Reply::not_done(&not_done),
        Err(refused) => {
            exchange.worker.node.turn_away(&by, refused.outcome, &refused.why);
            Reply::refused(refused)
        }
    };
    reply.into_answer(exchange)
}

async fn carry_out(exchange: &Exchange, head: &Parts, by: By) -> Result<Result<Done, NotDone>, Refused> {
    check(exchange, &head.headers).await?;
    let routed = &exchange.routed;
    let told = Told::read(&head.method, routed.host_str(), path_of(&head.uri), &head.headers);
    let (mode, told) = told.map_err(|dialect| {
        let status = if dialect.is_wrong() { StatusCode::BAD_REQUEST } else { StatusCode::NOT_IMPLEMENTED };
        let why = dialect.to_string();
        Refused { status, code: "not_understood", outcome: PurgeOutcome::Invalid, why }
    })?;
    let order = Order { wanted: wanted(routed, told), mode, wait: WAIT_DEFAULT, by };
    let (done, answer) = oneshot::channel();
    let node = Arc::clone(&exchange.worker.node);
    // A task of its own: a client that goes cannot stop it half way.
    exchange.worker.spawner.spawn_graceful(async move {
        let _ = done.send(node.order(order).await);
    });
    answer.await.map_err(|_gone| Refused {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: "stopping",
        outcome: PurgeOutcome::Failed,
        why: "the node is stopping".to_owned(),
    })
}

/// What is wanted, within the site and host of the request.
fn wanted(routed: &Routed, told: Told) -> Vec<Wanted> {
    let base = format!("{}://{}", routed.scheme.as_str(), routed.host_str());
    let site = || routed.site.name.clone();
    match told {
        Told::Url => vec![Wanted::Url(format!("{base}{}", routed.target))],
        Told::Path(path) => vec![Wanted::Url(base + &path)],
        // No `*` at its end is taken off, since none is left there.
        Told::Prefix(path) => vec![Wanted::Prefix(base + &path)],
        Told::Tags(tags) => tags.into_iter().map(|tag| Wanted::Tag { site: Some(site()), tag }).collect(),
        Told::Host => vec![Wanted::Host(base)],
        Told::Site => vec![Wanted::Site(site())],
    }
}

/// Why a request is not carried out.
struct Refused {
    status: StatusCode,
    code: &'static str,
    outcome: PurgeOutcome,
    why: String,
}

fn forbidden(why: &str) -> Refused {
    let (status, outcome) = (StatusCode::FORBIDDEN, PurgeOutcome::Refused);
    Refused { status, code: "forbidden", outcome, why: why.to_owned() }
}

/// Lets those pass who may purge this site: by network, by token, or, if both are configured, by both.
async fn check(exchange: &Exchange, fields: &HeaderMap) -> Result<(), Refused> {
    let purge = &exchange.site().purge;
    if !purge.networks.is_empty() && !is_within(&purge.networks, exchange.routed.client) {
        return Err(forbidden("purges are not taken from this address"));
    }
    let Some(path) = &purge.token_file else { return Ok(()) };
    let given = given_token(fields).ok_or_else(|| forbidden("no token"))?.to_vec();
    let file = path.clone();
    let read = exchange.worker.spawner.blocking(move || token::read(&file)).await;
    let Some(Ok(token)) = read else {
        tracing::error!(file = %path.display(), "the token for purges cannot be read; they are refused");
        return Err(Refused {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "token_unreadable",
            outcome: PurgeOutcome::Refused,
            why: "the token file of this node cannot be read".to_owned(),
        });
    };
    if token::is_same(&given, &token) { Ok(()) } else { Err(forbidden("wrong token")) }
}

fn is_within(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

fn given_token(fields: &HeaderMap) -> Option<&[u8]> {
    let bearer = fields.get(AUTHORIZATION).and_then(|value| token::bearer(value.as_bytes()));
    let plain = || ["x-purge-token", "fastly-key"].into_iter().find_map(|name| fields.get(name));
    bearer.or_else(|| plain().map(|value| value.as_bytes().trim_ascii()))
}

fn name_of(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn path_of(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |target| target.as_str())
}

/// What the client is told.
struct Reply {
    status: StatusCode,
    verdict: Verdict,
    outcome: PurgeOutcome,
    content_type: &'static str,
    body: Value,
    retry_after: Option<u64>,
}

impl Reply {
    fn done(done: &Done) -> Self {
        let (status, outcome) = if done.complete {
            (StatusCode::OK, PurgeOutcome::Complete)
        } else {
            (StatusCode::ACCEPTED, PurgeOutcome::Partial)
        };
        Self {
            status,
            verdict: Verdict::Purge,
            outcome,
            content_type: "application/json",
            body: json!(done),
            retry_after: None,
        }
    }

    fn not_done(error: &NotDone) -> Self {
        let (status, code) = match error {
            NotDone::Limited { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_purges"),
            NotDone::Invalid(_) => (StatusCode::BAD_REQUEST, "bad_selector"),
            NotDone::Failed(_) => (StatusCode::SERVICE_UNAVAILABLE, "not_purged"),
        };
        let outcome = error.outcome();
        let mut reply = Self::refused(Refused { status, code, outcome, why: error.to_string() });
        match error {
            NotDone::Limited { after } => reply.retry_after = Some(after.as_secs() + 1),
            NotDone::Failed(_) => reply.verdict = Verdict::Error,
            NotDone::Invalid(_) => {}
        }
        reply
    }

    fn refused(refused: Refused) -> Self {
        let Refused { status, code, outcome, why } = refused;
        let title = status.canonical_reason();
        let body = json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": why, "code": code});
        let (verdict, content_type) = (Verdict::Refused, "application/problem+json");
        Self { status, verdict, outcome, content_type, body, retry_after: None }
    }

    fn into_answer(self, exchange: Exchange) -> Answer {
        let mut response = Response::new(Body::Full(Bytes::from(self.body.to_string() + "\n")));
        *response.status_mut() = self.status;
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            fields.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        let node = &exchange.snapshot.config.node.name;
        mark(&exchange.snapshot, fields, CacheStatus::own(node).detail(self.verdict.as_str()).to_value());
        let mut notes = Notes::of(&exchange);
        notes.purge = Some(self.outcome);
        Answer { outcome: Ok(response), verdict: self.verdict, metrics: Some(exchange.metrics), notes }
    }
}
