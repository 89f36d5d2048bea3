//! Rights as values: what a user may do with a device, a device group and the site.
//!
//! The bit values are MeshCentral's (control-protocol §5), so its clients and records keep their meaning.

use std::fmt;
use std::ops::{BitAnd, BitOr};

use serde::{Deserialize, Serialize};

/// Rights on a device group or a device.
///
/// Most bits allow something. Five are *restrictions* ([`Rights::RESTRICTIONS`]): they take something
/// away from a holder of [`Rights::REMOTE_CONTROL`]. [`Rights::FULL`] is compared as a whole value and
/// ignores the restrictions, as MeshCentral does.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rights(pub u32);

impl Rights {
    /// No rights at all.
    pub const NONE: Rights = Rights(0);
    /// Change the device group itself.
    pub const EDIT_GROUP: Rights = Rights(0x1);
    /// Add and remove the people of the group or device.
    pub const MANAGE_USERS: Rights = Rights(0x2);
    /// Change devices, add them, receive moved ones.
    pub const MANAGE_DEVICES: Rights = Rights(0x4);
    /// Open tunnels to a device and send it messages.
    pub const REMOTE_CONTROL: Rights = Rights(0x8);
    /// Use the agent's own console.
    pub const AGENT_CONSOLE: Rights = Rights(0x10);
    /// Use the group's folder on the server.
    pub const SERVER_FILES: Rights = Rights(0x20);
    /// Wake a device.
    pub const WAKE: Rights = Rights(0x40);
    /// Write notes on a device.
    pub const SET_NOTES: Rights = Rights(0x80);
    /// See the desktop, without input.
    pub const VIEW_ONLY: Rights = Rights(0x100);
    /// Restriction: no terminal.
    pub const NO_TERMINAL: Rights = Rights(0x200);
    /// Restriction: no files.
    pub const NO_FILES: Rights = Rights(0x400);
    /// Restriction: no Intel AMT.
    pub const NO_AMT: Rights = Rights(0x800);
    /// Restriction: only harmless input on the desktop.
    pub const LIMITED_INPUT: Rights = Rights(0x1000);
    /// Restriction: sees only own events of the group.
    pub const LIMITED_EVENTS: Rights = Rights(0x2000);
    /// Send notifications and chat.
    pub const NOTIFY: Rights = Rights(0x4000);
    /// Remove a device or uninstall its agent.
    pub const UNINSTALL: Rights = Rights(0x8000);
    /// Restriction: no desktop.
    pub const NO_DESKTOP: Rights = Rights(0x1_0000);
    /// Run commands.
    pub const RUN_COMMANDS: Rights = Rights(0x2_0000);
    /// Reset, power off, put to sleep.
    pub const POWER: Rights = Rights(0x4_0000);
    /// Give guests access to a device.
    pub const GUEST_SHARING: Rights = Rights(0x8_0000);
    /// Read hardware, network and connection details.
    pub const DETAILS: Rights = Rights(0x10_0000);
    /// Relay ports through a device without remote control.
    pub const RELAY: Rights = Rights(0x20_0000);
    /// Everything.
    pub const FULL: Rights = Rights(u32::MAX);

    /// The bits that take something away.
    pub const RESTRICTIONS: Rights = Rights(0x200 | 0x400 | 0x800 | 0x1000 | 0x2000 | 0x1_0000);

    /// What [`Rights::FULL`] becomes for a user who has some rights removed everywhere
    /// (control-protocol §5.5: 2015471).
    const FULL_BEFORE_REMOVAL: Rights = Rights(
        0x1 | 0x2
            | 0x4
            | 0x8
            | 0x20
            | 0x40
            | 0x80
            | 0x4000
            | 0x8000
            | 0x2_0000
            | 0x4_0000
            | 0x8_0000
            | 0x10_0000,
    );
    /// Bits of `removeRights` that are cleared.
    const REMOVABLE: u32 = 0x8 | 0x10 | 0x40 | 0x8000 | 0x2_0000 | 0x4_0000;
    /// Bits of `removeRights` that are set (they are restrictions, or view-only).
    const IMPOSABLE: u32 = 0x100 | 0x200 | 0x400 | 0x1_0000;

    /// True when every bit of `needed` is held. [`Rights::FULL`] holds everything; asking for it demands
    /// the whole value.
    pub fn contains(self, needed: Rights) -> bool {
        self.0 & needed.0 == needed.0
    }

    /// True when at least one bit of `any` is held.
    pub fn intersects(self, any: Rights) -> bool {
        self.0 & any.0 != 0
    }

    /// True for the full administrator of a group or device.
    pub fn is_full(self) -> bool {
        self == Rights::FULL
    }

    /// True when a restriction applies: the bit is set and the holder is not a full administrator.
    pub fn restricted_by(self, restriction: Rights) -> bool {
        !self.is_full() && self.intersects(restriction)
    }

    /// The rights left after a user's `removeRights` (control-protocol §5.5).
    pub fn without(self, removed: u32) -> Rights {
        if removed == 0 {
            return self;
        }
        let base = if self.is_full() { Rights::FULL_BEFORE_REMOVAL } else { self };
        Rights((base.0 & !(removed & Rights::REMOVABLE)) | (removed & Rights::IMPOSABLE))
    }
}

impl BitOr for Rights {
    type Output = Rights;
    fn bitor(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }
}

impl BitAnd for Rights {
    type Output = Rights;
    fn bitand(self, other: Rights) -> Rights {
        Rights(self.0 & other.0)
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rights({:#x})", self.0)
    }
}

/// Rights on the site itself: a user's `siteadmin` (control-protocol §5.2).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SiteRights(pub u32);

impl SiteRights {
    /// No site rights.
    pub const NONE: SiteRights = SiteRights(0);
    /// Back the server up.
    pub const BACKUP: SiteRights = SiteRights(1);
    /// Manage users.
    pub const MANAGE_USERS: SiteRights = SiteRights(2);
    /// Restore the server.
    pub const RESTORE: SiteRights = SiteRights(4);
    /// Use server files.
    pub const FILES: SiteRights = SiteRights(8);
    /// Update the server and read its state.
    pub const UPDATE: SiteRights = SiteRights(16);
    /// Restriction: the account is locked.
    pub const LOCKED: SiteRights = SiteRights(32);
    /// Restriction: may not create device groups.
    pub const NO_NEW_GROUPS: SiteRights = SiteRights(64);
    /// Restriction: may not use command-line tools.
    pub const NO_TOOLS: SiteRights = SiteRights(128);
    /// Manage user groups.
    pub const USER_GROUPS: SiteRights = SiteRights(256);
    /// See recordings.
    pub const RECORDINGS: SiteRights = SiteRights(512);
    /// Restriction: may not change the own account.
    pub const LOCKED_SETTINGS: SiteRights = SiteRights(1024);
    /// Sees every event of the domain.
    pub const ALL_EVENTS: SiteRights = SiteRights(2048);
    /// Restriction: may not add devices.
    pub const NO_NEW_DEVICES: SiteRights = SiteRights(4096);
    /// Site administrator.
    pub const FULL: SiteRights = SiteRights(u32::MAX);

    /// True for a site administrator.
    pub fn is_full(self) -> bool {
        self == SiteRights::FULL
    }

    /// True when every bit of `needed` is held.
    pub fn contains(self, needed: SiteRights) -> bool {
        self.0 & needed.0 == needed.0
    }

    /// True when at least one bit of `any` is held.
    pub fn intersects(self, any: SiteRights) -> bool {
        self.0 & any.0 != 0
    }

    /// True when a restriction applies: the bit is set and the holder is not a site administrator.
    pub fn restricted_by(self, restriction: SiteRights) -> bool {
        !self.is_full() && self.intersects(restriction)
    }

    /// The bit with a name that `newAccountsRights` uses (config §1.8).
    pub fn by_name(name: &str) -> Option<SiteRights> {
        Some(match name.to_ascii_lowercase().as_str() {
            "fulladmin" => SiteRights::FULL,
            "serverbackup" => SiteRights::BACKUP,
            "manageusers" => SiteRights::MANAGE_USERS,
            "serverrestore" => SiteRights::RESTORE,
            "fileaccess" => SiteRights::FILES,
            "serverupdate" => SiteRights::UPDATE,
            "locked" => SiteRights::LOCKED,
            "nonewgroups" => SiteRights::NO_NEW_GROUPS,
            "notools" => SiteRights::NO_TOOLS,
            "usergroups" => SiteRights::USER_GROUPS,
            "recordings" => SiteRights::RECORDINGS,
            "locksettings" => SiteRights::LOCKED_SETTINGS,
            "allevents" => SiteRights::ALL_EVENTS,
            "nonewdevices" => SiteRights::NO_NEW_DEVICES,
            _ => return None,
        })
    }
}

impl BitOr for SiteRights {
    type Output = SiteRights;
    fn bitor(self, other: SiteRights) -> SiteRights {
        SiteRights(self.0 | other.0)
    }
}

impl fmt::Debug for SiteRights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SiteRights({:#x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_ignores_restrictions_and_partial_does_not() {
        assert!(!Rights::FULL.restricted_by(Rights::NO_TERMINAL));
        assert!((Rights::REMOTE_CONTROL | Rights::NO_TERMINAL).restricted_by(Rights::NO_TERMINAL));
        assert!(!SiteRights::FULL.restricted_by(SiteRights::LOCKED));
        assert!(SiteRights::LOCKED.restricted_by(SiteRights::LOCKED));
    }

    #[test]
    fn removing_rights_matches_the_published_numbers() {
        // 2015471 is the value MeshCentral starts from when a full administrator has rights removed.
        assert_eq!(Rights::FULL_BEFORE_REMOVAL.0, 2_015_471);
        assert_eq!(Rights::FULL.without(0), Rights::FULL);
        let left = Rights::FULL.without(0x8 | 0x200);
        assert_eq!(left.0, (2_015_471 & !0x8) | 0x200);
        // Bits that are neither removable nor imposable have no effect.
        assert_eq!(Rights(0xFF).without(0x1 | 0x2), Rights(0xFF));
        assert!(!Rights::FULL.without(0x1).is_full());
    }

    /// Every removable bit alone is taken from every single-bit holder; every imposable one is added.
    #[test]
    fn removal_is_right_for_every_pair_of_bits() {
        for held in 0..22 {
            for removed in 0..22 {
                let (held, removed) = (1u32 << held, 1u32 << removed);
                let left = Rights(held).without(removed).0;
                let expected = if removed & Rights::REMOVABLE != 0 {
                    held & !removed
                } else if removed & Rights::IMPOSABLE != 0 {
                    held | removed
                } else {
                    held
                };
                assert_eq!(left, expected, "held {held:#x} removed {removed:#x}");
            }
        }
    }

    #[test]
    fn site_right_names_are_known() {
        assert_eq!(SiteRights::by_name("ManageUsers"), Some(SiteRights::MANAGE_USERS));
        assert_eq!(SiteRights::by_name("everything"), None);
    }
}
