//! What a request asks the origin, or its peers, for.

use super::lead::{Asking, Reach};
use super::{Cached, pass};
use crate::proto::object::PurgePosition;
use crate::proto::plan::FetchReason;
use crate::proto::semantics;
use http::header::EXPECT;
use http::{Method, Request};
use std::sync::Arc;

impl Cached {
    /// What the leader of a fill for this request is told. A site or rule that does not share keeps its fills, and what
    /// they bring, on this node. `position` is that of the fill: no purge up to it has any say in what comes, so what it
    /// selects is not validated.
    pub(super) fn asking(&self, reason: FetchReason, reach: Reach, position: PurgePosition) -> Asking {
        let exchange = &self.exchange;
        let reach = if exchange.routed.peers() { reach } else { Reach::Off };
        Asking {
            site: Arc::clone(exchange.site()),
            metrics: Arc::clone(&exchange.metrics),
            policy: exchange.routed.policy().clone(),
            key: exchange.routed.key.clone(),
            object: exchange.routed.object,
            request: exchange.facts,
            selecting: self.headers.clone(),
            forward: self.forward_head(true),
            stale: self.found.as_ref().map(|(hit, _)| hit.clone()).filter(|hit| !exchange.is_purged(hit)),
            reason,
            reach,
            position,
        }
    }

    /// Head of the request to the origin: for the cache (whole body, no conditions), or the client's.
    pub(super) fn forward_head(&self, for_cache: bool) -> Request<()> {
        let exchange = &self.exchange;
        let method = if for_cache { Method::GET } else { self.method.clone() };
        let mut request = pass::origin_head(exchange, method, self.headers.clone());
        if for_cache {
            semantics::strip_conditions(request.headers_mut());
            // One client's, and of no use without a body.
            request.headers_mut().remove(EXPECT);
        }
        request
    }
}
