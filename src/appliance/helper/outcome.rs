//! What became of the last update, which release is in which slot, and what happened to the disk.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::machine::{Machine, Tries};
use super::rauc::Seen;
use super::record;
use crate::appliance::protocol::{Outcome, Slot, SlotState};

/// Longest file of these that is read, in bytes, and longest sentence that is passed on, in characters.
const LONGEST_FILE: usize = 16 << 10;
const LONGEST_SENTENCE: usize = 500;

/// `update.json`: an installation that succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Update {
    pub(super) from_slot: Slot,
    pub(super) from_version: String,
    pub(super) to_slot: Slot,
    pub(super) to_version: String,
    /// Unix seconds.
    pub(super) at: i64,
}

const UPDATE: &str = "update.json";
const ROLLBACK: &str = "rollback";
/// In the folder that a restart empties: the update has not been started yet.
const WAITING: &str = "update-waits";

/// The last installation that succeeded.
pub(super) fn last_update(machine: &Machine) -> Option<Update> {
    let text = read(&machine.state.join(UPDATE))?;
    match serde_json::from_str(&text) {
        Ok(update) => Some(update),
        Err(error) => {
            log::warn!("{UPDATE} cannot be understood: {error}");
            None
        }
    }
}

/// Notes an installation that succeeded.
pub(super) fn note(machine: &Machine, update: &Update) -> std::io::Result<()> {
    let text = serde_json::to_vec(update).expect("an update is plain data");
    // What was said of an earlier one is not about this one.
    record::remove(&machine.state.join(ROLLBACK))?;
    record::write(&machine.state.join(UPDATE), &text)?;
    std::fs::write(machine.run.join(WAITING), "")
}

/// What became of an update.
pub(super) fn of(machine: &Machine, update: Update, booted: Slot) -> Outcome {
    let Update { from_version, to_slot, to_version, at, .. } = update;
    if machine.run.join(WAITING).exists() {
        Outcome::Waiting { version: to_version }
    } else if booted == to_slot {
        Outcome::Updated { version: to_version, from: from_version, at }
    } else {
        let reason = read(&machine.state.join(ROLLBACK)).and_then(|text| text.lines().next().map(sentence));
        let reason = reason.filter(|reason| !reason.is_empty());
        Outcome::RolledBack { version: to_version, to: from_version, reason, at }
    }
}

/// Which release is in which slot. The one that runs is this program's own; the card's first is in no record of the
/// installer, but an update says what it came from.
pub(super) fn slots(
    booted: Slot,
    seen: &Seen,
    left: Option<Tries>,
    update: Option<&Update>,
) -> Vec<SlotState> {
    let version = |slot: Slot| {
        if slot == booted {
            return Some(env!("CARGO_PKG_VERSION").to_owned());
        }
        let installed = seen.versions.iter().find(|(of, _)| *of == slot).map(|(_, version)| version.clone());
        installed.or_else(|| {
            let update = update?;
            if slot == update.to_slot {
                Some(update.to_version.clone())
            } else {
                Some(update.from_version.clone())
            }
        })
    };
    [Slot::A, Slot::B]
        .map(|slot| SlotState { slot, version: version(slot), tries_left: left.map(|left| left.of(slot)) })
        .into()
}

fn sentence(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(LONGEST_SENTENCE).collect()
}

/// The beginning of a small file; none if it is not there.
fn read(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(LONGEST_FILE as u64).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
