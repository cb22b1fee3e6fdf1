//! What a purge selects, and the hash by which it is known.

use std::fmt;

/// Hash domain of targets. Part of the disk and wire formats.
const DOMAIN: &[u8; 32] = b"shoal: the target of a purge, v1";
/// Bytes of a path that a prefix has at most; a longer one is cut, and so selects more.
pub(super) const PREFIX_MAX: usize = 1024;

/// What becomes of what a purge selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// It is gone.
    Hard,
    /// It is stale from then on, and may be used as stale responses may.
    Soft,
}

impl Mode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Hard, Self::Soft];

    /// The one name of this mode.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
        }
    }
}

/// Kinds of selectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SelectorKind {
    /// One URL, by both schemes, with all its variants.
    Url,
    /// All URLs of a host whose path and query begin so.
    Prefix,
    /// All responses with a tag.
    Tag,
    /// A host.
    Host,
    /// A site.
    Site,
    /// Everything.
    All,
}

impl SelectorKind {
    /// All kinds, in the order of their codes, which begin at 1.
    pub const ALL: [Self; 6] = [Self::Url, Self::Prefix, Self::Tag, Self::Host, Self::Site, Self::All];

    /// The one name of this kind.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Prefix => "prefix",
            Self::Tag => "tag",
            Self::Host => "host",
            Self::Site => "site",
            Self::All => "all",
        }
    }

    /// Its number on disk and on the wire.
    pub const fn code(self) -> u8 {
        self as u8 + 1
    }

    /// The kind with that number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

/// What is to be purged. Hosts and paths are as in cache keys: lower case, as the site's rules make them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// One URL, by both schemes, with all its variants.
    Url {
        /// The site that answers for it.
        site: String,
        /// The host.
        host: String,
        /// Path and query.
        path: String,
    },
    /// All URLs of a host whose path and query begin so.
    Prefix {
        /// The site that answers for the host.
        site: String,
        /// The host.
        host: String,
        /// How path and query begin; of it [`PREFIX_MAX`] bytes count.
        path: String,
    },
    /// All responses with a tag.
    Tag {
        /// Of this site; `None` is of all.
        site: Option<String>,
        /// The tag.
        tag: String,
    },
    /// All of a host.
    Host {
        /// The site that answers for it.
        site: String,
        /// The host.
        host: String,
    },
    /// All of a site.
    Site {
        /// Its name.
        site: String,
    },
    /// Everything.
    All,
}

/// A site in the log: the hash of its name. Zero stands for all sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(pub u64);

impl SiteId {
    /// All sites.
    pub const ALL: Self = Self(0);

    /// The site of that name.
    pub fn of(name: &str) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *hasher(0).update(name.as_bytes()).finalize().as_bytes();
        Self(u64::from_le_bytes([a, b, c, d, e, f, g, h]).max(1))
    }
}

/// What a purge selects, as the log knows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Kind of selector.
    pub kind: SelectorKind,
    /// What becomes of it.
    pub mode: Mode,
    /// The site.
    pub site: SiteId,
    /// Bytes of the path of a prefix; else 0.
    pub length: u16,
    /// Hash of the rest, 128 bits; zero for a site and for everything.
    pub hash: [u8; 16],
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, mode, site, length, hash } = self;
        write!(f, "{} {} of {:x}+{length} ", mode.as_str(), kind.as_str(), site.0)?;
        hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Selector {
    /// Its kind.
    pub const fn kind(&self) -> SelectorKind {
        match self {
            Self::Url { .. } => SelectorKind::Url,
            Self::Prefix { .. } => SelectorKind::Prefix,
            Self::Tag { .. } => SelectorKind::Tag,
            Self::Host { .. } => SelectorKind::Host,
            Self::Site { .. } => SelectorKind::Site,
            Self::All => SelectorKind::All,
        }
    }

    /// The target in the log.
    pub fn target(&self, mode: Mode) -> Target {
        match self {
            Self::Url { site, host, path } => Target::url(mode, SiteId::of(site), host, path),
            Self::Prefix { site, host, path } => {
                let path = &path.as_bytes()[..path.len().min(PREFIX_MAX)];
                let hash = cut(&Prefixes::new(host).update(path));
                // At most PREFIX_MAX.
                let length = path.len() as u16;
                Target { kind: SelectorKind::Prefix, mode, site: SiteId::of(site), length, hash }
            }
            Self::Tag { site, tag } => {
                Target::tag(mode, site.as_deref().map_or(SiteId::ALL, SiteId::of), tag.as_bytes())
            }
            Self::Host { site, host } => Target::host(mode, SiteId::of(site), host),
            Self::Site { site } => Target::site(mode, SiteId::of(site)),
            Self::All => Target::site(mode, SiteId::ALL),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().as_str())?;
        match self {
            Self::Url { host, path, .. } | Self::Prefix { host, path, .. } => write!(f, " {host}{path}"),
            Self::Tag { site: Some(site), tag } => write!(f, " {tag} of {site}"),
            Self::Tag { site: None, tag } => write!(f, " {tag}"),
            Self::Host { host, .. } => write!(f, " {host}"),
            Self::Site { site } => write!(f, " {site}"),
            Self::All => Ok(()),
        }
    }
}

impl Target {
    /// One URL.
    pub fn url(mode: Mode, site: SiteId, host: &str, path: &str) -> Self {
        let hash = cut(hashed(SelectorKind::Url, host.as_bytes()).update(path.as_bytes()));
        Self { kind: SelectorKind::Url, mode, site, length: 0, hash }
    }

    /// A tag.
    pub fn tag(mode: Mode, site: SiteId, tag: &[u8]) -> Self {
        Self { kind: SelectorKind::Tag, mode, site, length: 0, hash: cut(&hashed(SelectorKind::Tag, tag)) }
    }

    /// A host.
    pub fn host(mode: Mode, site: SiteId, host: &str) -> Self {
        let hash = cut(&hashed(SelectorKind::Host, host.as_bytes()));
        Self { kind: SelectorKind::Host, mode, site, length: 0, hash }
    }

    /// A site, or everything if it is [`SiteId::ALL`].
    pub const fn site(mode: Mode, site: SiteId) -> Self {
        let kind = if site.0 == SiteId::ALL.0 { SelectorKind::All } else { SelectorKind::Site };
        Self { kind, mode, site, length: 0, hash: [0; 16] }
    }
}

/// Hashes of the prefixes of one path, the shorter before the longer.
pub(super) struct Prefixes(blake3::Hasher);

impl Prefixes {
    pub(super) fn new(host: &str) -> Self {
        Self(hashed(SelectorKind::Prefix, host.as_bytes()))
    }

    /// Goes on by `more`.
    pub(super) fn update(&mut self, more: &[u8]) -> blake3::Hasher {
        self.0.update(more).clone()
    }

    /// The hash of what went before and `more`.
    pub(super) fn hash(&mut self, more: &[u8]) -> [u8; 16] {
        cut(&self.update(more))
    }
}

fn hasher(code: u8) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new_keyed(DOMAIN);
    hasher.update(&[code]);
    hasher
}

/// A hasher that has seen the kind and the first part with its length, so that parts cannot be shifted.
fn hashed(kind: SelectorKind, part: &[u8]) -> blake3::Hasher {
    let mut hasher = hasher(kind.code());
    hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    hasher
}

fn cut(hasher: &blake3::Hasher) -> [u8; 16] {
    *hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes")
}
