//! Where this user's server and login token are kept between commands.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use outpost_wire::id::Hash384;
use serde::{Deserialize, Serialize};

use super::session::{Address, Login};

/// A server and how to log in to it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Profile {
    /// `https://…`.
    pub url: String,
    /// Name of the login token.
    pub user: String,
    /// Its password.
    pub pass: String,
    /// SHA-384 of the server's certificate, hexadecimal.
    pub certificate: String,
}

/// Never its password.
impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Why there is no profile.
#[allow(missing_docs, reason = "a variant's line says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Neither a folder for it nor an environment that names one.
    #[error("there is no place for the login: neither XDG_CONFIG_HOME nor HOME is set")]
    NoPlace,
    /// Nobody logged in.
    #[error("not logged in; run `outpost login https://<server>` first")]
    NotLoggedIn,
    /// It cannot be read or written.
    #[error("{path}: {reason}")]
    File { path: String, reason: std::io::Error },
    /// It is damaged.
    #[error("{path}: {reason}; run `outpost login` again")]
    Damaged { path: String, reason: String },
}

impl Profile {
    /// `$XDG_CONFIG_HOME/outpost/login.json`, or below `~/.config`.
    ///
    /// # Errors
    /// [`ProfileError::NoPlace`].
    pub fn place() -> Result<PathBuf, ProfileError> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
        Ok(folder.ok_or(ProfileError::NoPlace)?.join("outpost/login.json"))
    }

    /// The one that was kept.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn load(path: &Path) -> Result<Profile, ProfileError> {
        let text = std::fs::read_to_string(path).map_err(|reason| match reason.kind() {
            std::io::ErrorKind::NotFound => ProfileError::NotLoggedIn,
            _ => ProfileError::File { path: path.display().to_string(), reason },
        })?;
        serde_json::from_str(&text).map_err(|reason| ProfileError::Damaged {
            path: path.display().to_string(),
            reason: reason.to_string(),
        })
    }

    /// Keeps it, readable to this user only.
    ///
    /// # Errors
    /// [`ProfileError::File`]; one that was there stays then.
    pub fn save(&self, path: &Path) -> Result<(), ProfileError> {
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        let failed = |reason| ProfileError::File { path: path.display().to_string(), reason };
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let draft = path.with_extension(format!("{}.new", std::process::id()));
        let text = serde_json::to_string_pretty(self).expect("texts can be written as JSON");
        let written = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| std::fs::rename(&draft, path));
        written.map_err(|reason| {
            let _ = std::fs::remove_file(&draft);
            failed(reason)
        })
    }

    /// Where the server is, which one it is, and who comes.
    ///
    /// # Errors
    /// [`ProfileError::Damaged`].
    pub fn open(&self, path: &Path) -> Result<(Address, Hash384, Login), ProfileError> {
        let damaged = |reason: String| ProfileError::Damaged { path: path.display().to_string(), reason };
        let address = Address::parse(&self.url).map_err(|error| damaged(error.to_string()))?;
        let pin = Hash384::from_hex(&self.certificate).map_err(|error| damaged(error.to_string()))?;
        Ok((address, pin, Login { user: self.user.clone(), pass: self.pass.clone(), code: None }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn it_is_kept_for_its_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/login.json");
        assert!(matches!(Profile::load(&path), Err(ProfileError::NotLoggedIn)));
        let profile = Profile {
            url: "https://outpost.local".into(),
            user: "~t:x".into(),
            pass: "secret".into(),
            certificate: "ab".repeat(48),
        };
        profile.save(&path).expect("saved");
        profile.save(&path).expect("saved over");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let (address, pin, login) = Profile::load(&path).expect("read").open(&path).expect("whole");
        assert_eq!(
            (address.host.as_str(), address.port, login.user.as_str()),
            ("outpost.local", 443, "~t:x")
        );
        assert_eq!(pin.to_hex().to_lowercase(), "ab".repeat(48));
        assert!(!format!("{profile:?}").contains("secret"));
        std::fs::write(&path, "{").expect("written");
        assert!(matches!(Profile::load(&path), Err(ProfileError::Damaged { .. })));
        assert_eq!(std::fs::read_dir(path.parent().expect("one")).expect("a folder").count(), 1);
    }
}
