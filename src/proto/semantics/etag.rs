//! Entity tags (RFC 9110 §8.8.3).

use http::header::{ETAG, HeaderMap, HeaderName};

/// An entity tag: its opaque part, quotes included, and whether it is weak.
///
/// A tag without quotes is against the grammar, but origins send such; it is kept as a weak one,
/// so that it can validate and never combine bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntityTag<'a> {
    pub(super) opaque: &'a [u8],
    pub(super) weak: bool,
}

impl<'a> EntityTag<'a> {
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let text = text.trim_ascii();
        if let Some(opaque) = text.strip_prefix(b"W/").filter(|opaque| is_quoted(opaque)) {
            return Some(Self { opaque, weak: true });
        }
        (!text.is_empty()).then(|| Self { opaque: text, weak: !is_quoted(text) })
    }

    /// The tag of a response; `None` if it has none, or several.
    pub(super) fn of(fields: &'a HeaderMap) -> Option<Self> {
        let mut lines = fields.get_all(ETAG).iter();
        let tag = Self::parse(lines.next()?.as_bytes());
        if lines.next().is_some() { None } else { tag }
    }

    /// RFC 9110 §8.8.3.2: equal and neither weak.
    pub(super) fn equals_strongly(&self, other: &Self) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    /// RFC 9110 §8.8.3.2: equal, weak or not.
    pub(super) fn equals_weakly(&self, other: &Self) -> bool {
        self.opaque == other.opaque
    }
}

/// The strong entity tag of a response, quotes included: what pins a version. `None` if it has none, a
/// weak one, or several.
pub fn strong_etag(fields: &HeaderMap) -> Option<&[u8]> {
    EntityTag::of(fields).filter(|tag| !tag.weak).map(|tag| tag.opaque)
}

/// The entity tags of the field `name`, over all lines. Unlike in quoted strings, a backslash in
/// a tag escapes nothing.
pub(super) fn listed<'a>(fields: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = EntityTag<'a>> {
    fields.get_all(name).iter().flat_map(|line| {
        let mut quoted = false;
        line.as_bytes()
            .split(move |&byte| {
                quoted ^= byte == b'"';
                byte == b',' && !quoted
            })
            .filter_map(EntityTag::parse)
    })
}

/// Control bytes cannot be in a field value, so only inner quotes need to be excluded.
fn is_quoted(text: &[u8]) -> bool {
    matches!(text, [b'"', inner @ .., b'"'] if !inner.contains(&b'"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: &str, text: &str, expected: Option<(&str, bool)>) {
        let tag = EntityTag::parse(text.as_bytes());
        let tag = tag.map(|tag| (std::str::from_utf8(tag.opaque).unwrap(), tag.weak));
        assert_eq!(tag, expected, "{rule}");
    }

    #[test]
    fn only_a_quoted_tag_without_prefix_is_strong() {
        check("strong", "\"a\"", Some(("\"a\"", false)));
        check("weak", "W/\"a\"", Some(("\"a\"", true)));
        check("commas are part of it", "\"a,b\"", Some(("\"a,b\"", false)));
        check("an empty opaque part is one", "\"\"", Some(("\"\"", false)));
        check("the prefix is case-sensitive", "w/\"a\"", Some(("w/\"a\"", true)));
        check("unquoted", "abc", Some(("abc", true)));
        check("half quoted", "\"abc", Some(("\"abc", true)));
        check("quotes within", "\"a\"b\"", Some(("\"a\"b\"", true)));
        check("one quote", "\"", Some(("\"", true)));
        check("empty", "", None);
    }
}
