//! What runs inside a relay tunnel besides raw data: protocol numbers and control messages.
//!
//! Control messages are JSON texts with `ctrlChannel` set to `"102938"`, as a text or a number
//! (tunnel-protocols §1.8). `options` may come without it, before the protocol is chosen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use crate::{
    json,
    text::{de_lines, de_opt_line, de_opt_number, de_opt_prose},
};

/// Longest control message that is looked at, in bytes; an SDP offer has a few thousand.
pub const MAX_CONTROL: usize = 65_536;
/// Widest and highest terminal, in cells.
pub const MAX_CELLS: u16 = 4096;
/// What both halves of a tunnel receive when it is joined.
pub const JOINED: &str = "c";
/// The same, when the session is being recorded.
pub const JOINED_RECORDED: &str = "cr";

/// The number that marks a control message.
const CTRL_CHANNEL: &str = "102938";

macro_rules! protocols {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What a tunnel carries (tunnel-protocols §2).
        ///
        /// 10 means a file pushed to the agent here; as `p=` of a relay URL the same number means Web-RDP.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Protocol {
            $($(#[$doc])* $name = $number,)*
        }

        impl Protocol {
            /// Every protocol.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The protocol with this number.
            pub fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

protocols! {
    /// A shell as the agent's own user, usually root.
    Terminal = 1,
    /// The screen.
    Desktop = 2,
    /// Files, by the number that only rights checks still know.
    LegacyFiles = 4,
    /// Files.
    Files = 5,
    /// PowerShell as SYSTEM.
    PowerShell = 6,
    /// Messages of plugins.
    Plugin = 7,
    /// A shell as the user at the console.
    UserShell = 8,
    /// PowerShell as the user at the console.
    UserPowerShell = 9,
    /// One file, pushed by the agent.
    FileTransfer = 10,
    /// TCP for SSH in the browser.
    WebSsh = 11,
    /// TCP for VNC in the browser.
    WebVnc = 12,
    /// TCP for SFTP in the browser.
    WebSftp = 13,
    /// TCP for the web relay.
    WebTcp = 14,
    /// Intel AMT management.
    AmtWsman = 100,
    /// Intel AMT redirection.
    AmtRedirection = 101,
    /// Intel AMT desktop.
    AmtDesktop = 102,
    /// Chat.
    Messenger = 200,
}

impl Protocol {
    /// Its number.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// Reads the frame by which a browser chooses the protocol: its number in decimal.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        // Five digits hold every number there is.
        if frame.is_empty() || frame.len() > 5 || !frame.iter().all(u8::is_ascii_digit) {
            return None;
        }
        Self::from_number(std::str::from_utf8(frame).ok()?.parse().ok()?)
    }

    /// Whether it is a shell of some kind.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Terminal | Self::PowerShell | Self::UserShell | Self::UserPowerShell)
    }
}

/// What a browser asks of a session before it chooses the protocol (tunnel-protocols §1.9).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Options {
    /// The protocol that will be chosen, informational.
    #[serde(deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u16>,
    /// Terminal width in cells, 1 to [`MAX_CELLS`].
    #[serde(deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub cols: Option<u16>,
    /// Terminal height in cells, 1 to [`MAX_CELLS`].
    #[serde(deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub rows: Option<u16>,
    /// Ask for name and password on the terminal instead of starting a shell.
    #[serde(deserialize_with = "de_bool", skip_serializing_if = "is_false")]
    pub require_login: bool,
    /// Name of the account that the shell should run as. Outpost's own.
    #[serde(deserialize_with = "de_opt_line::<255, _>", skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How many bytes may be under way without an [`Control::Ack`]; absent means no acknowledgements.
    /// Outpost's own.
    #[serde(deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
    /// Consent bits that are added to those of the server; a client can only add.
    #[serde(deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub consent: Option<u32>,
    /// Windows session to show.
    #[serde(deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub tsid: Option<i64>,
    /// Lock the operating system's session at the end.
    #[serde(deserialize_with = "de_bool", skip_serializing_if = "is_false")]
    pub autolock: bool,
    /// The shell that the terminal should run, one of the device's `/etc/shells`. Outpost's own.
    #[serde(deserialize_with = "de_path", skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Files: begin with a message of what the agent can do beyond MeshCentral's protocol. Outpost's own.
    #[serde(deserialize_with = "de_bool", skip_serializing_if = "is_false")]
    pub abilities: bool,
    /// Where in the file to begin to push, in bytes. Outpost's own.
    #[serde(deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Push an archive of these entries of the folder `file`, or of the whole folder. Outpost's own.
    #[serde(deserialize_with = "de_names", skip_serializing_if = "Option::is_none")]
    pub zip: Option<Vec<String>>,
    /// Path of the file to push (protocol 10).
    // Not cleaned: names may have any character, and this one is never shown.
    #[serde(deserialize_with = "de_path", skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// Status text for the person at the browser.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsoleText {
    /// The text; none clears what was shown.
    #[serde(deserialize_with = "de_opt_prose::<1024, _>")]
    pub msg: Option<String>,
    /// Number of a known text (tunnel-protocols §1.8); 0 shows `msg` as it is.
    #[serde(deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub msgid: Option<u32>,
    /// What fills the gaps of the known text.
    #[serde(deserialize_with = "de_lines::<1024, 16, _>", skip_serializing_if = "Vec::is_empty")]
    pub msgargs: Vec<String>,
    /// Seconds after which it vanishes.
    #[serde(deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
}

/// Who else is in the session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    /// How many sessions each user has. Guests are `userid/guest:<base64 name>`.
    pub users: BTreeMap<String, u32>,
    /// When it began, Unix milliseconds.
    #[serde(deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub start_time: Option<i64>,
}

/// A control message inside a tunnel.
#[derive(Debug, Clone, PartialEq)]
pub enum Control {
    /// What the session should be like.
    Options(Box<Options>),
    /// Round-trip measurement; the agent returns it unchanged.
    Rtt {
        /// Any number.
        time: Number,
    },
    /// Asks for a [`Control::Pong`].
    Ping,
    /// Answers a ping.
    Pong,
    /// Orderly end.
    Close,
    /// Status text for the browser.
    Console(Box<ConsoleText>),
    /// Who else is in the session.
    Metadata(Box<Metadata>),
    /// The terminal has a new size, each 1 to [`MAX_CELLS`].
    TermSize {
        /// Width in cells.
        cols: u16,
        /// Height in cells.
        rows: u16,
    },
    /// The browser has taken this many bytes of data since the session began. Outpost's own.
    Ack {
        /// Total, not difference.
        bytes: u64,
    },
    /// Asks a terminal where it is: its shell's folder, and which shells and accounts there are. Outpost's own.
    Surroundings,
    /// Lock the operating system's session now.
    Lock,
    /// Lock it at the end.
    AutoLock {
        /// Whether to.
        value: bool,
    },
    /// Any other, such as WebRTC offers; to be ignored.
    Other,
}

#[derive(Deserialize)]
struct Cells {
    #[serde(deserialize_with = "de_opt_number")]
    cols: Option<u16>,
    #[serde(deserialize_with = "de_opt_number")]
    rows: Option<u16>,
}

impl Control {
    /// Reads a text frame. None if it is not a control message at all, or a known one with wrong fields.
    pub fn parse(text: &str) -> Option<Self> {
        let mut map = json::object(text, MAX_CONTROL).ok()?;
        let kind = match map.remove("type")? {
            Value::String(kind) => kind,
            _ => return None,
        };
        let marked = match map.remove("ctrlChannel") {
            Some(Value::String(mark)) => mark == CTRL_CHANNEL,
            Some(Value::Number(mark)) => mark.as_f64() == Some(102_938.0),
            Some(_) => false,
            None => kind == "options",
        };
        if !marked {
            return None;
        }
        Some(match kind.as_str() {
            "options" => {
                let mut options: Options = json::typed(map).ok()?;
                options.cols = options.cols.map(cells);
                options.rows = options.rows.map(cells);
                Self::Options(Box::new(options))
            }
            "rtt" => match map.remove("time")? {
                Value::Number(time) => Self::Rtt { time },
                _ => return None,
            },
            "ping" => Self::Ping,
            "pong" => Self::Pong,
            "close" => Self::Close,
            "console" => Self::Console(Box::new(json::typed(map).ok()?)),
            "metadata" => Self::Metadata(Box::new(metadata(map)?)),
            "termsize" => {
                let size: Cells = json::typed(map).ok()?;
                Self::TermSize { cols: cells(size.cols?), rows: cells(size.rows?) }
            }
            "ack" => Self::Ack { bytes: map.get("bytes")?.as_u64()? },
            "surroundings" => Self::Surroundings,
            "lock" => Self::Lock,
            "autolock" => Self::AutoLock { value: map.get("value")?.as_bool()? },
            _ => Self::Other,
        })
    }

    /// The text frame. `ctrlChannel` and `type` come first, because command-line tools tell control
    /// messages from data by that beginning. [`Control::Other`] has no text of its own and writes a `pong`,
    /// which everybody ignores.
    pub fn to_json(&self) -> String {
        fn fields(value: &impl Serialize) -> Map<String, Value> {
            match serde_json::to_value(value) {
                Ok(Value::Object(map)) => map,
                _ => Map::new(),
            }
        }
        let one = |name: &str, value: Value| Map::from_iter([(name.to_owned(), value)]);
        let (kind, body) = match self {
            Self::Options(options) => ("options", fields(options)),
            Self::Rtt { time } => ("rtt", one("time", Value::Number(time.clone()))),
            Self::Ping => ("ping", Map::new()),
            Self::Pong | Self::Other => ("pong", Map::new()),
            Self::Close => ("close", Map::new()),
            Self::Console(text) => ("console", fields(text)),
            Self::Metadata(metadata) => ("metadata", fields(metadata)),
            Self::TermSize { cols, rows } => (
                "termsize",
                Map::from_iter([("cols".into(), (*cols).into()), ("rows".into(), (*rows).into())]),
            ),
            Self::Ack { bytes } => ("ack", one("bytes", (*bytes).into())),
            Self::Surroundings => ("surroundings", Map::new()),
            Self::Lock => ("lock", Map::new()),
            Self::AutoLock { value } => ("autolock", one("value", (*value).into())),
        };
        let mut out = format!("{{\"ctrlChannel\":\"{CTRL_CHANNEL}\",\"type\":\"{kind}\"");
        if !body.is_empty() {
            let rest = Value::Object(body).to_string();
            out.push(',');
            out.push_str(&rest[1..rest.len() - 1]);
        }
        out.push('}');
        out
    }
}

/// A terminal that is 0 or 60,000 cells wide is a mistake of the browser's layout, not a reason to refuse.
fn cells(n: u16) -> u16 {
    n.clamp(1, MAX_CELLS)
}

fn metadata(map: Map<String, Value>) -> Option<Metadata> {
    json::typed(json::clean_map(map, 1024).ok()?).ok()
}

/// A path as it is, within what a path can have.
fn de_path<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    let path = Option::<String>::deserialize(d)?;
    if path.as_ref().is_some_and(|path| path.len() > 4 * crate::files::MAX_PATH || path.contains('\0')) {
        return Err(serde::de::Error::custom("a path was expected"));
    }
    Ok(path)
}

/// Names of entries; what is no name is refused.
fn de_names<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Vec<String>>, D::Error> {
    let names = Option::<Vec<String>>::deserialize(d)?;
    let good = |names: &Vec<String>| {
        names.len() <= crate::files::MAX_NAMES
            && names.iter().all(|name| crate::files::Name::new(name).is_some())
    };
    if names.as_ref().is_some_and(|names| !good(names)) {
        return Err(serde::de::Error::custom("names were expected"));
    }
    Ok(names)
}

fn is_false(value: &bool) -> bool {
    !value
}

/// JavaScript's idea of a flag: absent, null, 0 and false are false.
fn de_bool<'de, D: serde::Deserializer<'de>>(d: D) -> Result<bool, D::Error> {
    Ok(match Value::deserialize(d)? {
        Value::Null => false,
        Value::Bool(flag) => flag,
        Value::Number(n) => n.as_f64() != Some(0.0),
        _ => return Err(serde::de::Error::custom("a flag was expected")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_may_be_a_text_or_a_number() {
        let ping = Some(Control::Ping);
        assert_eq!(Control::parse(r#"{"ctrlChannel":"102938","type":"ping"}"#), ping);
        assert_eq!(Control::parse(r#"{"type":"ping","ctrlChannel":102938}"#), ping);
        for text in [
            r#"{"ctrlChannel":"102939","type":"ping"}"#,
            r#"{"ctrlChannel":102938.5,"type":"ping"}"#,
            r#"{"ctrlChannel":[102938],"type":"ping"}"#,
            r#"{"type":"ping"}"#,
            r#"{"ctrlChannel":"102938"}"#,
            r#"{"ctrlChannel":"102938","type":3}"#,
            r#"[]"#,
            "ls -l",
            "",
        ] {
            assert_eq!(Control::parse(text), None, "{text}");
        }
        assert_eq!(
            Control::parse(r#"{"ctrlChannel":102938,"type":"offer","sdp":"v=0"}"#),
            Some(Control::Other)
        );
    }

    #[test]
    fn options_come_without_the_mark() {
        let text = r#"{"type":"options","protocol":1,"cols":100,"rows":0,"requireLogin":1,"consent":9,"xterm":true}"#;
        let Some(Control::Options(options)) = Control::parse(text) else { panic!("{text}") };
        assert_eq!((options.protocol, options.cols, options.rows), (Some(1), Some(100), Some(1)));
        assert!(options.require_login);
        assert_eq!(options.consent, Some(9));
        assert_eq!(Control::parse(&format!(r#"{{"type":"options","user":"{}"}}"#, "x".repeat(256))), None);
        assert_eq!(Control::parse(r#"{"type":"options","cols":-5}"#), None);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let all = [
            Control::Options(Box::new(Options {
                cols: Some(120),
                rows: Some(40),
                user: Some("alice".into()),
                window: Some(262_144),
                ..Options::default()
            })),
            Control::Rtt { time: 1_700_000_000_123_u64.into() },
            Control::Rtt { time: Number::from_f64(1.5).unwrap() },
            Control::Ping,
            Control::Pong,
            Control::Close,
            Control::Console(Box::new(ConsoleText {
                msg: Some("a \"b\"".into()),
                msgid: Some(2),
                ..Default::default()
            })),
            Control::Console(Box::default()),
            Control::Metadata(Box::new(Metadata {
                users: BTreeMap::from([("user//admin".into(), 2)]),
                start_time: Some(5),
            })),
            Control::TermSize { cols: 80, rows: 25 },
            Control::Ack { bytes: u64::MAX },
            Control::Surroundings,
            Control::Lock,
            Control::AutoLock { value: true },
        ];
        for control in all {
            let text = control.to_json();
            assert!(text.starts_with(r#"{"ctrlChannel":"102938","type":""#), "{text}");
            assert_eq!(Control::parse(&text), Some(control), "{text}");
        }
    }

    #[test]
    fn protocols_by_number() {
        for &protocol in Protocol::ALL {
            assert_eq!(Protocol::from_number(protocol.number()), Some(protocol));
            assert_eq!(Protocol::parse(protocol.number().to_string().as_bytes()), Some(protocol));
        }
        for frame in [&b""[..], b"3", b"-1", b" 1", b"99999", b"65537", b"1000001", b"{}"] {
            assert_eq!(Protocol::parse(frame), None);
        }
        assert!(Protocol::UserShell.is_terminal() && !Protocol::Files.is_terminal());
    }
}
