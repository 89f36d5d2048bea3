//! Logging: to the journal under systemd, with fields; to stderr otherwise.

use std::io::Write as _;

use log::{LevelFilter, Log, Metadata, Record};

/// Areas that `--debug` may name; `*` is all of them.
pub const AREAS: [&str; 5] = ["agent", "session", "relay", "auth", "web"];

/// Starts logging. `debug` names the areas whose details are wanted.
///
/// Returns the names that are no areas.
pub fn start(debug: &[String]) -> Vec<String> {
    let all = debug.iter().any(|area| area == "*" || area.eq_ignore_ascii_case("true"));
    let wanted: Vec<String> = debug.iter().map(|area| area.to_ascii_lowercase()).collect();
    let unknown = wanted.iter().filter(|area| !all && !AREAS.contains(&area.as_str())).cloned().collect();
    let filter = Filter { all, areas: wanted };
    let journal =
        systemd_journal_logger::connected_to_journal().then(systemd_journal_logger::JournalLog::new);
    let logger: Box<dyn Log> = match journal {
        Some(Ok(journal)) => Box::new(Filtered { filter, inner: Output::Journal(journal) }),
        _ => Box::new(Filtered { filter, inner: Output::Stderr }),
    };
    // In tests a logger may be there already.
    if log::set_boxed_logger(logger).is_ok() {
        log::set_max_level(if debug.is_empty() { LevelFilter::Info } else { LevelFilter::Debug });
    }
    unknown
}

struct Filter {
    all: bool,
    areas: Vec<String>,
}

impl Filter {
    fn lets_through(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        let area = target.strip_prefix("outpost::").unwrap_or(target).split("::").next().unwrap_or_default();
        let ours = target.starts_with("outpost") || AREAS.contains(&target);
        match metadata.level() {
            log::Level::Error => true,
            // MeshAgent sends addresses as TLS server names, which rustls would warn of each time.
            log::Level::Warn => ours || !target.starts_with("rustls"),
            log::Level::Info => ours,
            _ => ours && (self.all || self.areas.iter().any(|wanted| area.starts_with(wanted.as_str()))),
        }
    }
}

enum Output {
    Journal(systemd_journal_logger::JournalLog),
    Stderr,
}

struct Filtered {
    filter: Filter,
    inner: Output,
}

impl Log for Filtered {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.lets_through(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        match &self.inner {
            Output::Journal(journal) => journal.log(record),
            Output::Stderr => {
                let level = record.level().as_str().to_ascii_lowercase();
                // Control characters of a peer must not reach a terminal.
                let text: String =
                    record.args().to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                // Nobody may be listening any more.
                let _ = writeln!(std::io::stderr().lock(), "{level:5} {text}");
            }
        }
    }

    fn flush(&self) {}
}
