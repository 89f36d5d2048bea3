//! What was in one server is in another afterwards, and nothing but a copy is taken for one.

use serde_json::json;

use super::*;
use crate::config::Document;
use crate::store::{Durability, Store};

struct Place {
    folder: tempfile::TempDir,
    config: Config,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let document = Document::parse("{}", Path::new("config.json")).expect("JSON");
        let (config, _) = crate::config::read(&document, folder.path().join("outpost-data"));
        fs::create_dir(&config.data_folder).expect("made");
        Place { folder, config }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.folder.path().join(path)).ok()
    }

    async fn with_record(&self, text: &str) -> Arc<Store> {
        let store = Store::open(&self.config.data_folder).expect("a store");
        let put = store.write(Durability::Durable, |change| {
            change.put("note", "note", &json!({ "text": text }));
            Ok::<_, StoreError>(())
        });
        put.await.expect("written");
        store
    }

    fn copy(&self, store: &Store, recordings: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        Source::new(&self.config, store.engine().clone(), recordings).write(&mut bytes).expect("copied");
        bytes
    }

    async fn record(&self) -> Option<String> {
        let store = Store::open(&self.config.data_folder).expect("a store");
        let note: Option<serde_json::Value> = store.get("note".to_owned()).await.expect("read");
        store.close();
        note.and_then(|note| note["text"].as_str().map(str::to_owned))
    }
}

#[tokio::test]
async fn everything_comes_over_and_what_was_there_is_kept() {
    let old = Place::new();
    old.write("outpost-data/webserver-cert-private.key", "old key");
    old.write("outpost-data/config.json", "{}");
    old.write(&format!("outpost-data/{}/big", bundle::FOLDER), "an agent");
    old.write("outpost-files/user/bob/Public/a.txt", "hello");
    old.write("outpost-recordings/x.mcrec", "a session");
    std::os::unix::fs::symlink("/etc/passwd", old.folder.path().join("outpost-files/link")).expect("a link");
    let store = old.with_record("of the old one").await;
    let (without, with) = (old.copy(&store, false), old.copy(&store, true));
    assert!(
        fs::read_dir(&old.config.data_folder)
            .expect("there")
            .flatten()
            .all(|entry| { !entry.file_name().to_string_lossy().starts_with(SNAPSHOT) })
    );

    let new = Place::new();
    new.write("outpost-data/webserver-cert-private.key", "new key");
    new.with_record("of the new one").await.close();
    assert_eq!(restore(&new.config, &with[..]).expect("restored"), env!("CARGO_PKG_VERSION"));
    assert_eq!(new.record().await.as_deref(), Some("of the old one"));
    assert_eq!(new.read("outpost-data/webserver-cert-private.key").as_deref(), Some("old key"));
    assert_eq!(new.read("outpost-files/user/bob/Public/a.txt").as_deref(), Some("hello"));
    assert_eq!(new.read("outpost-recordings/x.mcrec").as_deref(), Some("a session"));
    assert!(new.read(&format!("outpost-data/{}/big", bundle::FOLDER)).is_none());
    assert!(!new.folder.path().join("outpost-files/link").exists());
    let aside = fs::read_dir(&new.config.data_folder).expect("there").flatten();
    let aside: Vec<_> =
        aside.filter(|entry| entry.file_name().to_string_lossy().starts_with(REPLACED)).collect();
    assert_eq!(aside.len(), 1);
    let kept = fs::read_to_string(aside[0].path().join("webserver-cert-private.key")).expect("kept");
    assert_eq!(kept, "new key");

    let other = Place::new();
    restore(&other.config, &without[..]).expect("restored");
    assert!(other.read("outpost-recordings/x.mcrec").is_none());
}

#[tokio::test]
async fn a_server_that_runs_is_left_alone() {
    let place = Place::new();
    let store = place.with_record("here").await;
    let copy = place.copy(&store, false);
    assert!(matches!(restore(&place.config, &copy[..]), Err(RestoreError::Store(StoreError::InUse(_)))));
}

/// An archive with these entries.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        // Set by hand: the builder refuses what a forger would write.
        header.as_gnu_mut().expect("made so").name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o600);
        header.set_cksum();
        builder.append(&header, *bytes).expect("in memory");
    }
    builder.into_inner().expect("in memory").finish().expect("in memory")
}

#[tokio::test]
async fn what_is_no_copy_changes_nothing() {
    let old = Place::new();
    let whole = old.copy(&*old.with_record("x").await, false);
    let about = |schema: u64| {
        json!({ "product": "outpost", "version": "9.9.9", "schema": schema, "at": 0 })
            .to_string()
            .into_bytes()
    };
    let place = Place::new();
    place.with_record("mine").await.close();
    place.write("outpost-data/config.json", "mine");
    for (bytes, expected) in [
        (b"no archive at all".to_vec(), "Foreign"),
        (Vec::new(), "Foreign"),
        (archive(&[("data/config.json", b"theirs")]), "Foreign"),
        (archive(&[(ABOUT, br#"{"product":"other","version":"1","schema":1,"at":0}"#)]), "Foreign"),
        (archive(&[(ABOUT, &about(crate::store::READS + 1)), ("data/config.json", b"theirs")]), "Newer"),
        (archive(&[(ABOUT, &about(SCHEMA)), ("data/config.json", b"theirs")]), "Damaged"),
        (archive(&[(ABOUT, &about(SCHEMA)), ("data/../../evil", b"x")]), "Damaged"),
        (archive(&[(ABOUT, &about(SCHEMA)), ("/etc/evil", b"x")]), "Damaged"),
        (archive(&[(ABOUT, &about(SCHEMA)), ("elsewhere/evil", b"x")]), "Damaged"),
        (archive(&[(ABOUT, &about(SCHEMA)), ("data/outpost.redb", b"no store")]), "Store"),
        (whole[..whole.len() / 2].to_vec(), "Damaged"),
    ] {
        let error = restore(&place.config, &bytes[..]).expect_err("refused");
        assert!(format!("{error:?}").starts_with(expected), "{expected}: {error:?}");
        assert_eq!(place.read("outpost-data/config.json").as_deref(), Some("mine"));
        assert!(!place.folder.path().join("evil").exists());
    }
    assert_eq!(place.record().await.as_deref(), Some("mine"));
    assert!(
        fs::read_dir(&place.config.data_folder)
            .expect("there")
            .flatten()
            .all(|entry| { !entry.file_name().to_string_lossy().starts_with(REPLACED) })
    );
}
