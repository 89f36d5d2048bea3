//! What the box is called, and where on earth it stands.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A host name: one label of a DNS name, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<HostName, String> {
        let name = text.strip_suffix(".local").unwrap_or(text).to_ascii_lowercase();
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        // RFC 1123: 63 characters.
        if name.is_empty() || name.len() > 63 || !plain || name.starts_with('-') || name.ends_with('-') {
            return Err("expected a name of 1 to 63 letters, digits and hyphens, such as \"attic\"".into());
        }
        if name == "localhost" {
            return Err("localhost is the name of every machine for itself".into());
        }
        Ok(HostName(name))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name of the time zone database: `Europe/Berlin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeZone(String);

impl TimeZone {
    /// Whether the database in a folder has it.
    pub fn is_known(&self, database: &Path) -> bool {
        database.join(&self.0).is_file()
    }
}

impl FromStr for TimeZone {
    type Err = String;

    fn from_str(text: &str) -> Result<TimeZone, String> {
        let part = |part: &str| {
            part.starts_with(|first: char| first.is_ascii_uppercase())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+-".contains(&byte))
        };
        if text.len() > 64 || !text.split('/').all(part) {
            return Err("expected the name of a time zone, such as \"Europe/Berlin\" or \"UTC\"".into());
        }
        Ok(TimeZone(text.to_owned()))
    }
}

impl fmt::Display for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_labels() {
        let read = |text: &str| text.parse::<HostName>().map(|name| name.to_string());
        assert_eq!(read("Attic-2").as_deref(), Ok("attic-2"));
        assert_eq!(read("attic.local").as_deref(), Ok("attic"));
        for bad in ["", "-a", "a-", "a b", "a.b", "a\nb", "ä", "localhost", &"a".repeat(64)] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn time_zones_stay_in_their_database() {
        let read = |text: &str| text.parse::<TimeZone>().is_ok();
        assert!(
            read("Europe/Berlin")
                && read("UTC")
                && read("America/Argentina/Buenos_Aires")
                && read("Etc/GMT+5")
        );
        for bad in [
            "",
            "../etc/shadow",
            "Europe/../../x",
            "/etc/shadow",
            "Europe//Berlin",
            "Europe/Berlin\n",
            "posixrules",
        ] {
            assert!(!read(bad), "{bad:?}");
        }
    }
}
