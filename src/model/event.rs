//! Something that happened, and who is to hear of it.

use outpost_wire::id::{DeviceId, GroupId, UserGroupId, UserId};
use serde_json::{Map, Value, json};

use super::directory::Directory;
use super::records::{Device, DeviceGroup, User};

/// An event in MeshCentral's shape (control-protocol §6.3) with its targets.
#[derive(Clone, Debug)]
pub struct Event {
    /// The fields that clients see.
    pub body: Map<String, Value>,
    /// Ids of those who hear of it: `*`, `server-users`, users, groups, devices, user groups.
    pub targets: Vec<String>,
    /// The event is kept in the log, not only shown to those who are connected.
    pub logged: bool,
}

impl Event {
    /// A logged event of a kind (`etype`) and action in a domain.
    pub fn new(etype: &str, action: &str, domain: &str) -> Event {
        let mut body = Map::new();
        body.insert("etype".into(), json!(etype));
        body.insert("action".into(), json!(action));
        body.insert("domain".into(), json!(domain));
        Event { body, targets: Vec::new(), logged: true }
    }

    /// Adds a field. `Null` is left out, as clients expect absent fields to be absent.
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Event {
        let value = value.into();
        if !value.is_null() {
            self.body.insert(field.into(), value);
        }
        self
    }

    /// Who did it.
    pub fn by(self, user: &User) -> Event {
        self.with("userid", user.id.as_str()).with("username", user.name.as_str())
    }

    /// The text, its number and arguments (data-formats §11), in our words.
    pub fn says(self, msgid: u32, args: &[&str], text: impl Into<String>) -> Event {
        self.with("msgid", msgid).with("msgArgs", json!(args)).with("msg", text.into())
    }

    /// The event is shown, not kept.
    pub fn unlogged(mut self) -> Event {
        self.logged = false;
        self.with("nolog", 1)
    }

    /// Adds targets.
    pub fn to<T: Into<String>>(mut self, targets: impl IntoIterator<Item = T>) -> Event {
        for target in targets {
            let target = target.into();
            if !self.targets.contains(&target) {
                self.targets.push(target);
            }
        }
        self
    }

    /// Aims at whoever may see a device group.
    pub fn to_group(self, group: &DeviceGroup) -> Event {
        let user_groups: Vec<String> =
            group.links.keys().filter(|id| id.starts_with(UserGroupId::PREFIX)).cloned().collect();
        self.to(["*".to_owned(), group.id.as_str().to_owned()]).to(user_groups)
    }

    /// Aims at whoever may see a device.
    pub fn to_device(self, device: &Device, directory: &Directory) -> Event {
        let event = self.to([device.id.as_str()]).to(device
            .links
            .keys()
            .filter(|id| id.starts_with(UserGroupId::PREFIX))
            .cloned());
        match directory.group(&device.group) {
            Some(group) => event.to_group(group),
            None => event.to(["*", device.group.as_str()]),
        }
    }

    /// Aims at administrators of accounts and at the user.
    pub fn to_account(self, user: &UserId) -> Event {
        self.to(["*", "server-users", user.as_str()])
    }

    /// About a device.
    pub fn on_device(self, id: &DeviceId) -> Event {
        self.with("nodeid", id.as_str())
    }

    /// About a device group.
    pub fn on_group(self, id: &GroupId) -> Event {
        self.with("meshid", id.as_str())
    }
}
