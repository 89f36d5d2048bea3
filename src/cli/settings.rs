//! The settings on the box's card, taken over at its start.

use std::io::{Read as _, Write as _};
use std::path::Path;

use crate::appliance::settings::{self, Request, Root, ThisBox};

/// Where the boot partition is mounted.
const BOOT: &str = "/boot/firmware";
/// Largest request that the second process reads, in bytes: a file of settings, written as JSON.
const LARGEST: u64 = 1 << 20;

/// What is to be done with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingsCommand {
    /// All of it, as root.
    Apply,
    /// The part that is the server's, as its user: the request comes on standard input. Started by the other one.
    TakeOver,
}

/// Does it; gives the exit code. A mistake in the file is no failure: the box starts all the same.
///
/// # Errors
/// What stops it, in words for the administrator.
pub fn run(command: SettingsCommand, data_folder: Option<&str>) -> anyhow::Result<i32> {
    let mut out = std::io::stdout().lock();
    match command {
        SettingsCommand::Apply => {
            let outcome = settings::apply(&Root::new("/"), &ThisBox { boot: BOOT.into() });
            for name in &outcome.taken {
                writeln!(out, "outpost.toml: {name} was taken over")?;
            }
            for problem in &outcome.problems {
                // <4> is a warning to the journal.
                writeln!(out, "<4>outpost.toml, {problem}")?;
            }
        }
        SettingsCommand::TakeOver => {
            let folder = data_folder.ok_or_else(|| super::refuse("--datapath is missing"))?;
            let mut json = Vec::new();
            std::io::stdin().take(LARGEST).read_to_end(&mut json)?;
            let request: Request = serde_json::from_slice(&json)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let problems = runtime.block_on(settings::take_over(Path::new(folder), request));
            serde_json::to_writer(&mut out, &problems)?;
        }
    }
    out.flush()?;
    Ok(0)
}
