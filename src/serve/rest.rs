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
    let first = match arriving.draft.status {
        StatusCode::PARTIAL_CONTENT => splice::held(&arriving.draft)?.range.start,
        _ => 0,
    };
    of(worker, (site, metrics), arriving, first + taken).await
}

/// Bytes of an arriving version from `start` on. A server that knows no ranges sends all of the version once more: what is
/// before `start` is dropped then, as that costs less than a response that breaks off.
pub(super) async fn of(
    worker: &Worker,
    (site, metrics): (&Site, &Arc<SiteMetrics>),
    arriving: &Arriving,
    start: u64,
) -> Option<Body> {
    let response = ask(worker, site, arriving, (start, None)).await?;
    if begins_at(&response, start) {
        return Some(response.into_body());
    }
    let known = match arriving.draft.status {
        StatusCode::PARTIAL_CONTENT => splice::held(&arriving.draft)?.complete,
        _ => arriving.draft.length,
    };
    let length = http_body::Body::size_hint(response.body()).exact();
    let fits = known.zip(length).is_none_or(|(known, length)| known == length);
    let is_whole = response.status() == StatusCode::OK && fits;
    is_whole.then(|| Behind::body(response.into_body(), start, Arc::clone(metrics)))
}

/// Bytes of an arriving version from `start` to before `end`. `None` also if the server knows no ranges.
pub(super) async fn range(
    worker: &Worker,
    site: &Site,
    arriving: &Arriving,
    (start, end): (u64, u64),
) -> Option<Body> {
    let response = ask(worker, site, arriving, (start, Some(end))).await?;
    begins_at(&response, start).then(|| response.into_body())
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

fn begins_at(response: &Response<Body>, start: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(semantics::parse_content_range);
    response.status() == StatusCode::PARTIAL_CONTENT
        && matches!(range, Some(ContentRange::Satisfied { range, .. }) if range.start == start)
}

/// A body without its first bytes, which are read and dropped.
struct Behind {
    body: Body,
    /// Bytes still to be dropped.
    left: u64,
    metrics: Arc<SiteMetrics>,
}

impl Behind {
    fn body(body: Body, left: u64, metrics: Arc<SiteMetrics>) -> Body {
        Body::stream(Self { body, left, metrics })
    }

    /// What of `bytes` is not dropped.
    fn cut(&mut self, mut bytes: Bytes) -> Bytes {
        let dropped = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        drop(bytes.split_to(dropped));
        self.left -= dropped as u64;
        self.metrics.origin_bytes.inc_by(dropped as u64);
        bytes
    }
}

impl http_body::Body for Behind {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None if this.left > 0 => return Poll::Ready(Some(Err(BodyError::Truncated))),
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data().map(|bytes| this.cut(bytes)) {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
    }
}
