//! The machine as values: where its files and programs are, and what is asked of its kernel. A test has another one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, MsFlags};

use super::Refused;
use crate::appliance::protocol::Slot;

/// Tries of a slot that has just been written. Its start takes one of them; once it is found well it gets more again
/// (`outpost-confirm.service`).
pub(super) const TRIES_OF_NEW: u8 = 3;
/// Where the record of slots is on the disk, and its bytes (`board/common/boot/boot.cmd`).
const RECORD_AT: u64 = 0x8_0000;
const RECORD_BYTES: usize = 512;
/// File systems that a stick may have, with what each is mounted with. ext4 is not given the chance to write.
const FILE_SYSTEMS: [(&str, &str); 3] = [("vfat", "umask=0077"), ("exfat", "umask=0077"), ("ext4", "noload")];

/// What is asked of the kernel.
pub trait Kernel {
    /// Mounts a stick, read-only and without effect.
    ///
    /// # Errors
    /// When nothing on it can be read.
    fn mount(&self, device: &Path, place: &Path) -> io::Result<()>;

    /// Takes it away again.
    fn unmount(&self, place: &Path);

    /// Sets the clock, Unix milliseconds.
    ///
    /// # Errors
    /// When that is not allowed.
    fn set_clock(&self, ms: i64) -> io::Result<()>;
}

/// The kernel that runs.
pub struct Linux;

impl Kernel for Linux {
    fn mount(&self, device: &Path, place: &Path) -> io::Result<()> {
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let mut last = io::Error::other("no file system fits");
        for (kind, options) in FILE_SYSTEMS {
            match nix::mount::mount(Some(device), place, Some(kind), flags, Some(options)) {
                Ok(()) => return Ok(()),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    fn unmount(&self, place: &Path) {
        // A process of its own has a mount namespace of its own: what fails here ends with it.
        let _ = nix::mount::umount2(place, MntFlags::MNT_DETACH);
    }

    fn set_clock(&self, ms: i64) -> io::Result<()> {
        use nix::sys::time::{TimeSpec, TimeValLike as _};
        let time = TimeSpec::milliseconds(ms);
        nix::time::clock_settime(nix::time::ClockId::CLOCK_REALTIME, time).map_err(io::Error::from)
    }
}

/// The machine.
pub struct Machine {
    /// What is kept: `factory-reset`, `update.json`, `rollback`. Root's.
    pub state: PathBuf,
    /// What is true until the next start: `slot`, `disk`, `incidents`.
    pub run: PathBuf,
    /// Bundles that the server has taken in. The server's, so nothing in it is trusted.
    pub staging: PathBuf,
    /// The kernel's block devices, `/sys/class/block`.
    pub blocks: PathBuf,
    /// Their nodes, `/dev`.
    pub devices: PathBuf,
    /// Exists once a time server has set the clock.
    pub synchronised: PathBuf,
    /// Its change time is the earliest time at the next start.
    pub saved_clock: PathBuf,
    /// The installer.
    pub rauc: PathBuf,
    /// Restarts and switches off.
    pub systemctl: PathBuf,
    /// The kernel.
    pub kernel: Box<dyn Kernel>,
}

impl Machine {
    /// The box that this program runs on.
    pub fn this() -> Machine {
        Machine {
            state: "/var/lib/outpost-box".into(),
            run: "/run/outpost-box".into(),
            staging: "/var/lib/outpost-updates".into(),
            blocks: "/sys/class/block".into(),
            devices: "/dev".into(),
            synchronised: crate::appliance::facts::SYNCHRONISED.into(),
            saved_clock: "/var/lib/systemd/timesync/clock".into(),
            rauc: "/usr/bin/rauc".into(),
            systemctl: "/usr/bin/systemctl".into(),
            kernel: Box::new(Linux),
        }
    }

    /// The slot that runs.
    pub(super) fn booted(&self) -> Result<Slot, Refused> {
        let text = std::fs::read_to_string(self.run.join("slot"))
            .map_err(|error| Refused::failed("this is no box: the slot is not known", error))?;
        Slot::named(&text).ok_or_else(|| Refused::failed("the slot is not known", format!("{text:?}")))
    }

    /// How often the boot loader still tries each slot; none if its record cannot be read or is damaged.
    pub(super) fn tries_left(&self) -> Option<Tries> {
        let mut record = [0; RECORD_BYTES];
        File::open(self.run.join("disk")).ok()?.read_exact_at(&mut record, RECORD_AT).ok()?;
        Tries::read(&record)
    }

    /// Asks the service manager, and does not wait for the end, which would be this process's own.
    pub(super) fn systemctl(&self, verb: &str) -> Result<(), Refused> {
        let status = self.command(&self.systemctl).args(["--no-block", verb]).stdout(Stdio::null()).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Refused::failed(&format!("systemctl {verb}"), status)),
            Err(error) => Err(Refused::failed(&format!("systemctl {verb}"), error)),
        }
    }

    /// A program, with nothing of the environment but what it needs.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }
}

/// How often each slot may still be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tries {
    a: u8,
    b: u8,
}

impl Tries {
    /// Reads U-Boot's environment: a CRC-32 (little endian) of the rest, then `name=value` ended by zeros.
    fn read(record: &[u8; RECORD_BYTES]) -> Option<Tries> {
        let (sum, rest) = record.split_first_chunk::<4>()?;
        let mut crc = flate2::Crc::new();
        crc.update(rest);
        if crc.sum() != u32::from_le_bytes(*sum) {
            return None;
        }
        let value = |name: &str| {
            let entry = rest
                .split(|byte| *byte == 0)
                .find_map(|entry| std::str::from_utf8(entry).ok()?.strip_prefix(name)?.strip_prefix('='));
            entry.and_then(|text| text.parse().ok())
        };
        Some(Tries { a: value("BOOT_A_LEFT")?, b: value("BOOT_B_LEFT")? })
    }

    /// Those of one slot.
    pub(super) fn of(self, slot: Slot) -> u8 {
        match slot {
            Slot::A => self.a,
            Slot::B => self.b,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &[u8]) -> [u8; RECORD_BYTES] {
        let mut record = [0; RECORD_BYTES];
        record[4..4 + text.len()].copy_from_slice(text);
        let mut crc = flate2::Crc::new();
        crc.update(&record[4..]);
        record[..4].copy_from_slice(&crc.sum().to_le_bytes());
        record
    }

    #[test]
    fn the_boot_loaders_record_is_read_when_it_is_whole() {
        let mut whole = record(b"BOOT_A_LEFT=3\0BOOT_B_LEFT=0\0BOOT_ORDER=B A\0");
        let tries = Tries::read(&whole).expect("whole");
        assert_eq!((tries.of(Slot::A), tries.of(Slot::B)), (3, 0));
        whole[20] ^= 1;
        assert_eq!(Tries::read(&whole), None);
        assert_eq!(Tries::read(&[0; RECORD_BYTES]), None);
        assert_eq!(Tries::read(&record(b"BOOT_A_LEFT=many\0BOOT_B_LEFT=0\0")), None);
    }
}
