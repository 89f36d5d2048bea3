//! Recorded sessions: which are recorded, their files, what is kept of them, and lists of them.
//!
//! A session is written to `<name>.mcrec.part`, private and locked; when it is whole it gets an end, for a desktop
//! also an index, and its name. What a stopped server left behind is mended when it starts again.

mod about;
mod blocks;
mod catalogue;
mod completion;
mod folder;
mod plan;
mod retention;
mod tape;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

pub use about::{About, Session};
pub use catalogue::Recording;
pub use folder::Folder;
pub use plan::{Asked, Plan, plan};
pub use retention::Removed;
pub use tape::{Tape, TapeError, Way};

use crate::config::{Config, SessionRecording};
use crate::model::{Directory, Event};

/// Ends of the names of recordings.
pub const SUFFIX: &str = ".mcrec";
/// What is behind that while they are written.
const PART: &str = ".part";

/// All recordings of this server.
pub struct Recordings {
    data_folder: PathBuf,
    usual: PathBuf,
    folders: Mutex<HashMap<PathBuf, Arc<Folder>>>,
    running: Mutex<Vec<Weak<Tape>>>,
    /// Indexes are made one after the other: they read the whole file.
    indexing: Arc<tokio::sync::Semaphore>,
}

/// Why there is no such recording, or it cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// No name of a recording, or none of this domain's.
    #[error("there is no such recording")]
    Unknown,
    /// The disk.
    #[error("the folder of recordings cannot be used: {0}")]
    Failed(#[from] std::io::Error),
}

impl Recordings {
    /// The recordings of a server with this configuration.
    pub fn new(config: &Config) -> Recordings {
        Recordings {
            data_folder: config.data_folder.clone(),
            usual: config.recordings_folder.clone(),
            folders: Mutex::default(),
            running: Mutex::default(),
            indexing: Arc::new(tokio::sync::Semaphore::new(1)),
        }
    }

    fn folder(&self, policy: &SessionRecording) -> Arc<Folder> {
        let path =
            policy.folder.as_ref().map_or_else(|| self.usual.clone(), |path| self.data_folder.join(path));
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        folders.entry(path.clone()).or_insert_with(|| Arc::new(Folder::new(path))).clone()
    }

    /// Begins a recording.
    ///
    /// # Errors
    /// [`TapeError`]; nothing is left behind then.
    pub async fn begin(
        &self,
        policy: Arc<SessionRecording>,
        session: Session,
    ) -> Result<Arc<Tape>, TapeError> {
        let folder = self.folder(&policy);
        let tape = Arc::new(Tape::begin(folder, policy, session, self.indexing.clone()).await?);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|tape| tape.strong_count() > 0);
        running.push(Arc::downgrade(&tape));
        Ok(tape)
    }

    /// Ends what is being recorded, for a server that stops.
    pub async fn finish_all(&self) {
        let running = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        for tape in running.iter().filter_map(Weak::upgrade) {
            let _ = tape.finish().await;
        }
    }

    /// The recordings of a domain, newest first.
    ///
    /// # Errors
    /// [`RecordingError::Failed`].
    pub async fn list(
        &self,
        policy: &SessionRecording,
        domain: &str,
    ) -> Result<Vec<Recording>, RecordingError> {
        let (folder, domain) = (self.folder(policy), domain.to_owned());
        blocking(move || {
            let mut found = folder.list()?;
            found.retain(|recording| recording.domain() == domain);
            Ok(found)
        })
        .await
    }

    /// The path of a recording of this domain, what it is, and what tells its content from another.
    ///
    /// # Errors
    /// [`RecordingError`].
    pub async fn find(
        &self,
        policy: &SessionRecording,
        domain: &str,
        name: &str,
    ) -> Result<(PathBuf, Recording), RecordingError> {
        let (folder, domain, name) = (self.folder(policy), domain.to_owned(), name.to_owned());
        blocking(move || {
            let found = folder.one(&name)?.filter(|recording| recording.domain() == domain);
            let recording = found.ok_or(RecordingError::Unknown)?;
            Ok((folder.path().join(&recording.name), recording))
        })
        .await
    }

    /// Removes a recording of this domain; returns what it was.
    ///
    /// # Errors
    /// [`RecordingError`].
    pub async fn remove(
        &self,
        policy: &SessionRecording,
        domain: &str,
        name: &str,
    ) -> Result<Recording, RecordingError> {
        let (path, recording) = self.find(policy, domain, name).await?;
        let folder = self.folder(policy);
        blocking(move || {
            std::fs::remove_file(path)?;
            folder.measure()?;
            Ok(recording)
        })
        .await
    }

    /// Drops what is too old or too much of a domain.
    ///
    /// # Errors
    /// [`RecordingError::Failed`].
    pub async fn retain(
        &self,
        policy: &SessionRecording,
        domain: &str,
    ) -> Result<Vec<Removed>, RecordingError> {
        let (folder, policy, domain) = (self.folder(policy), policy.clone(), domain.to_owned());
        blocking(move || Ok(retention::retain(&folder, &policy, &domain, 0)?)).await
    }

    /// Mends what a server left behind that did not stop by itself.
    ///
    /// # Errors
    /// [`RecordingError::Failed`].
    pub async fn recover(&self, policy: &SessionRecording) -> Result<Vec<Recording>, RecordingError> {
        let (folder, index) = (self.folder(policy), policy.index);
        blocking(move || Ok(completion::recover(&folder, index)?)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RecordingError> + Send + 'static,
) -> Result<T, RecordingError> {
    tokio::task::spawn_blocking(work).await.expect("work on recordings does not panic")
}

/// What the log says of a recording (tunnel-protocols §1.13).
pub fn finished_event(recording: &Recording, directory: &Directory) -> Event {
    let seconds = recording.length().map_or(0, |length| length.as_secs());
    let text = match recording.recovered {
        false => format!("Recorded a session of {seconds} s"),
        true => format!("Saved the recording of a session that was cut off after {seconds} s"),
    };
    let event = Event::new("relay", "recording", recording.domain()).with("msg", text);
    about_recording(event, recording, directory).to(["recording"])
}

/// What the log says when a recording is removed, and why.
pub fn removed_event(recording: &Recording, why: &str, directory: &Directory) -> Event {
    let event = Event::new("relay", "recordingremoved", recording.domain())
        .with("msg", format!("Removed the recording {}: {why}", recording.name));
    about_recording(event, recording, directory)
}

fn about_recording(event: Event, recording: &Recording, directory: &Directory) -> Event {
    let mut event = event.to(["*"]);
    for (field, value) in recording.fields(directory) {
        event = event.with(&field, value);
    }
    match recording.device().and_then(|id| directory.device(&id).cloned()) {
        Some(device) => event.to([device.id.as_str(), device.group.as_str()]),
        None => event,
    }
}

/// Whether a name can be that of a recording in its folder.
fn is_name(name: &str) -> bool {
    crate::files::FileName::parse(name).is_ok()
        && name.ends_with(SUFFIX)
        && Path::new(name).file_name().is_some()
}

/// Time between two times in Unix ms.
fn between(start: u64, end: u64) -> Duration {
    Duration::from_millis(end.saturating_sub(start))
}
