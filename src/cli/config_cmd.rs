//! `shoal config show`, `shoal config schema` and `shoal config reference`

use super::run_args::RunArgs;
use super::{print_json, print_line};
use crate::config;
use std::process::ExitCode;

/// What to show.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show every key with its effective value and who set it
    Show(Box<Show>),
    /// Print the JSON schema of a configuration file
    Schema,
    /// Print the page with every key: type, default, bounds, meaning (Markdown)
    Reference,
}

/// Which configuration to show.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    #[command(flatten)]
    run: RunArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints it; 2 and all mistakes if there is no valid configuration.
pub(super) fn main(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Schema => print_json(&config::schema())?,
        Command::Reference => print_line(config::reference::page().trim_end())?,
        Command::Show(args) => {
            let loaded = config::load(&args.run.sources())?;
            if args.json {
                print_json(&loaded.shown)?;
            } else {
                let lines: Vec<String> = loaded.shown.iter().map(ToString::to_string).collect();
                print_line(&lines.join("\n"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
