//! Answers to POST that are stored for later GETs, because the origin says so (RFC 9110 §9.3.3).
//!
//! The request passes like any other of its method and invalidates what is stored. Its answer then
//! becomes a version of its target, unless another unsafe request overtook it.

use super::body::FillBody;
use super::deliver::{mark, passed_status};
use super::failure::Failure;
use super::fill::{Leader, Outcome, Reader};
use super::lead::{self, Asking, Reach};
use super::{Exchange, pass};
use crate::body::Body;
use crate::origin::Fetched;
use crate::proto::object::PurgePosition;
use crate::proto::plan::FetchReason;
use crate::proto::semantics::{self, RequestFacts, ResponseFacts, Wanted};
use crate::route::PassReason;
use http::{HeaderMap, Method, Request, Response};
use std::sync::Arc;

/// A POST on its way, whose answer may turn out to be storable.
pub(super) struct Posted {
    /// Nobody reads this fill: it tells whether the object was invalidated or purged since the request was sent.
    witness: Leader,
    asking: Asking,
}

/// An answer that is to be stored.
pub(super) struct Storing {
    asking: Asking,
    leader: Leader,
    reader: Reader,
}

impl Posted {
    /// To be called before the request is sent. `None` if it is no POST.
    pub(super) fn begin(exchange: &Exchange, to_origin: &Request<Body>) -> Option<Self> {
        if to_origin.method() != Method::POST {
            return None;
        }
        let (witness, _reader) = exchange.worker.node.fills.alone(exchange.routed.keyed());
        let asking = asking(exchange, to_origin.headers(), witness.position());
        Some(Self { witness, asking })
    }

    /// Itself, if the answer may be stored and no invalidation has overtaken it.
    pub(super) fn confirm(self, exchange: &Exchange, fetched: &Fetched) -> Option<Self> {
        let (routed, response) = (&exchange.routed, &fetched.response);
        let (host, target) = (routed.host_str(), routed.target.as_str());
        let is_of_target = semantics::is_of_target(routed.scheme, host, target, response.headers());
        let facts = ResponseFacts::parse(response.status(), response.headers());
        let storable = semantics::storable_post(&exchange.facts, &facts, routed.policy(), is_of_target);
        (storable.is_ok() && !self.witness.is_doomed()).then_some(self)
    }

    /// Begins the fill that stores the answer; to be called when the older fills have been doomed.
    pub(super) fn fill(self, exchange: &Exchange) -> Storing {
        // What overtook the request overtakes its answer.
        let since = self.witness.position();
        let (leader, reader) = exchange.worker.node.fills.alone_since(exchange.routed.keyed(), since);
        Storing { asking: self.asking, leader, reader }
    }
}

impl Storing {
    /// Stores the answer as it comes, and hands it to the client, all end-to-end fields included.
    ///
    /// # Errors
    /// If the task that stores ended, as when the node stops.
    pub(super) async fn respond(
        self,
        exchange: &Exchange,
        fetched: Fetched,
    ) -> Result<Response<Body>, Failure> {
        let Self { asking, leader, reader } = self;
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = fetched.response.status();
        *response.headers_mut() = fetched.response.headers().clone();
        semantics::strip_hop_by_hop(response.headers_mut());
        if !asking.policy.expose_tags {
            semantics::strip_tags(response.headers_mut());
        }
        let status = passed_status(exchange, PassReason::Method, response.status());

        let worker = &exchange.worker;
        let Ok(storable) = lead::storable(&asking.request, &asking.policy, &fetched.response) else {
            return Ok(pass::respond(exchange, fetched, None, PassReason::Method));
        };
        lead::adopt(worker, asking, leader, (fetched, storable));
        let (Outcome::Streaming(arriving) | Outcome::Stored(arriving, _)) = reader.outcome().await else {
            return Err(Failure::Abandoned);
        };
        mark(&exchange.snapshot, response.headers_mut(), status.stored().to_value());
        let (site, metrics) = (Arc::clone(exchange.site()), Arc::clone(&exchange.metrics));
        let whole = (0, arriving.draft.length);
        *response.body_mut() = FillBody::body(Arc::clone(worker), site, metrics, (arriving, reader), whole);
        Ok(response)
    }
}

/// What a GET with the fields of the POST would ask.
fn asking(exchange: &Exchange, fields: &HeaderMap, position: PurgePosition) -> Asking {
    let mut forward = Request::new(());
    *forward.uri_mut() = exchange.routed.target.clone().into();
    Asking {
        site: Arc::clone(exchange.site()),
        metrics: Arc::clone(&exchange.metrics),
        policy: exchange.routed.policy().clone(),
        key: exchange.routed.key.clone(),
        object: exchange.routed.object,
        request: RequestFacts { has_range: false, ..exchange.facts.as_get() },
        selecting: fields.clone(),
        forward,
        stale: None,
        part: None,
        wanted: Wanted::Whole,
        is_sparing: false,
        reason: FetchReason::Pass,
        reach: if exchange.routed.peers() { Reach::Origin } else { Reach::Off },
        position,
    }
}
