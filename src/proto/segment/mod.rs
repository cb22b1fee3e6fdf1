//! The disk format.

mod record;

pub use record::{Place, RecordId, RecordKind};
