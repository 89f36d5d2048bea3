//! Small pages and answers that MeshCentral's users have links to: terms, logging out, invitation codes.

use std::sync::Arc;
use std::time::Duration;

use axum::Form;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, Response, StatusCode, Uri};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::invite::{escape, frame};
use super::request::same_origin;
use super::{api, router};
use crate::clock;
use crate::site::Site;

/// How long a wrong code takes, so that codes are not found by trying.
const WRONG_CODE_TIME: Duration = Duration::from_secs(1);
/// Longest code that is looked for.
const LONGEST_CODE: usize = 64;

/// `GET terms`.
pub(super) async fn terms(State(site): State<Arc<Site>>) -> Response<Body> {
    let title = escape(&site.title(""));
    let content = format!(
        "<h1>{title}</h1><p>This server is run by whoever gave you its address; ask them what they do with \
         what it keeps. The software is Outpost, under the Apache License 2.0, without warranty of any kind.</p>"
    );
    frame("Terms", &content).into_response()
}

/// `GET logout`: ends the session and leads to the login page. A link on another site only leads there.
pub(super) async fn logout(State(site): State<Arc<Site>>, headers: HeaderMap, uri: Uri) -> Response<Body> {
    let to = match uri.query() {
        Some(query) if query.bytes().all(|byte| byte.is_ascii_graphic()) => format!("/login?{query}"),
        _ => "/login".to_owned(),
    };
    let away = [(LOCATION, to), (CACHE_CONTROL, "no-store".to_owned())];
    if !same_origin(&headers, &site.config.domain("").allowed_origins, false) {
        return (StatusCode::FOUND, away).into_response();
    }
    match api::end_session(&site, &headers).await {
        Ok(gone) => (StatusCode::FOUND, away, [(SET_COOKIE, gone)]).into_response(),
        Err(error) => {
            log::error!("a logout could not be written: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The form of `invite`.
#[derive(Default, Deserialize)]
pub(super) struct Code {
    #[serde(rename = "inviteCode", default)]
    code: String,
}

/// `GET invite`: where somebody types the code of a group.
pub(super) async fn invite(State(site): State<Arc<Site>>) -> Response<Body> {
    if !site.config.domain("").agent_invite_codes {
        return router::not_found();
    }
    ask_for_code("")
}

fn ask_for_code(wrong: &str) -> Response<Body> {
    let content = format!(
        "<h1>Invitation code</h1>{wrong}<form method=\"post\" action=\"invite\">\
         <p><label for=\"code\">The code you were given</label></p>\
         <p><input id=\"code\" name=\"inviteCode\" maxlength=\"{LONGEST_CODE}\" required autofocus autocomplete=\"off\"> \
         <button>Continue</button></p></form>"
    );
    ([(CACHE_CONTROL, "no-store")], frame("Invitation code", &content)).into_response()
}

/// `POST invite`: leads to the group's invitation.
pub(super) async fn invite_by_code(State(site): State<Arc<Site>>, Form(form): Form<Code>) -> Response<Body> {
    if !site.config.domain("").agent_invite_codes {
        return router::not_found();
    }
    let code = form.code.trim();
    let directory = site.store.directory();
    let found = directory
        .groups()
        .filter(|group| group.domain.is_empty() && group.deleted.is_none())
        .find_map(|group| {
            let invite = group.extra.get("invite")?;
            let codes = invite.get("codes")?.as_array()?;
            codes.iter().any(|known| known.as_str() == Some(code)).then(|| (group.id.clone(), invite.clone()))
        });
    let Some((group, invite)) = found.filter(|_| !code.is_empty()) else {
        tokio::time::sleep(WRONG_CODE_TIME).await;
        return ask_for_code("<p role=\"alert\">There is no invitation with this code.</p>");
    };
    // As an invitation by link, good for a minute (control-protocol §2.5).
    let flags = invite.get("flags").and_then(Value::as_u64).unwrap_or(0);
    let mut claims = json!({ "a": 4, "mid": group, "f": flags, "expire": 1 });
    if let Some(agents) = invite.get("ag") {
        claims["ag"] = agents.clone();
    }
    let cookie = outpost_wire::cookie::seal(&site.keys.invitation, &claims, clock::now_seconds());
    let cookie: String = form_urlencoded::byte_serialize(cookie.as_bytes()).collect();
    (StatusCode::FOUND, [(LOCATION, format!("/agentinvite?c={cookie}"))]).into_response()
}
