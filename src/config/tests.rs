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

#[test]
fn what_agents_run_is_set_as_in_meshcentral() {
    let upkeep = |text: &str| {
        let (config, problems) = read_text(text);
        (config.settings.upkeep, problems)
    };
    assert_eq!(upkeep("{}"), (Upkeep::default(), Vec::new()));
    let (set, problems) = upkeep(
        r#"{"settings":{"noAgentUpdate":1,"agentUpdateSystem":2,"agentUpdateBlockSize":4096,
            "temporaryAgentUpdate":true,"minifyCore":true}}"#,
    );
    let expected =
        Upkeep { minify_core: true, updates: false, by_core: true, block_size: 4096, temporary: true };
    assert_eq!((set, problems), (expected, Vec::new()));
    let (wrong, problems) = upkeep(r#"{"settings":{"agentUpdateBlockSize":70000,"agentUpdateSystem":3}}"#);
    assert_eq!((wrong, problems.len()), (Upkeep::default(), 2));
}

#[test]
fn every_key_of_recordings_has_its_effect_or_is_named() {
    let recording = |json: &str| {
        let text = format!(r#"{{"domains":{{"":{{"sessionRecording":{json}}}}}}}"#);
        let (config, problems) = read_text(&text);
        (config.domain("").session_recording.clone(), problems)
    };
    assert_eq!(recording("false"), (None, Vec::new()));
    let (all, problems) = recording("true");
    let all = all.expect("recorded");
    assert!(problems.is_empty() && all.covers(1) && all.covers(2) && all.covers_ports() && all.index);
    assert_eq!((all.on_failure, all.selects()), (OnFailure::End, false));
    let (some, problems) = recording(
        r#"{"filePath":"tapes","index":false,"maxRecordings":10,"maxRecordingDays":20,"maxRecordingSizeMegabytes":3,
            "protocols":[1,5],"onlySelectedUsers":true,"onlySelectedUserGroups":true,
            "onlySelectedDeviceGroups":true,"onFailure":"continue","keepFreeMegabytes":7}"#,
    );
    let some = some.expect("recorded");
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!((some.most, some.most_days, some.most_bytes), (Some(10), Some(20), Some(3 << 20)));
    assert_eq!((some.keep_free, some.on_failure), (7 << 20, OnFailure::Continue));
    // Who has one shell recorded means all of them.
    for (protocol, covered) in [(1, true), (8, true), (5, true), (10, true), (2, false), (7, false)] {
        assert_eq!(some.covers(protocol), covered, "{protocol}");
    }
    assert!(!some.covers_ports() && !some.index && some.selects());
    let (_, problems) = recording(r#"{"protocols":[2,100],"maxRecordngs":1,"onFailure":"maybe"}"#);
    assert_eq!(problems.len(), 3, "{problems:?}");
}
