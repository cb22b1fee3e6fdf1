//! Bringing a stored version up to date with what validated it (RFC 9111 §3.2, §4.3.4, §4.3.5): the 304 to a fill, the answer
//! to a HEAD, or a peer's word. What comes of it is judged as if it had come whole: whether it may be stored, which requests
//! select it, and whether it may leave this node.

use super::Node;
use super::fill::{Kept, Refreshed};
use super::lead::{Asking, Reach};
use crate::origin::Fetched;
use crate::proto::object::HeadDraft;
use crate::proto::semantics::{self, Merged, ResponseFacts, Vary};
use crate::proto::time::Wall;
use crate::route;
use crate::store::Hit;
use http::header::CONTENT_RANGE;
use http::{HeaderMap, StatusCode};

/// The fields of what validated a version, the age that this had, and when it was received.
pub(super) type Update<'a> = (&'a HeaderMap, u32, Wall);

/// What a stored version becomes.
pub(super) struct Renewal {
    draft: HeadDraft,
    withheld: HeaderMap,
    vary: Vary,
    kept: Kept,
}

/// Brings a stored version up to date with a 304.
pub(super) async fn refresh(node: &Node, asking: &Asking, hit: &Hit, fetched: Fetched) -> Refreshed {
    let (request_sent, received) = (fetched.request_sent, fetched.received);
    let mut update = fetched.response.into_parts().0.headers;
    semantics::ensure_date(&mut update, received);
    let facts = ResponseFacts::parse(StatusCode::NOT_MODIFIED, &update);
    let age = semantics::corrected_initial_age(&facts, request_sent, received);
    match Renewal::of(asking, hit, (&update, age, received)) {
        Some(renewal) => renewal.carry_out(node, asking, hit).await,
        None => Refreshed::kept(hit.clone()),
    }
}

impl Renewal {
    /// What `hit`, which the request of `asking` selects, becomes by `update`. `None` if its head cannot be changed.
    pub(super) fn of(asking: &Asking, hit: &Hit, (update, age, received): Update<'_>) -> Option<Self> {
        let mut draft = hit.head.to_draft().ok()?;
        let place = draft.fields.get(CONTENT_RANGE).filter(|_| hit.head.is_part()).cloned();
        let Merged { mut fields, mut withheld } = semantics::merge_304(&draft.fields, update);
        if let Some(place) = place {
            // Which bytes these are is not for a 304 to say.
            fields.insert(CONTENT_RANGE, place);
        }
        if !asking.policy.expose_tags {
            semantics::strip_tags(&mut withheld);
        }
        draft.fields = fields;
        draft.received = received;
        draft.initial_age = age;
        // Which purges were known of the old head says nothing of what it was given now.
        draft.position = asking.position;
        let facts = ResponseFacts::parse(draft.status, &draft.fields);
        // A site may have shared it when it was stored.
        draft.personal |= asking.reach == Reach::Off || semantics::personal(&asking.request, &facts);
        let vary = route::selects_by(Vary::of(&draft.fields));
        let kept = match semantics::storable(&asking.request, &facts, &asking.policy) {
            Err(not) => Kept::NotStorable(not),
            Ok(_) if vary.variant(asking.object, &asking.selecting) == Some(draft.variant) => Kept::Yes,
            Ok(_) => Kept::OtherVariant,
        };
        Some(Self { draft, withheld, vary, kept })
    }

    /// Whether the version goes on to be stored as what it was, and other nodes may be told of it.
    pub(super) fn is_for_all(&self) -> bool {
        self.kept == Kept::Yes && !self.draft.personal
    }

    /// Gives `hit` its new head, in the store too if it may stay there. Else all of the object is dropped: what else is stored
    /// of it was filed by what counts no more. Who asked gets it all the same.
    pub(super) async fn carry_out(self, node: &Node, asking: &Asking, hit: &Hit) -> Refreshed {
        let Self { draft, withheld, vary, kept } = self;
        let hit = match kept {
            Kept::Yes => {
                let hit = node.store.refresh(hit, draft).await;
                node.known.storable(asking.object, node.store.vary(asking.object));
                hit
            }
            Kept::OtherVariant | Kept::NotStorable(_) => {
                let hit = node.store.with_head(hit, draft);
                node.store.invalidate(asking.object).await;
                hit
            }
        };
        match (kept, vary) {
            (Kept::NotStorable(not), _) => asking.metrics.not_stored.inc(not as usize),
            // Who asks next is to wait only for those who select the same.
            (Kept::OtherVariant, Vary::Fields(list)) => node.known.storable(asking.object, Some(list)),
            _ => {}
        }
        Refreshed { hit, withheld, kept }
    }
}
