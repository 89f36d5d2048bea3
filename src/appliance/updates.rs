//! An update on its way: taken in, checked and installed by the helper, waiting for the restart. One at a time, and
//! everybody who looks sees how far it is.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::client::{Helper, HelperError};
use super::fetch::{FetchError, Fetched};
use super::protocol::{BundleName, Cause, Request, Status, StickName};
use super::staging::{Staged, StagingError, tidy};
use crate::clock;
use crate::config::{Places, Url};
use crate::model::{Event, User};
use crate::site::Site;

/// How long the state of the box is taken for what it is.
const FRESH: Duration = Duration::from_secs(10);

/// How far an update is. Times are Unix milliseconds.
#[allow(missing_docs, reason = "a variant\'s line says what its fields are")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Work {
    /// None is on its way.
    Idle,
    /// It comes in, by upload or from an address.
    Receiving { received: u64, total: Option<u64> },
    /// The helper is at it.
    Installing { percent: u8, step: String },
    /// It was not installed; what runs is untouched.
    Failed { code: &'static str, message: String, at: i64 },
    /// It starts with the next restart.
    Installed { version: String },
}

impl Work {
    fn is_busy(&self) -> bool {
        matches!(self, Work::Receiving { .. } | Work::Installing { .. })
    }
}

/// Why an update was not installed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// One is on its way already.
    #[error("Another update is on its way")]
    Busy,
    /// Somebody stopped it.
    #[error("The update was stopped")]
    Stopped,
    /// It broke off while it came in.
    #[error("The update did not arrive whole: {0}")]
    Upload(String),
    /// It could not be fetched.
    #[error("The update could not be fetched: {0}")]
    Fetch(#[from] FetchError),
    /// It could not be stored.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The helper says no.
    #[error(transparent)]
    Helper(#[from] HelperError),
}

impl UpdateError {
    /// The error for programs.
    pub fn code(&self) -> &'static str {
        match self {
            UpdateError::Busy | UpdateError::Helper(HelperError::Refused { code: Cause::Busy, .. }) => "busy",
            UpdateError::Stopped => "stopped",
            UpdateError::Upload(_) => "broken-off",
            UpdateError::Fetch(_) => "not-fetched",
            UpdateError::Staging(StagingError::TooLarge { .. })
            | UpdateError::Helper(HelperError::Refused { code: Cause::NoRoom, .. }) => "too-large",
            UpdateError::Staging(StagingError::Io(_)) => "storage",
            UpdateError::Helper(error) => match error {
                HelperError::NoBox => "no-box",
                HelperError::Broken(_) => "helper",
                HelperError::Refused { code, .. } => match code {
                    Cause::NotSigned => "not-signed",
                    Cause::OtherBoard => "other-board",
                    Cause::OtherVersion => "other-version",
                    Cause::Damaged => "damaged",
                    Cause::NoFile => "no-file",
                    Cause::Clock => "clock",
                    Cause::BadRequest | Cause::Busy | Cause::NoRoom | Cause::Failed => "refused",
                },
            },
        }
    }
}

/// The box as the server knows it.
pub struct Appliance {
    /// What root does.
    pub helper: Helper,
    staging: PathBuf,
    work: Mutex<(Work, CancellationToken)>,
    /// What the helper said last, and when.
    state: tokio::sync::Mutex<Option<(Instant, Status)>>,
}

impl Appliance {
    /// The box at these places. What an earlier server left in the staging folder is removed.
    pub fn new(places: &Places) -> Appliance {
        tidy(&places.staging);
        Appliance {
            helper: Helper::new(places.socket.clone()),
            staging: places.staging.clone(),
            work: Mutex::new((Work::Idle, CancellationToken::new())),
            state: tokio::sync::Mutex::default(),
        }
    }

    /// The state of the box; none where there is no box. It may be some seconds old, since asking costs a process, and
    /// as old as the installation that is running, during which the installer tells nothing.
    ///
    /// # Errors
    /// [`HelperError::Broken`], [`HelperError::Refused`].
    pub async fn state(&self) -> Result<Option<Status>, HelperError> {
        let mut last = self.state.lock().await;
        let installs = matches!(self.work(), Work::Installing { .. });
        if let Some((at, status)) = &*last
            && (installs || at.elapsed() < FRESH)
        {
            return Ok(Some(status.clone()));
        }
        let status = self.helper.status().await?;
        *last = status.clone().map(|status| (Instant::now(), status));
        Ok(status)
    }

    /// The state has changed: the helper is asked again.
    pub async fn forget(&self) {
        *self.state.lock().await = None;
    }

    /// How far an update is.
    pub fn work(&self) -> Work {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Stops an update that is still coming in. What is being installed cannot be stopped.
    pub fn stop(&self) {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).1.cancel();
    }

    fn set(&self, work: Work) {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).0 = work;
    }
}

/// The right to update, for one at a time. Who lets go of it before the end has failed.
pub struct Turn {
    site: Arc<Site>,
    /// Who asked; the box itself when nobody did.
    who: Option<Arc<User>>,
    stop: CancellationToken,
    is_over: bool,
}

impl Turn {
    /// Takes the turn.
    ///
    /// # Errors
    /// [`UpdateError::Busy`].
    pub fn take(site: &Arc<Site>, who: Option<Arc<User>>) -> Result<Turn, UpdateError> {
        let stop = CancellationToken::new();
        let mut work = site.appliance.work.lock().unwrap_or_else(PoisonError::into_inner);
        if work.0.is_busy() {
            return Err(UpdateError::Busy);
        }
        *work = (Work::Receiving { received: 0, total: None }, stop.clone());
        drop(work);
        Ok(Turn { site: site.clone(), who, stop, is_over: false })
    }

    /// Takes in what comes in pieces, and installs it.
    ///
    /// # Errors
    /// [`UpdateError`]; nothing was changed then.
    pub async fn of_pieces<F, Fut>(
        self,
        total: Option<u64>,
        version: Option<String>,
        mut next: F,
    ) -> Result<String, UpdateError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<Option<bytes::Bytes>, UpdateError>>,
    {
        let taken = async {
            let mut staged = Staged::begin(&self.site.appliance.staging, total).await?;
            loop {
                let bytes = tokio::select! {
                    () = self.stop.cancelled() => return Err(UpdateError::Stopped),
                    bytes = next() => bytes?,
                };
                let Some(bytes) = bytes else { break };
                let received = staged.take(&bytes).await?;
                self.site.appliance.set(Work::Receiving { received, total });
            }
            let name = staged.finish().await?;
            Ok((staged, name))
        };
        match taken.await {
            Ok((staged, file)) => {
                let done = self.install(Request::Install { file, version }).await;
                drop(staged);
                done
            }
            Err(error) => self.end(Err(error)).await,
        }
    }

    /// Fetches from an address, and installs.
    ///
    /// # Errors
    /// [`UpdateError`]; nothing was changed then.
    pub async fn of_url(self, url: &Url, version: Option<String>) -> Result<String, UpdateError> {
        let fetched = tokio::select! {
            () = self.stop.cancelled() => Err(UpdateError::Stopped),
            fetched = Fetched::get(url) => fetched.map_err(UpdateError::from),
        };
        match fetched {
            Ok(fetched) => {
                let total = fetched.length;
                let fetched = Arc::new(tokio::sync::Mutex::new(fetched));
                let next = || {
                    let fetched = fetched.clone();
                    async move { Ok(fetched.lock().await.next().await?) }
                };
                self.of_pieces(total, version, next).await
            }
            Err(error) => self.end(Err(error)).await,
        }
    }

    /// Installs from a stick.
    ///
    /// # Errors
    /// [`UpdateError`]; nothing was changed then.
    pub async fn of_stick(self, stick: StickName, file: BundleName) -> Result<String, UpdateError> {
        self.install(Request::InstallFromStick { stick, file }).await
    }

    async fn install(self, request: Request) -> Result<String, UpdateError> {
        let appliance = &self.site.appliance;
        appliance.set(Work::Installing { percent: 0, step: String::new() });
        let installed = appliance
            .helper
            .install(&request, |progress| {
                appliance.set(Work::Installing { percent: progress.percent, step: progress.step });
            })
            .await;
        self.end(installed.map_err(UpdateError::from)).await
    }

    async fn end(mut self, outcome: Result<String, UpdateError>) -> Result<String, UpdateError> {
        self.is_over = true;
        let (work, text) = match &outcome {
            Ok(version) => (
                Work::Installed { version: version.clone() },
                format!("Update to {version} installed; it runs after a restart"),
            ),
            Err(UpdateError::Stopped) => (Work::Idle, "Update stopped".to_owned()),
            Err(error) => {
                let work =
                    Work::Failed { code: error.code(), message: error.to_string(), at: clock::now_ms() };
                (work, format!("Update failed: {error}"))
            }
        };
        self.site.appliance.set(work);
        self.site.appliance.forget().await;
        note(&self.site, self.who.as_deref(), text).await;
        outcome
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_over {
            let message = UpdateError::Upload("the connection was closed".into()).to_string();
            self.site.appliance.set(Work::Failed { code: "broken-off", message, at: clock::now_ms() });
        }
    }
}

/// Keeps in the event log what was done with the box.
pub async fn note(site: &Site, who: Option<&User>, text: String) {
    log::info!("{text}");
    let event = Event::new("server", "box", "").with("msg", text).to(["*"]);
    let event = match who {
        Some(user) => event.by(user),
        None => event,
    };
    site.events.announce(event).await;
}
