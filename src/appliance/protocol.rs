//! What the server, which may do nothing to the machine, and the root helper, which may, say to each other: one
//! request a connection, a line of JSON; then lines of JSON back, the last of which is no [`Reply::Progress`].
//!
//! The helper takes nothing on trust: whoever speaks may be a server that was broken into. Names are parsed here into
//! types that cannot lead anywhere else.

use serde::{Deserialize, Serialize};

/// Longest request, in bytes.
pub const LONGEST_REQUEST: usize = 4096;
/// Longest reply, in bytes. A list of sticks is the longest.
pub const LONGEST_REPLY: usize = 256 << 10;
/// How the name of an update bundle ends.
pub const ENDING: &str = ".raucb";

/// Something only root may do.
#[allow(missing_docs, reason = "a variant\'s line says what its fields are")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Request {
    /// What runs, what became of the last update, what happened to the disk.
    Status,
    /// The bundles on USB sticks.
    Sticks,
    /// Install a bundle of the staging folder into the other slot; with `version`, only if it has that release.
    Install {
        file: StagedName,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
    },
    /// The same with one of a USB stick.
    InstallFromStick { stick: StickName, file: BundleName },
    /// Restart the box.
    Restart,
    /// Switch it off.
    PowerOff,
    /// Restart it without its data.
    FactoryReset,
    /// Set the clock, Unix milliseconds; only while no time server does.
    SetTime { ms: i64 },
}

/// An answer.
#[allow(missing_docs, reason = "a variant\'s line says what its fields are")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// How far an installation is; more replies follow.
    Progress(Progress),
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Sticks`].
    Sticks { bundles: Vec<StickBundle> },
    /// The bundle is in the slot, which starts next.
    Installed { version: String, slot: Slot },
    /// It is done, or under way.
    Done,
    /// It is not, and nothing was changed.
    Refused { code: Cause, message: String },
}

/// How far an installation is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// 0 to 100.
    pub percent: u8,
    /// The step, in the installer's words.
    pub step: String,
}

/// Why something is refused, for whoever does more than show the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The request is none.
    BadRequest,
    /// There is no such file, or it is none.
    NoFile,
    /// The signature is missing, wrong, or of a key that this box does not trust.
    NotSigned,
    /// The bundle is for another kind of box.
    OtherBoard,
    /// The bundle has another release than is wanted.
    OtherVersion,
    /// The bundle is not whole.
    Damaged,
    /// Another installation is running.
    Busy,
    /// The disk is full.
    NoRoom,
    /// A time server sets the clock, or the time is absurd.
    Clock,
    /// Something did not work.
    Failed,
}

/// One of the two places of a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Slot {
    /// The first; the one of a new card.
    A,
    /// The second.
    B,
}

impl Slot {
    /// The slot of a boot name.
    pub fn named(name: &str) -> Option<Slot> {
        match name.trim() {
            "A" => Some(Slot::A),
            "B" => Some(Slot::B),
            _ => None,
        }
    }
}

impl std::fmt::Display for Slot {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(match self {
            Slot::A => "A",
            Slot::B => "B",
        })
    }
}

/// The state of the box, as far as root knows more than the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Which bundles fit: `outpost-<board>`.
    pub compatible: String,
    /// The slot that runs.
    pub booted: Slot,
    /// It has been found well, and stays the one that starts.
    pub confirmed: bool,
    /// Both slots.
    pub slots: Vec<SlotState>,
    /// What became of the last update.
    pub outcome: Option<Outcome>,
    /// What happened to the disk at this start.
    pub incidents: Vec<Incident>,
    /// An installation is running.
    pub installing: bool,
    /// A time server has set the clock.
    pub synchronised: bool,
}

/// A slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotState {
    /// Which.
    pub slot: Slot,
    /// Its release, where that is known.
    pub version: Option<String>,
    /// How often the boot loader still tries it; none when the record cannot be read.
    pub tries_left: Option<u8>,
}

/// What became of an update.
#[allow(missing_docs, reason = "a variant\'s line says what its fields are")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Outcome {
    /// It runs when the box is restarted.
    Waiting { version: String },
    /// It runs. `at`: when it was installed, Unix seconds.
    Updated { version: String, from: String, at: i64 },
    /// It was given up, and the earlier one runs again.
    RolledBack { version: String, to: String, reason: Option<String>, at: i64 },
}

/// What happened to the disk at this start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// What kind of thing.
    pub kind: IncidentKind,
    /// What happened, for people.
    pub sentence: String,
}

/// What kind of thing happened to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncidentKind {
    /// The data's file system was damaged and has been repaired.
    Repaired,
    /// It could not be, so it is left as it is, and the box keeps what it does in memory.
    SetAside,
    /// The card does not take what is written to it, or fails again and again: the data is there, and what is done is kept in memory.
    Card,
    /// The box was reset.
    Reset,
    /// The boot partition cannot be used.
    BootPartition,
    /// The pin of the button for a factory reset is connected to ground all the time.
    Button,
    /// Something in `outpost.toml` was not taken over.
    Settings,
}

/// A bundle on a stick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StickBundle {
    /// The partition.
    pub stick: StickName,
    /// What the stick calls itself, or its maker does.
    pub title: String,
    /// The file.
    pub file: BundleName,
    /// Bytes.
    pub size: u64,
}

/// A name that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct NameError(&'static str);

macro_rules! name {
    ($(#[$about:meta])* $name:ident, $expected:literal, $is_one:expr) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<$name, NameError> {
                let is_one: fn(&str) -> bool = $is_one;
                if is_one(&text) { Ok($name(text)) } else { Err(NameError($expected)) }
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

name!(
    /// A file of the staging folder. The server makes these names.
    StagedName,
    "the name of a staged bundle: letters, digits, `-`, `.raucb`",
    |text| {
        text.len() <= 64
            && text.strip_suffix(ENDING).is_some_and(|stem| {
                !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            })
    }
);

name!(
    /// A file at the top of a stick. People make these names.
    BundleName,
    "the name of a bundle: at most 255 bytes without `/`, ending in `.raucb`",
    |text| {
        text.len() <= 255
            && text.len() > ENDING.len()
            && text.to_ascii_lowercase().ends_with(ENDING)
            && !text.starts_with('.')
            && !text.chars().any(|c| c == '/' || c.is_control())
    }
);

name!(
    /// A block device by the kernel's name, such as `sda1`.
    StickName,
    "the name of a block device: lower-case letters and digits",
    |text| {
        (2..=32).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: &str) -> Result<Request, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn requests_are_read() {
        assert_eq!(request(r#"{"action":"status"}"#), Ok(Request::Status));
        let file = StagedName::try_from("upload-7f.raucb".to_owned()).expect("a name");
        assert_eq!(
            request(r#"{"action":"install","file":"upload-7f.raucb"}"#),
            Ok(Request::Install { file, version: None })
        );
        assert_eq!(request(r#"{"action":"set-time","ms":5}"#), Ok(Request::SetTime { ms: 5 }));
        assert!(request(r#"{"action":"shell"}"#).is_err());
    }

    #[test]
    fn names_lead_nowhere_else() {
        for bad in [
            "",
            ".raucb",
            "../a.raucb",
            "a/b.raucb",
            "/etc/passwd",
            "a.raucb\n",
            "a b.raucb",
            "a..raucb",
            "a.txt",
        ] {
            assert!(StagedName::try_from(bad.to_owned()).is_err(), "{bad:?}");
            assert!(request(&serde_json::json!({ "action": "install", "file": bad }).to_string()).is_err());
        }
        assert!(StagedName::try_from(format!("{}.raucb", "a".repeat(60))).is_err());
        for bad in ["", ".raucb", "../a.raucb", "a/b.raucb", ".hidden.raucb", "a\0.raucb", "a.txt"] {
            assert!(BundleName::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        for good in ["outpost-rpi-arm64-0.2.0.raucb", "Kopie von Outpost (1).RAUCB"] {
            assert!(BundleName::try_from(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", "a", "../sda1", "sda/1", "SDA1", "mapper/x", "sda1 "] {
            assert!(StickName::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert!(StickName::try_from("mmcblk1p1".to_owned()).is_ok());
    }
}
