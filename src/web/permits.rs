//! How many connections strangers may hold.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::Network;

/// Connections that have not proved who they are, counted together and by network.
pub struct Permits {
    limit: usize,
    limit_per_network: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    all: usize,
    by_network: HashMap<Network, usize>,
}

/// One such connection. It stops counting when it has proved who it is, or ends.
#[derive(Clone)]
pub struct ConnectionPermit {
    held: Arc<Mutex<Option<Permit>>>,
}

struct Permit {
    permits: Arc<Permits>,
    network: Network,
}

impl Permits {
    /// Permits for at most `limit` connections, `limit_per_network` of one network.
    pub fn new(limit: usize, limit_per_network: usize) -> Arc<Permits> {
        Arc::new(Permits { limit, limit_per_network, held: Mutex::default() })
    }

    /// A permit for a connection from an address; `None` when there are too many.
    pub fn take(self: &Arc<Self>, from: IpAddr) -> Option<ConnectionPermit> {
        let network = Network::from(from);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.all >= self.limit {
            return None;
        }
        let of_network = held.by_network.entry(network).or_insert(0);
        if *of_network >= self.limit_per_network {
            return None;
        }
        *of_network += 1;
        held.all += 1;
        let permit = Permit { permits: self.clone(), network };
        Some(ConnectionPermit { held: Arc::new(Mutex::new(Some(permit))) })
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

impl ConnectionPermit {
    /// The connection has proved who it is: it does not count any more.
    pub fn release(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.permits.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.all -= 1;
        if let Some(count) = held.by_network.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                held.by_network.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_bounded_and_come_back() {
        let permits = Permits::new(3, 2);
        let near: IpAddr = "192.0.2.1".parse().expect("an address");
        let neighbour: IpAddr = "192.0.2.2".parse().expect("an address");
        let far: IpAddr = "198.51.100.1".parse().expect("an address");
        let first = permits.take(near).expect("room");
        let _second = permits.take(neighbour).expect("room");
        assert!(permits.take(near).is_none(), "two of one network");
        let _third = permits.take(far).expect("room");
        assert!(permits.take(far).is_none(), "three together");
        first.release();
        let copy = permits.take(near).expect("room again");
        drop(copy);
        assert_eq!(permits.held(), 2);
        drop(first);
        assert_eq!(permits.held(), 2);
    }
}
