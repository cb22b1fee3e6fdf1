//! How many clients may be connected: over all, and from one address.

use super::Limit;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const SHARDS: usize = 16;

/// Counts the open connections of a node. The maps hold only addresses that are connected, so their
/// size is bounded by the connection limit.
#[derive(Default)]
pub struct Gate {
    open: AtomicUsize,
    by_address: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
}

impl Gate {
    /// Lets a connection from `address` in, unless `total` are open, or `per_address` from there.
    pub(crate) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        total: usize,
        per_address: usize,
    ) -> Result<Entered, Limit> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= total {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Limit::Node);
        }
        let mut addresses = self.shard(address).lock();
        let open = addresses.entry(address).or_insert(0);
        if *open >= per_address {
            drop(addresses);
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Limit::Address);
        }
        *open += 1;
        drop(addresses);
        Ok(Entered { gate: Arc::clone(self), address })
    }

    /// Connections open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn shard(&self, address: IpAddr) -> &Mutex<HashMap<IpAddr, usize>> {
        let last = match address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[7],
        };
        &self.by_address[usize::from(last) % SHARDS]
    }
}

/// One connection that was let in; leaves when dropped.
pub(crate) struct Entered {
    gate: Arc<Gate>,
    address: IpAddr,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut addresses = self.gate.shard(self.address).lock();
        if let Some(open) = addresses.get_mut(&self.address) {
            *open -= 1;
            if *open == 0 {
                addresses.remove(&self.address);
            }
        }
        self.gate.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn limits_hold_and_leaving_makes_room() {
        let gate = Arc::new(Gate::default());
        let (a, b) = (IpAddr::from(Ipv4Addr::new(127, 0, 0, 1)), IpAddr::from(Ipv4Addr::new(127, 0, 0, 17)));
        let first = gate.enter(a, 2, 1).ok().unwrap();
        assert_eq!(gate.enter(a, 2, 1).err(), Some(Limit::Address));
        let _second = gate.enter(b, 2, 1).ok().unwrap();
        assert_eq!(gate.enter(b, 2, 9).err(), Some(Limit::Node));
        drop(first);
        assert!(gate.enter(a, 2, 1).is_ok());
        assert_eq!(gate.open(), 1);
    }
}
