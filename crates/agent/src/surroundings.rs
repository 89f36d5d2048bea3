//! Where a terminal is: which shells and accounts the device has, and the folder that its shell stands in.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use outpost_wire::files::to_text;
use serde_json::{Value, json};

use crate::account::Account;

/// Shells told of.
const MOST_SHELLS: usize = 32;
/// Accounts told of; a machine with more has them in a directory service, which is not listed.
const MOST_ACCOUNTS: usize = 100;
/// Numbers of people's accounts (`UID_MIN` of shadow's login.defs, and "nobody" above).
const PEOPLE: std::ops::Range<u32> = 1000..65_534;

/// The shells that the device lets people have (`/etc/shells`), and that are there.
pub fn shells() -> Vec<PathBuf> {
    let list = fs::read_to_string("/etc/shells").unwrap_or_default();
    let mut shells: Vec<PathBuf> = Vec::new();
    for path in list.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        let path = PathBuf::from(path);
        if path.is_absolute() && path.is_file() && !shells.contains(&path) && shells.len() < MOST_SHELLS {
            shells.push(path);
        }
    }
    shells
}

/// Accounts that a person can have a shell as: root and people's, with a shell of the list.
fn accounts(passwd: &str, shells: &[PathBuf]) -> Vec<String> {
    let person = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, _, _, _, shell] = fields[..] else { return None };
        let uid: u32 = uid.parse().ok()?;
        let may = (uid == 0 || PEOPLE.contains(&uid)) && shells.iter().any(|one| one == Path::new(shell));
        may.then(|| name.to_owned())
    };
    passwd.lines().filter_map(person).take(MOST_ACCOUNTS).collect()
}

/// What a terminal is told of where it is. `foreground` is the group that has the terminal, `shell` the shell itself.
pub fn describe(account: Option<&Account>, foreground: Option<Pid>, shell: Option<Pid>) -> Value {
    let shells = shells();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    // Only root can become somebody else.
    let accounts = if crate::host::is_root() { accounts(&passwd, &shells) } else { Vec::new() };
    let folder = [foreground, shell]
        .into_iter()
        .flatten()
        .find_map(|process| fs::read_link(format!("/proc/{process}/cwd")).ok());
    json!({
        "folder": folder.map(|folder| to_text(folder.as_os_str().as_bytes())),
        "account": account.map(|account| account.name.as_str()),
        "shells": shells.iter().map(|shell| to_text(shell.as_os_str().as_bytes())).collect::<Vec<_>>(),
        "accounts": accounts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_people_with_a_shell_are_told_of() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\n\
            daemon:x:1:1::/usr/sbin:/bin/bash\n\
            ada:x:1000:1000:Ada,,,:/home/ada:/bin/sh\n\
            bot:x:1001:1001::/home/bot:/usr/sbin/nologin\n\
            nobody:x:65534:65534::/:/bin/sh\n\
            broken:line\n";
        assert_eq!(accounts(passwd, &["/bin/bash".into(), "/bin/sh".into()]), ["root", "ada"]);
    }

    #[test]
    fn the_folder_is_that_of_the_process() {
        let told = describe(None, None, Some(Pid::this()));
        let own = std::env::current_dir().expect("a folder");
        assert_eq!(told["folder"], own.to_str().expect("text"));
        assert!(told["shells"].as_array().is_some());
    }
}
