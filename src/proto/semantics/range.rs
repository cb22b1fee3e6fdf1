//! Range requests (RFC 9110 §14) on a stored representation; [`part`](super::part) has what is special about a part of one.

use super::date;
use super::etag::EntityTag;
use http::header::{self, HeaderMap, HeaderValue};
use smallvec::SmallVec;
use std::ops::Range;

/// Most ranges in a request that are looked at; a request with more gets the whole body (§14.2,
/// §17.15: many small or overlapping ranges are an attack).
pub const RANGES_MAX: usize = 10;

/// About what the head of one part of a multipart body costs, in bytes (RFC 9110 §15.3.7.2).
const PART_OVERHEAD: u64 = 80;

/// Which part of a body a request is to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// All of it, with the stored status.
    Whole,
    /// These bytes, by 206; not empty.
    One(Range<u64>),
    /// These bytes, by 206 and `multipart/byteranges`; at least two, disjoint, none empty.
    Many(SmallVec<[Range<u64>; 4]>),
    /// None: answer 416 with [`unsatisfied_range`].
    Unsatisfiable,
}

/// What a GET gets of a stored 200 with the fields `stored` and a body of `length` bytes. Ranges
/// that overlap or touch are coalesced; what would cost more than the body is the whole body. Call
/// it after [`condition`](super::condition()), for GET only (§14.2).
pub fn ranges(request: &HeaderMap, stored: &HeaderMap, length: u64) -> Ranges {
    let mut lines = request.get_all(header::RANGE).iter();
    let Some(line) = lines.next() else { return Ranges::Whole };
    if lines.next().is_some() || !if_range_holds(request, stored) {
        return Ranges::Whole;
    }
    let Some(specs) = parse(line.as_bytes()) else { return Ranges::Whole };
    let satisfiable: SmallVec<[Range<u64>; 4]> =
        specs.iter().filter_map(|spec| spec.within(length)).collect();
    if satisfiable.is_empty() {
        // §14.1.2: any suffix is satisfiable, but that of an empty body has no bytes for a 206 to name.
        let of_empty = specs.iter().any(|spec| matches!(spec, Spec::Suffix(1..)));
        return if of_empty { Ranges::Whole } else { Ranges::Unsatisfiable };
    }
    let mut coalesced = coalesce(satisfiable);
    if let [one] = &mut coalesced[..] {
        return Ranges::One(std::mem::take(one));
    }
    let bytes: u64 = coalesced.iter().map(|range| range.end - range.start).sum();
    let overhead = PART_OVERHEAD * coalesced.len() as u64;
    if bytes.saturating_add(overhead) > length { Ranges::Whole } else { Ranges::Many(coalesced) }
}

/// What a GET gets of something whose length is not known: only ranges with both ends can be given (§14.1.2). `None` if
/// others are asked for.
pub(super) fn ranges_of_unknown_length(request: &HeaderMap, stored: &HeaderMap) -> Option<Ranges> {
    let mut lines = request.get_all(header::RANGE).iter();
    let specs = lines.next().and_then(|line| parse(line.as_bytes()))?;
    if lines.next().is_some() || !if_range_holds(request, stored) {
        return None;
    }
    let with_both_ends = specs.iter().map(|spec| match *spec {
        Spec::Between(first, last) if last < u64::MAX => Some(first..last + 1),
        _ => None,
    });
    let mut coalesced = coalesce(with_both_ends.collect::<Option<_>>()?);
    if let [one] = &mut coalesced[..] {
        return Some(Ranges::One(std::mem::take(one)));
    }
    Some(Ranges::Many(coalesced))
}

/// Bytes from `first` to before `end`, or to the end of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first.
    pub first: u64,
    /// Behind the last; `None` is the end of the representation.
    pub end: Option<u64>,
}

/// What is asked of an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// The whole representation.
    Whole,
    /// A part of it.
    Span(Span),
    /// So many bytes at its end.
    Suffix(u64),
}

impl Wanted {
    /// What `request` asks for: a part only if that is one range and needs no condition to be fulfilled.
    pub fn of(request: &HeaderMap) -> Self {
        let mut lines = request.get_all(header::RANGE).iter();
        let specs = lines.next().and_then(|line| parse(line.as_bytes()));
        match specs.as_deref() {
            _ if lines.next().is_some() || request.contains_key(header::IF_RANGE) => Self::Whole,
            Some([Spec::Suffix(bytes @ 1..)]) => Self::Suffix(*bytes),
            Some([Spec::Between(first, u64::MAX)]) => Self::Span(Span { first: *first, end: None }),
            Some([Spec::Between(first, last)]) => Self::Span(Span { first: *first, end: Some(last + 1) }),
            _ => Self::Whole,
        }
    }

    /// The `Range` that asks for it; `None` for the whole.
    pub fn to_value(self) -> Option<HeaderValue> {
        match self {
            Self::Whole => None,
            Self::Span(Span { first, end: None }) => Some(ascii(format!("bytes={first}-"))),
            Self::Span(Span { first, end: Some(end) }) => {
                Some(ascii(format!("bytes={first}-{}", end.saturating_sub(1))))
            }
            Self::Suffix(bytes) => Some(ascii(format!("bytes=-{bytes}"))),
        }
    }
}

/// Whether `request` asks for a range that begins behind `offset`, or counts from the end, so that it
/// could be served only after much of the body has come. Several ranges never are: an origin that is asked for them might
/// send each byte as often as it is named ("RangeAmp", §17.15), so such a request gets the whole.
pub fn range_is_far(request: &HeaderMap, offset: u64) -> bool {
    let line = request.get(header::RANGE).filter(|line| !line.as_bytes().contains(&b','));
    match line.and_then(|line| parse(line.as_bytes())).as_deref() {
        Some([Spec::Between(first, _)]) => *first > offset,
        Some([Spec::Suffix(_)]) => true,
        _ => false,
    }
}

/// The `Content-Range` of a 206 with `range`, which is not empty, of `length` bytes, if that is known (§14.4).
pub fn content_range(range: &Range<u64>, length: Option<u64>) -> HeaderValue {
    let (first, last) = (range.start, range.end.saturating_sub(1));
    match length {
        Some(length) => ascii(format!("bytes {first}-{last}/{length}")),
        None => ascii(format!("bytes {first}-{last}/*")),
    }
}

/// The `Content-Range` of a 416 (§15.5.17).
pub fn unsatisfied_range(length: u64) -> HeaderValue {
    ascii(format!("bytes */{length}"))
}

/// What a `Content-Range` says (§14.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentRange {
    /// The content is these bytes of a representation of this length, if known. Not empty, and
    /// within the length.
    Satisfied {
        /// The bytes.
        range: Range<u64>,
        /// Length of the whole, unless `*`.
        length: Option<u64>,
    },
    /// No range could be satisfied.
    Unsatisfied {
        /// Length of the whole.
        length: u64,
    },
}

/// Reads a `Content-Range` in bytes. `None` if it is malformed or contradicts itself; such a
/// response must not be combined with others (§14.4).
pub fn parse_content_range(value: &HeaderValue) -> Option<ContentRange> {
    let (unit, rest) = value.as_bytes().split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes ") {
        return None;
    }
    let (range, length) = split_once(rest, b'/')?;
    if range == b"*" {
        return Some(ContentRange::Unsatisfied { length: number(length)? });
    }
    let length = if length == b"*" { None } else { Some(number(length)?) };
    let (first, last) = split_once(range, b'-')?;
    let (first, last) = (number(first)?, number(last)?);
    let consistent = first <= last && last < u64::MAX && length.is_none_or(|length| last < length);
    consistent.then(|| ContentRange::Satisfied { range: first..last.saturating_add(1), length })
}

#[derive(Clone, Copy)]
enum Spec {
    /// First and last position.
    Between(u64, u64),
    /// The last bytes.
    Suffix(u64),
}

impl Spec {
    /// The bytes of a body of `length` bytes; `None` if unsatisfiable (§14.1.2).
    fn within(self, length: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::Between(first, last) => first..last.saturating_add(1).min(length),
            Self::Suffix(bytes) => length.saturating_sub(bytes)..length,
        };
        (range.start < range.end).then_some(range)
    }
}

/// `bytes=0-4, 10-, -5`. `None` if the field is to be ignored: malformed, not in bytes, or with
/// more than [`RANGES_MAX`] ranges.
fn parse(line: &[u8]) -> Option<SmallVec<[Spec; 4]>> {
    let (unit, set) = split_once(line, b'=')?;
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut specs = SmallVec::new();
    for spec in set.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
        if spec.is_empty() {
            continue;
        }
        if specs.len() == RANGES_MAX {
            return None;
        }
        let (first, last) = split_once(spec, b'-')?;
        specs.push(match (first, last) {
            (b"", suffix) => Spec::Suffix(number(suffix)?),
            (first, b"") => Spec::Between(number(first)?, u64::MAX),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                if last < first {
                    return None;
                }
                Spec::Between(first, last)
            }
        });
    }
    (!specs.is_empty()).then_some(specs)
}

/// The ranges as asked, unless some overlap or touch: then in ascending order and joined (§15.3.7.2).
fn coalesce(ranges: SmallVec<[Range<u64>; 4]>) -> SmallVec<[Range<u64>; 4]> {
    let mut sorted = ranges.clone();
    sorted.sort_unstable_by_key(|range| (range.start, range.end));
    let mut joined: SmallVec<[Range<u64>; 4]> = SmallVec::new();
    for range in sorted {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    if joined.len() == ranges.len() { ranges } else { joined }
}

/// RFC 9110 §13.1.5: true if there is no `If-Range`, or it names exactly what is stored by a
/// strong validator. A date is one only if it lies before the stored `Date` (§8.8.2.2).
fn if_range_holds(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let mut lines = request.get_all(header::IF_RANGE).iter();
    let Some(line) = lines.next() else { return true };
    if lines.next().is_some() {
        return false;
    }
    if let Some(asked) = date::parse(line.as_bytes()) {
        let modified = date::of_field(stored, header::LAST_MODIFIED);
        let strong = date::of_field(stored, header::DATE).is_some_and(|date| asked < date);
        return strong && modified == Some(asked);
    }
    match (EntityTag::parse(line.as_bytes()), EntityTag::of(stored)) {
        (Some(asked), Some(stored)) => asked.equals_strongly(&stored),
        _ => false,
    }
}

fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

/// Digits only, saturating: no body is that long.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(value.saturating_mul(10).saturating_add(digit))
    })
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits and separators are visible ASCII")
}

#[cfg(test)]
#[path = "range_tests.rs"]
mod tests;
