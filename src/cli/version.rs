//! `shoal version`

use super::{print_json, print_line};
use std::process::ExitCode;

/// The commit that this program was built from, if the build said so.
const COMMIT: Option<&str> = option_env!("SHOAL_COMMIT");

/// How to say it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the version.
pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    if args.json {
        print_json(&serde_json::json!({ "version": version, "commit": COMMIT }))?;
    } else {
        let commit = COMMIT.map(|commit| format!(" ({commit})")).unwrap_or_default();
        print_line(&format!("shoal {version}{commit}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
