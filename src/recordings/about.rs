//! What a recorded session was: its first block, and the name of its file.

use std::net::IpAddr;

use outpost_wire::id::{DeviceId, UserId};
use outpost_wire::recording::MAGIC;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::SUFFIX;
use crate::clock;

/// Longest parts of a file name, in bytes: together with the rest they stay under the 255 that file systems take.
const LONGEST_PART: usize = 56;

/// A session that is to be recorded.
#[derive(Clone, Debug)]
pub struct Session {
    /// Whose, or who shares it.
    pub user: UserId,
    /// What they are called.
    pub username: String,
    /// The guest's name, for one.
    pub guest: Option<String>,
    /// Id of the tunnel.
    pub id: String,
    /// Where the viewer is.
    pub viewer: IpAddr,
    /// Where the agent is.
    pub agent: IpAddr,
    /// Protocol number; none for a port.
    pub protocol: Option<u16>,
    /// The device.
    pub device: DeviceId,
    /// What it is called.
    pub devicename: String,
    /// When it began, Unix ms.
    pub started: i64,
}

/// The first block of a recording, as MeshCentral has it; `guestname` is ours.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    magic: String,
    ver: u32,
    /// Full id of the user.
    #[serde(deserialize_with = "text")]
    pub userid: String,
    /// What the user is called.
    #[serde(deserialize_with = "text")]
    pub username: String,
    #[serde(deserialize_with = "text")]
    sessionid: String,
    #[serde(deserialize_with = "text")]
    ipaddr1: String,
    #[serde(deserialize_with = "text")]
    ipaddr2: String,
    #[serde(deserialize_with = "text")]
    time: String,
    /// Protocol number; none for a port, or when it was not known.
    #[serde(deserialize_with = "number")]
    pub protocol: Option<u16>,
    /// Full id of the device.
    #[serde(deserialize_with = "text")]
    pub nodeid: String,
    /// What the device was called.
    #[serde(deserialize_with = "text")]
    pub devicename: String,
    /// The guest's name, for one.
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    pub guestname: String,
}

/// A text; anything else is none.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => text.chars().filter(|c| !c.is_control()).take(512).collect(),
        _ => String::new(),
    })
}

/// A number, or one as a text.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Number(number) => number.as_u64().and_then(|number| u16::try_from(number).ok()),
        Value::String(text) => text.parse().ok(),
        _ => None,
    })
}

impl About {
    /// Reads a first block; none when it is not one.
    pub fn parse(json: &[u8]) -> Option<About> {
        serde_json::from_slice::<About>(json).ok().filter(|about| about.magic == MAGIC)
    }
}

impl Session {
    /// The first block.
    pub fn about(&self) -> About {
        About {
            magic: MAGIC.to_owned(),
            ver: 1,
            userid: self.user.as_str().to_owned(),
            username: self.username.clone(),
            sessionid: self.id.clone(),
            ipaddr1: self.viewer.to_string(),
            ipaddr2: self.agent.to_string(),
            time: words_of_time(self.started),
            protocol: self.protocol,
            nodeid: self.device.as_str().to_owned(),
            devicename: self.devicename.clone(),
            guestname: self.guest.clone().unwrap_or_default(),
        }
    }

    /// The name of the file: `relaysession[-<domain>]-2026-11-23-17-15-43-<user>-<device>-<id>.mcrec`, in UTC.
    pub fn file_name(&self) -> String {
        let domain = match self.user.domain() {
            "" => String::new(),
            domain => format!("-{}", plain(domain)),
        };
        let when = clock::iso8601(self.started)[..19].replace(['T', ':'], "-");
        let (user, device, id) = (plain(self.user.key()), plain(&self.devicename), plain(&self.id));
        format!("relaysession{domain}-{when}-{user}-{device}-{id}{SUFFIX}")
    }
}

/// What of a text can stand in a file name: MeshCentral leaves the same characters out, we also leave out what
/// cannot be seen, and cut.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for c in text.chars().filter(|c| !c.is_control() && !"\\/:*?\"<>| '".contains(*c)) {
        if plain.len() + c.len_utf8() > LONGEST_PART {
            break;
        }
        plain.push(c);
    }
    plain
}

/// `11/23/2026, 5:15:43 PM`, as MeshCentral writes it, in UTC.
fn words_of_time(ms: i64) -> String {
    let iso = clock::iso8601(ms);
    let part = |range: std::ops::Range<usize>| iso[range].trim_start_matches('0').to_owned();
    let hour: u32 = iso[11..13].parse().unwrap_or(0);
    let half = if hour < 12 { "AM" } else { "PM" };
    let hour = (hour + 11) % 12 + 1;
    format!("{}/{}/{}, {hour}:{} {half}", part(5..7), part(8..10), &iso[..4], &iso[14..19])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_for_people() {
        assert_eq!(words_of_time(1_795_454_143_007), "11/23/2026, 5:15:43 PM");
        assert_eq!(words_of_time(1_767_225_600_000), "1/1/2026, 12:00:00 AM");
    }

    #[test]
    fn names_are_meshcentrals_and_stay_in_their_folder() {
        let session = Session {
            user: UserId::from_name("", "bob").expect("an id"),
            username: "Bob".into(),
            guest: None,
            id: "x1@$".into(),
            viewer: [127, 0, 0, 1].into(),
            agent: [127, 0, 0, 1].into(),
            protocol: Some(2),
            device: DeviceId::new("", &"a".repeat(64)).expect("an id"),
            devicename: "../../etc/pass wd\n".to_owned() + &"ü".repeat(100),
            started: 1_795_454_143_007,
        };
        let name = session.file_name();
        assert!(name.starts_with("relaysession-2026-11-23-17-15-43-bob-....etcpasswdü"), "{name}");
        assert!(name.ends_with("-x1@$.mcrec") && super::super::is_name(&name) && name.len() < 240, "{name}");
        let about =
            About::parse(&serde_json::to_vec(&session.about()).expect("JSON")).expect("a first block");
        assert_eq!((about.protocol, about.username.as_str()), (Some(2), "Bob"));
        let theirs = br#"{"magic":"MeshCentralRelaySession","ver":1,"userid":"user//a","ipaddr1":null,"protocol":"5"}"#;
        assert_eq!(About::parse(theirs).expect("a first block").protocol, Some(5));
        assert!(About::parse(b"{}").is_none());
    }
}
