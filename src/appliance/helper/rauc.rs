//! RAUC, the installer, as a program: what it says of slots and bundles, and what its failures mean for people.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Refused;
use super::machine::Machine;
use crate::appliance::protocol::{Cause, Slot};

/// Most bytes of its output that are read.
const LONGEST_OUTPUT: u64 = 256 << 10;
/// Longest text of it that is passed on, in characters.
const LONGEST_TEXT: usize = 200;

/// What it says of the system.
#[derive(Default)]
pub(super) struct Seen {
    /// Which bundles fit.
    pub(super) compatible: String,
    /// Releases that it installed, by slot.
    pub(super) versions: Vec<(Slot, String)>,
}

/// What it says of a bundle whose signature is good.
#[derive(Deserialize)]
pub(super) struct Bundle {
    pub(super) compatible: String,
    pub(super) version: String,
}

#[derive(Deserialize)]
struct StatusOutput {
    compatible: String,
    #[serde(default)]
    slots: Vec<std::collections::BTreeMap<String, SlotOutput>>,
}

#[derive(Deserialize)]
struct SlotOutput {
    bootname: Option<String>,
    slot_status: Option<SlotStatus>,
}

#[derive(Deserialize)]
struct SlotStatus {
    bundle: Option<InstalledBundle>,
}

#[derive(Deserialize)]
struct InstalledBundle {
    version: Option<String>,
}

/// Asks for the slots.
pub(super) fn status(machine: &Machine) -> Result<Seen, Refused> {
    let output: StatusOutput = json(machine, &["status", "--detailed", "--output-format=json"], None)?;
    let versions = output.slots.iter().flat_map(|slot| slot.values()).filter_map(|slot| {
        let version = slot.slot_status.as_ref()?.bundle.as_ref()?.version.as_deref()?;
        Some((Slot::named(slot.bootname.as_deref()?)?, short(version))).filter(|(_, text)| !text.is_empty())
    });
    Ok(Seen { versions: versions.collect(), compatible: short(&output.compatible) })
}

/// Checks the signature of a bundle, and asks what it is.
pub(super) fn info(machine: &Machine, bundle: &Path) -> Result<Bundle, Refused> {
    let Bundle { compatible, version } = json(machine, &["info", "--output-format=json"], Some(bundle))?;
    Ok(Bundle { compatible: short(&compatible), version: short(&version) })
}

/// Installs a bundle into the slot that does not run; `report` hears how far it is.
pub(super) fn install(
    machine: &Machine,
    bundle: &Path,
    mut report: impl FnMut(u8, &str),
) -> Result<(), Refused> {
    let failed = |error| Refused::failed("RAUC cannot be started", error);
    // One pipe for both, so that neither can fill up unread.
    let (reader, writer) = std::io::pipe().map_err(failed)?;
    let errors = writer.try_clone().map_err(failed)?;
    let mut command = machine.command(&machine.rauc);
    let mut child =
        command.arg("install").arg(bundle).stdout(writer).stderr(errors).spawn().map_err(failed)?;
    // The ends that this process holds would keep the pipe open.
    drop(command);
    let mut last = Vec::new();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(LONGEST_OUTPUT).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        match progress(&text) {
            Some((percent, step)) => report(percent, &short(step)),
            None => last.push(short(&text)),
        }
        // What went wrong is said at the end.
        if last.len() > 16 {
            last.remove(0);
        }
    }
    let status = child.wait().map_err(failed)?;
    if status.success() { Ok(()) } else { Err(refusal(&last.join("\n"))) }
}

/// ` 20% Checking bundle`.
fn progress(line: &str) -> Option<(u8, &str)> {
    let (percent, step) = line.trim().split_once("% ")?;
    let percent = percent.trim().parse().ok().filter(|percent| *percent <= 100)?;
    Some((percent, step))
}

fn json<T: DeserializeOwned>(
    machine: &Machine,
    arguments: &[&str],
    file: Option<&Path>,
) -> Result<T, Refused> {
    let output = machine
        .command(&machine.rauc)
        .args(arguments)
        .args(file)
        .output()
        .map_err(|error| Refused::failed("RAUC cannot be started", error))?;
    if !output.status.success() {
        return Err(refusal(&String::from_utf8_lossy(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| Refused::failed("the answer of RAUC cannot be understood", error))
}

/// What a failure means. RAUC's own words go along: they are what a search finds.
fn refusal(output: &str) -> Refused {
    let mut lines = output.lines().map(str::trim).filter(|line| !line.is_empty());
    let said =
        lines.clone().find(|line| line.starts_with("LastError:")).or(lines.next_back()).unwrap_or_default();
    let said = short(said.strip_prefix("LastError:").unwrap_or(said));
    let low = output.to_ascii_lowercase();
    let any = |texts: &[&str]| texts.iter().any(|text| low.contains(text));
    // A damaged file has no signature that could be looked for, so these come first.
    let (code, what) = if any(&["signature size", "invalid bundle", "bundle is too small", "data corruption"])
    {
        (Cause::Damaged, "The file is no update, or it is not whole")
    } else if any(&["compatible mismatch", "compatible string"]) {
        (Cause::OtherBoard, "The update is for another kind of box")
    } else if any(&["no space left"]) {
        (Cause::NoRoom, "There is no room for the update")
    } else if any(&["already processing"]) {
        (Cause::Busy, "Another installation is running")
    } else if any(&["signature", "certificate", "verify", "cms"]) {
        (Cause::NotSigned, "The update is not signed with a key that this box trusts")
    } else {
        (Cause::Failed, "The update could not be installed")
    };
    Refused::new(code, if said.is_empty() { what.to_owned() } else { format!("{what} ({said})") })
}

/// A text of somebody else's, fit to be shown.
fn short(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(LONGEST_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_from_lines() {
        assert_eq!(progress(" 20% Checking bundle\n"), Some((20, "Checking bundle")));
        assert_eq!(progress("100% Installing done."), Some((100, "Installing done.")));
        for other in ["installing", "Installing `x` succeeded", "LastError: 5% done", "300% too much"] {
            assert_eq!(progress(other), None, "{other}");
        }
    }

    #[test]
    fn failures_are_said_for_people_with_the_installers_words() {
        for (output, code) in [
            (
                "LastError: Compatible mismatch: Expected 'outpost-a' but bundle manifest has 'outpost-b'\nfailed",
                Cause::OtherBoard,
            ),
            ("signature verification failed: Verify error: self-signed certificate", Cause::NotSigned),
            ("Failed to load bundle: Signature size (8319) exceeds bundle size", Cause::Damaged),
            ("write error: No space left on device", Cause::NoRoom),
            ("Already processing a different method", Cause::Busy),
            ("the slot is on fire", Cause::Failed),
            ("", Cause::Failed),
        ] {
            assert_eq!(refusal(output).code, code, "{output}");
        }
        let said =
            refusal("installing\nLastError: Compatible mismatch: Expected 'outpost-a'\nInstalling failed");
        assert_eq!(
            said.message,
            "The update is for another kind of box (Compatible mismatch: Expected 'outpost-a')"
        );
    }
}
