//! Path patterns and the query filter.
//!
//! Origins disagree on what a path means: whether `%2f` is a slash, `;x` a parameter, `..` a step
//! up. A key is safe from that, because it is the path as written. A rule is not: `/private/*`
//! would miss `/static/..%2fprivate/x`. So each rule is asked twice, with the path as written and
//! with its normal form, the most decoded reading that an origin is known to make; where the two
//! answers differ, the request is passed.

use super::Refusal;
use crate::config::model::QueryFilter;
use http::uri::PathAndQuery;
use std::borrow::Cow;

/// How many layers of percent-encoding the normal form takes off: origins behind one decoding
/// proxy take off two.
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
    let normal = normal_form(path);
    for (index, pattern) in patterns.iter().enumerate() {
        let as_written = Pattern::matches(&pattern.text, pattern.is_prefix, path);
        let as_normal = Pattern::matches(&pattern.normal, pattern.is_prefix, &normal);
        match (as_written, as_normal) {
            (true, true) => return (Some(index), false),
            (false, false) => {}
            _ => return (None, true),
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

/// The path fully decoded, `\` as `/`, parameters of segments (`;…`) cut, empty and dot segments
/// resolved.
pub(super) fn normal_form(path: &str) -> Cow<'_, str> {
    let is_plain = !path.contains(['%', '\\', ';']) && !path.contains("//") && !path.contains("/.");
    if is_plain {
        return Cow::Borrowed(path);
    }
    Cow::Owned(resolve_segments(&decode(path.as_bytes()).replace('\\', "/")))
}

/// Takes the percent-encoding off. What is no UTF-8 then becomes replacement characters.
fn decode(path: &[u8]) -> String {
    let mut decoded = path.to_vec();
    for _ in 0..DECODE_LAYERS_MAX {
        if !decoded.contains(&b'%') {
            break;
        }
        decoded = percent_encoding::percent_decode(&decoded).collect();
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// RFC 3986 §5.2.4, with empty segments dropped too.
fn resolve_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_slash = false;
    for segment in path.split('/') {
        let name = segment.split_once(';').map_or(segment, |(name, _)| name);
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
