//! One change of the store: what it reads, what it stages.

use std::sync::Arc;

use outpost_wire::id::{DeviceId, GroupId, UserGroupId, UserId};
use serde::Serialize;
use serde_json::Value;

use super::engine::{EventQuery, Op, StoreError};
use crate::model::{Device, DeviceGroup, Directory, Event, User, UserGroup};

/// A change being staged: reads see what it has staged so far.
pub struct Transaction {
    directory: Directory,
    ops: Vec<Op>,
    failed: Option<StoreError>,
}

impl Transaction {
    pub(super) fn new(directory: Arc<Directory>) -> Transaction {
        Transaction { directory: (*directory).clone(), ops: Vec::new(), failed: None }
    }

    pub(super) fn finish(self) -> Result<(Vec<Op>, Arc<Directory>), StoreError> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok((self.ops, Arc::new(self.directory))),
        }
    }

    /// The picture with everything staged so far.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    fn stage(&mut self, id: &str, record: &impl Serialize, kind: &str) {
        let json = serde_json::to_value(record).and_then(|mut value| {
            if let Value::Object(fields) = &mut value {
                fields.entry("type").or_insert_with(|| kind.into());
            }
            serde_json::to_vec(&value)
        });
        match json {
            Ok(json) => self.ops.push(Op::Put { id: id.to_owned(), json }),
            Err(error) => {
                self.failed = Some(StoreError::Record { id: id.to_owned(), reason: error.to_string() })
            }
        }
    }

    /// Adds or replaces a user.
    pub fn put_user(&mut self, user: User) -> Arc<User> {
        let user = Arc::new(user);
        self.stage(user.id.as_str(), &*user, "user");
        self.directory.put_user(user.clone());
        user
    }

    /// Removes a user.
    pub fn remove_user(&mut self, id: &UserId) {
        self.ops.push(Op::Delete { id: id.as_str().to_owned() });
        self.directory.remove_user(id);
    }

    /// Adds or replaces a device group.
    pub fn put_group(&mut self, group: DeviceGroup) -> Arc<DeviceGroup> {
        let group = Arc::new(group);
        self.stage(group.id.as_str(), &*group, "mesh");
        self.directory.put_group(group.clone());
        group
    }

    /// Removes a device group for good.
    pub fn remove_group(&mut self, id: &GroupId) {
        self.ops.push(Op::Delete { id: id.as_str().to_owned() });
        self.directory.remove_group(id);
    }

    /// Adds or replaces a user group.
    pub fn put_user_group(&mut self, group: UserGroup) -> Arc<UserGroup> {
        let group = Arc::new(group);
        self.stage(group.id.as_str(), &*group, "ugrp");
        self.directory.put_user_group(group.clone());
        group
    }

    /// Removes a user group.
    pub fn remove_user_group(&mut self, id: &UserGroupId) {
        self.ops.push(Op::Delete { id: id.as_str().to_owned() });
        self.directory.remove_user_group(id);
    }

    /// Adds or replaces a device.
    pub fn put_device(&mut self, device: Device) -> Arc<Device> {
        let device = Arc::new(device);
        self.stage(device.id.as_str(), &*device, "node");
        self.directory.put_device(device.clone());
        device
    }

    /// Removes a device with everything kept beside it: addresses, inventory, notes, history and events.
    pub fn remove_device(&mut self, id: &DeviceId) {
        for prefix in ["", "lc", "if", "si", "nt", "sm", "al"] {
            self.ops.push(Op::Delete { id: format!("{prefix}{id}") });
        }
        self.ops.push(Op::ForgetDevice { device: id.as_str().to_owned() });
        self.directory.remove_device(id);
    }

    /// Adds or replaces a side record (`lc…`, `if…`, `si…`, `nt…`, keys).
    pub fn put(&mut self, id: &str, kind: &str, record: &impl Serialize) {
        self.stage(id, record, kind);
    }

    /// Removes a side record.
    pub fn delete(&mut self, id: &str) {
        self.ops.push(Op::Delete { id: id.to_owned() });
    }

    /// Appends an event to the log, if it is one that is kept. `time` is Unix ms.
    pub fn log(&mut self, event: &Event, time: i64) {
        if !event.logged {
            return;
        }
        let mut body = event.body.clone();
        // The device itself is not kept in the log: it has its own record (data-formats §2.2).
        body.remove("node");
        body.insert("time".into(), crate::clock::iso8601(time).into());
        let mut targets = event.targets.clone();
        for field in ["userid", "nodeid"] {
            if let Some(id) = body.get(field).and_then(Value::as_str) {
                targets.push(EventQuery::about_user(id));
            }
        }
        match serde_json::to_vec(&body) {
            Ok(json) => self.ops.push(Op::Event { time, targets, json }),
            Err(error) => {
                self.failed = Some(StoreError::Record { id: "event".into(), reason: error.to_string() })
            }
        }
    }

    /// Notes a device's power state. `time` is Unix ms.
    pub fn power(&mut self, device: &DeviceId, time: i64, state: u8, previous: u8) {
        self.ops.push(Op::Power { device: device.as_str().to_owned(), time, state, previous });
    }

    /// Drops history older than these moments, Unix ms.
    pub fn expire(&mut self, events_before: i64, power_before: i64) {
        self.ops.push(Op::Expire { events_before, power_before });
    }
}
