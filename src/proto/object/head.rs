//! The head of a stored version: status, fields, freshness inputs and identity, in one contiguous
//! block that is alike in memory and on disk, followed by the first body bytes.
//!
//! ```text
//!   0  u8   format (1)              u8  flags (1 whole body follows, 2 length known, 4 personal)
//!   2  u16  status                  u32 corrected initial age, seconds (RFC 9111 §4.2.3)
//!   8  i64  wall time of reception, milliseconds since the epoch
//!  16  u64  body length, if known
//!  24  [16] variant id              40 [16] version id
//!  56  u64  purge position of the node when the fetch began
//!  64  [32] BLAKE3 of the body, if it is whole, else of the first chunk once known, else zero
//!  96  u8   store reason            u8  number of selecting fields     u16 number of fields
//! 100  u32  length of the key       u32 offset of the first body byte
//! 108  key · selecting fields {u16 name, u8 present, u32 value} · fields {u16 name, u32 value}
//! ```
//! All numbers are little-endian. A new format number is given when the meaning of a byte changes;
//! readers refuse formats that they do not know, which costs a miss.

use crate::proto::key::{CacheKey, VariantId, VersionId};
use crate::proto::semantics::{ResponseFacts, StoreReason};
use crate::proto::time::Wall;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::sync::atomic::{AtomicU64, Ordering};

const FORMAT: u8 = 1;
const FIXED: usize = 108;
const WHOLE: u8 = 1;
const LENGTH_KNOWN: u8 = 2;
const PERSONAL: u8 = 4;

/// A node's position in its own purge log: how many purges it had applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PurgePosition(pub u64);

impl PurgePosition {
    /// No log comes to this in the life of any machine: what claims to be beyond was never written as a position, and
    /// counting on from here never overflows.
    pub const MAX: Self = Self(1 << 62);
}

/// The position up to which a stored response is known to be selected by no purge: at first that at which its fetch began. Only grows.
#[derive(Debug, Default)]
pub struct Vetted(AtomicU64);

impl Vetted {
    /// Nothing later than `position` is known yet.
    pub const fn new(position: PurgePosition) -> Self {
        Self(AtomicU64::new(position.0))
    }

    /// The position.
    pub fn get(&self) -> PurgePosition {
        PurgePosition(self.0.load(Ordering::Relaxed))
    }

    /// No purge up to `position` selects it.
    pub fn raise(&self, position: PurgePosition) {
        self.0.fetch_max(position.0, Ordering::Relaxed);
    }
}

impl Clone for Vetted {
    fn clone(&self) -> Self {
        Self::new(self.get())
    }
}

/// A request field that `Vary` selects by, with its normalised value; absent is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectingValue {
    /// Field name, lower case.
    pub name: HeaderName,
    /// The request's normalised value.
    pub value: Option<Bytes>,
}

/// The selecting fields of a variant, in the order of the `Vary` list. Empty if it does not vary.
pub type Selecting = Vec<SelectingValue>;

/// What a fill knows of a version before its body has arrived.
#[derive(Clone, Debug)]
pub struct HeadDraft {
    /// The key of the object.
    pub key: CacheKey,
    /// Identity of the variant.
    pub variant: VariantId,
    /// Identity of the version.
    pub version: VersionId,
    /// The selecting fields.
    pub selecting: Selecting,
    /// Status of the response.
    pub status: StatusCode,
    /// End-to-end fields to store and replay, hop-by-hop ones already removed.
    pub fields: HeaderMap,
    /// Length of the body in bytes, if known yet.
    pub length: Option<u64>,
    /// When the response was received.
    pub received: Wall,
    /// Corrected initial age in seconds (RFC 9111 §4.2.3).
    pub initial_age: u32,
    /// The node's purge position when the fetch began.
    pub position: PurgePosition,
    /// Why it may be stored.
    pub reason: StoreReason,
    /// Whether the response may never leave this node (it answered a request with `Authorization`
    /// or carries `Set-Cookie`).
    pub personal: bool,
}

/// Why bytes are not a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// A format of a newer version.
    #[error("head format {0} is not known to this version")]
    Format(u8),
    /// The bytes end early, or a part is not what it must be.
    #[error("head is malformed at {0}")]
    Malformed(&'static str),
}

/// A stored head with the first body bytes behind it, decoded for judging. The block is one
/// allocation of exact size; nothing else of the response is kept.
#[derive(Clone, Debug)]
pub struct Head {
    block: Bytes,
    key_at: u32,
    key_len: u32,
    selecting_at: u32,
    fields_at: u32,
    body_at: u32,
    field_count: u16,
    selecting_count: u8,
    /// Status of the response.
    pub status: StatusCode,
    /// What the response says of its own reuse.
    pub facts: ResponseFacts,
    /// Why it was stored.
    pub reason: StoreReason,
    /// Whether the first body bytes are the whole body.
    pub whole: bool,
    /// Whether the version may never leave this node.
    pub personal: bool,
    /// Corrected initial age in seconds.
    pub initial_age: u32,
    /// When the response was received.
    pub received: Wall,
    /// Length of the body in bytes, if known.
    pub length: Option<u64>,
    /// Identity of the variant.
    pub variant: VariantId,
    /// Identity of the version.
    pub version: VersionId,
    /// Up to which purge position no purge selects it; the node's when the fetch began, and raised since.
    pub position: Vetted,
}

impl HeadDraft {
    /// Whether the version stays on this node: it is personal, or a part.
    pub fn stays(&self) -> bool {
        self.personal || self.status == StatusCode::PARTIAL_CONTENT
    }

    /// Encodes the head with `body`, the first body bytes, in one allocation of exact size. `whole`
    /// says that `body` is all of it. `digest` is the BLAKE3 hash of the whole body, or zero.
    pub fn encode(&self, body: &[u8], whole: bool, digest: &[u8; 32]) -> Bytes {
        let key = self.key.as_bytes();
        let body_at = FIXED + key.len() + self.selecting_len() + self.fields_len();
        let mut block = BytesMut::with_capacity(body_at + body.len());
        let flags = if whole { WHOLE } else { 0 }
            | if self.length.is_some() { LENGTH_KNOWN } else { 0 }
            | if self.personal { PERSONAL } else { 0 };
        block.put_u8(FORMAT);
        block.put_u8(flags);
        block.put_u16_le(self.status.as_u16());
        block.put_u32_le(self.initial_age);
        block.put_i64_le(self.received.as_millis());
        block.put_u64_le(self.length.unwrap_or(0));
        block.put_slice(&self.variant.0);
        block.put_slice(&self.version.0);
        block.put_u64_le(self.position.0);
        block.put_slice(digest);
        block.put_u8(self.reason.code());
        block.put_u8(self.selecting.len() as u8);
        block.put_u16_le(self.fields.len() as u16);
        block.put_u32_le(key.len() as u32);
        block.put_u32_le(body_at as u32);
        block.put_slice(key);
        for selecting in &self.selecting {
            let value = selecting.value.as_deref();
            block.put_u16_le(selecting.name.as_str().len() as u16);
            block.put_u8(u8::from(value.is_some()));
            block.put_u32_le(value.map_or(0, <[u8]>::len) as u32);
            block.put_slice(selecting.name.as_str().as_bytes());
            block.put_slice(value.unwrap_or_default());
        }
        for (name, value) in &self.fields {
            block.put_u16_le(name.as_str().len() as u16);
            block.put_u32_le(value.len() as u32);
            block.put_slice(name.as_str().as_bytes());
            block.put_slice(value.as_bytes());
        }
        debug_assert_eq!(block.len(), body_at);
        block.put_slice(body);
        block.freeze()
    }

    fn selecting_len(&self) -> usize {
        let value = |s: &SelectingValue| s.value.as_ref().map_or(0, Bytes::len);
        self.selecting.iter().map(|s| 7 + s.name.as_str().len() + value(s)).sum()
    }

    fn fields_len(&self) -> usize {
        self.fields.iter().map(|(name, value)| 6 + name.as_str().len() + value.len()).sum()
    }
}

impl Head {
    /// Whether it is a part of a representation.
    pub fn is_part(&self) -> bool {
        self.status == StatusCode::PARTIAL_CONTENT
    }

    /// Whether the version stays on this node: it is personal, or a part.
    pub fn stays(&self) -> bool {
        self.personal || self.is_part()
    }

    /// Reads a block written by [`HeadDraft::encode`].
    ///
    /// # Errors
    /// If the bytes are no head of a known format; nothing is read beyond them.
    pub fn decode(block: Bytes) -> Result<Self, HeadError> {
        let mut reader = Reader { block: &block, at: 0 };
        let format = reader.u8("format")?;
        if format != FORMAT {
            return Err(HeadError::Format(format));
        }
        let flags = reader.u8("flags")?;
        let status = StatusCode::from_u16(reader.u16("status")?).or(Err(HeadError::Malformed("status")))?;
        let initial_age = reader.u32("age")?;
        let received = Wall::from_millis(reader.u64("received")? as i64);
        let length = reader.u64("length")?;
        let variant = VariantId(reader.array("variant")?);
        let version = VersionId(reader.array("version")?);
        let position = PurgePosition(reader.u64("position")?);
        if position > PurgePosition::MAX {
            return Err(HeadError::Malformed("position"));
        }
        let _digest: [u8; 32] = reader.array("digest")?;
        let reason = StoreReason::from_code(reader.u8("reason")?).ok_or(HeadError::Malformed("reason"))?;
        let selecting_count = reader.u8("selecting")?;
        let field_count = reader.u16("fields")?;
        let key_len = reader.u32("key length")?;
        let body_at = reader.u32("body offset")?;
        let key_at = reader.at as u32;
        reader.take(key_len as usize, "key")?;
        let selecting_at = reader.at as u32;
        for _ in 0..selecting_count {
            reader.selecting()?;
        }
        let fields_at = reader.at as u32;
        let fields = reader.field_map(&block, field_count)?;
        if reader.at != body_at as usize {
            return Err(HeadError::Malformed("body offset"));
        }
        let facts = ResponseFacts::parse(status, &fields);
        Ok(Self {
            key_at,
            key_len,
            selecting_at,
            fields_at,
            body_at,
            field_count,
            selecting_count,
            status,
            facts,
            reason,
            whole: flags & WHOLE != 0,
            personal: flags & PERSONAL != 0,
            initial_age,
            received,
            length: (flags & LENGTH_KNOWN != 0).then_some(length),
            variant,
            version,
            position: Vetted::new(position),
            block,
        })
    }

    /// The encoded key of the object.
    pub fn key(&self) -> &[u8] {
        &self.block[self.key_at as usize..(self.key_at + self.key_len) as usize]
    }

    /// BLAKE3 of the whole body, zero if it is not known.
    pub fn digest(&self) -> [u8; 32] {
        *self.block[64..].first_chunk().expect("decode checked the fixed part")
    }

    /// The stored fields. The values share the block's allocation.
    pub fn fields(&self) -> HeaderMap {
        let mut reader = Reader { block: &self.block, at: self.fields_at as usize };
        reader.field_map(&self.block, self.field_count).expect("decode read the same bytes")
    }

    /// The selecting fields of the variant.
    pub fn selecting(&self) -> Selecting {
        let mut reader = Reader { block: &self.block, at: self.selecting_at as usize };
        (0..self.selecting_count).map(|_| reader.selecting().expect("decode read the same bytes")).collect()
    }

    /// The first body bytes, sharing the block's allocation; all of them if [`whole`](Self::whole).
    pub fn body(&self) -> Bytes {
        self.block.slice(self.body_at as usize..)
    }

    /// The encoded block with the first body bytes, as it is written to disk.
    pub fn block(&self) -> &Bytes {
        &self.block
    }

    /// Bytes of memory that this head holds.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.block.len()
    }

    /// A draft with all that this head says, to be changed and encoded again.
    ///
    /// # Errors
    /// If the key in the block is not one.
    pub fn to_draft(&self) -> Result<HeadDraft, HeadError> {
        let parts = crate::proto::key::decode(self.key()).ok_or(HeadError::Malformed("key"))?;
        Ok(HeadDraft {
            key: CacheKey::new(parts),
            variant: self.variant,
            version: self.version,
            selecting: self.selecting(),
            status: self.status,
            fields: self.fields(),
            length: self.length,
            received: self.received,
            initial_age: self.initial_age,
            position: self.position.get(),
            reason: self.reason,
            personal: self.personal,
        })
    }
}

struct Reader<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, part: &'static str) -> Result<&'a [u8], HeadError> {
        let end = self.at.checked_add(length).ok_or(HeadError::Malformed(part))?;
        let bytes = self.block.get(self.at..end).ok_or(HeadError::Malformed(part))?;
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, part: &'static str) -> Result<[u8; N], HeadError> {
        self.take(N, part)?.try_into().or(Err(HeadError::Malformed(part)))
    }

    fn u8(&mut self, part: &'static str) -> Result<u8, HeadError> {
        Ok(self.array::<1>(part)?[0])
    }

    fn u16(&mut self, part: &'static str) -> Result<u16, HeadError> {
        self.array(part).map(u16::from_le_bytes)
    }

    fn u32(&mut self, part: &'static str) -> Result<u32, HeadError> {
        self.array(part).map(u32::from_le_bytes)
    }

    fn u64(&mut self, part: &'static str) -> Result<u64, HeadError> {
        self.array(part).map(u64::from_le_bytes)
    }

    fn selecting(&mut self) -> Result<SelectingValue, HeadError> {
        let name_len = self.u16("selecting name")?;
        let present = self.u8("selecting value")? != 0;
        let value_len = self.u32("selecting value")?;
        let name = HeaderName::from_bytes(self.take(name_len as usize, "selecting name")?)
            .or(Err(HeadError::Malformed("selecting name")))?;
        let value = self.take(value_len as usize, "selecting value")?;
        Ok(SelectingValue { name, value: present.then(|| Bytes::copy_from_slice(value)) })
    }

    fn field_map(&mut self, block: &Bytes, count: u16) -> Result<HeaderMap, HeadError> {
        if count > FIELDS_MAX {
            return Err(HeadError::Malformed("fields"));
        }
        let mut fields = HeaderMap::with_capacity(usize::from(count) + SPARE_FIELDS);
        for _ in 0..count {
            let name_len = self.u16("field name")?;
            let value_len = self.u32("field value")?;
            let name = HeaderName::from_bytes(self.take(name_len as usize, "field name")?)
                .or(Err(HeadError::Malformed("field name")))?;
            let from = self.at;
            self.take(value_len as usize, "field value")?;
            let value = HeaderValue::from_maybe_shared(block.slice(from..self.at))
                .or(Err(HeadError::Malformed("field value")))?;
            fields.append(name, value);
        }
        Ok(fields)
    }
}

/// Fields of a stored head; far above what any HTTP parser lets in, and below what a map can hold.
const FIELDS_MAX: u16 = 4096;

/// Room for the fields that a reply adds: `Age`, `Via`, `Cache-Status`, `Date`.
const SPARE_FIELDS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::key::{KeyParts, Scheme};
    use proptest::prelude::*;

    fn draft() -> HeadDraft {
        let key = CacheKey::new(KeyParts { site: "s", scheme: Scheme::Http, host: "h", path: "/p?q" });
        let mut fields = HeaderMap::new();
        fields.insert("content-type", HeaderValue::from_static("text/css"));
        fields.append("x-two", HeaderValue::from_static("1"));
        fields.append("x-two", HeaderValue::from_static("2"));
        HeadDraft {
            variant: crate::proto::key::variant(key.object(), std::iter::empty()),
            version: VersionId([7; 16]),
            key,
            selecting: vec![
                SelectingValue { name: http::header::ACCEPT, value: None },
                SelectingValue {
                    name: http::header::ACCEPT_ENCODING,
                    value: Some(Bytes::from_static(b"br")),
                },
            ],
            status: StatusCode::OK,
            fields,
            length: Some(4),
            received: Wall::from_millis(-5),
            initial_age: 3,
            position: PurgePosition(9),
            reason: StoreReason::MaxAge,
            personal: false,
        }
    }

    #[test]
    fn a_head_decodes_to_what_was_encoded_in_an_exact_allocation() {
        let block = draft().encode(b"body", true, &[1; 32]);
        let head = Head::decode(block.clone()).unwrap();
        assert_eq!(head.fields(), draft().fields);
        assert_eq!(head.selecting(), draft().selecting);
        assert_eq!(head.key(), draft().key.as_bytes());
        assert_eq!((head.length, head.initial_age, head.received), (Some(4), 3, Wall::from_millis(-5)));
        assert_eq!(
            (head.position.get(), head.version, head.whole),
            (PurgePosition(9), VersionId([7; 16]), true)
        );
        assert_eq!(&head.body()[..], b"body");
        assert_eq!(head.digest(), [1; 32]);
        assert_eq!(head.to_draft().unwrap().encode(b"body", true, &[1; 32]), block);
        drop(head);
        let length = block.len();
        assert_eq!(block.try_into_mut().map(|block| block.capacity()), Ok(length));
    }

    /// The bytes of format 1, written down: if this fails, what nodes have on disk is lost or misread.
    #[test]
    fn a_head_is_written_as_format_1_writes_it() {
        let written = data_encoding::HEXLOWER.encode(&draft().encode(b"body", true, &[1; 32]));
        assert_eq!(written, GOLDEN);
    }

    const GOLDEN: &str = "\
        0103c80003000000fbffffffffffffff0400000000000000c2c450aa606b79a5bebd93628e25e67b0707070707070707\
        070707070707070709000000000000000101010101010101010101010101010101010101010101010101010101010101\
        0102030013000000d60000000001000000730100000068040000002f703f71060000000000006163636570740f000102\
        0000006163636570742d656e636f64696e6762720c0008000000636f6e74656e742d74797065746578742f6373730500\
        01000000782d74776f31050001000000782d74776f32626f6479";

    proptest! {
        #[test]
        fn damaged_heads_never_panic(at in 0usize..200, byte: u8, cut in 0usize..200) {
            let mut block = draft().encode(b"body", true, &[1; 32]).to_vec();
            let at = at % block.len();
            block[at] = byte;
            block.truncate(block.len() - cut % block.len());
            if let Ok(head) = Head::decode(block.into()) {
                let _ = (head.fields(), head.selecting(), head.body(), head.to_draft());
            }
        }
    }
}
