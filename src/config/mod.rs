//! Configuration: raw shapes as operators write them, and the validated values that rooms use.

pub mod model;
