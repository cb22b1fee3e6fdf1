//! The head of a version as a peer gives it, judged as if it came from the origin: nothing that the peer
//! says of it is believed but its age.

use super::super::lead::Asking;
use crate::proto::key::{self, Pin, VariantId, VersionId};
use crate::proto::object::HeadDraft;
use crate::proto::object::layout::CHUNK_SIZE;
use crate::proto::relay::ChunkHash;
use crate::proto::semantics::{self, NotStorable, ResponseFacts, VARY_NAMES_MAX, VaryList};
use crate::proto::time::Wall;
use crate::proto::wire;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// Fields that a head from a peer may have.
const FIELDS_MAX: usize = 1024;
/// Bytes that their names and values may have.
const FIELD_BYTES_MAX: usize = 256 << 10;

/// A version that may be used here.
pub(super) struct Version {
    /// Its head.
    pub draft: HeadDraft,
    /// What it says of its own reuse.
    pub facts: ResponseFacts,
    /// The fields that the object varies by.
    pub vary: Option<VaryList>,
    /// The hashes of all chunks, if it is stored at the peer.
    pub hashes: Vec<ChunkHash>,
    /// Whether it is still arriving at the peer.
    pub arriving: bool,
}

/// Why a head is of no use here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It is of another object, or too old, or must not be given away.
    Gone,
    /// It is not what a head must be.
    Protocol,
    /// The object varies by these fields, under which this request selects another variant.
    Varies(VariantId, Option<VaryList>),
    /// It may not be stored here.
    NotStorable(NotStorable, StatusCode),
}

/// Reads a head that was received at `received`, `delay` seconds after it was asked for.
pub(super) fn version(
    asking: &Asking,
    head: wire::Head,
    (received, delay): (Wall, u64),
) -> Result<Version, Unusable> {
    if head.key != asking.key.as_bytes() {
        return Err(Unusable::Gone);
    }
    let vary = vary_list(&head.vary).ok_or(Unusable::Protocol)?;
    let variant = variant(asking, vary.as_ref());
    if head.variant != variant.0 {
        return Err(Unusable::Varies(variant, vary));
    }
    let status = status(head.status).ok_or(Unusable::Protocol)?;
    let fields = fields(&head.fields).ok_or(Unusable::Protocol)?;
    let facts = ResponseFacts::parse(status, &fields);
    let reason = semantics::storable(&asking.request, &facts, &asking.policy)
        .map_err(|not| Unusable::NotStorable(not, status))?;
    // Whoever gives that away does not judge as this node does.
    if semantics::personal(&asking.request, &facts) {
        return Err(Unusable::Gone);
    }
    let initial_age = age(head.age, delay);
    if !head.arriving && is_stale(asking, &facts, (received, initial_age)) {
        return Err(Unusable::Gone);
    }
    let version = head.version[..].try_into().map(VersionId).or(Err(Unusable::Protocol))?;
    let pinned = semantics::strong_etag(&fields).map(Pin::StrongEtag);
    if pinned.is_some_and(|pin| key::version(asking.object, variant, pin) != version)
        || !length_fits(&fields, head.length)
    {
        return Err(Unusable::Protocol);
    }
    let hashes = hashes(&head).ok_or(Unusable::Protocol)?;
    let selecting = vary.as_ref().map(|vary| vary.selecting(&asking.selecting)).unwrap_or_default();
    let draft = HeadDraft {
        key: asking.key.clone(),
        variant,
        version,
        selecting,
        status,
        fields,
        length: head.length,
        received,
        initial_age,
        position: asking.position,
        reason,
        personal: false,
    };
    Ok(Version { draft, facts, vary, hashes, arriving: head.arriving })
}

/// Whether a version that was received at that age must be validated before it is used.
pub(super) fn is_stale(asking: &Asking, facts: &ResponseFacts, (received, age): (Wall, u32)) -> bool {
    semantics::lifetime(facts, received, &asking.policy).secs <= age || facts.directives.no_cache()
}

/// The variant of the object that is asked for, under the list `vary`.
pub(super) fn variant(asking: &Asking, vary: Option<&VaryList>) -> VariantId {
    let unvarying = || key::variant(asking.object, std::iter::empty());
    vary.map_or_else(unvarying, |vary| vary.variant(asking.object, &asking.selecting))
}

/// The list that these names make; `None` inside if there are none, outside if they are none.
#[expect(clippy::option_option, reason = "an object that does not vary is not a malformed list")]
pub(super) fn vary_list(names: &[String]) -> Option<Option<VaryList>> {
    if names.is_empty() {
        return Some(None);
    }
    if names.len() > VARY_NAMES_MAX {
        return None;
    }
    let names: Option<Vec<_>> = names.iter().map(|name| HeaderName::try_from(name).ok()).collect();
    names.map(|names| Some(names.into_iter().collect()))
}

/// The end-to-end fields of a head; `None` if they are malformed or too many.
pub(in crate::serve) fn fields(fields: &[wire::Field]) -> Option<HeaderMap> {
    let bytes: usize = fields.iter().map(|field| field.name.len() + field.value.len()).sum();
    if fields.len() > FIELDS_MAX || bytes > FIELD_BYTES_MAX {
        return None;
    }
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::try_from(&field.name).ok()?;
        map.append(name, HeaderValue::from_bytes(&field.value).ok()?);
    }
    Some(semantics::storable_fields(&map))
}

/// The age at reception: that at the peer, and the time that the head was on its way.
pub(super) fn age(at_peer: u32, delay: u64) -> u32 {
    at_peer.saturating_add(u32::try_from(delay).unwrap_or(u32::MAX))
}

fn status(code: u32) -> Option<StatusCode> {
    u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok())
}

/// Whether the length is what the fields say, if they say one.
fn length_fits(fields: &HeaderMap, length: Option<u64>) -> bool {
    let stated =
        fields.get(CONTENT_LENGTH).map(|value| value.to_str().ok().and_then(|text| text.parse().ok()));
    // A body of another length than clients are told would be taken for two responses.
    stated.is_none_or(|stated| stated.is_some() && stated == length)
}

/// The hashes of all chunks of a stored version, none of an arriving one.
fn hashes(head: &wire::Head) -> Option<Vec<ChunkHash>> {
    if head.arriving {
        return Some(Vec::new());
    }
    let chunks = head.length?.div_ceil(CHUNK_SIZE);
    let (hashes, rest) = head.hashes.as_chunks::<32>();
    // An empty body may come with the hash of nothing.
    let fits = hashes.len() as u64 == chunks || (chunks == 0 && hashes.len() == 1);
    (rest.is_empty() && fits).then(|| hashes[..usize::try_from(chunks).unwrap_or(0)].to_vec())
}
