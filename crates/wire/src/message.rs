//! JSON messages on an agent's control channel, in both directions (agent-protocol §6).
//!
//! Each is an object with an `action`. Known actions become records whose texts are limited and free of
//! control characters; unknown ones stay maps, cleaned likewise. A known action with a wrong field is an
//! error that names the field, never a half-read record.

mod from_agent;
mod to_agent;

pub use from_agent::{
    AgentLog, AgentMsg, AntiVirus, Battery, CoreInfo, NetAddress, NetInfo, OpenedUrl, PowerSource,
    SessionKind, Sessions, Smbios, SysInfo,
};
pub use to_agent::{
    OpenUrl, PowerAction, PowerActionKind, RunCommands, ServerInfo, ServerMsg, ServerMsgBody, SessionOptions,
    ShellKind, SysInfoRequest, TermLaunchCommand, Toast, TunnelRequest, WakeOnLan,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    json::{self, JsonError, Unclean},
    text,
};

/// Longest JSON message on a control channel, in bytes. A full inventory has some 300 KiB.
pub const MAX_AGENT_MESSAGE: usize = 1 << 20;
/// Longest single text in a message that has no narrower limit, in bytes (console output, process lists).
pub const MAX_TEXT: usize = MAX_AGENT_MESSAGE;
/// Longest id in a message, in bytes.
pub(crate) const MAX_ID: usize = 512;
/// Longest agent name, in bytes.
pub const MAX_AGENT_NAME: usize = 255;

/// Why a message was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The message is longer than [`MAX_AGENT_MESSAGE`].
    #[error("message of {0}")]
    TooLong(text::TooLong),
    /// More values or deeper nesting than any real message has.
    #[error("the message has too many values or is nested too deeply")]
    TooComplex,
    /// It is not a JSON object.
    #[error("the message is not a JSON object (line {line}, column {column})")]
    Syntax {
        /// Where reading ended.
        line: usize,
        /// Where reading ended.
        column: usize,
    },
    /// A key has control characters.
    #[error("a key of the message has control characters")]
    BadKey,
    /// The field `action` is missing or not a short text.
    #[error("the message has no action")]
    NoAction,
    /// A field is wrong.
    #[error("{action}: field {path}: {reason}")]
    Field {
        /// The action of the message.
        action: String,
        /// Path of the field, `.` for the whole message.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl From<JsonError> for MessageError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::TooLong(e) => Self::TooLong(e),
            JsonError::TooComplex => Self::TooComplex,
            JsonError::Syntax { line, column } => Self::Syntax { line, column },
        }
    }
}

impl From<Unclean> for MessageError {
    fn from(error: Unclean) -> Self {
        match error {
            Unclean::TooLong(e) => Self::TooLong(e),
            Unclean::BadKey => Self::BadKey,
        }
    }
}

/// An action without fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

/// Parses the object and takes its action out.
fn split(text: &str) -> Result<(String, Map<String, Value>), MessageError> {
    let mut map = json::object(text, MAX_AGENT_MESSAGE)?;
    match map.remove("action") {
        Some(Value::String(action)) if action.len() <= 64 => {
            let action = text::line(&action, 64).map_err(MessageError::TooLong)?;
            Ok((action, map))
        }
        _ => Err(MessageError::NoAction),
    }
}

fn typed<T: serde::de::DeserializeOwned>(action: &str, map: Map<String, Value>) -> Result<T, MessageError> {
    json::typed(map).map_err(|(path, reason)| MessageError::Field { action: action.to_owned(), path, reason })
}

fn join(action: &str, fields: &impl Serialize) -> String {
    let mut map = match serde_json::to_value(fields) {
        Ok(Value::Object(map)) => map,
        other => unreachable!("message records serialise to objects, not {other:?}"),
    };
    map.insert("action".into(), action.into());
    Value::Object(map).to_string()
}

/// Declares a message enum with its reader and writer, so that no action can be read but not written.
macro_rules! messages {
    (
        $(#[$doc:meta])* $name:ident {
            $($(#[$vdoc:meta])* $variant:ident($record:ty) = $action:literal,)*
            ;
            $($(#[$udoc:meta])* $unit:ident = $uaction:literal,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $name {
            $($(#[$vdoc])* $variant($record),)*
            $($(#[$udoc])* $unit,)*
            /// Any other action: the whole object, `action` included, free of control characters.
            Other(Map<String, Value>),
        }

        impl $name {
            /// Reads one message of at most [`MAX_AGENT_MESSAGE`] bytes.
            pub fn parse(text: &str) -> Result<Self, MessageError> {
                let (action, map) = split(text)?;
                Ok(match action.as_str() {
                    $($action => Self::$variant(typed(&action, map)?),)*
                    $($uaction => Self::$unit,)*
                    _ => {
                        let mut map = json::clean_map(map, MAX_TEXT)?;
                        map.insert("action".into(), action.into());
                        Self::Other(map)
                    }
                })
            }

            /// The JSON text, to be sent as a TEXT frame by agents and as one unfragmented frame by servers.
            pub fn to_json(&self) -> String {
                match self {
                    $(Self::$variant(record) => join($action, record),)*
                    $(Self::$unit => join($uaction, &Nothing {}),)*
                    Self::Other(map) => serde_json::to_string(map).unwrap_or_default(),
                }
            }

            /// The action's name.
            pub fn action(&self) -> &str {
                match self {
                    $(Self::$variant(_) => $action,)*
                    $(Self::$unit => $uaction,)*
                    Self::Other(map) => map.get("action").and_then(Value::as_str).unwrap_or_default(),
                }
            }
        }
    };
}

/// The name that an agent was given in its settings; the only JSON an agent may send before it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentName {
    /// 1 to 255 bytes.
    #[serde(deserialize_with = "text::de_line::<MAX_AGENT_NAME, _>")]
    pub value: String,
}

messages! {
    /// What an agent sends.
    FromAgent {
        /// What it is, at connect and whenever that changes.
        CoreInfo(Box<CoreInfo>) = "coreinfo",
        /// Its network interfaces.
        NetInfo(NetInfo) = "netinfo",
        /// How many sessions of a kind run now.
        Sessions(Sessions) = "sessions",
        /// Its hardware and system inventory.
        SysInfo(SysInfo) = "sysinfo",
        /// Raw SMBIOS tables.
        Smbios(Smbios) = "smbios",
        /// Power source and charge.
        Battery(Battery) = "battery",
        /// An answer to a user.
        Msg(Box<AgentMsg>) = "msg",
        /// An entry for the event log.
        Log(Box<AgentLog>) = "log",
        /// Whether a page was opened.
        OpenUrl(OpenedUrl) = "openUrl",
        /// Its given name.
        AgentName(AgentName) = "agentName",
        ;
        /// Asks to be asked for its inventory.
        SysInfoCheck = "sysinfocheck",
        /// Asks for a `Pong`.
        Ping = "ping",
        /// Answers a `Ping`.
        Pong = "pong",
    }
}

messages! {
    /// What a server sends.
    ToAgent {
        /// A request of a user.
        Msg(Box<ServerMsg>) = "msg",
        /// Run a script.
        RunCommands(Box<RunCommands>) = "runcommands",
        /// Settings of the server.
        ServerInfo(ServerInfo) = "serverInfo",
        /// Send the inventory if it differs.
        SysInfo(SysInfoRequest) = "sysinfo",
        /// Switch off, restart, sleep.
        PowerAction(PowerAction) = "poweraction",
        /// Wake neighbours.
        WakeOnLan(WakeOnLan) = "wakeonlan",
        /// Show a notification.
        Toast(Toast) = "toast",
        /// Open a page.
        OpenUrl(OpenUrl) = "openUrl",
        ;
        /// Asks for a `Pong`.
        Ping = "ping",
        /// Answers a `Ping`.
        Pong = "pong",
        /// Stop and remove the agent.
        UninstallAgent = "uninstallagent",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_of_the_capture_are_read() {
        // agent-protocol §4.6.
        let text = r#"{"action":"coreinfo","caps":14,"osdesc":"Debian GNU/Linux 12 (bookworm)","root":true,"value":"Nov 21 2022, 2189501291"}"#;
        let FromAgent::CoreInfo(info) = FromAgent::parse(text).unwrap() else { panic!() };
        assert_eq!(info.caps, Some(14));
        assert_eq!(info.osdesc.as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(info.root, Some(true));
        assert_eq!(info.value.as_deref(), Some("Nov 21 2022, 2189501291"));
        let text = r#"{"action":"sessions","type":"app","value":{}}"#;
        let FromAgent::Sessions(sessions) = FromAgent::parse(text).unwrap() else { panic!() };
        assert_eq!(sessions.kind, SessionKind::App);
        assert!(sessions.value.is_empty());
        assert_eq!(
            ToAgent::parse(r#"{"action":"serverInfo"}"#).unwrap(),
            ToAgent::ServerInfo(ServerInfo::default())
        );
        assert_eq!(
            ToAgent::parse(r#"{"action":"sysinfo"}"#).unwrap(),
            ToAgent::SysInfo(SysInfoRequest::default())
        );
    }

    #[test]
    fn unknown_actions_stay_maps_and_survive() {
        let text = r#"{"action":"iplocation","type":"publicip","value":{"ip":"1.2.3.4\u0007"}}"#;
        let other = FromAgent::parse(text).unwrap();
        assert_eq!(other.action(), "iplocation");
        let FromAgent::Other(map) = &other else { panic!() };
        assert_eq!(map["value"], json!({"ip": "1.2.3.4"}));
        assert_eq!(FromAgent::parse(&other.to_json()).unwrap(), other);
    }

    #[test]
    fn every_text_has_its_limit() {
        for (field, limit) in [("osdesc", 1024), ("value", 255), ("name", 255)] {
            let fits = json!({"action": "coreinfo", field: "x".repeat(limit)}).to_string();
            assert!(FromAgent::parse(&fits).is_ok(), "{field}");
            let long = json!({"action": "coreinfo", field: "x".repeat(limit + 1)}).to_string();
            match FromAgent::parse(&long) {
                Err(MessageError::Field { action, path, .. }) => {
                    assert_eq!((action.as_str(), path.as_str()), ("coreinfo", field));
                }
                other => panic!("{field}: {other:?}"),
            }
        }
        let log = json!({"action": "log", "msg": "x".repeat(4096)}).to_string();
        assert!(matches!(FromAgent::parse(&log), Err(MessageError::Field { .. })));
        let users = json!({"action": "coreinfo", "users": vec!["u"; 257]}).to_string();
        assert!(matches!(FromAgent::parse(&users), Err(MessageError::Field { .. })));
        let script = json!({"action": "coreinfo", "osdesc": "<script>\u{1b}[2J"}).to_string();
        let FromAgent::CoreInfo(info) = FromAgent::parse(&script).unwrap() else { panic!() };
        assert_eq!(info.osdesc.as_deref(), Some("<script>[2J"));
    }

    #[test]
    fn hostile_messages_are_refused_not_survived() {
        assert!(matches!(
            FromAgent::parse(&" ".repeat(MAX_AGENT_MESSAGE + 1)),
            Err(MessageError::TooLong(_))
        ));
        assert_eq!(
            FromAgent::parse(&format!("{{\"action\":\"x\",\"a\":{}", "[".repeat(500_000))),
            Err(MessageError::TooComplex)
        );
        for text in ["", "{", "null", "[]", "{\"action\":5}", "{}", "{\"action\":null}"] {
            assert!(FromAgent::parse(text).is_err(), "{text}");
        }
        let long_action = json!({"action": "x".repeat(65)}).to_string();
        assert_eq!(FromAgent::parse(&long_action), Err(MessageError::NoAction));
        assert!(FromAgent::parse(r#"{"action":"msg","value":"x"}"#).is_err());
        assert!(FromAgent::parse(r#"{"action":"coreinfo","caps":"many"}"#).is_err());
        assert!(FromAgent::parse(r#"{"action":"coreinfo","caps":-1}"#).is_err());
        assert!(FromAgent::parse(r#"{"action":"netinfo","netif2":{"eth0":[{"mac":{}}]}}"#).is_err());
    }

    #[test]
    fn a_key_cannot_turn_into_another_one() {
        let smuggled = r#"{"action":"msg","type":"console","value":"x","session\u0000id":"user//victim/1"}"#;
        assert!(matches!(FromAgent::parse(smuggled), Err(MessageError::Field { .. })));
        assert_eq!(FromAgent::parse(r#"{"action":"x","a\u0007":1}"#), Err(MessageError::BadKey));
    }

    #[test]
    fn null_is_absent() {
        let text =
            r#"{"action":"coreinfo","osdesc":null,"users":null,"lusers":["a",null],"av":null,"caps":null}"#;
        let FromAgent::CoreInfo(info) = FromAgent::parse(text).unwrap() else { panic!() };
        assert_eq!(info.lusers, ["a"]);
        assert_eq!((info.osdesc, info.caps, info.users.len()), (None, None, 0));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let from_agent = [
            FromAgent::Ping,
            FromAgent::SysInfoCheck,
            FromAgent::AgentName(AgentName { value: "till 3".into() }),
            FromAgent::Battery(Battery { state: Some(PowerSource::Dc), level: Some(80) }),
            FromAgent::Log(Box::new(AgentLog { msg: "a".into(), msgid: Some(98), ..AgentLog::default() })),
            FromAgent::NetInfo(NetInfo {
                netif2: [(
                    "eth0".to_owned(),
                    vec![NetAddress { mac: Some("aa:bb".into()), ..NetAddress::default() }],
                )]
                .into(),
            }),
        ];
        for message in from_agent {
            assert_eq!(FromAgent::parse(&message.to_json()).unwrap(), message);
        }
        let to_agent = [
            ToAgent::UninstallAgent,
            ToAgent::WakeOnLan(WakeOnLan { macs: vec!["00:11:22:33:44:55".into()] }),
            ToAgent::PowerAction(PowerAction {
                actiontype: PowerActionKind::Reset,
                ..PowerAction::default()
            }),
            ToAgent::RunCommands(Box::new(RunCommands {
                shell: ShellKind::Sh,
                cmds: "uptime\n".into(),
                reply: true,
                ..RunCommands::default()
            })),
        ];
        for message in to_agent {
            assert_eq!(ToAgent::parse(&message.to_json()).unwrap(), message);
        }
    }
}
