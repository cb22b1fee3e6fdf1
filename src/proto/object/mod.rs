//! What is stored of a version: how its bytes are cut, and the head that describes them.

mod head;
pub mod layout;

pub use head::{Head, HeadDraft, HeadError, PurgePosition, Selecting, SelectingValue, Vetted};
