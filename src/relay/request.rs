//! Asking a device's agent for its half of a tunnel, when the server starts it: port relays, guests, downloads.

use std::net::IpAddr;

use bytes::Bytes;
use outpost_wire::id::DeviceId;
use serde_json::{Map, Value, json};

use super::address::for_agent;
use super::{Purpose, Viewer};
use crate::clock;
use crate::model::{Device, Rights};
use crate::site::Site;

/// Why an agent could not be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It is not connected.
    #[error("the device is not connected")]
    Offline,
    /// Its account or device is gone.
    #[error("the account or the device is gone")]
    Gone,
}

/// What an agent is asked for.
pub struct TunnelRequest<'a> {
    /// Page of this server that it is to dial: `meshrelay.ashx` or `devicefile.ashx`.
    pub page: &'static str,
    /// Id of the tunnel.
    pub id: &'a str,
    /// For whom.
    pub viewer: &'a Viewer,
    /// What they may do.
    pub rights: Rights,
    /// Where they are.
    pub remote: IpAddr,
    /// On which device.
    pub device: &'a DeviceId,
    /// What for.
    pub purpose: &'a Purpose,
}

impl TunnelRequest<'_> {
    /// Asks the agent (agent-protocol §6.6).
    ///
    /// # Errors
    /// [`AskError`].
    pub fn send(&self, site: &Site) -> Result<(), AskError> {
        let agent = site.agents.get(self.device).ok_or(AskError::Offline)?;
        let message = self.message(site).ok_or(AskError::Gone)?;
        agent.send(Bytes::from(Value::Object(message).to_string())).map_err(|_| AskError::Offline)
    }

    fn message(&self, site: &Site) -> Option<Map<String, Value>> {
        let access = site.access(&self.viewer.user)?;
        let user = access.user();
        let (device, _) = access.device(self.device, Rights::NONE).ok()?;
        let rauth = json!({ "ruserid": user.id, "nodeid": self.device, "id": self.id });
        let rauth = outpost_wire::cookie::seal(&site.keys.login, &rauth, clock::now_seconds());
        let protocol = self.purpose.protocol();
        let Value::Object(mut message) = json!({
            "action": "msg", "type": "tunnel",
            "value": for_agent(self.page, protocol, self.device, self.id, &rauth),
            "servertlshash": site.identity.web.full_hash.to_hex(), "soptions": site.config.domain(&device.domain).session_options,
            "userid": user.id, "rights": self.rights, "username": user.name,
            "consent": self.consent(site, &access, &device), "remoteaddr": self.remote,
        }) else {
            unreachable!("an object was written")
        };
        if let Some(name) = &user.realname {
            message.insert("realname".into(), name.as_str().into());
        }
        if let Some(words) = &site.config.domain(&device.domain).privacy_bar_text {
            message.insert("privacybartext".into(), words.as_str().into());
        }
        if let Some(protocol) = protocol {
            message.insert("usage".into(), protocol.into());
        }
        if let Purpose::Port(target) = self.purpose {
            target.add_to(&mut message);
        }
        if let Some(share) = &self.viewer.guest {
            let guest = share.guest_name.as_str();
            message.insert("username".into(), format!("{} - {guest}", user.name).into());
            message.insert("guestname".into(), guest.into());
            message.insert("guestuserid".into(), user.id.as_str().into());
            if matches!(self.purpose, Purpose::Session(_)) {
                let usages = protocol.map_or(&[][..], |protocol| share.shared.usages(protocol));
                message["soptions"]["usages"] = json!(usages);
            }
            if share.view_only {
                message.insert("desktopviewonly".into(), true.into());
            }
        }
        Some(message)
    }

    fn consent(&self, site: &Site, access: &crate::model::Access, device: &Device) -> u32 {
        let usual = access.consent(device, site.config.domain(&device.domain).consent);
        usual | self.viewer.guest.as_ref().map_or(0, |share| share.consent)
    }
}
