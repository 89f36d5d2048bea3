//! Local accounts: who a shell or command runs as, and with which environment.

use std::ffi::CString;
use std::path::PathBuf;

use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist};

use crate::logins;

/// Search path for a shell when the machine's login configuration is not consulted.
const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const USER_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games";

/// Why an account cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// There is no such account.
    #[error("there is no account {0:?} on this device")]
    Unknown(String),
    /// No user is logged in where one was asked for.
    #[error("no user is logged in on this device")]
    NobodyLoggedIn,
    /// Only root can become somebody else.
    #[error("the agent does not run as root, so it cannot become {0:?}")]
    NotRoot(String),
    /// The account database could not be read.
    #[error("reading the account database: {0}")]
    Database(#[from] nix::Error),
}

/// An account as a process needs it.
#[derive(Debug, Clone)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: Uid,
    /// Primary group.
    pub gid: Gid,
    /// All groups, the primary one included.
    pub groups: Vec<Gid>,
    /// Home folder as the account database says (it may not exist).
    pub home: PathBuf,
    /// Login shell; `/bin/bash` or `/bin/sh` where the account names none.
    pub shell: PathBuf,
}

impl Account {
    /// The account the agent itself runs as.
    pub fn own() -> Result<Self, AccountError> {
        let uid = geteuid();
        match User::from_uid(uid)? {
            Some(user) => Self::from_user(user),
            // A container may run under a number without a name.
            None => Ok(Self {
                name: uid.to_string(),
                uid,
                gid: nix::unistd::getegid(),
                groups: vec![nix::unistd::getegid()],
                home: "/".into(),
                shell: default_shell(),
            }),
        }
    }

    /// The account called `name`, provided that this process may become it.
    pub fn named(name: &str) -> Result<Self, AccountError> {
        let user = User::from_name(name)?.ok_or_else(|| AccountError::Unknown(name.to_owned()))?;
        let account = Self::from_user(user)?;
        if account.uid != geteuid() && !geteuid().is_root() {
            return Err(AccountError::NotRoot(account.name));
        }
        Ok(account)
    }

    /// The user logged in on the console (or else on any session).
    pub fn logged_in() -> Result<Self, AccountError> {
        let name = logins::active_user().ok_or(AccountError::NobodyLoggedIn)?;
        Self::named(&name)
    }

    fn from_user(user: User) -> Result<Self, AccountError> {
        let groups = CString::new(user.name.as_str())
            .ok()
            .and_then(|name| getgrouplist(&name, user.gid).ok())
            .unwrap_or_else(|| vec![user.gid]);
        let shell = if user.shell.as_os_str().is_empty() || !user.shell.exists() {
            default_shell()
        } else {
            user.shell
        };
        Ok(Self { name: user.name, uid: user.uid, gid: user.gid, groups, home: user.dir, shell })
    }

    /// Whether this is the account the process already has.
    pub fn is_own(&self) -> bool {
        self.uid == geteuid()
    }

    /// The folder to start in: home, or `/` when there is none.
    pub fn start_folder(&self) -> PathBuf {
        if self.home.is_dir() { self.home.clone() } else { "/".into() }
    }

    /// The whole environment of a fresh login, nothing inherited but the locale.
    pub fn environment(&self) -> Vec<(String, String)> {
        let lang = std::env::var("LANG").ok().filter(|lang| lang.to_ascii_uppercase().contains("UTF"));
        let path = if self.uid.is_root() { ROOT_PATH } else { USER_PATH };
        [
            ("HOME", self.home.to_string_lossy().into_owned()),
            ("USER", self.name.clone()),
            ("LOGNAME", self.name.clone()),
            ("SHELL", self.shell.to_string_lossy().into_owned()),
            ("PATH", path.to_owned()),
            // C.UTF-8 exists on every current libc and needs no locale files.
            ("LANG", lang.unwrap_or_else(|| "C.UTF-8".to_owned())),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }
}

fn default_shell() -> PathBuf {
    let bash = PathBuf::from("/bin/bash");
    if bash.exists() { bash } else { "/bin/sh".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_account_has_a_usable_environment() {
        let account = Account::own().expect("own account");
        let environment = account.environment();
        let value = |key: &str| environment.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
        assert!(value("LANG").is_some_and(|lang| lang.to_ascii_uppercase().contains("UTF")));
        assert!(value("PATH").is_some_and(|path| path.contains("/bin")));
        assert!(account.start_folder().is_dir());
    }

    #[test]
    fn unknown_account_is_named_in_the_error() {
        let error = Account::named("no-such-account-here").expect_err("must fail");
        assert!(error.to_string().contains("no-such-account-here"), "{error}");
    }
}
