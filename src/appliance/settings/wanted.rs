//! What the file asks for, section by section: each is read whole, or not at all.

use std::str::FromStr;

use serde_json::Value;

use super::document::{Document, Fields, Problem, Section};
use super::host::{HostName, TimeZone};
use super::kept::Root;
use super::ssh::Keys;
use super::takeover::{Admin, Fragment};
use super::wifi::Wifi;
use super::wired::Wired;
use crate::auth::password::LONGEST;

/// Sections that are right.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) host_name: Option<HostName>,
    pub(super) time_zone: Option<TimeZone>,
    pub(super) wifi: Option<Wifi>,
    pub(super) wired: Option<Wired>,
    pub(super) ssh: Option<Keys>,
    pub(super) admin: Option<Admin>,
    pub(super) config: Option<Fragment>,
}

impl Wanted {
    /// Reads every section, and says what is wrong with the others.
    pub(super) fn read(document: &Document, root: &Root) -> (Wanted, Vec<Problem>) {
        let mut wanted = Wanted::default();
        let mut problems = Vec::new();
        for (name, section) in &document.sections {
            let wrong = match name.as_str() {
                "hostname" => take(&mut wanted.host_name, top(name, section)),
                "timezone" => {
                    let zone = top(name, section).and_then(|zone: TimeZone| {
                        if zone.is_known(&root.time_zones()) {
                            Ok(zone)
                        } else {
                            Err(at_top(name, section, format!("there is no time zone {zone} here")))
                        }
                    });
                    take(&mut wanted.time_zone, zone)
                }
                "wifi" => take(&mut wanted.wifi, Wifi::read(section)),
                "network" => take(&mut wanted.wired, Wired::read(section)),
                "ssh" => take(&mut wanted.ssh, Keys::read(section)),
                "admin" => take(&mut wanted.admin, Admin::read(section)),
                "config" => take(&mut wanted.config, Fragment::read(section)),
                _ => at_top(
                    name,
                    section,
                    "there is no such section; there are hostname, timezone, [wifi], [network], [ssh], [admin], [config]",
                ),
            };
            problems.extend(wrong);
        }
        problems.sort_by_key(|problem| problem.line);
        (wanted, problems)
    }

    /// Names of the sections that are right.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        [
            ("hostname", self.host_name.is_some()),
            ("timezone", self.time_zone.is_some()),
            ("wifi", self.wifi.is_some()),
            ("network", self.wired.is_some()),
            ("ssh", self.ssh.is_some()),
            ("admin", self.admin.is_some()),
            ("config", self.config.is_some()),
        ]
        .into_iter()
        .filter(|(_, is_right)| *is_right)
        .map(|(name, _)| name)
    }
}

/// Whether a section may hold what others must not read.
pub(super) fn is_secret(name: &str, section: &Section) -> bool {
    match name {
        "wifi" => ["passphrase", "psk"].iter().any(|key| section.value.get(key).is_some()),
        // Passwords, and keys of cookies and of services.
        "admin" | "config" => true,
        _ => false,
    }
}

fn take<T>(place: &mut Option<T>, read: Result<T, Vec<Problem>>) -> Vec<Problem> {
    match read {
        Ok(value) => {
            *place = Some(value);
            Vec::new()
        }
        Err(problems) => problems,
    }
}

/// A text that stands at the top, before any section.
fn top<T: FromStr<Err = String>>(name: &str, section: &Section) -> Result<T, Vec<Problem>> {
    match &section.value {
        Value::String(text) => text.parse().map_err(|message: String| at_top(name, section, message)),
        _ => Err(at_top(name, section, "expected a text in quotes")),
    }
}

fn at_top(name: &str, section: &Section, message: impl Into<String>) -> Vec<Problem> {
    vec![Problem { line: Some(section.line), key: name.to_owned(), message: message.into() }]
}

impl Admin {
    fn read(section: &Section) -> Result<Admin, Vec<Problem>> {
        let mut fields = Fields::of("admin", section);
        let (name, password) = (fields.text("name"), fields.text("password"));
        let (Some(name), Some(password)) = (name, password) else {
            fields.wrong("", "expected name = \"…\" and password = \"…\"");
            return fields.finish(None);
        };
        if let Err(message) = crate::control::check_name(&name) {
            fields.wrong("name", message);
        }
        if password.is_empty() || password.len() > LONGEST {
            fields.wrong("password", format!("expected 1 to {LONGEST} bytes"));
        }
        fields.finish(Some(Admin { name, password }))
    }
}

impl Fragment {
    fn read(section: &Section) -> Result<Fragment, Vec<Problem>> {
        match &section.value {
            Value::Object(fields) => {
                let fragment = Fragment(fields.clone());
                let problems: Vec<Problem> = fragment
                    .problems()
                    .into_iter()
                    .map(|problem| {
                        // `domains[""].title` stands in the file as `domains."".title`.
                        let path = problem.path.replace("[\"", ".").replace("\"]", "");
                        let line = section.lines.get(&path.to_lowercase()).copied().unwrap_or(section.line);
                        Problem {
                            line: Some(line),
                            key: format!("config.{}", problem.path),
                            message: problem.message.replace("; the default is used", ""),
                        }
                    })
                    .collect();
                if problems.is_empty() { Ok(fragment) } else { Err(problems) }
            }
            _ => Err(at_top(
                "config",
                section,
                "expected a section [config.settings] or [config.domains.\"\"]",
            )),
        }
    }
}
