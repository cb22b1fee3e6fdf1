//! The last purges of each target, and what they make of a stored response.

use super::PurgeId;
use super::coverage::Coverage;
use super::target::{Mode, Prefixes, SelectorKind, SiteId, Target};
use crate::proto::key::{KeyParts, Scheme};
use crate::proto::object::PurgePosition;
use crate::proto::time::Wall;
use hashbrown::HashMap;
use http::HeaderMap;
use smallvec::SmallVec;
use std::collections::{BTreeMap, VecDeque};

/// Targets that a log keeps apart: some 8 MiB of memory at most. Beyond it the oldest become floors.
pub const MARKS_MAX: usize = 65_536;
/// Sites that are kept apart. Beyond it floors of the oldest become one of all sites.
const SITES_MAX: usize = 4096;
/// Issuers of purges of one target that are kept apart; beyond it the oldest count as forgotten, and the mark is as a floor is.
pub(super) const IDS_MAX: usize = 16;

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its key.
    pub key: KeyParts<'a>,
    /// Its fields; `None` while they are not known, so that any tag may be among them.
    pub fields: Option<&'a HeaderMap>,
}

/// What purges make of a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// No purge selects it.
    Clear,
    /// It is stale since then, by this node's clock.
    Soft(Wall),
    /// It is gone.
    Hard,
}

/// The tags of a response: `Surrogate-Key` and `xkey` (separated by spaces), `Cache-Tag` (by commas), `Cache-Groups` (strings of a
/// structured list, RFC 9875 §2), and the fields of content management systems (by either): `Cache-Tags` (Drupal), `X-Cache-Tags`
/// (Drupal's users, FOSHttpCache) and `X-Magento-Tags`.
pub struct Tags;

impl Tags {
    /// The fields that carry tags.
    pub const FIELDS: [&'static str; 7] = [
        "surrogate-key",
        "xkey",
        "cache-tag",
        "cache-groups",
        "cache-tags",
        "x-cache-tags",
        "x-magento-tags",
    ];

    /// Calls `each` with every tag.
    pub fn each<'a>(fields: &'a HeaderMap, mut each: impl FnMut(&'a [u8])) {
        for (names, comma) in [(&Self::FIELDS[..2], false), (&Self::FIELDS[4..], true)] {
            for value in names.iter().flat_map(|name| fields.get_all(*name)) {
                let tags =
                    value.as_bytes().split(|byte| byte.is_ascii_whitespace() || (comma && *byte == b','));
                tags.filter(|tag| !tag.is_empty()).for_each(&mut each);
            }
        }
        for value in fields.get_all("cache-tag") {
            let tags = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            tags.filter(|tag| !tag.is_empty()).for_each(&mut each);
        }
        Self::groups(fields, "cache-groups").for_each(&mut each);
    }

    /// The groups that a field names: `Cache-Groups`, or `Cache-Group-Invalidation` of an answer to an unsafe request.
    pub fn groups<'a>(fields: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        fields.get_all(name).into_iter().flat_map(|value| quoted(value.as_bytes()))
    }

    /// What tells a group of one origin from those of others (RFC 9875 §2.1: groups are of an origin). No field can hold it, so
    /// no tag is the like.
    pub fn group_of(scheme: Scheme, host: &str, group: &[u8]) -> Vec<u8> {
        [scheme.as_str().as_bytes(), b"\n", host.as_bytes(), b"\n", group].concat()
    }
}

/// What stands in quotes. A backslash within is taken for itself: groups whose names need one cannot be named.
fn quoted(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b'"').skip(1).step_by(2).filter(|group| !group.is_empty())
}

/// The last purges of one target.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    /// The position at which the last of them was applied.
    pub(super) position: PurgePosition,
    /// When, by this node's clock.
    pub(super) at: Wall,
    /// The last of each issuer, the oldest first.
    pub(super) ids: SmallVec<[PurgeId; 1]>,
}

impl Mark {
    /// Whether purges of its target may have been forgotten.
    pub(super) fn is_crowded(&self) -> bool {
        self.ids.len() >= IDS_MAX
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Marks {
    by_target: HashMap<Target, Mark>,
    /// By position, the oldest first; one whose mark has another position by now is void. Those of whole sites are not in it.
    order: VecDeque<(PurgePosition, Target)>,
    /// Marks of whole sites.
    sites: usize,
    /// How many prefixes have each length.
    lengths: BTreeMap<u16, u32>,
    /// The last purge of any tag, of each site.
    tags: HashMap<SiteId, PurgePosition>,
}

/// Whether targets of this kind are floors: of all that is of a site, or of everything.
pub(super) const fn is_floor(kind: SelectorKind) -> bool {
    matches!(kind, SelectorKind::Site | SelectorKind::All)
}

impl Marks {
    pub(super) fn len(&self) -> usize {
        self.by_target.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Target, &Mark)> {
        self.by_target.iter()
    }

    /// Marks `target` as purged at `position`. What is thereby forgotten is added to `forgotten`.
    pub(super) fn set(
        &mut self,
        target: Target,
        id: PurgeId,
        (position, at): (PurgePosition, Wall),
        forgotten: &mut Coverage,
    ) {
        let mark = self.by_target.entry(target).or_insert_with(|| {
            self.sites += usize::from(target.kind == SelectorKind::Site);
            if target.kind == SelectorKind::Prefix {
                *self.lengths.entry(target.length).or_default() += 1;
            }
            Mark { position: PurgePosition::default(), at, ids: SmallVec::new() }
        });
        mark.ids.retain(|known| known.issuer != id.issuer);
        mark.ids.push(id);
        if mark.ids.len() > IDS_MAX {
            forgotten.add(mark.ids.remove(0));
        }
        if position > mark.position {
            (mark.position, mark.at) = (position, at);
            if !is_floor(target.kind) {
                self.order.push_back((position, target));
            }
        }
        if target.kind == SelectorKind::Tag {
            let is_full = self.tags.len() >= SITES_MAX && !self.tags.contains_key(&target.site);
            let last = self.tags.entry(if is_full { SiteId::ALL } else { target.site }).or_default();
            *last = position.max(*last);
        }
        self.tidy();
    }

    /// Drops void places of the order before they are as many as the others.
    fn tidy(&mut self) {
        if self.order.len() > 2 * self.by_target.len() + 64 {
            let marks = &self.by_target;
            self.order.retain(|(position, target)| {
                marks.get(target).is_some_and(|mark| mark.position == *position)
            });
        }
    }

    /// Makes floors of the oldest marks until there are at most `max`, or only floors. Says how many it were.
    pub(super) fn fold(&mut self, max: usize, forgotten: &mut Coverage) -> usize {
        let mut folded = 0;
        while self.by_target.len() > max {
            let Some((position, target)) = self.order.pop_front() else { break };
            if self.by_target.get(&target).is_some_and(|mark| mark.position == position) {
                self.fold_into(target, target.site, forgotten);
                folded += 1;
            }
        }
        while self.sites > SITES_MAX {
            let sites = self.by_target.iter().filter(|(target, _)| target.kind == SelectorKind::Site);
            let Some((&oldest, _)) = sites.min_by_key(|(_, mark)| mark.position) else { break };
            self.fold_into(oldest, SiteId::ALL, forgotten);
            folded += 1;
        }
        folded
    }

    /// Replaces the mark of `target` by one of all of `site`.
    fn fold_into(&mut self, target: Target, site: SiteId, forgotten: &mut Coverage) {
        let Some(mark) = self.remove(&target) else { return };
        for id in mark.ids {
            forgotten.add(id);
            self.set(Target::site(target.mode, site), id, (mark.position, mark.at), forgotten);
        }
    }

    fn remove(&mut self, target: &Target) -> Option<Mark> {
        let mark = self.by_target.remove(target)?;
        self.sites -= usize::from(target.kind == SelectorKind::Site);
        if target.kind == SelectorKind::Prefix
            && let Some(count) = self.lengths.get_mut(&target.length)
        {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&target.length);
            }
        }
        Some(mark)
    }

    /// What purges later than `since` make of `subject`.
    pub(super) fn judge(&self, subject: &Subject<'_>, since: PurgePosition) -> Judgement {
        let mut soft: Option<Wall> = None;
        let mut is_gone = false;
        self.each_target(subject, |target| {
            for mode in Mode::ALL {
                let mark =
                    self.by_target.get(&Target { mode, ..target }).filter(|mark| mark.position > since);
                match (mode, mark) {
                    (Mode::Hard, Some(_)) => is_gone = true,
                    // The earliest counts: from then on it was stale.
                    (Mode::Soft, Some(mark)) => soft = Some(soft.map_or(mark.at, |at| at.min(mark.at))),
                    (_, None) => {}
                }
            }
        });
        let site = SiteId::of(subject.key.site);
        let tagged = |site| self.tags.get(&site).is_some_and(|last| *last > since);
        if is_gone || (subject.fields.is_none() && (tagged(site) || tagged(SiteId::ALL))) {
            return Judgement::Hard;
        }
        soft.map_or(Judgement::Clear, Judgement::Soft)
    }

    /// Calls `each` with every target, as a hard one, that selects `subject` and may be marked.
    fn each_target(&self, subject: &Subject<'_>, mut each: impl FnMut(Target)) {
        let KeyParts { site, scheme, host, path } = subject.key;
        let (mode, site) = (Mode::Hard, SiteId::of(site));
        each(Target::site(mode, SiteId::ALL));
        each(Target::site(mode, site));
        each(Target::host(mode, site, host));
        each(Target::url(mode, site, host, path));
        let (mut prefixes, mut from) = (Prefixes::new(host), 0);
        for &length in self.lengths.keys() {
            let Some(more) = path.as_bytes().get(from..usize::from(length)) else { break };
            from = usize::from(length);
            each(Target { kind: SelectorKind::Prefix, mode, site, length, hash: prefixes.hash(more) });
        }
        let Some(fields) = subject.fields.filter(|_| !self.tags.is_empty()) else { return };
        Tags::each(fields, |tag| {
            each(Target::tag(mode, site, tag));
            each(Target::tag(mode, SiteId::ALL, tag));
        });
        for group in Tags::groups(fields, "cache-groups") {
            each(Target::tag(mode, site, &Tags::group_of(scheme, host, group)));
        }
    }
}
