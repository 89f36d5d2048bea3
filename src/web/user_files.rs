//! People's files on the server over HTTP: uploads, downloads, and what is public.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::multipart::{Field, Multipart};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use outpost_wire::id::UserId;
use serde::Deserialize;
use serde_json::json;

use super::authentication::{by_login_cookie, by_session};
use super::request::Connection;
use super::router;
use super::sending::{Download, send_file};
use super::upload::{MOST_FIELDS, Refused, sender, text};
use crate::control::{may_use_files, quota_of_files};
use crate::files::{FileError, FileName, Owner, PUBLIC, Place};
use crate::model::Event;
use crate::site::Site;

/// `POST uploadfile.ashx`: files into a folder. `auth` and `link` come before the files, which are written as
/// they come.
pub(super) async fn upload(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    form: Multipart,
) -> Response<Body> {
    let Err(refused) = take(&site, &connection, &headers, form).await else {
        return StatusCode::OK.into_response();
    };
    if let Refused::Quota(user) = &refused {
        // Pages show this; it is how MeshCentral tells it.
        let event = Event::new("user", "notify", user.domain())
            .with("title", "Server Files")
            .with("value", FileError::Quota.to_string())
            .with("id", json!(1))
            .to([user.as_str()])
            .unlogged();
        site.events.announce(event).await;
    }
    refused.answer("Disk quota exceed")
}

async fn take(
    site: &Arc<Site>,
    connection: &Connection,
    headers: &HeaderMap,
    mut form: Multipart,
) -> Result<(), Refused> {
    let remote = connection.remote.ip().to_canonical();
    let mut proven = sender(site, connection, headers);
    let mut place = None;
    for _ in 0..MOST_FIELDS {
        let Some(field) = form.next_field().await.map_err(|error| Refused::Bad(error.to_string()))? else {
            // A form without files is one that had nothing to do, for those who may.
            return if proven.is_some() { Ok(()) } else { Err(Refused::Unauthorised) };
        };
        match field.name() {
            Some("auth") => {
                let cookie = text(field).await?;
                proven = by_login_cookie(site, &cookie, remote).or(proven);
            }
            Some("link") => {
                let link = text(field).await?;
                let link = form_urlencoded::parse(link.replace('+', "%2B").as_bytes())
                    .next()
                    .map_or(String::new(), |(link, _)| link.into_owned());
                place = Some(link);
            }
            Some("files") => {
                let user = &proven.as_ref().ok_or(Refused::Unauthorised)?.user;
                let place = place.as_deref().and_then(|link| Place::of_link(link).ok());
                let place = place.ok_or(Refused::NoPlace)?;
                let access = site.access(&user.id).ok_or(Refused::Unauthorised)?;
                if !may_use_files(&access, &place.owner) {
                    return Err(Refused::NoPlace);
                }
                let most = quota_of_files(site, &access, &place.owner);
                connection.permit.release();
                store(site, &place, most, field, &user.id).await?;
            }
            _ => {}
        }
    }
    Err(Refused::too_many_fields())
}

/// Writes a file as it comes: the network waits for the disk, and a file that stops coming is gone.
async fn store(
    site: &Arc<Site>,
    place: &Place,
    most: Option<u64>,
    mut field: Field<'_>,
    user: &UserId,
) -> Result<(), Refused> {
    let name = field.file_name().unwrap_or_default().to_owned();
    let name = FileName::parse(&name).map_err(|error| Refused::Bad(error.to_string()))?;
    let (shelf, place) = (site.files.clone(), place.clone());
    let (parts, mut coming) = tokio::sync::mpsc::channel::<Bytes>(4);
    let writing = tokio::task::spawn_blocking(move || {
        let free = most.map(|most| most.saturating_sub(shelf.used(&place.owner)));
        let mut upload = shelf.upload(&place, &name, free)?;
        let mut whole = false;
        while let Some(part) = coming.blocking_recv() {
            // An empty part says that the file is whole; a channel that just ends does not.
            if part.is_empty() {
                whole = true;
                break;
            }
            upload.write(&part)?;
        }
        if whole { upload.finish() } else { Ok(()) }
    });
    let mut broken = None;
    loop {
        match field.chunk().await {
            Ok(Some(part)) if part.is_empty() => {}
            Ok(Some(part)) => {
                if parts.send(part).await.is_err() {
                    break;
                }
            }
            Ok(None) => {
                let _ = parts.send(Bytes::new()).await;
                break;
            }
            Err(error) => {
                broken = Some(Refused::Bad(error.to_string()));
                break;
            }
        }
    }
    drop(parts);
    let written = writing.await.map_err(|error| Refused::Failed(error.to_string()))?;
    match (written, broken) {
        (Err(FileError::Quota), _) => Err(Refused::Quota(user.clone())),
        (Err(error), _) => Err(error.into()),
        (Ok(()), Some(broken)) => Err(broken),
        (Ok(()), None) => Ok(()),
    }
}

#[derive(Deserialize)]
pub(super) struct Link {
    link: Option<String>,
}

/// `GET downloadfile.ashx?link=user/<domain>/<name>/path/file`.
pub(super) async fn download(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    Query(query): Query<Link>,
    headers: HeaderMap,
) -> Response<Body> {
    let found = (|| {
        let proven = by_session(&site, &headers, connection.remote.ip().to_canonical())?;
        let access = site.access(&proven.user.id)?;
        let (place, name) = Place::of_link(query.link.as_deref()?).ok()?.split_last()?;
        may_use_files(&access, &place.owner).then_some((place, name))
    })();
    match found {
        Some((place, name)) => send(&site, &headers, place, name).await,
        None => router::not_found(),
    }
}

/// `GET userfiles/<user>/<path>`: a file of somebody's public folder.
pub(super) async fn public(
    State(site): State<Arc<Site>>,
    Path((user, path)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response<Body> {
    let found = (|| {
        let owner = Owner::User(UserId::from_name("", &user).ok()?);
        let way = std::iter::once(PUBLIC).chain(path.split('/').filter(|step| !step.is_empty()));
        // The public folder itself is no file.
        Place::new(owner, way).ok()?.split_last().filter(|(place, _)| !place.folders.is_empty())
    })();
    match found {
        Some((place, name)) => send(&site, &headers, place, name).await,
        None => router::not_found(),
    }
}

async fn send(site: &Arc<Site>, headers: &HeaderMap, place: Place, name: FileName) -> Response<Body> {
    let shelf = site.files.clone();
    let called = name.as_str().to_owned();
    let opened = tokio::task::spawn_blocking(move || shelf.open(&place, &name)).await;
    let Ok(Ok((path, _))) = opened else { return router::not_found() };
    let download = Download { name: &called, modified: None, tag: None };
    match send_file(headers, &path, download).await {
        Ok(response) => response,
        Err(_) => router::not_found(),
    }
}
