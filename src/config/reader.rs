//! Reading one section of the configuration: each key is taken once, typed, or reported.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Map, Value};

/// Something in the configuration that is not as it should be. The server starts all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: `settings.port`, `domains[""].title`.
    pub path: String,
    /// What was expected, or what becomes of the key.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// One object of the configuration while it is being read.
pub(super) struct Section<'a> {
    path: String,
    fields: Map<String, Value>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Section<'a> {
    pub(super) fn new(path: String, value: Option<Value>, problems: &'a mut Vec<Problem>) -> Section<'a> {
        let fields = match value {
            None => Map::new(),
            Some(Value::Object(fields)) => fields,
            Some(other) => {
                problems.push(Problem { path: path.clone(), message: expected("an object", &other) });
                Map::new()
            }
        };
        Section { path, fields, problems }
    }

    /// Takes a key, whatever it holds.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.fields.remove(key)
    }

    /// Puts a key back in another shape, for those that come in several.
    pub(super) fn put_back(&mut self, key: &str, value: Value) {
        self.fields.insert(key.to_owned(), value);
    }

    /// A section inside this one.
    pub(super) fn section(&mut self, key: &str) -> Section<'_> {
        let value = self.fields.remove(key);
        Section::new(self.at(key), value, self.problems)
    }

    fn at(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    pub(super) fn wrong(&mut self, key: &str, message: String) {
        let path = self.at(key);
        self.problems.push(Problem { path, message });
    }

    fn typed<T>(&mut self, key: &str, what: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let value = self.fields.remove(key)?;
        let typed = read(&value);
        if typed.is_none() {
            self.wrong(key, expected(what, &value));
        }
        typed
    }

    /// A text.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.typed(key, "a text", |value| value.as_str().map(str::to_owned)).filter(|text| !text.is_empty())
    }

    /// `true` or `false`; 0, 1 and their texts mean the same.
    pub(super) fn flag(&mut self, key: &str, default: bool) -> bool {
        self.typed(key, "true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            Value::Number(number) => number.as_f64().map(|number| number != 0.0),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" => Some(true),
                "false" | "0" | "no" | "" => Some(false),
                _ => None,
            },
            Value::Null => Some(default),
            _ => None,
        })
        .unwrap_or(default)
    }

    /// A whole number in a range.
    pub(super) fn number(&mut self, key: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let what = format!("a whole number from {} to {}", range.start(), range.end());
        self.typed(key, &what, |value| {
            match value {
                Value::Number(number) => number.as_u64(),
                Value::String(text) => text.trim().parse().ok(),
                _ => None,
            }
            .filter(|number| range.contains(number))
        })
    }

    /// A count.
    pub(super) fn count(&mut self, key: &str, largest: u64) -> Option<usize> {
        self.number(key, 0..=largest).and_then(|count| usize::try_from(count).ok())
    }

    /// A port, 1..65535.
    pub(super) fn port(&mut self, key: &str) -> Option<u16> {
        self.number(key, 1..=65_535).and_then(|port| u16::try_from(port).ok())
    }

    /// Seconds; 0 or `false` is none.
    pub(super) fn seconds(&mut self, key: &str) -> Option<Duration> {
        if self.fields.get(key) == Some(&Value::Bool(false)) {
            self.fields.remove(key);
            return None;
        }
        self.number(key, 0..=31_536_000).filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }

    /// An IP address.
    pub(super) fn address(&mut self, key: &str) -> Option<IpAddr> {
        self.typed(key, "an IP address", |value| value.as_str()?.trim().parse().ok())
    }

    /// A list of texts: an array, or one text with commas.
    pub(super) fn texts(&mut self, key: &str) -> Vec<String> {
        self.typed(key, "a list of texts", |value| match value {
            Value::String(text) => Some(
                text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect(),
            ),
            Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            Value::Null | Value::Bool(false) => Some(Vec::new()),
            _ => None,
        })
        .unwrap_or_default()
    }

    /// Lines `key=value`.
    pub(super) fn assignments(&mut self, key: &str) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for line in self.texts(key) {
            match line.split_once('=') {
                Some((name, value)) if !name.trim().is_empty() && !line.contains(['\r', '\n']) => {
                    pairs.push((name.trim().to_owned(), value.trim().to_owned()));
                }
                _ => self.wrong(key, format!("expected lines like `name=value`, found `{line}`")),
            }
        }
        pairs
    }

    /// Reports what nobody took: keys that MeshCentral knows but this release does not use, and unknown ones.
    /// Keys that start with `_` are comments.
    pub(super) fn finish(mut self, known: &[&str]) {
        let left: Vec<String> = std::mem::take(&mut self.fields).into_iter().map(|(key, _)| key).collect();
        for key in left.into_iter().filter(|key| !key.starts_with('_')) {
            let message = if known.contains(&key.as_str()) {
                "known to MeshCentral, has no effect in this release".to_owned()
            } else {
                match nearest(&key, known) {
                    Some(near) => format!("unknown key, ignored; did you mean `{near}`?"),
                    None => "unknown key, ignored".to_owned(),
                }
            };
            self.wrong(&key, message);
        }
    }
}

/// Says what was expected and what was found, without quoting long or secret values.
fn expected(what: &str, found: &Value) -> String {
    let found = match found {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(_) => "a text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    format!("expected {what}, found {found}; the default is used")
}

/// The known key at most two letters away.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|candidate| (distance(key, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 2 && candidate.len() > 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, by the usual row by row table.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
