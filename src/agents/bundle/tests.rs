use std::fs;
use std::path::Path;

use tar::EntryType;

use super::import::ImportError;
use super::*;

#[path = "../../../tests/server/package.rs"]
pub(crate) mod package;

use package::{Package, VERSION, append};

fn import(package: &[u8], folder: &Path) -> Result<Manifest, ImportError> {
    import_archive(package, folder)
}

fn sound() -> Package {
    Package::new().listed()
}

/// What is in the data folder's `agents`, beside the lock.
fn contents(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("agents")).map(|entries| entries.flatten().collect());
    let mut names: Vec<String> = entries
        .unwrap_or_else(|_| Vec::new())
        .iter()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != LOCK_NAME)
        .collect();
    names.sort();
    names
}

/// Imports something bad over something good, which has to stay.
fn refused(bad: &[u8]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let before = import(&sound().tgz(), folder.path()).expect("a sound package");
    let names = contents(folder.path());
    let error = import(bad, folder.path()).expect_err("a bad package");
    assert_eq!(contents(folder.path()), names, "{error}");
    let after = Bundle::load(folder.path()).expect("readable").expect("still there");
    assert_eq!(after.manifest, before);
    let empty = tempfile::tempdir().expect("a folder");
    import(bad, empty.path()).expect_err("a bad package");
    assert_eq!(contents(empty.path()), [""; 0], "nothing is stored");
    error.to_string()
}

#[test]
fn a_package_is_taken_with_its_hashes() {
    let folder = tempfile::tempdir().expect("a folder");
    let package = sound();
    let manifest = import(&package.tgz(), folder.path()).expect("imported");
    assert_eq!(manifest.version, VERSION);
    let paths: Vec<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    assert!(paths.is_sorted());
    assert!(!paths.contains(&"readme.md") && !paths.contains(&"agents/MeshService64.pdb"));
    let agent = manifest.agent(6).expect("there");
    let bytes = &package.files["agents/meshagent_x86-64"];
    assert_eq!(agent.size, bytes.len() as u64);
    assert_eq!(agent.sha256, hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref()));
    assert_eq!(agent.executable_hash, Some(outpost_wire::id::Hash384::of(bytes)));
    assert_eq!(agent.built, Some(1_722_958_240));
    assert_eq!(manifest.agent(4).map(|file| &file.ids[..]), Some(&[4, 10004][..]));
    assert!(manifest.agent(5).is_none());
    let bundle = Bundle::load(folder.path()).expect("readable").expect("there");
    assert_eq!(bundle.manifest, manifest);
    assert_eq!(bundle.read("agents/meshagent_x86-64").expect("readable").as_ref(), Some(bytes));
    assert_eq!(bundle.read("agents/nothing").expect("readable"), None);
}

#[test]
fn a_folder_is_taken_like_an_archive() {
    let of_archive = tempfile::tempdir().expect("a folder");
    let one = import(&sound().tgz(), of_archive.path()).expect("imported");
    for inner in ["", "package", "node_modules/meshcentral"] {
        let (source, data) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        sound().unpack(&source.path().join(inner));
        let other = import_path(source.path(), data.path()).expect("imported");
        assert_eq!(other.files, one.files);
        std::os::unix::fs::symlink("/etc/passwd", source.path().join(inner).join("agents/tinycore.js"))
            .expect_err("it is there");
        fs::remove_file(source.path().join(inner).join("agents/tinycore.js")).expect("removed");
        std::os::unix::fs::symlink("/etc/passwd", source.path().join(inner).join("agents/tinycore.js"))
            .expect("linked");
        let error = import_path(source.path(), data.path()).expect_err("a link");
        assert_eq!(
            error.to_string(),
            "agents/tinycore.js: only files and folders may be in the package, this is a symbolic link"
        );
        assert!(Bundle::load(data.path()).expect("readable").is_some());
    }
    let nothing = tempfile::tempdir().expect("a folder");
    assert!(matches!(import_path(nothing.path(), nothing.path()), Err(ImportError::NoPackage(_))));
    let missing = nothing.path().join("x.tgz");
    assert!(matches!(import_path(&missing, nothing.path()), Err(ImportError::NoPackage(_))));
}

#[test]
fn archives_that_break_off_are_refused() {
    let whole = sound().tgz();
    for length in [0, 1, 100, whole.len() / 2, whole.len() - 8, whole.len() - 1] {
        let error = refused(&whole[..length]);
        assert!(error.contains("damaged or cut off") || error.contains("not an npm package"), "{error}");
    }
    let mut changed = whole.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 0xff;
    refused(&changed);
    assert!(refused(b"PK\x03\x04 something else").contains("not compressed with gzip"));
}

#[test]
fn entries_that_lead_elsewhere_are_refused() {
    for path in ["package/../../etc/x", "/etc/x", "..", "package/agents/../../x", "package\\x"] {
        let bad = sound().packed(|archive| append(archive, path, EntryType::Regular, b"x"));
        let error = refused(&bad);
        assert!(error.contains("leads out of the package"), "{error}");
    }
    for (kind, name) in [
        (EntryType::Symlink, "symbolic link"),
        (EntryType::Link, "hard link"),
        (EntryType::Char, "device"),
        (EntryType::Fifo, "pipe"),
    ] {
        let bad = sound().packed(|archive| append(archive, "package/agents/x", kind, b""));
        assert!(refused(&bad).contains(name));
    }
    // The path that a preceding header gives counts.
    let bad = sound().packed(|archive| {
        append(archive, "x", EntryType::XHeader, b"24 path=package/../../x\n");
        append(archive, "package/harmless", EntryType::Regular, b"x");
    });
    assert!(refused(&bad).contains("leads out of the package"));
    let bad = sound().packed(|archive| {
        append(archive, "x", EntryType::GNULongName, b"/etc/passwd\0");
        append(archive, "package/harmless", EntryType::Regular, b"x");
    });
    assert!(refused(&bad).contains("/etc/passwd: this path leads out of the package"));
}

#[test]
fn entries_that_are_too_large_or_too_many_are_refused() {
    let module = vec![b' '; (1 << 20) + 1];
    let error = refused(&sound().with("agents/modules_meshcore/big.js", &module).tgz());
    assert_eq!(
        error,
        "agents/modules_meshcore/big.js: 1048577 bytes are too many; at most 1048576 are taken"
    );
    let header = vec![b' '; 70_000];
    let bad = sound().packed(|archive| append(archive, "x", EntryType::XHeader, &header));
    assert!(refused(&bad).contains("70000 bytes are too many"));
    let bad = sound().packed(|archive| {
        append(archive, "package/agents/tinycore.js", EntryType::Regular, b"again");
    });
    assert_eq!(refused(&bad), "agents/tinycore.js is there twice");
    let mut many = sound();
    for at in 0..1100 {
        many = many.with(&format!("agents/modules_meshcore/m{at}.js"), b"");
    }
    assert!(refused(&many.tgz()).contains("more than 1024 files"));
    let bad = sound().packed(|archive| {
        for at in 0..20_100 {
            append(archive, &format!("package/f{at}"), EntryType::Regular, b"");
        }
    });
    assert!(refused(&bad).contains("more than 20000 entries"));
}

#[test]
fn a_package_that_lacks_something_is_refused() {
    for path in super::parts::NEEDED {
        assert_eq!(refused(&sound().without(path).tgz()), format!("{path} is missing in the package"));
    }
    let agent = "agents/meshagent_x86-64";
    assert_eq!(refused(&sound().without(agent).tgz()), format!("{agent} is missing in the package"));
    let mut bare = sound();
    bare.files.retain(|path, _| !path.starts_with("agents/modules_meshcore/"));
    assert_eq!(refused(&bare.tgz()), "agents/modules_meshcore/ is missing in the package");
    assert!(refused(&sound().with("agents/hashagents.json", b"{}").tgz()).contains("it lists no agent"));
}

#[test]
fn a_package_that_contradicts_itself_is_refused() {
    let same_length = package::executable(b"\x7fELF other", 150_000);
    assert_eq!(
        refused(&sound().with("agents/meshagent_x86-64", &same_length).tgz()),
        "agents/meshagent_x86-64 is not what agents/hashagents.json says: its hash differs"
    );
    assert_eq!(
        refused(&sound().with("agents/meshagent_x86-64", b"short").tgz()),
        "agents/meshagent_x86-64 is not what agents/hashagents.json says: its length differs"
    );
    let other = sound().with("package.json", b"{\"name\":\"left-pad\",\"version\":\"1\"}");
    assert_eq!(refused(&other.tgz()), "this is the package `left-pad`, not `meshcentral`");
    for json in [&b"{"[..], b"[]", b"{\"name\":\"meshcentral\",\"version\":\"../../x\"}"] {
        assert!(refused(&sound().with("package.json", json).tgz()).contains("package.json cannot be read"));
    }
    let outside = b"{\"6\":{\"filename\":\"../../etc/passwd\",\"hash\":\"00\",\"size\":1}}";
    let error = refused(&sound().with("agents/hashagents.json", outside).tgz());
    assert_eq!(error, "agents/../../etc/passwd is missing in the package");
}

#[test]
fn one_import_at_a_time_and_leftovers_vanish() {
    let folder = tempfile::tempdir().expect("a folder");
    let agents = folder.path().join("agents");
    fs::create_dir_all(agents.join(".import-OLD/agents")).expect("made");
    import(&sound().tgz(), folder.path()).expect("imported");
    let lock = staging::lock(&agents).expect("free");
    assert!(matches!(import(&sound().tgz(), folder.path()), Err(ImportError::Busy)));
    assert!(matches!(remove(folder.path()), Err(ImportError::Busy)));
    drop(lock);
    import(&sound().tgz(), folder.path()).expect("imported");
    assert_eq!(contents(folder.path()).len(), 2, "{:?}", contents(folder.path()));
    assert!(remove(folder.path()).expect("removed"));
    assert!(!remove(folder.path()).expect("nothing there"));
    assert_eq!(contents(folder.path()), [""; 0]);
}

#[test]
fn a_running_server_notices_and_a_damaged_manifest_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let current = CurrentBundle::new(folder.path());
    let changes = current.changes();
    assert!(current.get().is_none());
    import(&sound().tgz(), folder.path()).expect("imported");
    let first = current.get().expect("noticed");
    assert!(changes.has_changed().expect("alive"));
    assert!(Arc::ptr_eq(&first, &current.get().expect("there")), "read once");
    import(&sound().with("agents/tinycore.js", b"new").tgz(), folder.path()).expect("imported");
    let second = current.get().expect("noticed");
    assert_eq!(second.read("agents/tinycore.js").expect("readable"), Some(b"new".to_vec()));
    remove(folder.path()).expect("removed");
    assert!(current.get().is_none());
    let manifest = folder.path().join("agents/official.json");
    for bad in ["", "{}", "{\"version\":\"1\",\"imported\":0,\"folder\":\"../x\",\"files\":[]}"] {
        fs::write(&manifest, bad).expect("written");
        assert!(matches!(Bundle::load(folder.path()), Err(BundleError::Damaged { .. })), "{bad}");
        assert!(current.get().is_none());
    }
}
