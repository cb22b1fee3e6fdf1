//! What a request asks the origin, or its peers, for.

use super::lead::{Asking, Reach};
use super::{Cached, pass};
use crate::proto::object::PurgePosition;
use crate::proto::plan::FetchReason;
use crate::proto::purge::Judgement;
use crate::proto::semantics::{self, RequestFacts, Wanted};
use http::header::EXPECT;
use http::{Method, Request};
use std::sync::Arc;

impl Cached {
    /// What the leader of a fill for this request is told. A site or rule that does not share keeps its fills, and what
    /// they bring, on this node. `position` is that of the fill: no purge up to it has any say in what comes, so what it
    /// selects is not validated.
    pub(super) fn asking(
        &self,
        reason: FetchReason,
        reach: Reach,
        (wanted, position): (Wanted, PurgePosition),
    ) -> Asking {
        let exchange = &self.exchange;
        let node = &exchange.worker.node;
        let reach = if exchange.routed.peers() { reach } else { Reach::Off };
        let forward = self.client_head(Method::GET);
        let selecting = forward.headers().clone();
        Asking {
            site: Arc::clone(exchange.site()),
            metrics: Arc::clone(&exchange.metrics),
            policy: exchange.routed.policy().clone(),
            key: exchange.routed.key.clone(),
            object: exchange.routed.object,
            request: RequestFacts { has_range: wanted != Wanted::Whole, ..exchange.facts },
            selecting,
            forward: for_cache(forward),
            stale: self.found.as_ref().map(|(hit, _)| hit.clone()).filter(|hit| !exchange.is_purged(hit)),
            part: self.part.clone().filter(|hit| node.purges.judge(&hit.head) == Judgement::Clear),
            wanted,
            is_sparing: exchange.facts.has_range,
            reason,
            reach,
            position,
        }
    }

    /// What the origin is asked for by a fill for this request.
    pub(super) fn wanted(&self, reason: FetchReason) -> Wanted {
        let of_part = self.found.as_ref().is_some_and(|(hit, _)| hit.head.is_part());
        if reason == FetchReason::Range || of_part { Wanted::of(&self.headers) } else { Wanted::Whole }
    }

    /// Head of the client's own request, as the origin is sent it.
    pub(super) fn client_head(&self, method: Method) -> Request<()> {
        pass::origin_head(&self.exchange, method, self.headers.clone())
    }
}

/// The request of the cache for that of a client: for the whole body, without conditions.
fn for_cache(mut request: Request<()>) -> Request<()> {
    semantics::strip_conditions(request.headers_mut());
    // One client's, and of no use without a body.
    request.headers_mut().remove(EXPECT);
    request
}
