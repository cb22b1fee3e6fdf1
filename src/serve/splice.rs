//! Stored parts that become more (RFC 9111 §3.3, §3.4): asking the origin only for what is missing, and putting its answer
//! and the part together to one body.
//!
//! ```text
//!                ask            answer                                  body
//! part in front  end of part-   206, same strong entity tag, fits  ──   part · answer
//! part behind    -part          the same                           ──   answer · part · rest, asked for in its turn
//!                               200, or another status             ──   the answer alone, as if no part were stored
//!                               206 or 416 that does not fit       ──   asked again without a part
//! ```

use super::intake::{ABANDONED, Broken, Intake, LENGTH};
use super::lead::{self, Asking, Storable};
use super::{Node, Worker, rest};
use crate::body::Body;
use crate::origin::Fetched;
use crate::proto::key::{self, VersionId};
use crate::proto::object::HeadDraft;
use crate::proto::object::layout::{record_count, record_span_within};
use crate::proto::plan::FetchReason;
use crate::proto::relay::Checker;
use crate::proto::seek::Ground;
use crate::proto::semantics::{self, Completion, EtagKind, Held, Merged, Place, Wanted};
use crate::proto::time::Wall;
use crate::store::Hit;
use futures_util::FutureExt;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, IF_RANGE, RANGE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version, response};
use http_body_util::BodyExt;
use std::ops::Range;
use std::time::Duration;

/// A stored part and how it becomes what is wanted.
pub(super) struct Joint {
    hit: Hit,
    fields: HeaderMap,
    held: Held,
    completion: Completion,
}

/// A stored part with an answer of the origin that fits.
pub(super) struct Splice {
    joint: Joint,
    /// What the two are together.
    held: Held,
    /// The fields of both (RFC 9111 §3.4).
    fields: HeaderMap,
    /// Those of the answer that only the client whose request brought it gets.
    withheld: HeaderMap,
}

impl Joint {
    /// How the stored part that a fetch may use becomes what it wants, if it can.
    pub(super) fn of(asking: &Asking) -> Option<Self> {
        let mut hit = asking.part.clone()?;
        hit.pin(0..hit.head.length?).ok()?;
        let fields = hit.head.fields();
        let held = Held::of(hit.head.status, &fields, hit.head.length)?;
        let is_strong = hit.head.facts.etag() == EtagKind::Strong;
        let completion = held.completion(&asking.wanted, is_strong)?;
        Some(Self { hit, fields, held, completion })
    }

    /// The request for what is missing: of the version that the part is of, if that can be said (RFC 9110 §13.1.5).
    pub(super) fn request(&self, asking: &Asking) -> Request<Body> {
        let mut request = asking.forward.clone().map(|()| Body::Empty);
        let headers = request.headers_mut();
        if let Some(range) = Wanted::Span(self.completion.ask).to_value() {
            headers.insert(RANGE, range);
        }
        let etag = semantics::strong_etag(&self.fields).and_then(|etag| HeaderValue::from_bytes(etag).ok());
        if let Some(etag) = etag {
            headers.insert(IF_RANGE, etag);
        }
        request
    }

    /// The two together, and why they may be stored. `None` if they do not fit, or are of two variants.
    pub(super) fn fit(self, asking: &Asking, fetched: &Fetched) -> Option<(Splice, Storable)> {
        let (status, headers) = (fetched.response.status(), fetched.response.headers());
        // RFC 9111 §3.4: both have the same strong validator.
        let etag = semantics::strong_etag(&self.fields)?;
        if semantics::strong_etag(headers) != Some(etag) {
            return None;
        }
        let length = http_body::Body::size_hint(fetched.response.body()).exact();
        let new = Held::of(status, headers, length)?;
        let held = self.completion.result(&self.held, &new)?;
        let mut update = headers.clone();
        semantics::ensure_date(&mut update, fetched.received);
        let Merged { mut fields, withheld } = semantics::merge_304(&self.fields, &update);
        let status = describe(&held, &mut fields);
        let storable = lead::storable_as(&asking.request, &asking.policy, (status, &fields)).ok()?;
        let variant = storable.1.as_ref().map(|vary| vary.variant(asking.object, &asking.selecting));
        let same = variant.is_none_or(|variant| variant == self.hit.head.variant);
        same.then_some((Splice { joint: self, held, fields, withheld }, storable))
    }
}

/// Gives `fields` those that a stored `held` has, and says with which status it is stored: all of a representation is
/// stored as what a plain GET would have brought (RFC 9111 §3.4).
fn describe(held: &Held, fields: &mut HeaderMap) -> StatusCode {
    fields.remove(CONTENT_LENGTH);
    if held.is_all() {
        fields.remove(CONTENT_RANGE);
        fields.insert(CONTENT_LENGTH, HeaderValue::from(held.range.end));
        return StatusCode::OK;
    }
    fields.insert(CONTENT_RANGE, semantics::content_range(&held.range, held.complete));
    StatusCode::PARTIAL_CONTENT
}

/// What of a response is stored: status, fields and length, as far as that is known.
pub(super) struct Stored {
    pub(super) status: StatusCode,
    pub(super) fields: HeaderMap,
    pub(super) length: Option<u64>,
    /// Which part it is, if it is one.
    pub(super) held: Option<Held>,
    /// Whether a part in it may never leave this node.
    pub(super) personal: bool,
    /// When the stored part was received, if there is one.
    after: Option<Wall>,
}

impl Stored {
    /// `fields` are the storable ones of `head`, whose content has `length` bytes, if that is known.
    pub(super) fn of(
        head: &response::Parts,
        fields: HeaderMap,
        length: Option<u64>,
        splice: Option<&Splice>,
    ) -> Self {
        if let Some(Splice { joint, held, fields, .. }) = splice {
            let mut fields = fields.clone();
            let status = describe(held, &mut fields);
            let length = Some(held.range.end - held.range.start);
            let (personal, after) = (joint.hit.head.personal, Some(joint.hit.head.received));
            return Self { status, fields, length, held: Some(held.clone()), personal, after };
        }
        let (mut status, mut fields) = (head.status, fields);
        let held = Held::of(status, &fields, length);
        let mut length = length;
        if let Some(held) = held.as_ref().filter(|held| held.is_exact) {
            // A message that ends with its connection says nothing of its own length.
            let framed = head.version != Version::HTTP_10 && head.headers.contains_key(TRANSFER_ENCODING)
                || head.version == Version::HTTP_2;
            if held.is_all() || !framed {
                length = Some(held.range.end - held.range.start);
            }
            status = describe(held, &mut fields);
        }
        Self { status, fields, length, held, personal: false, after: None }
    }

    /// The identity of what is stored of `version`.
    pub(super) fn version(&self, version: VersionId) -> VersionId {
        match &self.held {
            Some(held) if self.status == StatusCode::PARTIAL_CONTENT => {
                key::version_part(version, &held.range)
            }
            _ => version,
        }
    }

    /// A time for the version that is not that of the part in it, since records are filed by it.
    pub(super) fn received(&self, received: Wall) -> Wall {
        self.after.map_or(received, |after| received.max(after.plus(Duration::from_millis(1))))
    }
}

impl Splice {
    /// The fields of the answer that only the client whose request brought it gets.
    pub(super) const fn withheld(&self) -> &HeaderMap {
        &self.withheld
    }

    /// Moves the body into the fill: what the origin sends, what is stored, and what is still missing behind it.
    ///
    /// # Errors
    /// If any of them is not what it must be.
    pub(super) async fn feed(
        self,
        (worker, asking): (&Worker, &Asking),
        intake: &mut Intake,
        body: Body,
        checker: &mut Option<Checker>,
    ) -> Result<(), Broken> {
        let Joint { hit, held, completion, .. } = self.joint;
        let Held { range: whole, .. } = self.held;
        if completion.place == Place::First {
            feed_stored(intake, &hit, checker).await?;
            return feed(intake, body, Some(whole.end - held.range.end), (asking, checker)).await;
        }
        feed(intake, body, Some(held.range.start - whole.start), (asking, checker)).await?;
        feed_stored(intake, &hit, checker).await?;
        let Some(then) = completion.then else { return Ok(()) };
        asking.metrics.origin_fetches.inc(FetchReason::Complete as usize);
        asking.metrics.taking.origin_fetches.of(Ground::Off).inc();
        let rest = rest::range(worker, &asking.site, &intake.arriving, (then.start, then.end)).await;
        feed(intake, rest.ok_or(UPSTREAM)?, Some(then.end - then.start), (asking, checker)).await
    }
}

/// The origin's body failed.
const UPSTREAM: Broken = "upstream body failed";

/// Moves the origin's body into the fill. Readers are woken when no more bytes are at hand, or 64 KiB have
/// gathered, whichever is first.
///
/// # Errors
/// If the body fails, has not `length` bytes, or nobody wants it any more.
pub(super) async fn feed(
    intake: &mut Intake,
    mut body: Body,
    length: Option<u64>,
    (asking, checker): (&Asking, &mut Option<Checker>),
) -> Result<(), Broken> {
    let mut received = 0;
    loop {
        let frame = match body.frame().now_or_never() {
            Some(frame) => frame,
            None => {
                intake.wake();
                body.frame().await
            }
        };
        let bytes = match frame {
            None => break,
            Some(Err(_)) => return Err(UPSTREAM),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => bytes,
                Err(_trailers) => continue,
            },
        };
        asking.metrics.origin_bytes.inc_by(bytes.len() as u64);
        received += bytes.len() as u64;
        if length.is_some_and(|length| received > length) {
            return Err(LENGTH);
        }
        intake.push_trusted(bytes, checker.as_mut()).await?;
    }
    if length.is_none_or(|length| length == received) { Ok(()) } else { Err(LENGTH) }
}

/// Moves a stored part into the fill.
async fn feed_stored(intake: &mut Intake, hit: &Hit, checker: &mut Option<Checker>) -> Result<(), Broken> {
    let length = hit.head.length.unwrap_or(0);
    for index in 0..record_count(length) {
        let span = record_span_within(index, length);
        let bytes = match index {
            0 => hit.head.body(),
            _ => hit.record(index).await.map_err(|_gone| "stored part is gone")?,
        };
        if bytes.len() as u64 != span.end - span.start {
            return Err("stored part is damaged");
        }
        intake.push_trusted(bytes, checker.as_mut()).await?;
    }
    Ok(())
}

/// A body that broke off is kept as far as it came, if the origin can be asked for the rest of that version, and if nothing
/// better is stored (RFC 9111 §3.3).
pub(super) async fn break_off(node: &Node, asking: &Asking, intake: Intake, first: u64, why: Broken) {
    let part = asking.part.as_ref().and_then(|hit| hit.head.length);
    let is_more = intake.received() > part.unwrap_or(0) && asking.stale.is_none();
    if !is_more || ![UPSTREAM, ABANDONED].contains(&why) {
        return intake.broken(why);
    }
    let cut = cut(&intake.arriving.draft, first..first + intake.received());
    intake.cut(node, cut, why).await;
}

/// What a part that is arriving holds.
pub(super) fn held(part: &HeadDraft) -> Option<Held> {
    Held::of(part.status, &part.fields, part.length).filter(|held| held.is_exact)
}

/// Bytes of a version that is a part; `None` if it is none.
pub(super) fn length_of_part(draft: &HeadDraft) -> Option<u64> {
    let held = (draft.status == StatusCode::PARTIAL_CONTENT).then(|| held(draft)).flatten()?;
    Some(held.range.end - held.range.start)
}

/// Status and fields of the first bytes of a version. `None` if nothing could be put together with them.
fn cut(draft: &HeadDraft, range: Range<u64>) -> Option<(StatusCode, HeaderMap)> {
    semantics::strong_etag(&draft.fields)?;
    let complete = match draft.status {
        StatusCode::OK => draft.length,
        StatusCode::PARTIAL_CONTENT => held(draft)?.complete,
        _ => return None,
    };
    let mut fields = draft.fields.clone();
    let held = Held { range, complete, is_exact: true };
    let status = describe(&held, &mut fields);
    Some((status, fields)).filter(|(status, _)| *status == StatusCode::PARTIAL_CONTENT)
}
