//! `outpost export` and `outpost import`: a copy of everything as one file, while the server is stopped.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use super::refuse;
use crate::backup::{self, Source};
use crate::config::Config;
use crate::store::{FILE_NAME, RedbEngine};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyCommand {
    /// Write everything to this file.
    Export(String),
    /// Take everything from this file.
    Import(String),
}

/// Does it and prints the outcome.
///
/// # Errors
/// In words for the administrator.
pub fn run(command: &CopyCommand, config: &Config) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    match command {
        CopyCommand::Export(path) => {
            let store = config.data_folder.join(FILE_NAME);
            if !store.exists() {
                let folder = config.data_folder.display();
                return Err(refuse(format!("there is no store in {folder}; is this the right --datapath?")));
            }
            let engine = std::sync::Arc::new(RedbEngine::open(&store)?);
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            let file = file.map_err(|error| refuse(format!("{path} cannot be made: {error}")))?;
            let written = Source::new(config, engine, true).write(BufWriter::new(&file));
            if let Err(error) = written.map_err(anyhow::Error::from).and_then(|()| Ok(file.sync_all()?)) {
                // Half a copy must not be taken for one.
                let _ = std::fs::remove_file(path);
                return Err(error);
            }
            writeln!(out, "{path} holds everything, secrets included: keep it where you keep passwords.")?;
        }
        CopyCommand::Import(path) => {
            let file = File::open(path).map_err(|error| refuse(format!("{path} cannot be read: {error}")))?;
            let version = backup::restore(config, BufReader::new(file))
                .map_err(|error| refuse(format!("{error}\nNothing was taken.")))?;
            writeln!(out, "Everything of the copy is in place; it was made by Outpost {version}.")?;
            writeln!(out, "What was here before is in folders `replaced-…` inside the data folders.")?;
        }
    }
    Ok(())
}
