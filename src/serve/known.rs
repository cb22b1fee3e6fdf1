//! What this node remembers of keys that it does not store (yet): that their responses are not
//! storable, so that requests for them are not held up waiting for each other ("hit-for-miss"), that
//! they are, so that requests with cookies may share a fetch, and what they vary by.
//!
//! Only economy depends on it; entries may vanish at any time.

use crate::proto::key::{ObjectId, VariantId, variant};
use crate::proto::semantics::VaryList;
use crate::proto::time::Wall;
use http::HeaderMap;
use moka::sync::Cache;
use std::time::Duration;

/// Keys remembered at most.
const KEYS_MAX: u64 = 65_536;
/// How long a key counts as not storable after its last such response.
pub(super) const UNCACHEABLE_FOR: Duration = Duration::from_secs(60);

/// The memory of one node.
pub struct Known(Cache<ObjectId, Entry>);

#[derive(Clone)]
enum Entry {
    Uncacheable { until: Wall },
    Storable { vary: Option<VaryList> },
}

impl Default for Known {
    fn default() -> Self {
        Self(Cache::new(KEYS_MAX))
    }
}

impl Known {
    /// A response for `object` was not storable.
    pub fn uncacheable(&self, object: ObjectId, now: Wall) {
        self.0.insert(object, Entry::Uncacheable { until: now.plus(UNCACHEABLE_FOR) });
    }

    /// A response for `object` was storable, and varies by `vary`.
    pub fn storable(&self, object: ObjectId, vary: Option<VaryList>) {
        self.0.insert(object, Entry::Storable { vary });
    }

    /// Whether responses for `object` were not storable of late.
    pub fn is_uncacheable(&self, object: ObjectId, now: Wall) -> bool {
        matches!(self.0.get(&object), Some(Entry::Uncacheable { until }) if now < until)
    }

    /// Whether the last response for `object` was storable.
    pub fn is_storable(&self, object: ObjectId) -> bool {
        matches!(self.0.get(&object), Some(Entry::Storable { .. }))
    }

    /// The variant that a request with `fields` selects, as far as the object's `Vary` is known.
    pub fn variant(&self, object: ObjectId, fields: &HeaderMap) -> VariantId {
        match self.0.get(&object) {
            Some(Entry::Storable { vary: Some(vary) }) => vary.variant(object, fields),
            _ => variant(object, std::iter::empty()),
        }
    }
}
