//! Putting the agent onto a machine as a systemd service, and taking it off again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host;
use crate::power::runs_systemd;
use crate::state::{SETTINGS, write_atomically};

/// Name of the unit.
pub const SERVICE: &str = "outpost-agent.service";
/// Where an installed agent keeps its state.
pub const STATE: &str = "/var/lib/outpost-agent";
const PROGRAM_FOLDER: &str = "/usr/local/lib/outpost-agent";
const PROGRAM: &str = "/usr/local/lib/outpost-agent/outpost-agent";
const UNIT: &str = "/etc/systemd/system/outpost-agent.service";
const UNIT_TEXT: &str = include_str!("../../../systemd/outpost-agent.service");

/// Why the machine is as it was, or half of it.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Only root may.
    #[error(
        "installing and uninstalling need root; run this with sudo, or use \"outpost-agent run\", which needs no installation"
    )]
    NotRoot,
    /// No systemd.
    #[error(
        "this machine does not run systemd; have its own service manager start \"outpost-agent run --state {STATE}\" at boot instead"
    )]
    NoSystemd,
    /// A file.
    #[error("{action} {path}: {source}", path = path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A call of systemctl.
    #[error("systemctl {0} failed: {1}")]
    Systemctl(String, String),
}

/// The files of an installation, below some root folder (`/` except in tests).
#[derive(Debug)]
pub struct Places {
    root: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

impl Places {
    fn of(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Copies `program`, the settings and the unit into place. Whatever was there is replaced, each file as
    /// a whole; state stays.
    pub fn fill(&self, program: &Path, settings: &str) -> Result<(), InstallError> {
        let target = self.of(PROGRAM);
        if program != target {
            make_folder(&self.of(PROGRAM_FOLDER), 0o755)?;
            let bytes = fs::read(program).map_err(|source| file("reading", program, source))?;
            write(&target, &bytes, 0o755)?;
        }
        make_folder(&self.of(STATE), 0o700)?;
        // Root only: the settings may hold the key of encrypted discovery or a proxy's password.
        write(&self.of(STATE).join(SETTINGS), settings.as_bytes(), 0o600)?;
        make_folder(self.of(UNIT).parent().expect("the unit lies in a folder"), 0o755)?;
        write(&self.of(UNIT), UNIT_TEXT.as_bytes(), 0o644)
    }

    /// Removes program and unit; with `purge` the device's identity and settings as well.
    pub fn clear(&self, purge: bool) -> Result<(), InstallError> {
        remove_file(&self.of(UNIT))?;
        remove_file(&self.of(PROGRAM))?;
        let _ = fs::remove_dir(self.of(PROGRAM_FOLDER));
        if purge {
            match fs::remove_dir_all(self.of(STATE)) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(file("removing", &self.of(STATE), source));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether program and unit are in place.
    pub fn are_filled(&self) -> bool {
        self.of(PROGRAM).exists() && self.of(UNIT).exists()
    }
}

/// Installs the running program as a service with these settings, or upgrades an installation in place.
pub fn install(settings: &str) -> Result<(), InstallError> {
    check()?;
    let program = fs::read_link("/proc/self/exe")
        .map_err(|source| file("finding", Path::new("/proc/self/exe"), source))?;
    Places::default().fill(&program, settings)?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", SERVICE])?;
    systemctl(&["restart", SERVICE])
}

/// Stops and removes the service.
pub fn uninstall(purge: bool) -> Result<(), InstallError> {
    check()?;
    if Places::default().of(UNIT).exists() {
        systemctl(&["disable", "--now", SERVICE])?;
    }
    Places::default().clear(purge)?;
    systemctl(&["daemon-reload"])
}

/// Removes the service from inside of it: the order to stop comes last, as it ends this process.
pub fn uninstall_self() -> Result<(), InstallError> {
    check()?;
    systemctl(&["disable", SERVICE])?;
    Places::default().clear(true)?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["stop", "--no-block", SERVICE])
}

/// Whether this process is the installed service.
pub fn is_service() -> bool {
    Places::default().are_filled()
        && std::env::var_os("INVOCATION_ID").is_some()
        && fs::read_link("/proc/self/exe").is_ok_and(|program| program == Path::new(PROGRAM))
}

/// `active`, `failed`, … and what the service says of itself; nothing where there is no systemd.
pub fn service_state() -> Option<(String, String)> {
    let output =
        Command::new("systemctl").args(["show", "-p", "ActiveState,StatusText", SERVICE]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value =
        |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().to_owned();
    Some((value("ActiveState="), value("StatusText=")))
}

fn check() -> Result<(), InstallError> {
    if !host::is_root() {
        return Err(InstallError::NotRoot);
    }
    if !runs_systemd() {
        return Err(InstallError::NoSystemd);
    }
    Ok(())
}

fn systemctl(arguments: &[&str]) -> Result<(), InstallError> {
    let failed = |why: String| InstallError::Systemctl(arguments.join(" "), why);
    let output =
        Command::new("systemctl").args(arguments).output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

fn file(action: &'static str, path: &Path, source: io::Error) -> InstallError {
    InstallError::File { action, path: path.to_owned(), source }
}

fn write(path: &Path, contents: &[u8], mode: u32) -> Result<(), InstallError> {
    write_atomically(path, contents, mode).map_err(|source| file("writing", path, source))
}

fn make_folder(path: &Path, mode: u32) -> Result<(), InstallError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| file("creating", path, source))
}

fn remove_file(path: &Path) -> Result<(), InstallError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(file("removing", path, source)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_come_and_go_and_coming_twice_is_an_upgrade() {
        let root = tempfile::tempdir().expect("root");
        let places = Places { root: root.path().into() };
        let program = root.path().join("downloaded");
        for version in ["one", "two"] {
            fs::write(&program, version).expect("program");
            places.fill(&program, "MeshServer=local\r\n").expect("fill");
            assert_eq!(fs::read_to_string(places.of(PROGRAM)).expect("program"), version);
        }
        fs::write(places.of(STATE).join("identity.pem"), "key").expect("state");
        assert!(places.are_filled());
        let mode = |path: PathBuf| fs::metadata(path).expect("file").permissions().mode() & 0o777;
        assert_eq!(mode(places.of(PROGRAM)), 0o755);
        assert_eq!(mode(places.of(STATE).join(SETTINGS)), 0o600);
        places.clear(false).expect("clear");
        assert!(!places.are_filled() && places.of(STATE).join("identity.pem").exists());
        places.clear(true).expect("purge");
        places.clear(true).expect("purge of nothing");
        assert!(!places.of(STATE).exists());
    }

    #[test]
    fn the_unit_starts_the_installed_program() {
        assert!(UNIT_TEXT.contains(&format!("ExecStart={PROGRAM} run --state {STATE}")));
        assert!(UNIT_TEXT.contains("Restart=always"));
    }
}
