//! Arguments and sub-commands, a file each. Exit codes: 0 done, 1 failed, 2 wrong usage or
//! configuration; 3 a purge that has not reached all nodes.
//!
//! A sub-command is a variant of `Command`, an arm of `dispatch` and a module with `Args` and
//! `main`. What it prints for a program to read goes to standard output, with `--json` where there
//! is a choice; the rest goes to standard error.

mod admin;
mod cert;
mod check;
mod config_cmd;
pub mod demo;
pub mod explain;
mod log;
pub mod origin;
mod peers;
mod plain;
mod purge;
pub mod replay;
pub mod run_args;
mod top;
mod version;

use crate::app;
use crate::config::ConfigErrors;
use clap::{Parser, Subcommand};
use serde::Serialize;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// Exit code for a wrong configuration; clap's for wrong usage is the same.
const EXIT_USAGE: u8 = 2;

/// A peer-to-peer CDN edge cache and reverse proxy.
#[derive(Debug, Parser)]
#[command(name = "shoal", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node in front of a site.
    Run(run_args::RunArgs),
    /// See it work: a test origin, a node and a workload, on this machine.
    Demo(demo::Args),
    /// Check a configuration and say everything that is wrong with it.
    Check(check::Args),
    /// Show the effective configuration, or its schema.
    #[command(subcommand)]
    Config(config_cmd::Command),
    /// Make and show the cluster's certificates and join tokens.
    #[command(subcommand)]
    Cert(cert::Command),
    /// Ask a running node why the next request for a URL would hit or miss, and who in the fleet has it.
    #[command(after_help = explain::EXAMPLES)]
    Explain(explain::Args),
    /// Watch a running node: rates, tiers, hottest objects, peers and origins.
    #[command(after_help = top::EXAMPLES)]
    Top(top::Args),
    /// Show requests as a running node answers them.
    #[command(after_help = log::EXAMPLES)]
    Log(log::Args),
    /// Remove content from the caches of all nodes, or make it stale.
    Purge(purge::Args),
    /// Show the fleet as a running node sees it.
    Peers(peers::Args),
    /// Answer as a test origin.
    Origin(origin::Args),
    /// Replay a trace and check the answers.
    Replay(replay::Args),
    /// Say which version this is.
    Version(version::Args),
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => app::run(args.sources()),
        Command::Demo(args) => demo::main(args),
        Command::Check(args) => check::main(&args),
        Command::Config(command) => config_cmd::main(&command),
        Command::Cert(command) => cert::main(&command),
        Command::Explain(args) => explain::main(&args),
        Command::Top(args) => top::main(&args),
        Command::Log(args) => log::main(&args),
        Command::Purge(args) => purge::main(&args),
        Command::Peers(args) => peers::main(&args),
        Command::Origin(args) => origin::main(args),
        Command::Replay(args) => replay::main(args),
        Command::Version(args) => version::main(&args),
    }
}

/// Parses the process's arguments and does what they say.
pub fn main() -> ExitCode {
    dispatch(Cli::parse().command).unwrap_or_else(|error| report(&error))
}

/// Tells an error on standard error, a mistake a line.
fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(errors) = error.downcast_ref::<ConfigErrors>() {
        eprintln!("{errors}");
        return ExitCode::from(EXIT_USAGE);
    }
    eprintln!("shoal: {error:#}");
    ExitCode::FAILURE
}

/// Writes a line to standard output. A reader that has gone, as `head` has, is no failure.
fn print_line(line: &str) -> anyhow::Result<()> {
    print(line).map(|_is_read| ())
}

/// As [`print_line`]; returns whether there is still a reader.
fn print(line: &str) -> anyhow::Result<bool> {
    match writeln!(std::io::stdout().lock(), "{line}") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Writes a value as JSON to standard output.
fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print_line(&serde_json::to_string_pretty(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }
}
