//! `sessionRecording` of a domain: which sessions are recorded, and how much is kept.

use std::path::PathBuf;

use outpost_wire::tunnel::Protocol;
use serde_json::{Map, Value};

use super::reader::Section;

/// Bytes that a disk keeps free unless `keepFreeMegabytes` says otherwise.
const KEEP_FREE: u64 = 64 << 20;
/// Bytes of a megabyte here.
const MEGABYTE: u64 = 1 << 20;
/// Numbers of port relays among the protocols (tunnel-protocols §2).
const PORTS: [u16; 4] = [11, 12, 13, 14];

/// What is recorded in a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecording {
    /// Folder; the server's own when none. A relative one lies in the data folder.
    pub folder: Option<PathBuf>,
    /// Numbers of the protocols that are recorded; every session when none.
    pub protocols: Option<Vec<u16>>,
    /// Sessions of users who are marked for it. With any of these three, others are not recorded.
    pub only_users: bool,
    /// Sessions that are possible through user groups which are marked for it.
    pub only_user_groups: bool,
    /// Sessions with devices of groups that are marked for it.
    pub only_device_groups: bool,
    /// Desktops get an index for seeking. Default yes (MeshCentral: no).
    pub index: bool,
    /// Recordings that are kept.
    pub most: Option<u64>,
    /// Days that they are kept.
    pub most_days: Option<u64>,
    /// Bytes that they may have together.
    pub most_bytes: Option<u64>,
    /// Bytes of the disk that recordings leave free. Outpost's own, default 64 MiB.
    pub keep_free: u64,
    /// What becomes of a session that cannot be recorded. Outpost's own.
    pub on_failure: OnFailure,
}

/// What becomes of a session that has to be recorded and cannot: disk full, folder not writable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// It ends. The default.
    #[default]
    End,
    /// It goes on without being recorded, as in MeshCentral.
    Continue,
}

/// Sessions that count as one kind: whoever has one of them recorded means the others too.
fn kind(protocol: u16) -> u16 {
    match protocol {
        4 | 5 | 10 => 5,
        port if PORTS.contains(&port) => PORTS[0],
        other if Protocol::from_number(other).is_some_and(Protocol::is_terminal) => 1,
        other => other,
    }
}

/// Whether two protocols are of one kind: the shells, the ways to files, the ports.
pub fn same_kind(one: u16, other: u16) -> bool {
    kind(one) == kind(other)
}

impl SessionRecording {
    /// Whether sessions of this protocol are recorded, or those of one kind with it.
    pub fn covers(&self, protocol: u16) -> bool {
        self.protocols.as_ref().is_none_or(|listed| listed.iter().any(|one| same_kind(*one, protocol)))
    }

    /// Whether port relays are.
    pub fn covers_ports(&self) -> bool {
        self.covers(PORTS[0])
    }

    /// Whether only those are recorded who are marked for it.
    pub fn selects(&self) -> bool {
        self.only_users || self.only_user_groups || self.only_device_groups
    }

    pub(super) fn read(domain: &mut Section<'_>) -> Option<SessionRecording> {
        let fields = match domain.take("sessionrecording") {
            None | Some(Value::Null | Value::Bool(false)) => return None,
            Some(Value::Bool(true)) => Map::new(),
            Some(Value::Object(fields)) => fields,
            Some(_) => {
                // Somebody wants recordings: better too many than none.
                domain.wrong(
                    "sessionrecording",
                    "expected true, false or an object; everything is recorded".into(),
                );
                Map::new()
            }
        };
        domain.put_back("sessionrecording", Value::Object(fields));
        let mut section = domain.section("sessionrecording");
        let megabytes = |count: Option<u64>| count.map(|count| count * MEGABYTE);
        let on_failure = match section.text("onfailure").as_deref() {
            None | Some("end") => OnFailure::End,
            Some("continue") => OnFailure::Continue,
            Some(_) => {
                section.wrong("onfailure", "expected end or continue; sessions are ended".into());
                OnFailure::End
            }
        };
        let read = SessionRecording {
            folder: section.text("filepath").map(PathBuf::from),
            protocols: read_protocols(&mut section),
            only_users: section.flag("onlyselectedusers", false),
            only_user_groups: section.flag("onlyselectedusergroups", false),
            only_device_groups: section.flag("onlyselecteddevicegroups", false),
            index: section.flag("index", true),
            most: section.number("maxrecordings", 0..=10_000_000).filter(|most| *most > 0),
            most_days: section.number("maxrecordingdays", 0..=36_500).filter(|days| *days > 0),
            most_bytes: megabytes(
                section.number("maxrecordingsizemegabytes", 0..=1 << 30).filter(|size| *size > 0),
            ),
            keep_free: megabytes(section.number("keepfreemegabytes", 0..=1 << 30)).unwrap_or(KEEP_FREE),
            on_failure,
        };
        section.finish(&[]);
        Some(read)
    }
}

fn read_protocols(section: &mut Section<'_>) -> Option<Vec<u16>> {
    let wrong = |section: &mut Section<'_>| {
        section.wrong("protocols", "expected a list of protocol numbers; all are recorded".into());
    };
    let listed = match section.take("protocols") {
        None | Some(Value::Null) => return None,
        Some(Value::Array(listed)) => listed,
        Some(_) => {
            wrong(section);
            return None;
        }
    };
    let mut protocols = Vec::new();
    for number in &listed {
        match number.as_u64().and_then(|number| u16::try_from(number).ok()) {
            Some(number) => protocols.push(number),
            None => {
                wrong(section);
                return None;
            }
        }
    }
    for number in &protocols {
        if matches!(number, 100..=102 | 200) {
            section.wrong("protocols", format!("{number}: this release has no such sessions"));
        }
    }
    Some(protocols)
}
