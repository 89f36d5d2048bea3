//! Wi-Fi: the network to join, and the files by which iwd knows it (iwd.network(5), iwd.config(5)).

use std::fmt::Write as _;

use super::document::{Fields, Problem, Section};

/// Endings of iwd's files for networks.
pub(super) const ENDINGS: [&str; 3] = ["psk", "open", "8021x"];

/// What the section asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wifi {
    /// No network any more.
    Forget,
    /// This one and no other.
    Join(Network),
}

/// A network to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// 1 to 32 bytes, any.
    ssid: String,
    key: Key,
    /// It does not announce itself.
    hidden: bool,
    country: Option<Country>,
}

/// What opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    /// 8 to 63 printable ASCII characters: WPA2 and WPA3.
    Passphrase(String),
    /// 64 hexadecimal digits, made from passphrase and name: WPA2.
    Shared(String),
    /// Everybody may join.
    Open,
}

/// ISO 3166-1 alpha-2: which channels may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Country(String);

impl std::str::FromStr for Country {
    type Err = String;

    fn from_str(text: &str) -> Result<Country, String> {
        let country = text.to_ascii_uppercase();
        if country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase()) {
            Ok(Country(country))
        } else {
            Err("expected the two letters of a country, such as \"DE\"".into())
        }
    }
}

impl Wifi {
    pub(super) fn read(section: &Section) -> Result<Wifi, Vec<Problem>> {
        let mut fields = Fields::of("wifi", section);
        let ssid = fields.text("ssid");
        let passphrase = fields.text("passphrase");
        let shared = fields.text("psk");
        let (open, hidden) = (fields.flag("open"), fields.flag("hidden"));
        let country = fields.parsed("country");
        let Some(ssid) = ssid else {
            fields.wrong("", "the name of the network is missing: ssid = \"…\"");
            return fields.finish(None);
        };
        if ssid.is_empty() {
            return fields.finish(Some(Wifi::Forget));
        }
        if ssid.len() > 32 {
            fields.wrong("ssid", "the name of a network has 32 bytes at most");
        }
        let key = match (passphrase, shared, open) {
            (Some(passphrase), None, false) => {
                if !(8..=63).contains(&passphrase.len())
                    || !passphrase.bytes().all(|byte| (0x20..0x7f).contains(&byte))
                {
                    fields.wrong("passphrase", "expected 8 to 63 characters, without accents");
                }
                Key::Passphrase(passphrase)
            }
            (None, Some(shared), false) => {
                if shared.len() != 64 || !shared.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    fields.wrong("psk", "expected 64 hexadecimal digits; a passphrase has a key of its own");
                }
                Key::Shared(shared.to_ascii_lowercase())
            }
            (None, None, true) => Key::Open,
            (None, None, false) => {
                fields.wrong("", "passphrase = \"…\" is missing; for a network without one say open = true");
                Key::Open
            }
            _ => {
                fields.wrong("", "expected one of passphrase, psk and open = true");
                Key::Open
            }
        };
        fields.finish(Some(Wifi::Join(Network { ssid, key, hidden, country })))
    }
}

impl Network {
    /// Name of iwd's file: the network's own where it is plain, in hexadecimal otherwise.
    pub(super) fn file_name(&self) -> String {
        let plain = self.ssid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_ ".contains(&byte));
        let mut name = String::new();
        if plain {
            name.push_str(&self.ssid);
        } else {
            name.push('=');
            for byte in self.ssid.bytes() {
                let _ = write!(name, "{byte:02x}");
            }
        }
        name.push_str(if self.key == Key::Open { ".open" } else { ".psk" });
        name
    }

    /// Content of that file.
    pub(super) fn file(&self) -> String {
        let mut text = String::new();
        match &self.key {
            Key::Passphrase(passphrase) => {
                text.push_str(&format!("[Security]\nPassphrase={}\n", escaped(passphrase)));
            }
            Key::Shared(shared) => text.push_str(&format!("[Security]\nPreSharedKey={shared}\n")),
            Key::Open => {}
        }
        text.push_str("[Settings]\nAutoConnect=true\n");
        if self.hidden {
            text.push_str("Hidden=true\n");
        }
        text
    }

    /// iwd's own configuration: addresses are systemd-networkd's matter.
    pub(super) fn configuration(&self) -> String {
        let mut text = "[General]\nEnableNetworkConfiguration=false\n".to_owned();
        if let Some(Country(country)) = &self.country {
            text.push_str(&format!("Country={country}\n"));
        }
        text
    }
}

/// A value as iwd reads it. Line ends cannot come here; a space at the beginning would be passed over.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\");
    match text.strip_prefix(' ') {
        Some(rest) => format!("\\s{rest}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::Document;
    use super::*;

    fn read(text: &str) -> Result<Wifi, Vec<Problem>> {
        let document = Document::parse(format!("[wifi]\n{text}").as_bytes()).expect("TOML");
        Wifi::read(&document.sections["wifi"])
    }

    fn network(text: &str) -> Network {
        match read(text) {
            Ok(Wifi::Join(network)) => network,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_network_becomes_iwds_files() {
        let home =
            network("ssid = \"Home net\"\npassphrase = \"quiet harbour\"\ncountry = \"de\"\nhidden = true\n");
        assert_eq!(home.file_name(), "Home net.psk");
        assert_eq!(
            home.file(),
            "[Security]\nPassphrase=quiet harbour\n[Settings]\nAutoConnect=true\nHidden=true\n"
        );
        assert_eq!(home.configuration(), "[General]\nEnableNetworkConfiguration=false\nCountry=DE\n");
        let shared = network(&format!("ssid = \"x\"\npsk = \"{}\"\n", "AB".repeat(32)));
        assert!(shared.file().contains(&format!("PreSharedKey={}\n", "ab".repeat(32))));
        assert_eq!(network("ssid = \"Guests\"\nopen = true\n").file_name(), "Guests.open");
        assert_eq!(read("ssid = \"\"\n"), Ok(Wifi::Forget));
    }

    #[test]
    fn no_name_and_no_passphrase_breaks_out_of_the_files() {
        for (ssid, name) in [
            (r"../../etc/x", "=2e2e2f2e2e2f6574632f78.psk"),
            (r"a\n[Security]", "=610a5b53656375726974795d.psk"),
            (r"Café", "=436166c3a9.psk"),
            (r"=41", "=3d3431.psk"),
            (r"a.psk", "=612e70736b.psk"),
        ] {
            assert_eq!(
                network(&format!("ssid = \"{ssid}\"\npassphrase = \"quiet harbour\"\n")).file_name(),
                name
            );
        }
        let odd = network("ssid = \"x\"\npassphrase = ' a\\nb=[x]'\n");
        assert!(odd.file().contains("Passphrase=\\sa\\\\nb=[x]\n"), "{}", odd.file());
        for bad in [r#""quiet\nharbour""#, r#""short""#, r#""quiet härbour""#, r#""a\u0000bcdefgh""#] {
            let problems = read(&format!("ssid = \"x\"\npassphrase = {bad}\n")).expect_err(bad);
            assert_eq!((problems[0].line, problems[0].key.as_str()), (Some(3), "wifi.passphrase"));
        }
    }

    #[test]
    fn what_is_missing_or_too_much_is_said() {
        let problem = |text: &str| read(text).expect_err(text)[0].to_string();
        assert!(problem("passphrase = \"quiet harbour\"\n").contains("ssid"));
        assert!(problem("ssid = \"x\"\n").contains("open = true"));
        assert!(problem("ssid = \"x\"\nopen = true\npsk = \"a\"\n").contains("one of"));
        assert!(
            problem("ssid = \"x\"\nopen = true\ncountry = \"Germany\"\n").contains("line 4: wifi.country")
        );
        assert!(
            problem("ssid = \"x\"\nopen = true\npasword = \"a\"\n")
                .contains("wifi.pasword: there is no such key")
        );
        assert!(problem(&format!("ssid = \"{}\"\nopen = true\n", "x".repeat(33))).contains("32 bytes"));
        assert!(problem("ssid = 5\nopen = true\n").contains("a text in quotes"));
    }
}
