//! `GET /`: the app, and the ways to be logged in by following a link (control-protocol §1.2).

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{CACHE_CONTROL, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;

use super::assets;
use super::authentication::{self, Attempt, Proven, by_login_cookie, by_password};
use super::request::{Connection, user_agent};
use crate::site::Site;

/// What a link logs in with; nothing of it stays in the address that the browser is sent on to.
const CREDENTIALS: [&str; 4] = ["login", "user", "pass", "token"];

/// The app; with `login=<cookie>`, or `user=` and `pass=`, a session first.
pub(super) async fn root(
    State(site): State<Arc<Site>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    let query = query.unwrap_or_default();
    let asked: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let value = |name: &str| asked.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let remote = connection.remote.ip().to_canonical();
    let browser = user_agent(&headers);
    let proven = match (value("login"), value("user"), value("pass")) {
        (Some(cookie), ..) => by_login_cookie(&site, cookie, remote),
        (None, Some(name), Some(password)) => {
            let attempt = Attempt { name, password, code: value("token"), remembered: None, remote, browser };
            by_password(&site, &attempt).await.ok()
        }
        _ => return assets::index(headers).await,
    };
    let onward = onward(&asked);
    let mut response = (StatusCode::FOUND, [(CACHE_CONTROL, "no-store")]).into_response();
    let headers = response.headers_mut();
    if let Ok(onward) = HeaderValue::from_str(&onward) {
        headers.insert(LOCATION, onward);
    }
    if let Some(Proven { user, token, .. }) = proven
        && let Ok(user) = authentication::note_login(&site, &user, token.as_deref(), remote, browser).await
    {
        let cookie = authentication::begin_session(&site, &user, token.as_deref(), remote, browser);
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            headers.insert(SET_COOKIE, cookie);
        }
    }
    response
}

/// The same address without what logged in.
fn onward(asked: &[(String, String)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (key, value) in asked.iter().filter(|(key, _)| !CREDENTIALS.contains(&key.as_str())) {
        query.append_pair(key, value);
    }
    match query.finish().as_str() {
        "" => "/".to_owned(),
        query => format!("/?{query}"),
    }
}
