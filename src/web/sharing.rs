//! The page of a share: who follows the link is a guest of one device for a while.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Json, Query, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::json;

use super::assets;
use super::request::Connection;
use crate::auth::DeviceShare;
use crate::auth::shares::Window;
use crate::clock;
use crate::relay::{PortTarget, Purpose, Viewer, viewer_rights};
use crate::site::Site;

/// Minutes that a page may keep its guest's cookie before it asks for another.
const COOKIE_MINUTES: u32 = 60;

/// What a link carries.
#[derive(Deserialize)]
pub(super) struct Link {
    #[serde(default)]
    c: String,
}

enum Found {
    Open(Arc<DeviceShare>, Option<i64>),
    NotYet(Arc<DeviceShare>),
    Over,
    Unknown,
}

fn find(site: &Site, link: &Link) -> Found {
    let claims = outpost_wire::cookie::open(&site.keys.invitation, &link.c, clock::now_seconds(), 0);
    let Ok(claims) = claims else { return Found::Unknown };
    if claims.get("a").and_then(serde_json::Value::as_u64) != Some(6) {
        return Found::Unknown;
    }
    let publicid = claims.get("pid").and_then(serde_json::Value::as_str);
    let Some(share) = publicid.and_then(|publicid| site.shares.get(publicid)) else { return Found::Over };
    match share.window(clock::now_ms()) {
        Window::Open { until } => Found::Open(share, until),
        Window::NotYet => Found::NotYet(share),
        Window::Over => Found::Over,
    }
}

/// The share that a link opens now.
pub(super) fn opened(site: &Site, link: String) -> Option<Arc<DeviceShare>> {
    match find(site, &Link { c: link }) {
        Found::Open(share, _) => Some(share),
        Found::NotYet(_) | Found::Over | Found::Unknown => None,
    }
}

/// `GET sharing?c=`: the app, which asks [`share`] for the rest; 404 for a link that is no good.
pub(super) async fn page(
    State(site): State<Arc<Site>>,
    Query(link): Query<Link>,
    headers: HeaderMap,
) -> Response<Body> {
    let page = assets::index(headers).await;
    match find(&site, &link) {
        Found::Open(..) => page,
        Found::NotYet(_) | Found::Over | Found::Unknown => {
            let (mut parts, body) = page.into_parts();
            parts.status = StatusCode::NOT_FOUND;
            Response::from_parts(parts, body)
        }
    }
}

/// `GET api/share?c=`: what the guest's page shows, and the cookie of its tunnels.
pub(super) async fn share(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    Query(link): Query<Link>,
) -> Response<Body> {
    let refused = |code: &str, message: &str, start: Option<i64>| {
        let error = json!({ "error": { "code": code, "message": message, "start": start } });
        (StatusCode::NOT_FOUND, [(CACHE_CONTROL, "no-store")], Json(error)).into_response()
    };
    let (share, until) = match find(&site, &link) {
        Found::Open(share, until) => (share, until),
        Found::NotYet(share) => return refused("not-yet", "This link is not open yet", share.start),
        Found::Over => return refused("over", "This link has ended or was taken back", None),
        Found::Unknown => return refused("unknown", "This is not a link of this server", None),
    };
    let viewer = Viewer { user: share.userid.clone(), guest: Some(share.clone()) };
    let allowed: Vec<u16> = [1, 2, 5]
        .into_iter()
        .filter(|protocol| {
            viewer_rights(&site, &viewer, &share.device, &Purpose::Session(Some(*protocol))).is_ok()
        })
        .collect();
    let port = share.tcp.as_ref().filter(|port| {
        let target = PortTarget::shared(port).map(Purpose::Port);
        target.is_ok_and(|purpose| viewer_rights(&site, &viewer, &share.device, &purpose).is_ok())
    });
    let directory = site.store.directory();
    let is_something = !allowed.is_empty() || port.is_some();
    let Some(device) = directory.device(&share.device).filter(|_| is_something) else {
        return refused("over", "Whoever made this link can no longer share this device", None);
    };
    let host = directory.user(&share.userid).map(|user| user.realname.as_ref().unwrap_or(&user.name).clone());
    let remote = connection.remote.ip().to_canonical();
    let cookie = json!({ "pid": share.publicid, "ip": remote, "expire": COOKIE_MINUTES });
    let answer = json!({
        "guestName": share.guest_name, "host": host, "nodeid": device.id, "deviceName": device.name,
        "connected": site.agents.presence(&device.id).is_some(), "agent": device.agent,
        "protocols": allowed, "tcp": port, "certificate": site.identity.web.full_hash.to_hex(), "viewOnly": share.view_only, "until": until,
        "serverTime": clock::now_ms(), "serverTitle": site.title(&share.domain),
        "auth": outpost_wire::cookie::seal(&site.keys.login, &cookie, clock::now_seconds()),
    });
    ([(CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}
