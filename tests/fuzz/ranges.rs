//! `Range` and `Content-Range`.

use super::harness::lines;
use super::model;
use http::{HeaderMap, HeaderValue};
use shoal::proto::semantics::{
    ContentRange, RANGES_MAX, Ranges, content_range, parse_content_range, range_is_far, ranges as asked,
    unsatisfied_range,
};
use std::ops::Range;

pub(crate) const WORDS: &[&str] = &[
    "bytes=",
    "bytes ",
    "BYTES=",
    "0-",
    "-1",
    "0-0",
    "5-4",
    "9-",
    ",",
    ", ",
    "-",
    "/",
    "*",
    "\n",
    "18446744073709551615",
    "18446744073709551616",
    "99",
    " ",
    "\t",
    "=",
];

/// About what a part of a multipart body costs (RFC 9110 §15.3.7.2): with less to save, all of it is sent.
const PART_BYTES: u64 = 80;

/// A value of `Range`, and on the second line the length of what it is of.
pub(crate) fn ranges(bytes: &[u8]) {
    let mut all = lines(bytes);
    let (value, length) = (all.next().unwrap_or_default(), all.next().unwrap_or_default());
    let Ok(value) = HeaderValue::from_bytes(value) else { return };
    let length = model::digits_of(length).unwrap_or(10);
    let request = HeaderMap::from_iter([(http::header::RANGE, value.clone())]);
    let given = asked(&request, &HeaderMap::new(), length);
    range_is_far(&request, length);

    let wanted = specification(value.as_bytes());
    match (&wanted, &given) {
        // Malformed, of another unit, or too many: as if it were not there (§14.2).
        (None, given) => assert_eq!(*given, Ranges::Whole),
        (Some(wanted), Ranges::Unsatisfiable) => {
            assert!(union(wanted, length).is_empty());
            // §14.1.2: of nothing, a suffix is satisfiable.
            assert!(length > 0 || wanted.iter().all(|(first, last)| first.is_some() || *last == Some(0)));
        }
        (Some(wanted), Ranges::One(range)) => assert_eq!(union(wanted, length), std::slice::from_ref(range)),
        (Some(wanted), Ranges::Many(given)) => {
            let mut sorted = given.to_vec();
            sorted.sort_by_key(|range| range.start);
            assert_eq!(union(wanted, length), sorted, "the same bytes, none twice");
            assert!((2..=RANGES_MAX).contains(&given.len()));
            let bytes: u64 = given.iter().map(|range| range.end - range.start).sum();
            assert!(
                bytes.saturating_add(PART_BYTES * given.len() as u64) <= length,
                "never more than the whole costs"
            );
        }
        (Some(wanted), Ranges::Whole) => {
            let union = union(wanted, length);
            let bytes: u64 = union.iter().map(|range| range.end - range.start).sum();
            let costs_more =
                union.len() > 1 && bytes.saturating_add(PART_BYTES * union.len() as u64) > length;
            assert!(costs_more || length == 0);
        }
    }
    let parts: Vec<Range<u64>> = match given {
        Ranges::One(range) => vec![range],
        Ranges::Many(ranges) => ranges.to_vec(),
        Ranges::Whole | Ranges::Unsatisfiable => Vec::new(),
    };
    for range in parts {
        assert!(range.start < range.end && range.end <= length);
        let written = parse_content_range(&content_range(&range, Some(length)));
        assert_eq!(written, Some(ContentRange::Satisfied { range, length: Some(length) }));
    }
    let written = parse_content_range(&unsatisfied_range(length));
    assert_eq!(written, Some(ContentRange::Unsatisfied { length }));
}

/// First and last position of each range, as RFC 9110 §14.1.1 writes them; `None` if the field means nothing.
fn specification(value: &[u8]) -> Option<Vec<(Option<u64>, Option<u64>)>> {
    let text = std::str::from_utf8(value).ok()?;
    let set = text.get(..6).filter(|unit| unit.eq_ignore_ascii_case("bytes=")).map(|_| &text[6..])?;
    let mut wanted = Vec::new();
    for range in set.split(',').map(|range| range.trim_matches([' ', '\t'])).filter(|range| !range.is_empty())
    {
        let (first, last) = range.split_once('-')?;
        let position = |text: &str| match text {
            "" => Some(None),
            digits => model::digits_of(digits.as_bytes()).map(Some),
        };
        let range = (position(first)?, position(last)?);
        match range {
            (None, None) => return None,
            (Some(first), Some(last)) if last < first => return None,
            _ => wanted.push(range),
        }
    }
    (1..=RANGES_MAX).contains(&wanted.len()).then_some(wanted)
}

/// The bytes that are asked for: in ascending order, with nothing between those that touch.
fn union(wanted: &[(Option<u64>, Option<u64>)], length: u64) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = wanted
        .iter()
        .map(|range| match *range {
            (Some(first), Some(last)) => first..length.min(last.saturating_add(1)),
            (Some(first), None) => first..length,
            (None, suffix) => length - suffix.unwrap_or(0).min(length)..length,
        })
        .filter(|range| range.start < range.end)
        .collect();
    ranges.sort_by_key(|range| range.start);
    let mut union: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match union.last_mut().filter(|last| last.end >= range.start) {
            Some(last) => last.end = last.end.max(range.end),
            None => union.push(range),
        }
    }
    union
}

/// A value of `Content-Range`.
pub(crate) fn content_ranges(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    match parse_content_range(&value) {
        Some(ContentRange::Satisfied { range, length }) => {
            assert!(range.start < range.end, "not empty");
            assert!(length.is_none_or(|length| range.end <= length), "within what it is of");
            let again = parse_content_range(&content_range(&range, length));
            assert_eq!(again, Some(ContentRange::Satisfied { range, length }));
        }
        Some(ContentRange::Unsatisfied { length }) => {
            let again = parse_content_range(&unsatisfied_range(length));
            assert_eq!(again, Some(ContentRange::Unsatisfied { length }));
        }
        None => assert!(!is_plain(bytes), "RFC 9110 §14.4 has such"),
    }
}

/// Whether it is `bytes 0-4/10` or `bytes 0-4/*` of small numbers without doubt.
fn is_plain(bytes: &[u8]) -> bool {
    let read = || {
        let (range, length) = std::str::from_utf8(bytes).ok()?.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let number = |text: &str| model::digits_of(text.as_bytes()).filter(|number| *number < 1 << 60);
        let (first, last) = (number(first)?, number(last)?);
        let fits = length == "*" || number(length)? > last;
        Some(fits && first <= last)
    };
    read().unwrap_or(false)
}
