//! Targeted cache control (RFC 9213): which field's directives decide, and the reading of the
//! Structured Field among them.
//!
//! `CDN-Cache-Control` first, if it is a valid and not empty Structured Field dictionary; then
//! `Surrogate-Control`, if it says anything that a cache without ESI understands; else
//! `Cache-Control`. The first one alone decides, in both directions.

use super::directives::{Argument, Governing, delta_seconds, is_known, visit_members};
use http::header::{self, HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, FieldType, ListEntry};

/// RFC 9213 §3.1.
pub(super) const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
/// Edge Architecture Specification 1.0.
pub(super) const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");
/// All targeted fields that are obeyed.
pub(super) const FIELDS: [HeaderName; 2] = [CDN_CACHE_CONTROL, SURROGATE_CONTROL];

/// Calls `visit` with each directive of the field that governs, and says which it was.
pub(super) fn visit(fields: &HeaderMap, visit: &mut dyn FnMut(&[u8], Argument<'_>)) -> Governing {
    if let Some(dictionary) = cdn_cache_control(fields) {
        for (name, entry) in &dictionary {
            if let Some(argument) = structured(entry) {
                visit(name.as_str().as_bytes(), argument);
            }
        }
        return Governing::CdnCacheControl;
    }
    if surrogate_control_governs(fields) {
        visit_surrogate_control(fields, visit);
        return Governing::SurrogateControl;
    }
    visit_members(fields, &header::CACHE_CONTROL, visit);
    Governing::CacheControl
}

/// RFC 9213 §2.1: a field that is empty, does not parse, or has a lifetime that is no integer is
/// as if absent.
fn cdn_cache_control(fields: &HeaderMap) -> Option<Dictionary> {
    if !fields.contains_key(CDN_CACHE_CONTROL) {
        return None;
    }
    let mut joined = Vec::new();
    for line in fields.get_all(CDN_CACHE_CONTROL) {
        let line = line.as_bytes().trim_ascii();
        if !line.is_empty() && !joined.is_empty() {
            joined.extend_from_slice(b", ");
        }
        joined.extend_from_slice(line);
    }
    let dictionary = Dictionary::parse(sfv::Parser::new(&joined)).ok()?;
    let lifetimes_are_integers = ["max-age", "s-maxage"].iter().all(|&name| {
        dictionary.get(name).is_none_or(|entry| matches!(structured(entry), Some(Argument::Integer(_))))
    });
    (!dictionary.is_empty() && lifetimes_are_integers).then_some(dictionary)
}

/// A member's value as an argument; `None` for false, which means that the directive is not set.
/// Parameters are ignored (RFC 9213 §2.1).
fn structured(entry: &ListEntry) -> Option<Argument<'_>> {
    let ListEntry::Item(item) = entry else { return Some(Argument::Invalid) };
    match &item.bare_item {
        BareItem::Boolean(true) => Some(Argument::None),
        BareItem::Boolean(false) => None,
        BareItem::Integer(value) => Some(Argument::Integer(i64::from(*value))),
        BareItem::String(value) => Some(Argument::Quoted(value.as_str().as_bytes())),
        BareItem::Token(value) => Some(Argument::Token(value.as_str().as_bytes())),
        _ => Some(Argument::Invalid),
    }
}

/// Frameworks send `Surrogate-Control: content="ESI/1.0"` to announce ESI, and leave caching to
/// `Cache-Control`.
fn surrogate_control_governs(fields: &HeaderMap) -> bool {
    let mut governs = false;
    visit_surrogate_control(fields, &mut |name, _| governs |= is_known(name));
    governs
}

/// Directives with a target (`max-age=60;name`) are for the surrogate of that name, not for us. One
/// without argument (`no-store;name`) is no known name, and needs no care.
fn visit_surrogate_control(fields: &HeaderMap, visit: &mut dyn FnMut(&[u8], Argument<'_>)) {
    visit_members(fields, &SURROGATE_CONTROL, &mut |name, argument| match argument {
        Argument::Token(value) if value.contains(&b';') => {}
        Argument::Token(value) => visit(name, extended(value).unwrap_or(argument)),
        _ => visit(name, argument),
    });
}

fn extended(value: &[u8]) -> Option<Argument<'_>> {
    let plus = value.iter().position(|&byte| byte == b'+')?;
    let (fresh, stale) = (delta_seconds(&value[..plus])?, delta_seconds(&value[plus + 1..])?);
    Some(Argument::Extended { fresh, stale })
}

#[cfg(test)]
#[path = "targeted_tests.rs"]
mod tests;
