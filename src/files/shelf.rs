//! Where files lie, and what can be done with them. Every call may block: it belongs on a thread that may wait.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use outpost_wire::id::{GroupId, UserId};
use serde_json::{Map, Value, json};

use super::name::{FileName, NameError};

/// The folder of a user that everybody may read.
pub const PUBLIC: &str = "Public";
/// How deep folders go, and how many entries a listing shows.
const DEEPEST: usize = 32;
const MOST_ENTRIES: usize = 20_000;

/// Whose files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A user.
    User(UserId),
    /// A device group.
    Group(GroupId),
}

impl Owner {
    fn parse(id: &str) -> Result<Owner, FileError> {
        UserId::parse(id)
            .map(Owner::User)
            .or_else(|_| GroupId::parse(id).map(Owner::Group))
            .map_err(|_| FileError::NoOwner)
    }
}

/// A folder of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose.
    pub owner: Owner,
    /// The way down to it.
    pub folders: Vec<FileName>,
}

impl Place {
    /// A path as `fileoperation` has it: the owner's id, then folders.
    ///
    /// # Errors
    /// [`FileError::NoOwner`], [`FileError::Name`], [`FileError::TooDeep`].
    pub fn of_path(path: &[String]) -> Result<Place, FileError> {
        let (owner, folders) = path.split_first().ok_or(FileError::NoOwner)?;
        Place::new(Owner::parse(owner)?, folders.iter().map(String::as_str))
    }

    /// A link: `user/<domain>/<name>[/folder…]` or `mesh/<domain>/<key>[/folder…]`.
    ///
    /// # Errors
    /// As [`Place::of_path`].
    pub fn of_link(link: &str) -> Result<Place, FileError> {
        let at = link.match_indices('/').nth(2).map_or(link.len(), |(at, _)| at);
        let (owner, rest) = link.split_at(at);
        Place::new(Owner::parse(owner)?, rest.split('/').filter(|step| !step.is_empty()))
    }

    /// A folder by its owner and way.
    ///
    /// # Errors
    /// [`FileError::Name`], [`FileError::TooDeep`].
    pub fn new<'a>(owner: Owner, folders: impl Iterator<Item = &'a str>) -> Result<Place, FileError> {
        let folders = folders.map(FileName::parse).collect::<Result<Vec<_>, _>>()?;
        if folders.len() > DEEPEST {
            return Err(FileError::TooDeep);
        }
        Ok(Place { owner, folders })
    }

    /// The folder above, and the name in it; none for an owner's own folder.
    pub fn split_last(mut self) -> Option<(Place, FileName)> {
        let name = self.folders.pop()?;
        Some((self, name))
    }
}

/// Why something could not be done with files.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The path names no user or device group.
    #[error("the path begins with the id of a user or device group")]
    NoOwner,
    /// A name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Too many folders in one another.
    #[error("folders are at most {DEEPEST} deep")]
    TooDeep,
    /// Nothing is there.
    #[error("there is no such file")]
    Missing,
    /// Something is there already.
    #[error("there is a file of this name already")]
    Exists,
    /// A folder with something in it is only removed with all of it.
    #[error("the folder is not empty")]
    NotEmpty,
    /// A folder cannot go into itself.
    #[error("a folder cannot be put into itself")]
    IntoItself,
    /// It does not fit into what the owner may have.
    #[error("Disk quota exceed")]
    Quota,
    /// The system's reason.
    #[error("{0}")]
    Io(io::Error),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> FileError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FileError::Missing,
            io::ErrorKind::AlreadyExists => FileError::Exists,
            io::ErrorKind::DirectoryNotEmpty => FileError::NotEmpty,
            _ => FileError::Io(error),
        }
    }
}

/// What is to be done in a folder.
#[derive(Clone, Debug)]
pub enum Edit {
    /// Make a folder.
    CreateFolder(FileName),
    /// Remove; folders with all in them when asked.
    Delete(Vec<FileName>, bool),
    /// Give another name.
    Rename(FileName, FileName),
    /// Copy from another folder.
    Copy(Vec<FileName>, Place),
    /// Move from another folder.
    Move(Vec<FileName>, Place),
    /// Write a file.
    Set(FileName, Vec<u8>),
}

/// The folder that holds everybody's.
#[derive(Clone, Debug)]
pub struct Shelf {
    root: PathBuf,
}

impl Shelf {
    /// The shelf in a folder, which need not be there yet.
    pub fn new(root: &Path) -> Shelf {
        Shelf { root: root.to_owned() }
    }

    fn home(&self, owner: &Owner) -> PathBuf {
        let (domain, name) = match owner {
            Owner::User(id) => (id.domain(), format!("user-{}", id.key())),
            Owner::Group(id) => (id.domain(), format!("mesh-{}", id.key())),
        };
        let domain = if domain.is_empty() { "domain".to_owned() } else { format!("domain-{domain}") };
        self.root.join(domain).join(name)
    }

    /// The folder on the disk. What lies there is made by this server alone; a link that somebody else has put
    /// there is not followed.
    fn folder(&self, place: &Place) -> Result<PathBuf, FileError> {
        let mut path = self.home(&place.owner);
        for name in &place.folders {
            path.push(name.as_str());
            if fs::symlink_metadata(&path)?.is_symlink() {
                return Err(FileError::Missing);
            }
        }
        Ok(path)
    }

    /// Opens a file to be read, with its length.
    ///
    /// # Errors
    /// [`FileError::Missing`], [`FileError::Io`].
    pub fn open(&self, place: &Place, name: &FileName) -> Result<(PathBuf, u64), FileError> {
        let path = self.folder(place)?.join(name.as_str());
        let about = fs::symlink_metadata(&path)?;
        if !about.is_file() {
            return Err(FileError::Missing);
        }
        Ok((path, about.len()))
    }

    /// Bytes that an owner has.
    pub fn used(&self, owner: &Owner) -> u64 {
        fn sum(folder: &Path, depth: usize) -> u64 {
            let Ok(entries) = fs::read_dir(folder) else { return 0 };
            entries
                .flatten()
                .map(|entry| match entry.metadata() {
                    Ok(about) if about.is_dir() && depth < DEEPEST => sum(&entry.path(), depth + 1),
                    Ok(about) if about.is_file() => about.len(),
                    _ => 0,
                })
                .sum()
        }
        sum(&self.home(owner), 0)
    }

    /// The files of an owner as clients see them. A user's public folder is made with the first listing.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn tree(&self, owner: &Owner) -> Result<Value, FileError> {
        let home = self.home(owner);
        if matches!(owner, Owner::User(_)) {
            fs::create_dir_all(home.join(PUBLIC))?;
        }
        let mut left = MOST_ENTRIES;
        Ok(Value::Object(list(&home, 0, &mut left)))
    }

    /// Does something in a folder. `free` is how many bytes more the owner may have.
    ///
    /// # Errors
    /// [`FileError`]; what was done to earlier names of a list stays done.
    pub fn edit(&self, place: &Place, edit: Edit, free: Option<u64>) -> Result<(), FileError> {
        let home = self.home(&place.owner);
        fs::create_dir_all(&home)?;
        let folder = self.folder(place)?;
        match edit {
            Edit::CreateFolder(name) => {
                if place.folders.len() >= DEEPEST {
                    return Err(FileError::TooDeep);
                }
                fs::create_dir(folder.join(name.as_str()))?;
            }
            Edit::Delete(names, all) => {
                for name in names {
                    let path = folder.join(name.as_str());
                    let about = fs::symlink_metadata(&path)?;
                    match (about.is_dir(), all) {
                        (false, _) => fs::remove_file(&path)?,
                        (true, false) => fs::remove_dir(&path)?,
                        (true, true) => fs::remove_dir_all(&path)?,
                    }
                }
            }
            Edit::Rename(from, to) => {
                let (from, to) = (folder.join(from.as_str()), folder.join(to.as_str()));
                put(&from, &to)?;
            }
            Edit::Copy(names, source) => {
                let source = self.folder(&source)?;
                let mut free = free;
                for name in names {
                    let (from, to) = (source.join(name.as_str()), folder.join(name.as_str()));
                    copy(&from, &to, &mut free, place.folders.len())?;
                }
            }
            Edit::Move(names, source) => {
                let same_owner = source.owner == place.owner;
                let source = self.folder(&source)?;
                let mut free = free;
                for name in names {
                    let (from, to) = (source.join(name.as_str()), folder.join(name.as_str()));
                    if same_owner {
                        put(&from, &to)?;
                    } else {
                        copy(&from, &to, &mut free, place.folders.len())?;
                        if from.is_dir() {
                            fs::remove_dir_all(&from)?;
                        } else {
                            fs::remove_file(&from)?;
                        }
                    }
                }
            }
            Edit::Set(name, data) => {
                let mut upload = Upload::begin(&folder, &name, free)?;
                upload.write(&data)?;
                upload.finish()?;
            }
        }
        Ok(())
    }

    /// Begins to write a file, which appears when it is finished.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn upload(&self, place: &Place, name: &FileName, free: Option<u64>) -> Result<Upload, FileError> {
        fs::create_dir_all(self.home(&place.owner))?;
        Upload::begin(&self.folder(place)?, name, free)
    }
}

/// Moves, never onto something that is there, never a folder into itself.
fn put(from: &Path, to: &Path) -> Result<(), FileError> {
    let about = fs::symlink_metadata(from)?;
    if from == to {
        return Ok(());
    }
    if about.is_dir() && to.starts_with(from) {
        return Err(FileError::IntoItself);
    }
    if fs::symlink_metadata(to).is_ok() {
        return Err(FileError::Exists);
    }
    Ok(fs::rename(from, to)?)
}

fn copy(from: &Path, to: &Path, free: &mut Option<u64>, depth: usize) -> Result<(), FileError> {
    let about = fs::symlink_metadata(from)?;
    if about.is_dir() {
        if to.starts_with(from) {
            return Err(FileError::IntoItself);
        }
        if depth >= DEEPEST {
            return Err(FileError::TooDeep);
        }
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()), free, depth + 1)?;
        }
        return Ok(());
    }
    if !about.is_file() {
        return Err(FileError::Missing);
    }
    if fs::symlink_metadata(to).is_ok() {
        return Err(FileError::Exists);
    }
    if let Some(free) = free {
        *free = free.checked_sub(about.len()).ok_or(FileError::Quota)?;
    }
    fs::copy(from, to)?;
    Ok(())
}

fn list(folder: &Path, depth: usize, left: &mut usize) -> Map<String, Value> {
    let mut entries = Map::new();
    let Ok(read) = fs::read_dir(folder) else { return entries };
    for entry in read.flatten() {
        // Hidden ones are files on their way.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(about) = entry.metadata() else { continue };
        if name.starts_with('.') || *left == 0 {
            continue;
        }
        *left -= 1;
        // Kinds as clients know them: 2 folder, 3 file (control-protocol §7.1).
        if about.is_dir() && depth < DEEPEST {
            let inside = list(&entry.path(), depth + 1, left);
            entries.insert(name, json!({ "t": 2, "d": 111, "f": inside }));
        } else if about.is_file() {
            let since = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let modified = since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
            entries.insert(name, json!({ "t": 3, "d": modified, "s": about.len() }));
        }
    }
    entries
}

/// A file that is being written. It replaces what has its name when it is finished, and is gone when it is
/// dropped before.
pub struct Upload {
    file: File,
    partial: PathBuf,
    target: PathBuf,
    /// Bytes that may still be written.
    free: Option<u64>,
    done: bool,
}

impl Upload {
    fn begin(folder: &Path, name: &FileName, free: Option<u64>) -> Result<Upload, FileError> {
        let target = folder.join(name.as_str());
        let about = fs::symlink_metadata(&target).ok();
        if about.as_ref().is_some_and(|about| !about.is_file()) {
            return Err(FileError::Exists);
        }
        // What it replaces makes room.
        let free = free.map(|free| free.saturating_add(about.map_or(0, |about| about.len())));
        let key = outpost_wire::id::Hash384::random().to_hex();
        let partial = folder.join(format!(".upload-{}", &key[..16]));
        let file = File::options().write(true).create_new(true).open(&partial)?;
        Ok(Upload { file, partial, target, free, done: false })
    }

    /// Writes the next part.
    ///
    /// # Errors
    /// [`FileError::Quota`], [`FileError::Io`].
    pub fn write(&mut self, data: &[u8]) -> Result<(), FileError> {
        if let Some(free) = &mut self.free {
            *free = free.checked_sub(data.len() as u64).ok_or(FileError::Quota)?;
        }
        Ok(self.file.write_all(data)?)
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn finish(mut self) -> Result<(), FileError> {
        self.file.sync_all()?;
        fs::rename(&self.partial, &self.target)?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<FileName> {
        names.iter().map(|name| FileName::parse(name).expect("a name")).collect()
    }

    fn name(text: &str) -> FileName {
        FileName::parse(text).expect("a name")
    }

    #[test]
    fn files_are_made_moved_copied_and_removed_within_their_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let shelf = Shelf::new(folder.path());
        let home = Place::of_link("user//bob").expect("a place");
        assert_eq!(home, Place::of_path(&["user//bob".into()]).expect("a place"));
        assert_eq!(shelf.tree(&home.owner).expect("a tree")["Public"]["t"], 2);
        shelf.edit(&home, Edit::CreateFolder(name("docs")), None).expect("made");
        let docs = Place::of_link("user//bob/docs").expect("a place");
        shelf.edit(&docs, Edit::Set(name("a.txt"), b"hello".to_vec()), Some(5)).expect("written");
        assert!(matches!(
            shelf.edit(&docs, Edit::Set(name("b.txt"), b"hello".to_vec()), Some(4)),
            Err(FileError::Quota)
        ));
        assert_eq!(shelf.used(&home.owner), 5, "nothing of the refused file is left");
        shelf.edit(&home, Edit::Copy(names(&["a.txt"]), docs.clone()), Some(5)).expect("copied");
        assert!(matches!(
            shelf.edit(&home, Edit::Copy(names(&["a.txt"]), docs.clone()), None),
            Err(FileError::Exists)
        ));
        shelf.edit(&home, Edit::Rename(name("a.txt"), name("c.txt")), None).expect("renamed");
        assert!(matches!(
            shelf.edit(&docs, Edit::Move(names(&["docs"]), home.clone()), None),
            Err(FileError::IntoItself)
        ));
        shelf.edit(&docs, Edit::Move(names(&["c.txt"]), home.clone()), None).expect("moved");
        let tree = shelf.tree(&home.owner).expect("a tree");
        assert_eq!(tree["docs"]["f"]["c.txt"]["s"], 5);
        assert!(matches!(
            shelf.edit(&home, Edit::Delete(names(&["docs"]), false), None),
            Err(FileError::NotEmpty)
        ));
        shelf.edit(&home, Edit::Delete(names(&["docs"]), true), None).expect("removed");
        assert_eq!(shelf.used(&home.owner), 0);
    }

    #[test]
    fn what_comes_from_another_owner_has_to_fit_all_together() {
        let folder = tempfile::tempdir().expect("a folder");
        let shelf = Shelf::new(folder.path());
        let place = |link| Place::of_link(link).expect("a place");
        let (bob, eve) = (place("user//bob"), place("user//eve"));
        for file in ["a", "b"] {
            shelf.edit(&bob, Edit::Set(name(file), b"hello".to_vec()), None).expect("written");
        }
        let both = || names(&["a", "b"]);
        assert!(matches!(shelf.edit(&eve, Edit::Copy(both(), bob.clone()), Some(9)), Err(FileError::Quota)));
        shelf.edit(&eve, Edit::Delete(names(&["a"]), false), None).expect("removed");
        assert!(matches!(shelf.edit(&eve, Edit::Move(both(), bob.clone()), Some(9)), Err(FileError::Quota)));
        assert_eq!(
            (shelf.used(&bob.owner), shelf.used(&eve.owner)),
            (5, 5),
            "what fits is moved, the rest stays"
        );
    }

    #[test]
    fn an_upload_that_stops_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let shelf = Shelf::new(folder.path());
        let home = Place::of_link("user//bob").expect("a place");
        let mut upload = shelf.upload(&home, &name("big.bin"), Some(10)).expect("begun");
        upload.write(b"12345678").expect("written");
        assert!(upload.write(b"12345678").is_err());
        drop(upload);
        assert!(shelf.open(&home, &name("big.bin")).is_err());
        assert_eq!(shelf.used(&home.owner), 0);
    }

    #[test]
    fn nobody_leaves_their_folder() {
        for bad in ["", "user", "user//bob/..", "user//bob/../eve", "user//bob/.x", "node//x/a", "/etc"] {
            assert!(Place::of_link(bad).is_err(), "{bad}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let shelf = Shelf::new(folder.path());
        let home = Place::of_link("user//bob").expect("a place");
        shelf.tree(&home.owner).expect("a tree");
        std::os::unix::fs::symlink("/etc", folder.path().join("domain/user-bob/etc")).expect("linked");
        let through = Place::of_link("user//bob/etc").expect("a place");
        assert!(shelf.open(&through, &name("passwd")).is_err());
        assert!(shelf.edit(&through, Edit::CreateFolder(name("x")), None).is_err());
        assert_eq!(shelf.tree(&home.owner).expect("a tree").get("etc"), None);
    }
}
