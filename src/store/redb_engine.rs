//! The embedded engine: one redb file.

use std::collections::BinaryHeap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend,
    TableDefinition, WriteTransaction,
};
use serde_json::{Map, Value};

use super::engine::{Engine, EventQuery, Op, PowerChange, StoreError};

/// id → JSON.
const DOCUMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("documents");
/// event key → JSON. The key is `milliseconds << 16 | counter`, so it orders by time.
const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
/// (target, event key): who an event was for.
const EVENT_TARGETS: TableDefinition<'_, (&str, u64), ()> = TableDefinition::new("event_targets");
/// event key → the targets of the event, so that an expired one can be unindexed.
const EVENT_KEYS: TableDefinition<'_, u64, Vec<&str>> = TableDefinition::new("event_keys");
/// (device, Unix ms) → (state, previous state).
const POWER: TableDefinition<'_, (&str, u64), (u8, u8)> = TableDefinition::new("power");
/// Facts about the file itself.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Version of the tables above and of the records in them.
///
/// A box that gives an update up starts the release before it on the same data. So whatever a release writes, the one
/// before it has to be able to work with:
///
/// - A new kind of record, a new field, a new table is no new schema: older releases carry along what they do not know
///   (`extra`), and look into no table they do not know.
/// - What older releases would misread is a new schema, and comes in two releases: the first can read it ([`READS`])
///   and goes on writing the old one, the second writes it.
/// - A new format of the file itself (a major release of redb) is a new schema, too.
///
/// A store of a schema that is not among those is refused and left as it is.
pub const SCHEMA: u64 = 1;
/// The newest schema that this release can work with: [`SCHEMA`], or one more.
pub const READS: u64 = 1;
const _: () = assert!(READS == SCHEMA || READS == SCHEMA + 1);
/// A step from one schema to the next, in the transaction of the whole migration.
type Migration = fn(&WriteTransaction) -> Result<(), redb::Error>;
/// Steps from one schema to the next; step `n` leads from `n + 1` to `n + 2`.
const MIGRATIONS: [Migration; (SCHEMA - 1) as usize] = [];

/// Bytes of page cache. redb's default is 1 GiB, far above this server's whole budget (12 MiB idle).
const CACHE_BYTES: usize = 2 << 20;

type BackendFactory = Box<dyn Fn() -> Result<Box<dyn StorageBackend>, StoreError> + Send + Sync>;

/// A redb file.
pub struct RedbEngine {
    path: PathBuf,
    /// `None` while a failed database is being opened again, and after closing.
    database: RwLock<Option<Database>>,
    closed: AtomicBool,
    /// Set by tests to put a failing disk underneath.
    backend: Option<BackendFactory>,
}

impl RedbEngine {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Damaged`], [`StoreError::Newer`]: the file is left as it is.
    pub fn open(path: &Path) -> Result<RedbEngine, StoreError> {
        RedbEngine::open_with(path.to_owned(), None)
    }

    fn open_with(path: PathBuf, backend: Option<BackendFactory>) -> Result<RedbEngine, StoreError> {
        let engine =
            RedbEngine { path, database: RwLock::new(None), closed: AtomicBool::new(false), backend };
        let database = engine.open_database()?;
        engine.prepare(&database)?;
        *engine.database.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
        Ok(engine)
    }

    /// Opens an engine over another kind of storage, for tests of failing disks.
    ///
    /// # Errors
    /// As [`RedbEngine::open`].
    #[cfg(test)]
    pub fn over(backend: BackendFactory) -> Result<RedbEngine, StoreError> {
        RedbEngine::open_with(PathBuf::from("test.redb"), Some(backend))
    }

    fn open_database(&self) -> Result<Database, StoreError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let opened = match &self.backend {
            Some(backend) => builder.create_with_backend(BoxedBackend(backend()?)),
            None => {
                // A file that holds something else must never be taken for an empty store.
                if let Ok(meta) = std::fs::metadata(&self.path)
                    && meta.len() > 0
                {
                    builder.open(&self.path)
                } else {
                    // It holds password hashes: nobody but its owner reads it.
                    std::fs::OpenOptions::new()
                        .write(true)
                        .create(true)
                        .truncate(false)
                        .mode(0o600)
                        .open(&self.path)
                        .map_err(|error| StoreError::Write(format!("{}: {error}", self.path.display())))?;
                    builder.create(&self.path)
                }
            }
        };
        opened.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(self.path.display().to_string()),
            other => self.damaged(other),
        })
    }

    fn damaged(&self, reason: impl std::fmt::Display) -> StoreError {
        StoreError::Damaged { path: self.path.display().to_string(), reason: reason.to_string() }
    }

    /// Makes the tables of a new file, or brings an older one up to date in one transaction.
    fn prepare(&self, database: &Database) -> Result<(), StoreError> {
        let found = (|| -> Result<Option<u64>, redb::Error> {
            let read = database.begin_read()?;
            match read.open_table(META) {
                Ok(meta) => Ok(meta.get("schema")?.map(|value| value.value())),
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
                Err(other) => Err(other.into()),
            }
        })()
        .map_err(|error| self.damaged(error))?;
        if let Some(found) = found.filter(|found| *found > READS) {
            return Err(StoreError::Newer { path: self.path.display().to_string(), found, known: READS });
        }
        if found >= Some(SCHEMA) {
            return Ok(());
        }
        (|| -> Result<(), redb::Error> {
            let write = database.begin_write()?;
            for step in MIGRATIONS.iter().skip(found.map_or(MIGRATIONS.len(), |found| found as usize - 1)) {
                step(&write)?;
            }
            write.open_table(DOCUMENTS)?;
            write.open_table(EVENTS)?;
            write.open_table(EVENT_TARGETS)?;
            write.open_table(EVENT_KEYS)?;
            write.open_table(POWER)?;
            write.open_table(META)?.insert("schema", SCHEMA)?;
            write.commit()?;
            Ok(())
        })()
        .map_err(|error| StoreError::Write(error.to_string()))
    }

    fn database(&self) -> Result<RwLockReadGuard<'_, Option<Database>>, StoreError> {
        let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if guard.is_some() { Ok(guard) } else { Err(StoreError::Closed) }
    }

    fn read<T>(
        &self,
        work: impl FnOnce(redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let guard = self.database()?;
        let database = guard.as_ref().ok_or(StoreError::Closed)?;
        let read = database.begin_read().map_err(|error| StoreError::Read(error.to_string()))?;
        work(read).map_err(|error| StoreError::Read(error.to_string()))
    }

    /// redb refuses everything after an I/O error, so the file is opened afresh; what was committed is there.
    fn reopen(&self) {
        let mut guard = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *guard = None;
        match self.open_database() {
            Ok(database) => *guard = Some(database),
            Err(error) => log::error!("the store cannot be opened again: {error}"),
        }
    }
}

/// Copies a table as a transaction sees it.
fn copy_table<K: redb::Key + 'static, V: redb::Value + 'static>(
    table: TableDefinition<'_, K, V>,
    from: &redb::ReadTransaction,
    to: &WriteTransaction,
) -> Result<(), redb::Error> {
    let (from, mut to) = (from.open_table(table)?, to.open_table(table)?);
    for entry in from.iter()? {
        let (key, value) = entry?;
        to.insert(key.value(), value.value())?;
    }
    Ok(())
}

impl Engine for RedbEngine {
    fn get(&self, id: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|read| Ok(read.open_table(DOCUMENTS)?.get(id)?.map(|value| value.value().to_vec())))
    }

    fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        let write = |error: String| StoreError::Write(format!("{}: {error}", path.display()));
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| write(error.to_string()))?;
        let copy = Database::builder().set_cache_size(CACHE_BYTES).create(path);
        let copy = copy.map_err(|error| write(error.to_string()))?;
        self.read(|read| {
            let write = copy.begin_write()?;
            copy_table(DOCUMENTS, &read, &write)?;
            copy_table(EVENTS, &read, &write)?;
            copy_table(EVENT_TARGETS, &read, &write)?;
            copy_table(EVENT_KEYS, &read, &write)?;
            copy_table(POWER, &read, &write)?;
            copy_table(META, &read, &write)?;
            write.commit()?;
            Ok(())
        })
    }

    fn with_prefix(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.read(|read| {
            let table = read.open_table(DOCUMENTS)?;
            let mut found = Vec::new();
            for entry in table.range(prefix..)? {
                let (id, json) = entry?;
                if !id.value().starts_with(prefix) {
                    break;
                }
                found.push((id.value().to_owned(), json.value().to_vec()));
            }
            Ok(found)
        })
    }

    fn events(&self, query: &EventQuery) -> Result<Vec<Map<String, Value>>, StoreError> {
        self.read(|read| {
            let index = read.open_table(EVENT_TARGETS)?;
            let events = read.open_table(EVENTS)?;
            let mut ranges = Vec::with_capacity(query.any_of.len());
            let mut newest = BinaryHeap::new();
            for target in &query.any_of {
                let mut range = index.range((target.as_str(), 0)..=(target.as_str(), u64::MAX))?.rev();
                if let Some(entry) = range.next() {
                    newest.push((entry?.0.value().1, ranges.len()));
                }
                ranges.push(range);
            }
            let mut found = Vec::new();
            let mut previous = None;
            while let Some((key, from)) = newest.pop() {
                if let Some(entry) = ranges[from].next() {
                    newest.push((entry?.0.value().1, from));
                }
                if previous.replace(key) == Some(key) {
                    continue;
                }
                let Some(json) = events.get(key)? else { continue };
                let Ok(body) = serde_json::from_slice::<Map<String, Value>>(json.value()) else { continue };
                if query.is_past(&body) {
                    break;
                }
                if query.matches(&body) {
                    found.push(body);
                    if found.len() == query.limit {
                        break;
                    }
                }
            }
            Ok(found)
        })
    }

    fn counts(&self) -> Result<[(&'static str, u64); 3], StoreError> {
        self.read(|read| {
            Ok([
                ("meshcentral", read.open_table(DOCUMENTS)?.len()?),
                ("events", read.open_table(EVENTS)?.len()?),
                ("power", read.open_table(POWER)?.len()?),
            ])
        })
    }

    fn all_events(&self) -> Result<Vec<Map<String, Value>>, StoreError> {
        self.read(|read| {
            let mut all = Vec::new();
            for entry in read.open_table(EVENTS)?.range::<u64>(..)? {
                all.extend(serde_json::from_slice::<Map<String, Value>>(entry?.1.value()));
            }
            Ok(all)
        })
    }

    fn all_power(&self) -> Result<Vec<(String, PowerChange)>, StoreError> {
        self.read(|read| {
            let mut all = Vec::new();
            for entry in read.open_table(POWER)?.range::<(&str, u64)>(..)? {
                let (key, states) = entry?;
                let ((device, time), (state, previous)) = (key.value(), states.value());
                all.push((device.to_owned(), PowerChange { time: time.cast_signed(), state, previous }));
            }
            Ok(all)
        })
    }

    fn power(&self, device: &str, since: i64) -> Result<Vec<PowerChange>, StoreError> {
        self.read(|read| {
            let table = read.open_table(POWER)?;
            let since = u64::try_from(since).unwrap_or(0);
            let mut changes = Vec::new();
            for entry in table.range((device, since)..=(device, u64::MAX))? {
                let (key, states) = entry?;
                let (state, previous) = states.value();
                changes.push(PowerChange { time: key.value().1.cast_signed(), state, previous });
            }
            Ok(changes)
        })
    }

    fn commit(&self, ops: &[Op]) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        // A failed reopening is tried again here, so a disk that recovers brings the store back.
        if self.database.read().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.reopen();
        }
        let result = {
            let guard = self.database()?;
            let database = guard.as_ref().ok_or(StoreError::Closed)?;
            apply(database, ops)
        };
        result.map_err(|error| {
            self.reopen();
            StoreError::Write(error.to_string())
        })
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.database.write().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn apply(database: &Database, ops: &[Op]) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    {
        let mut documents = write.open_table(DOCUMENTS)?;
        for op in ops {
            match op {
                Op::Put { id, json } => {
                    documents.insert(id.as_str(), json.as_slice())?;
                }
                Op::Delete { id } => {
                    documents.remove(id.as_str())?;
                }
                Op::Event { time, targets, json } => append_event(&write, *time, targets, json)?,
                Op::Power { device, time, state, previous } => {
                    let time = u64::try_from(*time).unwrap_or(0);
                    write.open_table(POWER)?.insert((device.as_str(), time), (*state, *previous))?;
                }
                Op::ForgetDevice { device } => forget_device(&write, device)?,
                Op::Expire { events_before, power_before } => expire(&write, *events_before, *power_before)?,
            }
        }
    }
    write.commit()?;
    Ok(())
}

fn append_event(
    write: &WriteTransaction,
    time: i64,
    targets: &[String],
    json: &[u8],
) -> Result<(), redb::Error> {
    let mut events = write.open_table(EVENTS)?;
    let last = events.last()?.map(|(key, _)| key.value());
    // A clock that steps back must not reorder or overwrite what is there.
    let key = (u64::try_from(time).unwrap_or(0) << 16).max(last.map_or(0, |last| last + 1));
    events.insert(key, json)?;
    let mut index = write.open_table(EVENT_TARGETS)?;
    for target in targets {
        index.insert((target.as_str(), key), ())?;
    }
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    write.open_table(EVENT_KEYS)?.insert(key, targets)?;
    Ok(())
}

fn forget_event(write: &WriteTransaction, key: u64) -> Result<(), redb::Error> {
    write.open_table(EVENTS)?.remove(key)?;
    let mut index = write.open_table(EVENT_TARGETS)?;
    if let Some(targets) = write.open_table(EVENT_KEYS)?.remove(key)? {
        for target in targets.value() {
            index.remove((target, key))?;
        }
    }
    Ok(())
}

fn forget_device(write: &WriteTransaction, device: &str) -> Result<(), redb::Error> {
    let about = EventQuery::about_device(device);
    let keys: Vec<u64> = write
        .open_table(EVENT_TARGETS)?
        .range((about.as_str(), 0)..=(about.as_str(), u64::MAX))?
        .map(|entry| entry.map(|(key, _)| key.value().1))
        .collect::<Result<_, _>>()?;
    for key in keys {
        forget_event(write, key)?;
    }
    write.open_table(POWER)?.retain_in((device, 0)..=(device, u64::MAX), |_, _| false)?;
    Ok(())
}

fn expire(write: &WriteTransaction, events_before: i64, power_before: i64) -> Result<(), redb::Error> {
    let limit = u64::try_from(events_before).unwrap_or(0) << 16;
    let keys: Vec<u64> = write
        .open_table(EVENTS)?
        .range(..limit)?
        .map(|entry| entry.map(|(key, _)| key.value()))
        .collect::<Result<_, _>>()?;
    for key in keys {
        forget_event(write, key)?;
    }
    let limit = u64::try_from(power_before).unwrap_or(0);
    let mut power = write.open_table(POWER)?;
    if !power.is_empty()? {
        power.retain(|(_, time), _| time >= limit)?;
    }
    Ok(())
}

/// Lets a boxed backend be handed to redb, which wants a sized one.
#[derive(Debug)]
struct BoxedBackend(Box<dyn StorageBackend>);

impl StorageBackend for BoxedBackend {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.0.write(offset, data)
    }
    fn close(&self) -> Result<(), std::io::Error> {
        self.0.close()
    }
}
