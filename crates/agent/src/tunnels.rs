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
    kind: Option<SessionKind>,
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
        open.insert(number, Entry { user: user.to_owned(), kind: None, cut: cut.clone() });
        Some(Place { tunnels: self.clone(), number, cut })
    }

    /// Whether no tunnel is open.
    pub fn is_empty(&self) -> bool {
        self.open.lock().expect("no holder panics").is_empty()
    }

    /// Cuts the sessions of a kind that `user` has; returns how many there were.
    pub fn cut(&self, user: &str, kind: SessionKind) -> usize {
        let open = self.open.lock().expect("no holder panics");
        let mine = open.values().filter(|entry| entry.kind == Some(kind) && entry.user == user);
        mine.inspect(|entry| entry.cut.notify_one()).count()
    }

    /// The present counts of sessions of a kind by user.
    pub fn counts(&self, kind: SessionKind) -> FromAgent {
        let mut counts: Map<String, Value> = Map::new();
        let open = self.open.lock().expect("no holder panics");
        for entry in open.values().filter(|entry| entry.kind == Some(kind)) {
            let count = counts.get(&entry.user).and_then(Value::as_u64).unwrap_or(0) + 1;
            counts.insert(entry.user.clone(), count.into());
        }
        FromAgent::Sessions(Sessions { kind, value: counts })
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
    /// The tunnel has become a session of this kind; the server is told the new counts.
    pub fn becomes(&self, kind: SessionKind) {
        if let Some(entry) = self.tunnels.open.lock().expect("no holder panics").get_mut(&self.number) {
            entry.kind = Some(kind);
        }
        self.tunnels.uplink.post(&self.tunnels.counts(kind));
    }

    /// Waits until somebody with the right to do so cuts the tunnel.
    pub async fn cut(&self) {
        self.cut.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let entry = self.tunnels.open.lock().expect("no holder panics").remove(&self.number);
        if let Some(kind) = entry.and_then(|entry| entry.kind) {
            self.tunnels.uplink.post(&self.tunnels.counts(kind));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(tunnels: &Tunnels) -> Map<String, Value> {
        match tunnels.counts(SessionKind::Terminal) {
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
        assert!(counts(&tunnels).is_empty(), "a tunnel without a protocol is no session");
        places[0].becomes(SessionKind::Terminal);
        places[1].becomes(SessionKind::Terminal);
        places[2].becomes(SessionKind::Files);
        assert_eq!(counts(&tunnels)["user//ada"], 2);
        assert_eq!(tunnels.cut("user//ada", SessionKind::Terminal), 2);
        assert_eq!(tunnels.cut("user//bob", SessionKind::Terminal), 0);
        drop(places);
        assert!(tunnels.is_empty() && counts(&tunnels).is_empty());
    }
}
