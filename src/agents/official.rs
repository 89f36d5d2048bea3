//! The official agents as the server uses them: the bundle, its cores, and how many are updated at a time.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use outpost_wire::id::{DeviceId, Hash384};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::bundle::CurrentBundle;
use super::core::Cores;

/// Executables sent at the same time: each keeps a block in memory and a small box's network busy.
const UPDATES_AT_ONCE: usize = 8;
/// An agent is sent the same executable so often in [`UPDATE_WINDOW`] and then left as it is, since it would
/// come back as the old one for ever.
const UPDATE_TRIES: u32 = 3;
const UPDATE_WINDOW: Duration = Duration::from_secs(24 * 3600);
/// Devices whose updates are counted.
const UPDATES_COUNTED: usize = 16_384;

/// The official agents.
#[derive(Debug)]
pub struct Official {
    /// The bundle in use.
    pub bundle: CurrentBundle,
    /// Held while an archive is made for a download: one at a time.
    pub packing: tokio::sync::Mutex<()>,
    pub(super) cores: Cores,
    pub(super) updates: Arc<Semaphore>,
    tried: Mutex<HashMap<(DeviceId, Hash384), (Instant, u32)>>,
}

impl Official {
    /// The official agents of a data folder.
    pub fn new(data_folder: &Path) -> Official {
        Official {
            bundle: CurrentBundle::new(data_folder),
            packing: tokio::sync::Mutex::default(),
            cores: Cores::default(),
            updates: Arc::new(Semaphore::new(UPDATES_AT_ONCE)),
            tried: Mutex::default(),
        }
    }

    /// Whether a device may be sent this executable now; counts that it is.
    pub(super) fn may_update(&self, device: &DeviceId, executable: Hash384) -> bool {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if tried.len() >= UPDATES_COUNTED {
            tried.retain(|_, (since, _)| now.duration_since(*since) < UPDATE_WINDOW);
        }
        let (since, count) = tried.entry((device.clone(), executable)).or_insert((now, 0));
        if now.duration_since(*since) >= UPDATE_WINDOW {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= UPDATE_TRIES
    }
}
