//! Records that a logged-in user downloads: the power history of a device, pictures of users.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use base64::Engine as _;
use outpost_wire::id::{DeviceId, UserId};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::authentication::by_session;
use super::request::Connection;
use crate::clock;
use crate::model::{Rights, SiteRights, User};
use crate::site::Site;

fn user(site: &Site, headers: &HeaderMap, connection: &Connection) -> Option<Arc<User>> {
    by_session(site, headers, connection.remote.ip().to_canonical()).map(|proven| proven.user)
}

/// What those get who are not logged in, or lack a right; the reason is not told.
pub(super) async fn nothing() -> Response<Body> {
    StatusCode::UNAUTHORIZED.into_response()
}

#[derive(Deserialize)]
pub(super) struct OfDevice {
    id: Option<String>,
    /// Minutes that the reader's clock is behind UTC.
    tf: Option<i64>,
}

/// `GET devicepowerevents.ashx?id=<device>`: its power history as a table.
pub(super) async fn power_events(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    Query(query): Query<OfDevice>,
    headers: HeaderMap,
) -> Response<Body> {
    let unauthorised = || StatusCode::UNAUTHORIZED.into_response();
    let Some(user) = user(&site, &headers, &connection) else { return unauthorised() };
    let id = query.id.as_deref().and_then(|id| DeviceId::complete(user.id.domain(), id).ok());
    let (Some(id), Some(access)) = (id, site.access(&user.id)) else { return unauthorised() };
    let Ok((device, _)) = access.device(&id, Rights::NONE) else { return unauthorised() };
    let changes = match site.store.power(&device.id, 0).await {
        Ok(changes) => changes,
        Err(error) => {
            log::error!("the power history of {id} could not be read: {error}");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let behind = query.tf.unwrap_or(0).clamp(-1440, 1440) * 60_000;
    let mut table = String::from("UTC Time, Local Time, State, Previous State\r\n");
    for change in changes {
        let (utc, local) = (clock::iso8601(change.time), clock::iso8601(change.time - behind));
        let local = local[..19].replace('T', " ");
        let _ = write!(table, "{utc},{local},{},{}\r\n", change.state, change.previous);
    }
    let name: String =
        device.name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
    let disposition = format!("attachment; filename=\"powerevents-{name}.csv\"");
    let head = [
        (CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (CONTENT_DISPOSITION, disposition),
        (CACHE_CONTROL, "no-store".to_owned()),
    ];
    (head, table).into_response()
}

#[derive(Deserialize)]
pub(super) struct OfUser {
    id: Option<String>,
}

/// `GET userimage.ashx[?id=<name>]`: one's own picture, or with the right to manage users another's.
pub(super) async fn user_image(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    Query(query): Query<OfUser>,
    headers: HeaderMap,
) -> Response<Body> {
    let missing = || StatusCode::NOT_FOUND.into_response();
    let Some(user) = user(&site, &headers, &connection) else { return missing() };
    let id = match query.id {
        None => user.id.clone(),
        Some(name) => match UserId::complete(user.id.domain(), &name.to_lowercase()) {
            Ok(id) if id == user.id || user.siteadmin.contains(SiteRights::MANAGE_USERS) => id,
            _ => return missing(),
        },
    };
    let record: Option<Map<String, Value>> = site.store.get(format!("im{id}")).await.unwrap_or_default();
    let url =
        record.as_ref().and_then(|record| record.get("image")).and_then(Value::as_str).unwrap_or_default();
    let picture = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    let Some((kind @ ("image/png" | "image/jpeg"), data)) = picture else { return missing() };
    match base64::engine::general_purpose::STANDARD.decode(data) {
        Ok(bytes) => {
            let head = [(CONTENT_TYPE, kind.to_owned()), (CACHE_CONTROL, "private, no-cache".to_owned())];
            (head, bytes).into_response()
        }
        Err(_) => missing(),
    }
}
