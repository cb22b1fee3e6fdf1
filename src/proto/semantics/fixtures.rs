//! Heads for tests.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// A head with these lines.
pub(super) fn head(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines.iter().map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).fold(
        HeaderMap::new(),
        |mut head, (name, value)| {
            head.append(name, value);
            head
        },
    )
}
