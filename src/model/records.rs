//! The records that people and devices leave in the store, in MeshCentral's JSON shapes.
//!
//! Each keeps fields it does not know in `extra`, so a record made by another version survives a round
//! trip unchanged (data-formats §2.1).

use std::collections::BTreeMap;

use outpost_wire::id::{DeviceId, GroupId, UserGroupId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::rights::{Rights, SiteRights};

/// Who is linked to what: id of a user, user group, device group or device → the link.
pub type Links = BTreeMap<String, Link>;

/// One link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Display name of the linked principal, where the record keeps one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Rights given. `1` marks membership in a user group.
    #[serde(default)]
    pub rights: Rights,
    /// Anything else (`notify`, `userid`, …).
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Link {
    /// A link with rights only.
    pub fn new(rights: Rights) -> Link {
        Link { rights, ..Link::default() }
    }

    /// A link that carries the principal's display name.
    pub fn named(name: &str, rights: Rights) -> Link {
        Link { name: Some(name.to_owned()), rights, ..Link::default() }
    }
}

/// A person's account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// `user/<domain>/<lower-cased name>`.
    #[serde(rename = "_id")]
    pub id: UserId,
    /// Display name, case kept.
    pub name: String,
    /// Domain, empty for the default one.
    #[serde(default)]
    pub domain: String,
    /// Lower-cased e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The address was proved to be the user's.
    #[serde(rename = "emailVerified", skip_serializing_if = "Option::is_none")]
    pub email_verified: Option<bool>,
    /// Real name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realname: Option<String>,
    /// Creation, Unix seconds.
    #[serde(default)]
    pub creation: i64,
    /// Last login, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<i64>,
    /// The login before that, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pastlogin: Option<i64>,
    /// Last access, Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<i64>,
    /// Last password change, Unix seconds; `-1` = must change at next login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passchange: Option<i64>,
    /// Site rights.
    #[serde(default, skip_serializing_if = "is_no_site_right")]
    pub siteadmin: SiteRights,
    /// Device rights removed everywhere.
    #[serde(rename = "removeRights", default, skip_serializing_if = "is_zero")]
    pub remove_rights: u32,
    /// Device groups, devices and user groups this user is linked to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: Links,
    /// PBKDF2 salt (base64 text, used as it is) and hash: see `auth::password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// Password hash, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Consent flags demanded for this user's sessions.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub consent: u32,
    /// Session cookies issued before this moment (Unix ms) are void; set by a password change.
    #[serde(rename = "sessionsSince", default, skip_serializing_if = "is_zero_i64")]
    pub sessions_since: i64,
    /// The one older session that stays: the page in which the password was changed.
    #[serde(rename = "sessionKept", skip_serializing_if = "Option::is_none")]
    pub session_kept: Option<String>,
    /// Everything else MeshCentral keeps (`otpsecret`, `quota`, `groups`, …).
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A device group (MeshCentral's `mesh`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceGroup {
    /// `mesh/<domain>/<64 chars>`.
    #[serde(rename = "_id")]
    pub id: GroupId,
    /// Name shown.
    pub name: String,
    /// 1 AMT only, 2 agent, 3 local (agentless), 4 IP-KVM.
    #[serde(deserialize_with = "number_or_text")]
    pub mtype: u32,
    /// Description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desc: Option<String>,
    /// Domain.
    #[serde(default)]
    pub domain: String,
    /// Users and user groups with rights here.
    #[serde(default)]
    pub links: Links,
    /// Creation, Unix ms.
    #[serde(default)]
    pub creation: i64,
    /// Creator's id and name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creatorid: Option<UserId>,
    /// Creator's display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creatorname: Option<String>,
    /// 1 remove devices on disconnect, 2 name follows host name, 4 record sessions, 8 prefer agent's name.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub flags: u32,
    /// Consent flags demanded for sessions in this group.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub consent: u32,
    /// Set when the group was removed, but an agent may still revive it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Value>,
    /// Everything else (`invite`, `expireDevs`, `amt`, …).
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl DeviceGroup {
    /// Group flag: devices vanish when they disconnect.
    pub const REMOVE_ON_DISCONNECT: u32 = 1;
    /// Group flag: a device's name follows its host name.
    pub const FOLLOW_HOST_NAME: u32 = 2;
    /// Group flag, with [`Self::FOLLOW_HOST_NAME`]: the name its agent gives is preferred.
    pub const PREFER_AGENT_NAME: u32 = 8;
    /// `mtype` of groups whose devices run an agent.
    pub const WITH_AGENT: u32 = 2;
}

/// What a device's agent says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceAgent {
    /// Agent version number (0 in real agents).
    #[serde(default)]
    pub ver: u32,
    /// Architecture number (agent-protocol §2.6).
    #[serde(default)]
    pub id: u32,
    /// Capability bits.
    #[serde(default)]
    pub caps: u32,
    /// Core version text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core: Option<String>,
    /// The agent runs as root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<bool>,
    /// Tag given at installation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A device (MeshCentral's `node`). Connection state is not part of it: see `live`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// `node/<domain>/<64 chars>`.
    #[serde(rename = "_id")]
    pub id: DeviceId,
    /// Type of its group.
    #[serde(default, deserialize_with = "number_or_text")]
    pub mtype: u32,
    /// Its group.
    #[serde(rename = "meshid")]
    pub group: GroupId,
    /// Name shown.
    pub name: String,
    /// Name the host gives itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rname: Option<String>,
    /// Domain.
    #[serde(default)]
    pub domain: String,
    /// Icon number, 1..8.
    #[serde(default)]
    pub icon: u32,
    /// Address a server on the same LAN reaches it by; `null` is sent.
    #[serde(default)]
    pub host: Option<String>,
    /// Last remote address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// First connection, Unix ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firstconnect: Option<i64>,
    /// Operating system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub osdesc: Option<String>,
    /// Last boot, Unix ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lastbootuptime: Option<i64>,
    /// Its agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<DeviceAgent>,
    /// Description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desc: Option<String>,
    /// Tags, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Users and user groups with rights on this device alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: Links,
    /// Consent flags demanded for sessions to this device.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub consent: u32,
    /// Everything else (`users`, `intelamt`, `rdpport`, …).
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A group of users.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserGroup {
    /// `ugrp/<domain>/<64 chars>`.
    #[serde(rename = "_id")]
    pub id: UserGroupId,
    /// Name shown.
    pub name: String,
    /// Description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desc: Option<String>,
    /// Domain.
    #[serde(default)]
    pub domain: String,
    /// Members (user ids) and what they may do (group and device ids).
    #[serde(default)]
    pub links: Links,
    /// Consent flags.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub consent: u32,
    /// Everything else (`flags`, `membershipType`).
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Last connection of a device: record `lc<node id>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastConnect {
    /// When, Unix ms.
    pub time: i64,
    /// 1 connected, 0 disconnected.
    pub cause: u8,
    /// Connectivity bits: 1 agent.
    #[serde(rename = "connectType")]
    pub connect_type: u32,
    /// `address:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addr: Option<String>,
    /// The device's group then.
    pub meshid: GroupId,
    /// Domain.
    #[serde(default)]
    pub domain: String,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

fn is_zero_i64(value: &i64) -> bool {
    *value == 0
}

fn is_no_site_right(value: &SiteRights) -> bool {
    value.0 == 0
}

/// `mtype` is a numeric text in old data (data-formats §2.1).
fn number_or_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum NumberOrText {
        Number(u32),
        Text(String),
    }
    match NumberOrText::deserialize(deserializer)? {
        NumberOrText::Number(number) => Ok(number),
        NumberOrText::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_user_of_another_version_survives_a_round_trip() {
        let stored = json!({"_id":"user//admin","name":"Admin","domain":"","creation":1795453952,
            "links":{"mesh//yyuN2aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaDtU":{"rights":4294967295u32,"notify":6}},
            "siteadmin":4294967295u32,"otpkeys":{"keys":[{"p":7846154,"u":true}]},"lang":"fr"});
        let user: User = serde_json::from_value(stored.clone()).expect("a user");
        assert!(user.siteadmin.is_full());
        assert_eq!(user.extra["lang"], "fr");
        assert_eq!(serde_json::to_value(&user).expect("json"), stored);
    }

    #[test]
    fn a_group_with_a_textual_type_is_read() {
        let key = "a".repeat(64);
        let group: DeviceGroup =
            serde_json::from_value(json!({"_id":format!("mesh//{key}"),"name":"G","mtype":"2","links":{}}))
                .expect("a group");
        assert_eq!(group.mtype, 2);
    }

    #[test]
    fn a_device_always_carries_its_host() {
        let key = "a".repeat(64);
        let device: Device = serde_json::from_value(
            json!({"_id":format!("node//{key}"),"meshid":format!("mesh//{key}"),"name":"vm"}),
        )
        .expect("a device");
        assert_eq!(serde_json::to_value(&device).expect("json")["host"], Value::Null);
    }
}
