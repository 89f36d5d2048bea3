//! What a client asks of a files session (tunnel-protocols §5.2), and what Outpost's own clients may ask besides.

use serde_json::{Map, Value};

use super::name::{Name, to_bytes};
use super::{MAX_NAMES, MAX_PATH, MAX_REQUEST};
use crate::json;

/// Longest id that a client gives a request, in bytes.
const MAX_ID: usize = 256;

/// Why a request is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileRequestError {
    /// Not a JSON object of bearable size.
    #[error("the request is not a JSON object: {0}")]
    Json(String),
    /// A field is missing or not what it should be.
    #[error("the request's field {0:?} is missing or bad")]
    Field(&'static str),
    /// Not an action there is.
    #[error("files sessions have no such action")]
    Action,
}

/// What a download is told (tunnel-protocols §5.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownloadStep {
    /// Open this file.
    Start {
        /// Bytes of its path.
        path: Vec<u8>,
        /// Where to begin, in bytes; Outpost's own, for going on with a download that was cut.
        from: u64,
    },
    /// Send the first blocks: this many may be under way.
    Go {
        /// Blocks, at least 1.
        window: u32,
    },
    /// A block has arrived.
    Ack,
    /// Stop.
    Stop,
}

/// How the content of an upload gets to its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadMode {
    /// Over whatever was there.
    Anew,
    /// On at the end, or (Outpost's own) from this many bytes on, which are there.
    Append {
        /// Bytes of the file that are kept.
        from: Option<u64>,
    },
    /// Outpost's own: beside the old file until it is whole, and then in its place at once, with its owner and mode.
    Replace {
        /// Upper-case hexadecimal hash, of the upload's kind, that the old file must still have; none for any.
        expected: Option<String>,
    },
}

/// A kind of hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashKind {
    /// MeshCentral's.
    Sha384,
    /// What people compare with.
    Sha256,
}

impl HashKind {
    /// As it stands in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha384 => "sha384",
            Self::Sha256 => "sha256",
        }
    }
}

/// What to do where something of that name is already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exists {
    /// Do nothing and say so.
    #[default]
    Refuse,
    /// Replace files; folders become one.
    Overwrite,
    /// Leave files that are there; folders become one.
    Skip,
    /// Give the newcomer another name.
    Both,
}

/// What a client asks of a files session.
#[derive(Debug, Clone, PartialEq)]
pub enum FileRequest {
    /// List a folder.
    List {
        /// Bytes of its path.
        path: Vec<u8>,
        /// Returned with the answer.
        reqid: Value,
    },
    /// Make one folder.
    MakeFolder {
        /// Bytes of its path.
        path: Vec<u8>,
        /// Returned with the answer.
        reqid: Value,
    },
    /// Remove entries of a folder.
    Remove {
        /// Bytes of the folder's path.
        path: Vec<u8>,
        /// Which entries.
        names: Vec<Name>,
        /// Folders with all that is in them.
        recursive: bool,
        /// Tell of progress, and take other requests meanwhile. Outpost's own.
        watch: bool,
        /// Returned with the answer.
        reqid: Value,
    },
    /// Give an entry of a folder another name.
    Rename {
        /// Bytes of the folder's path.
        path: Vec<u8>,
        /// Its name.
        from: Name,
        /// Its name to be.
        to: Name,
        /// Returned with the answer.
        reqid: Value,
    },
    /// Copy or move files from one folder to another.
    Transfer {
        /// Bytes of the path of the folder they are in.
        from: Vec<u8>,
        /// Bytes of the path of the folder they are to be in.
        to: Vec<u8>,
        /// Which.
        names: Vec<Name>,
        /// Remove them from where they are.
        remove: bool,
        /// What to do where something of that name is already. Outpost's own.
        exists: Exists,
        /// Tell of progress, and take other requests meanwhile. Outpost's own.
        watch: bool,
        /// Returned with the answer.
        reqid: Value,
    },
    /// Begin to write a file.
    Upload {
        /// Bytes of its path.
        path: Vec<u8>,
        /// Anew, further or in place of another.
        mode: UploadMode,
        /// Make a hash of it all while it comes, told at the end. Outpost's own.
        hash: Option<HashKind>,
        /// Returned with the answers.
        reqid: Value,
    },
    /// The file is complete.
    UploadDone {
        /// Returned with the answer.
        reqid: Value,
    },
    /// The file is not wanted after all.
    UploadCancel {
        /// Returned with the answer.
        reqid: Value,
    },
    /// The hash of a file, for going on with an upload.
    Hash {
        /// Bytes of its path.
        path: Vec<u8>,
        /// Which; other than SHA-384 is Outpost's own.
        kind: HashKind,
        /// Tell of progress, and take other requests meanwhile. Outpost's own.
        watch: bool,
        /// The request's own fields, which the answer repeats.
        echo: Map<String, Value>,
    },
    /// Send a file.
    Download {
        /// Which download.
        id: Value,
        /// What about it.
        step: DownloadStep,
    },
    /// Names below a folder that fit a pattern of `*` and `?`.
    Find {
        /// Bytes of the folder's path.
        path: Vec<u8>,
        /// The pattern.
        pattern: String,
        /// Returned with the answers.
        reqid: Value,
    },
    /// End the search.
    CancelFind,
    /// Put entries of a folder into an archive beside them.
    Zip {
        /// Bytes of the folder's path.
        path: Vec<u8>,
        /// Which.
        names: Vec<Name>,
        /// Name of the archive.
        output: Name,
        /// Returned with the answer.
        reqid: Value,
    },
    /// Take an archive apart into a folder.
    Unzip {
        /// Bytes of the archive's path.
        archive: Vec<u8>,
        /// Bytes of the folder's path.
        folder: Vec<u8>,
        /// What to do where something of that name is already. Outpost's own.
        exists: Exists,
        /// Returned with the answer.
        reqid: Value,
    },
    /// End work that is under way: all of it, or (Outpost's own) that of one request.
    Cancel {
        /// Which; none for all.
        reqid: Value,
    },
}

impl FileRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// [`FileRequestError`].
    pub fn parse(message: &[u8]) -> Result<Self, FileRequestError> {
        let text = std::str::from_utf8(message).map_err(|error| FileRequestError::Json(error.to_string()))?;
        let fields =
            json::object(text, MAX_REQUEST).map_err(|error| FileRequestError::Json(error.to_string()))?;
        let reqid = id(&fields, "reqid")?;
        let action = fields.get("action").and_then(Value::as_str).ok_or(FileRequestError::Field("action"))?;
        Ok(match action {
            "ls" => Self::List { path: path(&fields, "path")?, reqid },
            "mkdir" => Self::MakeFolder { path: path(&fields, "path")?, reqid },
            "rm" => Self::Remove {
                path: path(&fields, "path")?,
                names: names(&fields, "delfiles")?,
                recursive: flag(&fields, "rec"),
                watch: flag(&fields, "watch"),
                reqid,
            },
            "rename" => Self::Rename {
                path: path(&fields, "path")?,
                from: name(&fields, "oldname")?,
                to: name(&fields, "newname")?,
                reqid,
            },
            "copy" | "move" => Self::Transfer {
                from: path(&fields, "scpath")?,
                to: path(&fields, "dspath")?,
                names: names(&fields, "names")?,
                remove: action == "move",
                exists: exists(&fields, Exists::Refuse)?,
                watch: flag(&fields, "watch"),
                reqid,
            },
            "upload" => Self::Upload {
                path: file(&fields)?,
                mode: mode(&fields)?,
                hash: hash_kind(&fields, "hash")?,
                reqid,
            },
            "uploaddone" => Self::UploadDone { reqid },
            "uploadcancel" => Self::UploadCancel { reqid },
            "uploadhash" => Self::Hash {
                path: file(&fields)?,
                kind: hash_kind(&fields, "kind")?.unwrap_or(HashKind::Sha384),
                watch: flag(&fields, "watch"),
                echo: fields,
            },
            "download" => {
                let id = id(&fields, "id")?;
                let step = match fields.get("sub").and_then(Value::as_str) {
                    Some("start") => DownloadStep::Start {
                        path: path(&fields, "path")?,
                        from: count(&fields, "offset")?.unwrap_or(0),
                    },
                    Some("startack") => {
                        let window = fields.get("ack").and_then(Value::as_u64).unwrap_or(1);
                        DownloadStep::Go { window: u32::try_from(window).unwrap_or(u32::MAX).max(1) }
                    }
                    Some("ack") => DownloadStep::Ack,
                    Some("stop" | "cancel") => DownloadStep::Stop,
                    _ => return Err(FileRequestError::Field("sub")),
                };
                Self::Download { id, step }
            }
            "findfile" => {
                let pattern = fields.get("filter").and_then(Value::as_str);
                let pattern = pattern.filter(|pattern| (1..=255).contains(&pattern.len()));
                Self::Find {
                    path: path(&fields, "path")?,
                    pattern: pattern.ok_or(FileRequestError::Field("filter"))?.to_owned(),
                    reqid,
                }
            }
            "cancelfindfile" => Self::CancelFind,
            "zip" => Self::Zip {
                path: path(&fields, "path")?,
                names: names(&fields, "files")?,
                output: name(&fields, "output")?,
                reqid,
            },
            "unzip" => Self::Unzip {
                archive: path(&fields, "input")?,
                folder: path(&fields, "dest")?,
                exists: exists(&fields, Exists::Overwrite)?,
                reqid,
            },
            "cancel" => Self::Cancel { reqid },
            _ => return Err(FileRequestError::Action),
        })
    }
}

/// A number of bytes.
fn count(fields: &Map<String, Value>, field: &'static str) -> Result<Option<u64>, FileRequestError> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or(FileRequestError::Field(field)),
    }
}

fn hash_kind(fields: &Map<String, Value>, field: &'static str) -> Result<Option<HashKind>, FileRequestError> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text == HashKind::Sha384.name() => Ok(Some(HashKind::Sha384)),
        Some(Value::String(text)) if text == HashKind::Sha256.name() => Ok(Some(HashKind::Sha256)),
        Some(_) => Err(FileRequestError::Field(field)),
    }
}

fn exists(fields: &Map<String, Value>, usual: Exists) -> Result<Exists, FileRequestError> {
    match fields.get("exists").map(|value| value.as_str().unwrap_or_default()) {
        None => Ok(usual),
        Some("refuse") => Ok(Exists::Refuse),
        Some("overwrite") => Ok(Exists::Overwrite),
        Some("skip") => Ok(Exists::Skip),
        Some("both") => Ok(Exists::Both),
        Some(_) => Err(FileRequestError::Field("exists")),
    }
}

fn mode(fields: &Map<String, Value>) -> Result<UploadMode, FileRequestError> {
    if flag(fields, "replace") {
        let expected = match fields.get("expected") {
            None | Some(Value::Null) => None,
            Some(Value::String(hash))
                if matches!(hash.len(), 64 | 96) && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
            {
                Some(hash.to_ascii_uppercase())
            }
            Some(_) => return Err(FileRequestError::Field("expected")),
        };
        return Ok(UploadMode::Replace { expected });
    }
    if flag(fields, "append") {
        return Ok(UploadMode::Append { from: count(fields, "offset")? });
    }
    Ok(UploadMode::Anew)
}

fn flag(fields: &Map<String, Value>, field: &str) -> bool {
    match fields.get(field) {
        Some(Value::Bool(flag)) => *flag,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        _ => false,
    }
}

fn id(fields: &Map<String, Value>, field: &'static str) -> Result<Value, FileRequestError> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(Value::Null),
        Some(Value::String(text)) if text.len() <= MAX_ID => Ok(Value::String(text.clone())),
        Some(Value::Number(number)) => Ok(Value::Number(number.clone())),
        Some(_) => Err(FileRequestError::Field(field)),
    }
}

/// Bytes of an absolute path; a missing leading slash is put before it.
fn path(fields: &Map<String, Value>, field: &'static str) -> Result<Vec<u8>, FileRequestError> {
    let text = fields.get(field).and_then(Value::as_str).ok_or(FileRequestError::Field(field))?;
    let mut bytes = to_bytes(text);
    if bytes.first() != Some(&b'/') {
        bytes.insert(0, b'/');
    }
    if bytes.len() > MAX_PATH || bytes.contains(&0) { Err(FileRequestError::Field(field)) } else { Ok(bytes) }
}

fn name(fields: &Map<String, Value>, field: &'static str) -> Result<Name, FileRequestError> {
    fields.get(field).and_then(Value::as_str).and_then(Name::new).ok_or(FileRequestError::Field(field))
}

fn names(fields: &Map<String, Value>, field: &'static str) -> Result<Vec<Name>, FileRequestError> {
    let list = fields.get(field).and_then(Value::as_array).filter(|list| list.len() <= MAX_NAMES);
    list.and_then(|list| list.iter().map(|name| name.as_str().and_then(Name::new)).collect())
        .ok_or(FileRequestError::Field(field))
}

/// A file's path: a folder and a name, or all of it in `path`.
fn file(fields: &Map<String, Value>) -> Result<Vec<u8>, FileRequestError> {
    let mut whole = path(fields, "path")?;
    if fields.get("name").is_some_and(|name| !name.is_null()) {
        let name = name(fields, "name")?;
        if whole.last() != Some(&b'/') {
            whole.push(b'/');
        }
        whole.extend(name.as_bytes());
    }
    if whole.len() > MAX_PATH { Err(FileRequestError::Field("name")) } else { Ok(whole) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(request: Value) -> Result<FileRequest, FileRequestError> {
        FileRequest::parse(request.to_string().as_bytes())
    }

    #[test]
    fn requests_of_real_clients() {
        assert_eq!(
            parse(json!({ "action": "ls", "path": "", "reqid": 1 })),
            Ok(FileRequest::List { path: b"/".to_vec(), reqid: json!(1) })
        );
        assert_eq!(
            parse(json!({ "action": "upload", "reqid": "up", "path": "/d", "name": "u", "size": 6 })),
            Ok(FileRequest::Upload {
                path: b"/d/u".to_vec(),
                mode: UploadMode::Anew,
                hash: None,
                reqid: json!("up")
            })
        );
        // libmeshctrl gives a whole path and no name.
        assert_eq!(
            parse(json!({ "action": "upload", "reqid": "up", "path": "d/u", "name": null })),
            Ok(FileRequest::Upload {
                path: b"/d/u".to_vec(),
                mode: UploadMode::Anew,
                hash: None,
                reqid: json!("up")
            })
        );
        let id = json!(78);
        for (request, step) in [
            (json!({ "sub": "start", "path": "/f" }), DownloadStep::Start { path: b"/f".to_vec(), from: 0 }),
            (json!({ "sub": "startack" }), DownloadStep::Go { window: 1 }),
            (json!({ "sub": "startack", "ack": 8 }), DownloadStep::Go { window: 8 }),
            (json!({ "sub": "ack" }), DownloadStep::Ack),
            (json!({ "sub": "stop" }), DownloadStep::Stop),
        ] {
            let mut request = request;
            request["action"] = "download".into();
            request["id"] = id.clone();
            assert_eq!(parse(request), Ok(FileRequest::Download { id: id.clone(), step }));
        }
    }

    #[test]
    fn names_stay_in_their_folder() {
        for bad in ["", ".", "..", "a/b", "../x", "/etc", "a\0b", &"x".repeat(256)] {
            assert_eq!(Name::new(bad), None, "{bad:?}");
            let remove = json!({ "action": "rm", "path": "/d", "delfiles": ["good", bad], "rec": true });
            assert_eq!(parse(remove), Err(FileRequestError::Field("delfiles")));
            let rename = json!({ "action": "rename", "path": "/d", "oldname": "a", "newname": bad });
            assert_eq!(parse(rename), Err(FileRequestError::Field("newname")));
        }
        assert_eq!(Name::new("...").unwrap().as_bytes(), b"...");
        let long = "x".repeat(5000);
        assert_eq!(parse(json!({ "action": "ls", "path": long })), Err(FileRequestError::Field("path")));
    }

    #[test]
    fn requests_of_our_own_clients() {
        let upload = |fields: Value| {
            let mut request = json!({ "action": "upload", "path": "/d", "name": "u" });
            request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            match parse(request) {
                Ok(FileRequest::Upload { mode, hash, .. }) => Ok((mode, hash)),
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err(error),
            }
        };
        assert_eq!(upload(json!({ "append": true })), Ok((UploadMode::Append { from: None }, None)));
        assert_eq!(
            upload(json!({ "append": true, "offset": 7, "hash": "sha256" })),
            Ok((UploadMode::Append { from: Some(7) }, Some(HashKind::Sha256)))
        );
        let hash = "ab".repeat(32);
        assert_eq!(
            upload(json!({ "replace": true, "expected": hash, "hash": "sha256" })),
            Ok((UploadMode::Replace { expected: Some(hash.to_uppercase()) }, Some(HashKind::Sha256)))
        );
        for (field, bad) in [
            ("offset", json!({ "append": true, "offset": -1 })),
            ("offset", json!({ "append": true, "offset": "x" })),
            ("hash", json!({ "hash": "md5" })),
            ("expected", json!({ "replace": true, "expected": "abc" })),
        ] {
            assert_eq!(upload(bad), Err(FileRequestError::Field(field)));
        }
        assert_eq!(
            parse(
                json!({ "action": "copy", "scpath": "/a", "dspath": "/b", "names": ["x"], "exists": "both", "watch": true, "reqid": 1 })
            ),
            Ok(FileRequest::Transfer {
                from: b"/a".to_vec(),
                to: b"/b".to_vec(),
                names: vec![Name::new("x").unwrap()],
                remove: false,
                exists: Exists::Both,
                watch: true,
                reqid: json!(1),
            })
        );
        let zip = |output| parse(json!({ "action": "zip", "path": "/d", "files": ["a"], "output": output }));
        assert!(matches!(zip("a.zip"), Ok(FileRequest::Zip { .. })));
        assert_eq!(zip("../a.zip"), Err(FileRequestError::Field("output")));
        assert!(matches!(
            parse(json!({ "action": "unzip", "input": "/d/a.zip", "dest": "/d" })),
            Ok(FileRequest::Unzip { exists: Exists::Overwrite, .. })
        ));
        assert_eq!(parse(json!({ "action": "cancel" })), Ok(FileRequest::Cancel { reqid: Value::Null }));
    }
}
