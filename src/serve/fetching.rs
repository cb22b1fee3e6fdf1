//! What a request does to get what is not stored, or not fresh: it joins the fill of its variant or begins one, or sends
//! the client's own request.

use super::failure::Failure;
use super::fill::{Arriving, Joined, Outcome, Reader, Under};
use super::head::Told;
use super::lead::{self, Reach};
use super::{Cached, Exchange, Fetching};
use crate::body::{Body, Interims};
use crate::origin::{FetchError, Fetched, on_interim};
use crate::proto::key::{self, VariantId};
use crate::proto::plan::{Event, FetchReason, Filled, How, Miss};
use crate::proto::purge::Judgement;
use crate::proto::seek::Ground;
use crate::proto::semantics::{Reuse, VaryList, Wanted};
use crate::proto::verdict::Source;
use crate::store::{Hit, Lookup};
use http::{Method, Request, StatusCode};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

impl Exchange {
    /// Time has passed: what is judged from here on is judged by what is known now.
    fn renew(&mut self) {
        let (node, now) = (&self.worker.node, self.worker.node.clock.now());
        self.in_sync = node.purges.in_sync(now.mono);
        self.now = now.wall;
    }

    /// Asks the origin; interim responses go to the client as they come.
    pub(super) async fn fetch(
        &self,
        mut request: Request<Body>,
        interims: &Interims,
    ) -> Result<Fetched, FetchError> {
        let (origins, group) = (&self.worker.origins, &self.site().origin);
        if interims.is_deaf() {
            return origins.fetch(group, request, None).await;
        }
        // The connection calls from a task of its own.
        let arriving = Arc::new(Interims::default());
        let give = Arc::clone(&arriving);
        on_interim(&mut request, move |interim| give.offer(Arc::new(interim)));
        arriving.during(interims, origins.fetch(group, request, None)).await
    }

    /// Whether a hard purge selects a stored version.
    pub(super) fn is_purged(&self, hit: &Hit) -> bool {
        self.worker.node.purges.judge(&hit.head) == Judgement::Hard
    }
}

impl Cached {
    /// Fetches, from a peer or from the origin, and waits until it is known what the answer is to this request.
    pub(super) async fn fetch(
        &mut self,
        how: How,
        reason: FetchReason,
        interims: &Interims,
    ) -> (Event, Fetching) {
        self.replans += 1;
        self.notes.reason = Some(reason);
        let exchange = &self.exchange;
        let worker = Arc::clone(&exchange.worker);
        if how == How::Forward {
            return self.forward(reason, interims).await;
        }
        let wanted = self.wanted(reason);
        let listed = key::part(self.variant(), wanted);
        let joined = match how {
            How::Join => worker.node.fills.join(exchange.routed.keyed(), listed, || self.settled()),
            _ => Joined::Alone,
        };
        let (reader, collapsed) = match joined {
            Joined::Settled => return self.filled(Filled::Unfit, Fetching::Nothing),
            Joined::Follow(reader) => {
                exchange.metrics.collapsed.inc();
                (reader, true)
            }
            Joined::Lead(leader, reader) => {
                lead::start(&worker, self.asking(reason, Reach::Swarm, (wanted, leader.position())), leader);
                (reader, false)
            }
            Joined::Alone => {
                let (leader, reader) = worker.node.fills.alone(exchange.routed.keyed());
                lead::start(&worker, self.asking(reason, Reach::Stored, (wanted, leader.position())), leader);
                (reader, false)
            }
        };
        let outcome = reader.outcome_after(interims).await;
        self.notes.collapsed = collapsed;
        // What it asked for itself, and nothing stored had a part in, is its own also if it is another range.
        let is_own = !collapsed && self.part.is_none() && wanted != Wanted::Whole;
        self.outcome(outcome, reader, (collapsed, is_own))
    }

    fn outcome(
        &mut self,
        outcome: Outcome,
        reader: Reader,
        (collapsed, is_own): (bool, bool),
    ) -> (Event, Fetching) {
        self.exchange.renew();
        match outcome {
            Outcome::Streaming(arriving) | Outcome::Stored(arriving, _)
                if !self.selects(&arriving) || !(is_own || self.is_covered_by_fill(&arriving)) =>
            {
                self.filled(Filled::Unfit, Fetching::Nothing)
            }
            Outcome::Streaming(arriving) | Outcome::Stored(arriving, _) => {
                self.notes.from_peer = arriving.source == Source::Peer;
                let filled = Filled::Streaming { collapsed, source: arriving.source };
                self.filled(filled, Fetching::Arriving(arriving, reader))
            }
            Outcome::Refreshed(refreshed) => {
                let hit = refreshed.hit.clone();
                // Decided, since the fill has ended.
                let under = reader.poll_under(&Context::from_waker(Waker::noop()));
                let in_fleet = self.exchange.worker.node.mesh.is_some();
                self.notes.from_peer = in_fleet && under != Poll::Ready(Under::Origin);
                let covered = self.is_covered_by(&hit);
                self.found = self.judge(&hit).ok().filter(|_| covered).map(|reuse| (hit, reuse));
                let filled =
                    if self.found.is_some() { Filled::Refreshed { collapsed } } else { Filled::Unfit };
                let is_own = self.found.is_some() && !collapsed;
                let fetching = if is_own { Fetching::Refreshed(refreshed) } else { Fetching::Nothing };
                self.filled(filled, fetching)
            }
            Outcome::Own(fetched, server_error) => {
                self.filled(Filled::Own { server_error }, Fetching::Own(fetched))
            }
            Outcome::NotStored(server_error) => {
                self.filled(Filled::NotStored { server_error }, Fetching::Nothing)
            }
            Outcome::Unfit => self.filled(Filled::Unfit, Fetching::Nothing),
            Outcome::Failed(failure) => self.filled(Filled::Failed, Fetching::Failed(failure)),
        }
    }

    /// Sends the client's own request, conditions and range included.
    async fn forward(&mut self, reason: FetchReason, interims: &Interims) -> (Event, Fetching) {
        let exchange = &self.exchange;
        let request = self.client_head(self.method.clone()).map(|()| Body::Empty);
        let (leader, reader) = exchange.worker.node.fills.alone(exchange.routed.keyed());
        exchange.metrics.origin_fetches.inc(reason as usize);
        exchange.metrics.taking.origin_fetches.of(Ground::Off).inc();
        let fetched = match exchange.fetch(request, interims).await {
            Ok(fetched) => fetched,
            Err(error) => {
                exchange.metrics.origin_failures.inc(error.kind() as usize);
                return self.filled(Filled::Failed, Fetching::Failed(Failure::Origin(error.into())));
            }
        };
        if self.method != Method::GET {
            Box::pin(self.heed_head(Told::of(&fetched), &leader)).await;
            return self.own(fetched);
        }
        match lead::storable(&exchange.facts, exchange.routed.policy(), &fetched.response) {
            Ok(storable) => {
                let wanted = Wanted::of(&self.headers);
                let asking = self.asking(reason, Reach::Origin, (wanted, leader.position()));
                lead::adopt(&exchange.worker, asking, leader, (fetched, storable));
                let outcome = reader.outcome().await;
                self.outcome(outcome, reader, (false, true))
            }
            Err(not_storable) => {
                let (node, routed) = (&exchange.worker.node, &exchange.routed);
                lead::remember(
                    node,
                    &exchange.metrics,
                    routed.object,
                    not_storable,
                    fetched.response.status(),
                );
                self.notes.not_stored = Some(not_storable);
                self.own(fetched)
            }
        }
    }

    fn own(&self, fetched: Fetched) -> (Event, Fetching) {
        let server_error = lead::is_server_error(fetched.response.status());
        self.filled(Filled::Own { server_error }, Fetching::Own(Box::new(fetched)))
    }

    fn filled(&self, filled: Filled, fetching: Fetching) -> (Event, Fetching) {
        let stands_in = |(hit, reuse): &(Hit, Reuse)| {
            matches!(reuse, Reuse::Validate { if_error: true, .. }) && !self.exchange.is_purged(hit)
        };
        let stale = self.found.as_ref().is_some_and(stands_in);
        (Event::Filled { filled, stale }, fetching)
    }

    /// Whether a fresh result appeared in the store since this request looked.
    pub(super) fn settled(&self) -> bool {
        let exchange = &self.exchange;
        let variant = |vary: &VaryList| self.selected_by(vary);
        let key = exchange.routed.key.as_bytes();
        match exchange.worker.node.store.lookup(exchange.routed.object, key, variant) {
            Lookup::Memory(hit) => {
                self.is_covered_by(&hit) && matches!(self.judge(&hit), Ok(Reuse::Fresh { .. }))
            }
            Lookup::OnDisk(_) => self.found.is_none() && self.miss != Some(Miss::Partial),
            Lookup::Miss(_) => false,
        }
    }

    pub(super) fn variant(&self) -> VariantId {
        self.exchange.worker.node.variant_by(self.exchange.routed.object, |vary| self.selected_by(vary))
    }

    /// The variant that this request selects under `vary`.
    pub(super) fn selected_by(&self, vary: &VaryList) -> VariantId {
        vary.variant(self.exchange.routed.object, &self.exchange.selecting(vary, &self.headers))
    }

    /// Whether this request selects the variant that is arriving.
    pub(super) fn selects(&self, arriving: &Arriving) -> bool {
        arriving.vary.as_ref().is_none_or(|vary| self.selected_by(vary) == arriving.draft.variant)
    }

    /// Whether what is arriving has all that this request asks for.
    fn is_covered_by_fill(&self, arriving: &Arriving) -> bool {
        let draft = &arriving.draft;
        draft.status != StatusCode::PARTIAL_CONTENT
            || self.exchange.facts.has_range
                && self.is_covered_by_part((draft.status, &draft.fields), draft.length)
    }

    /// Refreshes a stale object behind the response that it just gave (RFC 5861 §3).
    pub(super) fn refresh_behind(&self) {
        let worker = &self.exchange.worker;
        let wanted = self.wanted(FetchReason::Refresh);
        let listed = key::part(self.variant(), wanted);
        let joined = worker.node.fills.join(self.exchange.routed.keyed(), listed, || self.settled());
        if let Joined::Lead(leader, _reader) = joined {
            let asking = self.asking(FetchReason::Refresh, Reach::Swarm, (wanted, leader.position()));
            lead::start(worker, asking, leader);
        }
    }
}
