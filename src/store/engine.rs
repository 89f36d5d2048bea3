//! What a storage engine has to offer: documents by id, an event log with targets, power history.

use serde_json::{Map, Value};

/// One change. A batch of them is applied whole or not at all.
#[allow(missing_docs, reason = "a variant\'s line says what its fields are")]
#[derive(Clone, Debug)]
pub enum Op {
    /// Adds or replaces a document: its id and JSON bytes.
    Put { id: String, json: Vec<u8> },
    /// Removes a document; one that is not there is no error.
    Delete { id: String },
    /// Appends to the event log.
    Event { time: i64, targets: Vec<String>, json: Vec<u8> },
    /// Notes a device's power state: 1 on, 0 unknown (data-formats §2.2). `time` in Unix ms.
    Power { device: String, time: i64, state: u8, previous: u8 },
    /// Forgets the power history and events of a removed device.
    ForgetDevice { device: String },
    /// Drops events and power states older than these moments, Unix ms.
    Expire { events_before: i64, power_before: i64 },
}

/// A change of power state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerChange {
    /// Unix ms.
    pub time: i64,
    /// State from then on.
    pub state: u8,
    /// State before.
    pub previous: u8,
}

/// Which events are wanted, newest first.
#[derive(Clone, Debug)]
pub struct EventQuery {
    /// Any of these index keys: a dispatch target, or [`EventQuery::about_user`] / [`EventQuery::about_device`].
    pub any_of: Vec<String>,
    /// Domain of the reader.
    pub domain: String,
    /// Only this action.
    pub action: Option<String>,
    /// Only from the first of these times to the second, as events write them (ISO 8601).
    pub between: Option<(String, String)>,
    /// At most so many.
    pub limit: usize,
}

impl EventQuery {
    /// Whether an event is of the reader's domain and of the wanted action.
    pub fn matches(&self, event: &Map<String, Value>) -> bool {
        event.get("domain").and_then(Value::as_str).is_none_or(|domain| domain == self.domain)
            && self.action.as_ref().is_none_or(|action| event.get("action").is_some_and(|is| is == action))
            && self.between.as_ref().is_none_or(|(from, to)| {
                event
                    .get("time")
                    .and_then(Value::as_str)
                    .is_some_and(|time| from.as_str() <= time && time <= to.as_str())
            })
    }

    /// Whether an event is older than anything wanted: events come newest first.
    pub fn is_past(&self, event: &Map<String, Value>) -> bool {
        self.between.as_ref().is_some_and(|(from, _)| {
            event.get("time").and_then(Value::as_str).is_some_and(|time| time < from.as_str())
        })
    }

    /// Index key of the events that a user caused.
    pub fn about_user(id: &str) -> String {
        format!("={id}")
    }

    /// Index key of the events about a device.
    pub fn about_device(id: &str) -> String {
        format!("={id}")
    }
}

/// Why the store could not do what was asked. The texts are for the administrator.
#[allow(missing_docs, reason = "a variant\'s line says what its fields are")]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the file.
    #[error("the store {0} is in use by another process; stop it first")]
    InUse(String),
    /// The file is not ours or is damaged.
    #[error(
        "the store {path} is damaged ({reason}); nothing was changed. Restore a backup, or move the file aside to start empty"
    )]
    Damaged { path: String, reason: String },
    /// The file was written by a newer release.
    #[error(
        "the store {path} has schema {found}, this release knows up to {known}; update Outpost, nothing was changed"
    )]
    Newer { path: String, found: u64, known: u64 },
    /// A write did not reach the disk; nothing of it was kept.
    #[error("the store could not be written ({0}); nothing of this change was kept")]
    Write(String),
    /// A read failed.
    #[error("the store could not be read ({0})")]
    Read(String),
    /// A document does not have the expected shape.
    #[error("the record {id} cannot be understood ({reason})")]
    Record { id: String, reason: String },
    /// The server is stopping.
    #[error("the store is closed")]
    Closed,
}

/// A storage engine. Its calls may block: they come from the writer's own thread and from threads that may
/// wait.
pub trait Engine: Send + Sync + 'static {
    /// The document with this id.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    fn get(&self, id: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// All documents whose id starts with `prefix`, ordered by id.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    fn with_prefix(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// Events, newest first.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    fn events(&self, query: &EventQuery) -> Result<Vec<Map<String, Value>>, StoreError>;

    /// How many documents, events and power changes there are.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    fn counts(&self) -> Result<[(&'static str, u64); 3], StoreError>;

    /// All logged events, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    fn all_events(&self) -> Result<Vec<Map<String, Value>>, StoreError>;

    /// All power changes, by device.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    fn all_power(&self) -> Result<Vec<(String, PowerChange)>, StoreError>;

    /// Power changes of a device since a moment (Unix ms), oldest first.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    fn power(&self, device: &str, since: i64) -> Result<Vec<PowerChange>, StoreError>;

    /// Writes a copy of everything that is committed, as it is at one moment, to a new file of the embedded engine.
    ///
    /// # Errors
    /// [`StoreError::Read`], [`StoreError::Write`].
    fn copy_to(&self, path: &std::path::Path) -> Result<(), StoreError>;

    /// Applies all changes, durably, or none. After an error the engine must be usable again once the cause
    /// is gone.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    fn commit(&self, ops: &[Op]) -> Result<(), StoreError>;

    /// Lets go of the storage: everything after this is [`StoreError::Closed`], whoever still holds the engine.
    fn close(&self);
}
