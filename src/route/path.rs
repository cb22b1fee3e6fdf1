//! Path patterns and the query filter.
//!
//! Origins disagree on what a path means: whether `%2f` is a slash, `;x` a parameter, `..` a step
//! up, `%23` or `%00` its end. A key is safe from that, because it is the path as written. A rule is
//! not: `/private/*` would miss `/static/..%2fprivate/x`. So each rule is asked with the path as
//! written and with each reading that origins are known to make; where the answers differ, the
//! request is passed.

use super::Refusal;
use crate::config::model::QueryFilter;
use http::uri::PathAndQuery;
use smallvec::SmallVec;

/// How many layers of percent-encoding are taken off, one after the other: origins behind one
/// decoding proxy take off two.
const DECODE_LAYERS_MAX: usize = 3;

/// A path pattern: exact, or a prefix ending in `*`.
#[derive(Debug)]
pub(super) struct Pattern {
    text: String,
    normal: String,
    is_prefix: bool,
}

impl Pattern {
    pub(super) fn new(pattern: &str) -> Self {
        let (text, is_prefix) = match pattern.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (pattern, false),
        };
        // Configuration refuses patterns with other than percent-encoding to resolve.
        Self { normal: decode(text.as_bytes()), text: text.to_owned(), is_prefix }
    }

    fn matches(pattern: &str, is_prefix: bool, path: &str) -> bool {
        if is_prefix { path.starts_with(pattern) } else { path == pattern }
    }
}

/// The first pattern that matches `path`, and whether a pattern before it (or any, if none
/// matches) is in doubt; then nothing matches.
pub(super) fn first_match(patterns: &[Pattern], path: &str) -> (Option<usize>, bool) {
    if patterns.is_empty() {
        return (None, false);
    }
    let readings = readings(path);
    for (index, pattern) in patterns.iter().enumerate() {
        let as_written = Pattern::matches(&pattern.text, pattern.is_prefix, path);
        let as_read = |reading: &String| Pattern::matches(&pattern.normal, pattern.is_prefix, reading);
        if readings.iter().any(|reading| as_read(reading) != as_written) {
            return (None, true);
        }
        if as_written {
            return (Some(index), false);
        }
    }
    (None, false)
}

/// Refuses all that is no visible ASCII (RFC 3986 §2), which some origins take and others do not, and broken escapes in
/// the path. A query is opaque otherwise.
pub(super) fn check(target: &str) -> Result<(), Refusal> {
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Refusal::BadTarget);
    }
    let path = target.split_once('?').map_or(target, |(path, _)| path).as_bytes();
    let mut escapes =
        path.iter().enumerate().filter(|(_, byte)| **byte == b'%').map(|(at, _)| &path[at + 1..]);
    if escapes.all(|after| after.len() >= 2 && after[..2].iter().all(u8::is_ascii_hexdigit)) {
        Ok(())
    } else {
        Err(Refusal::BadTarget)
    }
}

/// What origins may take `path` for, besides what is written: with one layer of percent-encoding
/// taken off after the other, `\` as `/`, empty and dot segments resolved; each with and without the
/// parameters of segments (`;…`), and once more if it has what ends a path for some (`#`, `?` and
/// control characters). Empty for a path that everybody reads alike.
fn readings(path: &str) -> SmallVec<[String; 4]> {
    let mut readings = SmallVec::new();
    let is_plain = !path.contains(['%', '\\', ';']) && !path.contains("//") && !path.contains("/.");
    if is_plain {
        return readings;
    }
    let mut bytes = path.as_bytes().to_vec();
    for _ in 0..DECODE_LAYERS_MAX {
        bytes = percent_encoding::percent_decode(&bytes).collect();
        let decoded = text(&bytes).replace('\\', "/");
        let cut = decoded.find(|c: char| matches!(c, '#' | '?') || c.is_ascii_control());
        for reading in [Some(&*decoded), cut.map(|end| &decoded[..end])].into_iter().flatten() {
            readings.push(resolve_segments(reading, true));
            if reading.contains(';') {
                readings.push(resolve_segments(reading, false));
            }
        }
        if !bytes.contains(&b'%') {
            break;
        }
    }
    readings
}

/// A pattern with all percent-encoding taken off.
fn decode(pattern: &[u8]) -> String {
    let mut decoded = pattern.to_vec();
    for _ in 0..DECODE_LAYERS_MAX {
        decoded = percent_encoding::percent_decode(&decoded).collect();
    }
    text(&decoded)
}

/// Decoded bytes as text. The two-byte forms of ASCII that UTF-8 forbids (`%c0%af` for `/`), which
/// old decoders take, are what they stand for; what else is no UTF-8 becomes replacement characters.
fn text(bytes: &[u8]) -> String {
    if !bytes.iter().any(|byte| matches!(byte, 0xc0 | 0xc1)) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut folded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (0xc0 | 0xc1, [second @ 0x80..=0xbf, tail @ ..]) => {
                folded.push((first & 1) << 6 | second & 0x3f);
                tail
            }
            _ => {
                folded.push(*first);
                tail
            }
        };
    }
    String::from_utf8_lossy(&folded).into_owned()
}

/// RFC 3986 §5.2.4, with empty segments dropped too, and with `cuts` what is behind `;` in each.
fn resolve_segments(path: &str, cuts: bool) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_slash = false;
    for segment in path.split('/') {
        let cut = segment.split_once(';').filter(|_| cuts);
        let name = cut.map_or(segment, |(name, _)| name);
        ends_in_slash = matches!(name, "" | "." | "..");
        match name {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            name => kept.push(name),
        }
    }
    let mut resolved = String::with_capacity(path.len());
    for segment in &kept {
        resolved.push('/');
        resolved.push_str(segment);
    }
    if ends_in_slash || resolved.is_empty() {
        resolved.push('/');
    }
    resolved
}

/// Whether the query has more than `most` parameters: an origin that keeps them in a table may be
/// made to work for each pair of them. One cannot be shorter than its separator, so most queries
/// need no counting.
pub(super) fn has_more_parameters(target: &PathAndQuery, most: usize) -> bool {
    let is_separator = |byte: &u8| matches!(byte, b'&' | b';');
    target.query().is_some_and(|query| {
        query.len() >= most && query.as_bytes().iter().filter(|byte| is_separator(byte)).count() >= most
    })
}

/// Drops the parameters that the filter does not keep. The rest stays as written and in order, in
/// the key and towards the origin alike. Parameters are split at `&` only: `;` is part of a value,
/// whatever an origin thinks ("parameter cloaking").
pub(super) fn filter_query(target: PathAndQuery, filter: &QueryFilter) -> Result<PathAndQuery, Refusal> {
    let Some(query) = target.query() else { return Ok(target) };
    if query.split('&').all(|parameter| keeps(filter, parameter)) {
        return Ok(target);
    }
    let mut text = String::with_capacity(target.as_str().len());
    text.push_str(target.path());
    let mut separator = '?';
    for parameter in query.split('&').filter(|parameter| keeps(filter, parameter)) {
        text.push(separator);
        text.push_str(parameter);
        separator = '&';
    }
    PathAndQuery::try_from(text).map_err(|_invalid| Refusal::BadTarget)
}

fn keeps(filter: &QueryFilter, parameter: &str) -> bool {
    let name = parameter.split_once('=').map_or(parameter, |(name, _)| name);
    match filter {
        QueryFilter::Only(names) => names.iter().any(|kept| kept == name),
        QueryFilter::Except(names) => names.iter().all(|dropped| dropped != name),
    }
}
