//! Back-off after bad logins, per account and per address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use outpost_wire::id::UserId;

use crate::config::LoginLimit;

/// Bad tries of one account before each further one has to wait.
const FREE_TRIES: u32 = 5;
/// The first wait of an account; it doubles with every further bad try.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// The longest wait of an account. Bounded, so that a stranger cannot lock a person out for long.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Accounts and networks remembered; the stalest are forgotten first.
const REMEMBERED: usize = 4096;

/// Who has been trying.
#[derive(Default)]
pub struct Throttle {
    tries: Mutex<Tries>,
}

#[derive(Default)]
struct Tries {
    accounts: HashMap<UserId, AccountTries>,
    networks: HashMap<Network, NetworkTries>,
}

struct AccountTries {
    bad: u32,
    blocked_until: Instant,
    last: Instant,
}

struct NetworkTries {
    bad: Vec<Instant>,
    blocked_until: Option<Instant>,
}

/// Addresses that are counted as one: an IPv4 /24 (config §1.4 `maxInvalidLogin`) or an IPv6 /64; on a LAN each
/// IPv4 address by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Network {
        Network(match address.to_canonical() {
            // On a LAN the neighbours are other people: one of them must not shut out all the others.
            IpAddr::V4(v4) if v4.is_private() || v4.is_link_local() => v4.into(),
            IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) & 0xFFFF_FF00).into()),
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        })
    }
}

impl Throttle {
    /// How long to wait before this account may be tried from this address; `None` = now.
    pub fn wait(&self, account: &UserId, from: IpAddr, limit: &LoginLimit, now: Instant) -> Option<Duration> {
        let tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let of_account = tries.accounts.get(account).map(|tries| tries.blocked_until);
        let of_network =
            limit.applies_to(from).then(|| tries.networks.get(&from.into())).flatten().and_then(|tries| {
                tries.blocked_until.or_else(|| {
                    let window_start = tries.bad.iter().rev().nth(limit.count.saturating_sub(1))?;
                    Some(*window_start + limit.time)
                })
            });
        of_account
            .into_iter()
            .chain(of_network)
            .map(|until| until.saturating_duration_since(now))
            .filter(|wait| !wait.is_zero())
            .max()
    }

    /// Notes a bad try.
    pub fn bad(&self, account: &UserId, from: IpAddr, limit: &LoginLimit, now: Instant) {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let of_account = tries.accounts.entry(account.clone()).or_insert(AccountTries {
            bad: 0,
            blocked_until: now,
            last: now,
        });
        of_account.bad += 1;
        of_account.last = now;
        if let Some(over) = of_account.bad.checked_sub(FREE_TRIES) {
            of_account.blocked_until = now + (FIRST_WAIT * 2u32.pow(over.min(8))).min(LONGEST_WAIT);
        }
        if limit.applies_to(from) {
            let of_network = tries
                .networks
                .entry(from.into())
                .or_insert(NetworkTries { bad: Vec::new(), blocked_until: None });
            of_network.bad.retain(|at| now.saturating_duration_since(*at) < limit.time);
            of_network.bad.push(now);
            of_network.blocked_until =
                limit.cool_off.filter(|_| of_network.bad.len() >= limit.count).map(|cool_off| now + cool_off);
        }
        tries.forget_stale(limit, now);
    }

    /// Forgets the bad tries of an account after a good one. Those of the address stay: whoever owns one
    /// account must not buy free tries on others with it.
    pub fn good(&self, account: &UserId) {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner).accounts.remove(account);
    }
}

impl Tries {
    fn forget_stale(&mut self, limit: &LoginLimit, now: Instant) {
        if self.accounts.len() > REMEMBERED {
            self.accounts.retain(|_, tries| now.saturating_duration_since(tries.last) < LONGEST_WAIT * 10);
            if self.accounts.len() > REMEMBERED {
                self.accounts.clear();
            }
        }
        if self.networks.len() > REMEMBERED {
            self.networks.retain(|_, tries| {
                tries.blocked_until.is_some_and(|until| until > now)
                    || tries.bad.last().is_some_and(|at| now.saturating_duration_since(*at) < limit.time)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bob() -> UserId {
        UserId::from_name("", "bob").expect("an id")
    }

    #[test]
    fn an_account_slows_down_and_recovers() {
        let throttle = Throttle::default();
        let limit = LoginLimit { count: 1000, ..LoginLimit::default() };
        let from: IpAddr = "192.0.2.7".parse().expect("an address");
        let mut now = Instant::now();
        for _ in 0..FREE_TRIES - 1 {
            throttle.bad(&bob(), from, &limit, now);
            assert_eq!(throttle.wait(&bob(), from, &limit, now), None);
        }
        throttle.bad(&bob(), from, &limit, now);
        assert_eq!(throttle.wait(&bob(), from, &limit, now), Some(FIRST_WAIT));
        // From another address too: it is the account that is being guessed.
        assert!(throttle.wait(&bob(), "198.51.100.1".parse().expect("an address"), &limit, now).is_some());
        for _ in 0..40 {
            throttle.bad(&bob(), from, &limit, now);
        }
        assert_eq!(throttle.wait(&bob(), from, &limit, now), Some(LONGEST_WAIT));
        now += LONGEST_WAIT;
        assert_eq!(throttle.wait(&bob(), from, &limit, now), None);
        throttle.good(&bob());
        throttle.bad(&bob(), from, &limit, now);
        assert_eq!(throttle.wait(&bob(), from, &limit, now), None);
    }

    #[test]
    fn a_network_is_stopped_whatever_accounts_it_tries() {
        let throttle = Throttle::default();
        let limit = LoginLimit::default();
        let now = Instant::now();
        for n in 0..limit.count {
            let from: IpAddr = format!("192.0.2.{n}").parse().expect("an address");
            throttle.bad(&UserId::from_name("", &format!("user{n}")).expect("an id"), from, &limit, now);
        }
        let neighbour: IpAddr = "192.0.2.200".parse().expect("an address");
        assert!(throttle.wait(&bob(), neighbour, &limit, now).is_some());
        let stranger: IpAddr = "198.51.100.9".parse().expect("an address");
        assert_eq!(throttle.wait(&bob(), stranger, &limit, now), None);
        assert_eq!(throttle.wait(&bob(), neighbour, &limit, now + limit.time), None);
    }
}
