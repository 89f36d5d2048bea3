//! The process list from `/proc`, and the end of a process.

use std::collections::HashMap;
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};

/// At most this many are listed; a fork bomb must not make a message without end.
const MAX_LISTED: usize = 5000;
/// Longest command line reported, in bytes.
const MAX_COMMAND: usize = 512;

/// One running process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Owner's name, or number where it has none.
    pub user: String,
    /// Command line; for kernel threads the name in brackets.
    pub command: String,
}

/// Why a process was not ended.
#[derive(Debug, thiserror::Error)]
pub enum KillError {
    /// Not a process id of another process.
    #[error("{0:?} is not a process id that can be ended")]
    BadPid(String),
    /// The system refused.
    #[error("ending process {pid}: {source}")]
    Refused {
        /// The process.
        pid: i32,
        /// Why.
        source: nix::Error,
    },
}

/// All processes, by id.
pub fn list() -> Vec<Process> {
    let mut names = HashMap::new();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut processes: Vec<Process> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .take(MAX_LISTED)
        .filter_map(|pid| read(pid, &mut names))
        .collect();
    processes.sort_by_key(|process| process.pid);
    processes
}

fn read(pid: i32, names: &mut HashMap<u32, String>) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let uid: u32 = field("Uid")?.split_ascii_whitespace().next()?.parse().ok()?;
    let user = names.entry(uid).or_insert_with(|| {
        User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
    });
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = command_line(&arguments).unwrap_or_else(|| format!("[{}]", field("Name").unwrap_or("?")));
    Some(Process { pid, user: user.clone(), command })
}

fn command_line(arguments: &[u8]) -> Option<String> {
    let end = arguments.iter().rposition(|&byte| byte != 0)? + 1;
    let cut = &arguments[..end.min(MAX_COMMAND)];
    Some(String::from_utf8_lossy(cut).replace(['\0', '\n', '\r'], " "))
}

/// Ends a process at once (SIGKILL). Ids of 0, 1 and below mean groups or init and are refused, as is
/// the agent itself.
pub fn end(pid: &str) -> Result<i32, KillError> {
    let number: i32 = pid.trim().parse().map_err(|_| KillError::BadPid(pid.to_owned()))?;
    if number <= 1 || u32::try_from(number) == Ok(std::process::id()) {
        return Err(KillError::BadPid(pid.to_owned()));
    }
    kill(Pid::from_raw(number), Signal::SIGKILL)
        .map_err(|source| KillError::Refused { pid: number, source })?;
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_holds_this_process() {
        let own = i32::try_from(std::process::id()).expect("pid");
        let listed = list();
        let process = listed.iter().find(|process| process.pid == own).expect("listed");
        assert!(process.command.contains("outpost_agent"), "{}", process.command);
    }

    #[test]
    fn a_child_is_ended_and_groups_are_refused() {
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().expect("spawn");
        end(&child.id().to_string()).expect("end");
        assert!(!child.wait().expect("wait").success());
        for bad in ["0", "1", "-1", "x", &std::process::id().to_string()] {
            assert!(matches!(end(bad), Err(KillError::BadPid(_))), "{bad}");
        }
    }
}
