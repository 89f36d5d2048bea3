//! People's files on the server: listing and changing them over the control socket.

use base64::Engine as _;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::reply::{Answer, Refusal, fields};
use super::request::Plain;
use crate::files::{Edit, FileError, FileName, Owner, Place, Shelf};
use crate::model::{Access, Rights, SiteRights};
use crate::site::Site;

/// Largest file that is given as text inside a message, in bytes (control-protocol §7.2).
const LARGEST_INLINE: u64 = 204_800;
/// Most names of one request.
const MOST_NAMES: usize = 1024;

impl From<FileError> for Refusal {
    fn from(error: FileError) -> Refusal {
        Refusal::new(error.to_string())
    }
}

/// Whether a user may work with an owner's files: their own, or those of a group with the right to it.
pub fn may_use(access: &Access, owner: &Owner) -> bool {
    access.user().siteadmin.contains(SiteRights::FILES)
        && match owner {
            Owner::User(id) => *id == access.user().id,
            Owner::Group(id) => access.group(id, Rights::SERVER_FILES).is_ok(),
        }
}

/// Bytes that an owner may have in all; none for as many as the disk holds (control-protocol §7.4).
pub fn quota(site: &Site, access: &Access, owner: &Owner) -> Option<u64> {
    let domain = site.config.domain(&access.user().domain);
    let of = |extra: &Map<String, Value>| extra.get("quota").and_then(Value::as_u64);
    match owner {
        Owner::User(_) if access.user().siteadmin.is_full() => None,
        Owner::User(_) => of(&access.user().extra).or(domain.user_quota),
        Owner::Group(id) => {
            access.directory().group(id).and_then(|group| of(&group.extra)).or(domain.group_quota)
        }
    }
}

/// The files that a user may work with, as clients see them.
///
/// # Errors
/// When the disk cannot be read.
async fn tree(context: &Context) -> Result<Value, Refusal> {
    let access = context.access()?;
    let mut owners = vec![(Owner::User(access.user().id.clone()), "My Files".to_owned(), 1)];
    for (group, rights) in access.groups() {
        if rights.contains(Rights::SERVER_FILES) {
            owners.push((Owner::Group(group.id.clone()), group.name.clone(), 4));
        }
    }
    let owners: Vec<(Owner, String, u8, Option<u64>)> = owners
        .into_iter()
        .map(|(owner, name, kind)| {
            let most = quota(&context.site, &access, &owner);
            (owner, name, kind, most)
        })
        .collect();
    let shelf = context.site.files.clone();
    let roots = blocking(move || {
        let mut roots = Map::new();
        for (owner, name, kind, most) in owners {
            let id = match &owner {
                Owner::User(id) => id.as_str().to_owned(),
                Owner::Group(id) => id.as_str().to_owned(),
            };
            let files = shelf.tree(&owner)?;
            roots.insert(id, json!({ "t": kind, "n": name, "f": files, "maxbytes": most }));
        }
        Ok(roots)
    })
    .await?;
    Ok(json!({ "n": "Root", "f": roots }))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(Refusal::new("The server could not do this")),
    }
}

/// `files`: everything at once.
///
/// # Errors
/// Without the right to files on the server.
pub async fn list(context: &Context, _: Plain) -> Result<Answer, Refusal> {
    context.with_site_right(SiteRights::FILES, "Access denied")?;
    Ok(Answer::Body(fields! { "filetree" => tree(context).await? }))
}

/// `fileoperation`.
#[derive(Deserialize)]
pub struct Operation {
    fileop: String,
    path: Vec<String>,
    newfolder: Option<String>,
    delfiles: Option<Vec<String>>,
    #[serde(default)]
    rec: bool,
    oldname: Option<String>,
    newname: Option<String>,
    names: Option<Vec<String>>,
    scpath: Option<Vec<String>>,
    file: Option<String>,
    data: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

fn named(name: Option<String>, field: &str) -> Result<FileName, Refusal> {
    let name = name.ok_or_else(|| Refusal::new(format!("fileoperation: field `{field}` is missing")))?;
    FileName::parse(&name).map_err(|error| Refusal::new(format!("{field}: {error}")))
}

fn all_named(names: Option<Vec<String>>, field: &str) -> Result<Vec<FileName>, Refusal> {
    let names = names.filter(|names| (1..=MOST_NAMES).contains(&names.len()));
    let names = names.ok_or_else(|| Refusal::new(format!("{field}: expected 1 to {MOST_NAMES} names")))?;
    names.into_iter().map(|name| named(Some(name), field)).collect()
}

/// Changes files, or gives a small one. Afterwards the sessions of the user are shown the files anew.
///
/// # Errors
/// Missing right, what is no name or place, and what the disk says.
pub async fn operate(context: &Context, request: Operation) -> Result<Answer, Refusal> {
    context.with_site_right(SiteRights::FILES, "Access denied")?;
    let access = context.access()?;
    let place = Place::of_path(&request.path)?;
    let allowed = |place: &Place| {
        if may_use(&access, &place.owner) { Ok(()) } else { Err(Refusal::new("Access denied")) }
    };
    allowed(&place)?;
    let source = |path: Option<Vec<String>>| -> Result<Place, Refusal> {
        let path = path.ok_or_else(|| Refusal::new("fileoperation: field `scpath` is missing"))?;
        let source = Place::of_path(&path)?;
        allowed(&source)?;
        Ok(source)
    };
    let edit = match request.fileop.as_str() {
        "createfolder" => Edit::CreateFolder(named(request.newfolder, "newfolder")?),
        "delete" => Edit::Delete(all_named(request.delfiles, "delfiles")?, request.rec),
        "rename" => Edit::Rename(named(request.oldname, "oldname")?, named(request.newname, "newname")?),
        "copy" => Edit::Copy(all_named(request.names, "names")?, source(request.scpath)?),
        "move" => Edit::Move(all_named(request.names, "names")?, source(request.scpath)?),
        "set" => {
            let data = request.data.unwrap_or_default();
            let data = base64::engine::general_purpose::STANDARD
                .decode(data)
                .map_err(|_| Refusal::new("data: expected base64"))?;
            Edit::Set(named(request.file, "file")?, data)
        }
        "get" => {
            let name = named(request.file.clone(), "file")?;
            let shelf = context.site.files.clone();
            let wanted = (place, name);
            let data = blocking(move || small_file(&shelf, &wanted.0, &wanted.1)).await?;
            let mut answer = request.rest;
            answer.extend(fields! {
                "fileop" => "get", "path" => request.path, "file" => request.file,
                "data" => base64::engine::general_purpose::STANDARD.encode(data),
            });
            return Ok(Answer::Body(answer));
        }
        other => {
            return Err(Refusal::new(format!(
                "fileop: `{}` is not known",
                other.chars().take(32).collect::<String>()
            )));
        }
    };
    let most = quota(&context.site, &access, &place.owner);
    let shelf = context.site.files.clone();
    blocking(move || {
        let free = most.map(|most| most.saturating_sub(shelf.used(&place.owner)));
        shelf.edit(&place, edit, free)
    })
    .await?;
    show(context).await?;
    Ok(Answer::Ok)
}

fn small_file(shelf: &Shelf, place: &Place, name: &FileName) -> Result<Vec<u8>, FileError> {
    let (path, size) = shelf.open(place, name)?;
    if size >= LARGEST_INLINE {
        return Err(FileError::Io(std::io::Error::other(format!(
            "files of {LARGEST_INLINE} bytes and more are downloaded"
        ))));
    }
    Ok(std::fs::read(path)?)
}

/// Shows the sessions of the user the files as they are now.
async fn show(context: &Context) -> Result<(), Refusal> {
    let message = json!({ "action": "files", "filetree": tree(context).await? }).to_string();
    let message = Bytes::from(message);
    for session in context.site.sessions.of(&context.session.user) {
        session.send(message.clone());
    }
    Ok(())
}

/// The text of a script among the files that the user may work with, by its link.
///
/// # Errors
/// Missing right, no such file, one that is too long or no text.
pub async fn script(context: &Context, link: &str, longest: usize) -> Result<String, Refusal> {
    let (place, name) =
        Place::of_link(link)?.split_last().ok_or_else(|| Refusal::new("cmdpath: expected a file"))?;
    if !may_use(&context.access()?, &place.owner) {
        return Err(Refusal::new("Access denied"));
    }
    let shelf = context.site.files.clone();
    let bytes = blocking(move || small_file(&shelf, &place, &name)).await?;
    if bytes.len() > longest {
        return Err(Refusal::new(format!(
            "cmdpath: the file has {} bytes, a script at most {longest}",
            bytes.len()
        )));
    }
    String::from_utf8(bytes).map_err(|_| Refusal::new("cmdpath: the file is no text"))
}
