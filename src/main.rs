//! The `shoal` program.

use std::process::ExitCode;

/// Frees across threads without a shared lock: bodies are made on one worker and dropped on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    shoal::cli::main()
}
