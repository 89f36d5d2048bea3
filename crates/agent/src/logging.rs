//! Where log lines go: the journal under systemd, standard error elsewhere.

use std::io::Write;

use log::{LevelFilter, Log, Metadata, Record};

/// Installs the logger for the whole process.
///
/// # Errors
/// When a logger is installed already, or the journal's socket is not there.
pub fn start(level: LevelFilter) -> Result<(), String> {
    if systemd_journal_logger::connected_to_journal() {
        systemd_journal_logger::JournalLog::new()
            .map_err(|error| format!("connecting to the journal: {error}"))?
            .with_syslog_identifier("outpost-agent".into())
            .install()
            .map_err(|error| error.to_string())?;
    } else {
        log::set_boxed_logger(Box::new(StderrLog)).map_err(|error| error.to_string())?;
    }
    log::set_max_level(level);
    Ok(())
}

struct StderrLog;

impl Log for StderrLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("outpost") || metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // A closed standard error is no reason to end.
            let _ = writeln!(std::io::stderr().lock(), "{:5} {}", record.level(), record.args());
        }
    }

    fn flush(&self) {}
}
