//! Stored parts of a representation (RFC 9111 §3.3, §3.4): what a stored 206 can answer, and what to ask the origin for
//! so that it becomes more.
//!
//! A part is one run of bytes. It grows at either end, and is put together with others only under one strong entity tag.

use super::range::{
    ContentRange, Ranges, Span, Wanted, parse_content_range, ranges, ranges_of_unknown_length,
};
use http::StatusCode;
use http::header::{CONTENT_RANGE, HeaderMap};
use std::ops::Range;

/// Most bytes between a part and a range behind it that are fetched too, so that the two become one part. With the
/// range itself this bounds what a request for it costs the origin.
pub const GAP_MAX: u64 = 1 << 20;

/// The bytes of a representation that a 206 holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Their places in the representation; not empty.
    pub range: Range<u64>,
    /// Length of the whole, if it is known.
    pub complete: Option<u64>,
    /// Whether the content is as long as its `Content-Range` says. If not, it is never put together with anything.
    pub is_exact: bool,
}

impl Held {
    /// What a response with one range holds. `length` is that of its content, `None` while it is not known: then
    /// `Content-Range` is believed. `None` if it is no part, or longer than it says (RFC 9110 §14.4).
    ///
    /// Some origins count one byte too many. What is shorter than it says, in a message that is itself complete, is counted
    /// from the first byte; the length of the whole is then known only of a part at its end.
    pub fn of(status: StatusCode, fields: &HeaderMap, length: Option<u64>) -> Option<Self> {
        if status != StatusCode::PARTIAL_CONTENT {
            return None;
        }
        let ContentRange::Satisfied { range, length: complete } = stated(fields)? else { return None };
        let stated = range.end - range.start;
        match length.unwrap_or(stated) {
            0 => None,
            length if length == stated => Some(Self { range, complete, is_exact: true }),
            length if length < stated => {
                let end = range.start + length;
                let complete = (complete == Some(range.end)).then_some(end);
                Some(Self { range: range.start..end, complete, is_exact: false })
            }
            _ => None,
        }
    }

    /// Whether it is all of the representation.
    pub fn is_all(&self) -> bool {
        self.is_exact && self.range.start == 0 && self.complete == Some(self.range.end)
    }

    /// What a GET gets of it, whose other fields are `stored`, as [`ranges`] says for a whole representation. `None` if
    /// not all that is asked for is here.
    pub fn ranges(&self, request: &HeaderMap, stored: &HeaderMap) -> Option<Ranges> {
        let asked = match self.complete {
            Some(length) => ranges(request, stored, length),
            None => ranges_of_unknown_length(request, stored)?,
        };
        let holds = |range: &Range<u64>| self.range.start <= range.start && range.end <= self.range.end;
        match &asked {
            Ranges::Whole => None,
            Ranges::One(range) => holds(range).then_some(asked),
            Ranges::Many(ranges) => ranges.iter().all(holds).then_some(asked),
            Ranges::Unsatisfiable => self.is_exact.then_some(asked),
        }
    }

    /// How what is `wanted` can be made of it. `is_strong` says that it has a strong entity tag, without which nothing can be
    /// put together (RFC 9111 §3.4): all that is asked for then is the end of a body of which the first bytes are here,
    /// since the origin may say which they belong to.
    pub fn completion(&self, wanted: &Wanted, is_strong: bool) -> Option<Completion> {
        if !self.is_exact {
            return None;
        }
        let Range { start, end } = self.range;
        let (from, to) = match *wanted {
            Wanted::Whole => (0, self.complete),
            Wanted::Span(Span { first, end }) => (first, end.or(self.complete)),
            Wanted::Suffix(bytes) => (self.complete?.saturating_sub(bytes), self.complete),
        };
        let to = to.map(|to| self.complete.map_or(to, |length| to.min(length)));
        let grows = to.is_none_or(|to| to > end);
        if from >= start {
            let begins = *wanted == Wanted::Whole || is_strong;
            let reaches = begins && from <= end.saturating_add(GAP_MAX) && grows;
            let ask = Span { first: end, end: if *wanted == Wanted::Whole { None } else { to } };
            return reaches.then_some(Completion { ask, place: Place::First, then: None });
        }
        // Where it ends must be known before the first byte is sent.
        let to = to.filter(|to| is_strong && *to >= start && (!grows || self.complete.is_some()))?;
        let then = grows.then_some(end..to);
        Some(Completion { ask: Span { first: from, end: Some(start) }, place: Place::Behind, then })
    }
}

/// How a part becomes more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// What the origin is asked for.
    pub ask: Span,
    /// Where the stored part goes.
    pub place: Place,
    /// What the origin is asked for afterwards, which follows the stored part.
    pub then: Option<Range<u64>>,
}

/// Where the stored part goes when it is put together with what the origin sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In front of it.
    First,
    /// Behind it.
    Behind,
}

impl Completion {
    /// What comes of `held` and the origin's answer `new`, if the two fit: it begins where it was asked to, ends where `held`
    /// begins if that goes behind it, and both are parts of something of the same length. That both have the same strong
    /// entity tag is the caller's to compare.
    pub fn result(&self, held: &Held, new: &Held) -> Option<Held> {
        let agree = match (held.complete, new.complete) {
            (Some(held), Some(new)) => held == new,
            _ => true,
        };
        let complete = held.complete.or(new.complete);
        let range = match self.place {
            Place::First => (new.range.start == held.range.end).then_some(held.range.start..new.range.end),
            Place::Behind => {
                let end = self.then.as_ref().map_or(held.range.end, |then| then.end);
                let fits = new.range == (self.ask.first..held.range.start);
                fits.then_some(new.range.start..end)
            }
        }?;
        let within = complete.is_none_or(|length| range.end <= length);
        (agree && within && new.is_exact).then_some(Held { range, complete, is_exact: true })
    }
}

/// What the only `Content-Range` says.
fn stated(fields: &HeaderMap) -> Option<ContentRange> {
    let mut lines = fields.get_all(CONTENT_RANGE).iter();
    let range = parse_content_range(lines.next()?)?;
    lines.next().is_none().then_some(range)
}

/// Whether a 206 says of which bytes it is, as it must if it has one range (RFC 9110 §15.3.7.1).
pub(super) fn is_part(fields: &HeaderMap) -> bool {
    matches!(stated(fields), Some(ContentRange::Satisfied { .. }))
}

#[cfg(test)]
#[path = "part_tests.rs"]
mod tests;
