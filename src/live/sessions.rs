//! The control sessions that are open.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use outpost_wire::id::UserId;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::mailbox::Mailbox;

/// One open control session.
pub struct ControlSession {
    /// `user/<domain>/<name>/<40 hex digits>`.
    pub id: String,
    /// Whose.
    pub user: UserId,
    /// The web session it was opened with, if by cookie.
    pub web_session: Option<String>,
    /// User name of the login token it was opened with, if so.
    pub token: Option<String>,
    /// Ends the session.
    pub cancel: CancellationToken,
    /// It ends because the server stops, not because of its user.
    server_stops: AtomicBool,
    /// What sends statistics to it at a period.
    statistics: Mutex<Option<AbortHandle>>,
    mailbox: Mailbox,
    subscriptions: RwLock<HashSet<String>>,
}

impl ControlSession {
    /// An open session that is spoken to through `mailbox`.
    pub fn new(
        id: String,
        user: UserId,
        web_session: Option<String>,
        token: Option<String>,
        mailbox: Mailbox,
    ) -> ControlSession {
        ControlSession {
            id,
            user,
            web_session,
            token,
            cancel: CancellationToken::new(),
            server_stops: AtomicBool::new(false),
            statistics: Mutex::new(None),
            mailbox,
            subscriptions: RwLock::new(HashSet::new()),
        }
    }

    /// Sends a message; one that does not fit is remembered by the mailbox, and the session is told to load
    /// everything again.
    pub fn send(&self, message: Bytes) {
        let _ = self.mailbox.send(message);
    }

    /// Ends the session because the server stops: clients may come back.
    pub fn end_with_server(&self) {
        self.server_stops.store(true, Ordering::Relaxed);
        self.cancel.cancel();
    }

    /// Whether it ends because the server stops.
    pub fn ends_with_server(&self) -> bool {
        self.server_stops.load(Ordering::Relaxed)
    }

    /// Replaces what sends statistics to it.
    pub fn repeat_statistics(&self, repeat: Option<AbortHandle>) {
        let mut statistics = self.statistics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = std::mem::replace(&mut *statistics, repeat) {
            earlier.abort();
        }
    }

    /// Sets whom this session hears of.
    pub fn subscribe(&self, to: HashSet<String>) {
        *self.subscriptions.write().unwrap_or_else(PoisonError::into_inner) = to;
    }

    /// Whether one of these targets is for this session.
    pub fn hears_any(&self, targets: &[String]) -> bool {
        let subscriptions = self.subscriptions.read().unwrap_or_else(PoisonError::into_inner);
        targets.iter().any(|target| subscriptions.contains(target))
    }

    /// Whether this session hears of a target.
    pub fn hears(&self, target: &str) -> bool {
        self.subscriptions.read().unwrap_or_else(PoisonError::into_inner).contains(target)
    }

    /// Everything it hears of.
    pub fn subscriptions(&self) -> Vec<String> {
        self.subscriptions.read().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// All open control sessions.
#[derive(Default)]
pub struct SessionRegistry {
    sessions: Mutex<HashMap<String, Arc<ControlSession>>>,
}

impl SessionRegistry {
    fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<ControlSession>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a session.
    pub fn add(&self, session: Arc<ControlSession>) {
        self.sessions().insert(session.id.clone(), session);
    }

    /// Removes a session.
    pub fn remove(&self, id: &str) {
        self.sessions().remove(id);
    }

    /// The session with this id.
    pub fn get(&self, id: &str) -> Option<Arc<ControlSession>> {
        self.sessions().get(id).cloned()
    }

    /// All sessions.
    pub fn all(&self) -> Vec<Arc<ControlSession>> {
        self.sessions().values().cloned().collect()
    }

    /// The sessions of a user.
    pub fn of(&self, user: &UserId) -> Vec<Arc<ControlSession>> {
        self.sessions().values().filter(|session| session.user == *user).cloned().collect()
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.sessions().len()
    }

    /// How many each user of a domain has open.
    pub fn counts(&self, domain: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for session in self.sessions().values().filter(|session| session.user.domain() == domain) {
            *counts.entry(session.user.as_str().to_owned()).or_insert(0) += 1;
        }
        counts
    }
}
