//! What a folder holds.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use nix::unistd::{Group, User};
use outpost_wire::files::{to_text, utc};
use serde_json::{Value, json};

/// Entries of a folder that are told of; a browser shows no more.
const MOST: usize = 200_000;
/// Types of entries (tunnel-protocols §5.2).
const FOLDER: u8 = 2;
const FILE: u8 = 3;

/// The answer to a request to list a folder: its entries as the file system gives them, or `null` when it
/// cannot be read.
pub(super) fn list(path: &[u8], reqid: &Value) -> Vec<u8> {
    let entries = fs::read_dir(Path::new(OsStr::from_bytes(path)));
    // Written entry by entry: a folder of a hundred thousand files must not become a tree in memory first.
    let mut answer = format!("{{\"path\":{},\"reqid\":{reqid},\"dir\":", json!(to_text(path))).into_bytes();
    match entries {
        Err(error) => {
            log::debug!("listing {}: {error}", to_text(path));
            answer.extend(format!("null,\"error\":{}", json!(error.to_string())).into_bytes());
        }
        Ok(entries) => {
            answer.push(b'[');
            let mut owners = Owners::default();
            let described =
                entries.take(MOST).filter_map(Result::ok).filter_map(|entry| describe(&entry, &mut owners));
            for (number, entry) in described.enumerate() {
                if number > 0 {
                    answer.push(b',');
                }
                answer.extend(entry.to_string().into_bytes());
            }
            answer.push(b']');
        }
    }
    answer.push(b'}');
    answer
}

/// Names of accounts and groups, looked up once for each number.
#[derive(Default)]
struct Owners {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Owners {
    fn user(&mut self, id: u32) -> &str {
        self.users.entry(id).or_insert_with(|| match User::from_uid(id.into()) {
            Ok(Some(user)) => user.name,
            _ => id.to_string(),
        })
    }
    fn group(&mut self, id: u32) -> &str {
        self.groups.entry(id).or_insert_with(|| match Group::from_gid(id.into()) {
            Ok(Some(group)) => group.name,
            _ => id.to_string(),
        })
    }
}

/// An entry as MeshCentral's clients know it, and what they pass over: `m` permissions, `u` owner, `g` group, and for
/// links `l`, where they lead.
fn describe(entry: &fs::DirEntry, owners: &mut Owners) -> Option<Value> {
    let name = to_text(entry.file_name().as_bytes());
    let own = entry.metadata().ok()?;
    // A link is shown as what it leads to; one that leads nowhere as an empty file, so that it can be removed.
    let target = if own.is_symlink() { fs::metadata(entry.path()).ok() } else { None };
    let seen = target.as_ref().unwrap_or(&own);
    let kind = if seen.is_dir() { FOLDER } else { FILE };
    let mut described = json!({ "n": name, "t": kind });
    if kind == FILE {
        described["s"] = if seen.is_symlink() { 0 } else { seen.len() }.into();
    }
    if let Ok(time) = seen.modified() {
        let seconds = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
        };
        // Years of five digits are no dates to anybody.
        described["d"] = utc(seconds.clamp(0, 253_402_300_799)).into();
    }
    described["m"] = (own.mode() & 0o7777).into();
    described["u"] = owners.user(own.uid()).into();
    described["g"] = owners.group(own.gid()).into();
    if own.is_symlink() {
        let leads_to = fs::read_link(entry.path()).ok();
        described["l"] = leads_to.map_or(Value::Null, |path| to_text(path.as_os_str().as_bytes()).into());
    }
    Some(described)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_entries_are_listed_as_they_are() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &[u8]| folder.path().join(OsStr::from_bytes(name));
        let names =
            [&b"plain"[..], b"with \"quotes\" and\nnewline", b"not utf-8 \xFF\xFE", " spaces ☃ ".as_bytes()];
        for name in names {
            fs::write(at(name), b"12345").expect("written");
        }
        fs::create_dir(at(b"folder")).expect("made");
        std::os::unix::fs::symlink("nowhere", at(b"dangling")).expect("linked");
        std::os::unix::fs::symlink("folder", at(b"link")).expect("linked");
        let answer = list(folder.path().as_os_str().as_bytes(), &json!("r1"));
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        assert_eq!(answer["reqid"], "r1");
        let entries = answer["dir"].as_array().expect("entries");
        let find = |name: &[u8]| {
            entries.iter().find(|entry| entry["n"] == to_text(name)).unwrap_or_else(|| panic!("{name:?}"))
        };
        for name in names {
            assert_eq!((&find(name)["t"], &find(name)["s"]), (&json!(3), &json!(5)));
        }
        assert_eq!((&find(b"folder")["t"], find(b"folder").get("s")), (&json!(2), None));
        assert_eq!((&find(b"dangling")["t"], &find(b"dangling")["l"]), (&json!(3), &json!("nowhere")));
        assert_eq!(find(b"link")["t"], 2);
        assert_eq!(find(b"plain")["m"].as_u64().map(|mode| mode & 0o600), Some(0o600));
        assert!(find(b"plain")["u"].is_string() && find(b"plain")["g"].is_string());
        assert_eq!(entries.len(), 7);
        let missing: Value = serde_json::from_slice(&list(b"/no/such/folder", &json!(2))).expect("JSON");
        assert_eq!(missing["dir"], Value::Null);
        assert!(missing["error"].as_str().expect("words").contains("No such file"));
    }
}
