//! The composition root: builds a node out of its rooms, in order, and stops it in reverse.
//!
//! [`Assembly`] is a whole node without threads, sockets or signals of its own, so that several can run
//! in one process and on one runtime; [`run`] puts one on the threads of this process.

mod assembly;
mod capacity;
mod hooks;
mod process;
mod reload;
mod service;
mod stock;

pub use assembly::{Assembly, BuildError, Surroundings};
pub use process::run;
