//! What is kept of recordings: by count, by age, by size; the oldest go first.

use std::fs;
use std::io;

use super::catalogue::Recording;
use super::folder::Folder;
use crate::clock;
use crate::config::SessionRecording;

/// Milliseconds of a day.
const DAY: u64 = 86_400_000;

/// A recording that was removed.
#[derive(Clone, Debug)]
pub struct Removed {
    /// What it was.
    pub recording: Recording,
    /// Why, in words.
    pub why: String,
}

/// Removes what a domain may not keep, `needed` bytes being about to come. Files that are being written count, but
/// are never removed.
pub(super) fn retain(
    folder: &Folder,
    policy: &SessionRecording,
    domain: &str,
    needed: u64,
) -> io::Result<Vec<Removed>> {
    folder.measure()?;
    let mut list = folder.list()?;
    let kept: u64 = list.iter().map(|recording| recording.size).sum();
    let mut total = folder.used().saturating_sub(kept) + needed;
    list.retain(|recording| recording.domain() == domain);
    let now = u64::try_from(clock::now_ms()).unwrap_or(0);
    let mut removed = Vec::new();
    for (n, recording) in (0u64..).zip(list) {
        total += recording.size;
        let too_many = policy.most.filter(|most| n >= *most).map(|most| format!("{most} are kept"));
        let too_old = policy
            .most_days
            .filter(|days| now.saturating_sub(recording.end.unwrap_or(recording.changed)) >= days * DAY)
            .map(|days| format!("they are kept for {days} days"));
        let too_much = policy
            .most_bytes
            .filter(|most| total > *most)
            .map(|most| format!("{} MB are kept together", most >> 20));
        let Some(why) = too_many.or(too_old).or(too_much) else { continue };
        match fs::remove_file(folder.path().join(&recording.name)) {
            Ok(()) => {
                total -= recording.size;
                log::info!("the recording {} was removed: {why}", recording.name);
                removed.push(Removed { recording, why });
            }
            Err(error) => log::warn!("the recording {} could not be removed: {error}", recording.name),
        }
    }
    folder.measure()?;
    Ok(removed)
}
