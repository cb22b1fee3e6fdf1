//! The flash crowd with which a fleet's workload begins: many clients at all edges ask for one large object that
//! nobody has yet.

use crate::cli::replay::engine::{Load, Verify};
use crate::cli::replay::targets::Target;
use crate::workload::{Object, Trace};
use std::sync::Arc;

/// What they ask for.
pub(super) const OBJECT: Object = Object { id: 0x5047_0001_0000, size: 64 << 20 };

/// Clients of each edge.
pub(super) const CLIENTS_PER_EDGE: usize = 16;

/// One client in so many checks each byte.
const VERIFY_ONE_IN: usize = 10;

/// One request of each client, all at once.
pub(super) fn load(targets: Vec<Target>) -> anyhow::Result<Load> {
    let clients = CLIENTS_PER_EDGE * targets.len();
    Ok(Load {
        trace: Arc::new(Trace::from_requests([OBJECT])?),
        targets,
        concurrency: clients,
        requests: Some(clients as u64),
        verify: Verify::OneIn(VERIFY_ONE_IN),
    })
}
