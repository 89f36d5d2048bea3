//! The clock of a box without a battery: set by an administrator's browser while no time server does.

use std::fs::OpenOptions;
use std::time::SystemTime;

use super::Refused;
use super::machine::Machine;
use crate::appliance::protocol::Cause;

/// Nothing is older than this program, and certificates end before the latest: 2026-01-01 and 2100-01-01, Unix ms.
const EARLIEST: i64 = 1_767_225_600_000;
const LATEST: i64 = 4_102_444_800_000;

/// Whether a time server has set the clock since the start.
pub(super) fn is_synchronised(machine: &Machine) -> bool {
    machine.synchronised.exists()
}

/// Sets the clock, and what it begins with at the next start.
pub(super) fn set(machine: &Machine, ms: i64) -> Result<(), Refused> {
    if is_synchronised(machine) {
        return Err(Refused::new(Cause::Clock, "a time server sets the clock of this box"));
    }
    if !(EARLIEST..LATEST).contains(&ms) {
        return Err(Refused::new(Cause::Clock, "a time between the years 2026 and 2100 is expected"));
    }
    machine.kernel.set_clock(ms).map_err(|error| Refused::failed("the clock could not be set", error))?;
    let saved = OpenOptions::new().write(true).open(&machine.saved_clock);
    if let Err(error) = saved.and_then(|file| file.set_modified(SystemTime::now())) {
        log::debug!("the time could not be kept for the next start: {error}");
    }
    Ok(())
}
