//! Records that an agent sends.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};

use super::{MAX_ID, MAX_TEXT};
use crate::{
    json::{de_map, de_opt_map, de_value},
    text::{de_line, de_lines, de_opt_line, de_opt_number, de_opt_prose},
};

/// Most interfaces of one device, and most addresses of one interface; container hosts have hundreds.
const MAX_INTERFACES: usize = 2048;
const MAX_ADDRESSES: usize = 512;
/// Most users (or sessions) reported at once.
const MAX_SESSIONS: usize = 1024;
/// Longest text in an inventory, in bytes (agent-protocol §8.3).
const MAX_INVENTORY_TEXT: usize = 1024;
/// Longest text of the event log, in bytes: below 4,096.
pub(crate) const MAX_LOG: usize = 4095;

/// What the device is, sent at connect and resent whole whenever part of it changes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CoreInfo {
    /// Version of the agent's core.
    #[serde(deserialize_with = "de_opt_line::<255, _>", skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Capability bits of the core: 1 desktop, 2 terminal, 4 files.
    #[serde(deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub caps: Option<u32>,
    /// Operating system, for people.
    #[serde(deserialize_with = "de_opt_line::<1024, _>", skip_serializing_if = "Option::is_none")]
    pub osdesc: Option<String>,
    /// Whether the agent runs with all rights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<bool>,
    /// Who is logged in.
    #[serde(deserialize_with = "de_lines::<255, 256, _>", skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// Whose session is locked.
    #[serde(deserialize_with = "de_lines::<255, 256, _>", skip_serializing_if = "Vec::is_empty")]
    pub lusers: Vec<String>,
    /// Virus scanners.
    #[serde(deserialize_with = "de_scanners", skip_serializing_if = "Vec::is_empty")]
    pub av: Vec<AntiVirus>,
    /// Windows Security Center.
    #[serde(deserialize_with = "de_opt_map::<1024, _>", skip_serializing_if = "Option::is_none")]
    pub wsc: Option<Map<String, Value>>,
    /// Windows Defender.
    #[serde(deserialize_with = "de_opt_map::<1024, _>", skip_serializing_if = "Option::is_none")]
    pub defender: Option<Map<String, Value>>,
    /// When it started, Unix milliseconds.
    #[serde(deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub lastbootuptime: Option<i64>,
    /// Intel AMT.
    #[serde(deserialize_with = "de_opt_map::<1024, _>", skip_serializing_if = "Option::is_none")]
    pub intelamt: Option<Map<String, Value>>,
    /// Asks to be renamed to this.
    #[serde(deserialize_with = "de_opt_line::<255, _>", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Push notification token.
    #[serde(deserialize_with = "de_opt_line::<1024, _>", skip_serializing_if = "Option::is_none")]
    pub pmt: Option<String>,
}

/// A virus scanner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AntiVirus {
    /// Its name.
    #[serde(deserialize_with = "de_opt_line::<255, _>", skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Whether its signatures are current.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated: Option<bool>,
    /// Whether it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// Network interfaces by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetInfo {
    /// The addresses of each interface; one without addresses has one entry without an address.
    #[serde(deserialize_with = "de_interfaces")]
    pub netif2: BTreeMap<String, Vec<NetAddress>>,
}

/// One address of an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetAddress {
    /// Hardware address.
    #[serde(deserialize_with = "de_opt_line::<64, _>", skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// `ethernet`, `wireless`, `loopback` …
    #[serde(
        rename = "type",
        deserialize_with = "de_opt_line::<64, _>",
        skip_serializing_if = "Option::is_none"
    )]
    pub kind: Option<String>,
    /// `up` or `down`.
    #[serde(deserialize_with = "de_opt_line::<64, _>", skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The address.
    #[serde(deserialize_with = "de_opt_line::<128, _>", skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// `IPv4` or `IPv6`.
    #[serde(deserialize_with = "de_opt_line::<16, _>", skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Network mask.
    #[serde(deserialize_with = "de_opt_line::<128, _>", skip_serializing_if = "Option::is_none")]
    pub netmask: Option<String>,
    /// Default gateway.
    #[serde(deserialize_with = "de_opt_line::<128, _>", skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Hardware address of the gateway.
    #[serde(
        rename = "gatewayMac",
        deserialize_with = "de_opt_line::<64, _>",
        skip_serializing_if = "Option::is_none"
    )]
    pub gateway_mac: Option<String>,
    /// Bits per second.
    #[serde(deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub speed: Option<i64>,
    /// DNS suffix.
    #[serde(deserialize_with = "de_opt_line::<255, _>", skip_serializing_if = "Option::is_none")]
    pub fqdn: Option<String>,
    /// Interface number.
    #[serde(deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
}

/// What kind of session is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionKind {
    /// Desktop.
    Kvm,
    /// Terminal.
    Terminal,
    /// Files.
    Files,
    /// TCP relay.
    Tcp,
    /// UDP relay.
    Udp,
    /// Message boxes.
    Msg,
    /// Help requests.
    Help,
    /// Local applications.
    App,
    /// Any other.
    #[default]
    #[serde(other)]
    Other,
}

/// Sessions that run now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sessions {
    /// Their kind.
    #[serde(rename = "type")]
    pub kind: SessionKind,
    /// For most kinds the number of sessions by user id; empty when none is left.
    #[serde(deserialize_with = "de_sessions")]
    pub value: Map<String, Value>,
}

/// Hardware and system inventory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SysInfo {
    /// The inventory; its `hash` lets the server ask for changes only.
    #[serde(deserialize_with = "de_inventory")]
    pub data: Map<String, Value>,
    /// Who asked.
    #[serde(deserialize_with = "de_opt_line::<MAX_ID, _>", skip_serializing_if = "Option::is_none")]
    pub sessionid: Option<String>,
}

impl SysInfo {
    /// The hash of the inventory, if it came with one.
    pub fn hash(&self) -> Option<&str> {
        self.data.get("hash").and_then(Value::as_str)
    }
}

/// Raw SMBIOS tables.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Smbios {
    /// Tables by number.
    #[serde(deserialize_with = "de_value::<MAX_TEXT, _>")]
    pub value: Value,
}

/// Where the power comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PowerSource {
    /// Mains.
    Ac,
    /// Battery.
    Dc,
}

/// Power source and charge; absent fields clear what was known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Battery {
    /// Mains or battery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<PowerSource>,
    /// Percent.
    #[serde(deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub level: Option<u8>,
}

/// An answer to a user, of one of the kinds in agent-protocol §6.3.
///
/// Without `sessionid` it is for every session of `userid`; without both, for everybody who may see the
/// device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentMsg {
    /// `console`, `ps`, `services` …
    #[serde(rename = "type", deserialize_with = "de_line::<64, _>")]
    pub kind: String,
    /// The browser session that asked.
    #[serde(default, deserialize_with = "de_opt_line::<MAX_ID, _>", skip_serializing_if = "Option::is_none")]
    pub sessionid: Option<String>,
    /// The user who asked.
    #[serde(default, deserialize_with = "de_opt_line::<MAX_ID, _>", skip_serializing_if = "Option::is_none")]
    pub userid: Option<String>,
    /// What the asker called the question.
    #[serde(default, deserialize_with = "de_opt_line::<MAX_ID, _>", skip_serializing_if = "Option::is_none")]
    pub responseid: Option<String>,
    /// The fields of its kind.
    #[serde(flatten, deserialize_with = "de_map::<MAX_TEXT, _>")]
    pub body: Map<String, Value>,
}

impl AgentMsg {
    /// An answer of this kind to the session that asked.
    pub fn reply(kind: &str, sessionid: Option<&str>, fields: &[(&str, Value)]) -> Self {
        Self {
            kind: kind.to_owned(),
            sessionid: sessionid.map(str::to_owned),
            body: fields.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
            ..Self::default()
        }
    }

    /// The text of a field.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.body.get(field).and_then(Value::as_str)
    }
}

/// An entry for the event log.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentLog {
    /// English text, below 4,096 bytes.
    #[serde(deserialize_with = "de_log")]
    pub msg: String,
    /// Number of a known text (data-formats §11).
    #[serde(deserialize_with = "de_opt_number", skip_serializing_if = "Option::is_none")]
    pub msgid: Option<u32>,
    /// What fills the gaps of the known text: at most 16 texts or numbers.
    #[serde(rename = "msgArgs", deserialize_with = "de_log_args", skip_serializing_if = "Vec::is_empty")]
    pub msg_args: Vec<Value>,
    /// Who did it.
    #[serde(deserialize_with = "de_opt_line::<MAX_ID, _>", skip_serializing_if = "Option::is_none")]
    pub userid: Option<String>,
    /// Whom it was done to.
    #[serde(deserialize_with = "de_opt_line::<MAX_ID, _>", skip_serializing_if = "Option::is_none")]
    pub xuserid: Option<String>,
    /// Name of who did it.
    #[serde(deserialize_with = "de_opt_line::<255, _>", skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The browser session.
    #[serde(deserialize_with = "de_opt_line::<MAX_ID, _>", skip_serializing_if = "Option::is_none")]
    pub sessionid: Option<String>,
    /// Where from.
    #[serde(deserialize_with = "de_opt_line::<128, _>", skip_serializing_if = "Option::is_none")]
    pub remoteaddr: Option<String>,
    /// Guest, if one did it.
    #[serde(deserialize_with = "de_opt_line::<255, _>", skip_serializing_if = "Option::is_none")]
    pub guestname: Option<String>,
}

/// Whether a page was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OpenedUrl {
    /// The page.
    #[serde(deserialize_with = "de_opt_line::<4096, _>", skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Who asked.
    #[serde(deserialize_with = "de_opt_line::<MAX_ID, _>", skip_serializing_if = "Option::is_none")]
    pub sessionid: Option<String>,
    /// Whether it worked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
}

fn de_log<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    Ok(de_opt_prose::<MAX_LOG, D>(d)?.unwrap_or_default())
}

fn de_log_args<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Value>, D::Error> {
    let args = de_value::<MAX_LOG, D>(d)?;
    match args {
        Value::Null => Ok(Vec::new()),
        Value::Array(args) if args.len() <= 16 && !args.iter().any(|a| a.is_array() || a.is_object()) => {
            Ok(args)
        }
        _ => Err(de::Error::custom("at most 16 texts or numbers were expected")),
    }
}

fn de_scanners<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<AntiVirus>, D::Error> {
    let list: Vec<AntiVirus> = Option::deserialize(d)?.unwrap_or_default();
    if list.len() > 64 { Err(de::Error::custom("more than 64 virus scanners")) } else { Ok(list) }
}

fn de_sessions<'de, D: Deserializer<'de>>(d: D) -> Result<Map<String, Value>, D::Error> {
    let map = de_map::<4096, D>(d)?;
    if map.len() > MAX_SESSIONS {
        return Err(de::Error::custom(format_args!("more than {MAX_SESSIONS} entries")));
    }
    Ok(map)
}

/// Inventories are refused whole if a key is longer than 100 bytes or has characters outside
/// `A-Z a-z 0-9 _`, or a text is longer than 1,024 bytes: they become keys of a database.
fn de_inventory<'de, D: Deserializer<'de>>(d: D) -> Result<Map<String, Value>, D::Error> {
    fn bad_key(value: &Value) -> Option<&str> {
        match value {
            Value::Object(map) => map.iter().find_map(|(key, inner)| {
                let legal = key.len() <= 100 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                if legal { bad_key(inner) } else { Some(key) }
            }),
            Value::Array(items) => items.iter().find_map(bad_key),
            _ => None,
        }
    }
    match de_value::<MAX_INVENTORY_TEXT, D>(d)? {
        value @ Value::Object(_) if bad_key(&value).is_some() => Err(de::Error::custom(format_args!(
            "key {:?} is not allowed",
            bad_key(&value).unwrap_or_default()
        ))),
        Value::Object(map) => Ok(map),
        _ => Err(de::Error::custom("an object was expected")),
    }
}

fn de_interfaces<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, Vec<NetAddress>>, D::Error> {
    struct Interfaces;

    impl<'de> de::Visitor<'de> for Interfaces {
        type Value = BTreeMap<String, Vec<NetAddress>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_INTERFACES} interfaces with at most {MAX_ADDRESSES} addresses each")
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }

        fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut out = BTreeMap::new();
            while let Some((name, addresses)) = map.next_entry::<String, Vec<NetAddress>>()? {
                if out.len() == MAX_INTERFACES || addresses.len() > MAX_ADDRESSES {
                    return Err(de::Error::invalid_length(out.len().max(addresses.len()), &self));
                }
                out.insert(crate::text::line(&name, 255).map_err(de::Error::custom)?, addresses);
            }
            Ok(out)
        }
    }

    d.deserialize_any(Interfaces)
}
