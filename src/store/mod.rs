//! store

pub mod disk;
