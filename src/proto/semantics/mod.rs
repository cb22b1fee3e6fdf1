//! The HTTP cache rules (RFC 9110, 9111, 5861, 8246, 9211, 9213) as questions answered with `now`
//! passed in.
//!
//! What lives here: reading of heads ([`RequestFacts`], [`ResponseFacts`], [`Vary`],
//! [`Validators`]), decisions ([`storable()`], [`reuse()`], [`condition()`], [`ranges`],
//! [`validates`], [`invalidates`]) and the fields that we write ([`CacheStatus`], `Content-Range`,
//! `Via`). What never will: state, clocks, bodies, keys of objects, and what is done about a
//! decision. The facts of a stored response are owned by its head in `proto::object`.
//!
//! ```text
//! request head  -> RequestFacts  --+                  +-> storable -> StoreReason | NotStorable
//! response head -> ResponseFacts --+-- CachePolicy -- +-> lifetime, current_age
//!                                                     +-> reuse -> Fresh | StaleWhileRevalidate | Validate
//! ```
//! Seconds are `u32` and saturate at 2^31 (RFC 9111 §1.2.2); nothing here uses floating point.

mod cache_status;
mod condition;
mod date;
mod directives;
mod etag;
mod facts;
mod fields;
#[cfg(test)]
mod fixtures;
mod freshness;
mod invalidation;
mod merge;
mod multipart;
mod part;
mod policy;
mod range;
mod request;
mod reuse;
mod storable;
mod targeted;
mod vary;

pub use cache_status::{CacheStatus, FwdReason};
pub use condition::{Condition, Validators, condition, make_conditional, strip_conditions};
pub use directives::{Governing, ResponseDirectives};
pub use etag::strong_etag;
pub use facts::{EtagKind, Expires, ResponseFacts};
pub use fields::{
    ensure_date, is_hop_by_hop, join_crumbs, storable_fields, strip_hop_by_hop, strip_listed, strip_tags,
    strip_trailers, via, withheld_fields,
};
pub use freshness::{Lifetime, LifetimeSource, corrected_initial_age, current_age, lifetime};
pub use invalidation::{invalidates, invalidation_targets, is_of_target};
pub use merge::{Likeness, Merged, likeness, merge_304, validates};
pub use multipart::{Boundary, Multipart};
pub use part::{Completion, GAP_MAX, Held, Place};
pub use policy::{CachePolicy, Errors, SetCookie};
pub use range::{
    ContentRange, RANGES_MAX, Ranges, Span, Wanted, content_range, parse_content_range, range_is_far, ranges,
    unsatisfied_range,
};
pub use request::{MethodClass, RequestFacts, expects_continue, hops_left, is_continue};
pub use reuse::{Reuse, Stored, ValidateReason, reuse};
pub use storable::{NotStorable, StoreReason, personal, storable, storable_post};
pub use vary::{Language, VARY_NAMES_MAX, Vary, VaryList};
