//! Conditional requests (RFC 9110 §13): answering those of clients, making our own.

use super::date;
use super::etag::{EntityTag, listed};
use super::request::MethodClass;
use http::header::{
    self, HeaderMap, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE,
};
use http::{Method, StatusCode};

/// The fields that hold preconditions, without `If-Range`, which only turns `Range` off.
pub(super) const PRECONDITIONS: [HeaderName; 4] =
    [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];

/// What a stored response is compared by.
#[derive(Clone, Copy, Debug)]
pub struct Validators<'a> {
    etag: Option<EntityTag<'a>>,
    last_modified: Option<i64>,
    date: Option<i64>,
    successful: bool,
}

impl<'a> Validators<'a> {
    /// The validators of a stored response with `status` and `fields`.
    pub fn of(status: StatusCode, fields: &'a HeaderMap) -> Self {
        Self {
            etag: EntityTag::of(fields),
            last_modified: date::of_field(fields, header::LAST_MODIFIED),
            date: date::of_field(fields, header::DATE),
            successful: status.is_success(),
        }
    }
}

/// What the preconditions of a request make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Answer as if there were none.
    Proceed,
    /// Answer 304.
    NotModified,
    /// Answer 412.
    PreconditionFailed,
}

/// Evaluates the preconditions of `request` against a stored response that is fresh or was just
/// validated, in the order of RFC 9110 §13.2.2. They count only if the response alone would be a
/// 2xx (§13.2.1). `If-Range` is part of [`ranges`](super::ranges).
pub fn condition(method: &Method, request: &HeaderMap, stored: &Validators<'_>) -> Condition {
    if !stored.successful {
        return Condition::Proceed;
    }
    // §13.1.1, by strong comparison; §13.1.4 counts only without it.
    if request.contains_key(IF_MATCH) {
        let same = |tag: EntityTag<'_>| stored.etag.is_some_and(|stored| stored.equals_strongly(&tag));
        if !is_wildcard(request, &IF_MATCH) && !listed(request, &IF_MATCH).any(same) {
            return Condition::PreconditionFailed;
        }
    } else if let Some(since) = date::of_field(request, IF_UNMODIFIED_SINCE)
        && stored.last_modified.is_some_and(|modified| modified > since)
    {
        return Condition::PreconditionFailed;
    }
    let reads = MethodClass::of(method).is_cacheable();
    // §13.1.2, by weak comparison; §13.1.3 counts only without it.
    if request.contains_key(IF_NONE_MATCH) {
        let same = |tag: EntityTag<'_>| stored.etag.is_some_and(|stored| stored.equals_weakly(&tag));
        return match is_wildcard(request, &IF_NONE_MATCH) || listed(request, &IF_NONE_MATCH).any(same) {
            false => Condition::Proceed,
            true if reads => Condition::NotModified,
            true => Condition::PreconditionFailed,
        };
    }
    // RFC 9111 §4.3.2: without `Last-Modified`, `Date` stands in for it.
    let modified = stored.last_modified.or(stored.date);
    match (date::of_field(request, IF_MODIFIED_SINCE), modified) {
        (Some(since), Some(modified)) if reads && modified <= since => Condition::NotModified,
        _ => Condition::Proceed,
    }
}

/// Replaces all conditions of `request` and its `Range` by those of a validation (RFC 9111 §4.3.1):
/// the stored entity tag, weak ones verbatim, and the stored `Last-Modified`. Returns false, and
/// leaves an unconditional request, if there is nothing to validate with.
pub fn make_conditional(request: &mut HeaderMap, stored: &HeaderMap) -> bool {
    strip_conditions(request);
    let mut conditional = false;
    if EntityTag::of(stored).is_some()
        && let Some(etag) = stored.get(header::ETAG)
    {
        request.insert(IF_NONE_MATCH, etag.clone());
        conditional = true;
    }
    if date::of_field(stored, header::LAST_MODIFIED).is_some()
        && let Some(modified) = stored.get(header::LAST_MODIFIED)
    {
        request.insert(IF_MODIFIED_SINCE, modified.clone());
        conditional = true;
    }
    conditional
}

/// Removes all preconditions, `Range` and `If-Range`: what remains asks for the whole response.
pub fn strip_conditions(request: &mut HeaderMap) {
    for name in PRECONDITIONS.iter().chain(&[header::RANGE, header::IF_RANGE]) {
        request.remove(name);
    }
}

/// `*` is the whole value by the grammar; in a list it means the same.
fn is_wildcard(request: &HeaderMap, name: &HeaderName) -> bool {
    listed(request, name).any(|tag| tag.opaque == b"*")
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;
