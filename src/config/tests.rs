use std::path::{Path, PathBuf};

use serde_json::json;

use super::*;

fn read_text(text: &str) -> (Config, Vec<String>) {
    let document = Document::parse(text, Path::new("config.json")).expect("JSON");
    let (config, problems) = read(&document, PathBuf::from("/srv/outpost-data"));
    (config, problems.iter().map(ToString::to_string).collect())
}

#[test]
fn no_file_means_lan_mode_on_the_usual_ports() {
    let (config, problems) = read(&Document::default(), PathBuf::from("/srv/outpost-data"));
    assert!(problems.is_empty());
    assert_eq!(config.settings.mode, Mode::Lan);
    assert_eq!((config.settings.port, config.settings.redir_port), (443, Some(80)));
    assert_eq!(config.files_folder, PathBuf::from("/srv/outpost-files"));
    assert_eq!(config.domain("").password.min, 8);
    assert!(config.settings.max_invalid_login.is_some());
}

#[test]
fn a_name_makes_it_hybrid_and_keys_ignore_case() {
    let (config, problems) =
        read_text(r#"{"Settings":{"CERT":"box.example.com","Port":4430,"RedirPort":0,"_x":1}}"#);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(config.settings.mode, Mode::Hybrid);
    assert_eq!(config.settings.port, 4430);
    assert_eq!(config.settings.redir_port, None);
    assert_eq!(
        read_text(r#"{"settings":{"cert":"box.example.com","wanonly":true}}"#).0.settings.mode,
        Mode::Wan
    );
    assert_eq!(read_text(r#"{"settings":{"cert":"box"}}"#).0.settings.mode, Mode::Lan);
}

#[test]
fn every_wrong_or_unknown_key_is_reported_once_with_its_path() {
    let (config, problems) = read_text(
        r#"{"settings":{"port":"many","prot":1,"mqtt":{}},"domains":{"":{"passwordRequirements":{"min":"x","foo":1}},"a b":{}},"wat":1}"#,
    );
    assert_eq!(config.settings.port, 443);
    assert_eq!(
        problems,
        [
            "settings.port: expected a whole number from 1 to 65535, found a text; the default is used",
            "settings.mqtt: known to MeshCentral, has no effect in this release",
            "settings.prot: unknown key, ignored; did you mean `port`?",
            "domains[\"\"].passwordrequirements.min: expected a whole number from 0 to 256, found a text; the default is used",
            "domains[\"\"].passwordrequirements.foo: unknown key, ignored",
            "domains[\"a b\"]: not a possible name of a domain, ignored",
            "wat: unknown section, ignored",
        ]
    );
}

#[test]
fn a_broken_file_names_line_and_column() {
    let error = Document::parse("{\n  \"settings\": {\n    \"port\": 443,\n  }\n}", Path::new("config.json"))
        .expect_err("a trailing comma");
    assert_eq!(error.to_string(), "config.json, line 4, column 3: trailing comma");
}

#[test]
fn the_command_line_wins_and_domains_inherit() {
    let text = r#"{"settings":{"port":1},"domainDefaults":{"title":"Lab","newAccounts":true},"domains":{"Cust":{"title":"Customer"}}}"#;
    let mut document = Document::parse(text, Path::new("config.json")).expect("JSON");
    document.set("Port", json!(4430));
    let (config, problems) = read(&document, PathBuf::from("/d"));
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(config.settings.port, 4430);
    assert_eq!(config.domain("").title.as_deref(), Some("Lab"));
    assert_eq!(config.domain("cust").title.as_deref(), Some("Customer"));
    assert!(config.domain("cust").new_accounts);
}

#[test]
fn secrets_are_never_quoted_in_a_report() {
    let (_, problems) = read_text(r#"{"settings":{"sessionKey":"short","loginCookieEncryptionKey":"beef"}}"#);
    assert_eq!(problems.len(), 2);
    assert!(problems.iter().all(|problem| !problem.contains("short") && !problem.contains("beef")));
}
