//! Records that a server sends to an agent.

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};

use super::MAX_ID;
use crate::{
    json::{de_map, de_opt_value},
    text::{de_line, de_lines, de_opt_line, de_opt_number, de_opt_prose, de_prose},
};

/// Longest script, and longest text for the clipboard, in bytes.
pub const MAX_SCRIPT: usize = 65_535;

/// A request of a user, with what the server says about that user.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerMsg {
    /// The browser session, to be copied into the answer: `<userid>/<40 hex>`.
    #[serde(deserialize_with = "de_opt_line::<MAX_ID, _>", skip_serializing_if = "Option::is_none")]
    pub sessionid: Option<String>,
    /// The user's rights on this device.
    #[serde(deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub rights: Option<u32>,
    /// Consent bits: 1, 2, 4 notify of desktop, terminal, files; 8, 16, 32 ask first; 64 privacy bar.
    #[serde(deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub consent: Option<u32>,
    /// The user's id.
    #[serde(deserialize_with = "de_opt_line::<MAX_ID, _>", skip_serializing_if = "Option::is_none")]
    pub userid: Option<String>,
    /// The user's login name.
    #[serde(deserialize_with = "de_opt_line::<255, _>", skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The user's real name.
    #[serde(deserialize_with = "de_opt_line::<255, _>", skip_serializing_if = "Option::is_none")]
    pub realname: Option<String>,
    /// Where the user is.
    #[serde(deserialize_with = "de_opt_line::<128, _>", skip_serializing_if = "Option::is_none")]
    pub remoteaddr: Option<String>,
    /// What is asked.
    #[serde(flatten)]
    pub body: ServerMsgBody,
}

/// What is asked (agent-protocol §6.3).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum ServerMsgBody {
    /// A line for the agent's console.
    #[serde(rename = "console")]
    Console {
        /// The line.
        #[serde(deserialize_with = "de_prose::<MAX_SCRIPT, _>")]
        value: String,
    },
    /// Open a tunnel.
    #[serde(rename = "tunnel")]
    Tunnel(Box<TunnelRequest>),
    /// End tunnels of a user.
    #[serde(rename = "endtunnel")]
    EndTunnel {
        /// Whose.
        #[serde(
            default,
            deserialize_with = "de_opt_line::<MAX_ID, _>",
            skip_serializing_if = "Option::is_none"
        )]
        xuserid: Option<String>,
        /// Which guest's.
        #[serde(
            default,
            deserialize_with = "de_opt_line::<255, _>",
            skip_serializing_if = "Option::is_none"
        )]
        guestname: Option<String>,
        /// `kvm`, `terminal`, `files`, `tcp` or `udp`.
        #[serde(default, deserialize_with = "de_opt_line::<16, _>", skip_serializing_if = "Option::is_none")]
        protocol: Option<String>,
    },
    /// List processes.
    #[serde(rename = "ps")]
    Ps,
    /// Tell about one process.
    #[serde(rename = "psinfo")]
    PsInfo {
        /// Its number.
        #[serde(deserialize_with = "de_number")]
        pid: u32,
    },
    /// End a process.
    #[serde(rename = "pskill")]
    PsKill {
        /// `pid` or `pid|name`.
        #[serde(deserialize_with = "de_text_or_number")]
        value: String,
    },
    /// List services.
    #[serde(rename = "services")]
    Services,
    /// Tell about one service.
    #[serde(rename = "service")]
    Service {
        /// Its name.
        #[serde(rename = "serviceName", deserialize_with = "de_line::<255, _>")]
        service_name: String,
    },
    /// Start a service.
    #[serde(rename = "serviceStart")]
    ServiceStart {
        /// Its name.
        #[serde(rename = "serviceName", deserialize_with = "de_line::<255, _>")]
        service_name: String,
    },
    /// Stop a service.
    #[serde(rename = "serviceStop")]
    ServiceStop {
        /// Its name.
        #[serde(rename = "serviceName", deserialize_with = "de_line::<255, _>")]
        service_name: String,
    },
    /// Restart a service.
    #[serde(rename = "serviceRestart")]
    ServiceRestart {
        /// Its name.
        #[serde(rename = "serviceName", deserialize_with = "de_line::<255, _>")]
        service_name: String,
    },
    /// Read the clipboard.
    #[serde(rename = "getclip")]
    GetClip {
        /// To be copied into the answer.
        #[serde(
            default,
            deserialize_with = "de_opt_value::<MAX_ID, _>",
            skip_serializing_if = "Option::is_none"
        )]
        tag: Option<Value>,
    },
    /// Write the clipboard.
    #[serde(rename = "setclip")]
    SetClip {
        /// The text.
        #[serde(deserialize_with = "de_prose::<MAX_SCRIPT, _>")]
        data: String,
    },
    /// List sessions of the operating system.
    #[serde(rename = "userSessions")]
    UserSessions {
        /// To be copied into the answer.
        #[serde(
            default,
            deserialize_with = "de_opt_value::<MAX_ID, _>",
            skip_serializing_if = "Option::is_none"
        )]
        tag: Option<Value>,
    },
    /// Processor and memory use.
    #[serde(rename = "cpuinfo")]
    CpuInfo {
        /// To be copied into the answer.
        #[serde(
            default,
            deserialize_with = "de_opt_value::<MAX_ID, _>",
            skip_serializing_if = "Option::is_none"
        )]
        tag: Option<Value>,
    },
    /// Show a box that can be answered.
    #[serde(rename = "messagebox")]
    MessageBox {
        /// Its title.
        #[serde(deserialize_with = "de_line::<1024, _>")]
        title: String,
        /// Its text.
        #[serde(deserialize_with = "de_prose::<MAX_SCRIPT, _>")]
        msg: String,
        /// Milliseconds until it closes by itself.
        #[serde(default, deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
        timeout: Option<u64>,
    },
    /// Show a box.
    #[serde(rename = "alertbox")]
    AlertBox {
        /// Its title.
        #[serde(deserialize_with = "de_line::<1024, _>")]
        title: String,
        /// Its text.
        #[serde(deserialize_with = "de_prose::<MAX_SCRIPT, _>")]
        msg: String,
    },
    /// Open a page.
    #[serde(rename = "openUrl")]
    OpenUrl {
        /// The page.
        #[serde(deserialize_with = "de_line::<4096, _>")]
        url: String,
    },
    /// Where the wallpaper is.
    #[serde(rename = "deskBackground")]
    DeskBackground,
    /// Any other.
    #[default]
    #[serde(other)]
    Other,
}

/// Asks the agent to dial a tunnel (agent-protocol §6.6, tunnel-protocols §1.4).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TunnelRequest {
    /// Where to: `*/meshrelay.ashx?…`, meaning the host of the control channel. See [`Self::path`].
    #[serde(deserialize_with = "de_line::<4096, _>")]
    pub value: String,
    /// The protocol that the browser announced.
    #[serde(default, deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub usage: Option<u16>,
    /// 96 hexadecimal digits: full hash of the TLS certificate that the tunnel may also have.
    #[serde(default, deserialize_with = "de_opt_line::<96, _>", skip_serializing_if = "Option::is_none")]
    pub servertlshash: Option<String>,
    /// Texts and rules of the session.
    #[serde(default, deserialize_with = "de_soptions")]
    pub soptions: SessionOptions,
    /// Relay to this TCP address instead of a protocol.
    #[serde(default, deserialize_with = "de_opt_line::<255, _>", skip_serializing_if = "Option::is_none")]
    pub tcpaddr: Option<String>,
    /// Relay to this TCP port.
    #[serde(default, deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub tcpport: Option<u16>,
    /// Relay to this UDP address.
    #[serde(default, deserialize_with = "de_opt_line::<255, _>", skip_serializing_if = "Option::is_none")]
    pub udpaddr: Option<String>,
    /// Relay to this UDP port.
    #[serde(default, deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub udpport: Option<u16>,
    /// Name of the guest.
    #[serde(default, deserialize_with = "de_opt_line::<255, _>", skip_serializing_if = "Option::is_none")]
    pub guestname: Option<String>,
    /// User who invited the guest.
    #[serde(default, deserialize_with = "de_opt_line::<MAX_ID, _>", skip_serializing_if = "Option::is_none")]
    pub guestuserid: Option<String>,
    /// Offer compression of the WebSocket.
    #[serde(default, rename = "perMessageDeflate", skip_serializing_if = "Option::is_none")]
    pub per_message_deflate: Option<bool>,
    /// Text of the privacy bar.
    #[serde(default, deserialize_with = "de_opt_line::<1024, _>", skip_serializing_if = "Option::is_none")]
    pub privacybartext: Option<String>,
    /// Refuse desktop input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desktopviewonly: Option<bool>,
}

impl TunnelRequest {
    /// Path and query to dial on the host of the control channel, `$` and `@` percent-encoded.
    ///
    /// None unless [`Self::value`] is `*/meshrelay.ashx?…` or `*/devicefile.ashx?…`, with at most a domain
    /// before: anything else would let whoever writes it send the agent to hosts and pages of their choice.
    pub fn path(&self) -> Option<String> {
        let rest = self.value.strip_prefix('*')?;
        let (page, query) = rest.split_once('?')?;
        let page = page.strip_prefix('/')?;
        let (domain, name) = match page.rsplit_once('/') {
            // A path that begins with two slashes would name another host.
            Some(("", _)) => return None,
            Some(parts) => parts,
            None => ("", page),
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let domain_ok = domain.bytes().all(plain) && !domain.starts_with('.');
        let query_ok =
            query.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'"' | b'<' | b'>' | b'\\'));
        if !matches!(name, "meshrelay.ashx" | "devicefile.ashx") || !domain_ok || !query_ok {
            return None;
        }
        Some(rest.replace('$', "%24").replace('@', "%40"))
    }
}

/// Texts and rules of a session (tunnel-protocols §1.4). In texts `{0}` is the real name and `{1}` the login
/// name of the user.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SessionOptions {
    /// Title of the question.
    #[serde(deserialize_with = "de_opt_line::<1024, _>", skip_serializing_if = "Option::is_none")]
    pub consent_title: Option<String>,
    /// The question before a desktop session.
    #[serde(deserialize_with = "de_opt_prose::<1024, _>", skip_serializing_if = "Option::is_none")]
    pub consent_msg_desktop: Option<String>,
    /// The question before a terminal session.
    #[serde(deserialize_with = "de_opt_prose::<1024, _>", skip_serializing_if = "Option::is_none")]
    pub consent_msg_terminal: Option<String>,
    /// The question before a files session.
    #[serde(deserialize_with = "de_opt_prose::<1024, _>", skip_serializing_if = "Option::is_none")]
    pub consent_msg_files: Option<String>,
    /// Seconds to wait for the answer; 30 if absent.
    #[serde(deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub consent_timeout: Option<u32>,
    /// Silence is consent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent_auto_accept: Option<bool>,
    /// Nobody there is consent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent_auto_accept_if_no_user: Option<bool>,
    /// Everybody locked out is consent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent_auto_accept_if_locked: Option<bool>,
    /// Title of the notification.
    #[serde(deserialize_with = "de_opt_line::<1024, _>", skip_serializing_if = "Option::is_none")]
    pub notify_title: Option<String>,
    /// Notification of a desktop session.
    #[serde(deserialize_with = "de_opt_prose::<1024, _>", skip_serializing_if = "Option::is_none")]
    pub notify_msg_desktop: Option<String>,
    /// Notification of a terminal session.
    #[serde(deserialize_with = "de_opt_prose::<1024, _>", skip_serializing_if = "Option::is_none")]
    pub notify_msg_terminal: Option<String>,
    /// Notification of a files session.
    #[serde(deserialize_with = "de_opt_prose::<1024, _>", skip_serializing_if = "Option::is_none")]
    pub notify_msg_files: Option<String>,
    /// The protocols that may be chosen; all if absent.
    #[serde(deserialize_with = "de_usages", skip_serializing_if = "Option::is_none")]
    pub usages: Option<Vec<u16>>,
    /// Rules not named above.
    #[serde(flatten, deserialize_with = "de_map::<1024, _>")]
    pub extra: Map<String, Value>,
}

/// Which interpreter a script is for; on the wire its number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ShellKind {
    /// `cmd.exe`, 1.
    Cmd,
    /// PowerShell, 2.
    PowerShell,
    /// `/bin/sh`, 3.
    #[default]
    Sh,
}

/// Runs a script: it is fed to the interpreter, its output streams back as `msg/console` and, if `reply`,
/// comes whole as `msg/runcommands`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCommands {
    /// The interpreter.
    #[serde(rename = "type", serialize_with = "ser_shell", deserialize_with = "de_shell")]
    pub shell: ShellKind,
    /// The script, at most 65,535 bytes.
    #[serde(deserialize_with = "de_script")]
    pub cmds: String,
    /// 0 as the agent, 1 as the user at the console if there is one, 2 only as that user.
    #[serde(default, rename = "runAsUser", deserialize_with = "de_run_as")]
    pub run_as_user: u8,
    /// Whether the whole output is wanted at the end.
    #[serde(default, deserialize_with = "de_flag")]
    pub reply: bool,
    /// With `reply`: whether output is wanted as `msg/runoutput` while it is written, too. Ours: MeshAgent
    /// does not know it.
    #[serde(default, deserialize_with = "de_flag", skip_serializing_if = "std::ops::Not::not")]
    pub live: bool,
    /// What the asker called the question.
    #[serde(default, deserialize_with = "de_opt_line::<MAX_ID, _>", skip_serializing_if = "Option::is_none")]
    pub responseid: Option<String>,
    /// Who asked.
    #[serde(default, deserialize_with = "de_opt_line::<MAX_ID, _>", skip_serializing_if = "Option::is_none")]
    pub sessionid: Option<String>,
}

/// Settings of the server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerInfo {
    /// What to type into a fresh shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub termlaunchcommand: Option<TermLaunchCommand>,
    /// Whether the person at the device may share it.
    #[serde(
        rename = "agentSelfGuestSharing",
        deserialize_with = "de_opt_value::<1024, _>",
        skip_serializing_if = "Option::is_none"
    )]
    pub agent_self_guest_sharing: Option<Value>,
}

/// What to type into a fresh shell, by system; an empty text types nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TermLaunchCommand {
    /// On Linux.
    #[serde(deserialize_with = "de_opt_prose::<1024, _>", skip_serializing_if = "Option::is_none")]
    pub linux: Option<String>,
    /// On macOS.
    #[serde(deserialize_with = "de_opt_prose::<1024, _>", skip_serializing_if = "Option::is_none")]
    pub darwin: Option<String>,
    /// On FreeBSD.
    #[serde(deserialize_with = "de_opt_prose::<1024, _>", skip_serializing_if = "Option::is_none")]
    pub freebsd: Option<String>,
}

/// Asks for the inventory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SysInfoRequest {
    /// Hash of the inventory the server has; none has none.
    #[serde(deserialize_with = "de_opt_line::<128, _>", skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// What to do with the power; on the wire its number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PowerActionKind {
    /// 1: end the user's session.
    LogOff,
    /// 2: switch off.
    Off,
    /// 3: restart.
    Reset,
    /// 4: sleep.
    Sleep,
    /// 5: hibernate.
    Hibernate,
    /// 6: switch the display on.
    DisplayOn,
    /// 7: keep awake.
    KeepAwake,
    /// 8: beep.
    #[default]
    Beep,
}

impl PowerActionKind {
    const ALL: [Self; 8] = [
        Self::LogOff,
        Self::Off,
        Self::Reset,
        Self::Sleep,
        Self::Hibernate,
        Self::DisplayOn,
        Self::KeepAwake,
        Self::Beep,
    ];

    /// Its number, 1 to 8.
    pub fn number(self) -> u8 {
        self as u8 + 1
    }

    /// The action with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// Changes the power state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerAction {
    /// What to do.
    #[serde(serialize_with = "ser_power", deserialize_with = "de_power")]
    pub actiontype: PowerActionKind,
    /// Without waiting for programs.
    #[serde(default, deserialize_with = "de_flag")]
    pub forced: bool,
    /// Who asked.
    #[serde(default, deserialize_with = "de_opt_line::<MAX_ID, _>", skip_serializing_if = "Option::is_none")]
    pub userid: Option<String>,
    /// Name of who asked.
    #[serde(default, deserialize_with = "de_opt_line::<255, _>", skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Where from.
    #[serde(default, deserialize_with = "de_opt_line::<128, _>", skip_serializing_if = "Option::is_none")]
    pub remoteaddr: Option<String>,
}

/// Sends magic packets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WakeOnLan {
    /// Hardware addresses, hexadecimal, with or without colons; at most 256.
    #[serde(deserialize_with = "de_lines::<17, 256, _>")]
    pub macs: Vec<String>,
}

impl WakeOnLan {
    /// The addresses that are well-formed.
    pub fn addresses(&self) -> impl Iterator<Item = [u8; 6]> + '_ {
        self.macs.iter().filter_map(|text| {
            let digits: String = text.chars().filter(|c| !matches!(c, ':' | '-')).collect();
            let mut mac = [0; 6];
            crate::id::hex_decode(&digits, &mut mac).ok().map(|()| mac)
        })
    }
}

/// Shows a notification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Toast {
    /// Its title.
    #[serde(deserialize_with = "de_opt_line::<1024, _>", skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its text.
    #[serde(deserialize_with = "de_opt_prose::<4096, _>", skip_serializing_if = "Option::is_none")]
    pub msg: Option<String>,
    /// The browser session.
    #[serde(deserialize_with = "de_opt_line::<MAX_ID, _>", skip_serializing_if = "Option::is_none")]
    pub sessionid: Option<String>,
    /// Name of who asked.
    #[serde(deserialize_with = "de_opt_line::<255, _>", skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Who asked.
    #[serde(deserialize_with = "de_opt_line::<MAX_ID, _>", skip_serializing_if = "Option::is_none")]
    pub userid: Option<String>,
}

/// Opens a page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OpenUrl {
    /// The page.
    #[serde(deserialize_with = "de_opt_line::<4096, _>", skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The browser session.
    #[serde(deserialize_with = "de_opt_line::<MAX_ID, _>", skip_serializing_if = "Option::is_none")]
    pub sessionid: Option<String>,
}

fn de_number<'de, D: Deserializer<'de>>(d: D) -> Result<u32, D::Error> {
    de_opt_number(d)?.ok_or_else(|| de::Error::custom("a number was expected"))
}

fn de_text_or_number<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    match de_opt_value::<255, D>(d)? {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Number(number)) => Ok(number.to_string()),
        _ => Err(de::Error::custom("a text or a number was expected")),
    }
}

fn de_script<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    let text = de_prose::<MAX_SCRIPT, D>(d)?;
    if text.is_empty() { Err(de::Error::custom("the script is empty")) } else { Ok(text) }
}

/// Absent, null, 0 and false are false.
fn de_flag<'de, D: Deserializer<'de>>(d: D) -> Result<bool, D::Error> {
    Ok(match Value::deserialize(d)? {
        Value::Null => false,
        Value::Bool(flag) => flag,
        Value::Number(n) => n.as_f64() != Some(0.0),
        _ => return Err(de::Error::custom("a flag was expected")),
    })
}

fn de_run_as<'de, D: Deserializer<'de>>(d: D) -> Result<u8, D::Error> {
    match de_opt_number::<u8, D>(d)? {
        None => Ok(0),
        Some(n @ 0..=2) => Ok(n),
        Some(_) => Err(de::Error::custom("0, 1 or 2 was expected")),
    }
}

fn ser_shell<S: serde::Serializer>(shell: &ShellKind, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u8(match shell {
        ShellKind::Cmd => 1,
        ShellKind::PowerShell => 2,
        ShellKind::Sh => 3,
    })
}

fn de_shell<'de, D: Deserializer<'de>>(d: D) -> Result<ShellKind, D::Error> {
    match de_opt_number::<u8, D>(d)? {
        Some(1) => Ok(ShellKind::Cmd),
        Some(2) => Ok(ShellKind::PowerShell),
        Some(3) => Ok(ShellKind::Sh),
        _ => Err(de::Error::custom("1 (cmd), 2 (PowerShell) or 3 (sh) was expected")),
    }
}

fn ser_power<S: serde::Serializer>(kind: &PowerActionKind, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u8(kind.number())
}

fn de_power<'de, D: Deserializer<'de>>(d: D) -> Result<PowerActionKind, D::Error> {
    de_opt_number::<u8, D>(d)?
        .and_then(PowerActionKind::from_number)
        .ok_or_else(|| de::Error::custom("a number from 1 to 8 was expected"))
}

fn de_soptions<'de, D: Deserializer<'de>>(d: D) -> Result<SessionOptions, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

fn de_usages<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<u16>>, D::Error> {
    let list: Option<Vec<u16>> = Option::deserialize(d)?;
    if list.as_ref().is_some_and(|l| l.len() > 64) {
        Err(de::Error::custom("more than 64 protocols"))
    } else {
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::ToAgent, *};

    fn parse(value: Value) -> ServerMsg {
        match ToAgent::parse(&value.to_string()) {
            Ok(ToAgent::Msg(msg)) => *msg,
            other => panic!("{other:?}"),
        }
    }

    /// The captured request of agent-protocol §6.6.
    fn captured() -> Value {
        json!({"action": "msg", "type": "tunnel",
            "value": "*/meshrelay.ashx?p=5&nodeid=node//ab@c$d&id=r&rauth=c@$=", "usage": 5,
            "servertlshash": "ab".repeat(48), "soptions": {}, "userid": "user//admin", "sessionid": "user//admin/00",
            "rights": 4_294_967_295_u32, "consent": 0, "username": "admin", "remoteaddr": "127.0.0.1"})
    }

    #[test]
    fn a_tunnel_request_keeps_its_route_and_its_fields() {
        let msg = parse(captured());
        assert_eq!(msg.rights, Some(u32::MAX));
        assert_eq!(msg.userid.as_deref(), Some("user//admin"));
        let ServerMsgBody::Tunnel(tunnel) = &msg.body else { panic!("{msg:?}") };
        assert_eq!(tunnel.usage, Some(5));
        assert_eq!(
            tunnel.path().as_deref(),
            Some("/meshrelay.ashx?p=5&nodeid=node//ab%40c%24d&id=r&rauth=c%40%24=")
        );
        let again = ToAgent::parse(&ToAgent::Msg(Box::new(msg.clone())).to_json()).unwrap();
        assert_eq!(again, ToAgent::Msg(Box::new(msg)));
    }

    #[test]
    fn tunnels_only_lead_to_the_relay() {
        let path = |value: &str| TunnelRequest { value: value.into(), ..TunnelRequest::default() }.path();
        assert!(path("*/meshrelay.ashx?id=1").is_some());
        assert!(path("*/sales/devicefile.ashx?c=1").is_some());
        for value in [
            "",
            "*",
            "*/",
            "*/?id=1",
            "wss://evil.example/meshrelay.ashx?id=1",
            "*.evil.example/meshrelay.ashx?id=1",
            "*@evil.example/meshrelay.ashx?id=1",
            "*//evil.example/meshrelay.ashx?id=1",
            "*//meshrelay.ashx?id=1",
            "*/../meshrelay.ashx?id=1",
            "*/a/b/meshrelay.ashx?id=1",
            "*/meshrelay.ashx",
            "*/control.ashx?id=1",
            "*/meshrelay.ashx?id=1 HTTP/1.1",
            "*/meshrelay.ashx?id=1#x",
        ] {
            assert_eq!(path(value), None, "{value}");
        }
    }

    #[test]
    fn kinds_with_and_without_fields() {
        assert_eq!(parse(json!({"action": "msg", "type": "ps", "sessionid": "s"})).body, ServerMsgBody::Ps);
        assert_eq!(
            parse(json!({"action": "msg", "type": "pskill", "value": 77})).body,
            ServerMsgBody::PsKill { value: "77".into() }
        );
        assert_eq!(parse(json!({"action": "msg", "type": "new", "x": [1]})).body, ServerMsgBody::Other);
        let guest = parse(json!({"action": "msg", "type": "tunnel", "value": "*/meshrelay.ashx?id=1",
            "soptions": {"usages": [1, 6, 8, 9], "oldStyle": true, "consentTimeout": "40"}}));
        let ServerMsgBody::Tunnel(tunnel) = guest.body else { panic!() };
        assert_eq!(tunnel.soptions.usages, Some(vec![1, 6, 8, 9]));
        assert_eq!(tunnel.soptions.consent_timeout, Some(40));
        assert_eq!(tunnel.soptions.extra["oldStyle"], true);
        for bad in [
            json!({"action": "msg"}),
            json!({"action": "msg", "type": "console"}),
            json!({"action": "msg", "type": "console", "value": 5}),
            json!({"action": "msg", "type": "psinfo", "pid": "x"}),
            json!({"action": "runcommands", "type": 4, "cmds": "x"}),
            json!({"action": "runcommands", "type": 3, "cmds": ""}),
            json!({"action": "runcommands", "type": 3}),
            json!({"action": "runcommands", "cmds": "x"}),
            json!({"action": "msg", "type": "tunnel"}),
            json!({"action": "runcommands", "type": 3, "cmds": "x".repeat(65_536)}),
            json!({"action": "poweraction", "actiontype": 9}),
        ] {
            assert!(ToAgent::parse(&bad.to_string()).is_err(), "{bad}");
        }
    }

    #[test]
    fn hardware_addresses() {
        let wake =
            WakeOnLan { macs: ["00:11:22:aa:BB:cc", "001122aabbcc", "00:11", "zz"].map(Into::into).into() };
        assert_eq!(wake.addresses().collect::<Vec<_>>(), [[0, 0x11, 0x22, 0xaa, 0xbb, 0xcc]; 2]);
    }
}
