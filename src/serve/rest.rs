//! The rest of a version that is arriving, from the origin: for a reader that fell behind its fill, and for a fill whose peers
//! are lost. Only ever of the very same version, which a strong entity tag must prove.

use super::fill::Arriving;
use super::{Worker, splice};
use crate::body::{Body, BodyError};
use crate::config::model::Site;
use crate::proto::key;
use crate::proto::plan::FetchReason;
use crate::proto::seek::Ground;
use crate::proto::semantics::{self, ContentRange, Span, Wanted};
use crate::route::{X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::telemetry::SiteMetrics;
use bytes::Bytes;
use http::header::{CONTENT_RANGE, HOST, IF_RANGE, RANGE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// The rest of an arriving version behind the first `taken` bytes of it, for a reader that fell behind.
pub(super) async fn behind(
    worker: &Worker,
    (site, metrics): (&Site, &Arc<SiteMetrics>),
    arriving: &Arriving,
    taken: u64,
) -> Option<Body> {
    metrics.origin_fetches.inc(FetchReason::Laggard as usize);
    metrics.taking.origin_fetches.of(Ground::Off).inc();
    of(worker, (site, metrics), arriving, taken).await
}

/// What follows the first `taken` bytes of an arriving version, to its end: a body that ends before it fails. A server that
/// knows no ranges sends all of the version once more: what was taken is dropped then, as that costs less than a response
/// that breaks off.
pub(super) async fn of(
    worker: &Worker,
    (site, metrics): (&Site, &Arc<SiteMetrics>),
    arriving: &Arriving,
    taken: u64,
) -> Option<Body> {
    let draft = &arriving.draft;
    let (first, end, complete) = match draft.status {
        StatusCode::PARTIAL_CONTENT => {
            let held = splice::held(draft)?;
            (held.range.start, Some(held.range.end), held.complete)
        }
        _ => (0, draft.length, draft.length),
    };
    let start = first + taken;
    let response = ask(worker, site, arriving, (start, end)).await?;
    let (told, skip) = match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let (range, told) = place(&response)?;
            // A server may give a part of what is asked for, which must not be taken for all of it.
            let is_rest = range.start == start && end.or(told).is_some_and(|end| range.end >= end);
            (told, is_rest.then_some(0)?)
        }
        StatusCode::OK => (http_body::Body::size_hint(response.body()).exact(), start),
        _ => return None,
    };
    let fits = complete.zip(told).is_none_or(|(complete, told)| complete == told);
    let left = match end.or(told) {
        Some(end) => Some(end.checked_sub(start)?),
        None => None,
    };
    fits.then(|| Rest::body(response.into_body(), (skip, left), Arc::clone(metrics)))
}

/// Bytes of an arriving version from `start` to before `end`. `None` also if the server knows no ranges.
pub(super) async fn range(
    worker: &Worker,
    site: &Site,
    arriving: &Arriving,
    (start, end): (u64, u64),
) -> Option<Body> {
    let response = ask(worker, site, arriving, (start, Some(end))).await?;
    let (range, _) = place(&response)?;
    (range.start == start).then(|| response.into_body())
}

/// Which bytes a 206 has, and of how many.
fn place(response: &Response<Body>) -> Option<(Range<u64>, Option<u64>)> {
    let place = response.headers().get(CONTENT_RANGE).and_then(semantics::parse_content_range)?;
    match place {
        ContentRange::Satisfied { range, length } if response.status() == StatusCode::PARTIAL_CONTENT => {
            Some((range, length))
        }
        _ => None,
    }
}

/// Asks the server that an arriving version comes from, if that is known, for a range of it. `None` if the version has no
/// strong validator, or is not what the server has any more: bytes of two versions are never spliced (RFC 9110 §13.1.5).
async fn ask(
    worker: &Worker,
    site: &Site,
    arriving: &Arriving,
    (first, end): (u64, Option<u64>),
) -> Option<Response<Body>> {
    let etag = semantics::strong_etag(&arriving.draft.fields)?.to_vec();
    let parts = key::decode(arriving.draft.key.as_bytes())?;
    let mut request = Request::get(parts.path).body(Body::Empty).ok()?;
    let host = site.origin.host.as_deref().unwrap_or(parts.host);
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(host).ok()?);
    // In the key, so not among what selects.
    headers.insert(X_FORWARDED_HOST, HeaderValue::from_str(parts.host).ok()?);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(parts.scheme.as_str()));
    headers.insert(RANGE, Wanted::Span(Span { first, end }).to_value()?);
    headers.insert(IF_RANGE, HeaderValue::from_bytes(&etag).ok()?);
    for selecting in &arriving.draft.selecting {
        if let Some(value) = &selecting.value {
            headers.insert(selecting.name.clone(), HeaderValue::from_maybe_shared(value.clone()).ok()?);
        }
    }
    let fetched = worker.origins.fetch(&site.origin, request, arriving.server.as_ref()).await.ok()?;
    let same = semantics::strong_etag(fetched.response.headers()) == Some(&etag[..]);
    same.then_some(fetched.response)
}

/// What is left of a body behind its first bytes, which are read and dropped.
struct Rest {
    body: Body,
    /// Bytes still to be dropped.
    skip: u64,
    /// Bytes still to come, if it is known how many.
    left: Option<u64>,
    metrics: Arc<SiteMetrics>,
}

impl Rest {
    fn body(body: Body, (skip, left): (u64, Option<u64>), metrics: Arc<SiteMetrics>) -> Body {
        Body::stream(Self { body, skip, left, metrics })
    }

    /// What of `bytes` is of the rest.
    fn cut(&mut self, mut bytes: Bytes) -> Bytes {
        let within =
            |count: u64, length: usize| usize::try_from(count).map_or(length, |count| count.min(length));
        let dropped = within(self.skip, bytes.len());
        drop(bytes.split_to(dropped));
        self.skip -= dropped as u64;
        self.metrics.origin_bytes.inc_by(dropped as u64);
        if let Some(left) = &mut self.left {
            bytes.truncate(within(*left, bytes.len()));
            *left -= bytes.len() as u64;
        }
        bytes
    }
}

impl http_body::Body for Rest {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        while this.skip > 0 || this.left != Some(0) {
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None if this.skip > 0 || this.left.is_some() => {
                    return Poll::Ready(Some(Err(BodyError::Truncated)));
                }
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            // Trailers say nothing of the rest.
            let bytes = frame.into_data().map(|bytes| this.cut(bytes)).unwrap_or_default();
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
        Poll::Ready(None)
    }
}
