//! The agent's own console: a small set of commands for looking at a device without a terminal.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::agent::Context;
use crate::{hardware, host, logins, network, processes};

/// Browser sessions whose folder is remembered.
const MAX_FOLDERS: usize = 64;
/// Longest answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// Entries of a folder shown.
const MAX_ENTRIES: usize = 1000;

const HELP: &str = "\
Commands of this agent:
  help              this list
  info              agent, server and device
  osinfo            operating system and kernel
  netinfo           network interfaces
  sysinfo           hardware inventory
  users             who is logged in
  uptime            time since boot and load
  ps                processes
  kill <pid>        end a process
  ls [folder]       list a folder
  cd [folder]       change or show the folder of this console
  tunnels           open tunnels
For anything else open a terminal or run a command.";

/// The folder of each browser session.
#[derive(Debug, Default)]
pub struct Console {
    folders: Mutex<HashMap<String, PathBuf>>,
}

impl Console {
    /// Carries out one line of `session` and returns the answer.
    pub fn run(&self, context: &Context, session: &str, line: &str) -> String {
        let mut words = line.splitn(2, char::is_whitespace);
        let command = words.next().unwrap_or_default().to_ascii_lowercase();
        let argument = words.next().unwrap_or_default().trim().trim_matches('"');
        let mut answer = match command.as_str() {
            "" | "help" | "?" => HELP.to_owned(),
            "info" => info(context),
            "osinfo" => format!("{}\nLinux {} ({})", host::system(), host::kernel(), std::env::consts::ARCH),
            "netinfo" => network::summary(&network::interfaces()),
            "sysinfo" => hardware::inventory().0.to_string(),
            "users" => match logins::users() {
                users if users.is_empty() => "nobody is logged in".to_owned(),
                users => users.join("\n"),
            },
            "uptime" => uptime(),
            "ps" => processes(),
            "kill" => match processes::end(argument) {
                Ok(pid) => format!("process {pid} ended"),
                Err(error) => error.to_string(),
            },
            "ls" => list(&self.resolve(session, argument)),
            "cd" => self.change(session, argument),
            "tunnels" => context.tunnels.terminals().to_json(),
            _ => format!("unknown command {command:?}; \"help\" lists what there is"),
        };
        if answer.len() > MAX_ANSWER {
            answer.truncate(answer.floor_char_boundary(MAX_ANSWER));
            answer.push_str("\n[cut]");
        }
        answer
    }

    fn resolve(&self, session: &str, argument: &str) -> PathBuf {
        let folders = self.folders.lock().expect("no holder panics");
        let current = folders.get(session).cloned().unwrap_or_else(|| PathBuf::from("/"));
        current.join(argument)
    }

    fn change(&self, session: &str, argument: &str) -> String {
        let target = self.resolve(session, argument);
        match target.canonicalize() {
            Ok(path) if path.is_dir() => {
                let mut folders = self.folders.lock().expect("no holder panics");
                if folders.len() >= MAX_FOLDERS && !folders.contains_key(session) {
                    folders.clear();
                }
                folders.insert(session.to_owned(), path.clone());
                path.display().to_string()
            }
            Ok(path) => format!("{} is not a folder", path.display()),
            Err(error) => format!("{}: {error}", target.display()),
        }
    }
}

fn info(context: &Context) -> String {
    let settings = &context.settings;
    let mut text = format!("Outpost agent {}\n", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(text, "host name: {}", host::name());
    let _ = writeln!(text, "device: {}", context.identity.node().to_base64x());
    let _ = writeln!(text, "group: {}", settings.group.to_base64x());
    let _ = writeln!(text, "server id: {}", settings.server_id.to_hex());
    let _ = writeln!(text, "runs as root: {}", if host::is_root() { "yes" } else { "no" });
    let _ = write!(text, "consent rules of this device: {}", settings.local_consent);
    text
}

fn uptime() -> String {
    let seconds = host::uptime_seconds().unwrap_or(0);
    let load = host::read_line("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    format!("up {days} d {hours} h {minutes} min, load {}", load.join(" "))
}

fn processes() -> String {
    let mut text = String::new();
    for process in processes::list() {
        let _ = writeln!(text, "{:>7} {:<12} {}", process.pid, process.user, process.command);
    }
    text
}

fn list(folder: &Path) -> String {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return format!("{}: {error}", folder.display()),
    };
    let mut lines: Vec<String> = entries
        .flatten()
        .take(MAX_ENTRIES)
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            match entry.metadata() {
                Ok(data) if data.is_dir() => format!("{:>14}  {name}/", ""),
                Ok(data) => format!("{:>14}  {name}", data.len()),
                Err(_) => format!("{:>14}  {name}", "?"),
            }
        })
        .collect();
    lines.sort_by(|one, two| one[14..].cmp(&two[14..]));
    format!("{}\n{}", folder.display(), lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_session_has_its_own_folder_and_they_do_not_pile_up() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().canonicalize().expect("path");
        fs::write(path.join("note.txt"), b"12345").expect("write");
        let console = Console::default();
        assert_eq!(console.change("one", path.to_str().expect("text")), path.display().to_string());
        assert!(list(&console.resolve("one", "")).contains("5  note.txt"));
        assert_eq!(console.resolve("two", ""), PathBuf::from("/"));
        assert!(console.change("one", "missing").contains("missing"));
        for session in 0..500 {
            console.change(&session.to_string(), "/");
        }
        assert!(console.folders.lock().expect("lock").len() <= MAX_FOLDERS);
    }
}
