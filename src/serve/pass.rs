//! Requests in which the cache has no part: forwarded as they are, streamed both ways. Unsafe methods
//! that succeed invalidate what is stored (RFC 9111 §4.4); upgrades become tunnels.

use super::deliver::{Answer, Notes, mark, pass_through, passed_status};
use super::failure::Failure;
use super::post::Posted;
use super::{Exchange, Node, groups, sent};
use crate::body::{Body, Interims, UploadFault, UploadState};
use crate::origin::{FetchError, Fetched};
use crate::proto::key::{CacheKey, KeyParts, ObjectId};
use crate::proto::plan::FetchReason;
use crate::proto::seek::Ground;
use crate::proto::semantics::{self, CacheStatus};
use crate::proto::verdict::Verdict;
use crate::route::PassReason;
use crate::telemetry::InvalidatedBy;
use http::header::{CONNECTION, MAX_FORWARDS, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

/// Silence in both directions after which a tunnel is closed.
pub(super) const TUNNEL_IDLE: Duration = Duration::from_secs(600);
/// Bytes read at once in each direction of a tunnel.
const TUNNEL_BUFFER: usize = 16 << 10;

/// Forwards `request` to the origin and its response to the client.
pub(super) async fn forward(
    exchange: Exchange,
    mut request: Request<Body>,
    reason: PassReason,
    interims: &Interims,
) -> Answer {
    if reason == PassReason::LastHop {
        return at_last_hop(exchange);
    }
    let upgrade = (reason == PassReason::Upgrade).then(|| hyper::upgrade::on(&mut request));
    let (mut head, body) = request.into_parts();
    if let Some(hops) = semantics::hops_left(&head.method, &head.headers) {
        head.headers.insert(MAX_FORWARDS, HeaderValue::from(hops.saturating_sub(1)));
    }
    let upload = head.extensions.get::<UploadState>().cloned().unwrap_or_default();
    if let Some(fault) = upload.fault() {
        return refused_upload(exchange, fault);
    }
    let method = head.method.clone();
    let protocol = head.headers.get(UPGRADE).cloned();
    let body = body.strip_trailers(exchange.routed.trailer_rule());
    let mut to_origin = origin_head(&exchange, head.method, head.headers).map(|()| body);
    let posted = (reason == PassReason::Method).then(|| Posted::begin(&exchange, &to_origin)).flatten();
    if let (Some(_), Some(protocol)) = (&upgrade, &protocol) {
        upgrade_fields(to_origin.headers_mut(), protocol.clone());
    }
    exchange.metrics.origin_fetches.inc(FetchReason::Pass as usize);
    exchange.metrics.taking.origin_fetches.of(Ground::Off).inc();
    let mut notes = Notes::of(&exchange);
    notes.pass = Some(reason);
    match exchange.fetch(to_origin, interims).await {
        Err(error) => failed(exchange, error, upload.fault(), notes),
        Ok(fetched) => {
            notes.server = Some(fetched.server.clone());
            notes.origin_status = Some(fetched.response.status());
            notes.attempts = fetched.attempts;
            // No waiting between the two: what overtook this request until now is known by the first,
            // and what overtakes it from now on by the new fill of the second.
            let posted = posted.and_then(|posted| posted.confirm(&exchange, &fetched));
            let invalidates = semantics::invalidates(&method, fetched.response.status());
            let known = invalidates && exchange.worker.node.knows(exchange.routed.object);
            if invalidates {
                exchange.worker.node.fills.doom(exchange.routed.object);
            }
            let storing = posted.map(|posted| posted.fill(&exchange));
            if invalidates {
                invalidate(&exchange, known, fetched.response.headers()).await;
            }
            let outcome = match storing {
                Some(storing) => storing.respond(&exchange, fetched).await,
                None => Ok(respond(&exchange, fetched, upgrade, reason)),
            };
            let verdict = if outcome.is_ok() { Verdict::Pass } else { Verdict::Error };
            Answer { outcome, verdict, metrics: Some(exchange.metrics), notes }
        }
    }
}

fn failed(exchange: Exchange, error: FetchError, fault: Option<UploadFault>, notes: Notes) -> Answer {
    if let Some(fault) = fault {
        return refused_upload(exchange, fault);
    }
    exchange.metrics.origin_failures.inc(error.kind() as usize);
    let failure = Failure::Origin(error.into());
    Answer { outcome: Err(failure), verdict: Verdict::Error, metrics: Some(exchange.metrics), notes }
}

/// The answer to a request that goes no further (RFC 9110 §7.6.2), from a node that knows nothing of the resource.
fn at_last_hop(exchange: Exchange) -> Answer {
    let mut notes = Notes::of(&exchange);
    notes.pass = Some(PassReason::LastHop);
    let mut response = Response::new(Body::Empty);
    let status = CacheStatus::own(&exchange.snapshot.config.node.name).detail(PassReason::LastHop.as_str());
    mark(&exchange.snapshot, response.headers_mut(), status.to_value());
    Answer { outcome: Ok(response), verdict: Verdict::Pass, metrics: Some(exchange.metrics), notes }
}

fn refused_upload(exchange: Exchange, fault: UploadFault) -> Answer {
    let (failure, notes) = (Failure::Upload(fault), Notes::of(&exchange));
    Answer { outcome: Err(failure), verdict: Verdict::Refused, metrics: Some(exchange.metrics), notes }
}

pub(super) fn respond(
    exchange: &Exchange,
    mut fetched: Fetched,
    upgrade: Option<OnUpgrade>,
    reason: PassReason,
) -> Response<Body> {
    let status = fetched.response.status();
    let tunnel = match upgrade {
        Some(client) if status == StatusCode::SWITCHING_PROTOCOLS => {
            let protocol = fetched.response.headers().get(UPGRADE).cloned();
            Some((client, hyper::upgrade::on(&mut fetched.response), protocol))
        }
        _ => None,
    };
    let mut response = pass_through(exchange, fetched);
    let cache_status = passed_status(exchange, reason, status).to_value();
    mark(&exchange.snapshot, response.headers_mut(), cache_status);

    if let Some((client, origin, protocol)) = tunnel {
        if let Some(protocol) = protocol {
            upgrade_fields(response.headers_mut(), protocol);
        }
        *response.body_mut() = Body::Empty;
        exchange.worker.spawner.spawn(tunnel_when_upgraded(client, origin));
    }
    response
}

fn upgrade_fields(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Head of the request that the origin gets for the client's: end-to-end fields, and what the origin
/// is told about the client.
pub(super) fn origin_head(exchange: &Exchange, method: Method, headers: HeaderMap) -> Request<()> {
    let headers = sent::fields(&exchange.snapshot.router, &exchange.routed, headers);
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(exchange.routed.target.clone());
    *request.headers_mut() = headers;
    request
}

/// Invalidates the target, whose fills the caller has doomed and which was `known` here until then, and what `Location` and
/// `Content-Location` name on the same host, and the groups that the answer names. Done before the client sees the response.
async fn invalidate(exchange: &Exchange, known: bool, fields: &HeaderMap) {
    let (routed, node) = (&exchange.routed, &exchange.worker.node);
    node.known.invalidated(routed.object, node.clock.now().wall);
    node.store.invalidate(routed.object).await;
    tell(exchange, routed.object, known);
    let (host, target) = (routed.host_str(), routed.target.as_str());
    for path in semantics::invalidation_targets(routed.scheme, host, target, fields) {
        let parts = KeyParts { site: &routed.site.name, scheme: routed.scheme, host, path: &path };
        let object = CacheKey::new(parts).object();
        let known = node.knows(object);
        drop_object(node, object).await;
        tell(exchange, object, known);
    }
    groups::invalidate(exchange, fields).await;
}

/// Has the other edges told of an object that was changed by a client of this node and is, or is not, `known` here.
fn tell(exchange: &Exchange, object: ObjectId, known: bool) {
    let node = &exchange.worker.node;
    node.metrics.purges.invalidations.of(InvalidatedBy::Client).inc();
    if let Some(mesh) = node.mesh.as_ref().filter(|_| exchange.routed.peers()) {
        mesh.invalidate(object, known);
    }
}

/// Drops what is here of an object, and takes nothing from peers that may be older.
pub(super) async fn drop_object(node: &Node, object: ObjectId) {
    node.fills.doom(object);
    node.known.invalidated(object, node.clock.now().wall);
    node.store.invalidate(object).await;
}

/// Copies both ways once both sides have switched protocols. Ends when a side closes, fails, or both
/// are silent for [`TUNNEL_IDLE`].
async fn tunnel_when_upgraded(client: OnUpgrade, origin: OnUpgrade) {
    let (Ok(client), Ok(origin)) = tokio::join!(client, origin) else { return };
    let (client_read, client_write) = tokio::io::split(TokioIo::new(client));
    let (origin_read, origin_write) = tokio::io::split(TokioIo::new(origin));
    let moved = AtomicU64::new(0);
    tokio::join!(copy(client_read, origin_write, &moved), copy(origin_read, client_write, &moved));
}

type Side = TokioIo<Upgraded>;

async fn copy(mut from: ReadHalf<Side>, mut to: WriteHalf<Side>, moved: &AtomicU64) {
    let mut buffer = vec![0; TUNNEL_BUFFER];
    loop {
        let before = moved.load(Ordering::Relaxed);
        match tokio::time::timeout(TUNNEL_IDLE, from.read(&mut buffer)).await {
            Ok(Ok(length)) if length > 0 => {
                moved.fetch_add(length as u64, Ordering::Relaxed);
                if to.write_all(&buffer[..length]).await.is_err() || to.flush().await.is_err() {
                    break;
                }
            }
            Err(_) if moved.load(Ordering::Relaxed) != before => {}
            _ => break,
        }
    }
    let _ = to.shutdown().await;
}
