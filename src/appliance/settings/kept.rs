//! What was taken over, on the data partition, and how it is made true at a start: the system itself is read-only.
//!
//! | kept in `/var/lib/outpost-box/` | made true by |
//! | --- | --- |
//! | `settings/hostname` | the kernel's host name |
//! | `settings/timezone` | `/run/outpost-box/localtime`, where the system's `/etc/localtime` leads |
//! | `settings/wired.network` | `/run/systemd/network/70-outpost.network` |
//! | `settings/iwd.conf` | `/run/outpost-box/iwd.conf`, where `/etc/iwd/main.conf` leads |
//! | `ssh/authorized_keys` | dropbear, which starts when it is there (`/root/.ssh` leads to the folder) |
//!
//! Networks of the air are in iwd's own folder, `/var/lib/iwd`.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::document::{LARGEST, Problem};
use super::durable;
use super::host::{HostName, TimeZone};
use super::machine::Machine;
use super::ssh::Keys;
use super::wifi::{self, Wifi};
use super::wired::Wired;
use crate::auth::PasswordHash;

/// The file system of the box: `/`, or a test's folder.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Root {
    /// Everything is below this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Root {
        Root(folder.into())
    }

    fn at(&self, place: &str) -> PathBuf {
        self.0.join(place)
    }

    /// The boot partition, which other computers can write.
    pub(super) fn boot(&self) -> PathBuf {
        self.at("boot/firmware")
    }

    pub(super) fn time_zones(&self) -> PathBuf {
        self.at("usr/share/zoneinfo")
    }

    /// What happened at this start, a line each.
    pub(super) fn incidents(&self) -> PathBuf {
        self.at("run/outpost-box/incidents")
    }

    /// Whether data cannot be kept at this start, since the partition is damaged: what is written to `/var` is in memory.
    pub(super) fn data_is_aside(&self) -> bool {
        self.at("run/outpost-box/data-aside").exists()
    }

    fn kept(&self, name: &str) -> PathBuf {
        self.at("var/lib/outpost-box/settings").join(name)
    }

    fn authorized_keys(&self) -> PathBuf {
        self.at("var/lib/outpost-box/ssh/authorized_keys")
    }

    fn networks(&self) -> PathBuf {
        self.at("var/lib/iwd")
    }

    fn memory(&self) -> PathBuf {
        self.kept("taken.json")
    }
}

/// Which text was taken over last. The text may hold secrets, so only what proves it is kept.
#[derive(Serialize, Deserialize)]
struct Memory {
    salt: String,
    hash: String,
}

/// Whether this very text has been taken over.
pub(super) fn remembers(root: &Root, text: &[u8]) -> bool {
    let Ok(Some(json)) = durable::read(&root.memory(), LARGEST) else { return false };
    let Ok(Memory { salt, hash }) = serde_json::from_slice(&json) else { return false };
    PasswordHash { salt, hash }.matches(&String::from_utf8_lossy(text))
}

/// Notes that this text has been taken over.
pub(super) fn remember(root: &Root, text: &[u8]) -> io::Result<()> {
    let PasswordHash { salt, hash } = PasswordHash::of(&String::from_utf8_lossy(text));
    durable::replace(&root.memory(), &serde_json::to_vec(&Memory { salt, hash })?, 0o600)
}

pub(super) fn keep_host_name(root: &Root, name: &HostName) -> io::Result<()> {
    durable::replace(&root.kept("hostname"), format!("{name}\n").as_bytes(), 0o600)
}

pub(super) fn keep_time_zone(root: &Root, zone: &TimeZone) -> io::Result<()> {
    durable::replace(&root.kept("timezone"), format!("{zone}\n").as_bytes(), 0o600)
}

pub(super) fn keep_wired(root: &Root, wired: &Wired) -> io::Result<()> {
    let file = root.kept("wired.network");
    match wired {
        Wired::Automatic => durable::remove(&file),
        Wired::Fixed(fixed) => durable::replace(&file, fixed.file().as_bytes(), 0o600),
    }
}

/// The new network is there before the ones of before are gone.
pub(super) fn keep_wifi(root: &Root, wifi: &Wifi) -> io::Result<()> {
    let folder = root.networks();
    let mut name = String::new();
    match wifi {
        Wifi::Forget => durable::remove(&root.kept("iwd.conf"))?,
        Wifi::Join(network) => {
            name = network.file_name();
            durable::replace(&folder.join(&name), network.file().as_bytes(), 0o600)?;
            durable::replace(&root.kept("iwd.conf"), network.configuration().as_bytes(), 0o600)?;
        }
    }
    for entry in std::fs::read_dir(&folder).into_iter().flatten() {
        let path = entry?.path();
        let is_network =
            path.extension().is_some_and(|ending| wifi::ENDINGS.iter().any(|known| ending == *known));
        if is_network && path.file_name().is_none_or(|found| found != name.as_str()) {
            durable::remove(&path)?;
        }
    }
    Ok(())
}

pub(super) fn keep_keys(root: &Root, keys: &Keys) -> io::Result<()> {
    let file = root.authorized_keys();
    if keys.is_empty() {
        durable::remove(&file)
    } else {
        durable::replace(&file, keys.file().as_bytes(), 0o600)
    }
}

/// Makes true what is kept.
pub(super) fn restore(root: &Root, machine: &impl Machine) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut tried = |key: &str, done: io::Result<()>| {
        if let Err(error) = done {
            problems.push(Problem::of(key, format!("cannot be made true: {error}")));
        }
    };
    tried("hostname", restore_host_name(root, machine));
    tried("timezone", restore_time_zone(root));
    tried(
        "network",
        copy(&root.kept("wired.network"), &root.at("run/systemd/network"), "70-outpost.network"),
    );
    tried("wifi", copy(&root.kept("iwd.conf"), &root.at("run/outpost-box"), "iwd.conf"));
    problems
}

fn restore_host_name(root: &Root, machine: &impl Machine) -> io::Result<()> {
    match parsed::<HostName>(&root.kept("hostname"))? {
        Some(name) => machine.set_host_name(&name.to_string()),
        None => Ok(()),
    }
}

fn restore_time_zone(root: &Root) -> io::Result<()> {
    let link = root.at("run/outpost-box/localtime");
    durable::remove(&link)?;
    match parsed::<TimeZone>(&root.kept("timezone"))? {
        Some(zone) => {
            std::fs::create_dir_all(root.at("run/outpost-box"))?;
            std::os::unix::fs::symlink(Path::new("/usr/share/zoneinfo").join(zone.to_string()), link)
        }
        None => Ok(()),
    }
}

/// A file of the data partition, in a folder of this start that everybody may read.
fn copy(kept: &Path, folder: &Path, name: &str) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let place = folder.join(name);
    match durable::read(kept, LARGEST)? {
        Some(content) => {
            std::fs::create_dir_all(folder)?;
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
            durable::replace(&place, &content, 0o644)?;
            // Whatever the process may have been told to take from new files.
            std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o644))
        }
        None => durable::remove(&place),
    }
}

fn parsed<T: std::str::FromStr<Err = String>>(file: &Path) -> io::Result<Option<T>> {
    let Some(text) = durable::read(file, LARGEST)? else { return Ok(None) };
    String::from_utf8_lossy(&text).trim_end().parse().map(Some).map_err(io::Error::other)
}
