//! The home edge: an object that a peer could not seek by the directory is fetched here, where all who are in
//! that plight ask for it, so that the origin is asked by one.

use super::out::{Cut, Out, Sink};
use super::{Wanted, busy, gone, relay, stored};
use crate::body::Body;
use crate::proto::key::{self, CacheKey, Scheme};
use crate::proto::plan::FetchReason;
use crate::proto::semantics::{self, RequestFacts, Reuse};
use crate::proto::wire::{self, code, reply};
use crate::route;
use crate::serve::fill::{Follower, Joined, Outcome};
use crate::serve::lead::{self, Reach};
use crate::serve::{Cached, Exchange, Snapshot, Worker};
use http::header::{AUTHORIZATION, COOKIE, HOST, HeaderName, PROXY_AUTHORIZATION};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use std::net::IpAddr;
use std::sync::Arc;

/// Looks at the store and at fills, at most: what was there may be gone a moment later.
const PLANS_MAX: usize = 2;

/// Answers an `Open` of the peer at `from`. Never asks another node.
pub(super) async fn open<S: Sink>(
    worker: &Arc<Worker>,
    from: IpAddr,
    open: wire::Open,
    out: &mut Out<S>,
) -> Result<(), Cut> {
    let Some(wanted) = parse(&open) else { return Err(Cut::Reset(code::PROTOCOL)) };
    let snapshot = worker.node.snapshot.load_full();
    let Some(request) = request(&open, &snapshot)? else { return out.reply(gone()).await };
    match exchange(worker, snapshot, from, (&open.key, &request)) {
        Some(exchange) if exchange.routed.pass.is_some() => out.reply(not_stored(false)).await,
        Some(exchange) => give(Cached::new(exchange, request), wanted, out).await,
        // Other routes or other sites than the asker's: a change that has not reached both yet.
        None => out.reply(gone()).await,
    }
}

fn parse(open: &wire::Open) -> Option<Wanted> {
    let wanted = Wanted::parse(open.read.as_ref()?)?;
    let parts = key::decode(&open.key)?;
    (open.hops == 1 && CacheKey::new(parts).object() == wanted.object).then_some(wanted)
}

/// The request as the asker's client made it. `None` if it has more fields than a client may send.
fn request(open: &wire::Open, snapshot: &Snapshot) -> Result<Option<Request<Body>>, Cut> {
    const MALFORMED: Cut = Cut::Reset(code::PROTOCOL);
    if open.fields.len() > snapshot.config.limits.header_count {
        return Ok(None);
    }
    let parts = key::decode(&open.key).ok_or(MALFORMED)?;
    let mut fields = HeaderMap::with_capacity(open.fields.len() + 1);
    for field in &open.fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_invalid| MALFORMED)?;
        fields.append(name, HeaderValue::from_bytes(&field.value).map_err(|_invalid| MALFORMED)?);
    }
    if [COOKIE, AUTHORIZATION, PROXY_AUTHORIZATION].iter().any(|name| fields.contains_key(name)) {
        return Err(Cut::Reset(code::FORBIDDEN));
    }
    semantics::strip_hop_by_hop(&mut fields);
    semantics::strip_conditions(&mut fields);
    fields.insert(HOST, HeaderValue::from_str(parts.host).map_err(|_invalid| MALFORMED)?);
    let target = PathAndQuery::try_from(parts.path).map_err(|_invalid| MALFORMED)?;
    let mut request = Request::new(Body::Empty);
    *request.uri_mut() = Uri::from(target);
    *request.headers_mut() = fields;
    Ok(Some(request))
}

/// The request by this node's own routes. `None` if they refuse it, do not share it, or give it another key.
fn exchange(
    worker: &Arc<Worker>,
    snapshot: Arc<Snapshot>,
    from: IpAddr,
    (key, request): (&[u8], &Request<Body>),
) -> Option<Exchange> {
    let scheme = key::decode(key).map_or(Scheme::Http, |parts| parts.scheme);
    let head = route::Head {
        method: &Method::GET,
        uri: request.uri(),
        headers: request.headers(),
        scheme,
        version: Version::HTTP_11,
        tls_name: None,
        from,
    };
    let routed = snapshot
        .router
        .resolve(&head)
        .ok()
        .filter(|routed| routed.peers() && routed.key.as_bytes() == key)?;
    let metrics = snapshot.sites.get(&(Arc::as_ptr(&routed.site) as usize)).map(Arc::clone)?;
    let now = worker.node.clock.now();
    Some(Exchange {
        worker: Arc::clone(worker),
        facts: RequestFacts::parse(&Method::GET, request.headers()),
        now: now.wall,
        in_sync: worker.node.purges.in_sync(now.mono),
        snapshot,
        routed,
        metrics,
    })
}

/// Gives what is stored and fresh, or what the origin answers.
async fn give<S: Sink>(mut cached: Cached, mut wanted: Wanted, out: &mut Out<S>) -> Result<(), Cut> {
    let worker = Arc::clone(&cached.exchange.worker);
    let node = &worker.node;
    for _ in 0..PLANS_MAX {
        out.patient(cached.lookup()).await?;
        if let Some((hit, Reuse::Fresh { .. })) = &cached.found {
            wanted.variant = hit.head.variant;
            return stored::give(node, &wanted, hit, out).await;
        }
        if cached.is_no_store() || cached.is_uncacheable() {
            return out.reply(not_stored(cached.is_uncacheable())).await;
        }
        let joined = node.fills.join(cached.exchange.routed.keyed(), cached.variant(), || cached.settled());
        let reader = match joined {
            Joined::Settled => continue,
            Joined::Follow(reader) => reader,
            Joined::Lead(leader, reader) => {
                let reason = if cached.found.is_some() { FetchReason::Revalidate } else { FetchReason::Miss };
                let asking =
                    cached.asking(reason, Reach::Origin, (semantics::Wanted::Whole, leader.position()));
                lead::start(&worker, asking, leader);
                reader
            }
            Joined::Alone => return out.reply(busy()).await,
        };
        let Some(live) = Follower::guest(reader) else { return out.reply(busy()).await };
        let outcome = out.patient(live.outcome()).await?;
        if let Some(variant) = selected(&cached, &outcome) {
            wanted.variant = variant;
        }
        return relay::give(node, &wanted, outcome, &live, out).await;
    }
    out.reply(gone()).await
}

/// The variant of what came, if the request selects it: the asker did not know it, having no list.
fn selected(cached: &Cached, outcome: &Outcome) -> Option<key::VariantId> {
    match outcome {
        Outcome::Streaming(arriving) | Outcome::Stored(arriving, _) => {
            cached.selects(arriving).then_some(arriving.draft.variant)
        }
        Outcome::Refreshed(refreshed) => Some(refreshed.hit.head.variant),
        _ => None,
    }
}

const fn not_stored(of_object: bool) -> reply::Kind {
    reply::Kind::NotStored(wire::NotStored { server_error: false, of_object })
}
