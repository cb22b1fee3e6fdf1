//! Whether the process may have as many sockets and files open as its configuration allows clients to take.

use crate::config::model::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors of a node beside those of client connections and connections to origins: listeners, logs, the disk tier,
/// peers, and what comes and goes.
const OTHERS: u64 = 128;

/// Takes as many descriptors as the system allows; fewer than wanted is no reason not to start.
pub(super) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, current = ?limit.current, "the limit of open descriptors was not raised");
    }
}

/// Warns if not all clients that may connect can. They would wait to be accepted, instead of taking the place of those
/// that have waited longest.
pub(super) fn check(config: &Config) {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let (connections, fit) = (config.limits.connections, fitting(descriptors));
    if config.node.roles.edge && connections as u64 > fit {
        tracing::warn!(
            connections,
            descriptors,
            fit,
            "limits.connections is more than the limit of open descriptors allows"
        );
    }
}

/// Client connections for which there are descriptors, if none of them needs one to an origin.
const fn fitting(descriptors: u64) -> u64 {
    descriptors.saturating_sub(OTHERS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Flag, FlagValue, Machine, Sources};

    #[test]
    fn the_default_fits_however_few_descriptors_there_are() {
        for descriptors in [256, 1024, 4096, 65_536, 1 << 20, u64::MAX] {
            let machine = Machine { descriptors, ..Machine::default() };
            let value = FlagValue::Many(vec!["http://127.0.0.1:1".to_owned()]);
            let flags = vec![Flag { name: "--origin", key: "site[0].origins", value }];
            let loaded = config::load(&Sources { flags, machine, ..Sources::default() }).expect("valid");
            let connections = loaded.config.limits.connections as u64;
            assert!(connections <= fitting(descriptors), "{connections} of {descriptors}");
            assert!(connections >= 64);
        }
    }
}
