//! The name of a file or folder: one step of a path, never more.

/// Longest name that file systems take, in bytes. (Clients may send up to 4096 characters.)
const LONGEST: usize = 255;
/// Names that are devices on Windows, where these files may end up.
const DEVICES: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9",
    "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// A name that can be joined to a folder without leaving it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileName(String);

/// Why a text is no such name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty or too long.
    #[error("a file name has 1 to {LONGEST} bytes")]
    Length,
    /// It begins with a dot.
    #[error("a file name does not begin with a dot")]
    Hidden,
    /// A character that is not for names.
    #[error("a file name has none of \\ / : * ? \" < > | and no control characters")]
    Character,
    /// A device of Windows.
    #[error("{0} is no file name on Windows")]
    Device(String),
}

impl FileName {
    /// Reads a name.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn parse(text: &str) -> Result<FileName, NameError> {
        if text.is_empty() || text.len() > LONGEST {
            return Err(NameError::Length);
        }
        if text.starts_with('.') {
            return Err(NameError::Hidden);
        }
        if text.chars().any(|c| c.is_control() || "\\/:*?\"<>|".contains(c)) {
            return Err(NameError::Character);
        }
        let stem = text.split('.').next().unwrap_or(text).trim_end().to_ascii_lowercase();
        if DEVICES.contains(&stem.as_str()) {
            return Err(NameError::Device(stem));
        }
        Ok(FileName(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_step_and_stays_in_its_folder() {
        for good in ["a.txt", "with space", "é漢", "console.txt", "a..b", "tar.gz"] {
            assert!(FileName::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "", ".", "..", ".hidden", "a/b", "a\\b", "c:", "a*", "a?", "\"", "<", ">", "|", "a\0", "a\n",
            "CON", "nul.txt",
        ] {
            assert!(FileName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(FileName::parse(&"x".repeat(256)).is_err());
    }
}
