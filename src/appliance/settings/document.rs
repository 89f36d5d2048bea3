//! `outpost.toml` as sections with lines: what it says, where it says it, and the same text without a section.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Largest file that is read, in bytes.
pub(super) const LARGEST: usize = 64 << 10;

/// Something in the file that is not as it should be, without any value of it: values may be secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Counted from 1; `None` when it is about the file or about what became of it.
    pub line: Option<usize>,
    /// `wifi.passphrase`; empty for the file.
    pub key: String,
    /// What was expected, or what happened.
    pub message: String,
}

impl Problem {
    /// About a key, where its line is not known or does not matter.
    pub fn of(key: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem { line: None, key: key.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// One section: a table, or a value that stands at the top by itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Section {
    /// What it says.
    pub(super) value: Value,
    /// Its line, from 1.
    pub(super) line: usize,
    /// Lines of the keys in it, by path from the section (`settings.port`), lower-cased.
    pub(super) lines: BTreeMap<String, usize>,
}

/// The file, read.
#[derive(Clone, Debug, Default)]
pub(super) struct Document {
    text: String,
    pub(super) sections: BTreeMap<String, Section>,
    /// Lines, from 0, that belong to each section.
    places: BTreeMap<String, BTreeSet<usize>>,
}

impl Document {
    /// Reads the bytes of a file, whatever editor wrote them.
    pub(super) fn parse(bytes: &[u8]) -> Result<Document, Problem> {
        if bytes.len() > LARGEST {
            return Err(Problem::of("", format!("{} bytes; at most {LARGEST} are read", bytes.len())));
        }
        if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            return Err(Problem::of("", "is saved as UTF-16; please save it as UTF-8"));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
            Problem { line: Some(line), key: String::new(), message: "is not UTF-8 text".into() }
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = Lines::of(text);
        // The library's own display would quote the line, secrets included.
        let table = DeTable::parse(text).map_err(|error| Problem {
            line: error.span().map(|span| lines.at(span.start) + 1),
            key: String::new(),
            message: format!("is not TOML: {}", error.message()),
        })?;
        let mut document = Document { text: text.to_owned(), ..Document::default() };
        for (key, value) in table.get_ref() {
            let name = key.get_ref().to_string();
            let mut section = Section { line: lines.at(key.span().start) + 1, ..Section::default() };
            let mut place = BTreeSet::new();
            walk(key.span(), value, "", &lines, &mut section.lines, &mut place);
            section.value = plain(value.get_ref());
            document.places.insert(name.clone(), place);
            document.sections.insert(name, section);
        }
        Ok(document)
    }

    /// The text without some sections, each replaced by a comment that says so; `None` when what would be left is not
    /// the same file without them.
    pub(super) fn without(&self, names: &BTreeSet<&str>) -> Option<String> {
        let gone: BTreeMap<usize, &str> = names
            .iter()
            .filter_map(|name| self.places.get_key_value(*name))
            .flat_map(|(name, place)| place.iter().map(|line| (*line, name.as_str())))
            .collect();
        let mut told = BTreeSet::new();
        let mut left = String::new();
        for (number, line) in self.text.split_inclusive('\n').enumerate() {
            match gone.get(&number) {
                Some(name) if told.insert(*name) => {
                    left.push_str(&format!("# [{name}] was taken over by the box and removed from here.\n"));
                }
                Some(_) => {}
                None => left.push_str(line),
            }
        }
        let again = Document::parse(left.as_bytes()).ok()?;
        let same = self
            .sections
            .iter()
            .filter(|(name, _)| !names.contains(name.as_str()))
            .map(|(name, section)| (name, &section.value))
            .eq(again.sections.iter().map(|(name, section)| (name, &section.value)));
        same.then_some(left)
    }
}

/// Where lines begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Lines {
        Lines(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// The line, from 0, of a byte.
    fn at(&self, byte: usize) -> usize {
        self.0.partition_point(|start| *start <= byte).saturating_sub(1)
    }

    /// The lines of a range of bytes.
    fn over(&self, span: Range<usize>) -> std::ops::RangeInclusive<usize> {
        self.at(span.start)..=self.at(span.end.max(span.start + 1) - 1)
    }
}

/// Notes the lines of an entry and of everything in it. A table with a header of its own spans that header; one in braces,
/// and every other value, follows its key.
fn walk(
    key: Range<usize>,
    value: &Spanned<DeValue<'_>>,
    path: &str,
    lines: &Lines,
    named: &mut BTreeMap<String, usize>,
    place: &mut BTreeSet<usize>,
) {
    let span = value.span();
    place.extend(lines.over(key.clone()));
    place.extend(lines.over(span.clone()));
    match value.get_ref() {
        DeValue::Table(table) => {
            for (key, value) in table {
                let path = if path.is_empty() {
                    key.get_ref().to_lowercase()
                } else {
                    format!("{path}.{}", key.get_ref().to_lowercase())
                };
                named.insert(path.clone(), lines.at(key.span().start) + 1);
                walk(key.span(), value, &path, lines, named, place);
            }
        }
        DeValue::Array(items) => {
            for item in items {
                walk(item.span(), item, path, lines, named, place);
            }
        }
        _ => place.extend(lines.over(key.start.min(span.start)..span.end)),
    }
}

/// The value without places. Numbers that JSON cannot say become texts, and are refused where a number is wanted.
fn plain(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::String(number.to_string()), Value::from),
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .ok()
            .and_then(Number::from_f64)
            .map_or_else(|| Value::String(number.to_string()), Value::Number),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(items) => Value::Array(items.iter().map(|item| plain(item.get_ref())).collect()),
        DeValue::Table(table) => Value::Object(
            table.iter().map(|(key, value)| (key.get_ref().to_string(), plain(value.get_ref()))).collect(),
        ),
    }
}

/// One section while it is being read: each key is taken once, typed, or reported.
pub(super) struct Fields<'a> {
    name: &'a str,
    section: &'a Section,
    left: Map<String, Value>,
    problems: Vec<Problem>,
}

impl<'a> Fields<'a> {
    pub(super) fn of(name: &'a str, section: &'a Section) -> Fields<'a> {
        let mut fields = Fields { name, section, left: Map::new(), problems: Vec::new() };
        match &section.value {
            Value::Object(map) => fields.left = map.clone(),
            _ => fields.problems.push(Problem {
                line: Some(section.line),
                key: name.to_owned(),
                message: format!("expected a section: a line [{name}] with lines `key = value` below"),
            }),
        }
        fields
    }

    /// Reports a key, or the section itself when the key is empty.
    pub(super) fn wrong(&mut self, key: &str, message: impl Into<String>) {
        let line = self.section.lines.get(key).copied().unwrap_or(self.section.line);
        let key = if key.is_empty() { self.name.to_owned() } else { format!("{}.{key}", self.name) };
        self.problems.push(Problem { line: Some(line), key, message: message.into() });
    }

    fn typed<T>(&mut self, key: &str, what: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let value = self.left.remove(key)?;
        let typed = read(&value);
        if typed.is_none() {
            self.wrong(key, format!("expected {what}"));
        }
        typed
    }

    /// A text in quotes.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.typed(key, "a text in quotes", |value| value.as_str().map(str::to_owned))
    }

    /// A text that means something.
    pub(super) fn parsed<T: std::str::FromStr<Err = String>>(&mut self, key: &str) -> Option<T> {
        let text = self.text(key)?;
        text.parse().map_err(|message: String| self.wrong(key, message)).ok()
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &str) -> bool {
        self.typed(key, "true or false, without quotes", Value::as_bool).unwrap_or(false)
    }

    /// A list of texts, or one text.
    pub(super) fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        self.typed(key, "a list of texts in quotes: [\"…\", \"…\"]", |value| match value {
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            _ => None,
        })
    }

    /// The value, unless something was wrong or is left over.
    pub(super) fn finish<T>(mut self, value: Option<T>) -> Result<T, Vec<Problem>> {
        let left: Vec<String> = self.left.keys().cloned().collect();
        for key in left {
            // `wrong` looks lines up by lower-cased paths.
            let line = self.section.lines.get(&key.to_lowercase()).copied().unwrap_or(self.section.line);
            let message = "there is no such key in this section".to_owned();
            self.problems.push(Problem { line: Some(line), key: format!("{}.{key}", self.name), message });
        }
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(self.problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\u{feff}# mine\r\nhostname = \"attic\"\r\n\r\n[wifi] # home\r\nssid = \"Home\"\r\npassphrase = \"\"\"\r\nquiet harbour\"\"\"\r\n# kept\r\n[config.settings]\r\nport = 8443\r\n";

    fn read(text: &str) -> Document {
        Document::parse(text.as_bytes()).expect("TOML")
    }

    #[test]
    fn sections_know_their_lines() {
        let document = read(FILE);
        assert_eq!(document.sections["hostname"].line, 2);
        assert_eq!(document.sections["wifi"].line, 4);
        assert_eq!(document.sections["wifi"].lines["passphrase"], 6);
        assert_eq!(document.sections["config"].lines["settings.port"], 10);
        assert_eq!(document.sections["config"].value, serde_json::json!({ "settings": { "port": 8443 } }));
    }

    #[test]
    fn a_section_is_cut_out_whole_and_the_rest_stays() {
        let document = read(FILE);
        let left = document.without(&BTreeSet::from(["wifi"])).expect("the rest");
        assert!(!left.contains("harbour") && !left.contains("Home"), "{left}");
        assert!(
            left.contains("# kept\r\n") && left.contains("# mine\r\n") && left.contains("port = 8443"),
            "{left}"
        );
        assert!(left.contains("# [wifi] was taken over"), "{left}");
    }

    #[test]
    fn every_way_to_write_a_section_can_be_cut() {
        for text in [
            "wifi = { ssid = \"a\", passphrase = \"secret one\" }\nhostname = \"b\"\n",
            "hostname = \"b\"\nwifi.ssid = \"a\"\nwifi.passphrase = \"secret one\"\n",
            "hostname = \"b\"\n\n  [ wifi ]\n  ssid = \"a\"\n  passphrase = 'secret one'",
            "hostname = \"b\"\n[wifi]\nkeys = [\n  \"secret one\", # x\n  \"secret two\",\n]\n",
        ] {
            let document = read(text);
            let left = document.without(&BTreeSet::from(["wifi"])).expect(text);
            assert!(!left.contains("secret"), "{left}");
            assert_eq!(read(&left).sections.keys().collect::<Vec<_>>(), ["hostname"], "{left}");
        }
    }

    #[test]
    fn two_sections_on_one_line_are_not_torn() {
        // Not possible in TOML today; what cannot be cut cleanly is not cut.
        let mut document = read("hostname = \"b\"\n[wifi]\nssid = \"a\"\n");
        document.places.entry("wifi".into()).or_default().insert(0);
        assert_eq!(document.without(&BTreeSet::from(["wifi"])), None);
    }

    #[test]
    fn what_cannot_be_read_is_said_without_quoting_it() {
        let problem = |bytes: &[u8]| Document::parse(bytes).expect_err("refused");
        let syntax = problem(b"hostname = \"a\"\n[wifi]\npassphrase = hidden harbour\n");
        assert_eq!(syntax.line, Some(3));
        assert!(!syntax.to_string().contains("harbour"), "{syntax}");
        assert!(problem(b"\xff\xfeh\0").message.contains("UTF-16"));
        assert_eq!(problem(b"a = 1\nb = \"\xe4\"\n").line, Some(2));
        assert!(problem(&vec![b'#'; LARGEST + 1]).message.contains("at most"));
        assert!(problem(b"hostname = \"a\"\nhostname = \"b\"\n").line.is_some());
        // Deeper than anybody nests.
        let deep = format!("a = {}{}", "[".repeat(20_000), "]".repeat(20_000));
        assert!(Document::parse(deep.as_bytes()).is_err());
    }
}
