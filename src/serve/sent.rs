//! The fields that the origin is sent, by which its answers are selected (RFC 9111 §4.1).
//!
//! What a client writes is not what the origin sees: fields of its connection stay behind, what steers or names an identity is
//! removed, and the client's address is told anew. An answer belongs to what the origin saw.

use crate::proto::semantics::{self, VaryList};
use crate::route::{Routed, Router};
use http::header::TE;
use http::{HeaderMap, HeaderValue};
use std::borrow::Cow;

/// What the origin is sent of a client's fields, and told about the client.
pub(super) fn fields(router: &Router, routed: &Routed, mut fields: HeaderMap) -> HeaderMap {
    let trailers = fields.get(TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    semantics::strip_hop_by_hop(&mut fields);
    if trailers {
        fields.insert(TE, HeaderValue::from_static("trailers"));
    }
    router.forward_headers(routed, &mut fields);
    fields
}

/// The fields by which `vary` selects for a request with `fields`. These themselves, unless it names one that is not sent as it
/// was written. What `Connection` lists must be gone from them ([`semantics::strip_listed`]).
pub(super) fn selecting<'a>(
    (router, routed): (&Router, &Routed),
    vary: &VaryList,
    fields: &'a HeaderMap,
) -> Cow<'a, HeaderMap> {
    if vary.names().iter().any(|name| router.tells(routed, name) || semantics::is_hop_by_hop(name)) {
        Cow::Owned(self::fields(router, routed, fields.clone()))
    } else {
        Cow::Borrowed(fields)
    }
}
