//! What somebody asks to have purged, as written. `route` makes [`Selector`](super::Selector)s of it, since it knows the sites.

use super::SelectorKind;
use std::fmt;

/// Bytes of a tag at most.
pub const TAG_BYTES_MAX: usize = 1024;
/// Bytes that [`Shown`] shows at most.
const SHOWN_BYTES_MAX: usize = 120;

/// One selector as people and programs write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A URL: `https://shop.example/a?b=c` or `shop.example/a`. Both schemes are meant.
    Url(String),
    /// How URLs begin, with or without a `*` at the end.
    Prefix(String),
    /// A tag of one site, or of all.
    Tag {
        /// Name of the site.
        site: Option<String>,
        /// The tag.
        tag: String,
    },
    /// A host.
    Host(String),
    /// The name of a site.
    Site(String),
    /// Everything.
    All,
}

impl Wanted {
    /// Its kind.
    pub const fn kind(&self) -> SelectorKind {
        match self {
            Self::Url(_) => SelectorKind::Url,
            Self::Prefix(_) => SelectorKind::Prefix,
            Self::Tag { .. } => SelectorKind::Tag,
            Self::Host(_) => SelectorKind::Host,
            Self::Site(_) => SelectorKind::Site,
            Self::All => SelectorKind::All,
        }
    }

    /// What was written.
    pub fn text(&self) -> &str {
        match self {
            Self::Url(text) | Self::Prefix(text) | Self::Host(text) | Self::Site(text) => text,
            Self::Tag { tag, .. } => tag,
            Self::All => "",
        }
    }
}

/// A text of anybody's making, for a log or a message: escaped, on one line, and cut.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = SHOWN_BYTES_MAX;
        for escaped in self.0.chars().map(char::escape_default) {
            let Some(rest) = left.checked_sub(escaped.len()) else { return f.write_str("...") };
            left = rest;
            write!(f, "{escaped}")?;
        }
        Ok(())
    }
}

/// What is wrong with a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTag {
    /// It has no character.
    #[error("empty")]
    Empty,
    /// It is longer than [`TAG_BYTES_MAX`].
    #[error("longer than {TAG_BYTES_MAX} bytes")]
    TooLong,
    /// The fields that carry tags are separated by these.
    #[error("a tag has no spaces, commas or control characters")]
    Separator,
}

/// Checks that `tag` is one that a response can carry.
///
/// # Errors
/// What is wrong with it.
pub fn check_tag(tag: &str) -> Result<(), BadTag> {
    if tag.is_empty() {
        return Err(BadTag::Empty);
    }
    if tag.len() > TAG_BYTES_MAX {
        return Err(BadTag::TooLong);
    }
    if tag.chars().any(|c| c.is_whitespace() || c.is_control() || c == ',') {
        return Err(BadTag::Separator);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_what_a_field_can_carry() {
        for tag in ["a", "cat_p_1", "node:1", "ü"] {
            assert_eq!(check_tag(tag), Ok(()), "{tag}");
        }
        assert_eq!(check_tag(""), Err(BadTag::Empty));
        assert_eq!(check_tag(&"a".repeat(TAG_BYTES_MAX)), Ok(()));
        assert_eq!(check_tag(&"a".repeat(TAG_BYTES_MAX + 1)), Err(BadTag::TooLong));
        for tag in ["a b", "a,b", "a\tb", "a\nb", "a\u{a0}b"] {
            assert_eq!(check_tag(tag), Err(BadTag::Separator), "{tag:?}");
        }
    }

    #[test]
    fn what_is_shown_is_one_short_line() {
        assert_eq!(Shown("shop.example/a?b=c").to_string(), "shop.example/a?b=c");
        assert_eq!(Shown("a\nb\u{1b}[31m\"").to_string(), "a\\nb\\u{1b}[31m\\\"");
        let long = Shown(&"ü".repeat(1000)).to_string();
        assert!(long.len() <= SHOWN_BYTES_MAX + 3 && long.ends_with("..."), "{long}");
    }
}
