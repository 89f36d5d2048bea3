//! The agent's own console: a small set of commands for looking at a device without a terminal.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use outpost_wire::message::SessionKind;

use crate::agent::Context;
use crate::{hardware, host, logins, network, processes};

/// Browser sessions whose folder is remembered.
const MAX_FOLDERS: usize = 64;
/// Longest answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// Entries of a folder shown.
const MAX_ENTRIES: usize = 1000;

/// Lines of the log shown when no number is given.
const LOG_LINES: usize = 30;
/// File systems shown.
const MAX_DISKS: usize = 100;

const HELP: &str = "\
Commands of this agent:
  help              this list
  info              agent, server and device
  osinfo            operating system and kernel
  netinfo           network interfaces
  sysinfo           hardware inventory
  users             who is logged in
  accounts          accounts and shells of the device
  uptime            time since boot and load
  mem               memory in use
  df                file systems and what is free on them
  ps [text]         processes, or those with the text in them
  kill <pid>        end a process
  services [text]   services that run
  ls [folder]       list a folder
  cd [folder]       change or show the folder of this console
  pwd               the folder of this console
  cat <file>        show a text file, up to 64 KiB of it
  tunnels           open tunnels
  log [lines]       the last lines of this agent's log
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
            "mem" => memory(),
            "df" => disks(),
            "accounts" => accounts(),
            "ps" => processes(argument),
            "kill" => match processes::end(argument) {
                Ok(pid) => format!("process {pid} ended"),
                Err(error) => error.to_string(),
            },
            "services" => services(argument),
            "pwd" => self.resolve(session, "").display().to_string(),
            "cat" => show(&self.resolve(session, argument)),
            "log" => crate::logging::recent(argument.parse().unwrap_or(LOG_LINES)).join("\n"),
            "ls" => list(&self.resolve(session, argument)),
            "cd" => self.change(session, argument),
            "tunnels" => tunnels(context),
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

fn tunnels(context: &Context) -> String {
    [SessionKind::Kvm, SessionKind::Terminal, SessionKind::Files, SessionKind::Tcp, SessionKind::Udp]
        .map(|kind| context.tunnels.counts(kind).to_json())
        .join("\n")
}

fn uptime() -> String {
    let seconds = host::uptime_seconds().unwrap_or(0);
    let load = host::read_line("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    format!("up {days} d {hours} h {minutes} min, load {}", load.join(" "))
}

fn processes(text: &str) -> String {
    let mut found = String::new();
    for process in processes::list() {
        if process.command.contains(text) || process.user == text {
            let _ = writeln!(found, "{:>7} {:<12} {}", process.pid, process.user, process.command);
        }
    }
    if found.is_empty() { "no such process".to_owned() } else { found }
}

fn services(text: &str) -> String {
    let names = crate::services::running();
    let names = names.iter().filter_map(|service| service["name"].as_str());
    let found: Vec<&str> = names.filter(|name| name.contains(text)).collect();
    if found.is_empty() {
        "no such service runs, or there is no systemd here".to_owned()
    } else {
        found.join("\n")
    }
}

fn accounts() -> String {
    let around = crate::surroundings::describe(None, None, None);
    let listed = |field: &str| {
        let list = around[field].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(|one| one.as_str()).collect::<Vec<_>>().join(", ")
    };
    format!("accounts: {}\nshells:   {}", listed("accounts"), listed("shells"))
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (bytes.max(1).ilog2() / 10).min(4);
    #[allow(clippy::cast_precision_loss)] // one digit behind the point
    let number = bytes as f64 / f64::from(1u32 << (10 * unit.min(3))) / if unit == 4 { 1024.0 } else { 1.0 };
    if unit == 0 { format!("{bytes} B") } else { format!("{number:.1} {}", UNITS[unit as usize]) }
}

fn memory() -> String {
    let kib = |name: &str| hardware::meminfo(name).unwrap_or(0) << 10;
    let (total, available) = (kib("MemTotal"), kib("MemAvailable"));
    let (swap, free) = (kib("SwapTotal"), kib("SwapFree"));
    format!(
        "memory: {} of {} in use, {} available\nswap:   {} of {} in use",
        size(total.saturating_sub(available)),
        size(total),
        size(available),
        size(swap.saturating_sub(free)),
        size(swap)
    )
}

/// File systems with a device behind them, each once.
fn disks() -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut text = format!("{:>11} {:>11} {:>5}  file system", "size", "free", "used");
    let mut seen = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(device), Some(place)) = (fields.next(), fields.next()) else { continue };
        if !device.starts_with('/') || seen.contains(&device) || seen.len() >= MAX_DISKS {
            continue;
        }
        seen.push(device);
        // Spaces and the like stand as octal numbers there.
        let place = place.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
        let Ok(disk) = nix::sys::statvfs::statvfs(place.as_str()) else { continue };
        #[allow(clippy::unnecessary_cast)] // 32 bits wide on small systems
        let [all, free] = [disk.blocks(), disk.blocks_available()]
            .map(|blocks| blocks as u64 * disk.fragment_size() as u64);
        let used = (all.saturating_sub(free) * 100).checked_div(all).unwrap_or(0);
        let _ = write!(text, "\n{:>11} {:>11} {used:>4}%  {place} ({device})", size(all), size(free));
    }
    text
}

/// The beginning of a text file. Others would only make noise.
fn show(path: &Path) -> String {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    // Neither waits for the other end of a pipe.
    let file = fs::File::options().read(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits()).open(path);
    let file = match file {
        Ok(file) if file.metadata().is_ok_and(|kind| kind.is_file()) => file,
        Ok(_) => return format!("{} is not an ordinary file", path.display()),
        Err(error) => return failed(error),
    };
    let mut bytes = Vec::new();
    match file.take(MAX_ANSWER as u64 + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.contains(&0) => format!("{} is no text file", path.display()),
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => failed(error),
    }
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

    #[test]
    fn what_is_asked_is_answered_as_a_person_reads_it() {
        assert_eq!(
            [0, 1023, 1024, 1_572_864, 3 << 30, 5 << 40, u64::MAX].map(size)[..6],
            ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "3.0 GiB", "5.0 TiB"]
        );
        assert!(memory().contains("available"));
        assert!(disks().contains("file system"));
        assert!(processes("outpost_agent").contains(&std::process::id().to_string()));
        assert_eq!(processes("no such thing runs anywhere"), "no such process");
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join("text"), "hello\n").expect("written");
        fs::write(folder.path().join("noise"), [0, 1, 2]).expect("written");
        assert_eq!(show(&folder.path().join("text")), "hello\n");
        assert!(show(&folder.path().join("noise")).ends_with("no text file"));
        assert!(show(Path::new("/dev/zero")).ends_with("not an ordinary file"));
        assert!(show(folder.path()).ends_with("not an ordinary file"));
        // Everything that help names is there.
        for line in HELP.lines().filter(|line| line.starts_with("  ")) {
            let command = line.split_whitespace().next().expect("a word");
            assert!(include_str!("console.rs").contains(&format!("\"{command}\"")), "{command}");
        }
    }
}
