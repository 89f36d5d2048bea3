//! Folders made, entries removed, renamed, copied and moved. Each returns what the event log says of it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use outpost_wire::files::{Exists, Name, to_text};

use super::work::{Outcome, Work};

/// Folders within folders that are removed; each is held open on the way down, and a process may have 1024.
const DEEPEST: usize = 400;
/// Entries of a folder read at a time.
const BATCH: usize = 512;
/// Bytes copied between two looks at whether to go on.
const PIECE: u64 = 8 << 20;
/// Other names tried for an entry whose name is taken.
const MOST_NAMES: u32 = 1000;

/// A path from the wire.
fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

fn within(folder: &Path, name: &Name) -> PathBuf {
    folder.join(OsStr::from_bytes(name.as_bytes()))
}

fn shown(path: &Path) -> String {
    to_text(path.as_os_str().as_bytes())
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> String + use<> {
    let shown = shown(path);
    move |error| format!("{shown}: {error}")
}

pub(super) fn make_folder(at: &[u8]) -> Result<String, String> {
    let folder = path(at);
    fs::create_dir(&folder).map_err(failed(&folder))?;
    Ok(format!("Create folder: \"{}\"", shown(&folder)))
}

/// Removes entries of a folder. One that is not there is as good as removed; at the first that cannot be
/// removed it stops.
pub(super) fn remove(at: &[u8], names: &[Name], recursive: bool, work: &mut Work) -> Result<Outcome, String> {
    let folder = path(at);
    for name in names {
        let entry = within(&folder, name);
        match fs::symlink_metadata(&entry) {
            Ok(kind) if kind.is_dir() && recursive => remove_tree(&entry, work)?,
            Ok(kind) => {
                work.at(|| shown(&entry))?;
                if kind.is_dir() { fs::remove_dir(&entry) } else { fs::remove_file(&entry) }
                    .map_err(failed(&entry))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&entry)(error)),
        }
    }
    let removed = work.items();
    let shown_names = match names {
        [only] => shown(&within(&folder, only)),
        _ => shown(&folder),
    };
    Ok(Outcome::from(match (recursive, names.len()) {
        (true, _) => format!("Delete recursive: \"{shown_names}\", {removed} element(s) removed"),
        (false, 1) => format!("Delete: \"{shown_names}\""),
        (false, _) => format!("Delete: {removed} element(s) in \"{shown_names}\""),
    }))
}

/// Removes a folder and all below it, entry by entry, so that it can be told of and ended. Every folder is held open
/// and asked for its entries itself: a link that somebody puts in its place meanwhile leads nowhere.
fn remove_tree(folder: &Path, work: &mut Work) -> Result<(), String> {
    let told = |error: Errno| failed(folder)(error.into());
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
        return Err(format!("{}: not a folder that can be removed", shown(folder)));
    };
    let parent: OwnedFd = fs::File::open(parent).map_err(failed(folder))?.into();
    // Folders on the way down, each with what it is called in the one before.
    let mut open = vec![(enter(&parent, name).map_err(told)?, name.to_owned())];
    while let Some((last, _)) = open.last_mut() {
        let batch: Vec<_> = last
            .iter()
            .filter(|entry| {
                entry.as_ref().is_ok_and(|one| !matches!(one.file_name().to_bytes(), b"." | b".."))
                    || entry.is_err()
            })
            .take(BATCH)
            .collect::<Result<_, _>>()
            .map_err(told)?;
        let (above, emptied) = (&*last, batch.is_empty());
        let mut below = None;
        for entry in batch {
            let called = OsStr::from_bytes(entry.file_name().to_bytes());
            let inner = match entry.file_type() {
                Some(Type::Directory) => Some(enter(above, called).map_err(told)?),
                Some(_) => None,
                // Some file systems do not say.
                None => enter(above, called).ok(),
            };
            if let Some(inner) = inner {
                below = Some((inner, called.to_owned()));
                break;
            }
            work.at(|| to_text(called.as_bytes()))?;
            unlinkat(above, called, UnlinkatFlags::NoRemoveDir)
                .map_err(|error| format!("{} in {}: {error}", to_text(called.as_bytes()), shown(folder)))?;
        }
        match below {
            Some(_) if open.len() >= DEEPEST => {
                return Err(format!("{}: deeper than {DEEPEST} folders", shown(folder)));
            }
            Some(below) => open.push(below),
            None if !emptied => {}
            None => {
                let (_, called) = open.pop().expect("it was the last");
                work.at(|| to_text(called.as_bytes()))?;
                let flag = UnlinkatFlags::RemoveDir;
                match open.last() {
                    Some((above, _)) => unlinkat(above, called.as_os_str(), flag),
                    None => unlinkat(&parent, called.as_os_str(), flag),
                }
                .map_err(told)?;
            }
        }
    }
    Ok(())
}

/// Opens a folder in a folder, not through a link.
fn enter(above: &impl AsFd, name: &OsStr) -> Result<Dir, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Dir::openat(above, name, flags, Mode::empty())
}

/// Renames an entry; another one of that name stays what it is.
pub(super) fn rename(at: &[u8], from: &Name, to: &Name) -> Result<String, String> {
    let folder = path(at);
    let (from, to) = (within(&folder, from), within(&folder, to));
    if fs::symlink_metadata(&to).is_ok() {
        return Err(format!("{}: there is an entry of that name already", shown(&to)));
    }
    fs::rename(&from, &to).map_err(failed(&from))?;
    let name = to.file_name().map_or(String::new(), |name| to_text(name.as_bytes()));
    Ok(format!("Rename: \"{}\" to \"{name}\"", shown(&from)))
}

/// Another name for an entry whose name is taken: `report (2).txt`.
pub(super) fn numbered(name: &[u8], number: u32) -> Vec<u8> {
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0).unwrap_or(name.len());
    let number = format!(" ({number})").into_bytes();
    // A name has at most 255 bytes; what is cut may be half a character, which is no harm in a name.
    let kept = dot.min(255usize.saturating_sub(number.len() + name.len() - dot));
    [&name[..kept], &number, &name[dot..]].concat()
}

/// Copies or moves entries, folders with all that is in them, to another folder.
pub(super) fn transfer(
    from: &[u8],
    to: &[u8],
    names: &[Name],
    remove: bool,
    exists: Exists,
    work: &mut Work,
) -> Result<Outcome, String> {
    let (from, to) = (path(from), path(to));
    for name in names {
        let source = within(&from, name);
        let mut target = within(&to, name);
        if fs::symlink_metadata(&target).is_ok() {
            match exists {
                Exists::Refuse => {
                    return Err(format!("{}: there is an entry of that name already", shown(&target)));
                }
                Exists::Both => {
                    target = (2..MOST_NAMES)
                        .map(|number| to.join(OsStr::from_bytes(&numbered(name.as_bytes(), number))))
                        .find(|target| fs::symlink_metadata(target).is_err())
                        .ok_or_else(|| format!("{}: too many of that name", shown(&target)))?;
                }
                Exists::Skip | Exists::Overwrite if source == target => continue,
                Exists::Skip | Exists::Overwrite => {}
            }
        }
        if target != source && target.starts_with(&source) {
            return Err(format!("{}: a folder does not fit into itself", shown(&source)));
        }
        carry(&source, &target, remove, exists, work)?;
    }
    let (verb, count) = (if remove { "Move" } else { "Copy" }, names.len());
    Ok(Outcome::from(match names {
        [only] => format!("{verb}: \"{}\" to \"{}\"", shown(&within(&from, only)), shown(&to)),
        _ => format!("{verb}: {count} element(s) from \"{}\" to \"{}\"", shown(&from), shown(&to)),
    }))
}

/// Copies or moves one entry to a path. What is there is merged with, replaced or left, as asked.
fn carry(source: &Path, target: &Path, remove: bool, exists: Exists, work: &mut Work) -> Result<(), String> {
    work.at(|| shown(source))?;
    let kind = fs::symlink_metadata(source).map_err(failed(source))?;
    let there = fs::symlink_metadata(target).ok();
    if remove && there.is_none() {
        match fs::rename(source, target) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
            Err(error) => return Err(failed(source)(error)),
        }
    }
    if kind.is_dir() {
        match &there {
            None => fs::create_dir(target).map_err(failed(target))?,
            Some(there) if there.is_dir() => {}
            Some(_) => return Err(format!("{}: a file is where the folder should be", shown(target))),
        }
        for entry in fs::read_dir(source).map_err(failed(source))? {
            let entry = entry.map_err(failed(source))?;
            carry(&entry.path(), &target.join(entry.file_name()), remove, exists, work)?;
        }
        if there.is_none() {
            if remove {
                keep_owner(&kind, target)?;
            }
            fs::set_permissions(target, kind.permissions()).map_err(failed(target))?;
        }
        return match remove.then(|| fs::remove_dir(source)) {
            // Something was left in it because the same was there.
            Some(Err(error))
                if exists == Exists::Skip && error.kind() == io::ErrorKind::DirectoryNotEmpty =>
            {
                Ok(())
            }
            Some(removed) => removed.map_err(failed(source)),
            None => Ok(()),
        };
    }
    if let Some(there) = &there {
        if exists == Exists::Skip {
            return Ok(());
        }
        if there.is_dir() {
            return Err(format!("{}: a folder is where the file should be", shown(target)));
        }
    }
    if kind.is_symlink() {
        let leads_to = fs::read_link(source).map_err(failed(source))?;
        if there.is_some() {
            fs::remove_file(target).map_err(failed(target))?;
        }
        std::os::unix::fs::symlink(leads_to, target).map_err(failed(target))?;
    } else if kind.is_file() {
        copy_file(source, target, &kind, remove, work)?;
    } else {
        return Err(format!("{}: devices, pipes and sockets are not copied", shown(source)));
    }
    if remove { fs::remove_file(source).map_err(failed(source)) } else { Ok(()) }
}

/// Copies the content beside the place it is for, and puts it there when it is whole.
fn copy_file(
    source: &Path,
    target: &Path,
    kind: &fs::Metadata,
    keep: bool,
    work: &mut Work,
) -> Result<(), String> {
    let from = super::download::open(source.as_os_str().as_bytes()).map_err(failed(source))?;
    let (beside, mut into) = super::upload::beside(target).map_err(failed(target))?;
    let copied = (|| {
        loop {
            // Between files the kernel copies by itself, and shares blocks where the file system can.
            let moved = io::copy(&mut (&from).take(PIECE), &mut into).map_err(failed(target))?;
            if moved == 0 {
                break;
            }
            work.moved(moved)?;
        }
        if keep {
            keep_owner(kind, &beside)?;
            if let Ok(changed) = kind.modified() {
                into.set_modified(changed).map_err(failed(target))?;
            }
        }
        // After the owner: a change of owner takes set-user-id away.
        into.set_permissions(kind.permissions()).map_err(failed(target))?;
        fs::rename(&beside, target).map_err(failed(target))
    })();
    if copied.is_err() {
        let _ = fs::remove_file(&beside);
    }
    copied
}

/// What is moved stays whose it is.
fn keep_owner(kind: &fs::Metadata, target: &Path) -> Result<(), String> {
    if !crate::host::is_root() {
        return Ok(());
    }
    std::os::unix::fs::lchown(target, Some(kind.uid()), Some(kind.gid())).map_err(failed(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(path: &Path) -> Vec<u8> {
        path.as_os_str().as_bytes().to_vec()
    }

    fn removed(at: &[u8], names: &[Name], recursive: bool) -> Result<String, String> {
        remove(at, names, recursive, &mut Work::unwatched()).map(|outcome| outcome.text)
    }

    fn carried(
        from: &[u8],
        to: &[u8],
        names: &[Name],
        remove: bool,
        exists: Exists,
    ) -> Result<String, String> {
        transfer(from, to, names, remove, exists, &mut Work::unwatched()).map(|outcome| outcome.text)
    }

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    #[test]
    fn texts_are_those_that_clients_look_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let (root, new) = (bytes(folder.path()), bytes(&folder.path().join("new")));
        assert!(make_folder(&new).expect("made").starts_with("Create folder: \""));
        assert!(make_folder(&new).is_err(), "it is there");
        fs::write(folder.path().join("new/a"), "a").expect("written");
        assert!(removed(&root, &[name("new")], false).is_err(), "it is not empty");
        assert!(rename(&new, &name("a"), &name("b")).expect("renamed").ends_with("a\" to \"b\""));
        fs::write(folder.path().join("new/a"), "a").expect("written");
        assert!(rename(&new, &name("a"), &name("b")).is_err(), "the other one stays");
        assert!(removed(&new, &[name("a")], false).expect("removed").starts_with("Delete: \""));
        let all = removed(&root, &[name("new")], true).expect("removed");
        assert!(all.starts_with("Delete recursive: \"") && all.ends_with(", 2 element(s) removed"), "{all}");
        assert!(removed(&root, &[name("gone")], true).is_ok());
        assert!(rename(&root, &name("gone"), &name("x")).is_err());
    }

    #[test]
    fn removing_never_follows_a_link() {
        let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("another"));
        fs::write(other.path().join("precious"), "x").expect("written");
        std::os::unix::fs::symlink(other.path(), folder.path().join("link")).expect("linked");
        fs::create_dir(folder.path().join("sub")).expect("made");
        std::os::unix::fs::symlink(other.path(), folder.path().join("sub/link")).expect("linked");
        removed(&bytes(folder.path()), &[name("link"), name("sub")], true).expect("removed");
        assert!(other.path().join("precious").exists());
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 0);
    }

    #[test]
    fn folders_are_copied_and_moved_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir_all(a.join("x/y")).expect("made");
        fs::create_dir(&b).expect("made");
        fs::write(a.join("x/y/file"), "content").expect("written");
        carried(&bytes(&a), &bytes(&b), &[name("x")], false, Exists::Refuse).expect("copied");
        assert_eq!(fs::read(b.join("x/y/file")).expect("read"), b"content");
        assert!(a.join("x/y/file").exists());
        assert!(
            carried(&bytes(&a), &bytes(&b), &[name("x")], true, Exists::Refuse).is_err(),
            "what is there stays"
        );
        assert!(
            carried(&bytes(&a), &bytes(&a.join("x/y")), &[name("x")], false, Exists::Refuse).is_err(),
            "into itself"
        );
        fs::remove_dir_all(b.join("x")).expect("removed");
        carried(&bytes(&a), &bytes(&b), &[name("x")], true, Exists::Refuse).expect("moved");
        assert!(!a.join("x").exists() && b.join("x/y/file").exists());
    }

    #[test]
    fn what_is_there_is_replaced_left_or_joined_by_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        for (at, words) in [(&a, "new"), (&b, "old")] {
            fs::create_dir_all(at.join("x/y")).expect("made");
            fs::write(at.join("x/same.txt"), words).expect("written");
            fs::write(at.join(format!("x/y/only {words}")), words).expect("written");
        }
        let go = |remove, exists| carried(&bytes(&a), &bytes(&b), &[name("x")], remove, exists);
        let read = |path: &str| fs::read_to_string(b.join(path)).expect("read");
        assert!(go(false, Exists::Refuse).is_err());
        go(false, Exists::Skip).expect("copied");
        assert_eq!(
            (read("x/same.txt"), read("x/y/only new"), read("x/y/only old")),
            ("old".into(), "new".into(), "old".into())
        );
        go(false, Exists::Both).expect("copied");
        assert_eq!(read("x (2)/same.txt"), "new");
        go(false, Exists::Overwrite).expect("copied");
        assert_eq!(read("x/same.txt"), "new");
        fs::write(b.join("x/same.txt"), "other").expect("written");
        go(true, Exists::Skip).expect("moved as far as there is room");
        assert_eq!(
            (read("x/same.txt"), fs::read_to_string(a.join("x/same.txt")).expect("left")),
            ("other".into(), "new".into())
        );
        go(true, Exists::Overwrite).expect("moved");
        assert!(read("x/same.txt") == "new" && !a.join("x").exists());
        assert_eq!(numbered(b"report.tar.gz", 2), b"report.tar (2).gz");
        assert_eq!(numbered(b".profile", 3), b".profile (3)");
        assert_eq!(numbered(&[b'x'; 255], 2).len(), 255);
        let copied = carried(&bytes(&b), &bytes(&b), &[name("x")], false, Exists::Both);
        copied.expect("beside itself");
        assert!(b.join("x (3)/same.txt").exists());
    }
}
