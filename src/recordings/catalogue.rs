//! What is known of a recording from its own first and last blocks.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use outpost_wire::id::DeviceId;
use outpost_wire::recording::{BlockHead, BlockKind, ENDING, Ending, HEAD};
use serde_json::{Map, Value, json};

use super::{About, between, blocks};
use crate::model::Directory;

/// A recording in its folder.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Name of its file.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// When the file was changed last, Unix ms.
    pub changed: u64,
    /// What it is of; none when that cannot be read.
    pub about: Option<About>,
    /// When the session began, Unix ms.
    pub start: u64,
    /// When it ended; none when the file is not whole.
    pub end: Option<u64>,
    /// It was cut off and mended.
    pub recovered: bool,
}

impl Recording {
    pub(super) fn read(folder: &Path, name: &str, size: u64, changed: u64) -> io::Result<Recording> {
        let mut file = File::open(folder.join(name))?;
        let first = blocks::about(&mut file)?;
        let end = end(&mut file, size)?;
        let start = first.as_ref().map_or(changed, |(_, time)| *time);
        let about = first.map(|(about, _)| about);
        Ok(Recording { name: name.to_owned(), size, changed, about, start, end, recovered: false })
    }

    /// The device, while its id can be read.
    pub fn device(&self) -> Option<DeviceId> {
        DeviceId::parse(&self.about.as_ref()?.nodeid).ok()
    }

    /// The domain that it is of.
    pub fn domain(&self) -> &str {
        let id = self.about.as_ref().map_or("", |about| about.nodeid.as_str());
        id.strip_prefix("node/").and_then(|rest| rest.split('/').next()).unwrap_or_default()
    }

    /// How long the session was, when that is known.
    pub fn length(&self) -> Option<Duration> {
        self.end.map(|end| between(self.start, end))
    }

    /// What tells this content from another.
    pub fn tag(&self) -> String {
        format!("{:x}-{:x}", self.size, self.changed)
    }

    /// The fields of its event (tunnel-protocols §1.13).
    pub fn fields(&self, directory: &Directory) -> Map<String, Value> {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| {
            fields.insert(name.to_owned(), value);
        };
        put("filename", json!(self.name));
        put("size", json!(self.size));
        put("startTime", json!(self.start));
        if let Some(length) = self.length() {
            put("lengthTime", json!(length.as_secs()));
        }
        if let Some(about) = &self.about {
            put("nodeid", json!(about.nodeid));
            put("userids", json!([about.userid]));
            put("username", json!(about.username));
            put("name", json!(about.devicename));
            if let Some(protocol) = about.protocol {
                put("protocol", json!(protocol));
            }
            if !about.guestname.is_empty() {
                put("guestname", json!(about.guestname));
            }
        }
        if let Some(device) = self.device().and_then(|id| directory.device(&id).cloned()) {
            put("meshid", json!(device.group));
            if let Some(group) = directory.group(&device.group) {
                put("meshname", json!(group.name));
            }
            put("icon", json!(device.icon));
        }
        fields
    }
}

/// When a file of this size says that the session ended.
fn end(file: &mut File, size: u64) -> io::Result<Option<u64>> {
    let Some(last) = size.checked_sub(ENDING as u64) else { return Ok(None) };
    let mut bytes = [0; ENDING];
    file.seek(SeekFrom::Start(last))?;
    file.read_exact(&mut bytes)?;
    match Ending::parse(&bytes) {
        None => Ok(None),
        Some(Ending::Plain(time)) => Ok(Some(time)),
        Some(Ending::Indexed(place)) if place.checked_add(HEAD as u64).is_some_and(|end| end <= last) => {
            let mut head = [0; HEAD];
            file.seek(SeekFrom::Start(place))?;
            file.read_exact(&mut head)?;
            Ok(BlockHead::parse(&head).filter(|head| head.kind == BlockKind::Index).map(|head| head.time))
        }
        Some(Ending::Indexed(_)) => Ok(None),
    }
}
