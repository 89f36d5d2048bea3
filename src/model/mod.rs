//! People, devices, groups, rights and events: the rules, without any I/O.

pub mod directory;
pub mod event;
pub mod records;
pub mod rights;

pub use directory::{Access, Denied, Directory};
pub use event::Event;
pub use records::{Device, DeviceAgent, DeviceGroup, LastConnect, Link, Links, User, UserGroup};
pub use rights::{Rights, SiteRights};
