//! Arguments and sub-commands. Nothing here serves a node's requests.

pub mod demo;
pub mod origin;
pub mod replay;
