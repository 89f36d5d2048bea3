//! The tunnels that are open: how many there may be, whose they are, and how to end them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use outpost_wire::message::{FromAgent, SessionKind, Sessions};
use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::uplink::Uplink;

/// Tunnels open at once, those being set up included.
pub const MAX_TUNNELS: usize = 32;

/// Every open tunnel.
#[derive(Debug)]
pub struct Tunnels {
    open: Mutex<HashMap<u64, Entry>>,
    next: AtomicU64,
    uplink: Arc<Uplink>,
}

#[derive(Debug)]
struct Entry {
    user: String,
    terminal: bool,
    cut: Arc<Notify>,
}

impl Tunnels {
    /// None yet; counts are reported through `uplink`.
    pub fn new(uplink: Arc<Uplink>) -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), next: AtomicU64::new(0), uplink })
    }

    /// Takes a place for a tunnel of `user`; `None` when all are taken.
    pub fn enter(self: &Arc<Self>, user: &str) -> Option<Place> {
        let mut open = self.open.lock().expect("no holder panics");
        if open.len() >= MAX_TUNNELS {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let cut = Arc::new(Notify::new());
        open.insert(number, Entry { user: user.to_owned(), terminal: false, cut: cut.clone() });
        Some(Place { tunnels: self.clone(), number, cut })
    }

    /// Whether no tunnel is open.
    pub fn is_empty(&self) -> bool {
        self.open.lock().expect("no holder panics").is_empty()
    }

    /// Cuts the terminals of `user`; returns how many there were.
    pub fn cut_terminals(&self, user: &str) -> usize {
        let open = self.open.lock().expect("no holder panics");
        let mine = open.values().filter(|entry| entry.terminal && entry.user == user);
        mine.inspect(|entry| entry.cut.notify_one()).count()
    }

    /// The present counts of terminals by user.
    pub fn terminals(&self) -> FromAgent {
        let mut counts: Map<String, Value> = Map::new();
        for entry in self.open.lock().expect("no holder panics").values().filter(|entry| entry.terminal) {
            let count = counts.get(&entry.user).and_then(Value::as_u64).unwrap_or(0) + 1;
            counts.insert(entry.user.clone(), count.into());
        }
        FromAgent::Sessions(Sessions { kind: SessionKind::Terminal, value: counts })
    }
}

/// A place in the table, given back when dropped.
#[derive(Debug)]
pub struct Place {
    tunnels: Arc<Tunnels>,
    number: u64,
    cut: Arc<Notify>,
}

impl Place {
    /// The tunnel has become a terminal; the server is told the new counts.
    pub fn is_terminal(&self) {
        if let Some(entry) = self.tunnels.open.lock().expect("no holder panics").get_mut(&self.number) {
            entry.terminal = true;
        }
        self.tunnels.uplink.post(&self.tunnels.terminals());
    }

    /// Waits until somebody with the right to do so cuts the tunnel.
    pub async fn cut(&self) {
        self.cut.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let entry = self.tunnels.open.lock().expect("no holder panics").remove(&self.number);
        if entry.is_some_and(|entry| entry.terminal) {
            self.tunnels.uplink.post(&self.tunnels.terminals());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(tunnels: &Tunnels) -> Map<String, Value> {
        match tunnels.terminals() {
            FromAgent::Sessions(sessions) => sessions.value,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn places_are_limited_counted_and_given_back() {
        let tunnels = Tunnels::new(Arc::default());
        let places: Vec<Place> =
            (0..MAX_TUNNELS).map(|_| tunnels.enter("user//ada").expect("a place")).collect();
        assert!(tunnels.enter("user//bob").is_none());
        assert!(counts(&tunnels).is_empty(), "a tunnel without a terminal is no session");
        places[0].is_terminal();
        places[1].is_terminal();
        assert_eq!(counts(&tunnels)["user//ada"], 2);
        assert_eq!(tunnels.cut_terminals("user//ada"), 2);
        assert_eq!(tunnels.cut_terminals("user//bob"), 0);
        drop(places);
        assert!(tunnels.is_empty() && counts(&tunnels).is_empty());
    }
}
