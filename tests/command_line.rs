//! The command line as an administrator uses it, with the real program.

#![allow(missing_docs, reason = "tests")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn outpost(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_outpost"))
        .args(arguments)
        .arg("--datapath")
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("written");
    child.wait_with_output().expect("its output")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Runs it and expects success; returns what it printed.
fn good(folder: &Path, arguments: &[&str]) -> String {
    let output = outpost(folder, arguments, "secret from stdin\n");
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs it and expects a refusal; returns its words.
fn bad(folder: &Path, arguments: &[&str]) -> String {
    let output = outpost(folder, arguments, "");
    assert!(!output.status.success(), "{arguments:?}: {}", text(&output.stdout));
    assert!(output.stdout.is_empty(), "{arguments:?}");
    text(&output.stderr)
}

#[test]
fn the_way_back_in_works_in_both_spellings() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    assert_eq!(
        good(folder, &["--createaccount", "Anna", "--pass", "first password", "--email", "a@b.example"]),
        "Done."
    );
    assert_eq!(good(folder, &["create-account", "bob", "--pass", "-"]), "Done.");
    assert_eq!(bad(folder, &["create-account", "BOB", "--pass", "x"]), "outpost: User already exists.");
    assert_eq!(good(folder, &["--listuserids"]), "user//anna\nuser//bob");
    assert_eq!(good(folder, &["--adminaccount", "anna"]), "Done.");
    let before: Value = serde_json::from_str(&good(folder, &["--showusers"])).expect("JSON");
    assert_eq!(
        (before[0]["siteadmin"].as_u64(), before[0]["email"].as_str()),
        (Some(0xFFFF_FFFF), Some("a@b.example"))
    );
    assert_eq!(good(folder, &["--resetaccount", "anna", "--pass", "second password"]), "Done.");
    let after: Value = serde_json::from_str(&good(folder, &["show", "users"])).expect("JSON");
    assert_ne!(before[0]["hash"], after[0]["hash"]);
    assert_eq!(bad(folder, &["make-admin", "eve"]), "outpost: There is no account user//eve.");
    assert_eq!(
        bad(folder, &["create-account", "x y", "--pass", "x"]),
        "outpost: A user name cannot contain ' '"
    );
    assert_eq!(
        bad(folder, &["create-account", "eve", "--pass", "x", "--domain", "nowhere"]),
        "outpost: Invalid domain."
    );
    for what in ["user-groups", "groups", "devices", "events", "power"] {
        assert_eq!(good(folder, &["show", what]), "[]", "{what}");
    }
    let all: Value = serde_json::from_str(&good(folder, &["--showall"])).expect("JSON");
    assert_eq!(all.as_array().map(Vec::len), Some(2));
}

#[test]
fn keys_and_cookies_of_logins_are_printed_and_renewed() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    good(folder, &["create-account", "anna", "--pass", "long enough"]);
    let key = good(folder, &["--logintokenkey"]);
    assert_eq!((key.len(), good(folder, &["login-key"])), (160, key.clone()));
    let opens = |key: &str, cookie: &str| {
        let key = outpost_wire::cookie::CookieKey::from_hex(key).expect("a key");
        let now = outpost::clock::now_seconds();
        outpost_wire::cookie::open(&key, cookie, now, 60).ok().map(|claims| claims["u"].clone())
    };
    let cookie = good(folder, &["--logintoken", "user//anna"]);
    assert_eq!(opens(&key, &cookie), Some("user//anna".into()));
    assert!(bad(folder, &["login-cookie", "eve"]).contains("not found"));
    let renewed = good(folder, &["login-key", "--new"]);
    assert_ne!(key, renewed);
    assert_eq!(opens(&renewed, &cookie), None, "cookies of the old key are void");
    assert_eq!(opens(&renewed, &good(folder, &["login-cookie", "anna"])), Some("user//anna".into()));
    let fixed = format!(r#"{{"settings":{{"loginCookieEncryptionKey":"{key}"}}}}"#);
    std::fs::write(folder.join("config.json"), fixed).expect("written");
    assert_eq!(good(folder, &["login-key"]), key);
    assert!(bad(folder, &["login-key", "--new"]).contains("loginCookieEncryptionKey"));
}

#[test]
fn mistakes_are_told_and_nothing_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().join("new");
    assert!(bad(&folder, &["--wat"]).contains("there is no option `--wat`"));
    assert!(bad(&folder, &["make-coffee"]).contains("there is no command `make-coffee`"));
    assert!(bad(&folder, &["list-users"]).contains("there is no store in"));
    assert!(!folder.exists());
}

#[test]
fn a_broken_configuration_stops_the_start_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("config.json"), "{\n  \"settings\": { \"port\": 443, }\n}")
        .expect("written");
    let words = bad(folder.path(), &["run"]);
    assert!(words.contains("config.json, line 2, column 30: trailing comma"), "{words}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing was made");
}

#[test]
fn a_running_server_keeps_its_store_to_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Command::new(env!("CARGO_BIN_EXE_outpost"))
        .args(["--wanonly", "--portbind", "127.0.0.1", "--port", "41443", "--redirport", "0", "--datapath"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program");
    let mut greeting = std::io::BufReader::new(server.stdout.take().expect("its output"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut greeting, &mut line).expect("a line");
    assert!(line.contains("is running in WAN mode"), "{line}");
    assert!(bad(folder.path(), &["list-users"]).contains("in use by another process"));
    assert!(bad(folder.path(), &["run", "--port", "41444"]).contains("in use by another process"));
    server.kill().expect("killed");
    server.wait().expect("ended");
    assert_eq!(good(folder.path(), &["list-users"]), "");
}
