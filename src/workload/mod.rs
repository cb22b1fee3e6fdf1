//! What the tools ask for and expect: deterministic bodies ([`content`]), request traces
//! ([`trace`]) and a seeded generator of them ([`generate()`]).
//!
//! Everything here is a pure function of its arguments, except that [`trace`] reads the file it is
//! given. Nothing here speaks HTTP, and no other room of a node uses it.

pub mod content;
pub mod generate;
pub mod random;
pub mod trace;

pub use content::Content;
pub use generate::generate;
pub use trace::{Object, Trace, TraceError};
