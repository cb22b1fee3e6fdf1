//! The `shoal` binary.

use clap::Parser;
use shoal::cli;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "shoal", version)]
enum Command {
    /// Answer as a test origin.
    Origin(cli::origin::Args),
    /// Show an edge at work.
    Demo(cli::demo::Args),
    /// Replay a trace and check the answers.
    Replay(cli::replay::Args),
}

fn main() -> anyhow::Result<ExitCode> {
    match Command::parse() {
        Command::Origin(args) => cli::origin::main(args),
        Command::Demo(args) => cli::demo::main(args),
        Command::Replay(args) => cli::replay::main(args),
    }
}
