//! Everything the server knows about people and devices at one moment, and who may do what with it.
//!
//! A [`Directory`] is an immutable snapshot: cloning it is cheap, so a request works on one consistent
//! picture without a lock while others change the next one. Handlers never look a device or group up
//! directly; they go through [`Access`], which answers only with what a user's rights allow.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use outpost_wire::id::{DeviceId, GroupId, UserGroupId, UserId};

use super::records::{Device, DeviceGroup, User, UserGroup};
use super::rights::{Rights, SiteRights};

/// A snapshot of all users, groups and devices of all domains.
#[derive(Clone, Default)]
pub struct Directory {
    users: OrdMap<UserId, Arc<User>>,
    groups: OrdMap<GroupId, Arc<DeviceGroup>>,
    user_groups: OrdMap<UserGroupId, Arc<UserGroup>>,
    devices: OrdMap<DeviceId, Arc<Device>>,
    devices_by_group: OrdMap<GroupId, OrdSet<DeviceId>>,
}

impl Directory {
    /// The user with this id.
    pub fn user(&self, id: &UserId) -> Option<&Arc<User>> {
        self.users.get(id)
    }

    /// All users, ordered by id.
    pub fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.values()
    }

    /// The users of a domain.
    pub fn users_of<'a>(&'a self, domain: &'a str) -> impl Iterator<Item = &'a Arc<User>> {
        self.users.values().filter(move |user| user.domain == domain)
    }

    /// The device group with this id, deleted ones included.
    pub fn group(&self, id: &GroupId) -> Option<&Arc<DeviceGroup>> {
        self.groups.get(id)
    }

    /// All device groups that are not deleted.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<DeviceGroup>> {
        self.groups.values().filter(|group| group.deleted.is_none())
    }

    /// All device groups, deleted ones included.
    pub fn all_groups(&self) -> impl Iterator<Item = &Arc<DeviceGroup>> {
        self.groups.values()
    }

    /// The user group with this id.
    pub fn user_group(&self, id: &UserGroupId) -> Option<&Arc<UserGroup>> {
        self.user_groups.get(id)
    }

    /// All user groups.
    pub fn user_groups(&self) -> impl Iterator<Item = &Arc<UserGroup>> {
        self.user_groups.values()
    }

    /// The device with this id. Only for rooms that act for the device itself (its agent session);
    /// whoever acts for a user asks [`Access::device`].
    pub fn device(&self, id: &DeviceId) -> Option<&Arc<Device>> {
        self.devices.get(id)
    }

    /// All devices.
    pub fn devices(&self) -> impl Iterator<Item = &Arc<Device>> {
        self.devices.values()
    }

    /// The devices of one group.
    pub fn devices_in(&self, group: &GroupId) -> impl Iterator<Item = &Arc<Device>> {
        self.devices_by_group.get(group).into_iter().flatten().filter_map(|id| self.devices.get(id))
    }

    /// How many devices a group has.
    pub fn device_count(&self, group: &GroupId) -> usize {
        self.devices_by_group.get(group).map_or(0, OrdSet::len)
    }

    /// Adds or replaces a user.
    pub fn put_user(&mut self, user: Arc<User>) {
        self.users.insert(user.id.clone(), user);
    }

    /// Removes a user.
    pub fn remove_user(&mut self, id: &UserId) {
        self.users.remove(id);
    }

    /// Adds or replaces a device group.
    pub fn put_group(&mut self, group: Arc<DeviceGroup>) {
        self.groups.insert(group.id.clone(), group);
    }

    /// Removes a device group for good.
    pub fn remove_group(&mut self, id: &GroupId) {
        self.groups.remove(id);
    }

    /// Adds or replaces a user group.
    pub fn put_user_group(&mut self, group: Arc<UserGroup>) {
        self.user_groups.insert(group.id.clone(), group);
    }

    /// Removes a user group.
    pub fn remove_user_group(&mut self, id: &UserGroupId) {
        self.user_groups.remove(id);
    }

    /// Adds or replaces a device, keeping the index by group.
    pub fn put_device(&mut self, device: Arc<Device>) {
        let moved_from =
            self.devices.get(&device.id).map(|old| old.group.clone()).filter(|old| *old != device.group);
        if let Some(old) = moved_from {
            self.unindex(&old, &device.id);
        }
        self.devices_by_group.entry(device.group.clone()).or_default().insert(device.id.clone());
        self.devices.insert(device.id.clone(), device);
    }

    /// Removes a device.
    pub fn remove_device(&mut self, id: &DeviceId) {
        if let Some(device) = self.devices.remove(id) {
            self.unindex(&device.group, id);
        }
    }

    fn unindex(&mut self, group: &GroupId, id: &DeviceId) {
        if let Some(ids) = self.devices_by_group.get_mut(group) {
            ids.remove(id);
            if ids.is_empty() {
                self.devices_by_group.remove(group);
            }
        }
    }
}

/// Why something was not handed out. Its texts are the ones MeshCentral's clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no such thing, or the user may not know that there is.
    #[error("not found")]
    NotFound,
    /// The user sees it but lacks the right.
    #[error("Access denied")]
    Forbidden,
}

/// What one user may see and do, on one snapshot.
#[derive(Clone)]
pub struct Access {
    directory: Arc<Directory>,
    user: Arc<User>,
    /// The user administers every group of the domain (`manageAllDeviceGroups`).
    manages_all: bool,
}

impl Access {
    /// The access of `user`; `manages_all` for administrators listed in `manageAllDeviceGroups`.
    pub fn new(directory: Arc<Directory>, user: Arc<User>, manages_all: bool) -> Access {
        Access { directory, user, manages_all }
    }

    /// The user this is about.
    pub fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// The user's site rights.
    pub fn site(&self) -> SiteRights {
        self.user.siteadmin
    }

    /// The group and device rights in force, `None` when there is no link at all (then nothing of it may
    /// be seen). This one function decides every right (control-protocol §5.4).
    fn effective(&self, group: &DeviceGroup, device: Option<&Device>) -> Option<Rights> {
        let user = &*self.user;
        if user.domain != group.domain {
            return None;
        }
        if self.manages_all && user.siteadmin.is_full() {
            return Some(Rights::FULL.without(user.remove_rights));
        }
        let direct_device = device.and_then(|device| user.links.get(device.id.as_str()));
        let direct_group = user.links.get(group.id.as_str());
        let through_groups = user
            .links
            .keys()
            .filter(|id| id.starts_with(UserGroupId::PREFIX))
            .filter_map(|id| self.directory.user_groups.get(id.as_str()))
            .filter(|user_group| user_group.links.contains_key(user.id.as_str()))
            .flat_map(|user_group| {
                let of_group = user_group.links.get(group.id.as_str());
                let of_device = device.and_then(|device| user_group.links.get(device.id.as_str()));
                [of_group, of_device]
            });
        let mut found = None;
        for link in [direct_device, direct_group].into_iter().chain(through_groups).flatten() {
            if link.rights.is_full() {
                return Some(Rights::FULL.without(user.remove_rights));
            }
            found = Some(found.unwrap_or(Rights::NONE) | link.rights);
        }
        found.map(|rights: Rights| rights.without(user.remove_rights))
    }

    /// The user's rights on a group, `None` when the user may not see it.
    pub fn group_rights(&self, id: &GroupId) -> Option<Rights> {
        let group = self.directory.group(id).filter(|group| group.deleted.is_none())?;
        self.effective(group, None)
    }

    /// The user's rights on a device, `None` when the user may not see it.
    pub fn device_rights(&self, id: &DeviceId) -> Option<Rights> {
        self.rights_on(self.directory.device(id)?)
    }

    fn rights_on(&self, device: &Device) -> Option<Rights> {
        self.effective(self.directory.group(&device.group)?, Some(device))
    }

    /// A device on which the user holds all of `needed`.
    ///
    /// # Errors
    /// [`Denied::NotFound`] when there is no such device or the user may not see it,
    /// [`Denied::Forbidden`] when a right is missing.
    pub fn device(&self, id: &DeviceId, needed: Rights) -> Result<(Arc<Device>, Rights), Denied> {
        let device = self.directory.device(id).ok_or(Denied::NotFound)?;
        let rights = self.rights_on(device).ok_or(Denied::NotFound)?;
        if rights.contains(needed) { Ok((device.clone(), rights)) } else { Err(Denied::Forbidden) }
    }

    /// A device group on which the user holds all of `needed`.
    ///
    /// # Errors
    /// As [`Access::device`].
    pub fn group(&self, id: &GroupId, needed: Rights) -> Result<(Arc<DeviceGroup>, Rights), Denied> {
        let group =
            self.directory.group(id).filter(|group| group.deleted.is_none()).ok_or(Denied::NotFound)?;
        let rights = self.effective(group, None).ok_or(Denied::NotFound)?;
        if rights.contains(needed) { Ok((group.clone(), rights)) } else { Err(Denied::Forbidden) }
    }

    /// Every group the user sees, with the rights on it.
    pub fn groups(&self) -> impl Iterator<Item = (&Arc<DeviceGroup>, Rights)> {
        self.directory.groups().filter_map(|group| Some((group, self.effective(group, None)?)))
    }

    /// Every device the user sees, with the rights on it. Costs one rights computation per group for the
    /// devices without links of their own.
    pub fn devices(&self) -> Vec<(Arc<Device>, Rights)> {
        let mut seen = Vec::new();
        for group in self.directory.all_groups() {
            let of_group = self.effective(group, None);
            for device in self.directory.devices_in(&group.id) {
                let rights =
                    if device.links.is_empty() { of_group } else { self.effective(group, Some(device)) };
                if let Some(rights) = rights {
                    seen.push((device.clone(), rights));
                }
            }
        }
        seen
    }

    /// The consent flags in force for this user on a device (control-protocol §5.6); `domain_consent` comes
    /// from the configuration.
    pub fn consent(&self, device: &Device, domain_consent: u32) -> u32 {
        let group = self.directory.group(&device.group);
        let mut consent =
            domain_consent | group.map_or(0, |group| group.consent) | device.consent | self.user.consent;
        let linked_directly = self.user.links.contains_key(device.id.as_str())
            || self.user.links.contains_key(device.group.as_str());
        if !linked_directly {
            for id in self.user.links.keys().filter(|id| id.starts_with(UserGroupId::PREFIX)) {
                if let Some(user_group) = self.directory.user_groups.get(id.as_str())
                    && (user_group.links.contains_key(device.id.as_str())
                        || user_group.links.contains_key(device.group.as_str()))
                {
                    consent |= user_group.consent;
                }
            }
        }
        consent
    }

    /// The snapshot this access is about.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::records::{Link, Links};
    use outpost_wire::id::Hash384;
    use serde_json::Map;

    fn user(name: &str) -> User {
        serde_json::from_value(serde_json::json!({ "_id": format!("user//{name}"), "name": name }))
            .expect("a user")
    }

    fn group_id(byte: u8) -> GroupId {
        GroupId::new("", &Hash384([byte; 48]).to_base64x()).expect("a group id")
    }

    fn device_id(byte: u8) -> DeviceId {
        DeviceId::new("", &Hash384([byte; 48]).to_base64x()).expect("a device id")
    }

    fn group(byte: u8) -> DeviceGroup {
        serde_json::from_value(serde_json::json!({ "_id": group_id(byte), "name": "g", "mtype": 2 }))
            .expect("a group")
    }

    fn device(byte: u8, group: u8) -> Device {
        serde_json::from_value(
            serde_json::json!({ "_id": device_id(byte), "meshid": group_id(group), "name": "d", "mtype": 2 }),
        )
        .expect("a device")
    }

    fn user_group(links: Links) -> UserGroup {
        UserGroup {
            id: UserGroupId::new("", &"u".repeat(64)).expect("an id"),
            name: "people".into(),
            desc: None,
            domain: String::new(),
            links,
            consent: 0,
            extra: Map::new(),
        }
    }

    /// Every combination of the four ways to hold rights, with every combination of three values each,
    /// against the rule written down independently: full wins, else all are OR-ed, none means invisible.
    #[test]
    fn effective_rights_follow_the_rule_in_every_combination() {
        let values = [None, Some(Rights::REMOTE_CONTROL), Some(Rights::NO_TERMINAL), Some(Rights::FULL)];
        let mut combinations = 0;
        for direct_device in values {
            for direct_group in values {
                for through_device in values {
                    for through_group in values {
                        for member in [true, false] {
                            combinations += 1;
                            let mut people = Links::new();
                            if member {
                                people.insert("user//bob".into(), Link::new(Rights(1)));
                            }
                            if let Some(rights) = through_device {
                                people.insert(device_id(9).as_str().into(), Link::new(rights));
                            }
                            if let Some(rights) = through_group {
                                people.insert(group_id(1).as_str().into(), Link::new(rights));
                            }
                            let people = user_group(people);
                            let mut bob = user("bob");
                            bob.links.insert(people.id.as_str().into(), Link::new(Rights(1)));
                            if let Some(rights) = direct_device {
                                bob.links.insert(device_id(9).as_str().into(), Link::new(rights));
                            }
                            if let Some(rights) = direct_group {
                                bob.links.insert(group_id(1).as_str().into(), Link::new(rights));
                            }
                            let mut directory = Directory::default();
                            directory.put_group(Arc::new(group(1)));
                            directory.put_device(Arc::new(device(9, 1)));
                            directory.put_user_group(Arc::new(people));
                            let access = Access::new(Arc::new(directory), Arc::new(bob), false);

                            let held: Vec<Rights> = [direct_device, direct_group]
                                .into_iter()
                                .chain(if member { [through_device, through_group] } else { [None, None] })
                                .flatten()
                                .collect();
                            let expected = if held.is_empty() {
                                None
                            } else if held.contains(&Rights::FULL) {
                                Some(Rights::FULL)
                            } else {
                                Some(held.iter().fold(Rights::NONE, |all, one| all | *one))
                            };
                            assert_eq!(access.device_rights(&device_id(9)), expected);
                        }
                    }
                }
            }
        }
        assert_eq!(combinations, 512);
    }

    #[test]
    fn a_device_link_does_not_open_the_group() {
        let mut bob = user("bob");
        bob.links.insert(device_id(9).as_str().into(), Link::new(Rights::REMOTE_CONTROL));
        let mut directory = Directory::default();
        directory.put_group(Arc::new(group(1)));
        directory.put_device(Arc::new(device(9, 1)));
        directory.put_device(Arc::new(device(8, 1)));
        let mut linked = device(9, 1);
        linked.links.insert("user//bob".into(), Link::new(Rights::REMOTE_CONTROL));
        directory.put_device(Arc::new(linked));
        let access = Access::new(Arc::new(directory), Arc::new(bob), false);
        assert_eq!(access.group(&group_id(1), Rights::NONE).err(), Some(Denied::NotFound));
        assert!(access.device(&device_id(9), Rights::REMOTE_CONTROL).is_ok());
        assert_eq!(access.device(&device_id(9), Rights::POWER).err(), Some(Denied::Forbidden));
        assert_eq!(access.device(&device_id(8), Rights::NONE).err(), Some(Denied::NotFound));
        assert_eq!(access.devices().len(), 1);
    }

    #[test]
    fn a_site_administrator_without_links_sees_no_devices_unless_told_to_manage_all() {
        let mut admin = user("admin");
        admin.siteadmin = SiteRights::FULL;
        let mut directory = Directory::default();
        directory.put_group(Arc::new(group(1)));
        let directory = Arc::new(directory);
        let admin = Arc::new(admin);
        assert_eq!(Access::new(directory.clone(), admin.clone(), false).group_rights(&group_id(1)), None);
        assert_eq!(Access::new(directory, admin, true).group_rights(&group_id(1)), Some(Rights::FULL));
    }

    #[test]
    fn rights_do_not_cross_domains() {
        let mut stranger: User = serde_json::from_value(
            serde_json::json!({ "_id": "user/other/eve", "name": "eve", "domain": "other", "siteadmin": u32::MAX }),
        )
        .expect("a user");
        stranger.links.insert(group_id(1).as_str().into(), Link::new(Rights::FULL));
        let mut directory = Directory::default();
        directory.put_group(Arc::new(group(1)));
        let access = Access::new(Arc::new(directory), Arc::new(stranger), true);
        assert_eq!(access.group_rights(&group_id(1)), None);
    }

    #[test]
    fn a_moved_device_is_found_in_its_new_group_only() {
        let mut directory = Directory::default();
        directory.put_device(Arc::new(device(9, 1)));
        directory.put_device(Arc::new(device(9, 2)));
        assert_eq!(directory.device_count(&group_id(1)), 0);
        assert_eq!(directory.device_count(&group_id(2)), 1);
        directory.remove_device(&device_id(9));
        assert_eq!(directory.device_count(&group_id(2)), 0);
    }
}
