//! `/obj/<id>?size=<n>`: objects of any name and size.

use super::body::Payload;
use super::condition::Validators;
use super::respond::Resource;
use crate::workload::Content;
use http::HeaderValue;
use http::Uri;
use percent_encoding::percent_decode_str;
use std::time::{Duration, SystemTime};

/// The path that all objects are below.
pub(super) const PREFIX: &str = "/obj/";

/// Bytes of an object when the request names no size.
const SIZE_DEFAULT: u64 = 16 * 1024;

/// Far larger than any test wants, and small enough that no sum overflows.
const SIZE_MAX: u64 = 1 << 40;

const ID_BYTES_MAX: usize = 128;

/// Objects were last modified in the year that begins here (2024-01-01T00:00:00Z).
const MODIFIED_FROM_SECS: u64 = 1_704_067_200;
const MODIFIED_SPAN_SECS: u64 = 365 * 86_400;

const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=3600");
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Why there is no such object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoObject {
    /// The id is none (404).
    Id,
    /// A parameter of the query is unknown, or its value cannot be used (400).
    Query,
}

/// The object at `uri`, whose path begins with [`PREFIX`]. The query may override its
/// `Cache-Control` (`cc`) and add a `Vary` (`vary`), percent-encoded.
pub(super) fn resource(uri: &Uri) -> Result<Resource, NoObject> {
    let id = uri.path().strip_prefix(PREFIX).ok_or(NoObject::Id)?;
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(named) {
        return Err(NoObject::Id);
    }
    let (mut size, mut cache_control, mut vary) = (SIZE_DEFAULT, CACHE_CONTROL, None);
    for (name, value) in parameters(uri.query().unwrap_or_default()) {
        match name {
            "size" => size = value.parse().ok().filter(|size| *size <= SIZE_MAX).ok_or(NoObject::Query)?,
            "cc" => cache_control = field(value)?,
            "vary" => vary = Some(field(value)?),
            _ => return Err(NoObject::Query),
        }
    }
    let content = Content::of(uri.path());
    let modified = Duration::from_secs(MODIFIED_FROM_SECS + content.seed() % MODIFIED_SPAN_SECS);
    Ok(Resource {
        payload: Payload::Made(content, size),
        content_type: CONTENT_TYPE,
        validators: Validators {
            etag: format!("\"{:016x}-{size:x}\"", content.seed()),
            last_modified: SystemTime::UNIX_EPOCH + modified,
        },
        cache_control,
        vary,
    })
}

fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn field(encoded: &str) -> Result<HeaderValue, NoObject> {
    let decoded: Vec<u8> = percent_decode_str(encoded).collect();
    HeaderValue::from_bytes(&decoded).ok().ok_or(NoObject::Query)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str) -> Result<Resource, NoObject> {
        resource(&uri.parse().unwrap())
    }

    #[test]
    fn bad_ids_and_queries_are_refused() {
        for uri in ["/obj/", "/obj/a/b", "/obj/a%20b", &format!("/obj/{}", "a".repeat(129))] {
            assert_eq!(check(uri).err(), Some(NoObject::Id), "{uri}");
        }
        for query in ["size=", "size=-1", "size=1x", "size=1099511627777", "cc=%0a", "page=1", "size"] {
            assert_eq!(check(&format!("/obj/1?{query}")).err(), Some(NoObject::Query), "{query}");
        }
    }

    #[test]
    fn validators_are_functions_of_path_and_size() {
        let tag = |uri| check(uri).unwrap().validators.etag;
        assert_eq!(tag("/obj/1?size=10"), tag("/obj/1?size=10&cc=no-store"));
        assert_ne!(tag("/obj/1?size=10"), tag("/obj/1?size=11"));
        assert_ne!(tag("/obj/1?size=10"), tag("/obj/2?size=10"));
        assert_eq!(tag("/obj/1"), tag("/obj/1?size=16384"));
    }

    #[test]
    fn the_query_overrides_fields() {
        let object = check("/obj/1?cc=max-age=5,%20private&vary=Accept").unwrap();
        assert_eq!(object.cache_control, "max-age=5, private");
        assert_eq!(object.vary.unwrap(), "Accept");
    }
}
