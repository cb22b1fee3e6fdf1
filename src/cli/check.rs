//! `shoal check`

use super::run_args::RunArgs;
use super::{EXIT_USAGE, print_json, print_line};
use crate::clock::Clock;
use crate::config::model::Config;
use crate::config::{self, Source};
use crate::tls;
use crate::tls::cluster::Identity;
use bytesize::ByteSize;
use std::process::ExitCode;

/// What to check.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    run: RunArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// 0 and a summary, or 2 and all mistakes.
pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let loaded = match config::load(&args.run.sources()) {
        Ok(loaded) => loaded,
        Err(errors) if args.json => {
            print_json(&serde_json::json!({ "ok": false, "mistakes": errors.mistakes }))?;
            return Ok(ExitCode::from(EXIT_USAGE));
        }
        Err(errors) => return Err(errors.into()),
    };
    let unusable = unusable(&loaded.config);
    if !unusable.is_empty() {
        return report_unusable(&unusable, args.json);
    }
    let set = loaded.origin_of.values().filter(|source| **source != Source::Default).count();
    let config = &loaded.config;
    if args.json {
        print_json(&serde_json::json!({
            "ok": true,
            "node": config.node.name,
            "roles": config.node.roles.names().collect::<Vec<_>>(),
            "peer": config.peer.as_ref().map(|peer| peer.listen),
            "listen": { "http": config.listen.http, "https": config.listen.https },
            "sites": config.sites.iter().map(|site| &site.name).collect::<Vec<_>>(),
            "origins": config.sites.iter().map(|site| site.origin.servers.len()).sum::<usize>(),
            "memory_bytes": config.cache.memory,
            "disk_bytes": config.cache.disks.iter().map(|disk| disk.size).sum::<u64>(),
            "values_set": set,
        }))?;
    } else {
        print_line(&summary(config, set))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What cannot be used of the files that the configuration names: certificates of the sites, and those of the fleet.
fn unusable(config: &Config) -> Vec<String> {
    let sites = tls::server::check(config).err().map(|errors| errors.0).unwrap_or_default();
    let mut mistakes: Vec<String> = sites.iter().map(ToString::to_string).collect();
    if let Some(peer) = &config.peer {
        let now = Clock::system().now().wall;
        let identity = Identity::load(peer, &config.node.name, config.node.roles, now);
        mistakes.extend(identity.err().map(|error| format!("peer: {error}")));
    }
    mistakes
}

fn report_unusable(mistakes: &[String], json: bool) -> anyhow::Result<ExitCode> {
    if json {
        let mistakes: Vec<_> = mistakes.iter().map(|what| serde_json::json!({ "what": what })).collect();
        print_json(&serde_json::json!({ "ok": false, "mistakes": mistakes }))?;
    } else {
        mistakes.iter().for_each(|mistake| eprintln!("{mistake}"));
    }
    Ok(ExitCode::from(EXIT_USAGE))
}

fn summary(config: &Config, set: usize) -> String {
    let origins: usize = config.sites.iter().map(|site| site.origin.servers.len()).sum();
    let http = config.listen.http.iter().map(|at| format!("http://{at}"));
    let https = config.listen.https.iter().map(|at| format!("https://{at}"));
    let listeners = http.chain(https).collect::<Vec<_>>().join(", ");
    let memory = ByteSize(config.cache.memory);
    let disk = match config.cache.disks.first() {
        Some(disk) => format!("{} on disk in {}", ByteSize(disk.size), disk.path.display()),
        None => "no disk".to_owned(),
    };
    let mut parts = Vec::new();
    if config.node.roles.edge {
        let (sites, origins) = (counted(config.sites.len(), "site"), counted(origins, "origin server"));
        parts.push(format!("{sites}, {origins} on {listeners}; cache {memory} in memory, {disk}"));
    }
    if let Some(peer) = &config.peer {
        let roles = config.node.roles.names().collect::<Vec<_>>().join(" and ");
        parts.push(format!("{roles} of a fleet on {}, {}", peer.listen, counted(peer.seeds.len(), "seed")));
    }
    parts.push(counted(set, "value") + " set");
    format!("ok: {}", parts.join("; "))
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
