//! `Vary`: which request fields select among the variants of an object, and their normalised
//! values (RFC 9111 §4.1).

use super::directives::members;
use crate::proto::key::{self, ObjectId, VariantId};
use crate::proto::object::{Selecting, SelectingValue};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use smallvec::SmallVec;
use std::sync::Arc;

/// Most field names in a `Vary` that is obeyed by variants; with more, every request is its own.
pub const VARY_NAMES_MAX: usize = 16;

/// What the `Vary` of a response says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vary {
    /// Any request for the object may use it.
    None,
    /// Requests whose named fields match may use it.
    Fields(VaryList),
    /// No other request may use it: `*`, a name that is none, or more than [`VARY_NAMES_MAX`].
    Star,
}

impl Vary {
    /// Reads `Vary` out of a response head.
    pub fn of(response: &HeaderMap) -> Self {
        match names(response) {
            None => Self::Star,
            Some(names) if names.is_empty() => Self::None,
            Some(names) => Self::Fields(VaryList(names.into_iter().collect())),
        }
    }

    /// The variant of `object` that `request` selects. `None` if it can select none again.
    pub fn variant(&self, object: ObjectId, request: &HeaderMap) -> Option<VariantId> {
        match self {
            Self::None => Some(key::variant(object, std::iter::empty())),
            Self::Fields(list) => Some(list.variant(object, request)),
            Self::Star => None,
        }
    }
}

/// The names that a `Vary` lists: lower case, sorted, each once; at least one. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaryList(Arc<[HeaderName]>);

impl FromIterator<HeaderName> for VaryList {
    /// The list of names that were read back from a stored head, in their order there.
    fn from_iter<I: IntoIterator<Item = HeaderName>>(names: I) -> Self {
        Self(names.into_iter().collect())
    }
}

impl VaryList {
    /// The names.
    pub fn names(&self) -> &[HeaderName] {
        &self.0
    }

    /// The normalised values of the named fields in `request`.
    pub fn selecting(&self, request: &HeaderMap) -> Selecting {
        let value = |name: &HeaderName| normalised(name, request).map(|value| Bytes::copy_from_slice(&value));
        self.0.iter().map(|name| SelectingValue { name: name.clone(), value: value(name) }).collect()
    }

    /// The variant of `object` that `request` selects.
    pub fn variant(&self, object: ObjectId, request: &HeaderMap) -> VariantId {
        self.variant_by(object, |name| normalised(name, request))
    }

    fn variant_by(&self, object: ObjectId, value: impl Fn(&HeaderName) -> Option<Value>) -> VariantId {
        let values: SmallVec<[Option<Value>; 4]> = self.0.iter().map(value).collect();
        let selecting = self.0.iter().zip(&values).map(|(name, value)| (name.as_str(), value.as_deref()));
        key::variant(object, selecting)
    }
}

impl VaryList {
    /// Under what a response in `language` for the other selecting fields of `request` is remembered, if languages are
    /// among what selects. No request selects this variant.
    pub fn variant_in(
        &self,
        object: ObjectId,
        request: &HeaderMap,
        language: &Language,
    ) -> Option<VariantId> {
        self.0.contains(&header::ACCEPT_LANGUAGE).then_some(())?;
        // No language begins so.
        let marked = || std::iter::once(b'=').chain(language.0.iter().copied()).collect();
        Some(self.variant_by(object, |name| match *name {
            header::ACCEPT_LANGUAGE => Some(marked()),
            _ => normalised(name, request),
        }))
    }
}

/// A language tag in lower case (RFC 5646 §2.1.1: case has no meaning).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Language(Value);

impl Language {
    /// The language of a response that is in one, and says so.
    pub fn of_response(response: &HeaderMap) -> Option<Self> {
        Self::only(
            response.get_all(header::CONTENT_LANGUAGE).iter().flat_map(|line| members(line.as_bytes())),
        )
    }

    fn only<'a>(mut all: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let (first, None) = (all.next()?, all.next()) else { return None };
        let is_tag =
            !first.is_empty() && first.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
        is_tag.then(|| Self(first.to_ascii_lowercase().into()))
    }

    /// The language that `request` prefers to all others, if there is one.
    pub fn wanted(request: &HeaderMap) -> Option<Self> {
        let lines = request.get_all(header::ACCEPT_LANGUAGE).iter();
        let plain: SmallVec<[Value; 8]> = lines
            .flat_map(|line| members(line.as_bytes()))
            .map(plain)
            .filter(|member| !member.is_empty())
            .collect();
        let weighted: Option<Weighted<'_>> = plain.iter().map(|member| weight_of(member)).collect();
        let weighted = weighted?;
        let most = weighted.iter().map(|(_, weight)| *weight).max().filter(|most| *most > 0)?;
        Self::only(weighted.iter().filter(|(_, weight)| *weight == most).map(|(language, _)| *language))
    }
}

/// The sorted names that `Vary` lists, over all lines; `None` if it is as good as `*`.
pub(super) fn names(response: &HeaderMap) -> Option<SmallVec<[HeaderName; 4]>> {
    let mut names: SmallVec<[HeaderName; 4]> = SmallVec::new();
    for line in response.get_all(header::VARY) {
        for member in line.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if member.is_empty() {
                continue;
            }
            // A field can have the name `*` by its grammar; here it is the wildcard.
            let name = HeaderName::from_bytes(member).ok().filter(|name| name.as_str() != "*")?;
            if let Err(at) = names.binary_search_by(|known| known.as_str().cmp(name.as_str())) {
                names.insert(at, name);
            }
            if names.len() > VARY_NAMES_MAX {
                return None;
            }
        }
    }
    Some(names)
}

type Value = SmallVec<[u8; 64]>;
/// Languages with their weights in thousandths.
type Weighted<'a> = SmallVec<[(&'a [u8], u16); 8]>;

/// The value of `name` by which requests are compared: its lines joined, without space around
/// commas, and further as the field's own definition allows. `None` if absent, which matches only
/// absent.
fn normalised(name: &HeaderName, request: &HeaderMap) -> Option<Value> {
    let mut lines = request.get_all(name).iter().peekable();
    lines.peek()?;
    let members = lines.flat_map(|line| members(line.as_bytes()));
    Some(match *name {
        header::ACCEPT_ENCODING => accept_encoding(members),
        header::ACCEPT_LANGUAGE => accept_language(members),
        _ => join(members),
    })
}

fn join<'a>(members: impl Iterator<Item = &'a [u8]>) -> Value {
    let mut joined = Value::new();
    for (index, member) in members.enumerate() {
        if index > 0 {
            joined.push(b',');
        }
        joined.extend_from_slice(member);
    }
    joined
}

/// RFC 9110 §12.5.3: content codings are case-insensitive, and so is `q`.
fn accept_encoding<'a>(members: impl Iterator<Item = &'a [u8]>) -> Value {
    let plain: SmallVec<[Value; 8]> = members.map(plain).collect();
    join(plain.iter().map(SmallVec::as_slice))
}

/// A member in lower case and without space around semicolons. Other space stays: `d e` is not
/// `de`, and an origin would not answer it alike, so it must not stand for it here.
fn plain(member: &[u8]) -> Value {
    let mut plain = Value::new();
    for (index, part) in member.split(|&byte| byte == b';').enumerate() {
        if index > 0 {
            plain.push(b';');
        }
        plain.extend(part.trim_ascii().iter().map(u8::to_ascii_lowercase));
    }
    plain
}

/// RFC 9110 §12.5.4: language ranges are case-insensitive, and their order says nothing; only the
/// weights rank them. A value with a malformed weight is compared in the order it is written.
fn accept_language<'a>(members: impl Iterator<Item = &'a [u8]>) -> Value {
    let plain: SmallVec<[Value; 8]> = members.map(plain).filter(|member| !member.is_empty()).collect();
    let mut weighted = Weighted::new();
    for member in &plain {
        match weight_of(member) {
            Some(known) => weighted.push(known),
            None => return join(plain.iter().map(SmallVec::as_slice)),
        }
    }
    weighted.sort_unstable();
    let mut value = Value::new();
    for (language, weight) in weighted {
        if !value.is_empty() {
            value.push(b',');
        }
        value.extend_from_slice(language);
        if weight != WEIGHT_MAX {
            value.extend_from_slice(b";q=");
            value.extend_from_slice(format!("{}.{:03}", weight / WEIGHT_MAX, weight % WEIGHT_MAX).as_bytes());
        }
    }
    value
}

/// Weight 1 in thousandths (RFC 9110 §12.4.2 has three digits after the point).
const WEIGHT_MAX: u16 = 1000;

/// `en;q=0.5` as `en` and 500.
fn weight_of(member: &[u8]) -> Option<(&[u8], u16)> {
    let Some(semicolon) = member.iter().position(|&byte| byte == b';') else {
        return Some((member, WEIGHT_MAX));
    };
    let digits = member[semicolon + 1..].strip_prefix(b"q=")?;
    let (whole, fraction) = match digits {
        [whole] => (whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let mut weight = digit(whole)? * WEIGHT_MAX;
    let mut place = WEIGHT_MAX / 10;
    for byte in fraction {
        weight += digit(byte)? * place;
        place /= 10;
    }
    Some((&member[..semicolon], weight))
}

#[cfg(test)]
#[path = "vary_tests.rs"]
mod tests;
