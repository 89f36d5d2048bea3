//! Where log lines go: the journal under systemd, standard error elsewhere; the last ones are kept for the console.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Mutex;

use log::{LevelFilter, Log, Metadata, Record};

/// Lines kept, and their longest length in bytes: together 64 KiB at most.
const MOST_KEPT: usize = 200;
const LONGEST_KEPT: usize = 320;

static RECENT: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// The last lines of this process's log, the newest at the end.
pub fn recent(count: usize) -> Vec<String> {
    let lines = RECENT.lock().expect("no holder panics");
    lines.iter().skip(lines.len().saturating_sub(count)).cloned().collect()
}

fn keep(record: &Record<'_>) {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let time = outpost_wire::files::utc(i64::try_from(now).unwrap_or(0));
    let mut line = format!("{time} {:5} {}", record.level(), record.args());
    line.truncate(line.floor_char_boundary(LONGEST_KEPT));
    let mut lines = RECENT.lock().expect("no holder panics");
    if lines.len() >= MOST_KEPT {
        lines.pop_front();
    }
    lines.push_back(line);
}

/// Keeps what another logger writes.
struct Kept(Box<dyn Log>);

impl Log for Kept {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            keep(record);
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// Installs the logger for the whole process.
///
/// # Errors
/// When a logger is installed already, or the journal's socket is not there.
pub fn start(level: LevelFilter) -> Result<(), String> {
    let logger: Box<dyn Log> = if systemd_journal_logger::connected_to_journal() {
        let journal = systemd_journal_logger::JournalLog::new()
            .map_err(|error| format!("connecting to the journal: {error}"))?;
        Box::new(journal.with_syslog_identifier("outpost-agent".into()))
    } else {
        Box::new(StderrLog)
    };
    log::set_boxed_logger(Box::new(Kept(logger))).map_err(|error| error.to_string())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_no_more() {
        let logger = Kept(Box::new(StderrLog));
        for number in 0..MOST_KEPT + 50 {
            let long = "é".repeat(LONGEST_KEPT);
            logger
                .log(&Record::builder().target("outpost").args(format_args!("line {number} {long}")).build());
        }
        let lines = recent(usize::MAX);
        assert_eq!(lines.len(), MOST_KEPT);
        assert!(lines.iter().all(|line| line.len() <= LONGEST_KEPT));
        assert!(recent(1)[0].contains(&format!("line {}", MOST_KEPT + 49)));
    }
}
