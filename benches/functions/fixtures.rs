//! Heads as they are on the web: sizes and fields decide what parsing and copying cost.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use shoal::proto::key::{CacheKey, KeyParts, Scheme, VersionId, variant};
use shoal::proto::object::{HeadDraft, PurgePosition, SelectingValue};
use shoal::proto::semantics::{StoreReason, Vary};
use shoal::proto::time::Wall;

pub(crate) const HOST: &str = "www.example.com";
pub(crate) const TARGET: &str = "/assets/styles/main.3f9a1c.css?v=20261122";

/// When all stored responses here were received: one second after their `Date`.
pub(crate) const RECEIVED: Wall = Wall::from_secs(1_792_671_391);

/// A browser's request for a part of a page.
pub(crate) fn browser() -> HeaderMap {
    fields(&[
        ("host", HOST),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"),
        ("accept", "text/css,*/*;q=0.1"),
        ("accept-language", "de-DE,de;q=0.8,en-US;q=0.5,en;q=0.3"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("referer", "https://www.example.com/products/chairs"),
        ("cookie", "session=2f1c7a9be04d4b0f; consent=1; theme=dark"),
        ("sec-fetch-dest", "style"),
        ("sec-fetch-mode", "no-cors"),
        ("sec-fetch-site", "same-origin"),
        ("te", "trailers"),
    ])
}

/// The browser's request with more fields.
pub(crate) fn browser_with(more: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut all = browser();
    all.extend(fields(more));
    all
}

/// An origin's response to it.
pub(crate) fn response() -> HeaderMap {
    fields(&[
        ("date", "Thu, 22 Oct 2026 12:16:30 GMT"),
        ("server", "nginx"),
        ("content-type", "text/css; charset=utf-8"),
        ("content-length", "4"),
        ("last-modified", "Tue, 20 Oct 2026 08:00:00 GMT"),
        ("etag", "\"3f9a1c-5e2b\""),
        ("cache-control", "public, max-age=3600, stale-while-revalidate=60"),
        ("vary", "Accept-Encoding"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains"),
        ("x-content-type-options", "nosniff"),
    ])
}

/// The response as it is about to be stored.
pub(crate) fn draft() -> HeadDraft {
    let key = key();
    let (fields, request) = (response(), browser());
    let selecting: Vec<SelectingValue> = match Vary::of(&fields) {
        Vary::Fields(list) => list.selecting(&request),
        Vary::None | Vary::Star => Vec::new(),
    };
    let values = selecting.iter().map(|field| (field.name.as_str(), field.value.as_deref()));
    HeadDraft {
        variant: variant(key.object(), values),
        version: VersionId([7; 16]),
        key,
        selecting,
        status: StatusCode::OK,
        fields,
        length: Some(4),
        received: RECEIVED,
        initial_age: 1,
        position: PurgePosition(9),
        reason: StoreReason::MaxAge,
        personal: false,
    }
}

pub(crate) const PARTS: KeyParts<'static> =
    KeyParts { site: HOST, scheme: Scheme::Https, host: HOST, path: TARGET };

pub(crate) fn key() -> CacheKey {
    CacheKey::new(PARTS)
}

fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    lines.iter().map(field).collect()
}
