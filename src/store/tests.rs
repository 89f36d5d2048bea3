use std::sync::atomic::{AtomicBool, Ordering};

use outpost_wire::id::Hash384;
use redb::StorageBackend;
use serde_json::json;

use super::*;
use crate::model::{Event, User};

fn user(name: &str) -> User {
    serde_json::from_value(json!({ "_id": format!("user//{name}"), "name": name })).expect("a user")
}

fn bob() -> UserId {
    UserId::from_name("", "bob").expect("an id")
}

fn device_id() -> DeviceId {
    DeviceId::new("", &Hash384([7; 48]).to_base64x()).expect("an id")
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_reopening() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a new store");
    for n in 0..20 {
        store
            .write(Durability::Durable, |change| {
                change.put_user(user(&format!("u{n}")));
                Ok::<_, StoreError>(())
            })
            .await
            .expect("a write");
    }
    assert_eq!(store.directory().users().count(), 20);
    use std::os::unix::fs::PermissionsExt as _;
    let file = std::fs::metadata(folder.path().join(FILE_NAME)).expect("the file");
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    drop(store);
    let store = Store::open(folder.path()).expect("the same store");
    assert_eq!(store.directory().users().count(), 20);
}

#[tokio::test]
async fn a_change_that_refuses_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a new store");
    let refused = store
        .write(Durability::Durable, |change| {
            change.put_user(user("bob"));
            Err::<(), _>(StoreError::Closed)
        })
        .await;
    assert!(refused.is_err());
    assert!(store.directory().user(&bob()).is_none());
}

#[tokio::test]
async fn concurrent_changes_build_on_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a new store");
    store
        .write(Durability::Durable, |change| {
            change.put_user(user("bob"));
            Ok::<_, StoreError>(())
        })
        .await
        .expect("a write");
    let mut writes = Vec::new();
    for _ in 0..64 {
        let store = store.clone();
        writes.push(tokio::spawn(async move {
            store
                .write(Durability::Durable, |change| {
                    let mut bob = (**change.directory().user(&bob()).expect("bob")).clone();
                    bob.creation += 1;
                    change.put_user(bob);
                    Ok::<_, StoreError>(())
                })
                .await
        }));
    }
    for write in writes {
        write.await.expect("no panic").expect("a write");
    }
    assert_eq!(store.directory().user(&bob()).expect("bob").creation, 64);
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers_without_a_half_written_state() {
    let full = Arc::new(AtomicBool::new(false));
    // The same bytes survive reopening, as on a real disk.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("disk");
    let engine = {
        let full = full.clone();
        RedbEngine::over(Box::new(move || {
            let file =
                std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            let file = file.expect("a file");
            Ok(Box::new(FileDisk {
                file: redb::backends::FileBackend::new(file).expect("unlocked"),
                full: full.clone(),
            }))
        }))
        .expect("a new store")
    };
    let store = Store::over(Arc::new(engine)).expect("a store");
    store
        .write(Durability::Durable, |change| {
            change.put_user(user("alice"));
            Ok::<_, StoreError>(())
        })
        .await
        .expect("room is left");
    full.store(true, Ordering::SeqCst);
    let refused = store
        .write(Durability::Durable, |change| {
            change.put_user(user("bob"));
            Ok::<_, StoreError>(())
        })
        .await
        .expect_err("the disk is full");
    assert!(refused.to_string().contains("nothing of this change was kept"), "{refused}");
    assert!(store.directory().user(&bob()).is_none());
    full.store(false, Ordering::SeqCst);
    store
        .write(Durability::Durable, |change| {
            assert!(change.directory().user(&bob()).is_none());
            change.put_user(user("carol"));
            Ok::<_, StoreError>(())
        })
        .await
        .expect("room again");
    let names: Vec<String> = store.directory().users().map(|user| user.name.clone()).collect();
    assert_eq!(names, ["alice", "carol"]);
}

/// A file on a disk that can be made full.
#[derive(Debug)]
struct FileDisk {
    file: redb::backends::FileBackend,
    full: Arc<AtomicBool>,
}

impl StorageBackend for FileDisk {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        full(&self.full)?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> Result<(), std::io::Error> {
        full(&self.full)?;
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        full(&self.full)?;
        self.file.write(offset, data)
    }
    fn close(&self) -> Result<(), std::io::Error> {
        self.file.close()
    }
}

fn full(flag: &AtomicBool) -> Result<(), std::io::Error> {
    if flag.load(Ordering::SeqCst) {
        return Err(std::io::Error::new(std::io::ErrorKind::StorageFull, "no space left"));
    }
    Ok(())
}

#[tokio::test]
async fn a_foreign_or_damaged_file_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(FILE_NAME);
    std::fs::write(&path, b"this is not a store").expect("a file");
    let error = Store::open(folder.path()).err().expect("refused");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert_eq!(std::fs::read(&path).expect("the file"), b"this is not a store");
}

/// What the next release may leave behind: records and fields that this one does not know, and a table of its own. A
/// box that gives that release up starts this one on it.
#[tokio::test]
async fn what_the_next_release_wrote_is_carried_along_by_this_one() {
    const OWN: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("of-the-next-release");
    const DOCUMENTS: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("documents");
    let folder = tempfile::tempdir().expect("a folder");
    Store::open(folder.path()).expect("a new store").close();
    let path = folder.path().join(FILE_NAME);
    let user = r#"{"_id":"user//bob","name":"Bob","links":{},"of-the-next-release":{"a":[1,2]}}"#;
    {
        let database = redb::Database::open(&path).expect("the file");
        let write = database.begin_write().expect("a transaction");
        write.open_table(OWN).expect("a table").insert("x", &b"y"[..]).expect("a value");
        {
            let mut documents = write.open_table(DOCUMENTS).expect("the table");
            documents.insert("user//bob", user.as_bytes()).expect("a value");
            documents.insert("kind-of-the-next-release", &b"{\"z\":1}"[..]).expect("a value");
        }
        write.commit().expect("a commit");
    }
    let store = Store::open(folder.path()).expect("this release opens it");
    let id = outpost_wire::id::UserId::from_name("", "bob").expect("a name");
    store
        .write(Durability::Durable, |change| {
            let mut user = (**change.directory().user(&id).expect("there")).clone();
            user.name = "Robert".into();
            change.put_user(user);
            Ok::<_, StoreError>(())
        })
        .await
        .expect("written");
    store.close();
    let database = redb::Database::open(&path).expect("the file");
    let read = redb::ReadableDatabase::begin_read(&database).expect("a transaction");
    let own = read.open_table(OWN).expect("still there");
    assert_eq!(own.get("x").expect("read").expect("there").value(), b"y");
    let documents = read.open_table(DOCUMENTS).expect("the table");
    let stored = documents.get("user//bob").expect("read").expect("there");
    let stored: serde_json::Value = serde_json::from_slice(stored.value()).expect("JSON");
    assert_eq!((&stored["name"], &stored["of-the-next-release"]["a"][1]), (&"Robert".into(), &2.into()));
    assert!(documents.get("kind-of-the-next-release").expect("read").is_some());
}

/// The same where this release could not read it: it says so, and the next one finds everything.
#[tokio::test]
async fn a_store_that_is_refused_stays_as_it_is() {
    const META: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("meta");
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a new store");
    let put = store.write(Durability::Durable, |change| {
        change.put("note", "note", &serde_json::json!({ "text": "kept" }));
        Ok::<_, StoreError>(())
    });
    put.await.expect("written");
    store.close();
    let path = folder.path().join(FILE_NAME);
    let stamp = |schema: u64| {
        let database = redb::Database::open(&path).expect("the file");
        let write = database.begin_write().expect("a transaction");
        let before = {
            let mut meta = write.open_table(META).expect("the table");
            meta.insert("schema", schema).expect("a value").map(|before| before.value())
        };
        write.commit().expect("a commit");
        before
    };
    stamp(super::READS + 1);
    let Some(refused) = Store::open(folder.path()).err() else { panic!("it was opened") };
    assert!(refused.to_string().contains("update Outpost, nothing was changed"), "{refused}");
    assert_eq!(stamp(SCHEMA), Some(super::READS + 1), "its stamp is as it was");
    let store = Store::open(folder.path()).expect("of the release that can read it");
    let note: Option<serde_json::Value> = store.get("note".to_owned()).await.expect("read");
    assert_eq!(note.expect("there")["text"], "kept");
}

#[tokio::test]
async fn two_servers_cannot_share_a_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let _first = Store::open(folder.path()).expect("a new store");
    assert!(matches!(Store::open(folder.path()).err(), Some(StoreError::InUse(_))));
}

#[tokio::test]
async fn events_are_found_by_target_newest_first_and_expire() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a new store");
    let base = 1_795_454_000_000;
    store
        .write(Durability::Durable, |change| {
            for n in 0..10 {
                let event = Event::new("node", if n % 2 == 0 { "changenode" } else { "agentlog" }, "")
                    .on_device(&device_id())
                    .with("n", n)
                    .to(["*", "mesh//g"]);
                change.log(&event, base + n);
            }
            change.log(&Event::new("user", "login", "").to(["*"]), base + 20);
            change.log(&Event::new("user", "login", "other").to(["*"]), base + 21);
            change.log(&Event::new("user", "seen", "").to(["*"]).unlogged(), base + 22);
            Ok::<_, StoreError>(())
        })
        .await
        .expect("a write");
    let query = |any_of: &[&str], action: Option<&str>, limit| EventQuery {
        any_of: any_of.iter().map(|target| (*target).to_owned()).collect(),
        domain: String::new(),
        action: action.map(str::to_owned),
        between: None,
        limit,
    };
    let all = store.events(query(&["*", "mesh//g"], None, 100)).await.expect("events");
    assert_eq!(all.len(), 11, "each once, none of another domain, none unlogged");
    assert_eq!(all[0]["action"], "login");
    assert_eq!(all[1]["n"], 9);
    let some = store.events(query(&["mesh//g"], Some("agentlog"), 2)).await.expect("events");
    assert_eq!(some.iter().map(|event| event["n"].clone()).collect::<Vec<_>>(), [json!(9), json!(7)]);
    let about = EventQuery::about_device(device_id().as_str());
    assert_eq!(store.events(query(&[&about], None, 100)).await.expect("events").len(), 10);
    store
        .write(Durability::Durable, |change| {
            change.expire(base + 5, 0);
            Ok::<_, StoreError>(())
        })
        .await
        .expect("a write");
    assert_eq!(store.events(query(&["*"], None, 100)).await.expect("events").len(), 6);
    store
        .write(Durability::Durable, |change| {
            change.remove_device(&device_id());
            Ok::<_, StoreError>(())
        })
        .await
        .expect("a write");
    assert_eq!(store.events(query(&["*"], None, 100)).await.expect("events").len(), 1);
}

#[tokio::test]
async fn lazy_changes_are_seen_at_once_and_written_on_closing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a new store");
    store
        .write(Durability::Lazy, |change| {
            change.put_user(user("bob"));
            change.power(&device_id(), 5, 1, 0);
            Ok::<_, StoreError>(())
        })
        .await
        .expect("a write");
    assert!(store.directory().user(&bob()).is_some());
    assert_eq!(store.power(&device_id(), 0).await.expect("history").len(), 1, "seen before it is written");
    store
        .write(Durability::Lazy, |change| {
            change.put("lcx", "lastconnect", &json!({ "time": 1 }));
            change.log(&Event::new("node", "agentlog", "").to(["*"]), 7);
            Ok::<_, StoreError>(())
        })
        .await
        .expect("a write");
    let record: Option<serde_json::Map<String, serde_json::Value>> =
        store.get("lcx".into()).await.expect("a read");
    assert_eq!(record.expect("seen")["time"], 1);
    let all =
        EventQuery { any_of: vec!["*".into()], domain: String::new(), action: None, between: None, limit: 9 };
    assert_eq!(store.events(all).await.expect("events").len(), 1);
    store.close();
    drop(store);
    let store = Store::open(folder.path()).expect("the same store");
    assert!(store.directory().user(&bob()).is_some());
    let power = store.power(&device_id(), 0).await.expect("history");
    assert_eq!(power, [PowerChange { time: 5, state: 1, previous: 0 }]);
}
