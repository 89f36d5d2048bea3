//! Who may log in by SSH: public keys, checked before dropbear sees them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::document::{Fields, Problem, Section};

/// Kinds of keys that dropbear knows.
const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// Most keys, and bytes of one: an RSA key of 16384 bits has 2.8 KiB.
const MOST: usize = 32;
const LONGEST: usize = 4096;

/// Keys of administrators; none at all switches SSH off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys(Vec<Key>);

/// One public key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    kind: &'static str,
    base64: String,
    /// What the owner wrote behind it.
    comment: String,
}

impl Keys {
    pub(super) fn read(section: &Section) -> Result<Keys, Vec<Problem>> {
        let mut fields = Fields::of("ssh", section);
        let Some(lines) = fields.texts("keys") else {
            if section.value.get("keys").is_none() {
                fields.wrong("", "keys = [\"…\"] is missing; keys = [] switches SSH off");
            }
            return fields.finish(None);
        };
        if lines.len() > MOST {
            fields.wrong("keys", format!("{MOST} keys at most"));
        }
        let mut keys = Vec::new();
        for (number, line) in lines.iter().enumerate() {
            match Key::read(line) {
                Ok(key) => keys.push(key),
                Err(message) => fields.wrong("keys", format!("key {}: {message}", number + 1)),
            }
        }
        fields.finish(Some(Keys(keys)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Content of `authorized_keys`.
    pub(super) fn file(&self) -> String {
        self.0.iter().map(|key| format!("{} {} {}\n", key.kind, key.base64, key.comment)).collect()
    }
}

impl Key {
    fn read(line: &str) -> Result<Key, &'static str> {
        let wanted = "expected one line of a .pub file, beginning with ssh-ed25519 or another kind of key";
        if line.len() > LONGEST || line.chars().any(char::is_control) {
            return Err(wanted);
        }
        let mut words = line.split_whitespace();
        // Options in front of the kind are not taken.
        let kind =
            words.next().and_then(|word| KINDS.into_iter().find(|kind| *kind == word)).ok_or(wanted)?;
        let base64 = words.next().ok_or(wanted)?;
        let blob = STANDARD.decode(base64).map_err(|_| "the key is damaged")?;
        // It says its own kind again (RFC 4253 §6.6).
        let length = u32::try_from(kind.len()).unwrap_or(0).to_be_bytes();
        let named = blob.strip_prefix(&length).and_then(|rest| rest.strip_prefix(kind.as_bytes()));
        if named.is_none_or(|rest| rest.len() < 32) {
            return Err("the key is damaged");
        }
        Ok(Key { kind, base64: base64.to_owned(), comment: words.collect::<Vec<_>>().join(" ") })
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::Document;
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ada@laptop";

    fn read(keys: &str) -> Result<Keys, Vec<Problem>> {
        let document = Document::parse(format!("[ssh]\n{keys}").as_bytes()).expect("TOML");
        Keys::read(&document.sections["ssh"])
    }

    #[test]
    fn keys_are_taken_as_they_are() {
        let keys = read(&format!("keys = [\"{KEY}\"]\n")).expect("a key");
        assert_eq!(keys.file(), format!("{KEY}\n"));
        assert!(read("keys = []\n").expect("none").is_empty());
        assert_eq!(read(&format!("keys = \"{KEY}\"\n")), Ok(keys));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let damaged = KEY.replace("AAAAC3", "AAAAC4");
        for bad in [
            "keys = [\"\"]".to_owned(),
            format!("keys = [\"command=\\\"/bin/sh\\\" {KEY}\"]"),
            format!("keys = [\"{damaged}\"]"),
            format!("keys = [\"{KEY}\\nssh-rsa AAAA\"]"),
            "keys = [\"ssh-ed25519 AAAA\"]".into(),
            "keys = [\"-----BEGIN OPENSSH PRIVATE KEY-----\"]".into(),
            format!("keys = [{}]", format!("\"{KEY}\",").repeat(MOST + 1)),
            "key = []".into(),
        ] {
            assert!(read(&bad).is_err(), "{bad}");
        }
    }
}
