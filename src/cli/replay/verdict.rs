//! What a proxy says it did, read from `Cache-Status` (RFC 9211) alone.

use http::HeaderMap;

/// What became of a request, as its client can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Seen {
    HitMemory,
    HitDisk,
    HitCollapsed,
    Revalidated,
    StaleWhileRevalidate,
    StaleIfError,
    Peer,
    Origin,
    Pass,
    /// The answer does not say, or says something else.
    Other,
}

/// Where body bytes came from, as far as the origin's load is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Memory,
    Disk,
    Peer,
    Origin,
}

impl Seen {
    /// All of them, in the order of reports.
    pub(crate) const ALL: [Self; 10] = [
        Self::HitMemory,
        Self::HitDisk,
        Self::HitCollapsed,
        Self::Revalidated,
        Self::StaleWhileRevalidate,
        Self::StaleIfError,
        Self::Peer,
        Self::Origin,
        Self::Pass,
        Self::Other,
    ];

    /// The one name; those of a node's verdicts are the same.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::HitMemory => "hit_memory",
            Self::HitDisk => "hit_disk",
            Self::HitCollapsed => "hit_collapsed",
            Self::Revalidated => "revalidated",
            Self::StaleWhileRevalidate => "stale_while_revalidate",
            Self::StaleIfError => "stale_if_error",
            Self::Peer => "peer",
            Self::Origin => "origin",
            Self::Pass => "pass",
            Self::Other => "other",
        }
    }

    /// Where the bytes came from. A collapsed request's were in memory, of a fill that another
    /// request is counted for; what is not shown to come from a cache counts as the origin's.
    pub(crate) const fn source(self) -> Source {
        match self {
            Self::HitMemory
            | Self::HitCollapsed
            | Self::Revalidated
            | Self::StaleWhileRevalidate
            | Self::StaleIfError => Source::Memory,
            Self::HitDisk => Source::Disk,
            Self::Peer => Source::Peer,
            Self::Origin | Self::Pass | Self::Other => Source::Origin,
        }
    }

    /// Reads the last member of the last field: the cache nearest to the client (RFC 9211 §2).
    pub(crate) fn of(fields: &HeaderMap) -> Self {
        let last = fields.get_all("cache-status").iter().next_back();
        last.and_then(|value| value.to_str().ok()).map_or(Self::Other, Self::read)
    }

    fn read(list: &str) -> Self {
        let member = split(list, b',').last().unwrap_or_default();
        let mut said = Said::default();
        for parameter in split(member, b';').skip(1) {
            said.note(parameter.trim());
        }
        said.verdict()
    }
}

/// The parameters of one member that decide.
#[derive(Default)]
struct Said<'a> {
    hit: bool,
    collapsed: bool,
    forward: Option<&'a str>,
    forward_status: Option<&'a str>,
    detail: Option<&'a str>,
}

impl<'a> Said<'a> {
    fn note(&mut self, parameter: &'a str) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, "?1"));
        let value = value.trim().trim_matches('"');
        match name.trim() {
            "hit" => self.hit = value == "?1",
            "collapsed" => self.collapsed = value == "?1",
            "fwd" => self.forward = Some(value),
            "fwd-status" => self.forward_status = Some(value),
            "detail" => self.detail = Some(value),
            _ => {}
        }
    }

    fn verdict(&self) -> Seen {
        let detail = self.detail.unwrap_or_default();
        // Collapsed comes before a detail that says where the fill's bytes came from.
        if self.collapsed && self.forward_status.is_none() && matches!(detail, "" | "peer" | "origin") {
            return Seen::HitCollapsed;
        }
        if let Some(named) = Seen::ALL.into_iter().find(|seen| seen.as_str() == detail) {
            return named;
        }
        match (self.hit, detail, self.forward) {
            (true, "memory", _) => Seen::HitMemory,
            (true, "disk", _) => Seen::HitDisk,
            (false, _, Some("stale")) if self.forward_status == Some("304") => Seen::Revalidated,
            (false, _, Some("bypass" | "method" | "request")) => Seen::Pass,
            (false, _, Some("miss" | "uri-miss" | "vary-miss" | "stale" | "partial")) => Seen::Origin,
            _ => Seen::Other,
        }
    }
}

/// The parts of a structured field between separators that stand outside strings (RFC 9651 §3.3.3).
fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character: char| {
        let was_escaped = std::mem::take(&mut escaped);
        match character {
            '\\' if quoted => escaped = !was_escaped,
            '"' if !was_escaped => quoted = !quoted,
            _ => {}
        }
        !quoted && character == char::from(separator)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_nearest_cache_decides() {
        let cases = [
            ("edge; hit; ttl=30; detail=memory", Seen::HitMemory),
            ("edge; hit; ttl=30; detail=disk", Seen::HitDisk),
            (
                "far; hit; detail=memory, near; fwd=uri-miss; fwd-status=200; stored; detail=origin",
                Seen::Origin,
            ),
            ("edge; fwd=uri-miss; stored; ttl=3600; detail=peer", Seen::Peer),
            ("edge; fwd=uri-miss; collapsed; detail=origin", Seen::HitCollapsed),
            ("edge; fwd=uri-miss; collapsed", Seen::HitCollapsed),
            ("edge; hit; collapsed; detail=hit_collapsed", Seen::HitCollapsed),
            ("edge; fwd=uri-miss; fwd-status=200; collapsed; detail=origin", Seen::Origin),
            ("edge; fwd=stale; fwd-status=304", Seen::Revalidated),
            ("edge; hit; ttl=-3; detail=stale_while_revalidate", Seen::StaleWhileRevalidate),
            ("edge; hit; ttl=-3; detail=\"stale_if_error\"", Seen::StaleIfError),
            ("edge; fwd=bypass; fwd-status=200", Seen::Pass),
            ("edge; fwd=uri-miss; detail=pass", Seen::Pass),
            ("edge;fwd=miss", Seen::Origin),
            ("edge; hit", Seen::Other),
            ("edge; hit=?0; detail=memory", Seen::Other),
            ("edge; detail=\"a, b; hit; detail=disk\"; hit", Seen::Other),
            ("edge; key=\"\\\"; detail=disk, x\"; hit; detail=memory", Seen::HitMemory),
            ("", Seen::Other),
        ];
        for (value, seen) in cases {
            assert_eq!(Seen::read(value), seen, "{value}");
        }
    }

    #[test]
    fn the_last_of_several_fields_is_read() {
        let mut fields = HeaderMap::new();
        assert_eq!(Seen::of(&fields), Seen::Other);
        fields.append("cache-status", "far; hit; detail=disk".parse().unwrap());
        fields.append("cache-status", "near; hit; detail=memory".parse().unwrap());
        assert_eq!(Seen::of(&fields), Seen::HitMemory);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            Seen::read(&text);
        }
    }
}
