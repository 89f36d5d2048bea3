//! A download from a device: a session of files that has an HTTP answer at its other end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::journal::Journal;
use super::recorder;
use super::{Half, Side};
use crate::recordings::{Plan, Tape, TapeError, Way};
use crate::site::Site;

/// A download going on: in the log, in the list of who is connected, and on tape where it has to be. It ends when
/// it is dropped, however that comes.
pub struct DownloadSession {
    site: Arc<Site>,
    tape: Option<Arc<Tape>>,
    journal: Option<Journal>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl DownloadSession {
    /// Begins one, recorded when files of this device are recorded for this viewer.
    ///
    /// # Errors
    /// When it has to be recorded and cannot be.
    pub async fn begin(site: &Arc<Site>, viewer: Half, agent: &Half) -> Result<DownloadSession, TapeError> {
        let plan = match (&viewer.side, &viewer.device) {
            (Side::Viewer(who), Some(device)) => recorder::plan(site, who, device, &viewer.purpose),
            _ => Plan::Free,
        };
        let journal = Journal::new(site, &viewer, agent);
        let tape = match recorder::begin(site, plan, &viewer, agent).await {
            Ok(tape) => tape,
            Err(error) => {
                journal.unrecorded(&error).await;
                return Err(error);
            }
        };
        journal.begin().await;
        let (bytes_in, bytes_out) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(DownloadSession { site: site.clone(), tape, journal: Some(journal), bytes_in, bytes_out })
    }

    /// The word that begins the session.
    pub fn joined(&self) -> &'static str {
        match self.tape {
            Some(_) => outpost_wire::tunnel::JOINED_RECORDED,
            None => outpost_wire::tunnel::JOINED,
        }
    }

    /// Counts a message, and writes it down.
    ///
    /// # Errors
    /// When it has to be written down and cannot be, and the download may not go on.
    pub async fn message(&self, way: Way, binary: bool, bytes: &[u8]) -> Result<(), TapeError> {
        let counter = match way {
            Way::FromViewer => &self.bytes_in,
            Way::FromDevice => &self.bytes_out,
        };
        counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        match &self.tape {
            Some(tape) => tape.message(way, binary, bytes).await,
            None => Ok(()),
        }
    }

    /// Returns when the server stops.
    pub async fn stopped(&self) {
        self.site.relay.stopped().await;
    }
}

impl Drop for DownloadSession {
    fn drop(&mut self) {
        recorder::finish(&self.site, self.tape.take());
        let Some(journal) = self.journal.take() else { return };
        let (bytes_in, bytes_out) = (*self.bytes_in.get_mut(), *self.bytes_out.get_mut());
        tokio::spawn(async move { journal.ended(bytes_in, bytes_out).await });
    }
}
