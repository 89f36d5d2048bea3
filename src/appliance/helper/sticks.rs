//! USB sticks: which are there, which bundles they carry, and bringing one over.
//!
//! A stick is mounted read-only and without effect, at a place that only this process sees, and only when an
//! administrator asks.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::Refused;
use super::installation::RESERVE;
use super::machine::Machine;
use crate::appliance::protocol::{BundleName, Cause, StickBundle, StickName};

/// Most partitions looked at, files of one looked through, and bundles listed.
const MOST_STICKS: usize = 16;
const MOST_FILES: usize = 4096;
const MOST_BUNDLES: usize = 64;
/// Largest bundle, in bytes: a slot is 256 MiB, and a bundle is compressed.
const LARGEST_BUNDLE: u64 = 1 << 30;

/// A stick that is mounted, until this goes away.
struct Mounted<'a> {
    machine: &'a Machine,
    place: PathBuf,
}

impl Mounted<'_> {
    fn at<'a>(machine: &'a Machine, stick: &StickName) -> io::Result<Mounted<'a>> {
        let place = machine.run.join(format!("stick-{}", std::process::id()));
        fs::create_dir_all(&place)?;
        let mounted = Mounted { machine, place };
        machine.kernel.mount(&machine.devices.join(stick.as_str()), &mounted.place)?;
        Ok(mounted)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        self.machine.kernel.unmount(&self.place);
        let _ = fs::remove_dir(&self.place);
    }
}

/// Partitions of USB disks, or such a disk itself where it has none; never the disk that the box runs from.
fn sticks(machine: &Machine) -> Vec<(StickName, String)> {
    let own = fs::read_link(machine.run.join("disk")).unwrap_or_default();
    let own = own.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let Ok(entries) = fs::read_dir(&machine.blocks) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Ok(name) = StickName::try_from(entry.file_name().to_string_lossy().into_owned()) else {
            continue;
        };
        let Ok(path) = fs::canonicalize(entry.path()) else { continue };
        let is_partition = path.join("partition").exists();
        let disk = if is_partition { path.parent().unwrap_or(&path) } else { &path };
        let disk_name = disk.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // Where it hangs is in its path; whether it calls itself removable is not to be relied on.
        let on_usb = path.components().any(|step| step.as_os_str().to_string_lossy().starts_with("usb"));
        if !on_usb || disk_name == own || (!is_partition && has_partitions(&path)) {
            continue;
        }
        found.push((name, title(disk)));
    }
    found.sort();
    found.truncate(MOST_STICKS);
    found
}

fn has_partitions(disk: &Path) -> bool {
    fs::read_dir(disk)
        .is_ok_and(|entries| entries.flatten().any(|entry| entry.path().join("partition").exists()))
}

/// What a disk calls itself.
fn title(disk: &Path) -> String {
    let words = ["vendor", "model"].map(|name| fs::read_to_string(disk.join("device").join(name)));
    let words: Vec<String> = words.into_iter().flatten().map(|text| printable(text.trim())).collect();
    let title = words.join(" ").trim().to_owned();
    if title.is_empty() { "USB stick".into() } else { title }
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

/// The bundles on all sticks. One that cannot be read is passed over, with a word in the log.
pub(super) fn bundles(machine: &Machine) -> Result<Vec<StickBundle>, Refused> {
    let mut bundles = Vec::new();
    for (stick, title) in sticks(machine) {
        let mounted = match Mounted::at(machine, &stick) {
            Ok(mounted) => mounted,
            Err(error) => {
                log::info!("{} cannot be read: {error}", stick.as_str());
                continue;
            }
        };
        let Ok(entries) = fs::read_dir(&mounted.place) else { continue };
        for entry in entries.flatten().take(MOST_FILES) {
            let Ok(file) = BundleName::try_from(entry.file_name().to_string_lossy().into_owned()) else {
                continue;
            };
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_file() && bundles.len() < MOST_BUNDLES {
                let (stick, title) = (stick.clone(), title.clone());
                bundles.push(StickBundle { stick, title, file, size: meta.len() });
            }
        }
    }
    bundles.sort_by(|a, b| (&a.stick, &a.file).cmp(&(&b.stick, &b.file)));
    Ok(bundles)
}

/// Copies a bundle from a stick.
pub(super) fn copy(
    machine: &Machine,
    stick: &StickName,
    name: &BundleName,
    to: &Path,
) -> Result<(), Refused> {
    // Only what the list has: the name of a device alone would reach the box's own disks.
    if !sticks(machine).iter().any(|(known, _)| known == stick) {
        return Err(Refused::new(Cause::NoFile, "This stick is not there any more"));
    }
    let mounted =
        Mounted::at(machine, stick).map_err(|error| Refused::failed("the stick cannot be read", error))?;
    let missing = |_| Refused::new(Cause::NoFile, "There is no such file on the stick");
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(mounted.place.join(name.as_str()))
        .map_err(missing)?;
    let meta = file.metadata().map_err(missing)?;
    if !meta.is_file() {
        return Err(Refused::new(Cause::NoFile, "This is not a file"));
    }
    if meta.len() > LARGEST_BUNDLE {
        return Err(Refused::new(Cause::Damaged, "The file is too large for an update"));
    }
    let free = crate::appliance::facts::room(&machine.state).map_or(0, |room| room.free);
    if meta.len().saturating_add(RESERVE) > free {
        return Err(Refused::new(Cause::NoRoom, "There is no room for a copy of the file"));
    }
    let copied = (|| {
        let mut new = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
        io::copy(&mut (&mut file).take(meta.len()), &mut new)?;
        new.sync_all()
    })();
    copied.map_err(|error| Refused::failed("the file could not be copied", error))
}
