//! Conditional and range requests (RFC 9110 §13, §14), as far as a test origin needs them: strong
//! validators that are always there, and one range.

use http::HeaderMap;
use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use std::ops::Range;
use std::time::SystemTime;

/// What a resource is compared by.
#[derive(Clone, Debug)]
pub(super) struct Validators {
    /// Strong, with its quotes; without a comma inside.
    pub(super) etag: String,
    /// In whole seconds.
    pub(super) last_modified: SystemTime,
}

/// What part of the representation is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it, status 200.
    Whole,
    /// These bytes, status 206. Never empty.
    Bytes(Range<u64>),
    /// None, status 416.
    Unsatisfiable,
}

impl Validators {
    /// Whether the client's copy is this one, in the order of RFC 9110 §13.2.2: `If-None-Match`
    /// makes `If-Modified-Since` void.
    pub(super) fn not_modified(&self, fields: &HeaderMap) -> bool {
        if fields.contains_key(IF_NONE_MATCH) {
            return fields.get_all(IF_NONE_MATCH).iter().any(|value| self.listed(value.as_bytes()));
        }
        let since = fields.get(IF_MODIFIED_SINCE).and_then(|value| value.to_str().ok());
        since.and_then(|text| httpdate::parse_http_date(text).ok()).is_some_and(|at| self.last_modified <= at)
    }

    /// Weak comparison (RFC 9110 §8.8.3.2) with each member of a list.
    fn listed(&self, list: &[u8]) -> bool {
        list.split(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii)
            .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == self.etag.as_bytes())
    }

    /// The part of `size` bytes that a GET asks for. A `Range` that is not one well-formed byte range,
    /// or whose `If-Range` does not hold, is ignored (RFC 9110 §13.1.5, §14.2).
    pub(super) fn part(&self, fields: &HeaderMap, size: u64) -> Part {
        let Some(range) = fields.get(RANGE).and_then(|value| value.to_str().ok()) else {
            return Part::Whole;
        };
        let holds = fields.get(IF_RANGE).is_none_or(|value| self.unchanged(value.as_bytes()));
        if holds { parse_range(range, size) } else { Part::Whole }
    }

    /// Strong comparison with an entity tag, or exact match of a date (RFC 9110 §13.1.5).
    fn unchanged(&self, validator: &[u8]) -> bool {
        let date =
            || std::str::from_utf8(validator).ok().and_then(|text| httpdate::parse_http_date(text).ok());
        validator == self.etag.as_bytes() || date() == Some(self.last_modified)
    }
}

fn parse_range(value: &str, size: u64) -> Part {
    let Some((unit, set)) = value.split_once('=') else { return Part::Whole };
    let Some((first, last)) = set.trim().split_once('-') else { return Part::Whole };
    if !unit.eq_ignore_ascii_case("bytes") {
        return Part::Whole;
    }
    let (start, end) = match (position(first), position(last)) {
        (Some(start), Some(last)) if start <= last => (start, last.saturating_add(1).min(size)),
        (Some(start), None) if last.is_empty() => (start, size),
        (None, Some(count)) if first.is_empty() => (size.saturating_sub(count), size),
        _ => return Part::Whole,
    };
    if start < end { Part::Bytes(start..end) } else { Part::Unsatisfiable }
}

/// A number of digits only; one too large to hold is as good as the largest.
fn position(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_byte_range_is_understood_and_others_are_ignored() {
        let cases = [
            ("bytes=0-0", Part::Bytes(0..1)),
            ("bytes=5-", Part::Bytes(5..10)),
            ("Bytes=5-99999999999999999999999", Part::Bytes(5..10)),
            ("bytes=-3", Part::Bytes(7..10)),
            ("bytes=-30", Part::Bytes(0..10)),
            ("bytes=10-", Part::Unsatisfiable),
            ("bytes=99999999999999999999-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=5-4", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=-", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("bytes 0-1", Part::Whole),
        ];
        for (value, part) in cases {
            assert_eq!(parse_range(value, 10), part, "{value}");
        }
        assert_eq!(parse_range("bytes=-5", 0), Part::Unsatisfiable);
    }

    #[test]
    fn conditions_follow_their_order() {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let validators = Validators { etag: "\"a\"".into(), last_modified: modified };
        let date = httpdate::fmt_http_date(modified);
        let earlier = httpdate::fmt_http_date(modified - Duration::from_secs(1));
        let check = |fields: &[(http::HeaderName, &str)], expected| {
            let fields: HeaderMap =
                fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            assert_eq!(validators.not_modified(&fields), expected, "{fields:?}");
        };
        check(&[], false);
        check(&[(IF_NONE_MATCH, "\"b\", W/\"a\"")], true);
        check(&[(IF_NONE_MATCH, "*")], true);
        check(&[(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, &date)], false);
        check(&[(IF_MODIFIED_SINCE, &date)], true);
        check(&[(IF_MODIFIED_SINCE, &earlier)], false);
        check(&[(IF_MODIFIED_SINCE, "yesterday")], false);
        for (validator, holds) in [("\"a\"", true), ("W/\"a\"", false), (&date, true), (&earlier, false)] {
            assert_eq!(validators.unchanged(validator.as_bytes()), holds, "{validator}");
        }
    }
}
