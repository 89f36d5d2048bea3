//! `config.json` as a tree of lower-cased keys, with the command line laid over it.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// Largest `config.json` read, in bytes.
const LARGEST: u64 = 4 << 20;

/// Objects whose children keep the case of their keys (config §1.3).
const KEEP_CASE: [&str; 4] = ["ldapoptions", "defaultuserwebstate", "forceduserwebstate", "httpheaders"];

/// Why the file cannot be used; the start stops.
#[allow(missing_docs, reason = "a variant\'s line says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not JSON.
    #[error("{path}, line {line}, column {column}: {reason}")]
    Syntax { path: String, line: usize, column: usize, reason: String },
    /// It cannot be read.
    #[error("{path}: {reason}")]
    Unreadable { path: String, reason: String },
    /// Its top is not an object.
    #[error("{path}: expected an object {{…}} with `settings` and `domains`")]
    NotAnObject { path: String },
}

/// The tree.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// Top-level sections.
    pub root: Map<String, Value>,
}

impl Document {
    /// Reads a file; one that does not exist is an empty document.
    ///
    /// # Errors
    /// [`FileError`] with line and column of a syntax error.
    pub fn load(path: &Path) -> Result<Document, FileError> {
        let unreadable = |reason: String| FileError::Unreadable { path: path.display().to_string(), reason };
        let length = match std::fs::metadata(path) {
            Ok(meta) => meta.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Document::default()),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        if length > LARGEST {
            return Err(unreadable(format!("{length} bytes; at most {LARGEST} are read")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        Document::parse(&text, path)
    }

    /// Parses a text; `path` is for the messages.
    ///
    /// # Errors
    /// As [`Document::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Document, FileError> {
        let path: PathBuf = path.to_owned();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let value: Value = serde_json::from_str(text).map_err(|error| FileError::Syntax {
            path: path.display().to_string(),
            line: error.line(),
            column: error.column(),
            reason: error.to_string().split(" at line ").next().unwrap_or_default().to_owned(),
        })?;
        match lower_keys(value) {
            Value::Object(root) => Ok(Document { root }),
            _ => Err(FileError::NotAnObject { path: path.display().to_string() }),
        }
    }

    /// Lays a setting of the command line over the file.
    pub fn set(&mut self, name: &str, value: Value) {
        let settings = self.root.entry("settings").or_insert_with(|| Value::Object(Map::new()));
        if !settings.is_object() {
            *settings = Value::Object(Map::new());
        }
        if let Value::Object(settings) = settings {
            settings.insert(name.to_ascii_lowercase(), value);
        }
    }

    /// A setting as a text, before the typed reading (folders are needed to find the file itself).
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.root.get("settings")?.get(name)?.as_str()
    }
}

/// Lower-cases every key at every depth; of two spellings of one key the one with capitals wins.
fn lower_keys(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let (mixed, lower): (Vec<_>, Vec<_>) =
                map.into_iter().partition(|(key, _)| key.chars().any(char::is_uppercase));
            let mut out = Map::new();
            for (key, child) in lower.into_iter().chain(mixed) {
                let key = key.to_lowercase();
                let child = if KEEP_CASE.contains(&key.as_str()) { child } else { lower_keys(child) };
                out.insert(key, child);
            }
            Value::Object(out)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(lower_keys).collect()),
        other => other,
    }
}
