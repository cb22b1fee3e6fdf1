//! What the answer to a HEAD says of the stored response to a GET (RFC 9111 §4.3.5): that it is as good as new, or no
//! longer what the origin has.

use super::fill::Leader;
use super::lead::Reach;
use super::renewal::Renewal;
use super::{Cached, Gone};
use crate::origin::Fetched;
use crate::proto::plan::FetchReason;
use crate::proto::semantics::{self, Held, Likeness, ResponseFacts, Wanted};
use crate::proto::time::Wall;
use crate::store::Hit;
use http::{HeaderMap, StatusCode};

/// The answer to a HEAD.
pub(super) struct Told {
    status: StatusCode,
    fields: HeaderMap,
    request_sent: Wall,
    received: Wall,
}

impl Told {
    pub(super) fn of(fetched: &Fetched) -> Self {
        let (status, fields) = (fetched.response.status(), fetched.response.headers().clone());
        Self { status, fields, request_sent: fetched.request_sent, received: fetched.received }
    }
}

impl Cached {
    /// Freshens or drops what is stored, by the answer to a HEAD. `leader` was made before that was asked. What shows
    /// credentials, or forbids to store, has no say in what others get.
    pub(super) async fn heed_head(&self, mut told: Told, leader: &Leader) {
        let (exchange, facts) = (&self.exchange, &self.exchange.facts);
        let stored = self.found.as_ref().map(|(hit, _)| hit).or(self.part.as_ref());
        let Some(hit) = stored.filter(|_| !(facts.has_authorization || self.is_no_store())) else { return };
        let node = &exchange.worker.node;
        if leader.is_doomed() || node.standing(hit, true).is_err_and(|Gone| true) {
            return;
        }
        let stored = (hit.head.status, &hit.head.fields(), length_of(hit));
        match semantics::likeness(stored, (told.status, &told.fields)) {
            Likeness::Unknown => {}
            Likeness::Other => {
                node.fills.doom(exchange.routed.object);
                node.store.invalidate(exchange.routed.object).await;
            }
            Likeness::Same => {
                let wanted = (Wanted::Whole, leader.position());
                let mut asking = self.asking(FetchReason::Head, Reach::Origin, wanted);
                asking.request = asking.request.as_get();
                asking.request.has_range = hit.head.is_part();
                semantics::ensure_date(&mut told.fields, told.received);
                let facts = ResponseFacts::parse(told.status, &told.fields);
                let age = semantics::corrected_initial_age(&facts, told.request_sent, told.received);
                if let Some(renewal) = Renewal::of(&asking, hit, (&told.fields, age, told.received)) {
                    renewal.carry_out(node, &asking, hit).await;
                }
            }
        }
    }
}

/// What `Content-Length` of a HEAD would be.
fn length_of(hit: &Hit) -> Option<u64> {
    let head = &hit.head;
    match Held::of(head.status, &head.fields(), head.length) {
        Some(held) => held.complete,
        None => head.length,
    }
}
