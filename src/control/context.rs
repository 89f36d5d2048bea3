//! What a handler works with: the site, the session, and the ways to obtain things with a right.

use std::net::IpAddr;
use std::sync::Arc;

use outpost_wire::id::{DeviceId, GroupId, IdError, UserGroupId, UserId};
use serde_json::{Map, Value};

use super::reply::Refusal;
use crate::live::ControlSession;
use crate::model::{Access, Device, DeviceGroup, Event, Rights, SiteRights, User, UserGroup};
use crate::site::Site;

/// What an action says of a device group that cannot be had; clients know its spelling.
pub struct GroupTexts {
    /// No id, or one that cannot be a group's.
    pub malformed: &'static str,
    /// No group of this id that the user may see.
    pub unknown: &'static str,
    /// No group of this name that the user may see.
    pub unnamed: &'static str,
    /// A right is missing.
    pub denied: &'static str,
}

impl GroupTexts {
    /// Where an action has no texts of its own.
    pub const USUAL: GroupTexts = GroupTexts {
        malformed: "Invalid group identifier",
        unknown: "Unknown device group",
        unnamed: "Unknown device group",
        denied: "Access denied",
    };
}

/// The context of one request.
#[derive(Clone)]
pub struct Context {
    /// The server.
    pub site: Arc<Site>,
    /// The session it came in on.
    pub session: Arc<ControlSession>,
    /// Where from.
    pub remote: IpAddr,
    /// Name of the server as the client reached it, `host[:port]`.
    pub host: String,
    /// Id that the client gave the request, for answers that come later.
    pub response_id: Option<String>,
}

impl Context {
    /// What the user may see and do now.
    ///
    /// # Errors
    /// When the account is gone.
    pub fn access(&self) -> Result<Access, Refusal> {
        self.site.access(&self.session.user).ok_or_else(|| Refusal::new("This account no longer exists"))
    }

    /// The user.
    ///
    /// # Errors
    /// When the account is gone.
    pub fn user(&self) -> Result<Arc<User>, Refusal> {
        Ok(self.access()?.user().clone())
    }

    /// Refuses sessions that were opened with a login token: a tool must not change how people log in
    /// (control-protocol §2.6).
    ///
    /// # Errors
    /// `Access denied`.
    pub fn without_token(&self) -> Result<(), Refusal> {
        match self.session.token {
            None => Ok(()),
            Some(_) => Err(Refusal::new("Access denied")),
        }
    }

    /// The domain of the session.
    pub fn domain(&self) -> &str {
        self.session.user.domain()
    }

    /// The user, who holds a site right.
    ///
    /// # Errors
    /// `refusal`, the text that clients know for this action.
    pub fn with_site_right(&self, right: SiteRights, refusal: &str) -> Result<Arc<User>, Refusal> {
        let user = self.user()?;
        if user.siteadmin.contains(right) { Ok(user) } else { Err(Refusal::new(refusal)) }
    }

    /// A device by its full or bare id, on which the user holds `needed`.
    ///
    /// # Errors
    /// `Invalid nodeid` for a bad or invisible id, `Access denied` for a missing right.
    pub fn device(&self, id: &str, needed: Rights) -> Result<(Arc<Device>, Rights), Refusal> {
        let id = DeviceId::complete(self.domain(), id).map_err(|_| Refusal::new("Invalid nodeid"))?;
        if id.domain() != self.domain() {
            return Err(Refusal::new("Invalid domain"));
        }
        self.access()?.device(&id, needed).map_err(|denied| match denied {
            crate::model::Denied::NotFound => Refusal::new("Invalid nodeid"),
            crate::model::Denied::Forbidden => Refusal::new("Access denied"),
        })
    }

    /// A group by its full or bare id or, when none is given, by its exact name, on which the user holds
    /// `needed`.
    ///
    /// # Errors
    /// [`GroupTexts::USUAL`], `Duplicate device groups found`.
    pub fn group(
        &self,
        id: Option<&str>,
        name: Option<&str>,
        needed: Rights,
    ) -> Result<(Arc<DeviceGroup>, Rights), Refusal> {
        self.group_or(id, name, needed, &GroupTexts::USUAL)
    }

    /// As [`Context::group`], with an action's own texts for what goes wrong.
    ///
    /// # Errors
    /// `texts`, `Duplicate device groups found`.
    pub fn group_or(
        &self,
        id: Option<&str>,
        name: Option<&str>,
        needed: Rights,
        texts: &GroupTexts,
    ) -> Result<(Arc<DeviceGroup>, Rights), Refusal> {
        let access = self.access()?;
        let id = match (id, name) {
            (Some(id), _) => {
                GroupId::complete(self.domain(), id).map_err(|_| Refusal::new(texts.malformed))?
            }
            (None, Some(name)) => {
                let mut named = access
                    .groups()
                    .filter(|(group, _)| group.mtype == DeviceGroup::WITH_AGENT && group.name == name)
                    .map(|(group, _)| group.id.clone());
                match (named.next(), named.next()) {
                    (Some(id), None) => id,
                    (Some(_), Some(_)) => return Err(Refusal::new("Duplicate device groups found")),
                    (None, _) => return Err(Refusal::new(texts.unnamed)),
                }
            }
            (None, None) => return Err(Refusal::new(texts.malformed)),
        };
        access.group(&id, needed).map_err(|denied| match denied {
            crate::model::Denied::NotFound => Refusal::new(texts.unknown),
            crate::model::Denied::Forbidden => Refusal::new(texts.denied),
        })
    }

    /// A user of the domain by full id or bare name.
    ///
    /// # Errors
    /// `Invalid userid` and `User does not exists`, spelt as clients know them.
    pub fn user_named(&self, id: &str) -> Result<Arc<User>, Refusal> {
        let id = UserId::complete(self.domain(), &id.to_lowercase()).map_err(|error| match error {
            // Accounts of other domains are as unknown here as those that do not exist.
            IdError::WrongDomain => Refusal::new("User does not exists"),
            _ => Refusal::new("Invalid userid"),
        })?;
        let user = self.site.store.directory().user(&id).cloned();
        user.ok_or_else(|| Refusal::new("User does not exists"))
    }

    /// A user group of the domain by its full or bare id.
    ///
    /// # Errors
    /// `Invalid groupid`, `Unknown user group`.
    pub fn user_group(&self, id: &str) -> Result<Arc<UserGroup>, Refusal> {
        let id = UserGroupId::complete(self.domain(), id).map_err(|_| Refusal::new("Invalid groupid"))?;
        if id.domain() != self.domain() {
            return Err(Refusal::new("Invalid domain"));
        }
        let group = self.site.store.directory().user_group(&id).cloned();
        group.ok_or_else(|| Refusal::new("Unknown user group"))
    }

    /// An event of this domain.
    pub fn event(&self, etype: &str, action: &str) -> Event {
        Event::new(etype, action, self.domain())
    }

    /// A device as clients see it: with its connection state, without secrets.
    pub fn device_view(&self, device: &Device) -> Map<String, Value> {
        let mut fields = record_fields(device);
        self.site.add_presence(&device.id, &mut fields);
        fields.insert("type".into(), "node".into());
        if let Some(Value::Object(amt)) = fields.get_mut("intelamt") {
            for secret in ["pass", "mpspass"] {
                if amt.contains_key(secret) {
                    amt.insert(secret.into(), 1.into());
                }
            }
        }
        for secret in ["ssh", "rdp", "pmt"] {
            if fields.contains_key(secret) {
                fields.insert(secret.into(), 1.into());
            }
        }
        fields
    }
}

/// The fields of a record.
pub fn record_fields(record: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(record) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// A user without secrets (control-protocol §3.2).
pub fn safe_user(user: &User) -> Map<String, Value> {
    let mut fields = record_fields(user);
    for secret in [
        "hash",
        "salt",
        "passhint",
        "type",
        "domain",
        "subscriptions",
        "passtype",
        "otpsms",
        "otpmsg",
        "oldpasswords",
        "sessionsSince",
        "sessionKept",
    ] {
        fields.remove(secret);
    }
    for marker in ["otpsecret", "otpekey", "otpduo", "otpdev"] {
        if fields.contains_key(marker) {
            fields.insert(marker.into(), 1.into());
        }
    }
    for list in ["otphkeys", "webpush"] {
        if let Some(count) = fields.get(list).and_then(Value::as_array).map(Vec::len) {
            fields.insert(list.into(), count.into());
        }
    }
    if fields.contains_key("otpkeys") {
        fields.insert("otpkeys".into(), 1.into());
    }
    fields
}

/// A group as clients see it: without secrets.
pub fn group_view(group: &DeviceGroup) -> Map<String, Value> {
    let mut fields = record_fields(group);
    fields.insert("type".into(), "mesh".into());
    for (part, secret) in [("amt", "password"), ("kvm", "pass")] {
        if let Some(Value::Object(part)) = fields.get_mut(part)
            && part.contains_key(secret)
        {
            part.insert(secret.into(), 1.into());
        }
    }
    fields
}
