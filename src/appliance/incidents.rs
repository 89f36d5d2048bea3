//! What happened at this start to the disk, as the initial RAM disk says it, and to settings on the card: lines
//! `<kind> <sentence>`.

use std::io::Read as _;
use std::path::Path;

use super::protocol::{Incident, IncidentKind};

/// Where they are on a box.
pub const FILE: &str = "/run/outpost-box/incidents";
/// Bytes of the file that are read, incidents that are passed on, and characters of a sentence.
const LONGEST_FILE: u64 = 16 << 10;
const MOST: usize = 16;
const LONGEST: usize = 500;

/// Those of a file; none where there is no file.
pub fn read(file: &Path) -> Vec<Incident> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(LONGEST_FILE).read_to_end(&mut bytes));
    if read.is_err() {
        return Vec::new();
    }
    String::from_utf8_lossy(&bytes).lines().filter_map(incident).take(MOST).collect()
}

fn incident(line: &str) -> Option<Incident> {
    let (kind, text) = line.trim().split_once(' ')?;
    let kind = match kind {
        "repaired" => IncidentKind::Repaired,
        "set-aside" => IncidentKind::SetAside,
        "card" => IncidentKind::Card,
        "reset" => IncidentKind::Reset,
        "boot-partition" => IncidentKind::BootPartition,
        "button" => IncidentKind::Button,
        "settings" => IncidentKind::Settings,
        other => {
            log::warn!("an incident of a kind that is not known: {other}");
            return None;
        }
    };
    let sentence = text.trim().chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    Some(Incident { kind, sentence })
}
