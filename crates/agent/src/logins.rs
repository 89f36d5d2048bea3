//! Who is logged in, from logind's own records in `/run/systemd/sessions` (no D-Bus needed).
//!
//! A machine without logind reports nobody: its utmp file is being retired everywhere, and its layout
//! differs between architectures.

use std::collections::BTreeSet;
use std::path::Path;

/// Where logind keeps one `KEY=value` file per session.
const SESSIONS: &str = "/run/systemd/sessions";

/// One login session of a person.
#[derive(Debug, PartialEq, Eq)]
struct Login {
    user: String,
    seat: bool,
    active: bool,
}

/// Names of all users with a session, sorted, each once.
pub fn users() -> Vec<String> {
    let names: BTreeSet<String> = read(Path::new(SESSIONS)).into_iter().map(|login| login.user).collect();
    names.into_iter().collect()
}

/// The user at the console; without one, any active user.
pub fn active_user() -> Option<String> {
    let mut logins = read(Path::new(SESSIONS));
    logins.retain(|login| login.active);
    logins.sort_by_key(|login| !login.seat);
    logins.into_iter().next().map(|login| login.user)
}

fn read(folder: &Path) -> Vec<Login> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| !entry.file_name().to_string_lossy().ends_with(".ref"))
        .filter_map(|entry| parse(&std::fs::read_to_string(entry.path()).ok()?))
        .collect()
}

/// A session of class `user`; greeters, managers and background sessions are nobody.
fn parse(text: &str) -> Option<Login> {
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .filter(|value| !value.is_empty())
    };
    if value("CLASS").is_some_and(|class| class != "user" && class != "user-early") {
        return None;
    }
    Some(Login {
        user: value("USER")?.to_owned(),
        seat: value("SEAT").is_some(),
        active: value("STATE").is_none_or(|state| state == "active") && value("ACTIVE") != Some("0"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_users_and_skips_greeters() {
        let text =
            "# This is private data.\nUID=1000\nUSER=ada\nACTIVE=1\nSTATE=active\nSEAT=seat0\nCLASS=user\n";
        assert_eq!(parse(text), Some(Login { user: "ada".into(), seat: true, active: true }));
        assert_eq!(parse("USER=gdm\nACTIVE=1\nCLASS=greeter\n"), None);
        assert_eq!(
            parse("USER=bob\nACTIVE=0\nSTATE=online\nCLASS=user\n").map(|login| login.active),
            Some(false)
        );
    }
}
