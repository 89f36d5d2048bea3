//! `outpost box`: the box on its own command line, for root, and the helper that does for the server what only root may.

use std::io::{BufRead as _, Read as _, Write as _};
use std::path::Path;

use super::refuse;
use crate::appliance::client::{Helper, HelperError};
use crate::appliance::facts;
use crate::appliance::fetch::Fetched;
use crate::appliance::helper::{self, Machine};
use crate::appliance::protocol::{Outcome, Progress, Request, Status};
use crate::appliance::staging::Staged;
use crate::config::{Places, Url};

/// Bytes of a file that are read at a time.
const PIECE: usize = 64 << 10;

/// What is to be done with the box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoxCommand {
    /// One request of the server's, on standard input and output. Started by `outpost-box.socket`.
    Serve,
    /// What runs, and what became of the last update.
    Status,
    /// Install this file, or what is at this address.
    Update(String),
    /// Restart.
    Restart,
    /// Switch off.
    Off,
    /// Restart without any data.
    Reset,
}

/// Does it.
///
/// # Errors
/// In words for the administrator.
pub fn run(command: &BoxCommand) -> anyhow::Result<()> {
    if *command == BoxCommand::Serve {
        crate::logging::start(&[]);
        helper::serve(std::io::stdin(), &mut std::io::stdout(), &Machine::this());
        return Ok(());
    }
    let places = Places::default();
    let helper = Helper::new(places.socket);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(perform(command, &helper, &places.staging))
}

async fn perform(command: &BoxCommand, helper: &Helper, staging: &Path) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    match command {
        BoxCommand::Serve => {}
        BoxCommand::Status => {
            let status = helper.status().await?.ok_or(HelperError::NoBox)?;
            write!(out, "{}", description(&status))?;
        }
        BoxCommand::Update(from) => {
            // Before anything is fetched for nothing.
            helper.status().await?.ok_or(HelperError::NoBox)?;
            let mut staged = if from.contains("://") {
                fetched(&Url::parse(from)?, staging).await?
            } else {
                copied(Path::new(from), staging).await?
            };
            let file = staged.finish().await?;
            let mut last = String::new();
            let report = |Progress { percent, step }: Progress| {
                let line = format!("{percent:>3} % {step}");
                if line != last {
                    // Whoever reads this may be gone; the installation goes on.
                    let _ = writeln!(std::io::stdout(), "{line}");
                    last = line;
                }
            };
            let version = helper.install(&Request::Install { file, version: None }, report).await?;
            writeln!(out, "{version} is installed. `outpost box restart` starts it.")?;
        }
        BoxCommand::Restart => helper.perform(&Request::Restart).await?,
        BoxCommand::Off => helper.perform(&Request::PowerOff).await?,
        BoxCommand::Reset => {
            let name = facts::host_name();
            write!(
                out,
                "All accounts, devices, settings and files of this box will be gone, and it restarts as it came.\n\
                 Type its name, {name}, to go on: "
            )?;
            out.flush()?;
            let mut line = String::new();
            std::io::stdin().lock().take(256).read_line(&mut line)?;
            if line.trim() != name {
                return Err(refuse("Nothing was changed."));
            }
            helper.perform(&Request::FactoryReset).await?;
        }
    }
    Ok(())
}

async fn copied(from: &Path, staging: &Path) -> anyhow::Result<Staged> {
    let unreadable = |error| refuse(format!("{} cannot be read: {error}", from.display()));
    let mut file = std::fs::File::open(from).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let mut staged = Staged::begin(staging, Some(length)).await?;
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece).map_err(unreadable)?;
        if read == 0 {
            return Ok(staged);
        }
        staged.take(&piece[..read]).await?;
    }
}

async fn fetched(url: &Url, staging: &Path) -> anyhow::Result<Staged> {
    let mut fetched = Fetched::get(url).await?;
    let mut staged = Staged::begin(staging, fetched.length).await?;
    while let Some(bytes) = fetched.next().await? {
        staged.take(&bytes).await?;
    }
    Ok(staged)
}

/// The state of the box for people.
fn description(status: &Status) -> String {
    let mut text = format!("{}, slot {}", status.compatible, status.booted);
    if !status.confirmed {
        text += " (not yet found well)";
    }
    text.push('\n');
    for slot in &status.slots {
        let version = slot.version.as_deref().unwrap_or("unknown release");
        let tries = slot.tries_left.map_or(String::new(), |left| format!(", {left} tries left"));
        text += &format!("  slot {}: {version}{tries}\n", slot.slot);
    }
    match &status.outcome {
        Some(Outcome::Waiting { version }) => {
            text += &format!("{version} is installed and waits for a restart\n")
        }
        Some(Outcome::Updated { version, from, .. }) => {
            text += &format!("updated from {from} to {version}\n")
        }
        Some(Outcome::RolledBack { version, to, reason, .. }) => {
            let reason = reason.as_deref().unwrap_or("it did not start");
            text += &format!("went back from {version} to {to}: {reason}\n");
        }
        None => {}
    }
    if status.installing {
        text += "an installation is running\n";
    }
    for incident in &status.incidents {
        text += &format!("{}\n", incident.sentence);
    }
    text
}
