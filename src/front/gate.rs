//! How many clients may be connected: over all, and, when places get scarce, from one address.
//!
//! Many clients may stand behind one address (a company, a mobile network, another proxy), so the limit
//! on addresses holds only while more than half of all places are taken: then it keeps one address from
//! taking the rest.

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
    /// Lets a connection from `address` in, unless `total` are open, or more than half as many and
    /// `per_address` of them from there.
    pub(crate) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        total: usize,
        per_address: usize,
    ) -> Result<Entered, Limit> {
        let open_before = self.open.fetch_add(1, Ordering::Relaxed);
        if open_before >= total {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Limit::Node);
        }
        let scarce = open_before > total / 2;
        let mut addresses = self.shard(address).lock();
        let open = addresses.entry(address).or_insert(0);
        if scarce && *open >= per_address {
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

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 17));

    fn enter(gate: &Arc<Gate>, address: IpAddr, count: usize) -> Vec<Entered> {
        (0..count).map(|_| gate.enter(address, 10, 2).ok().unwrap()).collect()
    }

    #[test]
    fn one_address_may_have_more_than_its_share_until_more_than_half_is_taken() {
        let gate = Arc::new(Gate::default());
        let mut inside = enter(&gate, A, 6);
        assert_eq!(gate.enter(A, 10, 2).err(), Some(Limit::Address));
        let _other = enter(&gate, B, 2);
        assert_eq!(gate.enter(B, 10, 2).err(), Some(Limit::Address));
        assert_eq!(gate.open(), 8);
        inside.truncate(3);
        assert!(gate.enter(A, 10, 2).is_ok(), "half is free again");
    }

    #[test]
    fn the_limit_over_all_holds_and_leaving_makes_room() {
        let gate = Arc::new(Gate::default());
        let first = gate.enter(A, 1, 9).ok().unwrap();
        assert_eq!(gate.enter(B, 1, 9).err(), Some(Limit::Node));
        drop(first);
        assert!(gate.enter(B, 1, 9).is_ok());
        assert_eq!(gate.open(), 0);
    }
}
