//! Cache keys and the identities derived from them.
//!
//! A key is the length-prefixed sequence of everything that names an object, so no two different
//! requests can have the same key bytes whatever delimiters they contain (design §4, "Web Cache
//! Entanglement"). Identities are BLAKE3 hashes cut to 128 bits; the key itself is kept in the
//! stored head and compared on reuse, so a collision could only cost a miss.

use crate::proto::semantics::{Span, Wanted};
use smallvec::SmallVec;
use std::fmt;
use std::ops::Range;

/// Hash domains: the same bytes under two domains give unrelated identities. Keyed hashing costs
/// nothing over plain hashing. Part of the disk and wire formats.
const OBJECT_DOMAIN: &[u8; 32] = b"shoal: identity of an object v1.";
const VARIANT_DOMAIN: &[u8; 32] = b"shoal: identity of a variant v1.";
const VERSION_DOMAIN: &[u8; 32] = b"shoal: identity of a version v1.";
const PART_DOMAIN: &[u8; 32] = b"shoal: identity of a part v1.   ";

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

identity! {
    /// What a cache key names: all variants and versions of one URL of one site.
    ObjectId
}
identity! {
    /// An object under the values of the request fields that its `Vary` selects by.
    VariantId
}
identity! {
    /// One immutable representation of a variant.
    VersionId
}

/// The scheme by which the client asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The parts of a key: site name, scheme, validated host (lower case, port only where not the
/// scheme's own), path and query exactly as forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyParts<'a> {
    /// Name of the site whose rules answered.
    pub site: &'a str,
    /// Scheme of the request.
    pub scheme: Scheme,
    /// Validated authority.
    pub host: &'a str,
    /// Path and query.
    pub path: &'a str,
}

/// A cache key in its one encoding: `scheme u8`, then site, host and path, each as
/// `length u32 little-endian` and bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CacheKey(SmallVec<[u8; 160]>);

impl CacheKey {
    /// Encodes `parts`.
    pub fn new(parts: KeyParts<'_>) -> Self {
        let mut bytes = SmallVec::new();
        bytes.push(match parts.scheme {
            Scheme::Http => 0,
            Scheme::Https => 1,
        });
        for part in [parts.site, parts.host, parts.path] {
            let length = u32::try_from(part.len()).expect("request heads are bounded far below 4 GiB");
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        Self(bytes)
    }

    /// The encoded bytes, as they are hashed and stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The identity of the object that this key names.
    pub fn object(&self) -> ObjectId {
        ObjectId(cut(&blake3::keyed_hash(OBJECT_DOMAIN, &self.0)))
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&decode(&self.0), f)
    }
}

/// Reads an encoded key back. `None` if the bytes are no key.
pub fn decode(bytes: &[u8]) -> Option<KeyParts<'_>> {
    let (&scheme, mut rest) = bytes.split_first()?;
    let scheme = match scheme {
        0 => Scheme::Http,
        1 => Scheme::Https,
        _ => return None,
    };
    let mut part = || {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let (value, tail) = tail.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        rest = tail;
        std::str::from_utf8(value).ok()
    };
    let (site, host, path) = (part()?, part()?, part()?);
    rest.is_empty().then_some(KeyParts { site, scheme, host, path })
}

/// The identity of a variant: the object under `selecting`, the normalised values of the fields
/// named by `Vary`, in the order of the list; an absent field is `None` and equals only itself
/// (RFC 9111 §4.1).
pub fn variant<'a>(
    object: ObjectId,
    selecting: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
) -> VariantId {
    let mut hasher = blake3::Hasher::new_keyed(VARIANT_DOMAIN);
    hasher.update(&object.0);
    for (name, value) in selecting {
        update_prefixed(&mut hasher, name.as_bytes());
        match value {
            Some(value) => {
                hasher.update(&[1]);
                update_prefixed(&mut hasher, value);
            }
            None => {
                hasher.update(&[0]);
            }
        }
    }
    VariantId(cut(&hasher.finalize()))
}

/// What pins a version: a strong validator makes every fetch of the same representation the same
/// version; without one each origin response is a version of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin<'a> {
    /// A strong entity tag, quotes included.
    StrongEtag(&'a [u8]),
    /// A nonce drawn for this fill.
    Nonce([u8; 16]),
}

/// The identity of a version of `variant`.
pub fn version(object: ObjectId, variant: VariantId, pin: Pin<'_>) -> VersionId {
    let (kind, bytes): (&[u8], &[u8]) = match &pin {
        Pin::StrongEtag(etag) => (&[1], etag),
        Pin::Nonce(nonce) => (&[0], nonce),
    };
    VersionId(hash(VERSION_DOMAIN, &[&object.0, &variant.0, kind, bytes]))
}

/// Under what a fetch of `wanted` of `variant` is listed: the variant itself for the whole.
pub fn part(variant: VariantId, wanted: Wanted) -> VariantId {
    let (kind, first, end) = match wanted {
        Wanted::Whole => return variant,
        Wanted::Span(Span { first, end: None }) => (0, first, 0),
        Wanted::Span(Span { first, end: Some(end) }) => (1, first, end),
        Wanted::Suffix(bytes) => (2, bytes, 0),
    };
    VariantId(hash(PART_DOMAIN, &[&variant.0, &[kind], &first.to_le_bytes(), &end.to_le_bytes()]))
}

/// The identity of the bytes `range` of `version`.
pub fn version_part(version: VersionId, range: &Range<u64>) -> VersionId {
    VersionId(hash(PART_DOMAIN, &[&version.0, &range.start.to_le_bytes(), &range.end.to_le_bytes()]))
}

fn hash(domain: &[u8; 32], parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(domain);
    for part in parts {
        hasher.update(part);
    }
    cut(&hasher.finalize())
}

fn update_prefixed(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn cut(hash: &blake3::Hash) -> [u8; 16] {
    *hash.as_bytes().first_chunk().expect("a BLAKE3 hash has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'a>(site: &'a str, host: &'a str, path: &'a str) -> KeyParts<'a> {
        KeyParts { site, scheme: Scheme::Https, host, path }
    }

    #[test]
    fn a_key_decodes_to_its_parts() {
        let key = CacheKey::new(parts("shop", "example.com", "/a?b=c"));
        assert_eq!(decode(key.as_bytes()), Some(parts("shop", "example.com", "/a?b=c")));
    }

    #[test]
    fn moving_bytes_between_parts_changes_the_key() {
        let a = CacheKey::new(parts("shop", "example.com", "/a")).object();
        let b = CacheKey::new(parts("shope", "xample.com", "/a")).object();
        let c = CacheKey::new(parts("shop", "example.com/", "a")).object();
        assert!(a != b && a != c && b != c);
    }

    #[test]
    fn an_absent_field_is_not_an_empty_one() {
        let object = ObjectId::default();
        let absent = variant(object, [("accept", None)].into_iter());
        let empty = variant(object, [("accept", Some(&b""[..]))].into_iter());
        assert_ne!(absent, empty);
    }

    proptest::proptest! {
        #[test]
        fn decoding_never_panics(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
