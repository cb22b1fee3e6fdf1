//! Bodies of replies: read from the store, or from a fill as it arrives. Bytes are counted by their
//! source when they are handed to the connection.
//!
//! What comes from a peer may be handed on before it was compared with its hash, but never all of it: a
//! response is whole only when everything that it used was found right.

use super::fill::{Arriving, Piece, Reader};
use super::{Worker, rest, splice};
use crate::body::{Body, BodyError};
use crate::config::model::Site;
use crate::proto::object::layout::{CHUNK_SIZE, record_at, record_span};
use crate::proto::plan::Tier;
use crate::proto::semantics::Multipart;
use crate::proto::verdict::Source;
use crate::store::{Hit, LoadError};
use crate::telemetry::SiteMetrics;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type PollFrame = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// A range of a stored body.
pub(super) struct StoredBody {
    hit: Hit,
    left: Range<u64>,
    reading: Option<Pending<Result<Bytes, LoadError>>>,
    metrics: Arc<SiteMetrics>,
}

impl StoredBody {
    /// The bytes `range` of `hit`; at once if they are in record 0.
    pub(super) fn body(hit: Hit, range: Range<u64>, metrics: Arc<SiteMetrics>) -> Body {
        if range.is_empty() {
            return Body::Empty;
        }
        let first = hit.head.body();
        if range.end <= first.len() as u64 {
            let source = if hit.tier == Tier::Memory { Source::Memory } else { Source::Disk };
            metrics.sent(source, range.end - range.start);
            return first.slice(range.start as usize..range.end as usize).into();
        }
        Body::stream(Self { hit, left: range, reading: None, metrics })
    }

    /// The record at the cursor, and where it came from.
    fn poll_record(&mut self, index: u32, cx: &mut Context<'_>) -> Poll<Result<(Bytes, Source), LoadError>> {
        if let Some(reading) = &mut self.reading {
            let record = ready!(reading.as_mut().poll(cx));
            self.reading = None;
            return Poll::Ready(record.map(|record| (record, Source::Disk)));
        }
        if index == 0 {
            let source = if self.hit.tier == Tier::Memory { Source::Memory } else { Source::Disk };
            return Poll::Ready(Ok((self.hit.head.body(), source)));
        }
        if let Some(record) = self.hit.record_now(index) {
            return Poll::Ready(Ok((record, Source::Memory)));
        }
        let hit = self.hit.clone();
        self.reading = Some(Box::pin(async move { hit.record(index).await }));
        self.poll_record(index, cx)
    }
}

impl HttpBody for StoredBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PollFrame {
        let this = self.get_mut();
        if this.left.is_empty() {
            return Poll::Ready(None);
        }
        let index = record_at(this.left.start);
        let (record, source) = match ready!(this.poll_record(index, cx)) {
            Ok(record) => record,
            Err(error) => return Poll::Ready(Some(Err(BodyError::Stored(error.as_str())))),
        };
        let from = (this.left.start - record_span(index).start) as usize;
        let to =
            record.len().min(from + usize::try_from(this.left.end - this.left.start).unwrap_or(usize::MAX));
        if from >= to {
            return Poll::Ready(Some(Err(BodyError::Stored("record too short"))));
        }
        this.left.start += (to - from) as u64;
        this.metrics.sent(source, (to - from) as u64);
        Poll::Ready(Some(Ok(Frame::data(record.slice(from..to)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.end - self.left.start)
    }
}

/// A range of a body that is arriving.
pub(super) struct FillBody {
    worker: Arc<Worker>,
    site: Arc<Site>,
    metrics: Arc<SiteMetrics>,
    arriving: Arc<Arriving>,
    reader: Reader,
    cursor: u64,
    /// End of the range; `None` is the end of the body, whose length is not known yet.
    end: Option<u64>,
    elsewhere: Elsewhere,
    /// End of what was taken from the fill, and so needs its check.
    taken: u64,
    /// The last byte of the range, which waits for that check.
    last: Option<Bytes>,
}

/// Where a reader that fell out of the window gets its bytes.
enum Elsewhere {
    /// It did not.
    No,
    /// From a finished record in the store.
    Record(u32, Pending<Option<Bytes>>),
    /// From the origin, by range: being asked.
    Asking(Pending<Option<Body>>),
    /// From the origin, by range: until the end.
    Range(Body),
}

impl FillBody {
    /// The bytes of `arriving` from `range.start` to `range.end`, or to the end if that is `None`.
    pub(super) fn body(
        worker: Arc<Worker>,
        site: Arc<Site>,
        metrics: Arc<SiteMetrics>,
        (arriving, reader): (Arc<Arriving>, Reader),
        (start, end): (u64, Option<u64>),
    ) -> Body {
        reader.seek(start);
        // A part says how long it is, even if its message does not.
        let end = end.or_else(|| splice::length_of_part(&arriving.draft));
        let elsewhere = Elsewhere::No;
        let (cursor, taken, last) = (start, 0, None);
        Body::stream(Self { worker, site, metrics, arriving, reader, cursor, end, elsewhere, taken, last })
    }

    /// Waits until all that was taken from the fill is known to be what it must be.
    fn poll_checked(&self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let chunk_end = self.taken.next_multiple_of(CHUNK_SIZE);
        let needed = self.arriving.draft.length.map_or(chunk_end, |length| chunk_end.min(length));
        self.reader.poll_checked(needed, cx).map_err(BodyError::Fill)
    }

    /// What may be delivered now of `bytes`, which are cut to the range: all but its last byte, until all is
    /// checked. A body of unknown length needs no such care, as its end comes after the check.
    fn withhold(&mut self, mut bytes: Bytes, cx: &mut Context<'_>) -> PollFrame {
        if self.end == Some(self.cursor + bytes.len() as u64) {
            match self.poll_checked(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending => {
                    self.last = Some(bytes.split_off(bytes.len() - 1));
                    if bytes.is_empty() {
                        return Poll::Pending;
                    }
                }
            }
        }
        Poll::Ready(Some(Ok(self.deliver(bytes))))
    }

    fn deliver(&mut self, bytes: Bytes) -> Frame<Bytes> {
        self.cursor += bytes.len() as u64;
        let own = matches!(self.elsewhere, Elsewhere::Range(_));
        let source = if own { Source::Origin } else { self.arriving.source };
        self.metrics.sent(source, bytes.len() as u64);
        Frame::data(bytes)
    }

    /// The next bytes, if they do not come from the fill; `None` is the end of the body.
    fn poll_elsewhere(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match &mut self.elsewhere {
            Elsewhere::No => Poll::Ready(None),
            Elsewhere::Record(index, record) => {
                let index = *index;
                let record = ready!(record.as_mut().poll(cx));
                let from = (self.cursor - record_span(index).start) as usize;
                match record.filter(|record| from < record.len()) {
                    Some(record) => {
                        self.elsewhere = Elsewhere::No;
                        Poll::Ready(Some(Ok(record.slice(from..))))
                    }
                    None => {
                        self.elsewhere = Elsewhere::Asking(self.ask_range());
                        self.poll_elsewhere(cx)
                    }
                }
            }
            Elsewhere::Asking(body) => match ready!(body.as_mut().poll(cx)) {
                Some(body) => {
                    self.elsewhere = Elsewhere::Range(body);
                    self.poll_elsewhere(cx)
                }
                None => Poll::Ready(Some(Err(BodyError::Laggard))),
            },
            Elsewhere::Range(body) => match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => {
                        self.metrics.origin_bytes.inc_by(bytes.len() as u64);
                        Poll::Ready(Some(Ok(bytes)))
                    }
                    Err(_) => self.poll_elsewhere(cx),
                },
                Some(Err(error)) => Poll::Ready(Some(Err(error))),
                // If the length is not known, this is the end: of what was taken before, all must be right.
                None => match ready!(self.reader.poll_checked(self.taken, cx)) {
                    Ok(()) => Poll::Ready(None),
                    Err(why) => Poll::Ready(Some(Err(BodyError::Fill(why)))),
                },
            },
        }
    }

    fn ask_range(&self) -> Pending<Option<Body>> {
        let (worker, site, metrics) =
            (Arc::clone(&self.worker), Arc::clone(&self.site), Arc::clone(&self.metrics));
        let (arriving, cursor) = (Arc::clone(&self.arriving), self.cursor);
        Box::pin(async move { rest::behind(&worker, (&site, &metrics), &arriving, cursor).await })
    }

    /// The next bytes, not yet cut to the range; `None` is the end of the body.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            if !matches!(self.elsewhere, Elsewhere::No) {
                return self.poll_elsewhere(cx);
            }
            match ready!(self.reader.poll_piece(cx)) {
                Piece::Bytes(bytes) => return Poll::Ready(Some(Ok(bytes))),
                Piece::End => return Poll::Ready(None),
                Piece::Broken(why) => return Poll::Ready(Some(Err(BodyError::Fill(why)))),
                Piece::Behind(offset) => {
                    let index = record_at(offset);
                    let partial = self.arriving.partial.clone();
                    let record = Box::pin(async move { partial.record(index).await });
                    self.elsewhere = Elsewhere::Record(index, record);
                }
            }
        }
    }
}

impl HttpBody for FillBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PollFrame {
        let this = self.get_mut();
        if this.is_end_stream() {
            return Poll::Ready(None);
        }
        if this.last.is_some() {
            ready!(this.poll_checked(cx))?;
        }
        if let Some(last) = this.last.take() {
            return Poll::Ready(Some(Ok(this.deliver(last))));
        }
        match ready!(this.poll_bytes(cx)) {
            None if this.end.is_some() => Poll::Ready(Some(Err(BodyError::Truncated))),
            None => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            Some(Ok(mut bytes)) => {
                if let Some(end) = this.end {
                    bytes.truncate(usize::try_from(end - this.cursor).unwrap_or(usize::MAX));
                }
                let end = this.cursor + bytes.len() as u64;
                this.reader.advance(end);
                if !matches!(this.elsewhere, Elsewhere::Range(_)) {
                    this.taken = end;
                }
                this.withhold(bytes, cx)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.end.is_some_and(|end| self.cursor >= end)
    }

    fn size_hint(&self) -> SizeHint {
        self.end.map_or_else(SizeHint::default, |end| SizeHint::with_exact(end - self.cursor))
    }
}

/// A forwarded body, counted as it passes.
pub(super) struct Passing {
    body: Body,
    metrics: Arc<SiteMetrics>,
}

impl Passing {
    /// Counts `body` as coming from the origin.
    pub(super) fn body(body: Body, metrics: Arc<SiteMetrics>) -> Body {
        if body.is_end_stream() { Body::Empty } else { Body::stream(Self { body, metrics }) }
    }
}

impl HttpBody for Passing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PollFrame {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            this.metrics.origin_bytes.inc_by(data.len() as u64);
            this.metrics.sent(Source::Origin, data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Several ranges of a stored body in one `multipart/byteranges` body (RFC 9110 §14.6).
pub(super) struct Parts {
    multipart: Multipart,
    /// Place of the first stored byte in the representation.
    first: u64,
    hit: Hit,
    metrics: Arc<SiteMetrics>,
    part: usize,
    /// The bytes of the part whose head was sent.
    bytes: Option<Body>,
    sent_tail: bool,
}

impl Parts {
    /// The parts of `multipart`, one after the other, of what is stored from place `first` on.
    pub(super) fn body((multipart, first): (Multipart, u64), hit: Hit, metrics: Arc<SiteMetrics>) -> Body {
        Body::stream(Self { multipart, first, hit, metrics, part: 0, bytes: None, sent_tail: false })
    }

    fn frame(&self, bytes: Bytes) -> PollFrame {
        self.metrics.sent(Source::Node, bytes.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

impl HttpBody for Parts {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PollFrame {
        let this = self.get_mut();
        if let Some(bytes) = &mut this.bytes {
            if let Some(frame) = ready!(Pin::new(bytes).poll_frame(cx)) {
                return Poll::Ready(Some(frame));
            }
            this.bytes = None;
            this.part += 1;
        }
        if let Some(range) = this.multipart.ranges().get(this.part) {
            let stored = range.start - this.first..range.end - this.first;
            this.bytes = Some(StoredBody::body(this.hit.clone(), stored, Arc::clone(&this.metrics)));
            return this.frame(this.multipart.part_head(this.part));
        }
        if this.sent_tail {
            return Poll::Ready(None);
        }
        this.sent_tail = true;
        this.frame(this.multipart.tail())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
