//! The store: typed records over an engine, with one writer and a snapshot in memory.
//!
//! Reads of people, groups and devices come from the [`Directory`] snapshot; everything else is read from
//! the engine. Writes are staged in order on the newest picture, committed in groups by one thread, and
//! only then become visible: what a client is told is done has reached the disk, and a failed write leaves
//! no trace.

mod engine;
mod pending;
mod redb_engine;
mod transaction;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use outpost_wire::id::{DeviceId, GroupId, UserGroupId, UserId};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::model::Directory;

pub use engine::{Engine, EventQuery, Op, PowerChange, StoreError};
use pending::Pending;
pub use redb_engine::{READS, RedbEngine, SCHEMA};
pub use transaction::Transaction;
use writer::{Head, Job, Writer};

/// File name of the embedded store in the data folder.
pub const FILE_NAME: &str = "outpost.redb";

/// When a write has to be on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Before the caller goes on: accounts, groups, rights, devices.
    Durable,
    /// Within 5 s; may be lost in a power cut, never torn: last-seen, power history, agents' log.
    Lazy,
}

/// The open store.
pub struct Store {
    engine: Arc<dyn Engine>,
    pending: Arc<Pending>,
    published: Arc<ArcSwap<Directory>>,
    head: Arc<Mutex<Head>>,
    writer: Writer,
}

impl Store {
    /// Opens the embedded store in a data folder.
    ///
    /// # Errors
    /// Any [`StoreError`]; the file is then as it was.
    pub fn open(folder: &Path) -> Result<Arc<Store>, StoreError> {
        Store::over(Arc::new(RedbEngine::open(&folder.join(FILE_NAME))?))
    }

    /// Opens a store over any engine and loads the directory.
    ///
    /// # Errors
    /// [`StoreError::Record`] names a record that cannot be understood.
    pub fn over(engine: Arc<dyn Engine>) -> Result<Arc<Store>, StoreError> {
        let directory = Arc::new(load(&*engine)?);
        let published = Arc::new(ArcSwap::new(directory.clone()));
        let head = Arc::new(Mutex::new(Head::new(directory)));
        let pending = Arc::new(Pending::default());
        let writer = Writer::start(engine.clone(), pending.clone(), published.clone(), head.clone());
        Ok(Arc::new(Store { engine, pending, published, head, writer }))
    }

    /// The newest committed picture of people, groups and devices.
    pub fn directory(&self) -> Arc<Directory> {
        self.published.load_full()
    }

    /// Changes records. `change` runs at once on the newest picture, other changes included that are still on
    /// their way to the disk; an error it returns abandons everything it staged.
    ///
    /// # Errors
    /// The error of `change`, or [`StoreError::Write`] when the disk refused: then nothing was changed.
    pub async fn write<T, E: From<StoreError>>(
        &self,
        durability: Durability,
        change: impl FnOnce(&mut Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let (value, done) = {
            let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
            let mut transaction = Transaction::new(head.directory.clone());
            let value = change(&mut transaction)?;
            let (ops, directory) = transaction.finish()?;
            if ops.is_empty() {
                return Ok(value);
            }
            let (done, waiting) = tokio::sync::oneshot::channel();
            head.directory = directory.clone();
            let job = Job { ops, directory, epoch: head.epoch, durability, done: Some(done) };
            // Sent under the lock, so the writer sees changes in the order they were staged.
            self.writer.send(job)?;
            (value, waiting)
        };
        done.await.map_err(|_| StoreError::Closed)??;
        Ok(value)
    }

    /// A side record by its id, e.g. `lcnode//…`.
    ///
    /// # Errors
    /// [`StoreError::Read`], or [`StoreError::Record`] when it is not of this shape.
    pub async fn get<T: DeserializeOwned + Send + 'static>(
        &self,
        id: String,
    ) -> Result<Option<T>, StoreError> {
        self.read(move |pending, engine| match pending.get(engine, &id)? {
            Some(json) => parse(&id, &json).map(Some),
            None => Ok(None),
        })
        .await
    }

    /// All side records whose id starts with a prefix.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn with_prefix<T: DeserializeOwned + Send + 'static>(
        &self,
        prefix: &'static str,
    ) -> Result<Vec<(String, T)>, StoreError> {
        self.read(move |pending, engine| {
            let found = pending.with_prefix(engine, prefix)?;
            found.into_iter().map(|(id, json)| parse(&id, &json).map(|record| (id, record))).collect()
        })
        .await
    }

    /// Events, newest first.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub async fn events(&self, query: EventQuery) -> Result<Vec<Map<String, Value>>, StoreError> {
        self.read(move |pending, engine| pending.events(engine, &query)).await
    }

    /// How many documents, events and power changes are on the disk, by the names that clients know.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub async fn counts(&self) -> Result<[(&'static str, u64); 3], StoreError> {
        self.read(|_, engine| engine.counts()).await
    }

    /// Power changes of a device since a moment (Unix ms), oldest first.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub async fn power(&self, device: &DeviceId, since: i64) -> Result<Vec<PowerChange>, StoreError> {
        let device = device.as_str().to_owned();
        self.read(move |pending, engine| pending.power(engine, &device, since)).await
    }

    /// The engine, for the offline commands that print what is stored.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// Writes everything that is still lazy and lets go of the file, whoever still holds this store: later
    /// calls get [`StoreError::Closed`].
    pub fn close(&self) {
        self.writer.close();
        self.engine.close();
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Pending, &dyn Engine) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (pending, engine) = (self.pending.clone(), self.engine.clone());
        tokio::task::spawn_blocking(move || work(&pending, &*engine)).await.map_err(|_| StoreError::Closed)?
    }
}

fn parse<T: DeserializeOwned>(id: &str, json: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(json)
        .map_err(|error| StoreError::Record { id: id.to_owned(), reason: error.to_string() })
}

fn load(engine: &dyn Engine) -> Result<Directory, StoreError> {
    let mut directory = Directory::default();
    for (id, json) in engine.with_prefix(UserId::PREFIX)? {
        directory.put_user(Arc::new(parse(&id, &json)?));
    }
    for (id, json) in engine.with_prefix(GroupId::PREFIX)? {
        directory.put_group(Arc::new(parse(&id, &json)?));
    }
    for (id, json) in engine.with_prefix(UserGroupId::PREFIX)? {
        directory.put_user_group(Arc::new(parse(&id, &json)?));
    }
    for (id, json) in engine.with_prefix(DeviceId::PREFIX)? {
        directory.put_device(Arc::new(parse(&id, &json)?));
    }
    Ok(directory)
}

#[cfg(test)]
mod tests;
